//! The buffer pool: byte queues made of chained blocks, shared by all virtual files of a replica.
//!
//! A queue holds only the blocks that its bytes need; an empty queue holds none.

use crate::bounds::{POOL_BLOCK_BYTES, POOL_BLOCKS};

/// Number of a block, from 1; 0 means none.
type BlockId = u32;

/// A byte queue in the pool. All zeroes is an empty one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Queue {
    head: BlockId,
    tail: BlockId,
    /// Offset of the first byte in the head block.
    start: u32,
    /// Bytes used in the tail block.
    end: u32,
    len: u64,
    /// Bytes that were ever taken from its front.
    taken: u64,
}

impl Queue {
    /// Bytes that were ever taken from its front.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes in the queue.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if it holds no byte, and therefore no block.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The pool. All zeroes is one with every block free.
#[repr(C)]
pub struct Pool {
    bytes: [[u8; POOL_BLOCK_BYTES]; POOL_BLOCKS],
    next: [BlockId; POOL_BLOCKS],
    free: BlockId,
    /// Blocks that were ever taken; those above are free, too, and untouched memory.
    touched: u32,
    used: u64,
}

impl Pool {
    /// Blocks in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that [`Pool::push`] would take at least, given enough free blocks for nobody else.
    pub fn room(&self) -> u64 {
        (POOL_BLOCKS as u64 - self.used) * POOL_BLOCK_BYTES as u64
    }

    fn take(&mut self) -> Option<BlockId> {
        let block = if self.free != 0 {
            let block = self.free;
            self.free = self.next[block as usize - 1];
            block
        } else if (self.touched as usize) < POOL_BLOCKS {
            self.touched += 1;
            self.touched
        } else {
            return None;
        };
        self.next[block as usize - 1] = 0;
        self.used += 1;
        Some(block)
    }

    fn give_back(&mut self, block: BlockId) -> BlockId {
        let next = core::mem::replace(&mut self.next[block as usize - 1], self.free);
        self.free = block;
        self.used -= 1;
        next
    }

    /// Appends as many of `bytes` as there are blocks for; returns how many.
    pub fn push(&mut self, queue: &mut Queue, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            if queue.tail == 0 || queue.end as usize == POOL_BLOCK_BYTES {
                let Some(block) = self.take() else { break };
                if queue.tail == 0 {
                    (queue.head, queue.start) = (block, 0);
                } else {
                    self.next[queue.tail as usize - 1] = block;
                }
                (queue.tail, queue.end) = (block, 0);
            }
            let end = queue.end as usize;
            let now = rest.len().min(POOL_BLOCK_BYTES - end);
            self.bytes[queue.tail as usize - 1][end..end + now].copy_from_slice(&rest[..now]);
            queue.end += now as u32;
            queue.len += now as u64;
            rest = &rest[now..];
        }
        bytes.len() - rest.len()
    }

    /// Copies bytes out without taking them, from the byte `skip` on; returns how many.
    pub fn peek(&self, queue: &Queue, skip: u64, out: &mut [u8]) -> usize {
        let mut at = u64::from(queue.start) + skip;
        let mut block = queue.head;
        while at >= POOL_BLOCK_BYTES as u64 && block != 0 {
            at -= POOL_BLOCK_BYTES as u64;
            block = self.next[block as usize - 1];
        }
        let want = (out.len() as u64).min(queue.len.saturating_sub(skip)) as usize;
        let mut done = 0;
        while done < want {
            let from = at as usize;
            let now = (want - done).min(POOL_BLOCK_BYTES - from);
            out[done..done + now].copy_from_slice(&self.bytes[block as usize - 1][from..from + now]);
            done += now;
            at = 0;
            block = self.next[block as usize - 1];
        }
        want
    }

    /// Takes up to `most` bytes from the front away; returns how many.
    pub fn skip(&mut self, queue: &mut Queue, most: u64) -> u64 {
        let gone = most.min(queue.len);
        queue.taken += gone;
        let mut left = gone;
        while left > 0 {
            let in_block = if queue.head == queue.tail { queue.end } else { POOL_BLOCK_BYTES as u32 };
            let now = left.min(u64::from(in_block - queue.start));
            queue.start += now as u32;
            queue.len -= now;
            left -= now;
            if queue.start == in_block && (queue.head != queue.tail || queue.len == 0) {
                queue.head = self.give_back(queue.head);
                queue.start = 0;
            }
        }
        if queue.len == 0 && gone > 0 {
            (queue.head, queue.tail, queue.start, queue.end) = (0, 0, 0, 0);
        }
        gone
    }

    /// Moves bytes from the front of the queue to `out`; returns how many.
    pub fn pop(&mut self, queue: &mut Queue, out: &mut [u8]) -> usize {
        let copied = self.peek(queue, 0, out);
        self.skip(queue, copied as u64);
        copied
    }

    /// Empties the queue.
    pub fn clear(&mut self, queue: &mut Queue) {
        self.skip(queue, u64::MAX);
    }
}
