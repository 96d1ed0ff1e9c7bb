//! Names for addresses: function, file and line of a frame of the program, from the objects that it had mapped.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

use super::maps::Mapped;

/// A place in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The object's file name.
    pub module: String,
    /// Address in the object.
    pub address: u64,
    /// The function, if the object tells.
    pub function: Option<String>,
    /// File and line, if the object has debugging information.
    pub line: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(function) => write!(f, "{function}")?,
            None => write!(f, "{:#x}", self.address)?,
        }
        match &self.line {
            Some(line) => write!(f, " ({line})"),
            None => write!(f, " ({})", self.module),
        }
    }
}

impl Place {
    /// Whether it is the program's own and not the C library's or Brolga's.
    pub fn is_program(&self) -> bool {
        !["libc.so", "libc-", "ld-linux", "libpthread", "libbrolga_preload", "libgcc_s"]
            .iter()
            .any(|own| self.module.starts_with(own))
    }
}

struct Module {
    loader: Loader,
    bytes: Vec<u8>,
    /// Offset in the file, length, address.
    segments: Vec<(u64, u64, u64)>,
    /// All functions by their address, with size and name.
    functions: BTreeMap<u64, (u64, String)>,
}

/// Reads each object once.
#[derive(Default)]
pub struct Symbols {
    modules: BTreeMap<PathBuf, Option<Module>>,
}

impl fmt::Debug for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbols").field("modules", &self.modules.len()).finish_non_exhaustive()
    }
}

impl Symbols {
    fn module(&mut self, path: &Path) -> Option<&Module> {
        self.modules.entry(path.to_owned()).or_insert_with(|| load(path)).as_ref()
    }

    /// The places of a stack of return addresses; those that lie in no object are left out.
    pub fn stack(&mut self, maps: &[Mapped], callers: &[u64]) -> Vec<Place> {
        // A return address stands behind the call.
        callers.iter().flat_map(|&address| self.places(maps, address.saturating_sub(1))).collect()
    }

    /// The functions around an address: those that were inlined there, the innermost first, and the one that has it.
    fn places(&mut self, maps: &[Mapped], address: u64) -> Vec<Place> {
        let map = maps.iter().find(|map| (map.start..map.end).contains(&address));
        let Some((map, name)) = map.and_then(|map| Some((map, map.path.file_name()?))) else {
            return Vec::new();
        };
        let module = name.to_string_lossy().into_owned();
        let offset = address - map.start + map.offset;
        let unknown = Place { module, address: offset, function: None, line: None };
        let Some(found) = self.module(&map.path) else { return vec![unknown] };
        let Some(address) = found.address(offset) else { return vec![unknown] };
        let mut places = Vec::new();
        if let Ok(mut frames) = found.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let function = frame.function.and_then(|name| Some(name.demangle().ok()?.into_owned()));
                let line = frame.location.and_then(|at| {
                    let file = Path::new(at.file?).file_name()?.to_string_lossy().into_owned();
                    Some(format!("{file}:{}", at.line?))
                });
                places.push(Place { address, function, line, ..unknown.clone() });
            }
        }
        if places.iter().all(|place| place.function.is_none()) {
            // Where debugging information and all but the exported functions were stripped, most addresses have no name.
            let name = found.function(address).map(|(_, _, name)| name.to_owned());
            let function = name.map(|name| addr2line::demangle_auto(name.into(), None).into_owned());
            places = vec![Place { address, function, ..unknown }];
        }
        places
    }

    /// An instruction that gives randomness, in a function of these frames or in one that they call, with its place.
    pub fn random_instruction(&mut self, maps: &[Mapped], callers: &[u64]) -> Option<(&'static str, String)> {
        for &caller in callers {
            let address = caller.checked_sub(1)?;
            let Some(map) = maps.iter().find(|map| (map.start..map.end).contains(&address)) else { continue };
            let offset = address - map.start + map.offset;
            let Some(module) = self.module(&map.path) else { continue };
            if let Some(found) = module.address(offset).and_then(|address| module.random_near(address)) {
                return Some(found);
            }
        }
        None
    }
}

fn load(path: &Path) -> Option<Module> {
    let bytes = std::fs::read(path).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let segment = |segment: object::Segment<'_, '_>| {
        let (offset, length) = segment.file_range();
        (offset, length, segment.address())
    };
    let segments = file.segments().map(segment).collect();
    let functions = functions(&file);
    let loader = Loader::new(path).ok()?;
    Some(Module { loader, bytes, segments, functions })
}

fn functions(file: &object::File<'_>) -> BTreeMap<u64, (u64, String)> {
    let symbols = file.symbols().chain(file.dynamic_symbols());
    let functions = symbols.filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    functions
        .filter_map(|symbol| Some((symbol.address(), (symbol.size(), symbol.name().ok()?.to_owned()))))
        .collect()
}

impl Module {
    /// The address that the object's tables use for an offset in its file.
    fn address(&self, offset: u64) -> Option<u64> {
        let holds = |&&(start, length, _): &&(u64, u64, u64)| (start..start + length).contains(&offset);
        self.segments.iter().find(holds).map(|(start, _, address)| offset - start + address)
    }

    /// Looks at the function around `address` and at those that it calls directly, and at those that these call.
    fn random_near(&self, address: u64) -> Option<(&'static str, String)> {
        let mut waiting = vec![self.function(address)?.0];
        let mut next = 0;
        while let Some(&start) = waiting.get(next).filter(|_| next < MAX_FUNCTIONS) {
            next += 1;
            let (size, name) = self.functions.get(&start)?;
            let Some(code) = self.code(start, *size) else { continue };
            if let Some(instruction) = random_instruction(code) {
                return Some((instruction, addr2line::demangle_auto(name.into(), None).into_owned()));
            }
            for target in calls(start, code) {
                if self.functions.contains_key(&target) && !waiting.contains(&target) {
                    waiting.push(target);
                }
            }
        }
        None
    }

    /// The function around `address`: where it begins, its size, its name.
    fn function(&self, address: u64) -> Option<(u64, u64, &str)> {
        let (start, (size, name)) = self.functions.range(..=address).next_back()?;
        (address < start + size).then_some((*start, *size, name.as_str()))
    }

    fn code(&self, address: u64, size: u64) -> Option<&[u8]> {
        let holds = |&&(_, length, start): &&(u64, u64, u64)| (start..start + length).contains(&address);
        let (offset, _, start) = self.segments.iter().find(holds)?;
        let from = usize::try_from(address - start + offset).ok()?;
        self.bytes.get(from..from + usize::try_from(size).ok()?)
    }
}

/// Functions that are looked at in search of an instruction.
const MAX_FUNCTIONS: usize = 64;

/// Where calls in this code seem to go. Bytes that only look like a call lead to no function's beginning.
fn calls(address: u64, code: &[u8]) -> impl Iterator<Item = u64> {
    code.windows(5).zip(address..).filter_map(|(bytes, at)| match bytes {
        [0xe8, a, b, c, d] => {
            let distance = i32::from_le_bytes([*a, *b, *c, *d]);
            Some((at + 5).wrapping_add_signed(i64::from(distance)))
        }
        _ => None,
    })
}

/// RDRAND is `0f c7 /6` on a register, RDSEED `0f c7 /7`.
fn random_instruction(code: &[u8]) -> Option<&'static str> {
    code.windows(3).find_map(|bytes| match bytes {
        [0x0f, 0xc7, 0xf0..=0xf7] => Some("RDRAND"),
        [0x0f, 0xc7, 0xf8..=0xff] => Some("RDSEED"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Place, Symbols, calls, random_instruction};
    use crate::replay::maps::Mapped;

    #[inline(never)]
    fn a_function_of_this_test() -> usize {
        std::hint::black_box(a_function_of_this_test as fn() -> usize as usize)
    }

    #[test]
    fn names_its_own_functions() {
        let address = a_function_of_this_test() as u64;
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = text.lines().find(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let hex = |text| u64::from_str_radix(text, 16).unwrap();
            (hex(start)..hex(end)).contains(&address)
        });
        let fields: Vec<_> = line.unwrap().split_ascii_whitespace().collect();
        let (start, end) = fields[0].split_once('-').unwrap();
        let hex = |text| u64::from_str_radix(text, 16).unwrap();
        let map = Mapped { start: hex(start), end: hex(end), offset: hex(fields[2]), path: fields[5].into() };
        let places = Symbols::default().stack(&[map], &[address + 1]);
        let named =
            |place: &Place| place.function.as_deref().is_some_and(|f| f.contains("a_function_of_this_test"));
        assert!(places.iter().any(named), "{places:?}");
        assert!(places[0].is_program());
    }

    #[test]
    fn finds_instructions_that_give_randomness() {
        assert_eq!(random_instruction(&[0x90, 0x48, 0x0f, 0xc7, 0xf0, 0xc3]), Some("RDRAND"));
        assert_eq!(random_instruction(&[0x0f, 0xc7, 0xf8]), Some("RDSEED"));
        assert_eq!(random_instruction(&[0x0f, 0xc7, 0x0f]), None, "cmpxchg8b");
        assert_eq!(calls(0x100, &[0x90, 0xe8, 0xfa, 0xff, 0xff, 0xff]).collect::<Vec<_>>(), [0x100]);
    }
}
