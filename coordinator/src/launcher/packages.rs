//! The files of a machine that must be the same on all: the server's program, the libraries that it is linked with, and what
//! the command names. A replica reads them from its machine, and nothing would tell a different one from a fault.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::cluster_file_error::ClusterFileError;

/// The loader of every dynamically linked program that Brolga runs.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Interpreters that run interpreters.
const MAX_INTERPRETERS: usize = 4;

/// A file as it was when the cluster was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Absolute path.
    pub path: String,
    /// Of its content, hexadecimal.
    pub sha256: String,
}

/// The files that a command is made of, with their digests. `more` are files that the user named.
pub fn collect(
    program: &Path,
    command: &[String],
    directory: &Path,
    more: &[PathBuf],
) -> Result<Vec<FileDigest>, ClusterFileError> {
    let mut paths = BTreeSet::new();
    for link in interpreters(program) {
        paths.extend(libraries(&link));
        paths.insert(link);
    }
    let named = command.iter().skip(1).map(|word| directory.join(word)).filter(|path| path.is_file());
    paths.extend(named.chain(more.iter().map(|path| directory.join(path))));
    paths.into_iter().map(|path| digest_entry(&path)).collect()
}

/// Whether this machine has all of these files.
pub fn check(files: &[FileDigest]) -> Result<(), ClusterFileError> {
    for file in files {
        let path = PathBuf::from(&file.path);
        let other = |why: String| ClusterFileError::OtherFile { path: path.clone(), why };
        let found = sha256(&path).map_err(|error| other(error.to_string()))?;
        if found != file.sha256 {
            return Err(other(format!("sha256 {}.. instead of {}..", short(&found), short(&file.sha256))));
        }
    }
    Ok(())
}

fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

/// The program, its interpreter if it is a script, and so on.
fn interpreters(program: &Path) -> Vec<PathBuf> {
    let mut chain = vec![program.to_owned()];
    while chain.len() <= MAX_INTERPRETERS {
        let Some(last) = chain.last() else { break };
        let mut line = [0; 256];
        let count = File::open(last).and_then(|mut file| file.read(&mut line)).unwrap_or(0);
        let Some(rest) = line[..count].strip_prefix(b"#!") else { break };
        let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
        let path = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        chain.push(PathBuf::from(OsStr::from_bytes(path)));
    }
    chain
}

/// What the loader would load with a program; nothing of a script.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new(LOADER).arg("--list").arg(program).stdin(Stdio::null()).output();
    let Ok(listed) = listed else { return vec![] };
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)", or only the path.
    let path = |line: &str| {
        let rest = line.split_once("=> ").map_or(line, |(_, rest)| rest).trim();
        let path = rest.split_once(" (").map_or(rest, |(path, _)| path);
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    text.lines().filter_map(path).filter(|path| path.is_file()).collect()
}

fn digest_entry(path: &Path) -> Result<FileDigest, ClusterFileError> {
    let sha256 = sha256(path).map_err(|source| ClusterFileError::Read { path: path.to_owned(), source })?;
    let text = path.to_str().ok_or_else(|| ClusterFileError::NotText(path.display().to_string()))?;
    Ok(FileDigest { path: text.to_owned(), sha256 })
}

fn sha256(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut file = File::open(path)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::{check, collect};
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_script_brings_its_interpreter_and_that_its_libraries_and_the_command_its_files() {
        let directory = std::env::temp_dir().join(format!("brolga-packages-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let script = directory.join("server");
        fs::write(&script, "#! /bin/sh -e\n").unwrap();
        fs::write(directory.join("conf"), "a").unwrap();
        let command = ["server", "-c", "conf", "nothing"].map(str::to_owned);
        let files = collect(&script, &command, &directory, &[]).unwrap();
        let has = |path: &Path| files.iter().any(|file| Path::new(&file.path) == path);
        assert!(has(&script) && has(Path::new("/bin/sh")) && has(&directory.join("conf")), "{files:?}");
        assert!(files.iter().any(|file| file.path.ends_with("libc.so.6")), "{files:?}");
        check(&files).unwrap();
        fs::write(directory.join("conf"), "b").unwrap();
        let told = check(&files).unwrap_err().to_string();
        assert!(
            told.contains("conf is not the file of the cluster (sha256 3e23e816.. instead of ca978112..)"),
            "{told}"
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
