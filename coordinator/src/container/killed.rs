//! Looks for processes of the server that somebody killed while they waited: by hand, or the kernel for want of memory.
//!
//! A fault of the turn holder's own is at the same place on all replicas, and ends as an operation ([`super::deaths`]). All other
//! deaths that dmt does not know of are of this replica only.

use std::path::Path;
use std::sync::atomic::Ordering;

use dmt::bounds::MAX_PROCESSES;
use dmt::control::Control;

use super::{ARENA_FILE, ArenaMapping, ExitStatus, Report, SHARED_MOUNT, deaths};

/// See the module.
pub(super) struct Killed {
    arena: ArenaMapping,
    /// Found dead at the last look, by slot. A death that is being announced as an operation is over at the next.
    suspects: [i32; MAX_PROCESSES],
    /// Reported already, by slot: each is told once.
    told: [i32; MAX_PROCESSES],
}

impl Killed {
    /// Maps the arena.
    pub fn open() -> Result<Self, String> {
        let path = Path::new(SHARED_MOUNT).join(ARENA_FILE);
        let arena = ArenaMapping::open(&path).map_err(|e| format!("cannot map {}: {e}", path.display()))?;
        Ok(Self { arena, suspects: [0; MAX_PROCESSES], told: [0; MAX_PROCESSES] })
    }

    /// Looks once.
    pub fn look(&mut self) -> Option<Report> {
        // SAFETY: the control page stands at the start of the arena, is all atomics, and lives as long as the mapping.
        let control = unsafe { &*self.arena.as_ptr::<Control>() };
        for (slot, word) in control.pids.iter().enumerate() {
            let pid = word.load(Ordering::SeqCst);
            if pid == 0 || pid == self.told[slot] {
                self.suspects[slot] = 0;
                continue;
            }
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            let status = match stat {
                Ok(stat) => wait_status_of_dead(&stat),
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                    Some(ExitStatus::Code(0))
                }
                Err(_) => None,
            };
            let has_turn = pid == control.turn_pid.load(Ordering::SeqCst);
            let status = status.filter(|status| !has_turn || !deaths::is_fault(status.wait_status()));
            let seen_before = std::mem::replace(&mut self.suspects[slot], status.map_or(0, |_| pid)) == pid;
            // Asked again after the kernel: a process that ends as it should is gone from here first.
            if let Some(status) = status
                && seen_before
                && word.load(Ordering::SeqCst) == pid
            {
                self.told[slot] = pid;
                return Some(Report::ProcessDied { pid, status });
            }
        }
        None
    }
}

/// How a process died, from its `/proc/PID/stat`; `None` if it lives. One whose first thread alone has ended is shown as a
/// zombie, too, but has other threads.
fn wait_status_of_dead(stat: &str) -> Option<ExitStatus> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<i32>().ok();
    let is_dead = matches!(*fields.first()?, "Z" | "X") && number(20)? <= 1;
    is_dead.then(|| ExitStatus::from_wait_status(number(52).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::{ExitStatus, wait_status_of_dead};

    fn stat(state: &str, threads: i32, exit: i32) -> String {
        let mut fields = vec!["0".to_owned(); 50];
        fields[0] = state.to_owned();
        fields[17] = threads.to_string();
        fields[49] = exit.to_string();
        format!("1003 (a ) b) {}\n", fields.join(" "))
    }

    #[test]
    fn only_the_dead_are_dead() {
        assert_eq!(wait_status_of_dead(&stat("S", 3, 0)), None);
        assert_eq!(wait_status_of_dead(&stat("Z", 2, 0)), None, "its first thread has ended, others go on");
        assert_eq!(wait_status_of_dead(&stat("Z", 1, 9)), Some(ExitStatus::Signal(9)));
        assert_eq!(wait_status_of_dead(&stat("Z", 0, 0x300)), Some(ExitStatus::Code(3)));
    }
}
