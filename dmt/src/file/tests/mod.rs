//! Virtual files without an operating system: one thread of a server, a coordinator that the test plays.

mod epoll;
mod inotify;
mod local;
mod model;
mod outside;
mod tcp;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::arena::Arena;
use crate::call::Call;
use crate::entry::{ConnectInfo, EventHeader, EventKind};
use crate::file::abi::{AF_INET, IoVec, SOCK_STREAM, SocketAddress};
use crate::kernel::Kernel;
use crate::link::Link;
use crate::platform::Platform;
use crate::process::PendingSignal;
use crate::testing::genesis_entry;
use crate::thread::ThreadState;
use crate::upcall::UpcallKind;

type Action = Box<dyn FnOnce(&Coordinator)>;

/// The coordinator's end, played by the test.
struct Coordinator {
    link: RefCell<Link>,
    sequences: RefCell<std::collections::BTreeMap<u64, u64>>,
    /// What it does when the server has nothing to do, one after the other.
    script: RefCell<VecDeque<Action>>,
    clock: Cell<u64>,
}

impl Platform for Coordinator {
    fn wait(&self, word: &AtomicU32, _: u32, timeout_ns: Option<u64>) {
        if let Some(action) = self.script.borrow_mut().pop_front() {
            action(self);
            word.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let timeout = timeout_ns.expect("the server waits for ever");
        self.clock.set(self.clock.get() + timeout.max(1));
        assert!(self.clock.get() < 3_600_000_000_000, "the server waits for more than an hour");
    }
    fn wake(&self, _: &AtomicU32) {}
    fn real_time(&self) -> u64 {
        self.clock.set(self.clock.get() + 1000);
        1_700_000_000_000_000_000 + self.clock.get()
    }
    fn deliver(&self, _: &PendingSignal) {}
    fn kick_coordinator(&self) {}
}

impl Coordinator {
    fn event(&self, kind: EventKind, connection: u64, arg: u64, payload: &[u8]) {
        let sequence = {
            let mut sequences = self.sequences.borrow_mut();
            let next = sequences.entry(connection).or_default();
            *next += 1;
            *next - 1
        };
        self.numbered_event(kind, connection, sequence, arg, payload);
    }

    fn numbered_event(&self, kind: EventKind, connection: u64, sequence: u64, arg: u64, payload: &[u8]) {
        let header = EventHeader {
            len: U32::new(payload.len() as u32),
            kind: U16::new(kind as u16),
            reserved: U16::new(0),
            connection: U64::new(connection),
            sequence: U64::new(sequence),
            arg: U64::new(arg),
        };
        assert!(self.link.borrow_mut().push_event(&header, payload));
        let _ = self.link.borrow().wants_wake();
    }

    fn connect(&self, connection: u64, listener: u64) {
        let mut address = [0u8; 16];
        address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 9]);
        let info = ConnectInfo {
            peer_address: address,
            local_address: address,
            peer_port: U16::new(5555),
            local_port: U16::new(6379),
            reserved: U32::new(0),
        };
        self.event(EventKind::Connect, connection, listener, info.as_bytes());
    }
}

/// An upcall as tests look at it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: UpcallKind,
    words: [u64; 3],
    payload: Vec<u8>,
}

/// One server with one thread.
struct World {
    memory: *mut u8,
    arena: *mut Arena,
    coordinator: Coordinator,
}

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; nothing refers to it any more.
        unsafe { dealloc(self.memory, layout()) };
    }
}

/// Room for an arena wherever it starts: with the arena's own alignment the allocator would write all of it.
fn layout() -> Layout {
    Layout::from_size_align(size_of::<Arena>() + align_of::<Arena>(), 16).expect("an arena fits memory")
}

impl World {
    fn new() -> Self {
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout()) };
        // All zeroes is a fresh arena.
        let arena = memory.wrapping_add(memory.align_offset(align_of::<Arena>())).cast::<Arena>();
        // SAFETY: the arena lives until the World is dropped, and this is the only Link.
        let mut link = unsafe { Link::attach(&raw const (*arena).shared) };
        link.initialise();
        assert!(link.push_entry(&genesis_entry(1 << 20)));
        link.prepare_lead();
        link.lead(1, 1);
        let coordinator = Coordinator {
            link: RefCell::new(link),
            sequences: RefCell::default(),
            script: RefCell::default(),
            clock: Cell::new(0),
        };
        let world = Self { memory, arena, coordinator };
        world.kernel(|k| assert_eq!(k.threads.allocate(1), Some(1)));
        world.call().start_first();
        world
    }

    fn call(&self) -> Call<'_> {
        // SAFETY: the arena lives as long as the World.
        Call::new(unsafe { &*self.arena }, &self.coordinator, 1)
    }

    fn kernel<T>(&self, f: impl FnOnce(&mut Kernel) -> T) -> T {
        // SAFETY: one thread, and no operation is in progress.
        f(unsafe { &mut *(*self.arena).kernel() })
    }

    /// What the coordinator is to do at the next quiescence.
    fn later(&self, action: impl FnOnce(&Coordinator) + 'static) {
        self.coordinator.script.borrow_mut().push_back(Box::new(action));
    }

    /// Lets the server take in all that the coordinator has pushed.
    fn settle(&self) {
        while self.kernel(|k| k.sched.pending_cursor) != self.coordinator.link.borrow().pending_tail() {
            self.call().tick();
            self.commit();
        }
    }

    fn commit(&self) {
        let link = self.coordinator.link.borrow();
        link.set_committed(link.control().applied.load(Ordering::SeqCst));
    }

    /// Upcalls since the last look but those that every bubble makes.
    fn upcalls(&self) -> Vec<Seen> {
        let mut link = self.coordinator.link.borrow_mut();
        let (mut seen, mut end) = (Vec::new(), None);
        while let Some(upcall) = link.next_upcall() {
            end = Some(upcall.end);
            if !matches!(upcall.kind, UpcallKind::Applied | UpcallKind::Digest) {
                let h = upcall.header;
                let words = [h.a.get(), h.b.get(), h.c.get()];
                seen.push(Seen { kind: upcall.kind, words, payload: upcall.payload.to_vec() });
            }
        }
        if let Some(end) = end {
            link.release_upcall(end);
        }
        seen
    }

    fn install(&self, fd: i32, file: i64) {
        assert!(file > 0, "no file for descriptor {fd}: {file}");
        self.call().install(fd, file as u32, false);
    }

    fn read(&self, fd: i32, most: usize) -> Result<Vec<u8>, i64> {
        self.receive(fd, most, 0)
    }

    fn receive(&self, fd: i32, most: usize, flags: i32) -> Result<Vec<u8>, i64> {
        let mut bytes = vec![0; most];
        // In two pieces, so that every test goes through a split.
        let (a, b) = bytes.split_at_mut(most / 2);
        let iov =
            [IoVec { base: a.as_mut_ptr(), len: a.len() }, IoVec { base: b.as_mut_ptr(), len: b.len() }];
        // SAFETY: the pieces are this function's own.
        let got = unsafe {
            if flags == 0 {
                self.call().read(fd, &iov)
            } else {
                self.call().receive(fd, &iov, flags, &mut { SocketAddress::NONE }, &mut 0, None)
            }
        };
        if got < 0 {
            return Err(-got);
        }
        bytes.truncate(got as usize);
        Ok(bytes)
    }

    fn write(&self, fd: i32, bytes: &[u8]) -> i64 {
        let iov = [IoVec { base: bytes.as_ptr().cast_mut(), len: bytes.len() }];
        // SAFETY: the bytes are borrowed for the call, which only reads them.
        unsafe { self.call().write(fd, &iov) }
    }

    /// A TCP listener at descriptor `fd`; returns its id for the coordinator.
    fn listener(&self, fd: i32, flags: i32) -> u64 {
        self.install(fd, self.call().socket(AF_INET, SOCK_STREAM | flags, 0));
        assert_eq!(self.call().bind(fd, &inet(6379)), 0);
        assert_eq!(self.call().listen(fd, 128), 0);
        let upcalls = self.upcalls();
        let listen = upcalls.iter().find(|seen| seen.kind == UpcallKind::Listen).expect("a Listen upcall");
        assert_eq!(listen.words[1..], [6379, 128]);
        listen.words[0]
    }

    /// A client connection accepted at descriptor `fd` from the listener at `listener_fd`.
    fn client(&self, connection: u64, listener: u64, listener_fd: i32, fd: i32) {
        self.coordinator.connect(connection, listener);
        let file = self.call().accept(listener_fd, 0, &mut { SocketAddress::NONE });
        self.install(fd, file);
    }

    /// Closes these descriptors and checks that nothing is left.
    fn end(&self, fds: &[i32]) {
        for &fd in fds {
            assert_eq!(self.call().close_fd(fd), 0, "closing {fd}");
        }
        self.assert_empty();
    }

    fn assert_empty(&self) {
        self.kernel(|k| {
            assert_eq!(k.files.pool_used(), 0, "blocks leak");
            assert_eq!(k.files.used(), 0, "files leak");
            assert_eq!(k.files.bound, 0, "bound sockets leak");
            assert_eq!(k.threads.get(1).state, ThreadState::Runnable);
        });
    }
}

/// `127.0.0.1:port`.
fn inet(port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = AF_INET as u8;
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
    bytes
}
