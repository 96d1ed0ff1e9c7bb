//! Births, deaths and waits.

use super::*;
use crate::bounds::{MAX_PROCESSES, MAX_THREADS};
use crate::process::abi::*;
use crate::upcall::{ADMITTED, UpcallKind};

#[test]
fn children_are_waited_for_in_the_order_of_their_ends() {
    let said = run(|world, call| {
        let slow = world.fork(call, |_, call| {
            assert_eq!(call.sleep_until(call.realtime() + 20 * MS), 0);
            3
        });
        let fast = world.fork(call, |_, _| 4);
        let mut status = 0;
        assert_eq!(call.wait_child(slow, WEXITED | WNOHANG, &mut status), 0);
        assert_eq!(call.wait_child(-1, WEXITED, &mut status), i64::from(fast));
        world.say(format!("fast {status:#x}"));
        assert_eq!(call.wait_child(fast, WEXITED, &mut status), -ECHILD);
        assert_eq!(call.wait_child(slow, WEXITED | WNOWAIT, &mut status), i64::from(slow));
        assert_eq!(call.wait_child(0, WEXITED, &mut status), i64::from(slow));
        world.say(format!("slow {status:#x}"));
        assert_eq!(call.wait_child(-1, WEXITED, &mut status), -ECHILD);
    });
    assert_eq!(said, ["fast 0x400", "slow 0x300"]);
}

#[test]
fn orphans_become_inits_and_leave_no_zombie() {
    let said = run(|world, call| {
        let child = world.fork(call, |world, call| {
            world.fork(call, |world, call| {
                assert_eq!(call.parent_pid(), i64::from(FIRST_PID) + 1);
                call.sleep_until(call.realtime() + 20 * MS);
                world.say(format!("orphan of {}", call.parent_pid()));
                7
            });
            call.sleep_until(call.realtime() + 5 * MS);
            0
        });
        let mut status = 0;
        assert_eq!(call.wait_child(-1, WEXITED, &mut status), i64::from(child));
        assert_eq!(call.wait_child(-1, WEXITED, &mut status), -ECHILD);
        call.sleep_until(call.realtime() + 100 * MS);
        world.say(format!("{} processes", call.with(|k| k.processes.ids().count())));
    });
    assert_eq!(said, ["orphan of 1", "1 processes"]);
}

#[test]
fn an_ignored_sigchld_reaps_by_itself() {
    run(|world, call| {
        assert_eq!(call.signal_action(SIGCHLD, 1, 0), 0);
        world.fork(call, |_, _| 0);
        assert_eq!(call.wait_child(-1, WEXITED, &mut 0), -ECHILD);
        assert_eq!(call.with(|k| k.processes.ids().count()), 1);
    });
}

#[test]
fn sigchld_says_who_ended_and_how() {
    let said = run(|world, call| {
        let mut info = PendingSignal::default();
        call.set_signal_mask(1 << (SIGCHLD - 1));
        let child = world.fork(call, |_, _| 5);
        assert_eq!(call.signal_wait(1 << (SIGCHLD - 1), None, &mut info), i64::from(SIGCHLD));
        assert_eq!((info.pid, info.code, info.value), (child, CLD_EXITED, 5));
        let child = world.fork(call, |_, call| call.pause() as i32);
        call.yield_turn();
        assert_eq!(call.kill(child, SIGTERM), 0);
        assert_eq!(call.signal_wait(1 << (SIGCHLD - 1), None, &mut info), i64::from(SIGCHLD));
        assert_eq!((info.pid, info.code, info.value), (child, CLD_KILLED, SIGTERM as u64));
        let mut status = 0;
        call.wait_child(child, WEXITED, &mut status);
        world.say(format!("status {status}"));
    });
    assert_eq!(said, ["status 15"]);
}

#[test]
fn a_process_dies_with_all_its_threads_whatever_they_wait_for() {
    run(|world, call| {
        let child = world.fork(call, |world, call| {
            let sleeper = world.thread(call, false, |_, call| {
                call.sleep_until(call.realtime() + 1_000_000 * MS);
            });
            world.thread(call, true, move |_, call| {
                join(call, sleeper);
            });
            world.thread(call, true, |_, call| while call.realtime() > 0 {});
            call.pause() as i32
        });
        call.sleep_until(call.realtime() + MS);
        let threads = |call: &Call<'_>| {
            call.with(|k| (1..=MAX_PROCESSES as u16).map(|p| k.threads_of(p).count()).sum::<usize>())
        };
        assert_eq!(threads(call), 5);
        assert_eq!(call.kill(child, SIGKILL), 0);
        let mut status = 0;
        assert_eq!(call.wait_child(-1, WEXITED, &mut status), i64::from(child));
        assert_eq!((status, threads(call)), (SIGKILL, 1));
        assert!(call.with(|k| k.timers.earliest().is_none()), "its timers are disarmed");
    });
}

#[test]
fn joins_work_before_and_after_the_end() {
    run(|world, call| {
        let early = world.thread(call, false, |_, call| {
            call.sleep_until(call.realtime() + 5 * MS);
        });
        assert_eq!(call.thread_join(early, false, Deadline::Never), EBUSY as i32);
        let soon = Deadline::Real(call.realtime() + MS);
        assert_eq!(call.thread_join(early, true, soon), ETIMEDOUT as i32);
        assert_eq!(join(call, early), 0);
        assert_eq!(join(call, early), ESRCH as i32, "a joined thread is gone");
        let late = world.thread(call, false, |_, _| {});
        call.yield_turn();
        assert_eq!(call.pthread_kill(late, 0), 0, "it can be named until it is joined");
        assert_eq!(join(call, late), 0);
    });
}

#[test]
fn detached_threads_are_not_joinable_and_free_themselves() {
    run(|world, call| {
        let detached = world.thread(call, true, |_, _| {});
        assert_eq!(join(call, detached), EINVAL as i32);
        assert_eq!(call.thread_detach(detached), EINVAL as i32);
        call.yield_turn();
        assert_eq!(join(call, detached), ESRCH as i32);
        let ended = world.thread(call, false, |_, _| {});
        call.yield_turn();
        assert_eq!(call.thread_detach(ended), 0);
        assert_eq!(call.thread_detach(ended), ESRCH as i32);
        assert_eq!(call.with(|k| k.threads_of(1).count()), 1);
    });
}

#[test]
fn joining_oneself_or_twice_is_an_error() {
    run(|world, call| {
        call.with(|k| k.threads.get_mut(call.thread()).handle = 99);
        assert_eq!(join(call, 99), EDEADLK as i32);
        let target = world.thread(call, false, |_, call| {
            call.sleep_until(call.realtime() + 5 * MS);
        });
        let other = world.thread(call, false, move |_, call| assert_eq!(join(call, target), 0));
        call.yield_turn();
        call.yield_turn();
        assert_eq!(join(call, target), EINVAL as i32);
        assert_eq!(join(call, other), 0);
    });
}

#[test]
fn the_tables_are_bounded() {
    run(|world, call| {
        let mut reserved = Vec::new();
        loop {
            match call.fork_reserve() {
                id if id > 0 => reserved.push(id as ThreadId),
                error => break assert_eq!(error, -EAGAIN),
            }
        }
        assert_eq!(reserved.len(), MAX_PROCESSES - 1);
        reserved.drain(..).for_each(|id| call.fork_done(id, -1));
        loop {
            match call.thread_reserve(0, 0, false) {
                id if id > 0 => reserved.push(id as ThreadId),
                error => break assert_eq!(error, -EAGAIN),
            }
        }
        assert_eq!(reserved.len(), MAX_THREADS - 1);
        reserved.drain(..).for_each(|id| call.thread_abandon(id));
        let child = world.fork(call, |_, _| 0);
        assert_eq!(call.wait_child(child, WEXITED, &mut 0), i64::from(child));
    });
}

#[test]
fn exec_keeps_the_process_and_drops_the_rest() {
    run(|world, call| {
        world.thread(call, false, |_, call| {
            call.pause();
        });
        call.yield_turn();
        call.signal_action(SIGUSR1, 0x1234, 0);
        call.signal_action(SIGUSR2, 1, 0);
        call.set_signal_mask(1 << (SIGTERM - 1));
        call.before_exec();
        assert_eq!(call.with(|k| k.thread_of_pid(FIRST_PID)), Some(call.thread()));
        call.after_exec();
        call.with(|k| {
            assert_eq!(k.threads_of(1).count(), 1);
            let dispositions = &k.processes.get(1).dispositions;
            assert!(dispositions[SIGUSR1 as usize].is_fatal(SIGUSR1));
            assert!(dispositions[SIGUSR2 as usize].ignores(SIGUSR2));
            assert_eq!(k.signal_mask(call.thread()), 1 << (SIGTERM - 1));
        });
    });
}

#[test]
fn groups_and_sessions_follow_the_calls() {
    run(|world, call| {
        assert_eq!(call.group_of(0), i64::from(FIRST_PID));
        assert_eq!(call.new_session(), -EPERM, "a group leader cannot");
        let child = world.fork(call, |_, call| {
            call.pause();
            0
        });
        assert_eq!(call.set_group(child, 0), 0);
        assert_eq!(call.group_of(child), i64::from(child));
        assert_eq!(call.session_of(child), i64::from(FIRST_PID));
        call.yield_turn();
        assert_eq!(call.kill(-child, SIGTERM), 0);
        assert_eq!(call.wait_child(-child, WEXITED, &mut 0), i64::from(child));
        assert_eq!(call.kill(-child, SIGTERM), -ESRCH);
    });
}

#[test]
fn a_parent_that_called_vfork_waits_until_its_child_has_ended_and_hears_why_it_failed() {
    let said = run(|world, call| {
        for (name, status, spawns) in
            [("ended", 3, true), ("no program", 127, true), ("plain vfork", 127, false)]
        {
            let child = call.fork_reserve() as ThreadId;
            let pid = world.next_tid.fetch_add(1, Ordering::Relaxed);
            world.run(child, move |world, call| {
                call.sleep_until(call.realtime() + MS);
                world.say("the child ends");
                call.note_errno(2);
                call.process_exit(status << 8);
            });
            call.fork_done(child, pid);
            let launch = call.await_launch(child, pid, spawns);
            let mut status = 0;
            let waited = call.wait_child(pid, WEXITED, &mut status);
            world.say(format!(
                "{name}: {launch:?}, then {}",
                if waited == i64::from(pid) { 0 } else { waited }
            ));
        }
    });
    let ends = "the child ends";
    let [first, second, third] =
        ["ended: Over, then 0", "no program: Failed(2), then -10", "plain vfork: Over, then 0"];
    assert_eq!(said, [ends, first, ends, second, ends, third]);
}

#[test]
fn the_entry_that_says_where_the_server_ended_is_told_before_its_end() {
    for others in [false, true] {
        let (server, mut link) = Server::leader(64);
        let first = Call::new(server.arena, &*server.platform, 0).first_process(FIRST_PID);
        let call = Call::new(server.arena, &*server.platform, first);
        call.start_first();
        if others {
            let child = call.fork_reserve() as ThreadId;
            call.fork_done(child, FIRST_PID + 1);
        }
        call.process_exit(3 << 8);
        let mut told = Vec::new();
        while let Some(upcall) = link.next_upcall() {
            told.push((upcall.kind, upcall.header.flags.get(), upcall.header.a.get()));
        }
        let exited = told.iter().position(|(kind, ..)| *kind == UpcallKind::Exited).expect("the end is told");
        assert_eq!(told[exited].2, 3 << 8);
        let (kind, flags, entry) = told[exited - 1];
        assert_eq!((kind, flags, entry), (UpcallKind::Applied, ADMITTED, 1), "others: {others}");
    }
}
