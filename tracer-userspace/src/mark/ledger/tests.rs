//! The ledger against a model that forgets nothing, and its bounds.

use proptest::prelude::*;

use super::*;

fn new(tool: &str, call_id: &str, cgroup_id: u64) -> New {
    New {
        tool: tool.to_owned(),
        call_id: call_id.to_owned(),
        kind: ToolKind::Tool,
        cgroup_id,
        pid: 1,
    }
}

fn exact(ledger: &mut Ledger, call: &Arc<Call>) -> u32 {
    let number = ledger.context([call].into_iter(), Sort::Exact, &[]);
    number.expect("there is room")
}

fn named(tool: &Tool) -> Vec<&str> {
    let one = tool.call_id.as_deref().into_iter();
    one.chain(tool.among.iter().map(|call| call.call_id.as_str()))
        .collect()
}

#[test]
fn the_same_meaning_has_one_number() {
    let mut ledger = Ledger::new(1);
    let call = ledger.begin(new("t", "a", 1), 10);
    let number = exact(&mut ledger, &call);
    assert_eq!(exact(&mut ledger, &call), number);
    let other = ledger.context([&call].into_iter(), Sort::Exact, &["posthog".to_owned()]);
    assert_ne!(other, Some(number));
    let told = ledger.attribute(other.unwrap_or(0), Origin::Own, 11, 11);
    assert_eq!(
        told.map(|tool| tool.caller),
        Some(vec!["posthog".to_owned()])
    );
}

#[test]
fn a_number_that_is_not_known_is_ambiguous_and_counted() {
    let mut ledger = Ledger::new(1);
    assert_eq!(ledger.attribute(0, Origin::Own, 1, 2), None);
    assert_eq!(
        ledger.attribute(7, Origin::Own, 1, 2),
        Some(Tool::unknown())
    );
    assert_eq!(ledger.counts.unknown, 1);
}

#[test]
fn numbers_that_are_known_are_not_given_out_again() {
    let mut ledger = Ledger::new(u32::MAX);
    let call = ledger.begin(new("t", "a", 1), 1);
    assert_eq!(exact(&mut ledger, &call), u32::MAX);
    let next = ledger.begin(new("t", "b", 1), 1);
    assert_eq!(exact(&mut ledger, &next), 1);
    ledger.next_context = u32::MAX;
    let third = ledger.begin(new("t", "c", 1), 1);
    assert_eq!(exact(&mut ledger, &third), 2);
}

#[test]
fn a_flood_pushes_out_its_own_cgroups_calls() {
    let mut ledger = Ledger::new(1);
    let quiet = ledger.begin(new("quiet", "q", 1), 1);
    let number = exact(&mut ledger, &quiet);
    ledger.end(&quiet, 2);
    for at in 0..REMEMBERED as u64 + 10 {
        let call = ledger.begin(new("loud", "l", 2), 3 + at);
        exact(&mut ledger, &call);
        ledger.end(&call, 4 + at);
    }
    assert_eq!(ledger.closed, REMEMBERED);
    assert!(ledger.contexts.len() <= REMEMBERED);
    assert_eq!(ledger.counts.forgotten, 11);
    let told = ledger.attribute(number, Origin::Own, 1, 1);
    assert_eq!(told.and_then(|tool| tool.name).as_deref(), Some("quiet"));
}

#[test]
fn what_is_over_goes_once_its_flows_are_told_and_no_thread_has_it() {
    let mut ledger = Ledger::new(1);
    let call = ledger.begin(new("t", "a", 1), 1);
    let number = exact(&mut ledger, &call);
    ledger.end(&call, 2);
    ledger.told(LEEWAY);
    ledger.forget(&HashSet::new());
    assert_eq!(ledger.contexts.len(), 1, "a flow may still come");
    ledger.told(3 + LEEWAY);
    ledger.forget(&HashSet::from([number]));
    let kept = ledger.attribute(number, Origin::Kept, 5, 5);
    assert_eq!(kept.and_then(|tool| tool.name).as_deref(), Some("t"));
    ledger.forget_kept(&HashSet::new());
    assert!(ledger.contexts.is_empty() && ledger.numbers.is_empty());
    assert!(ledger.families.is_empty() && ledger.contexts_of.is_empty());
}

#[test]
fn many_tasks_are_cut_and_say_so() {
    let mut ledger = Ledger::new(1);
    let calls: Vec<_> = (0..NAMED as u64 + 5)
        .map(|at| ledger.begin(new("t", &format!("c{at}"), 1), at))
        .collect();
    let number = ledger.context(calls.iter(), Sort::Tasks, &[]);
    let told = ledger.attribute(number.unwrap_or(0), Origin::Own, 99, 99);
    let told = told.expect("a tool");
    assert_eq!(told.among.len(), NAMED);
    assert!(told.among_cut && !told.or_none);
}

/// One call of the model: opened and closed at these times, in one of two cgroups.
#[derive(Clone, Debug)]
struct Model {
    opened: u64,
    closed: Option<u64>,
    cgroup_id: u64,
}

fn calls() -> impl Strategy<Value = Vec<Model>> {
    let call = (0_u64..40, prop::option::of(0_u64..20), 1_u64..3).prop_map(
        |(opened, length, cgroup_id)| Model {
            opened,
            closed: length.map(|length| opened + length),
            cgroup_id,
        },
    );
    prop::collection::vec(call, 1..8)
}

/// Plays the calls in order of time.
fn play(model: &[Model]) -> (Ledger, Vec<u32>) {
    let mut ledger = Ledger::new(1);
    let mut begun: Vec<Option<Arc<Call>>> = vec![None; model.len()];
    let mut numbers = vec![0; model.len()];
    for now in 0..=60 {
        for (at, call) in model.iter().enumerate() {
            if call.opened == now {
                let call = ledger.begin(new("t", &at.to_string(), call.cgroup_id), now);
                numbers[at] = exact(&mut ledger, &call);
                begun[at] = Some(call);
            }
        }
        for (at, call) in model.iter().enumerate() {
            if let Some(begun) = begun[at].as_ref().filter(|_| call.closed == Some(now)) {
                ledger.end(begun, now);
            }
        }
    }
    (ledger, numbers)
}

fn was_open(call: &Model, first: u64, last: u64) -> bool {
    (first..=last).any(|at| call.opened <= at && call.closed.is_none_or(|closed| at <= closed))
}

proptest! {
    /// Whoever was open in the cgroup at any time is named, nobody else is, and one call alone is
    /// held responsible only if it was open all the time.
    #[test]
    fn nobody_is_accused_alone_who_was_not_alone(
        model in calls(),
        who in 0_usize..8,
        first in 0_u64..60,
        length in 0_u64..20,
    ) {
        let (who, last) = (who % model.len(), first + length);
        let (mut ledger, numbers) = play(&model);
        let told = ledger.attribute(numbers[who], Origin::Inherited, first, last);
        let told = told.expect("some tool's");
        let mut expected: Vec<String> = (0..model.len())
            .filter(|at| {
                let same = model[*at].cgroup_id == model[who].cgroup_id;
                *at == who || same && was_open(&model[*at], first, last)
            })
            .map(|at| at.to_string())
            .collect();
        let mut found: Vec<String> = named(&told).into_iter().map(str::to_owned).collect();
        expected.sort();
        found.sort();
        prop_assert_eq!(&found, &expected);
        let all_along = (first..=last).all(|at| was_open(&model[who], at, at));
        let alone = expected.len() == 1 && all_along;
        let attribution = if alone { Attribution::Process } else { Attribution::Ambiguous };
        prop_assert_eq!(told.attribution, attribution);
        if !alone {
            let covered = (first..=last).all(|at| {
                expected.iter().any(|name| {
                    let call: usize = name.parse().expect("a number");
                    was_open(&model[call], at, at)
                })
            });
            // Between two whole moments there is time in which none is open.
            prop_assert!(told.or_none || covered);
        }
    }

    /// A program that a call has started is its own, or ambiguous with it among those named.
    #[test]
    fn a_program_is_never_put_down_to_another_call(
        model in calls(),
        who in 0_usize..8,
        first in 0_u64..60,
        length in 0_u64..20,
    ) {
        let who = who % model.len();
        let (mut ledger, numbers) = play(&model);
        for origin in [Origin::Kept, Origin::Unsure, Origin::Own] {
            let told = ledger.attribute(numbers[who], origin, first, first + length);
            let told = told.expect("some tool's");
            prop_assert!(named(&told).contains(&who.to_string().as_str()), "{:?}", told);
            if origin == Origin::Own {
                prop_assert_eq!(told.attribution, Attribution::Exact);
            }
        }
    }
}

proptest! {
    #[test]
    fn of_a_time_in_doubt_nothing_is_certain(
        (from, length) in (0..100_u64, 0..50_u64),
        (first, length_of_flow) in (10..150_u64, 0..30_u64),
        origin in prop_oneof![
            Just(Origin::Own),
            Just(Origin::Inherited),
            Just(Origin::Kept),
            Just(Origin::Unsure)
        ],
    ) {
        let mut ledger = Ledger::new(1);
        let call = ledger.begin(new("t", "a", 1), 10);
        let number = exact(&mut ledger, &call);
        let other = ledger.begin(New { pid: 2, ..new("t", "b", 1) }, 10);
        let other = exact(&mut ledger, &other);
        ledger.doubt(1, 1, from);
        ledger.trust(1, 1, from + length);
        let last = first + length_of_flow;
        // What was inherited may have been so when the doubt began.
        let since = if origin == Origin::Own { first } else { 10 };
        let is_doubted = from <= last && from + length >= since;
        let told = ledger.attribute(number, origin, first, last).expect("a tool");
        let is_certain = matches!(origin, Origin::Own | Origin::Kept);
        if is_doubted {
            prop_assert!(told.suspects().is_empty() && told.among_cut, "{told:?}");
            prop_assert!(named(&told).contains(&"a"));
        } else if is_certain {
            prop_assert_eq!(named(&told), ["a"]);
            prop_assert_eq!(told.suspects(), ["t"]);
        }
        // What a process says of its own threads is as certain as it is itself.
        let others = ledger.attribute(other, Origin::Own, first, last).expect("a tool");
        prop_assert_eq!(others.attribution, Attribution::Exact);
    }
}
