//! The lab: guards around everything a test needs that is not the program under test.
//!
//! A guard makes something on this machine when it is created and takes it away when it is
//! dropped, on a panic too: a network namespace, a little internet to talk to, containers, a
//! cgroup, a running `egress-tracer daemon`. Nothing in here sends a packet anywhere but to
//! loopback and to namespaces that the lab made itself.
//!
//! ```text
//!  namespace  internet ─ plan   docker, podman,   cgroup     tracer    records   sample
//!  (ip netns) (little-internet)  containerd ─ cri (cgroup2) (run, daemon) (JSONL) (the agent)
//!        └───────────┴───────────────┴─────────┴───────────┴─────────────────────┘
//!                         process, names, wait, foreign
//! ```
//!
//! All names carry this process's id and a counter, so that tests of one process and of several
//! run beside each other. The one thing of which a machine has only one, the host's routes to
//! the documentation addresses, is handed out in turn (see [`Internet::connect_host`]).

mod cgroup;
#[cfg(feature = "engines")]
mod containerd;
#[cfg(feature = "engines")]
mod cri;
mod docker;
mod foreign;
mod internet;
mod names;
mod namespace;
mod plan;
mod podman;
mod private_docker;
mod process;
mod records;
mod router;
mod sample;
mod secrets;
mod tracer;
mod wait;

pub use cgroup::{Cgroup, cgroup2_root};
#[cfg(feature = "engines")]
pub use containerd::{Containerd, KATA_HANDLER, Pod, PodSpec, has_containerd};
pub use docker::{Container, ContainerSpec, Docker, Image, ImageSpec, Network};
pub use foreign::{Deed, ForeignProgram, Hook};
pub use internet::Internet;
pub use names::unique;
pub use namespace::Namespace;
pub use plan::{Kind, Name, Plan, Server};
pub use podman::{Podman, has_podman};
pub use private_docker::PrivateDocker;
pub use process::{Process, binary, output, run};
pub use records::Log;
pub use router::Router;
pub use sample::{agent_image, agent_plan};
pub use secrets::{Planted, planted};
pub use tracer::{Daemon, Pins, egress_tracer};
pub use wait::wait_until;

/// Where the little internet answers DNS questions.
pub const DNS: &str = "198.51.100.53";
/// The same over IPv6.
pub const DNS_V6: &str = "2001:db8::53";

/// Whether this process may make namespaces. Prints why a test is skipped when it may not.
#[must_use]
pub fn is_root_or_skip(test: &str) -> bool {
    let root = is_root();
    if !root {
        eprintln!("skipped: {test} needs root (try: cargo xtask test)");
    }
    root
}

/// Whether this process is root's.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
