//! Merging: any order, any grouping and any repetition of the same files give the same bytes.

use std::path::PathBuf;

use proptest::prelude::*;
use tracer_userspace::{
    import::{self, Settings},
    policy::{Observations, candidates},
};

use crate::world::{World, flow, rotate, start, stop};

/// One segment: its run, and the hosts it went to.
fn segments() -> impl Strategy<Value = Vec<(u8, Vec<(u8, u16)>)>> {
    let flows = proptest::collection::vec((0..12_u8, 1..4_u16), 0..12);
    proptest::collection::vec((0..4_u8, flows), 1..6)
}

/// Each segment is whole: it ends in `stop`, or says that it goes on.
fn text(at: usize, (run, flows): &(u8, Vec<(u8, u16)>)) -> String {
    let flows: String = flows
        .iter()
        .map(|(host, port)| flow("shop", &format!("192.0.2.{host}"), *port, ""))
        .collect();
    let end = match at % 2 {
        0 => stop("shop"),
        _ => rotate("shop", "elsewhere.jsonl"),
    };
    (start("shop") + &flows + &end).replace("\"r1\"", &format!("\"r{run}\""))
}

fn read(paths: &[PathBuf]) -> Observations {
    let inputs = import::find(paths).unwrap();
    let imported = import::import(&inputs, &Settings::default()).unwrap();
    imported.workloads.resolve().remove("shop").unwrap()
}

fn bytes(observations: &Observations) -> Vec<String> {
    let made = candidates(
        observations,
        None,
        &tracer_userspace::ranges::Ranges::default(),
    )
    .unwrap();
    made.named().map(|(_, text)| text.to_owned()).to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn order_grouping_and_repetition_do_not_show(
        segments in segments(), cut in 0..6_usize, turned in any::<bool>(),
    ) {
        let world = World::new();
        let names = |folder: &str| -> Vec<PathBuf> {
            segments
                .iter()
                .enumerate()
                .map(|(at, segment)| world.write(&format!("{folder}/{at}.jsonl"), text(at, segment)))
                .collect()
        };
        let files = names("once");
        let whole = read(&files);
        let mut others = files.clone();
        others.reverse();
        // The names say nothing: the same in another order, beside copies of themselves.
        let copies = names("again");
        others.extend(copies);
        prop_assert_eq!(bytes(&read(&others)), bytes(&whole));
        // In two groups, each merged by itself, in either order.
        let cut = cut.min(files.len());
        let groups = [&files[..cut], &files[cut..]].map(|group| (!group.is_empty()).then(|| read(group)));
        let mut groups: Vec<Observations> = groups.into_iter().flatten().collect();
        if turned {
            groups.reverse();
        }
        let mut merged = groups.remove(0);
        groups.iter().for_each(|group| merged.merge(group));
        prop_assert_eq!(bytes(&merged), bytes(&whole));
    }
}
