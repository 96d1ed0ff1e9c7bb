//! The leader's connections, those of clients and those that the server asked for: bytes in become events, committed bytes
//! go out.
//!
//! Memory is bounded: input stands in the pending ring only (a connection is not read when its window or the ring is
//! full), output in [`Outputs`], which the server's send window bounds for each connection.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpStream;

use dmt::bounds::{MAX_CONNECTIONS, MAX_EVENT_BYTES};
use dmt::entry::{CONNECTION_NUMBER_BITS, ConnectInfo, EventKind, OUTBOUND_CONNECTION};
use nix::sys::epoll::EpollFlags;
use zerocopy::IntoBytes;

use super::client::{Client, connect_info, flush, put, read, server_is_done, watch};
use super::intake::{Intake, event};
use super::outputs::Outputs;
use super::poll::Ready;
use super::socket::Socket;

/// Client connections at the same time; more are closed at once.
pub const MAX_CLIENTS: usize = MAX_CONNECTIONS - 256;
/// Ids of clients' connections are `ballot << NUMBER_BITS | number`.
pub const NUMBER_BITS: u32 = CONNECTION_NUMBER_BITS;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// See the module.
#[derive(Debug)]
pub struct Clients<S: Socket = TcpStream> {
    ballot: u64,
    next: u64,
    clients: BTreeMap<u64, Client<S>>,
    /// Numbers of the connections that the server asked for, by id.
    outbound: BTreeMap<u64, u64>,
    /// Connections that could not be made, and why (errno): a `Refused` event is due.
    failed: BTreeMap<u64, i32>,
    /// Clients with an event that is due.
    due: BTreeSet<u64>,
    /// Clients that have something to read, while reading is paused.
    parked: BTreeSet<u64>,
    buffer: Box<[u8]>,
    /// Connections refused so far.
    pub refused: u64,
}

impl<S: Socket> Default for Clients<S> {
    fn default() -> Self {
        Self {
            ballot: 0,
            next: 1,
            clients: BTreeMap::new(),
            outbound: BTreeMap::new(),
            failed: BTreeMap::new(),
            due: BTreeSet::new(),
            parked: BTreeSet::new(),
            buffer: vec![0; MAX_EVENT_BYTES].into(),
            refused: 0,
        }
    }
}

impl<S: Socket> Clients<S> {
    /// Starts to take clients under `ballot`; connections of before are closed. Numbers go on if the ballot is the same.
    pub fn begin(&mut self, ballot: u64) {
        self.close_all();
        if self.ballot != ballot {
            self.ballot = ballot;
            self.next = 1;
        }
    }

    /// Closes all connections without a word to the server.
    pub fn close_all(&mut self) {
        self.clients.clear();
        self.outbound.clear();
        self.failed.clear();
        self.due.clear();
        self.parked.clear();
    }

    /// Clients' open connections.
    pub fn count(&self) -> usize {
        self.clients.len() - self.outbound.len()
    }

    /// Connections to other hosts.
    pub fn outbound_count(&self) -> usize {
        self.outbound.len()
    }

    fn number(&self, id: u64) -> Option<u64> {
        if id & OUTBOUND_CONNECTION != 0 {
            return self.outbound.get(&id).copied();
        }
        (id >> NUMBER_BITS == self.ballot).then_some(id & NUMBER_MASK)
    }

    /// A free number. After 2^24 connections in one leadership numbers come again, those in use are passed over.
    fn take_number(&mut self) -> u64 {
        loop {
            let number = self.next;
            self.next = if number == NUMBER_MASK { 1 } else { number + 1 };
            if !self.clients.contains_key(&number) {
                return number;
            }
        }
    }

    /// Takes a new connection to listener `listener` of the server.
    pub fn open(
        &mut self,
        poll: &S::Poll,
        intake: &mut dyn Intake,
        outputs: &mut Outputs,
        socket: S,
        listener: (u64, u16),
    ) {
        if self.count() >= MAX_CLIENTS {
            self.refused += 1;
            return;
        }
        let Ok((peer, local)) = socket.prepare() else { return };
        let number = self.take_number();
        let id = self.ballot << NUMBER_BITS | number;
        let info = connect_info(peer, local, listener.1);
        if socket.watch(poll, number, EpollFlags::EPOLLIN).is_err() {
            return;
        }
        let head = event(EventKind::Connect, id, 0, listener.0, size_of::<ConnectInfo>());
        if !intake.put(&head, info.as_bytes()) {
            return;
        }
        outputs.open(id);
        self.clients.insert(number, Client::new(id, socket));
    }

    /// Takes what came of the attempt to connect to another host for `connection`, whose outputs are open.
    pub fn dialled(
        &mut self,
        poll: &S::Poll,
        intake: &mut dyn Intake,
        outputs: &mut Outputs,
        connection: u64,
        socket: io::Result<S>,
    ) {
        let number = self.take_number();
        let watched = socket.and_then(|socket| {
            socket.watch(poll, number, EpollFlags::EPOLLOUT)?;
            Ok(socket)
        });
        match watched {
            Ok(socket) => {
                let mut client = Client::new(connection, socket);
                (client.connecting, client.sequence) = (true, 0);
                client.watches = EpollFlags::EPOLLOUT;
                self.clients.insert(number, client);
                self.outbound.insert(connection, number);
            }
            Err(error) => self.fail_dial(intake, outputs, connection, &error),
        }
    }

    fn fail_dial(
        &mut self,
        intake: &mut dyn Intake,
        outputs: &mut Outputs,
        connection: u64,
        error: &io::Error,
    ) {
        outputs.drop_connection(connection);
        self.failed.insert(connection, error.raw_os_error().unwrap_or(libc::ECONNREFUSED));
        self.tell_failed(intake);
    }

    fn tell_failed(&mut self, intake: &mut dyn Intake) {
        self.failed
            .retain(|&id, &mut errno| !intake.put(&event(EventKind::Refused, id, 0, errno as u64, 0), &[]));
    }

    /// Something happened to a connection that is being made: it stands, or cannot be made.
    fn finish_dial(&mut self, intake: &mut dyn Intake, outputs: &mut Outputs, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if !intake.has_room(size_of::<ConnectInfo>()) {
            self.parked.insert(number);
            return;
        }
        let id = client.id;
        match client
            .socket
            .connected()
            .and_then(|stands| if stands { client.socket.prepare().map(Some) } else { Ok(None) })
        {
            Ok(None) => {}
            Ok(Some((peer, local))) => {
                let info = connect_info(peer, local, local.port());
                put(client, intake, id, EventKind::Connected, 0, info.as_bytes());
                client.connecting = false;
            }
            Err(error) => {
                self.forget(outputs, number);
                self.fail_dial(intake, outputs, id, &error);
            }
        }
    }

    /// Handles an event of a connection. `paused` = nothing may be read now.
    pub fn ready(
        &mut self,
        poll: &S::Poll,
        intake: &mut dyn Intake,
        outputs: &mut Outputs,
        number: u64,
        ready: Ready,
        paused: bool,
    ) {
        if self.clients.get(&number).is_some_and(|client| client.connecting) {
            self.finish_dial(intake, outputs, number);
            return self.settle(poll, intake, outputs, number);
        }
        let Some(client) = self.clients.get_mut(&number) else { return };
        if ready.writable() {
            flush(client, outputs);
        }
        if ready.readable() && !client.input_over && !client.reset_due {
            if paused || !intake.has_room(MAX_EVENT_BYTES) {
                self.parked.insert(number);
            } else {
                read(client, intake, &mut self.buffer);
            }
        }
        let unread = self.parked.contains(&number) || client.flow.read_budget() == 0;
        if client.ended && ready.over() {
            // What is not read yet can be read later, and then comes the end of it.
            client.over = true;
        } else if ready.broken() && (client.input_over || unread) {
            // The client reset, or both directions are over. The kernel reports it whatever we watch for, so it cannot
            // wait until reading goes on.
            client.reset_due = true;
        }
        self.settle(poll, intake, outputs, number);
    }

    /// The server has read `total` bytes of `connection`.
    pub fn consumed(&mut self, poll: &S::Poll, connection: u64, total: u64) {
        let Some(number) = self.number(connection) else { return };
        if let Some(client) = self.clients.get_mut(&number) {
            client.flow.consumed(total);
            watch(client, poll, number, self.parked.contains(&number), None);
        }
    }

    /// Outputs of `connection` were released: writes them.
    pub fn released(
        &mut self,
        poll: &S::Poll,
        intake: &mut dyn Intake,
        outputs: &mut Outputs,
        connection: u64,
    ) {
        let Some(number) = self.number(connection) else { return };
        if let Some(client) = self.clients.get_mut(&number) {
            flush(client, outputs);
            self.settle(poll, intake, outputs, number);
        }
    }

    /// Queues events that had no room, and reads on where reading was paused.
    pub fn resume(&mut self, poll: &S::Poll, intake: &mut dyn Intake, outputs: &mut Outputs, paused: bool) {
        self.tell_failed(intake);
        for number in self.due.iter().copied().collect::<Vec<_>>() {
            self.settle(poll, intake, outputs, number);
        }
        if !paused && intake.has_room(MAX_EVENT_BYTES) {
            for number in std::mem::take(&mut self.parked) {
                if let Some(client) = self.clients.get_mut(&number) {
                    watch(client, poll, number, false, outputs.get_mut(client.id));
                }
            }
        }
    }

    /// True if [`Clients::resume`] has something to do once there is room.
    pub fn waits_for_room(&self) -> bool {
        !self.due.is_empty() || !self.parked.is_empty() || !self.failed.is_empty()
    }

    /// Queues what is due for one connection, ends it if it is over, and sets what it is watched for.
    fn settle(&mut self, poll: &S::Poll, intake: &mut dyn Intake, outputs: &mut Outputs, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else {
            self.due.remove(&number);
            return;
        };
        let id = client.id;
        if server_is_done(client, outputs, id) {
            return self.forget(outputs, number);
        }
        if client.connecting {
            return watch(client, poll, number, self.parked.contains(&number), None);
        }
        if client.reset_due {
            if put(client, intake, id, EventKind::PeerReset, 0, &[]) {
                return self.forget(outputs, number);
            }
            client.socket.unwatch(poll);
            self.due.insert(number);
            return;
        }
        if let Some(total) = client.flow.drained_due()
            && put(client, intake, id, EventKind::Drained, total, &[])
        {
            client.flow.reported(total);
        }
        if client.close_due && put(client, intake, id, EventKind::PeerClosed, 0, &[]) {
            client.close_due = false;
        }
        if client.close_due || client.flow.drained_due().is_some() {
            self.due.insert(number);
        } else {
            self.due.remove(&number);
        }
        watch(client, poll, number, self.parked.contains(&number), outputs.get_mut(id));
    }

    fn forget(&mut self, outputs: &mut Outputs, number: u64) {
        if let Some(client) = self.clients.remove(&number) {
            outputs.drop_connection(client.id);
            self.outbound.remove(&client.id);
        }
        self.due.remove(&number);
        self.parked.remove(&number);
    }
}
