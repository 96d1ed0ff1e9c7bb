//! memcached with four threads, asked over UDP: each client has one question on its way, and asks again if nobody answers in time.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use brolga_tests::stats::Times;

use crate::load::{Load, Outcome};
use crate::server::{Reached, Server};

const CLIENTS: u16 = 32;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(200);
/// Bytes in front of a message: its number, that of the packet in it, how many packets it has, and two more.
const HEAD: [u8; 8] = [0, 0, 0, 0, 0, 1, 0, 0];

/// See the module.
#[derive(Debug)]
pub struct MemcachedUdp;

impl Server for MemcachedUdp {
    fn name(&self) -> &'static str {
        "memcached-udp"
    }

    fn usual_port(&self) -> u16 {
        11211
    }

    fn reached(&self) -> Reached {
        Reached::Udp
    }

    fn command(&self, _data: &Path, port: u16) -> Vec<String> {
        let port = port.to_string();
        ["memcached", "-t", "4", "-p", "0", "-U", &port, "-u", "root", "-m", "64"].map(str::to_owned).to_vec()
    }

    fn answers(&self, port: u16) -> bool {
        ask(&connect(port), 1).is_some()
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        vec![Load::new(format!("memcached UDP incr c={CLIENTS}"), move |port| run(port, time))]
    }
}

fn connect(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a client");
    socket.connect((Ipv4Addr::LOCALHOST, port)).expect("choose the server");
    socket.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
    socket
}

/// Counts up; `None` if nobody answers. Answers to earlier questions are passed over.
fn ask(socket: &UdpSocket, number: u16) -> Option<()> {
    let mut question = [&HEAD[..], b"incr counter 1\r\n"].concat();
    question[..2].copy_from_slice(&number.to_be_bytes());
    socket.send(&question).ok()?;
    let mut answer = [0; 1500];
    loop {
        let count = socket.recv(&mut answer).ok()?;
        if answer[..count].starts_with(&number.to_be_bytes()) {
            return Some(());
        }
    }
}

fn run(port: u16, time: Duration) -> Outcome {
    let begin = Instant::now();
    let end = begin + time;
    let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(move || client(port, end))).collect();
    let times: Vec<Duration> =
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    Outcome::of(&Times::new(times), begin.elapsed().as_secs_f64())
}

fn client(port: u16, end: Instant) -> Vec<Duration> {
    let socket = connect(port);
    let (mut times, mut number) = (Vec::new(), 0u16);
    while Instant::now() < end {
        let begin = Instant::now();
        loop {
            number = number.wrapping_add(1);
            if ask(&socket, number).is_some() {
                break;
            }
        }
        times.push(begin.elapsed());
    }
    times
}
