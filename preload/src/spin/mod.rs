//! Spin loops of the program: which code is one, and how a thread is stopped at the branch that closes it.
//!
//! dmt decides what becomes of the thread there (`dmt::spin_point`). Nothing here allocates, and everything may run in a
//! signal handler.

pub mod decode;
mod loops;
pub mod points;
pub mod window;

/// The branch that closes the spin loop around the instruction at `place`, 0 if there is none that can be stopped at.
pub fn branch_around(place: u64) -> u64 {
    let Some(window) = window::Window::around(place) else { return 0 };
    let Some(branch) = loops::closing_branch(window.bytes(), window.base(), place) else { return 0 };
    if points::is_armed(branch) || window::is_program_text(branch) { branch } else { 0 }
}
