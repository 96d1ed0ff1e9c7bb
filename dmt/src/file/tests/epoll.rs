//! epoll, poll, select: what is reported when, and how often.

use crate::entry::EventKind;
use crate::file::abi::*;
use crate::file::poll::SelectSets;
use crate::file::tests::World;

fn add(world: &World, epoll: i32, fd: i32, events: u32) -> i64 {
    world.call().epoll_ctl(epoll, EPOLL_CTL_ADD, fd, EpollEvent { events, data: fd as u64 })
}

/// What epoll_wait reports now, as (descriptor, events).
fn ready(world: &World, epoll: i32) -> Vec<(u64, u32)> {
    wait(world, epoll, 64, Some(0))
}

fn wait(world: &World, epoll: i32, most: usize, timeout: Option<u64>) -> Vec<(u64, u32)> {
    let mut events = vec![EpollEvent::default(); most];
    let found = world.call().epoll_wait(epoll, &mut events, timeout, None);
    assert!(found >= 0, "epoll_wait: {found}");
    events[..found as usize].iter().map(|e| ({ e.data }, { e.events })).collect()
}

/// A pipe at descriptors `fd` (read) and `fd + 1` (write).
fn pipe(world: &World, fd: i32) {
    let mut files = [0; 2];
    assert_eq!(world.call().pipe(O_NONBLOCK, &mut files), 0);
    world.install(fd, i64::from(files[0]));
    world.install(fd + 1, i64::from(files[1]));
}

#[test]
fn level_triggered_reports_until_it_is_read() {
    let world = World::new();
    world.install(3, world.call().epoll_create());
    pipe(&world, 4);
    assert_eq!(add(&world, 3, 4, POLLIN), 0);
    assert_eq!(add(&world, 3, 4, POLLIN), -EEXIST);
    assert_eq!(ready(&world, 3), []);
    world.write(5, b"ab");
    assert_eq!(ready(&world, 3), [(4, POLLIN)]);
    assert_eq!(ready(&world, 3), [(4, POLLIN)]);
    world.read(4, 1).unwrap();
    assert_eq!(ready(&world, 3), [(4, POLLIN)]);
    world.read(4, 1).unwrap();
    assert_eq!(ready(&world, 3), []);
    assert_eq!(world.call().close_fd(5), 0);
    assert_eq!(ready(&world, 3), [(4, POLLHUP)]);
    world.end(&[3, 4]);
}

#[test]
fn edge_triggered_reports_each_arrival_once() {
    let world = World::new();
    world.install(3, world.call().epoll_create());
    pipe(&world, 4);
    world.write(5, b"before");
    assert_eq!(add(&world, 3, 4, POLLIN | EPOLLET), 0);
    assert_eq!(ready(&world, 3), [(4, POLLIN)]);
    assert_eq!(ready(&world, 3), []);
    world.write(5, b"again");
    assert_eq!(ready(&world, 3), [(4, POLLIN)]);
    assert_eq!(ready(&world, 3), []);
    // Changing a registration looks anew.
    let event = EpollEvent { events: POLLIN | EPOLLET, data: 44 };
    assert_eq!(world.call().epoll_ctl(3, EPOLL_CTL_MOD, 4, event), 0);
    assert_eq!(ready(&world, 3), [(44, POLLIN)]);
    world.read(4, 100).unwrap();
    world.end(&[3, 4, 5]);
}

#[test]
fn one_shot_reports_once_until_it_is_armed_again() {
    let world = World::new();
    world.install(3, world.call().epoll_create());
    pipe(&world, 4);
    assert_eq!(add(&world, 3, 4, POLLIN | EPOLLONESHOT), 0);
    world.write(5, b"x");
    assert_eq!(ready(&world, 3), [(4, POLLIN)]);
    world.write(5, b"y");
    assert_eq!(ready(&world, 3), []);
    let event = EpollEvent { events: POLLIN | EPOLLONESHOT, data: 4 };
    assert_eq!(world.call().epoll_ctl(3, EPOLL_CTL_MOD, 4, event), 0);
    assert_eq!(ready(&world, 3), [(4, POLLIN)]);
    assert_eq!(world.call().epoll_ctl(3, EPOLL_CTL_DEL, 4, event), 0);
    assert_eq!(world.call().epoll_ctl(3, EPOLL_CTL_DEL, 4, event), -ENOENT);
    world.end(&[3, 4, 5]);
}

#[test]
fn what_does_not_fit_comes_first_the_next_time() {
    let world = World::new();
    world.install(3, world.call().epoll_create());
    for fd in [4, 6, 8] {
        pipe(&world, fd);
        assert_eq!(add(&world, 3, fd, POLLIN), 0);
        world.write(fd + 1, b"x");
    }
    let fds = |most| wait(&world, 3, most, Some(0)).iter().map(|e| e.0).collect::<Vec<_>>();
    assert_eq!(fds(2), [4, 6]);
    assert_eq!(fds(2), [8, 4]);
    assert_eq!(fds(3), [6, 8, 4]);
    for fd in [4, 6, 8] {
        world.read(fd, 1).unwrap();
    }
    assert_eq!(fds(3), []);
    world.end(&[3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn an_epoll_in_an_epoll_is_readable_while_it_has_events() {
    let world = World::new();
    world.install(3, world.call().epoll_create());
    world.install(10, world.call().epoll_create());
    pipe(&world, 4);
    assert_eq!(add(&world, 3, 10, POLLIN), 0);
    assert_eq!(add(&world, 10, 3, POLLIN), -ELOOP);
    assert_eq!(add(&world, 3, 3, POLLIN), -EINVAL);
    assert_eq!(add(&world, 10, 4, POLLIN), 0);
    assert_eq!(ready(&world, 3), []);
    world.write(5, b"x");
    assert_eq!(ready(&world, 3), [(10, POLLIN)]);
    world.read(4, 1).unwrap();
    assert_eq!(ready(&world, 3), []);
    world.end(&[4, 5, 10, 3]);
}

#[test]
fn sockets_report_clients_windows_and_ends() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.install(20, world.call().epoll_create());
    assert_eq!(add(&world, 20, 3, POLLIN), 0);
    world.later(move |c| c.connect(1, listener));
    assert_eq!(wait(&world, 20, 4, None), [(3, POLLIN)]);
    let file = world.call().accept(3, SOCK_NONBLOCK, &mut { SocketAddress::NONE });
    world.install(4, file);
    assert_eq!(add(&world, 20, 4, POLLIN | POLLOUT | POLLRDHUP | EPOLLET), 0);
    assert_eq!(wait(&world, 20, 4, None), [(4, POLLOUT)]);
    let data = vec![0; 1 << 20];
    assert!(world.write(4, &data) > 0);
    world.coordinator.event(EventKind::Data, 1, 0, b"x");
    world.settle();
    assert_eq!(ready(&world, 20), [(4, POLLIN)]);
    // Too little room is not reported, enough is, once.
    world.coordinator.event(EventKind::Drained, 1, 10, b"");
    world.settle();
    assert_eq!(ready(&world, 20), []);
    world.coordinator.event(EventKind::Drained, 1, 200_000, b"");
    world.settle();
    assert_eq!(ready(&world, 20), [(4, POLLIN | POLLOUT)]);
    assert_eq!(world.read(4, 9).unwrap(), b"x");
    world.coordinator.event(EventKind::PeerClosed, 1, 0, b"");
    world.settle();
    assert_eq!(ready(&world, 20), [(4, POLLIN | POLLOUT | POLLRDHUP)]);
    world.coordinator.event(EventKind::PeerReset, 1, 0, b"");
    world.settle();
    assert_eq!(ready(&world, 20), [(4, POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP)]);
    assert_eq!(world.read(4, 9), Err(EPIPE));
    world.end(&[4, 3, 20]);
}

/// Redis writes 64 kB at a time and then asks epoll: no write of it ever fails for want of room.
#[test]
fn a_level_watcher_hears_of_room_also_if_no_write_failed() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.install(20, world.call().epoll_create());
    world.later(move |c| c.connect(1, listener));
    let file = world.call().accept(3, SOCK_NONBLOCK, &mut { SocketAddress::NONE });
    world.install(4, file);
    assert_eq!(add(&world, 20, 4, POLLOUT), 0);
    let data = vec![0; 200_000];
    assert_eq!(world.write(4, &data), 200_000);
    assert_eq!(ready(&world, 20), []);
    world.coordinator.event(EventKind::Drained, 1, 150_000, b"");
    world.settle();
    assert_eq!(ready(&world, 20), [(4, POLLOUT)]);
    world.end(&[4, 3, 20]);
}

#[test]
fn waits_end_at_their_deadline() {
    let world = World::new();
    world.install(3, world.call().epoll_create());
    pipe(&world, 4);
    assert_eq!(add(&world, 3, 4, POLLIN), 0);
    let before = world.kernel(|k| k.clock());
    assert_eq!(wait(&world, 3, 4, Some(50_000_000)), []);
    let mut fds = [PollFd { fd: 4, events: POLLIN as i16, revents: 0 }];
    assert_eq!(world.call().poll(&mut fds, Some(30_000_000), None), 0);
    let mut read = [1u64 << 4];
    let sets = SelectSets { read: &mut read, write: &mut [], except: &mut [] };
    assert_eq!(world.call().select(5, sets, Some(20_000_000), None), 0);
    assert_eq!(read, [0]);
    assert_eq!(world.call().poll(&mut [], Some(10_000_000), None), 0);
    assert!(world.kernel(|k| k.clock()) - before >= 110_000_000);
    world.end(&[3, 4, 5]);
}

#[test]
fn poll_and_select_mix_virtual_and_other_descriptors() {
    let world = World::new();
    let listener = world.listener(3, 0);
    pipe(&world, 4);
    let entry = |fd, events: u32| PollFd { fd, events: events as i16, revents: 0 };
    let mut fds =
        [entry(3, POLLIN), entry(4, POLLIN), entry(5, POLLOUT), entry(-1, POLLIN), entry(9, POLLIN)];
    assert_eq!(world.call().poll(&mut fds, None, None), 1);
    assert_eq!(fds[2].revents, POLLOUT as i16);
    fds[4].revents = POLLNVAL as i16;
    fds[2].events = 0;
    assert_eq!(world.call().poll(&mut fds, None, None), 1);
    assert_eq!((fds[2].revents, fds[4].revents), (0, POLLNVAL as i16));
    // Blocks until a client comes.
    world.later(move |c| c.connect(1, listener));
    assert_eq!(world.call().poll(&mut fds[..3], None, None), 1);
    assert_eq!(fds[0].revents, POLLIN as i16);
    let (mut read, mut write) = ([0b1_1000u64 | 1 << 9], [0b10_0000u64]);
    let sets = SelectSets { read: &mut read, write: &mut write, except: &mut [] };
    assert_eq!(world.call().select(10, sets, None, None), 3);
    assert_eq!((read, write), ([0b1000 | 1 << 9], [0b10_0000]));
    world.end(&[3, 4, 5]);
}
