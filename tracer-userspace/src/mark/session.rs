//! One process that speaks: its calls, and what each of its threads works for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tracer_common::context::{Context, origin};

use super::{
    Contexts, Shared,
    ledger::{Call, New},
    peer::Peer,
    suspects::Sort,
};
use crate::decode::marker::{Begin, Refusal, Scope, Use};

/// Bounds that are settings.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open calls of one session.
    pub calls: usize,
    /// Open calls of all.
    pub all_calls: usize,
    /// Nanoseconds after which a call without an end is closed.
    pub age: u64,
}

/// What sessions act upon.
#[derive(Debug)]
pub struct World {
    pub ledger: Shared,
    pub contexts: Contexts,
    pub limits: Limits,
}

/// One call that is open.
#[derive(Debug)]
struct Open {
    call: Arc<Call>,
    scope: Scope,
    /// The thread on which it was begun.
    thread: u32,
    /// Threads that were told to work for it, beside that one.
    users: BTreeSet<u32>,
}

/// What was said of a thread, the last on top.
#[derive(Debug)]
enum Frame {
    Began(Arc<Call>),
    Used(Option<Arc<Call>>, Vec<String>),
}

/// One thread of which something was said.
#[derive(Debug, Default)]
struct Thread {
    /// What the kernel had for it before.
    under: Context,
    frames: Vec<Frame>,
    tasks: BTreeMap<u64, Arc<Call>>,
    /// What the kernel has for it.
    told: Context,
    order: u64,
}

/// See the module. Threads go by their id in the initial pid namespace.
#[derive(Debug)]
pub struct Session {
    pub peer: Peer,
    calls: HashMap<String, Open>,
    threads: HashMap<u32, Thread>,
}

impl Session {
    #[must_use]
    pub fn new(peer: Peer) -> Self {
        Self {
            peer,
            calls: HashMap::new(),
            threads: HashMap::new(),
        }
    }

    /// A call begins on `thread`.
    ///
    /// # Errors
    /// There is no room, or one of that id is open.
    pub fn begin(
        &mut self,
        world: &mut World,
        begin: Begin,
        thread: u32,
        now: u64,
    ) -> Result<(), Refusal> {
        if self.calls.contains_key(&begin.call) {
            return Err(Refusal::DuplicateCall);
        }
        if self.calls.len() >= world.limits.calls
            || world.ledger.lock().open() >= world.limits.all_calls
        {
            return Err(Refusal::Limit);
        }
        self.meet(world, thread, now)?;
        let call = world.ledger.lock().begin(
            New {
                tool: begin.tool,
                call_id: begin.call.clone(),
                kind: begin.kind,
                cgroup_id: self.peer.cgroup_id,
                pid: self.peer.pid,
            },
            now,
        );
        let open = Open {
            call: call.clone(),
            scope: begin.scope,
            thread,
            users: BTreeSet::new(),
        };
        self.calls.insert(begin.call.clone(), open);
        let told = match begin.scope {
            Scope::Process => self.tell_process(world, &call, thread),
            Scope::Thread | Scope::Task => {
                let known = self.threads.entry(thread).or_default();
                known.add(call, begin.scope);
                tell(world, thread, known)
            }
        };
        if told.is_err() {
            self.end(world, &begin.call, now)?;
        }
        told
    }

    /// # Errors
    /// No such call is open.
    pub fn end(&mut self, world: &mut World, call: &str, now: u64) -> Result<(), Refusal> {
        let open = self.calls.remove(call).ok_or(Refusal::UnknownCall)?;
        // First the kernel: what is sent from now on is not the call's.
        let threads = open.users.iter().chain([&open.thread]);
        for tid in threads.copied().collect::<BTreeSet<u32>>() {
            let Some(thread) = self.threads.get_mut(&tid) else {
                continue;
            };
            thread.remove(&open.call);
            // The thread may be gone, and there is always room for less.
            let _gone = tell(world, tid, thread);
            if thread.is_idle() {
                self.threads.remove(&tid);
            }
        }
        if open.scope == Scope::Process {
            let _gone = world.contexts.set(open.thread, Context::default());
        }
        world.ledger.lock().end(&open.call, now);
        Ok(())
    }

    /// The thread works for exactly that call, or for none.
    ///
    /// # Errors
    /// No such call is open, or there is no room.
    pub fn work_for(
        &mut self,
        world: &mut World,
        wanted: Use,
        tid: u32,
        now: u64,
    ) -> Result<(), Refusal> {
        let call = match &wanted.call {
            Some(id) => {
                let open = self.calls.get(id).ok_or(Refusal::UnknownCall)?;
                Some(open.call.clone())
            }
            None => None,
        };
        self.meet(world, tid, now)?;
        if let Some(open) = wanted.call.and_then(|id| self.calls.get_mut(&id)) {
            open.users.insert(tid);
        }
        let thread = self.threads.entry(tid).or_default();
        if let Some(Frame::Used(..)) = thread.frames.last() {
            thread.frames.pop();
        }
        if !wanted.inherit {
            thread.frames.push(Frame::Used(call, wanted.caller));
        }
        let told = tell(world, tid, thread);
        if thread.is_idle() {
            self.threads.remove(&tid);
        }
        told
    }

    /// What was inherited tells no longer which call it is for.
    ///
    /// # Errors
    /// The kernel's map cannot be written.
    pub fn share(&mut self, world: &mut World) -> Result<(), Refusal> {
        for tid in self.peer.threads() {
            let Ok(found) = world.contexts.get(tid) else {
                continue;
            };
            let blurred = blur(found);
            if blurred != found {
                let set = world.contexts.set(tid, blurred);
                set.map_err(|_full| Refusal::Limit)?;
            }
        }
        for thread in self.threads.values_mut() {
            thread.under = blur(thread.under);
        }
        Ok(())
    }

    /// The connection has ended: true if a call goes on until the process ends.
    pub fn hang_up(&mut self, world: &mut World, now: u64) -> bool {
        let over = self
            .calls
            .iter()
            .filter(|(_, open)| open.scope != Scope::Process);
        let over: Vec<String> = over.map(|(id, _)| id.clone()).collect();
        for id in over {
            let _known = self.end(world, &id, now);
        }
        // What they were before: threads of a program that a tool has started.
        for (tid, thread) in &mut self.threads {
            thread.frames.clear();
            let _gone = tell(world, *tid, thread);
        }
        self.threads.clear();
        !self.calls.is_empty()
    }

    /// Whether no call of it is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// The process has ended; its threads are out of the kernel's map by then.
    pub fn die(&mut self, world: &mut World, now: u64) {
        let mut ledger = world.ledger.lock();
        ledger.trust(self.peer.cgroup_id, self.peer.pid, now);
        for (_, open) in self.calls.drain() {
            ledger.end(&open.call, now);
        }
        self.threads.clear();
    }

    /// Closes what was forgotten: calls of threads that are gone, and those that are too old.
    /// `present` is what the kernel has.
    pub fn tidy(&mut self, world: &mut World, present: &HashMap<u32, Context>, now: u64) {
        let is_gone = |thread: &Thread, tid: &u32| {
            thread.told.origin == origin::OWN && present.get(tid) != Some(&thread.told)
        };
        let gone: Vec<u32> = self
            .threads
            .iter()
            .filter(|(tid, thread)| is_gone(thread, tid))
            .map(|(tid, _)| *tid)
            .collect();
        for tid in gone {
            self.bury(world, tid, now);
        }
        let old = self.calls.iter().filter(|(_, open)| {
            let age = now.saturating_sub(open.call.opened());
            open.scope != Scope::Process && age > world.limits.age
        });
        let old: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        for id in old {
            world.ledger.lock().counts.unended += 1;
            let _known = self.end(world, &id, now);
        }
    }

    /// Looks at a thread before anything is said of it. Another one may have got its id.
    fn meet(&mut self, world: &mut World, tid: u32, now: u64) -> Result<(), Refusal> {
        let found = world.contexts.get(tid).map_err(|_| Refusal::Limit)?;
        if let Some(known) = self.threads.get(&tid) {
            if known.told == found {
                return Ok(());
            }
            self.bury(world, tid, now);
        }
        let thread = self.threads.entry(tid).or_default();
        thread.under = found;
        thread.told = found;
        Ok(())
    }

    /// A thread has ended, and the calls that it had begun.
    fn bury(&mut self, world: &mut World, tid: u32, now: u64) {
        self.threads.remove(&tid);
        let over = self.calls.iter().filter(|(_, open)| {
            open.thread == tid && matches!(open.scope, Scope::Thread | Scope::Task)
        });
        let over: Vec<String> = over.map(|(id, _)| id.clone()).collect();
        for id in over {
            world.ledger.lock().counts.unended += 1;
            let _known = self.end(world, &id, now);
        }
    }

    /// The main thread works for the call until the process ends.
    fn tell_process(
        &mut self,
        world: &mut World,
        call: &Arc<Call>,
        thread: u32,
    ) -> Result<(), Refusal> {
        self.threads.remove(&thread);
        let id = number(world, [call].into_iter(), Sort::Process, &[])?;
        let context = own(id);
        world
            .contexts
            .set(thread, context)
            .map_err(|_full| Refusal::Limit)
    }
}

impl Thread {
    fn add(&mut self, call: Arc<Call>, scope: Scope) {
        match scope {
            Scope::Thread => self.frames.push(Frame::Began(call)),
            Scope::Task | Scope::Process => {
                self.order += 1;
                self.tasks.insert(self.order, call);
            }
        }
    }

    fn remove(&mut self, call: &Arc<Call>) {
        self.frames.retain(|frame| match frame {
            Frame::Began(known) | Frame::Used(Some(known), _) => !Arc::ptr_eq(known, call),
            Frame::Used(None, _) => true,
        });
        self.tasks.retain(|_, known| !Arc::ptr_eq(known, call));
    }

    /// Nothing is said of it that the kernel does not know without us.
    fn is_idle(&self) -> bool {
        let is_silent = self
            .frames
            .iter()
            .all(|frame| matches!(frame, Frame::Used(None, _)));
        is_silent && self.tasks.is_empty() && self.under.origin == origin::NONE
    }
}

/// Tells the kernel what a thread works for by now.
fn tell(world: &mut World, tid: u32, thread: &mut Thread) -> Result<(), Refusal> {
    let context = match thread.frames.last() {
        Some(Frame::Began(call)) => own(number(world, [call].into_iter(), Sort::Exact, &[])?),
        Some(Frame::Used(Some(call), caller)) => {
            own(number(world, [call].into_iter(), Sort::Exact, caller)?)
        }
        Some(Frame::Used(None, _)) => match thread.under.origin {
            // The program itself was started by a tool.
            origin::KEPT | origin::UNSURE => thread.under,
            _others => Context::default(),
        },
        None if thread.tasks.is_empty() => thread.under,
        None => own(number(world, thread.tasks.values(), Sort::Tasks, &[])?),
    };
    if context != thread.told {
        world
            .contexts
            .set(tid, context)
            .map_err(|_full| Refusal::Limit)?;
        thread.told = context;
    }
    Ok(())
}

fn number<'a>(
    world: &World,
    calls: impl Iterator<Item = &'a Arc<Call>>,
    sort: Sort,
    caller: &[String],
) -> Result<u32, Refusal> {
    let number = world.ledger.lock().context(calls, sort, caller);
    number.ok_or(Refusal::Limit)
}

fn own(id: u32) -> Context {
    Context {
        id,
        origin: origin::OWN,
        reserved: [0; 3],
    }
}

/// One that says less.
fn blur(context: Context) -> Context {
    let origin = match context.origin {
        origin::KEPT | origin::FORKED => origin::INHERITED,
        // What it starts inherits that it is unsure since when.
        other => other,
    };
    Context { origin, ..context }
}
