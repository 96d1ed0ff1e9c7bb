//! What travels beside the bytes of unix sockets: descriptors (`SCM_RIGHTS`) and the sender (`SCM_CREDENTIALS`).
//!
//! It belongs to a stretch of a socket's input, counted in bytes from the socket's begin. Descriptors arrive with the first
//! byte of their stretch, and no read goes beyond its last, so that two messages' descriptors never arrive together.

use crate::bounds::{MAX_PASSED_DESCRIPTORS, MAX_PASSED_MESSAGES};
use crate::file::abi::{AF_UNIX, ETOOMANYREFS};
use crate::file::options::PASS_CREDENTIALS;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::thread::ThreadId;

/// `struct ucred`: who sent something, or is at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Credentials {
    /// Process.
    pub pid: i32,
    /// Real user.
    pub uid: u32,
    /// Real group.
    pub gid: u32,
}

impl Credentials {
    /// Of nobody.
    pub const NOBODY: Self = Self { pid: 0, uid: u32::MAX, gid: u32::MAX };

    /// As the server reads it.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.pid.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.uid.to_le_bytes());
        bytes[8..].copy_from_slice(&self.gid.to_le_bytes());
        bytes
    }
}

/// What one message carries. A received one holds a reference to each of its files.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Parcel {
    /// The sender, if somebody wants to know.
    pub credentials: Option<Credentials>,
    /// UDP: the address that a received datagram was sent to, or that one is to come from; IPv4-mapped.
    pub local: Option<[u8; 16]>,
    count: u16,
    files: [FileId; MAX_PASSED_DESCRIPTORS],
}

impl Parcel {
    /// Nothing.
    pub const EMPTY: Self =
        Self { credentials: None, local: None, count: 0, files: [0; MAX_PASSED_DESCRIPTORS] };

    /// Adds a file; false at [`MAX_PASSED_DESCRIPTORS`].
    pub fn add(&mut self, file: FileId) -> bool {
        let Some(place) = self.files.get_mut(usize::from(self.count)) else { return false };
        *place = file;
        self.count += 1;
        true
    }

    /// The files in it.
    pub fn files(&self) -> &[FileId] {
        &self.files[..usize::from(self.count)]
    }

    fn is_empty(&self) -> bool {
        self.count == 0 && self.credentials.is_none()
    }
}

/// A parcel on its way.
#[derive(Clone, Copy)]
#[repr(C)]
struct Passed {
    /// Next of the same socket, or in the free list; 0 ends it.
    next: u16,
    used: bool,
    start: u64,
    end: u64,
    parcel: Parcel,
}

/// A socket's parcels, in order.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct PassedList {
    head: u16,
    tail: u16,
}

/// All parcels on their way. All zeroes = none.
#[repr(C)]
pub(crate) struct PassedTable {
    slots: [Passed; MAX_PASSED_MESSAGES],
    free: u16,
    touched: u16,
}

impl PassedTable {
    fn get(&self, id: u16) -> &Passed {
        &self.slots[usize::from(id) - 1]
    }

    fn get_mut(&mut self, id: u16) -> &mut Passed {
        &mut self.slots[usize::from(id) - 1]
    }

    fn has_room(&self) -> bool {
        self.free != 0 || usize::from(self.touched) < MAX_PASSED_MESSAGES
    }

    fn take(&mut self) -> Option<u16> {
        if self.free != 0 {
            let id = self.free;
            self.free = self.get(id).next;
            return Some(id);
        }
        if usize::from(self.touched) == MAX_PASSED_MESSAGES {
            return None;
        }
        self.touched += 1;
        Some(self.touched)
    }
}

impl Kernel {
    /// The process of `me`, as others see it.
    pub(crate) fn credentials_of(&self, me: ThreadId) -> Credentials {
        let process = self.processes.get(self.process_of(me));
        Credentials { pid: process.pid, uid: process.uid, gid: process.gid }
    }

    /// Where the next byte that `id` gets will be counted.
    pub(crate) fn input_end(&self, id: FileId) -> u64 {
        let input = &self.files.get(id).input;
        input.taken() + input.len()
    }

    fn wants_credentials(&self, sender: FileId, target: FileId) -> bool {
        [sender, target].iter().any(|&id| self.option(id, PASS_CREDENTIALS) != 0)
    }

    /// Whether a message from `sender` to `target` carries anything.
    pub(crate) fn carries(&self, sender: FileId, target: FileId, given: &Parcel) -> bool {
        !given.is_empty() || self.wants_credentials(sender, target)
    }

    /// Whether a reader of `id` may get anything.
    pub(crate) fn has_parcels(&self, id: FileId) -> bool {
        self.files.get(id).passed.head != 0 || self.passes(id) && self.option(id, PASS_CREDENTIALS) != 0
    }

    /// What a message from `me` through `sender` to `target` carries beside what the program gave; an error if the table
    /// is full.
    pub(crate) fn complete_parcel(
        &self,
        me: ThreadId,
        sender: FileId,
        target: FileId,
        given: &Parcel,
    ) -> Result<Parcel, i64> {
        let mut parcel = *given;
        if parcel.credentials.is_none() && self.wants_credentials(sender, target) {
            parcel.credentials = Some(self.credentials_of(me));
        }
        if parcel.is_empty() || self.files.passed.has_room() { Ok(parcel) } else { Err(ETOOMANYREFS) }
    }

    /// Whether what is written through `id` may carry something.
    pub(crate) fn passes(&self, id: FileId) -> bool {
        let file = self.files.get(id);
        file.kind == FileKind::Unix && file.socket.domain == AF_UNIX
    }

    /// Sends `parcel` with the bytes of `target`'s input from `start` on. Takes a reference to each file.
    pub(crate) fn attach_parcel(&mut self, target: FileId, start: u64, parcel: &Parcel) {
        let end = self.input_end(target);
        if parcel.is_empty() || end == start {
            return;
        }
        let list = self.files.get(target).passed;
        if list.tail != 0 && parcel.count == 0 {
            // The same sender once more.
            let last = self.files.passed.get_mut(list.tail);
            if last.end == start && last.parcel.count == 0 && last.parcel.credentials == parcel.credentials {
                last.end = end;
                return;
            }
        }
        let Some(id) = self.files.passed.take() else { return };
        for &file in parcel.files() {
            self.hold_file(file);
        }
        *self.files.passed.get_mut(id) = Passed { next: 0, used: true, start, end, parcel: *parcel };
        match list.tail {
            0 => self.files.get_mut(target).passed.head = id,
            tail => self.files.passed.get_mut(tail).next = id,
        }
        self.files.get_mut(target).passed.tail = id;
    }

    /// Bytes that a read of stream `id` may take before it would mix what two senders passed.
    pub(crate) fn passed_limit(&self, id: FileId) -> Option<u64> {
        let file = self.files.get(id);
        let (from, mut at) = (file.input.taken(), file.passed.head);
        let tells = self.option(id, PASS_CREDENTIALS) != 0;
        let mut sender = None;
        while at != 0 {
            let passed = self.files.passed.get(at);
            if passed.parcel.count > 0 {
                return Some(passed.end - from);
            }
            if tells && sender.is_some_and(|known| known != passed.parcel.credentials) {
                return Some(passed.start - from);
            }
            sender = Some(passed.parcel.credentials);
            at = passed.next;
        }
        None
    }

    /// Takes what belongs to the input of `id` from `start` on, of which `bytes` were read (or only looked at, with
    /// `peek`). The references go to the caller.
    pub(crate) fn collect_parcel(&mut self, id: FileId, start: u64, bytes: u64, peek: bool) -> Parcel {
        let mut found = Parcel::EMPTY;
        let mut at = self.files.get(id).passed.head;
        while at != 0 {
            let passed = *self.files.passed.get(at);
            if passed.start >= start + bytes {
                break;
            }
            found.credentials = found.credentials.or(passed.parcel.credentials);
            for &file in passed.parcel.files() {
                if peek {
                    self.hold_file(file);
                }
                found.add(file);
            }
            if !peek {
                self.files.passed.get_mut(at).parcel.count = 0;
                if passed.end <= start + bytes {
                    self.drop_first_parcel(id);
                }
            }
            at = passed.next;
        }
        if self.option(id, PASS_CREDENTIALS) == 0 {
            found.credentials = None;
        } else if found.credentials.is_none() && bytes > 0 {
            found.credentials = Some(Credentials::NOBODY);
        }
        found
    }

    fn drop_first_parcel(&mut self, id: FileId) {
        let first = self.files.get(id).passed.head;
        let next = self.files.passed.get(first).next;
        let list = &mut self.files.get_mut(id).passed;
        list.head = next;
        if next == 0 {
            list.tail = 0;
        }
        let free = self.files.passed.free;
        let slot = self.files.passed.get_mut(first);
        (slot.used, slot.next) = (false, free);
        self.files.passed.free = first;
    }

    /// Lets go of files that nobody takes.
    pub(crate) fn drop_parcel(&mut self, shared: &Shared, parcel: &Parcel) {
        for &file in parcel.files() {
            self.release_file(shared, file);
        }
    }

    /// The socket goes away with what nobody read.
    pub(crate) fn drop_parcels(&mut self, shared: &Shared, id: FileId) {
        while self.files.get(id).passed.head != 0 {
            let parcel = self.files.passed.get(self.files.get(id).passed.head).parcel;
            self.drop_first_parcel(id);
            self.drop_parcel(shared, &parcel);
        }
    }
}
