//! What the server tells us: entries that it made, outputs, digests, listeners, its end.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dmt::bounds::UPCALL_RING_BYTES;
use dmt::entry::{ENTRY_HEADER_BYTES, EntryHeader};
use dmt::upcall::{ADMITTED, UpcallHeader, UpcallKind};
use zerocopy::FromBytes;

use super::digests::Digest;
use super::outputs::Item;
use super::run::{Phase, Replica};
use super::status::{Listener, ServerExit};

/// Bytes freed in the upcall ring after which the server is woken, because it may wait for room.
const ROOM_NEWS_BYTES: u64 = UPCALL_RING_BYTES as u64 / 4;

impl Replica {
    /// Handles all upcalls that wait.
    pub(super) fn drain_upcalls(&mut self) {
        let mut first = None;
        let mut last = 0;
        while let Some(server) = &mut self.server {
            let Some(upcall) = server.link.next_upcall() else { break };
            let (kind, header) = (upcall.kind, *upcall.header);
            last = upcall.end;
            first.get_or_insert(last);
            if kind == UpcallKind::Output {
                self.outputs.push_bytes(self.current_entry, header.a.get(), upcall.payload);
                continue;
            }
            let payload = upcall.payload.to_vec();
            self.upcall(kind, &header, &payload);
        }
        let (Some(first), Some(server)) = (first, &mut self.server) else { return };
        server.link.release_upcall(last);
        self.wake |= last - first > ROOM_NEWS_BYTES;
        // Outputs of entries that were decided long ago need no further decision.
        let mut changed = Vec::new();
        let committed = self.consensus.paxos().commit();
        self.outputs.release(committed, |connection| changed.push(connection));
        self.write_released(changed);
    }

    fn upcall(&mut self, kind: UpcallKind, header: &UpcallHeader, payload: &[u8]) {
        let (a, b, c) = (header.a.get(), header.b.get(), header.c.get());
        match kind {
            UpcallKind::Applied => {
                self.current_entry = a;
                if header.flags.get() & ADMITTED != 0 {
                    self.admitted(payload, c, header.d.get());
                }
            }
            UpcallKind::Output => {}
            UpcallKind::OutputEnd => {
                self.outputs.push_mark(self.current_entry, a, Item::End { reset: c != 0 });
            }
            UpcallKind::Closed => {
                self.given.closed(a);
                self.outputs.push_mark(self.current_entry, a, Item::Closed);
            }
            UpcallKind::Consumed => self.clients.consumed(&self.poll, a, b),
            UpcallKind::Digest => self.own_digest(Digest { entry: a, tick: b, value: c }),
            UpcallKind::Listen => self.listens(a, b as u16, (c as u32, header.d.get() != 0), payload),
            UpcallKind::Unlisten => {
                self.status.listeners.retain(|listener| listener.id != a);
                self.watch_ports();
                self.status_at = 0;
            }
            UpcallKind::Exited => {
                self.status.server_exit = Some(ServerExit { wait_status: a as i32 });
                tracing::warn!("the server ended with wait status {a}");
                self.status_at = 0;
            }
            UpcallKind::Diverged => self.diverged(a, b, &String::from_utf8_lossy(payload)),
            UpcallKind::Log if a == 0 => tracing::info!("server: {}", String::from_utf8_lossy(payload)),
            UpcallKind::Log => tracing::warn!("server: {}", String::from_utf8_lossy(payload)),
        }
    }

    /// The server made an entry and applied it: it is proposed as it is, or the server's state is worthless (I4).
    fn admitted(&mut self, head: &[u8], from: u64, to: u64) {
        let Some(server) = &mut self.server else { return };
        let Ok((header, _)) = EntryHeader::ref_from_prefix(head) else { return };
        let index = header.index.get();
        let Phase::Leading { ballot } = self.phase else {
            self.rebuild = Some(format!("its server made entry {index} when it led no more"));
            return;
        };
        if header.ballot.get() != ballot || index != self.given.next() {
            self.rebuild = Some(format!("its server made entry {index} for another leadership"));
            return;
        }
        let mut value = Vec::with_capacity(ENTRY_HEADER_BYTES + header.events_len.get() as usize);
        value.extend_from_slice(head);
        server.link.pending_range(from, to, |event| value.extend_from_slice(event));
        server.link.release_pending(to);
        let value: std::sync::Arc<[u8]> = value.into();
        match self.consensus.propose(index, value.clone()) {
            Ok(()) => self.given.give(&value, false),
            Err(error) => self.rebuild = Some(format!("entry {index} was not proposed: {error}")),
        }
    }

    fn listens(&mut self, id: u64, port: u16, (backlog, v6_only): (u32, bool), address: &[u8]) {
        // IPv4 comes as IPv4-mapped IPv6.
        let address = Ipv6Addr::from(address.first_chunk::<16>().copied().unwrap_or_default());
        let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
        let listener = Listener { id, port, backlog, address, v6_only };
        tracing::info!("the server listens on {}", SocketAddr::new(address, port));
        self.status.listeners.push(listener);
        self.watch_ports();
        self.status_at = 0;
    }
}
