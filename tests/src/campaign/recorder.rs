//! Clients that ask objects of all kinds, and record what they asked and got.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::clients::{Clients, Control};
use crate::wait::{PATIENCE, until};
use crate::workload::{Failure, Verdict, Workload, gaps};

use super::history::{self, Record};
use super::objects::{ACCOUNTS, Answer, Operation, Request};

/// Clients at once.
const CLIENTS: usize = 8;
/// Operations on one object; then the next of its kind takes its place.
const OPERATIONS_PER_OBJECT: u32 = 100;
/// Pause of a client between two operations: a pace, so that histories of minutes fit into memory.
const PACE: Duration = Duration::from_millis(1);

/// The kinds of objects, which share the numbers of objects: an object's kind is its number modulo [`KINDS`].
const KINDS: u32 = 4;

/// A client of a server that keeps the objects, on a port of this machine.
pub trait Store: Send + 'static {
    /// A client without a connection.
    fn new(port: u16) -> Self;

    /// Connects, also after the connection was lost.
    fn connect(&mut self) -> io::Result<()>;

    /// Asks, and waits for the answer. `Ok(None)`: it was surely not done. An error: nobody knows, and the connection is lost.
    fn ask(&mut self, key: u32, request: &Request) -> io::Result<Option<Answer>>;
}

/// Running clients of a server.
#[derive(Debug)]
pub struct Recorder<S> {
    port: u16,
    clients: Clients<Vec<Record>>,
    store: std::marker::PhantomData<S>,
}

impl<S: Store> Recorder<S> {
    /// Starts them.
    pub fn start(port: u16, seed: u64) -> Self {
        let asked = Arc::new([const { AtomicU32::new(0) }; KINDS as usize]);
        let work = move |own, control: &Control| {
            let dice = Dice(seed ^ (own as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            Client::<S>::new(port, own, dice, &asked).work(control)
        };
        Self { port, clients: Clients::start(CLIENTS, work), store: std::marker::PhantomData }
    }

    /// One more look at each object, when all is over: what was acknowledged must be there.
    fn look_again(port: u16, records: &mut Vec<Record>) {
        let keys: BTreeSet<_> = records.iter().map(|record| record.key).collect();
        let (mut store, mut connected) = (S::new(port), false);
        for key in keys {
            let request = [Request::Read, Request::Count, Request::List, Request::Audit]
                [(key % KINDS) as usize]
                .clone();
            let record = until("the server answers", PATIENCE, || {
                let begin = Instant::now();
                connected = connected || store.connect().is_ok();
                let answer = connected.then(|| store.ask(key, &request).ok().flatten()).flatten();
                connected = answer.is_some();
                let operation = Operation { request: request.clone(), answer: Some(answer?) };
                Some(Record { key, client: CLIENTS, operation, begin, end: Instant::now() })
            });
            records.push(record);
        }
    }
}

impl<S: Store> Workload for Recorder<S> {
    fn acknowledged(&mut self) -> u64 {
        self.clients.acknowledged()
    }

    fn rest(&mut self, rests: bool) {
        self.clients.rest(rests);
    }

    fn finish(self: Box<Self>, failures: &[Failure]) -> Result<(Verdict, Vec<Duration>), String> {
        let mut records: Vec<_> = self.clients.finish().into_iter().flatten().collect();
        let answered = |record: &&Record| record.operation.answer.is_some();
        let ends: Vec<_> = records.iter().filter(answered).map(|record| record.end).collect();
        let (acknowledged, asked) = (ends.len(), records.len());
        Self::look_again(self.port, &mut records);
        history::check(&records)?;
        // Which of those without an answer happened is the checker's choice.
        let verdict = Verdict { acknowledged, unknown_done: 0, unknown_lost: asked - acknowledged };
        Ok((verdict, gaps(ends, failures)))
    }
}

/// A small generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(bound)).expect("below a small number")
    }
}

struct Client<'a, S> {
    store: S,
    connected: bool,
    own: usize,
    dice: Dice,
    asked: &'a [AtomicU32; KINDS as usize],
    /// Values that are appended or written are never used again, so that each tells who wrote it.
    values: u32,
    /// The last value that this client saw in a register.
    seen: u32,
}

impl<'a, S: Store> Client<'a, S> {
    fn new(port: u16, own: usize, dice: Dice, asked: &'a [AtomicU32; KINDS as usize]) -> Self {
        Self { store: S::new(port), connected: false, own, dice, asked, values: 0, seen: 0 }
    }

    fn work(mut self, control: &Control) -> Vec<Record> {
        let mut records = Vec::new();
        while control.goes_on() {
            self.connected = self.connected || self.store.connect().is_ok();
            if !self.connected {
                control.back_off();
                continue;
            }
            if let Some(record) = self.operate() {
                if record.operation.answer.is_some() {
                    control.acknowledge();
                }
                records.push(record);
            }
            std::thread::sleep(PACE);
            control.pace();
        }
        records
    }

    fn operate(&mut self) -> Option<Record> {
        let kind = self.dice.below(KINDS);
        let turn = self.asked[kind as usize].fetch_add(1, Ordering::Relaxed);
        let key = turn / OPERATIONS_PER_OBJECT * KINDS + kind;
        let request = self.request(kind);
        let begin = Instant::now();
        let answer = self.store.ask(key, &request);
        let end = Instant::now();
        self.connected = answer.is_ok();
        if matches!(answer, Ok(None)) {
            return None;
        }
        let answer = answer.ok().flatten();
        if let Some(Answer::Value(Some(value))) = answer {
            self.seen = value;
        }
        Some(Record { key, client: self.own, operation: Operation { request, answer }, begin, end })
    }

    fn request(&mut self, kind: u32) -> Request {
        let looks = self.dice.below(3) == 0;
        match kind {
            0 if looks => Request::Read,
            0 => match self.dice.below(3) {
                0 => Request::Write(self.value()),
                1 => Request::Swap(self.value()),
                _ => Request::Exchange(self.seen, self.value()),
            },
            1 if looks => Request::Count,
            1 => Request::Add(i64::from(self.dice.below(9)) - 4),
            2 if looks => Request::List,
            2 => Request::Append(self.value()),
            _ if looks => Request::Audit,
            _ => {
                let accounts = ACCOUNTS as u32;
                let from = self.dice.below(accounts);
                let to = (from + 1 + self.dice.below(accounts - 1)) % accounts;
                let amount = i64::from(1 + self.dice.below(80));
                Request::Transfer { from: from as usize, to: to as usize, amount }
            }
        }
    }

    fn value(&mut self) -> u32 {
        self.values += 1;
        self.values * CLIENTS as u32 + self.own as u32
    }
}
