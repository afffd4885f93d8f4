//! From records to a policy, and from a policy to the rules that may be rendered. Pure.

pub mod model;
