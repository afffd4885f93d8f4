//! Where the daemon writes (Landlock, Linux 5.13): below its own directories, and nowhere else.

use std::path::Path;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, make_bitflags,
};

/// The newest that this was written for: an older kernel refuses less. Truncating is known since
/// Linux 6.2.
const KNOWN: ABI = ABI::V3;

/// What is done below the directories: no devices, links or pipes are made there.
fn own() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{
        WriteFile | Truncate | Refer | MakeReg | MakeDir | MakeSock | RemoveFile | RemoveDir
    })
}

/// From now on this thread, and those that it starts, write below `directories` alone, which must
/// be there. Reading stays as it was. False: the kernel has no Landlock.
///
/// # Errors
/// A directory cannot be opened, or the kernel refuses.
pub(super) fn write_only_below(directories: &[&Path]) -> anyhow::Result<bool> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_write(KNOWN))?
        .create()?;
    for directory in directories {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(directory)?, own()))?;
    }
    let status = rules.restrict_self()?.ruleset;
    Ok(status != RulesetStatus::NotEnforced)
}

/// Whether the kernel has Landlock.
#[must_use]
pub fn is_supported() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V1))
        .is_ok_and(|rules| rules.create().is_ok())
}
