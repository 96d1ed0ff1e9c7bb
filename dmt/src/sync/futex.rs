//! The futex system call (futex(2), linux/futex.h), for glibc's own locks and for programs that call it directly.

use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::sync::errno::{EAGAIN, EDEADLK, EINTR, EINVAL, ENOSYS, EPERM, ETIMEDOUT};
use crate::thread::{ThreadId, Wake};

const WAIT: i32 = 0;
const WAKE: i32 = 1;
const REQUEUE: i32 = 3;
const CMP_REQUEUE: i32 = 4;
const WAKE_OP: i32 = 5;
const LOCK_PI: i32 = 6;
const UNLOCK_PI: i32 = 7;
const TRYLOCK_PI: i32 = 8;
const WAIT_BITSET: i32 = 9;
const WAKE_BITSET: i32 = 10;
const LOCK_PI2: i32 = 13;

const PRIVATE: i32 = 128;
const CLOCK_REALTIME: i32 = 256;
const COMMAND: i32 = !(PRIVATE | CLOCK_REALTIME);

const ALL_BITS: u32 = u32::MAX;
const TID_MASK: u32 = 0x3fff_ffff;
const WAITERS: u32 = 0x8000_0000;

/// Arguments of a futex call, as the system call has them; `timeout` is decoded, because only some commands have one.
#[derive(Clone, Copy, Debug)]
pub struct FutexArgs {
    /// The first word.
    pub address: *mut u32,
    /// What all processes call it, if it is in memory that they share; `None` if it is this process's own, or the command is for such.
    pub name: Option<u64>,
    /// Command and flags.
    pub op: i32,
    /// Expected value, or number of threads to wake.
    pub value: u32,
    /// The time-out, nanoseconds, for commands that have one and if it is given.
    pub timeout: Option<u64>,
    /// The fourth argument as a number (threads to requeue), for commands that have no time-out.
    pub value2: u32,
    /// The second word.
    pub address2: *mut u32,
    /// As `name`, of the second word.
    pub name2: Option<u64>,
    /// Third value: bit set or expected value.
    pub value3: u32,
}

impl FutexArgs {
    /// True if the fourth argument of this command is a pointer to a time-out.
    pub fn has_timeout(op: i32) -> bool {
        matches!(op & COMMAND, WAIT | WAIT_BITSET | LOCK_PI | LOCK_PI2)
    }

    /// True if there is a second word.
    pub fn has_second_word(op: i32) -> bool {
        matches!(op & COMMAND, REQUEUE | CMP_REQUEUE | WAKE_OP)
    }

    /// True if the words are where words may be.
    fn is_aligned(&self) -> bool {
        self.address.is_aligned() && (!Self::has_second_word(self.op) || self.address2.is_aligned())
    }
}

impl Call<'_> {
    /// futex(2): value or negative errno.
    ///
    /// # Safety
    /// The addresses are futex words in the calling process, as the command requires.
    pub unsafe fn futex(&self, args: &FutexArgs) -> i64 {
        if !args.is_aligned() {
            return self.quick(Op::Futex, args.address as u64, |_, _| -i64::from(EINVAL));
        }
        let key = self.futex_key(args.address, args.name);
        // SAFETY (all arms): forwarded promise.
        match args.op & COMMAND {
            // SAFETY: forwarded promise.
            WAIT => unsafe { self.futex_wait(args, key, ALL_BITS, self.relative(args.timeout)) },
            // SAFETY: forwarded promise.
            WAIT_BITSET => unsafe { self.futex_wait(args, key, args.value3, self.absolute(args)) },
            WAKE => self.futex_wake(args, key, ALL_BITS),
            WAKE_BITSET => self.futex_wake(args, key, args.value3),
            // SAFETY: forwarded promise.
            REQUEUE | CMP_REQUEUE => unsafe { self.futex_requeue(args, key) },
            // SAFETY: forwarded promise.
            WAKE_OP => unsafe { self.futex_wake_op(args, key) },
            LOCK_PI => {
                // SAFETY: forwarded promise. LOCK_PI's time-out is absolute by CLOCK_REALTIME.
                unsafe { self.futex_lock_pi(args, key, args.timeout, true) }
            }
            // SAFETY: forwarded promise.
            LOCK_PI2 => unsafe { self.futex_lock_pi(args, key, self.absolute(args), true) },
            // SAFETY: forwarded promise.
            TRYLOCK_PI => unsafe { self.futex_lock_pi(args, key, None, false) },
            // SAFETY: forwarded promise.
            UNLOCK_PI => unsafe { self.futex_unlock_pi(args, key) },
            _ => self.quick(Op::Futex, args.address as u64, |_, _| -i64::from(ENOSYS)),
        }
    }

    fn futex_key(&self, address: *mut u32, name: Option<u64>) -> WaitKey {
        self.address_key(Space::Futex, name.unwrap_or(address as u64), name.is_some())
    }

    fn relative(&self, timeout: Option<u64>) -> Option<u64> {
        timeout.map(|t| self.with(|k| k.clock()).saturating_add(t))
    }

    fn absolute(&self, args: &FutexArgs) -> Option<u64> {
        let at = args.timeout?;
        Some(if args.op & CLOCK_REALTIME != 0 { at } else { self.with(|k| k.from_monotonic(at)) })
    }

    unsafe fn futex_wait(&self, args: &FutexArgs, key: WaitKey, bits: u32, deadline: Option<u64>) -> i64 {
        let mut queued = false;
        self.op(Op::Futex, args.address as u64, |k, me| {
            if queued {
                return Step::Done(match k.take_wake(me) {
                    Wake::Timeout => -i64::from(ETIMEDOUT),
                    Wake::Signal => -i64::from(EINTR),
                    Wake::Event | Wake::None => 0,
                });
            }
            // SAFETY: promise of the caller.
            if bits == 0 {
                return Step::Done(-i64::from(EINVAL));
            }
            // SAFETY: promise of the caller; volatile, as another process may have the word mapped.
            if unsafe { args.address.read_volatile() } != args.value {
                return Step::Done(-i64::from(EAGAIN));
            }
            queued = true;
            k.threads.get_mut(me).futex_bits = bits;
            k.wait(me, key, deadline);
            Step::Block
        })
    }

    fn futex_wake(&self, args: &FutexArgs, key: WaitKey, bits: u32) -> i64 {
        self.quick(Op::Futex, args.address as u64, |k, _| {
            if bits == 0 {
                return -i64::from(EINVAL);
            }
            k.wake(key, u64::from(args.value), |threads, id| threads.get(id).futex_bits & bits != 0) as i64
        })
    }

    unsafe fn futex_requeue(&self, args: &FutexArgs, key: WaitKey) -> i64 {
        let to = self.futex_key(args.address2, args.name2);
        let compare = args.op & COMMAND == CMP_REQUEUE;
        self.quick(Op::Futex, args.address as u64, |k, _| {
            // SAFETY: promise of the caller.
            if compare && unsafe { args.address.read_volatile() } != args.value3 {
                return -i64::from(EAGAIN);
            }
            let woken = k.wake(key, u64::from(args.value), |_, _| true);
            let mut moved = 0;
            while moved < u64::from(args.value2) {
                let Some(id) = k.first_waiter(key, |_, _| true) else { break };
                k.requeue(id, to);
                moved += 1;
            }
            (woken + if compare { moved } else { 0 }) as i64
        })
    }

    unsafe fn futex_wake_op(&self, args: &FutexArgs, key: WaitKey) -> i64 {
        let key2 = self.futex_key(args.address2, args.name2);
        self.quick(Op::Futex, args.address as u64, |k, _| {
            // SAFETY: promise of the caller; the turn makes read and write one step.
            let old = unsafe { args.address2.read_volatile() };
            let Some((new, condition)) = decode_wake_op(args.value3, old) else { return -i64::from(ENOSYS) };
            // SAFETY: as above.
            unsafe { args.address2.write_volatile(new) };
            let mut woken = k.wake(key, u64::from(args.value), |_, _| true);
            if condition {
                woken += k.wake(key2, u64::from(args.value2), |_, _| true);
            }
            woken as i64
        })
    }

    unsafe fn futex_lock_pi(
        &self,
        args: &FutexArgs,
        key: WaitKey,
        deadline: Option<u64>,
        block: bool,
    ) -> i64 {
        self.op(Op::Futex, args.address as u64, |k, me| {
            let tid = k.threads.get(me).tid as u32;
            // SAFETY: promise of the caller.
            let word = unsafe { args.address.read_volatile() };
            if word & TID_MASK == 0 {
                let waiters = if k.first_waiter(key, |_, _| true).is_some() { WAITERS } else { 0 };
                // SAFETY: promise of the caller.
                unsafe { args.address.write_volatile(tid | waiters) };
                return Step::Done(0);
            }
            if word & TID_MASK == tid {
                return Step::Done(-i64::from(EDEADLK));
            }
            if !block {
                return Step::Done(-i64::from(EAGAIN));
            }
            if k.take_wake(me) == Wake::Timeout {
                return Step::Done(-i64::from(ETIMEDOUT));
            }
            // SAFETY: promise of the caller.
            unsafe { args.address.write_volatile(word | WAITERS) };
            k.threads.get_mut(me).futex_bits = ALL_BITS;
            k.wait(me, key, deadline);
            Step::Block
        })
    }

    unsafe fn futex_unlock_pi(&self, args: &FutexArgs, key: WaitKey) -> i64 {
        self.quick(Op::Futex, args.address as u64, |k: &mut Kernel, me: ThreadId| {
            // SAFETY: promise of the caller.
            let word = unsafe { args.address.read_volatile() };
            if word & TID_MASK != k.threads.get(me).tid as u32 {
                return -i64::from(EPERM);
            }
            // SAFETY: promise of the caller.
            unsafe { args.address.write_volatile(0) };
            k.wake_one(key);
            0
        })
    }
}

/// `FUTEX_WAKE_OP`'s third value: the new value of the second word, and whether its waiters are to be woken.
fn decode_wake_op(code: u32, old: u32) -> Option<(u32, bool)> {
    let sign_extend = |x: u32| ((x << 20) as i32) >> 20;
    let mut argument = sign_extend(code >> 12 & 0xfff);
    let compare_with = sign_extend(code & 0xfff);
    if code >> 28 & 8 != 0 {
        argument = 1i32.checked_shl(argument as u32 & 31)?;
    }
    let argument = argument as u32;
    let new = match code >> 28 & 7 {
        0 => argument,
        1 => old.wrapping_add(argument),
        2 => old | argument,
        3 => old & !argument,
        4 => old ^ argument,
        _ => return None,
    };
    let (value, with) = (old as i32, compare_with);
    let condition = match code >> 24 & 15 {
        0 => value == with,
        1 => value != with,
        2 => value < with,
        3 => value <= with,
        4 => value > with,
        5 => value >= with,
        _ => return None,
    };
    Some((new, condition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_op_follows_futex_2() {
        // FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_GT, 0), as glibc's condition variables used it.
        let code = 1 << 28 | 4 << 24 | 1 << 12;
        assert_eq!(decode_wake_op(code, 5), Some((6, true)));
        assert_eq!(decode_wake_op(code, 0), Some((1, false)));
        // Shifted OR with -1 compared: FUTEX_OP_OPARG_SHIFT | FUTEX_OP_OR.
        let code = (8 | 2) << 28 | 3 << 12 | 0xfff;
        assert_eq!(decode_wake_op(code, u32::MAX), Some((u32::MAX, true)));
        assert_eq!(decode_wake_op(7 << 28, 0), None);
    }
}
