//! The sync objects under the real scheduler with real threads: right results, and the same digest every time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::Call;
use crate::sync::barrier::Barrier;
use crate::sync::cond::Cond;
use crate::sync::futex::FutexArgs;
use crate::sync::mutex::Mutex;
use crate::sync::rwlock::RwLock;
use crate::sync::semaphore::Semaphore;
use crate::sync::{Deadline, errno};
use crate::testing::Server;

/// Zeroed objects at fixed addresses for all runs of a test, so that digests can be compared.
struct Objects {
    mutex: [Mutex; 2],
    cond: [Cond; 2],
    rwlock: RwLock,
    sem: Semaphore,
    barrier: Barrier,
    word: u32,
}

#[derive(Clone, Copy)]
struct Shared(*mut Objects);
// SAFETY: the tests touch the objects only with the turn.
unsafe impl Send for Shared {}
impl Shared {
    fn new() -> Self {
        // SAFETY: all zeroes is every object's initial state; leaked, so it outlives the threads.
        Self(Box::leak(Box::new(unsafe { core::mem::zeroed() })))
    }
    fn reset(self) -> *mut Objects {
        // SAFETY: no thread of a run is left.
        unsafe { self.0.write_bytes(0, 1) };
        self.0
    }
    fn get(&self) -> *mut Objects {
        self.0
    }
}

type Body = Box<dyn FnOnce(&Call<'_>) + Send>;

fn same_twice(quantum: u32, make: impl Fn(Shared) -> Vec<Body>) {
    let shared = Shared::new();
    let runs: Vec<_> = (0..3)
        .map(|_| {
            shared.reset();
            let (server, mut link) = Server::leader(quantum);
            server.run(&mut link, make(shared))
        })
        .collect();
    // Entry clocks differ between the runs of a leader, so the digest does; the ticks are what its schedule fixes.
    assert!(runs.windows(2).all(|pair| pair[0].1 == pair[1].1), "ticks differ: {runs:?}");
}

#[test]
fn mutual_exclusion_holds_at_every_quantum() {
    for quantum in [1, 2, 3, 17, 1024] {
        let total = Arc::new(AtomicU64::new(0));
        let seen = total.clone();
        same_twice(quantum, move |shared| {
            seen.store(0, Ordering::SeqCst);
            (0..4)
                .map(|_| {
                    let total = seen.clone();
                    Box::new(move |call: &Call<'_>| {
                        let objects = shared.get();
                        for _ in 0..50 {
                            // SAFETY: the objects outlive the run.
                            unsafe {
                                assert_eq!(call.mutex_lock(&raw mut (*objects).mutex[0]), 0);
                                let before = total.load(Ordering::Relaxed);
                                call.yield_turn();
                                total.store(before + 1, Ordering::Relaxed);
                                assert_eq!(call.mutex_unlock(&raw mut (*objects).mutex[0]), 0);
                            }
                        }
                    }) as Body
                })
                .collect()
        });
        assert_eq!(total.load(Ordering::SeqCst), 200);
    }
}

#[test]
fn condition_hands_items_over_and_times_out() {
    same_twice(5, |shared| {
        let consumer = Box::new(move |call: &Call<'_>| {
            let o = shared.get();
            // SAFETY: the objects outlive the run.
            unsafe {
                call.mutex_lock(&raw mut (*o).mutex[0]);
                while (*o).word < 20 {
                    assert_eq!(
                        call.cond_wait(&raw mut (*o).cond[0], &raw mut (*o).mutex[0], Deadline::Never),
                        0
                    );
                }
                let at = call.with(|k| k.clock()) + 5_000_000;
                let result =
                    call.cond_wait(&raw mut (*o).cond[1], &raw mut (*o).mutex[0], Deadline::Real(at));
                assert_eq!(result, errno::ETIMEDOUT);
                assert!(call.with(|k| k.clock()) >= at);
                call.mutex_unlock(&raw mut (*o).mutex[0]);
            }
        });
        let producer = Box::new(move |call: &Call<'_>| {
            let o = shared.get();
            for _ in 0..20 {
                // SAFETY: the objects outlive the run.
                unsafe {
                    call.mutex_lock(&raw mut (*o).mutex[0]);
                    (*o).word += 1;
                    call.cond_signal(&raw mut (*o).cond[0]);
                    call.mutex_unlock(&raw mut (*o).mutex[0]);
                }
            }
        });
        vec![consumer as Body, producer as Body]
    });
}

#[test]
fn readers_share_and_writers_exclude() {
    same_twice(2, |shared| {
        (0..5)
            .map(|i| {
                Box::new(move |call: &Call<'_>| {
                    let o = shared.get();
                    for _ in 0..20 {
                        let write = i == 0;
                        // SAFETY: the objects outlive the run.
                        unsafe {
                            assert_eq!(call.rwlock_lock(&raw mut (*o).rwlock, write, Deadline::Never), 0);
                            let before = (*o).word;
                            call.yield_turn();
                            assert_eq!((*o).word, before, "a writer got in beside another holder");
                            if write {
                                (*o).word += 1;
                            }
                            assert_eq!(call.rwlock_unlock(&raw mut (*o).rwlock), 0);
                        }
                    }
                }) as Body
            })
            .collect()
    });
}

#[test]
fn semaphores_barriers_and_futexes_agree_on_counts() {
    same_twice(3, |shared| {
        barrier_of_three(shared);
        (0..3)
            .map(|i| {
                Box::new(move |call: &Call<'_>| {
                    let o = shared.get();
                    // SAFETY: the objects outlive the run.
                    unsafe {
                        if i == 0 {
                            for _ in 0..2 {
                                assert_eq!(call.sem_post(&raw mut (*o).sem), 0);
                            }
                            let args = futex_args(&raw mut (*o).word, 0, 0);
                            while (&raw const (*o).word).read_volatile() == 0 {
                                call.futex(&args);
                            }
                        } else {
                            assert_eq!(call.sem_wait(&raw mut (*o).sem, true, Deadline::Never), 0);
                            (*o).word = 1;
                            call.futex(&futex_args(&raw mut (*o).word, 1, 10));
                        }
                        call.barrier_wait(&raw mut (*o).barrier);
                        let soon = call.with(|k| k.clock()) + 1000;
                        let timed = call.sem_wait(&raw mut (*o).sem, true, Deadline::Real(soon));
                        assert_eq!(timed, -i64::from(errno::ETIMEDOUT));
                        let none = call.sem_wait(&raw mut (*o).sem, false, Deadline::Never);
                        assert_eq!(none, -i64::from(errno::EAGAIN));
                    }
                }) as Body
            })
            .collect()
    });
}

fn barrier_of_three(shared: Shared) {
    // SAFETY: no thread runs yet; `count` of a barrier is its third word.
    unsafe { (&raw mut (*shared.get()).barrier).cast::<u32>().add(2).write(3) };
}

fn futex_args(address: *mut u32, op: i32, value: u32) -> FutexArgs {
    FutexArgs {
        address,
        name: None,
        op: op | 128,
        value,
        timeout: None,
        value2: 0,
        address2: core::ptr::null_mut(),
        name2: None,
        value3: 0,
    }
}

#[test]
fn three_threads_meet_at_a_barrier_and_one_is_serial() {
    let serial = Arc::new(AtomicU64::new(0));
    let count = serial.clone();
    same_twice(1, move |shared| {
        count.store(0, Ordering::SeqCst);
        barrier_of_three(shared);
        (0..3)
            .map(|_| {
                let count = count.clone();
                Box::new(move |call: &Call<'_>| {
                    for _ in 0..10 {
                        // SAFETY: the objects outlive the run.
                        if unsafe { call.barrier_wait(&raw mut (*shared.get()).barrier) } == -1 {
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }) as Body
            })
            .collect()
    });
    assert_eq!(serial.load(Ordering::SeqCst), 10);
}
