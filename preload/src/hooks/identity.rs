//! Changes of user and group: libc signals all threads and waits for them by the kernel, outside dmt.

use core::ffi::c_int;

use crate::calls::identity::note_user;
use crate::hook;
use crate::tls::Passthrough;

macro_rules! pass_through {
    ($(fn $name:ident($($arg:ident: $ty:ty),*);)*) => {
        hook! {
            $(fn $name($($arg: $ty),*) -> c_int {
                let section = Passthrough::enter();
                // SAFETY: the replaced function with the program's own arguments.
                let result = unsafe { $name::real()($($arg),*) };
                drop(section);
                note_user();
                result
            })*
        }
    };
}

pass_through! {
    fn setuid(id: libc::uid_t);
    fn setgid(id: libc::gid_t);
    fn seteuid(id: libc::uid_t);
    fn setegid(id: libc::gid_t);
    fn setreuid(real_id: libc::uid_t, effective: libc::uid_t);
    fn setregid(real_id: libc::gid_t, effective: libc::gid_t);
    fn setresuid(real_id: libc::uid_t, effective: libc::uid_t, saved: libc::uid_t);
    fn setresgid(real_id: libc::gid_t, effective: libc::gid_t, saved: libc::gid_t);
    fn setgroups(count: usize, list: *const libc::gid_t);
}
