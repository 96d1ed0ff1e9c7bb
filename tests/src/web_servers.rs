//! Web servers with processes and files of their own, as the tests of checkpoints start them.

use std::path::Path;

use crate::checkpoints::PAGE_BYTES;
use crate::cluster::{Cluster, Plan};
use crate::scratch::Scratch;

/// Makes the directory of pages with one page in it, which the servers' users may read.
fn page(scratch: &Scratch, name: &str) {
    let pages = scratch.path().join("pages");
    std::fs::create_dir(&pages).expect("make a directory");
    std::fs::write(pages.join(name), "x".repeat(PAGE_BYTES)).expect("write a page");
    std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("let the workers in");
}

/// nginx with two workers, and a page at `/page`.
pub fn nginx(label: &str) -> Cluster {
    let scratch = Scratch::new(label);
    page(&scratch, "page");
    let configuration = scratch.path().join("nginx.conf");
    let top = scratch.path().display();
    let text = format!(
        "worker_processes 2; pid {top}/pid; error_log {top}/error.log; events {{ worker_connections 256; }}\n\
         http {{ access_log {top}/access.log; keepalive_requests 100000;\n\
         server {{ listen 8080; root {top}/pages; }} }}\n"
    );
    std::fs::write(&configuration, text).expect("write the configuration");
    let configuration = configuration.to_str().expect("a path in UTF-8");
    Plan::new(&["nginx", "-c", configuration, "-g", "daemon off;"]).port(8080).start_in(scratch)
}

fn apache_configuration(scratch: &Path) -> String {
    let modules = "/usr/lib/apache2/modules";
    let d = scratch.display();
    format!(
        "ServerRoot {d}\nServerName localhost\nPidFile {d}/pid\nDefaultRuntimeDir {d}\nUser www-data\nGroup www-data\nListen 80\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\nLoadModule authz_core_module {modules}/mod_authz_core.so\n\
         LoadModule dir_module {modules}/mod_dir.so\nDocumentRoot {d}/pages\nErrorLog {d}/error.log\nLogFormat \"%t %r %>s\" own\n\
         CustomLog {d}/access.log own\nMaxKeepAliveRequests 0\nKeepAliveTimeout 600\n"
    )
}

/// Apache with its event module: three processes, a scoreboard in shared memory, and a page at `/`.
pub fn apache(label: &str) -> Cluster {
    let scratch = Scratch::new(label);
    page(&scratch, "index.html");
    let configuration = scratch.path().join("apache.conf");
    std::fs::write(&configuration, apache_configuration(scratch.path())).expect("write the configuration");
    let configuration = configuration.to_str().expect("a plain path");
    Plan::new(&["apache2", "-D", "FOREGROUND", "-f", configuration]).port(80).start_in(scratch)
}
