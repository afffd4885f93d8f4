//! How near each program is to what a kernel's verifier gives up on: beyond it nothing of what the
//! program sees is recorded, and on older kernels that is nearer than it looks.

use std::{collections::BTreeMap, fs, process::Command};

use lab::egress_tracer;

use crate::world::{finish, needs_root};

/// What was measured, a column for each kernel.
const GOLDEN: &str = include_str!("verifier.txt");

/// Where a verifier gives up: a million instructions (Linux 5.2).
const LIMIT: u64 = 1_000_000;

/// What was measured for this kernel, by program; `None` if nothing was.
fn golden() -> Option<BTreeMap<&'static str, u64>> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']);
    let series = format!("{}.{}", numbers.next()?, numbers.next()?);
    let mut heading = GOLDEN.lines().filter(|line| line.starts_with("# program"));
    let mut series_of = heading.next()?.split_whitespace().skip(2);
    let column = 1 + series_of.position(|known| known == series)?;
    let rows = GOLDEN.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[0], words[column].parse().unwrap())
    };
    Some(rows.map(row).collect())
}

/// `doctor`'s figures, by program.
fn measured() -> BTreeMap<String, u64> {
    let mut doctor = Command::new(egress_tracer().unwrap());
    let ran = finish(doctor.args(["doctor", "--programs"]));
    let lines = ran.out.lines().filter_map(|line| {
        let line = line.strip_prefix("ok    program")?.trim();
        let (name, rest) = line.split_once(": the verifier looked at ")?;
        let count = rest.split(' ').next()?.parse().unwrap();
        Some((name.to_owned(), count))
    });
    lines.collect()
}

/// Half as much again as was measured is still taken for the same program.
#[test]
fn no_program_comes_near_what_the_verifier_gives_up_on() {
    needs_root!();
    let measured = measured();
    assert!(measured.len() > 15, "{measured:?}");
    for (name, count) in &measured {
        println!("{name:22} {count}");
        assert!(*count < LIMIT / 3 * 2, "{name}: {count}");
    }
    let Some(golden) = golden() else {
        println!("nothing was measured for this kernel: only the verifier's own limit counts");
        return;
    };
    for (name, expected) in golden {
        let Some(count) = measured.get(name) else {
            println!("{name} is not loaded on this kernel");
            continue;
        };
        let most = expected + expected / 2;
        assert!(*count <= most, "{name}: {count}, once {expected}");
    }
}
