//! Recording the sample agent, on a little internet, in a container where there is Docker.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use lab::{ContainerSpec, DNS, Daemon, Docker, Internet, Log, agent_image, agent_plan, binary};

use crate::{
    shell::{check, interrupted},
    table,
};

/// The agent's session takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

const FILES: [&str; 6] = [
    "flows.jsonl",
    "policy.toml",
    "policy.evidence.json",
    "rules.nft",
    "rules.v4",
    "rules.v6",
];

/// Records one session of the agent and shows what came of it.
pub(crate) fn record(tracer: &Path, output: &Path) -> Result<()> {
    let folder = if Docker::answers() {
        in_container(tracer, output)?
    } else {
        eprintln!("run: no Docker daemon answers: the agent gets a network namespace instead");
        in_namespace(tracer, output)?
    };
    give_back(output)?;
    show(&folder)
}

/// As on a real machine: the daemon watches, a container comes and goes.
fn in_container(tracer: &Path, output: &Path) -> Result<PathBuf> {
    let docker = Docker::start()?;
    let _internet = Internet::on_host(&agent_plan())?;
    let image = agent_image(&docker)?;
    let network = docker.network()?;
    let name = format!("sample-agent-{}", std::process::id());

    eprintln!(
        "run: the daemon records container {name} into {}",
        output.display()
    );
    let daemon = Daemon::start_by(Command::new(tracer), output, &["--container", &name])?;
    let container = ContainerSpec::new(&image)
        .name(&name)
        .dns(DNS)
        .network(&network)
        .run(&docker)?;
    lab::wait_until("the agent's session ends", PATIENCE, || {
        if interrupted() {
            bail!("interrupted");
        }
        Ok((container.inspect("{{.State.Running}}")? == "false").then_some(()))
    })?;
    println!("{}", container.logs()?);
    let folder = daemon.workload(&name);
    daemon.stop()?;
    Ok(folder)
}

fn in_namespace(tracer: &Path, output: &Path) -> Result<PathBuf> {
    let internet = Internet::start(&agent_plan())?;
    let client = internet.client("agent")?;
    eprintln!("run: recording the agent into {}", output.display());
    let mut run = client.command(tracer);
    run.args(["run", "--workload", "sample-agent", "-o"])
        .arg(output);
    check(run.arg("--").arg(binary("sample-agent")?))?;
    Ok(output.to_owned())
}

/// Makes the files belong to the user who called sudo.
fn give_back(output: &Path) -> Result<()> {
    let (Ok(uid), Ok(gid)) = (env::var("SUDO_UID"), env::var("SUDO_GID")) else {
        return Ok(());
    };
    let owner = format!("{uid}:{gid}");
    check(Command::new("chown").args(["-R", &owner]).arg(output))
}

fn show(folder: &Path) -> Result<()> {
    let path = folder.join("flows.jsonl");
    let log = Log::read(&path).context("nothing was recorded")?;
    println!("\n{}", table::destinations(&log));
    let rules = fs::read_to_string(folder.join("rules.nft")).unwrap_or_default();
    println!("candidate rules (nftables, nothing is enforced):\n\n{rules}");
    println!("files:");
    for file in FILES.map(|file| folder.join(file)) {
        let missing = if file.exists() { "" } else { " (missing)" };
        println!("  {}{missing}", file.display());
    }
    Ok(())
}
