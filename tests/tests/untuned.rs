//! Servers that nobody tuned Brolga for: packages as they are, with the clients that people use. Each answers while replicas die, and
//! comes back from a checkpoint.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use brolga_tests::checkpoints::{checkpoint_of_follower, kill};
use brolga_tests::cluster::{Plan, free_port};
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// Seconds that a client gets for one question.
const QUESTION_SECONDS: &str = "10";

/// What a shell command prints, if it succeeds.
fn ask(command: &str) -> Option<String> {
    let mut shell = Command::new("timeout");
    shell.args([QUESTION_SECONDS, "sh", "-c", command]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = shell.output().expect("run a client");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Asks until the answer is the right one: a client whose server's leader has just died asks again.
fn answers(question: &str, answer: &str) {
    until(&format!("{question:?} is answered by {answer:?}"), PATIENCE, || {
        (ask(question).as_deref() == Some(answer)).then_some(())
    });
}

/// Starts `command`, which listens on `port`, and asks it throughout; `question` is made for the published port.
fn goes_on<S: AsRef<str>>(
    scratch: Scratch,
    command: &[S],
    port: u16,
    question: impl Fn(u16) -> String,
    answer: &str,
) {
    let mut cluster = Plan::new(command).port(port).start_in(scratch);
    cluster.await_complete();
    let question = question(cluster.port());
    answers(&question, answer);
    let leader = cluster.leader();
    cluster.kill_replica(leader);
    answers(&question, answer);
    cluster.await_level();
    let (follower, entry) = checkpoint_of_follower(&mut cluster);
    answers(&question, answer);
    assert_eq!(kill(&mut cluster, follower).restored_from, Some(entry), "{}", cluster.printed());
    answers(&question, answer);
    cluster.await_level();
    assert_eq!(cluster.logged("diverged"), Vec::<String>::new());
    cluster.stop();
    cluster.assert_nothing_left();
}

/// Writes a file that every user may read; returns its path.
fn write(scratch: &Scratch, name: &str, text: &str) -> String {
    let path = scratch.path().join(name);
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("make a directory");
    let mut file = fs::File::create(&path).expect("make a file");
    file.write_all(text.as_bytes()).expect("write a file");
    path.display().to_string()
}

fn curl(port: u16, path: &str) -> String {
    format!("curl -sf http://127.0.0.1:{port}/{path}")
}

#[test]
fn lighttpd() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("lighttpd"), free_port());
    write(&scratch, "www/index.html", "hello");
    let root = scratch.path().display();
    let text = format!(
        "server.document-root = \"{root}/www\"\nserver.port = {port}\nserver.modules = (\"mod_staticfile\")\n"
    );
    let file = write(&scratch, "lighttpd.conf", &text);
    goes_on(scratch, &["lighttpd", "-D", "-f", &file], port, |port| curl(port, "index.html"), "hello");
}

/// Threads that take turns at one epoll each, a master and its worker.
#[test]
fn haproxy() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("haproxy"), free_port());
    let text = format!(
        "global\n nbthread 2\ndefaults\n mode http\n timeout connect 9s\n timeout client 9s\n timeout server 9s\n\
         frontend f\n bind :{port}\n http-request return status 200 content-type text/plain string hello\n"
    );
    let file = write(&scratch, "haproxy.cfg", &text);
    goes_on(scratch, &["haproxy", "-W", "-f", &file], port, |port| curl(port, ""), "hello");
}

#[test]
fn mosquitto() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("mosquitto"), free_port());
    let file = write(&scratch, "mosquitto.conf", &format!("listener {port}\nallow_anonymous true\n"));
    // A message that is kept, so that who comes later gets it, too.
    let question =
        |port| format!("mosquitto_pub -p {port} -q 1 -r -t x -m hello && mosquitto_sub -p {port} -t x -C 1");
    goes_on(scratch, &["mosquitto", "-c", &file], port, question, "hello");
}

/// V8: garbage collection, code made at run time, and the pool of threads of libuv.
#[test]
fn node() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("node"), free_port());
    write(&scratch, "www/file", "hello");
    let text = format!(
        "const fs = require('fs');\n\
         require('http').createServer((_, answer) => fs.readFile('{}/www/file', (_, text) => answer.end(text))).listen({port});\n",
        scratch.path().display()
    );
    let file = write(&scratch, "server.js", &text);
    goes_on(scratch, &["node", &file], port, |port| curl(port, ""), "hello");
}

/// It waits for news of the network by netlink, and listens by UDP, too.
#[test]
fn dnsmasq() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("dnsmasq"), free_port());
    let own = port.to_string();
    let command = [
        "dnsmasq",
        "-k",
        "-p",
        &own,
        "--no-resolv",
        "--no-hosts",
        "--address=/www.test/192.0.2.9",
        "-u",
        "root",
        "--pid-file=",
        "--conf-file=/dev/null",
    ];
    let question = |published| {
        format!(
            "dig @127.0.0.1 -p {published} +tcp +short www.test && dig @127.0.0.1 -p {port} +tries=1 +short www.test"
        )
    };
    goes_on(scratch, &command, port, question, "192.0.2.9\n192.0.2.9");
}

/// Threads on libuv, an epoll that watches a netlink socket, and UDP on loopback addresses.
#[test]
fn named() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("named"), free_port());
    let root = scratch.path().display().to_string();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("let everybody write");
    let zone = "$TTL 60\n@ IN SOA ns.zone.test. root.zone.test. 1 60 60 60 60\n@ IN NS ns\nns IN A 127.0.0.1\n\
                www IN A 192.0.2.7\n";
    let zone = write(&scratch, "zone", zone);
    let text = format!(
        "options {{ directory \"{root}\"; listen-on port {port} {{ any; }}; listen-on-v6 {{ none; }}; pid-file none; recursion no;\n\
         session-keyfile \"{root}/session.key\"; dnssec-validation no; }};\ncontrols {{ }};\n\
         zone \"zone.test\" {{ type master; file \"{zone}\"; }};\n"
    );
    let file = write(&scratch, "named.conf", &text);
    let question = |published| {
        format!(
            "dig @127.0.0.1 -p {published} +tcp +short www.zone.test && dig @127.0.0.1 -p {port} +tries=1 +short www.zone.test"
        )
    };
    goes_on(scratch, &["named", "-g", "-n", "2", "-c", &file], port, question, "192.0.2.7\n192.0.2.7");
}

/// A B-tree in a file that is mapped, and locks that processes share.
#[test]
fn slapd() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("slapd"), free_port());
    let root = scratch.path().display().to_string();
    fs::create_dir(scratch.path().join("db")).expect("make a directory");
    let entry = "dn: dc=test\nobjectClass: dcObject\nobjectClass: organization\no: test\ndc: test\n";
    let entry = write(&scratch, "entry.ldif", entry);
    let text = format!(
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {root}/pid\n\
         database mdb\nsuffix dc=test\nrootdn cn=admin,dc=test\nrootpw secret\ndirectory {root}/db\nmaxsize 10485760\n"
    );
    let file = write(&scratch, "slapd.conf", &text);
    let question = |port| {
        let host = format!("-x -H ldap://127.0.0.1:{port}");
        format!(
            "ldapadd {host} -D cn=admin,dc=test -w secret -f {entry} >/dev/null; ldapsearch {host} -LLL -b dc=test dn"
        )
    };
    let url = format!("ldap://127.0.0.1:{port}");
    goes_on(scratch, &["slapd", "-d", "0", "-h", &url, "-f", &file], port, question, "dn: dc=test");
}

/// A process for each client, which gives itself little address space.
#[test]
fn vsftpd() {
    let _turn = serial::turn();
    let (scratch, port, passive) = (Scratch::new("vsftpd"), free_port(), free_port());
    write(&scratch, "ftp/file", "hello");
    let root = scratch.path().display();
    let text = format!(
        "listen=YES\nlisten_port={port}\nanonymous_enable=YES\nanon_root={root}/ftp\nbackground=NO\n\
         pasv_min_port={passive}\npasv_max_port={passive}\n"
    );
    let file = write(&scratch, "vsftpd.conf", &text);
    goes_on(
        scratch,
        &["vsftpd", &file],
        port,
        |port| format!("curl -sf ftp://127.0.0.1:{port}/file"),
        "hello",
    );
}

/// TLS by threads, and a program that is started for each client.
#[test]
fn stunnel() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("stunnel"), free_port());
    let root = scratch.path().display().to_string();
    let made = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 9 -keyout key.pem -out own.pem && cat key.pem own.pem > all.pem";
    ask(&format!("cd {root} && {made}")).expect("make a certificate");
    let text = format!(
        "foreground = yes\npid =\n[echo]\naccept = 127.0.0.1:{port}\ncert = {root}/all.pem\nexec = /bin/cat\nexecArgs = cat\n"
    );
    let file = write(&scratch, "stunnel.conf", &text);
    let client = "import socket, ssl, sys\n\
                  context = ssl.create_default_context()\n\
                  context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n\
                  stream = context.wrap_socket(socket.create_connection((\"127.0.0.1\", int(sys.argv[1]))))\n\
                  stream.sendall(b\"hello\\n\")\n\
                  print(stream.makefile().readline())\n";
    let client = write(&scratch, "client.py", client);
    let question = |port| format!("python3 {client} {port}");
    goes_on(scratch, &["stunnel4", &file], port, question, "hello");
}

/// Processes that find each other by unix sockets with relative paths, named pipes, and root that gives up its capabilities.
#[test]
fn dovecot() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("dovecot"), free_port());
    let root = scratch.path().display().to_string();
    fs::create_dir(scratch.path().join("mail")).expect("make a directory");
    for directory in ["", "mail"] {
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(scratch.path().join(directory), everybody).expect("let everybody write");
    }
    let text = format!(
        "base_dir = {root}/run\nstate_dir = {root}/state\nlog_path = /dev/stderr\nprotocols = imap\nssl = no\n\
         disable_plaintext_auth = no\nlisten = 127.0.0.1\nmail_location = maildir:{root}/mail/%u\nfirst_valid_uid = 1\n\
         service imap-login {{\n inet_listener imap {{\n port = {port}\n }}\n}}\n\
         passdb {{\n driver = static\n args = password=secret\n}}\n\
         userdb {{\n driver = static\n args = uid=65534 gid=65534 home={root}/mail/%u\n}}\n"
    );
    let file = write(&scratch, "dovecot.conf", &text);
    let client = "import imaplib, sys\n\
                  mail = imaplib.IMAP4(\"127.0.0.1\", int(sys.argv[1]), 8)\n\
                  mail.login(\"user\", \"secret\")\n\
                  mail.append(\"INBOX\", None, None, b\"Subject: hello\\r\\n\\r\\n\")\n\
                  mail.select(\"INBOX\")\n\
                  print(mail.fetch(b\"1\", \"(BODY[HEADER.FIELDS (SUBJECT)])\")[1][0][1].strip().decode())\n";
    let client = write(&scratch, "client.py", client);
    let question = |port| format!("python3 {client} {port}");
    goes_on(scratch, &["dovecot", "-F", "-c", &file], port, question, "Subject: hello");
}

/// It starts itself anew for each client, and gives up its rights.
#[test]
fn sshd() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("sshd"), free_port());
    let root = scratch.path().display().to_string();
    let made = "ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f own && mkdir -p /run/sshd";
    ask(&format!("cd {root} && {made}")).expect("make keys");
    let (own, host) = (port.to_string(), format!("{root}/host"));
    let keys = format!("AuthorizedKeysFile={root}/own.pub");
    let command = [
        "/usr/sbin/sshd",
        "-D",
        "-e",
        "-p",
        &own,
        "-h",
        &host,
        "-o",
        &keys,
        "-o",
        "StrictModes=no",
        "-o",
        "PidFile=none",
        "-o",
        "UsePAM=no",
        "-o",
        "PermitRootLogin=yes",
    ];
    let question = |port| {
        format!(
            "ssh -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -i {root}/own -p {port} \
             root@127.0.0.1 echo hello"
        )
    };
    goes_on(scratch, &command, port, question, "hello");
}

/// Qt, which would ask the processor for the seed of its tables.
#[test]
fn mumble() {
    let _turn = serial::turn();
    let (scratch, port) = (Scratch::new("mumble"), free_port());
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).expect("let everybody write");
    let root = scratch.path().display();
    let text =
        format!("database={root}/murmur.sqlite\nhost=127.0.0.1\nport={port}\nlogfile=\nbonjour=false\n");
    let file = write(&scratch, "murmur.ini", &text);
    let client = "import socket, ssl, sys\n\
                  context = ssl.create_default_context()\n\
                  context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n\
                  stream = context.wrap_socket(socket.create_connection((\"127.0.0.1\", int(sys.argv[1]))))\n\
                  kind, head = stream.makefile(\"rb\").read(6)[:2], b\"\\0\\0\"\n\
                  print(\"version\" if kind == head else kind)\n";
    let client = write(&scratch, "client.py", client);
    let question = |port| format!("python3 {client} {port}");
    goes_on(scratch, &["/usr/sbin/murmurd", "-fg", "-ini", &file], port, question, "version");
}
