//! Bytes from outside: whatever comes, the parsers answer with an entry or an error, and the ring with a frame or a refusal.
#![cfg(not(loom))]

use std::collections::VecDeque;

use dmt::bounds::{LAYOUT_VERSION, MAX_ENTRY_BYTES};
use dmt::entry::{Entry, EntryError, EntryHeader, EntryKind, EventHeader, EventKind, padded};
use dmt::ring::Ring;
use proptest::prelude::*;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

/// An event's kind, connection and payload.
type Content = (u16, u64, Vec<u8>);

fn events() -> impl Strategy<Value = Vec<Content>> {
    let event = (1..=8_u16, any::<u64>(), prop::collection::vec(any::<u8>(), 0..100));
    prop::collection::vec(event, 0..20)
}

fn encode(events: &[Content]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, connection, payload) in events {
        let header = EventHeader {
            len: U32::new(payload.len() as u32),
            kind: U16::new(*kind),
            reserved: U16::new(0),
            connection: U64::new(*connection),
            sequence: U64::new(0),
            arg: U64::new(0),
        };
        body.extend_from_slice(header.as_bytes());
        body.extend_from_slice(payload);
        body.resize(padded(body.len()), 0);
    }
    let header = EntryHeader {
        version: U32::new(LAYOUT_VERSION),
        kind: U16::new(EntryKind::Bubble as u16),
        reserved: U16::new(0),
        index: U64::new(7),
        stamp: U64::new(0),
        clock: U64::new(0),
        grant: U64::new(1),
        ballot: U64::new(1),
        event_count: U32::new(events.len() as u32),
        events_len: U32::new(body.len() as u32),
    };
    [header.as_bytes(), &body].concat()
}

/// Parses, and reads all that the entry has; the number of events.
fn read(bytes: &[u8]) -> Result<usize, EntryError> {
    let entry = Entry::parse(bytes)?;
    let _ = entry.genesis();
    Ok(entry.events().count())
}

fn ring() -> Box<Ring<256>> {
    // SAFETY: a ring is atomics and bytes; all zeroes is an empty one.
    unsafe { Box::new(std::mem::MaybeUninit::zeroed().assume_init()) }
}

proptest! {
    #[test]
    fn an_entry_comes_back_as_it_was_written(events in events()) {
        let bytes = encode(&events);
        let entry = Entry::parse(&bytes).unwrap();
        let back: Vec<Content> =
            entry.events().map(|e| (e.kind as u16, e.header.connection.get(), e.payload.to_vec())).collect();
        prop_assert_eq!(back, events);
    }

    #[test]
    fn damage_is_an_error_or_another_entry_and_nothing_worse(
        events in events(),
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = encode(&events);
        prop_assert_eq!(read(&bytes), Ok(events.len()));
        let short = cut.index(bytes.len());
        prop_assert!(read(&bytes[..short]).is_err(), "a part of an entry is none");
        for (place, mask) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        // A version that fits by chance is the only way in.
        prop_assume!(noise.get(..4) != Some(&LAYOUT_VERSION.to_le_bytes()));
        prop_assert!(read(&noise).is_err());
    }

    #[test]
    fn a_ring_is_a_queue(steps in prop::collection::vec((any::<bool>(), 0..120_usize), 1..400)) {
        let ring = ring();
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let mut used = 0;
        for (number, (pushes, len)) in steps.into_iter().enumerate() {
            if pushes {
                let body = vec![number as u8; len];
                // SAFETY: one thread.
                if unsafe { ring.push(number as u32, &[&body]) } {
                    used += 8 + padded(len);
                    model.push_back(body);
                }
                prop_assert!(used <= Ring::<256>::CAPACITY);
            } else {
                // SAFETY: one thread, from the head.
                let frame = unsafe { ring.try_peek(ring.head()) }.unwrap();
                prop_assert_eq!(frame.is_some(), !model.is_empty());
                if let (Some(frame), Some(body)) = (frame, model.pop_front()) {
                    prop_assert_eq!(&frame.body[..body.len()], &body[..]);
                    used -= 8 + padded(body.len());
                    ring.release(frame.end);
                }
            }
        }
    }

    #[test]
    fn a_ring_that_somebody_wrote_over_is_refused_and_not_followed(
        noise in prop::collection::vec(any::<u8>(), size_of::<Ring<256>>()),
        small in any::<bool>(),
    ) {
        let mut ring = ring();
        let bytes = std::ptr::from_mut(&mut *ring).cast::<u8>();
        // SAFETY: as many bytes as the ring has, all of which may be anything.
        unsafe { std::ptr::copy_nonoverlapping(noise.as_ptr(), bytes, noise.len()) };
        // Cursors that are near each other let the consumer go on to the frames.
        let (head, tail) = if small { (0, u64::from(noise[0] & 0xf8)) } else { (ring.head(), ring.tail()) };
        // SAFETY: the cursors are the first words of the two cache lines at the ring's start.
        unsafe {
            bytes.cast::<u64>().write(head);
            bytes.cast::<u64>().add(8).write(tail);
        }
        let mut at = head;
        // SAFETY: one thread; each cursor is the head or the end of a frame.
        while let Ok(Some(frame)) = unsafe { ring.try_peek(at) } {
            prop_assert!(frame.end > at && frame.body.len() <= 256);
            at = frame.end;
        }
    }
}

#[test]
fn an_entry_above_its_bound_is_refused() {
    assert_eq!(read(&vec![0; MAX_ENTRY_BYTES + 1]), Err(EntryError::TooLong));
    assert_eq!(EventKind::from_wire(16), None);
}
