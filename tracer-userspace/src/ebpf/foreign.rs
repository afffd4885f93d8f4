//! Other people's address programs: as long as some are loaded, ours that note what was asked for
//! before it is rewritten are attached, ahead of them. Without, nothing is attached and nothing
//! costs.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::programs::{ProgramError, ProgramInfo, loaded_programs};
use aya_obj::generated::{bpf_attach_type, bpf_prog_type};

use super::sys;

/// Programs that go first, and where each is attached.
pub(super) const FIRST_HOOKS: [(&str, bpf_attach_type); 4] = [
    ("first_connect4", bpf_attach_type::BPF_CGROUP_INET4_CONNECT),
    ("first_connect6", bpf_attach_type::BPF_CGROUP_INET6_CONNECT),
    ("first_sendmsg4", bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG),
    ("first_sendmsg6", bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG),
];

/// What is not seen where the kernel lets no program go first.
pub const REWRITES_UNSEEN: &str = "a destination that another cgroup program rewrites on connect or sendmsg is recorded as rewritten";

/// One of [`FIRST_HOOKS`], loaded.
#[derive(Debug)]
pub(super) struct First {
    pub(super) program: OwnedFd,
    pub(super) attach_type: bpf_attach_type,
}

/// Whether the first programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody else's program is loaded.
    Alone,
    Attached,
    /// Somebody else's is, and the kernel lets none go first.
    Refused,
}

/// Watches for other people's programs.
#[derive(Debug)]
pub struct Foreign {
    first: Vec<First>,
    /// The map that tells the counting programs.
    flag: OwnedFd,
    /// Tags (digests of the instructions) of our own programs: another tracer's are no strangers.
    own: BTreeSet<u64>,
    /// By id.
    cgroups: BTreeMap<u64, File>,
    links: Vec<OwnedFd>,
    state: State,
}

impl Foreign {
    pub(super) fn new(first: Vec<First>, flag: OwnedFd, own: BTreeSet<u64>) -> Self {
        // An adopted one may tell of programs that went with the process before this one.
        let _stale = sys::update(flag.as_fd(), &0_u32, &0_u64);
        Self {
            first,
            flag,
            own,
            cgroups: BTreeMap::new(),
            links: Vec::new(),
            state: State::Alone,
        }
    }

    /// Flows of this cgroup are recorded.
    pub(super) fn add(&mut self, id: u64, cgroup: File) {
        self.cgroups.insert(id, cgroup);
        self.begin_again();
    }

    /// Flows of this cgroup are recorded no more.
    pub(super) fn remove(&mut self, id: u64) {
        if self.cgroups.remove(&id).is_some() {
            self.begin_again();
        }
    }

    fn begin_again(&mut self) {
        self.lower_flag();
        self.links.clear();
        self.state = State::Alone;
    }

    /// Attaches or detaches what the programs that are loaded by now ask for.
    ///
    /// # Errors
    /// The kernel does not list its programs, or refuses a map update.
    pub fn check(&mut self) -> io::Result<State> {
        let wanted = !self.cgroups.is_empty() && self.is_company()?;
        match (wanted, self.state) {
            (true, State::Attached | State::Refused) | (false, State::Alone) => {}
            (true, State::Alone) => self.attach()?,
            (false, State::Attached | State::Refused) => {
                sys::update(self.flag.as_fd(), &0_u32, &0_u64)?;
                self.links.clear();
                self.state = State::Alone;
            }
        }
        Ok(self.state)
    }

    /// Attaches whether or not there is anybody else: for trying whether the kernel lets us.
    ///
    /// # Errors
    /// The kernel refuses a map update.
    pub fn attach(&mut self) -> io::Result<()> {
        if self.state == State::Attached {
            return Ok(());
        }
        match self.links() {
            Ok(links) => {
                self.links = links;
                self.state = State::Attached;
                sys::update(self.flag.as_fd(), &0_u32, &1_u64)
            }
            Err(error) => {
                self.lower_flag();
                tracing::warn!("{REWRITES_UNSEEN}: {error}");
                self.state = State::Refused;
                Ok(())
            }
        }
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Detaches all.
    pub fn detach(&mut self) {
        self.lower_flag();
        self.links.clear();
        self.cgroups.clear();
        self.state = State::Alone;
    }

    /// Before the links go: what is noted is believed as long as the flag is up.
    fn lower_flag(&self) {
        if let Err(error) = sys::update(self.flag.as_fd(), &0_u32, &0_u64) {
            tracing::debug!("cannot tell the programs that none goes first: {error}");
        }
    }

    fn links(&self) -> io::Result<Vec<OwnedFd>> {
        let mut links = Vec::new();
        for cgroup in self.cgroups.values() {
            for first in &self.first {
                links.push(sys::attach_first(
                    first.program.as_fd(),
                    cgroup.as_fd(),
                    first.attach_type,
                )?);
            }
        }
        if links.is_empty() {
            return Err(io::Error::other("the kernel did not load the programs"));
        }
        Ok(links)
    }

    /// Whether anybody else's address program is loaded. Where it is attached is no matter: it
    /// may be anywhere below or above, now or in a moment.
    fn is_company(&self) -> io::Result<bool> {
        let is_foreign = |info: &ProgramInfo| {
            info.program_type() == bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR
                && !self.own.contains(&info.tag())
        };
        for info in loaded_programs() {
            match info {
                Ok(info) if is_foreign(&info) => return Ok(true),
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

/// It was unloaded between being listed and being asked.
fn is_gone(error: &ProgramError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error() == Some(libc::ENOENT);
        }
        cause = error.source();
    }
    false
}
