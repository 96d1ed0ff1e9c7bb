//! A file as a block device, which goes with its last mount.
//!
//! `mount -o loop` asks every loop device of the machine for its file first, and hangs if one of those is on a file system that does not
//! answer. This asks for a free one only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Hands out numbers of devices.
pub const CONTROL: &str = "/dev/loop-control";

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
/// Since Linux 5.8.
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
/// The device is freed when nobody has it open and nothing is mounted from it.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Another process may take the free device first.
const TRIES: u32 = 16;

/// `struct loop_config`; everything but file and flags is left to the kernel.
#[repr(C)]
struct Config {
    file: u32,
    block_bytes: u32,
    ignored: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 160],
    rest: [u64; 10],
}

const _: () = assert!(size_of::<Config>() == 304);

/// A device with this file behind it. It is to be mounted before the descriptor is closed.
pub fn attach(image: &Path) -> io::Result<(PathBuf, File)> {
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    let config = Config {
        file: file.as_raw_fd().cast_unsigned(),
        block_bytes: 0,
        ignored: [0; 5],
        number: 0,
        encryption: [0; 2],
        flags: LO_FLAGS_AUTOCLEAR,
        names: [0; 160],
        rest: [0; 10],
    };
    for _ in 0..TRIES {
        // SAFETY: the descriptor is open, and this call takes no pointer.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        // SAFETY: both descriptors are open, and `config` is a `struct loop_config`, which the call only reads.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
            return Ok((path, device));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error);
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}
