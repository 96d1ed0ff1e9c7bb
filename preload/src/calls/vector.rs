//! Calls with several pieces of memory, with positions, and from file to socket.

use core::ffi::c_int;

use dmt::file::abi::IoVec;

use crate::args;
use crate::calls::disk::space;
use crate::calls::file::{is_virtual, piece};
use crate::calls::stamp;
use crate::kernel;
use crate::raw;
use crate::world::dmt;

const EINVAL: isize = -(libc::EINVAL as isize);
const ESPIPE: isize = -(libc::ESPIPE as isize);
/// Pieces of memory in one call.
const MAX_PIECES: usize = 1024;
/// Bytes that sendfile moves in one go.
const CHUNK: usize = 16 * 1024;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_readv => readv(a),
        libc::SYS_writev => writev(a),
        libc::SYS_pread64 | libc::SYS_pwrite64 | libc::SYS_preadv | libc::SYS_pwritev => {
            positioned(number, a)
        },
        // Whether a file is in memory is each machine's own; not all file systems can tell.
        libc::SYS_preadv2 | libc::SYS_pwritev2 if a[5] as i32 & libc::RWF_NOWAIT != 0 => -(libc::EOPNOTSUPP as isize),
        libc::SYS_preadv2 if a[3] as i64 == -1 => readv(a),
        libc::SYS_pwritev2 if a[3] as i64 == -1 => writev(a),
        libc::SYS_preadv2 | libc::SYS_pwritev2 => positioned(number, a),
        libc::SYS_sendfile => sendfile(a),
        libc::SYS_copy_file_range => files_only(number, a, a[0], a[2]),
        libc::SYS_splice => files_only(number, a, a[0], a[2]),
        libc::SYS_tee => files_only(number, a, a[0], a[1]),
        libc::SYS_vmsplice => files_only(number, a, a[0], a[0]),
    }
}

/// The program's pieces of memory.
///
/// # Safety
/// `at` points to `count` of them.
pub unsafe fn pieces<'a>(at: usize, count: usize) -> Option<&'a [IoVec]> {
    if count == 0 {
        return Some(&[]);
    }
    // SAFETY: forwarded promise; the layout is the kernel's.
    (count <= MAX_PIECES).then(|| unsafe { core::slice::from_raw_parts(at as *const IoVec, count) })
}

/// `readv`.
pub unsafe fn readv(a: [usize; 6]) -> isize {
    if !is_virtual(a[0]) {
        // SAFETY: forwarded promise.
        return unsafe { kernel::call(libc::SYS_readv, a) };
    }
    // SAFETY: the program's memory.
    unsafe {
        let Some(list) = pieces(a[1], a[2]) else { return EINVAL };
        dmt(|call| call.read(a[0] as c_int, list)) as isize
    }
}

/// `writev`.
pub unsafe fn writev(a: [usize; 6]) -> isize {
    if !is_virtual(a[0]) {
        // SAFETY: forwarded promise.
        return unsafe { write_pieces(libc::SYS_writev, a) };
    }
    // SAFETY: the program's memory.
    unsafe {
        let Some(list) = pieces(a[1], a[2]) else { return EINVAL };
        dmt(|call| call.write(a[0] as c_int, list)) as isize
    }
}

/// Calls with a position: a virtual file has none.
pub unsafe fn positioned(number: i64, a: [usize; 6]) -> isize {
    if is_virtual(a[0]) {
        return ESPIPE;
    }
    // SAFETY: forwarded promise; what is left of the buffer is a part of it.
    unsafe {
        match number {
            libc::SYS_pwrite64 => {
                let write = |done| {
                    kernel::call(number, [a[0], a[1] + done, a[2] - done, a[3].wrapping_add(done), 0, 0])
                };
                stamp::written(a[0], space::whole(a[0], || a[2], write))
            }
            libc::SYS_pwritev | libc::SYS_pwritev2 => write_pieces(number, a),
            _ => kernel::call(number, a),
        }
    }
}

/// Writes pieces of memory to a kernel file.
unsafe fn write_pieces(number: i64, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise; the kernel has read the list before anybody asks for it here.
    let list = || unsafe { pieces(a[1], a[2]) }.unwrap_or_default();
    let asked = || list().iter().map(|piece| piece.len).sum();
    let write = |done: usize| {
        if done == 0 {
            // SAFETY: forwarded promise.
            return unsafe { kernel::call(number, a) };
        }
        let mut end = 0;
        let next = list().iter().find_map(|whole| {
            end += whole.len;
            let left = end.checked_sub(done).filter(|&left| left > 0)?;
            Some(piece(whole.base as usize + (whole.len - left), left))
        });
        let Some(next) = next else { return 0 };
        // SAFETY: forwarded promise; the rest of one of the program's pieces. Calls without a position ignore the one given here.
        unsafe { kernel::call(number, args!(a[0], next.as_ptr(), 1, a[3].wrapping_add(done), a[4], a[5])) }
    };
    stamp::written(a[0], space::whole(a[0], asked, write))
}

/// Calls between two kernel files; programs fall back to reading and writing where they get `EINVAL`.
unsafe fn files_only(number: i64, a: [usize; 6], one: usize, other: usize) -> isize {
    if is_virtual(one) || is_virtual(other) {
        return EINVAL;
    }
    // SAFETY: forwarded promise; the kernel moves the positions on.
    let copied = unsafe {
        match number {
            libc::SYS_copy_file_range => {
                let copy = |done| kernel::call(number, [a[0], a[1], a[2], a[3], a[4] - done, a[5]]);
                space::whole(other, || a[4], copy)
            }
            _ => kernel::call(number, a),
        }
    };
    stamp::written(other, copied)
}

/// `sendfile`: to a virtual socket by reading the file in chunks that the socket has room for.
pub unsafe fn sendfile(a: [usize; 6]) -> isize {
    let (out, input, position, count) = (a[0], a[1], a[2] as *mut i64, a[3]);
    if is_virtual(input) {
        return EINVAL;
    }
    if !is_virtual(out) {
        // SAFETY: forwarded promise; the kernel moves the positions on.
        let copy = |done| unsafe { kernel::call(libc::SYS_sendfile, [out, input, a[2], count - done, 0, 0]) };
        return stamp::written(out, space::whole(out, || count, copy));
    }
    let mut sent = 0;
    while sent < count {
        // SAFETY: the program's position.
        match unsafe { send_chunk(out as c_int, input, position, count - sent) } {
            0 => break,
            n if n < 0 => return if sent > 0 { sent as isize } else { n },
            n => sent += n as usize,
        }
    }
    sent as isize
}

/// Moves one chunk; returns what was sent, 0 at the file's end.
unsafe fn send_chunk(out: c_int, input: usize, position: *mut i64, left: usize) -> isize {
    let mut buffer = [0u8; CHUNK];
    let room = dmt(|call| call.write_room(out));
    if room < 0 {
        return room as isize;
    }
    // Without room one byte is tried, so that the socket's own rules decide between waiting and EAGAIN.
    let wanted = left.min(CHUNK).min((room as usize).max(1));
    // SAFETY: reads into our buffer, at the program's position or the file's own.
    unsafe {
        let at = if position.is_null() {
            raw!(libc::SYS_lseek, input, 0, libc::SEEK_CUR)
        } else {
            *position as isize
        };
        let got = kernel::call(libc::SYS_pread64, args!(input, buffer.as_mut_ptr(), wanted, at));
        if got <= 0 {
            return got;
        }
        let sent = dmt(|call| call.write(out, &piece(buffer.as_ptr() as usize, got as usize))) as isize;
        if sent > 0 {
            if position.is_null() {
                raw!(libc::SYS_lseek, input, at + sent, libc::SEEK_SET);
            } else {
                *position += sent as i64;
            }
        }
        sent
    }
}
