//! What the checkers know of one server's life, read from the arena beside the driver and not told by it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use coordinator::log::MemoryDisk;
use coordinator::replica::driver::Driver;
use dmt::entry::{ConnectInfo, EntryHeader};
use dmt::link::Shared;
use dmt::upcall::{ADMITTED, UPCALL_HEADER_BYTES, UpcallHeader, UpcallKind, listen};
use zerocopy::FromBytes;

use super::check::{Checker, ServerDigest, header, rule};
use super::image::Image;
use super::platform::Admission;

/// Output of a connection: bytes `start..end` were written in the bubble of `entry`.
#[derive(Clone, Copy, Debug)]
struct Tag {
    start: u64,
    end: u64,
    entry: u64,
}

/// See the module.
#[derive(Default)]
pub struct Wiretap {
    cursor: u64,
    /// Entry whose bubble the upcalls read so far belong to.
    bubble: u64,
    /// Entries that the server was given or made, in order.
    applied: Vec<Arc<[u8]>>,
    last: Option<EntryHeader>,
    tags: BTreeMap<u64, VecDeque<Tag>>,
    /// Entries in whose bubbles datagrams were answered, by id.
    answers: BTreeMap<u64, u64>,
    digests: VecDeque<ServerDigest>,
    looks: Vec<Admission>,
    checked: u64,
    /// The port's listener, while the server listens.
    pub listener: Option<u64>,
}

impl Wiretap {
    /// Of a server that was restored from `image`, and all of whose upcalls of before are read.
    pub fn restored(image: &Image, shared: &Shared) -> Self {
        Self {
            cursor: shared.upcalls.tail(),
            bubble: image.held.entry.saturating_sub(1),
            applied: image.entries.clone(),
            last: image.entries.last().map(|value| *header(value)),
            listener: image.listener,
            ..Self::default()
        }
    }

    /// The first `count` entries that the server was given.
    pub fn entries(&self, count: u64) -> Option<&[Arc<[u8]>]> {
        self.applied.get(..count as usize)
    }

    /// Reads the upcalls of the server of replica `id` that the coordinator is about to read. `looks`: at the clock.
    pub fn listen(&mut self, id: u8, shared: &Shared, looks: &mut Vec<Admission>, checker: &mut Checker) {
        self.looks.append(looks);
        // SAFETY: the cursor is the end of a frame that was read here before, and the coordinator releases only what it has
        // read, which is never more than what was read here. Nobody writes meanwhile.
        while let Some(frame) = unsafe { shared.upcalls.peek(self.cursor) } {
            self.cursor = frame.end;
            let (head, payload) = frame.body.split_at(UPCALL_HEADER_BYTES);
            let head = *UpcallHeader::ref_from_bytes(head).expect("an upcall has a header");
            let payload = &payload[..head.len.get() as usize];
            let kind = UpcallKind::from_tag(frame.tag).expect("upcalls have known kinds");
            self.upcall(id, kind, &head, payload, checker);
        }
    }

    fn upcall(
        &mut self,
        id: u8,
        kind: UpcallKind,
        head: &UpcallHeader,
        payload: &[u8],
        checker: &mut Checker,
    ) {
        let (a, b, c) = (head.a.get(), head.b.get(), head.c.get());
        match kind {
            UpcallKind::Applied => {
                self.bubble = a;
                if head.flags.get() & ADMITTED != 0 {
                    let made = *header(payload);
                    if let Some(before) = &self.last {
                        checker.admitted(id, before, &made, &self.looks);
                    }
                    self.looks.retain(|look| look.tick >= made.stamp.get());
                    self.last = Some(made);
                }
            }
            UpcallKind::Output => {
                let tag = Tag { start: b, end: b + payload.len() as u64, entry: self.bubble };
                self.tags.entry(a).or_default().push_back(tag);
            }
            UpcallKind::Listen if head.d.get() & listen::UDP == 0 => self.listener = Some(a),
            UpcallKind::Unlisten if self.listener == Some(a) => self.listener = None,
            UpcallKind::Digest => self.digests.push_back(ServerDigest { entry: a, tick: b, value: c }),
            UpcallKind::Diverged => {
                let why = String::from_utf8_lossy(payload);
                checker.fail(rule::DIVERGED, format!("replica {id} at entry {a}: {why}"));
            }
            UpcallKind::Datagram => {
                let id = payload[size_of::<ConnectInfo>()..][..8].try_into().expect("an id");
                self.answers.insert(u64::from_le_bytes(id), self.bubble);
            }
            UpcallKind::Listen
            | UpcallKind::Unlisten
            | UpcallKind::Dial
            | UpcallKind::Membership
            | UpcallKind::OutputEnd
            | UpcallKind::Closed
            | UpcallKind::Exited
            | UpcallKind::SpinPoint
            | UpcallKind::Signalled
            | UpcallKind::Consumed
            | UpcallKind::Log => {}
        }
    }

    /// Learns what the server was given since the last call: it stands in the replica's log.
    pub fn follow(&mut self, id: u8, driver: &Driver<MemoryDisk>, checker: &mut Checker) {
        while (self.applied.len() as u64) < driver.given() {
            let index = self.applied.len() as u64;
            let value =
                driver.consensus.read(index, index + 1, 1).ok().and_then(|read| read.into_iter().next());
            let Some(value) = value else {
                return checker
                    .fail(rule::RECOVERY, format!("replica {id} gave entry {index}, which its log lacks"));
            };
            let known = self.last.is_some_and(|last| last.index.get() >= index);
            if !known {
                self.last = Some(*header(&value));
            }
            self.applied.push(value);
        }
    }

    /// Bytes `from..to` of the output of `connection` go to its client.
    pub fn released(&mut self, id: u8, connection: u64, from: u64, to: u64, checker: &mut Checker) {
        let Some(tags) = self.tags.get_mut(&connection) else {
            return checker.fail(
                rule::I3_OUTPUT,
                format!("replica {id} sends bytes {from}..{to} of connection {connection:#x} that its server never wrote"),
            );
        };
        while let Some(tag) = tags.front().copied().filter(|tag| tag.start < to) {
            checker.released(id, tag.entry, self.applied.get(tag.entry as usize));
            if tag.end > to {
                break;
            }
            tags.pop_front();
        }
    }

    /// The answer to the datagram with this id leaves.
    pub fn answered(&mut self, id: u8, datagram: u64, checker: &mut Checker) {
        match self.answers.remove(&datagram) {
            Some(entry) => checker.released(id, entry, self.applied.get(entry as usize)),
            None => {
                let detail = format!("replica {id} answers datagram {datagram}, which its server did not");
                checker.fail(rule::I3_OUTPUT, detail);
            }
        }
    }

    /// What must hold after every turn of the replica, which knows that `commit` entries are decided.
    pub fn check(&mut self, id: u8, commit: u64, checker: &mut Checker) {
        checker.lives_on(id, commit, &self.applied, &mut self.checked);
        while let Some(&digest) = self.digests.front() {
            if !checker.digest(id, digest, &self.applied) {
                break;
            }
            self.digests.pop_front();
        }
    }

    /// The `index`-th entry that the server was given.
    pub fn applied(&self, index: u64) -> Option<&Arc<[u8]>> {
        self.applied.get(index as usize)
    }
}
