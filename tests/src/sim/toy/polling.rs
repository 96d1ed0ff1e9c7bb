//! The thread that accepts clients and reads: requests go to the workers, datagrams are answered at once.

use dmt::file::abi::{
    AF_INET, EAGAIN, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EpollEvent, IoVec, O_NONBLOCK, Place, SOCK_DGRAM,
    SOCK_STREAM, SocketAddress,
};
use dmt::file::io::Message;
use dmt::file::passed::Parcel;

use super::{BULK_BYTES, Connection, DATAGRAM_PORT, Job, PORT, REQUEST_BYTES, Thread, UPLOAD, internet};

const EPOLLIN: u32 = 1;

impl Thread<'_> {
    pub(super) fn poll(&self) {
        let listener = self.install(self.call.socket(AF_INET, SOCK_STREAM | O_NONBLOCK, 0));
        assert_eq!(self.call.bind(listener, &internet([0; 4], PORT)), 0);
        assert_eq!(self.call.listen(listener, 64), 0);
        let datagrams = self.install(self.call.socket(AF_INET, SOCK_DGRAM | O_NONBLOCK, 0));
        assert_eq!(self.call.bind(datagrams, &internet([0; 4], DATAGRAM_PORT)), 0);
        let epoll = self.install(self.call.epoll_create());
        self.watch(epoll, listener);
        self.watch(epoll, datagrams);
        let mut events = [EpollEvent::default(); 8];
        loop {
            let found = self.call.epoll_wait(epoll, &mut events, self.toy().config.epoll_timeout, None);
            assert!(found >= 0, "epoll_wait failed: {found}");
            self.compute(500);
            for event in &events[..found as usize] {
                let fd = event.data as i32;
                match fd {
                    _ if fd == listener => self.accept(epoll, listener),
                    _ if fd == datagrams => self.answer_datagrams(fd),
                    _ => self.read(epoll, fd),
                }
            }
        }
    }

    /// Answers each datagram that waits with its id and the number of those that have come.
    fn answer_datagrams(&self, fd: i32) {
        loop {
            let (mut bytes, mut from) = ([0u8; 16], SocketAddress::NONE);
            let iov = [IoVec { base: bytes.as_mut_ptr(), len: 8 }];
            // SAFETY: the vector describes `bytes`, which nobody else knows.
            if unsafe { self.call.receive(fd, &iov, 0, &mut from, &mut 0, None) } != 8 {
                return;
            }
            let toy = self.toy();
            toy.datagrams.push(u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")));
            bytes[8..].copy_from_slice(&(toy.datagrams.len() as u64).to_le_bytes());
            let iov = [IoVec { base: bytes.as_mut_ptr(), len: 16 }];
            let message = Message { flags: 0, to: from.bytes(), place: Place::NONE, parcel: &Parcel::EMPTY };
            // SAFETY: as above.
            assert_eq!(unsafe { self.call.send(fd, &iov, &message) }, 16);
        }
    }

    fn watch(&self, epoll: i32, fd: i32) {
        let event = EpollEvent { events: EPOLLIN, data: fd as u64 };
        assert_eq!(self.call.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, event), 0);
    }

    fn accept(&self, epoll: i32, listener: i32) {
        loop {
            let flags = if self.toy().config.bulk { 0 } else { O_NONBLOCK };
            let file = self.call.accept(listener, flags, &mut { SocketAddress::NONE });
            if file == -EAGAIN {
                return;
            }
            let fd = self.install(file);
            self.toy().connections.push(Connection { fd, input: Vec::new(), jobs: 0, ended: false });
            self.watch(epoll, fd);
        }
    }

    fn read(&self, epoll: i32, fd: i32) {
        let mut bytes = [0u8; 8192];
        let len = if self.toy().config.bulk { bytes.len() } else { 100 };
        let iov = [IoVec { base: bytes.as_mut_ptr(), len }];
        // SAFETY: the vector describes `bytes`, which nobody else knows.
        let count = unsafe { self.call.read(fd, &iov) };
        if count == -EAGAIN {
            return;
        }
        self.compute(1_000);
        if count <= 0 {
            assert_eq!(self.call.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, EpollEvent::default()), 0);
            self.lock(self.queue_lock());
            self.connection(fd).ended = true;
            self.close_if_done(fd);
            self.unlock(self.queue_lock());
            return;
        }
        self.lock(self.queue_lock());
        let connection = self.connection(fd);
        connection.input.extend_from_slice(&bytes[..count as usize]);
        let mut jobs = Vec::new();
        while connection.input.len() >= REQUEST_BYTES {
            let request = connection.input[..REQUEST_BYTES].to_vec();
            let word = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().expect("eight bytes"));
            let len = REQUEST_BYTES + if word(0) == UPLOAD { BULK_BYTES } else { 0 };
            if connection.input.len() < len {
                break;
            }
            connection.input.drain(..len);
            jobs.push(Job { fd, kind: word(0), id: word(8) });
        }
        connection.jobs += jobs.len();
        let added = jobs.len();
        self.toy().queue.extend(jobs);
        for _ in 0..added {
            self.signal(false);
        }
        self.unlock(self.queue_lock());
    }

    #[allow(clippy::mut_from_ref)]
    pub(super) fn connection(&self, fd: i32) -> &mut Connection {
        self.toy().connections.iter_mut().find(|c| c.fd == fd).expect("the connection is open")
    }

    pub(super) fn close_if_done(&self, fd: i32) {
        let connection = self.connection(fd);
        if connection.ended && connection.jobs == 0 {
            self.toy().connections.retain(|c| c.fd != fd);
            self.close(fd);
        }
    }
}
