//! What can be asked for on the command line.

use std::{env, net::IpAddr, path::PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, builder::PossibleValue};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    commands,
    import::Runs,
    policy::{aggregate::Aggregate, infer::By, observe::DEFAULT_MAX_DESTINATIONS},
    ranges::Tag,
    render::{self, Options, Pods, Scope, Verdict},
    settings::{self, SettingsError},
};

/// Sees every outbound flow of a container and proposes an egress allowlist.
#[derive(Debug, Parser)]
#[command(name = "egress-tracer", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Settings file, in which a table for each verb mirrors its flags [default:
    /// /etc/egress-tracer.toml, where there is one]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the answer is \"no\"; 2 bad usage or input; 3 the evidence is incomplete.";

impl Cli {
    /// Reads the command line, completed by the settings file.
    ///
    /// # Errors
    /// The settings file cannot be read or makes no sense. Bad usage ends the program here.
    pub fn read() -> Result<Self, SettingsError> {
        let command = Self::command();
        let verbs: Vec<&str> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        let arguments = settings::complete(env::args_os().collect(), &verbs)?;
        Ok(Self::parse_from(arguments))
    }
}

/// One for each thing that it can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    #[cfg(feature = "capture")]
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(commands::RunArgs),
    #[cfg(feature = "capture")]
    #[command(after_long_help = DAEMON_EXAMPLES)]
    Daemon(Box<commands::DaemonArgs>),
    Generate(Generate),
    Coverage(Coverage),
    Replay(Replay),
    Policy(commands::PolicyArgs),
    Render(commands::RenderArgs),
    Diff(commands::DiffArgs),
    Report(commands::ReportArgs),
    Ranges(commands::RangesArgs),
    #[cfg(feature = "capture")]
    #[command(after_long_help = MARK_EXAMPLES)]
    Mark(commands::MarkArgs),
    #[cfg(feature = "capture")]
    Names(commands::NamesArgs),
    #[cfg(feature = "capture")]
    #[command(after_long_help = DETACH_EXAMPLES)]
    Detach(commands::DetachArgs),
    #[cfg(feature = "capture")]
    #[command(after_long_help = DOCTOR_EXAMPLES)]
    Doctor(commands::DoctorArgs),
    /// How `run` starts its command
    #[cfg(feature = "capture")]
    #[command(hide = true)]
    Become(commands::BecomeArgs),
}

#[cfg(feature = "capture")]
const RUN_EXAMPLES: &str = "\
Examples:
  # See where a command talks to
  sudo egress-tracer run -- python agent.py

  # Keep the log, a candidate policy and candidate rules
  sudo egress-tracer run -o out --workload shop_agent -- python agent.py --task 7

  # Ten runs, merged
  sudo egress-tracer run -o out --repeat 10 -- ./test.sh

  # A run for each prompt, until hardly anything is new
  sudo egress-tracer run -o out --each prompts.txt --until-unseen 5% -- python agent.py --task '{}'

Exit codes: the command's own; 125 if recording failed, 126 if the command cannot be executed, 127
if it does not exist, 128+n if signal n ended it.";

#[cfg(feature = "capture")]
const DAEMON_EXAMPLES: &str = "\
Examples:
  # Every container, pod, unit and the host, each with a directory of its own
  sudo egress-tracer daemon -o /var/lib/egress-tracer

  # Only the agents, written every two seconds
  sudo egress-tracer daemon -o out --container 'agent-*' --interval 2s

  # Tell at once what goes where nobody has approved it
  sudo egress-tracer daemon --policy policies/ --webhook http://127.0.0.1:8080/drift

SIGTERM ends it and leaves the hooks counting, for the next daemon to take over; SIGINT (Ctrl-C) ends
it and detaches them; SIGHUP opens the logs again.";

#[cfg(feature = "capture")]
const MARK_EXAMPLES: &str = "\
Examples:
  # Everything that curl sends is the tool's
  egress-tracer mark WebSearch -- curl https://example.com/

  # One call of it, as the agent numbers them
  egress-tracer mark WebSearch --call run-7 -- ./search.sh

  # In a cgroup that rules can tell (`render --per-tool`)
  sudo egress-tracer mark WebSearch --cgroup -- curl https://example.com/

Needs no privileges, but for --cgroup, which writes to cgroup v2. Where no daemon listens the command is
merely run.

Exit codes: the command's own; 126 if it cannot be executed, 127 if it does not exist; with --cgroup,
125 if the cgroup cannot be made or entered.";

#[cfg(feature = "capture")]
const DETACH_EXAMPLES: &str = "\
Examples:
  # After `systemctl stop egress-tracer`, for good
  sudo egress-tracer detach

Exit codes: 0 removed, or nothing was there; 2 a running daemon holds the pins.";

#[cfg(feature = "capture")]
const DOCTOR_EXAMPLES: &str = "\
Example:
  sudo egress-tracer doctor

Exit codes: 0 if recording works, 1 if it does not.";

const GENERATE_EXAMPLES: &str = "\
Examples:
  # A candidate policy from any number of runs, figures beside it; merges into an existing one
  egress-tracer generate logs/ -o policy.toml

  # Candidate nftables rules that count and log, from another tool's lines with dest_ip, dest_port
  egress-tracer generate connections.jsonl --format nftables

  # Everything, a folder for each workload: DIR/<workload>/policy.toml and so on. A single workload
  # goes into DIR itself.
  egress-tracer generate '/var/log/egress-tracer/**/*.jsonl*' -o candidates/

  # A capture of a host on which the workload has the address 172.18.0.5
  egress-tracer generate trace.pcapng --local 172.18.0.5 --workload shop_agent

  # Entries by address, as for a packet filter that nothing fills with names
  egress-tracer generate trace.pcapng --by address -o policy.toml

  # What each format can say
  egress-tracer generate --format list

  # For Kubernetes, which can only enforce
  egress-tracer generate logs/ --format networkpolicy --verdict drop --pod-label app=shop

  # From another machine
  ssh vm cat flows.jsonl | egress-tracer generate - --workload shop_agent

Exit codes: 0 done; 1 the format cannot say everything (with --exact); 2 bad usage or input; 3 the
evidence is incomplete. Only with 0 something was written.";

/// Logs or captures in, candidate policy or candidate rules out.
///
/// Reads egress-tracer's own log segments, JSON Lines with `dest_ip` and `dest_port`, packet captures
/// (pcap, pcapng), and the logs of Zeek, Suricata, Tetragon, Inspektor Gadget, Hubble and CargoWall,
/// plain, gzip or zstd. Runs and files merge in any order. Nothing that
/// comes out is reviewed: rules only count and log unless another --verdict is asked for.
#[derive(Debug, Args)]
#[command(after_long_help = GENERATE_EXAMPLES, after_help = "--help shows examples.")]
pub struct Generate {
    #[command(flatten)]
    pub input: InputFlags,

    /// What to write; a directory gets policy and packet filter rules. `list` shows what each can
    /// say
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// A file, or a directory (one that exists, or a name that ends in /). Without it: standard
    /// output
    ///
    /// A policy's figures go beside it: policy.toml has policy.evidence.json. An existing policy
    /// is merged into: comments, order and every decision stay. A directory gets policy.toml,
    /// policy.evidence.json, rules.nft, rules.v4 and rules.v6; where the inputs have several
    /// workloads, a folder for each.
    #[arg(short, long, value_name = "FILE|DIR/")]
    pub output: Option<PathBuf>,

    /// What candidates are about
    ///
    /// A name stands for an address where an answer to a question of the workload gave it. One that
    /// the workload alone claims never does.
    #[arg(long, value_enum, default_value = "name")]
    pub by: By,

    /// Take candidates out of an existing policy that these inputs do not show. Decisions stay
    #[arg(long, requires = "output")]
    pub prune: bool,

    /// Have the evidence name the records that tell of each destination: reads the logs a second time
    #[arg(long, requires = "output")]
    pub records: bool,

    /// Propose destinations too of which every attempt is known to have failed
    #[arg(long)]
    pub include_failed: bool,

    /// Propose this published range in place of the addresses in it, such as aws:S3:us-east-1; says
    /// how many addresses that opens. May be repeated
    #[arg(long, value_name = "TAG")]
    pub expand: Vec<Tag>,

    /// The file of `ranges update`, for --expand and for published ranges in the policy
    #[arg(long, value_name = "FILE")]
    pub ranges: Option<PathBuf>,

    #[command(flatten)]
    pub rules: RuleFlags,
}

/// What is read, and how.
#[derive(Debug, Args)]
pub struct InputFlags {
    /// Files, directories (searched for *.jsonl, *.pcap and *.pcapng, and for *.log, *.json and
    /// *.ndjson that are known logs, also with .gz or .zst), patterns in quotes, or - for standard
    /// input
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// The workload to choose; also the name for lines that carry none
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,

    /// Treat all workloads as one, called NAME of --workload, or "merged"
    #[arg(long)]
    pub merge_workloads: bool,

    /// Where the workload is, for captures, Zeek and Suricata: only what these addresses began is
    /// egress. May be repeated [default: whoever begins a connection is the workload]
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub local: Vec<IpNet>,

    /// What counts as one run
    #[arg(long, value_enum, default_value_t)]
    pub runs: Runs,

    /// Write although destinations may be missing, and mark the output
    #[arg(long)]
    pub allow_incomplete: bool,

    /// What agents have exported by OpenTelemetry, as JSON, a request a line: tells the tools of
    /// flows of which the log does not. May be repeated
    #[arg(long, value_name = "FILE")]
    pub spans: Vec<PathBuf>,

    /// Stop at the first line or packet that cannot be used
    #[arg(long)]
    pub strict: bool,

    /// Destinations kept per workload; beyond it the evidence is incomplete
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_DESTINATIONS)]
    pub max_destinations: usize,
}

const COVERAGE_EXAMPLES: &str = "\
Examples:
  # What have twenty runs not shown?
  egress-tracer coverage logs/

  # For a script: how many further runs until 99 % of the destinations have been seen
  egress-tracer coverage logs/ --target 99% --json | jq '.workloads[].further_runs'

Exit codes: 0 done; 2 bad usage or input; 3 the evidence is incomplete.";

/// What the runs have not shown yet.
///
/// Estimates, from how many runs each destination was seen in, how much of the workload's
/// behaviour is still unseen. It cannot know of paths that only a change of the agent, its
/// prompts or its surroundings would open: docs/coverage.md says what is assumed.
#[derive(Debug, Args)]
#[command(after_long_help = COVERAGE_EXAMPLES, after_help = "--help shows examples.")]
pub struct Coverage {
    #[command(flatten)]
    pub input: InputFlags,

    /// The share of destinations to reach
    #[arg(long, value_name = "SHARE", default_value = "95%", value_parser = share)]
    pub target: f64,

    /// For programs
    #[arg(long)]
    pub json: bool,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  # Would the approved policy have denied anything that was seen?
  egress-tracer replay policy.toml logs/

  # The same before anybody has reviewed it
  egress-tracer replay policy.toml logs/ --include-unreviewed

Exit codes: 0 nothing would be denied; 1 something would; 2 bad usage or input; 3 the evidence is
incomplete.";

/// Which observed flows the policy would deny, and what else it opens.
///
/// Evaluates the rules that packet filters would be given, without a kernel: approved, unexpired
/// entries, by address.
#[derive(Debug, Args)]
#[command(after_long_help = REPLAY_EXAMPLES, after_help = "--help shows examples.")]
pub struct Replay {
    /// The policy
    #[arg(value_name = "POLICY")]
    pub policy: PathBuf,

    #[command(flatten)]
    pub input: InputFlags,

    /// Candidates and expired approvals count as allowed
    #[arg(long)]
    pub include_unreviewed: bool,

    /// The time to reckon with, instead of the clock's: entries must not have expired
    #[arg(long, value_name = "TIME", value_parser = commands::moment)]
    pub now: Option<Timestamp>,

    /// The file of `ranges update`, for published ranges in the policy
    #[arg(long, value_name = "FILE")]
    pub ranges: Option<PathBuf>,

    /// Merge rules first, as with generate
    #[arg(long, value_name = "exact|/BITS:HOSTS")]
    pub aggregate: Vec<Aggregate>,

    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// A share such as 95% or 0.95.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    share
        .ok()
        .filter(|share| *share > 0.0 && *share < 1.0)
        .ok_or_else(|| "expected a share between 0 and 1, such as 95% or 0.95".to_owned())
}

/// What `generate` can write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not a format: the table of all of them
    List,
    /// policy.toml, for review
    Policy,
    Rules(render::Format),
}

impl Format {
    /// The rule language; `None` for the policy.
    #[must_use]
    pub fn rules(self) -> Option<render::Format> {
        match self {
            Self::List | Self::Policy => None,
            Self::Rules(format) => Some(format),
        }
    }
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Format; render::Format::ALL.len() + 2] = {
            let mut all = [Format::List; render::Format::ALL.len() + 2];
            all[1] = Format::Policy;
            let mut at = 0;
            while at < render::Format::ALL.len() {
                all[at + 2] = Format::Rules(render::Format::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::List => Some(PossibleValue::new("list").help("Show what each format can say")),
            Self::Policy => Some(PossibleValue::new("policy").help("policy.toml, for review")),
            Self::Rules(format) => format.to_possible_value(),
        }
    }
}

/// How rules are rendered.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rules")]
pub struct RuleFlags {
    /// The nftables table
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,

    /// The chain
    #[arg(long, value_name = "NAME")]
    pub chain: Option<String>,

    /// Where packets are looked at: what leaves the network namespace in which the rules are
    /// loaded, or what the host forwards for a container [default: output, or forward with --source
    /// or --interface]
    #[arg(long, value_enum)]
    pub hook: Option<Hook>,

    /// The interface by which the container's packets come in (hook forward)
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,

    /// An address or network of the container (hook forward); may be repeated
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub source: Vec<IpNet>,

    /// Only what processes of this cgroup send (hook output)
    #[arg(long, value_name = "PATH", conflicts_with_all = ["interface", "source"])]
    pub cgroup: Option<String>,

    /// What happens to traffic that no rule allows [default: log; drop for `render`]
    #[arg(long, value_enum)]
    pub verdict: Option<Verdict>,

    /// Write nothing and exit 1 if the format cannot say everything, or only something wider
    #[arg(long)]
    pub exact: bool,

    /// Merge rules: `exact` into the fewest networks with the same addresses; /24:8 into a /24
    /// where 8 addresses of it were seen with a service (above 32 bits: IPv6); may be repeated
    #[arg(long, value_name = "exact|/BITS:HOSTS")]
    pub aggregate: Vec<Aggregate>,

    /// A label of the pods that a Kubernetes policy is about; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub pod_label: Vec<(String, String)>,

    /// The namespace of a Kubernetes policy
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Declare nftables sets of names, for `egress-tracer names` or `--format dnsmasq` to fill;
    /// `render` does so wherever something is allowed by name
    #[arg(long)]
    pub name_sets: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hook {
    Output,
    Forward,
}

/// Why flags do not go together.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    #[error("--cgroup needs --hook output: forwarded packets have no process")]
    ForwardedCgroup,
    #[error("--hook output sees no --source or --interface: use --hook forward")]
    OutputSelector,
    #[error(transparent)]
    Options(#[from] render::BadOption),
}

impl RuleFlags {
    /// The options that the flags stand for, with `verdict` where none was asked for.
    pub fn options(&self, verdict: Verdict) -> Result<Options, FlagError> {
        let mut options = Options::new(self.verdict.unwrap_or(verdict));
        options.scope = self.scope()?;
        if let Some(table) = &self.table {
            options.table.clone_from(table);
        }
        if let Some(chain) = &self.chain {
            options.chain.clone_from(chain);
        }
        options.pods = Pods {
            namespace: self.namespace.clone(),
            labels: self.pod_label.iter().cloned().collect(),
        };
        options.name_sets = self.name_sets;
        options.check()?;
        Ok(options)
    }

    fn scope(&self) -> Result<Scope, FlagError> {
        let selects = self.interface.is_some() || !self.source.is_empty();
        match (self.hook, &self.cgroup) {
            (Some(Hook::Forward), Some(_)) => Err(FlagError::ForwardedCgroup),
            (Some(Hook::Output) | None, Some(path)) => Ok(Scope::Cgroup { path: path.clone() }),
            (Some(Hook::Output), None) if selects => Err(FlagError::OutputSelector),
            (None, None) if !selects => Ok(Scope::Namespace),
            (Some(Hook::Output), None) => Ok(Scope::Namespace),
            (Some(Hook::Forward) | None, None) => Ok(Scope::Forward {
                sources: self.source.clone(),
                interface: self.interface.clone(),
            }),
        }
    }
}

/// A Kubernetes label.
fn label(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    parts
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

/// A network, or an address as the network of itself.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse::<IpNet>().map(|network| network.trunc()))
        .map_err(|_| "expected an address or a network such as 172.18.0.0/16".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
