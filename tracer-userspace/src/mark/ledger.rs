//! The ledger: which calls there are and were, and what the numbers in the kernel's keys mean. Pure.
//!
//! The listening thread writes it before the kernel hears of a context; the recorder asks it when a
//! flow is told. What is over is forgotten once no flow can come from it any more, or when there is
//! no room, oldest first and from the cgroup that has the most.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, OnceLock},
};

use super::{
    counts::Counts,
    doubt::Doubts,
    suspects::{NAMED, Origin, Sort, Span, Verdict, judge, settle},
};
use crate::record::{Attribution, Registered, Tool, ToolCall, ToolKind};

/// Calls that are remembered after their end.
pub const REMEMBERED: usize = 65_536;
/// Contexts in all: a thread of many tasks makes one for each set of them.
const CONTEXTS: usize = 262_144;
/// Contexts that one call may have by naming ever other callers.
const CONTEXTS_OF_CALL: usize = 4096;
/// Names of tools, models and retrievers that wait for the recorder.
const NAMES: usize = 16_384;
/// Tools of one cgroup of which it is kept that they were called.
const CALLED: usize = 4096;
/// Nanoseconds for which a call is remembered after all flows of its time are told: a container's
/// flows wait for its name.
const LEEWAY: u64 = 30_000_000_000;

/// One call of a tool.
#[derive(Debug)]
pub struct Call {
    serial: u64,
    tool: String,
    call_id: String,
    kind: ToolKind,
    /// The process that said so, and its cgroup.
    pid: u32,
    cgroup_id: u64,
    opened: u64,
    closed: OnceLock<u64>,
}

impl Call {
    fn span(&self) -> Span {
        Span {
            opened: self.opened,
            closed: self.closed.get().copied(),
        }
    }

    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }
}

/// What is known of a call that begins.
#[derive(Clone, Debug)]
pub struct New {
    pub tool: String,
    pub call_id: String,
    pub kind: ToolKind,
    pub cgroup_id: u64,
    /// Who says so.
    pub pid: u32,
}

/// For what a thread works: what one number in the kernel means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Meaning {
    /// Serial numbers, the oldest calls first; [`NAMED`] at most.
    calls: Vec<u64>,
    is_cut: bool,
    sort: Sort,
    caller: Vec<String>,
}

#[derive(Debug)]
struct Context {
    meaning: Meaning,
    calls: Vec<Arc<Call>>,
}

/// Calls of one cgroup.
#[derive(Debug, Default)]
struct Family {
    open: BTreeMap<u64, Arc<Call>>,
    /// The first to end comes first.
    closed: VecDeque<Arc<Call>>,
    /// When the last one ended that is forgotten.
    forgotten: Option<u64>,
    /// Tools of which a call was announced.
    called: HashSet<String>,
    doubts: Doubts,
}

impl Family {
    fn is_over(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty() && self.doubts.is_empty()
    }
}

/// What somebody has registered.
#[derive(Clone, Debug)]
pub struct Announced {
    pub cgroup_id: u64,
    pub pid: u32,
    pub names: Registered,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    next_call: u64,
    /// The number that is given out next; never one that is still known.
    next_context: u32,
    contexts: HashMap<u32, Context>,
    numbers: HashMap<Meaning, u32>,
    /// Contexts that name a call, by its serial.
    contexts_of: HashMap<u64, Vec<u32>>,
    families: HashMap<u64, Family>,
    open: usize,
    closed: usize,
    announced: Vec<Announced>,
    announced_names: usize,
    /// Up to when every flow is told.
    told: u64,
    /// Something may have been said that is not heard yet.
    is_behind: bool,
    pub counts: Counts,
}

impl Ledger {
    /// An empty one that gives out numbers from `first` on.
    #[must_use]
    pub fn new(first: u32) -> Self {
        Self {
            next_call: 1,
            next_context: first.max(1),
            contexts: HashMap::new(),
            numbers: HashMap::new(),
            contexts_of: HashMap::new(),
            families: HashMap::new(),
            open: 0,
            closed: 0,
            announced: Vec::new(),
            announced_names: 0,
            told: 0,
            is_behind: false,
            counts: Counts::default(),
        }
    }

    /// Calls that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// The highest number given out, and one more.
    #[must_use]
    pub fn next_context(&self) -> u32 {
        self.next_context
    }

    /// A call begins.
    pub fn begin(&mut self, new: New, now: u64) -> Arc<Call> {
        let call = Arc::new(Call {
            serial: self.next_call,
            tool: new.tool,
            call_id: new.call_id,
            kind: new.kind,
            pid: new.pid,
            cgroup_id: new.cgroup_id,
            opened: now,
            closed: OnceLock::new(),
        });
        let is_first = |family: &mut Family| {
            family.called.len() < CALLED && family.called.insert(call.tool.clone())
        };
        let family = self.families.entry(call.cgroup_id).or_default();
        if is_first(family) {
            let _full = self.announce(Announced {
                cgroup_id: call.cgroup_id,
                pid: new.pid,
                names: Registered {
                    called: vec![call.tool.clone()],
                    ..Registered::default()
                },
            });
        }
        self.next_call += 1;
        self.open += 1;
        self.counts.begun += 1;
        let family = self.families.entry(call.cgroup_id).or_default();
        family.open.insert(call.serial, call.clone());
        call
    }

    /// A call ends. That it ended before is no matter.
    pub fn end(&mut self, call: &Arc<Call>, now: u64) {
        let Some(family) = self.families.get_mut(&call.cgroup_id) else {
            return;
        };
        if family.open.remove(&call.serial).is_none() {
            return;
        }
        let _first_word = call.closed.set(now);
        family.closed.push_back(call.clone());
        self.open -= 1;
        self.closed += 1;
        if self.closed > REMEMBERED {
            self.forget_one();
        }
    }

    /// The number for working for one of `calls`; `None` if there are too many contexts.
    pub fn context<'a>(
        &mut self,
        calls: impl Iterator<Item = &'a Arc<Call>>,
        sort: Sort,
        caller: &[String],
    ) -> Option<u32> {
        let mut calls = calls;
        let named: Vec<Arc<Call>> = calls.by_ref().take(NAMED).cloned().collect();
        let meaning = Meaning {
            calls: named.iter().map(|call| call.serial).collect(),
            is_cut: calls.next().is_some(),
            sort,
            caller: caller.to_vec(),
        };
        if let Some(number) = self.numbers.get(&meaning) {
            return Some(*number);
        }
        if self.contexts.len() >= CONTEXTS || !named.iter().all(|call| self.has_room_for(call)) {
            return None;
        }
        let number = self.number();
        for call in &named {
            let of_call = self.contexts_of.entry(call.serial).or_default();
            of_call.push(number);
        }
        self.numbers.insert(meaning.clone(), number);
        let calls = named;
        self.contexts.insert(number, Context { meaning, calls });
        Some(number)
    }

    /// Whether one more context may name the call; those that are gone do not count.
    fn has_room_for(&mut self, call: &Call) -> bool {
        let Some(all) = self.contexts_of.get_mut(&call.serial) else {
            return true;
        };
        if all.len() >= CONTEXTS_OF_CALL {
            let contexts = &self.contexts;
            all.retain(|number| contexts.contains_key(number));
        }
        all.len() < CONTEXTS_OF_CALL
    }

    fn number(&mut self) -> u32 {
        while self.next_context == 0 || self.contexts.contains_key(&self.next_context) {
            self.next_context = self.next_context.wrapping_add(1);
        }
        let number = self.next_context;
        self.next_context = self.next_context.wrapping_add(1);
        number
    }

    /// On whose behalf a flow was that was seen from `first` to `last`. `None`: on no tool's.
    pub fn attribute(
        &mut self,
        number: u32,
        origin: Origin,
        first: u64,
        last: u64,
    ) -> Option<Tool> {
        if number == 0 {
            return None;
        }
        let Some(context) = self.contexts.get(&number) else {
            self.counts.unknown += 1;
            self.counts.all_unknown += 1;
            return Some(Tool::unknown());
        };
        let own: Vec<Span> = context.calls.iter().map(|call| call.span()).collect();
        let meaning = &context.meaning;
        let caller = meaning.caller.clone();
        let is_doubtful = self.is_doubtful(context, origin, first, last);
        self.counts.unknown += u64::from(self.is_behind);
        self.counts.all_unknown += u64::from(self.is_behind);
        match judge(meaning.sort, origin, &own, first, last) {
            Verdict::One(attribution) if !is_doubtful => {
                Some(one(&context.calls[0], attribution, caller))
            }
            Verdict::One(_) => {
                let (all, _) = self.among(context, Some((first, last)));
                Some(several(&all, true, false, caller))
            }
            Verdict::Among { others } => {
                let (all, is_cut) = self.among(context, others);
                let is_cut = is_cut || is_doubtful;
                let spans: Vec<Span> = all.iter().map(|call| call.span()).collect();
                let is_kept = match origin {
                    Origin::Kept => true,
                    Origin::Own | Origin::Inherited | Origin::Unsure => {
                        meaning.sort == Sort::Process
                    }
                };
                let (attribution, or_none) = settle(&spans, is_kept, first, last);
                Some(match (attribution, all.as_slice()) {
                    (Attribution::Ambiguous, _) => several(&all, is_cut, or_none, caller),
                    (known, [only, ..]) if !is_cut => one(only, known, caller),
                    _ => several(&all, is_cut, or_none, caller),
                })
            }
        }
    }

    /// Whether the thread may have worked for a call that was never heard of. What a thread has said
    /// itself is doubted if its own process was; what was inherited, if any process around was, since
    /// the calls began.
    fn is_doubtful(&self, context: &Context, origin: Origin, first: u64, last: u64) -> bool {
        let is_doubted = |call: &Arc<Call>| {
            let Some(family) = self.families.get(&call.cgroup_id) else {
                return false;
            };
            match origin {
                Origin::Own => family.doubts.about(call.pid, first, last),
                Origin::Inherited | Origin::Kept | Origin::Unsure => {
                    family.doubts.about_any(call.opened.min(first), last)
                }
            }
        };
        self.is_behind || context.calls.iter().any(is_doubted)
    }

    /// From `from` on, that process may have worked for calls that are not known.
    pub fn doubt(&mut self, cgroup_id: u64, pid: u32, from: u64) {
        let family = self.families.entry(cgroup_id).or_default();
        family.doubts.begin(pid, from);
        self.counts.doubts += 1;
    }

    /// Everything is known of that process again, or it has ended.
    pub fn trust(&mut self, cgroup_id: u64, pid: u32, now: u64) {
        if let Some(family) = self.families.get_mut(&cgroup_id) {
            family.doubts.end(pid, now);
        }
    }

    /// Whether something may have been said that is not heard yet.
    pub fn set_behind(&mut self, is_behind: bool) {
        self.is_behind = is_behind;
    }

    /// The context's own calls and those that were open in their cgroup, and whether there are more.
    fn among(&self, context: &Context, others: Option<(u64, u64)>) -> (Vec<Arc<Call>>, bool) {
        let mut all = context.calls.clone();
        let Some((from, to)) = others else {
            return (all, context.meaning.is_cut);
        };
        let cgroups: BTreeSet<u64> = all.iter().map(|call| call.cgroup_id).collect();
        let mut is_cut = context.meaning.is_cut;
        let own: HashSet<u64> = all.iter().map(|call| call.serial).collect();
        for family in cgroups.iter().filter_map(|id| self.families.get(id)) {
            is_cut |= family.forgotten.is_some_and(|ended| ended >= from);
            is_cut |= family.doubts.about_any(from, to);
            // Those that ended before have ended before whatever comes first in the list.
            let ended = family.closed.iter().rev();
            let recent = ended.take_while(|call| call.span().closed.is_some_and(|at| at >= from));
            let touching = family
                .open
                .values()
                .chain(recent)
                .filter(|call| call.span().touches(from, to) && !own.contains(&call.serial));
            for call in touching {
                if all.len() >= NAMED {
                    is_cut = true;
                    break;
                }
                all.push(call.clone());
            }
        }
        (all, is_cut)
    }

    /// What a process may use, as it says.
    ///
    /// Returns false if there is no room for it before the recorder has taken in what waits.
    pub fn announce(&mut self, announced: Announced) -> bool {
        let Registered {
            tools,
            models,
            retrievers,
            called,
        } = &announced.names;
        let names = tools.len() + models.len() + retrievers.len() + called.len();
        if names == 0 {
            return true;
        }
        if self.announced_names + names > NAMES {
            return false;
        }
        self.announced_names += names;
        self.announced.push(announced);
        true
    }

    /// What was registered since the last call.
    pub fn take_announced(&mut self) -> Vec<Announced> {
        self.announced_names = 0;
        std::mem::take(&mut self.announced)
    }

    /// Gives back what could not be told yet.
    pub fn announce_again(&mut self, announced: Announced) {
        let _room = self.announce(announced);
    }

    /// Every flow up to then is told.
    pub fn told(&mut self, until: u64) {
        self.told = self.told.max(until);
    }

    /// Forgets what no flow can come from any more; `in_use` are contexts that threads still have.
    pub fn forget(&mut self, in_use: &HashSet<u32>) {
        let until = self.told.saturating_sub(LEEWAY);
        let mut over = Vec::new();
        for family in self.families.values_mut() {
            let is_over = |call: &&Arc<Call>| call.span().closed.is_some_and(|at| at < until);
            let count = family.closed.iter().take_while(is_over).count();
            over.extend(family.closed.drain(..count));
            if let Some(last) = over.last().filter(|_| count > 0) {
                family.forgotten = last.span().closed;
            }
            family.doubts.forget(until);
        }
        self.families.retain(|_, family| !family.is_over());
        self.closed -= over.len();
        for call in over {
            self.forget_contexts(call.serial, |number| !in_use.contains(&number));
        }
    }

    /// Makes room.
    fn forget_one(&mut self) {
        let largest = self
            .families
            .values_mut()
            .max_by_key(|family| family.closed.len());
        let Some(family) = largest else { return };
        let Some(call) = family.closed.pop_front() else {
            return;
        };
        family.forgotten = call.span().closed;
        self.closed -= 1;
        self.counts.forgotten += 1;
        self.forget_contexts(call.serial, |_| true);
    }

    fn forget_contexts(&mut self, serial: u64, is_over: impl Fn(u32) -> bool) {
        let mut kept = Vec::new();
        for number in self.contexts_of.remove(&serial).unwrap_or_default() {
            if !is_over(number) {
                kept.push(number);
            } else if let Some(context) = self.contexts.remove(&number) {
                self.numbers.remove(&context.meaning);
            }
        }
        if !kept.is_empty() {
            self.kept(kept);
        }
    }

    /// Contexts whose calls are over, and that threads still have: they go when those do.
    fn kept(&mut self, numbers: Vec<u32>) {
        let all = self.contexts_of.entry(0).or_default();
        all.extend(numbers);
        let contexts = &self.contexts;
        all.retain(|number| contexts.contains_key(number));
    }

    /// Forgets those of them that no thread has any more.
    pub fn forget_kept(&mut self, in_use: &HashSet<u32>) {
        self.forget_contexts(0, |number| !in_use.contains(&number));
    }
}

fn one(call: &Call, attribution: Attribution, caller: Vec<String>) -> Tool {
    Tool {
        name: Some(call.tool.clone()),
        call_id: Some(call.call_id.clone()),
        kind: Some(call.kind),
        attribution,
        caller,
        among: Vec::new(),
        among_cut: false,
        or_none: false,
    }
}

fn several(all: &[Arc<Call>], is_cut: bool, or_none: bool, caller: Vec<String>) -> Tool {
    let named = all.iter().map(|call| ToolCall {
        name: call.tool.clone(),
        call_id: call.call_id.clone(),
    });
    Tool {
        caller,
        among: named.collect(),
        among_cut: is_cut,
        or_none,
        ..Tool::unknown()
    }
}

#[cfg(test)]
mod tests;
