//! What can be asked for on the command line.

use std::{env, net::IpAddr, path::PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::{
    commands,
    policy::observe::DEFAULT_MAX_DESTINATIONS,
    render::{self, Options, Scope, Verdict},
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
    Daemon(commands::DaemonArgs),
    Generate(Generate),
    Policy(commands::PolicyArgs),
    Render(commands::RenderArgs),
    Diff(commands::DiffArgs),
    Ranges(commands::RangesArgs),
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

Exit codes: the command's own; 125 if recording failed, 126 if the command cannot be executed, 127
if it does not exist, 128+n if signal n ended it.";

#[cfg(feature = "capture")]
const DAEMON_EXAMPLES: &str = "\
Examples:
  # Every container, pod, unit and the host, each with a directory of its own
  sudo egress-tracer daemon -o /var/lib/egress-tracer

  # Only the agents, written every two seconds
  sudo egress-tracer daemon -o out --container 'agent-*' --interval 2s

SIGINT and SIGTERM end it in good order; SIGHUP opens the logs again.";

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

  # From another machine
  ssh vm cat flows.jsonl | egress-tracer generate - --workload shop_agent

Exit codes: 0 done; 2 bad usage or input; 3 the evidence is incomplete and nothing was written.";

/// Logs in, candidate policy or candidate rules out.
///
/// Reads egress-tracer's own log segments and JSON Lines with `dest_ip` and `dest_port`, plain,
/// gzip or zstd. Runs and files merge in any order. Nothing that comes out is reviewed: rules only
/// count and log unless another --verdict is asked for.
#[derive(Debug, Args)]
#[command(after_long_help = GENERATE_EXAMPLES, after_help = "--help shows examples.")]
pub struct Generate {
    /// Files, directories (searched for *.jsonl, *.jsonl.gz, *.jsonl.zst), patterns in quotes, or
    /// - for standard input
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// What to write; a directory gets everything
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

    /// The workload to choose; also the name for lines that carry none
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,

    /// Treat all workloads as one, called NAME of --workload, or "merged"
    #[arg(long)]
    pub merge_workloads: bool,

    /// Write although destinations may be missing, and mark the output
    #[arg(long)]
    pub allow_incomplete: bool,

    /// Take candidates out of an existing policy that these inputs do not show. Decisions stay
    #[arg(long, requires = "output")]
    pub prune: bool,

    /// Stop at the first line that cannot be used
    #[arg(long)]
    pub strict: bool,

    /// Destinations kept per workload; beyond it the evidence is incomplete
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_DESTINATIONS)]
    pub max_destinations: usize,

    #[command(flatten)]
    pub rules: RuleFlags,
}

/// What `generate` can write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// policy.toml, for review
    Policy,
    /// One nftables table for IPv4 and IPv6
    Nftables,
    /// Input of iptables-restore: the IPv4 rules
    Iptables,
    /// Input of ip6tables-restore: the IPv6 rules
    Ip6tables,
}

impl Format {
    /// The rule language; `None` for the policy.
    #[must_use]
    pub fn rules(self) -> Option<render::Format> {
        match self {
            Self::Policy => None,
            Self::Nftables => Some(render::Format::Nftables),
            Self::Iptables => Some(render::Format::Iptables),
            Self::Ip6tables => Some(render::Format::Ip6tables),
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

/// A network, or an address as the network of itself.
fn network(text: &str) -> Result<IpNet, String> {
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
