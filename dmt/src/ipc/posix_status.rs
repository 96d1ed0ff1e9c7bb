//! What `read` gives of an open message queue: one line about its bytes and about who wants to be told, as files of the
//! kernel's mqueue file system have it.

use crate::file::FileId;
use crate::file::abi::{EBADF, O_WRONLY};
use crate::file::memory::UserMemory;
use crate::kernel::Kernel;
use crate::process::abi::SIGEV_SIGNAL;

/// Bytes of the longest line.
const MAX_LINE_BYTES: usize = 80;

struct Line {
    bytes: [u8; MAX_LINE_BYTES],
    used: usize,
}

impl Line {
    fn push(&mut self, byte: u8) {
        self.bytes[self.used] = byte;
        self.used += 1;
    }

    /// `key:` and a number, filled up with blanks to `width`.
    fn field(&mut self, key: &[u8], value: u64, width: usize) {
        key.iter().for_each(|&byte| self.push(byte));
        let from = self.used;
        let mut power = 1;
        while value / power >= 10 {
            power *= 10;
        }
        while power > 0 {
            self.push(b'0' + (value / power % 10) as u8);
            power /= 10;
        }
        while self.used < from + width {
            self.push(b' ');
        }
    }
}

impl Kernel {
    fn posix_status(&mut self, at: usize) -> Line {
        let (mut id, mut bytes) = (self.posix(at).head, 0);
        while id != 0 {
            let message = self.ipc.queues.message(id);
            bytes += message.bytes.len();
            id = message.next;
        }
        let queue = self.posix(at);
        let (told, notice) = (queue.told, queue.notice);
        let (mut how, mut signal, mut pid) = (0, 0, 0);
        if told != 0 {
            (how, pid) = (notice.how, self.processes.get(told).pid);
            signal = if how == SIGEV_SIGNAL { notice.signal } else { 0 };
        }
        let mut line = Line { bytes: [0; MAX_LINE_BYTES], used: 0 };
        line.field(b"QSIZE:", bytes, 10);
        line.field(b" NOTIFY:", how as u64, 5);
        line.field(b" SIGNO:", signal as u64, 5);
        line.field(b" NOTIFY_PID:", pid as u64, 6);
        line.push(b'\n');
        line
    }

    /// `read`, from where the last one ended.
    pub(crate) fn read_posix_status(&mut self, id: FileId, target: &mut UserMemory<'_>) -> i64 {
        let Ok(at) = self.posix_queue_of_file(id, O_WRONLY) else { return -EBADF };
        let line = self.posix_status(at);
        let from = (self.files.get(id).error as usize).min(line.used);
        let mut left = &line.bytes[from..line.used];
        while !left.is_empty() {
            let room = target.target(left.len());
            if room.is_empty() {
                break;
            }
            room.copy_from_slice(&left[..room.len()]);
            left = &left[room.len()..];
        }
        let done = line.used - from - left.len();
        self.files.get_mut(id).error = (from + done) as i32;
        done as i64
    }
}
