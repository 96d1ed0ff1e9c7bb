//! Clients that ask a server questions whose right answers are known, while replicas die.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clients::{Clients, Control};
use crate::workload::{Failure, Verdict, Workload, gaps};

/// The first wrong answer.
type Wrong = Arc<Mutex<Option<String>>>;

/// Running clients.
#[derive(Debug)]
pub struct Answers {
    clients: Clients<Notes>,
    wrong: Wrong,
}

/// When one client's answers came, and how many did not.
#[derive(Debug, Default)]
struct Notes {
    ends: Vec<Instant>,
    unanswered: usize,
}

impl Answers {
    /// Starts `clients` clients. `ask` puts the question of this number and returns what came and what is right.
    pub fn start<A>(clients: usize, ask: A) -> Self
    where
        A: Fn(u64) -> io::Result<(String, String)> + Clone + Send + 'static,
    {
        let wrong = Wrong::default();
        let told = Arc::clone(&wrong);
        let work = move |client, control: &Control| work(client as u64, &ask, control, &told);
        Self { clients: Clients::start(clients, work), wrong }
    }

    fn wrong(&self) -> Option<String> {
        self.wrong.lock().expect("no client panics").clone()
    }
}

impl Workload for Answers {
    fn acknowledged(&mut self) -> u64 {
        assert_eq!(self.wrong(), None, "a wrong answer");
        self.clients.acknowledged()
    }

    fn rest(&mut self, rests: bool) {
        self.clients.rest(rests);
    }

    fn finish(self: Box<Self>, failures: &[Failure]) -> Result<(Verdict, Vec<Duration>), String> {
        let Self { clients, wrong } = *self;
        let notes = clients.finish();
        if let Some(wrong) = wrong.lock().expect("no client panics").take() {
            return Err(wrong);
        }
        let unknown_lost = notes.iter().map(|notes| notes.unanswered).sum();
        let ends: Vec<_> = notes.into_iter().flat_map(|notes| notes.ends).collect();
        let verdict = Verdict { acknowledged: ends.len(), unknown_lost, ..Verdict::default() };
        Ok((verdict, gaps(ends, failures)))
    }
}

/// One client.
fn work(
    first: u64,
    ask: &impl Fn(u64) -> io::Result<(String, String)>,
    control: &Control,
    wrong: &Mutex<Option<String>>,
) -> Notes {
    let mut notes = Notes::default();
    for number in first.. {
        if !control.goes_on() {
            break;
        }
        match ask(number) {
            Ok((answer, right)) if answer == right => {
                notes.ends.push(Instant::now());
                control.acknowledge();
            }
            Ok((answer, right)) => {
                let said = format!("question {number} is answered by {answer:?}, right is {right:?}");
                wrong.lock().expect("no client panics").get_or_insert(said);
                break;
            }
            Err(_) => {
                notes.unanswered += 1;
                control.back_off();
            }
        }
        control.pace();
    }
    notes
}
