//! A client: connects, sends requests, waits, goes elsewhere when the connection breaks. It never repeats a request whose
//! fate it does not know.

use super::check::{Violation, rule};
use super::history::{Answer, History};
use super::rng::Rng;
use super::toy::{APPEND, BULK_BYTES, BULK_PIECE, DOWNLOAD, READ, REPLY_BYTES, UPLOAD};

/// A client gives a connection up after so long without progress, nanoseconds.
pub const PATIENCE_NS: u64 = 400_000_000;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected.
    Idle,
    /// Waits for the connection to stand.
    Connecting,
    /// Connected.
    Connected,
    /// Has said that it sends no more, and waits for the server to do the same.
    Closing,
}

/// What a client wants to do next.
#[derive(Debug)]
pub enum Wish {
    /// Connect to this replica.
    Connect(usize),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Close in good order.
    Fin,
    /// Break the connection.
    Reset,
    /// Nothing.
    Wait,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    /// What it does.
    pub state: State,
    /// Replica that it is, or was last, connected to.
    pub target: usize,
    /// Number of its connection attempt.
    pub attempt: u64,
    /// When the last byte that it sent arrives, or came.
    pub sent_until: u64,
    /// When the last byte sent to it arrives.
    pub received_until: u64,
    /// When it last got anywhere.
    pub progress_at: u64,
    /// Requests answered since the faults ended.
    pub healed: usize,
    /// It makes no more requests.
    pub stops: bool,
    outstanding: Vec<u64>,
    input: Vec<u8>,
    left: u64,
    /// It makes uploads and downloads, too.
    bulk: bool,
    /// The request that waits for an answer is a download.
    downloads: bool,
    /// The request that waits for an answer is an upload or a download.
    bulky: bool,
    /// Replicas that it knows of.
    pub replicas: usize,
    rng: Rng,
}

impl Client {
    /// A client of so many replicas.
    pub fn new(replicas: usize, bulk: bool, mut rng: Rng) -> Self {
        Self {
            state: State::Idle,
            target: rng.below(replicas as u64) as usize,
            attempt: 0,
            sent_until: 0,
            received_until: 0,
            progress_at: 0,
            healed: 0,
            stops: false,
            outstanding: Vec::new(),
            input: Vec::new(),
            left: 0,
            bulk,
            downloads: false,
            bulky: false,
            replicas,
            rng,
        }
    }

    /// Its thinking is over.
    pub fn wake(&mut self, now: u64, history: &mut History) -> Wish {
        match self.state {
            State::Idle if self.stops => Wish::Wait,
            State::Idle => {
                self.attempt += 1;
                self.state = State::Connecting;
                self.progress_at = now;
                self.left = self.rng.between(1, 12);
                Wish::Connect(self.target)
            }
            State::Connected if self.outstanding.is_empty() => self.next_request(now, history),
            _ if now >= self.progress_at + PATIENCE_NS => {
                self.lost();
                Wish::Reset
            }
            _ => Wish::Wait,
        }
    }

    fn next_request(&mut self, now: u64, history: &mut History) -> Wish {
        self.progress_at = now;
        if self.left == 0 || self.stops {
            if self.rng.percent(30) {
                self.lost();
                return Wish::Reset;
            }
            self.state = State::Closing;
            return Wish::Fin;
        }
        self.left -= 1;
        self.downloads = false;
        self.bulky = self.bulk && self.rng.percent(10);
        let mut bytes = Vec::new();
        if self.bulky {
            self.downloads = self.rng.percent(50);
            let id = history.invoke(!self.downloads, now);
            self.outstanding.push(id);
            bytes.extend_from_slice(&(if self.downloads { DOWNLOAD } else { UPLOAD }).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.resize(bytes.len() + if self.downloads { 0 } else { BULK_BYTES }, id as u8);
            return Wish::Send(bytes);
        }
        for _ in 0..self.rng.pick(&[1, 1, 1, 2, 5]) {
            let appends = self.rng.percent(70);
            let id = history.invoke(appends, now);
            self.outstanding.push(id);
            bytes.extend_from_slice(&(if appends { APPEND } else { READ }).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        Wish::Send(bytes)
    }

    /// The connection is gone: what was asked and not answered never will be.
    pub fn lost(&mut self) {
        self.state = State::Idle;
        self.outstanding.clear();
        self.input.clear();
        self.target = (self.target + 1) % self.replicas;
        // Messages to the connection of before are of no interest.
        self.attempt += 1;
    }

    /// The connection stands.
    pub fn accepted(&mut self, now: u64) {
        self.state = State::Connected;
        self.progress_at = now;
    }

    /// Bytes came. True if all requests are answered.
    pub fn received(&mut self, bytes: &[u8], now: u64, history: &mut History) -> Result<bool, Violation> {
        self.input.extend_from_slice(bytes);
        self.progress_at = now;
        let len = REPLY_BYTES + if self.downloads { BULK_BYTES } else { 0 };
        while self.input.len() >= len {
            let reply: Vec<u8> = self.input.drain(..len).collect();
            if reply[REPLY_BYTES..].iter().any(|byte| *byte != BULK_PIECE[0]) {
                let detail = format!("a download of {BULK_BYTES} bytes is not what was sent");
                return Err(Violation { rule: rule::LINEARIZABLE, detail });
            }
            let word = |at: usize| u64::from_le_bytes(reply[at..at + 8].try_into().expect("eight bytes"));
            self.outstanding.retain(|id| *id != word(0));
            self.healed += 1;
            history.answer(word(0), Answer { at: now, version: word(8), hash: word(16) })?;
        }
        Ok(self.outstanding.is_empty())
    }

    /// Whether it waits for the answer to an upload or a download.
    pub fn has_bulk_outstanding(&self) -> bool {
        self.bulky
    }

    /// How long it thinks before it does the next thing, nanoseconds.
    pub fn think(&mut self) -> u64 {
        self.rng.pick(&[10_000, 300_000, 2_000_000, 15_000_000])
    }

    /// Cuts bytes into the pieces that arrive together.
    pub fn cut(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if bytes.len() < 2 || self.rng.percent(70) {
            return vec![bytes];
        }
        let at = self.rng.between(1, bytes.len() as u64 - 1) as usize;
        vec![bytes[..at].to_vec(), bytes[at..].to_vec()]
    }
}
