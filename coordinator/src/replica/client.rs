//! One connection of a leader: what was read becomes events in their order, what is released is written.

use std::io::ErrorKind;
use std::net::SocketAddr;

use dmt::entry::{ConnectInfo, EventKind};
use nix::sys::epoll::EpollFlags;
use zerocopy::little_endian::{U16, U32};

use super::datagrams::mapped;
use super::flow::Flow;
use super::intake::{Intake, event};
use super::outputs::{Outbox, Outputs};
use super::socket::Socket;

/// A connection and what is due for it.
#[derive(Debug)]
pub(super) struct Client<S> {
    pub(super) id: u64,
    pub(super) socket: S,
    /// The connection to another host does not stand yet.
    pub(super) connecting: bool,
    pub(super) sequence: u64,
    pub(super) flow: Flow,
    pub(super) watches: EpollFlags,
    /// Nothing more will be read.
    pub(super) input_over: bool,
    /// A `PeerClosed` event must still be queued.
    pub(super) close_due: bool,
    /// A `PeerReset` event must still be queued; the connection is forgotten then.
    pub(super) reset_due: bool,
    /// FIN was sent.
    pub(super) ended: bool,
    /// FIN came, too. The kernel reports that whatever is watched for, so nothing is unless there is something to read.
    pub(super) over: bool,
    /// It is in the epoll.
    pub(super) watched: bool,
}

impl<S> Client<S> {
    /// A client whose `Connect` event was the first.
    pub(super) fn new(id: u64, socket: S) -> Self {
        Self {
            id,
            socket,
            connecting: false,
            sequence: 1,
            flow: Flow::default(),
            watches: EpollFlags::EPOLLIN,
            input_over: false,
            close_due: false,
            reset_due: false,
            ended: false,
            over: false,
            watched: true,
        }
    }
}

/// Queues an event; false if there was no room.
pub(super) fn put<S: Socket>(
    client: &mut Client<S>,
    intake: &mut dyn Intake,
    id: u64,
    kind: EventKind,
    arg: u64,
    payload: &[u8],
) -> bool {
    let taken = intake.put(&event(kind, id, client.sequence, arg, payload.len()), payload);
    client.sequence += u64::from(taken);
    taken
}

/// One read, straight into one event. The caller made sure that the intake has room.
pub(super) fn read<S: Socket>(client: &mut Client<S>, intake: &mut dyn Intake, buffer: &mut [u8]) {
    let budget = client.flow.read_budget().min(buffer.len());
    if budget == 0 {
        return;
    }
    match client.socket.read(&mut buffer[..budget]) {
        Ok(0) => {
            client.input_over = true;
            client.close_due = true;
        }
        Ok(count) => {
            let taken = put(client, intake, client.id, EventKind::Data, 0, &buffer[..count]);
            assert!(taken, "the intake had room for the longest event");
            client.flow.pushed(count);
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        Err(_) => client.reset_due = true,
    }
}

/// Writes what is released, then FIN if the server is through.
pub(super) fn flush<S: Socket>(client: &mut Client<S>, outputs: &mut Outputs) {
    let Some(outbox) = outputs.get_mut(client.id) else { return };
    if client.connecting {
        return;
    }
    while !outbox.ready().is_empty() && !client.reset_due {
        match client.socket.write(outbox.ready()) {
            Ok(count) => {
                outbox.take(count);
                client.flow.taken(count);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => client.reset_due = true,
        }
    }
    if outbox.end == Some(false) && outbox.is_empty() && !std::mem::replace(&mut client.ended, true) {
        client.socket.send_fin();
    }
}

/// True if the server dropped the connection and all it wrote is with the kernel: dropping the socket closes it then.
pub(super) fn server_is_done<S: Socket>(client: &Client<S>, outputs: &mut Outputs, id: u64) -> bool {
    let Some(outbox) = outputs.get_mut(id) else { return true };
    if outbox.end == Some(true) {
        client.socket.reset_on_close();
        return true;
    }
    let done = outbox.closed && outbox.is_empty();
    if done {
        client.socket.finish_on_close();
    }
    done
}

/// Watches the socket for what can be done.
pub(super) fn watch<S: Socket>(
    client: &mut Client<S>,
    poll: &S::Poll,
    number: u64,
    parked: bool,
    outbox: Option<&mut Outbox>,
) {
    if client.reset_due {
        return;
    }
    let mut wanted = client.watches & EpollFlags::EPOLLOUT;
    if client.connecting {
        wanted.set(EpollFlags::EPOLLOUT, !parked);
    } else if let Some(outbox) = outbox {
        wanted.set(EpollFlags::EPOLLOUT, !outbox.ready().is_empty());
    }
    let reads = !client.connecting && !client.input_over && !parked && client.flow.read_budget() > 0;
    wanted.set(EpollFlags::EPOLLIN, reads);
    if client.over && !reads {
        if std::mem::take(&mut client.watched) {
            client.socket.unwatch(poll);
        }
        return;
    }
    if !client.watched {
        client.watched = client.socket.watch(poll, number, wanted).is_ok();
        client.watches = wanted;
    } else if wanted != client.watches {
        client.watches = wanted;
        client.socket.rewatch(poll, number, wanted);
    }
}

/// What the server is told of a connection's ends.
pub(super) fn connect_info(peer: SocketAddr, local: SocketAddr, server_port: u16) -> ConnectInfo {
    ConnectInfo {
        peer_address: mapped(peer.ip()),
        local_address: mapped(local.ip()),
        peer_port: U16::new(peer.port()),
        local_port: U16::new(server_port),
        reserved: U32::new(0),
    }
}
