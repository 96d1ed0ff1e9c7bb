//! Gives other replicas pieces of checkpoints. A thread reads them, because a disk can be slow.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use nix::sys::eventfd::EventFd;

use super::listing;
use super::{PIECE_BYTES, Piece, Store, Want};
use crate::processors;

/// Questions that wait at the most; whoever asks more asks again.
const MAX_WAITING: usize = 64;

/// An answer: the piece, or why there is none.
pub type Answer = Result<Piece, String>;

/// See the module.
#[derive(Debug)]
pub struct Lender {
    wants: SyncSender<(u8, Want)>,
    answers: Receiver<(u8, Want, Answer)>,
}

/// The checkpoint that was asked for last.
struct Lent {
    entry: u64,
    id: u32,
    listing: Vec<u8>,
    /// Where each file with contents begins, and its path.
    files: Vec<(u64, PathBuf)>,
    total: u64,
    open: Option<(usize, File)>,
}

impl Lender {
    /// Starts the thread, which ends with this value. It writes to `kick` when it has an answer.
    pub fn start(store: Store, kick: Arc<EventFd>) -> io::Result<Self> {
        let (wants, asked) = sync_channel::<(u8, Want)>(MAX_WAITING);
        let (tell, answers) = channel();
        std::thread::Builder::new().name("lender".to_owned()).spawn(move || {
            processors::roam();
            let mut lent = None;
            while let Ok((to, want)) = asked.recv() {
                let answer = answer(&store, &mut lent, want).map_err(|error| error.to_string());
                if answer.is_err() {
                    lent = None;
                }
                if tell.send((to, want, answer)).is_err() {
                    return;
                }
                let _ = kick.write(1);
            }
        })?;
        Ok(Self { wants, answers })
    }

    /// Replica `to` asks.
    pub fn ask(&self, to: u8, want: Want) {
        // Too many questions: the asker repeats its own after a while.
        let _ = self.wants.try_send((to, want));
    }

    /// An answer, if there is one.
    pub fn answered(&self) -> Option<(u8, Want, Answer)> {
        self.answers.try_recv().ok()
    }
}

fn answer(store: &Store, lent: &mut Option<Lent>, want: Want) -> io::Result<Piece> {
    if lent.as_ref().is_none_or(|lent| (lent.entry, lent.id) != (want.entry, want.id)) {
        *lent = Some(open(store, want)?);
    }
    let Some(lent) = lent else { return Err(io::ErrorKind::NotFound.into()) };
    let total = if want.listing { lent.listing.len() as u64 } else { lent.total };
    let offset = want.offset.min(total);
    let len = (total - offset).min(u64::from(want.len)).min(PIECE_BYTES) as usize;
    let bytes = match want.listing {
        true => lent.listing[offset as usize..][..len].to_vec(),
        false => lent.read(offset, len)?,
    };
    Ok(Piece { want, total, crc: crc32fast::hash(&bytes), bytes })
}

fn open(store: &Store, want: Want) -> io::Result<Lent> {
    let wanted = |entry: u64, id: u32| (entry, id) == (want.entry, want.id);
    let stored = store.list().into_iter().find(|stored| wanted(stored.manifest.place.next, stored.id));
    let stored = stored.ok_or_else(|| io::Error::other("it is not kept any more"))?;
    let items = listing::list(&stored.path)?;
    let (mut total, mut files) = (0, Vec::new());
    for item in items.iter().filter(|item| item.size > 0) {
        files.push((total, stored.path.join(item.relative())));
        total += item.size;
    }
    let listing = postcard::to_stdvec(&items).map_err(io::Error::other)?;
    Ok(Lent { entry: want.entry, id: want.id, listing, files, total, open: None })
}

impl Lent {
    fn read(&mut self, mut offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let at = self.files.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
            let (start, path) = self.files.get(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let end = self.files.get(at + 1).map_or(self.total, |(next, _)| *next);
            if self.open.as_ref().is_none_or(|(number, _)| *number != at) {
                self.open = Some((at, File::open(path)?));
            }
            let Some((_, file)) = &self.open else { return Err(io::ErrorKind::NotFound.into()) };
            let count = (end - offset).min((len - done) as u64) as usize;
            file.read_exact_at(&mut bytes[done..done + count], offset - start)?;
            (offset, done) = (offset + count as u64, done + count);
        }
        Ok(bytes)
    }
}
