//! The toy server: an append list behind an epoll thread, worker threads with a queue, and threads that spin.
//!
//! It is a program like any other: it calls dmt as preload does for a real one, shares memory between its threads, and
//! has what makes servers hard to replicate: races that only serial execution makes deterministic, long computations
//! without a call, and a spin on a plain variable that ends only if another thread gets to run.

use std::collections::VecDeque;

use dmt::call::Call;
use dmt::digest::mix;
use dmt::file::abi::{
    AF_INET, EAGAIN, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EpollEvent, IoVec, O_NONBLOCK, SOCK_DGRAM, SOCK_STREAM,
    SocketAddress,
};
use dmt::file::io::Message;
use dmt::file::passed::Parcel;
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

const EPOLLIN: u32 = 1;
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

    fn poll(&self) {
        let listener = self.install(self.call.socket(AF_INET, SOCK_STREAM | O_NONBLOCK, 0));
        assert_eq!(self.call.bind(listener, &internet([0; 4], PORT)), 0);
        assert_eq!(self.call.listen(listener, 64), 0);
        let datagrams = self.install(self.call.socket(AF_INET, SOCK_DGRAM | O_NONBLOCK, 0));
        assert_eq!(self.call.bind(datagrams, &internet([0; 4], DATAGRAM_PORT)), 0);
        let epoll = self.install(self.call.epoll_create());
        self.watch(epoll, listener);
        self.watch(epoll, datagrams);
        let mut events = [EpollEvent::default(); 8];
        loop {
            let found = self.call.epoll_wait(epoll, &mut events, self.toy().config.epoll_timeout, None);
            assert!(found >= 0, "epoll_wait failed: {found}");
            self.compute(500);
            for event in &events[..found as usize] {
                let fd = event.data as i32;
                match fd {
                    _ if fd == listener => self.accept(epoll, listener),
                    _ if fd == datagrams => self.answer_datagrams(fd),
                    _ => self.read(epoll, fd),
                }
            }
        }
    }

    /// Answers each datagram that waits with its id and the number of those that have come.
    fn answer_datagrams(&self, fd: i32) {
        loop {
            let (mut bytes, mut from) = ([0u8; 16], SocketAddress::NONE);
            let iov = [IoVec { base: bytes.as_mut_ptr(), len: 8 }];
            // SAFETY: the vector describes `bytes`, which nobody else knows.
            if unsafe { self.call.receive(fd, &iov, 0, &mut from, &mut 0, None) } != 8 {
                return;
            }
            let toy = self.toy();
            toy.datagrams.push(u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")));
            bytes[8..].copy_from_slice(&(toy.datagrams.len() as u64).to_le_bytes());
            let iov = [IoVec { base: bytes.as_mut_ptr(), len: 16 }];
            let message = Message { flags: 0, to: from.bytes(), parcel: &Parcel::EMPTY };
            // SAFETY: as above.
            assert_eq!(unsafe { self.call.send(fd, &iov, &message) }, 16);
        }
    }

    /// Tells a host outside of a request, and waits for its word; a connection that ends is not made again.
    fn call_abroad(&self, id: u64) {
        let fd = self.install(self.call.socket(AF_INET, SOCK_STREAM, 0));
        if self.call.connect(fd, &internet(ABROAD.0, ABROAD.1)) == 0 && self.send(fd, &mut id.to_le_bytes()) {
            let mut bytes = [0u8; 8];
            let iov = [IoVec { base: bytes.as_mut_ptr(), len: 8 }];
            // SAFETY: the vector describes `bytes`, which nobody else knows.
            unsafe { self.call.read(fd, &iov) };
        }
        self.close(fd);
    }

    fn watch(&self, epoll: i32, fd: i32) {
        let event = EpollEvent { events: EPOLLIN, data: fd as u64 };
        assert_eq!(self.call.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, event), 0);
    }

    fn accept(&self, epoll: i32, listener: i32) {
        loop {
            let flags = if self.toy().config.bulk { 0 } else { O_NONBLOCK };
            let file = self.call.accept(listener, flags, &mut { SocketAddress::NONE });
            if file == -EAGAIN {
                return;
            }
            let fd = self.install(file);
            self.toy().connections.push(Connection { fd, input: Vec::new(), jobs: 0, ended: false });
            self.watch(epoll, fd);
        }
    }

    fn read(&self, epoll: i32, fd: i32) {
        let mut bytes = [0u8; 8192];
        let len = if self.toy().config.bulk { bytes.len() } else { 100 };
        let iov = [IoVec { base: bytes.as_mut_ptr(), len }];
        // SAFETY: the vector describes `bytes`, which nobody else knows.
        let count = unsafe { self.call.read(fd, &iov) };
        if count == -EAGAIN {
            return;
        }
        self.compute(1_000);
        if count <= 0 {
            assert_eq!(self.call.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, EpollEvent::default()), 0);
            self.lock(self.queue_lock());
            self.connection(fd).ended = true;
            self.close_if_done(fd);
            self.unlock(self.queue_lock());
            return;
        }
        self.lock(self.queue_lock());
        let connection = self.connection(fd);
        connection.input.extend_from_slice(&bytes[..count as usize]);
        let mut jobs = Vec::new();
        while connection.input.len() >= REQUEST_BYTES {
            let request = connection.input[..REQUEST_BYTES].to_vec();
            let word = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().expect("eight bytes"));
            let len = REQUEST_BYTES + if word(0) == UPLOAD { BULK_BYTES } else { 0 };
            if connection.input.len() < len {
                break;
            }
            connection.input.drain(..len);
            jobs.push(Job { fd, kind: word(0), id: word(8) });
        }
        connection.jobs += jobs.len();
        let added = jobs.len();
        self.toy().queue.extend(jobs);
        for _ in 0..added {
            self.signal(false);
        }
        self.unlock(self.queue_lock());
    }

    #[allow(clippy::mut_from_ref)]
    fn connection(&self, fd: i32) -> &mut Connection {
        self.toy().connections.iter_mut().find(|c| c.fd == fd).expect("the connection is open")
    }

    fn close_if_done(&self, fd: i32) {
        let connection = self.connection(fd);
        if connection.ended && connection.jobs == 0 {
            self.toy().connections.retain(|c| c.fd != fd);
            self.close(fd);
        }
    }

    fn work(&self) {
        loop {
            self.lock(self.queue_lock());
            let job = loop {
                match self.toy().queue.pop_front() {
                    Some(job) => break job,
                    None => self.wait(false),
                }
            };
            self.unlock(self.queue_lock());
            self.think(job.id);
            let reply = self.execute(job);
            self.answer(job.fd, &reply, job.kind == DOWNLOAD);
        }
    }

    /// What a request costs before it touches the list.
    fn think(&self, id: u64) {
        let config = self.toy().config;
        self.compute(1_000 + id % 7 * 1_500);
        if config.call_every > 0 && id.is_multiple_of(config.call_every) {
            self.call_abroad(id);
        }
        if config.long_every > 0 && id.is_multiple_of(config.long_every) {
            self.compute(config.long_ns);
        }
        if config.spin_every > 0 && id.is_multiple_of(config.spin_every) {
            self.lock(self.queue_lock());
            self.toy().spins_wanted += 1;
            let ticket = self.toy().spins_wanted;
            self.signal(true);
            self.unlock(self.queue_lock());
            let waits = || self.toy().spins_done < ticket;
            while self.platform.spin(self.call, 10_000, config.spin_branch, waits) {}
        }
    }

    fn execute(&self, job: Job) -> [u8; REPLY_BYTES] {
        self.lock(self.list_lock());
        if job.kind == APPEND || job.kind == UPLOAD {
            let before = self.toy().hash;
            // A lost update if another thread could get in between.
            self.compute(2_000);
            self.toy().hash = extend_hash(before, job.id);
            self.toy().list.push(job.id);
        }
        let clock = self.call.with(|k| k.clock());
        let toy = self.toy();
        let words = [job.id, toy.list.len() as u64, toy.hash, clock];
        self.unlock(self.list_lock());
        let mut reply = [0; REPLY_BYTES];
        for (bytes, word) in reply.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        reply
    }

    fn answer(&self, fd: i32, reply: &[u8; REPLY_BYTES], download: bool) {
        self.compute(500);
        let mut reply = *reply;
        if self.send(fd, &mut reply) && download {
            // On the stack or static: the fiber of a killed server is forgotten with all that it owns.
            for _ in 0..BULK_BYTES / BULK_PIECE.len() {
                if !self.send(fd, &mut { BULK_PIECE }) {
                    break;
                }
            }
        }
        self.lock(self.queue_lock());
        self.connection(fd).jobs -= 1;
        self.close_if_done(fd);
        self.unlock(self.queue_lock());
    }

    /// Writes all of it; false if the client is gone, which a server ignores.
    fn send(&self, fd: i32, mut left: &mut [u8]) -> bool {
        while !left.is_empty() {
            let iov = [IoVec { base: left.as_mut_ptr(), len: left.len() }];
            // SAFETY: the vector describes `left`. A connection with a job is not closed, so the descriptor is right.
            let count = unsafe { self.call.write(fd, &iov) };
            if count <= 0 {
                return false;
            }
            left = &mut left[count as usize..];
        }
        true
    }

    fn help(&self) {
        loop {
            self.lock(self.queue_lock());
            while self.toy().spins_done == self.toy().spins_wanted {
                self.wait(true);
            }
            self.unlock(self.queue_lock());
            self.compute(5_000);
            self.toy().spins_done += 1;
        }
    }
}
