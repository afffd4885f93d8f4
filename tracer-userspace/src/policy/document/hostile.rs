//! Whatever observed things are called, and whatever people give as reasons, a policy says it and
//! nothing else.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use jiff::civil::date;
use proptest::{collection::vec, prelude::*};

use super::{add, decide, fresh, parse};
use crate::{
    policy::{
        decision::{Decision, Ruling},
        model::{Entry, Status, Target},
    },
    render::hostile::text as hostile,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        hostile(),
        Just("\"\n[[allow]]\nto = \"0.0.0.0/0\"\nstatus = \"approved\"\n".to_owned()),
        Just("'''\n\"\"\"\\".to_owned()),
        Just("# comment\r\n\u{feff}\u{2028}\u{7f}".to_owned()),
    ]
}

fn entry(number: usize, mut tools: Vec<String>, processes: Vec<String>) -> Entry {
    tools.sort();
    tools.dedup();
    let address = [192, 0, 2, u8::try_from(number).unwrap()];
    Entry {
        to: Target::Address(address.into()),
        ports: vec!["443/tcp".parse().unwrap()],
        translated: Vec::new(),
        tools: (!tools.is_empty()).then_some(tools),
        processes: (!processes.is_empty()).then_some(processes),
        status: Status::Candidate,
        reason: None,
        owner: None,
        approved: None,
        expires: None,
        reference: None,
        list: Vec::new(),
        at_most: None,
        findings: Vec::new(),
        roles: Vec::new(),
        acknowledged: Vec::new(),
    }
}

fn denial(reason: &str, owner: &str, reference: &str) -> Decision {
    Decision {
        ruling: Ruling::Deny,
        reason: reason.to_owned(),
        owner: owner.to_owned(),
        on: date(2026, 11, 23),
        expires: None,
        reference: Some(reference.to_owned()),
        acknowledged: Vec::new(),
    }
}

proptest! {
    #[test]
    fn a_policy_says_what_was_put_in_and_nothing_else(
        workload in text(),
        called in vec((vec("[ -~]{1,9}", 0..3), vec(text(), 0..3)), 1..4),
        (reason, owner, reference) in (text(), text(), text()),
    ) {
        let called = called.into_iter().enumerate();
        let entries: Vec<Entry> = called
            .map(|(number, (tools, processes))| entry(number, tools, processes))
            .collect();
        let mut written = fresh(&workload, &[]).unwrap();
        for entry in &entries {
            written = add(&written, entry).unwrap();
        }
        let steers = |each| crate::harmless::steers(each) && each != '\n';
        prop_assert!(!written.contains(steers), "{written:?}");
        let read = parse(&written).unwrap();
        prop_assert_eq!(&read.workload, &workload);
        prop_assert_eq!(&read.entries, &entries);

        let decision = denial(&reason, &owner, &reference);
        let decided = decide(&written, &[(0, Vec::new())], &decision).unwrap();
        prop_assert!(!decided.contains(steers), "{decided:?}");
        let read = parse(&decided).unwrap();
        prop_assert_eq!(read.entries[0].status, Status::Denied);
        prop_assert_eq!(read.entries[0].reason.as_ref(), Some(&reason));
        prop_assert_eq!(read.entries[0].owner.as_ref(), Some(&owner));
        prop_assert_eq!(read.entries[0].reference.as_ref(), Some(&reference));
        prop_assert_eq!(&read.entries[1..], &entries[1..]);
    }
}
