use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::Call;
use crate::control::wanted;
use crate::testing::{Body, Server};
use crate::thread::ThreadId;

const BRANCH: u64 = 0x40_1000;

/// Spins until `done`, with a stop at each turn as preload would make it.
fn spin(call: &Call<'_>, done: impl Fn() -> bool) -> u64 {
    let mut turns = 0;
    while !done() {
        call.spin_point(BRANCH, || false);
        turns += 1;
        assert!(turns < 100_000, "spins for ever");
    }
    call.spin_left(BRANCH);
    turns
}

/// Whoever comes first makes it known.
fn learn(call: &Call<'_>) {
    if call.is_spin_point(BRANCH) {
        return;
    }
    call.with(|k| k.learn_spin_point(call.thread(), BRANCH));
    assert_eq!(call.with(|k| k.take_arm(call.thread())), BRANCH);
    assert_eq!(call.with(|k| k.take_arm(call.thread())), 0);
}

fn run_three_times(make: impl Fn() -> Vec<Body>) {
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let (server, mut link) = Server::leader(1000);
            server.run(&mut link, make()).1
        })
        .collect();
    assert!(runs.windows(2).all(|pair| pair[0] == pair[1]), "ticks differ: {runs:?}");
}

#[test]
fn a_spinner_looks_again_only_when_another_has_worked() {
    run_three_times(|| {
        let flag = Arc::new(AtomicU64::new(0));
        let seen = flag.clone();
        let spinner: Body = Box::new(move |call| {
            learn(call);
            let turns = spin(call, || seen.load(Ordering::SeqCst) == 1);
            assert!(turns <= 2, "{turns} turns");
        });
        let worker: Body = Box::new(move |call| {
            (0..500).for_each(|_| call.tick());
            flag.store(1, Ordering::SeqCst);
        });
        vec![spinner, worker]
    });
}

#[test]
fn threads_that_poll_let_spinners_go_on() {
    run_three_times(|| {
        let flags = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let seen = flags.clone();
        let spinner: Body = Box::new(move |call| {
            learn(call);
            spin(call, || seen[0].load(Ordering::SeqCst) == 1);
            seen[1].store(1, Ordering::SeqCst);
        });
        let poller: Body = Box::new(move |call| {
            flags[0].store(1, Ordering::SeqCst);
            let mut yields = 0;
            while flags[1].load(Ordering::SeqCst) == 0 {
                call.yield_turn();
                yields += 1;
                assert!(yields < 100);
            }
        });
        vec![spinner, poller]
    });
}

#[test]
fn leaving_a_loop_is_work_without_an_operation() {
    run_three_times(|| {
        let ball = Arc::new(AtomicU64::new(0));
        let player = |me: u64| -> Body {
            let ball = ball.clone();
            Box::new(move |call| {
                learn(call);
                for round in 0..50 {
                    spin(call, || ball.load(Ordering::SeqCst) == 2 * round + me);
                    ball.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        vec![player(0), player(1)]
    });
}

#[test]
fn a_loop_that_counts_ends_although_nobody_works() {
    let (server, mut link) = Server::leader(1000);
    let counted: Body = Box::new(|call| {
        learn(call);
        let left = AtomicU64::new(5000);
        assert_eq!(spin(call, || left.fetch_sub(1, Ordering::SeqCst) == 1), 4999);
    });
    server.run(&mut link, vec![counted]);
    let entries = link.control().applied.load(Ordering::SeqCst);
    assert!(entries < 40, "{entries} entries for an idle server");
}

#[test]
fn a_loop_seen_for_long_is_learnt_at_the_next_operation() {
    let (server, mut link) = Server::leader(1000);
    let body: Body = Box::new(|call| {
        call.preempt(BRANCH - 4, BRANCH);
        assert!(!call.with(|k| k.sched.spinners.knows(k.process_of(call.thread()), BRANCH)));
        let entries = call.with(|k| k.sched.applied);
        call.tick();
        assert!(call.with(|k| k.sched.spinners.knows(k.process_of(call.thread()), BRANCH)));
        assert_eq!(call.with(|k| k.sched.applied), entries + 1);
    });
    server.run(&mut link, vec![body]);
    assert_eq!(*server.platform.armed.lock().unwrap(), [BRANCH]);
}

#[test]
fn a_loop_that_never_ends_is_cut_at_its_branch() {
    let (server, mut link) = Server::leader(1000);
    let flag = Arc::new(AtomicU64::new(0));
    let seen = flag.clone();
    let spinner: Body = Box::new(move |call| {
        call.shared().control.wanted.store(wanted::SPIN, Ordering::SeqCst);
        call.preempt(BRANCH - 4, BRANCH);
        let tick = call.with(|k| k.sched.tick);
        assert!(spin(call, || seen.load(Ordering::SeqCst) == 1) <= 2);
        assert_eq!(call.with(|k| k.sched.preemptions), 0);
        assert!(call.with(|k| k.sched.tick) > tick);
    });
    let worker: Body = Box::new(move |call| {
        // It has the turn first.
        call.yield_turn();
        flag.store(1, Ordering::SeqCst);
    });
    server.run(&mut link, vec![spinner, worker]);
    assert_eq!(*server.platform.armed.lock().unwrap(), [BRANCH, BRANCH]);
}

#[test]
fn points_belong_to_a_process_and_are_bounded() {
    let (server, _link) = Server::leader(1000);
    // SAFETY: no thread of the server runs.
    let k = unsafe { &mut *server.arena.kernel() };
    let spinners = &mut k.sched.spinners;
    for branch in 1..=40 {
        spinners.learn(1, branch);
    }
    assert!(spinners.is_full() && spinners.knows(1, 32) && !spinners.knows(1, 33) && !spinners.knows(2, 1));
    spinners.forget(1);
    assert!(!spinners.any());
    let nobody: ThreadId = 0;
    assert_eq!(spinners.head, nobody);
}
