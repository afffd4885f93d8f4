//! Where this kernel keeps the fields that have no helper, out of its own BTF.

use std::{collections::HashMap, path::Path};

use btf_rs::{Backend, Btf, Type};
use tracer_common::offsets::{ABSENT, Offsets, ProcessOffsets, SocketOffsets, UnixOffsets};

/// The running kernel's type information.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the programs need to know of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub offsets: Offsets,
    pub processes: ProcessOffsets,
    pub sockets: SocketOffsets,
    pub unix: UnixOffsets,
}

/// Looks up every offset. A field that is not found is [`ABSENT`], and the programs then leave
/// what they would have read at zero.
///
/// # Errors
/// The BTF file is missing or unreadable.
pub fn find(btf: &Path) -> Result<Found, btf_rs::Error> {
    // Mapped where the kernel lets the file be mapped (Linux 6.16): reading all of it to look a
    // dozen types up takes tens of megabytes.
    let btf = Btf::from_file_with_backend(btf, Backend::Mmap).or_else(|_| Btf::from_file(btf))?;
    let mut types = Types::new();
    let mut of = |of_struct, field| offset(&btf, &mut types, of_struct, field);
    let offsets = Offsets {
        task_group_leader: of("task_struct", "group_leader"),
        task_start_boottime: of("task_struct", "start_boottime"),
        task_real_parent: of("task_struct", "real_parent"),
        task_tgid: of("task_struct", "tgid"),
        cgroup_kn: of("cgroup", "kn"),
        cgroup_root: of("cgroup", "root"),
        kernfs_node_id: of("kernfs_node", "id"),
        cgroup_root_hierarchy_id: of("cgroup_root", "hierarchy_id"),
    };
    let processes = processes(&btf, &mut types);
    let sockets = sockets(&btf, &mut types);
    let unix = unix(&btf, &mut types);
    Ok(Found {
        offsets,
        processes,
        sockets,
        unix,
    })
}

fn processes(btf: &Btf, types: &mut Types) -> ProcessOffsets {
    let mut of = |of_struct, field| offset(btf, types, of_struct, field);
    ProcessOffsets {
        task_cgroups: of("task_struct", "cgroups"),
        css_set_dfl_cgrp: of("css_set", "dfl_cgrp"),
        task_thread_pid: of("task_struct", "thread_pid"),
        pid_level: of("pid", "level"),
        pid_numbers: of("pid", "numbers"),
        upid_nr: of("upid", "nr"),
        upid_size: struct_size(btf, "upid").unwrap_or(ABSENT),
        task_signal: of("task_struct", "signal"),
        signal_live: of("signal_struct", "live"),
        task_mm: of("task_struct", "mm"),
        mm_arg_start: of("mm_struct", "arg_start"),
        mm_arg_end: of("mm_struct", "arg_end"),
        mm_exe_file: of("mm_struct", "exe_file"),
        file_path: of("file", "f_path"),
        task_fs: of("task_struct", "fs"),
        fs_pwd: of("fs_struct", "pwd"),
        path_mnt: of("path", "mnt"),
        path_dentry: of("path", "dentry"),
        dentry_parent: of("dentry", "d_parent"),
        dentry_name: of("dentry", "d_name"),
        qstr_name: of("qstr", "name"),
        dentry_hash: of("dentry", "d_hash"),
        hash_pprev: of("hlist_bl_node", "pprev"),
        vfsmount_root: of("vfsmount", "mnt_root"),
        mount_mnt: of("mount", "mnt"),
        mount_parent: of("mount", "mnt_parent"),
        mount_mountpoint: of("mount", "mnt_mountpoint"),
        task_pid: of("task_struct", "pid"),
    }
}

fn sockets(btf: &Btf, types: &mut Types) -> SocketOffsets {
    let user_locks = bits(btf, types, "sock", "sk_userlocks").unwrap_or(ABSENT);
    let mut of = |of_struct, field| offset(btf, types, of_struct, field);
    let remote = of("vsock_sock", "remote_addr");
    let mut in_remote = |field| match (remote, of("sockaddr_vm", field)) {
        // The kernel has no vsock, or has it in a module.
        (ABSENT, _) | (_, ABSENT) => ABSENT,
        (remote, within) => remote + within,
    };
    let (vsock_cid, vsock_port) = (in_remote("svm_cid"), in_remote("svm_port"));
    let common = of("sock", "__sk_common");
    let mut in_common = |field| match (common, of("sock_common", field)) {
        (ABSENT, _) | (_, ABSENT) => ABSENT,
        (common, within) => common + within,
    };
    SocketOffsets {
        cookie: in_common("skc_cookie"),
        flags: in_common("skc_flags"),
        family: in_common("skc_family"),
        vsock_cid,
        vsock_port,
        user_locks,
        err: of("sock", "sk_err"),
        total_retrans: of("tcp_sock", "total_retrans"),
        bytes_acked: of("tcp_sock", "bytes_acked"),
        bytes_received: of("tcp_sock", "bytes_received"),
        bytes_sent: of("tcp_sock", "bytes_sent"),
        bytes_retrans: of("tcp_sock", "bytes_retrans"),
        snd_una: of("tcp_sock", "snd_una"),
        write_seq: of("tcp_sock", "write_seq"),
    }
}

fn unix(btf: &Btf, types: &mut Types) -> UnixOffsets {
    /// `PIDTYPE_TGID`, and the sizes of `hlist_head` and `hlist_node`.
    const LEADER: u32 = 1;
    const HEAD: u32 = 8;
    const NODE: u32 = 16;
    let mut of = |of_struct, field| offset(btf, types, of_struct, field);
    let mut within = |(of_struct, field), add: u32| match (of(of_struct, field), add) {
        // The kernel has Unix sockets in a module.
        (ABSENT, _) | (_, ABSENT) => ABSENT,
        (offset, add) => offset + add,
    };
    let (cgroup, mnt) = (
        within(("sock_cgroup_data", "cgroup"), 0),
        within(("path", "mnt"), 0),
    );
    UnixOffsets {
        peer_pid: within(("sock", "sk_peer_pid"), 0),
        cgroup: within(("sock", "sk_cgrp_data"), cgroup),
        peer: within(("unix_sock", "peer"), 0),
        addr: within(("unix_sock", "addr"), 0),
        path_mnt: within(("unix_sock", "path"), mnt),
        address_len: within(("unix_address", "len"), 0),
        address_name: within(("unix_address", "name"), 0),
        pid_leader: within(("pid", "tasks"), LEADER * HEAD),
        task_leader_link: within(("task_struct", "pid_links"), LEADER * NODE),
        task_nsproxy: within(("task_struct", "nsproxy"), 0),
        nsproxy_mnt_ns: within(("nsproxy", "mnt_ns"), 0),
        mount_mnt: within(("mount", "mnt"), 0),
        mount_mnt_ns: within(("mount", "mnt_ns"), 0),
        reserved: 0,
    }
}

fn struct_size(btf: &Btf, name: &str) -> Option<u32> {
    let found = btf.resolve_types_by_name(name).ok()?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "only structs are asked for")]
    found.iter().find_map(|candidate| match candidate {
        Type::Struct(inner) => u32::try_from(inner.size()).ok(),
        _ => None,
    })
}

impl Found {
    /// Whether it can be told where Unix sockets lead.
    #[must_use]
    pub fn reads_unix(&self) -> bool {
        let words: [u32; UnixOffsets::WORDS] = bytemuck::cast(self.unix);
        !words.contains(&ABSENT)
    }

    /// How many fields this kernel's type information does not tell. Those of vsock do not count: a
    /// kernel may do without it, or have it in a module.
    #[must_use]
    pub fn missing(&self) -> usize {
        let sockets = SocketOffsets {
            vsock_cid: 0,
            vsock_port: 0,
            ..self.sockets
        };
        let words: [u32; 8] = bytemuck::cast(self.offsets);
        let more: [u32; ProcessOffsets::WORDS] = bytemuck::cast(self.processes);
        let sockets: [u32; SocketOffsets::WORDS] = bytemuck::cast(sockets);
        let unix: [u32; UnixOffsets::WORDS] = bytemuck::cast(self.unix);
        let all = words.iter().chain(&more).chain(&sockets).chain(&unix);
        all.filter(|offset| **offset == ABSENT).count()
    }
}

/// What was looked up by name, which takes a walk through all of the kernel's types.
type Types = HashMap<&'static str, Vec<Type>>;

/// Byte offset of a direct member, or of a member of an anonymous struct or union within.
fn offset(btf: &Btf, types: &mut Types, of_struct: &'static str, field: &str) -> u32 {
    bits(btf, types, of_struct, field).map_or(ABSENT, |bits| bits / 8)
}

/// The same in bits.
fn bits(btf: &Btf, types: &mut Types, of_struct: &'static str, field: &str) -> Option<u32> {
    types
        .entry(of_struct)
        .or_insert_with(|| btf.resolve_types_by_name(of_struct).unwrap_or_default())
        .iter()
        .find_map(|candidate| in_type(btf, candidate, field))
}

fn in_type(btf: &Btf, candidate: &Type, field: &str) -> Option<u32> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only structs and unions have members"
    )]
    let members = match candidate {
        Type::Struct(inner) | Type::Union(inner) => &inner.members,
        _ => return None,
    };
    members.iter().find_map(|member| {
        let base = member.bit_offset();
        match btf.resolve_name(member) {
            Ok(name) if name == field => Some(base),
            Ok(name) if name.is_empty() => {
                let inner = btf.resolve_chained_type(member).ok()?;
                in_type(btf, &inner, field).map(|offset| base + offset)
            }
            Ok(_) | Err(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_field_of_the_running_kernel() {
        let path = Path::new(VMLINUX_BTF);
        if !path.exists() {
            eprintln!("skipped: this kernel has no {VMLINUX_BTF}");
            return;
        }
        let found = find(path).expect("the kernel's BTF is readable");
        assert_eq!(found.missing(), 0, "{found:?}");
    }
}
