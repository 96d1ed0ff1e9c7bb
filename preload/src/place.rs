//! Names the place in the program of an address: the file that is mapped there and the offset in it, as `addr2line` and `gdb` take
//! it. For the log.

use core::fmt;

use crate::mappings::{self, Mapping};

/// The place of an address.
pub struct Place {
    address: u64,
    mapping: Option<Mapping>,
}

impl Place {
    /// Where `address` lies in this process.
    pub fn of(address: usize) -> Self {
        let address = address as u64;
        let mapping = mappings::find(|line| (line.from..line.to).contains(&address).then_some(*line));
        Self { address, mapping }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.mapping.as_ref().and_then(|mapping| {
            let path = core::str::from_utf8(mapping.path()).ok().filter(|path| !path.is_empty())?;
            Some((path, self.address - mapping.from + mapping.offset))
        });
        match named {
            Some((path, offset)) => write!(f, "{path}+{offset:#x}"),
            None => write!(f, "{:#x}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;
    use std::string::ToString;

    #[test]
    fn names_file_and_offset() {
        let here = Place::of(names_file_and_offset as *const () as usize).to_string();
        assert!(here.starts_with('/') && here.contains("+0x"), "{here}");
        assert_eq!(Place::of(0x10).to_string(), "0x10");
    }
}
