//! Small C programs, each about one family of calls, print the same natively and in every replica, and a second replay of
//! a program's log does the same operations with the same results: the digests of both agree after every entry.
//!
//! A line `// cc: ...` gives a program more options of the compiler, and a file of its name in `libraries/` is built as a library
//! that it is linked with. `BROLGA_ONLY=NAME,NAME` runs these alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use brolga_tests::cluster;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, poll};

fn programs() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let entries =
        fs::read_dir(&directory).unwrap_or_else(|e| panic!("cannot list {}: {e}", directory.display()));
    let mut sources: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    if let Ok(only) = std::env::var("BROLGA_ONLY") {
        let named =
            |path: &PathBuf| path.file_stem().is_some_and(|stem| only.split(',').any(|name| stem == name));
        sources.retain(named);
    }
    sources.sort();
    assert!(!sources.is_empty(), "no programs in {}", directory.display());
    sources
}

/// Options of the compiler that a line of a program asks for.
fn own_options(source: &Path) -> Vec<String> {
    let text = fs::read_to_string(source).unwrap_or_else(|e| panic!("cannot read {}: {e}", source.display()));
    let asked = text.lines().filter_map(|line| line.strip_prefix("// cc: "));
    asked.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

fn compile(source: &Path, binary: &Path, more: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu2x", "-O1", "-g", "-pthread"]).args(own_options(source)).arg(source);
    let built = cc.arg("-o").arg(binary).args(more).output().expect("run cc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

fn build(source: &Path, binary: &Path) {
    let name = source.file_name().expect("a name");
    let library = source.with_file_name("libraries").join(name);
    if !library.exists() {
        return compile(source, binary, &["-ldl"]);
    }
    let built = binary.with_extension("so");
    compile(&library, &built, &["-shared", "-fPIC"]);
    compile(source, binary, &[built.to_str().expect("a plain path"), "-ldl"]);
}

/// What the program printed in each replica, the exit code of `brolga run`, and what that said. Run again in the same directory it replays
/// the log of the run before.
fn under_brolga(
    scratch: &Scratch,
    binary: &Path,
    replicas: u8,
) -> Result<(Vec<String>, Option<i32>, String), String> {
    let state = scratch.path().join("state");
    let mut command = Command::new(cluster::brolga());
    command.args(["run", "-n", &replicas.to_string(), "--name", scratch.name(), "--state"]).arg(&state);
    command.arg("--").arg(binary).current_dir(scratch.path());
    command.env("RUST_LOG", "info,brolga::digest=trace");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start brolga");
    let pid = i32::try_from(child.id()).expect("a process id");
    let Some(status) = poll(PATIENCE, || child.try_wait().expect("wait for brolga")) else {
        brolga_tests::process::signal(pid, libc::SIGTERM);
        let said = child.wait_with_output().expect("the output of brolga");
        return Err(format!("no end after {PATIENCE:?}: {}", String::from_utf8_lossy(&said.stderr)));
    };
    let said = child.wait_with_output().expect("the output of brolga");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let logs = (1..=replicas).map(|id| state.join(format!("replica-{id}/coordinator.log")));
    if logs.filter_map(|log| fs::read_to_string(log).ok()).any(|log| log.to_lowercase().contains("diverged"))
    {
        return Err(format!("the replicas diverged: {said}"));
    }
    let output =
        |id| fs::read_to_string(state.join(format!("replica-{id}/output/stdout"))).unwrap_or_default();
    Ok(((1..=replicas).map(output).collect(), status.code(), said))
}

fn compare(replicas: u8) {
    let _turn = serial::turn();
    let scratch = Scratch::new("programs");
    let mut wrong = Vec::new();
    for source in programs() {
        let name = source.file_stem().expect("a name").to_string_lossy().into_owned();
        let binary = scratch.path().join(&name);
        build(&source, &binary);
        let native = Command::new(&binary).stdin(Stdio::null()).current_dir(scratch.path()).output();
        let native = native.expect("run a conformance program");
        let expected = String::from_utf8_lossy(&native.stdout).into_owned();
        let scratch = Scratch::new("conformance");
        let differs = match under_brolga(&scratch, &binary, replicas) {
            Err(error) => Some(error),
            Ok((printed, code, said)) => {
                let same = printed.iter().all(|text| *text == expected) && code == native.status.code();
                let natively = native.status;
                (!same).then(|| format!("{code:?}, natively {natively:?}\n{expected}\n{printed:#?}\n{said}"))
            }
        };
        match differs {
            None => println!("ok {name}: {} lines", expected.lines().count()),
            Some(error) => wrong.push(format!("{name}: {error}{}", kept(scratch))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The digests that replica 1 told in its log since `from` bytes: after each entry, and at the end of the program.
fn digests(scratch: &Scratch, from: usize) -> BTreeMap<String, String> {
    let log =
        fs::read_to_string(scratch.path().join("state/replica-1/coordinator.log")).expect("read the log");
    let told = log[from..].lines().filter(|line| line.contains("brolga::digest"));
    let mut ended = false;
    // What a leader still told after the end, a replay may be too late for.
    let told = told.filter_map(|line| line.split_once("entry=")?.1.split_once(' '));
    let told = told.take_while(|(entry, _)| !std::mem::replace(&mut ended, *entry == "end"));
    told.map(|(entry, rest)| (entry.to_owned(), rest.to_owned())).collect()
}

/// Keeps the directory of a program that fails, if that is wanted, while the others go on; says where it is.
fn kept(scratch: Scratch) -> String {
    match scratch.keep() {
        Some(path) => format!("\nkept: {}", path.display()),
        None => String::new(),
    }
}

/// Runs a program, and once more on the log of the first run; returns the number of digests that were compared.
fn run_twice(scratch: &Scratch, binary: &Path) -> Result<usize, String> {
    let (printed, code, _) = under_brolga(scratch, binary, 1)?;
    let first = digests(scratch, 0);
    let length = fs::metadata(scratch.path().join("state/replica-1/coordinator.log")).map_or(0, |m| m.len());
    let (again, code_again, said) = under_brolga(scratch, binary, 1)?;
    if (&again, code_again) != (&printed, code) {
        return Err(format!("the replay printed another text: {printed:#?}, then {again:#?}\n{said}"));
    }
    let second = digests(scratch, usize::try_from(length).expect("a size"));
    if first.is_empty() {
        return Err("no digests".to_owned());
    }
    match first.iter().find(|(entry, digest)| second.get(*entry) != Some(digest)) {
        Some((entry, digest)) => Err(format!("entry {entry}: {digest}, then {:?}", second.get(entry))),
        None => Ok(first.len()),
    }
}

#[test]
fn programs_give_the_same_digests_twice() {
    let _turn = serial::turn();
    let scratch = Scratch::new("programs");
    let mut wrong = Vec::new();
    for source in programs() {
        let name = source.file_stem().expect("a name").to_string_lossy().into_owned();
        let binary = scratch.path().join(&name);
        build(&source, &binary);
        let scratch = Scratch::new("twice");
        match run_twice(&scratch, &binary) {
            Ok(count) => println!("ok {name}: {count} digests"),
            Err(error) => wrong.push(format!("{name}: {error}{}", kept(scratch))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn programs_print_the_same_with_one_replica() {
    compare(1);
}

#[test]
fn programs_print_the_same_with_three_replicas() {
    compare(3);
}
