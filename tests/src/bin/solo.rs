//! Runs one program under the preload library with a coordinator of a few lines: it leads alone, commits everything at
//! once and throws away what clients would get. For the conformance programs and for debugging the library.
//!
//!     solo [--quantum TICKS] [--library PATH] [--arena PATH] [--stats] -- PROGRAM [ARGUMENT...]

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use dmt::arena::ARENA_BYTES;
use dmt::entry::{EntryHeader, Genesis, Parameters};
use dmt::link::{Link, Shared};
use dmt::upcall::{ADMITTED, UpcallKind};

const DESCRIPTORS: u64 = dmt::bounds::MAX_FDS as u64;

struct Options {
    quantum: u32,
    library: PathBuf,
    arena: Option<PathBuf>,
    stats: bool,
    command: Vec<String>,
}

fn options() -> Result<Options, String> {
    let beside = std::env::current_exe().map_err(|e| e.to_string())?.with_file_name("libbrolga_preload.so");
    let quantum = dmt::bounds::DEFAULT_QUANTUM_TICKS;
    let mut options = Options { quantum, library: beside, arena: None, stats: false, command: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--quantum" => {
                options.quantum = value()?.parse().map_err(|_| "--quantum needs a number".to_owned())?
            }
            "--library" => options.library = value()?.into(),
            "--arena" => options.arena = Some(value()?.into()),
            "--stats" => options.stats = true,
            "--" => {
                options.command = args.collect();
                break;
            }
            other => return Err(format!("unknown option {other}")),
        }
    }
    if options.command.is_empty() {
        return Err(
            "usage: solo [--quantum N] [--library PATH] [--arena PATH] [--stats] -- PROGRAM ...".to_owned()
        );
    }
    Ok(options)
}

fn genesis(quantum: u32) -> Vec<u8> {
    use zerocopy::IntoBytes;
    let genesis = Genesis {
        secret: [7; 32],
        parameters: Parameters {
            primaries: 1.into(),
            steps: 1.into(),
            quantum: quantum.into(),
            spin_limit_us: dmt::bounds::DEFAULT_SPIN_LIMIT_US.into(),
        },
        crane: 0.into(),
        reserved: 0.into(),
        fingerprint: [0; 16],
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let header = EntryHeader::genesis(now, 1000, 1);
    [header.as_bytes(), genesis.as_bytes()].concat()
}

fn map(path: &PathBuf) -> std::io::Result<*const Shared> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(ARENA_BYTES as u64)?;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new shared mapping of our file, at an address that the kernel chooses.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), ARENA_BYTES, rights, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if at == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(at as *const Shared) }
}

fn spawn(options: &Options, arena: &PathBuf, kick: i32) -> std::io::Result<Child> {
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    command
        .env("LD_PRELOAD", &options.library)
        .env("BROLGA_ARENA", arena)
        .env("BROLGA_KICK_FD", kick.to_string());
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
            let limit = libc::rlimit { rlim_cur: DESCRIPTORS, rlim_max: DESCRIPTORS };
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command.spawn()
}

/// Takes all upcalls; returns how many of each kind there were.
fn drain(link: &mut Link, stats: &mut Stats) {
    let mut end = None;
    while let Some(upcall) = link.next_upcall() {
        end = Some(upcall.end);
        match upcall.kind {
            UpcallKind::Applied => {
                stats.entries += 1;
                stats.admitted += u64::from(upcall.header.flags.get() & ADMITTED != 0);
            }
            UpcallKind::Log | UpcallKind::Diverged => {
                eprintln!("solo: {:?}: {}", upcall.kind, String::from_utf8_lossy(upcall.payload));
            }
            UpcallKind::Exited => stats.exited = Some(upcall.header.a.get()),
            _ => {}
        }
    }
    if let Some(end) = end {
        link.release_upcall(end);
        link.set_committed(link.control().applied.load(Ordering::SeqCst));
    }
}

#[derive(Default)]
struct Stats {
    entries: u64,
    admitted: u64,
    exited: Option<u64>,
}

fn serve(
    link: &mut Link,
    kick: i32,
    child: &mut Child,
    stats: &mut Stats,
) -> std::io::Result<std::process::ExitStatus> {
    loop {
        drain(link, stats);
        if link.wants_wake() {
            // SAFETY: wakes sleepers on a word in the mapping.
            unsafe { libc::syscall(libc::SYS_futex, link.wake_word().as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
        }
        if let Some(status) = child.try_wait()? {
            drain(link, stats);
            return Ok(status);
        }
        if link.prepare_sleep() {
            let mut poll = libc::pollfd { fd: kick, events: libc::POLLIN, revents: 0 };
            let mut count = 0u64;
            // SAFETY: our own descriptor and variables. The time-out only bounds how late a child's end is seen.
            unsafe {
                if libc::poll(&mut poll, 1, 20) > 0 {
                    libc::read(kick, (&raw mut count).cast(), 8);
                }
            }
            link.woke();
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, String> {
    let fresh = std::env::temp_dir().join(format!("brolga-solo-{}", std::process::id()));
    let arena = options.arena.clone().unwrap_or(fresh);
    let shared = map(&arena).map_err(|e| format!("cannot map {}: {e}", arena.display()))?;
    // SAFETY: a fresh arena that stays mapped, and the only Link to it.
    let mut link = unsafe { Link::attach(shared) };
    link.initialise();
    if !link.push_entry(&genesis(options.quantum)) {
        return Err("the first entry does not fit".to_owned());
    }
    link.prepare_lead();
    link.lead(1, 1);
    // SAFETY: makes a descriptor and moves it to a high number, where the program does not meet it.
    let kick = unsafe { libc::fcntl(libc::eventfd(0, libc::EFD_NONBLOCK), libc::F_DUPFD, 900) };
    let mut child =
        spawn(options, &arena, kick).map_err(|e| format!("cannot start {}: {e}", options.command[0]))?;
    let mut stats = Stats::default();
    let status = serve(&mut link, kick, &mut child, &mut stats).map_err(|e| e.to_string())?;
    let _ = std::fs::remove_file(&arena);
    if options.stats {
        let control = link.control();
        let (tick, digest) = (control.tick.load(Ordering::SeqCst), control.digest.load(Ordering::SeqCst));
        let Stats { entries, admitted, exited } = stats;
        eprintln!(
            "solo: ticks {tick} digest {digest:016x} entries {entries} admitted {admitted} exited {exited:?}"
        );
    }
    if let Some(signal) = status.signal() {
        eprintln!("solo: {} was killed by signal {signal}", options.command[0]);
        return Ok(ExitCode::from(128 + signal as u8));
    }
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("solo: {message}");
            ExitCode::from(2)
        }
    }
}
