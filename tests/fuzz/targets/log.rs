//! The files of a log, changed, and given checksums that fit.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coordinator::fuzzing::log(bytes));
