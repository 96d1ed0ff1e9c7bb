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
use super::place::Place;

/// Clients at once.
const CLIENTS: usize = 8;
/// Operations on one object at the most; then, or when one gets no answer, the next of its kind takes its place.
const OPERATIONS_PER_OBJECT: u32 = 100;
/// Pause of a client between two operations: a pace, so that histories of minutes fit into memory.
const PACE: Duration = Duration::from_millis(1);

/// With this variable set, what clients did around each failure that stopped them for longer than [`LONG`] is told.
const TIMELINE_VARIABLE: &str = "BROLGA_TIMELINE";
/// See there.
const LONG: Duration = Duration::from_millis(400);

/// The kinds of objects, which share the numbers of objects: an object's kind is its number modulo [`KINDS`].
const KINDS: u32 = 4;

/// A client of a server that keeps the objects.
pub trait Store: 'static {
    /// The client with this number, without a connection. Its thread is at the place.
    fn new(place: &Place, number: usize) -> Self;

    /// Connects, also after the connection was lost.
    fn connect(&mut self) -> io::Result<()>;

    /// Asks, and waits for the answer. `Ok(None)`: it was surely not done. An error: nobody knows, and the connection is lost.
    fn ask(&mut self, key: u32, request: &Request) -> io::Result<Option<Answer>>;
}

/// Running clients of a server.
#[derive(Debug)]
pub struct Recorder<S> {
    place: Arc<Place>,
    clients: Clients<Vec<Record>>,
    store: std::marker::PhantomData<fn() -> S>,
}

impl<S: Store> Recorder<S> {
    /// Starts them.
    pub fn start(place: Place, seed: u64) -> Self {
        let asked = Arc::new([const { AtomicU32::new(0) }; KINDS as usize]);
        let place = Arc::new(place);
        let there = Arc::clone(&place);
        let work = move |own, control: &Control| {
            let dice = Dice(seed ^ (own as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            there.enter();
            Client::<S>::new(S::new(&there, own), own, dice, &asked).work(control)
        };
        Self { place, clients: Clients::start(CLIENTS, work), store: std::marker::PhantomData }
    }

    /// One more look at each object, when all is over: what was acknowledged must be there.
    fn look_again(place: &Place, keys: BTreeSet<u32>) -> Vec<Record> {
        place.enter();
        let (mut store, mut connected) = (S::new(place, CLIENTS), false);
        let look = |key| {
            let request = [Request::Read, Request::Count, Request::List, Request::Audit]
                [(key % KINDS) as usize]
                .clone();
            until("the server answers", PATIENCE, || {
                let begin = Instant::now();
                connected = connected || store.connect().is_ok();
                let answer = connected.then(|| store.ask(key, &request).ok().flatten()).flatten();
                connected = answer.is_some();
                let operation = Operation { request: request.clone(), answer: Some(answer?) };
                Some(Record { key, client: CLIENTS, operation, begin, end: Instant::now() })
            })
        };
        keys.into_iter().map(look).collect()
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
        let gaps = gaps(ends, failures);
        if std::env::var_os(TIMELINE_VARIABLE).is_some() {
            failures.iter().zip(&gaps).for_each(|(failure, gap)| tell(&records, *failure, *gap));
        }
        let keys = records.iter().map(|record| record.key).collect();
        let place = self.place;
        let looked = std::thread::spawn(move || Self::look_again(&place, keys)).join();
        records.extend(looked.map_err(|_| "what is there could not be looked at")?);
        let undecided = history::check(&records, history::USUAL)?.undecided;
        // Which of those without an answer happened is the checker's choice.
        let verdict =
            Verdict { acknowledged, unknown_done: 0, unknown_lost: asked - acknowledged, undecided };
        Ok((verdict, gaps))
    }
}

/// Says what each client did around a failure that stopped all for long.
fn tell(records: &[Record], failure: Failure, gap: Duration) {
    if gap < LONG {
        return;
    }
    println!("clients, {gap:.0?} without an acknowledged operation:");
    let until = failure.at + gap + LONG;
    let near = |record: &&Record| record.end > failure.at && record.begin < until;
    for client in 0..CLIENTS {
        let own: Vec<_> = records.iter().filter(near).filter(|record| record.client == client).collect();
        for pair in own.windows(2).filter(|pair| pair[1].end - pair[0].end > LONG / 4) {
            let [from, to, end] = [pair[0].end, pair[1].begin, pair[1].end].map(|moment| {
                let after = moment.saturating_duration_since(failure.at).as_secs_f64();
                if moment < failure.at { "before".to_owned() } else { format!("{after:.3} s") }
            });
            let answered = pair[1].operation.answer.is_some();
            println!("  client {client}: an answer at {from}, asked at {to}, answered {answered} at {end}");
        }
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
    fn new(store: S, own: usize, dice: Dice, asked: &'a [AtomicU32; KINDS as usize]) -> Self {
        Self { store, connected: false, own, dice, asked, values: 0, seen: 0 }
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
        if answer.is_err() {
            // Where such an operation belongs in the order is open for ever: with each more the search for one takes twice as long.
            let next = (turn / OPERATIONS_PER_OBJECT + 1) * OPERATIONS_PER_OBJECT;
            self.asked[kind as usize].fetch_max(next, Ordering::Relaxed);
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
