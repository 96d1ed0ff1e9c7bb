//! The servers, as Debian ships them.

use std::path::Path;

use brolga_tests::http::Http;
use brolga_tests::memcache::Memcache;
use brolga_tests::resp::{Redis, Reply};

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// redis-server without persistence.
    Redis,
    /// memcached with four threads.
    Memcached,
    /// nginx with one worker and a static page.
    Nginx,
}

impl Server {
    /// Where it listens in a container.
    pub fn usual_port(self) -> u16 {
        match self {
            Self::Redis => 6379,
            Self::Memcached => 11211,
            Self::Nginx => 8080,
        }
    }

    /// Its command line; also writes what it needs into its directory.
    pub fn command(self, data: &Path, port: u16) -> Vec<String> {
        let port = port.to_string();
        let words: Vec<&str> = match self {
            Self::Redis => vec!["redis-server", "--port", &port, "--save", "", "--protected-mode", "no"],
            Self::Memcached => vec!["memcached", "-t", "4", "-p", &port, "-u", "root", "-m", "256"],
            Self::Nginx => {
                let file = data.join("nginx.conf");
                write(&file, &nginx_configuration(data, &port));
                write(&data.join("index.html"), &"<p>brolga</p>".repeat(50));
                return vec![
                    "nginx".into(),
                    "-c".into(),
                    file.display().to_string(),
                    "-g".into(),
                    "daemon off;".into(),
                ];
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// True when a client gets an answer.
    pub fn answers(self, port: u16) -> bool {
        match self {
            Self::Redis => Redis::connect(port)
                .and_then(|mut redis| redis.call(&["PING"]))
                .is_ok_and(|reply| reply == Reply::Simple("PONG".into())),
            Self::Memcached => {
                Memcache::connect(port).and_then(|mut memcache| memcache.get("nothing")).is_ok()
            }
            Self::Nginx => {
                Http::connect(port).and_then(|mut http| http.get("/")).is_ok_and(|a| a.code == 200)
            }
        }
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn nginx_configuration(data: &Path, port: &str) -> String {
    let data = data.display();
    format!(
        "user root; worker_processes 1; pid {data}/nginx.pid; error_log {data}/error.log;
         events {{ worker_connections 1024; }}
         http {{
           access_log off; sendfile on; keepalive_requests 1000000000;
           client_body_temp_path {data}/body; proxy_temp_path {data}/proxy; fastcgi_temp_path {data}/fastcgi;
           uwsgi_temp_path {data}/uwsgi; scgi_temp_path {data}/scgi;
           server {{ listen {port}; root {data}; }}
         }}"
    )
}
