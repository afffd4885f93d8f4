//! Runtimes that give a container a kernel of its own, where no hook of ours runs. Pure.

/// Why the host's kernel does not see what a container sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A kernel in userspace.
    GVisor,
    /// Virtual machines made by Kata Containers.
    Kata,
    /// Any other virtual machine.
    MicroVm,
}

impl Isolation {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GVisor => "gVisor",
            Self::Kata => "Kata Containers",
            Self::MicroVm => "a microVM",
        }
    }
}

/// How runtimes with another kernel are called, by the beginning of the name: `runsc-kvm`,
/// `kata-qemu`, `firecracker`.
const NAMES: [(&str, Isolation); 11] = [
    ("runsc", Isolation::GVisor),
    ("gvisor", Isolation::GVisor),
    ("kata", Isolation::Kata),
    ("firecracker", Isolation::MicroVm),
    ("cloud-hypervisor", Isolation::MicroVm),
    ("krun", Isolation::MicroVm),
    ("crun-vm", Isolation::MicroVm),
    ("crun-krun", Isolation::MicroVm),
    ("urunc", Isolation::MicroVm),
    ("quark", Isolation::MicroVm),
    ("runq", Isolation::MicroVm),
];

/// What a runtime's name says, as an engine writes it: a name (`kata-runtime`), a path
/// (`/usr/local/bin/runsc`), a containerd shim (`io.containerd.kata.v2`, `aws.firecracker`).
/// `None` for what shares the host's kernel, and for names that nobody knows.
#[must_use]
pub fn isolation(runtime: &str) -> Option<Isolation> {
    let file = runtime.rsplit('/').next().unwrap_or(runtime);
    let lower = file.to_ascii_lowercase();
    let bare = lower
        .strip_prefix("io.containerd.")
        .or_else(|| lower.strip_prefix("aws."))
        .or_else(|| lower.strip_prefix("containerd-shim-"))
        .unwrap_or(&lower);
    NAMES
        .iter()
        .find(|(name, _)| {
            let rest = bare.strip_prefix(name);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        })
        .map(|(_, isolation)| *isolation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_runtimes_that_have_another_kernel() {
        for (name, expected) in [
            ("runsc", Isolation::GVisor),
            ("runsc-kvm", Isolation::GVisor),
            ("/usr/local/bin/runsc", Isolation::GVisor),
            ("io.containerd.runsc.v1", Isolation::GVisor),
            ("gvisor", Isolation::GVisor),
            ("kata", Isolation::Kata),
            ("kata-runtime", Isolation::Kata),
            ("kata-qemu", Isolation::Kata),
            ("Kata-fc", Isolation::Kata),
            ("io.containerd.kata.v2", Isolation::Kata),
            ("io.containerd.kata-clh.v2", Isolation::Kata),
            ("/opt/kata/bin/containerd-shim-kata-v2", Isolation::Kata),
            ("aws.firecracker", Isolation::MicroVm),
            ("krun", Isolation::MicroVm),
            ("crun-vm", Isolation::MicroVm),
            ("io.containerd.urunc.v2", Isolation::MicroVm),
        ] {
            assert_eq!(isolation(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn what_shares_the_kernel_is_left_alone() {
        for name in [
            "runc",
            "crun",
            "youki",
            "io.containerd.runc.v2",
            "oci",
            "",
            "nvidia",
            "sysbox-runc",
            "katana",
            "runscape",
        ] {
            assert_eq!(isolation(name), None, "{name}");
        }
    }
}
