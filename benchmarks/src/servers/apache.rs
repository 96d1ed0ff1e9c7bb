//! Apache with the event MPM and a static page.

use std::path::Path;
use std::time::Duration;

use brolga_tests::http::Http;

use crate::load::Load;
use crate::server::{Server, write};
use crate::wrk;

/// See the module.
#[derive(Debug)]
pub struct Apache;

impl Server for Apache {
    fn name(&self) -> &'static str {
        "apache"
    }

    fn usual_port(&self) -> u16 {
        8080
    }

    fn command(&self, data: &Path, port: u16) -> Vec<String> {
        let file = data.join("apache.conf");
        write(&file, &configuration(data, port));
        write(&data.join("index.html"), &"<p>brolga</p>".repeat(50));
        ["apache2", "-f", &file.display().to_string(), "-DFOREGROUND"].map(str::to_owned).to_vec()
    }

    fn answers(&self, port: u16) -> bool {
        Http::connect(port)
            .and_then(|mut http| http.get("/index.html"))
            .is_ok_and(|answer| answer.code == 200)
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        vec![Load::new(format!("apache event c={}", wrk::CONNECTIONS), move |port| {
            wrk::run(port, "index.html", wrk::CONNECTIONS, time)
        })]
    }
}

fn configuration(data: &Path, port: u16) -> String {
    let data = data.display();
    let modules: String = ["mpm_event", "authz_core", "mime", "dir"]
        .iter()
        .map(|module| format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n"))
        .collect();
    format!(
        "{modules}ServerName localhost\nServerRoot {data}\nDefaultRuntimeDir {data}\nPidFile {data}/apache.pid\n\
         Listen {port}\nDocumentRoot {data}\nErrorLog {data}/error.log\nUser www-data\nGroup www-data\n\
         TypesConfig /etc/mime.types\nMaxKeepAliveRequests 0\n\
         StartServers 2\nServerLimit 2\nThreadsPerChild 25\nMaxRequestWorkers 50\nMinSpareThreads 25\nMaxSpareThreads 50\n\
         <Directory />\nRequire all granted\n</Directory>\n"
    )
}
