//! The toy server: an append list behind an epoll thread, worker threads with a queue, and threads that spin.
//!
//! It is a program like any other: it calls dmt as preload does for a real one, shares memory between its threads, and
//! has what makes servers hard to replicate: races that only serial execution makes deterministic, long computations
//! without a call, and a spin on a plain variable that ends only if another thread gets to run.

mod polling;
mod working;

use std::collections::VecDeque;

use dmt::call::Call;
use dmt::digest::mix;
use dmt::file::abi::AF_INET;
use dmt::sync::Deadline;
use dmt::sync::mutex::Mutex;

use super::objects::place;
use super::platform::SimPlatform;

/// Port that the server listens on.
pub const PORT: u16 = 7000;
/// Bytes of a request: kind, id.
pub const REQUEST_BYTES: usize = 16;
/// Bytes of a reply: id, length of the list, hash of the list, virtual clock.
pub const REPLY_BYTES: usize = 32;
/// A request that appends its id to the list.
pub const APPEND: u64 = 1;
/// A request that only looks.
pub const READ: u64 = 2;
/// A read whose reply is followed by [`BULK_BYTES`] bytes, more than a send window holds.
pub const DOWNLOAD: u64 = 3;
/// An append that is followed by [`BULK_BYTES`] bytes, more than a receive window holds.
pub const UPLOAD: u64 = 4;
/// See [`DOWNLOAD`] and [`UPLOAD`].
pub const BULK_BYTES: usize = 300_000;
/// UDP port of the server: who sends an id there gets it back, and how many have come.
pub const DATAGRAM_PORT: u16 = 7001;
/// A host outside that the server calls for some requests, and its port.
pub const ABROAD: ([u8; 4], u16) = ([203, 0, 113, 7], 80);
/// What a download consists of.
pub const BULK_PIECE: [u8; 10_000] = [0xb5; 10_000];

/// First descriptor number that the server gets.
const FIRST_FD: i32 = 3;

/// What kind of server it is.
#[derive(Clone, Copy, Debug)]
pub struct ToyConfig {
    /// Worker threads.
    pub workers: usize,
    /// Requests whose id is a multiple of this make the worker spin until another thread helps; 0 = none.
    pub spin_every: u64,
    /// The branch that closes the loop in which they spin; 0 if the loop cannot be recognised.
    pub spin_branch: u64,
    /// Requests whose id is a multiple of this compute for long; 0 = none.
    pub long_every: u64,
    /// Nominal CPU time of a long computation, nanoseconds.
    pub long_ns: u64,
    /// For requests whose id is a multiple of this the worker calls a host outside first; 0 = none.
    pub call_every: u64,
    /// How long the epoll thread waits, nanoseconds; `None` = for ever.
    pub epoll_timeout: Option<u64>,
    /// Clients make uploads and downloads. The server's sockets block then, as those of many servers do.
    pub bulk: bool,
}

/// What a thread is for.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Accepts and reads.
    Poller,
    /// Executes requests.
    Worker,
    /// Ends the spins of the workers.
    Helper,
}

impl ToyConfig {
    /// The threads, in order.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        let helper = (self.spin_every > 0).then_some(Role::Helper);
        std::iter::once(Role::Poller).chain((0..self.workers).map(|_| Role::Worker)).chain(helper)
    }
}

struct Connection {
    fd: i32,
    input: Vec<u8>,
    /// Requests that the workers have.
    jobs: usize,
    ended: bool,
}

#[derive(Clone, Copy)]
struct Job {
    fd: i32,
    kind: u64,
    id: u64,
}

/// The program's memory. Its threads share it freely, as a C program's do.
pub struct Toy {
    config: ToyConfig,
    used_fds: Vec<bool>,
    connections: Vec<Connection>,
    queue: VecDeque<Job>,
    /// Spins begun, and ended.
    spins_wanted: u64,
    spins_done: u64,
    /// The append list.
    pub list: Vec<u64>,
    /// Ids that came in datagrams.
    pub datagrams: Vec<u64>,
    hash: u64,
}

impl Toy {
    /// A server that has not run.
    pub fn new(config: ToyConfig) -> Self {
        Self {
            config,
            used_fds: Vec::new(),
            connections: Vec::new(),
            queue: VecDeque::new(),
            spins_wanted: 0,
            spins_done: 0,
            list: Vec::new(),
            datagrams: Vec::new(),
            hash: 0,
        }
    }

    fn lowest_fd(&mut self) -> i32 {
        let at = self.used_fds.iter().position(|used| !used).unwrap_or(self.used_fds.len());
        if at == self.used_fds.len() {
            self.used_fds.push(true);
        }
        self.used_fds[at] = true;
        at as i32 + FIRST_FD
    }
}

/// `struct sockaddr_in`.
fn internet(ip: [u8; 4], port: u16) -> [u8; 16] {
    let mut address = [0; 16];
    address[0] = AF_INET as u8;
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&ip);
    address
}

/// The hash of a list that had `hash` and got `id` appended.
pub fn extend_hash(hash: u64, id: u64) -> u64 {
    mix(hash, id, 0x9e37_79b9)
}

/// One thread's view.
struct Thread<'a> {
    call: &'a Call<'a>,
    platform: &'a SimPlatform,
    toy: *mut Toy,
}

/// The body of a thread of the server.
pub fn run(role: Role, call: &Call<'_>, platform: &SimPlatform, toy: *mut Toy) {
    let thread = Thread { call, platform, toy };
    match role {
        Role::Poller => thread.poll(),
        Role::Worker => thread.work(),
        Role::Helper => thread.help(),
    }
}

impl Thread<'_> {
    /// The program's memory. Only one thread of the server runs at a time, and no reference lives across a call of dmt.
    #[allow(clippy::mut_from_ref)]
    fn toy(&self) -> &mut Toy {
        // SAFETY: the `Server` owns it and outlives its threads; fibers of one server never run at the same time.
        unsafe { &mut *self.toy }
    }

    fn compute(&self, nanoseconds: u64) {
        self.platform.compute(self.call, nanoseconds);
    }

    fn lock(&self, mutex: *mut Mutex) {
        self.compute(100);
        // SAFETY: the object is in place while this server runs.
        assert_eq!(unsafe { self.call.mutex_lock(mutex) }, 0);
    }

    fn unlock(&self, mutex: *mut Mutex) {
        // SAFETY: as in `lock`.
        assert_eq!(unsafe { self.call.mutex_unlock(mutex) }, 0);
    }

    fn queue_lock(&self) -> *mut Mutex {
        // SAFETY: computes an address inside the place.
        unsafe { &raw mut (*place()).queue_lock }
    }

    fn list_lock(&self) -> *mut Mutex {
        // SAFETY: as above.
        unsafe { &raw mut (*place()).list_lock }
    }

    fn signal(&self, help: bool) {
        // SAFETY: as above, and the object is in place.
        unsafe {
            let place = place();
            let cond = if help { &raw mut (*place).help_wanted } else { &raw mut (*place).queue_filled };
            assert_eq!(self.call.cond_signal(cond), 0);
        }
    }

    fn wait(&self, help: bool) {
        // SAFETY: as above; the caller holds the lock.
        unsafe {
            let place = place();
            let cond = if help { &raw mut (*place).help_wanted } else { &raw mut (*place).queue_filled };
            assert_eq!(self.call.cond_wait(cond, &raw mut (*place).queue_lock, Deadline::Never), 0);
        }
    }

    fn install(&self, file: i64) -> i32 {
        assert!(file > 0, "a call of the toy server failed: {file}");
        let fd = self.toy().lowest_fd();
        self.call.install(fd, file as u32, false);
        fd
    }

    fn close(&self, fd: i32) {
        assert_eq!(self.call.close_fd(fd), 0);
        self.toy().used_fds[(fd - FIRST_FD) as usize] = false;
    }
}
