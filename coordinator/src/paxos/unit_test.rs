//! Single rules of the protocol, by hand-made messages; and the wire format against random bytes.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn replica(id: ReplicaId, n: u8) -> Paxos {
    Paxos::new(Config::new(id, (1..=n).collect(), u64::from(id)), Recovered::default(), 0)
}

/// Runs one input with instant durability, and returns what remains to be done.
fn step(paxos: &mut Paxos, now: Nanos, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    paxos.step(now, input, &mut out);
    settle(paxos, now, out)
}

fn settle(paxos: &mut Paxos, now: Nanos, mut out: Vec<Output>) -> Vec<Output> {
    paxos.flush(now, &mut out);
    while paxos.persisted < paxos.written {
        paxos.step(now, Input::Persisted(paxos.written), &mut out);
        paxos.flush(now, &mut out);
    }
    out
}

fn message(from: ReplicaId, message: Message) -> Input {
    Input::Message { from, message }
}

fn sent(out: &[Output]) -> Vec<(ReplicaId, Message)> {
    let send = |output: &Output| match output {
        Output::Send { to, message } => Some((*to, message.clone())),
        _ => None,
    };
    out.iter().filter_map(send).collect()
}

fn entry(ballot: Ballot, byte: u8) -> Entry {
    Entry { ballot, value: Arc::from([byte]) }
}

/// Replica 1 of 3, leading in the returned ballot with an empty log, both peers connected.
fn leader() -> (Paxos, Ballot) {
    let mut paxos = replica(1, 3);
    step(&mut paxos, 0, Input::PeerConnected(2));
    step(&mut paxos, 0, Input::PeerConnected(3));
    let now = paxos.deadline();
    step(&mut paxos, now, Input::Tick);
    let ballot = Ballot::new(1, 1);
    for trial in [true, false] {
        let promise = Message::Promise { ballot, trial, granted: true, promised: Ballot::ZERO };
        step(&mut paxos, now, message(2, promise));
    }
    assert!(paxos.is_leader());
    (paxos, ballot)
}

fn accept(ballot: Ballot, first: u64, previous: Ballot, commit: u64, entries: Vec<Entry>) -> Message {
    Message::Accept { ballot, first, previous, commit, entries }
}

#[test]
fn a_replica_alone_leads_at_once_and_decides_when_durable() {
    let mut paxos = replica(1, 1);
    let now = paxos.deadline();
    let out = step(&mut paxos, now, Input::Tick);
    assert!(out.iter().any(|output| matches!(output, Output::BecameLeader { next: 0, .. })));
    paxos.propose(0, Arc::from(*b"a")).expect("it leads");
    let mut out = Vec::new();
    paxos.flush(now, &mut out);
    assert_eq!(paxos.commit(), 0, "not durable yet");
    assert!(matches!(out[..], [Output::Persist { write: Write::Entry { index: 0, .. }, .. }]));
    settle(&mut paxos, now, Vec::new());
    assert_eq!(paxos.commit(), 1);
}

#[test]
fn proposals_share_a_message_and_go_out_before_the_own_write() {
    let (mut paxos, ballot) = leader();
    let now = paxos.deadline();
    for peer in [2, 3] {
        step(&mut paxos, now, message(peer, Message::Accepted { ballot, len: 0 }));
    }
    paxos.propose(0, Arc::from(*b"a")).expect("it leads");
    paxos.propose(1, Arc::from(*b"b")).expect("it leads");
    assert_eq!(paxos.propose(3, Arc::from(*b"c")), Err(ProposeError::WrongIndex { got: 3, next: 2 }));
    let mut out = Vec::new();
    paxos.flush(now, &mut out);
    let entries = vec![entry(ballot, b'a'), entry(ballot, b'b')];
    let expected = accept(ballot, 0, Ballot::ZERO, 0, entries);
    assert_eq!(sent(&out), [(2, expected)]);
    let kinds: Vec<bool> = out.iter().map(|output| matches!(output, Output::Persist { .. })).collect();
    assert_eq!(kinds, [false, true, true]);
    // A majority is enough, the leader's own disk is not needed for it.
    let mut out = Vec::new();
    for peer in [2, 3] {
        paxos.step(now, message(peer, Message::Accepted { ballot, len: 2 }), &mut out);
    }
    assert!(matches!(out[..], [Output::Committed { from: 0, to: 2 }]));
}

#[test]
fn a_spare_is_sent_bundles_and_takes_over_from_a_peer_that_is_silent() {
    let (mut paxos, ballot) = leader();
    let now = paxos.deadline();
    step(&mut paxos, now, Input::Tick);
    for peer in [2, 3] {
        step(&mut paxos, now, message(peer, Message::Accepted { ballot, len: 0 }));
    }
    let propose = |paxos: &mut Paxos, now, index| {
        paxos.propose(index, Arc::from([index as u8])).expect("it leads");
        let sent = sent(&step(paxos, now, Input::PeerConnected(0)));
        sent.into_iter().map(|(to, _)| to).collect::<Vec<_>>()
    };
    assert_eq!(propose(&mut paxos, now, 0), [2]);
    step(&mut paxos, now, message(2, Message::Accepted { ballot, len: 1 }));
    assert_eq!(propose(&mut paxos, now, 1), [2]);
    assert!(!paxos.peers_are_level());
    // Replica 2 does not answer; what waited is sent to replica 3 in one message, which then makes the majority.
    let due = paxos.deadline();
    assert!(due > now && due <= now + MILLIS, "a spare waits for a millisecond at the most");
    let bundle = accept(ballot, 0, Ballot::ZERO, 1, vec![entry(ballot, 0), entry(ballot, 1)]);
    assert_eq!(sent(&step(&mut paxos, due, Input::Tick)), [(3, bundle)]);
    step(&mut paxos, due, message(3, Message::Accepted { ballot, len: 2 }));
    assert_eq!(paxos.commit(), 2);
    assert_eq!(propose(&mut paxos, due, 2), [3]);
    // With an undecided entry before it, the next one goes to all, and so it does if one of three is gone.
    assert_eq!(propose(&mut paxos, due, 3), [2, 3]);
    step(&mut paxos, due, message(3, Message::Accepted { ballot, len: 4 }));
    assert!(!paxos.peers_are_level(), "replica 2 has two of four entries at the most");
    step(&mut paxos, due, message(2, Message::Accepted { ballot, len: 4 }));
    assert!(!paxos.peers_are_level(), "both have all, and do not know that all is decided");
    step(&mut paxos, due + MILLIS, Input::Tick);
    assert!(paxos.peers_are_level());
    step(&mut paxos, due, Input::PeerDisconnected(3));
    assert_eq!(propose(&mut paxos, due, 4), [2]);
}

#[test]
fn a_spare_that_lacks_much_is_not_kept_waiting() {
    let (mut paxos, ballot) = leader();
    let now = paxos.deadline();
    for peer in [2, 3] {
        step(&mut paxos, now, message(peer, Message::Accepted { ballot, len: 0 }));
    }
    let lone = |paxos: &mut Paxos, index, value: Vec<u8>| {
        paxos.propose(index, value.into()).expect("it leads");
        let sent = sent(&step(paxos, now, Input::PeerConnected(0)));
        step(paxos, now, message(2, Message::Accepted { ballot, len: index + 1 }));
        sent.iter().filter(|(to, _)| *to == 3).count() as u64
    };
    let count = 2 * thrifty::SPARE_ENTRIES;
    let bundles: u64 = (0..count).map(|index| lone(&mut paxos, index, vec![0])).sum();
    assert_eq!(bundles, 2, "bundles of {} entries", thrifty::SPARE_ENTRIES);
    assert_eq!(lone(&mut paxos, count, vec![0; thrifty::SPARE_BYTES as usize]), 1);
}

#[test]
fn a_new_leader_counts_a_majority_only_at_its_own_stamp() {
    let (old, ballot) = (Ballot::new(1, 2), Ballot::new(2, 1));
    let mut stamps = Runs::default();
    (0..3).for_each(|_| stamps.push(old));
    let tail = (0..3).map(|byte| entry(old, byte)).collect();
    let recovered = Recovered { promised: old, stamps, tail, ..Recovered::default() };
    let mut paxos = Paxos::new(Config::new(1, vec![1, 2, 3], 1), recovered, 0);
    step(&mut paxos, 0, Input::PeerConnected(2));
    let now = paxos.deadline();
    step(&mut paxos, now, Input::Tick);
    let promise = |trial| message(2, Message::Promise { ballot, trial, granted: true, promised: old });
    step(&mut paxos, now, promise(true));
    let out = step(&mut paxos, now, promise(false));
    assert!(out.iter().any(|output| matches!(output, Output::BecameLeader { next: 3, .. })));
    // Only the last entry is raised, and it travels behind the entry before it.
    assert!(sent(&out).contains(&(2, accept(ballot, 2, old, 0, vec![entry(ballot, 2)]))));
    step(&mut paxos, now, message(2, Message::Accepted { ballot, len: 2 }));
    assert_eq!(paxos.commit(), 0, "a majority at an older stamp may still be overruled");
    step(&mut paxos, now, message(2, Message::Accepted { ballot, len: 3 }));
    assert_eq!(paxos.commit(), 3);
}

#[test]
fn an_idle_follower_learns_the_commit_index_within_the_notice_time() {
    let (mut paxos, ballot) = leader();
    let now = paxos.deadline();
    step(&mut paxos, now, message(2, Message::Accepted { ballot, len: 0 }));
    paxos.propose(0, Arc::from(*b"a")).expect("it leads");
    settle(&mut paxos, now, Vec::new());
    let out = step(&mut paxos, now, message(2, Message::Accepted { ballot, len: 1 }));
    assert!(matches!(out[0], Output::Committed { from: 0, to: 1 }));
    assert!(paxos.deadline() <= now + MILLIS);
    let out = step(&mut paxos, now + MILLIS, Input::Tick);
    assert!(sent(&out).contains(&(2, accept(ballot, 1, ballot, 1, Vec::new()))));
}

#[test]
fn a_follower_answers_only_what_is_durable() {
    let mut paxos = replica(2, 3);
    let ballot = Ballot::new(1, 1);
    let mut out = Vec::new();
    paxos.step(0, message(1, accept(ballot, 0, Ballot::ZERO, 1, vec![entry(ballot, 1)])), &mut out);
    assert_eq!(sent(&out), []);
    assert_eq!(paxos.commit(), 1, "that a majority has it is true whatever this disk does");
    out.clear();
    paxos.step(0, Input::Persisted(1), &mut out);
    assert_eq!(sent(&out), [], "the promise alone is no acceptance");
    paxos.step(0, Input::Persisted(2), &mut out);
    assert_eq!(sent(&out), [(1, Message::Accepted { ballot, len: 1 })]);
}

#[test]
fn gaps_and_conflicts_are_refused_with_a_hint() {
    let mut paxos = replica(2, 3);
    let (old, new) = (Ballot::new(1, 1), Ballot::new(2, 3));
    step(&mut paxos, 0, message(1, accept(old, 0, Ballot::ZERO, 1, (0..4).map(|i| entry(old, i)).collect())));
    let out = step(&mut paxos, 0, message(3, accept(new, 6, new, 1, Vec::new())));
    assert_eq!(sent(&out), [(3, Message::Rejected { ballot: new, first: 6, hint: 4 })]);
    let out = step(&mut paxos, 0, message(3, accept(new, 3, new, 1, Vec::new())));
    assert_eq!(sent(&out), [(3, Message::Rejected { ballot: new, first: 3, hint: 0 })]);
    // The raised last entry of a shorter log replaces the entry and all that follow.
    let out = step(&mut paxos, 0, message(3, accept(new, 1, old, 1, vec![entry(new, 9)])));
    assert_eq!(paxos.len(), 2);
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::Persist { write: Write::Entry { index: 1, .. }, .. }))
    );
    let out = step(&mut paxos, 0, message(1, accept(old, 4, old, 1, Vec::new())));
    assert_eq!(sent(&out), [(1, Message::Nack { promised: new })]);
}

#[test]
#[should_panic(expected = "would change decided entry 0")]
fn a_decided_entry_is_never_replaced() {
    let mut paxos = replica(2, 3);
    let (old, new) = (Ballot::new(1, 1), Ballot::new(2, 3));
    step(&mut paxos, 0, message(1, accept(old, 0, Ballot::ZERO, 1, vec![entry(old, 1)])));
    step(&mut paxos, 0, message(3, accept(new, 0, Ballot::ZERO, 1, vec![entry(new, 2)])));
}

#[test]
fn a_live_leader_is_left_alone_until_its_connection_breaks() {
    let mut paxos = replica(2, 3);
    for peer in [1, 3] {
        step(&mut paxos, 0, Input::PeerConnected(peer));
    }
    let ballot = Ballot::new(1, 1);
    step(&mut paxos, 0, message(1, accept(ballot, 0, Ballot::ZERO, 0, Vec::new())));
    let wanted = Ballot::new(2, 3);
    let ask = |trial| message(3, Message::Prepare { ballot: wanted, trial, last: ballot, len: 9 });
    for trial in [true, false] {
        let out = step(&mut paxos, MILLIS, ask(trial));
        let refused = Message::Promise { ballot: wanted, trial, granted: false, promised: ballot };
        assert_eq!(sent(&out), [(3, refused)]);
    }
    let out = step(&mut paxos, 2 * MILLIS, Input::PeerDisconnected(1));
    assert!(matches!(out[..], [Output::LeaderLost]));
    assert!(paxos.deadline() <= 4 * MILLIS, "a broken connection starts an election within milliseconds");
    let out = step(&mut paxos, 2 * MILLIS, ask(false));
    let granted = Message::Promise { ballot: wanted, trial: false, granted: true, promised: wanted };
    assert!(sent(&out).contains(&(3, granted)));
}

#[test]
fn a_candidate_with_a_shorter_log_gets_no_promise() {
    let mut paxos = replica(2, 3);
    let ballot = Ballot::new(1, 1);
    step(
        &mut paxos,
        0,
        message(1, accept(ballot, 0, Ballot::ZERO, 0, vec![entry(ballot, 1), entry(ballot, 2)])),
    );
    step(&mut paxos, 0, Input::PeerConnected(3));
    let now = 5000 * MILLIS;
    let wanted = Ballot::new(7, 3);
    let out = step(
        &mut paxos,
        now,
        message(3, Message::Prepare { ballot: wanted, trial: false, last: ballot, len: 1 }),
    );
    let refused = Message::Promise { ballot: wanted, trial: false, granted: false, promised: ballot };
    assert!(sent(&out).contains(&(3, refused)));
    let soon = paxos.deadline();
    assert!(soon <= now + 4 * MILLIS, "it has the longer log, so it tries itself");
    let asked = sent(&step(&mut paxos, soon, Input::Tick));
    let own = Message::Prepare { ballot: Ballot::new(2, 2), trial: true, last: ballot, len: 2 };
    assert_eq!(asked, [(3, own)]);
}

#[test]
fn of_two_that_ask_at_once_one_is_elected() {
    let ask = |id, trial| Message::Prepare { ballot: Ballot::new(1, id), trial, last: Ballot::ZERO, len: 0 };
    let answer = |id, granted| Message::Promise {
        ballot: Ballot::new(1, id),
        trial: true,
        granted,
        promised: Ballot::ZERO,
    };
    let mut replicas = [1, 2, 3].map(|id| replica(id, 3));
    for paxos in &mut replicas {
        (1..=3).for_each(|id| drop(step(paxos, 0, Input::PeerConnected(id))));
    }
    let [first, second, third] = &mut replicas;
    let now = first.deadline().max(second.deadline());
    for paxos in [&mut *first, &mut *second] {
        step(paxos, now, Input::Tick);
        assert_eq!(paxos.role(), RoleKind::Trial);
    }
    // The third gives its vote to the one that it hears first, for a moment.
    assert_eq!(sent(&step(third, now, message(1, ask(1, true)))), [(1, answer(1, true))]);
    assert_eq!(sent(&step(third, now, message(2, ask(2, true)))), [(2, answer(2, false))]);
    assert!(third.deadline() > now + 20 * MILLIS, "it does not stand itself meanwhile");
    // Between themselves the higher ballot comes first, and asks again: it may have been refused before.
    let out = step(second, now, message(1, ask(1, true)));
    assert_eq!(sent(&out), [(1, answer(1, false)), (1, ask(2, true))]);
    assert_eq!(sent(&step(first, now, message(2, ask(2, true)))), [(2, answer(2, true))]);
    assert_eq!(first.role(), RoleKind::Follower);
    // What the first is told now counts no more.
    step(first, now, message(3, answer(1, true)));
    assert_eq!(first.role(), RoleKind::Follower);
    let out = step(second, now, message(1, answer(2, true)));
    assert_eq!(sent(&out), [(1, ask(2, false)), (3, ask(2, false))]);
    // A candidate is not overtaken, unless it was elected by nobody for long.
    let later = Message::Prepare { ballot: Ballot::new(2, 3), trial: true, last: Ballot::ZERO, len: 0 };
    let granted = |out: Vec<Output>| {
        sent(&out).iter().any(|(_, message)| matches!(message, Message::Promise { granted: true, .. }))
    };
    assert!(!granted(step(second, now, message(3, later.clone()))));
    assert!(granted(step(second, now + 20 * MILLIS, message(3, later.clone()))));
    // Nor is a vote kept for one whose connection broke.
    let mut other = replica(4, 5);
    (1..=5).for_each(|id| drop(step(&mut other, 0, Input::PeerConnected(id))));
    assert!(granted(step(&mut other, now, message(1, ask(1, true)))));
    assert!(!granted(step(&mut other, now, message(3, later.clone()))));
    step(&mut other, now, Input::PeerDisconnected(1));
    assert!(granted(step(&mut other, now, message(3, later))));
}

#[test]
fn a_leader_without_a_majority_steps_down() {
    let (mut paxos, ballot) = leader();
    let mut demoted = None;
    for _ in 0..100 {
        let now = paxos.deadline();
        let out = step(&mut paxos, now, Input::Tick);
        if out.iter().any(|output| matches!(output, Output::Demoted { ballot: b } if *b == ballot)) {
            demoted = Some(now);
            break;
        }
    }
    assert!(demoted.is_some_and(|now| now <= 2000 * MILLIS));
    assert_eq!(paxos.propose(0, Arc::from(*b"a")), Err(ProposeError::NotLeader));
}

#[test]
fn ballots_leave_room_for_connection_numbers() {
    let highest = Ballot::new(MAX_ROUND, 255);
    assert!(highest.0.checked_mul(1 << 24).is_some_and(|id| i64::try_from(id).is_ok()));
    assert!(highest.is_sane() && !Ballot(highest.0 + 1).is_sane());
    assert_eq!((Ballot::new(5, 3).round(), Ballot::new(5, 3).replica()), (5, 3));
}

#[test]
fn an_unknown_version_is_refused() {
    let mut frame = Vec::new();
    wire::encode(&Message::Nack { promised: Ballot::new(1, 1) }, &mut frame).expect("a Vec takes all");
    frame[4] += 1;
    assert_eq!(wire::decode(&frame), Err(wire::WireError::Version(wire::VERSION + 1)));
    assert_eq!(wire::frame_len(&frame), Err(wire::WireError::Version(wire::VERSION + 1)));
    assert_eq!(wire::frame_len(&frame[..wire::HEADER_BYTES - 1]), Ok(None));
}

prop_compose! {
    fn ballots()(round in 0..=MAX_ROUND, id in 1..=255u8) -> Ballot { Ballot::new(round, id) }
}

fn messages() -> impl Strategy<Value = Message> {
    let index = 0..u64::MAX / 4;
    let entries = prop::collection::vec((ballots(), prop::collection::vec(any::<u8>(), 0..40)), 0..5);
    let entry = |(ballot, value): (Ballot, Vec<u8>)| Entry { ballot, value: value.into() };
    prop_oneof![
        (ballots(), index.clone(), ballots(), index.clone(), entries).prop_map(
            move |(ballot, first, previous, commit, entries)| {
                let entries = entries.into_iter().map(entry).collect();
                Message::Accept { ballot, first, previous, commit, entries }
            }
        ),
        (ballots(), index.clone()).prop_map(|(ballot, len)| Message::Accepted { ballot, len }),
        (ballots(), index.clone(), index.clone()).prop_map(|(ballot, first, hint)| Message::Rejected {
            ballot,
            first,
            hint
        }),
        ballots().prop_map(|promised| Message::Nack { promised }),
        (ballots(), any::<bool>(), index.clone()).prop_map(|(ballot, fits, len)| Message::Learned {
            ballot,
            fits,
            len
        }),
        (ballots(), any::<bool>(), ballots(), index)
            .prop_map(|(ballot, trial, last, len)| Message::Prepare { ballot, trial, last, len }),
        (ballots(), any::<bool>(), any::<bool>(), ballots()).prop_map(
            |(ballot, trial, granted, promised)| Message::Promise { ballot, trial, granted, promised }
        ),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(message in messages()) {
        let mut frame = Vec::new();
        wire::encode(&message, &mut frame).expect("a Vec takes all");
        prop_assert_eq!(wire::encoded_len(&message), frame.len());
        prop_assert_eq!(wire::frame_len(&frame), Ok(Some(frame.len())));
        prop_assert_eq!(wire::decode(&frame), Ok(message));
        prop_assert!(wire::decode(&frame[..frame.len() - 1]).is_err());
    }

    #[test]
    fn broken_frames_never_panic(message in messages(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut frame = Vec::new();
        wire::encode(&message, &mut frame).expect("a Vec takes all");
        let at = at.index(frame.len());
        frame[at] = with;
        // What decodes must not harm a replica either.
        if let Ok(message) = wire::decode(&frame) {
            let mut paxos = replica(1, 3);
            step(&mut paxos, 0, Input::Message { from: 2, message: message.clone() });
            let (mut paxos, _) = leader();
            step(&mut paxos, 0, Input::Message { from: 2, message });
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), whole in any::<bool>()) {
        if whole && bytes.len() >= wire::HEADER_BYTES {
            let body = (bytes.len() - wire::HEADER_BYTES) as u32;
            bytes[..4].copy_from_slice(&body.to_le_bytes());
            bytes[4] = wire::VERSION;
            bytes[5] %= 8;
        }
        let _ = wire::frame_len(&bytes);
        let _ = wire::decode(&bytes);
    }
}

#[test]
fn entries_stay_in_memory_until_the_log_has_them() {
    let mut config = Config::new(2, vec![1, 2, 3], 2);
    config.tail_entries = 4;
    let (mut paxos, ballot, mut out) =
        (Paxos::new(config, Recovered::default(), 0), Ballot::new(1, 1), Vec::new());
    let mut accept = |paxos: &mut Paxos, first: u64, previous: Ballot, count: u8| {
        let entries = (0..count).map(|byte| entry(ballot, byte)).collect();
        let accept = Message::Accept { ballot, first, previous, commit: first, entries };
        paxos.step(0, message(1, accept), &mut out);
    };
    accept(&mut paxos, 0, Ballot::ZERO, 10);
    assert_eq!(paxos.tail_start(), 0, "nothing is on the disk, which may be full");
    let half = paxos.written - 5;
    paxos.step(0, Input::Persisted(half), &mut Vec::new());
    accept(&mut paxos, 10, ballot, 1);
    assert_eq!(paxos.tail_start(), 5);
    paxos.step(0, Input::Persisted(paxos.written), &mut Vec::new());
    accept(&mut paxos, 11, ballot, 1);
    assert_eq!(
        (paxos.tail_start(), paxos.len()),
        (8, 12),
        "the last write may be volatile, and is in the tail anyway"
    );
}

#[test]
fn a_follower_that_cannot_write_tells_its_leader_that_it_lives_and_acknowledges_nothing() {
    let ballot = Ballot::new(1, 2);
    let mut follower = replica(1, 3);
    step(&mut follower, 0, Input::PeerConnected(2));
    let durable = accept(ballot, 0, Ballot::ZERO, 0, vec![entry(ballot, 0)]);
    let out = step(&mut follower, 0, message(2, durable));
    assert_eq!(sent(&out).last(), Some(&(2, Message::Accepted { ballot, len: 1 })));
    // From here on its disk is full: nothing is reported as persisted.
    let mut answers = 0;
    let mut now = 0;
    for index in 1..40 {
        now += 20 * MILLIS;
        let mut out = Vec::new();
        follower.step(now, message(2, accept(ballot, index, ballot, 0, vec![entry(ballot, 0)])), &mut out);
        for (to, answer) in sent(&out) {
            assert_eq!((to, answer), (2, Message::Accepted { ballot, len: 1 }), "only entry 0 is durable");
            answers += 1;
        }
    }
    assert!((10..=20).contains(&answers), "one answer for each heartbeat interval, not {answers}");
    let out = settle(&mut follower, now, Vec::new());
    assert_eq!(sent(&out), [(2, Message::Accepted { ballot, len: 40 })], "all of it once there is space");
}

#[test]
fn a_leader_whose_followers_live_and_cannot_write_stays_and_decides_nothing() {
    let (mut paxos, ballot) = leader();
    let mut now = paxos.deadline();
    paxos.propose(0, Arc::from(*b"a")).expect("it leads");
    settle(&mut paxos, now, Vec::new());
    let end = now + 4 * paxos.config.election;
    while now < end {
        now += 50 * MILLIS;
        for peer in [2, 3] {
            step(&mut paxos, now, message(peer, Message::Accepted { ballot, len: 0 }));
        }
        step(&mut paxos, now, Input::Tick);
    }
    assert!(paxos.is_leader() && paxos.commit() == 0);
}

#[test]
fn a_leader_that_resigns_lets_the_others_elect() {
    let (mut paxos, ballot) = leader();
    let now = paxos.deadline();
    paxos.propose(0, Arc::from(*b"a")).expect("it leads");
    let mut out = Vec::new();
    paxos.flush(now, &mut out);
    for peer in [2, 3] {
        paxos.step(now, message(peer, Message::Accepted { ballot, len: 1 }), &mut out);
    }
    assert!(paxos.commit() == 1 && paxos.is_ahead_of_own_log(), "decided by the others alone");
    let mut out = Vec::new();
    paxos.resign(now, &mut out);
    assert!(matches!(out[..], [Output::Demoted { .. }]) && !paxos.is_leader());
    assert!(paxos.deadline() >= now + 3 * paxos.config.election, "the others' time-outs end before");
}
