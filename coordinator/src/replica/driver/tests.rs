//! The driver of replica 1 of three, with its real log and a real arena whose server is this test.

use std::sync::atomic::Ordering;

use dmt::control::{CRANE_LEADER, FOLLOWER};
use dmt::entry::{EntryHeader, EntryKind, EventKind};
use dmt::link::Shared;
use dmt::upcall::{ADMITTED, UpcallHeader, UpcallKind};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::log::{Durability, Log, MemoryDisk, Options};
use crate::paxos::{Ballot, Config, Input, MILLIS, Paxos};
use crate::replica::intake::event;
use crate::replica::membership::members_of;

const CONNECTION: u64 = 9;

struct Bench {
    driver: Driver<MemoryDisk>,
    link: Link,
    shared: Box<Shared>,
    now: u64,
    effects: Vec<Effect>,
}

impl Bench {
    fn new(crane: bool) -> Self {
        let options = Options {
            cluster: [1; 16],
            durability: Durability::Memory,
            boot_id: "boot".to_owned(),
            segment_bytes: 64 << 10,
            members_of,
        };
        let log = Log::open(MemoryDisk::default(), options).unwrap();
        let recovered = log.recovered(100, 1 << 20).unwrap();
        let paxos = Paxos::new(Config::new(1, vec![1, 2, 3], 1), recovered, 0);
        let origin = Origin { secret: [3; 32], quantum: 10, spin_limit_us: 1000, fingerprint: [4; 16] };
        // SAFETY: zeroes are a fresh arena.
        let shared: Box<Shared> = unsafe { Box::new_zeroed().assume_init() };
        // SAFETY: the box is dropped after the link, and this is its only one.
        let mut link = unsafe { Link::attach(&*shared) };
        link.initialise();
        let driver = Driver::new(1, Consensus::new(paxos, log), origin, crane);
        Self { driver, link, shared, now: 0, effects: Vec::new() }
    }

    /// A leader whose entry 0 is decided.
    fn leading(crane: bool) -> Self {
        let mut bench = Self::new(crane);
        bench.driver.consensus.input(0, Input::PeerConnected(2));
        bench.driver.consensus.input(0, Input::PeerConnected(3));
        bench.now = 2000 * MILLIS;
        bench.driver.consensus.tick(bench.now).unwrap();
        bench.act();
        let ballot = Ballot::new(1, 1);
        for trial in [true, false] {
            bench.hear(Message::Promise { ballot, trial, granted: true, promised: ballot });
        }
        bench.accepted(1);
        assert_eq!(bench.driver.phase(), Phase::Leading { ballot: ballot.0 });
        bench.effects.clear();
        bench
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, wall: self.now }
    }

    fn act(&mut self) {
        loop {
            match self.driver.act(self.moment(), Some(&mut self.link), &mut self.effects).unwrap() {
                Next::Again => return,
                Next::Sync => self.driver.make_durable(self.now).unwrap(),
                Next::Rest => return,
            }
        }
    }

    fn hear(&mut self, message: Message) {
        self.driver.consensus.input(self.now, Input::Message { from: 2, message });
        self.act();
    }

    /// Replica 2 has the first `len` entries.
    fn accepted(&mut self, len: u64) {
        self.hear(Message::Accepted { ballot: Ballot::new(1, 1), len });
    }

    /// The server made the pure bubble `index` under `ballot`.
    fn admit(&mut self, index: u64, ballot: u64) {
        let header = EntryHeader {
            version: U32::new(dmt::bounds::LAYOUT_VERSION),
            kind: U16::new(EntryKind::Bubble as u16),
            reserved: U16::new(0),
            index: U64::new(index),
            stamp: U64::new(index * 100),
            clock: U64::new(index),
            grant: U64::new(100),
            ballot: U64::new(ballot),
            event_count: U32::new(0),
            events_len: U32::new(0),
        };
        self.upcall(UpcallKind::Applied, ADMITTED, [index, 0, 0, 0], header.as_bytes());
    }

    fn upcall(&mut self, kind: UpcallKind, flags: u16, [a, b, c, d]: [u64; 4], payload: &[u8]) {
        let mut head = UpcallHeader::new_zeroed();
        head.len = U32::new(payload.len() as u32);
        head.flags = U16::new(flags);
        (head.a, head.b, head.c, head.d) = (U64::new(a), U64::new(b), U64::new(c), U64::new(d));
        // SAFETY: nobody else writes to this ring.
        assert!(unsafe { self.shared.upcalls.push(kind as u32, &[head.as_bytes(), payload]) });
    }

    fn read_upcalls(&mut self) {
        self.driver.read_upcalls(&mut self.link, &mut Vec::new(), &mut self.effects);
    }

    fn said(&self) -> Vec<String> {
        let text = |effect: &Effect| match effect {
            Effect::Send { .. } | Effect::Behind(_) => None,
            Effect::Released(connection) => Some(format!("released {connection}")),
            Effect::Dial { connection, to } => Some(format!("dial {connection:x} {to}")),
            Effect::Datagrams => Some("datagrams".to_owned()),
            Effect::StopServing => Some("stop".to_owned()),
            Effect::Serve { .. } => Some("serve".to_owned()),
            Effect::Role { .. } => None,
        };
        self.effects.iter().filter_map(text).collect()
    }

    fn lead_from(&self) -> u64 {
        self.link.control().lead_from.load(Ordering::SeqCst)
    }
}

fn ballot() -> u64 {
    Ballot::new(1, 1).0
}

#[test]
fn output_of_an_admitted_entry_leaves_when_a_majority_has_it() {
    let mut bench = Bench::leading(false);
    bench.driver.intake(Some(&mut bench.link)).unwrap().1.open(CONNECTION);
    bench.admit(1, ballot());
    bench.upcall(UpcallKind::Output, 0, [CONNECTION, 0, 0, 0], b"+OK");
    bench.read_upcalls();
    bench.act();
    assert_eq!(bench.said(), Vec::<String>::new(), "nobody else has entry 1");
    bench.accepted(2);
    assert_eq!(bench.said(), ["released 9"]);
    assert_eq!(bench.driver.take_rebuild(), None);
}

#[test]
fn what_was_released_goes_out_before_a_demotion_ends_the_connections() {
    let mut bench = Bench::leading(false);
    bench.driver.intake(Some(&mut bench.link)).unwrap().1.open(CONNECTION);
    bench.admit(1, ballot());
    bench.upcall(UpcallKind::Output, 0, [CONNECTION, 0, 0, 0], b"+OK");
    bench.read_upcalls();
    bench.act();
    let len = Message::Accepted { ballot: Ballot::new(1, 1), len: 2 };
    bench.driver.consensus.input(bench.now, Input::Message { from: 2, message: len });
    bench.hear(Message::Nack { promised: Ballot::new(5, 3) });
    assert_eq!(bench.said(), ["released 9"]);
    let (_, outputs) = bench.driver.intake(Some(&mut bench.link)).unwrap();
    assert_eq!(outputs.get_mut(CONNECTION).unwrap().ready(), b"+OK");
    bench.effects.clear();
    bench.act();
    assert_eq!(bench.said(), ["stop"]);
    assert_eq!((bench.driver.phase(), bench.lead_from()), (Phase::Follower, FOLLOWER));
}

#[test]
fn an_entry_made_after_the_leadership_ended_makes_the_server_worthless() {
    let mut bench = Bench::leading(false);
    bench.hear(Message::Nack { promised: Ballot::new(5, 3) });
    bench.act();
    bench.admit(1, ballot());
    bench.read_upcalls();
    let late = Rebuild::Late { index: 1, made_in: ballot(), next: 1, phase: Phase::Follower };
    assert_eq!(bench.driver.take_rebuild(), Some(late));
}

#[test]
fn a_leader_whose_server_is_rebuilt_serves_again_once_that_has_all_entries() {
    let mut bench = Bench::leading(false);
    bench.admit(1, ballot());
    bench.read_upcalls();
    bench.act();
    let next = bench.driver.consensus.paxos().len();
    bench.driver.server_ended();
    assert_eq!(bench.driver.phase(), Phase::TakingOver { ballot: ballot(), next });
    bench.driver.server_started(&bench.link);
    assert!(bench.driver.take_wake(bench.now, &bench.link));
    bench.act();
    assert_eq!((bench.driver.given(), bench.said()), (2, vec!["serve".to_owned()]));
    assert_eq!(bench.lead_from(), 2);
}

#[test]
fn a_leader_under_crane_that_is_deposed_keeps_its_server() {
    let mut bench = Bench::leading(true);
    assert_eq!(bench.lead_from(), CRANE_LEADER);
    let (intake, _) = bench.driver.intake(Some(&mut bench.link)).unwrap();
    assert!(intake.put(&event(EventKind::PeerReset, CONNECTION, 1, 0, 0), &[]));
    // The message is read, and its consequences are not drawn yet.
    let message = Message::Nack { promised: Ballot::new(5, 3) };
    bench.driver.consensus.input(bench.now, Input::Message { from: 2, message });
    bench.driver.run_crane(bench.moment(), Some(&bench.link));
    bench.act();
    assert_eq!(bench.driver.take_rebuild(), None, "it ran nothing that was not decided");
    assert_eq!(bench.said(), ["stop"]);
}

#[test]
fn a_server_that_diverges_at_the_same_entry_again_and_again_is_fenced() {
    let mut bench = Bench::new(false);
    let mut rebuilds = 0;
    while !bench.driver.diverged(50) {
        assert!(bench.driver.take_rebuild().is_some());
        rebuilds += 1;
        assert!(rebuilds < 100, "it would be rebuilt for ever");
        bench.driver.server_ended();
        // The replay agrees with the leader again, up to where it differed before.
        bench.driver.agreed(20);
        bench.driver.agreed(50);
    }
    assert!(bench.driver.is_fenced());
    assert_eq!(bench.driver.take_rebuild(), None);
}
