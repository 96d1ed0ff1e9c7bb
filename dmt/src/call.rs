//! The thin layer between a real thread and the pure kernel: takes an operation through tick, tries and parking.
//!
//! A [`Call`] belongs to one thread. Except in [`Call::start`], the caller holds the turn when it enters a method and
//! holds it again when the method returns; in between other threads, also of other processes, may have run. Therefore
//! no reference into the kernel lives across a park: each try borrows it anew from the raw pointer.
//!
//! Callable in a signal handler only if the interrupted code was not inside dmt; preload's guard sees to that.

use core::ffi::c_void;

use crate::admission::Next;
use crate::arena::Arena;
use crate::atomic::Ordering;
use crate::grant::Grant;
use crate::kernel::{Kernel, Step};
use crate::link::Shared;
use crate::op::Op;
use crate::platform::Platform;
use crate::process::delivery::is_interruptible;
use crate::thread::{ThreadId, ThreadState};

/// Free bytes of the upcall ring that an operation may count on. More than any single operation writes.
pub const UPCALL_HEADROOM_BYTES: usize = 1 << 20;

/// One thread's access to the kernel.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    arena: &'a Arena,
    platform: &'a dyn Platform,
    me: ThreadId,
}

impl<'a> Call<'a> {
    /// Access for thread `me`.
    pub fn new(arena: &'a Arena, platform: &'a dyn Platform, me: ThreadId) -> Self {
        Self { arena, platform, me }
    }

    /// The calling thread.
    pub fn thread(&self) -> ThreadId {
        self.me
    }

    /// The world outside.
    pub(crate) fn platform(&self) -> &'a dyn Platform {
        self.platform
    }

    /// The time for an entry that is made now; for a leader.
    pub(crate) fn now(&self) -> u64 {
        let control = &self.shared().control;
        let real = self.platform.real_time().wrapping_add(control.clock_shift.load(Ordering::Relaxed));
        control.leader_time(real)
    }

    /// What the coordinator shares.
    pub fn shared(&self) -> &'a Shared {
        &self.arena.shared
    }

    /// Runs `f` on the kernel, once, without a tick: for reads and bookkeeping that no other thread can observe.
    #[inline]
    pub fn with<T>(&self, f: impl FnOnce(&mut Kernel) -> T) -> T {
        // SAFETY: this thread holds the turn (module contract), so nobody else looks at the kernel, and `f` cannot park.
        f(unsafe { &mut *self.arena.kernel() })
    }

    /// Carries out one scheduled operation: a tick, then tries of `f` until it is done.
    #[inline]
    pub fn op<T: Copy + Into<i64>>(
        &self,
        op: Op,
        object: u64,
        mut f: impl FnMut(&mut Kernel, ThreadId) -> Step<T>,
    ) -> T {
        self.tick();
        loop {
            match self.with(|k| f(k, self.me)) {
                Step::Done(value) => {
                    self.with(|k| k.note(self.me, op, object, value.into()));
                    self.deliver_signals();
                    return value;
                }
                Step::Block => self.park(),
                Step::Restart => self.handle_within(),
            }
        }
    }

    /// An operation that cannot block.
    #[inline]
    pub fn quick<T: Copy + Into<i64>>(
        &self,
        op: Op,
        object: u64,
        f: impl FnOnce(&mut Kernel, ThreadId) -> T,
    ) -> T {
        self.tick();
        let value = self.with(|k| {
            let value = f(k, self.me);
            k.note(self.me, op, object, value.into());
            value
        });
        self.deliver_signals();
        value
    }

    /// Advances logical time by one, after whatever has to happen before: a new entry, the end of the time slice.
    #[inline]
    pub fn tick(&self) {
        self.apart(|| self.tick_here());
    }

    #[inline]
    fn tick_here(&self) {
        let stop = self.with(|k| k.sched.tick >= k.sched.stop_at);
        if stop || self.shared().control.wanted.load(Ordering::Relaxed) != 0 {
            self.stop();
        }
        if self.shared().control.tracing.load(Ordering::Relaxed) != 0 {
            self.stream();
        }
        let tick = self.with(|k| {
            k.sched.tick += 1;
            k.sched.tick
        });
        self.shared().control.tick.store(tick, Ordering::Relaxed);
    }

    /// Runs `f` where it leaves nothing on the program's stack. To be called always, not only if there is something to do:
    /// the call itself leaves something.
    #[inline]
    pub fn apart<T, F: FnOnce() -> T>(&self, f: F) -> T {
        unsafe extern "C" fn run<T, F: FnOnce() -> T>(data: *mut c_void) {
            // SAFETY: the pointer that is made below.
            let (f, result) = unsafe { &mut *data.cast::<(Option<F>, Option<T>)>() };
            *result = f.take().map(|f| f());
        }
        let mut data = (Some(f), None);
        // SAFETY: the data live until the call returns.
        unsafe { self.platform.apart(self.me, run::<T, F>, (&raw mut data).cast()) };
        data.1.expect("the platform calls it")
    }

    #[cold]
    fn stop(&self) {
        loop {
            self.room();
            let seen = self.shared().control.inbound.load(Ordering::SeqCst);
            match self.with(|k| k.advance(self.shared(), false, &|| self.now())) {
                Next::Applied => {
                    self.await_replacement();
                    self.arm();
                    self.give_way_if_behind();
                    self.kick();
                    if self.with(|k| k.take_rotation(self.me)) {
                        self.switch();
                    }
                    continue;
                }
                Next::Wait(timeout) => {
                    self.await_coordinator(seen, timeout);
                    continue;
                }
                Next::Halt => self.halt(),
                Next::Run => {}
            }
            if self.with(|k| k.slice_is_over(self.me)) {
                self.switch();
            } else if self.with(|k| k.set_stop(self.shared(), self.me)) {
                return;
            }
        }
    }

    /// Gives the turn away after the thread was queued or parked, and returns when it comes back.
    ///
    /// A signal that is due ends the wait. In a wait that does not end with `EINTR` its handler runs in here, so the
    /// caller need only look again at what it waits for.
    pub fn park(&self) {
        let space = self.with(|k| {
            let space = k.threads.get(self.me).key.space;
            k.wake_if_signalled(self.me);
            space
        });
        self.switch();
        if !is_interruptible(space) && self.with(|k| k.signal_due(self.me)) {
            self.handle_within();
        }
    }

    /// Runs handlers in the middle of an operation, whose notes in the thread's slot their operations must not change.
    #[cold]
    fn handle_within(&self) {
        let (wake, scratch, bits, files) = self.with(|k| {
            let thread = k.threads.get(self.me);
            (thread.wake, thread.scratch, thread.futex_bits, thread.poll_files)
        });
        self.deliver_signals();
        self.with(|k| {
            let thread = k.threads.get_mut(self.me);
            (thread.wake, thread.scratch, thread.futex_bits, thread.poll_files) =
                (wake, scratch, bits, files);
        });
    }

    pub(crate) fn switch(&self) {
        self.apart(|| {
            match self.hand_over() {
                Some(next) if next == self.me => {}
                Some(next) if self.carries(next) => self.change(next),
                Some(next) => {
                    let word = self.grant_word(self.me);
                    self.grant(next);
                    self.await_turn(word);
                }
                None => self.await_turn(self.grant_word(self.me)),
            }
            self.with(|k| k.took_turn(self.shared(), self.me));
        });
    }

    /// Whether the thread of the kernel that carries this thread carries `other`, too.
    fn carries(&self, other: ThreadId) -> bool {
        self.platform.carries() && self.with(|k| k.process_of(other) == k.process_of(self.me))
    }

    fn change(&self, next: ThreadId) {
        self.platform.change(self.me, next);
        self.platform.took_turn();
    }

    /// Chooses the next holder of the turn, making entries while nobody can run. `None` = this was the last
    /// thread of the last process.
    fn hand_over(&self) -> Option<ThreadId> {
        loop {
            if let Some(next) = self.with(|k| k.pick(self.shared())) {
                if next != self.me {
                    self.kick_between_threads();
                }
                return Some(next);
            }
            if self.with(|k| k.nobody_is_left(self.me)) {
                return None;
            }
            self.room();
            let seen = self.shared().control.inbound.load(Ordering::SeqCst);
            match self.with(|k| k.advance(self.shared(), true, &|| self.now())) {
                Next::Applied => {
                    self.await_replacement();
                    self.arm();
                    self.give_way_if_behind();
                }
                Next::Run => {}
                Next::Wait(timeout) => self.await_coordinator(seen, timeout),
                Next::Halt => self.halt(),
            }
        }
    }

    fn grant(&self, next: ThreadId) {
        self.with(|k| {
            let process = k.process_of(next);
            let slot = k.processes.get(process);
            let place = self.platform.bring(slot.pid, slot.place, &k.processors);
            k.processes.get_mut(process).place = place;
        });
        self.grant_word(next).give(self.platform);
    }

    /// Where `thread`, or who carries it, waits for the turn.
    fn grant_word(&self, thread: ThreadId) -> &'a Grant {
        // SAFETY: the word is in the arena, which outlives every Call; it is atomic, so sharing it with its thread is fine.
        unsafe { &*Kernel::grant_word(self.arena.kernel(), thread, self.platform.carries()) }
    }

    fn await_turn(&self, word: &Grant) {
        word.take(self.platform);
        self.platform.took_turn();
        let turn = self.with(|k| k.sched.turn);
        if self.platform.carries() && turn != self.me {
            self.change(turn);
        }
    }

    pub(crate) fn halt(&self) -> ! {
        self.platform.kick_coordinator();
        loop {
            self.platform.wait(&self.shared().control.halt, 1, None);
        }
    }

    /// A new thread's first act, if it is not carried by one that exists: waits for its first turn. The creator made it runnable.
    pub fn start(&self) {
        self.apart(|| {
            self.await_turn(self.grant_word(self.me));
            self.with(|k| k.took_turn(self.shared(), self.me));
        });
        self.with(|k| k.note(self.me, Op::ThreadStart, u64::from(self.me), 0));
    }

    /// A carried thread's first act: it has the turn.
    pub fn start_carried(&self) {
        self.apart(|| {
            self.platform.took_turn();
            self.with(|k| k.took_turn(self.shared(), self.me));
        });
        self.with(|k| k.note(self.me, Op::ThreadStart, u64::from(self.me), 0));
    }

    /// The first thread of the first process takes the turn: nobody else exists. It waits for entry 0.
    pub fn start_first(&self) {
        self.with(|k| {
            k.threads.get_mut(self.me).state = ThreadState::Runnable;
            k.hold_turn(self.shared(), self.me);
        });
        self.with(|k| k.took_turn(self.shared(), self.me));
        // Before the first entry: a leader may close the bubble of that at once, and its followers behind the note.
        self.with(|k| k.note(self.me, Op::ThreadStart, u64::from(self.me), 0));
        self.apart(|| self.stop());
    }

    /// Gives the turn away for good: the thread (or its process) has ended in the kernel's eyes.
    pub fn leave(&self) {
        self.apart(|| {
            if let Some(next) = self.hand_over() {
                self.grant(next);
            }
        });
    }

    /// As [`Call::leave`] of a thread whose `process` has others. Does not return if one carrier has them all.
    pub(crate) fn leave_to_others(&self, process: u16) {
        if !self.platform.carries() {
            return self.leave();
        }
        self.apart(|| {
            // This thread's slot may be another's as soon as somebody else has the turn.
            // SAFETY: as in `grant_word`.
            let word = unsafe { &*Kernel::carrier_word(self.arena.kernel(), process) };
            let next = self.hand_over().expect("the process has other threads");
            if self.with(|k| k.process_of(next)) != process {
                self.grant(next);
                word.take(self.platform);
                self.platform.took_turn();
            }
            self.platform.go_on(self.with(|k| k.sched.turn))
        })
    }

    /// Passes the turn to the next runnable thread, if there is one.
    pub fn yield_turn(&self) {
        self.tick();
        self.with(|k| k.note(self.me, Op::Yield, 0, 0));
        self.give_way();
        self.deliver_signals();
    }

    /// Lets the other runnable threads go first.
    pub(crate) fn give_way(&self) {
        if self.with(|k| k.rotate(self.me)) {
            self.switch();
        }
    }

    /// Hands signals that are due to the kernel, which runs their handlers before this returns.
    #[inline]
    pub fn deliver_signals(&self) {
        while self.with(|k| k.threads.get(self.me).signals_due) {
            self.stand_still();
            if let Some(signal) = self.with(|k| k.next_signal(self.me)) {
                self.platform.deliver(&signal);
            }
        }
    }

    /// Waits here as long as this process is stopped.
    #[cold]
    fn stand_still(&self) {
        while self.with(|k| k.is_stopped(self.me)) {
            self.with(|k| k.sched.enqueue(&mut k.threads, self.me));
            self.switch();
        }
    }
}
