//! Descriptor tables: which open file a descriptor of a process means.

use crate::bounds::{MAX_FDS, MAX_PROCESSES};
use crate::call::Call;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;

/// Descriptors of one process: file number, and close-on-exec in the highest bit.
#[repr(C)]
pub struct Descriptors {
    tables: [[u32; MAX_FDS]; MAX_PROCESSES],
}

impl Kernel {
    /// A forked child gets its parent's descriptors. For `fork`, in the parent's operation.
    pub fn fork_descriptors(&mut self, _parent: u16, _child: u16) {}
    /// Closes what is close-on-exec. For `execve`; kernel descriptors close themselves.
    pub fn exec_descriptors(&mut self, _shared: &Shared, _process: u16) {}
    /// Closes all descriptors of a process that has ended.
    pub fn exit_descriptors(&mut self, _shared: &Shared, _process: u16) {}
}

impl Call<'_> {
    /// True if `fd` is an emulated file of this process. Costs no tick.
    #[inline]
    pub fn is_virtual(&self, fd: i32) -> bool {
        self.with(|k| {
            let process = k.threads.get(self.thread()).process;
            (fd as usize) < MAX_FDS && k.files.descriptors.tables[process as usize - 1][fd as usize] != 0
        })
    }
    /// What `fd` is, if it is virtual. Costs no tick.
    pub fn file_kind(&self, _fd: i32) -> Option<FileKind> {
        None
    }
    /// The file that `fd` means; costs no tick. For dup-like calls of preload and SCM_RIGHTS.
    pub fn file_of(&self, _fd: i32) -> Option<FileId> {
        None
    }
    /// Makes the placeholder descriptor `fd` mean `file`, taking over the caller's reference. Costs no tick.
    /// A virtual file that `fd` meant before is closed.
    pub fn install(&self, _fd: i32, _file: FileId, _close_on_exec: bool) {}
    /// Drops the reference to a file that could not be installed.
    pub fn discard(&self, _file: FileId) {}
    /// `close` of a virtual descriptor; preload closes the placeholder after it.
    pub fn close_fd(&self, _fd: i32) -> i64 {
        -super::abi::ENOSYS
    }
    /// `dup`, `dup2`, `dup3`, `F_DUPFD`: `new` is the placeholder's duplicate. A virtual file that it meant is closed.
    pub fn dup_fd(&self, _old: i32, _new: i32, _close_on_exec: bool) -> i64 {
        -super::abi::ENOSYS
    }
    /// Closes all virtual descriptors in `first..=last` (`close_range`); preload does the same to the kernel's.
    pub fn close_range(&self, _first: u32, _last: u32) -> i64 {
        -super::abi::ENOSYS
    }
    /// `F_GETFD` & `FD_CLOEXEC`: 0 or 1.
    pub fn close_on_exec(&self, _fd: i32) -> i64 {
        -super::abi::ENOSYS
    }
    /// `F_SETFD`, `FIOCLEX`, `FIONCLEX`.
    pub fn set_close_on_exec(&self, _fd: i32, _on: bool) -> i64 {
        -super::abi::ENOSYS
    }
    /// `F_GETFL`.
    pub fn status_flags(&self, _fd: i32) -> i64 {
        -super::abi::ENOSYS
    }
    /// `F_SETFL`.
    pub fn set_status_flags(&self, _fd: i32, _flags: i32) -> i64 {
        -super::abi::ENOSYS
    }
    /// `F_GETOWN`.
    pub fn owner(&self, _fd: i32) -> i64 {
        -super::abi::ENOSYS
    }
    /// `F_SETOWN`: remembered only; no file sends SIGIO.
    pub fn set_owner(&self, _fd: i32, _pid: i32) -> i64 {
        -super::abi::ENOSYS
    }
    /// `FIONREAD`, `FIONBIO`, `TIOCOUTQ`, `FIOASYNC`: `value` is what the argument points to. Others: -`ENOTTY`.
    pub fn io_control(&self, _fd: i32, _request: u32, _value: &mut i32) -> i64 {
        -super::abi::ENOSYS
    }
}
