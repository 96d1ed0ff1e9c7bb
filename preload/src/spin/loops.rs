//! Which loops only wait: those that store nothing, call nothing, and read the same memory in each turn.
//!
//! A loop that walks along memory (a scan, a checksum) has an address that depends on the turn before; a loop without
//! any load waits for nothing. What passes here by mistake is slow, never wrong: dmt makes a stop of each turn.

use super::decode::{Flow, Instruction, decode};

/// Bytes of the longest loop.
pub const LOOP_BYTES: u64 = 128;
/// Instructions of the longest loop.
const INSTRUCTIONS: usize = 48;

/// The branch that closes the smallest loop around `place` that only waits. `code` lies at `base`.
pub fn closing_branch(code: &[u8], base: u64, place: u64) -> Option<u64> {
    let mut at = place;
    for _ in 0..INSTRUCTIONS {
        let found = at_address(code, base, at)?;
        if let Flow::Conditional(_, target) | Flow::Jump(target) = found.flow
            && target <= place
            && at - target <= LOOP_BYTES
            && only_waits(code, base, (target, at), place)
        {
            return Some(at);
        }
        at += found.length;
    }
    None
}

/// Registers that the loop from `head` to the branch at its end counts with: a thread that has left the loop since its last
/// turn comes with others.
pub fn counters(code: &[u8], base: u64, (head, branch): (u64, u64)) -> u16 {
    Body::read(code, base, (head, branch)).map_or(0, |body| carried(body.instructions()))
}

fn at_address(code: &[u8], base: u64, at: u64) -> Option<Instruction> {
    decode(code.get(usize::try_from(at.checked_sub(base)?).ok()?..)?, at)
}

/// A loop's instructions.
struct Body {
    found: [Option<Instruction>; INSTRUCTIONS],
    starts: [u64; INSTRUCTIONS],
}

impl Body {
    /// From the first instruction to the branch at the end.
    fn read(code: &[u8], base: u64, (head, branch): (u64, u64)) -> Option<Self> {
        let mut this = Self { found: [None; INSTRUCTIONS], starts: [0; INSTRUCTIONS] };
        let mut at = head;
        for (found, start) in this.found.iter_mut().zip(&mut this.starts) {
            let instruction = at_address(code, base, at)?;
            (*found, *start) = (Some(instruction), at);
            if at == branch {
                return Some(this);
            }
            at += instruction.length;
            if at > branch {
                return None;
            }
        }
        None
    }

    fn instructions(&self) -> impl Iterator<Item = &Instruction> + Clone {
        self.found.iter().flatten()
    }
}

/// True if the loop only waits, and `place` is one of its instructions.
fn only_waits(code: &[u8], base: u64, ends: (u64, u64), place: u64) -> bool {
    let Some(body) = Body::read(code, base, ends) else { return false };
    let counters = carried(body.instructions());
    body.starts.contains(&place)
        && body.instructions().any(|i| i.loads)
        && body.instructions().all(|i| !i.stores && i.address & counters == 0)
}

/// Registers whose value depends on the turn before: read before they are written, and what is computed from them.
fn carried<'a>(body: impl Iterator<Item = &'a Instruction> + Clone) -> u16 {
    let (mut written, mut first_read) = (0, 0);
    for instruction in body.clone() {
        first_read |= instruction.reads & !written;
        written |= instruction.writes;
    }
    let mut carried = first_read & written;
    loop {
        let more = body
            .clone()
            .filter(|i| i.reads & carried != 0)
            .fold(carried, |registers, i| registers | i.writes);
        if more == carried {
            return carried;
        }
        carried = more;
    }
}

#[cfg(test)]
mod tests {
    use super::closing_branch;

    const BASE: u64 = 0x1000;

    fn branch(code: &[u8], place: u64) -> Option<u64> {
        closing_branch(code, BASE, BASE + place).map(|at| at - BASE)
    }

    #[test]
    fn redis_io_thread() {
        // 0: sub $1,%eax; je out; 5: mov 0(%rbp),%rdx; test %rdx,%rdx; c: je 0
        let code =
            [0x83, 0xe8, 0x01, 0x74, 0x09, 0x48, 0x8b, 0x55, 0x00, 0x48, 0x85, 0xd2, 0x74, 0xf2, 0x90, 0xc3];
        for place in [0, 3, 5, 9, 12] {
            assert_eq!(branch(&code, place), Some(12));
        }
        assert_eq!(branch(&code, 14), None);
        assert_eq!(branch(&code, 1), None, "no instruction starts there");
    }

    #[test]
    fn redis_main_thread_waits_in_the_outer_loop() {
        let code = [
            0x83, 0xfe, 0x01, // 0: cmp $1,%esi
            0x7e, 0x30, // 3: jle out
            0x48, 0x8d, 0x15, 0xf4, 0xf4, 0x1c, 0x00, // 5: lea pending(%rip),%rdx
            0xb8, 0x01, 0, 0, 0, // c: mov $1,%eax
            0x31, 0xc9, // 11: xor %ecx,%ecx
            0x83, 0xc0, 0x01, // 13: add $1,%eax
            0x48, 0x83, 0xc2, 0x40, // 16: add $0x40,%rdx
            0x48, 0x8b, 0x72, 0xc0, // 1a: mov -0x40(%rdx),%rsi
            0x48, 0x01, 0xf1, // 1e: add %rsi,%rcx
            0x8b, 0x35, 0x58, 0xa1, 0x1b, 0x00, // 21: mov count(%rip),%esi
            0x39, 0xc6, // 27: cmp %eax,%esi
            0x7f, 0xe8, // 29: jg 13
            0x48, 0x85, 0xc9, // 2b: test %rcx,%rcx
            0x75, 0xd0, // 2e: jne 0
            0xc3,
        ];
        for place in [0, 0x13, 0x1a, 0x29, 0x2e] {
            assert_eq!(branch(&code, place), Some(0x2e));
        }
    }

    #[test]
    fn work_is_no_spin() {
        // add (%rdi),%al; inc %rdi; dec %ecx; jne 0: a checksum walks along memory
        assert_eq!(branch(&[0x02, 0x07, 0x48, 0xff, 0xc7, 0xff, 0xc9, 0x75, 0xf7], 0), None);
        // mov (%rdi),%rdi; test %rdi,%rdi; jne 0: a walk along a list
        assert_eq!(branch(&[0x48, 0x8b, 0x3f, 0x48, 0x85, 0xff, 0x75, 0xf8], 3), None);
        // imul %eax,%eax; dec %ecx; jne 0: computes
        assert_eq!(branch(&[0x0f, 0xaf, 0xc0, 0xff, 0xc9, 0x75, 0xf9], 0), None);
        // mov %eax,(%rdi); cmp (%rsi),%ecx; jne 0: stores
        assert_eq!(branch(&[0x89, 0x07, 0x3b, 0x0e, 0x75, 0xfa], 2), None);
    }

    #[test]
    fn locks_that_are_tried_are_waited_for() {
        // pause; mov $1,%eax; xchg %eax,(%rdi); test %eax,%eax; jne 0
        assert_eq!(branch(&[0xf3, 0x90, 0xb8, 1, 0, 0, 0, 0x87, 0x07, 0x85, 0xc0, 0x75, 0xf3], 2), Some(11));
    }
}
