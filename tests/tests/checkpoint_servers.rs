//! Checkpoints of servers with many processes and much shared memory, with clients at work: databases, Apache. A replica that
//! is killed comes back from one, and no acknowledged transaction is lost or doubled.

use std::path::Path;

use brolga_tests::checkpoints::{PAGE_BYTES, checkpoint, kill, restore_web_server};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::database::{self, TRANSACTIONS_BETWEEN};
use brolga_tests::scratch::Scratch;
use brolga_tests::transfers::{Database, Transfers};
use brolga_tests::workload::Workload;
use brolga_tests::{mariadb, postgres, serial};

/// A follower's checkpoint under load, its death, its restore; then it leads.
fn restore_under_load(cluster: &mut Cluster, database: Database) {
    let mut transfers = Transfers::start(database, cluster.port());
    database::await_more(&mut transfers, "transactions");
    let victim = cluster.follower();
    let entry = checkpoint(cluster, victim);
    database::await_more(&mut transfers, "transactions after the checkpoint");
    let restored = kill(cluster, victim);
    assert_eq!((restored.restored_from, restored.restore_error), (Some(entry), None));
    database::await_more(&mut transfers, "transactions after the restore");
    // One of the restored server, which is another matter for CRIU than one that was started.
    let entry = checkpoint(cluster, victim);
    assert_eq!(kill(cluster, victim).restored_from, Some(entry));
    transfers.rest(true);
    cluster.await_level();
    while cluster.leader() != victim {
        let leader = cluster.leader();
        cluster.kill_replica(leader);
        cluster.await_complete();
    }
    transfers.rest(false);
    database::await_more(&mut transfers, "transactions with a restored server in the lead");
    database::check(transfers, 4 * TRANSACTIONS_BETWEEN);
}

/// It has System V shared memory.
#[test]
fn postgres_comes_back_with_its_shared_memory() {
    let _turn = serial::turn();
    let mut cluster = postgres::start("checkpoint-postgres");
    restore_under_load(&mut cluster, Database::Postgres);
    database::end(&mut cluster, postgres::shut_down);
}

#[test]
fn mariadb_comes_back_with_its_threads() {
    let _turn = serial::turn();
    let mut cluster = mariadb::start("checkpoint-mariadb", "mysql");
    restore_under_load(&mut cluster, Database::MariaDb);
    database::end(&mut cluster, mariadb::shut_down);
}

fn apache(scratch: &Path) -> String {
    let modules = "/usr/lib/apache2/modules";
    let d = scratch.display();
    format!(
        "ServerRoot {d}\nServerName localhost\nPidFile {d}/pid\nDefaultRuntimeDir {d}\nUser www-data\nGroup www-data\nListen 80\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\nLoadModule authz_core_module {modules}/mod_authz_core.so\n\
         LoadModule dir_module {modules}/mod_dir.so\nDocumentRoot {d}/pages\nErrorLog {d}/error.log\nLogFormat \"%t %r %>s\" own\n\
         CustomLog {d}/access.log own\nMaxKeepAliveRequests 0\nKeepAliveTimeout 600\n"
    )
}

/// Three processes, a scoreboard in shared memory, and kept connections.
#[test]
fn apache_comes_back_with_its_processes_and_threads() {
    let _turn = serial::turn();
    let scratch = Scratch::new("checkpoint-apache");
    let pages = scratch.path().join("pages");
    std::fs::create_dir(&pages).expect("make a directory");
    std::fs::write(pages.join("index.html"), "x".repeat(PAGE_BYTES)).expect("write a page");
    std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("let the workers in");
    let configuration = scratch.path().join("apache.conf");
    std::fs::write(&configuration, apache(scratch.path())).expect("write the configuration");
    let configuration = configuration.to_str().expect("a plain path");
    let cluster = Plan::new(&["apache2", "-D", "FOREGROUND", "-f", configuration]).port(80).start_in(scratch);
    restore_web_server(cluster, "/");
}
