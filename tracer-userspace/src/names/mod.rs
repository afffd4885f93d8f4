//! Filling the sets of a ruleset with the addresses of exactly the approved names, before whoever
//! asked for a name learns of them.
//!
//! ```text
//! kernel ─► netfilter queue ─► watch ─► fill ─► sets     then the answer goes on
//!           (hold)             (pure)   (netlink)
//! ```
//!
//! [`approved`] is what a policy allows by name, [`hold`] and [`hold_iptables`] the rules that hand
//! questions and answers over, [`hand_over`] their loading, [`watch`] what answers mean, [`message`]
//! and [`fill`] how the kernel is told, and [`run`] all of it together.

pub(crate) mod approved;
mod fill;
mod hand_over;
mod hold;
mod hold_iptables;
mod message;
pub(crate) mod run;
mod tally;
mod watch;
