//! Who sent: from ids to processes, containers and names.
//!
//! | file | defines |
//! |---|---|
//! | [`cgroup`] | from a cgroup id to its path, also after it is gone |
//! | [`container`] | from a cgroup path to a container, pod or unit |
//! | [`engine`] | from a container id to its name, by asking the engines |
//! | [`around`] | whose an address is that is near |
//! | `beforehand` | what engines say before there is a cgroup |
//! | `known` | one container: its lifetime, its name |
//! | [`memory`] | what one daemon tells the next of containers |
//! | `missing` | what is known to be missing, as gaps |
//! | [`naming`] | what a workload is called |
//! | [`selection`] | what is to be recorded |
//! | `resolver` | where the engine's resolver runs |
//! | [`machine`] | all of them together: whose flow it is |
//! | `answers` | what becomes of the engines' answers |
//! | `watch` | whose cgroup needs hooks |
//! | [`process`] | from a pid to a command line, out of `/proc` |

mod answers;
pub mod around;
mod beforehand;
pub mod cgroup;
pub mod container;
pub mod engine;
mod known;
pub mod machine;
pub mod memory;
mod missing;
pub mod naming;
pub mod process;
mod resolver;
pub mod selection;
mod watch;
