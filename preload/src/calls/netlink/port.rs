//! The number by which a netlink socket is known, which is in each message that the kernel sends it. A process's first socket has
//! the process's id; for more the kernel draws numbers at random, and here they are made of the process and the descriptor.

use core::mem;

use crate::gate;
use crate::raw;

use super::ADDRESS_BYTES;

/// Who gives this lets the kernel choose.
pub const ANY: u32 = 0;
/// Where `sockaddr_nl` has it.
const PORT_AT: usize = 4;
/// The kernel's own choices are from here to -4096, too: no process has such an id.
const FIRST_CHOSEN: u32 = 1 << 31;
/// Bits of a process's id and of a descriptor in a chosen number.
const PROCESS_BITS: u32 = 16;
const DESCRIPTOR_BITS: u32 = 14;
/// Numbers that are tried: one is only taken if its socket has another descriptor by now, or another process holds it.
const TRIES: u32 = 64;

/// The number in an address.
pub fn of(address: &[u8; ADDRESS_BYTES]) -> u32 {
    let number = address.get(PORT_AT..).and_then(|rest| rest.first_chunk());
    number.map_or(ANY, |four| u32::from_ne_bytes(*four))
}

/// Gives the socket a number if it has none yet; whether it got one.
pub fn take(fd: usize) -> bool {
    // SAFETY: asks for a number of our own process.
    let process = unsafe { raw!(libc::SYS_getpid) } as u32;
    own(fd) == ANY && (0..=TRIES).any(|attempt| bind(fd, candidate(process, fd as u32, attempt)))
}

fn candidate(process: u32, fd: u32, attempt: u32) -> u32 {
    let Some(step) = attempt.checked_sub(1) else { return process };
    let process = process & ((1 << PROCESS_BITS) - 1);
    let descriptor = fd.wrapping_add(step) & ((1 << DESCRIPTOR_BITS) - 1);
    FIRST_CHOSEN | process << DESCRIPTOR_BITS | descriptor
}

fn own(fd: usize) -> u32 {
    let mut address = [0u8; ADDRESS_BYTES];
    let mut bytes = ADDRESS_BYTES as libc::socklen_t;
    let (at, len) = (address.as_mut_ptr() as usize, &raw mut bytes as usize);
    // SAFETY: the kernel writes into memory of our own, which has the length that it is told.
    unsafe { gate::syscall(libc::SYS_getsockname, [fd, at, len, 0, 0, 0]) };
    of(&address)
}

fn bind(fd: usize, number: u32) -> bool {
    let mut address = [0u8; ADDRESS_BYTES];
    let family = (libc::AF_NETLINK as u16).to_ne_bytes();
    address[..mem::size_of_val(&family)].copy_from_slice(&family);
    address[PORT_AT..PORT_AT + 4].copy_from_slice(&number.to_ne_bytes());
    // SAFETY: the kernel reads memory of our own.
    unsafe { gate::syscall(libc::SYS_bind, [fd, address.as_ptr() as usize, ADDRESS_BYTES, 0, 0, 0]) == 0 }
}

#[cfg(test)]
mod tests {
    use super::{FIRST_CHOSEN, candidate};

    #[test]
    fn the_first_socket_has_the_number_of_its_process_and_no_other_one_that_a_process_could_have() {
        assert_eq!(candidate(1000, 5, 0), 1000);
        let others =
            [candidate(1000, 5, 1), candidate(1000, 6, 1), candidate(1001, 5, 1), candidate(1000, 6, 2)];
        for (at, one) in others.iter().enumerate() {
            assert!(*one >= FIRST_CHOSEN && *one as i32 <= -4096);
            assert!(!others[..at].contains(one));
        }
        assert_eq!(candidate(1000, 5, 2), candidate(1000, 6, 1));
        assert!(candidate(u32::MAX, u32::MAX, 1) as i32 <= -4096);
    }
}
