//! Pipes, unix sockets, events, timers, descriptors.

use crate::bounds::PIPE_BYTES;
use crate::call::Call;
use crate::file::abi::*;
use crate::file::tests::World;
use crate::testing::Server;

fn unix(name: &[u8]) -> Vec<u8> {
    [&1u16.to_le_bytes()[..], name].concat()
}

fn pipe(world: &World, fd: i32, flags: i32) {
    let mut files = [0; 2];
    assert_eq!(world.call().pipe(flags, &mut files), 0);
    world.install(fd, i64::from(files[0]));
    world.install(fd + 1, i64::from(files[1]));
}

#[test]
fn pipes_are_bounded_atomic_and_end() {
    let world = World::new();
    pipe(&world, 3, O_NONBLOCK);
    assert_eq!(world.read(3, 5), Err(EAGAIN));
    assert_eq!(world.write(4, &vec![1; 1 << 20]), PIPE_BYTES as i64);
    assert_eq!(world.read(3, 100).unwrap().len(), 100);
    // 100 bytes of room: a short write is all or nothing.
    assert_eq!(world.write(4, &[2; 101]), -EAGAIN);
    assert_eq!(world.write(4, &[2; 100]), 100);
    assert_eq!(world.write(3, b"x"), -EBADF);
    assert_eq!(world.read(4, 1), Err(EBADF));
    assert_eq!(world.call().close_fd(4), 0);
    assert_eq!(world.read(3, 1 << 20).unwrap().len() as u64, PIPE_BYTES);
    assert_eq!(world.read(3, 1).unwrap(), b"");
    pipe(&world, 5, 0);
    assert_eq!(world.call().close_fd(5), 0);
    assert_eq!(world.write(6, b"x"), -EPIPE);
    world.end(&[3, 6]);
}

#[test]
fn threads_block_on_a_pipe_and_wake_each_other() {
    let (server, mut link) = Server::leader(100);
    const TOTAL: usize = 300_000;
    let open = |call: &Call<'_>| {
        if !call.is_virtual(3) {
            let mut files = [0; 2];
            assert_eq!(call.pipe(0, &mut files), 0);
            call.install(3, files[0], false);
            call.install(4, files[1], false);
        }
    };
    let write = move |call: &Call<'_>| {
        open(call);
        let data: Vec<u8> = (0..TOTAL).map(|i| i as u8).collect();
        let iov = [IoVec { base: data.as_ptr().cast_mut(), len: TOTAL }];
        // SAFETY: the data is this thread's own.
        assert_eq!(unsafe { call.write(4, &iov) }, TOTAL as i64);
        assert_eq!(call.close_fd(4), 0);
    };
    let read = move |call: &Call<'_>| {
        open(call);
        let (mut at, mut bytes) = (0usize, vec![0u8; 7001]);
        loop {
            let iov = [IoVec { base: bytes.as_mut_ptr(), len: bytes.len() }];
            // SAFETY: the buffer is this thread's own.
            let got = unsafe { call.read(3, &iov) };
            assert!(got >= 0);
            if got == 0 {
                break;
            }
            assert!(bytes[..got as usize].iter().enumerate().all(|(i, &b)| b == (at + i) as u8));
            at += got as usize;
        }
        assert_eq!(at, TOTAL);
        assert_eq!(call.close_fd(3), 0);
    };
    server.run(&mut link, vec![Box::new(write), Box::new(read)]);
    // SAFETY: the threads have ended.
    let kernel = unsafe { &*server.arena.kernel() };
    assert_eq!((kernel.files.used(), kernel.files.pool_used()), (0, 0));
}

#[test]
fn a_socketpair_carries_bytes_both_ways() {
    let world = World::new();
    let mut files = [0; 2];
    assert_eq!(world.call().socket_pair(AF_INET, SOCK_STREAM, 0, &mut files), -EOPNOTSUPP);
    assert_eq!(world.call().socket_pair(AF_UNIX, SOCK_STREAM, 0, &mut files), 0);
    world.install(3, i64::from(files[0]));
    world.install(4, i64::from(files[1]));
    assert_eq!(world.write(3, b"a"), 1);
    assert_eq!(world.write(4, b"b"), 1);
    assert_eq!((world.read(4, 9).unwrap(), world.read(3, 9).unwrap()), (b"a".to_vec(), b"b".to_vec()));
    assert_eq!(world.call().close_fd(3), 0);
    assert_eq!(world.read(4, 9).unwrap(), b"");
    assert_eq!(world.write(4, b"x"), -EPIPE);
    world.end(&[4]);
}

#[test]
fn seqpackets_keep_their_boundaries() {
    let world = World::new();
    let mut files = [0; 2];
    assert_eq!(world.call().socket_pair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, &mut files), 0);
    world.install(3, i64::from(files[0]));
    world.install(4, i64::from(files[1]));
    assert_eq!((world.write(3, b"first"), world.write(3, b"second")), (5, 6));
    assert_eq!(world.read(4, 3).unwrap(), b"fir");
    assert_eq!(world.receive(4, 30, MSG_PEEK).unwrap(), b"second");
    assert_eq!(world.read(4, 30).unwrap(), b"second");
    assert_eq!(world.read(4, 30), Err(EAGAIN));
    assert_eq!(world.write(3, &vec![0; 70_000]), -EMSGSIZE);
    while world.write(3, &[1; 1000]) > 0 {}
    assert_eq!(world.call().close_fd(4), 0);
    assert_eq!(world.read(3, 1).unwrap(), b"");
    world.end(&[3]);
}

#[test]
fn unix_sockets_are_found_by_name() {
    let world = World::new();
    let call = world.call();
    for name in [&b"/run/db.sock"[..], b"\0abstract"] {
        world.install(3, call.socket(AF_UNIX, SOCK_STREAM, 0));
        world.install(4, call.socket(AF_UNIX, SOCK_STREAM, 0));
        assert_eq!(call.connect(4, &unix(name)), -ECONNREFUSED);
        assert_eq!(call.bind(3, &unix(name)), 0);
        assert_eq!(call.connect(4, &unix(name)), -ECONNREFUSED);
        assert_eq!(call.listen(3, 5), 0);
        // A path counts with and without its final NUL.
        let padded = [&unix(name)[..], if name[0] == 0 { b"" } else { b"\0\0" }].concat();
        assert_eq!(call.connect(4, &padded), 0);
        let file = call.accept(3, 0, &mut { SocketAddress::NONE });
        world.install(5, file);
        assert_eq!(world.write(5, b"hi"), 2);
        assert_eq!(world.read(4, 9).unwrap(), b"hi");
        world.end(&[3, 4, 5]);
    }
}

#[test]
fn datagrams_go_to_a_name() {
    let world = World::new();
    let call = world.call();
    world.install(3, call.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    world.install(4, call.socket(AF_UNIX, SOCK_DGRAM, 0));
    assert_eq!(call.bind(3, &unix(b"/dev/log")), 0);
    assert_eq!(world.write(4, b"x"), -ENOTCONN);
    assert_eq!(call.connect(4, &unix(b"/dev/log")), 0);
    assert_eq!(world.write(4, b"one line"), 8);
    assert_eq!(world.read(3, 99).unwrap(), b"one line");
    assert_eq!(call.close_fd(3), 0);
    assert_eq!(world.write(4, b"x"), -ECONNREFUSED);
    world.end(&[4]);
}

#[test]
fn udp_tells_that_nobody_is_there() {
    let world = World::new();
    let call = world.call();
    world.install(3, call.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    assert_eq!(call.connect(3, &crate::file::tests::inet(53)), 0);
    let mut name = SocketAddress::NONE;
    assert_eq!(call.socket_name(3, &mut name), 0);
    assert_eq!(name.bytes()[4..8], [127, 0, 0, 1]);
    assert_eq!(world.write(3, b"query"), 5);
    assert_eq!(world.read(3, 9), Err(ECONNREFUSED), "nobody has that port");
    assert_eq!(world.read(3, 9), Err(EAGAIN));
    world.end(&[3]);
}

#[test]
fn eventfds_count() {
    let world = World::new();
    let call = world.call();
    world.install(3, call.eventfd(2, O_NONBLOCK));
    world.install(4, call.eventfd(2, O_NONBLOCK | EFD_SEMAPHORE));
    for (fd, values) in [(3, &[5u64][..]), (4, &[1, 1, 1, 1, 1])] {
        assert_eq!(world.write(fd, &3u64.to_le_bytes()), 8);
        for value in values {
            assert_eq!(world.read(fd, 8).unwrap(), value.to_le_bytes());
        }
        assert_eq!(world.read(fd, 8), Err(EAGAIN));
    }
    assert_eq!(world.write(3, &u64::MAX.to_le_bytes()), -EINVAL);
    assert_eq!(world.write(3, &(u64::MAX - 1).to_le_bytes()), 8);
    assert_eq!(world.write(3, &1u64.to_le_bytes()), -EAGAIN);
    assert_eq!(world.read(3, 7), Err(EINVAL));
    world.end(&[3, 4]);
}

#[test]
fn timerfds_fire_and_repeat() {
    let world = World::new();
    let call = world.call();
    world.install(3, call.timerfd(CLOCK_MONOTONIC, 0));
    let mut old = TimerSpec::default();
    let new = TimerSpec { interval: 10_000_000, value: 5_000_000 };
    assert_eq!(call.timerfd_settime(3, 0, new, &mut old), 0);
    assert_eq!(old, TimerSpec::default());
    assert_eq!(world.read(3, 8).unwrap(), 1u64.to_le_bytes());
    assert_eq!(world.read(3, 8).unwrap(), 1u64.to_le_bytes());
    assert_eq!(call.timerfd_gettime(3, &mut old), 0);
    assert!(old.interval == 10_000_000 && old.value > 0 && old.value <= 10_000_000, "{old:?}");
    assert_eq!(call.poll(&mut [], Some(100_000_000), None), 0);
    let late = world.read(3, 8).unwrap();
    assert!((9..=11).contains(&late[0]), "{late:?}");
    // Absolute on the monotonic clock.
    let at = world.kernel(|k| k.monotonic()) + 7_000_000;
    assert_eq!(call.timerfd_settime(3, TFD_TIMER_ABSTIME, TimerSpec { interval: 0, value: at }, &mut old), 0);
    assert_eq!(world.read(3, 8).unwrap(), 1u64.to_le_bytes());
    assert!(world.kernel(|k| k.monotonic()) >= at);
    assert_eq!(call.timerfd_settime(3, 0, TimerSpec { interval: 0, value: 1 << 60 }, &mut old), 0);
    world.end(&[3]);
    assert_eq!(world.kernel(|k| k.timers.earliest()), None);
}

#[test]
fn randomness_is_the_streams() {
    let (world, other) = (World::new(), World::new());
    let read = |world: &World| {
        world.install(3, world.call().random_file(O_RDONLY, 0x109));
        world.read(3, 333).unwrap()
    };
    let bytes = read(&world);
    assert_eq!(bytes, read(&other));
    assert_ne!(bytes[..100], bytes[100..200]);
    assert_eq!(world.call().close_fd(3), 0);
    world.end(&[]);
}

#[test]
fn forks_share_files_and_exec_closes_some() {
    let world = World::new();
    let call = world.call();
    pipe(&world, 3, O_NONBLOCK);
    assert_eq!(call.set_close_on_exec(4, true), 0);
    assert_eq!((call.close_on_exec(3), call.close_on_exec(4)), (0, 1));
    assert_eq!(call.dup_fd(3, 7, true), 7);
    // SAFETY: the arena lives as long as the World.
    let shared = unsafe { &(*world.arena).shared };
    world.kernel(|k| k.fork_descriptors(1, 2));
    assert_eq!(call.close_range(3, 4), 0);
    assert_eq!(world.write(4, b"x"), -EBADF);
    assert_eq!(world.read(7, 9), Err(EAGAIN), "the child still writes");
    world.kernel(|k| k.exec_descriptors(shared, 2));
    assert_eq!(world.read(7, 9).unwrap(), b"", "the child's writing end was close-on-exec");
    world.kernel(|k| k.exit_descriptors(shared, 2));
    world.end(&[7]);
}

#[test]
fn the_end_of_a_process_ends_its_waits() {
    let world = World::new();
    pipe(&world, 3, O_NONBLOCK);
    world.kernel(|k| k.fork_descriptors(1, 2));
    // A thread of the child waits in a write, whose reference is all that keeps the end open.
    let thread = world.kernel(|k| {
        let thread = k.threads.allocate(2).unwrap();
        let file = k.descriptor(thread, 4).unwrap();
        k.hold_file(file);
        k.threads.get_mut(thread).held_file = file;
        thread
    });
    assert_eq!(world.call().close_fd(4), 0);
    assert_eq!(world.read(3, 1), Err(EAGAIN));
    // SAFETY: the arena lives as long as the World.
    let shared = unsafe { &(*world.arena).shared };
    world.kernel(|k| {
        k.exit_descriptors(shared, 2);
        k.threads.release(thread);
    });
    assert_eq!(world.read(3, 1).unwrap(), b"");
    world.end(&[3]);
}
