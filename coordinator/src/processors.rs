//! On which processors a thread of this process may run.

use std::sync::OnceLock;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Where this process could run before one of its threads was bound.
static EVERYWHERE: OnceLock<CpuSet> = OnceLock::new();
/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// Binds the calling thread to the processor where it is, which is returned. Where the kernel refuses it stays free.
pub fn bind() -> Option<usize> {
    let here = sched_getcpu().ok()?;
    if EVERYWHERE.get().is_none() {
        let _ = EVERYWHERE.set(sched_getaffinity(THIS).ok()?);
    }
    let mut only = CpuSet::new();
    only.set(here).ok()?;
    sched_setaffinity(THIS, &only).ok()?;
    Some(here)
}

/// The calling thread may run everywhere again: it was bound, or was started by one that is.
pub fn roam() {
    if let Some(all) = EVERYWHERE.get() {
        // It worked for fewer processors.
        let _ = sched_setaffinity(THIS, all);
    }
}

/// The number of processors where the calling thread may run.
#[cfg(test)]
pub fn usable() -> usize {
    let set = sched_getaffinity(THIS).unwrap();
    (0..CpuSet::count()).filter(|&processor| set.is_set(processor).unwrap()).count()
}

#[cfg(test)]
mod tests {
    use super::{bind, roam, usable};

    #[test]
    fn a_thread_that_a_bound_one_starts_may_run_everywhere() {
        let all = usable();
        assert!(bind().is_some());
        assert_eq!(usable(), 1);
        let started = std::thread::spawn(|| {
            let inherited = usable();
            roam();
            (inherited, usable())
        });
        assert_eq!(started.join().unwrap(), (1, all));
        roam();
        assert_eq!(usable(), all);
    }
}
