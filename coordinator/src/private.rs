//! Directories that hold what no other user of the machine may see: keys, logs, memory of servers.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a directory that only its owner can look into, with the ones above it as need be. One that is there stays as it is.
///
/// # Errors
/// What `mkdir` says.
pub fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
