//! Who takes which signal, when, and what that does to waits; and interval timers.

use super::*;
use crate::file::abi::TimerSpec;
use crate::process::abi::*;
use crate::process::interval::Notify;
use crate::process::signal::bit;

const HANDLER: u64 = 0x1000;

#[test]
fn kill_wakes_a_sleeper_and_its_sleep_fails() {
    let said = run(|world, call| {
        call.signal_action(SIGUSR1, HANDLER, SA_RESTART as i32);
        let sleeper = world.thread(call, false, |world, call| {
            let mut left = 0;
            let result = call.sleep(1000 * MS, &mut left);
            world.say(format!("slept {result}, left {}", left > 900 * MS));
        });
        call.yield_turn();
        assert_eq!(call.pthread_kill(sleeper, SIGUSR1), 0);
        assert_eq!(join(call, sleeper), 0);
    });
    assert_eq!(said, ["2: signal 10 value 0", "slept -4, left true"]);
}

#[test]
fn sa_restart_decides_whether_a_wait_goes_on() {
    let said = run(|world, call| {
        let parent = call.thread();
        for flags in [SA_RESTART as i32, 0] {
            call.signal_action(SIGUSR1, HANDLER, flags);
            let child = world.fork(call, move |_, call| {
                call.sleep_until(call.realtime() + MS);
                call.kill(FIRST_PID, SIGUSR1);
                call.sleep_until(call.realtime() + 5 * MS);
                0
            });
            let mut status = 0;
            let result = call.wait_child(child, WEXITED, &mut status);
            world.say(format!("{parent}: waited {}", if result == i64::from(child) { 1 } else { result }));
        }
        assert!(call.wait_child(-1, WEXITED, &mut 0) > 0);
    });
    assert_eq!(said, ["1: signal 10 value 0", "1: waited 1", "1: signal 10 value 0", "1: waited -4"]);
}

#[test]
fn handlers_run_in_a_join_and_the_join_goes_on() {
    let said = run(|world, call| {
        call.signal_action(SIGUSR1, HANDLER, 0);
        let other = world.thread(call, false, |world, call| {
            call.set_signal_mask(!0);
            call.sleep_until(call.realtime() + MS);
            call.kill(FIRST_PID, SIGUSR1);
            call.sleep_until(call.realtime() + MS);
            world.say("other ends");
        });
        assert_eq!(join(call, other), 0);
        world.say("joined");
    });
    assert_eq!(said, ["1: signal 10 value 0", "other ends", "joined"]);
}

#[test]
fn blocked_signals_stay_pending_until_unblocked() {
    let said = run(|world, call| {
        call.signal_action(SIGUSR1, HANDLER, 0);
        call.signal_action(SIGRTMIN + 2, HANDLER, 0);
        call.set_signal_mask(bit(SIGUSR1) | bit(SIGRTMIN + 2));
        for value in 0..3 {
            assert_eq!(call.signal_queue(FIRST_PID, 0, SIGUSR1, value), 0);
            assert_eq!(call.signal_queue(FIRST_PID, 0, SIGRTMIN + 2, value), 0);
        }
        assert_eq!(call.signals_pending(), bit(SIGUSR1) | bit(SIGRTMIN + 2));
        world.say("unblock");
        call.set_signal_mask(0);
        call.deliver_signals();
        assert_eq!(call.signals_pending(), 0);
    });
    let queued = [0, 1, 2].map(|value| format!("1: signal 34 value {value}"));
    assert_eq!(said[..2], ["unblock", "1: signal 10 value 0"]);
    assert_eq!(said[2..], queued, "real-time signals are queued, others are not");
}

#[test]
fn a_process_signal_goes_to_a_thread_that_does_not_block_it() {
    let said = run(|world, call| {
        call.signal_action(SIGTERM, HANDLER, 0);
        call.set_signal_mask(bit(SIGTERM));
        let taker = world.thread(call, false, |_, call| {
            call.set_signal_mask(0);
            assert_eq!(call.signal_suspend(None), -EINTR);
        });
        world.thread(call, true, |_, call| {
            call.sleep_until(call.realtime() + 1000 * MS);
        });
        call.yield_turn();
        assert_eq!(call.kill(FIRST_PID, SIGTERM), 0);
        assert_eq!(join(call, taker), 0);
        world.say("joined");
    });
    assert_eq!(said, ["2: signal 15 value 0", "joined"]);
}

#[test]
fn a_blocked_process_signal_is_taken_by_whoever_unblocks_it() {
    let said = run(|world, call| {
        call.signal_action(SIGTERM, HANDLER, 0);
        call.set_signal_mask(bit(SIGTERM));
        let other = world.thread(call, false, |_, call| {
            call.sleep_until(call.realtime() + MS);
            call.set_signal_mask(0);
            call.yield_turn();
        });
        call.kill(FIRST_PID, SIGTERM);
        assert_eq!(join(call, other), 0);
        assert_eq!(call.signals_pending(), 0);
        world.say("end");
    });
    assert_eq!(said, ["2: signal 15 value 0", "end"]);
}

#[test]
fn sigwait_takes_pending_and_coming_signals() {
    run(|world, call| {
        let set = bit(SIGUSR1) | bit(SIGUSR2);
        call.set_signal_mask(set);
        call.kill(FIRST_PID, SIGUSR2);
        let mut info = PendingSignal::default();
        assert_eq!(call.signal_wait(set, Some(0), &mut info), i64::from(SIGUSR2));
        assert_eq!(call.signal_wait(set, Some(0), &mut info), -EAGAIN);
        assert_eq!(call.signal_wait(set, Some(MS), &mut info), -EAGAIN);
        let sender = world.thread(call, false, |_, call| {
            call.sleep_until(call.realtime() + MS);
            call.signal_queue(FIRST_PID, 0, SIGUSR1, 17);
        });
        assert_eq!(call.signal_wait(set, None, &mut info), i64::from(SIGUSR1));
        assert_eq!((info.pid, info.code, info.value), (FIRST_PID, SI_QUEUE, 17));
        assert_eq!(join(call, sender), 0);
    });
}

#[test]
fn sigsuspend_lets_in_what_came_before_it() {
    let said = run(|world, call| {
        call.signal_action(SIGCHLD, HANDLER, 0);
        call.set_signal_mask(bit(SIGCHLD));
        world.fork(call, |_, _| 9);
        call.sleep_until(call.realtime() + MS);
        world.say("suspend");
        assert_eq!(call.signal_suspend(Some(0)), -EINTR);
        assert_eq!(call.with(|k| k.signal_mask(call.thread())), bit(SIGCHLD));
    });
    assert_eq!(said, ["suspend", "1: signal 17 value 9"]);
}

#[test]
fn ignored_signals_interrupt_nothing() {
    run(|world, call| {
        call.signal_action(SIGHUP, 1, 0);
        let start = call.realtime();
        let sender = world.thread(call, false, |_, call| {
            for signal in [SIGHUP, SIGCHLD, SIGWINCH, SIGCONT, SIGTSTP] {
                assert_eq!(call.kill(FIRST_PID, signal), 0);
            }
        });
        assert_eq!(call.sleep_until(start + 10 * MS), 0);
        assert!(call.realtime() >= start + 10 * MS);
        assert_eq!(join(call, sender), 0);
    });
}

#[test]
fn a_signal_that_comes_before_a_wait_is_not_slept_over() {
    let said = run(|world, call| {
        call.signal_action(SIGUSR1, HANDLER, 0);
        let me = call.thread();
        // Sent while this thread is runnable, so nothing but the wait itself can notice.
        call.with(|k| k.raise_on(me, SIGUSR1));
        world.say(format!("{}", call.sleep_until(call.with(|k| k.clock()) + 1000 * MS)));
    });
    assert_eq!(said, ["1: signal 10 value 0", "-4"]);
}

#[test]
fn handlers_with_resethand_run_once() {
    let said = run(|world, call| {
        let child = world.fork(call, |_, call| {
            call.signal_action(SIGUSR1, HANDLER, SA_RESETHAND as i32);
            call.thread_kill(call.with(|k| k.processes.get(2).pid), FIRST_PID + 1, SIGUSR1);
            call.thread_kill(-1, FIRST_PID + 1, SIGUSR1);
            unreachable!("the second one is fatal")
        });
        let mut status = 0;
        call.wait_child(child, WEXITED, &mut status);
        world.say(format!("{status}"));
    });
    assert_eq!(said, ["2: signal 10 value 0", "10"]);
}

#[test]
fn numbers_and_targets_are_checked() {
    run(|_, call| {
        assert_eq!(call.kill(FIRST_PID, 0), 0);
        assert_eq!(call.kill(FIRST_PID, 64), -EINVAL);
        assert_eq!(call.kill(FIRST_PID, -1), -EINVAL);
        assert_eq!(call.kill(4711, SIGTERM), -ESRCH);
        assert_eq!(call.kill(-1, SIGTERM), -ESRCH, "nobody else is there");
        assert_eq!(call.thread_kill(FIRST_PID, 4711, SIGTERM), -ESRCH);
        assert_eq!(call.thread_kill(4711, FIRST_PID, SIGTERM), -ESRCH);
        assert_eq!(call.signal_action(SIGKILL, HANDLER, 0), -EINVAL);
        assert_eq!(call.signal_action(64, HANDLER, 0), -EINVAL);
        call.set_signal_mask(!0);
        let mask = call.with(|k| k.signal_mask(call.thread()));
        assert_eq!(mask, !(bit(SIGKILL) | bit(SIGSTOP) | bit(SIGSYS) | bit(64)));
    });
}

#[test]
fn the_queue_of_real_time_signals_is_bounded() {
    run(|_, call| {
        call.set_signal_mask(!0);
        let bound = crate::bounds::MAX_QUEUED_SIGNALS;
        for i in 0..bound {
            assert_eq!(call.signal_queue(FIRST_PID, 0, SIGRTMIN + 3, i as u64), 0);
        }
        assert_eq!(call.signal_queue(FIRST_PID, 0, SIGRTMIN + 3, 0), -EAGAIN);
        assert_eq!(call.kill(FIRST_PID, SIGUSR1), 0, "a standard signal needs no room");
        let mut info = PendingSignal::default();
        assert_eq!(call.signal_wait(bit(SIGUSR1), Some(0), &mut info), i64::from(SIGUSR1));
        for i in 0..bound {
            assert_eq!(call.signal_wait(!0, Some(0), &mut info), i64::from(SIGRTMIN) + 3);
            assert_eq!(info.value, i as u64);
        }
        assert_eq!(call.signals_pending(), 0);
    });
}

#[test]
fn timers_fire_in_the_order_of_deadline_then_arming() {
    let said = run(|_, call| {
        for (signal, value) in [(SIGRTMIN + 2, 1), (SIGRTMIN + 3, 2), (SIGRTMIN + 4, 3)] {
            call.signal_action(signal, HANDLER, 0);
            let notify = Notify { how: SIGEV_SIGNAL, signal, value: Some(value), tid: 0 };
            assert_eq!(call.timer_create(CLOCK_MONOTONIC, notify), value as i64 - 1);
        }
        let (at, mut old) = (call.monotonic() + 50 * MS, TimerSpec::default());
        for (timer, value) in [(2, at), (0, at + 9 * MS), (1, at + 9 * MS)] {
            assert_eq!(
                call.timer_settime(timer, TIMER_ABSTIME, TimerSpec { value, interval: 0 }, &mut old),
                0
            );
        }
        let end = call.realtime() + 200 * MS;
        while call.sleep_until(end) != 0 {}
        assert_eq!(call.timer_settime(7, 0, TimerSpec { value: 1, interval: 0 }, &mut old), -EINVAL);
        assert_eq!(call.timer_delete(1), 0);
        assert_eq!(call.timer_gettime(1, &mut old), -EINVAL);
    });
    assert_eq!(said, ["1: signal 36 value 3", "1: signal 34 value 1", "1: signal 35 value 2"]);
}

#[test]
fn an_interval_timer_repeats_until_disarmed() {
    let said = run(|world, call| {
        call.signal_action(SIGALRM, HANDLER, 0);
        let mut old = [0; 2];
        assert_eq!(call.interval_timer(0, Some([10 * MS, 10 * MS]), &mut old), 0);
        assert_eq!(old, [0, 0]);
        let mut count = 0;
        while call.pause() == -EINTR && count < 2 {
            count += 1;
        }
        assert_eq!(call.interval_timer(0, Some([0, 0]), &mut old), 0);
        assert!(old[0] > 0 && old[1] == 10 * MS, "{old:?}");
        assert_eq!(call.sleep_until(call.realtime() + 100 * MS), 0);
        world.say("quiet");
        assert_eq!(call.interval_timer(3, None, &mut old), -EINVAL);
    });
    assert_eq!(said.iter().filter(|line| line.contains("signal 14")).count(), 3);
    assert_eq!(said.last().unwrap(), "quiet");
}

#[test]
fn cpu_time_counts_what_was_done() {
    run(|world, call| {
        let before = call.cpu_time(RUSAGE_SELF);
        let child = world.fork(call, |_, call| {
            for _ in 0..500 {
                call.monotonic();
            }
            0
        });
        assert_eq!(call.cpu_time(RUSAGE_CHILDREN), 0);
        call.wait_child(child, WEXITED, &mut 0);
        assert!(call.cpu_time(RUSAGE_CHILDREN) >= 500 * crate::process::usage::TICK_CPU_NS);
        assert!(call.cpu_time(RUSAGE_SELF) - before < 500 * crate::process::usage::TICK_CPU_NS);
        assert!(call.clock_gettime(CLOCK_THREAD_CPUTIME_ID) > 0);
        assert_eq!(call.clock_gettime(4711), -EINVAL);
    });
}
