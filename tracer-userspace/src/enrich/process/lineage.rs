//! Who started whom: a process's ancestors, each as it was when it made the next one.
//!
//! A list that shares its tail, so that ancestors are there for as long as a descendant is, and
//! no longer.

use std::sync::Arc;

use super::{
    image::{Image, comm_text},
    meter::{Meter, Metered},
};
use crate::record::Ancestor;

/// Ancestors told in a record.
pub const TOLD: usize = 32;

/// Bytes of an ancestor's command line told in a record.
const CMDLINE_BYTES: usize = 512;

/// A list this long is made anew with its first [`TOLD`]: processes that restart themselves by
/// forking would otherwise make one without end.
const LONGEST: usize = 2 * TOLD;

/// One process when it made another.
#[derive(Debug)]
pub struct Link {
    pub pid: u32,
    pub cgroup_id: u64,
    pub image: Option<Arc<Image>>,
    above: Above,
    depth: usize,
    _metered: Metered,
}

/// What is above an ancestor.
#[derive(Clone, Debug)]
pub enum Above {
    /// Nothing: it is the first process of all.
    Top,
    /// Its parent is not known.
    Unknown,
    Parent(Arc<Link>),
}

impl Link {
    #[must_use]
    pub fn new(
        pid: u32,
        cgroup_id: u64,
        image: Option<Arc<Image>>,
        above: Above,
        meter: &Meter,
    ) -> Arc<Self> {
        let above = match above {
            Above::Parent(link) if link.depth >= LONGEST => shortened(&link, meter),
            Above::Top | Above::Unknown | Above::Parent(_) => above,
        };
        let depth = match &above {
            Above::Parent(link) => link.depth + 1,
            Above::Top | Above::Unknown => 1,
        };
        Arc::new(Self {
            pid,
            cgroup_id,
            image,
            above,
            depth,
            _metered: meter.take(size_of::<Self>()),
        })
    }

    fn describe(&self) -> Ancestor {
        let image = self.image.as_deref();
        let (cmdline, cmdline_cut) =
            image.map_or((Vec::new(), false), |image| image.cmdline(CMDLINE_BYTES));
        Ancestor {
            pid: self.pid,
            comm: image.map(|image| comm_text(&image.comm)),
            exe: image.and_then(Image::exe),
            cmdline,
            cmdline_cut,
        }
    }
}

/// The same with its first [`TOLD`] links alone.
fn shortened(link: &Arc<Link>, meter: &Meter) -> Above {
    let mut kept = Vec::with_capacity(TOLD);
    let mut next = Some(link);
    while let Some(link) = next.filter(|_| kept.len() < TOLD) {
        kept.push(link.clone());
        next = link.above.parent();
    }
    kept.iter().rev().fold(Above::Unknown, |above, link| {
        let image = link.image.clone();
        Above::Parent(Link::new(link.pid, link.cgroup_id, image, above, meter))
    })
}

impl Above {
    fn parent(&self) -> Option<&Arc<Link>> {
        match self {
            Self::Parent(link) => Some(link),
            Self::Top | Self::Unknown => None,
        }
    }

    /// The ancestors, nearest first, up to the last that is `within` (asked with cgroup id and
    /// pid), and whether there are more of them.
    pub fn describe(&self, mut within: impl FnMut(u64, u32) -> bool) -> (Vec<Ancestor>, bool) {
        let mut told = Vec::new();
        let mut above = self;
        loop {
            match above {
                Self::Top => return (told, false),
                Self::Unknown => return (told, true),
                Self::Parent(link) if !within(link.cgroup_id, link.pid) => return (told, false),
                Self::Parent(_) if told.len() == TOLD => return (told, true),
                Self::Parent(link) => {
                    told.push(link.describe());
                    above = &link.above;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u32, meter: &Meter) -> Above {
        (1..=length).fold(Above::Top, |above, pid| {
            Above::Parent(Link::new(pid, u64::from(pid % 2), None, above, meter))
        })
    }

    fn pids(told: &[Ancestor]) -> Vec<u32> {
        told.iter().map(|ancestor| ancestor.pid).collect()
    }

    #[test]
    fn ancestors_are_told_nearest_first_to_the_top() {
        let (told, cut) = chain(3, &Meter::default()).describe(|_, _| true);
        assert_eq!((pids(&told), cut), (vec![3, 2, 1], false));
    }

    #[test]
    fn they_end_where_the_container_does() {
        let (told, cut) = chain(4, &Meter::default()).describe(|_, pid| pid > 2);
        assert_eq!((pids(&told), cut), (vec![4, 3], false));
    }

    #[test]
    fn a_list_without_end_takes_no_memory_without_end() {
        let meter = Meter::default();
        let all = chain(100_000, &meter);
        assert!(meter.bytes() <= (LONGEST + TOLD) * size_of::<Link>());
        let (told, cut) = all.describe(|_, _| true);
        assert_eq!((told.len(), told[0].pid, cut), (TOLD, 100_000, true));
        drop(all);
        assert_eq!(meter.bytes(), 0);
    }
}
