//! A small client of memcached's text protocol.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::stores::Store;

const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub struct Memcache {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Memcache {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self { stream: BufReader::new(stream), line: String::new() })
    }

    /// Stores a value.
    pub fn set(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        let mut request = format!("set {key} 0 0 {}\r\n", value.len()).into_bytes();
        request.extend(value);
        request.extend(b"\r\n");
        self.stream.get_mut().write_all(&request)?;
        self.expect("STORED")
    }

    /// Fetches a value; `None` if there is none.
    pub fn get(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.stream.get_mut().write_all(format!("get {key}\r\n").as_bytes())?;
        self.read_line()?;
        if self.line.trim_end() == "END" {
            return Ok(None);
        }
        let length = self.line.trim_end().rsplit(' ').next().and_then(|l| l.parse::<usize>().ok());
        let length = length.ok_or_else(|| self.wrong())?;
        let mut value = vec![0; length + 2];
        self.stream.read_exact(&mut value)?;
        value.truncate(length);
        self.expect("END")?;
        Ok(Some(value))
    }

    /// Adds one to a counter and returns it.
    pub fn increment(&mut self, key: &str) -> io::Result<u64> {
        self.stream.get_mut().write_all(format!("incr {key} 1\r\n").as_bytes())?;
        self.read_line()?;
        self.line.trim_end().parse().map_err(|_| self.wrong())
    }

    fn expect(&mut self, answer: &str) -> io::Result<()> {
        self.read_line()?;
        if self.line.trim_end() == answer { Ok(()) } else { Err(self.wrong()) }
    }

    fn read_line(&mut self) -> io::Result<()> {
        self.line.clear();
        match self.stream.read_line(&mut self.line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn wrong(&self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer: {:?}", self.line))
    }
}

impl Store for Memcache {
    fn connect(port: u16) -> io::Result<Self> {
        Self::connect(port)
    }

    fn store(&mut self, name: &str) -> io::Result<()> {
        self.set(name, name.as_bytes())
    }

    fn has(&mut self, name: &str) -> io::Result<bool> {
        Ok(self.get(name)?.as_deref() == Some(name.as_bytes()))
    }
}
