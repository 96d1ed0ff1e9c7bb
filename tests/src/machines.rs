//! Several machines for a test: network namespaces with addresses of their own on one switch, which has a namespace, too.
//! One more machine is for clients. Links can be cut, packets of one direction dropped, and cables be long.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::long_cable;

/// See the module. Machines have numbers from 1; that of the clients is the last one.
#[derive(Debug)]
pub struct Machines {
    tag: String,
    count: u8,
}

impl Machines {
    /// Makes `count` machines, and one for clients.
    pub fn new(count: u8) -> Self {
        Self::joined(count, |machines, number| {
            let (name, port, switch) = (machines.name(number), port(number), machines.switch());
            let peer = ["type", "veth", "peer", "name", &port, "netns", &switch];
            ip(&[&["link", "add", "eth0", "netns", &name][..], &peer].concat());
        })
    }

    /// The same, with cables on which each frame takes `delay` in either direction; from machine to machine are two.
    pub fn far_apart(count: u8, delay: Duration) -> Self {
        Self::joined(count, |machines, number| {
            let (machine, switch) = (machines.network(number), network(&machines.switch()));
            long_cable::lay(machine, "eth0", switch, &port(number), delay);
        })
    }

    /// Makes them, with cables between `eth0` of each and its port of the switch that `lay` makes.
    fn joined(count: u8, lay: impl Fn(&Self, u8)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("bt{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let machines = Self { tag, count: count + 1 };
        let switch = machines.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "switch", "up"]);
        for number in 1..=machines.count {
            let (name, port, address) =
                (machines.name(number), port(number), format!("{}/24", machines.address(number)));
            ip(&["netns", "add", &name]);
            lay(&machines, number);
            ip(&["-n", &switch, "link", "set", &port, "master", "switch", "up"]);
            ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", &name, "link", "set", "eth0", "up"]);
            ip(&["-n", &name, "link", "set", "lo", "up"]);
        }
        machines
    }

    fn switch(&self) -> String {
        format!("{}s", self.tag)
    }

    fn name(&self, number: u8) -> String {
        format!("{}m{number}", self.tag)
    }

    /// The clients' machine.
    pub fn clients(&self) -> u8 {
        self.count
    }

    /// A machine's address.
    pub fn address(&self, number: u8) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, number).into()
    }

    /// A port of a machine.
    pub fn port(&self, number: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(number), port)
    }

    /// The network of a machine, to be entered.
    pub fn network(&self, number: u8) -> File {
        network(&self.name(number))
    }

    /// A command that runs on a machine.
    pub fn command(&self, number: u8, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let (network, mut command) = (self.network(number), Command::new(program));
        // SAFETY: a plain system call between fork and exec.
        unsafe { command.pre_exec(move || enter_network(&network)) };
        command
    }

    /// Plugs a machine's cable in or out.
    pub fn set_link(&self, number: u8, up: bool) {
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.switch(), "link", "set", &port(number), state]);
    }

    /// Drops all packets that a machine sends to the machines `to`.
    pub fn deafen(&self, from: u8, to: &[u8]) {
        to.iter().for_each(|&to| self.drop_packets(from, to, ""));
    }

    /// Drops so many of a hundred packets that a machine sends to another one.
    pub fn lose(&self, from: u8, to: u8, percent: u8) {
        self.drop_packets(from, to, &format!("numgen random mod 100 < {percent}"));
    }

    /// Drops all packets between two machines.
    pub fn part(&self, one: u8, other: u8) {
        self.deafen(one, &[other]);
        self.deafen(other, &[one]);
    }

    fn drop_packets(&self, from: u8, to: u8, which: &str) {
        let rules = format!(
            "table inet test {{ chain input {{ type filter hook input priority 0; ip saddr {} {which} drop; }}; }}",
            self.address(from)
        );
        self.nft(to, &rules);
    }

    /// Ends that.
    pub fn hear_again(&self, machines: &[u8]) {
        machines.iter().for_each(|&machine| self.nft(machine, "add table inet test; delete table inet test"));
    }

    fn nft(&self, machine: u8, words: &str) {
        let done = self.command(machine, "nft").arg(words).output().expect("run nft");
        assert!(done.status.success(), "nft {words}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for name in (1..=self.count).map(|number| self.name(number)).chain([self.switch()]) {
            remove(&name);
        }
    }
}

/// A machine's port of the switch.
fn port(number: u8) -> String {
    format!("p{number}")
}

fn network(name: &str) -> File {
    let path = format!("/run/netns/{name}");
    File::open(&path).unwrap_or_else(|error| panic!("cannot open {path}: {error}"))
}

/// Removes all machines of this process: for one that ends without the usual cleaning up.
pub fn remove_all() {
    let own = format!("bt{}n", std::process::id());
    let names =
        std::fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with(&own))
        .for_each(|n| remove(&n));
}

fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}

/// Moves the calling thread, or process if it has one thread, to another machine.
pub fn enter_network(network: &File) -> std::io::Result<()> {
    // SAFETY: a descriptor that is open.
    match unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).output().expect("run ip (package iproute2)");
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}
