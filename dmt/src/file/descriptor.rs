//! Descriptor tables: which open file a descriptor of a process means.

use crate::bounds::{MAX_FDS, MAX_PROCESSES};
use crate::call::Call;
use crate::file::abi::{EBADF, EINVAL};
use crate::file::{FileId, FileKind};
use crate::kernel::{Kernel, Step};
use crate::link::Shared;
use crate::op::Op;
use crate::thread::ThreadId;

/// Close-on-exec, in a table's word.
const CLOSE_ON_EXEC: u32 = 1 << 31;

/// Descriptors of one process: a file number and [`CLOSE_ON_EXEC`]; 0 = not emulated.
#[repr(C)]
struct DescriptorTable {
    words: [u32; MAX_FDS],
    /// Words from here on are 0.
    end: u32,
}

/// The tables of all processes.
#[repr(C)]
pub struct Descriptors {
    tables: [DescriptorTable; MAX_PROCESSES],
}

impl Descriptors {
    fn word(&self, process: u16, fd: i32) -> u32 {
        let table = &self.tables[process as usize - 1];
        // A negative descriptor is beyond every table.
        table.words.get(fd as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, process: u16, fd: i32, word: u32) -> u32 {
        let table = &mut self.tables[process as usize - 1];
        if word != 0 {
            table.end = table.end.max(fd as u32 + 1);
        }
        core::mem::replace(&mut table.words[fd as usize], word)
    }

    fn end(&self, process: u16) -> u32 {
        self.tables[process as usize - 1].end
    }
}

impl Kernel {
    /// The file that descriptor `fd` of the thread's process means, if it is virtual.
    #[inline]
    pub fn descriptor(&self, me: ThreadId, fd: i32) -> Option<FileId> {
        let word = self.files.descriptors.word(self.threads.get(me).process, fd) & !CLOSE_ON_EXEC;
        (word != 0).then_some(word)
    }

    fn set_descriptor(&mut self, shared: &Shared, process: u16, fd: i32, word: u32) {
        let before = self.files.descriptors.set(process, fd, word) & !CLOSE_ON_EXEC;
        if before != 0 {
            self.forget_notice(process, before);
            self.release_file(shared, before);
        }
    }

    /// Gives a forked child its parent's descriptors. For `fork`, in the parent's operation.
    pub fn fork_descriptors(&mut self, parent: u16, child: u16) {
        let end = self.files.descriptors.end(parent);
        for fd in 0..end as i32 {
            let word = self.files.descriptors.word(parent, fd);
            if word != 0 {
                self.hold_file(word & !CLOSE_ON_EXEC);
                self.files.descriptors.set(child, fd, word);
            }
        }
    }

    /// Lets go of the files that threads of a process hold in waits which will never end.
    fn drop_held_files(&mut self, shared: &Shared, process: u16) {
        for id in self.threads.ids() {
            if self.threads.get(id).process == process {
                let file = core::mem::take(&mut self.threads.get_mut(id).held_file);
                if file != 0 {
                    self.release_file(shared, file);
                }
            }
        }
    }

    /// Closes what is close-on-exec. For `execve`; the kernel's descriptors close themselves.
    pub fn exec_descriptors(&mut self, shared: &Shared, process: u16) {
        self.drop_held_files(shared, process);
        for fd in 0..self.files.descriptors.end(process) as i32 {
            if self.files.descriptors.word(process, fd) & CLOSE_ON_EXEC != 0 {
                self.set_descriptor(shared, process, fd, 0);
            }
        }
    }

    /// Closes all descriptors of a process that has ended.
    pub fn exit_descriptors(&mut self, shared: &Shared, process: u16) {
        self.drop_held_files(shared, process);
        for fd in 0..self.files.descriptors.end(process) as i32 {
            if self.files.descriptors.word(process, fd) != 0 {
                self.set_descriptor(shared, process, fd, 0);
            }
        }
        self.files.descriptors.tables[process as usize - 1].end = 0;
    }
}

impl Call<'_> {
    fn process(&self) -> u16 {
        self.with(|k| k.threads.get(self.thread()).process)
    }

    /// True if `fd` is an emulated file of this process. Costs no tick.
    #[inline]
    pub fn is_virtual(&self, fd: i32) -> bool {
        self.file_of(fd).is_some()
    }

    /// What `fd` is, if it is virtual. Costs no tick.
    pub fn file_kind(&self, fd: i32) -> Option<FileKind> {
        self.with(|k| k.descriptor(self.thread(), fd).map(|file| k.files.get(file).kind))
    }

    /// What an open file is. Costs no tick.
    pub fn kind_of_file(&self, file: FileId) -> FileKind {
        self.with(|k| k.files.get(file).kind)
    }

    /// The file that `fd` means, if it is virtual. Costs no tick.
    #[inline]
    pub fn file_of(&self, fd: i32) -> Option<FileId> {
        self.with(|k| k.descriptor(self.thread(), fd))
    }

    /// Makes the placeholder descriptor `fd` mean `file`, taking over the caller's reference. Costs no tick.
    /// A virtual file that `fd` meant before is closed. A descriptor beyond [`MAX_FDS`] drops the file.
    pub fn install(&self, fd: i32, file: FileId, close_on_exec: bool) {
        if fd as usize >= MAX_FDS {
            return self.discard(file);
        }
        let word = file | if close_on_exec { CLOSE_ON_EXEC } else { 0 };
        let process = self.process();
        self.with(|k| k.set_descriptor(self.shared(), process, fd, word));
    }

    /// Drops the reference to a file that could not be installed.
    pub fn discard(&self, file: FileId) {
        self.with(|k| k.release_file(self.shared(), file));
    }

    /// `close` of a virtual descriptor; preload closes the placeholder after it.
    pub fn close_fd(&self, fd: i32) -> i64 {
        let (shared, process) = (self.shared(), self.process());
        self.output_op(Op::Close, fd as u64, |k, me| {
            if k.descriptor(me, fd).is_none() {
                return Step::Done(-EBADF);
            }
            k.set_descriptor(shared, process, fd, 0);
            Step::Done(0)
        })
    }

    /// `dup`, `dup2`, `dup3`, `F_DUPFD`: `new` is the placeholder's duplicate. A virtual file that it meant is closed.
    pub fn dup_fd(&self, old: i32, new: i32, close_on_exec: bool) -> i64 {
        let (shared, process) = (self.shared(), self.process());
        self.output_op(Op::Dup, old as u64, |k, me| {
            let Some(file) = k.descriptor(me, old).filter(|_| (new as usize) < MAX_FDS) else {
                return Step::Done(-EBADF);
            };
            if old != new {
                k.hold_file(file);
                let word = file | if close_on_exec { CLOSE_ON_EXEC } else { 0 };
                k.set_descriptor(shared, process, new, word);
            }
            Step::Done(i64::from(new))
        })
    }

    /// Closes all virtual descriptors in `first..=last` (`close_range`); preload does the same to the kernel's.
    pub fn close_range(&self, first: u32, last: u32) -> i64 {
        let (shared, process) = (self.shared(), self.process());
        self.output_op(Op::Close, u64::from(first), |k, _| {
            if last < first {
                return Step::Done(-EINVAL);
            }
            for fd in first..last.saturating_add(1).min(k.files.descriptors.end(process)) {
                k.set_descriptor(shared, process, fd as i32, 0);
            }
            Step::Done(0)
        })
    }

    /// `F_GETFD`: `FD_CLOEXEC` (1) or 0. Costs no tick.
    pub fn close_on_exec(&self, fd: i32) -> i64 {
        let process = self.process();
        self.with(|k| match k.files.descriptors.word(process, fd) {
            0 => -EBADF,
            word => i64::from(word >> 31),
        })
    }

    /// `F_SETFD`, `FIOCLEX`, `FIONCLEX`. Costs no tick.
    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> i64 {
        let process = self.process();
        self.with(|k| match k.files.descriptors.word(process, fd) & !CLOSE_ON_EXEC {
            0 => -EBADF,
            file => {
                let word = file | if on { CLOSE_ON_EXEC } else { 0 };
                k.files.descriptors.set(process, fd, word);
                0
            }
        })
    }
}
