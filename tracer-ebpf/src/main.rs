//! egress-tracer's kernel half.
//!
//! Each program does little, in constant time, and always allows: the tracer watches, it never
//! decides. A program's doc comment says which kernel path it hooks, since when that exists, what
//! it costs and what it cannot see.
//!
//! | file | defines |
//! |---|---|
//! | [`hooks`] | the programs, one file per kernel path |
//! | [`flow`] | counting in the flow table: the truth |
//! | [`connection`] | following stream connections |
//! | [`context`] | for which tool call a thread works |
//! | [`direction`] | who spoke first |
//! | [`answers`] | whether datagrams are answered |
//! | [`emit`] | news to userspace: never the truth |
//! | [`process`] | who is calling, and which process a task is |
//! | [`image`] | what program a process runs: command line and paths |
//! | [`made`] | packets of sockets that no address hook sees |
//! | [`packet`] | a packet's headers |
//! | [`translation`] | whether what leaves is what was asked for |
//! | [`local`] | who listens at the other end of a Unix socket |
//! | [`wire`] | what is said on the wire: sending parts of packets to userspace |
//! | [`first_words`] | which of a connection's first bytes are of use |
//! | [`atomic`] | two atomic operations |
//! | [`maps`] | every map, and the settings that userspace writes before loading |
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod answers;
mod atomic;
mod connection;
mod context;
mod direction;
mod emit;
mod first_words;
mod flow;
mod hooks;
mod image;
mod local;
mod made;
mod maps;
mod packet;
mod process;
mod translation;
mod wire;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves this unreachable: no program panics.
    loop {}
}

// Helpers such as bpf_probe_read_kernel are reserved to GPL-compatible programs. Apache-2.0 is
// one-way compatible, so the object is offered under both.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
