//! What a policy and its evidence mean: figures of an entry, findings, drift. Pure.

pub mod drift;
pub mod name_shape;
pub mod risk;
pub mod services;
pub mod summary;
