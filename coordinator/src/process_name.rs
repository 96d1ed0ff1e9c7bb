//! What `ps` calls Brolga's own processes: those started by way of `/proc/self/exe` would all be called `exe`.

use std::ffi::CStr;

/// A replica's coordinator.
pub const REPLICA: &CStr = c"brolga-replica";
/// The process that starts containers for a coordinator.
pub const STARTER: &CStr = c"brolga-starter";
/// Process 1 of a replica's container.
pub const INIT: &CStr = c"brolga-init";
/// The process in a container that runs CRIU.
pub const CRIU: &CStr = c"brolga-criu";

/// Names the calling process after its first thread, which has to be the caller. Threads that are made later inherit the name.
pub fn set(name: &CStr) {
    // A process without its name works as well.
    let _ = nix::sys::prctl::set_name(name);
}
