//! Brolga's LD_PRELOAD library: catches every call by which a server could see or do something that is not the same on all
//! replicas, and hands it to dmt.
//!
//! Two nets catch calls: hooks in front of libc's functions ([`hooks`], fast) and a seccomp filter whose SIGSYS handler
//! ([`sigsys`]) gets what passes beside them. Both lead to [`calls`], which holds no policy: it decodes, asks dmt, and
//! deals with the real descriptors, threads and processes that stand behind the virtual ones.
//!
//! Rules for all code here: no allocation, no lock, no libc function that is hooked, no panic that a program can cause.
//! std is linked only for the language's own needs and the panic message.
//!
//! In a build for unit tests the hooks have no symbols of libc's and there is no constructor: they would stand in for the calls of
//! the test program itself. What only those lead to is not used there.
#![no_std]
#![cfg_attr(test, allow(dead_code))]
// `traced/way.rs`: what it hands on are the operands of instructions.
#![allow(clippy::macro_metavars_in_unsafe)]
// Hooks are functions of libc's names that std calls, too. The third argument of `open`, which ours always takes, is in the register in which a
// variadic function looks for it. The lint is younger than Rust 1.95.
#![allow(unknown_lints, invalid_runtime_symbol_definitions)]

extern crate std;

mod affinity;
mod altstack;
mod apart;
mod calls;
mod cancel;
mod carrier;
mod clock;
mod dlsym;
mod errno;
mod exec;
mod fatal;
mod faults;
mod filter;
mod gate;
mod hook;
mod hooks;
mod init;
mod kernel;
mod mailbox;
mod mappings;
mod maps;
mod own;
mod place;
mod privileges;
mod process;
mod restored;
mod shared_memory;
mod signals;
mod sigsys;
mod spin;
mod syscalls;
mod table;
mod threads;
mod timers;
mod tls;
mod traced;
mod tsc;
mod vdso;
mod watches;
mod world;

/// See [`dmt::bounds::LAYOUT_MARK`]. A symbol, so that no linker leaves it out.
#[unsafe(no_mangle)]
pub static BROLGA_LAYOUT: [u8; dmt::bounds::LAYOUT_MARK.len()] = dmt::bounds::LAYOUT_MARK;
