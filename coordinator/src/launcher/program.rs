//! Finds the command and refuses, before anything is made, what preload cannot get into.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, ELFCLASS64, ELFMAG, EM_X86_64, FileHeader64, PT_DYNAMIC, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

/// Scripts whose interpreter is a script whose interpreter ... The kernel follows four.
const MAX_INTERPRETERS: usize = 4;
/// Bytes of a file that are looked at; program headers stand near the start.
const HEAD_BYTES: u64 = 64 * 1024;

/// Why a command is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProgramError {
    /// Nothing, as an unset variable gives it.
    #[error("the command is empty")]
    Empty,
    /// Not there.
    #[error("command not found: {0}; install it, or give its full path")]
    NotFound(String),
    /// Present but not executable, or not readable.
    #[error("cannot execute {path}: {reason}")]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No dynamic loader would load preload into it.
    #[error(
        "{0} is statically linked, so Brolga's library cannot be loaded into it; use a dynamically linked build (Go: CGO_ENABLED=1)"
    )]
    Static(PathBuf),
    /// A loader would load preload, but the program's threads are not libc's.
    #[error(
        "{0} uses no libc, so its threads cannot be scheduled; use a build that does (Go: CGO_ENABLED=1)"
    )]
    WithoutLibc(PathBuf),
    /// The loader ignores LD_PRELOAD there.
    #[error(
        "{0} is setuid, setgid or has file capabilities, so the loader ignores Brolga's library; run a copy without (`cp` drops them)"
    )]
    Privileged(PathBuf),
    /// Preload exists for one architecture only.
    #[error("{0} is not a 64-bit x86 program; install the x86-64 build of it")]
    WrongArchitecture(PathBuf),
}

/// Finds `command` as `execvp` would and checks that the server can be replicated. Returns its absolute path.
pub fn resolve(command: &OsStr, path: Option<&OsStr>, directory: &Path) -> Result<PathBuf, ProgramError> {
    let found = find(command, path, directory)?;
    check(&found, path, directory, MAX_INTERPRETERS)?;
    Ok(found)
}

fn find(command: &OsStr, path: Option<&OsStr>, directory: &Path) -> Result<PathBuf, ProgramError> {
    if command.is_empty() {
        return Err(ProgramError::Empty);
    }
    let not_found = || ProgramError::NotFound(command.to_string_lossy().into_owned());
    if command.as_bytes().contains(&b'/') {
        let full = directory.join(command);
        return if full.exists() { executable(full) } else { Err(not_found()) };
    }
    let default = OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut first_problem = None;
    for entry in std::env::split_paths(path.unwrap_or(default)) {
        let full = directory.join(entry).join(command);
        if full.is_file() {
            match executable(full) {
                Ok(found) => return Ok(found),
                Err(problem) => first_problem = first_problem.or(Some(problem)),
            }
        }
    }
    Err(first_problem.unwrap_or_else(not_found))
}

fn executable(path: PathBuf) -> Result<PathBuf, ProgramError> {
    let reason = match fs::metadata(&path) {
        Err(error) => error.to_string(),
        Ok(data) if data.is_dir() => "it is a directory".to_owned(),
        Ok(data) if data.permissions().mode() & 0o111 == 0 => {
            "it is not executable (`chmod +x` it)".to_owned()
        }
        Ok(_) => return Ok(path),
    };
    Err(ProgramError::NotExecutable { path, reason })
}

fn check(file: &Path, path: Option<&OsStr>, directory: &Path, depth: usize) -> Result<(), ProgramError> {
    let not_executable = |reason: String| ProgramError::NotExecutable { path: file.to_owned(), reason };
    let head = read_head(file).map_err(|error| not_executable(error.to_string()))?;
    if let Some(line) = head.strip_prefix(b"#!") {
        if depth == 0 {
            return Err(not_executable("too many interpreters".to_owned()));
        }
        let interpreter =
            interpreter(line).ok_or_else(|| not_executable("no interpreter behind #!".to_owned()))?;
        let found = find(&interpreter, path, directory)?;
        return check(&found, path, directory, depth - 1);
    }
    if is_privileged(file) {
        return Err(ProgramError::Privileged(file.to_owned()));
    }
    check_elf(file, &head)
        .map_err(|problem| problem.unwrap_or_else(|| not_executable("not a program".to_owned())))
}

/// `Err(None)`: not a well-formed ELF file.
fn check_elf(file: &Path, head: &[u8]) -> Result<(), Option<ProgramError>> {
    if head.get(..4) != Some(&ELFMAG[..]) {
        return Err(None);
    }
    if head.get(4) != Some(&ELFCLASS64) {
        return Err(Some(ProgramError::WrongArchitecture(file.to_owned())));
    }
    let elf = FileHeader64::<Endianness>::parse(head).map_err(|_| None)?;
    let endian = elf.endian().map_err(|_| None)?;
    if elf.e_machine(endian) != EM_X86_64 {
        return Err(Some(ProgramError::WrongArchitecture(file.to_owned())));
    }
    let segments = elf.program_headers(endian, head).map_err(|_| None)?;
    if !segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP) {
        return Err(Some(ProgramError::Static(file.to_owned())));
    }
    let dynamic = segments.iter().find(|segment| segment.p_type(endian) == PT_DYNAMIC);
    match dynamic.map(|segment| (segment.p_offset(endian), segment.p_filesz(endian))) {
        Some(place) if !needs_a_library(file, place) => Err(Some(ProgramError::WithoutLibc(file.to_owned()))),
        _ => Ok(()),
    }
}

/// Whether the dynamic section at `offset` names any library; so does one that cannot be read.
fn needs_a_library(file: &Path, (offset, bytes): (u64, u64)) -> bool {
    let mut section = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(HEAD_BYTES as usize)];
    let read = File::open(file).and_then(|file| file.read_exact_at(&mut section, offset));
    let needed = u64::from(DT_NEEDED).to_le_bytes();
    read.is_err() || section.chunks_exact(16).any(|entry| entry[..8] == needed)
}

fn read_head(file: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(file)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

/// The program that a `#!` line starts in the end; `env` is looked through.
fn interpreter(line: &[u8]) -> Option<OsString> {
    let line = line.split(|&byte| byte == b'\n').next()?;
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let first = words.next()?;
    let is_env = first.rsplit(|&byte| byte == b'/').next() == Some(b"env");
    let program = if is_env { words.find(|word| !word.starts_with(b"-"))? } else { first };
    Some(OsString::from_vec(program.to_vec()))
}

fn is_privileged(file: &Path) -> bool {
    let setuid = fs::metadata(file).is_ok_and(|data| data.permissions().mode() & 0o6000 != 0);
    let Ok(name) = std::ffi::CString::new(file.as_os_str().as_bytes()) else { return setuid };
    // SAFETY: valid strings; no buffer, the size only is asked for.
    let capabilities =
        unsafe { libc::getxattr(name.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) };
    setuid || capabilities > 0
}

#[cfg(test)]
mod tests {
    use super::{ProgramError, check_elf, interpreter, needs_a_library, resolve};
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    /// A minimal ELF file with one program header of type `kind`.
    fn elf(class: u8, machine: u16, kind: u32) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        file[16..18].copy_from_slice(&3_u16.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[52..54].copy_from_slice(&64_u16.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&1_u16.to_le_bytes());
        file[64..68].copy_from_slice(&kind.to_le_bytes());
        file
    }

    #[test]
    fn tells_dynamic_static_and_foreign_programs_apart() {
        let path = Path::new("/x");
        assert_eq!(check_elf(path, &elf(2, 62, 3)), Ok(()));
        assert_eq!(check_elf(path, &elf(2, 62, 1)), Err(Some(ProgramError::Static(path.into()))));
        assert_eq!(check_elf(path, &elf(1, 3, 3)), Err(Some(ProgramError::WrongArchitecture(path.into()))));
        assert_eq!(check_elf(path, &elf(2, 183, 3)), Err(Some(ProgramError::WrongArchitecture(path.into()))));
        assert_eq!(check_elf(path, b"hello"), Err(None));
        assert_eq!(check_elf(path, &elf(2, 62, 3)[..70]), Err(None));
    }

    #[test]
    fn finds_needed_libraries() {
        let path = std::env::temp_dir().join(format!("brolga-needed-{}", std::process::id()));
        let entry = |tag: u64| [tag.to_le_bytes(), 7_u64.to_le_bytes()].concat();
        fs::write(&path, [entry(5), entry(1), entry(0)].concat()).unwrap();
        assert!(needs_a_library(&path, (0, 48)));
        assert!(!needs_a_library(&path, (0, 16)));
        assert!(needs_a_library(&path, (0, 4800)), "what cannot be read is not refused");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn finds_interpreters() {
        let of = |line: &str| interpreter(line.as_bytes()).map(|s| s.into_string().unwrap());
        assert_eq!(of(" /bin/sh -e\nrest"), Some("/bin/sh".to_owned()));
        assert_eq!(of("/usr/bin/env -S python3 -u\n"), Some("python3".to_owned()));
        assert_eq!(of("\n"), None);
    }

    #[test]
    fn resolves_commands_and_refuses_clearly() {
        let directory = std::env::temp_dir().join(format!("brolga-program-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, bytes: &[u8], mode: u32| {
            let path = directory.join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("script", b"#!/bin/sh\n", 0o755);
        write("static", &elf(2, 62, 1), 0o755);
        write("calls-static", b"#!./static\n", 0o755);
        write("setuid", &elf(2, 62, 3), 0o4755);
        write("plain", b"text", 0o644);
        let try_it = |name: &str| resolve(OsStr::new(name), Some(directory.as_os_str()), &directory);
        assert_eq!(try_it("script"), Ok(directory.join("script")));
        assert_eq!(try_it("./static"), Err(ProgramError::Static(directory.join("./static"))));
        assert!(matches!(try_it("calls-static"), Err(ProgramError::Static(_))));
        assert_eq!(try_it("setuid"), Err(ProgramError::Privileged(directory.join("setuid"))));
        assert!(matches!(try_it("plain"), Err(ProgramError::NotExecutable { .. })));
        assert_eq!(try_it("nothing"), Err(ProgramError::NotFound("nothing".to_owned())));
        assert_eq!(resolve(OsStr::new("sh"), None, &directory).map(|p: PathBuf| p.is_absolute()), Ok(true));
        fs::remove_dir_all(&directory).unwrap();
    }
}
