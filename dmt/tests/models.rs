//! Model checks: the rings, the door bells and the hand-over of the turn under every order of their threads' steps, with
//! the memory model of the language. Run with `RUSTFLAGS="--cfg loom"`; without it there is nothing here.
#![cfg(loom)]

use std::sync::Arc;

use dmt::atomic::{AtomicU32, Ordering};
use dmt::control::Control;
use dmt::grant::Grant;
use dmt::platform::Platform;
use dmt::process::PendingSignal;
use dmt::ring::Ring;
use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex, Notify};
use loom::thread;

/// Forced switches between threads in one execution at the most. Known faults of such code need two.
const PREEMPTIONS: usize = 2;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// A futex: the comparison and the falling asleep are one step for whoever wakes.
#[derive(Default)]
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Platform for Futex {
    fn wait(&self, word: &AtomicU32, expected: u32, _: Option<u64>) {
        let guard = self.lock.lock().unwrap();
        if word.load(Ordering::SeqCst) == expected {
            drop(self.sleepers.wait(guard).unwrap());
        }
    }

    fn wake(&self, _: &AtomicU32) {
        let _guard = self.lock.lock().unwrap();
        self.sleepers.notify_all();
    }

    fn real_time(&self) -> u64 {
        0
    }

    fn deliver(&self, _: &PendingSignal) {}

    fn kick_coordinator(&self) {}
}

fn push<const N: usize>(ring: &Ring<N>, tag: u32, body: &[u8]) -> bool {
    // SAFETY: each model has one thread that pushes.
    unsafe { ring.push(tag, &[body]) }
}

#[test]
fn a_ring_hands_over_whole_frames_in_order() {
    check(|| {
        let ring = Arc::new(Ring::<64>::new());
        let theirs = ring.clone();
        // Frames of 16 and 24 bytes: they fill the ring, and the third needs filler in front.
        let producer = thread::spawn(move || {
            for tag in 1..=4_u32 {
                let body = [tag as u8; 16];
                let len = if tag % 2 == 0 { 16 } else { 8 };
                while !push(&theirs, tag, &body[..len]) {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 1;
        while expected <= 4 {
            if ring.is_empty() {
                thread::yield_now();
                continue;
            }
            // SAFETY: this is the only consumer, and it starts at the head.
            let frame = unsafe { ring.peek(ring.head()) }.expect("a ring that is not empty has a frame");
            assert_eq!(frame.tag, expected);
            assert!(frame.body.iter().all(|byte| u32::from(*byte) == expected));
            ring.release(frame.end);
            expected += 1;
        }
        producer.join().unwrap();
    });
}

/// A server that writes one upcall and kicks.
struct Speech {
    control: Arc<Control>,
    ring: Arc<Ring<64>>,
    kick: Arc<Notify>,
    server: thread::JoinHandle<()>,
}

impl Speech {
    fn begin() -> Self {
        let (control, ring) = (Arc::new(Control::new()), Arc::new(Ring::<64>::new()));
        let kick = Arc::new(Notify::new());
        let server = {
            let (control, ring, kick) = (control.clone(), ring.clone(), kick.clone());
            thread::spawn(move || {
                assert!(push(&ring, 1, &[1; 8]));
                if control.must_kick(|| !ring.is_empty()) {
                    kick.notify();
                }
            })
        };
        Self { control, ring, kick, server }
    }
}

#[test]
fn a_coordinator_that_falls_asleep_misses_no_upcall() {
    check(|| {
        let Speech { control, ring, kick, server } = Speech::begin();
        // It may wake for other reasons.
        while ring.is_empty() {
            if control.coordinator_sleeps(|| !ring.is_empty()) {
                kick.wait();
                control.coordinator_woke();
            }
        }
        server.join().unwrap();
    });
}

#[test]
fn an_entry_is_made_by_one_side_alone() {
    check(|| {
        let control = Arc::new(Control::new());
        let made = Arc::new([const { std::sync::atomic::AtomicU32::new(0) }; 3]);
        let make = |made: &[std::sync::atomic::AtomicU32; 3], index: u64| {
            assert_eq!(
                made[index as usize].fetch_add(1, Ordering::SeqCst),
                0,
                "entry {index} was made twice"
            );
        };
        let server = {
            let (control, made) = (control.clone(), made.clone());
            thread::spawn(move || {
                for index in 0..3 {
                    control.applied.store(index, Ordering::Relaxed);
                    control.open_offer(index);
                    // It wakes for another reason.
                    if !control.close_offer() {
                        return;
                    }
                    make(&made, index);
                }
            })
        };
        let index = control.applied.load(Ordering::Relaxed);
        if control.claim_offer(index) {
            make(&made, index);
        }
        server.join().unwrap();
    });
}

#[test]
fn a_server_that_falls_asleep_misses_no_entry() {
    check(|| {
        let (control, ring) = (Arc::new(Control::new()), Arc::new(Ring::<64>::new()));
        let futex = Arc::new(Futex::default());
        let coordinator = {
            let (control, ring, futex) = (control.clone(), ring.clone(), futex.clone());
            thread::spawn(move || {
                assert!(push(&ring, 0, &[7; 8]));
                if control.must_wake() {
                    futex.wake(&control.inbound);
                }
            })
        };
        loop {
            let seen = control.inbound.load(Ordering::SeqCst);
            if !ring.is_empty() {
                break;
            }
            control.await_change(&*futex, seen, None, || ());
        }
        coordinator.join().unwrap();
    });
}

#[test]
fn a_coordinator_that_looks_before_it_falls_asleep_misses_no_upcall() {
    check(|| {
        let Speech { control, ring, kick, server } = Speech::begin();
        while ring.is_empty() {
            if !control.coordinator_looks(|| !ring.is_empty()) || control.was_kicked() {
                assert!(!ring.is_empty(), "who is kicked finds something");
            } else if control.coordinator_sleeps(|| !ring.is_empty()) {
                kick.wait();
                control.coordinator_woke();
            }
        }
        server.join().unwrap();
    });
}

#[test]
fn the_turn_is_never_lost_nor_held_twice() {
    check(|| {
        let grants = Arc::new([Grant::new(), Grant::new()]);
        let futex = Arc::new(Futex::default());
        // What only the holder of the turn may touch; the checker complains about anybody else.
        let kernel = Arc::new(UnsafeCell::new(0_u32));
        let rounds = 2;
        let other = {
            let (grants, futex, kernel) = (grants.clone(), futex.clone(), kernel.clone());
            thread::spawn(move || {
                for _ in 0..rounds {
                    grants[1].take(&*futex);
                    // SAFETY: this thread has the turn.
                    kernel.with_mut(|count| unsafe { *count += 1 });
                    grants[0].give(&*futex);
                }
            })
        };
        for round in 0..rounds {
            // SAFETY: this thread has the turn: it starts with it, and takes it at the end of each round.
            kernel.with_mut(|count| unsafe { *count += 1 });
            grants[1].give(&*futex);
            grants[0].take(&*futex);
            // SAFETY: as above.
            assert_eq!(kernel.with(|count| unsafe { *count }), 2 * (round + 1));
        }
        other.join().unwrap();
    });
}

/// That the checker would notice: whoever looks first and says only then that it sleeps loses a wake-up.
#[test]
#[should_panic(expected = "deadlock")]
fn the_wrong_order_is_caught() {
    check(|| {
        let Speech { control, ring, kick, server } = Speech::begin();
        let news = !ring.is_empty();
        control.coordinator_asleep.store(1, Ordering::SeqCst);
        if !news {
            kick.wait();
        }
        server.join().unwrap();
    });
}
