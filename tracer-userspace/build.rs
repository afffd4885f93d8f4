//! Builds the kernel half when the live half is wanted, and leaves it in `OUT_DIR/tracer-ebpf`.

#[cfg(feature = "capture")]
mod ebpf {
    use std::{env, process::Command};

    use anyhow::{Context as _, bail};

    /// The rustup toolchain that `cargo xtask setup` links where rustup's nightly cannot serve.
    const LINKED: &str = "ebpf";

    /// `-Z build-std` on a stable compiler wants this, and aya-build asks the environment for it.
    const BOOTSTRAP: &str = "RUSTC_BOOTSTRAP";

    pub(crate) fn build() -> anyhow::Result<()> {
        println!("cargo:rerun-if-changed=../tracer-ebpf");
        println!("cargo:rerun-if-changed=../tracer-common");
        let linked = rustup_knows(LINKED);
        if linked && env::var_os(BOOTSTRAP).is_none() {
            return again_with_bootstrap();
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

    /// Runs this build script once more with [`BOOTSTRAP`] set, since a program cannot set it
    /// for itself safely.
    fn again_with_bootstrap() -> anyhow::Result<()> {
        let status = Command::new(env::current_exe()?)
            .env(BOOTSTRAP, "1")
            .status()?;
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
