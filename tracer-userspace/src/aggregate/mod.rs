//! From observations to records, per workload.
//!
//! | file | defines |
//! |---|---|
//! | [`table`] | counts per flow since they were last written |
//! | `outcomes` | what became of one flow's attempts |
//! | `answers` | which flows' datagrams were answered |
//! | [`losses`] | from the kernel's counters to `gap` records |
//! | `preexisting` | connections that were open already, each told once |
//! | [`wire`] | from parts of packets to names |
//! | [`workload`] | one workload's log, observations and candidates |
//! | [`drift`] | flows held against reviewed policies |
//! | [`account`] | what the logs hold of what was taken out of the kernel |
//! | [`recovery`] | going on where the daemon before this one stopped |
//! | `rewrites` | whose connections the host has rewritten |
//! | [`spans`] | what agents export, and the flows that wait for it |
//! | `recorded` | a workload in the recorder's hands |
//! | [`recorder`] | the one owner of the aggregation: takes batches in, writes records out |

pub mod account;
mod answers;
pub mod drift;
pub mod losses;
mod outcomes;
mod preexisting;
mod recorded;
pub mod recorder;
pub mod recovery;
mod rewrites;
pub mod spans;
pub mod table;
pub mod wire;
pub mod workload;
