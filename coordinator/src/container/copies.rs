//! Copies of directories with all that is in them.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

/// Bytes of the names of a directory's extended attributes, and of one's value, at the most: the kernel's limit.
const ATTRIBUTES_BYTES: usize = 64 << 10;

/// Copies all that is in the directory `from` into `to`, times, owners and extended attributes included; shares the blocks where the
/// file system can.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    if fs::read_dir(from)?.next().is_none() {
        // Most upper layers are empty, and a process for each takes longer than all the rest.
        return copy_attributes(from, to);
    }
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto", "--"]).arg(from.join(".")).arg(to);
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// What a directory has beside its entries.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let data = fs::metadata(from)?;
    chown(to, Some(data.uid()), Some(data.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(data.mode() & 0o7777))?;
    copy_extended(from, to)?;
    let (read, written) =
        (TimeSpec::new(data.atime(), data.atime_nsec()), TimeSpec::new(data.mtime(), data.mtime_nsec()));
    Ok(utimensat(AT_FDCWD, to, &read, &written, UtimensatFlags::NoFollowSymlink)?)
}

fn copy_extended(from: &Path, to: &Path) -> io::Result<()> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (from, to) = (name(from)?, name(to)?);
    let (mut names, mut value) = (vec![0_u8; ATTRIBUTES_BYTES], vec![0_u8; ATTRIBUTES_BYTES]);
    // SAFETY: the path is a C string, and the kernel writes no more than the buffer's length.
    let len = unsafe { libc::llistxattr(from.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let Ok(len) = usize::try_from(len) else {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            error => Err(error),
        };
    };
    for name in names[..len].split_inclusive(|&byte| byte == 0) {
        let name = name.as_ptr().cast();
        // SAFETY: as above; the names end with a zero byte each.
        let set = unsafe {
            let len = libc::lgetxattr(from.as_ptr(), name, value.as_mut_ptr().cast(), value.len());
            let Ok(len) = usize::try_from(len) else { return Err(io::Error::last_os_error()) };
            libc::lsetxattr(to.as_ptr(), name, value.as_ptr().cast(), len, 0)
        };
        if set == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::copy;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    const NAME: &std::ffi::CStr = c"user.brolga";

    fn path(path: &Path) -> CString {
        CString::new(path.as_os_str().as_bytes()).unwrap()
    }

    /// Value of the attribute, if the file system has any.
    fn attribute(of: &Path) -> Option<Vec<u8>> {
        let mut value = vec![0; 16];
        // SAFETY: C strings, and a buffer of that length.
        let len = unsafe {
            libc::lgetxattr(path(of).as_ptr(), NAME.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(len).ok()?);
        Some(value)
    }

    /// A directory without entries is copied by us, one with some by `cp`: with the same attributes.
    #[test]
    fn attributes_are_those_that_cp_gives() {
        let top = std::env::temp_dir().join(format!("brolga-copies-{}", std::process::id()));
        let from = top.join("from");
        fs::create_dir_all(&from).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1711)).unwrap();
        // SAFETY: C strings, and a value of that length. Not every file system has such attributes.
        unsafe { libc::lsetxattr(path(&from).as_ptr(), NAME.as_ptr(), b"value".as_ptr().cast(), 5, 0) };
        copy(&from, &top.join("empty")).unwrap();
        fs::write(from.join("file"), "").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_891);
        fs::File::open(&from).unwrap().set_modified(old).unwrap();
        copy(&from, &top.join("full")).unwrap();
        fs::remove_file(from.join("file")).unwrap();
        fs::File::open(&from).unwrap().set_modified(old).unwrap();
        copy(&from, &top.join("empty")).unwrap();
        let seen = |name: &str| {
            let data = fs::metadata(top.join(name)).unwrap();
            (data.mode(), data.uid(), data.gid(), data.modified().unwrap(), attribute(&top.join(name)))
        };
        assert_eq!(seen("empty"), seen("full"));
        assert_eq!(seen("empty"), seen("from"));
        assert_eq!(seen("empty").3, old);
        assert!(copy(&top.join("missing"), &top.join("other")).is_err());
        fs::remove_dir_all(&top).unwrap();
    }
}
