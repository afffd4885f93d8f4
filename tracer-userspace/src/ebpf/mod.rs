//! The kernel half, from outside. The only room that names aya or contains `unsafe`.
//!
//! | file | defines |
//! |---|---|
//! | [`support`] | what this machine lets us do, asked before anything is loaded |
//! | [`load`] | programs and maps: loading, attaching, and letting go of them |
//! | [`offsets`] | where this kernel keeps the fields that have no helper |
//! | [`ring`] | the ring buffer's news |
//! | [`sweep`] | the flow table's counts |
//! | [`capture`] | the task that reads both and passes them on |
//! | [`foreign`] | going first where other people's programs rewrite |
//! | [`sys`] | the system calls that aya does not offer |

pub mod capture;
pub mod foreign;
pub mod load;
pub mod offsets;
pub mod ring;
pub mod support;
pub mod sweep;
pub mod sys;
