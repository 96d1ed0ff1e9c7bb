//! A byte ring for one producer and one consumer in different processes, over shared memory.
//!
//! A frame is a multiple of 8 bytes and never wraps: where the ring's end is too near, the producer writes a filler
//! frame first. Cursors are absolute byte counts, so "from..to" names bytes unambiguously for the ring's whole life.
//! A frame starts with its own length (`u32`, all of it, header included) and a `u32` tag of the user's.
//!
//! The consumer's process may be killed at any instant; the cursors then stand at the last whole frame.

use core::cell::UnsafeCell;

use crate::atomic::{AtomicU64, Ordering};

/// Bytes in front of each frame's body: length and tag.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Tag of a filler frame.
pub const TAG_PAD: u32 = u32::MAX;

/// The ring; lives in the arena.
#[repr(C, align(64))]
pub struct Ring<const N: usize> {
    head: AtomicU64,
    _line: [u64; 7],
    tail: AtomicU64,
    _line2: [u64; 7],
    bytes: UnsafeCell<[u8; N]>,
    /// One for each 8 bytes, through which the model checker sees who reads and writes them.
    #[cfg(loom)]
    cells: Vec<loom::cell::UnsafeCell<()>>,
}

// SAFETY: one producer writes only between tail and head+N, one consumer reads only between head and tail; the cursors
// are published with release and read with acquire. That there is one of each is the caller's promise (see `push`).
unsafe impl<const N: usize> Sync for Ring<N> {}

/// A frame that the consumer looks at in place.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The user's tag.
    pub tag: u32,
    /// The body as pushed, without padding of the ring (bodies are multiples of 8).
    pub body: &'a [u8],
    /// Cursor of the frame's first byte.
    pub start: u64,
    /// Cursor behind the frame: pass it to [`Ring::release`].
    pub end: u64,
}

/// What stands in a ring is not a frame: the producer's memory was overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

impl<const N: usize> Ring<N> {
    /// Bytes that the producer may have outstanding at the most.
    pub const CAPACITY: usize = N;

    /// Cursor behind the last published frame.
    pub fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Cursor of the first unreleased frame.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// True if nothing is published and unreleased.
    pub fn is_empty(&self) -> bool {
        self.head() == self.tail()
    }

    /// Whether frames with bodies of `body` bytes fit now. Conservative: a frame may need filler in front.
    pub fn fits(&self, body: usize) -> bool {
        let need = FRAME_HEADER_BYTES + body;
        let used = self.tail().wrapping_sub(self.head()) as usize;
        let to_end = N - (self.tail() as usize % N);
        let filler = if need > to_end { to_end } else { 0 };
        used + filler + need <= N
    }

    /// Appends one frame made of `parts` (their total length rounded up to 8) and publishes it.
    /// Returns false, changing nothing, if it does not fit now.
    ///
    /// # Safety
    /// Only one thread in all processes pushes at a time.
    pub unsafe fn push(&self, tag: u32, parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        // SAFETY: forwarded promise.
        let Some(body) = (unsafe { self.reserve(len) }) else { return false };
        let mut at = 0;
        for part in parts {
            body[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        // SAFETY: `reserve` just returned a body of this length.
        unsafe { self.commit(tag, len) };
        true
    }

    /// Room for a body of `len` bytes, not yet visible to the consumer; publish it with [`Ring::commit`].
    ///
    /// # Safety
    /// Only one thread in all processes pushes at a time.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn reserve(&self, len: usize) -> Option<&mut [u8]> {
        let body = (len + 7) & !7;
        let need = FRAME_HEADER_BYTES + body;
        assert!(need <= N / 2, "frame larger than half the ring");
        if !self.fits(body) {
            return None;
        }
        let (start, filler) = self.place(need);
        if filler > 0 {
            let offset = (start - filler) as usize % N;
            self.note_write(offset, FRAME_HEADER_BYTES);
            self.write_header(offset, filler as u32, TAG_PAD);
        }
        let offset = start as usize % N;
        self.note_write(offset, need);
        // SAFETY: offset + need <= N, and the bytes are free (checked by `fits`), so only the producer touches them.
        Some(unsafe { core::slice::from_raw_parts_mut(self.base().add(offset + FRAME_HEADER_BYTES), body) })
    }

    /// Publishes the frame whose body [`Ring::reserve`] returned. Filler in front becomes visible with it: a ring that is not
    /// empty has a frame.
    ///
    /// # Safety
    /// Directly follows a successful `reserve` of just `len` bytes by the same thread.
    pub unsafe fn commit(&self, tag: u32, len: usize) {
        let need = FRAME_HEADER_BYTES + ((len + 7) & !7);
        let (start, _) = self.place(need);
        self.write_header(start as usize % N, need as u32, tag);
        self.tail.store(start + need as u64, Ordering::SeqCst);
    }

    /// Where the producer's next frame of `need` bytes starts, and the bytes of filler in front of it.
    fn place(&self, need: usize) -> (u64, u64) {
        let tail = self.tail.load(Ordering::Relaxed);
        let to_end = N - tail as usize % N;
        let filler = if need > to_end { to_end as u64 } else { 0 };
        (tail + filler, filler)
    }

    /// The first frame at or after cursor `from` (filler is skipped), or `None` if none is published yet.
    /// The frame stays valid until [`Ring::release`] passes it.
    ///
    /// # Safety
    /// Only the consumer calls it, and `from` is `head()` or the `end` of a frame that it got and nobody released.
    pub unsafe fn peek(&self, from: u64) -> Option<Frame<'_>> {
        // SAFETY: forwarded promise.
        unsafe { self.try_peek(from) }.expect("corrupt ring frame")
    }

    /// [`Ring::peek`] for a consumer that must survive a producer which writes nonsense.
    ///
    /// # Safety
    /// As for `peek`.
    pub unsafe fn try_peek(&self, mut from: u64) -> Result<Option<Frame<'_>>, Corrupt> {
        loop {
            let tail = self.tail.load(Ordering::Acquire);
            if from >= tail {
                return Ok(None);
            }
            if !from.is_multiple_of(8) || tail - from > N as u64 {
                return Err(Corrupt);
            }
            let offset = from as usize % N;
            self.note_read(offset, FRAME_HEADER_BYTES);
            // SAFETY: from < tail, so a whole header is published at offset; headers are 8-aligned and never wrap.
            let (len, tag) = unsafe {
                let at = self.base().add(offset).cast::<u32>();
                (at.read(), at.add(1).read())
            };
            let end = from + u64::from(len);
            if len < 8 || len % 8 != 0 || end > tail || offset + len as usize > N {
                return Err(Corrupt);
            }
            if tag == TAG_PAD {
                from = end;
                continue;
            }
            self.note_read(offset, len as usize);
            // SAFETY: bounds checked; the producer does not touch bytes before they are released.
            let body = unsafe {
                core::slice::from_raw_parts(
                    self.base().add(offset + FRAME_HEADER_BYTES),
                    len as usize - FRAME_HEADER_BYTES,
                )
            };
            return Ok(Some(Frame { tag, body, start: from, end }));
        }
    }

    /// Gives all bytes before cursor `to` back to the producer.
    pub fn release(&self, to: u64) {
        #[cfg(loom)]
        (self.head()..to).step_by(8).for_each(|at| self.note_read(at as usize % N, 8));
        debug_assert!(to <= self.tail());
        self.head.store(to, Ordering::Release);
    }

    #[cfg(loom)]
    fn note_write(&self, offset: usize, len: usize) {
        self.cells[offset / 8..(offset + len) / 8].iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    #[cfg(loom)]
    fn note_read(&self, offset: usize, len: usize) {
        self.cells[offset / 8..(offset + len) / 8].iter().for_each(|cell| cell.with(|_| ()));
    }

    #[cfg(not(loom))]
    #[inline]
    fn note_write(&self, _: usize, _: usize) {}

    #[cfg(not(loom))]
    #[inline]
    fn note_read(&self, _: usize, _: usize) {}

    /// An empty ring.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            head: AtomicU64::new(0),
            _line: [0; 7],
            tail: AtomicU64::new(0),
            _line2: [0; 7],
            bytes: UnsafeCell::new([0; N]),
            cells: (0..N / 8).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    fn base(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    fn write_header(&self, offset: usize, len: u32, tag: u32) {
        debug_assert!(offset + FRAME_HEADER_BYTES <= N);
        // SAFETY: the caller checked that the producer owns these bytes; offset is 8-aligned.
        unsafe {
            let at = self.base().add(offset).cast::<u32>();
            at.write(len);
            at.add(1).write(tag);
        }
    }
}
