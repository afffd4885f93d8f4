//! `names`: fills a ruleset's sets with the addresses of approved names, for as long as it runs.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Failure,
    daemon::Ready,
    live,
    policy_file::{self, PolicyFile},
};
use crate::{
    cli,
    names::{
        approved::Approved,
        run::{Companion, Settings},
    },
    output::terminal,
    policy::{
        Observations, infer,
        model::Policy,
        rules::{self, Rules, SeenAt},
    },
    render::{DEFAULT_TABLE, Options, Scope, Verdict},
};

const EXAMPLES: &str = "\
Examples:
  # Rules by name for a container: load them in its network namespace, and keep its names there
  egress-tracer render policy.toml --format nftables -o rules.nft
  PID=$(docker inspect -f '{{.State.Pid}}' agent)
  sudo nsenter -t $PID -n nft -f rules.nft
  sudo nsenter -t $PID -n egress-tracer names policy.toml --nft-table egress_tracer

  # Before anybody has approved anything: a dry run
  egress-tracer generate logs/ --name-sets -o candidates/
  nft -f candidates/rules.nft
  egress-tracer names candidates/policy.toml --nft-table egress_tracer --include-unreviewed

  # For what the host forwards for its containers
  egress-tracer names policy.toml --nft-table egress_tracer --interface docker0

  # How many answers passed while nobody looked
  nft list counter inet egress_tracer_names unheld

SIGTERM or SIGINT ends it and takes its own table away; the sets keep what they have until it times
out. If it is killed, answers pass, and the counter `unheld` counts them.

Exit codes: 0 ended by a signal; 1 nothing is approved by name, or no resolver is approved; 2 bad
usage or input, a table or set that is not there, a queue that is taken.";

/// Fill a ruleset's sets with the approved names' addresses.
///
/// Looks at the workload's questions, and at the answers of approved resolvers, in the network
/// namespace that it is started in. Each answer is held until the addresses of exactly the approved
/// names are in the sets that `render --format nftables` declares, so that whoever asked cannot know
/// an address before it may be reached. Answers always pass in the end.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub struct NamesArgs {
    /// The policy
    policy: PathBuf,

    /// The nftables table (family inet) with the sets; TABLE_names is made beside it
    #[arg(long, value_name = "TABLE", default_value = DEFAULT_TABLE)]
    nft_table: String,

    /// Names approved for certain tools too, where the rules were made with --per-tool
    #[arg(long)]
    per_tool: bool,

    /// Candidates too, which nobody has approved
    #[arg(long)]
    include_unreviewed: bool,

    /// The file of `ranges update`, for published ranges in the policy
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,

    /// How long an address stays in its set after its TTL is over: clients outlive it
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = live::duration)]
    grace: Duration,

    /// The netfilter queue, free in this network namespace
    #[arg(long, value_name = "N", default_value_t = 53)]
    queue: u16,

    /// The interface by which the workload's packets come in, where the rules have hook forward
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,

    /// An address or network of the workload, where the rules have hook forward; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = cli::network)]
    source: Vec<IpNet>,

    /// The time to reckon with, instead of the clock's
    #[arg(long, value_name = "TIME", value_parser = policy_file::moment)]
    now: Option<Timestamp>,

    /// Written once answers are held, and removed at the end
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

pub(super) fn names(arguments: &NamesArgs) -> Result<(), Failure> {
    let options = options(arguments)?;
    let approved = approved(arguments, &options.scope)?;
    let settings = Settings {
        table: options.table,
        queue: arguments.queue,
        grace: arguments.grace,
        scope: options.scope,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    Ok(runtime.block_on(attend(arguments, approved, &settings))?)
}

fn options(arguments: &NamesArgs) -> anyhow::Result<Options> {
    let forwarded = arguments.interface.is_some() || !arguments.source.is_empty();
    let options = Options {
        table: arguments.nft_table.clone(),
        scope: match forwarded {
            true => Scope::Forward {
                sources: arguments.source.clone(),
                interface: arguments.interface.clone(),
            },
            false => Scope::Namespace,
        },
        ..Options::new(Verdict::Drop)
    };
    options.check()?;
    Ok(options)
}

/// What the policy allows by name, and whose answers count.
fn approved(arguments: &NamesArgs, scope: &Scope) -> Result<Approved, Failure> {
    let file = PolicyFile::read(&arguments.policy, arguments.ranges.as_deref())?;
    file.refuse_unknown_denials()?;
    let policy = file.joined();
    let none = || infer::evidence(&Observations::new(&*policy.workload, 0));
    let evidence = file.evidence.clone().unwrap_or_else(none);
    let today = policy_file::today(arguments.now);
    let seen_at = SeenAt::from(scope);
    let make = |policy: &Policy| -> Rules {
        match arguments.include_unreviewed {
            true => rules::with_candidates(policy, &evidence, seen_at, today),
            false => rules::reviewed(policy, &evidence, seen_at, today),
        }
    };
    let made = match arguments.per_tool {
        true => rules::per_tool(&policy, make),
        false => make(&policy),
    };
    let (approved, omissions) = Approved::of(&made.set);
    for omission in &omissions {
        terminal::tell(&format!("note: {omission}"));
    }
    let place = arguments.policy.display();
    if approved.names() == 0 {
        return Err(Failure::No(format!("{place}: nothing is approved by name")));
    }
    let missing: Vec<String> = approved
        .missing()
        .iter()
        .map(|protocol| format!("53/{protocol}"))
        .collect();
    if !missing.is_empty() {
        return Err(Failure::No(format!(
            "{place}: no resolver is approved whose answers could be believed: approve the one that \
             the workload asks, for 53/udp and 53/tcp (missing: {})",
            missing.join(", ")
        )));
    }
    Ok(approved)
}

/// Until a signal comes.
async fn attend(
    arguments: &NamesArgs,
    approved: Approved,
    settings: &Settings,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let names = approved.names();
    let companion = Companion::start(approved, settings)?;
    let ready = Ready::announce(arguments.ready_file.as_deref())?;
    let table = &settings.table;
    terminal::tell(&format!(
        "names: {names} name(s) fill the sets of table inet {table}"
    ));
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    let mut told = 0;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = every_second.tick() => {}
        }
        companion.look_after();
        let tally = companion.tally();
        // The first trouble is told at once, then each time there are twice as many.
        if tally.troubles() > told {
            terminal::tell(&format!("names: {tally}"));
            told = tally.troubles().saturating_mul(2);
        }
    }
    drop(ready);
    terminal::tell(&format!("names: {}", companion.tally()));
    companion.stop()
}
