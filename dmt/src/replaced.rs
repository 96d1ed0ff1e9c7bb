//! Files whose content an operator replaces (`brolga signal --replace`): the new bytes are an event in the log, so a replay has
//! the same ones at the same logical time, whatever the host's file is by then.
//!
//! A process of the server may lack the right to write the file, or not see it. So init does it: the thread that applied the
//! event leaves a request in the arena and waits for the answer before the server runs on.

use core::cell::UnsafeCell;

use crate::atomic::{AtomicU32, Ordering};
use crate::bounds::MAX_EVENT_BYTES;
use crate::call::Call;
use crate::digest;
use crate::entry::Event;
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;
use crate::upcall::UpcallKind;

/// Values of a request's state.
mod state {
    /// There is none.
    pub const NONE: u32 = 0;
    /// Init is to carry it out.
    pub const ASKED: u32 = 1;
    /// It did.
    pub const DONE: u32 = 2;
}

/// Bytes in front of the path: its length.
const LENGTH_BYTES: usize = 2;

/// Bytes of a path and the content behind it that one event can carry.
pub const MAX_REPLACED_BYTES: usize = MAX_EVENT_BYTES - LENGTH_BYTES;

/// The request. All zeroes = none.
#[repr(C)]
pub struct FileRequest {
    state: AtomicU32,
    /// Errno of the answer, 0 = done.
    error: AtomicU32,
    inner: UnsafeCell<Inner>,
}

#[repr(C)]
struct Inner {
    id: u64,
    clock: u64,
    len: usize,
    payload: [u8; MAX_EVENT_BYTES],
}

// SAFETY: the holder of the turn writes `inner` while there is no request, init reads it while there is one; the state is
// published with release and read with acquire.
unsafe impl Sync for FileRequest {}

/// What init is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Replacement<'a> {
    /// The file.
    pub path: &'a [u8],
    /// Its new content.
    pub content: &'a [u8],
    /// Virtual clock, nanoseconds: when it changed.
    pub clock: u64,
}

/// The payload of an event in pieces: path and content.
fn parts(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = payload.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// The head of an event's payload; path and content follow. `None` if they do not fit.
pub fn head(path: &[u8], content: &[u8]) -> Option<[u8; LENGTH_BYTES]> {
    let fits = path.len() + content.len() <= MAX_REPLACED_BYTES;
    u16::try_from(path.len()).ok().filter(|_| fits).map(u16::to_le_bytes)
}

impl FileRequest {
    /// The word that init sleeps on while it is `0`, and the server while it is not.
    pub fn word(&self) -> &AtomicU32 {
        &self.state
    }

    /// The request, if there is one. For init.
    pub fn asked(&self) -> Option<Replacement<'_>> {
        if self.state.load(Ordering::Acquire) != state::ASKED {
            return None;
        }
        // SAFETY: see `Sync`; only init answers, and by that ends the use of what is borrowed here.
        let inner = unsafe { &*self.inner.get() };
        let (path, content) = parts(inner.payload.get(..inner.len)?)?;
        Some(Replacement { path, content, clock: inner.clock })
    }

    /// Init did what was asked, or could not: `error` is an errno. Afterwards sleepers are to be woken.
    pub fn answer(&self, error: i32) {
        self.error.store(error as u32, Ordering::Relaxed);
        self.state.store(state::DONE, Ordering::Release);
    }
}

impl Kernel {
    /// The content of a file is to be replaced. If another one is under way in this very entry, the event is lost: who sent it
    /// sends it again until it is heard of.
    pub(crate) fn file_replaced(&mut self, shared: &Shared, event: &Event<'_>) {
        let id = event.header.sequence.get();
        self.digest = digest::mix_bytes(self.digest, event.payload);
        if parts(event.payload).is_none() {
            return self.diverge(shared, "an event that replaces a file has no path");
        }
        if shared.file.state.load(Ordering::Acquire) != state::NONE {
            return;
        }
        if !self.processes.outside.is_new(id) {
            return self.upcall(shared, UpcallKind::Signalled, [id, 0, 0, 0], 0, &[]);
        }
        // SAFETY: see `Sync`; this thread holds the turn, and there is no request.
        let inner = unsafe { &mut *shared.file.inner.get() };
        (inner.id, inner.clock, inner.len) = (id, self.clock(), event.payload.len());
        inner.payload[..event.payload.len()].copy_from_slice(event.payload);
        shared.file.state.store(state::ASKED, Ordering::Release);
    }
}

impl Call<'_> {
    /// Waits for init if the entry that was just applied replaces a file.
    pub(crate) fn await_replacement(&self) {
        let request = &self.shared().file;
        if request.state.load(Ordering::Acquire) == state::NONE {
            return;
        }
        let inside = &self.shared().control.in_kernel;
        inside.store(1, Ordering::SeqCst);
        self.platform().wake(&request.state);
        while request.state.load(Ordering::Acquire) == state::ASKED {
            self.platform().wait(&request.state, state::ASKED, None);
        }
        inside.store(0, Ordering::SeqCst);
        self.room();
        let error = request.error.load(Ordering::Relaxed);
        // SAFETY: see `Sync`; init has answered.
        let id = unsafe { (*request.inner.get()).id };
        request.state.store(state::NONE, Ordering::Release);
        self.with(|k| {
            k.note(self.thread(), Op::Replaced, id, -i64::from(error));
            k.upcall(self.shared(), UpcallKind::Signalled, [id, 0, 0, 0], 0, &[]);
        });
    }
}
