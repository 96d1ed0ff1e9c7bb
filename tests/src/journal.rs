//! Clients that write to redis, note every acknowledged write, and later hold the store against their notes.
//!
//! A write whose answer did not come may or may not have happened; it is noted as unknown and never sent again under the
//! same name. So a counter must be between its acknowledged and its sent increments, and a list must hold each acknowledged
//! name exactly once and no name twice.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::clients::{Clients, Control};
use crate::resp::{Redis, Reply};
use crate::stats::Times;
use crate::workload::{Failure, Verdict, Workload, gaps};

/// What became of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered; a counter's new value or a list's or string's new length stands beside it.
    Acknowledged(i64),
    /// The connection broke before the answer.
    Unknown,
}

/// The three streams of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// `INCR counter:C`
    Counter,
    /// `RPUSH list:C NAME`
    List,
    /// `APPEND text:C NAME;`
    Text,
}

impl Workload for Writer {
    fn acknowledged(&mut self) -> u64 {
        Self::acknowledged(self)
    }

    fn rest(&mut self, rests: bool) {
        Self::rest(self, rests);
    }

    fn finish(self: Box<Self>, failures: &[Failure]) -> Result<(Verdict, Vec<Duration>), String> {
        let port = self.port;
        let journal = Self::finish(*self);
        let mut redis = Redis::connect(port).map_err(|error| format!("cannot connect: {error}"))?;
        Ok((journal.compare(&mut redis)?, journal.gaps(failures)))
    }
}

/// One line of the journal.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// Which client.
    pub client: usize,
    /// To which of its streams.
    pub stream: Stream,
    /// Name of the write, unique within its client.
    pub name: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When the answer came or the connection broke.
    pub ended: Instant,
    /// What became of it.
    pub outcome: Outcome,
}

/// Running clients.
#[derive(Debug)]
pub struct Writer {
    port: u16,
    numbers: Range<usize>,
    clients: Clients<Vec<Note>>,
}

impl Writer {
    /// Starts `clients` clients against a port of this machine.
    pub fn start(port: u16, clients: usize) -> Self {
        Self::start_numbered(port, 0..clients)
    }

    /// Starts clients with these numbers, which no other clients of the same store have.
    pub fn start_numbered(port: u16, numbers: Range<usize>) -> Self {
        let first = numbers.start;
        let work = move |client, control: &Control| write(port, first + client, control);
        Self { port, clients: Clients::start(numbers.len(), work), numbers }
    }

    /// Turns the load down to a few writes a second, or up again. A replica that comes back replays the whole log; beside
    /// a leader at full speed, on the same few CPUs, it may never get to its end.
    pub fn rest(&self, rests: bool) {
        self.clients.rest(rests);
    }

    /// Acknowledged writes so far.
    pub fn acknowledged(&self) -> u64 {
        self.clients.acknowledged()
    }

    /// Stops the clients and takes their notes.
    pub fn finish(self) -> Journal {
        Journal { clients: self.numbers, notes: self.clients.finish().concat() }
    }
}

fn write(port: u16, client: usize, control: &Control) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut connection = None;
    let mut name = 0;
    while control.goes_on() {
        let Some(redis) = control.connected(&mut connection, || Redis::connect(port)) else { continue };
        name += 1;
        let stream = [Stream::Counter, Stream::List, Stream::Text][usize::try_from(name % 3).unwrap_or(0)];
        let sent = Instant::now();
        let outcome = match one_write(redis, client, stream, name) {
            Ok(value) => Outcome::Acknowledged(value),
            Err(_) => Outcome::Unknown,
        };
        notes.push(Note { client, stream, name, sent, ended: Instant::now(), outcome });
        if outcome == Outcome::Unknown {
            connection = None;
        } else {
            control.acknowledge();
        }
        control.pace();
    }
    notes
}

fn one_write(redis: &mut Redis, client: usize, stream: Stream, name: u64) -> io::Result<i64> {
    let reply = match stream {
        Stream::Counter => redis.call(&["INCR", &key(stream, client)])?,
        Stream::List => redis.call(&["RPUSH", &key(stream, client), &name.to_string()])?,
        Stream::Text => redis.call(&["APPEND", &key(stream, client), &format!("{name};")])?,
    };
    match reply {
        Reply::Integer(value) => Ok(value),
        // A server that still loads its data did not write.
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

fn key(stream: Stream, client: usize) -> String {
    match stream {
        Stream::Counter => format!("counter:{client}"),
        Stream::List => format!("list:{client}"),
        Stream::Text => format!("text:{client}"),
    }
}

/// All notes of a finished writer.
#[derive(Debug)]
pub struct Journal {
    clients: Range<usize>,
    notes: Vec<Note>,
}

impl Journal {
    /// How long each acknowledged write took.
    pub fn times(&self) -> Times {
        Times::new(self.acknowledged().map(|note| note.ended - note.sent).collect())
    }

    /// Acknowledged writes a second, from the first to the last.
    pub fn rate(&self) -> f64 {
        let first = self.acknowledged().map(|note| note.sent).min();
        let last = self.acknowledged().map(|note| note.ended).max();
        let (Some(first), Some(last)) = (first, last) else { return 0.0 };
        self.acknowledged().count() as f64 / (last - first).as_secs_f64().max(1e-9)
    }

    /// What clients noticed of several failures: see [`gaps`].
    pub fn gaps(&self, failures: &[Failure]) -> Vec<Duration> {
        gaps(self.acknowledged().map(|note| note.ended).collect(), failures)
    }

    fn acknowledged(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(|note| note.outcome != Outcome::Unknown)
    }

    /// Holds the store against the journal.
    pub fn compare(&self, redis: &mut Redis) -> Result<Verdict, String> {
        let streams = [Stream::Counter, Stream::List, Stream::Text];
        let all = self.clients.clone().flat_map(|client| streams.map(|stream| (client, stream)));
        let parts = all.map(|(client, stream)| {
            let notes: Vec<&Note> =
                self.notes.iter().filter(|n| n.client == client && n.stream == stream).collect();
            match stream {
                Stream::Counter => check_counter(redis, client, &notes),
                Stream::List | Stream::Text => check_names(redis, client, stream, &notes),
            }
        });
        parts.sum()
    }
}

fn check_counter(redis: &mut Redis, client: usize, notes: &[&Note]) -> Result<Verdict, String> {
    let key = key(Stream::Counter, client);
    let stored =
        usize::try_from(redis.must(&["GET", &key]).number()).map_err(|_| format!("{key} is negative"))?;
    let mut last = 0;
    for note in notes {
        if let Outcome::Acknowledged(value) = note.outcome {
            if value <= last {
                return Err(format!("{key}: the answer {value} came after the answer {last}"));
            }
            last = value;
        }
    }
    let acknowledged = notes.iter().filter(|note| note.outcome != Outcome::Unknown).count();
    let unknown = notes.len() - acknowledged;
    if stored < acknowledged || stored > notes.len() {
        return Err(format!("{key} is {stored}; {acknowledged} were acknowledged and {unknown} are unknown"));
    }
    let done = stored - acknowledged;
    Ok(Verdict { acknowledged, unknown_done: done, unknown_lost: unknown - done, ..Verdict::default() })
}

fn check_names(redis: &mut Redis, client: usize, stream: Stream, notes: &[&Note]) -> Result<Verdict, String> {
    let key = key(stream, client);
    let mut stored: HashMap<u64, usize> = HashMap::new();
    for name in stored_names(redis, stream, &key) {
        *stored.entry(name).or_default() += 1;
    }
    let mut verdict = Verdict::default();
    for note in notes {
        match (note.outcome, stored.remove(&note.name)) {
            (_, Some(times @ 2..)) => {
                return Err(format!("{key}: write {} is there {times} times", note.name));
            }
            (Outcome::Acknowledged(_), None) => {
                return Err(format!("{key}: write {} was acknowledged and is missing", note.name));
            }
            (Outcome::Acknowledged(_), Some(_)) => verdict.acknowledged += 1,
            (Outcome::Unknown, Some(_)) => verdict.unknown_done += 1,
            (Outcome::Unknown, None) => verdict.unknown_lost += 1,
        }
    }
    match stored.keys().next() {
        Some(name) => Err(format!("{key}: write {name} is there and was never sent")),
        None => Ok(verdict),
    }
}

fn stored_names(redis: &mut Redis, stream: Stream, key: &str) -> Vec<u64> {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{key} holds {text:?}"));
    if stream == Stream::List {
        let items = redis.must(&["LRANGE", key, "0", "-1"]).items();
        items.into_iter().map(|item| number(&String::from_utf8_lossy(&item.bytes()))).collect()
    } else {
        let text = redis.must(&["GET", key]).bytes();
        String::from_utf8_lossy(&text).split_terminator(';').map(number).collect()
    }
}
