//! Clients that store things under names of their own in any server that can do so, and later look whether they are there.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::workload::{Verdict, Workload, gaps};

/// Pause before a client connects again after a failure.
const RECONNECT_PAUSE: Duration = Duration::from_millis(2);
/// Pause between two operations of a client at rest.
const REST_PAUSE: Duration = Duration::from_millis(50);

/// A connection to a server that stores things.
pub trait Store: Sized + 'static {
    /// Connects to a port of this machine.
    fn connect(port: u16) -> io::Result<Self>;

    /// Stores something under this name. An error means that nobody knows whether it is there.
    fn store(&mut self, name: &str) -> io::Result<()>;

    /// Whether just that is there.
    fn has(&mut self, name: &str) -> io::Result<bool>;
}

#[derive(Clone, Debug)]
struct Note {
    name: String,
    /// When it was acknowledged, if it was.
    acknowledged: Option<Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    rests: AtomicBool,
    acknowledged: AtomicU64,
}

/// Running clients.
#[derive(Debug)]
pub struct Stores<S> {
    port: u16,
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Note>>>,
    store: PhantomData<fn() -> S>,
}

impl<S: Store> Stores<S> {
    /// Starts `clients` clients, each of which stores `most` things and then only looks at them.
    pub fn start(port: u16, clients: usize, most: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let start = |client| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || work::<S>(port, client, most, &shared))
        };
        let clients = (0..clients).map(start).collect();
        Self { port, shared, clients, store: PhantomData }
    }

    /// Looks at all that one client noted.
    fn compare(&self, notes: &[Note]) -> Result<Verdict, String> {
        let broken = |error: io::Error| format!("cannot look at what was stored: {error}");
        let mut connection = S::connect(self.port).map_err(broken)?;
        let mut verdict = Verdict::default();
        for note in notes {
            match (note.acknowledged, connection.has(&note.name).map_err(broken)?) {
                (Some(_), true) => verdict.acknowledged += 1,
                (Some(_), false) => return Err(format!("{} was acknowledged and is missing", note.name)),
                (None, true) => verdict.unknown_done += 1,
                (None, false) => verdict.unknown_lost += 1,
            }
        }
        Ok(verdict)
    }

    /// The same for all clients at once: one after the other would take minutes on a loaded machine.
    fn compare_all(&self, notes: &[Vec<Note>]) -> Result<Verdict, String> {
        std::thread::scope(|scope| {
            let looks: Vec<_> = notes.iter().map(|notes| scope.spawn(|| self.compare(notes))).collect();
            looks.into_iter().try_fold(Verdict::default(), |sum, look| {
                let one = look.join().expect("a comparison failed")?;
                Ok(Verdict {
                    acknowledged: sum.acknowledged + one.acknowledged,
                    unknown_done: sum.unknown_done + one.unknown_done,
                    unknown_lost: sum.unknown_lost + one.unknown_lost,
                })
            })
        })
    }
}

impl<S: Store> Workload for Stores<S> {
    fn acknowledged(&mut self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    fn rest(&mut self, rests: bool) {
        self.shared.rests.store(rests, Ordering::Relaxed);
    }

    fn finish(mut self: Box<Self>, failures: &[Instant]) -> Result<(Verdict, Vec<Duration>), String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut self.clients);
        let notes: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("a client failed")).collect();
        let verdict = self.compare_all(&notes)?;
        let ends = notes.iter().flatten().filter_map(|note| note.acknowledged).collect();
        Ok((verdict, gaps(ends, failures)))
    }
}

/// One client. When it has stored enough it reads what was acknowledged, which counts as well.
fn work<S: Store>(port: u16, client: usize, most: u64, shared: &Shared) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    let mut connection: Option<S> = None;
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(store) = connection.as_mut() else {
            connection = S::connect(port).ok();
            if connection.is_none() {
                std::thread::sleep(RECONNECT_PAUSE);
            }
            continue;
        };
        number += 1;
        let works = if number <= most {
            let name = format!("{client}-{number}");
            let acknowledged = store.store(&name).is_ok().then(Instant::now);
            notes.push(Note { name, acknowledged });
            acknowledged.is_some()
        } else {
            let note = &notes[usize::try_from(number % most).unwrap_or(0)];
            let there = store.has(&note.name);
            assert!(
                note.acknowledged.is_none() || there.as_ref().is_ok_and(|there| *there) || there.is_err(),
                "{} was acknowledged and is missing",
                note.name
            );
            there.is_ok()
        };
        if works {
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        } else {
            connection = None;
        }
        if shared.rests.load(Ordering::Relaxed) {
            std::thread::sleep(REST_PAUSE);
        }
    }
    notes
}
