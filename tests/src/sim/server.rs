//! One life of a replica's server: an arena, threads on fibers, and the watchdog.

use std::sync::atomic::Ordering;

use coordinator::container::watchdog;
use dmt::arena::Arena;
use dmt::call::Call;
use dmt::kernel::Kernel;
use dmt::link::Link;
use dmt::thread::{ThreadId, ThreadState};

use super::fiber::{Fiber, Suspend};
use super::memory::ArenaMemory;
use super::objects::Objects;
use super::platform::SimPlatform;
use super::rng::Rng;
use super::toy::{Toy, ToyConfig};

/// Simulated time that one look at a server may take, before the rest of the cluster has its turn, nanoseconds.
const LOOK_NS: u64 = 100_000;
/// Id of the toy server's process, by which the watchdog knows that somebody has the turn.
const PID: i32 = 1000;

enum State {
    /// Runs on at this time.
    Ready(u64),
    /// Sleeps on a futex word.
    Asleep {
        word: usize,
        deadline: u64,
    },
    Ended,
}

struct SimThread {
    fiber: Fiber,
    state: State,
}

/// See the module.
pub struct Server {
    // Fields are dropped in this order: the fibers use all that follows.
    threads: Vec<SimThread>,
    /// The coordinator's end of the arena.
    pub link: Link,
    /// Its world.
    pub platform: Box<SimPlatform>,
    /// The program's data.
    pub toy: Box<Toy>,
    /// What its watchdog has seen.
    pub watch: watchdog::State,
    /// What it saw last.
    pub looked: watchdog::Sample,
    objects: Objects,
    memory: ArenaMemory,
}

impl Server {
    /// Starts a server; its first thread waits for entry 0.
    pub fn start(config: ToyConfig, slowness: u64, now: u64, rng: Rng) -> Self {
        let memory = ArenaMemory::take();
        // SAFETY: the arena is fresh; it lives as long as the `Server` that owns it, and all users are fields before it.
        let arena: &'static Arena = unsafe { &*memory.arena() };
        // SAFETY: this is the only Link to the arena.
        let mut link = unsafe { Link::attach(&arena.shared) };
        link.initialise();
        let platform = Box::new(SimPlatform::new(&arena.shared, slowness, rng));
        let mut server = Self {
            threads: Vec::new(),
            link,
            platform,
            toy: Box::new(Toy::new(config)),
            watch: watchdog::State::default(),
            looked: watchdog::Sample::default(),
            objects: Objects::new(),
            memory,
        };
        // SAFETY: a box does not move what it holds; the fibers that get the reference are dropped before the box.
        let platform: &'static SimPlatform = unsafe { &*std::ptr::from_ref(&*server.platform) };
        let toy: *mut Toy = &mut *server.toy;
        for role in config.roles() {
            let id = server.new_thread();
            let call = Call::new(arena, platform, id);
            let body = move || {
                if id == 1 {
                    call.start_first()
                } else {
                    call.start()
                }
                super::toy::run(role, &call, platform, toy);
            };
            let state = State::Ready(now);
            server.threads.push(SimThread { fiber: Fiber::new(Box::new(body)), state });
        }
        server
    }

    fn new_thread(&mut self) -> ThreadId {
        // SAFETY: no thread of the server runs.
        let k = unsafe { &mut *self.arena().kernel() };
        let id = k.threads.allocate(1).expect("the toy server has few threads");
        k.processes.get_mut(1).pid = PID;
        if id > 1 {
            k.threads.get_mut(id).state = ThreadState::Runnable;
            k.sched.enqueue(&mut k.threads, id);
        }
        id
    }

    /// The arena.
    pub fn arena(&self) -> &Arena {
        // SAFETY: mapped as long as `self`.
        unsafe { &*self.memory.arena() }
    }

    /// The kernel, to look at. No thread of the server runs while the simulator does.
    pub fn kernel(&self) -> &Kernel {
        // SAFETY: fibers run only inside `run`, which needs `&mut self`.
        unsafe { &*self.arena().kernel() }
    }

    /// The kernel, to break it on purpose.
    pub fn kernel_mut(&mut self) -> &mut Kernel {
        // SAFETY: as in `kernel`.
        unsafe { &mut *self.arena().kernel() }
    }

    /// Makes the coordinator's changes visible, and wakes the server if it sleeps. True if it must be run.
    pub fn wake(&mut self) -> bool {
        if self.link.wants_wake() {
            let word = std::ptr::from_ref(self.link.wake_word()) as usize;
            self.wake_word(word, self.platform.now.get());
            return true;
        }
        false
    }

    fn wake_word(&mut self, address: usize, now: u64) {
        for thread in &mut self.threads {
            if matches!(thread.state, State::Asleep { word, .. } if word == address) {
                thread.state = State::Ready(now);
            }
        }
    }

    /// Runs every thread that can run at `now`. Returns when the server wants to be run again.
    pub fn run(&mut self, now: u64) -> Option<u64> {
        self.platform.now.set(now);
        self.objects.enter();
        while self.platform.now.get() < now + LOOK_NS {
            let time = self.platform.now.get();
            let Some(at) = self.threads.iter().position(|thread| thread.state.due() <= time) else { break };
            match self.threads[at].fiber.resume() {
                Suspend::Wait(word, timeout) => {
                    let deadline = timeout.map_or(u64::MAX, |t| self.platform.now.get().saturating_add(t));
                    self.threads[at].state = State::Asleep { word, deadline };
                }
                Suspend::Compute(_) => {
                    self.threads[at].state = State::Ready(self.platform.now.get());
                    // What this thread computed is in the future of everyone else.
                    if self.platform.now.get() > now {
                        break;
                    }
                }
                Suspend::Ended => self.threads[at].state = State::Ended,
            }
            let woken = std::mem::take(&mut *self.platform.woken.borrow_mut());
            for word in woken {
                self.wake_word(word, self.platform.now.get());
            }
        }
        self.objects.leave();
        let next = self.threads.iter().map(|thread| thread.state.due()).min();
        next.filter(|&due| due != u64::MAX).map(|due| due.max(now + 1))
    }

    /// Where it stands, for people.
    pub fn describe(&self) -> String {
        let (k, control) = (self.kernel(), self.link.control());
        let threads: Vec<String> = self
            .threads
            .iter()
            .zip(1..)
            .map(|(thread, id)| {
                let state = k.threads.get(id).state;
                match thread.state {
                    State::Ready(at) => format!("{id} {state:?} ready at {at}"),
                    State::Asleep { deadline, .. } => format!("{id} {state:?} asleep until {deadline}"),
                    State::Ended => format!("{id} {state:?} ended"),
                }
            })
            .collect();
        format!(
            "turn {} runnable {} wanted {} tick {} stop {} bubble {}..{} applied {} cpu {} threads {threads:?}",
            k.sched.turn,
            control.runnable.load(Ordering::Relaxed),
            control.wanted.load(Ordering::Relaxed),
            k.sched.tick,
            k.sched.stop_at,
            k.sched.stamp,
            k.sched.bubble_end,
            k.sched.applied,
            self.platform.cpu.get()
        )
    }

    /// True if some thread computes, so that a watchdog has something to watch.
    pub fn is_busy(&self) -> bool {
        self.link.control().runnable.load(Ordering::Relaxed) > 0
    }
}

impl State {
    fn due(&self) -> u64 {
        match *self {
            Self::Ready(at) => at,
            Self::Asleep { deadline, .. } => deadline,
            Self::Ended => u64::MAX,
        }
    }
}
