//! A harness for tests: a replica's server in one test process, its threads real ones, its coordinator the test.

use std::alloc::{Layout, alloc_zeroed};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use crate::arena::Arena;
use crate::call::Call;
use crate::entry::{EntryHeader, Genesis, Parameters};
use crate::link::Link;
use crate::platform::Platform;
use crate::process::PendingSignal;
use crate::thread::{ThreadId, ThreadState};

/// Parks by yielding; its clock advances by a microsecond at every look.
#[derive(Default)]
pub struct TestPlatform {
    clock: AtomicU64,
    /// Signals that were delivered.
    pub delivered: Mutex<Vec<PendingSignal>>,
    /// Branches that were armed.
    pub armed: Mutex<Vec<u64>>,
}

impl Platform for TestPlatform {
    fn wait(&self, word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) {
        if let Some(timeout) = timeout_ns {
            self.clock.fetch_add(timeout, Ordering::Relaxed);
            return;
        }
        for _ in 0..1000 {
            if word.load(Ordering::SeqCst) != expected {
                return;
            }
            std::thread::yield_now();
        }
    }
    fn wake(&self, _: &AtomicU32) {}
    fn real_time(&self) -> u64 {
        1_700_000_000_000_000_000 + self.clock.fetch_add(1000, Ordering::Relaxed)
    }
    fn deliver(&self, signal: &PendingSignal) {
        self.delivered.lock().unwrap().push(*signal);
    }
    fn arm_spin_point(&self, branch: u64) {
        self.armed.lock().unwrap().push(branch);
    }
    fn kick_coordinator(&self) {}
}

/// What a thread of the server does.
pub type Body = Box<dyn FnOnce(&Call<'_>) + Send>;

/// An arena of its own with the coordinator's end.
pub struct Server {
    /// The memory.
    pub arena: &'static Arena,
    /// Its world.
    pub platform: Arc<TestPlatform>,
}

/// Bytes of an entry without events but a genesis.
pub fn genesis_entry(quantum: u32) -> Vec<u8> {
    let genesis = Genesis {
        secret: [42; 32],
        parameters: Parameters {
            primaries: U32::new(1),
            steps: U32::new(1),
            quantum: U32::new(quantum),
            spin_limit_us: U32::new(2000),
        },
        crane: U32::new(0),
        reserved: U32::new(0),
        fingerprint: [0; 16],
    };
    let header = EntryHeader::genesis(1_700_000_000_000_000_000, 1000, 1);
    [header.as_bytes(), genesis.as_bytes()].concat()
}

/// What a coordinator without peers does: takes all upcalls, and all that was applied is decided.
pub fn commit_all(link: &mut Link) {
    let mut end = None;
    while let Some(upcall) = link.next_upcall() {
        end = Some(upcall.end);
    }
    if let Some(end) = end {
        link.release_upcall(end);
    }
    link.set_committed(link.control().applied.load(Ordering::SeqCst));
}

impl Server {
    /// A leader that has entry 0 and may go on.
    pub fn leader(quantum: u32) -> (Self, Link) {
        // Asked for with a small alignment and aligned by hand, the zeroes come from the kernel as they are touched; with
        // the arena's own alignment the allocator writes them all.
        let align = align_of::<Arena>();
        let layout = Layout::from_size_align(size_of::<Arena>() + align, 16).expect("a valid layout");
        // SAFETY: the layout is not empty, and an aligned arena fits into it; all zeroes is a fresh arena; it is leaked,
        // so it outlives every use.
        let arena: &'static Arena = unsafe {
            let memory = alloc_zeroed(layout);
            &*memory.add(memory.align_offset(align)).cast::<Arena>()
        };
        // SAFETY: this is the only Link to the fresh arena.
        let mut link = unsafe { Link::attach(&arena.shared) };
        link.initialise();
        assert!(link.push_entry(&genesis_entry(quantum)));
        link.prepare_lead();
        link.lead(1, 1);
        (Self { arena, platform: Arc::default() }, link)
    }

    /// Runs `bodies` as threads of the server, started in this order, and returns the final digest and tick. Commits
    /// everything as it comes.
    pub fn run(&self, link: &mut Link, bodies: Vec<Body>) -> (u64, u64) {
        let done = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let ids: Vec<ThreadId> = bodies.iter().map(|_| self.new_thread()).collect();
            let left = Arc::new(AtomicU32::new(bodies.len() as u32));
            for (i, (body, id)) in bodies.into_iter().zip(ids).enumerate() {
                let (platform, arena, done, left) =
                    (self.platform.clone(), self.arena, done.clone(), left.clone());
                scope.spawn(move || {
                    let call = Call::new(arena, &*platform, id);
                    if i == 0 {
                        call.start_first()
                    } else {
                        call.start()
                    }
                    body(&call);
                    call.tick();
                    call.with(|k| k.threads.get_mut(id).state = ThreadState::Ended);
                    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        done.store(true, Ordering::SeqCst);
                    } else {
                        call.leave();
                    }
                });
            }
            while !done.load(Ordering::SeqCst) {
                self.serve(link);
                std::thread::yield_now();
            }
        });
        // SAFETY: all threads have ended.
        let kernel = unsafe { &*self.arena.kernel() };
        (kernel.digest, kernel.sched.tick)
    }

    fn serve(&self, link: &mut Link) {
        commit_all(link);
        let _ = link.wants_wake();
    }

    fn new_thread(&self) -> ThreadId {
        // SAFETY: no thread of the server runs yet.
        let k = unsafe { &mut *self.arena.kernel() };
        let id = k.threads.allocate(1).expect("a test has few threads");
        k.threads.get_mut(id).tid = 1000 + i32::from(id);
        if id > 1 {
            k.threads.get_mut(id).state = ThreadState::Runnable;
            k.sched.enqueue(&mut k.threads, id);
        }
        id
    }
}
