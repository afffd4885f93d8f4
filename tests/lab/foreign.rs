//! Somebody else's cgroup programs: a few instructions by hand, loaded and attached by bpf(2).

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::libc;

/// Where a program is attached (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Egress = 1,
    Connect4 = 10,
    Sendmsg4 = 14,
}

/// What a program does with calls to one address; others pass.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// Nothing, to anybody.
    Nothing,
    Deny(Ipv4Addr),
    Rewrite {
        from: Ipv4Addr,
        to: SocketAddrV4,
    },
}

/// A program attached to a cgroup, for as long as this lives.
#[derive(Debug)]
pub struct ForeignProgram {
    _link: OwnedFd,
    program: OwnedFd,
}

impl ForeignProgram {
    /// Loads the program and attaches it after those that are there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(cgroup: &Path, hook: Hook, deed: Deed) -> Result<Self> {
        let program = load(hook, &deed.instructions()).context("BPF_PROG_LOAD")?;
        let cgroup = File::open(cgroup)?;
        let link = link(&program, &cgroup, hook).context("BPF_LINK_CREATE")?;
        Ok(Self {
            _link: link,
            program,
        })
    }

    /// Its descriptor in this process.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.program.as_raw_fd()
    }
}

/// Offsets in `struct bpf_sock_addr`.
const USER_IP4: i16 = 4;
const USER_PORT: i16 = 24;

/// Opcodes (linux/bpf_common.h, linux/bpf.h).
const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x63;
const MOVE32: u8 = 0xb4;
const UNLESS_EQUAL32: u8 = 0x56;
const EXIT: u8 = 0x95;

impl Deed {
    fn instructions(self) -> Vec<u64> {
        let (address, deed) = match self {
            Self::Nothing => {
                let allow = instruction(MOVE32, 0, 0, 0, 1);
                return vec![allow, instruction(EXIT, 0, 0, 0, 0)];
            }
            Self::Deny(address) => (address, vec![instruction(MOVE32, 0, 0, 0, 0)]),
            Self::Rewrite { from, to } => {
                let port = i32::from(to.port().to_be());
                let deed = vec![
                    instruction(MOVE32, 3, 0, 0, word(*to.ip())),
                    instruction(STORE_WORD, 1, 3, USER_IP4, 0),
                    instruction(MOVE32, 3, 0, 0, port),
                    instruction(STORE_WORD, 1, 3, USER_PORT, 0),
                ];
                (from, deed)
            }
        };
        let skip = deed.len() as i16;
        let mut all = vec![
            instruction(MOVE32, 0, 0, 0, 1),
            instruction(LOAD_WORD, 2, 1, USER_IP4, 0),
            instruction(UNLESS_EQUAL32, 2, 0, skip, word(address)),
        ];
        all.extend(deed);
        all.push(instruction(EXIT, 0, 0, 0, 0));
        all
    }
}

/// An address as the kernel has it in a register.
fn word(address: Ipv4Addr) -> i32 {
    i32::from_ne_bytes(address.octets())
}

/// `struct bpf_insn`.
fn instruction(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    let mut bytes = [0; 8];
    bytes[0] = opcode;
    bytes[1] = to | from << 4;
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..8].copy_from_slice(&immediate.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const CGROUP_SKB: u32 = 8;
const CGROUP_SOCK_ADDR: u32 = 18;

fn load(hook: Hook, instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = [0_u32; 32];
    attr[0] = match hook {
        Hook::Egress => CGROUP_SKB,
        Hook::Connect4 | Hook::Sendmsg4 => CGROUP_SOCK_ADDR,
    };
    attr[1] = instructions.len() as u32;
    pointer(&mut attr, 2, instructions.as_ptr().cast());
    pointer(&mut attr, 4, c"GPL".as_ptr().cast());
    attr[17] = hook as u32;
    bpf(PROG_LOAD, &attr)
}

fn link(program: &OwnedFd, cgroup: &File, hook: Hook) -> io::Result<OwnedFd> {
    let mut attr = [0_u32; 32];
    attr[0] = program.as_raw_fd() as u32;
    attr[1] = cgroup.as_raw_fd() as u32;
    attr[2] = hook as u32;
    bpf(LINK_CREATE, &attr)
}

/// Stores a pointer as the two words from `at` on.
fn pointer(attr: &mut [u32; 32], at: usize, to: *const libc::c_void) {
    let bytes = (to as u64).to_ne_bytes();
    for (word, half) in attr[at..].iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([half[0], half[1], half[2], half[3]]);
    }
}

fn bpf(command: libc::c_long, attr: &[u32; 32]) -> io::Result<OwnedFd> {
    // SAFETY: the pointers in `attr` are to what the callers hold while this runs, and the kernel
    // reads no more of it than the size that is passed.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(attr)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made the descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
