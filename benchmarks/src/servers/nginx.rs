//! nginx with one or two workers and a static page.

use std::path::Path;
use std::time::Duration;

use brolga_tests::http::Http;

use crate::load::Load;
use crate::server::{Server, write};
use crate::wrk;

/// See the module.
#[derive(Debug)]
pub struct Nginx {
    /// How many processes answer.
    pub workers: u8,
}

impl Server for Nginx {
    fn name(&self) -> &'static str {
        if self.workers == 1 { "nginx" } else { "nginx-workers" }
    }

    fn usual_port(&self) -> u16 {
        8080
    }

    fn command(&self, data: &Path, port: u16) -> Vec<String> {
        let file = data.join("nginx.conf");
        write(&file, &configuration(data, port, self.workers));
        write(&data.join("index.html"), &"<p>brolga</p>".repeat(50));
        ["nginx", "-c", &file.display().to_string(), "-g", "daemon off;"].map(str::to_owned).to_vec()
    }

    fn answers(&self, port: u16) -> bool {
        Http::connect(port).and_then(|mut http| http.get("/")).is_ok_and(|answer| answer.code == 200)
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        vec![Load::new(format!("{} keep-alive c={}", self.name(), wrk::CONNECTIONS), move |port| {
            wrk::run(port, "index.html", wrk::CONNECTIONS, time)
        })]
    }
}

fn configuration(data: &Path, port: u16, workers: u8) -> String {
    let data = data.display();
    format!(
        "user root; worker_processes {workers}; pid {data}/nginx.pid; error_log {data}/error.log;
         events {{ worker_connections 1024; }}
         http {{
           access_log off; sendfile on; keepalive_requests 1000000000;
           client_body_temp_path {data}/body; proxy_temp_path {data}/proxy; fastcgi_temp_path {data}/fastcgi;
           uwsgi_temp_path {data}/uwsgi; scgi_temp_path {data}/scgi;
           server {{ listen {port}; root {data}; }}
         }}"
    )
}
