//! What is attached where, and what of it is pinned.
//!
//! A link on a cgroup is updated in place, so that a connection meets the old program or the new
//! one, never none or both. The kernel does not update links on tracepoints: the new one comes
//! before the old one goes, so those programs may tell a thing twice.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya_obj::generated::bpf_attach_type;

use super::objects::{self, Tracepoint};

/// Suffix of the pin of a tracepoint's link that has not replaced the one before it yet.
const NEXT: &str = "_next";

/// Links by name: the tracepoint's, or `<program>-<cgroup id>`.
#[derive(Debug, Default)]
pub struct Links {
    /// Where they are pinned.
    directory: Option<PathBuf>,
    held: HashMap<String, OwnedFd>,
    /// Something had to be attached that an earlier daemon had not left.
    attached_anew: bool,
}

impl Links {
    /// The links pinned in `directory`, which is made if need be.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn pinned(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut held = HashMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(NEXT) {
                fs::remove_file(entry.path())?;
            } else {
                held.insert(name, objects::open(&entry.path())?);
            }
        }
        Ok(Self {
            directory: Some(directory.to_owned()),
            held,
            attached_anew: false,
        })
    }

    /// The cgroups that have links.
    #[must_use]
    pub fn cgroups(&self) -> BTreeSet<u64> {
        let ids = self.held.keys().filter_map(|name| cgroup_of(name));
        ids.map(|(_, id)| id).collect()
    }

    /// Whether all that is attached was attached before.
    #[must_use]
    pub fn were_all_there(&self) -> bool {
        !self.attached_anew
    }

    /// Puts new programs into the links on cgroups. Links on cgroups that are gone, and of
    /// programs that there are no more, are dropped.
    ///
    /// # Errors
    /// The kernel or the bpffs refuses.
    pub fn update<'a>(
        &mut self,
        program: impl Fn(&str) -> Option<BorrowedFd<'a>>,
    ) -> io::Result<()> {
        let on_cgroups = self
            .held
            .keys()
            .filter(|name| name.contains('-'))
            .cloned()
            .collect::<Vec<_>>();
        for name in on_cgroups {
            let link = self.held[&name].as_fd();
            let updated = match cgroup_of(&name).and_then(|(kind, _)| program(kind)) {
                Some(_) if objects::link_cgroup(link)? == 0 => false,
                Some(program) => match objects::update_link(link, program) {
                    Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => false,
                    other => other.map(|()| true)?,
                },
                None => false,
            };
            if !updated {
                self.drop_link(&name)?;
            }
        }
        Ok(())
    }

    /// Attaches a program to a cgroup, unless it is already.
    ///
    /// # Errors
    /// The kernel or the bpffs refuses.
    pub fn on_cgroup(
        &mut self,
        (name, program): (&str, BorrowedFd<'_>),
        kind: bpf_attach_type,
        (cgroup_id, cgroup): (u64, BorrowedFd<'_>),
    ) -> io::Result<()> {
        let name = format!("{name}-{cgroup_id}");
        if self.held.contains_key(&name) {
            return Ok(());
        }
        let link = objects::attach_cgroup(program, cgroup, kind)?;
        if let Some(directory) = &self.directory {
            objects::pin(link.as_fd(), &directory.join(&name))?;
        }
        self.attached_anew = true;
        self.held.insert(name, link);
        Ok(())
    }

    /// Attaches a program to the tracepoint of its name; drops the one before it.
    ///
    /// # Errors
    /// The kernel or the bpffs refuses.
    pub fn on_tracepoint(
        &mut self,
        (name, program): (&str, BorrowedFd<'_>),
        at: Tracepoint<'_>,
    ) -> io::Result<()> {
        let link = objects::attach_tracepoint(program, at)?;
        if let Some(directory) = &self.directory {
            let next = directory.join(format!("{name}{NEXT}"));
            objects::pin(link.as_fd(), &next)?;
            fs::rename(next, directory.join(name))?;
        }
        let before = self.held.insert(name.to_owned(), link);
        self.attached_anew |= before.is_none();
        Ok(())
    }

    /// Detaches everything from one cgroup.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn off_cgroup(&mut self, cgroup_id: u64) -> io::Result<()> {
        self.keep_cgroups(|other| other != cgroup_id)
    }

    /// Detaches everything from cgroups that are not to be kept.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn keep_cgroups(&mut self, keep: impl Fn(u64) -> bool) -> io::Result<()> {
        let unwanted = self
            .held
            .keys()
            .filter(|name| cgroup_of(name).is_some_and(|(_, id)| !keep(id)))
            .cloned()
            .collect::<Vec<_>>();
        unwanted.iter().try_for_each(|name| self.drop_link(name))
    }

    /// Detaches everything.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn drop_all(&mut self) -> io::Result<()> {
        let names = self.held.keys().cloned().collect::<Vec<_>>();
        names.iter().try_for_each(|name| self.drop_link(name))
    }

    fn drop_link(&mut self, name: &str) -> io::Result<()> {
        if let Some(directory) = &self.directory {
            fs::remove_file(directory.join(name))?;
        }
        self.held.remove(name);
        Ok(())
    }
}

/// Program and cgroup id of a link on a cgroup.
fn cgroup_of(name: &str) -> Option<(&str, u64)> {
    let (program, id) = name.rsplit_once('-')?;
    Some((program, id.parse().ok()?))
}
