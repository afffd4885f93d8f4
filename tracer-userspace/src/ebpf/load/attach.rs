//! Attaching programs to cgroups and tracepoints, and detaching them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use aya::{Ebpf, programs::Program};

use super::{
    BOUND_BEFORE, CGROUP_HOOKS, CONNECTION_HOOKS, LoadError, Loaded, ON_CGROUPS, PROCESS_HOOKS,
    VERDICTS_UNSEEN, WAY_HOOKS, WIRE_HOOKS, failed,
};
use crate::ebpf::{adopt::Found, foreign, objects::Tracepoint, sys};

/// Since when a cgroup has hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooked {
    /// They were there, or those of a cgroup around it.
    Before,
    Now,
}

impl Loaded {
    /// Attaches the address and egress hooks to a cgroup and all below it, beside whatever else
    /// is attached there. Where it is inside one that is chosen already, that one covers it.
    ///
    /// # Errors
    /// The cgroup cannot be opened or the kernel refuses.
    pub fn attach_cgroup(&mut self, path: &Path) -> Result<Hooked, LoadError> {
        let cgroup = open_cgroup(path)?;
        let id = cgroup_id_of(&cgroup)?;
        let known = self.chosen.insert(path.to_owned(), id);
        if self.is_covered(path) {
            return Ok(Hooked::Before);
        }
        self.link_cgroup(id, &cgroup)?;
        let inside: Vec<u64> = self
            .chosen
            .iter()
            .filter(|(other, _)| *other != path && other.starts_with(path))
            .map(|(_, id)| *id)
            .collect();
        let mut inside = inside.into_iter();
        inside.try_for_each(|id| self.unlink_cgroup(id))?;
        Ok(match known {
            Some(known) if known == id => Hooked::Before,
            Some(_) | None => Hooked::Now,
        })
    }

    /// Detaches from a cgroup; what was counted in it stays. Chosen cgroups inside it are
    /// attached to themselves first.
    ///
    /// # Errors
    /// The kernel or the bpffs refuses.
    pub fn detach_cgroup(&mut self, cgroup_id: u64) -> Result<(), LoadError> {
        let path = self.chosen.iter().find(|(_, id)| **id == cgroup_id);
        let Some(path) = path.map(|(path, _)| path.clone()) else {
            return Ok(());
        };
        self.chosen.remove(&path);
        let bare: Vec<PathBuf> = self
            .chosen
            .keys()
            .filter(|inside| inside.starts_with(&path) && !self.is_covered(inside))
            .cloned()
            .collect();
        for inside in bare {
            // One that is gone meanwhile needs no hooks.
            if let Ok(cgroup) = open_cgroup(&inside) {
                self.link_cgroup(cgroup_id_of(&cgroup)?, &cgroup)?;
            }
        }
        self.unlink_cgroup(cgroup_id)
    }

    fn unlink_cgroup(&mut self, cgroup_id: u64) -> Result<(), LoadError> {
        self.foreign.remove(cgroup_id);
        sys::delete(self.choice.as_fd(), &cgroup_id).map_err(failed("CHOSEN"))?;
        self.links.off_cgroup(cgroup_id).map_err(failed("detach"))
    }

    fn is_covered(&self, path: &Path) -> bool {
        let mut above = path.ancestors().skip(1);
        above.any(|above| self.chosen.contains_key(above))
    }

    fn link_cgroup(&mut self, id: u64, cgroup: &File) -> Result<(), LoadError> {
        let ebpf = self.ebpf.as_ref().ok_or(LoadError::Missing("programs"))?;
        for (name, kind) in ON_CGROUPS {
            if self.missing.contains_key(name) {
                continue;
            }
            let program = program_fd(ebpf, name).ok_or(LoadError::Missing(name))?;
            self.links
                .on_cgroup((name, program), kind, (id, cgroup.as_fd()))
                .map_err(failed(name))?;
            note(&mut self.hooks, name);
        }
        sys::update(self.choice.as_fd(), &id, &1_u64).map_err(failed("CHOSEN"))?;
        let cgroup = cgroup.try_clone().map_err(failed("cgroup"))?;
        self.foreign.add(id, cgroup);
        if let Err(error) = self.foreign.check() {
            tracing::warn!("cannot tell whether other address programs are loaded: {error}");
        }
        Ok(())
    }

    /// Attaches the cgroup tracepoints, which tell of containers before their first process.
    ///
    /// # Errors
    /// The kernel lacks them or refuses.
    pub fn attach_cgroup_events(&mut self) -> Result<(), LoadError> {
        let ebpf = self.ebpf.as_ref().ok_or(LoadError::Missing("programs"))?;
        for name in CGROUP_HOOKS {
            let program = program_fd(ebpf, name).ok_or(LoadError::Missing(name))?;
            self.links
                .on_tracepoint((name, program), Tracepoint::Raw(name))
                .map_err(failed(name))?;
            note(&mut self.hooks, name);
        }
        Ok(())
    }

    /// Attaches the tracepoints that follow processes. Without one of them, recording goes on
    /// with less: [`Self::missing`] says so.
    pub fn attach_process_events(&mut self) {
        self.attach_tracepoints(PROCESS_HOOKS);
    }

    /// The same of the tracepoints that tell what becomes of connections. Comes before the hooks on
    /// cgroups, which begin to follow them.
    pub fn attach_connection_events(&mut self) {
        self.attach_tracepoints(CONNECTION_HOOKS);
    }

    fn attach_tracepoints<const N: usize>(&mut self, hooks: [(&'static str, &'static str); N]) {
        for (name, unseen) in hooks {
            if !self.missing.contains_key(name) {
                let attached = self.attach_tracepoint(name);
                self.note_attached((name, unseen), attached);
            }
        }
    }

    fn note_attached(&mut self, (name, unseen): (&str, &str), attached: Result<(), LoadError>) {
        match attached {
            Ok(()) => note(&mut self.hooks, name),
            Err(error) => {
                tracing::warn!("not seen: {unseen}: {error}");
                self.missing.insert(name.to_owned(), unseen.to_owned());
            }
        }
    }

    /// What marks UDP sockets that were bound before the hooks were there; `None` where the kernel
    /// refuses it.
    #[must_use]
    pub fn bound_before(&self) -> Option<OwnedFd> {
        let program = program_fd(self.ebpf.as_ref()?, BOUND_BEFORE)?;
        let linked = sys::link_iterator(program);
        linked
            .inspect_err(|error| tracing::warn!("servers from before are not known: {error}"))
            .ok()
    }

    /// How many instructions the verifier looked at, by program, of those that are loaded. Linux 5.16.
    #[must_use]
    pub fn verified(&self) -> BTreeMap<String, u32> {
        let programs = self.ebpf.iter().flat_map(Ebpf::programs);
        programs
            .filter_map(|(name, program)| {
                let count = program.info().ok()?.verified_instruction_count()?;
                Some((name.to_owned(), count))
            })
            .collect()
    }

    fn attach_tracepoint(&mut self, name: &'static str) -> Result<(), LoadError> {
        let ebpf = self.ebpf.as_ref().ok_or(LoadError::Missing("programs"))?;
        let program = program_fd(ebpf, name).ok_or(LoadError::Missing(name))?;
        let at = match ebpf.program(name) {
            Some(Program::BtfTracePoint(_)) => Tracepoint::Typed,
            Some(_) | None => Tracepoint::Raw(name),
        };
        self.links
            .on_tracepoint((name, program), at)
            .map_err(failed(name))
    }

    /// The tracepoints of processes that this kernel refused, each with what is not seen.
    #[must_use]
    pub fn unfollowed(&self) -> Vec<(&str, &str)> {
        self.refused(|name| PROCESS_HOOKS.iter().any(|(hook, _)| *hook == name))
    }

    /// The tracepoints of connections that this kernel refused, each with what is not seen.
    #[must_use]
    pub fn unsettled(&self) -> Vec<(&str, &str)> {
        self.refused(|name| CONNECTION_HOOKS.iter().any(|(hook, _)| *hook == name))
    }

    /// The hooks of less common ways out that this kernel refused, each with what is not seen.
    #[must_use]
    pub fn unwatched(&self) -> Vec<(&str, &str)> {
        self.refused(|name| WAY_HOOKS.iter().any(|(hook, _)| *hook == name))
    }

    /// What is not heard on the wire, the kernel having refused a hook.
    #[must_use]
    pub fn unheard(&self) -> Vec<&str> {
        let refused = self.refused(|name| WIRE_HOOKS.iter().any(|(hook, _)| *hook == name));
        refused.into_iter().map(|(_, unseen)| unseen).collect()
    }

    fn refused(&self, is_one: impl Fn(&str) -> bool) -> Vec<(&str, &str)> {
        let missing = self.missing.iter();
        missing
            .map(|(name, unseen)| (name.as_str(), unseen.as_str()))
            .filter(|(name, _)| is_one(name))
            .collect()
    }

    /// What this kernel lacks, by name, each with what is therefore not seen.
    #[must_use]
    pub fn missing(&self) -> BTreeMap<String, String> {
        let mut missing = self.missing.clone();
        let others = self.missing_of_others().into_iter();
        missing.extend(others.map(|(name, unseen)| (name.to_owned(), unseen.to_owned())));
        missing
    }

    /// What other people's programs do that is not seen.
    #[must_use]
    pub fn unseen_of_others(&self) -> Vec<String> {
        let others = self.missing_of_others().into_iter();
        others.map(|(_, unseen)| unseen.to_owned()).collect()
    }

    fn missing_of_others(&self) -> Vec<(&'static str, &'static str)> {
        let mut missing = Vec::new();
        if !self.reads_verdict {
            missing.push(("verdict", VERDICTS_UNSEEN));
        }
        if self.foreign.state() == foreign::State::Refused {
            missing.push(("preorder", foreign::REWRITES_UNSEEN));
        }
        missing
    }

    /// The cgroups on which links are pinned.
    #[must_use]
    pub fn linked_cgroups(&self) -> BTreeSet<u64> {
        self.links.cgroups()
    }

    /// Drops pinned links on other cgroups than these: before anything is attached, since hooks on
    /// a cgroup and on one above it count twice.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn keep_cgroups(&mut self, ids: &BTreeSet<u64>) -> Result<(), LoadError> {
        self.links
            .keep_cgroups(|id| ids.contains(&id))
            .map_err(failed("detach"))
    }

    /// Everything that a cgroup gets, attached by now or not.
    #[must_use]
    pub fn all_hooks(&self) -> Vec<String> {
        let mut hooks = self.hooks.clone();
        let loaded = ON_CGROUPS
            .iter()
            .filter(|(name, _)| !self.missing.contains_key(*name));
        loaded.for_each(|(name, _)| note(&mut hooks, name));
        hooks
    }

    /// Whether the maps were adopted and all that is attached was attached all the time.
    #[must_use]
    pub fn went_on(&self) -> bool {
        matches!(self.found, Found::Adopted) && self.links.were_all_there()
    }

    pub(super) fn update_links(&mut self) -> Result<(), LoadError> {
        let ebpf = self.ebpf.as_ref().ok_or(LoadError::Missing("programs"))?;
        self.links
            .update(|name| program_fd(ebpf, name))
            .map_err(failed("a pinned link"))
    }

    /// Detaches every program; the maps stay readable, so that what is in them can be drained.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn detach(&mut self) -> Result<(), LoadError> {
        self.foreign.detach();
        self.ebpf = None;
        self.hooks.clear();
        self.links.drop_all().map_err(failed("detach"))
    }
}

fn note(hooks: &mut Vec<String>, name: &str) {
    if !hooks.iter().any(|known| known == name) {
        hooks.push(name.to_owned());
    }
}

fn program_fd<'a>(ebpf: &'a Ebpf, name: &str) -> Option<BorrowedFd<'a>> {
    Some(ebpf.program(name)?.fd().ok()?.as_fd())
}

fn open_cgroup(path: &Path) -> Result<File, LoadError> {
    File::open(path).map_err(|source| LoadError::Cgroup {
        path: path.to_owned(),
        source,
    })
}

/// The inode number of its directory.
fn cgroup_id_of(cgroup: &File) -> Result<u64, LoadError> {
    let metadata = cgroup.metadata().map_err(failed("cgroup"))?;
    Ok(metadata.ino())
}
