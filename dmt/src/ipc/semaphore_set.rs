//! System V semaphores: `semget`, `semop`, `semctl`, with `SEM_UNDO`.

use crate::bounds::{MAX_SEMAPHORE_SETS, MAX_SEMAPHORE_UNDOS, MAX_SEMAPHORES_IN_SET};
use crate::call::Call;
use crate::ipc::{
    E2BIG, EAGAIN, EFBIG, EIDRM, EINTR, EINVAL, ENOSPC, ERANGE, Found, IPC_NOWAIT, Permissions, find, place,
};
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::thread::{ThreadId, Wake};

/// The largest value of a semaphore.
const MAX_VALUE: i32 = 32_767;
/// Operations in one `semop`.
pub const MAX_OPERATIONS: usize = 500;
const SEM_UNDO: i32 = 0x1000;

/// `struct sembuf`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Operation {
    /// Which semaphore of the set.
    pub number: u16,
    /// What to add; 0 = wait until it is 0.
    pub change: i16,
    /// `IPC_NOWAIT`, `SEM_UNDO`.
    pub flags: i16,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Semaphore {
    value: i32,
    /// Process of the last operation.
    pid: i32,
}

/// What `IPC_STAT` tells of a set.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SetState {
    /// Whose it is.
    pub permissions: Permissions,
    /// Semaphores in it.
    pub count: u32,
    /// Second of the last operation.
    pub operated: u64,
    /// Second of the last change by `semctl`.
    pub changed: u64,
}

#[repr(C)]
struct Set {
    state: SetState,
    semaphores: [Semaphore; MAX_SEMAPHORES_IN_SET],
}

/// What the end of a process takes back.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Undo {
    /// Process, 0 = the slot is free.
    process: u16,
    set: u16,
    number: u16,
    change: i32,
}

/// All sets.
#[repr(C)]
pub(crate) struct SemaphoreSets {
    sets: [Set; MAX_SEMAPHORE_SETS],
    undos: [Undo; MAX_SEMAPHORE_UNDOS],
}

/// A request of `semctl`.
#[derive(Debug)]
pub enum Control<'a> {
    /// `GETVAL`, of a semaphore.
    Value(i32),
    /// `SETVAL`, of a semaphore.
    SetValue(i32, i32),
    /// `GETPID`, of a semaphore.
    Pid(i32),
    /// `GETNCNT`: threads that wait for a semaphore to grow.
    Growers(i32),
    /// `GETZCNT`: threads that wait for it to be 0.
    Zeroers(i32),
    /// `GETALL`, into an array that is long enough.
    Values(&'a mut [u16]),
    /// `SETALL`.
    SetValues(&'a [u16]),
    /// `IPC_STAT`.
    Stat(&'a mut SetState),
    /// `IPC_SET`: owner, group, rights.
    Set(u32, u32, u32),
    /// `IPC_RMID`.
    Remove,
}

fn key_of(set: usize) -> WaitKey {
    WaitKey::number(Space::Semaphores, set as u64)
}

/// How a waiting thread notes what it waits for, for `GETNCNT` and `GETZCNT`.
fn waits_for(operation: &Operation) -> u64 {
    u64::from(operation.number) << 1 | u64::from(operation.change == 0)
}

impl Kernel {
    fn set(&self, id: i32) -> Result<usize, i64> {
        let set = self.ipc.semaphores.sets.get(place(id)).ok_or(EINVAL)?;
        if set.state.permissions.is(id, place(id)) { Ok(place(id)) } else { Err(EINVAL) }
    }

    fn make_set(&mut self, me: ThreadId, key: i32, count: i32, flags: i32) -> Result<i64, i64> {
        if !(0..=MAX_SEMAPHORES_IN_SET as i32).contains(&count) {
            return Err(EINVAL);
        }
        let all = self.ipc.semaphores.sets.iter().map(|set| &set.state.permissions);
        match find(all, key, flags)? {
            Found::Old(at) => {
                let state = &self.ipc.semaphores.sets[at].state;
                if count as u32 > state.count { Err(EINVAL) } else { Ok(state.permissions.id(at).into()) }
            }
            Found::New(_) if count == 0 => Err(EINVAL),
            Found::New(at) => {
                let permissions =
                    self.new_permissions(me, key, flags, &self.ipc.semaphores.sets[at].state.permissions);
                let changed = self.seconds();
                let set = &mut self.ipc.semaphores.sets[at];
                set.state = SetState { permissions, count: count as u32, operated: 0, changed };
                set.semaphores = [Semaphore::default(); MAX_SEMAPHORES_IN_SET];
                Ok(permissions.id(at).into())
            }
        }
    }

    /// Tries all of `operations`; if one cannot be done now, none is, and its place is the error.
    fn try_operations(&mut self, me: ThreadId, at: usize, operations: &[Operation]) -> Result<(), Blocked> {
        let own = self.process_of(me);
        let pid = self.processes.get(own).pid;
        for (done, operation) in operations.iter().enumerate() {
            let value = self.ipc.semaphores.sets[at].semaphores[usize::from(operation.number)].value;
            let new = value + i32::from(operation.change);
            let outcome = match operation.change {
                0 if value != 0 => Err(Blocked::Here(done)),
                _ if new < 0 => Err(Blocked::Here(done)),
                _ if new > MAX_VALUE => Err(Blocked::Error(ERANGE)),
                _ if operation.change != 0 && i32::from(operation.flags) & SEM_UNDO != 0 => {
                    self.remember_undo(own, at, operation.number, -i32::from(operation.change))
                }
                _ => Ok(()),
            };
            if let Err(blocked) = outcome {
                self.take_back(own, at, &operations[..done]);
                return Err(blocked);
            }
            self.ipc.semaphores.sets[at].semaphores[usize::from(operation.number)].value = new;
        }
        for operation in operations {
            self.ipc.semaphores.sets[at].semaphores[usize::from(operation.number)].pid = pid;
        }
        self.ipc.semaphores.sets[at].state.operated = self.seconds();
        Ok(())
    }

    fn take_back(&mut self, own: u16, at: usize, operations: &[Operation]) {
        for operation in operations {
            let change = i32::from(operation.change);
            self.ipc.semaphores.sets[at].semaphores[usize::from(operation.number)].value -= change;
            if change != 0 && i32::from(operation.flags) & SEM_UNDO != 0 {
                // What was remembered has a slot.
                let _ = self.remember_undo(own, at, operation.number, change);
            }
        }
    }

    fn remember_undo(&mut self, process: u16, at: usize, number: u16, change: i32) -> Result<(), Blocked> {
        let undos = &mut self.ipc.semaphores.undos;
        let same = |undo: &Undo| (undo.process, undo.set, undo.number) == (process, at as u16, number);
        let found = undos.iter().position(same).or_else(|| undos.iter().position(|undo| undo.process == 0));
        let Some(slot) = found else { return Err(Blocked::Error(ENOSPC)) };
        let before = if same(&undos[slot]) { undos[slot].change } else { 0 };
        undos[slot] = Undo { process, set: at as u16, number, change: before + change };
        if before + change == 0 {
            undos[slot].process = 0;
        }
        Ok(())
    }

    /// The end of a process: what it did with `SEM_UNDO` is taken back.
    pub(crate) fn undo_semaphores(&mut self, process: u16) {
        let pid = self.processes.get(process).pid;
        for slot in 0..MAX_SEMAPHORE_UNDOS {
            let undo = self.ipc.semaphores.undos[slot];
            if undo.process != process {
                continue;
            }
            self.ipc.semaphores.undos[slot].process = 0;
            let at = usize::from(undo.set);
            let semaphore = &mut self.ipc.semaphores.sets[at].semaphores[usize::from(undo.number)];
            semaphore.value = (semaphore.value + undo.change).clamp(0, MAX_VALUE);
            semaphore.pid = pid;
            self.wake_all(key_of(at));
        }
    }

    /// A value was set: what is to be taken back from it is forgotten.
    fn forget_undos(&mut self, at: usize, number: Option<usize>) {
        for undo in &mut self.ipc.semaphores.undos {
            if usize::from(undo.set) == at && number.is_none_or(|number| usize::from(undo.number) == number) {
                undo.process = 0;
            }
        }
    }

    fn waiters(&self, at: usize, what: u64) -> i64 {
        let waits = |&id: &ThreadId| {
            let thread = self.threads.get(id);
            thread.key == key_of(at) && thread.scratch == what
        };
        self.threads.ids().filter(waits).count() as i64
    }

    fn control(&mut self, me: ThreadId, id: i32, request: &mut Control<'_>) -> Result<i64, i64> {
        let at = self.set(id)?;
        let now = self.seconds();
        let pid = self.processes.get(self.process_of(me)).pid;
        let set = &mut self.ipc.semaphores.sets[at];
        let count = set.state.count as usize;
        let number = |number: i32| usize::try_from(number).ok().filter(|&n| n < count).ok_or(EINVAL);
        match request {
            Control::Value(n) => return Ok(set.semaphores[number(*n)?].value.into()),
            Control::Pid(n) => return Ok(set.semaphores[number(*n)?].pid.into()),
            Control::Growers(n) => {
                let n = number(*n)? as u64;
                return Ok(self.waiters(at, n << 1));
            }
            Control::Zeroers(n) => {
                let n = number(*n)? as u64;
                return Ok(self.waiters(at, n << 1 | 1));
            }
            Control::SetValue(n, value) => {
                let n = number(*n)?;
                if !(0..=MAX_VALUE).contains(value) {
                    return Err(ERANGE);
                }
                set.semaphores[n] = Semaphore { value: *value, pid };
                set.state.changed = now;
                self.forget_undos(at, Some(n));
            }
            Control::Values(out) => {
                for (value, semaphore) in out.iter_mut().zip(&set.semaphores[..count]) {
                    *value = semaphore.value as u16;
                }
                return Ok(0);
            }
            Control::SetValues(values) => {
                if values.iter().any(|&value| i32::from(value) > MAX_VALUE) {
                    return Err(ERANGE);
                }
                for (semaphore, &value) in set.semaphores[..count].iter_mut().zip(values.iter()) {
                    *semaphore = Semaphore { value: value.into(), pid };
                }
                set.state.changed = now;
                self.forget_undos(at, None);
            }
            Control::Stat(out) => {
                **out = set.state;
                return Ok(0);
            }
            Control::Set(uid, gid, mode) => {
                let permissions = &mut set.state.permissions;
                (permissions.uid, permissions.gid, permissions.mode) = (*uid, *gid, *mode & 0o777);
                set.state.changed = now;
                return Ok(0);
            }
            Control::Remove => {
                set.state.permissions.used = false;
                self.forget_undos(at, None);
            }
        }
        self.wake_all(key_of(at));
        Ok(0)
    }
}

/// Why operations were not done.
enum Blocked {
    /// This one must wait.
    Here(usize),
    /// It never can be.
    Error(i64),
}

impl Call<'_> {
    /// `semget`: an id or a negative errno.
    pub fn semaphore_set(&self, key: i32, count: i32, flags: i32) -> i64 {
        self.quick(Op::Semaphores, key as u64, |k, me| {
            k.make_set(me, key, count, flags).unwrap_or_else(|errno| -errno)
        })
    }

    /// Semaphores in a set. Costs no tick.
    pub fn semaphores_in(&self, id: i32) -> Option<usize> {
        self.with(|k| k.set(id).ok().map(|at| k.ipc.semaphores.sets[at].state.count as usize))
    }

    /// `semctl`.
    pub fn semaphore_control(&self, id: i32, mut request: Control<'_>) -> i64 {
        self.quick(Op::Semaphores, id as u64, |k, me| {
            k.control(me, id, &mut request).unwrap_or_else(|errno| -errno)
        })
    }

    /// `semop`, `semtimedop`; `timeout` in nanoseconds.
    pub fn semaphore_operations(&self, id: i32, operations: &[Operation], timeout: Option<u64>) -> i64 {
        let (mut waited, mut deadline) = (false, None);
        self.op(Op::Semaphores, id as u64, |k, me| {
            let why = if waited { k.take_wake(me) } else { Wake::None };
            let Ok(at) = k.set(id) else { return Step::Done(if waited { -EIDRM } else { -EINVAL }) };
            if operations.is_empty() {
                return Step::Done(-EINVAL);
            }
            if operations.len() > MAX_OPERATIONS {
                return Step::Done(-E2BIG);
            }
            let count = k.ipc.semaphores.sets[at].state.count;
            if operations.iter().any(|operation| u32::from(operation.number) >= count) {
                return Step::Done(-EFBIG);
            }
            let blocked = match k.try_operations(me, at, operations) {
                Ok(()) => {
                    k.wake_all(key_of(at));
                    return Step::Done(0);
                }
                Err(Blocked::Error(errno)) => return Step::Done(-errno),
                Err(Blocked::Here(place)) => &operations[place],
            };
            let over = why == Wake::Timeout || timeout == Some(0);
            if i32::from(blocked.flags) & IPC_NOWAIT != 0 || over {
                return Step::Done(-EAGAIN);
            }
            if why == Wake::Signal && k.signal_due(me) {
                return Step::Done(-EINTR);
            }
            if !core::mem::replace(&mut waited, true) {
                deadline = timeout.map(|timeout| k.clock().saturating_add(timeout));
            }
            k.threads.get_mut(me).scratch = waits_for(blocked);
            k.wait(me, key_of(at), deadline);
            Step::Block
        })
    }
}
