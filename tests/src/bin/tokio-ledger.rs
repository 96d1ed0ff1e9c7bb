//! A ledger over HTTP on tokio, with four workers; `tests/servers/ledger.py` says what it does. Its file is written by the pool
//! for blocking calls, and all that it does by itself is tokio's way of doing it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

const WORKERS: usize = 4;

struct Ledger {
    entries: Mutex<Vec<String>>,
    file: std::sync::Mutex<std::fs::File>,
    started: Instant,
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(80);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(WORKERS).enable_all().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> io::Result<()> {
    let file = std::fs::File::options().create(true).append(true).open("ledger")?;
    let ledger = Arc::new(Ledger {
        entries: Mutex::default(),
        file: std::sync::Mutex::new(file),
        started: Instant::now(),
    });
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            // A client that goes ends its task; that is no news.
            let _ = talk(stream, &ledger).await;
        });
    }
}

async fn talk(stream: TcpStream, ledger: &Arc<Ledger>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let path = first.split(' ').nth(1).unwrap_or_default();
        let (code, text) = answer(path, body, ledger).await;
        let head = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n", text.len());
        stream.get_mut().write_all((head + &text).as_bytes()).await?;
    }
}

async fn answer(path: &str, body: Vec<u8>, ledger: &Arc<Ledger>) -> (u16, String) {
    match path {
        "/add" => (200, add(body, ledger).await.to_string()),
        "/list" => (200, ledger.entries.lock().await.iter().map(|entry| format!("{entry}\n")).collect()),
        "/chance" => (200, chance(ledger).await),
        "/work" => (200, work().await.to_string()),
        _ => (404, String::new()),
    }
}

async fn add(body: Vec<u8>, ledger: &Arc<Ledger>) -> usize {
    let text = String::from_utf8_lossy(&body).into_owned();
    let mut entries = ledger.entries.lock().await;
    let (own, line) = (Arc::clone(ledger), format!("{text}\n"));
    let written = tokio::task::spawn_blocking(move || {
        own.file.lock().is_ok_and(|mut file| file.write_all(line.as_bytes()).is_ok())
    });
    assert!(written.await.is_ok_and(|fine| fine), "the ledger's file cannot be written");
    entries.push(text);
    entries.len()
}

/// What would differ between two copies.
async fn chance(ledger: &Ledger) -> String {
    // What is tested: the runtime's timers.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let drawn = RandomState::new().build_hasher().finish();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let thread = std::thread::current().id();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{drawn} {now:?} {:?} {thread:?} {processors} {:p}", ledger.started.elapsed(), &drawn)
}

/// Computes in four tasks, which the workers may steal from each other.
async fn work() -> u64 {
    let part = |own: u64| {
        let mut words: HashMap<String, u64> = HashMap::new();
        for number in 0..2000 {
            *words.entry(format!("word {}", number * 31 % 977)).or_default() += number * own;
        }
        words.values().sum::<u64>()
    };
    let tasks: Vec<_> = (0..4).map(|own| tokio::spawn(async move { part(own) })).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap_or_default();
    }
    sum
}
