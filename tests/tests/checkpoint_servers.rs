//! Checkpoints of servers with many processes and much shared memory, with clients at work: databases, Apache. A replica that
//! is killed comes back from one, and no acknowledged transaction is lost or doubled.

use brolga_tests::checkpoints::{checkpoint, kill, restore_web_server};
use brolga_tests::cluster::Cluster;
use brolga_tests::database::{self, TRANSACTIONS_BETWEEN};
use brolga_tests::transfers::{Database, Transfers};
use brolga_tests::workload::Workload;
use brolga_tests::{mariadb, postgres, serial, web_servers};

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
    cluster.make_leader(victim);
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

/// Three processes, a scoreboard in shared memory, and kept connections.
#[test]
fn apache_comes_back_with_its_processes_and_threads() {
    let _turn = serial::turn();
    restore_web_server(web_servers::apache("checkpoint-apache"), "/");
}
