//! Spin points: the branches that close the program's spin loops, made into scheduled operations.
//!
//! A loop that only waits for another thread to change memory has one branch that leads back to its start. Preload stops
//! the thread there whenever the branch is taken ([`Call::spin_point`]), and the thread gives way until another one has
//! worked: the same on all replicas, without a preemption, a clock or an entry. Which branches are spin points is decided by the log:
//! a leader that sees a thread in such a loop for long says so in an entry at the thread's next operation, or, if none
//! comes, at the next turn of the loop itself.
//!
//! Threads that only spin do not count as runnable. So that a loop which counts its turns comes to its end although
//! nobody else works, an idle leader lets the spinners go on for some turns now and then ([`Kernel::spin_pause`]).

use crate::atomic::Ordering;

use crate::call::{Call, UPCALL_HEADROOM_BYTES};
use crate::control::wanted;
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;
use crate::preemption::Stretch;
use crate::sched::Scheduler;
use crate::thread::{ThreadId, Threads};

/// Spin points kept, all processes together.
const POINTS: usize = 32;
/// Turns of loops that an idle leader first allows.
const FIRST_TURNS: u64 = 16;
/// Turns that it allows at the most at a time.
const MOST_TURNS: u64 = 1024;
/// Pause for each turn that it allowed, nanoseconds: what keeps idle spinners at a few percent of a processor.
const PAUSE_PER_TURN_NS: u64 = 200_000;
/// Turns that an empty entry of CRANE allows.
pub(crate) const CRANE_TURNS: u64 = 256;

/// One branch.
#[derive(Clone, Copy)]
#[repr(C)]
struct Point {
    branch: u64,
    process: u64,
}

/// The branches, and the threads that stand at one; all zeroes is none.
#[repr(C)]
pub struct Spinners {
    points: [Point; POINTS],
    /// How many there are.
    known: u16,
    head: ThreadId,
    tail: ThreadId,
    /// Threads that stand at a spin point and are not in the run queue.
    pub count: u16,
    /// Tick at which a thread last gave the turn away after more than a look at its spin loop's condition.
    worked_at: u64,
    /// Turns of loops that may go on although nobody worked.
    turns_left: u64,
    /// The branch that has just become a spin point, for preload, or 0.
    arm: u64,
    /// The branch of a loop in which `suspect_thread` was seen for long, or 0. This and what follows exists on a leader
    /// alone; nothing depends on it elsewhere.
    suspect: u64,
    suspect_thread: ThreadId,
    /// Tick at which its bubble is to be cut there, for it makes no operation; 0 = it may still come to one.
    cut_at: u64,
    /// And even if another leader opened it.
    cuts_inherited: bool,
    /// What an idle leader allowed last.
    allowed: u64,
    /// `worked_at` then.
    allowed_at: u64,
}

impl Spinners {
    /// True if `branch` is a spin point of `process`.
    pub(crate) fn knows(&self, process: u16, branch: u64) -> bool {
        self.points.iter().any(|point| point.branch == branch && point.process == u64::from(process))
    }

    fn learn(&mut self, process: u16, branch: u64) {
        if branch == 0 || self.knows(process, branch) {
            return;
        }
        if let Some(free) = self.points.iter_mut().find(|point| point.branch == 0) {
            *free = Point { branch, process: process.into() };
            self.known += 1;
            self.arm = branch;
        }
    }

    /// The image of `process` is another, or none.
    pub(crate) fn forget(&mut self, process: u16) {
        for point in &mut self.points {
            if point.process == u64::from(process) {
                self.known -= 1;
                *point = Point { branch: 0, process: 0 };
            }
        }
    }

    fn is_full(&self) -> bool {
        usize::from(self.known) == POINTS
    }

    /// True if `branch` was not suspected at `stamp` before.
    pub(crate) fn is_news(&mut self, branch: u64, stamp: u64) -> bool {
        let before = (self.suspect, self.cut_at);
        (self.suspect, self.cut_at) = (branch, stamp);
        before != (branch, stamp)
    }

    /// True if any branch is a spin point.
    pub(crate) fn any(&self) -> bool {
        self.known > 0
    }
}

impl Scheduler {
    /// The holder of the turn is about to give it away, and has done more than look at a condition.
    pub(crate) fn note_work(&mut self) {
        self.spinners.worked_at = self.tick;
    }

    /// `id`, which holds the turn, stands at a spin point until somebody has worked.
    fn queue_spinner(&mut self, threads: &mut Threads, id: ThreadId) {
        let thread = threads.get_mut(id);
        // The hand-over and two operations at the spin point are a tick each.
        let worked = core::mem::take(&mut thread.left_loop) || self.tick > self.turn_since + 3;
        thread.spinning = true;
        (thread.prev, thread.next) = (self.spinners.tail, 0);
        if worked {
            self.note_work();
        }
        match self.spinners.tail {
            0 => self.spinners.head = id,
            tail => threads.get_mut(tail).next = id,
        }
        self.spinners.tail = id;
        self.spinners.count += 1;
    }

    /// True if `id` was here before and has made no operation since. At its first time the loop may not have looked at what
    /// it read last: many jump back to the look.
    fn stays_at_point(&self, threads: &mut Threads, id: ThreadId) -> bool {
        let before = core::mem::replace(&mut threads.get_mut(id).spun_at, self.tick);
        before + 1 == self.tick
    }

    /// Takes a thread out of the spinners.
    pub(crate) fn remove_spinner(&mut self, threads: &mut Threads, id: ThreadId) {
        let thread = threads.get_mut(id);
        thread.spinning = false;
        let (prev, next) = (core::mem::take(&mut thread.prev), core::mem::take(&mut thread.next));
        match prev {
            0 => self.spinners.head = next,
            _ => threads.get_mut(prev).next = next,
        }
        match next {
            0 => self.spinners.tail = prev,
            _ => threads.get_mut(next).prev = prev,
        }
        self.spinners.count -= 1;
    }

    /// Queues the spinners that have a reason to look again behind the runnable threads.
    #[cold]
    pub(crate) fn release_spinners(&mut self, threads: &mut Threads) {
        let mut id = self.spinners.head;
        while id != 0 {
            let thread = threads.get(id);
            let next = thread.next;
            let reason = thread.signals_due || self.spinners.worked_at > thread.spun_at;
            if reason || self.spinners.turns_left > 0 {
                self.spinners.turns_left -= u64::from(!reason);
                self.remove_spinner(threads, id);
                self.enqueue(threads, id);
            }
            id = next;
        }
    }
}

impl Kernel {
    /// A thread was seen for long in a loop. `None` if its branch cannot become a spin point, else whether preload is to
    /// stop the thread there in this very stretch, because it comes to no operation.
    pub(crate) fn suspect(&mut self, shared: &Shared, stretch: &Stretch) -> Option<bool> {
        let spinners = &mut self.sched.spinners;
        if spinners.is_full() {
            return None;
        }
        let again = (spinners.suspect, spinners.suspect_thread) == (stretch.branch, stretch.thread);
        let decided = again && spinners.cut_at == self.sched.tick;
        (spinners.suspect, spinners.suspect_thread) = (stretch.branch, stretch.thread);
        // A look that comes later, and finds less, takes nothing back.
        spinners.cut_at = if stretch.spun || decided { self.sched.tick } else { 0 };
        spinners.cuts_inherited = stretch.inherited || decided && spinners.cuts_inherited;
        shared.control.wanted.fetch_or(wanted::CLOSE, Ordering::Relaxed);
        Some(stretch.spun)
    }

    /// At an operation: the branch that is to become a spin point, or 0.
    pub(crate) fn take_suspect(&mut self) -> u64 {
        let spinners = &mut self.sched.spinners;
        let branch = core::mem::take(&mut spinners.suspect);
        spinners.cut_at = 0;
        if spinners.suspect_thread == self.sched.turn { branch } else { 0 }
    }

    /// At `branch`, which is no spin point yet: true if this leader wants to cut its own or even an inherited bubble here.
    pub(crate) fn cuts_at(&self, me: ThreadId, branch: u64, owns_bubble: bool) -> bool {
        let spinners = &self.sched.spinners;
        spinners.suspect == branch
            && spinners.suspect_thread == me
            && spinners.cut_at == self.sched.tick
            && (owns_bubble || spinners.cuts_inherited)
    }

    /// An entry makes `branch` a spin point of the process of `thread`.
    pub(crate) fn learn_spin_point(&mut self, thread: ThreadId, branch: u64) {
        let process = self.process_of(thread);
        self.sched.spinners.learn(process, branch);
    }

    /// The branch that has just become a spin point and is to be armed by `me`, if it is one of its process.
    pub(crate) fn take_arm(&mut self, me: ThreadId) -> u64 {
        let branch = core::mem::take(&mut self.sched.spinners.arm);
        if branch != 0 && self.sched.spinners.knows(self.process_of(me), branch) { branch } else { 0 }
    }

    /// An entry lets spinners go on for so many turns.
    pub(crate) fn allow_turns(&mut self, turns: u64) {
        self.sched.spinners.turns_left = turns;
    }

    /// On a quiescent leader whose spinners wait: turns to allow, and the pause before, nanoseconds.
    pub(crate) fn spin_pause(&mut self) -> Option<(u64, u64)> {
        let spinners = &self.sched.spinners;
        if spinners.count == 0 {
            return None;
        }
        let idle = spinners.allowed != 0 && spinners.allowed_at == spinners.worked_at;
        let turns = if idle { (spinners.allowed * 2).min(MOST_TURNS) } else { FIRST_TURNS };
        Some((turns, turns * PAUSE_PER_TURN_NS))
    }

    /// The leader allowed `turns`.
    pub(crate) fn note_allowed(&mut self, turns: u64) {
        self.sched.spinners.allowed = turns;
        self.sched.spinners.allowed_at = self.sched.spinners.worked_at;
    }
}

impl Call<'_> {
    /// The calling thread is about to take `branch` back to the start of a loop. If that is a spin point, others go first.
    /// `comes_anew` is asked then, and only then, whether the thread has left the loop since it was last here.
    pub fn spin_point(&self, branch: u64, comes_anew: impl FnOnce() -> bool) {
        if !self.is_spin_point(branch) && !self.cut_at(branch) {
            return;
        }
        if comes_anew() {
            self.with(|k| k.threads.get_mut(self.thread()).left_loop = true);
        }
        self.tick();
        let stays = self.with(|k| {
            k.note(self.thread(), Op::Spin, branch, 0);
            let stays = k.sched.stays_at_point(&mut k.threads, self.thread());
            if stays {
                k.sched.queue_spinner(&mut k.threads, self.thread());
            }
            stays
        });
        if stays {
            self.switch();
        }
        self.deliver_signals();
    }

    /// The calling thread left a loop at its `branch`: what it does now may be work, even if it makes no operation.
    pub fn spin_left(&self, branch: u64) {
        if self.is_spin_point(branch) {
            self.with(|k| k.threads.get_mut(self.thread()).left_loop = true);
        }
    }

    fn is_spin_point(&self, branch: u64) -> bool {
        self.with(|k| k.sched.spinners.knows(k.process_of(self.thread()), branch))
    }

    /// Makes `branch` a spin point, if that is decided.
    #[cold]
    fn cut_at(&self, branch: u64) -> bool {
        let shared = self.shared();
        if !shared.upcalls.fits(UPCALL_HEADROOM_BYTES) {
            return false;
        }
        let now = self.now();
        if !self.with(|k| k.cut_at(shared, self.thread(), branch, now)) {
            return false;
        }
        self.arm();
        self.kick();
        self.with(|k| k.took_turn(shared, self.thread()));
        true
    }

    /// Has preload stop threads at a branch that has just become a spin point.
    pub(crate) fn arm(&self) {
        let branch = self.with(|k| k.take_arm(self.thread()));
        if branch != 0 {
            self.platform().arm_spin_point(branch);
        }
    }
}

#[cfg(test)]
mod tests;
