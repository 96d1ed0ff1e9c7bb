//! The servers that can be soaked: how each is started, loaded and ended.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

use brolga_tests::answers::Answers;
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::http::Http;
use brolga_tests::journal::Writer;
use brolga_tests::ledger::{self, Entries};
use brolga_tests::memcache::Memcache;
use brolga_tests::scratch::Scratch;
use brolga_tests::stores::{Store, Stores};
use brolga_tests::transfers::{Database, Transfers};
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::workload::Workload;
use brolga_tests::{clamd, gerbera, layers, mariadb, postgres};

use crate::Choice;

const CLIENTS: usize = 8;
/// Things that each client stores; afterwards it reads them.
const MOST_STORED: u64 = 1000;

/// A server.
pub trait Service {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Starts it, one of its kinds by choice, and says which.
    fn start(&self, choice: &mut Choice) -> (Cluster, String);

    /// Starts its clients.
    fn load(&self, cluster: &Cluster) -> Box<dyn Workload>;

    /// Operations between two kills, at the most.
    fn most_between(&self) -> u64 {
        1000
    }

    /// A slow server is given time between two kills.
    fn is_slow(&self) -> bool {
        true
    }

    /// Ends it, and compares what its replicas leave behind. Returns the number of files.
    fn end(&self, cluster: &mut Cluster) -> usize {
        let (files, _) = layers::assert_identical(&cluster.state(), 3);
        cluster.stop();
        files
    }
}

/// All of them.
pub const SERVICES: [&dyn Service; 14] = [
    &Redis,
    &Memcached,
    &Nginx,
    &Apache,
    &MariaDb,
    &Postgres,
    &Clamd,
    &Gerbera,
    &Ledger(ledger::Server::Python),
    &Ledger(ledger::Server::Civetweb),
    &Ledger(ledger::Server::Microhttpd),
    &Ledger(ledger::Server::Tokio),
    &Ledger(ledger::Server::Java),
    &Ledger(ledger::Server::Go),
];

fn complete(plan: Plan, scratch: Scratch) -> Cluster {
    let mut cluster = plan.start_in(scratch);
    cluster.await_complete();
    cluster
}

fn stores<S: Store>(port: u16) -> Box<dyn Workload> {
    Box::new(Stores::<S>::start(port, CLIENTS, MOST_STORED))
}

struct Redis;

impl Service for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn start(&self, choice: &mut Choice) -> (Cluster, String) {
        let io_threads = if choice.below(4) == 0 { "4" } else { "1" };
        let durability = if choice.below(3) == 0 { "disk" } else { "memory" };
        let command = [
            "redis-server",
            "--port",
            "7000",
            "--save",
            "",
            "--io-threads",
            io_threads,
            "--appendonly",
            "yes",
        ];
        let plan = Plan::new(&command).port(7000).options(&["--durability", durability]);
        (complete(plan, Scratch::new("soak")), format!("io-threads {io_threads}, {durability}"))
    }

    fn load(&self, cluster: &Cluster) -> Box<dyn Workload> {
        Box::new(Writer::start(cluster.port(), CLIENTS))
    }

    fn most_between(&self) -> u64 {
        5000
    }

    fn is_slow(&self) -> bool {
        false
    }
}

struct Memcached;

impl Service for Memcached {
    fn name(&self) -> &'static str {
        "memcached"
    }

    fn start(&self, _choice: &mut Choice) -> (Cluster, String) {
        let plan = Plan::new(&["memcached", "-t", "4", "-p", "11211", "-u", "root", "-m", "256"]).port(11211);
        (complete(plan, Scratch::new("soak")), "4 threads".into())
    }

    fn load(&self, cluster: &Cluster) -> Box<dyn Workload> {
        stores::<Memcache>(cluster.port())
    }
}

/// Makes a site with a directory `up` for uploads, and writes the server's configuration.
fn site(configuration: impl Fn(&Path) -> String) -> (Scratch, String) {
    let scratch = Scratch::new("soak");
    let data = scratch.path().join("data");
    fs::create_dir_all(data.join("up")).expect("make the site");
    for open in [scratch.path(), &data, &data.join("up")] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).expect("open the site");
    }
    let file = data.join("server.conf");
    fs::write(&file, configuration(&data)).expect("write the configuration");
    (scratch, file.display().to_string())
}

struct Nginx;

impl Service for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn start(&self, choice: &mut Choice) -> (Cluster, String) {
        let workers = 1 + choice.below(2);
        let (scratch, file) = site(|data| {
            let data = data.display();
            format!(
                "user www-data; worker_processes {workers}; pid {data}/nginx.pid; error_log {data}/error.log;
                 events {{ worker_connections 1024; }}
                 http {{
                   access_log {data}/access.log; keepalive_requests 1000000;
                   client_body_temp_path {data}/body; proxy_temp_path {data}/proxy; fastcgi_temp_path {data}/fastcgi;
                   uwsgi_temp_path {data}/uwsgi; scgi_temp_path {data}/scgi;
                   server {{ listen 80; location /up/ {{ root {data}; dav_methods PUT DELETE; }} }}
                 }}"
            )
        });
        let plan = Plan::new(&["nginx", "-c", &file, "-g", "daemon off;"]).port(80);
        (complete(plan, scratch), format!("{workers} workers"))
    }

    fn load(&self, cluster: &Cluster) -> Box<dyn Workload> {
        stores::<Http>(cluster.port())
    }
}

struct Apache;

impl Service for Apache {
    fn name(&self) -> &'static str {
        "apache"
    }

    fn start(&self, choice: &mut Choice) -> (Cluster, String) {
        let mpm = ["event", "worker", "prefork"][usize::try_from(choice.below(3)).unwrap_or(0)];
        let module =
            |name: &str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
        let modules: String = ["authz_core", "mime", "dir", "dav", "dav_fs"].map(module).concat();
        let (scratch, file) = site(|data| {
            let data = data.display();
            format!(
                "LoadModule mpm_{mpm}_module /usr/lib/apache2/modules/mod_mpm_{mpm}.so\n{modules}\
                 ServerRoot {data}\nServerName localhost\nPidFile {data}/pid\nDefaultRuntimeDir {data}\nUser www-data\n\
                 Group www-data\nListen 80\nTypesConfig /etc/mime.types\nDocumentRoot {data}\nErrorLog {data}/error.log\n\
                 MaxKeepAliveRequests 0\nDavLockDB {data}/up/.locks\nAcceptPathInfo off\n\
                 <Directory {data}>\nRequire all granted\n</Directory>\n\
                 <Location /up>\nDav On\n</Location>\n"
            )
        });
        let plan = Plan::new(&["apache2", "-f", &file, "-DFOREGROUND"]).port(80);
        (complete(plan, scratch), mpm.into())
    }

    fn load(&self, cluster: &Cluster) -> Box<dyn Workload> {
        stores::<Http>(cluster.port())
    }
}

struct MariaDb;

impl Service for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn start(&self, _choice: &mut Choice) -> (Cluster, String) {
        (mariadb::start("soak", "root"), "pymysql".into())
    }

    fn load(&self, cluster: &Cluster) -> Box<dyn Workload> {
        Box::new(Transfers::start(Database::MariaDb, cluster.port()))
    }

    fn most_between(&self) -> u64 {
        500
    }

    fn end(&self, cluster: &mut Cluster) -> usize {
        mariadb::shut_down(cluster);
        layers::assert_identical(&cluster.state(), 3).0
    }
}

struct Postgres;

impl Service for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn start(&self, _choice: &mut Choice) -> (Cluster, String) {
        (postgres::start("soak"), "psycopg".into())
    }

    fn load(&self, cluster: &Cluster) -> Box<dyn Workload> {
        Box::new(Transfers::start(Database::Postgres, cluster.port()))
    }

    fn most_between(&self) -> u64 {
        500
    }

    fn end(&self, cluster: &mut Cluster) -> usize {
        postgres::shut_down(cluster);
        layers::assert_identical(&cluster.state(), 3).0
    }
}

struct Clamd;

impl Service for Clamd {
    fn name(&self) -> &'static str {
        "clamd"
    }

    fn start(&self, _choice: &mut Choice) -> (Cluster, String) {
        (clamd::start("soak", 3), "texts and files".into())
    }

    fn load(&self, cluster: &Cluster) -> Box<dyn Workload> {
        let (port, files) = (cluster.port(), cluster.data().join("files"));
        Box::new(Answers::start(CLIENTS, move |number| clamd::question(port, &files, number)))
    }
}

struct Gerbera;

impl Service for Gerbera {
    fn name(&self) -> &'static str {
        "gerbera"
    }

    fn start(&self, _choice: &mut Choice) -> (Cluster, String) {
        gerbera::own_network();
        (gerbera::start("soak"), "SOAP".into())
    }

    fn load(&self, _cluster: &Cluster) -> Box<dyn Workload> {
        let files = gerbera::await_files();
        let right = until("an answer", PATIENCE, || gerbera::browse(&files));
        Box::new(Answers::start(4, move |_| {
            let answer = gerbera::browse(&files).ok_or(io::ErrorKind::ConnectionReset)?;
            Ok((answer, right.clone()))
        }))
    }

    fn most_between(&self) -> u64 {
        100
    }
}

/// One of the servers that keep a ledger over HTTP.
struct Ledger(ledger::Server);

impl Service for Ledger {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn start(&self, _choice: &mut Choice) -> (Cluster, String) {
        (ledger::start("soak", &[], 3, |scratch| self.0.command(scratch)), "a ledger".into())
    }

    fn load(&self, cluster: &Cluster) -> Box<dyn Workload> {
        Box::new(Entries::start(cluster.port()))
    }
}
