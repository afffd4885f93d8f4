//! The kernel half, from outside. The only room that names aya or contains `unsafe`.
//!
//! | file | defines |
//! |---|---|
//! | [`support`] | what this machine lets us do, asked before anything is loaded |
//! | [`load`] | programs and maps: loading, attaching, and letting go of them |
//! | [`pin`] | the directory where maps and links stay when the daemon goes |
//! | [`adopt`] | whether what is pinned fits, and what it holds if not |
//! | [`links`] | what is attached where |
//! | [`offsets`] | where this kernel keeps the fields that have no helper |
//! | [`ring`] | the ring buffer's news |
//! | [`sweep`] | the flow table's counts |
//! | [`losses`], [`clock`] | what the kernel counted as lost; its times as times of day |
//! | [`capture`], [`batch`] | the task that reads all of it and passes it on, and what it passes |
//! | [`foreign`] | going first where other people's programs rewrite |
//! | [`journal`] | what was taken out of the kernel and may be in no log yet |
//! | [`sys`], [`objects`] | the system calls that aya does not offer, on contents and on objects |

pub mod adopt;
pub mod batch;
pub mod capture;
pub mod clock;
pub mod foreign;
pub mod journal;
pub mod links;
pub mod load;
pub mod losses;
pub mod objects;
pub mod offsets;
pub mod pin;
pub mod ring;
pub mod support;
pub mod sweep;
pub mod sys;
