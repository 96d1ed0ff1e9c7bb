//! What goes wrong, and when.

use coordinator::paxos::MILLIS;

use super::network::Weather;
use super::rng::Rng;

/// Whom a fault hits.
#[derive(Clone, Copy, Debug)]
pub enum Victim {
    /// Whoever leads when it happens; else replica 0.
    Leader,
    /// This one.
    Replica(usize),
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The processes die and start again after a while. `power` = what was not synced may be lost.
    Crash {
        /// Whom.
        victim: Victim,
        /// The machine lost power.
        power: bool,
        /// How long it is away, nanoseconds.
        lasts: u64,
    },
    /// Nothing passes between the victim and all others.
    Isolate {
        /// Whom.
        victim: Victim,
        /// How long, nanoseconds.
        lasts: u64,
    },
    /// Nothing passes from the victim to one other, but all the other way.
    OneWay {
        /// Whom.
        victim: Victim,
        /// How long, nanoseconds.
        lasts: u64,
    },
    /// Messages are lost, doubled, reordered.
    Storm {
        /// How badly.
        weather: Weather,
        /// How long, nanoseconds.
        lasts: u64,
    },
    /// The coordinator does nothing for a while.
    Pause {
        /// Whose.
        victim: Victim,
        /// How long, nanoseconds.
        lasts: u64,
    },
    /// The server's threads get no CPU for a while.
    Stall {
        /// Whose.
        victim: Victim,
        /// How long, nanoseconds.
        lasts: u64,
    },
    /// The clock jumps.
    Clock {
        /// Whose.
        victim: Victim,
        /// By so many nanoseconds.
        by: i64,
    },
    /// The CPU becomes slower or faster.
    Speed {
        /// Whose.
        victim: Victim,
        /// Percent of a work's nominal time.
        slowness: u64,
    },
    /// The leader is cut off and does not know it yet. Another replica is elected; whoever promised it its ballot crashes at
    /// once, comes back, and hears the old leader before the new one.
    Usurp {
        /// How long nothing passes between the two leaders, nanoseconds.
        lasts: u64,
    },
    /// The log's disk has no more room.
    FullDisk {
        /// Whose.
        victim: Victim,
        /// How long, nanoseconds.
        lasts: u64,
    },
    /// A replica's checkpoints turn out to be damaged, if others hold some that it could go on behind.
    LoseCheckpoints {
        /// Whose.
        victim: Victim,
    },
    /// A connection between the victim and another breaks.
    Break {
        /// Whose.
        victim: Victim,
    },
}

/// Draws one fault for a cluster of `replicas`.
pub fn draw(rng: &mut Rng, replicas: usize, may_lose_power: bool) -> Fault {
    let victim =
        if rng.percent(50) { Victim::Leader } else { Victim::Replica(rng.below(replicas as u64) as usize) };
    let short = rng.between(1, 60) * MILLIS;
    let long = rng.between(20, 500) * MILLIS;
    match rng.below(12) {
        0..=2 => {
            Fault::Crash { victim, power: may_lose_power && rng.percent(60), lasts: rng.pick(&[short, long]) }
        }
        3 | 4 => Fault::Isolate { victim, lasts: long },
        5 => Fault::OneWay { victim, lasts: long },
        6 => Fault::Storm {
            weather: Weather { drop: rng.below(20), duplicate: rng.below(20), reorder: rng.below(40) },
            lasts: long,
        },
        7 => Fault::Pause { victim, lasts: long },
        8 => Fault::Stall { victim, lasts: long },
        9 => Fault::Clock { victim, by: rng.between(0, 20_000 * MILLIS) as i64 - 10_000 * MILLIS as i64 },
        10 => Fault::Speed { victim, slowness: rng.pick(&[100, 400, 2000]) },
        _ => Fault::Break { victim },
    }
}
