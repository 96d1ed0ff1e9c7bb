//! Which file a call is about, and what the file system is like on which it lies. What the kernel says of that is each replica's own:
//! to be asked apart.

use core::ffi::{CStr, c_char};

use super::MAX_PATH_BYTES;
use crate::raw;

const HERE: usize = libc::AT_FDCWD as usize;
/// Bytes of a socket's address before the path.
const FAMILY_BYTES: usize = size_of::<libc::sa_family_t>();
/// The kernel's `struct statfs`, in words: all of it, and some of its fields, one of which libc hides.
const STATFS_WORDS: usize = 15;
const TYPE: usize = 0;
const BLOCK_BYTES: usize = 1;
const FREE_BLOCKS: usize = 3;
const FLAGS: usize = 10;
/// `f_type` of an overlay.
const OVERLAY_MAGIC: u64 = 0x794c_7630;
/// `f_type` of a file system in memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// `f_type` of file systems whose files are the kernel's own words.
const KERNEL_MAGIC: [u64; 4] = [0x9fa0, 0x6265_6572, 0x6367_7270, 0x6467_6464];

/// What a call is about.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// An open file.
    Open(usize),
    /// A path from a directory on, which may name nothing yet.
    Named(usize, &'a [u8]),
}

impl<'a> Place<'a> {
    /// What call `number` changes with arguments `a`.
    ///
    /// # Safety
    /// The arguments are those of the call: a path points to a C string, which lives as long as the result; a `bind` is one of a unix
    /// socket to a path.
    pub unsafe fn of(number: i64, a: [usize; 6]) -> Self {
        match path_argument(number).filter(|&(_, path)| a[path] != 0) {
            Some((directory, path)) => {
                // SAFETY: forwarded promise.
                let path = unsafe { CStr::from_ptr(a[path] as *const c_char) }.to_bytes();
                Self::Named(directory.map_or(HERE, |argument| a[argument]), path)
            }
            None => match number {
                libc::SYS_bind => {
                    // SAFETY: forwarded promise: the address has so many bytes.
                    let address = unsafe { core::slice::from_raw_parts(a[1] as *const u8, a[2]) };
                    let path = address.get(FAMILY_BYTES..).unwrap_or_default();
                    Self::Named(HERE, path.split(|&byte| byte == 0).next().unwrap_or_default())
                }
                libc::SYS_copy_file_range | libc::SYS_splice => Self::Open(a[2]),
                _ => Self::Open(a[0]),
            },
        }
    }

    /// The file system on which it lies; of a path: that of the directory which has the name.
    pub fn file_system(&self) -> Option<FileSystem> {
        let (directory, path) = match *self {
            Self::Open(fd) | Self::Named(fd, b"") => return FileSystem::of(fd),
            Self::Named(directory, path) => (directory, path),
        };
        let name = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| {
            path[..last].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)
        });
        let mut parent = [0; MAX_PATH_BYTES];
        let room = parent[..MAX_PATH_BYTES - 1].get_mut(..name.max(1))?;
        match name {
            0 => room[0] = if path.first() == Some(&b'/') { b'/' } else { b'.' },
            _ => room.copy_from_slice(&path[..name]),
        }
        // SAFETY: a C string of ours; the descriptor is closed again.
        unsafe {
            let fd = raw!(libc::SYS_openat, directory, parent.as_ptr(), libc::O_PATH | libc::O_CLOEXEC, 0);
            let fd = usize::try_from(fd).ok()?;
            let found = FileSystem::of(fd);
            raw!(libc::SYS_close, fd);
            found
        }
    }
}

/// What `fstatfs` says.
pub struct FileSystem([u64; STATFS_WORDS]);

impl FileSystem {
    /// That of an open file.
    pub fn of(fd: usize) -> Option<Self> {
        let mut found = [0; STATFS_WORDS];
        // SAFETY: room of our own for the kernel's structure.
        (unsafe { raw!(libc::SYS_fstatfs, fd, found.as_mut_ptr()) } == 0).then_some(Self(found))
    }

    /// Whether it is an overlay.
    pub fn is_overlay(&self) -> bool {
        self.0[TYPE] == OVERLAY_MAGIC
    }

    /// Whether it is in memory: then it has a size of its own, the same on every replica.
    pub fn is_memory(&self) -> bool {
        self.0[TYPE] == TMPFS_MAGIC
    }

    /// Whether it is on no disk: /proc, /sys and what is mounted there.
    pub fn is_kernels(&self) -> bool {
        KERNEL_MAGIC.contains(&self.0[TYPE])
    }

    /// Whether it was mounted read-only.
    pub fn is_read_only(&self) -> bool {
        self.0[FLAGS] & libc::ST_RDONLY != 0
    }

    /// Bytes that are free, also for root alone.
    pub fn free_bytes(&self) -> u64 {
        self.0[FREE_BLOCKS].saturating_mul(self.0[BLOCK_BYTES])
    }
}

/// Where a call has the path of its file: the argument with the directory from which it starts, if there is one, and the path's.
fn path_argument(number: i64) -> Option<(Option<usize>, usize)> {
    Some(match number {
        libc::SYS_open
        | libc::SYS_creat
        | libc::SYS_truncate
        | libc::SYS_mkdir
        | libc::SYS_rmdir
        | libc::SYS_unlink
        | libc::SYS_rename
        | libc::SYS_link
        | libc::SYS_setxattr
        | libc::SYS_lsetxattr
        | libc::SYS_removexattr
        | libc::SYS_lremovexattr
        | libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_lchown
        | libc::SYS_mknod => (None, 0),
        libc::SYS_symlink => (None, 1),
        libc::SYS_symlinkat => (Some(1), 2),
        libc::SYS_openat
        | libc::SYS_openat2
        | libc::SYS_mkdirat
        | libc::SYS_mknodat
        | libc::SYS_unlinkat
        | libc::SYS_linkat
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_fchmodat
        | libc::SYS_fchownat
        | libc::SYS_utimensat => (Some(0), 1),
        _ => return None,
    })
}
