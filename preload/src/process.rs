//! A process in dmt's eyes: the first one, one that `exec` made anew, its threads' names in kernel and dmt.

use dmt::thread::ThreadId;

use crate::affinity;
use crate::apart;
use crate::tls;
use crate::world;

/// What a process is at the time of its constructor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server's first process.
    First,
    /// dmt knows it: `exec` replaced its program while its main thread held the turn.
    Replaced(ThreadId),
}

/// The role of process `pid`; `None` if it is no process of the server (someone looks around in its container).
pub fn role(pid: i32) -> Option<Role> {
    let call = world::call_as(0);
    let known = call.with(|k| k.thread_of_pid(pid));
    if let Some(thread) = known {
        return Some(Role::Replaced(thread));
    }
    (call.with(|k| k.processes.get(1).pid == 0)).then_some(Role::First)
}

/// Enters the scheduler; returns with the turn, after entry 0 was applied.
pub fn begin(role: Role, pid: i32) {
    match role {
        Role::First => {
            let id = world::call_as(0).first_process(pid);
            tls::current().adopt(id.into(), pid);
            apart::open_first(id);
            affinity::learn();
            world::dmt(|call| call.start_first());
            crate::calls::signal::publish_inherited();
            crate::calls::disk::mounts::register();
        }
        Role::Replaced(id) => {
            tls::current().adopt(id.into(), pid);
            apart::open_first(id);
            world::dmt(|call| call.after_exec());
            crate::calls::signal::keep_over_exec();
        }
    }
    // SAFETY: no arguments; the answer is the calling thread's descriptor.
    let handle = unsafe { libc::pthread_self() };
    world::dmt(|call| call.note_handle(handle));
    crate::calls::identity::note_user();
}
