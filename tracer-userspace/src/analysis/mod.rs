//! What observations and policies mean together. Pure.

pub mod coverage;
pub mod replay;
