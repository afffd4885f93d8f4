//! `cargo xtask dist`: the release binary with its digest and its bills of materials. It is built
//! twice, in folders of different names, from what is committed; both must be the same to the byte.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lab::{output, run as run_program};

use crate::{
    setup,
    shell::{cargo, check},
};

/// Of different lengths: a path that is left somewhere moves what follows it.
const TREES: [&str; 2] = ["a", "another-folder"];
/// What the folder is called in whatever is made in it.
const SOURCES: &str = "/egress-tracer";
const BINARY: &str = "target/release/egress-tracer";
/// What is in the binary: the program, and the kernel's half, which cargo does not see as a part of it.
const PACKAGES: [(&str, &str); 2] = [
    ("tracer-userspace", "egress-tracer"),
    ("tracer-ebpf", "egress-tracer-ebpf"),
];

/// Flags of `cargo xtask dist`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Where the binary, SHA256SUMS and the bills of materials go
    #[arg(short, long, value_name = "DIR", default_value = "target/dist")]
    output: PathBuf,

    /// Build it once only, and compare nothing
    #[arg(long)]
    once: bool,
}

/// What was built in one folder.
#[derive(Debug, PartialEq, Eq)]
struct Digests {
    binary: String,
    /// Of the kernel's half inside.
    object: String,
}

/// The verb, called from the folder `callers`.
pub(crate) fn run(arguments: &Arguments, callers: &Path) -> Result<()> {
    setup::release()?;
    let folder = callers.join(&arguments.output);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    if !run_program("git", &["status", "--porcelain"])?.is_empty() {
        eprintln!("dist: what is not committed is not in it");
    }
    let scratch = tempfile::tempdir_in("target").context("no temporary folder")?;
    let scratch = scratch.path().canonicalize()?;
    let trees = TREES.map(|name| scratch.join(name));
    let built = build(&trees[0])?;
    println!("dist: {} egress-tracer", built.binary);
    println!("dist: {} its eBPF object", built.object);
    if !arguments.once {
        let again = build(&trees[1])?;
        if again != built {
            bail!("built again in another folder it differs: {again:?}");
        }
        println!("dist: built again in another folder it is the same");
    }
    fs::copy(trees[0].join(BINARY), folder.join("egress-tracer"))?;
    bills(&trees[0], &folder)?;
    sums(&folder)
}

/// Builds what is committed in a folder of its own.
fn build(tree: &Path) -> Result<Digests> {
    fs::create_dir(tree)?;
    let archive = tree.with_extension("tar");
    output(
        Command::new("git")
            .args(["archive", "HEAD", "-o"])
            .arg(&archive),
    )?;
    output(
        Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(tree),
    )?;
    eprintln!("dist: building in {}", tree.display());
    let mut build = cargo("build --release --locked --package tracer-userspace --bins");
    check(without_paths(&mut build, tree)?.current_dir(tree))?;
    Ok(Digests {
        binary: digest(&tree.join(BINARY))?,
        object: digest(&object(tree)?)?,
    })
}

/// Settings by which nothing of where it was built, or when, is in what is built.
fn without_paths<'a>(build: &'a mut Command, tree: &Path) -> Result<&'a mut Command> {
    let home = env::var_os("HOME").context("no HOME")?;
    let cargo_home = env::var_os("CARGO_HOME").map_or(Path::new(&home).join(".cargo"), Into::into);
    let places = [(tree, SOURCES), (&cargo_home, "/cargo")];
    let flags = |flag: &str| {
        let each = places.map(|(place, name)| format!("{flag}={}={name}", place.display()));
        each.join(" ")
    };
    Ok(build
        .env("RUSTFLAGS", flags("--remap-path-prefix"))
        .env("CFLAGS", flags("-ffile-prefix-map"))
        .env("SOURCE_DATE_EPOCH", epoch()?)
        .env("CARGO_INCREMENTAL", "0")
        .env_remove("CARGO_TARGET_DIR"))
}

/// When what is built was committed, in seconds.
fn epoch() -> Result<String> {
    run_program("git", &["log", "-1", "--format=%ct"])
}

/// The kernel's half, as the build script has left it.
fn object(tree: &Path) -> Result<PathBuf> {
    let scripts = fs::read_dir(tree.join("target/release/build"))?;
    let paths = scripts.flatten().map(|entry| entry.path());
    let mut objects = paths.map(|path| path.join("out/tracer-ebpf"));
    let found = objects.find(|path| path.is_file());
    found.context("the build script has left no eBPF object")
}

fn digest(path: &Path) -> Result<String> {
    let told = output(Command::new("sha256sum").arg(path))?;
    let (digest, _) = told.split_once(' ').context("no digest")?;
    Ok(digest.to_owned())
}

/// CycloneDX, of what the lock file says of each package.
fn bills(tree: &Path, folder: &Path) -> Result<()> {
    let mut bill = Command::new("cargo");
    bill.args(["cyclonedx", "--quiet", "--format", "json"])
        .args(["--spec-version", "1.5", "--all-features"])
        .args(["--override-filename", "bill.cdx"])
        .current_dir(tree)
        .env("SOURCE_DATE_EPOCH", epoch()?);
    check(&mut bill)?;
    for (package, name) in PACKAGES {
        let made = tree.join(package).join("bill.cdx.json");
        let text = fs::read_to_string(&made).with_context(|| made.display().to_string())?;
        // It refers to this project's own packages by where they lie.
        let text = text.replace(&tree.display().to_string(), SOURCES);
        fs::write(folder.join(format!("{name}.cdx.json")), text)?;
    }
    Ok(())
}

/// Digests of all that is given away.
fn sums(folder: &Path) -> Result<()> {
    let bills = PACKAGES.map(|(_, name)| format!("{name}.cdx.json"));
    let mut sums = Command::new("sha256sum");
    let told = output(sums.arg("egress-tracer").args(bills).current_dir(folder))?;
    fs::write(folder.join("SHA256SUMS"), told + "\n")?;
    println!("dist: in {}", folder.display());
    Ok(())
}
