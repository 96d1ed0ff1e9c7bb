//! What the tests of databases share: a data directory, failures while clients move money, and the comparison at the end.

use std::ffi::CString;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use crate::cluster::Cluster;
use crate::layers;
use crate::scratch::Scratch;
use crate::transfers::Transfers;
use crate::wait::{PATIENCE, until};
use crate::workload::Workload;

/// Acknowledged transactions between two failures.
pub const TRANSACTIONS_BETWEEN: usize = 300;
/// A data directory has more files than this.
const FEW_FILES: usize = 20;

/// Makes an empty directory for the server's data, which belongs to `user`.
pub fn tables(scratch: &Scratch, user: &str) -> PathBuf {
    let tables = scratch.path().join("data/tables");
    std::fs::create_dir_all(&tables).expect("make the data directory");
    let name = CString::new(user).expect("a user's name");
    // SAFETY: a C string; the entry is read before anybody else could ask for another.
    let entry = unsafe { libc::getpwnam(name.as_ptr()).as_ref().map(|entry| (entry.pw_uid, entry.pw_gid)) };
    let (user, group) = entry.unwrap_or_else(|| panic!("there is no user {user}"));
    chown(&tables, Some(user), Some(group)).expect("give the data directory away");
    tables
}

/// Waits for some more transactions.
pub fn await_more(transfers: &mut Transfers, what: &str) {
    let enough = transfers.acknowledged() + TRANSACTIONS_BETWEEN as u64;
    until(what, PATIENCE, || (transfers.acknowledged() >= enough).then_some(()));
}

/// Kills the leader and then a follower while the clients work; each comes back. They do [`TRANSACTIONS_BETWEEN`]
/// transactions five times over.
pub fn kill_replicas(cluster: &mut Cluster, transfers: &mut Transfers) {
    await_more(transfers, "transactions");
    for leader in [true, false] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        cluster.kill_replica(victim);
        await_more(transfers, "transactions after a failure");
        transfers.rest(true);
        cluster.await_complete();
        transfers.rest(false);
        await_more(transfers, "transactions with all replicas");
    }
}

/// Stops the clients; all that was acknowledged must be there, `least` transactions at least.
pub fn check(transfers: Transfers, least: usize) {
    let (verdict, _) = Box::new(transfers).finish(&[]).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{verdict:?}");
    assert!(verdict.acknowledged >= least, "only {} transactions", verdict.acknowledged);
}

/// Ends the server by `shut_down`, and compares what the replicas leave behind.
pub fn end(cluster: &mut Cluster, shut_down: impl FnOnce(&mut Cluster)) {
    cluster.await_level();
    shut_down(cluster);
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    assert!(files > FEW_FILES, "only {files} files were compared");
    println!("files {files}, bytes {bytes}");
}
