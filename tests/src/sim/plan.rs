//! What a schedule is like, drawn from its seed.

use coordinator::log::Durability;
use coordinator::paxos::MILLIS;

use super::rng::Rng;
use super::toy::ToyConfig;

/// A rule of the protocol that is broken on purpose, to see that the checkers notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Output leaves one entry before its own is committed.
    ReleaseEarly,
    /// Now and then a sync does nothing.
    SkipSync,
    /// A leader admits inside a bubble.
    AdmitInside,
    /// Now and then a follower's server goes on where its bubble ends.
    RunBeyond,
    /// A replica that restarts has forgotten what it promised.
    ForgetPromise,
    /// Now and then an event is given to the server twice.
    ApplyTwice,
    /// Now and then a connection to another host is made twice.
    DialTwice,
    /// A server that applied entries which were not decided lives on. (If no more than a new leader's taint is overlooked, nothing
    /// comes of it: the driver rebuilds the server when the first of these entries is decided otherwise, before output leaves.)
    KeepTainted,
    /// A server that was restored is not given the first entry behind its checkpoint.
    DropTail,
    /// Each replica cuts its log where its own server can do without, whatever checkpoints there are.
    CutEarly,
}

impl Broken {
    /// All, with the names that the command line knows them by.
    pub const ALL: [(&'static str, Self); 10] = [
        ("release-early", Self::ReleaseEarly),
        ("skip-sync", Self::SkipSync),
        ("admit-inside", Self::AdmitInside),
        ("run-beyond", Self::RunBeyond),
        ("forget-promise", Self::ForgetPromise),
        ("apply-twice", Self::ApplyTwice),
        ("dial-twice", Self::DialTwice),
        ("keep-tainted", Self::KeepTainted),
        ("drop-tail", Self::DropTail),
        ("cut-early", Self::CutEarly),
    ];
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What is broken on purpose.
    pub broken: Option<Broken>,
    /// Replicas.
    pub replicas: usize,
    /// Clients.
    pub clients: usize,
    /// When a majority has an entry.
    pub durability: Durability,
    /// Paxos' heartbeat, nanoseconds.
    pub heartbeat: u64,
    /// Paxos' election time-out, nanoseconds.
    pub election: u64,
    /// The server.
    pub toy: ToyConfig,
    /// Percent of the syncs that take long.
    pub slow_disk_percent: u64,
    /// Nominal delay of a message, nanoseconds.
    pub delay: u64,
    /// Faults happen until then, nanoseconds.
    pub faults_until: u64,
    /// Number of faults.
    pub faults: usize,
    /// Order first, execute after (`--admission crane`).
    pub crane: bool,
    /// CPU speed of each replica: percent of the nominal time that a work needs.
    pub slowness: Vec<u64>,
    /// Size of a segment of the log, bytes. Small ones make recovery and full disks interesting.
    pub segment_bytes: u64,
    /// Entries that Paxos keeps in memory; older ones are read from the log.
    pub tail_entries: usize,
    /// Bytes that a client's socket holds before the client takes some.
    pub socket_bytes: usize,
    /// When a leader is usurped over a promise that is forgotten if it can be, nanoseconds.
    pub usurpations: Vec<u64>,
    /// When whose disk is full, and how long: nanoseconds, replica, nanoseconds.
    pub full_disks: Vec<(u64, usize, u64)>,
    /// Entries after which one of the replicas takes a checkpoint; 0 = none does.
    pub checkpoint_every: u64,
    /// When whose checkpoints are damaged: nanoseconds, replica.
    pub lost_checkpoints: Vec<(u64, usize)>,
    /// When the members are to change, nanoseconds, and how.
    pub changes: Vec<(u64, Wanted)>,
}

/// A change of the members that somebody wants. Numbers choose one of those that there are then.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// One more.
    Add,
    /// A new one takes this one's place.
    Replace(u64),
    /// One less.
    Remove(u64),
}

/// Where the toy server spins, if its loop can be recognised.
const SPIN_BRANCH: u64 = 0x40_1000;

impl Plan {
    /// The plan of `seed`.
    pub fn new(seed: u64, broken: Option<Broken>) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let forgets = broken == Some(Broken::ForgetPromise);
        let replicas = rng.pick(&[1, 3, 3, 3, 3, 3, 5]);
        let replicas = if forgets { 3 } else { replicas };
        let disk = matches!(broken, Some(Broken::SkipSync)) || rng.percent(50);
        let heartbeat = rng.between(5, 20) * MILLIS;
        // Who breaks a rule of the speculative admission needs that admission.
        let crane = broken.is_none() && seed.is_multiple_of(8);
        let spin_branch = if seed.is_multiple_of(3) { 0 } else { SPIN_BRANCH };
        let spin_every = rng.pick(&[0, 0, 5, 11]);
        let bulk = rng.percent(8);
        let faults_until = rng.between(100, 700) * MILLIS;
        let times = |rng: &mut Rng, percent: u64| {
            let count = if rng.percent(percent) { rng.between(1, 3) } else { 0 };
            (0..count).map(|_| rng.between(20 * MILLIS, faults_until)).collect::<Vec<u64>>()
        };
        let usurpations = times(&mut rng, if forgets { 100 } else { 15 });
        let full_disks = times(&mut rng, 15);
        let full_disks = full_disks
            .into_iter()
            .map(|at| (at, rng.below(replicas as u64) as usize, rng.between(5, 300) * MILLIS));
        let full_disks = full_disks.collect();
        let call_every = rng.pick(&[0, 0, 2, 5]);
        // Drawn apart, so that the rest of a seed's plan is what it would be without.
        let apart = Apart::new(seed, broken, faults_until);
        // Logs are cut by whole segments.
        let most_segment = if apart.checkpoint_every > 0 { 8 << 10 } else { u64::MAX };
        Self {
            seed,
            broken,
            replicas,
            clients: rng.between(1, 4) as usize,
            durability: if disk { Durability::Disk } else { Durability::Memory },
            heartbeat,
            election: heartbeat * rng.between(5, 10),
            toy: ToyConfig {
                workers: rng.between(1, 3) as usize,
                // Crane has no preemption, but spin points.
                spin_every: if crane && spin_branch == 0 { 0 } else { spin_every },
                spin_branch,
                long_every: rng.pick(&[0, 7, 13]),
                long_ns: rng.between(1, 4) * MILLIS,
                call_every,
                epoll_timeout: rng.pick(&[None, None, Some(10 * MILLIS), Some(70 * MILLIS)]),
                bulk,
            },
            slow_disk_percent: rng.pick(&[0, 0, 2, 20]),
            delay: rng.pick(&[20_000, 100_000, 1_000_000]),
            faults_until,
            faults: rng.between(0, 7) as usize,
            crane,
            slowness: (0..replicas).map(|_| rng.pick(&[100, 100, 100, 150, 400, 2000])).collect(),
            segment_bytes: rng.pick(&[4 << 10, 32 << 10, 128 << 10]).min(most_segment),
            tail_entries: rng.pick(&[16, 256, 8192]),
            socket_bytes: if bulk { rng.pick(&[1 << 10, 16 << 10, 64 << 10]) } else { 1 << 20 },
            usurpations,
            full_disks,
            checkpoint_every: apart.checkpoint_every,
            lost_checkpoints: apart.lost_checkpoints,
            changes: apart.changes,
        }
    }
}

/// Checkpoints, and members that change.
struct Apart {
    checkpoint_every: u64,
    lost_checkpoints: Vec<(u64, usize)>,
    changes: Vec<(u64, Wanted)>,
}

impl Apart {
    fn new(seed: u64, broken: Option<Broken>, until: u64) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let restores = matches!(broken, Some(Broken::DropTail | Broken::CutEarly));
        let checkpoints = rng.percent(if restores { 100 } else { 50 });
        let checkpoint_every = if checkpoints { rng.pick(&[4, 8, 20]) } else { 0 };
        let count = if rng.percent(40) { rng.between(1, 5) } else { 0 };
        let changes: Vec<_> = (0..count)
            .map(|_| {
                let which = rng.below(8);
                let wanted = rng.pick(&[Wanted::Add, Wanted::Replace(which), Wanted::Remove(which)]);
                (rng.between(10 * MILLIS, until), wanted)
            })
            .collect();
        // A member that is on its way out may hold the only ones that are left.
        let lost = if changes.is_empty() && rng.percent(35) { rng.between(1, 3) } else { 0 };
        let lost = (0..lost).map(|_| (rng.between(10 * MILLIS, until), rng.below(8) as usize));
        let lost_checkpoints = lost.collect();
        Self { checkpoint_every, lost_checkpoints, changes }
    }
}
