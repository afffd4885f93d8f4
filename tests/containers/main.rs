//! Real engines, real containers: whose flow it was, what the workload is called, and what happens
//! when an engine is late, lost, hostile or hangs. Needs root; without, each test is skipped.

#![expect(clippy::unwrap_used, reason = "a test")]

mod cri;
mod docker;
mod docker_in_docker;
mod engines;
mod hostile;
mod podman;
mod world;
