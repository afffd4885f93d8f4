//! `cargo xtask soak`: the mixed load of the tests for an hour, and what the daemon takes meanwhile.

use anyhow::Result;
use clap::Args;

use crate::{
    setup,
    shell::{as_root, cargo, check, find, survive_interrupts},
};

const TEST: &str = "soak::memory_and_descriptors_stay_flat_and_news_fresh";

/// Flags of `cargo xtask soak`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
}

/// The verb. Fails when memory or descriptors grow, a flow is missing, or news comes too late.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run(false)?;
    survive_interrupts()?;
    check(&mut cargo(
        "build --package tracer-userspace --package tests --bins",
    ))?;
    let test = cargo("test --package tests --test live -- --exact --nocapture");
    let seconds = format!("EGRESS_TRACER_SOAK={}", arguments.minutes * 60);
    let env = find("env").unwrap_or_else(|| "env".into());
    let mut soak = as_root(env);
    soak.arg(seconds).arg(test.get_program());
    check(soak.args(test.get_args()).arg(TEST))
}
