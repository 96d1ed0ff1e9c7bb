//! Entries of the log and their events.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coordinator::fuzzing::entry(bytes));
