//! A reload with a changed configuration on three machines: any of them can be told, the new content goes through the log, and a
//! machine that was down meanwhile, or that is rebuilt, has it at the same point.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use brolga_tests::layers;
use brolga_tests::machines::enter_network;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::trio::Trio;
use brolga_tests::wait::{PATIENCE, until};

const PORT: u16 = 7000;
const LIMIT: Duration = Duration::from_secs(2);

fn configuration(data: &str, page: &str) -> String {
    format!(
        "user www-data; worker_processes 1; daemon off; pid {data}/nginx.pid; error_log {data}/error.log;
         events {{ worker_connections 64; }}
         http {{ access_log off; server {{ listen {PORT}; location / {{ return 200 \"{page}\"; }} }} }}"
    )
}

/// What a client on the fourth machine gets at the address of machine `id`.
fn page(trio: &Trio, id: u8) -> Option<String> {
    let network = trio.machines.network(trio.machines.clients());
    let address = trio.machines.port(id, PORT);
    let asked = std::thread::spawn(move || {
        enter_network(&network).expect("enter the clients' network");
        let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    });
    asked.join().expect("ask nginx")
}

fn await_page(trio: &Trio, id: u8, expected: &str) {
    let what = format!("machine {id} serves {expected}");
    until(&what, PATIENCE, || (page(trio, id)? == expected).then_some(()));
}

fn layer(trio: &Trio, id: u8) -> std::path::PathBuf {
    layers::of_state(&trio.path(&format!("state-{id}"))).pop().expect("a layer")
}

#[test]
fn any_machine_takes_a_changed_configuration_for_all() {
    let _turn = serial::turn();
    let scratch = Scratch::new("machines-reload");
    let data = scratch.path().join("data");
    fs::create_dir_all(&data).expect("make the server's directory");
    let directory = data.to_str().expect("a plain path").to_owned();
    for page in ["old", "new", "newest"] {
        fs::write(data.join(format!("{page}.conf")), configuration(&directory, page)).expect("write it");
    }
    let conf = format!("{directory}/old.conf");
    let mut trio = Trio::new_in(scratch, &["nginx", "-c", &conf]);
    (1..=3).for_each(|id| trio.start(id));
    (1..=3).for_each(|id| await_page(&trio, id, "old"));

    // Told to a follower's machine, which passes it on.
    let leader = trio.leader(1);
    let follower = leader % 3 + 1;
    let third = 6 - leader - follower;
    let replace = |trio: &Trio, id: u8, page: &str| {
        let pair = format!("{conf}={directory}/{page}.conf");
        let done = trio.call(id, &["signal", "HUP", "--replace", &pair]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    replace(&trio, follower, "new");
    (1..=3).for_each(|id| await_page(&trio, id, "new"));

    // The leader's machine loses its power, the others are told of another one, and it comes back.
    trio.kill(leader);
    await_page(&trio, follower, "new");
    replace(&trio, third, "newest");
    await_page(&trio, follower, "newest");
    trio.start(leader);
    trio.await_level(follower);
    trio.kill(follower);
    trio.start(follower);
    trio.await_level(leader);
    (1..=3).for_each(|id| await_page(&trio, id, "newest"));
    trio.await_level(leader);
    let first = layers::picture(&layer(&trio, 1));
    for id in 2..=3 {
        assert_eq!(layers::differing(&first, &layers::picture(&layer(&trio, id))), None, "machine {id}");
    }
    let kept = layers::files_named(&layer(&trio, follower), "old.conf");
    assert_eq!(kept, [configuration(&directory, "newest").into_bytes()]);
    assert_eq!(fs::read_to_string(&conf).expect("the machines' own file"), configuration(&directory, "old"));
    trio.stop();
}
