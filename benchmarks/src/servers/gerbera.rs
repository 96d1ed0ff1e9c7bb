//! Gerbera, and control points that browse, a connection for each question. It wants an interface other than loopback, so all is in a
//! network of its own, where it always has the same port.

use std::path::Path;
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use brolga_tests::gerbera::{self, PORT, await_files, browse};
use brolga_tests::stats::Times;

use crate::load::{Load, Outcome};
use crate::server::{Reached, Server};

const CLIENTS: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct Gerbera;

impl Server for Gerbera {
    fn name(&self) -> &'static str {
        "gerbera"
    }

    fn usual_port(&self) -> u16 {
        PORT
    }

    fn reached(&self) -> Reached {
        Reached::AsItIs
    }

    fn command(&self, data: &Path, _port: u16) -> Vec<String> {
        static NETWORK: Once = Once::new();
        NETWORK.call_once(gerbera::own_network);
        gerbera::command(data)
    }

    fn answers(&self, _port: u16) -> bool {
        browse("0").is_some()
    }

    fn fill(&self, _port: u16) {
        await_files();
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        vec![Load::new(format!("gerbera browse c={CLIENTS}"), move |_| run(time))]
    }
}

fn run(time: Duration) -> Outcome {
    let files = await_files();
    let begin = Instant::now();
    let times: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(&files, begin + time))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    Outcome::of(&Times::new(times), begin.elapsed().as_secs_f64())
}

fn client(files: &str, end: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        browse(files).expect("gerbera answers");
        times.push(begin.elapsed());
    }
    times
}
