//! How a server is brought back from an image, and what its watchdog does.

use std::sync::atomic::Ordering;

use coordinator::container::watchdog;
use coordinator::paxos::MILLIS;
use dmt::upcall::UpcallKind;

use super::check::{Checker, rule};
use super::image::Image;
use super::rng::Rng;
use super::server::Server;
use super::toy::ToyConfig;

/// Time between two looks of the watchdog, nanoseconds.
pub const WATCH_NS: u64 = MILLIS;
/// Percent of its nominal time that a work needs while a server is brought back.
const SWIFT: u64 = 1;
/// A server that is not back after this will never be, nanoseconds.
const LOST_NS: u64 = 60_000 * MILLIS;

impl Server {
    /// A server in the state that `image` is of, which is held against what was noted with it. `id`: of the replica.
    pub fn restore(
        config: ToyConfig,
        slowness: u64,
        now: u64,
        rng: Rng,
        (id, image, checker): (u8, &Image, &mut Checker),
    ) -> Self {
        let mut server = Self::start(config, SWIFT, now, rng);
        let (mut given, mut time, mut look_at) = (0, now, now + WATCH_NS);
        loop {
            while let Some(entry) = image.entries.get(given)
                && server.link.push_entry(entry)
            {
                given += 1;
            }
            server.link.set_committed(image.held.entry);
            server.wake();
            let due = server.run(time);
            server.forget_upcalls(id, checker);
            if server.link.is_parked(image.held.entry) {
                break;
            }
            if time >= look_at {
                server.look();
                look_at = time + WATCH_NS;
            }
            time = due.unwrap_or(look_at).min(look_at).max(time + 1);
            if time > now + LOST_NS {
                let detail = format!("replica {id} cannot be brought to entry {}", image.held.entry);
                checker.fail(rule::RECOVERY, detail);
                break;
            }
        }
        server.link.restored();
        server.platform.slowness.set(slowness);
        server.platform.kicked.set(false);
        server.platform.admissions.take();
        let digest = server.digest();
        if digest != image.digest {
            let (entry, was) = (image.held.entry, image.digest);
            checker.fail(
                rule::DIGESTS,
                format!("replica {id} is restored at entry {entry} as {digest:x}, which was {was:x}"),
            );
        }
        server
    }

    /// What it told of itself on the way was told when it was there first.
    fn forget_upcalls(&mut self, id: u8, checker: &mut Checker) {
        let mut last = None;
        while let Some(upcall) = self.link.next_upcall() {
            last = Some(upcall.end);
            if upcall.kind == UpcallKind::Diverged {
                let why = String::from_utf8_lossy(upcall.payload);
                checker.fail(rule::DIVERGED, format!("replica {id}, while it is restored: {why}"));
            }
        }
        if let Some(end) = last {
            self.link.release_upcall(end);
        }
    }

    /// Digest of all that it did before its last bubble, and of the entry that opened this. Who led then has run on in the bubble,
    /// who follows has not: their logical times differ.
    pub fn digest(&self) -> u64 {
        self.link.control().digest.load(Ordering::SeqCst)
    }

    /// The watchdog looks; false if there is nothing to watch any more.
    pub fn look(&mut self) -> bool {
        let control = self.link.control();
        let sample = watchdog::Sample::read(control);
        if sample.runnable == 0 {
            self.watch = watchdog::State::default();
            return false;
        }
        let cpu = self.platform.cpu.get() / 1000;
        let action = self.watch.advance(&sample, || Some(cpu));
        let suspect = sample.is_suspect(&std::mem::replace(&mut self.looked, sample));
        let control = self.link.control();
        control.wanted.fetch_or(action.bits(), Ordering::SeqCst);
        if suspect || action.signals() {
            self.platform.signalled.set(control.turn.load(Ordering::Relaxed) as u16);
        }
        true
    }
}
