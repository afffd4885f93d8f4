//! `policy sign`, and the part of `policy verify` that is about signatures: by `ssh-keygen -Y`, with
//! keys that people have.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{
    commands::policy_file::PolicyFile,
    output::{files, terminal},
    policy::signed,
};

/// What keeps a signature for something else from counting here, and the other way round.
const NAMESPACE: &str = "egress-tracer-policy";

const EXAMPLES: &str = "\
Examples:
  # Sign the decisions, with a key or with what the agent has of it
  egress-tracer policy sign policy.toml --key ~/.ssh/id_ed25519

  # Who may sign: a line each, as in `man ssh-keygen`, ALLOWED SIGNERS
  echo \"ada@example.com $(cat ~/.ssh/id_ed25519.pub)\" > signers
  egress-tracer policy verify policy.toml --signers signers";

/// Sign the decisions with an SSH key, into POLICY.sig
///
/// The signature is about approvals and denials, those of the bases among them. It holds until one
/// of them changes; candidates, comments and order do not matter.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub(super) struct Sign {
    /// The policy
    policy: PathBuf,

    /// The private key; or the public one, if an SSH agent has the private one
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn sign(arguments: &Sign) -> anyhow::Result<()> {
    let file = PolicyFile::read(&arguments.policy, None)?;
    let text = signed::text(&file.joined());
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "sign", "-q", "-n", NAMESPACE, "-f"]);
    // A passphrase is asked for on the terminal itself.
    let output = ask(keygen.arg(&arguments.key), &text)?;
    if !output.status.success() {
        bail!("ssh-keygen did not sign: {}", said(&output));
    }
    let place = signature_path(&arguments.policy);
    files::write(&place, &output.stdout)?;
    let decisions = text.lines().count() - 1;
    terminal::tell(&format!(
        "{}: {decisions} decision(s) signed",
        place.display()
    ));
    Ok(())
}

/// Who signed the decisions as they stand, by the file of allowed signers.
///
/// # Errors
/// Nobody did, or nobody who may; ssh-keygen is not there.
pub(super) fn signer(file: &PolicyFile, signers: &Path) -> anyhow::Result<String> {
    let place = signature_path(&file.path);
    if !place.exists() {
        bail!("{} is not there: `policy sign` makes it", place.display());
    }
    fs::metadata(signers).with_context(|| format!("cannot read {}", signers.display()))?;
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "find-principals", "-s"]).arg(&place);
    let found = ask(keygen.arg("-f").arg(signers), "")?;
    let names = String::from_utf8_lossy(&found.stdout).into_owned();
    let Some(name) = names.lines().next().filter(|_| found.status.success()) else {
        bail!(
            "{}: its key may not sign, by {}",
            place.display(),
            signers.display()
        );
    };
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "verify", "-n", NAMESPACE, "-I", name, "-s"]);
    let verified = ask(
        keygen.arg(&place).arg("-f").arg(signers),
        &signed::text(&file.joined()),
    )?;
    if !verified.status.success() {
        bail!(
            "{}: the decisions are not what {name} signed: {}",
            place.display(),
            said(&verified)
        );
    }
    Ok(name.to_owned())
}

fn signature_path(policy: &Path) -> PathBuf {
    let mut path = policy.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

fn ask(command: &mut Command, input: &str) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ssh-keygen (install openssh-client)")?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever does not read it says why in its answer.
        let _unread = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().context("ssh-keygen was lost")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ")
}
