//! Which processes and threads /proc has: those of dmt, and the container's init. The kernel learns of an end later, and
//! keeps others in it, too, that are none of the server's (`brolga exec`).

use crate::kernel::Kernel;
use crate::process::table::INIT_PID;

fn number(name: &[u8]) -> Option<i32> {
    let is_number = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(name).ok().filter(|_| is_number)?.parse().ok()
}

impl Kernel {
    /// Whether the directory with this path in /proc lists this name.
    pub fn lists_task(&self, directory: &[u8], name: &[u8]) -> bool {
        let Some(id) = number(name) else { return true };
        let mut parts = directory.split(|&byte| byte == b'/').skip(2);
        match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => self.knows_process(id),
            (Some(pid), Some(b"task"), None) => number(pid).is_none_or(|pid| self.knows_thread(pid, id)),
            _ => true,
        }
    }

    /// Whether a file with this path in /proc is of a process and thread that exist, if it is of any.
    pub fn has_task(&self, path: &[u8]) -> bool {
        let Some(path) = path.strip_prefix(b"/proc/") else { return true };
        let mut parts = path.split(|&byte| byte == b'/');
        let Some(pid) = parts.next().and_then(number) else { return true };
        match (parts.next(), parts.next().and_then(number)) {
            (Some(b"task"), Some(tid)) => self.knows_thread(pid, tid),
            _ => self.knows_process(pid),
        }
    }

    /// The process whose threads a directory with this path lists, if it is of one that dmt knows.
    pub fn lists_threads_of(&self, directory: &[u8]) -> Option<i32> {
        let (pid, task) =
            directory.strip_prefix(b"/proc/")?.split_at_checked(directory.len().checked_sub(11)?)?;
        let pid = number(pid).filter(|_| task == b"/task")?;
        self.processes.by_pid(pid).map(|_| pid)
    }

    /// The thread of process `pid` with the lowest id above `after`.
    pub fn next_task(&self, pid: i32, after: i32) -> Option<i32> {
        let process = self.processes.by_pid(pid)?;
        let live = self.threads_of(process).map(|id| self.threads.get(id).tid);
        // The first one is there as long as its process is.
        live.chain([pid]).filter(|&tid| tid > after).min()
    }

    fn knows_process(&self, pid: i32) -> bool {
        pid == INIT_PID || self.processes.by_pid(pid).is_some()
    }

    /// A process's first thread is there as long as the process is, even if it ended.
    fn knows_thread(&self, pid: i32, tid: i32) -> bool {
        if tid == pid { self.knows_process(pid) } else { self.thread_by_tid(pid, tid).is_some() }
    }
}

#[cfg(test)]
mod tests {
    use crate::call::Call;
    use crate::testing::Server;

    #[test]
    fn only_what_dmt_knows_is_there() {
        let (server, _link) = Server::leader(100);
        Call::new(server.arena, &*server.platform, 0).first_process(1000);
        // SAFETY: no thread of the server runs.
        let kernel = unsafe { &*server.arena.kernel() };
        let lists = |directory: &str, name: &str| kernel.lists_task(directory.as_bytes(), name.as_bytes());
        assert!(lists("/proc", "1") && lists("/proc", "1000") && lists("/proc", "meminfo"));
        assert!(!lists("/proc", "1001") && !lists("/proc", "2"));
        assert!(lists("/proc/1000/task", "1000") && !lists("/proc/1000/task", "1001"));
        assert!(lists("/proc/1/task", "1") && !lists("/proc/1/task", "5"));
        let threads_of = |directory: &str| kernel.lists_threads_of(directory.as_bytes());
        assert_eq!(threads_of("/proc/1000/task"), Some(1000));
        for other in
            ["/proc/1001/task", "/proc/1/task", "/proc/1000", "/proc/task", "/proc/1000/task/1000", "/x"]
        {
            assert_eq!(threads_of(other), None, "{other}");
        }
        assert_eq!((kernel.next_task(1000, 0), kernel.next_task(1000, 1000)), (Some(1000), None));
        assert!(lists("/proc/1000/fd", "7") && lists("/proc/sys/net", "7"));
        for there in
            ["/proc", "/proc/stat", "/proc/1000", "/proc/1/stat", "/proc/1000/task/1000/stat", "/sys/7"]
        {
            assert!(kernel.has_task(there.as_bytes()), "{there}");
        }
        for gone in ["/proc/1001", "/proc/7/stat", "/proc/1000/task/1001", "/proc/1000/task/7/stat"] {
            assert!(!kernel.has_task(gone.as_bytes()), "{gone}");
        }
    }
}
