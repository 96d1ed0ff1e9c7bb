//! The objects in Redis: strings, lists and hashes, changed by commands and by scripts.

use std::io;
use std::time::Duration;

use crate::resp::{Redis, Reply};

use super::objects::{ACCOUNTS, Answer, BALANCE, Request};
use super::place::{Addresses, Place};
use super::recorder::Store;

const EXCHANGE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
                        redis.call('SET', KEYS[1], ARGV[2]) return 1";
/// An account that is not there yet has the balance that all begin with.
const TRANSFER: &str = "local from = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[4]) \
                        local to = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or ARGV[4]) \
                        local amount = tonumber(ARGV[3]) \
                        if from < amount then return 0 end \
                        redis.call('HSET', KEYS[1], ARGV[1], from - amount, ARGV[2], to + amount) return 1";

/// A client.
#[derive(Debug)]
pub struct Keys {
    addresses: Addresses,
    limits: [Duration; 2],
    connection: Option<Redis>,
}

impl Store for Keys {
    fn new(place: &Place, number: usize) -> Self {
        let limits = [place.connect, place.answer];
        Self { addresses: Addresses::of(place, number), limits, connection: None }
    }

    fn connect(&mut self) -> io::Result<()> {
        let [connect, answer] = self.limits;
        self.connection = Some(Redis::connect_to(self.addresses.take(), connect, answer)?);
        self.addresses.found();
        Ok(())
    }

    fn ask(&mut self, key: u32, request: &Request) -> io::Result<Option<Answer>> {
        let key = format!("object:{key}");
        let accounts: Vec<String> = (0..ACCOUNTS).map(|account| account.to_string()).collect();
        let command: Vec<String> = match request {
            Request::Write(value) => vec!["SET".into(), key, value.to_string()],
            Request::Swap(value) => vec!["GETSET".into(), key, value.to_string()],
            Request::Exchange(old, new) => {
                vec!["EVAL".into(), EXCHANGE.into(), "1".into(), key, old.to_string(), new.to_string()]
            }
            Request::Read | Request::Count => vec!["GET".into(), key],
            Request::Add(amount) => vec!["INCRBY".into(), key, amount.to_string()],
            Request::Append(value) => vec!["RPUSH".into(), key, value.to_string()],
            Request::List => vec!["LRANGE".into(), key, "0".into(), "-1".into()],
            Request::Transfer { from, to, amount } => {
                let numbers = [from.to_string(), to.to_string(), amount.to_string(), BALANCE.to_string()];
                let script = ["EVAL".into(), TRANSFER.into(), "1".into(), key];
                script.into_iter().chain(numbers).collect()
            }
            Request::Audit => ["HMGET".into(), key].into_iter().chain(accounts).collect(),
        };
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let reply = connection.call(&command)?;
        if let Reply::Error(text) = reply {
            panic!("{}: {text}", command.join(" "));
        }
        Ok(Some(answer(request, reply)))
    }
}

fn answer(request: &Request, reply: Reply) -> Answer {
    let value = |reply: Reply| match reply {
        Reply::Bulk(None) => None,
        reply => Some(u32::try_from(reply.number()).expect("a value that was written")),
    };
    match request {
        Request::Write(_) => Answer::Done,
        Request::Swap(_) | Request::Read => Answer::Value(value(reply)),
        Request::Exchange(..) | Request::Transfer { .. } => Answer::Decided(reply.number() == 1),
        Request::Add(_) | Request::Count | Request::Append(_) => Answer::Number(reply.number()),
        Request::List => Answer::Values(reply.items().into_iter().filter_map(value).collect()),
        Request::Audit => Answer::Balances(
            reply
                .items()
                .into_iter()
                .map(|item| if item == Reply::Bulk(None) { BALANCE } else { item.number() })
                .collect(),
        ),
    }
}
