//! Servers that connect to other hosts: a redis that follows an external one, nginx before an external upstream, a program
//! that asks by TCP and UDP. What is not allowed is refused and told.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use brolga_tests::cluster::{Cluster, Plan, free_port};
use brolga_tests::http::Http;
use brolga_tests::layers;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// A program outside the cluster that ends with the test.
struct Outside(Child);

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis(port: u16) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(port).ok()?;
        (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
    })
}

/// Waits until the replicated redis has what the external one has.
fn await_value(cluster: &Cluster, key: &str, value: &str) {
    until("the value has come over", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        (redis.call(&["GET", key]).ok()? == Reply::Bulk(Some(value.into()))).then_some(())
    });
}

#[test]
fn redis_follows_an_external_redis_through_failures() {
    let _turn = serial::turn();
    let scratch = Scratch::new("external-redis");
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--repl-diskless-sync-delay", "0"]);
    command.current_dir(scratch.path()).stdout(Stdio::null());
    let _external = Outside(command.spawn().expect("start redis-server"));
    let mut external = redis(port);
    external.must(&["SET", "before", "1"]);
    let (text, to) = (port.to_string(), format!("127.0.0.1:{port}"));
    let command = ["redis-server", "--port", "6379", "--save", "", "--replicaof", "127.0.0.1", &text];
    let mut cluster =
        Plan::new(&command).port(6379).options(&["--allow-outbound", &to]).start("redis-replica");
    cluster.await_complete();
    await_value(&cluster, "before", "1");
    for round in 0..2 {
        let victim = if round == 0 { cluster.leader() } else { cluster.follower() };
        cluster.kill_replica(victim);
        let key = format!("after-{round}");
        external.must(&["SET", &key, "x"]);
        await_value(&cluster, &key, "x");
        cluster.await_complete();
    }
    let big = "y".repeat(2 << 20);
    external.must(&["SET", "big", &big]);
    await_value(&cluster, "big", &big);
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// An HTTP server with one answer; returns its port and the number of its answers.
fn upstream() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind the upstream");
    let port = listener.local_addr().expect("an address").port();
    let served = Arc::new(AtomicU64::new(0));
    let count = served.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = count.clone();
            thread::spawn(move || answer_http(stream, &count));
        }
    });
    (port, served)
}

fn answer_http(mut stream: TcpStream, count: &AtomicU64) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(bytes) => request.extend_from_slice(&buffer[..bytes]),
        }
    }
    let number = count.fetch_add(1, Ordering::Relaxed);
    let body = format!("answer {number} {}", "z".repeat(20_000));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

#[test]
fn nginx_passes_requests_to_an_external_upstream() {
    let _turn = serial::turn();
    let (port, served) = upstream();
    let scratch = Scratch::new("nginx-proxy");
    let data = scratch.path().join("data");
    fs::create_dir_all(&data).expect("make the server's directory");
    let at = data.display();
    let configuration = format!(
        "user www-data; worker_processes 1; pid {at}/nginx.pid; error_log {at}/error.log;
         events {{ worker_connections 256; }}
         http {{
           access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;
           uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
           server {{ listen 80; location / {{ proxy_pass http://127.0.0.1:{port}; }}
                     location /closed {{ proxy_pass http://192.0.2.77:81; }} }}
         }}"
    );
    fs::write(data.join("nginx.conf"), configuration).expect("write the configuration");
    let (conf, to) = (data.join("nginx.conf"), format!("127.0.0.1:{port}"));
    let command = ["nginx", "-c", conf.to_str().expect("a plain path"), "-g", "daemon off;"];
    let mut cluster = Plan::new(&command).port(80).options(&["--allow-outbound", &to]).start_in(scratch);
    cluster.await_complete();
    let mut answered = 0;
    for round in 0..3 {
        let mut http = Http::connect(cluster.port()).expect("connect");
        for _ in 0..50 {
            let answer = http.get("/").expect("an answer");
            assert_eq!((answer.code, &answer.body[..7]), (200, &b"answer "[..]));
            assert!(answer.body.len() > 20_000);
            answered += 1;
        }
        if round == 0 {
            let leader = cluster.leader();
            cluster.kill_replica(leader);
            cluster.await_complete();
        }
    }
    let served = served.load(Ordering::Relaxed);
    assert_eq!(served, answered, "the upstream saw each request once, and from one replica");
    // What is not allowed is refused at once, and the log says how to allow it.
    let mut http = Http::connect(cluster.port()).expect("connect");
    assert_eq!(http.get("/closed").expect("an answer").code, 502);
    let leader = cluster.leader();
    let log = cluster.state().join(format!("replica-{leader}/coordinator.log"));
    let told = until("a line in the log", PATIENCE, || {
        let log = fs::read_to_string(&log).ok()?;
        log.lines().find(|line| line.contains("192.0.2.77:81")).map(str::to_owned)
    });
    assert!(told.contains("--allow-outbound 192.0.2.77:81") && told.contains(" (process 10"), "{told}");
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// Asks a host by UDP or TCP, as clients tell it, and passes on what it says or the error.
const ASKER: &str = r#"
import socket
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('0.0.0.0', 7070))
listener.listen(10)
def serve(client):
    for line in client.makefile('r'):
        kind, port, text = line.split()
        try:
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)
            s.settimeout(20)
            s.connect(('127.0.0.1', int(port)))
            if kind == 'ended':
                s.sendall(text.encode() * 1000)
                s.shutdown(socket.SHUT_WR)
                said = str(sum(iter(lambda: len(s.recv(10000)), 0)))
            else:
                s.send(text.encode() + b'\n')
                said = s.recv(1000).decode().strip()
        except OSError as error:
            said = type(error).__name__
        client.sendall(said.encode() + b'\n')
while True:
    client, _ = listener.accept()
    try:
        serve(client)
    except OSError:
        pass
    client.close()
"#;

fn ask(stream: &mut TcpStream, question: &str) -> Option<String> {
    stream.write_all(format!("{question}\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        answer.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&answer).trim().to_owned())
}

/// A name server of one line: answers each question but "silence", which it tells.
fn name_server() -> (u16, mpsc::Receiver<()>) {
    let (tell, heard) = mpsc::channel();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind the name server");
    let port = socket.local_addr().expect("an address").port();
    thread::spawn(move || {
        let mut buffer = [0; 1000];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let question = String::from_utf8_lossy(&buffer[..count]).trim().to_owned();
            if question == "silence" {
                let _ = tell.send(());
            } else {
                let _ = socket.send_to(format!("answer-to-{question}").as_bytes(), from);
            }
        }
    });
    (port, heard)
}

/// Answers with a byte for each byte and `ANSWER_BYTES` more, once the asker has said that it is through.
fn patient_listener() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = Vec::new();
            let _ = stream.read_to_end(&mut asked);
            let _ = stream.write_all(&vec![b'a'; asked.len() + ANSWER_BYTES]);
        }
    });
    port
}

/// More than is on its way to a server at a time.
const ANSWER_BYTES: usize = 8 << 20;

#[test]
fn the_answer_comes_whole_behind_the_end_of_the_question() {
    let _turn = serial::turn();
    let port = patient_listener();
    let scratch = Scratch::new("asker-ends");
    let program = scratch.path().join("asker.py");
    fs::write(&program, ASKER).expect("write the server");
    let allowed = format!("127.0.0.1:{port}");
    let command = ["python3", program.to_str().expect("a plain path")];
    let plan = Plan::new(&command).port(7070).options(&["--allow-outbound", &allowed]);
    let mut cluster = plan.start_in(scratch);
    cluster.await_complete();
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port())));
    let mut stream = stream.expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
    let said = ask(&mut stream, &format!("ended {port} question"));
    let expected = "question".len() * 1000 + ANSWER_BYTES;
    assert_eq!(said, Some(expected.to_string()));
    cluster.await_level();
    cluster.stop();
}

#[test]
fn questions_are_answered_refused_or_cut_off_by_a_failure() {
    let _turn = serial::turn();
    let (names, heard) = name_server();
    // Accepts and never answers.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let mute_at = mute.local_addr().expect("an address");
    let closed = free_port();
    let scratch = Scratch::new("asker");
    let program = scratch.path().join("asker.py");
    fs::write(&program, ASKER).expect("write the server");
    let allowed = |port: u16| format!("127.0.0.1:{port}");
    let options = [names, mute_at.port(), closed].map(allowed);
    let options: Vec<&str> = options.iter().flat_map(|to| ["--allow-outbound", to.as_str()]).collect();
    let command = ["python3", program.to_str().expect("a plain path")];
    let mut cluster = Plan::new(&command).port(7070).options(&options).start_in(scratch);
    cluster.await_complete();
    let connect = |cluster: &Cluster| -> TcpStream {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port())));
        let stream = stream.expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set a time-out");
        stream
    };
    let mut stream = connect(&cluster);
    let port = names.to_string();
    assert_eq!(ask(&mut stream, &format!("udp {port} name")).as_deref(), Some("answer-to-name"));
    // Nobody listens there, and the host says so; and one that is not allowed.
    assert_eq!(ask(&mut stream, &format!("tcp {closed} x")).as_deref(), Some("ConnectionRefusedError"));
    let forbidden = free_port();
    for kind in ["tcp", "udp"] {
        let refused = ask(&mut stream, &format!("{kind} {forbidden} x"));
        assert_eq!(refused.as_deref(), Some("ConnectionRefusedError"), "{kind}");
    }
    drop(stream);
    // A question whose answer the leader's death cuts off ends at once, and so do those after it.
    for question in [format!("tcp {} x", mute_at.port()), format!("udp {port} silence")] {
        let mut asking = connect(&cluster);
        assert!(ask(&mut asking, &format!("udp {port} again")).is_some(), "{question}");
        asking.write_all(format!("{question}\n").as_bytes()).expect("ask");
        if question.starts_with("tcp") {
            mute.accept().expect("the leader's connection");
        } else {
            heard.recv_timeout(PATIENCE).expect("the question reaches the name server");
        }
        let leader = cluster.leader();
        cluster.kill_replica(leader);
        // The server's own 20 seconds would be longer than this.
        let mut stream = connect(&cluster);
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set a time-out");
        let answer = ask(&mut stream, &format!("udp {port} later"));
        assert_eq!(answer.as_deref(), Some("answer-to-later"), "after {question}");
        cluster.await_complete();
    }
    cluster.await_level();
    cluster.stop();
}
