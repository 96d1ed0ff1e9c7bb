//! Reloads with a changed configuration: its new content goes through the log, so replicas that are rebuilt have it at the same
//! point of their lives.

use std::fs;
use std::path::Path;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::http::Http;
use brolga_tests::layers;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

fn nginx(data: &Path, page: &str) -> String {
    let d = data.display();
    format!(
        "user www-data; worker_processes 1; daemon off; pid {d}/nginx.pid; error_log {d}/error.log;
         events {{ worker_connections 64; }}
         http {{ access_log off; server {{ listen 80; location / {{ return 200 \"{page}\"; }} }} }}"
    )
}

fn apache(data: &Path, page: &str) -> String {
    let (d, modules) = (data.display(), "/usr/lib/apache2/modules");
    format!(
        "ServerRoot {d}\nServerName localhost\nPidFile {d}/pid\nDefaultRuntimeDir {d}\nUser www-data\nGroup www-data\n\
         Listen 80\nLoadModule mpm_event_module {modules}/mod_mpm_event.so\nLoadModule authz_core_module \
         {modules}/mod_authz_core.so\nLoadModule alias_module {modules}/mod_alias.so\nErrorLog {d}/error.log\n\
         AliasMatch ^/ {d}/{page}\n<Directory {d}>\nRequire all granted\n</Directory>\n"
    )
}

/// What the server says now.
fn page(cluster: &Cluster) -> String {
    until("the server answers", PATIENCE, || {
        let answer = Http::connect(cluster.port()).ok()?.get("/").ok()?;
        (answer.code == 200).then(|| String::from_utf8_lossy(&answer.body).into_owned())
    })
}

/// Serves "old", is told to serve "new" and then "newest", and does so in all replicas, whichever is rebuilt.
fn reload(label: &str, configuration: fn(&Path, &str) -> String, signal: &str, command: &[&str]) {
    let _turn = serial::turn();
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    fs::create_dir_all(&data).expect("make the server's directory");
    for page in ["old", "new", "newest"] {
        fs::write(data.join(page), page).expect("write a page");
        fs::write(data.join(format!("{page}.conf")), configuration(&data, page))
            .expect("write a configuration");
    }
    let conf = data.join("old.conf");
    let conf = conf.to_str().expect("a plain path");
    let command: Vec<_> = command.iter().copied().chain([conf]).collect();
    let mut cluster = Plan::new(&command).port(80).start_in(scratch);
    cluster.await_complete();
    assert_eq!(page(&cluster), "old");
    let itself = cluster.call(&["signal", signal, "--replace", &format!("{conf}={conf}")]);
    assert!(!itself.status.success(), "the host's own file has to stay as it is");
    for (page_of_it, leader) in [("new", true), ("newest", false)] {
        let new = data.join(format!("{page_of_it}.conf"));
        let said = cluster.call(&["signal", signal, "--replace", &format!("{conf}={}", new.display())]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        until("the new configuration is in force", PATIENCE, || (page(&cluster) == page_of_it).then_some(()));
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        cluster.kill_replica(victim);
        assert_eq!(page(&cluster), page_of_it);
        cluster.await_complete();
        assert_eq!(page(&cluster), page_of_it);
    }
    cluster.await_level();
    assert_eq!(fs::read_to_string(conf).expect("the host's file"), configuration(&data, "old"));
    layers::assert_identical(&cluster.state(), 3);
    for layer in layers::of_state(&cluster.state()) {
        assert_eq!(layers::files_named(&layer, "old.conf"), [configuration(&data, "newest").into_bytes()]);
    }
    cluster.stop();
}

#[test]
fn nginx_takes_a_changed_configuration_and_so_does_its_replay() {
    reload("reload-nginx", nginx, "HUP", &["nginx", "-c"]);
}

#[test]
fn apache_takes_a_changed_configuration_and_so_does_its_replay() {
    reload("reload-apache", apache, "USR1", &["/usr/sbin/apache2", "-DFOREGROUND", "-f"]);
}
