//! ClamAV's clamd, and clients that send it files to scan (`INSTREAM`), one connection a thread, as CRANE measured it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use brolga_tests::stats::Times;

use crate::load::{Load, Outcome};
use crate::server::{Server, write};

const CLIENTS: u64 = 10;
const FILE_BYTES: usize = 64 << 10;
/// A signature of a text that no file of the load holds: `brolga-malware`.
const SIGNATURE: &str = "Brolga.Test:0:*:62726f6c67612d6d616c77617265\n";

/// See the module.
#[derive(Debug)]
pub struct Clamd;

impl Server for Clamd {
    fn name(&self) -> &'static str {
        "clamd"
    }

    fn usual_port(&self) -> u16 {
        3310
    }

    fn command(&self, data: &Path, port: u16) -> Vec<String> {
        let database = data.join("database");
        std::fs::create_dir_all(&database).expect("make the database's directory");
        write(&database.join("test.ndb"), SIGNATURE);
        let file = data.join("clamd.conf");
        let text = format!(
            "DatabaseDirectory {}\nTCPSocket {port}\nTCPAddr 127.0.0.1\nForeground yes\nMaxThreads {CLIENTS}\n\
             LogFile {}/clamd.log\nUser root\n",
            database.display(),
            data.display()
        );
        write(&file, &text);
        ["clamd", "-c", &file.display().to_string()].map(str::to_owned).to_vec()
    }

    fn answers(&self, port: u16) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.write_all(b"zPING\0")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok::<_, io::Error>(answer == b"PONG\0")
        };
        ask().unwrap_or(false)
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        let name = format!("clamd INSTREAM {} KB c={CLIENTS}", FILE_BYTES >> 10);
        vec![Load::new(name, move |port| run(port, time))]
    }
}

fn run(port: u16, time: Duration) -> Outcome {
    let begin = Instant::now();
    let end = begin + time;
    let clients: Vec<_> = (0..CLIENTS).map(|own| thread::spawn(move || client(port, own, end))).collect();
    let times: Vec<Duration> =
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    Outcome::of(&Times::new(times), begin.elapsed().as_secs_f64())
}

fn client(port: u16, own: u64, end: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut number = own;
    while Instant::now() < end {
        let begin = Instant::now();
        // No two files are equal: clamd remembers what it found clean.
        number += CLIENTS;
        let verdict = scan(port, &file(number)).expect("clamd answers");
        assert!(verdict.ends_with("OK\0"), "clamd says {verdict:?}");
        times.push(begin.elapsed());
    }
    times
}

fn file(number: u64) -> Vec<u8> {
    let mut text = String::with_capacity(FILE_BYTES + 64);
    while text.len() < FILE_BYTES {
        text.push_str(&format!("line {} of file {number}, which is clean\n", text.len()));
    }
    text.truncate(FILE_BYTES);
    text.into_bytes()
}

fn scan(port: u16, file: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let mut request = b"zINSTREAM\0".to_vec();
    request.extend((file.len() as u32).to_be_bytes());
    request.extend(file);
    request.extend([0; 4]);
    stream.write_all(&request)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
