//! What the watchdog does about threads that compute, and how often it looks.

use super::{Action, IDLE_SAMPLES, Sample, State, pause};

#[test]
fn a_server_that_does_nothing_is_looked_at_ever_more_seldom() {
    let pauses =
        [0, IDLE_SAMPLES, IDLE_SAMPLES + 1, IDLE_SAMPLES + 4, IDLE_SAMPLES + 5, IDLE_SAMPLES + 6, u32::MAX];
    assert_eq!(pauses.map(|idle| pause(idle).as_millis()), [2, 2, 4, 32, 32, 32, 32]);
}

fn run(sample: Sample, cpu_us: &[u64]) -> Vec<Action> {
    let mut state = State::default();
    state.advance(&sample, || unreachable!("a first look asks nothing"));
    cpu_us.iter().map(|&now| state.advance(&sample, || Some(now))).collect()
}

fn leader() -> Sample {
    Sample { tick: 5, pid: 1000, runnable: 2, leader: true, spin_limit_us: 2000, ..Sample::default() }
}

const NOTHING: Action = Action { close: false, spin: false, preempt: false, inherited: false };
const CLOSE: Action = Action { close: true, ..NOTHING };
const SPIN: Action = Action { spin: true, ..CLOSE };
const BOTH: Action = Action { preempt: true, ..SPIN };

#[test]
fn leader_closes_then_preempts() {
    assert_eq!(run(leader(), &[100, 900, 1100, 2100]), [NOTHING, NOTHING, CLOSE, BOTH]);
}

#[test]
fn a_loop_that_only_waits_is_stopped_long_before_a_computation() {
    let sample = Sample { spin_limit_us: 500_000, ..leader() };
    let looks = run(sample, &[0, 9_000, 10_000, 11_000, 12_000, 13_000, 14_000, 499_000, 500_000]);
    // The fourth and the eighth look ask again.
    let cut = Action { preempt: true, ..CLOSE };
    assert_eq!(looks, [NOTHING, CLOSE, SPIN, CLOSE, CLOSE, CLOSE, SPIN, CLOSE, cut]);
}

#[test]
fn a_thread_that_seems_alone_is_asked_too() {
    assert_eq!(run(Sample { runnable: 1, ..leader() }, &[0, 5000]), [NOTHING, BOTH]);
    assert_eq!(run(Sample { runnable: 0, pid: 0, ..leader() }, &[0, 5000]), [NOTHING, NOTHING]);
}

#[test]
fn an_inherited_bubble_is_never_closed_and_cut_late() {
    let sample = Sample { inherited: true, ..leader() };
    let spin = Action { spin: true, ..NOTHING };
    let preempt = Action { preempt: true, inherited: true, ..spin };
    assert_eq!(run(sample, &[0, 5000, 1_000_000]), [NOTHING, spin, preempt]);
}

#[test]
fn a_follower_never_closes_a_bubble() {
    let follower = Sample { leader: false, inherited: true, ..leader() };
    assert_eq!(run(follower, &[0, 5000]), [NOTHING, Action { close: false, ..BOTH }]);
}

#[test]
fn an_operation_starts_over() {
    let mut state = State::default();
    let sample = leader();
    state.advance(&sample, || None);
    state.advance(&sample, || Some(0));
    let next = Sample { tick: 6, ..sample };
    assert_eq!(state.advance(&next, || unreachable!()), NOTHING);
    assert_eq!(state.advance(&next, || Some(9000)), NOTHING);
}
