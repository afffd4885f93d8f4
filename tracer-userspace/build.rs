//! Builds the kernel half when the live half is wanted, and leaves it in `OUT_DIR/tracer-ebpf`.

#[cfg(feature = "capture")]
mod ebpf {
    use std::{env, process::Command};

    use anyhow::{Context as _, bail};

    /// The rustup toolchain that `cargo xtask setup` links where rustup's nightly cannot serve.
    const LINKED: &str = "ebpf";

    /// `-Z build-std` on a stable compiler wants this, and aya-build asks the environment for it.
    const BOOTSTRAP: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");

    /// The object names its sources relative to the project, wherever that lies: it is the same from
    /// whichever folder it is built in. aya-build sets the compiler's flags, but not cargo's settings.
    const TRIM: [(&str, &str); 2] = [
        ("CARGO_UNSTABLE_TRIM_PATHS", "true"),
        ("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all"),
    ];

    pub(crate) fn build() -> anyhow::Result<()> {
        println!("cargo:rerun-if-changed=../tracer-ebpf");
        println!("cargo:rerun-if-changed=../tracer-common");
        let linked = rustup_knows(LINKED);
        if env::var_os(TRIM[0].0).is_none() {
            return again(linked);
        }
        let package = aya_build::Package {
            name: "tracer-ebpf",
            root_dir: "../tracer-ebpf",
            ..Default::default()
        };
        let toolchain = if linked {
            aya_build::Toolchain::Custom(LINKED)
        } else {
            aya_build::Toolchain::Nightly
        };
        aya_build::build_ebpf([package], toolchain)
            .context("the eBPF programs did not build: `cargo xtask setup` installs what they need")
    }

    fn rustup_knows(toolchain: &str) -> bool {
        Command::new("rustup")
            .args(["run", toolchain, "rustc", "--version"])
            .output()
            .is_ok_and(|output| output.status.success())
    }

    /// Runs this build script once more with settings in its environment, since a program cannot put
    /// them there for itself safely.
    fn again(linked: bool) -> anyhow::Result<()> {
        let mut again = Command::new(env::current_exe()?);
        again.envs(TRIM);
        if linked {
            again.env(BOOTSTRAP.0, BOOTSTRAP.1);
        }
        let status = again.status()?;
        if !status.success() {
            bail!("the eBPF programs did not build ({status}): see above");
        }
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    #[cfg(feature = "capture")]
    ebpf::build()?;
    Ok(())
}
