//! What the fuzzer calls (`tests/fuzz`): each function gives bytes to the parser that reads such bytes from outside, and asserts what
//! must be true of what comes out. Compiled for the fuzzer alone.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::manifest::Place;
use crate::checkpoint::{LogEnd, Manifest};
use crate::launcher::cluster::{Cluster, with_sums};
use crate::launcher::cluster_file::ClusterFile;
use crate::launcher::control::{Reply, Request};
use crate::paxos::{Config, Input, Message, Paxos, Recovered, wire};
use crate::replica::config::{FromReplica, ToReplica};
use crate::replica::frames::{self, Frame};
use crate::replica::membership::members_of;

/// The files of a log.
pub fn log(bytes: &[u8]) {
    crate::log::fuzz(bytes);
}

/// What a peer sends; what decodes is also given to a replica.
pub fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((frame, len))) = frames::take(rest) {
        assert!(len > 0 && len <= rest.len());
        rest = &rest[len..];
        match frame {
            Frame::Paxos(message) => message_of_a_peer(&message),
            Frame::Control(control) => {
                let mut bytes = Vec::new();
                frames::put_control(&control, &mut bytes);
                assert!(matches!(frames::take(&bytes), Ok(Some((Frame::Control(_), _)))));
            }
            Frame::Hello(_) | Frame::Piece(_) => {}
        }
    }
}

fn message_of_a_peer(message: &Message) {
    let mut bytes = Vec::new();
    wire::encode(message, &mut bytes).expect("a Vec takes all");
    assert_eq!(wire::decode(&bytes).as_ref(), Ok(message));
    if let Message::Accept { entries, .. } = message {
        entries.iter().for_each(|one| entry(&one.value));
    }
    let mut paxos = Paxos::new(Config::new(1, vec![1, 2, 3], 1), Recovered::default(), 0);
    let mut outputs = Vec::new();
    for input in [Input::PeerConnected(2), Input::Message { from: 2, message: message.clone() }, Input::Tick]
    {
        paxos.step(1, input, &mut outputs);
        paxos.flush(1, &mut outputs);
    }
}

/// An entry of the log with its events.
pub fn entry(bytes: &[u8]) {
    let _ = members_of(bytes);
    let Ok(entry) = dmt::entry::Entry::parse(bytes) else { return };
    let count = entry.events().inspect(|event| assert!(event.payload.len() <= bytes.len())).count();
    assert!(entry.genesis().is_none() || count == 0);
}

/// Messages between the processes of one machine, and the control socket.
pub fn control(bytes: &[u8]) {
    fn of<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
        if let Ok(message) = postcard::from_bytes::<T>(bytes) {
            let again = postcard::to_stdvec(&message).expect("what was read can be written");
            assert!(postcard::from_bytes::<T>(&again).is_ok());
        }
    }
    of::<Request>(bytes);
    of::<Reply>(bytes);
    of::<ToReplica>(bytes);
    of::<FromReplica>(bytes);
    of::<crate::container::Report>(bytes);
    of::<crate::container::criu::Word>(bytes);
}

/// `cluster.toml` and `cluster.json`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(file) = ClusterFile::parse(text, Path::new("cluster.toml")) {
        let again = file.text().expect("what was read can be written");
        assert!(ClusterFile::parse(&again, Path::new("cluster.toml")).is_ok());
        let _ = (file.cluster(Path::new("cluster.toml")), file.publications(1));
    }
    let _ = Cluster::parse(bytes, Path::new("state"));
    let _ = Cluster::parse(with_sums(text).as_bytes(), Path::new("state"));
}

/// Files of a checkpoint: its manifest, where it joins the log, and the listing that a peer sends.
pub fn checkpoint(bytes: &[u8]) {
    let _ = Manifest::parse(bytes, "manifest".into());
    let line: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\n').collect();
    let sum = format!("\n{:08x}\n", crc32fast::hash(&line));
    if let Ok(manifest) = Manifest::parse(&[&line, sum.as_bytes()].concat(), "manifest".into()) {
        let _ = (manifest.id(), manifest.bytes());
    }
    crate::checkpoint::fuzz_listing(bytes);
    let place = Place { next: 0, last_entry: 0, tick: 0, digest: 0 };
    let _ = LogEnd::parse(bytes, &place, "log-end".into());
}
