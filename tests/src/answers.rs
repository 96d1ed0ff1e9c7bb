//! Clients that ask a server questions whose right answers are known, while replicas die.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::workload::{Verdict, Workload, gaps};

/// Pause of a client that got no answer.
const RECONNECT_PAUSE: Duration = Duration::from_millis(2);
/// Pause between two questions of a client at rest.
const REST_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    rests: AtomicBool,
    answered: AtomicU64,
    unanswered: AtomicUsize,
    wrong: Mutex<Option<String>>,
}

/// Running clients.
#[derive(Debug)]
pub struct Answers {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Instant>>>,
}

impl Answers {
    /// Starts `clients` clients. `ask` puts the question of this number and returns what came and what is right.
    pub fn start<A>(clients: u64, ask: A) -> Self
    where
        A: Fn(u64) -> io::Result<(String, String)> + Clone + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let start = |first| {
            let (shared, ask) = (Arc::clone(&shared), ask.clone());
            std::thread::spawn(move || work(first, &ask, &shared))
        };
        let clients = (0..clients).map(start).collect();
        Self { shared, clients }
    }

    fn wrong(&self) -> Option<String> {
        self.shared.wrong.lock().expect("no client panics").clone()
    }
}

impl Workload for Answers {
    fn acknowledged(&mut self) -> u64 {
        assert_eq!(self.wrong(), None, "a wrong answer");
        self.shared.answered.load(Ordering::Relaxed)
    }

    fn rest(&mut self, rests: bool) {
        self.shared.rests.store(rests, Ordering::Relaxed);
    }

    fn finish(mut self: Box<Self>, failures: &[Instant]) -> Result<(Verdict, Vec<Duration>), String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut self.clients);
        let ends: Vec<_> =
            clients.into_iter().flat_map(|client| client.join().expect("a client failed")).collect();
        let unknown_lost = self.shared.unanswered.load(Ordering::Relaxed);
        let verdict = Verdict { acknowledged: ends.len(), unknown_done: 0, unknown_lost };
        self.wrong().map_or(Ok((verdict, gaps(ends, failures))), Err)
    }
}

/// One client; returns when its answers came.
fn work(first: u64, ask: &impl Fn(u64) -> io::Result<(String, String)>, shared: &Shared) -> Vec<Instant> {
    let mut ends = Vec::new();
    for number in first.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        match ask(number) {
            Ok((answer, right)) if answer == right => {
                ends.push(Instant::now());
                shared.answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok((answer, right)) => {
                let said = format!("question {number} is answered by {answer:?}, right is {right:?}");
                shared.wrong.lock().expect("no client panics").get_or_insert(said);
                break;
            }
            Err(_) => {
                shared.unanswered.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(RECONNECT_PAUSE);
            }
        }
        if shared.rests.load(Ordering::Relaxed) {
            std::thread::sleep(REST_PAUSE);
        }
    }
    ends
}
