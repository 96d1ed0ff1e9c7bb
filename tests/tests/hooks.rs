//! The preload library's tables: what it exports is what the golden list says, the page about it is up to date, and what the
//! servers import is covered as `docs/symbols.md` says.
//!
//! `BROLGA_BLESS=1 cargo test -p brolga-tests --test hooks` rewrites the list and the page about hooks.

use std::collections::BTreeSet;
use std::ffi::{CString, c_void};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSymbol};

fn library() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.ancestors().nth(2).expect("target/debug").join("libbrolga_preload.so")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

extern "C" fn collect(context: *mut c_void, text: *const u8, len: usize) {
    // SAFETY: the library passes our own String and a piece of UTF-8 text.
    unsafe {
        let text = std::slice::from_raw_parts(text, len);
        (*context.cast::<String>()).push_str(std::str::from_utf8(text).expect("UTF-8"));
    }
}

/// The lines of the library's tables, in fields.
fn tables() -> Vec<Vec<String>> {
    let path = CString::new(library().to_str().expect("a UTF-8 path")).expect("no NUL");
    let mut text = String::new();
    // SAFETY: without its environment variable the library's constructor does nothing; the symbol has this type.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!handle.is_null(), "cannot load {}", library().display());
        let symbol = libc::dlsym(handle, c"brolga_tables".as_ptr());
        assert!(!symbol.is_null(), "no brolga_tables");
        type Sink = extern "C" fn(*mut c_void, *const u8, usize);
        let write: extern "C" fn(Sink, *mut c_void) = std::mem::transmute(symbol);
        write(collect, (&raw mut text).cast());
    }
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Compares a file with what it should say, or rewrites it.
fn hold(path: &Path, wanted: &str) {
    if std::env::var_os("BROLGA_BLESS").is_some() {
        std::fs::write(path, wanted).expect("write the file");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{} is out of date: run this test with BROLGA_BLESS=1", path.display());
}

/// The names that the library exports.
fn exported() -> BTreeSet<String> {
    let bytes = std::fs::read(library()).expect("the library, built by cargo build");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let defined = file.dynamic_symbols().filter(|s| s.is_definition());
    defined.map(|s| s.name().expect("a name").to_owned()).collect()
}

#[test]
fn exported_symbols_are_the_golden_list() {
    let exported = exported();
    let list = exported.iter().fold(String::new(), |list, name| list + name + "\n");
    hold(&root().join("preload/hooks.golden"), &list);
    for row in tables().iter().filter(|row| row[0] == "hook") {
        assert!(exported.contains(&row[1]), "hook {} is not exported", row[1]);
    }
}

#[test]
fn the_page_lists_every_hook_and_every_system_call() {
    let rows = tables();
    let mut page = String::from(
        "# Hooks and system calls\n\nMade from the tables in `preload/` by `tests/tests/hooks.rs`; do not edit.\n\n\
         ## Hooks\n\nFunctions of libc that the preload library stands in front of, by family.\n\n",
    );
    let hooks: BTreeSet<_> =
        rows.iter().filter(|row| row[0] == "hook").map(|row| (&row[2], &row[1])).collect();
    let families: BTreeSet<_> = hooks.iter().map(|(family, _)| family).collect();
    for family in families {
        let names: Vec<_> =
            hooks.iter().filter(|(f, _)| *f == *family).map(|(_, name)| format!("`{name}`")).collect();
        let _ = writeln!(page, "* **{family}**: {}", names.join(", "));
    }
    page.push_str("\n## System calls\n\n");
    for (class, meaning) in [
        ("scheduled", "an operation of dmt where it touches a virtual object, a thread or a process"),
        (
            "emulated",
            "answered from the virtual clock, the random stream or a fixed value, or changed on its way",
        ),
        ("passed", "the kernel's answer is the same on every replica"),
        ("refused", "fails as on a kernel that lacks it, with a line in the log"),
    ] {
        let _ = writeln!(page, "* *{class}*: {meaning}");
    }
    page.push_str("\nA number that is not listed fails with `ENOSYS`.\n\n| number | name | class | note |\n|---|---|---|---|\n");
    for row in rows.iter().filter(|row| row[0] == "syscall") {
        let _ = writeln!(page, "| {} | {} | {} | {} |", row[1], row[2], row[3], row[4]);
    }
    hold(&root().join("docs/hooks.md"), &page);
}

/// The rows of `docs/symbols.md`: a symbol, how it is covered, and the calls that it goes through.
fn imported() -> Vec<(String, String, Vec<String>)> {
    let path = root().join("docs/symbols.md");
    let page =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let plain = |field: &str| field.trim().trim_matches('`').to_owned();
    rows.map(|row| {
        let fields: Vec<_> = row.split('|').collect();
        let through = fields[3].split(',').map(plain).filter(|name| !name.is_empty()).collect();
        (plain(fields[1]), plain(fields[2]), through)
    })
    .collect()
}

#[test]
fn what_servers_import_is_covered_as_the_page_says() {
    let (exported, tables) = (exported(), tables());
    let calls: BTreeSet<_> =
        tables.iter().filter(|row| row[0] == "syscall").map(|row| row[2].as_str()).collect();
    let rows = imported();
    // Of the eight servers that were looked at first.
    assert!(rows.len() >= 365, "only {} symbols are left in docs/symbols.md", rows.len());
    let mut wrong = Vec::new();
    for (symbol, covered, through) in &rows {
        let is_hook = exported.contains(symbol);
        let known = |name: &String| exported.contains(name) || calls.contains(name.as_str());
        let right = match covered.as_str() {
            "hook" => is_hook && through.is_empty(),
            "through" => !is_hook && !through.is_empty() && through.iter().all(known),
            "libc" => !is_hook && through.is_empty(),
            _ => false,
        };
        if !right {
            let is_hook = if is_hook { "" } else { "not " };
            wrong.push(format!("{symbol} is said to be \"{covered}\" {through:?}, and is {is_hook}exported"));
        }
    }
    assert!(wrong.is_empty(), "docs/symbols.md:\n{}", wrong.join("\n"));
}
