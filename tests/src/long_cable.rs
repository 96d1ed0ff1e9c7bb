//! A cable that takes its time: two TAP devices, one in a machine's network and one in the switch's, and threads that carry each
//! frame from one to the other after a while. Frames stay in their order.

use std::ffi::c_short;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::machines::enter_network;

/// Bytes of the longest frame.
const FRAME_BYTES: usize = 1 << 16;
/// Frames that are under way in one direction; more have to wait in the device's own queue, and are lost when it is full.
const FRAMES_UNDER_WAY: usize = 4096;

/// Joins a device `inner` in the network `machine` with one `outer` in the network `switch`. Each frame takes `delay` from end to
/// end. It lasts until both networks are gone.
pub fn lay(machine: File, inner: &str, switch: File, outer: &str, delay: Duration) {
    let inner = Arc::new(plug(machine, inner.to_owned()));
    let outer = Arc::new(plug(switch, outer.to_owned()));
    carry(Arc::clone(&inner), Arc::clone(&outer), delay);
    carry(outer, inner, delay);
}

/// Makes a device in a network.
fn plug(network: File, name: String) -> File {
    let make = move || {
        enter_network(&network).expect("enter a machine's network");
        let tap = File::options().read(true).write(true).open("/dev/net/tun").expect("open /dev/net/tun");
        // SAFETY: all zeroes is a request.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        assert!(name.len() < request.ifr_name.len(), "{name} is too long for a device");
        request.ifr_name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from.cast_signed());
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as c_short;
        // SAFETY: the descriptor is open, and the request is one of a name and flags.
        let made = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
        assert_eq!(made, 0, "make device {name}: {}", std::io::Error::last_os_error());
        tap
    };
    thread::spawn(make).join().expect("make a device")
}

fn carry(from: Arc<File>, to: Arc<File>, delay: Duration) {
    let (sender, receiver) = sync_channel(FRAMES_UNDER_WAY);
    thread::spawn(move || take(&from, &sender, delay));
    thread::spawn(move || deliver(&to, &receiver));
}

/// Ends when the device is gone with its network.
fn take(from: &File, sender: &SyncSender<(Instant, Vec<u8>)>, delay: Duration) {
    let (mut from, mut buffer) = (from, vec![0; FRAME_BYTES]);
    while let Ok(count) = from.read(&mut buffer) {
        if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(to: &File, receiver: &Receiver<(Instant, Vec<u8>)>) {
    let mut to = to;
    while let Ok((due, frame)) = receiver.recv() {
        // This is the cable's length, and nobody waits for it but the frame.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // What comes to a device that is down is lost.
        let _ = to.write(&frame);
    }
}
