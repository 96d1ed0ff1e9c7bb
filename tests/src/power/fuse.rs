//! Just enough of the FUSE protocol to serve one regular file, the root of its mount, to a loop device.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::file::VolatileFile;
use super::lock;

/// Most bytes of one write.
const MAX_WRITE: u32 = 1 << 20;
/// Bytes of the header and of what else stands before a write's data.
const HEAD_BYTES: usize = 4096;
const IN_HEADER_BYTES: usize = 40;
const OUT_HEADER_BYTES: usize = 16;
/// Bytes of `fuse_write_in`.
const WRITE_BYTES: usize = 40;
/// The kernel must not keep the file's bytes: each write of the loop device comes here.
const FOPEN_DIRECT_IO: u32 = 1;
const ROOT: u64 = 1;

// Requests, by their numbers in the protocol.
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
/// Requests that have no answer: FORGET, INTERRUPT, BATCH_FORGET.
const SILENT: [u32; 3] = [2, 36, 42];

/// A thread that serves the file until it is unmounted.
#[derive(Debug)]
pub(super) struct Server;

impl Server {
    /// Shows `file` at `path`, where a file must be; each write and each flush takes `pause` nanoseconds longer.
    pub(super) fn mount(
        path: &Path,
        file: Arc<Mutex<VolatileFile>>,
        pause: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let channel = File::options().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=100000,user_id=0,group_id=0", channel.as_raw_fd());
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::other);
        let (target, options) = (text(path.as_os_str().as_bytes())?, text(options.as_bytes())?);
        // SAFETY: all four strings end with a zero and outlive the call.
        let mounted = unsafe {
            libc::mount(c"volatile".as_ptr(), target.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast())
        };
        if mounted != 0 {
            return Err(io::Error::last_os_error());
        }
        std::thread::Builder::new()
            .name("volatile-disk".to_owned())
            .spawn(move || serve(channel, &file, &pause))?;
        Ok(Self)
    }
}

fn serve(mut channel: File, file: &Mutex<VolatileFile>, pause: &AtomicU64) {
    let mut buffer = vec![0; MAX_WRITE as usize + HEAD_BYTES];
    loop {
        let len = match channel.read(&mut buffer) {
            Ok(len) => len,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT | libc::EAGAIN)) => {
                continue;
            }
            // ENODEV: it was unmounted.
            Err(_) => return,
        };
        let Some((head, body)) = buffer[..len].split_at_checked(IN_HEADER_BYTES) else { return };
        let (request, unique) = (word(head, 4), long(head, 8));
        if SILENT.contains(&request) {
            continue;
        }
        if [WRITE, FSYNC].contains(&request) {
            // The disk itself is slow: this waits for nothing.
            std::thread::sleep(Duration::from_nanos(pause.load(Ordering::Relaxed)));
        }
        let (error, answer) = match answer(request, body, file) {
            Ok(answer) => (0, answer),
            Err(error) => (-error, Vec::new()),
        };
        let mut out = Vec::with_capacity(OUT_HEADER_BYTES + answer.len());
        out.extend_from_slice(&u32::try_from(OUT_HEADER_BYTES + answer.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&error.to_le_bytes());
        out.extend_from_slice(&unique.to_le_bytes());
        out.extend_from_slice(&answer);
        // A request that was given up meanwhile is no error.
        let _ = channel.write(&out);
    }
}

fn answer(request: u32, body: &[u8], file: &Mutex<VolatileFile>) -> Result<Vec<u8>, i32> {
    let mut file = lock(file);
    let (offset, size) =
        (|| usize::try_from(long(body, 8)).map_err(|_| libc::EINVAL), || word(body, 16) as usize);
    match request {
        INIT => Ok(init(body)),
        GETATTR | SETATTR => Ok(attributes(file.len())),
        OPEN => Ok([&0_u64.to_le_bytes()[..], &FOPEN_DIRECT_IO.to_le_bytes(), &[0; 4]].concat()),
        READ => file.read(offset()?, size()).map(<[u8]>::to_vec).map_err(|_| libc::EIO),
        WRITE => {
            let data = body.get(WRITE_BYTES..).unwrap_or_default();
            let written = file.write(offset()?, &data[..size().min(data.len())]).map_err(|_| libc::EIO)?;
            Ok([u32::try_from(written).unwrap_or(0).to_le_bytes(), [0; 4]].concat())
        }
        FSYNC => file.flush().map(|()| Vec::new()).map_err(|_| libc::EIO),
        STATFS => Ok(vec![0; 80]),
        FLUSH | RELEASE => Ok(Vec::new()),
        _ => Err(libc::ENOSYS),
    }
}

/// `fuse_init_out`: the kernel's version of the protocol, but none of its options.
fn init(body: &[u8]) -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let mut out = Vec::with_capacity(64);
    for field in [7, word(body, 4).min(31), 0, BIG_WRITES | MAX_PAGES] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&[12, 0, 9, 0]); // requests in the background, and when they are too many
    out.extend_from_slice(&MAX_WRITE.to_le_bytes());
    out.extend_from_slice(&1_u32.to_le_bytes()); // granularity of times
    out.extend_from_slice(&[0, 1]); // 256 pages a request
    out.resize(64, 0);
    out
}

/// `fuse_attr_out` of a regular file.
fn attributes(len: usize) -> Vec<u8> {
    let mut out = vec![0; 16]; // valid for no time at all
    for field in [ROOT, len as u64, len as u64 / 512, 0, 0, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for field in [0, 0, 0, libc::S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |field| field.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}
