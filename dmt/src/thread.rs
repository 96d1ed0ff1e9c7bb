//! The thread table: one slot for each thread of each process of the server.
use crate::bounds::MAX_THREADS;
use crate::context::Context;
use crate::grant::Grant;

/// Number of a thread slot, from 1; 0 means none.
pub type ThreadId = u16;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ThreadState {
    /// The slot is free.
    Free = 0,
    /// In the run queue, or holding the turn.
    Runnable = 1,
    /// Waits in the parking lot.
    Waiting = 2,
    /// Ended; a joiner has not yet collected it.
    Ended = 3,
}

/// Why a waiting thread was made runnable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wake {
    /// It was not waiting, or has already looked.
    None = 0,
    /// What it waited for may be there.
    Event = 1,
    /// Its deadline passed.
    Timeout = 2,
    /// A signal is to be delivered to it.
    Signal = 3,
}

/// Files that a thread in poll or select can name exactly; with more, it wakes on every file's change.
pub const POLL_FILES: usize = 16;

/// Threads that are created, all processes together, before the slot of a thread that was killed is used again. Its
/// real thread is by then long gone: whoever killed it is already inside its last system call.
const REST_SERIALS: u32 = 256;

/// One slot.
#[repr(C, align(64))]
pub struct Thread {
    /// 1 = this thread has been given the turn; its futex word.
    pub granted: Grant,
    /// What it is doing.
    pub state: ThreadState,
    /// Why it was last woken; read by [`crate::kernel::Kernel::take_wake`].
    pub wake: Wake,
    /// 1 if nobody will join it.
    pub detached: bool,
    /// A signal may have to be taken by it; see [`crate::process::delivery`].
    pub(crate) signals_due: bool,
    /// Its process is stopped: it gets no turn.
    pub(crate) stopped: bool,
    /// It is runnable, and in no queue until its process goes on.
    pub(crate) held: bool,
    /// It stands at a spin point, and is not in the run queue.
    pub(crate) spinning: bool,
    /// It has left a spin loop since it last stood at a spin point.
    pub(crate) left_loop: bool,
    /// Neighbours in the run queue or a parking-lot bucket; 0 ends the list.
    pub(crate) next: ThreadId,
    pub(crate) prev: ThreadId,
    /// Process slot.
    pub process: u16,
    /// What it waits for, if it waits.
    pub(crate) key: crate::park::WaitKey,
    /// Its armed deadline, a timer slot, or 0.
    pub(crate) timer: u16,
    /// Bits that a futex waker must share with it.
    pub futex_bits: u32,
    /// Distinguishes the lives of a slot; never 0 in use.
    pub serial: u32,
    /// Thread id: of a process's first thread the process id, of others [`Threads::new_tid`]; 0 until it is known.
    pub tid: i32,
    /// Where it goes on, if it is carried: a note of the platform.
    pub context: Context,
    /// Start routine and its argument (addresses in its process), kept here until it starts.
    pub start: [u64; 2],
    /// Its `pthread_t`, for joins and kills.
    pub handle: u64,
    /// What it returned.
    pub result: u64,
    /// Signals that it blocks.
    pub signal_mask: u64,
    /// Signals sent to this thread and not yet delivered.
    pub signal_pending: u64,
    /// Whether it was asked to end, and may be.
    pub(crate) cancel: crate::process::cancel::Cancel,
    /// Signals that it is in sigwait for, or 0.
    pub(crate) waits_for: u64,
    /// Logical time that it had the turn, ticks, before the current turn.
    pub(crate) ticks: u64,
    /// While free: not used again before [`Threads`] gave out this serial.
    rests_until: u32,
    /// Tick at which it last asked for something; FIFO order of wakes.
    pub arrival: u64,
    /// Mutex that it locked and unlocked with nothing in between, the last time that it unlocked one; kept once a thread
    /// was preempted.
    pub(crate) idle_pair: u64,
    /// Tick at which that was.
    pub(crate) idle_at: u64,
    /// How often it did so in a row before.
    pub(crate) idle_pairs: u32,
    /// Tick at which it last locked a mutex, kept likewise.
    pub(crate) locked_at: u64,
    /// Tick at which it was last at a spin point.
    pub(crate) spun_at: u64,
    /// Tick at which its time slice ends.
    pub(crate) slice_end: u64,
    /// Files that it polls; [`u32::MAX`] in the first place means any file.
    pub poll_files: [u32; POLL_FILES],
    /// It waits for a robust mutex.
    pub(crate) waits_robust: bool,
    /// Process that has the record lock which it waits for, or 0.
    pub(crate) lock_holder: i32,
    /// File that its waiting operation holds, so that the end of its process can let go of it; 0 = none.
    pub(crate) held_file: u32,
    /// A word for the operation in progress to keep across waits (bytes already moved, for example).
    pub scratch: u64,
}

/// The table. Slots are found by lowest free number, which is deterministic because only the turn holder looks.
#[repr(C)]
pub struct Threads {
    slots: [Thread; MAX_THREADS],
    next_serial: u32,
    last_tid: i32,
    highest: u16,
}

/// Above all ids that the kernel gives to processes (`PID_MAX_LIMIT`), so the two never meet.
const FIRST_TID: i32 = 1 << 22;
/// Ids of threads are below this, for they must fit into a futex word (`FUTEX_TID_MASK`).
const LAST_TID: i32 = (1 << 30) - 1;

impl Threads {
    /// Offset of the first slot.
    pub(crate) const SLOTS: usize = core::mem::offset_of!(Self, slots);

    /// The slot of thread `id` (1-based).
    #[inline]
    pub fn get(&self, id: ThreadId) -> &Thread {
        &self.slots[id as usize - 1]
    }

    /// The slot of thread `id` (1-based), to change.
    #[inline]
    pub fn get_mut(&mut self, id: ThreadId) -> &mut Thread {
        &mut self.slots[id as usize - 1]
    }

    /// Takes the lowest free slot for a thread of `process`; `None` at [`MAX_THREADS`].
    pub fn allocate(&mut self, process: u16) -> Option<ThreadId> {
        let free = |t: &Thread| t.state == ThreadState::Free;
        let rested = self.slots.iter().position(|t| free(t) && t.rests_until <= self.next_serial);
        let index = rested.or_else(|| self.slots.iter().position(free))?;
        self.next_serial += 1;
        let serial = self.next_serial;
        let slot = &mut self.slots[index];
        // SAFETY: an all-zero Thread is valid: enums have a zero variant, the rest is integers.
        *slot = unsafe { core::mem::zeroed() };
        slot.process = process;
        slot.serial = serial;
        slot.state = ThreadState::Waiting;
        self.highest = self.highest.max(index as u16 + 1);
        Some(index as ThreadId + 1)
    }

    /// An id for a thread that is not its process's first. One is used again only after all others.
    pub(crate) fn new_tid(&mut self) -> i32 {
        self.last_tid =
            if (FIRST_TID..LAST_TID).contains(&self.last_tid) { self.last_tid + 1 } else { FIRST_TID };
        self.last_tid
    }

    /// Frees a slot.
    pub fn release(&mut self, id: ThreadId) {
        self.get_mut(id).state = ThreadState::Free;
    }

    /// Lets a free slot rest whose real thread still sleeps on it, because its process was ended by another thread.
    pub(crate) fn retire(&mut self, id: ThreadId) {
        self.get_mut(id).rests_until = self.next_serial + REST_SERIALS;
    }

    /// All thread numbers that were ever in use, in order.
    pub fn ids(&self) -> impl Iterator<Item = ThreadId> + use<> {
        1..=self.highest
    }

    /// The live thread with this kernel id, if any.
    pub fn by_tid(&self, tid: i32) -> Option<ThreadId> {
        self.ids().find(|&id| {
            let thread = self.get(id);
            thread.tid == tid && !matches!(thread.state, ThreadState::Free | ThreadState::Ended)
        })
    }
}

// What `allocate` relies on: a zero discriminant exists for each enum in a Thread.
const _: () = assert!(ThreadState::Free as u8 == 0 && Wake::None as u8 == 0);

#[cfg(test)]
mod tests {
    use super::{FIRST_TID, LAST_TID};
    use crate::testing::Server;

    #[test]
    fn ids_of_threads_are_none_of_a_process_and_fit_into_a_futex_word() {
        const FUTEX_TID_MASK: i32 = 0x3fff_ffff;
        let (server, _link) = Server::leader(100);
        // SAFETY: no thread of the server runs.
        let threads = unsafe { &mut (*server.arena.kernel()).threads };
        assert_eq!((threads.new_tid(), threads.new_tid()), (FIRST_TID, FIRST_TID + 1));
        threads.last_tid = LAST_TID - 1;
        assert_eq!((threads.new_tid(), threads.new_tid()), (LAST_TID, FIRST_TID));
        assert_eq!(LAST_TID & FUTEX_TID_MASK, LAST_TID);
    }
}
