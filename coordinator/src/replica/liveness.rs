//! Whether a peer that says nothing is slow or gone.
//!
//! A process that is given no time by a busy machine says nothing for hundreds of milliseconds, and to elect another leader
//! for that costs clients their connections. Its *kernel* answers all the same: it acknowledges what arrives. So a silent peer is
//! sent a few bytes, and if its kernel does not acknowledge them either, its machine or the link to it is gone, and the
//! connection counts as broken. That takes a sixth of a second where a time-out that tells a slow process from a dead one
//! needs more than a whole.
//!
//! What is compared are the kernel's own times (`TCP_INFO`), so that it does not matter when this process gets to look.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

const MS: u64 = 1_000_000;

/// Limits for one kind of peer, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// A peer that says nothing for so long is probed.
    silence: u64,
    /// Pause between two probes: if one is lost, the next makes the peer's kernel say so.
    interval: u64,
    /// So long its kernel may take to acknowledge the first probe, besides two round trips. Kernels put acknowledgements off for
    /// 40 ms.
    patience: u64,
}

/// Between a leader and its followers. A leader says something every 50 ms, and 74 ms may be between two.
const VITAL: Limits = Limits { silence: 80 * MS, interval: 20 * MS, patience: 80 * MS };
/// Between followers, who have nothing to say to each other.
const SPARE: Limits = Limits { silence: 1000 * MS, interval: 250 * MS, patience: 1000 * MS };
/// A second look after so long: after a pause of this whole machine its kernel may have packets to deliver.
const CONFIRM: u64 = 10 * MS;

/// What the kernel knows of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Packets that are sent and not acknowledged.
    pub unacknowledged: u32,
    /// Since anything came, nanoseconds: data or an acknowledgement.
    pub silent: u64,
    /// Round trip, nanoseconds.
    pub round_trip: u64,
}

/// What to do about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Send it something.
    Probe,
    /// Its machine or the link is gone; nothing came for so many milliseconds.
    Gone(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Liveness {
    vital: bool,
    heard: u64,
    look_at: u64,
    /// When the first probe was sent.
    probed: Option<u64>,
    suspect: bool,
}

impl Liveness {
    /// For a connection that begins now.
    pub fn new(now: u64) -> Self {
        Self { vital: false, heard: now, look_at: now + SPARE.silence, probed: None, suspect: false }
    }

    /// The peer said something.
    pub fn heard(&mut self, now: u64) {
        self.heard = now;
        self.begin();
    }

    /// Whether one of the two leads.
    pub fn set_vital(&mut self, vital: bool) {
        if self.vital != vital {
            self.vital = vital;
            self.begin();
        }
    }

    fn begin(&mut self) {
        (self.probed, self.suspect) = (None, false);
        self.look_at = self.heard + self.limits().silence;
    }

    fn limits(&self) -> Limits {
        if self.vital { VITAL } else { SPARE }
    }

    /// When to look.
    pub fn look_at(&self) -> u64 {
        self.look_at
    }

    /// Looks, and says when to look again by [`Liveness::look_at`].
    pub fn look(&mut self, now: u64, link: impl FnOnce() -> Option<Link>) -> Verdict {
        let limits = self.limits();
        let Some(probed) = self.probed else {
            self.probed = Some(now);
            self.look_at = now + limits.interval;
            return Verdict::Probe;
        };
        self.look_at = now + limits.interval;
        if now < probed + limits.patience {
            return Verdict::Probe;
        }
        let Some(link) = link() else { return Verdict::Fine };
        let waited = now - probed;
        if link.unacknowledged == 0 || link.silent < waited {
            // Its kernel is there; it is the process that says nothing.
            (self.probed, self.suspect) = (Some(now), false);
            return Verdict::Probe;
        }
        if waited < limits.patience + 2 * link.round_trip {
            return Verdict::Probe;
        }
        if std::mem::replace(&mut self.suspect, true) {
            return Verdict::Gone(link.silent / MS);
        }
        self.look_at = now + CONFIRM;
        Verdict::Fine
    }
}

/// Asks the kernel.
pub fn link_of(socket: &TcpStream) -> Option<Link> {
    // SAFETY: all-zero bytes are a good value of this structure of numbers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the buffer has as many bytes as the call is told.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    let silent = u64::from(info.tcpi_last_ack_recv.min(info.tcpi_last_data_recv)) * MS;
    (result == 0).then(|| Link {
        unacknowledged: info.tcpi_unacked,
        silent,
        round_trip: u64::from(info.tcpi_rtt) * 1000,
    })
}

#[cfg(test)]
mod tests {
    use super::{Link, Liveness, MS, Verdict, link_of};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    /// Looks whenever it wants to until it does not probe; returns when that was, and the verdict.
    fn run(liveness: &mut Liveness, until: u64, link: impl Fn(u64) -> Link) -> (u64, Verdict) {
        loop {
            let now = liveness.look_at();
            let verdict = liveness.look(now, || Some(link(now)));
            if matches!(verdict, Verdict::Gone(_)) || now >= until {
                return (now / MS, verdict);
            }
        }
    }

    #[test]
    fn a_machine_that_is_gone_is_noticed_soon_and_a_slow_process_never() {
        let dead = |now| Link { unacknowledged: 1, silent: now, round_trip: MS };
        let mut follower = Liveness::new(0);
        follower.set_vital(true);
        let (at, verdict) = run(&mut follower, 5000 * MS, dead);
        assert!(at < 200 && matches!(verdict, Verdict::Gone(..=200)), "{at} {verdict:?}");
        let mut follower = Liveness::new(0);
        follower.set_vital(true);
        let slow = |_| Link { unacknowledged: 1, silent: 40 * MS, round_trip: MS };
        assert_eq!(run(&mut follower, 5000 * MS, slow).1, Verdict::Probe);
        // The link of two followers may take longer, and so may one around the world.
        assert!(run(&mut Liveness::new(0), 5000 * MS, dead).0 > 2000);
        let far = |now| Link { round_trip: 150 * MS, ..dead(now) };
        let mut follower = Liveness::new(0);
        follower.set_vital(true);
        assert!(run(&mut follower, 5000 * MS, far).0 > 400);
    }

    #[test]
    fn what_is_heard_ends_the_suspicion() {
        let mut liveness = Liveness::new(0);
        liveness.set_vital(true);
        let dead = || Some(Link { unacknowledged: 1, silent: u64::MAX, round_trip: 0 });
        while liveness.look(liveness.look_at(), dead) != Verdict::Fine {}
        let now = liveness.look_at();
        liveness.heard(now);
        assert!(liveness.look_at() >= now + 50 * MS);
        assert_eq!(liveness.look(liveness.look_at(), dead), Verdict::Probe);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the kernel takes real time")]
    fn the_kernel_of_a_process_that_does_not_read_acknowledges() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _far = listener.accept().unwrap();
        near.write_all(b"probe").unwrap();
        let begun = std::time::Instant::now();
        while link_of(&near).unwrap().unacknowledged > 0 {
            assert!(begun.elapsed().as_secs() < 5, "no acknowledgement");
            std::thread::yield_now();
        }
        assert!(link_of(&near).unwrap().silent < 5_000 * MS);
    }
}
