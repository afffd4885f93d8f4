//! The house. Data goes one way, and each room knows only the room before it.
//!
//! ```text
//!  kernel                    userspace, live                             │ offline too
//!  tracer-ebpf ─► ebpf/ ─► decode/ ─► enrich/ ─► aggregate/ ─► record ───┼─► policy/ ─► render/
//!  (hooks, flow table)  (only aya)  (pure)    (who, where)   (per        │  (pure)      (pure text)
//!                                                            workload)   │
//!                                        import/ (other logs, captures) ─┘
//! ```
//!
//! `import/capture/` reads what is on the wire with the decoders of `decode/`, which are pure; what
//! names follow from that is told by `wire/` to it and to `aggregate/`.
//!
//! Beside `ebpf`, `inventory/` asks the kernel once for the connections that are open already, and
//! `conntrack` from time to time for what the host rewrites (both by `netlink`).
//!
//! Which of an agent's tools is at work is heard in two ways. `mark/` listens to programs that say so,
//! tells the kernel, and is asked by `aggregate/` what that means. `collector/` receives OpenTelemetry's
//! spans and `spans/` says what they tell of a flow's time, live and of files.
//!
//! `foreign/` reads other people's lists in force as policies, and `names/` fills the sets of a
//! ruleset as the workload's questions are answered.
//!
//! Around them: `cli` (what can be asked for), `settings` (the same from a file), `commands/` (one
//! thin function a verb), `output/` (files and terminals), `workload_name` (what a workload is
//! called on disk), `ranges_file` (where published ranges are kept), `harmless` (what must not reach a
//! reader's terminal), `redact` (the secrets that must not be written) and
//! `privilege` (what the daemon keeps of root's power).
//!
//! `fuzzing` is what the fuzz targets call; it is there for them and for the tests alone.

#[cfg(feature = "capture")]
pub mod aggregate;
pub mod analysis;
pub mod cli;
#[cfg(feature = "capture")]
pub mod collector;
pub mod commands;
#[cfg(feature = "capture")]
pub mod conntrack;
pub mod decode;
#[cfg(feature = "capture")]
pub mod ebpf;
#[cfg(feature = "capture")]
pub mod enrich;
pub mod foreign;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod harmless;
pub mod import;
#[cfg(feature = "capture")]
pub mod inventory;
#[cfg(any(feature = "capture", fuzzing))]
pub mod mark;
#[cfg(feature = "capture")]
pub(crate) mod names;
#[cfg(feature = "capture")]
mod netlink;
pub mod output;
pub mod place;
pub mod policy;
#[cfg(feature = "capture")]
pub mod privilege;
pub mod ranges;
pub mod ranges_file;
pub mod record;
pub mod redact;
pub mod render;
pub mod report;
pub mod settings;
pub mod spans;
pub mod wire;
pub mod workload_name;
