//! How long work beside the clients' keeps a processor.
//!
//! A thread that computes keeps its processor for some milliseconds before the kernel gives it to one that woke meanwhile: several
//! requests' time. What is done for a checkpoint, or ahead of its use, therefore asks for short slices, and gives way
//! (`sched_yield`) between its pieces, because most kernels look at slices at their ticks only, each of which is milliseconds.
//! (As idle work, `SCHED_IDLE`, it would never disturb, but on a busy machine it took twelve seconds instead of a tenth of one.)

/// The slice that is asked for, nanoseconds: the shortest that there is. Kernels before 6.12 do not know of that.
const SLICE_NS: u64 = 100_000;
/// Nice value of work that can wait: a ninth of the usual share of a processor.
const MODEST: i32 = 10;

/// As in `linux/sched/types.h`, its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// For work that somebody waits for: the calling thread, and what it starts from then on, has its share of the processors in short
/// slices.
pub fn briefly() {
    set(i32::MIN);
}

/// For work that can wait: likewise, with a small share.
pub fn modestly() {
    set(MODEST);
}

/// Where the kernel refuses it stays as it is. Makes nothing but system calls.
fn set(nice: i32) {
    let mut attributes = Attributes::default();
    // SAFETY: the attributes outlive the calls, which concern the calling thread only and write no more than they are told.
    unsafe {
        let got = libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size_of::<Attributes>(), 0);
        if got == 0 {
            // The user's own nice value stays, if it is a higher one.
            (attributes.nice, attributes.runtime) = (attributes.nice.max(nice), SLICE_NS);
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MODEST, briefly, modestly};

    #[test]
    fn concern_the_calling_thread_alone() {
        // SAFETY: queries about the calling thread.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let after = |change: fn()| {
            let thread = std::thread::spawn(move || {
                change();
                nice()
            });
            thread.join().unwrap()
        };
        let own = nice();
        assert_eq!(after(briefly), own);
        assert_eq!(after(modestly), own.max(MODEST));
        assert_eq!(nice(), own);
    }
}
