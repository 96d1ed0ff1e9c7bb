//! Which arguments of a call say what it is about: a path, a descriptor, the bytes that it moves.

/// The bytes that a call moves.
#[derive(Clone, Copy)]
pub enum Moved {
    /// None, or none that are looked at.
    Nothing,
    /// At this argument, as many as the result says.
    Result(u8),
    /// At this argument, so many.
    Fixed(u8, u64),
    /// In the pieces at the first argument, whose number is the second, as many as the result says.
    Pieces(u8, u8),
}

/// What is known of a call; indices of arguments.
#[derive(Clone, Copy)]
pub struct Shape {
    /// A path.
    pub path: Option<u8>,
    /// A descriptor, whose path is of interest if no other is given.
    pub descriptor: Option<u8>,
    /// Its bytes.
    pub moved: Moved,
}

const fn on(descriptor: u8, moved: Moved) -> Shape {
    Shape { path: None, descriptor: Some(descriptor), moved }
}

const fn at(path: u8, moved: Moved) -> Shape {
    Shape { path: Some(path), descriptor: None, moved }
}

const fn plain(moved: Moved) -> Shape {
    Shape { path: None, descriptor: None, moved }
}

/// Bytes of the kernel's structures.
const STAT: u64 = 144;
const STATX: u64 = 256;
const STATFS: u64 = 120;
const TIMESPEC: u64 = 16;
const UTSNAME: u64 = 390;

/// The call named `name`, a hook or a system call.
pub fn of(name: &str) -> Shape {
    use Moved::{Fixed, Nothing, Pieces, Result};
    match name {
        "read" | "__read_chk" | "pread" | "pread64" | "__pread_chk" | "__pread64_chk" | "write"
        | "pwrite" | "pwrite64" | "recv" | "__recv_chk" | "recvfrom" | "__recvfrom_chk" | "send"
        | "sendto" | "getdents" | "getdents64" => on(0, Result(1)),
        "readv" | "writev" | "preadv" | "preadv64" | "pwritev" | "pwritev64" => on(0, Pieces(1, 2)),
        "open" | "open64" | "__open_2" | "__open64_2" | "creat" | "creat64" | "access" => at(0, Nothing),
        "openat" | "openat64" | "__openat_2" | "__openat64_2" | "openat2" | "faccessat" | "faccessat2"
        | "execveat" => at(1, Nothing),
        "unlink" | "mkdir" | "rename" | "chdir" | "execve" => at(0, Nothing),
        "stat" | "lstat" => at(0, Fixed(1, STAT)),
        "fstat" => on(0, Fixed(1, STAT)),
        "newfstatat" => Shape { path: Some(1), descriptor: Some(0), moved: Fixed(2, STAT) },
        "statx" => at(1, Fixed(4, STATX)),
        "statfs" => at(0, Fixed(1, STATFS)),
        "fstatfs" => on(0, Fixed(1, STATFS)),
        "readlink" | "getxattr" | "lgetxattr" => at(0, if name.len() == 8 { Result(1) } else { Result(2) }),
        "fgetxattr" => on(0, Result(2)),
        "readlinkat" => at(1, Result(2)),
        "getcwd" => plain(Result(0)),
        "uname" => plain(Fixed(0, UTSNAME)),
        "getrandom" => plain(Result(0)),
        "clock_gettime" => plain(Fixed(1, TIMESPEC)),
        "gettimeofday" => plain(Fixed(0, TIMESPEC)),
        "close" | "lseek" | "ioctl" | "fcntl" | "fcntl64" => on(0, Nothing),
        _ => plain(Nothing),
    }
}
