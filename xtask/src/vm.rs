//! `cargo xtask vm`: boots other kernels in QEMU, with the binary and the privileged tests inside,
//! on a pure cgroup v2 hierarchy, and tells what each test came to.

mod guest;
mod kernel;
mod machine;
mod plan;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::{kernel::Kernel, machine::Told};
use crate::{
    setup,
    shell::{cargo, check, find, interrupted},
};

/// Packages, unpacked kernels and what consoles said.
const FOLDER: &str = "target/vm";

/// Series that are tested unless others are named: of Debian 12, and its backport.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// What is tried of another kernel in every test run: that the programs load, and that what is counted
/// is right.
const GLANCE: &str = "6.1";
const GLANCE_TEST: &str = "live::counting::every_tcp_connect_counts_accepted_or_not";
const GLANCE_MINUTES: u64 = 4;

/// What came of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Good,
    Bad,
    NotInTime,
}

/// Flags of `cargo xtask vm`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Kernels: a Debian series like 6.1, a package (.deb), or an image (bzImage)
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,

    /// Every test that can run there, not only the core
    #[arg(long)]
    all: bool,

    /// Minutes for each kernel; the core takes 3 to 6, all of it an hour
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,

    /// Only this test; may be given several times: TARGET::NAME
    #[arg(long, value_name = "TEST")]
    test: Vec<String>,

    /// What QEMU computes with: kvm is fast, and not everywhere sound
    #[arg(long, value_name = "NAME", default_value = "tcg")]
    accel: String,
}

impl Arguments {
    fn budget(&self) -> Duration {
        let default = if self.all { 90 } else { 10 };
        Duration::from_secs(60 * self.minutes.unwrap_or(default))
    }
}

/// The verb. Fails when a test fails on one of the kernels, or does not come to its end.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::virtual_machines()?;
    if let Some(why) = obstacle() {
        bail!(why);
    }
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder).with_context(|| FOLDER.to_owned())?;
    let series = SERIES.map(str::to_owned);
    let names = match &arguments.kernels[..] {
        [] => &series[..],
        some => some,
    };
    let kernels = names.iter().map(|name| kernel::find(name, folder));
    let kernels: Vec<Kernel> = kernels.collect::<Result<_>>()?;
    let programs = build()?;
    let steps = plan::steps(arguments.all, &arguments.test);
    let mut failed = Vec::new();
    for kernel in &kernels {
        match passes(kernel, &programs, &steps, arguments)? {
            Came::Good => {}
            Came::Bad | Came::NotInTime => failed.push(kernel.name.as_str()),
        }
        if interrupted() {
            bail!("interrupted");
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("not everything passes on {}", failed.join(", "))
}

/// One test on one kernel, as a part of all tests: where it cannot be done, or not in this time, it
/// says so and is no failure.
pub(crate) fn glance() -> Result<()> {
    setup::virtual_machines()?;
    if let Some(why) = obstacle() {
        println!("vm: no other kernel is tried: {why}");
        return Ok(());
    }
    let arguments = Arguments {
        kernels: vec![GLANCE.to_owned()],
        all: false,
        minutes: Some(GLANCE_MINUTES),
        test: vec![GLANCE_TEST.to_owned()],
        accel: "tcg".to_owned(),
    };
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder).with_context(|| FOLDER.to_owned())?;
    let kernel = match kernel::find(GLANCE, folder) {
        Ok(kernel) => kernel,
        Err(error) => {
            println!("vm: no other kernel is tried: {error:#}");
            return Ok(());
        }
    };
    let steps = plan::those(&arguments.test);
    match passes(&kernel, &build()?, &steps, &arguments)? {
        Came::Good => Ok(()),
        Came::Bad => bail!("it fails on {GLANCE}"),
        Came::NotInTime => {
            println!("vm: not done within {GLANCE_MINUTES} minutes here: see `cargo xtask vm`");
            Ok(())
        }
    }
}

/// Why nothing can be booted here, if so.
fn obstacle() -> Option<String> {
    let missing = ["qemu-system-x86_64", "cpio", "depmod", "dpkg"]
        .into_iter()
        .find(|program| find(program).is_none());
    if cfg!(not(target_arch = "x86_64")) {
        return Some("the guests are x86_64, and this machine is not".to_owned());
    }
    missing.map(|program| format!("{program} is not installed, and there is no apt-get to do it"))
}

/// Boots one kernel and prints a line for each test.
fn passes(
    kernel: &Kernel,
    programs: &[PathBuf],
    steps: &[plan::Step],
    arguments: &Arguments,
) -> Result<Came> {
    let began = Instant::now();
    let initramfs = guest::pack(kernel, programs, steps)?;
    eprintln!(
        "vm: {}: booting, {} MiB of files",
        kernel.name,
        mebibytes(&initramfs)?
    );
    let console = Path::new(FOLDER).join(format!("{}.console", kernel.name));
    let boot = machine::Boot {
        kernel,
        initramfs: &initramfs,
        console: &console,
        accel: &arguments.accel,
    };
    let mut told = Told::default();
    let ended = machine::run(&boot, arguments.budget(), |line| {
        if let Some(said) = told.take_in(line) {
            println!("vm: {}: {said}", kernel.name);
        }
    })?;
    let log = Path::new(FOLDER).join(format!("{}.log", kernel.name));
    fs::write(&log, told.everything())?;
    println!(
        "vm: {}: {}, {} s (said in full in {})",
        kernel.name,
        told.summary(),
        began.elapsed().as_secs(),
        log.display()
    );
    if !told.came_to_its_end() {
        eprintln!(
            "vm: {}: the console ends with:\n{}",
            kernel.name,
            tail(&console)
        );
    }
    Ok(match (told.is_good(), ended || told.has_failures()) {
        (true, _) => Came::Good,
        (false, true) => Came::Bad,
        (false, false) => Came::NotInTime,
    })
}

fn mebibytes(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.len() >> 20)
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Builds what runs inside: programs, and the targets of tests. Their paths.
fn build() -> Result<Vec<PathBuf>> {
    check(&mut cargo(
        "build --package tracer-userspace --package tests --bins",
    ))?;
    let mut line = "test --package tests --no-run --message-format json".to_owned();
    for target in plan::TARGETS {
        line.push_str(&format!(" --test {target}"));
    }
    let output = cargo(&line)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let told = String::from_utf8_lossy(&output.stdout);
    let tests = told.lines().filter_map(executable);
    let programs = [
        "egress-tracer",
        "little-internet",
        "sample-agent",
        "load-generator",
    ]
    .map(|name| Path::new("target/debug").join(name));
    Ok(tests.chain(programs).collect())
}

/// The path of a target of tests, of a line of cargo's.
fn executable(line: &str) -> Option<PathBuf> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_test = value["profile"]["test"] == true && value["target"]["kind"][0] == "test";
    is_test.then(|| value["executable"].as_str().map(PathBuf::from))?
}

/// Runs `command` to its end; stdout.
fn output(command: &mut Command) -> Result<String> {
    lab::output(command)
}
