//! System V semaphores and message queues, which are dmt's, and the times of shared memory, which is the kernel's.

use core::ffi::c_int;

use dmt::ipc::Permissions;
use dmt::ipc::message_queue::{QueueControl, QueueState};
use dmt::ipc::semaphore_set::{Control, MAX_OPERATIONS, Operation, SetState};

use crate::calls::time::nanoseconds;
use crate::gate;
use crate::raw;
use crate::shared_memory::{self, Object};
use crate::world::dmt;

const EINVAL: isize = -(libc::EINVAL as isize);
const EFAULT: isize = -(libc::EFAULT as isize);
const E2BIG: isize = -(libc::E2BIG as isize);
/// Commands of `semctl`.
const GETPID: c_int = 11;
const GETVAL: c_int = 12;
const GETALL: c_int = 13;
const GETNCNT: c_int = 14;
const GETZCNT: c_int = 15;
const SETVAL: c_int = 16;
const SETALL: c_int = 17;
/// Flag of a command that wants the structures of today.
const IPC_64: c_int = 0x100;
/// Bytes of a message's kind, in front of its text.
const KIND_BYTES: usize = 8;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_semget => dmt(|call| call.semaphore_set(a[0] as c_int, a[1] as c_int, a[2] as c_int)) as isize,
        libc::SYS_semop => operate([a[0], a[1], a[2], 0, 0, 0]),
        libc::SYS_semtimedop => operate(a),
        libc::SYS_semctl => semctl(a),
        libc::SYS_msgget => dmt(|call| call.message_queue(a[0] as c_int, a[1] as c_int)) as isize,
        libc::SYS_msgsnd => send(a),
        libc::SYS_msgrcv => receive(a),
        libc::SYS_msgctl => msgctl(a),
        libc::SYS_shmctl => shmctl(a),
        libc::SYS_shmat => attach(a),
    }
}

unsafe fn operate(a: [usize; 6]) -> isize {
    // SAFETY: the program's array and time.
    unsafe {
        if a[2] > MAX_OPERATIONS {
            return E2BIG;
        }
        if a[2] == 0 {
            return EINVAL;
        }
        let limit = match a[3] {
            0 => None,
            at => match nanoseconds(at) {
                Some(limit) => Some(limit),
                None => return EINVAL,
            },
        };
        let operations = core::slice::from_raw_parts(a[1] as *const Operation, a[2]);
        dmt(|call| call.semaphore_operations(a[0] as c_int, operations, limit)) as isize
    }
}

/// `struct ipc_perm` as the kernel lays it out.
unsafe fn store_permissions(at: usize, permissions: &Permissions) {
    // SAFETY: the program's structure, here and below: 48 bytes.
    unsafe {
        core::ptr::write_bytes(at as *mut u8, 0, 48);
        let words = [permissions.uid, permissions.gid, permissions.cuid, permissions.cgid, permissions.mode];
        *(at as *mut i32) = permissions.key;
        for (i, word) in words.into_iter().enumerate() {
            *(at as *mut u32).add(i + 1) = word;
        }
        *((at + 24) as *mut u16) = permissions.sequence;
    }
}

/// Owner, group and rights in a `struct ipc_perm`.
unsafe fn read_permissions(at: usize) -> (u32, u32, u32) {
    // SAFETY: the program's structure.
    unsafe { (*(at as *const u32).add(1), *(at as *const u32).add(2), *(at as *const u32).add(5)) }
}

unsafe fn semctl(a: [usize; 6]) -> isize {
    let (id, number, command, value) = (a[0] as c_int, a[1] as c_int, a[2] as c_int & !IPC_64, a[3]);
    let request = match command {
        GETVAL => Control::Value(number),
        GETPID => Control::Pid(number),
        GETNCNT => Control::Growers(number),
        GETZCNT => Control::Zeroers(number),
        SETVAL => Control::SetValue(number, value as c_int),
        libc::IPC_RMID => Control::Remove,
        GETALL | SETALL | libc::IPC_STAT | libc::IPC_SET if value == 0 => return EFAULT,
        GETALL | SETALL => {
            let Some(count) = dmt(|call| call.semaphores_in(id)) else { return EINVAL };
            // SAFETY: the program's array of as many values as the set has.
            let values = unsafe { core::slice::from_raw_parts_mut(value as *mut u16, count) };
            if command == GETALL { Control::Values(values) } else { Control::SetValues(values) }
        }
        libc::IPC_SET => {
            // SAFETY: the program's structure.
            let (uid, gid, mode) = unsafe { read_permissions(value) };
            Control::Set(uid, gid, mode)
        }
        // SAFETY: the program's structure.
        libc::IPC_STAT => return unsafe { stat_set(id, value) },
        _ => return EINVAL,
    };
    dmt(|call| call.semaphore_control(id, request)) as isize
}

unsafe fn stat_set(id: c_int, at: usize) -> isize {
    let mut state = SetState::default();
    let result = dmt(|call| call.semaphore_control(id, Control::Stat(&mut state))) as isize;
    if result == 0 {
        // SAFETY: the program's `struct semid_ds`.
        unsafe {
            store_permissions(at, &state.permissions);
            let rest = (at + 48) as *mut u64;
            let words = [state.operated, 0, state.changed, 0, u64::from(state.count), 0, 0];
            rest.cast::<[u64; 7]>().write(words);
        }
    }
    result
}

unsafe fn send(a: [usize; 6]) -> isize {
    if a[2] as isize > dmt::bounds::MAX_MESSAGE_BYTES as isize || (a[2] as isize) < 0 {
        return EINVAL;
    }
    // SAFETY: the program's message: its kind and then its text.
    unsafe {
        let text = core::slice::from_raw_parts((a[1] + KIND_BYTES) as *const u8, a[2]);
        let kind = *(a[1] as *const i64);
        dmt(|call| call.message_send(a[0] as c_int, kind, text, a[3] as c_int)) as isize
    }
}

unsafe fn receive(a: [usize; 6]) -> isize {
    if (a[2] as isize) < 0 {
        return EINVAL;
    }
    let mut kind = a[3] as i64;
    // SAFETY: the program's buffer.
    unsafe {
        let text = core::slice::from_raw_parts_mut((a[1] + KIND_BYTES) as *mut u8, a[2]);
        let got = dmt(|call| call.message_receive(a[0] as c_int, &mut kind, text, a[4] as c_int)) as isize;
        if got >= 0 {
            *(a[1] as *mut i64) = kind;
        }
        got
    }
}

unsafe fn msgctl(a: [usize; 6]) -> isize {
    let (id, command, at) = (a[0] as c_int, a[1] as c_int & !IPC_64, a[2]);
    match command {
        libc::IPC_RMID => dmt(|call| call.message_control(id, QueueControl::Remove)) as isize,
        libc::IPC_STAT | libc::IPC_SET if at == 0 => EFAULT,
        libc::IPC_SET => {
            // SAFETY: the program's structure.
            let ((uid, gid, mode), room) = unsafe { (read_permissions(at), *((at + 88) as *const u64)) };
            dmt(|call| call.message_control(id, QueueControl::Set(uid, gid, mode, room))) as isize
        }
        libc::IPC_STAT => {
            let mut state = QueueState::default();
            let result = dmt(|call| call.message_control(id, QueueControl::Stat(&mut state))) as isize;
            if result == 0 {
                let pids = u64::from(state.sender as u32) | u64::from(state.receiver as u32) << 32;
                let words = [
                    state.sent,
                    state.received,
                    state.changed,
                    state.bytes,
                    state.messages,
                    state.room,
                    pids,
                    0,
                    0,
                ];
                // SAFETY: the program's `struct msqid_ds`.
                unsafe {
                    store_permissions(at, &state.permissions);
                    ((at + 48) as *mut [u64; 9]).write(words);
                }
            }
            result
        }
        _ => EINVAL,
    }
}

/// `shmat`: which memory it is counts for futexes in it.
unsafe fn attach(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise; a structure of ours, for which all zeroes is valid.
    unsafe {
        let at = gate::syscall(libc::SYS_shmat, a);
        let mut state: libc::shmid_ds = core::mem::zeroed();
        if at < 0 {
            return at;
        }
        if raw!(libc::SYS_shmctl, a[0], libc::IPC_STAT, &raw mut state) == 0 {
            shared_memory::mapped(at as usize, state.shm_segsz, Object::system_v(a[0]), 0);
        }
        at
    }
}

/// `shmctl`: the kernel's answer, with times of the virtual clock.
unsafe fn shmctl(a: [usize; 6]) -> isize {
    const SHM_STAT: c_int = 13;
    const SHM_STAT_ANY: c_int = 15;
    // SAFETY: forwarded promise, and the program's structure.
    unsafe {
        let result = gate::syscall(libc::SYS_shmctl, a);
        if result >= 0 && matches!(a[1] as c_int & !IPC_64, libc::IPC_STAT | SHM_STAT | SHM_STAT_ANY) {
            let now = dmt(|call| call.with(|k| k.clock())) / 1_000_000_000;
            for time in (*((a[2] + 56) as *mut [u64; 3])).iter_mut().filter(|time| **time != 0) {
                *time = now;
            }
        }
        result
    }
}
