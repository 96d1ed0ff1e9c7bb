//! inotify: what the kernel tells, and which instance hears of it.

use super::World;
use crate::file::abi::{EAGAIN, EINVAL, ENOSPC, O_NONBLOCK, POLLIN};
use crate::file::inotify::Happened;

const IN_MODIFY: u32 = 2;
const IN_CREATE: u32 = 0x100;
const IN_Q_OVERFLOW: u32 = 0x4000;
const IN_IGNORED: u32 = 0x8000;
const IN_ONESHOT: u32 = 0x8000_0000;

fn watch(world: &World, fd: i32, place: i32, mask: u32) -> i64 {
    world.call().inotify_add_watch(fd, mask, |_| place, |_| {})
}

fn happens(world: &World, place: i32, mask: u32, name: &[u8]) {
    world.call().inotify_happened(&Happened { place, mask, cookie: 0, name });
}

/// Number, mask and name of each event that can be read.
fn events(world: &World, fd: i32) -> Vec<(i32, u32, String)> {
    let Ok(bytes) = world.read(fd, 4096) else { return Vec::new() };
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let end = 16 + word(12) as usize;
        let name = String::from_utf8_lossy(&rest[16..end]).trim_end_matches('\0').to_owned();
        all.push((word(0) as i32, word(4), name));
        rest = &rest[end..];
    }
    all
}

fn instance(world: &World, fd: i32) {
    world.install(fd, world.call().inotify(O_NONBLOCK));
}

#[test]
fn who_watches_is_told_once_and_in_order() {
    let world = World::new();
    instance(&world, 3);
    instance(&world, 4);
    assert!(!world.call().is_watching());
    assert_eq!((watch(&world, 3, 7, IN_CREATE), watch(&world, 3, 8, IN_MODIFY)), (1, 2));
    assert_eq!((watch(&world, 4, 7, IN_MODIFY | IN_CREATE), watch(&world, 3, 7, IN_CREATE)), (1, 1));
    assert_eq!(world.read(3, 300), Err(EAGAIN));
    happens(&world, 7, IN_CREATE, b"one");
    happens(&world, 7, IN_CREATE, b"one");
    happens(&world, 7, IN_MODIFY, b"one");
    happens(&world, 8, IN_MODIFY, b"");
    assert_eq!(world.kernel(|k| k.readiness(1, 1, 0)) & POLLIN, POLLIN);
    assert_eq!(world.read(3, 16), Err(EINVAL), "an event is not cut in two");
    let name = || "one".to_owned();
    assert_eq!(events(&world, 3), [(1, IN_CREATE, name()), (2, IN_MODIFY, String::new())]);
    assert_eq!(events(&world, 4), [(1, IN_CREATE, name()), (1, IN_MODIFY, name())]);
    // The file is gone, and the kernel's watch with it.
    happens(&world, 7, IN_IGNORED, b"");
    happens(&world, 7, IN_CREATE, b"two");
    assert_eq!(events(&world, 3), [(1, IN_IGNORED, String::new())]);
    world.end(&[3, 4]);
}

#[test]
fn the_kernel_watches_no_longer_than_somebody_else() {
    let world = World::new();
    instance(&world, 3);
    instance(&world, 4);
    for fd in [3, 4] {
        assert_eq!(watch(&world, fd, 7, IN_CREATE), 1);
    }
    assert_eq!(watch(&world, 4, 9, IN_CREATE | IN_ONESHOT), 2);
    let mut forgotten = Vec::new();
    assert_eq!(world.call().inotify_remove_watch(3, 1, |place| forgotten.push(place)), 0);
    assert_eq!(world.call().inotify_remove_watch(3, 1, |place| forgotten.push(place)), -EINVAL);
    assert_eq!(forgotten, [0; 0], "another instance watches it");
    happens(&world, 9, IN_CREATE, b"");
    happens(&world, 9, IN_CREATE, b"");
    assert_eq!(events(&world, 4), [(2, IN_CREATE, String::new()), (2, IN_IGNORED, String::new())]);
    assert_eq!((world.call().take_unwatched(), world.call().take_unwatched()), (Some(9), None));
    assert_eq!(world.call().close_fd(4), 0);
    assert_eq!((world.call().take_unwatched(), world.call().take_unwatched()), (Some(7), None));
    assert!(!world.call().is_watching());
    world.end(&[3]);
}

#[test]
fn tables_and_queues_have_ends() {
    use crate::bounds::{MAX_INOTIFY_EVENTS, MAX_INOTIFY_WATCHES};
    let world = World::new();
    instance(&world, 3);
    for place in 1..=MAX_INOTIFY_WATCHES as i32 {
        assert_eq!(watch(&world, 3, place, IN_MODIFY), i64::from(place));
    }
    let mut forgotten = 0;
    let full = world.call().inotify_add_watch(3, IN_MODIFY, |_| 9000, |place| forgotten = place);
    assert_eq!((full, forgotten), (-ENOSPC, 9000));
    for i in 0..MAX_INOTIFY_EVENTS as i32 + 5 {
        happens(&world, i % 2 + 1, IN_MODIFY, b"");
    }
    let mut all = Vec::new();
    loop {
        let more = events(&world, 3);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    assert_eq!(all.len(), MAX_INOTIFY_EVENTS + 1);
    assert_eq!(all.last().map(|event| (event.0, event.1)), Some((-1, IN_Q_OVERFLOW)));
    world.end(&[3]);
}
