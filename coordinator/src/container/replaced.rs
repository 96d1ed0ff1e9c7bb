//! Files whose content the log replaces: a thread of init writes them while the server waits (`dmt::replaced`).

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dmt::disk::{Mark, Time};
use dmt::link::Shared;
use dmt::replaced::Replacement;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::ArenaMapping;
use crate::stderr::say;

/// Time between two tries on a disk that is full. The server waits meanwhile, as it does for its own writes.
const FULL_DISK: Duration = Duration::from_millis(100);
const STACK_BYTES: usize = 128 * 1024;

/// Starts the thread. It must run before the server does: a thread takes a process id.
pub(super) fn start(arena: ArenaMapping) -> io::Result<()> {
    let run = move || serve(&arena);
    std::thread::Builder::new().name("brolga-files".to_owned()).stack_size(STACK_BYTES).spawn(run)?;
    Ok(())
}

fn serve(arena: &ArenaMapping) -> ! {
    // SAFETY: the part that coordinator and server share stands at the start of the arena; the mapping lives as long as this
    // function, which never returns, and requests are read by their own rules.
    let request = unsafe { &(*arena.as_ptr::<Shared>()).file };
    loop {
        let seen = request.word().load(Ordering::SeqCst);
        let Some(replacement) = request.asked() else {
            futex(request.word(), libc::FUTEX_WAIT, seen);
            continue;
        };
        let path = Path::new(OsStr::from_bytes(replacement.path));
        let error = put(path, &replacement).err();
        if let Some(error) = &error {
            say(&format!("cannot replace {} as the log says: {error}", path.display()));
        }
        request.answer(error.map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)));
        futex(request.word(), libc::FUTEX_WAKE, i32::MAX as u32);
    }
}

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    // SAFETY: the word is in the arena; there is no time-out.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, 0) };
}

/// Gives the file its new content, in place: it keeps its number, owner and rights.
fn put(path: &Path, new: &Replacement<'_>) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    loop {
        let written = OpenOptions::new().write(true).custom_flags(flags).open(path).and_then(|mut file| {
            if !file.metadata()?.is_file() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            let inode = number_of(&file)?;
            file.set_len(0)?;
            file.write_all(new.content)?;
            mark(&file, inode, Time::of_clock(new.clock))
        });
        match written {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
                std::thread::sleep(FULL_DISK);
            }
            done => return done,
        }
    }
}

/// The number that the file carries, 0 if it is one of the host's.
fn number_of(file: &File) -> io::Result<u32> {
    let data = file.metadata()?;
    let accessed = Time { seconds: data.atime(), nanoseconds: data.atime_nsec() };
    Ok(Mark::decode(accessed).map_or(0, |mark| mark.inode))
}

fn mark(file: &File, inode: u32, now: Time) -> io::Result<()> {
    let spec = |time: Time| TimeSpec::new(time.seconds, time.nanoseconds);
    futimens(file, &spec(Mark::new(inode, now).encode()), &spec(now)).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_its_content_and_the_time_of_the_log() {
        let directory = std::env::temp_dir().join(format!("brolga-replaced-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("server.conf");
        let clock = 1_700_000_000_000_000_007;
        let new = Replacement { path: path.as_os_str().as_bytes(), content: b"new", clock };
        assert_eq!(put(&path, &new).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        std::fs::write(&path, "something longer").unwrap();
        put(&path, &new).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let data = std::fs::metadata(&path).unwrap();
        assert_eq!((data.mtime(), data.mtime_nsec()), (1_700_000_000, 7));
        let stored = Time { seconds: data.atime(), nanoseconds: data.atime_nsec() };
        assert_eq!(Mark::decode(stored), Some(Mark { inode: 0, changed: 1_700_000_000 }));
        assert_eq!(put(&directory, &new).unwrap_err().raw_os_error(), Some(libc::EISDIR));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
