//! What observations, policies and their evidence mean together: figures of an entry, findings,
//! drift, what runs have not shown, what rules would decide. Pure.

pub mod coverage;
pub mod drift;
pub mod fronts;
pub mod name_shape;
pub mod proof;
pub mod replay;
pub mod risk;
pub mod role;
pub mod services;
pub mod summary;
