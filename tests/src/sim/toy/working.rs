//! The threads that execute requests, and the one that ends their spins.

use dmt::file::abi::{AF_INET, IoVec, SOCK_STREAM};

use super::{
    ABROAD, APPEND, BULK_BYTES, BULK_PIECE, DOWNLOAD, Job, REPLY_BYTES, Thread, UPLOAD, extend_hash, internet,
};

impl Thread<'_> {
    pub(super) fn work(&self) {
        loop {
            self.lock(self.queue_lock());
            let job = loop {
                match self.toy().queue.pop_front() {
                    Some(job) => break job,
                    None => self.wait(false),
                }
            };
            self.unlock(self.queue_lock());
            self.think(job.id);
            let reply = self.execute(job);
            self.answer(job.fd, &reply, job.kind == DOWNLOAD);
        }
    }

    /// What a request costs before it touches the list.
    fn think(&self, id: u64) {
        let config = self.toy().config;
        self.compute(1_000 + id % 7 * 1_500);
        if config.call_every > 0 && id.is_multiple_of(config.call_every) {
            self.call_abroad(id);
        }
        if config.long_every > 0 && id.is_multiple_of(config.long_every) {
            self.compute(config.long_ns);
        }
        if config.spin_every > 0 && id.is_multiple_of(config.spin_every) {
            self.lock(self.queue_lock());
            self.toy().spins_wanted += 1;
            let ticket = self.toy().spins_wanted;
            self.signal(true);
            self.unlock(self.queue_lock());
            let waits = || self.toy().spins_done < ticket;
            while self.platform.spin(self.call, 10_000, config.spin_branch, waits) {}
        }
    }

    fn execute(&self, job: Job) -> [u8; REPLY_BYTES] {
        self.lock(self.list_lock());
        if job.kind == APPEND || job.kind == UPLOAD {
            let before = self.toy().hash;
            // A lost update if another thread could get in between.
            self.compute(2_000);
            self.toy().hash = extend_hash(before, job.id);
            self.toy().list.push(job.id);
        }
        let clock = self.call.with(|k| k.clock());
        let toy = self.toy();
        let words = [job.id, toy.list.len() as u64, toy.hash, clock];
        self.unlock(self.list_lock());
        let mut reply = [0; REPLY_BYTES];
        for (bytes, word) in reply.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        reply
    }

    fn answer(&self, fd: i32, reply: &[u8; REPLY_BYTES], download: bool) {
        self.compute(500);
        let mut reply = *reply;
        if self.send(fd, &mut reply) && download {
            // On the stack or static: the fiber of a killed server is forgotten with all that it owns.
            for _ in 0..BULK_BYTES / BULK_PIECE.len() {
                if !self.send(fd, &mut { BULK_PIECE }) {
                    break;
                }
            }
        }
        self.lock(self.queue_lock());
        self.connection(fd).jobs -= 1;
        self.close_if_done(fd);
        self.unlock(self.queue_lock());
    }

    /// Writes all of it; false if the client is gone, which a server ignores.
    fn send(&self, fd: i32, mut left: &mut [u8]) -> bool {
        while !left.is_empty() {
            let iov = [IoVec { base: left.as_mut_ptr(), len: left.len() }];
            // SAFETY: the vector describes `left`. A connection with a job is not closed, so the descriptor is right.
            let count = unsafe { self.call.write(fd, &iov) };
            if count <= 0 {
                return false;
            }
            left = &mut left[count as usize..];
        }
        true
    }

    pub(super) fn help(&self) {
        loop {
            self.lock(self.queue_lock());
            while self.toy().spins_done == self.toy().spins_wanted {
                self.wait(true);
            }
            self.unlock(self.queue_lock());
            self.compute(5_000);
            self.toy().spins_done += 1;
        }
    }

    /// Tells a host outside of a request, and waits for its word; a connection that ends is not made again.
    fn call_abroad(&self, id: u64) {
        let fd = self.install(self.call.socket(AF_INET, SOCK_STREAM, 0));
        if self.call.connect(fd, &internet(ABROAD.0, ABROAD.1)) == 0 && self.send(fd, &mut id.to_le_bytes()) {
            let mut bytes = [0u8; 8];
            let iov = [IoVec { base: bytes.as_mut_ptr(), len: 8 }];
            // SAFETY: the vector describes `bytes`, which nobody else knows.
            unsafe { self.call.read(fd, &iov) };
        }
        self.close(fd);
    }
}
