//! `brolga verify`: runs a server, replays what was recorded, and says whether the two are the same.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::explain;
use super::replay::{DIFFERENT, tell};
use super::replay_args::VerifyArgs;
use crate::container::remove_tree;
use crate::launcher::control::{ClusterStatus, Reply, Request, ask};
use crate::launcher::state::default_path;
use crate::replay::ReplayError;
use crate::replay::explain::replay;
use crate::replay::recording::Recording;

/// How long the server has to listen before the load is given up, seconds.
const START_PATIENCE_SECONDS: u64 = 300;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Name of the cluster.
const NAME: &str = "verify";
/// Exit code if nothing was found out.
const UNKNOWN: i32 = 1;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Verifies; returns the exit code.
pub(super) fn verify(args: &VerifyArgs) -> Result<i32, ReplayError> {
    let state = args.state.clone().unwrap_or_else(|| default_path(&format!("verify-{}", std::process::id())));
    // SAFETY: the handler only stores to an atomic.
    unsafe { libc::signal(libc::SIGINT, interrupt as *const () as libc::sighandler_t) };
    let code = record(args, &state).and_then(|flaw| compare(args, &state, flaw));
    if args.keep || matches!(code, Ok(DIFFERENT)) {
        let state = state.display();
        println!("the recording is in {state}: brolga replay --gdb --state {state}");
    } else {
        let _ = remove_tree(&state);
    }
    code
}

/// `flaw`: why the load says nothing of the server.
fn compare(args: &VerifyArgs, state: &Path, flaw: Option<String>) -> Result<i32, ReplayError> {
    for number in 1..=args.replays {
        let recording = Recording::open(state, 1)?;
        let entries = recording.len();
        eprintln!("brolga: replay {number} of {}: {entries} entries", args.replays);
        let outcome = replay(&recording)?;
        if tell(&recording, &outcome) == DIFFERENT {
            println!("NOT DETERMINISTIC");
            return explain::run_and_replay(&recording, None).map(|_| DIFFERENT);
        }
    }
    if let Some(flaw) = flaw {
        println!("UNKNOWN: the server did the same again, but {flaw}, so that says little");
        return Ok(UNKNOWN);
    }
    println!("deterministic: the server did the same again under the recorded load");
    Ok(0)
}

/// Runs the server once, alone, with the load; returns what was wrong with the load, if anything was.
fn record(args: &VerifyArgs, state: &Path) -> Result<Option<String>, ReplayError> {
    let mut run = start(args, state)?;
    let done = drive(args, state, &mut run);
    let _ = ask(state, &Request::Stop);
    let ended = run.wait().map_err(ReplayError::system("wait for the server"))?;
    let flaw = done?;
    if ended.success() || state.join("replica-1/log").is_dir() {
        return Ok(flaw);
    }
    Err(ReplayError::Refused(format!("the server could not be recorded ({ended}); see above")))
}

fn start(args: &VerifyArgs, state: &Path) -> Result<Child, ReplayError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("brolga").args(["run", "-n", "1", "--fresh", "--name", NAME, "--state"]).arg(state);
    for publication in &args.publish {
        command.arg("--publish").arg(publication);
    }
    command.arg("--").args(&args.command).stdin(Stdio::null());
    // A group of its own: Ctrl-C ends the recording in order. If this process dies, the run ends.
    command.process_group(0);
    // SAFETY: a plain system call between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.spawn().map_err(ReplayError::system("start brolga run"))
}

/// Returns when the load is over, or the time, or the server.
fn drive(args: &VerifyArgs, state: &Path, run: &mut Child) -> Result<Option<String>, ReplayError> {
    let mut flaw = None;
    let mut over =
        |run: &mut Child| INTERRUPTED.load(Ordering::SeqCst) || !matches!(run.try_wait(), Ok(None));
    if let Some(load) = &args.load {
        let Some(status) = await_ports(state, run, load, &mut over)? else {
            return Ok(Some("the server was over before the load could begin".to_owned()));
        };
        let load = fill_in(load, &status)?;
        let ended = Command::new("sh").arg("-c").arg(&load).stdin(Stdio::null()).status();
        let ended = ended.map_err(ReplayError::system("start the load"))?;
        if !ended.success() && !INTERRUPTED.load(Ordering::SeqCst) {
            flaw = Some(format!("the load failed ({ended}): {load}"));
        }
        if args.seconds == 0 {
            return Ok(flaw);
        }
    } else if args.seconds == 0 {
        eprintln!("brolga: use the server as its clients do; Ctrl-C ends the recording");
    }
    let begun = Instant::now();
    let limit = if args.seconds == 0 { u64::MAX } else { args.seconds };
    while !over(run) && begun.elapsed().as_secs() < limit {
        std::thread::sleep(LOOK);
    }
    Ok(flaw)
}

/// The status once all ports that the load names are there; `None` if the run was over before.
fn await_ports(
    state: &Path,
    run: &mut Child,
    load: &str,
    over: &mut impl FnMut(&mut Child) -> bool,
) -> Result<Option<ClusterStatus>, ReplayError> {
    let begun = Instant::now();
    while !over(run) {
        if let Ok(Reply::Status(status)) = ask(state, &Request::Status)
            && status.leader != 0
            && fill_in(load, &status).is_ok()
        {
            return Ok(Some(*status));
        }
        if begun.elapsed().as_secs() > START_PATIENCE_SECONDS {
            let why = format!("the server does not listen after {START_PATIENCE_SECONDS} s");
            return Err(ReplayError::Refused(why));
        }
        std::thread::sleep(LOOK);
    }
    Ok(None)
}

/// Puts ports for `{port}` (the first one) and `{port:N}` (where the server's port N is published).
fn fill_in(load: &str, status: &ClusterStatus) -> Result<String, ReplayError> {
    let live = |server_port: u16| {
        let listeners = status.replicas.iter().filter_map(|replica| replica.status.as_ref());
        listeners.flat_map(|status| &status.listeners).any(|listener| listener.port == server_port)
    };
    let ports: Vec<_> = status.ports.iter().filter(|port| live(port.server_port)).collect();
    let mut filled = String::new();
    let mut rest = load;
    while let Some(at) = rest.find("{port") {
        let Some(end) = rest[at..].find('}') else { break };
        let inner = &rest[at + "{port".len()..at + end];
        let wanted = match inner.strip_prefix(':') {
            Some(number) => ports.iter().find(|port| port.server_port.to_string() == number),
            None => ports.first(),
        };
        let port = wanted
            .ok_or_else(|| ReplayError::Refused(format!("the server has no {}", &rest[at..=at + end])))?;
        filled.push_str(&rest[..at]);
        filled.push_str(&port.address.port().to_string());
        rest = &rest[at + end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}
