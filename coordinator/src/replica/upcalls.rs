//! What the server tells us beside entries and outputs: listeners, digests, its end.

use std::net::SocketAddr;

use super::driver::News;
use super::run::Replica;
use super::status::ServerExit;
use crate::sockets::Listener;

/// Lines that a server has said only once, at the most; no more are said.
const MOST_SAID: usize = 256;

/// A line without the numbers of its process and thread: a hundred processes that do the same say it once.
fn without_ids(text: &str) -> String {
    const BEGIN: &str = " (process ";
    match text.split_once(BEGIN) {
        Some((before, behind)) => match behind.split_once(')') {
            Some((_, after)) => format!("{before}{after}"),
            None => before.to_owned(),
        },
        None => text.to_owned(),
    }
}

/// Two replays of one log are compared by these lines, which `RUST_LOG=brolga::digest=trace` brings into the log.
fn trace_digest(entry: impl std::fmt::Display, tick: u64, value: u64) {
    tracing::trace!(target: "brolga::digest", "entry={entry} tick={tick} digest={value:016x}");
}

impl Replica {
    /// Handles all upcalls that wait.
    pub(super) fn drain_upcalls(&mut self) {
        let Some(server) = &mut self.server else { return };
        let (mut news, mut effects) = (std::mem::take(&mut self.news), std::mem::take(&mut self.effects));
        self.driver.read_upcalls(&mut server.link, &mut news, &mut effects);
        news.drain(..).for_each(|item| self.hear_server(item));
        effects.drain(..).for_each(|effect| self.perform(effect));
        (self.news, self.effects) = (news, effects);
    }

    fn hear_server(&mut self, news: News) {
        match news {
            News::Consumed { connection, total } => self.clients.consumed(&self.poll, connection, total),
            News::Digest(digest) => {
                trace_digest(digest.entry, digest.tick, digest.value);
                self.own_digest(digest);
            }
            News::Listens(listener) => self.listens(listener),
            News::Membership { membership, joined } => {
                self.datagrams.member(&self.poll, membership, joined);
            }
            News::Unlistens { id } => {
                self.datagrams.unlistens(id);
                if !self.status.listeners.iter().any(|listener| listener.id == id) {
                    return;
                }
                self.status.listeners.retain(|listener| listener.id != id);
                self.watch_ports();
                self.status_at = 0;
            }
            News::Exited { wait_status, tick, digest } => {
                trace_digest("end", tick, digest);
                self.status.server_exit = Some(ServerExit { wait_status });
                tracing::warn!("the server ended with wait status {wait_status}");
                self.status_at = 0;
            }
            News::Diverged { entry, tick, reason } => self.diverged(entry, tick, &reason),
            News::Signalled { id, entry } => self.signals.took_effect(id, entry),
            News::Log { warning: false, text, .. } => tracing::info!("server: {text}"),
            News::Log { once: true, text, .. } => self.say_once(text),
            News::Log { warning: true, text, .. } => tracing::warn!("server: {text}"),
        }
    }

    fn say_once(&mut self, text: String) {
        let kind = without_ids(&text);
        if self.said.len() < MOST_SAID && !self.said.contains(&kind) {
            tracing::warn!("server: {text}");
            self.said.insert(kind);
        }
    }

    pub(super) fn listens(&mut self, listener: Listener) {
        let kind = if listener.udp { "UDP " } else { "" };
        tracing::info!("the server listens on {kind}{}", SocketAddr::new(listener.address, listener.port));
        if listener.udp {
            self.datagrams.listens(&self.poll, listener.id, listener.port);
        }
        self.status.listeners.push(listener);
        self.watch_ports();
        self.status_at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::without_ids;

    #[test]
    fn lines_of_processes_that_do_the_same_are_the_same() {
        let line = |pid: u32| {
            format!("refused bpf: called by sh (process {pid}, thread {pid}), at sh+0x1; do without")
        };
        assert_eq!(without_ids(&line(1000)), without_ids(&line(1001)));
        assert_eq!(without_ids(&line(7)), "refused bpf: called by sh, at sh+0x1; do without");
        assert_eq!(without_ids("a file (was changed)"), "a file (was changed)");
    }
}
