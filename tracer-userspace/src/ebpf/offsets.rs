//! Where this kernel keeps the fields that have no helper, out of its own BTF.

use std::path::Path;

use btf_rs::{Backend, Btf, Type};
use tracer_common::offsets::{ABSENT, Offsets};

/// The running kernel's type information.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Looks up every offset. A field that is not found is [`ABSENT`], and the programs then leave
/// what they would have read at zero.
///
/// # Errors
/// The BTF file is missing or unreadable.
pub fn find(btf: &Path) -> Result<Offsets, btf_rs::Error> {
    // Mapped where the kernel lets the file be mapped (Linux 6.16): reading all of it to look a
    // dozen types up takes tens of megabytes.
    let btf = Btf::from_file_with_backend(btf, Backend::Mmap).or_else(|_| Btf::from_file(btf))?;
    let of = |of_struct, field| member_offset(&btf, of_struct, field).unwrap_or(ABSENT);
    Ok(Offsets {
        task_group_leader: of("task_struct", "group_leader"),
        task_start_boottime: of("task_struct", "start_boottime"),
        task_real_parent: of("task_struct", "real_parent"),
        task_tgid: of("task_struct", "tgid"),
        cgroup_kn: of("cgroup", "kn"),
        cgroup_root: of("cgroup", "root"),
        kernfs_node_id: of("kernfs_node", "id"),
        cgroup_root_hierarchy_id: of("cgroup_root", "hierarchy_id"),
    })
}

/// Byte offset of a direct member, or of a member of an anonymous struct or union within.
fn member_offset(btf: &Btf, of_struct: &str, field: &str) -> Option<u32> {
    btf.resolve_types_by_name(of_struct)
        .ok()?
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
        let base = member.bit_offset() / 8;
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
        let offsets = find(path).expect("the kernel's BTF is readable");
        let values: [u32; 8] = bytemuck::cast(offsets);
        assert!(!values.contains(&ABSENT), "{offsets:?}");
    }
}
