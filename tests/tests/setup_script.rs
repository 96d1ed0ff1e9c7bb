//! `scripts/setup` on a machine that lacks things. Its commands are replaced by ones of the test's own: what it would install is
//! noted, and nothing of this machine is changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use brolga_tests::scratch::Scratch;

/// Commands of this machine that the script may use.
const REAL: [&str; 8] = ["bash", "sed", "sort", "id", "grep", "dirname", "head", "env"];
/// Installs by leaving a command in the machine's directory, unless one of the packages is in `$UNKNOWN`.
const APT_GET: &str = r#"
echo "$*" >>"$MACHINE/calls"
if [[ "$*" != *install* ]]; then exit 0; fi
for package in "$@"; do if [[ " $UNKNOWN " == *" $package "* ]]; then exit 100; fi; done
leave() { for name in "$@"; do /bin/ln -sf /bin/true "$MACHINE/bin/$name"; done; }
for package in "$@"; do
  case $package in
    redis-server | gcc | memcached) leave "$package" ;;
    redis-tools) leave redis-cli redis-benchmark ;;
    coreutils) leave timeout ;;
    binutils) leave ld nm ;;
    rustup) /bin/cp "$MACHINE/rustup" "$MACHINE/bin/rustup" ;;
  esac
done"#;
const APT_CACHE: &str = r#"
case $2 in
  rustup) echo "  Candidate: ${RUSTUP:-(none)}" ;;
  *) echo "  Candidate: 1.63.0+dfsg1-2" ;;
esac"#;
const RUSTUP: &str = r#"
echo "rustup $*" >>"$MACHINE/calls"
case "$*" in
  default) [ -e "$MACHINE/bin/cargo" ] ;;
  "default stable") /bin/cp "$MACHINE/cargo" "$MACHINE/bin/cargo" ;;
esac"#;

struct Machine(Scratch);

impl Machine {
    /// Without anything that is needed.
    fn bare(label: &str) -> Self {
        let machine = Self(Scratch::new(label));
        fs::create_dir(machine.path("bin")).expect("make a directory of commands");
        for name in REAL {
            let found = ["/usr/bin", "/bin"].iter().map(|place| Path::new(place).join(name));
            let real = found.into_iter().find(|path| path.exists()).expect("a usual command");
            symlink(real, machine.path("bin").join(name)).expect("link a command");
        }
        machine.write("bin/apt-get", APT_GET);
        machine.write("bin/apt-cache", APT_CACHE);
        machine.write("rustup", RUSTUP);
        machine.write("cargo", "echo cargo 9.9.9");
        // By which the script would keep the host's packages from starting their services.
        machine.write("bin/tee", "while read -r _; do :; done");
        machine.write("bin/chmod", "exit 0");
        machine.write("bin/rm", "exit 0");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/bash\n{text}\n")).expect("write a command");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
    }

    fn setup(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/setup");
        let mut command = Command::new("/bin/bash");
        command.arg(script).args(arguments).env_clear().envs(variables.iter().copied());
        command.env("PATH", self.path("bin")).env("MACHINE", self.0.path()).env("HOME", self.0.path());
        command.output().expect("run bash")
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_demo_installs_what_it_needs_and_rust_and_nothing_else() {
    let machine = Machine::bare("setup-demo");
    let output = machine.setup(&["--demo"], &[("RUSTUP", "1.27.1-5")]);
    assert!(output.status.success(), "{}", said(&output));
    let calls = machine.calls();
    for word in ["redis-server", "redis-tools", "gcc", "rustup default stable"] {
        assert!(calls.contains(word), "{word} is not in\n{calls}");
    }
    for word in ["mariadb", "golang", "php", "jdk", "nginx"] {
        assert!(!calls.contains(word), "{word} is in\n{calls}");
    }
    let again = machine.setup(&["--demo"], &[]);
    assert!(again.status.success() && machine.calls() == calls, "{}", said(&again));
}

#[test]
fn where_apt_has_no_rust_that_is_new_enough_it_is_said_what_to_do() {
    let machine = Machine::bare("setup-rust");
    let output = machine.setup(&["--demo"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let words = [format!("Rust {needed} or later is needed; here is none, and apt offers 1.63.0")];
    for word in words.iter().map(String::as_str).chain(["install rustup", "rustup default stable"]) {
        assert!(said(&output).contains(word), "{}", said(&output));
    }
    // An old one beside a rustup that has a default is the owner's choice.
    machine.write("bin/rustup", RUSTUP);
    machine.write("bin/cargo", "echo 'cargo 1.70.0 (x 2023-01-01)'");
    let output = machine.setup(&["--demo"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("here is 1.70.0"), "{}", said(&output));
    assert!(said(&output).contains("rustup toolchain install stable"), "{}", said(&output));
    assert!(!machine.calls().contains("default stable"));
}

#[test]
fn a_package_that_cannot_be_had_stops_no_other_one() {
    let machine = Machine::bare("setup-unknown");
    machine.write("bin/cargo", "echo cargo 9.9.9");
    let output = machine.setup(&[], &[("UNKNOWN", "gerbera sysbench")]);
    assert!(output.status.success(), "{}", said(&output));
    for name in ["redis-server", "memcached"] {
        assert!(machine.path("bin").join(name).exists(), "{name} was not installed: {}", machine.calls());
    }
    let missing =
        said(&output).lines().find(|line| line.contains("missing: ")).unwrap_or_default().to_owned();
    assert!(missing.contains("gerbera") && missing.contains("sysbench"), "{}", said(&output));
    assert!(!missing.contains("memcached"), "{missing}");

    let machine = Machine::bare("setup-lacking");
    machine.write("bin/cargo", "echo cargo 9.9.9");
    let output = machine.setup(&["--demo"], &[("UNKNOWN", "redis-server")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("missing, and needed by all: redis-server"), "{}", said(&output));
}
