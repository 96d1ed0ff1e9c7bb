//! Rounds of the campaign on three machines: `brolga replica`, whose network is cut in all ways, whose clocks jump, and whose disks
//! are slow or lose their power.

use std::time::{Duration, Instant, SystemTime};

use brolga_tests::campaign::place::Place;
use brolga_tests::campaign::recorder::Recorder;
use brolga_tests::campaign::redis::Keys;
use brolga_tests::campaign::sql::{TABLES, Tables};
use brolga_tests::scratch::Scratch;
use brolga_tests::trio::{Role, Trio};
use brolga_tests::wait::{PATIENCE, poll, until};
use brolga_tests::workload::{Failure, Workload};
use brolga_tests::{layers, mariadb};

use super::{FAULTS_IN_A_ROUND, LONGEST, MOST_BETWEEN, REDIS, Report, Round, Server, timeline};
use crate::{Choice, DIVERGED, Directory, REBUILDS, await_load};

/// Replicas, and the machines that they are on.
const REPLICAS: u8 = 3;
/// A cut link or a partition that stops the clients for longer than this is looked into.
const SLOW: Duration = Duration::from_millis(500);
/// The least time of a fault that stops all: so long nothing is to be acknowledged.
const LEAST: Duration = Duration::from_millis(100);
/// Of a hundred packets, those that a bad network loses.
const LOST_PERCENT: u8 = 20;
/// A slow disk takes so long for each request, milliseconds, at the most.
const SLOWEST_DISK_MS: u64 = 100;
/// A clock jumps by so many seconds at the most, half of them back.
const WIDEST_JUMP_SECONDS: u64 = 2 * 86_400;

/// What is done to machines.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The cable of the leader's machine is pulled out.
    LeaderUnplugged,
    /// That of a follower's.
    FollowerUnplugged,
    /// The leader sees neither of the others, but clients see all three.
    LeaderAlone,
    /// A follower sees neither of the others.
    FollowerAlone,
    /// No replica sees another one.
    AllApart,
    /// Two do not see each other, and the third sees both.
    Bridge,
    /// The leader's packets do not reach the others, theirs reach it.
    LeaderUnheard,
    /// The others' packets do not reach the leader.
    LeaderDeaf,
    /// One machine's packets do not reach one other.
    OneWay,
    /// Packets between all machines are lost at random.
    Lossy,
    /// The leader's clock jumps, for good.
    LeaderClockJumps,
    /// A follower's clock jumps, and then the leader is cut off.
    NextLeaderClockJumps,
    /// A disk is slow.
    DiskSlow,
    /// A machine loses its power.
    PowerCut,
    /// All machines lose their power.
    AllPowerCut,
    /// `kill -9` of all on the leader's machine.
    LeaderMachineDies,
    /// Two replicas see each other no more, and one of them takes a checkpoint meanwhile.
    CheckpointInBridge,
    /// A follower is cut off and takes a checkpoint, and its power is cut when it is back.
    CheckpointAlone,
}

/// All of them.
pub(super) const FAULTS: [Fault; 18] = [
    Fault::LeaderUnplugged,
    Fault::FollowerUnplugged,
    Fault::LeaderAlone,
    Fault::FollowerAlone,
    Fault::AllApart,
    Fault::Bridge,
    Fault::LeaderUnheard,
    Fault::LeaderDeaf,
    Fault::OneWay,
    Fault::Lossy,
    Fault::LeaderClockJumps,
    Fault::NextLeaderClockJumps,
    Fault::DiskSlow,
    Fault::PowerCut,
    Fault::AllPowerCut,
    Fault::LeaderMachineDies,
    Fault::CheckpointInBridge,
    Fault::CheckpointAlone,
];

/// One that is under way.
struct Inflicted<'a> {
    trio: &'a mut Trio,
    load: &'a mut dyn Workload,
    choice: &'a mut Choice,
    leader: u8,
    /// Both followers, in any order.
    followers: [u8; 2],
    held: Duration,
}

/// Plays a round.
pub(super) fn play(
    server: Server,
    only: Option<&String>,
    choice: &mut Choice,
    report: &mut Report,
    directory: &Directory,
) {
    let begin = Instant::now();
    let (mut trio, port) = start(server);
    *directory.lock().expect("nobody panicked") = trio.scratch().path().to_owned();
    let seed = choice.below(1 << 31);
    let place = Place::on(&trio.machines, REPLICAS, port);
    let mut load: Box<dyn Workload> = match server {
        Server::Redis => Box::new(Recorder::<Keys>::start(place, seed)),
        Server::MariaDb => Box::new(Recorder::<Tables>::start(place, seed)),
    };
    let (mut faults, mut moments) = (Vec::new(), Vec::new());
    for _ in 0..FAULTS_IN_A_ROUND {
        await_load(load.as_mut(), 1 + choice.below(MOST_BETWEEN));
        let any = FAULTS[choice.below(FAULTS.len() as u64) as usize];
        let wanted = only.and_then(|name| FAULTS.into_iter().find(|fault| format!("{fault:?}") == *name));
        let fault = wanted.unwrap_or(any);
        if wanted.is_some() {
            // What it costs by itself: nothing of the fault before is left.
            (1..=REPLICAS).for_each(|id| trio.await_level(id));
        }
        moments.push((fault, SystemTime::now()));
        let at = inflict(fault, &mut trio, load.as_mut(), choice);
        await_load(load.as_mut(), 1);
        faults.push((format!("{fault:?}"), Failure::since(at)));
    }
    let failures: Vec<_> = faults.iter().map(|(_, failure)| *failure).collect();
    let (verdict, gaps) = load.finish(&failures).unwrap_or_else(|wrong| panic!("ANOMALY: {wrong}"));
    (1..=REPLICAS).for_each(|id| trio.await_level(id));
    let diverged = trio.logged(DIVERGED);
    assert!(diverged.is_empty(), "{}", diverged.join("\n"));
    tell_slow_ones(&trio, &moments, &gaps);
    let rebuilds = trio.logged(REBUILDS).len();
    let files = end(server, &mut trio, port);
    report.note(Round {
        place: "three machines",
        faults,
        gaps,
        verdict,
        rebuilds,
        files,
        took: begin.elapsed(),
    });
}

/// What the logs say of those that a fifth of a second should end.
fn tell_slow_ones(trio: &Trio, moments: &[(Fault, SystemTime)], gaps: &[Duration]) {
    for ((fault, at), gap) in moments.iter().zip(gaps) {
        let prompt = matches!(fault, Fault::LeaderUnplugged | Fault::LeaderAlone | Fault::LeaderUnheard);
        if prompt && *gap > SLOW {
            println!("{fault:?} stopped the clients for {gap:.0?}:");
            timeline::print(trio, *at, *gap);
        }
    }
}

fn start(server: Server) -> (Trio, u16) {
    let scratch = Scratch::new("faults");
    let (command, port): (Vec<String>, u16) = match server {
        Server::Redis => (REDIS.map(str::to_owned).to_vec(), 6379),
        Server::MariaDb => {
            let mut command = mariadb::prepare(&scratch, "root");
            // Clients come from other machines.
            command.push("--skip-grant-tables".to_owned());
            (command, 3306)
        }
    };
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut trio = Trio::new_in(scratch, &words);
    trio.make_disks();
    (1..=REPLICAS).for_each(|id| trio.start(id));
    trio.await_status(1, "all replicas run and the server listens", |status| {
        (status.complete(REPLICAS) && !status.leader()?.listeners.is_empty()).then_some(())
    });
    await_ports(&trio, port);
    if let Server::MariaDb = server {
        sql(&trio, port, TABLES);
    }
    (trio, port)
}

/// Waits until all machines take clients: else all would be at the leader's, and when that is cut off, each waits for its time-out.
fn await_ports(trio: &Trio, port: u16) {
    let place = Place::on(&trio.machines, REPLICAS, port);
    let connected = move || {
        place.enter();
        let connect = |address| std::net::TcpStream::connect_timeout(address, place.connect).ok();
        place
            .addresses
            .iter()
            .for_each(|address| drop(until("a machine takes clients", PATIENCE, || connect(address))));
    };
    std::thread::spawn(connected).join().expect("all machines take clients");
}

fn sql(trio: &Trio, port: u16, statements: &'static str) {
    let place = Place::on(&trio.machines, REPLICAS, port);
    let done = move || {
        place.enter();
        until("MariaDB answers", PATIENCE, || mariadb::sql_at(place.addresses[0], "SELECT 1").ok());
        mariadb::sql_at(place.addresses[0], statements)
    };
    std::thread::spawn(done).join().expect("run SQL").expect("what was asked for");
}

fn end(server: Server, trio: &mut Trio, port: u16) -> usize {
    let compare = |trio: &Trio| layers::assert_identical(trio.scratch().path(), REPLICAS).0;
    match server {
        Server::Redis => {
            let files = compare(trio);
            trio.stop();
            files
        }
        Server::MariaDb => {
            sql(trio, port, "SHUTDOWN");
            trio.await_end();
            let files = compare(trio);
            trio.stop();
            files
        }
    }
}

/// Does it, and undoes what does not end by itself; returns when it began.
fn inflict(fault: Fault, trio: &mut Trio, load: &mut dyn Workload, choice: &mut Choice) -> Instant {
    let leader = leader(trio);
    let (second, third) = (leader % REPLICAS + 1, (leader + 1) % REPLICAS + 1);
    let followers = if choice.below(2) == 0 { [second, third] } else { [third, second] };
    let held = LEAST + Duration::from_millis(choice.below((LONGEST - LEAST).as_millis() as u64));
    let mut fault_of = Inflicted { trio, load, choice, leader, followers, held };
    fault_of.inflict(fault)
}

/// Who leads in the eyes of the machine that can tell.
fn leader(trio: &Trio) -> u8 {
    let known = || {
        let leads = |id: u8| Some(trio.status(id)?.replica(id)?.role == Role::Leader);
        let all: Vec<u8> = (1..=REPLICAS).filter(|&id| leads(id) == Some(true)).collect();
        (all.len() == 1).then(|| all[0])
    };
    until("a replica leads", PATIENCE, known)
}

impl Inflicted<'_> {
    fn inflict(&mut self, fault: Fault) -> Instant {
        let (leader, [follower, other]) = (self.leader, self.followers);
        match fault {
            Fault::LeaderUnplugged => self.unplug(leader),
            Fault::FollowerUnplugged => self.unplug(follower),
            Fault::LeaderAlone => self.network(|trio| {
                trio.machines.part(leader, follower);
                trio.machines.part(leader, other);
            }),
            Fault::FollowerAlone => self.network(|trio| {
                trio.machines.part(follower, leader);
                trio.machines.part(follower, other);
            }),
            Fault::AllApart => {
                let at = Instant::now();
                self.trio.machines.part(leader, follower);
                self.trio.machines.part(leader, other);
                self.trio.machines.part(follower, other);
                self.hold_for_time();
                self.heal(at)
            }
            Fault::Bridge => {
                let pair = [(leader, follower), (follower, other)][self.choice.below(2) as usize];
                self.network(|trio| trio.machines.part(pair.0, pair.1))
            }
            Fault::LeaderUnheard => self.network(|trio| trio.machines.deafen(leader, &[follower, other])),
            Fault::LeaderDeaf => self.network(|trio| {
                trio.machines.deafen(follower, &[leader]);
                trio.machines.deafen(other, &[leader]);
            }),
            Fault::OneWay => {
                let from = 1 + self.choice.below(u64::from(REPLICAS)) as u8;
                let to = (from + self.choice.below(2) as u8) % REPLICAS + 1;
                self.network(|trio| trio.machines.deafen(from, &[to]))
            }
            Fault::Lossy => self.network(|trio| {
                for (one, another) in [(leader, follower), (follower, other), (other, leader)] {
                    trio.machines.lose(one, another, LOST_PERCENT);
                    trio.machines.lose(another, one, LOST_PERCENT);
                }
            }),
            Fault::LeaderClockJumps => {
                let at = Instant::now();
                self.jump(leader);
                self.hold();
                at
            }
            Fault::NextLeaderClockJumps => {
                self.jump(follower);
                self.jump(other);
                self.unplug(leader)
            }
            Fault::DiskSlow => {
                let victim = if self.choice.below(2) == 0 { leader } else { follower };
                let at = Instant::now();
                let pause = Duration::from_millis(1 + self.choice.below(SLOWEST_DISK_MS));
                self.trio.disk(victim).slow_down(pause);
                self.hold();
                self.trio.disk(victim).slow_down(Duration::ZERO);
                at
            }
            Fault::PowerCut => {
                let victim = if self.choice.below(2) == 0 { leader } else { follower };
                self.cut_power(&[victim])
            }
            Fault::AllPowerCut => self.cut_power(&[leader, follower, other]),
            Fault::LeaderMachineDies => {
                let at = self.trio.kill(leader);
                self.hold();
                self.trio.start(leader);
                at
            }
            Fault::CheckpointInBridge => {
                let at = Instant::now();
                self.trio.machines.part(follower, other);
                checkpoint(self.trio, follower);
                self.hold();
                self.heal(at)
            }
            Fault::CheckpointAlone => {
                let at = Instant::now();
                self.trio.machines.part(follower, leader);
                self.trio.machines.part(follower, other);
                checkpoint(self.trio, follower);
                self.hold();
                self.heal(at);
                self.cut_power(&[follower]);
                at
            }
        }
    }

    fn unplug(&mut self, machine: u8) -> Instant {
        self.trio.machines.set_link(machine, false);
        let at = Instant::now();
        self.hold();
        self.trio.machines.set_link(machine, true);
        at
    }

    fn network(&mut self, cut: impl FnOnce(&Trio)) -> Instant {
        cut(self.trio);
        let at = Instant::now();
        self.hold();
        self.heal(at)
    }

    fn heal(&mut self, at: Instant) -> Instant {
        self.trio.machines.hear_again(&[1, 2, 3]);
        at
    }

    /// For some operations, or as many as come while it lasts.
    fn hold(&mut self) {
        let goal = self.load.acknowledged() + 1 + self.choice.below(MOST_BETWEEN);
        poll(self.held, || (self.load.acknowledged() >= goal).then_some(()));
    }

    /// For its time: nothing else tells when it is over.
    fn hold_for_time(&mut self) {
        poll(self.held, || None::<()>);
    }

    /// A clock that has jumped stays so until it jumps again, back or ahead.
    fn jump(&mut self, id: u8) {
        let by = self.choice.below(2 * WIDEST_JUMP_SECONDS).cast_signed() - WIDEST_JUMP_SECONDS.cast_signed();
        self.trio.shift_clock(id, by * 1_000_000_000);
    }

    fn cut_power(&mut self, machines: &[u8]) -> Instant {
        let at = Instant::now();
        for &id in machines {
            let choice = &mut *self.choice;
            self.trio.cut_power(id, || choice.below(2) == 0);
        }
        machines.iter().for_each(|&id| self.trio.start(id));
        at
    }
}

/// Asks a replica for a checkpoint, which it may refuse for many reasons while it is cut off.
fn checkpoint(trio: &Trio, id: u8) {
    let done = trio.call(id, &["checkpoint", "--replica", &id.to_string()]);
    if !done.status.success() {
        println!("  no checkpoint: {}", String::from_utf8_lossy(&done.stderr).trim_end());
    }
}
