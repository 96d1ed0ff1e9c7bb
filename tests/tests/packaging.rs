//! The Debian package has what it should, and what is in it runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use brolga_tests::cluster::brolga;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("start a command");
    let (out, error) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {out}{error}");
    out.into_owned()
}

#[test]
fn the_package_unpacks_to_a_brolga_that_runs_and_a_unit_that_systemd_takes() {
    let _turn = serial::turn();
    let scratch = Scratch::new("package");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's directory");
    let from = brolga();
    let from = from.parent().expect("a directory");
    let mut build = Command::new(root.join("scripts/deb"));
    let package = run(build.arg("--from").arg(from).arg("--output").arg(scratch.path()));
    let package = PathBuf::from(package.trim());
    let control = run(Command::new("dpkg-deb").arg("--field").arg(&package));
    assert!(control.contains("Package: brolga") && control.contains("Depends: libc6 (>= 2."), "{control}");
    let tree = scratch.path().join("tree");
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree));
    for file in ["usr/share/man/man1/brolga-replica.1.gz", "usr/share/doc/brolga/operations.md"] {
        assert!(tree.join(file).is_file(), "no {file} in the package");
    }
    let mut server = Command::new(tree.join("usr/bin/brolga"));
    server.args(["run", "-n", "1", "--name", scratch.name(), "--state"]).arg(scratch.path().join("state"));
    // Not from the build: the library is found where the package puts it.
    run(server.env_remove("BROLGA_PRELOAD").args(["--", "true"]));
    let unit = std::fs::read_to_string(tree.join("lib/systemd/system/brolga-replica@.service"))
        .expect("read the unit");
    let unit = unit.replace("/usr/bin/brolga", tree.join("usr/bin/brolga").to_str().expect("a plain path"));
    let instance = scratch.path().join("brolga-replica@cache.service");
    std::fs::write(&instance, unit).expect("write the unit");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&instance);
    run(&mut verify);
}
