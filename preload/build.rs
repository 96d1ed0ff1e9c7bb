//! Link options of the library: its constructor runs before all others, it is never unloaded, and every symbol is bound
//! at load time, so that no hook resolves one lazily inside a signal handler.
#![expect(clippy::disallowed_macros, reason = "it runs when the library is built")]

fn main() {
    for option in ["initfirst", "nodelete", "now"] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,{option}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
