//! Which of an agent's tools: programs that say so by the protocol, against the real kernel.
//!
//! | file | about |
//! |---|---|
//! | `attribution` | who is held responsible: threads, forks, programs, tasks, pid namespaces |
//! | `bounds` | floods, garbage, many calls, clients that die |
//! | `daemon` | its socket, and contexts that outlive it |
//! | `per_tool` | rules for one tool's cgroup |
//! | `policy` | what is approved for one tool is not for another |
//! | `stalled` | a daemon that does not answer in time |
//! | `verb` | `egress-tracer mark` |

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod attribution;
mod bounds;
mod daemon;
mod per_tool;
mod policy;
mod stalled;
mod verb;
mod world;
