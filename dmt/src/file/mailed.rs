//! Files of the kernel's that are passed over unix sockets (`SCM_RIGHTS`).
//!
//! dmt decides who gets what and when, as with its own files; the open file itself waits in a box that all processes of the
//! replica share, preload's affair. It is put there before the message is sent, and found by its letter's number.

use crate::bounds::MAX_MAILED_FILES;
use crate::call::Call;
use crate::file::abi::{ENFILE, ETOOMANYREFS};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::op::Op;

/// An open file in the box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Letter {
    /// What stands for it in parcels.
    pub file: FileId,
    /// Keep the padding out of the box.
    reserved: u32,
    /// Which one of those that had this `file`.
    pub number: u64,
}

/// Of all letters of a replica. All zeroes = there never were any.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Letters {
    /// Ever written.
    written: u64,
    /// On their way.
    underway: u32,
    /// In the box, though nobody will ask for them.
    lost: u32,
}

impl Kernel {
    /// Nobody holds mailed file `id` any more.
    pub(crate) fn end_letter(&mut self, id: FileId) {
        let in_box = self.files.get(id).counter != 0;
        self.files.letters.underway -= 1;
        self.files.letters.lost += u32::from(in_box);
    }
}

impl Call<'_> {
    /// A letter for a descriptor that is about to be passed, with one reference to its file; or a negative error.
    pub fn write_letter(&self) -> Result<Letter, i64> {
        let mut letter = None;
        let result = self.quick(Op::Mail, 0, |k, _| {
            if k.files.letters.underway as usize >= MAX_MAILED_FILES {
                return -ETOOMANYREFS;
            }
            let Some(file) = k.files.create(FileKind::Mailed, 0) else { return -ENFILE };
            k.files.letters.underway += 1;
            k.files.letters.written += 1;
            let number = k.files.letters.written;
            k.files.get_mut(file).counter = number;
            letter = Some(Letter { file, reserved: 0, number });
            0
        });
        letter.ok_or(result)
    }

    /// The letter that belongs to `file`, if it is a mailed one, and whether somebody else will ask for it, too.
    pub fn letter_of(&self, file: FileId) -> Option<(Letter, bool)> {
        self.with(|k| {
            let it = k.files.get(file);
            let letter = Letter { file, reserved: 0, number: it.counter };
            (it.kind == FileKind::Mailed).then_some((letter, it.references > 1))
        })
    }

    /// `file`'s letter was taken out of the box.
    pub fn letter_taken(&self, file: FileId) {
        self.with(|k| k.files.get_mut(file).counter = 0);
    }

    /// Whether somebody may still ask for `letter`.
    pub fn is_letter_underway(&self, letter: Letter) -> bool {
        self.letter_of(letter.file).is_some_and(|(known, _)| known == letter)
    }

    /// How many letters are in the box for nobody; from now on they count as thrown away.
    #[inline]
    pub fn take_lost_letters(&self) -> u32 {
        self.with(|k| core::mem::take(&mut k.files.letters.lost))
    }
}
