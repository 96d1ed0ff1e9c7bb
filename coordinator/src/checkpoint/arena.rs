//! The arena in a checkpoint: the pages that are not all zeroes, each with its offset in front. Most of an arena was never touched.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::CheckpointError;

/// Bytes of a page, by which an arena is copied.
const PAGE: usize = 4096;
/// Bytes that are read at once.
const PIECE: usize = 64 * PAGE;
/// Bytes of a record: the offset, and the page.
const RECORD: usize = 8 + PAGE;

/// Copies the arena at `from` into the file `to`.
pub(super) fn save(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    let copy = || -> io::Result<()> {
        let arena = File::open(from)?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(to)?);
        let end = arena.metadata()?.len();
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while let Some(start) = seek(&arena, at, libc::SEEK_DATA)? {
            let hole = seek(&arena, start, libc::SEEK_HOLE)?.unwrap_or(end);
            at = start - start % PAGE as u64;
            while at < hole {
                let pages = (hole - at).div_ceil(PAGE as u64).min((PIECE / PAGE) as u64) as usize;
                let piece = &mut piece[..pages * PAGE];
                arena.read_exact_at(piece, at)?;
                for page in piece.chunks_exact(PAGE) {
                    if page.iter().any(|&byte| byte != 0) {
                        out.write_all(&at.to_le_bytes())?;
                        out.write_all(page)?;
                    }
                    at += PAGE as u64;
                }
                std::thread::yield_now();
            }
        }
        out.flush()
    };
    copy().map_err(CheckpointError::file("copy the arena into", to))
}

/// The next place of that kind in the file from `from` on, `None` if there is none.
fn seek(file: &File, from: u64, whence: i32) -> io::Result<Option<u64>> {
    // SAFETY: no pointers.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from as i64, whence) };
    if at >= 0 {
        return Ok(Some(at as u64));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        error => Err(error),
    }
}

/// Writes what [`save`] made into the zeroed arena at `to`.
pub(super) fn load(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    let copy = || -> io::Result<()> {
        let mut pages = io::BufReader::with_capacity(1 << 20, File::open(from)?);
        let arena = File::options().write(true).open(to)?;
        let len = arena.metadata()?.len();
        let mut record = [0; RECORD];
        loop {
            if pages.read(&mut record[..1])? == 0 {
                return Ok(());
            }
            pages.read_exact(&mut record[1..])?;
            let (offset, page) = record.split_at(8);
            let offset = u64::from_le_bytes(offset.try_into().expect("8 bytes"));
            if offset.checked_add(PAGE as u64).is_none_or(|end| end > len) {
                return Err(io::Error::other(format!(
                    "a page at {offset} is outside of an arena of {len} bytes"
                )));
            }
            arena.write_all_at(page, offset)?;
        }
    };
    copy().map_err(CheckpointError::file("restore the arena from", from))
}

#[cfg(test)]
mod tests {
    use super::{PAGE, load, save};
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn comes_back_as_it_was_and_holds_touched_pages_only() {
        let directory = std::env::temp_dir().join(format!("brolga-arena-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let [arena, pages, again] = ["arena", "pages", "again"].map(|name| directory.join(name));
        let bytes = 64 * PAGE as u64;
        for path in [&arena, &again] {
            File::create(path).unwrap().set_len(bytes).unwrap();
        }
        let file = File::options().write(true).open(&arena).unwrap();
        for (byte, at) in [(1, 0), (2, 3 * PAGE as u64 + 17), (3, bytes - 1)] {
            file.write_all_at(&[byte], at).unwrap();
        }
        save(&arena, &pages).unwrap();
        assert_eq!(pages.metadata().unwrap().len(), 3 * (8 + PAGE as u64));
        load(&pages, &again).unwrap();
        assert_eq!(std::fs::read(&arena).unwrap(), std::fs::read(&again).unwrap());
        File::options().write(true).open(&pages).unwrap().write_all_at(&[0xff; 8], 0).unwrap();
        assert!(
            load(&pages, &again).unwrap_err().to_string().contains("outside"),
            "a wild offset is refused"
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
