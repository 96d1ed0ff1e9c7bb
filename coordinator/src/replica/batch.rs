//! In a throng of clients the replica's loop does not interrupt others.
//!
//! The kernel lets a process that was woken interrupt the one that runs. With very many clients at once that costs more than it
//! gains: the loop takes the processor from a server or a client for each message, and finds little to do. So while there is a
//! throng (see [`super::polling`]) its thread has the policy `SCHED_BATCH`, which gives it the same share of processors without
//! that right. A lone request must not wait behind other work of the machine; without a throng the policy is the usual one.

/// The scheduling policy of the loop's thread.
#[derive(Debug, Default)]
pub struct Batch {
    on: bool,
}

impl Batch {
    /// Gives the calling thread the policy for a throng or for none. Where the kernel refuses it stays as it is.
    pub fn set(&mut self, throng: bool) {
        if throng == self.on {
            return;
        }
        self.on = throng;
        let policy = if throng { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
        let parameter = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameter outlives the call, which concerns the calling thread only.
        unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;

    #[test]
    fn the_policy_follows_the_throng() {
        // SAFETY: a query about the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let mut batch = Batch::default();
        for (throng, wanted) in
            [(true, libc::SCHED_BATCH), (true, libc::SCHED_BATCH), (false, libc::SCHED_OTHER)]
        {
            batch.set(throng);
            assert_eq!(policy(), wanted);
        }
    }
}
