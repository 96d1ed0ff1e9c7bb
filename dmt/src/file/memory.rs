//! The server's memory that a call reads from or writes to, as a cursor over its `iovec`s.

use crate::file::abi::IoVec;

/// A cursor over the memory of one call.
pub(crate) struct UserMemory<'a> {
    iov: &'a [IoVec],
    index: usize,
    offset: usize,
    left: usize,
    done: usize,
}

impl<'a> UserMemory<'a> {
    /// A cursor at the start of `iov`; `None` if the lengths add up to more than the kernel takes in one call.
    ///
    /// # Safety
    /// Until the cursor is dropped, each of `iov` is memory of the calling process that may be read (and written, if
    /// [`UserMemory::target`] is used) and that nobody else writes meanwhile: the caller holds the turn.
    pub(crate) unsafe fn new(iov: &'a [IoVec]) -> Option<Self> {
        let mut left = 0usize;
        for piece in iov {
            left = left.checked_add(piece.len)?;
        }
        (left <= isize::MAX as usize).then_some(Self { iov, index: 0, offset: 0, left, done: 0 })
    }

    /// Another cursor at the same place.
    pub(crate) fn again(&self) -> Self {
        Self { ..*self }
    }

    /// Bytes not yet passed.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Ends the cursor after `most` more bytes.
    pub(crate) fn limit(&mut self, most: u64) {
        self.left = self.left.min(usize::try_from(most).unwrap_or(usize::MAX));
    }

    /// Bytes passed.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    fn advance(&mut self, most: usize) -> (*mut u8, usize) {
        while self.index < self.iov.len() && self.offset == self.iov[self.index].len {
            (self.index, self.offset) = (self.index + 1, 0);
        }
        let Some(piece) = self.iov.get(self.index) else {
            return (core::ptr::NonNull::dangling().as_ptr(), 0);
        };
        let len = most.min(piece.len - self.offset).min(self.left);
        let start = piece.base.wrapping_add(self.offset);
        self.offset += len;
        self.left -= len;
        self.done += len;
        (start, len)
    }

    /// The next bytes to read, `most` at the most; empty only at the end (or if `most` is 0).
    pub(crate) fn source(&mut self, most: usize) -> &'a [u8] {
        let (start, len) = self.advance(most);
        if len == 0 {
            return &[];
        }
        // SAFETY: promise of `new`; the piece is inside one iovec and not empty.
        unsafe { core::slice::from_raw_parts(start, len) }
    }

    /// The next bytes to fill, `most` at the most; empty only at the end (or if `most` is 0).
    pub(crate) fn target(&mut self, most: usize) -> &'a mut [u8] {
        let (start, len) = self.advance(most);
        if len == 0 {
            return &mut [];
        }
        // SAFETY: promise of `new`; pieces of one cursor do not overlap, unless the server's iovecs do, and then each
        // returned slice is dead before the next is made.
        unsafe { core::slice::from_raw_parts_mut(start, len) }
    }

    /// Passes the last `bytes` of the piece just returned once more.
    pub(crate) fn step_back(&mut self, bytes: usize) {
        self.offset -= bytes;
        self.left += bytes;
        self.done -= bytes;
    }

    /// The next eight bytes as a number, without passing them.
    pub(crate) fn peek_u64(&self) -> Option<u64> {
        let mut ahead = self.again();
        let mut bytes = [0; 8];
        let mut at = 0;
        while at < 8 {
            let piece = ahead.source(8 - at);
            if piece.is_empty() {
                return None;
            }
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        Some(u64::from_le_bytes(bytes))
    }
}
