//! The server in these tests is one program of virtual processes: each body is a closure on a real thread of the test.

mod lives;
mod signals;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::arena::Arena;
use crate::call::Call;
use crate::link::Link;
use crate::platform::Platform;
use crate::process::PendingSignal;
use crate::sync::Deadline;
use crate::testing::{Server, TestPlatform};
use crate::thread::ThreadId;

thread_local! { static ME: Cell<ThreadId> = const { Cell::new(0) }; }

const FIRST_PID: i32 = 1000;
const MS: u64 = 1_000_000;

/// What a program says; in order, because only one of its threads runs at any time.
type Log = Arc<Mutex<Vec<String>>>;

/// Runs handlers by writing them into the log, and lets fatal signals end their process.
struct Handlers {
    inner: Arc<TestPlatform>,
    arena: &'static Arena,
    log: Log,
    sleepers: Mutex<()>,
    woken: Condvar,
}

impl Platform for Handlers {
    fn wait(&self, word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) {
        if timeout_ns.is_some() {
            return self.inner.wait(word, expected, timeout_ns);
        }
        let guard = self.sleepers.lock().unwrap();
        if word.load(Ordering::SeqCst) == expected {
            drop(self.woken.wait(guard).unwrap());
        }
    }
    fn wake(&self, _: &AtomicU32) {
        drop(self.sleepers.lock().unwrap());
        self.woken.notify_all();
    }
    fn real_time(&self) -> u64 {
        self.inner.real_time()
    }
    fn deliver(&self, signal: &PendingSignal) {
        let me = ME.get();
        if signal.fatal {
            Call::new(self.arena, self, me).fatal_signal(signal.signal);
            loop {
                std::thread::park();
            }
        }
        self.log.lock().unwrap().push(format!("{me}: signal {} value {}", signal.signal, signal.value));
    }
    fn kick_coordinator(&self) {
        self.arena.shared.control.coordinator_asleep.store(0, Ordering::SeqCst);
        self.wake(&self.arena.shared.control.coordinator_asleep);
    }
}

/// Ends the coordinator's part of a test, also if the program panics.
struct Finish(Arc<Handlers>, Arc<AtomicBool>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
        self.0.kick_coordinator();
    }
}

/// One virtual program's surroundings.
#[derive(Clone)]
struct World {
    platform: Arc<Handlers>,
    next_tid: Arc<AtomicI32>,
}

impl World {
    fn call(&self, id: ThreadId) -> Call<'_> {
        Call::new(self.platform.arena, &*self.platform, id)
    }

    fn say(&self, what: impl Into<String>) {
        self.platform.log.lock().unwrap().push(what.into());
    }

    /// Starts a real thread for the reserved thread `id`. It is never joined: it may be killed in its sleep.
    fn run(&self, id: ThreadId, body: impl FnOnce(&World, &Call<'_>) + Send + 'static) {
        let world = self.clone();
        std::thread::spawn(move || {
            ME.set(id);
            let call = world.call(id);
            call.start();
            body(&world, &call);
        });
    }

    /// Creates a thread; its handle is `tid * 16`.
    fn thread(
        &self,
        call: &Call<'_>,
        detached: bool,
        body: impl FnOnce(&World, &Call<'_>) + Send + 'static,
    ) -> u64 {
        let id = call.thread_reserve(1, 2, detached);
        assert!(id > 0, "{id}");
        let tid = self.next_tid.fetch_add(1, Ordering::Relaxed);
        self.run(id as ThreadId, |world, call| {
            body(world, call);
            call.thread_exit();
        });
        call.thread_created(id as ThreadId, tid as u64 * 16);
        tid as u64 * 16
    }

    /// Forks; the child ends with the status that `body` returns.
    fn fork(&self, call: &Call<'_>, body: impl FnOnce(&World, &Call<'_>) -> i32 + Send + 'static) -> i32 {
        let child = call.fork_reserve();
        assert!(child > 0, "{child}");
        let pid = self.next_tid.fetch_add(1, Ordering::Relaxed);
        self.run(child as ThreadId, |world, call| {
            let status = body(world, call);
            call.process_exit(status << 8);
        });
        call.fork_done(child as ThreadId, pid);
        pid
    }
}

fn serve(link: &mut Link, platform: &Handlers) {
    crate::testing::commit_all(link);
    if link.wants_wake() {
        platform.wake(link.wake_word());
    }
}

/// Runs a program twice and returns what it said, which must be the same each time, as must the digest.
fn run(body: fn(&World, &Call<'_>)) -> Vec<String> {
    let first = run_once(body);
    assert_eq!(first, run_once(body), "two runs of one program differ");
    first.0
}

fn run_once(body: fn(&World, &Call<'_>)) -> (Vec<String>, u64) {
    let (server, mut link) = Server::leader(64);
    let log = Log::default();
    let platform = Arc::new(Handlers {
        inner: server.platform.clone(),
        arena: server.arena,
        log: log.clone(),
        sleepers: Mutex::default(),
        woken: Condvar::new(),
    });
    let world = World { platform: platform.clone(), next_tid: Arc::new(AtomicI32::new(FIRST_PID + 1)) };
    let done = Arc::new(AtomicBool::new(false));
    let finish = Finish(platform.clone(), done.clone());
    let main = std::thread::spawn(move || {
        let id = world.call(0).first_process(FIRST_PID);
        ME.set(id);
        let call = world.call(id);
        call.start_first();
        body(&world, &call);
        drop(finish);
        call.with(|k| k.digest)
    });
    while !done.load(Ordering::SeqCst) {
        serve(&mut link, &platform);
        if link.prepare_sleep() {
            if !done.load(Ordering::SeqCst) {
                platform.wait(&link.control().coordinator_asleep, 1, None);
            }
            link.woke();
        }
    }
    let digest = main.join().expect("the program's main thread failed");
    let said = log.lock().unwrap().clone();
    (said, digest)
}

/// Waits for a thread without a limit.
fn join(call: &Call<'_>, handle: u64) -> i32 {
    call.thread_join(handle, true, Deadline::Never)
}
