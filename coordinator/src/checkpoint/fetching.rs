//! Puts a checkpoint together from the pieces that a peer sends. A thread writes them. What is there of it stays when the process
//! dies: the next one goes on behind it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::eventfd::EventFd;

use super::listing::{self, Item, MAX_LISTING_BYTES};
use super::manifest::{MANIFEST, Manifest};
use super::take::hexadecimal;
use super::{CheckpointError, Piece, Store, Stored, files, room};
use crate::private::make_private;
use crate::processors;

/// File with the listing, beside the tree.
const LISTING: &str = "listing";
/// Directory with what there is of the checkpoint.
const TREE: &str = "tree";

/// What a checkpoint must be of.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Fingerprint of cluster and command.
    pub fingerprint: [u8; 16],
    /// The preload library.
    pub preload: PathBuf,
}

/// What the thread tells.
#[derive(Debug)]
pub enum Told {
    /// It needs the bytes from here on, of the listing or of the contents, of which there are so many if that is known.
    At {
        /// Of the listing.
        listing: bool,
        /// From here on.
        offset: u64,
        /// Bytes of contents.
        total: Option<u64>,
    },
    /// All is there, and it is right.
    Done(Box<Stored>),
    /// It is of no use, and was removed.
    Failed(CheckpointError),
}

/// See the module.
#[derive(Debug)]
pub struct Fetcher {
    pieces: Sender<Piece>,
    told: Receiver<Told>,
}

impl Fetcher {
    /// Starts the thread for a checkpoint (entry, and the sum of its manifest), or goes on with what there is of it. It ends with this
    /// value.
    pub fn start(
        store: Store,
        which: (u64, u32),
        expected: Expected,
        kick: Arc<EventFd>,
    ) -> io::Result<Self> {
        let (pieces, come) = channel();
        let (tell, told) = channel();
        let work = move || {
            processors::roam();
            let say = |word| {
                let _ = tell.send(word);
                let _ = kick.write(1);
            };
            if let Err(error) = work(&store, which, &expected, &come, &say) {
                say(Told::Failed(error));
            }
        };
        std::thread::Builder::new().name("fetcher".to_owned()).spawn(work)?;
        Ok(Self { pieces, told })
    }

    /// A piece has come.
    pub fn take(&self, piece: Piece) {
        let _ = self.pieces.send(piece);
    }

    /// What the thread has told since.
    pub fn told(&self) -> Option<Told> {
        self.told.try_recv().ok()
    }
}

fn work(
    store: &Store,
    which: (u64, u32),
    expected: &Expected,
    come: &Receiver<Piece>,
    say: &dyn Fn(Told),
) -> Result<(), CheckpointError> {
    let top = store.incoming(which)?;
    let finished = match fetch(&top, which, expected, come, say) {
        Ok(Some(manifest)) => store.finish(&top.join(TREE), &manifest),
        // Nobody waits for it any more; what there is stays.
        Ok(None) => return Ok(()),
        Err(error) => Err(error),
    };
    Store::remove(&top);
    say(Told::Done(Box::new(finished?)));
    Ok(())
}

/// `None` if nobody waits for it any more.
fn fetch(
    top: &Path,
    which: (u64, u32),
    expected: &Expected,
    come: &Receiver<Piece>,
    say: &dyn Fn(Told),
) -> Result<Option<Manifest>, CheckpointError> {
    let Some(items) = receive_listing(top, come, say)? else { return Ok(None) };
    let tree = top.join(TREE);
    let mut assembly = Assembly::open(&tree, items).map_err(CheckpointError::file("make", &tree))?;
    room::require(top, assembly.total - assembly.written)?;
    while assembly.written < assembly.total {
        say(Told::At { listing: false, offset: assembly.written, total: Some(assembly.total) });
        let Ok(piece) = come.recv() else { return Ok(None) };
        let next = !piece.want.listing && piece.want.offset == assembly.written;
        if next && piece.total == assembly.total && piece.is_whole() {
            assembly.write(&piece.bytes).map_err(CheckpointError::file("write in", &tree))?;
        }
    }
    assembly.finish().map_err(CheckpointError::file("finish", &tree))?;
    let manifest = Manifest::read(&tree)?;
    let foreign = |reason: &str| CheckpointError::Foreign { path: tree.clone(), reason: reason.to_owned() };
    if (manifest.place.next, manifest.id()) != which {
        return Err(foreign("it is not the one that was announced"));
    }
    if manifest.cluster != hexadecimal(&expected.fingerprint) {
        return Err(foreign("it is of another cluster or command"));
    }
    if manifest.preload != files::crc_of(&expected.preload)? {
        return Err(foreign("it was taken with another version of the preload library"));
    }
    files::compare(&tree, &manifest.files, &files::sums(&tree, MANIFEST)?)?;
    Ok(Some(manifest))
}

fn receive_listing(
    top: &Path,
    come: &Receiver<Piece>,
    say: &dyn Fn(Told),
) -> Result<Option<Vec<Item>>, CheckpointError> {
    let path = top.join(LISTING);
    let wrong = |found: String| CheckpointError::Damaged {
        path: path.clone(),
        expected: "a listing".to_owned(),
        found,
    };
    let mut bytes = Vec::new();
    if path.exists() {
        bytes = fs::read(&path).map_err(CheckpointError::file("read", &path))?;
    } else {
        loop {
            say(Told::At { listing: true, offset: bytes.len() as u64, total: None });
            let Ok(piece) = come.recv() else { return Ok(None) };
            if !piece.want.listing || piece.want.offset != bytes.len() as u64 || !piece.is_whole() {
                continue;
            }
            if piece.total > MAX_LISTING_BYTES {
                return Err(wrong(format!("{} bytes", piece.total)));
            }
            bytes.extend_from_slice(&piece.bytes);
            if bytes.len() as u64 >= piece.total {
                break;
            }
        }
        let temporary = top.join("listing.tmp");
        let stored = fs::write(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &path));
        stored.map_err(CheckpointError::file("write", &path))?;
    }
    let items: Vec<Item> = postcard::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))?;
    listing::check(&items).map_err(|why| wrong(why.to_owned()))?;
    Ok(Some(items))
}

/// What there is of a checkpoint.
struct Assembly {
    top: PathBuf,
    items: Vec<Item>,
    /// The item that is being written, and how much of it there is.
    at: usize,
    within: u64,
    file: Option<File>,
    written: u64,
    total: u64,
}

impl Assembly {
    /// Goes on where what is there ends.
    fn open(top: &Path, items: Vec<Item>) -> io::Result<Self> {
        make_private(top)?;
        let total = items.iter().map(|item| item.size).sum();
        let mut assembly =
            Self { top: top.to_owned(), items, at: 0, within: 0, file: None, written: 0, total };
        assembly.seek()?;
        Ok(assembly)
    }

    /// Makes what comes up to the next file that is not whole.
    fn seek(&mut self) -> io::Result<()> {
        (self.within, self.file) = (0, None);
        while let Some(item) = self.items.get(self.at) {
            item.make(&self.top, &self.items)?;
            if item.is_file() {
                let path = self.top.join(item.relative());
                let file = File::options().create(true).truncate(false).write(true).open(&path)?;
                let there = file.metadata()?.len().min(item.size);
                self.written += there;
                if there < item.size {
                    (self.within, self.file) = (there, Some(file));
                    return Ok(());
                }
            }
            self.at += 1;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (Some(item), Some(file)) = (self.items.get(self.at), &self.file) else {
                return Err(io::Error::other("there is more than the listing says"));
            };
            let count = (item.size - self.within).min(bytes.len() as u64) as usize;
            file.write_all_at(&bytes[..count], self.within)?;
            bytes = &bytes[count..];
            (self.within, self.written) = (self.within + count as u64, self.written + count as u64);
            if self.within == item.size {
                self.at += 1;
                self.seek()?;
            }
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        // What is in a directory before the directory, whose time it changes.
        self.items.iter().rev().try_for_each(|item| item.finish(&self.top))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PIECE_BYTES, Piece, Want};
    use super::{Assembly, LISTING, MAX_LISTING_BYTES, files, listing, receive_listing};
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc::channel;

    /// The pieces of a file tree, as a lender makes them.
    fn contents(top: &Path, items: &[listing::Item]) -> Vec<u8> {
        let files = items.iter().filter(|item| item.size > 0);
        files.flat_map(|item| fs::read(top.join(item.relative())).unwrap()).collect()
    }

    #[test]
    fn a_tree_comes_over_in_pieces_and_goes_on_after_a_break() {
        let directory = std::env::temp_dir().join(format!("brolga-fetch-{}", std::process::id()));
        let (one, other) = (directory.join("one"), directory.join("other"));
        fs::create_dir_all(one.join("d/e")).unwrap();
        fs::create_dir_all(&other).unwrap();
        for (name, bytes) in [("a", 10), ("d/b", 0), ("d/e/c", 300_000), ("z", 1)] {
            fs::write(one.join(name), vec![7; bytes]).unwrap();
        }
        fs::hard_link(one.join("a"), one.join("d/same")).unwrap();
        std::os::unix::fs::symlink("nowhere", one.join("link")).unwrap();
        let mark = std::time::UNIX_EPOCH + std::time::Duration::new(1 << 32, 17);
        let marked = fs::File::open(one.join("z")).unwrap();
        marked.set_times(fs::FileTimes::new().set_accessed(mark)).unwrap();
        let items = listing::list(&one).unwrap();
        listing::check(&items).unwrap();
        let (all, tree) = (contents(&one, &items), other.join("tree"));
        // Each piece is written by another process, as it were.
        loop {
            let mut assembly = Assembly::open(&tree, items.clone()).unwrap();
            assert_eq!(assembly.total, all.len() as u64);
            if assembly.written == assembly.total {
                assembly.finish().unwrap();
                break;
            }
            let rest = &all[assembly.written as usize..];
            assembly.write(&rest[..rest.len().min(70_001)]).unwrap();
        }
        let (expected, found) = (files::sums(&one, "").unwrap(), files::sums(&tree, "").unwrap());
        files::compare(&tree, &expected, &found).unwrap();
        assert_eq!(fs::metadata(tree.join("z")).unwrap().accessed().unwrap(), mark, "its number");
        let same = |path: &str| {
            let (one, other) = (fs::symlink_metadata(one.join(path)), fs::symlink_metadata(tree.join(path)));
            one.unwrap().modified().unwrap() == other.unwrap().modified().unwrap()
        };
        assert!(["d", "d/e", "d/e/c", "link"].into_iter().all(same));
        assert!(fs::metadata(tree.join("d/same")).unwrap().modified().is_ok());
        fs::remove_dir_all(&directory).unwrap();
    }

    fn of_listing(total: u64, offset: u64, bytes: &[u8]) -> Piece {
        let want = Want { entry: 1, id: 2, listing: true, offset, len: PIECE_BYTES as u32 };
        Piece { want, total, crc: crc32fast::hash(bytes), bytes: bytes.to_vec() }
    }

    #[test]
    fn a_listing_comes_in_whole_pieces_and_not_beyond_its_bound() {
        let top = std::env::temp_dir().join(format!("brolga-listing-{}", std::process::id()));
        fs::create_dir_all(top.join("tree")).unwrap();
        fs::write(top.join("tree/a"), b"text").unwrap();
        let items = listing::list(&top.join("tree")).unwrap();
        let bytes = postcard::to_stdvec(&items).unwrap();
        let receive = |pieces: &[Piece]| {
            let (send, come) = channel();
            pieces.iter().for_each(|piece| send.send(piece.clone()).unwrap());
            drop(send);
            let asked = std::cell::Cell::new(0);
            let got = receive_listing(&top, &come, &|_| asked.set(asked.get() + 1));
            (got, asked.get())
        };
        let (got, _) = receive(&[of_listing(MAX_LISTING_BYTES + 1, 0, &bytes)]);
        let refused = got.unwrap_err().to_string();
        assert!(refused.contains("a listing") && refused.contains("67108865 bytes"), "{refused}");
        assert!(!top.join(LISTING).exists());
        // One that is damaged on the way, or not the next, is asked for again; then the sender is gone.
        let total = bytes.len() as u64;
        let (first, rest) = bytes.split_at(5);
        let damaged = Piece { crc: 1, ..of_listing(total, 0, first) };
        let (got, asked) = receive(&[damaged, of_listing(total, 5, rest), of_listing(total, 0, first)]);
        assert!(matches!(got, Ok(None)) && asked == 4);
        let (got, _) = receive(&[of_listing(total, 0, first), of_listing(total, 5, rest)]);
        assert_eq!(got.unwrap().unwrap().len(), items.len());
        // It is there now, for whoever goes on.
        assert_eq!(receive(&[]).0.unwrap().unwrap().len(), items.len());
        fs::write(top.join(LISTING), &bytes[..4]).unwrap();
        assert!(receive(&[]).0.is_err(), "a damaged one is refused");
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn a_piece_with_a_flipped_bit_is_not_whole() {
        let want = Want { entry: 1, id: 2, listing: false, offset: 3, len: PIECE_BYTES as u32 };
        let mut piece = Piece { want, total: 100, crc: crc32fast::hash(&[1, 2, 3]), bytes: vec![1, 2, 3] };
        assert!(piece.is_whole());
        piece.bytes[1] ^= 4;
        assert!(!piece.is_whole());
    }
}
