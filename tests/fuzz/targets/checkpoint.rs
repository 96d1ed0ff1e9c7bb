//! Files of a checkpoint, and what peers send of one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coordinator::fuzzing::checkpoint(bytes));
