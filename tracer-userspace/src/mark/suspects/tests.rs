//! The rules, one by one.

use super::*;

const A: Span = Span {
    opened: 10,
    closed: Some(20),
};
const B: Span = Span {
    opened: 15,
    closed: None,
};

fn among(others: Option<(u64, u64)>) -> Verdict {
    Verdict::Among { others }
}

#[test]
fn what_a_thread_says_itself_is_exact() {
    let found = judge(Sort::Exact, Origin::Own, &[A], 12, 13);
    assert_eq!(found, Verdict::One(Attribution::Exact));
}

#[test]
fn one_task_is_a_window_and_two_are_ambiguous() {
    let one = judge(Sort::Tasks, Origin::Own, &[A], 12, 13);
    assert_eq!(one, Verdict::One(Attribution::Window));
    assert_eq!(
        judge(Sort::Tasks, Origin::Own, &[A, B], 16, 17),
        among(None)
    );
}

#[test]
fn a_program_stays_its_calls_until_others_come_into_question() {
    let kept = |first, last| judge(Sort::Exact, Origin::Kept, &[A], first, last);
    assert_eq!(kept(12, 20), Verdict::One(Attribution::Process));
    assert_eq!(kept(12, 30), among(Some((20, 30))));
    assert_eq!(kept(25, 30), among(Some((25, 30))));
    assert_eq!(settle(&[A], true, 25, 30), (Attribution::Process, false));
    assert_eq!(
        settle(&[A, B], true, 25, 30),
        (Attribution::Ambiguous, false)
    );
}

#[test]
fn what_is_inherited_is_the_only_calls_or_ambiguous() {
    let found = judge(Sort::Exact, Origin::Inherited, &[A], 12, 18);
    assert_eq!(found, among(Some((12, 18))));
    assert_eq!(settle(&[A], false, 12, 18), (Attribution::Process, false));
    assert_eq!(settle(&[A], false, 12, 21), (Attribution::Ambiguous, true));
    assert_eq!(
        settle(&[A, B], false, 12, 30),
        (Attribution::Ambiguous, false)
    );
    assert_eq!(
        settle(&[A, B], false, 5, 30),
        (Attribution::Ambiguous, true)
    );
}

#[test]
fn what_a_worker_starts_may_be_of_any_call_since() {
    let found = judge(Sort::Exact, Origin::Unsure, &[A], 40, 50);
    assert_eq!(found, among(Some((10, 50))));
}

#[test]
fn a_marked_process_is_the_calls_whole() {
    for origin in [Origin::Own, Origin::Inherited, Origin::Kept, Origin::Unsure] {
        let found = judge(Sort::Process, origin, &[B], 40, 50);
        assert_eq!(found, Verdict::One(Attribution::Process), "{origin:?}");
    }
}

#[test]
fn a_hole_in_what_was_open_shows() {
    let early = Span {
        opened: 0,
        closed: Some(4),
    };
    assert!(!are_covering(&[early, A], 0, 20));
    assert!(are_covering(&[A, B], 10, 99));
    assert!(are_covering(&[A], 10, 20));
    assert!(!are_covering(&[A], 10, 21));
    assert!(!are_covering(&[], 1, 1));
}
