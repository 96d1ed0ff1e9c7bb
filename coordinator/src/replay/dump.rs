//! The last operations of a server that diverged, as its replica kept them (`replica/trace.rs` writes them).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dmt::digest::Traced;
use dmt::op::Op;

/// One such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Where it is.
    pub path: PathBuf,
    /// The entry in whose bubble the digest differed.
    pub entry: u64,
    /// The operations, oldest first.
    pub operations: Vec<Traced>,
}

/// The newest one in a replica's directory.
pub fn newest(replica_directory: &Path) -> io::Result<Option<Dump>> {
    let mut found: Option<(std::time::SystemTime, PathBuf, u64)> = None;
    for item in fs::read_dir(replica_directory)? {
        let item = item?;
        let Some(entry) = entry_of(&item.file_name().to_string_lossy()) else { continue };
        let made = item.metadata()?.modified()?;
        if found.as_ref().is_none_or(|(newest, ..)| made > *newest) {
            found = Some((made, item.path(), entry));
        }
    }
    let Some((_, path, entry)) = found else { return Ok(None) };
    let operations = parse(&fs::read_to_string(&path)?);
    Ok(Some(Dump { path, entry, operations }))
}

fn entry_of(name: &str) -> Option<u64> {
    name.strip_prefix("divergence-at-entry-")?.strip_suffix(".trace")?.parse().ok()
}

fn parse(text: &str) -> Vec<Traced> {
    text.lines().skip(1).filter_map(operation).collect()
}

fn operation(line: &str) -> Option<Traced> {
    let mut fields = line.split(' ');
    Some(Traced {
        tick: fields.next()?.parse().ok()?,
        thread: fields.next()?.parse().ok()?,
        op: Op::number(fields.next()?)?,
        object: u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?,
        result: fields.next()?.parse().ok()?,
        digest: u32::from_str_radix(fields.next()?, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{entry_of, parse};
    use dmt::digest::Traced;
    use dmt::op::Op;

    #[test]
    fn reads_what_a_replica_writes() {
        let text = "tick thread operation object result digest(low 32 bits)\n72 1 Read 0x1f -11 00c0ffee\nnonsense\n";
        let wanted =
            Traced { tick: 72, object: 31, result: -11, thread: 1, op: Op::Read as u16, digest: 0x00c0_ffee };
        assert_eq!(parse(text), [wanted]);
        assert_eq!(entry_of("divergence-at-entry-17.trace"), Some(17));
        assert_eq!(entry_of("coordinator.log"), None);
    }
}
