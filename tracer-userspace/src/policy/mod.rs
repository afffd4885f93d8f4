//! From records to a policy, and from a policy to the rules that may be rendered. Pure.
//!
//! ```text
//! record ─► workloads ─► observe ─► infer ─► model ─► document   policy.toml
//!                        (seen)         └──► evidence            policy.evidence.json
//!                                            model ─► rules ─► render
//! ```
//!
//! [`candidates`] walks the whole way; the daemon and `generate` both call it.

pub mod aggregate;
pub mod believed;
pub mod candidates;
pub mod decided;
pub mod decision;
pub mod document;
pub mod evidence;
pub mod include;
pub mod infer;
pub mod labels;
pub mod model;
pub mod observe;
pub mod published;
pub mod registry;
pub mod rules;
pub mod seen;
pub mod selector;
pub mod signed;
pub mod stale;
pub mod tools;
pub mod translation;
pub mod unaddressed;
pub mod workloads;

mod comments;
pub(crate) mod denials;
mod lacking;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod schema;

pub use candidates::{CandidateFiles, candidates};
pub use observe::Observations;
pub use workloads::Workloads;
