//! Messages between processes of one machine.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coordinator::fuzzing::control(bytes));
