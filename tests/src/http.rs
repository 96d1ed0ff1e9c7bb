//! A small HTTP/1.1 client with keep-alive, in the clear or over TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::stores::Store;
use crate::tls::{self, Tls};

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Http<S = TcpStream> {
    stream: BufReader<S>,
}

/// One over TLS.
pub type Https = Http<Tls>;

fn open(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}

impl Http {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(open(port)?) })
    }
}

impl Https {
    /// Connects to a port of this machine, whatever its certificate says.
    pub fn connect_secure(port: u16) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(tls::wrap(open(port)?)?) })
    }
}

impl<S: Read + Write> Http<S> {
    /// Fetches a path.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, &[])?;
        self.answer()
    }

    /// Stores a body under a path.
    pub fn put(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        self.request("PUT", path, body)?;
        self.answer()
    }

    /// Sends a request and does not read what comes.
    pub fn request(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)
    }

    /// Reads one answer that has a `Content-Length`, or none of a body.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let wrong = |line: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {line:?}"));
        let first = self.line()?;
        let code = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| wrong(&first))?;
        let mut length = 0;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| wrong(&line))?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { code, body })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn store_file(&mut self, name: &str) -> io::Result<()> {
        let answer = self.put(&format!("/up/{name}"), name.as_bytes())?;
        match answer.code {
            201 | 204 => Ok(()),
            code => Err(io::Error::other(format!("PUT is answered by {code}"))),
        }
    }

    fn has_file(&mut self, name: &str) -> io::Result<bool> {
        let answer = self.get(&format!("/up/{name}"))?;
        Ok(answer.code == 200 && answer.body == name.as_bytes())
    }
}

/// Stores by `PUT` in the directory `up`.
impl Store for Http {
    fn connect(port: u16) -> io::Result<Self> {
        Self::connect(port)
    }

    fn store(&mut self, name: &str) -> io::Result<()> {
        self.store_file(name)
    }

    fn has(&mut self, name: &str) -> io::Result<bool> {
        self.has_file(name)
    }
}

impl Store for Https {
    fn connect(port: u16) -> io::Result<Self> {
        Self::connect_secure(port)
    }

    fn store(&mut self, name: &str) -> io::Result<()> {
        self.store_file(name)
    }

    fn has(&mut self, name: &str) -> io::Result<bool> {
        self.has_file(name)
    }
}
