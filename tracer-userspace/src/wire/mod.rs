//! What names follow from what was said on the wire. Pure: packets of captures and those that the
//! kernel passes on come to the same conclusions.
//!
//! | file | defines |
//! |---|---|
//! | [`answers`] | which names resolved to which address, for whom and when |
//! | [`claims`] | what a connection says of itself, and how far each name is to be believed |
//! | [`generations`] | a map of bounded size |

pub mod answers;
pub mod claims;
pub mod generations;
