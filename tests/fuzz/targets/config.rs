//! `cluster.toml` and `cluster.json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coordinator::fuzzing::config(bytes));
