//! Who sent: from ids to processes, containers and names.
//!
//! | file | defines |
//! |---|---|
//! | [`cgroup`] | from a cgroup id to its path, also after it is gone |
//! | [`container`] | from a cgroup path to a container, pod or unit |
//! | [`engine`] | where the container engine itself runs |
//! | [`docker`] | from a container id to its name, by asking the engine |
//! | [`machine`] | all of them together: whose flow it is |
//! | [`process`] | from a pid to a command line, out of `/proc` |

pub mod cgroup;
pub mod container;
pub mod docker;
pub mod engine;
pub mod machine;
pub mod process;
