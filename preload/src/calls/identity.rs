//! Who a process is: user, group, process group, session. The kernel changes it; dmt is told, because signals carry the
//! user and are sent to groups.

use crate::gate;
use crate::raw;
use crate::world::dmt;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        // The kernel's answers change when a process is really gone, which is later than the log has it, and no time of its.
        libc::SYS_getppid => dmt(|call| call.parent_pid()) as isize,
        libc::SYS_getpgid => dmt(|call| call.group_of(a[0] as i32)) as isize,
        libc::SYS_getsid => dmt(|call| call.session_of(a[0] as i32)) as isize,
        libc::SYS_setpgid
        | libc::SYS_setsid
        | libc::SYS_setuid
        | libc::SYS_setgid
        | libc::SYS_setreuid
        | libc::SYS_setregid
        | libc::SYS_setresuid
        | libc::SYS_setresgid => change(number, a),
    }
}

unsafe fn change(number: i64, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    let result = unsafe { gate::syscall(number, a) };
    match number {
        _ if result < 0 => {}
        libc::SYS_setpgid => {
            dmt(|call| call.set_group(a[0] as i32, a[1] as i32));
        }
        libc::SYS_setsid => {
            dmt(|call| call.new_session());
        }
        _ => note_user(),
    }
    result
}

/// Tells dmt this process's real user and group.
pub fn note_user() {
    // SAFETY: neither call has arguments.
    let (uid, gid) = unsafe { (raw!(libc::SYS_getuid) as u32, raw!(libc::SYS_getgid) as u32) };
    dmt(|call| call.note_user(uid, gid));
}
