//! When a process may have worked for calls that nobody has heard of. Pure.
//!
//! A client does not wait forever for a daemon that is late. What it goes on with is then not known,
//! and what is known of its threads may be another call's: for that time nothing about it is certain.

/// Times that are remembered of one cgroup.
const REMEMBERED: usize = 256;
/// In place of a process: all that there are.
const ANYBODY: u32 = 0;

/// CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    pid: u32,
    from: u64,
    /// `None` while it lasts.
    until: Option<u64>,
}

impl Doubt {
    fn touches(&self, from: u64, to: u64) -> bool {
        self.from <= to && self.until.is_none_or(|until| until >= from)
    }
}

/// Of the processes of one cgroup.
#[derive(Debug, Default)]
pub struct Doubts(Vec<Doubt>);

impl Doubts {
    /// From then on, not everything is known of that process.
    pub fn begin(&mut self, pid: u32, from: u64) {
        let open = |doubt: &&mut Doubt| doubt.pid == pid && doubt.until.is_none();
        if let Some(known) = self.0.iter_mut().find(open) {
            known.from = known.from.min(from);
            return;
        }
        self.0.push(Doubt {
            pid,
            from,
            until: None,
        });
        if self.0.len() > REMEMBERED {
            // Who does that has nothing certain said of itself any more.
            let from = self.0.iter().map(|doubt| doubt.from).min();
            self.0 = vec![Doubt {
                pid: ANYBODY,
                from: from.unwrap_or(0),
                until: None,
            }];
        }
    }

    /// From now on everything is known of it again, or it has ended.
    pub fn end(&mut self, pid: u32, now: u64) {
        for doubt in &mut self.0 {
            if doubt.pid == pid && doubt.until.is_none() {
                doubt.until = Some(now);
            }
        }
    }

    /// Whether that process was in doubt at any time of `from..=to`.
    #[must_use]
    pub fn about(&self, pid: u32, from: u64, to: u64) -> bool {
        let is_about = |doubt: &Doubt| doubt.pid == pid || doubt.pid == ANYBODY;
        let mut all = self.0.iter();
        all.any(|doubt| is_about(doubt) && doubt.touches(from, to))
    }

    /// Whether any process was.
    #[must_use]
    pub fn about_any(&self, from: u64, to: u64) -> bool {
        self.0.iter().any(|doubt| doubt.touches(from, to))
    }

    /// Forgets what was over before then.
    pub fn forget(&mut self, before: u64) {
        self.0
            .retain(|doubt| doubt.until.is_none_or(|until| until >= before));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_about_one_process_and_one_time() {
        let mut doubts = Doubts::default();
        doubts.begin(7, 20);
        doubts.begin(7, 10);
        assert!(doubts.about(7, 0, 10) && doubts.about(7, 99, 100) && doubts.about_any(5, 15));
        assert!(!doubts.about(7, 0, 9) && !doubts.about(8, 0, 100));
        doubts.end(8, 25);
        doubts.end(7, 30);
        assert!(doubts.about(7, 30, 40) && !doubts.about(7, 31, 40));
        doubts.begin(7, 50);
        assert!(!doubts.about_any(31, 49) && doubts.about(7, 50, 50));
        doubts.forget(31);
        assert!(!doubts.about_any(0, 49) && !doubts.is_empty());
    }

    #[test]
    fn beyond_the_bound_all_of_the_cgroup_is_in_doubt() {
        let mut doubts = Doubts::default();
        for pid in 1..=300 {
            doubts.begin(pid, 1000 - u64::from(pid));
        }
        assert!(doubts.0.len() <= REMEMBERED);
        assert!(doubts.about(9999, 800, 800) && !doubts.about(9999, 0, 699));
    }
}
