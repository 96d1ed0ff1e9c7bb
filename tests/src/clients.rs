//! Threads of clients that work until they are told to stop, each with notes of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pause before a client asks again after a failure: a pace, nothing tells when the server is back.
const RECONNECT_PAUSE: Duration = Duration::from_millis(2);
/// Pause between two operations of a client at rest: a pace, nothing is awaited.
const REST_PAUSE: Duration = Duration::from_millis(200);

/// What the clients and their owner share.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    rests: AtomicBool,
    acknowledged: AtomicU64,
}

impl Control {
    /// Whether the clients are to go on.
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Counts an acknowledged operation.
    pub fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// Holds a client at rest between two operations.
    pub fn pace(&self) {
        if self.rests.load(Ordering::Relaxed) {
            std::thread::sleep(REST_PAUSE);
        }
    }

    /// Holds a client that got no answer.
    pub fn back_off(&self) {
        std::thread::sleep(RECONNECT_PAUSE);
    }

    /// The client's connection, a new one if it has none, or `None` after a pause.
    pub fn connected<'a, C>(
        &self,
        connection: &'a mut Option<C>,
        connect: impl FnOnce() -> io::Result<C>,
    ) -> Option<&'a mut C> {
        if connection.is_none() {
            *connection = connect().ok();
            if connection.is_none() {
                self.back_off();
            }
        }
        connection.as_mut()
    }
}

/// The threads.
#[derive(Debug)]
pub struct Clients<N> {
    control: Arc<Control>,
    threads: Vec<JoinHandle<N>>,
}

impl<N: Send + 'static> Clients<N> {
    /// Starts `count` clients, each of which does `work` with its number, from 0, and returns its notes.
    pub fn start(count: usize, work: impl Fn(usize, &Control) -> N + Clone + Send + 'static) -> Self {
        let control = Arc::new(Control::default());
        let start = |number| {
            let (work, control) = (work.clone(), Arc::clone(&control));
            std::thread::spawn(move || work(number, &control))
        };
        let threads = (0..count).map(start).collect();
        Self { control, threads }
    }

    /// Number of clients.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Acknowledged operations so far.
    pub fn acknowledged(&self) -> u64 {
        self.control.acknowledged.load(Ordering::Relaxed)
    }

    /// See [`crate::workload::Workload::rest`].
    pub fn rest(&self, rests: bool) {
        self.control.rests.store(rests, Ordering::Relaxed);
    }

    /// Stops the clients and takes their notes.
    pub fn finish(self) -> Vec<N> {
        self.control.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|client| client.join().expect("a client failed")).collect()
    }
}
