//! Clients that store things under names of their own in any server that can do so, and later look whether they are there.

use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::clients::{Clients, Control};
use crate::wait::{PATIENCE, poll};
use crate::workload::{Failure, Verdict, Workload, gaps};

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

/// Running clients.
#[derive(Debug)]
pub struct Stores<S> {
    port: u16,
    clients: Clients<Vec<Note>>,
    store: PhantomData<S>,
}

impl<S: Store> Stores<S> {
    /// Starts `clients` clients, each of which stores `most` things and then only looks at them.
    pub fn start(port: u16, clients: usize, most: u64) -> Self {
        let work = move |client, control: &Control| work::<S>(port, client, most, control);
        Self { port, clients: Clients::start(clients, work), store: PhantomData }
    }

    /// Looks at all that one client noted.
    fn compare(port: u16, notes: &[Note]) -> Result<Verdict, String> {
        let (mut connection, mut verdict) = (None, Verdict::default());
        for note in notes {
            match (note.acknowledged, Self::look(port, &mut connection, &note.name)?) {
                (Some(_), true) => verdict.acknowledged += 1,
                (Some(_), false) => return Err(format!("{} was acknowledged and is missing", note.name)),
                (None, true) => verdict.unknown_done += 1,
                (None, false) => verdict.unknown_lost += 1,
            }
        }
        Ok(verdict)
    }

    /// Whether it is there. On a machine that is full the leader may change although nobody killed it, so this connects again.
    fn look(port: u16, connection: &mut Option<S>, name: &str) -> Result<bool, String> {
        let mut last = String::new();
        let found = poll(PATIENCE, || {
            let open = connection.take().map_or_else(|| S::connect(port), Ok);
            let looked = open.and_then(|mut open| open.has(name).map(|there| (open, there)));
            let (open, there) = looked.map_err(|error| last = error.to_string()).ok()?;
            *connection = Some(open);
            Some(there)
        });
        found.ok_or_else(|| format!("cannot look at what was stored: {last}"))
    }

    /// The same for all clients at once: one after the other would take minutes on a loaded machine.
    fn compare_all(port: u16, notes: &[Vec<Note>]) -> Result<Verdict, String> {
        std::thread::scope(|scope| {
            let looks: Vec<_> =
                notes.iter().map(|notes| scope.spawn(move || Self::compare(port, notes))).collect();
            looks.into_iter().map(|look| look.join().expect("a comparison failed")).sum()
        })
    }
}

impl<S: Store> Workload for Stores<S> {
    fn acknowledged(&mut self) -> u64 {
        self.clients.acknowledged()
    }

    fn rest(&mut self, rests: bool) {
        self.clients.rest(rests);
    }

    fn finish(self: Box<Self>, failures: &[Failure]) -> Result<(Verdict, Vec<Duration>), String> {
        let notes = self.clients.finish();
        let verdict = Self::compare_all(self.port, &notes)?;
        let ends = notes.iter().flatten().filter_map(|note| note.acknowledged).collect();
        Ok((verdict, gaps(ends, failures)))
    }
}

/// Every so many operations of a client one looks at what was stored before.
const LOOK_EVERY: u64 = 4;

/// One client. It stores, and now and then looks at what was acknowledged, which counts as well; when it has stored enough it only
/// looks.
fn work<S: Store>(port: u16, client: usize, most: u64, control: &Control) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    let mut connection: Option<S> = None;
    let mut number = 0_u64;
    while control.goes_on() {
        let Some(store) = control.connected(&mut connection, || S::connect(port)) else { continue };
        number += 1;
        let works = if (notes.len() as u64) < most && (!number.is_multiple_of(LOOK_EVERY) || notes.is_empty())
        {
            let name = format!("{client}-{number}");
            let acknowledged = store.store(&name).is_ok().then(Instant::now);
            notes.push(Note { name, acknowledged });
            acknowledged.is_some()
        } else {
            let note = &notes[usize::try_from(number % notes.len() as u64).unwrap_or(0)];
            let there = store.has(&note.name);
            assert!(
                note.acknowledged.is_none() || there.as_ref().is_ok_and(|there| *there) || there.is_err(),
                "{} was acknowledged and is missing",
                note.name
            );
            there.is_ok()
        };
        if works {
            control.acknowledge();
        } else {
            connection = None;
        }
        control.pace();
    }
    notes
}
