//! The servers that can be soaked: how each is started, loaded and ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::http::Http;
use brolga_tests::journal::Writer;
use brolga_tests::layers;
use brolga_tests::mariadb::{self, Transfers};
use brolga_tests::memcache::Memcache;
use brolga_tests::scratch::Scratch;
use brolga_tests::stores::{Store, Stores};
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::workload::Workload;

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
    fn load(&self, port: u16) -> Box<dyn Workload>;

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
pub const SERVICES: [&dyn Service; 5] = [&Redis, &Memcached, &Nginx, &Apache, &MariaDb];

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

    fn load(&self, port: u16) -> Box<dyn Workload> {
        Box::new(Writer::start(port, CLIENTS))
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

    fn load(&self, port: u16) -> Box<dyn Workload> {
        stores::<Memcache>(port)
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

    fn load(&self, port: u16) -> Box<dyn Workload> {
        stores::<Http>(port)
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

    fn load(&self, port: u16) -> Box<dyn Workload> {
        stores::<Http>(port)
    }
}

struct MariaDb;

impl Service for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn start(&self, _choice: &mut Choice) -> (Cluster, String) {
        let scratch = Scratch::new("soak");
        let tables = scratch.path().join("data/tables");
        fs::create_dir_all(&tables).expect("make the data directory");
        mariadb::install(&tables, "root");
        let options = [
            format!("--datadir={}", tables.display()),
            format!("--socket={}", tables.join("server.sock").display()),
        ];
        let mut command =
            vec!["mariadbd", "--no-defaults", "--user=root", "--bind-address=0.0.0.0", "--port=3306"];
        command.extend(["--skip-name-resolve", "--innodb-buffer-pool-size=64M"]);
        command.extend(options.iter().map(String::as_str));
        let cluster = complete(Plan::new(&command).port(3306), scratch);
        until("MariaDB answers", PATIENCE, || mariadb::sql(cluster.port(), "SELECT 1").ok());
        (cluster, "pymysql".into())
    }

    fn load(&self, port: u16) -> Box<dyn Workload> {
        Box::new(Transfers::start(port, 8))
    }

    fn most_between(&self) -> u64 {
        500
    }

    fn end(&self, cluster: &mut Cluster) -> usize {
        mariadb::sql(cluster.port(), "SHUTDOWN").expect("shut the server down");
        let ended = cluster.await_end();
        assert!(ended.success(), "brolga run ended with {ended}:\n{}", cluster.printed());
        layers::assert_identical(&cluster.state(), 3).0
    }
}
