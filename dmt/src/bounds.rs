//! Every table, queue and window of the deterministic core has its bound here, with its unit.
//!
//! A bound that is met is an error that the server sees (`EAGAIN`, `EMFILE`, `ENOBUFS`) or a wait; it is never
//! silently exceeded, and it is the same on every replica because it is part of the arena's layout version.

/// Layout version of the arena and of the log entries. Two binaries with different values never share either.
pub const LAYOUT_VERSION: u32 = 11;
/// Stands in each preload library, so that the launcher can tell for which [`LAYOUT_VERSION`] it was built.
pub const LAYOUT_MARK: [u8; 30] = layout_mark(LAYOUT_VERSION);

const fn layout_mark(version: u32) -> [u8; 30] {
    let mut mark = *b"brolga arena layout 0000000000";
    let (mut at, mut rest) = (mark.len(), version);
    while rest > 0 {
        at -= 1;
        mark[at] += (rest % 10) as u8;
        rest /= 10;
    }
    mark
}

/// Address at which the arena is mapped in every process of a replica's server.
pub const ARENA_ADDRESS: usize = 0x6000_0000_0000;
/// Address of the gate page: the only instructions outside `ld.so` whose system calls the filter lets through.
pub const GATE_ADDRESS: usize = 0x5fff_ffff_0000;

/// Address of the stacks that preload has beside the program's, one for each thread number.
pub const STACKS_ADDRESS: usize = 0x5ffe_0000_0000;

/// Threads of one replica's server, all processes together.
pub const MAX_THREADS: usize = 1024;
/// Processes of one replica's server.
pub const MAX_PROCESSES: usize = 255;
/// File descriptor numbers of one process; `RLIMIT_NOFILE` is set to this. CRIU, which restores a process with all of its
/// descriptors in place, needs some numbers above them: these are left below 16,384, a limit that many hosts have.
pub const MAX_FDS: usize = 16_384 - 256;
/// Descriptor of each process of the server from which init takes those of deleted files ([`crate::control::freeing`]).
pub const FREED_FD: i32 = MAX_FDS as i32 - 5;
/// Open file descriptions that dmt emulates (sockets, pipes, epolls, timers, ...), all processes together.
pub const MAX_FILES: usize = 24_576;
/// Client connections that a replica can hold open.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Registrations in all epoll instances together.
pub const MAX_EPOLL_ITEMS: usize = 32_768;
/// Armed deadlines: one for each thread in a timed wait, each timerfd and each interval timer.
pub const MAX_TIMERS: usize = 4096;
/// Signals that can be pending with what came with them, all threads and processes together. A standard signal beyond
/// that is delivered without; a real-time one is `EAGAIN`.
pub const MAX_QUEUED_SIGNALS: usize = 1024;
/// Ids of signals from outside that are remembered, so that one that is sent twice takes effect once.
pub const RECENT_OUTSIDE_SIGNALS: usize = 128;
/// signalfds that are open at the same time, all processes together.
pub const MAX_SIGNALFDS: usize = 256;
/// POSIX timers (`timer_create`) of one process.
pub const MAX_PROCESS_TIMERS: usize = 32;
/// Files whose times are known and not yet stored with them, all processes together. A file beyond that shows the kernel's.
pub const MAX_WRITTEN_FILES: usize = 16_384;
/// File systems that the server can tell apart by their device numbers.
pub const MAX_DEVICES: usize = 128;
/// Numbers of files that the server made; then they start again.
pub const MAX_VIRTUAL_INODES: u32 = 999_999_999;
/// The first of these; those below are for what the container is made of.
pub const FIRST_VIRTUAL_INODE: u32 = 10_000;
/// Blocks of the buffer pool that holds bytes in virtual sockets and pipes.
pub const POOL_BLOCKS: usize = 24_576;
/// Bytes in one block of the buffer pool.
pub const POOL_BLOCK_BYTES: usize = 4096;
/// Blocks in use above which the coordinator reads no client; what is in flight then still fits.
pub const POOL_HIGH_WATER_BLOCKS: u64 = (POOL_BLOCKS as u64) * 3 / 4;
/// Bytes of client input that may wait unread in one virtual connection; the coordinator reads no further.
pub const RECEIVE_WINDOW_BYTES: u64 = 256 * 1024;
/// Bytes that a connection may have written and that no `Drained` event has given back: its virtual send buffer.
pub const SEND_WINDOW_BYTES: u64 = 256 * 1024;
/// Bytes that a pipe, socketpair direction or loopback connection direction can hold.
pub const PIPE_BYTES: u64 = 64 * 1024;
/// FIFOs that are open at the same time; another one gets ENFILE.
pub const MAX_FIFOS: usize = 256;
/// Bytes that may wait in one UDP socket; what comes then is lost.
pub const DATAGRAM_QUEUE_BYTES: u64 = 256 * 1024;
/// Memberships of UDP sockets in multicast groups, all sockets together.
pub const MAX_MEMBERSHIPS: usize = 64;
/// Senders of datagrams from outside that are remembered, so that any socket may answer them.
pub const MAX_ASKERS: usize = 1024;
/// Connections that the server has made to other hosts and not closed.
pub const MAX_OUTBOUND: u32 = 1024;
/// Destinations that `--allow-outbound` can name, after the resolution of names.
pub const MAX_OUTBOUND_RULES: usize = 256;
/// Descriptors that one message can pass, as Linux has it.
pub const MAX_PASSED_DESCRIPTORS: usize = 253;
/// Messages with descriptors or credentials that nobody has read yet, all sockets together.
pub const MAX_PASSED_MESSAGES: usize = 1024;
/// Files of the kernel's on their way over unix sockets, all sockets together.
pub const MAX_MAILED_FILES: usize = 64;
/// inotify instances of a replica, as many as Linux gives one user.
pub const MAX_INOTIFY_INSTANCES: usize = 128;
/// Watches of all inotify instances together.
pub const MAX_INOTIFY_WATCHES: usize = 8192;
/// Events that nobody has read in one inotify instance; then one tells that some are lost, as in Linux.
pub const MAX_INOTIFY_EVENTS: usize = 16_384;
/// Sets of System V semaphores.
pub const MAX_SEMAPHORE_SETS: usize = 128;
/// System V semaphores in one set.
pub const MAX_SEMAPHORES_IN_SET: usize = 250;
/// System V semaphores that the end of some process changes (`SEM_UNDO`).
pub const MAX_SEMAPHORE_UNDOS: usize = 1024;
/// System V message queues.
pub const MAX_MESSAGE_QUEUES: usize = 128;
/// Messages in all message queues together.
pub const MAX_QUEUED_MESSAGES: usize = 4096;
/// POSIX message queues, as many as Linux has.
pub const MAX_POSIX_QUEUES: usize = 256;
/// Messages that fit into a new POSIX message queue, if its maker does not say.
pub const DEFAULT_POSIX_MESSAGES: usize = 10;
/// Messages that a POSIX message queue can be made for.
pub const MAX_POSIX_MESSAGES: usize = 1024;
/// Bytes of a message that a POSIX message queue can be made for.
pub const MAX_POSIX_MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes of one System V message, and of one of a POSIX queue whose maker does not say.
pub const MAX_MESSAGE_BYTES: usize = 8192;
/// Bytes that a new System V message queue can hold.
pub const MESSAGE_QUEUE_BYTES: u64 = 16_384;
/// Connections that may wait in one listener's accept queue.
pub const MAX_BACKLOG: usize = 4096;

/// Bytes of the ring that carries inputs waiting for admission, coordinator to server.
pub const PENDING_RING_BYTES: usize = 4 << 20;
/// Bytes of the ring that carries decided entries, coordinator to server.
pub const ENTRIES_RING_BYTES: usize = 8 << 20;
/// Bytes of the ring that carries entries, outputs and reports, server to coordinator.
pub const UPCALL_RING_BYTES: usize = 8 << 20;
/// Bytes of the ring that carries the operations and calls of a traced replay, server to coordinator.
pub const TRACE_RING_BYTES: usize = 8 << 20;
/// Payload bytes of one event: the longest datagram and its addresses fit.
pub const MAX_EVENT_BYTES: usize = 64 * 1024 + 64;
/// Bytes of a stream that one event or upcall carries at the most.
pub const MAX_DATA_BYTES: usize = 64 * 1024;
/// Bytes of one entry, its header and events together.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Payload bytes of one upcall: the longest datagram and its addresses fit.
pub const MAX_UPCALL_BYTES: usize = 64 * 1024 + 64;

/// Entries that a leader may apply ahead of the commit index.
pub const MAX_SPECULATION_ENTRIES: u64 = 4096;
/// Shortest bubble, ticks.
pub const MIN_GRANT_TICKS: u64 = 256;
/// Longest bubble, ticks.
pub const MAX_GRANT_TICKS: u64 = 65_536;
/// What a bubble should last of execution, nanoseconds.
pub const BUBBLE_TARGET_NS: u64 = 250_000;
/// Default of operations after which a thread passes the turn on, ticks.
pub const DEFAULT_QUANTUM_TICKS: u32 = 1024;
/// Default of CPU time without an operation after which a leader preempts a thread, microseconds. A preemption in the
/// middle of a computation is for many programs a race, which costs a replica, so it comes late: as late as it may
/// without making a failover longer, which waits for [`INHERITED_SPIN_LIMIT_US`] anyway.
pub const DEFAULT_SPIN_LIMIT_US: u32 = 1_000_000;
/// CPU time after which a thread is stopped in a loop that shows that it only waits: by its code, or because threads
/// were preempted there before. Microseconds.
pub const LOOP_LIMIT_US: u64 = 10_000;
/// CPU time without an operation after which a leader closes the bubble at the next operation, microseconds.
pub const CLOSE_GAP_US: u64 = 1000;
/// CPU time without an operation after which a leader preempts in a bubble that another leader opened, microseconds.
pub const INHERITED_SPIN_LIMIT_US: u64 = 1_000_000;

/// Operations that the trace ring keeps for each replica.
pub const TRACE_OPERATIONS: usize = 16_384;
