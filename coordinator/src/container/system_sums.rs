//! Checksums of the system files that are kept for servers: what is damaged there would be read by each replay that comes, on all
//! replicas of a machine alike, so no comparison of replicas finds it.
//!
//! They stand beside the directory, one line for each file: its CRC-32 and its path. The last line is the CRC-32 of those before.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Appended to the directory's name.
const SUFFIX: &str = ".sums";

/// The file with the sums of `directory`.
pub fn beside(directory: &Path) -> PathBuf {
    with_suffix(directory, SUFFIX)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Writes the sums of the files in `made` beside `directory`, which will be its name.
pub(super) fn write(made: &Path, directory: &Path, safely: bool) -> io::Result<()> {
    let lines = lines(made)?.concat();
    let path = beside(directory);
    let new = with_suffix(&path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(format!("{lines}{:08x}\n", crc32fast::hash(lines.as_bytes())).as_bytes())?;
    if safely {
        file.sync_all()?;
    }
    fs::rename(&new, &path)
}

/// Compares the files in `copy`, which come from `directory`, with the sums beside that. A directory that an earlier build kept has none.
pub(super) fn check(copy: &Path, directory: &Path) -> Result<(), String> {
    let path = beside(directory);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
    };
    let found = lines(copy).map_err(|error| format!("cannot read {}: {error}", copy.display()))?;
    compare(&text, &found).map_err(|(file, what)| {
        let damaged = file.map_or(path, |file| directory.join(file));
        format!(
            "{} is damaged: {what}; put a whole copy in its place (another machine's, if it has the same), or start over with --fresh",
            damaged.display()
        )
    })
}

/// The file and its line that differ first.
fn compare(text: &[u8], found: &[String]) -> Result<(), (Option<String>, String)> {
    let last = text.len().saturating_sub(SUM_BYTES);
    let (body, sum) = text.split_at(last);
    let own = format!("{:08x}\n", crc32fast::hash(body));
    if sum != own.as_bytes() {
        let (wanted, own) = (sum.trim_ascii_end().escape_ascii(), own.trim_end());
        return Err((None, format!("expected CRC {wanted} of bytes 0 to {last}, found {own}")));
    }
    let body = String::from_utf8_lossy(body);
    let mut wanted = body.split_inclusive('\n');
    let mut found = found.iter().map(String::as_str);
    loop {
        let (one, other) = (wanted.next(), found.next());
        let named = |line: &str| line.split_once(' ').map(|(_, path)| path.trim_end().to_owned());
        let crc = |line: Option<&str>| match line.and_then(|line| line.split_once(' ')) {
            Some((crc, _)) => format!("CRC {crc}"),
            None => "no such file".to_owned(),
        };
        match (one, other) {
            (None, None) => return Ok(()),
            _ if one == other => {}
            (Some(line), Some(other))
                if named(line) != named(other) && line[SUM_BYTES..] > other[SUM_BYTES..] =>
            {
                return Err((named(other), format!("expected {}, found {}", crc(None), crc(Some(other)))));
            }
            (Some(line), other) => {
                let other = other.filter(|other| named(other) == named(line));
                return Err((named(line), format!("expected {}, found {}", crc(Some(line)), crc(other))));
            }
            (None, other) => {
                return Err((other.and_then(named), format!("expected {}, found {}", crc(None), crc(other))));
            }
        }
    }
}

/// Bytes of a sum and the space or line end behind it.
const SUM_BYTES: usize = 9;

/// A line for each file and link, in the order of their paths.
fn lines(top: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    walk(top, top, &mut lines)?;
    lines.sort_by(|a: &String, b| a[SUM_BYTES..].cmp(&b[SUM_BYTES..]));
    Ok(lines)
}

fn walk(top: &Path, directory: &Path, lines: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            walk(top, &path, lines)?;
            continue;
        }
        // No other kinds are kept.
        let bytes = match kind.is_symlink() {
            true => fs::read_link(&path)?.as_os_str().as_bytes().to_vec(),
            false => fs::read(&path)?,
        };
        let name = path.strip_prefix(top).unwrap_or(&path).as_os_str().as_bytes().escape_ascii();
        lines.push(format!("{:08x} {name}\n", crc32fast::hash(&bytes)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{beside, check, write};
    use std::fs;

    #[test]
    fn each_flipped_byte_is_found_in_its_file() {
        let scratch = std::env::temp_dir().join(format!("brolga-system-sums-{}", std::process::id()));
        let system = scratch.join("system");
        fs::create_dir_all(system.join("etc/ssl")).unwrap();
        for (name, text) in [("etc/hosts", "127.0.0.1 here"), ("etc/ssl/a b", "x"), ("etc/empty", "")] {
            fs::write(system.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("hosts", system.join("etc/link")).unwrap();
        check(&system, &system).expect("one of an earlier build");
        write(&system, &system, true).unwrap();
        check(&system, &system).unwrap();
        for path in [system.join("etc/hosts"), system.join("etc/ssl/a b"), beside(&system)] {
            let good = fs::read(&path).unwrap();
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                fs::write(&path, &bad).unwrap();
                let error = check(&system, &system).unwrap_err();
                let told = format!("{} is damaged: expected CRC ", path.display());
                assert!(error.starts_with(&told) && error.contains(", found "), "byte {at}: {error}");
            }
            fs::write(&path, good).unwrap();
        }
        let told = |start: &str| {
            let error = check(&system, &system).unwrap_err();
            assert!(error.starts_with(&format!("{}/{start}", system.display())), "{error}");
        };
        fs::rename(system.join("etc/hosts"), scratch.join("kept")).unwrap();
        told("etc/hosts is damaged: expected CRC ");
        fs::rename(scratch.join("kept"), system.join("etc/hosts")).unwrap();
        fs::write(system.join("etc/more"), "").unwrap();
        told("etc/more is damaged: expected no such file, found CRC ");
        fs::remove_file(system.join("etc/more")).unwrap();
        fs::write(system.join("etc/z"), "").unwrap();
        fs::rename(system.join("etc/z"), system.join("z")).unwrap();
        told("z is damaged: expected no such file, found CRC ");
        fs::remove_file(system.join("z")).unwrap();
        fs::remove_file(system.join("etc/link")).unwrap();
        std::os::unix::fs::symlink("elsewhere", system.join("etc/link")).unwrap();
        told("etc/link is damaged: expected CRC ");
        fs::remove_dir_all(&scratch).unwrap();
    }
}
