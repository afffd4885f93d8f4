//! The house. Data goes one way, and each room knows only the room before it.
//!
//! ```text
//!  kernel                    userspace, live                             │ offline too
//!  tracer-ebpf ─► ebpf/ ─► decode/ ─► enrich/ ─► aggregate/ ─► record ───┼─► policy/ ─► render/
//!  (hooks, flow table)  (only aya)  (pure)    (who, where)   (per        │  (pure)      (pure text)
//!                                                            workload)   │
//!                                                  import/ (other logs) ─┘
//! ```

#[cfg(feature = "capture")]
pub mod aggregate;
#[cfg(feature = "capture")]
pub mod decode;
#[cfg(feature = "capture")]
pub mod ebpf;
#[cfg(feature = "capture")]
pub mod enrich;
#[cfg(feature = "capture")]
pub mod commands;
pub mod output;
pub mod place;
pub mod policy;
pub mod record;
pub mod render;
