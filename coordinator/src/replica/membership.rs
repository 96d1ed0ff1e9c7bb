//! Configurations of the cluster as entries carry them: an event that servers skip, and that [`crate::paxos`] finds by
//! [`members_of`].

use dmt::entry::{EntryHeader, EntryKind, EventHeader, EventKind, next_event};
use zerocopy::FromBytes;

use super::intake::event;
use crate::paxos::Members;

/// Version of the payload. A replica that meets another one stops: it cannot know who decides.
pub const MEMBERS_FORMAT: u64 = 1;

/// The configuration in an entry, if it has one; an error is the version of a format that is not known here.
pub fn members_of(value: &[u8]) -> Result<Option<Members>, u64> {
    let Ok((header, mut events)) = EntryHeader::ref_from_prefix(value) else { return Ok(None) };
    if header.event_count.get() == 0 || header.kind.get() != EntryKind::Bubble as u16 {
        return Ok(None);
    }
    while let Some(Ok(event)) = next_event(&mut events) {
        if event.kind == EventKind::Members {
            let format = event.header.arg.get();
            let read = postcard::from_bytes(event.payload).ok().filter(|_| format == MEMBERS_FORMAT);
            return read.map(Some).ok_or(format);
        }
    }
    Ok(None)
}

/// The event for a configuration.
pub fn members_event(members: &Members) -> (EventHeader, Vec<u8>) {
    // Plain data of a bounded size always becomes bytes.
    let payload = postcard::to_stdvec(members).unwrap_or_default();
    (event(EventKind::Members, 0, 0, MEMBERS_FORMAT, payload.len()), payload)
}

#[cfg(test)]
mod tests {
    use super::{MEMBERS_FORMAT, members_event, members_of};
    use crate::paxos::Members;
    use dmt::entry::{ALIGN, ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
    use proptest::prelude::*;
    use zerocopy::little_endian::{U16, U32, U64};
    use zerocopy::{FromZeros, IntoBytes};

    fn entry(format: u64) -> (Members, Vec<u8>) {
        let members = Members::founders(&[1, 2, 9]);
        let (mut event, mut payload) = members_event(&members);
        event.arg = U64::new(format);
        payload.resize(payload.len().next_multiple_of(ALIGN), 0);
        let mut header = EntryHeader::new_zeroed();
        (header.kind, header.event_count) = (U16::new(EntryKind::Bubble as u16), U32::new(1));
        (members, [header.as_bytes(), event.as_bytes(), &payload].concat())
    }

    #[test]
    fn comes_back_from_an_entry_and_another_format_is_refused() {
        let (members, value) = entry(MEMBERS_FORMAT);
        assert_eq!(members_of(&value), Ok(Some(members)));
        assert_eq!(members_of(&entry(7).1), Err(7));
        assert_eq!(members_of(&value[..ENTRY_HEADER_BYTES]), Ok(None));
    }

    proptest! {
        #[test]
        fn bytes_of_anybody_never_panic(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut value = entry(MEMBERS_FORMAT).1;
            let at = at.index(value.len());
            value[at] = with;
            value.truncate(cut.index(value.len() + 1));
            let _ = members_of(&value);
        }
    }
}
