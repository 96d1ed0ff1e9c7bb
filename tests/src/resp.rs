//! A small client of the Redis protocol.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::wait::{PATIENCE, until};

/// How long an answer may take before the connection counts as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+text`
    Simple(String),
    /// `-text`
    Error(String),
    /// `:number`
    Integer(i64),
    /// A string of bytes, or nil.
    Bulk(Option<Vec<u8>>),
    /// An array, or nil.
    Array(Option<Vec<Reply>>),
}

impl Reply {
    /// The number; of nil or of a string as redis stores counters, too.
    pub fn number(&self) -> i64 {
        match self {
            Self::Integer(value) => *value,
            Self::Bulk(None) => 0,
            Self::Bulk(Some(text)) => String::from_utf8_lossy(text).parse().expect("a number"),
            other => panic!("expected a number, got {other:?}"),
        }
    }

    /// The bytes; of nil none.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bulk(bytes) => bytes.unwrap_or_default(),
            Self::Simple(text) => text.into_bytes(),
            other => panic!("expected a string, got {other:?}"),
        }
    }

    /// The elements; of nil none.
    pub fn items(self) -> Vec<Self> {
        match self {
            Self::Array(items) => items.unwrap_or_default(),
            other => panic!("expected an array, got {other:?}"),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> io::Result<Self> {
        Self::connect_to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT_LIMIT, ANSWER_LIMIT)
    }

    /// Connects to any address; says how long that and each answer may take.
    pub fn connect_to(address: SocketAddr, connect: Duration, answer: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, connect)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(answer))?;
        stream.set_write_timeout(Some(answer))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// A client as soon as the server at a port of this machine answers.
    pub fn when_ready(port: u16) -> Self {
        until("redis answers PING", PATIENCE, || {
            let mut redis = Self::connect(port).ok()?;
            (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
        })
    }

    /// Sends a command and takes its answer.
    pub fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Reply> {
        self.send(command)?;
        self.receive()
    }

    /// [`Self::call`] for commands that must succeed.
    pub fn must<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Reply {
        let shown =
            || command.iter().map(|a| String::from_utf8_lossy(a.as_ref())).collect::<Vec<_>>().join(" ");
        match self.call(command) {
            Ok(Reply::Error(text)) => panic!("{}: {text}", shown()),
            Ok(reply) => reply,
            Err(error) => panic!("{}: {error}", shown()),
        }
    }

    /// Sends a command only.
    pub fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            let argument = argument.as_ref();
            bytes.extend(format!("${}\r\n", argument.len()).bytes());
            bytes.extend(argument);
            bytes.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes)
    }

    /// Takes one answer.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidData, format!("not the Redis protocol: {line:?}"));
        let text = line.trim_end().get(1..).ok_or_else(wrong)?.to_owned();
        let number = || text.parse::<i64>().map_err(|_| wrong());
        match line.as_bytes().first() {
            Some(b'+') => Ok(Reply::Simple(text)),
            Some(b'-') => Ok(Reply::Error(text)),
            Some(b':') => Ok(Reply::Integer(number()?)),
            Some(b'$') => self.bulk(number()?).map(Reply::Bulk),
            Some(b'*') => match usize::try_from(number()?) {
                Err(_) => Ok(Reply::Array(None)),
                Ok(count) => (0..count)
                    .map(|_| self.receive())
                    .collect::<Result<_, _>>()
                    .map(|a| Reply::Array(Some(a))),
            },
            _ => Err(wrong()),
        }
    }

    fn bulk(&mut self, length: i64) -> io::Result<Option<Vec<u8>>> {
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Some(bytes))
    }
}
