//! Traced replays: each call of the program goes into the trace ring with its arguments, its result, a digest of the bytes
//! that it moved, and the program's stack.
//!
//! Costs next to nothing otherwise: the guard of a hook asks one word whether the thread is plain, and a traced thread is
//! not. Its hook comes here before it acts, which makes the thread plain, and after it ([`way`]), which records what came of
//! it; in between it acts in the same frame as always. Calls that the filter caught come from the SIGSYS handler; in a
//! traced process these are more than in another, because calls by which a program looks at files and at the machine are
//! the ones that explain why two executions part.
//!
//! The program must not see that it is traced: an address that is another one is an operation that is another one, and what
//! is left on its stack may come to be its output. So nothing here allocates, maps or leaves anything, in registers neither.

mod shape;
pub mod stack;
pub mod tables;
pub mod way;

use core::sync::atomic::Ordering;

use dmt::digest::mix_bytes;
use dmt::tracing::{CallHead, MAX_CALLERS, MAX_SAMPLE_BYTES, Tracing};

use crate::hook::Row;
use crate::raw;
use crate::syscalls::{self, LIMIT, PASSED_BITS};
use crate::tls::{self, Passthrough};
use crate::world;
use shape::Moved;

/// Calls that the kernel answers and that a traced process makes through the handler: they only look.
const OBSERVED: &[i64] = &[
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents,
    libc::SYS_getdents64,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_lseek,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_getpriority,
    libc::SYS_ioprio_get,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_getparam,
];

/// One bit for each of [`OBSERVED`], for the filter.
pub const OBSERVED_BITS: [u32; LIMIT / 32] = {
    let mut bits = [0u32; LIMIT / 32];
    let mut i = 0;
    while i < OBSERVED.len() {
        bits[OBSERVED[i] as usize / 32] |= 1 << (OBSERVED[i] % 32);
        i += 1;
    }
    bits
};

/// Whether this replica's calls are traced. Only after the constructor mapped the arena.
pub fn is_on() -> bool {
    world::arena().shared.control.tracing.load(Ordering::Relaxed) == Tracing::Calls as u32
}

/// Calls that the kernel answers beside the handler where nothing is traced, one bit each.
pub static ONLY_OBSERVED: [u32; LIMIT / 32] = {
    let mut bits = OBSERVED_BITS;
    let mut word = 0;
    while word < bits.len() {
        bits[word] &= PASSED_BITS[word];
        word += 1;
    }
    bits
};

/// A call of a traced thread begins. `frame`: where the stack of the function that stands in for it ends.
fn begins(what: usize, frame: usize, arguments: &[u64; 6]) {
    let tls = tls::current();
    let open = &tls.traced_call;
    open.begin.set(tick());
    open.arguments.set(*arguments);
    open.what.set(what);
    open.frame.set(frame);
    // What a call does inside is not a call of the program.
    tls.set_traced(false);
}

/// The call that began in this frame is done, if there is one: not in those of a handler that ran in the middle of it.
fn ends(what: usize, frame: usize, result: u64) {
    let tls = tls::current();
    let open = &tls.traced_call;
    if (open.what.get(), open.frame.get()) != (what, frame) {
        return;
    }
    open.frame.set(0);
    if !tls.active() {
        // The thread ends, or is inside a section of ours.
        return;
    }
    tls.set_traced(true);
    let mut arguments = open.arguments.get();
    let begin = open.begin.get();
    if what < LIMIT {
        let name = syscalls::class(what).map_or("unclassified", |(name, _)| name);
        let result = result as i64;
        let errno = if (-4095..0).contains(&result) { -result as i32 } else { 0 };
        return record(name, what as u32, &arguments, Outcome { begin, result, errno });
    }
    // SAFETY: not a number, so it is the row that `begins` was given.
    let row = unsafe { &*(what as *const Row) };
    let count = row.arguments.len().min(arguments.len());
    for (word, &bytes) in arguments.iter_mut().zip(row.arguments) {
        *word = extended(*word, bytes) as u64;
    }
    let result = row.result.first().map_or(0, |&bytes| extended(result, bytes));
    // SAFETY: libc's pointer to the calling thread's errno.
    let errno = if result == -1 { unsafe { *libc::__errno_location() } } else { 0 };
    record(row.name, u32::MAX, &arguments[..count], Outcome { begin, result, errno });
}

/// A number of some bytes in a register. Sign-extended, so that -1 looks like -1; the few unsigned ones are for people to see.
fn extended(word: u64, bytes: u8) -> i64 {
    let unused = 64 - 8 * u32::from(bytes.clamp(1, 8));
    (word as i64) << unused >> unused
}

/// The logical time. The calling thread holds the turn and is managed.
fn tick() -> u64 {
    world::call_as(tls::current().id() as dmt::thread::ThreadId).tick_now()
}

/// What came of a call.
struct Outcome {
    begin: u64,
    result: i64,
    errno: i32,
}

fn record(name: &str, number: u32, arguments: &[u64], outcome: Outcome) {
    let Outcome { begin, result, errno } = outcome;
    let tls = tls::current();
    let _inside = Passthrough::enter();
    let call = world::call_as(tls.id() as dmt::thread::ThreadId);
    if !call.is_traced_now() {
        return;
    }
    let shape = shape::of(name);
    let mut path = [0; MAX_SAMPLE_BYTES];
    let argument = |index: u8| arguments.get(usize::from(index)).copied().unwrap_or(0);
    let given = shape.path.filter(|_| errno != libc::EFAULT);
    let path_len = match given.map_or(0, |at| copy_string(argument(at), &mut path)) {
        0 => shape.descriptor.map_or(0, |at| path_of(argument(at) as i32, &mut path)),
        len => len,
    };
    let mut sample = Sample::default();
    if errno == 0 && result >= 0 {
        match shape.moved {
            Moved::Nothing => {}
            Moved::Result(at) => sample.add(argument(at), result as u64),
            Moved::Fixed(at, bytes) => sample.add(argument(at), bytes),
            Moved::Pieces(at, count) => sample.add_pieces(argument(at), argument(count), result as u64),
        }
    }
    let mut callers = [0; MAX_CALLERS];
    let depth = stack::walk(&mut callers);
    let mut head = CallHead {
        begin,
        result,
        data_digest: sample.digest,
        // SAFETY: no arguments.
        pid: unsafe { raw!(libc::SYS_getpid) } as i32,
        errno,
        number,
        argument_count: arguments.len().min(6) as u16,
        callers: depth as u16,
        name: name.len() as u16,
        path: path_len as u16,
        sample: sample.len as u16,
        ..CallHead::default()
    };
    for (word, &argument) in head.arguments.iter_mut().zip(arguments) {
        *word = argument;
    }
    let rest = [name.as_bytes(), &path[..path_len], &sample.bytes[..sample.len]];
    call.trace_call(head, &callers[..depth], rest);
}

/// The first of the bytes that a call moved, and a digest of all.
struct Sample {
    bytes: [u8; MAX_SAMPLE_BYTES],
    len: usize,
    digest: u64,
}

impl Default for Sample {
    fn default() -> Self {
        Self { bytes: [0; MAX_SAMPLE_BYTES], len: 0, digest: 0 }
    }
}

impl Sample {
    fn add(&mut self, at: u64, bytes: u64) {
        if at == 0 || bytes == 0 {
            return;
        }
        // SAFETY: the call that has succeeded read or wrote exactly these bytes of the program.
        let moved = unsafe { core::slice::from_raw_parts(at as *const u8, bytes as usize) };
        self.digest = mix_bytes(self.digest, moved);
        let more = moved.len().min(MAX_SAMPLE_BYTES - self.len);
        self.bytes[self.len..self.len + more].copy_from_slice(&moved[..more]);
        self.len += more;
    }

    fn add_pieces(&mut self, at: u64, count: u64, mut left: u64) {
        // SAFETY: the call that has succeeded read so many descriptions of pieces there.
        let pieces = unsafe { core::slice::from_raw_parts(at as *const libc::iovec, count as usize) };
        for piece in pieces.iter().take_while(|_| at != 0) {
            let bytes = left.min(piece.iov_len as u64);
            self.add(piece.iov_base as u64, bytes);
            left -= bytes;
        }
    }
}

fn copy_string(at: u64, out: &mut [u8]) -> usize {
    if at == 0 {
        return 0;
    }
    // SAFETY: a path that the call has just read.
    let text = unsafe { core::ffi::CStr::from_ptr(at as *const core::ffi::c_char) }.to_bytes();
    let len = text.len().min(out.len());
    out[..len].copy_from_slice(&text[..len]);
    len
}

/// The path of an open file; nothing for what has none.
fn path_of(fd: i32, out: &mut [u8]) -> usize {
    use core::fmt::Write;
    if fd < 0 {
        return 0;
    }
    let mut link = crate::fatal::Line::new();
    let _ = write!(link, "/proc/self/fd/{fd}\0");
    let text = link.bytes();
    // SAFETY: a terminated path and our own buffer.
    let len = unsafe { raw!(libc::SYS_readlink, text.as_ptr(), out.as_mut_ptr(), out.len()) };
    if len > 0 && out[0] == b'/' { len as usize } else { 0 }
}
