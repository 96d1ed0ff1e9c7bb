//! Device numbers: the kernel counts the mounts of all containers, the server sees those of its own, in the order in
//! which they were made.

use crate::bounds::MAX_DEVICES;

/// The first number that programs see; below are those of real devices without a driver.
const FIRST_MINOR: u64 = 32;

/// Which files the kernel makes when somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Measured {
    /// None: files on disk or in memory.
    No = 0,
    /// Those of /proc.
    Proc = 1,
    /// Those of /sys.
    Sys = 2,
}

/// The kernel's numbers, in order of appearance.
#[repr(C)]
pub struct Devices {
    real: [u64; MAX_DEVICES],
    measured: [Measured; MAX_DEVICES],
    known: u32,
}

impl Devices {
    /// The place of a device in the order, from 0; a new one becomes the last. Beyond [`MAX_DEVICES`] all share one.
    #[inline]
    pub fn index(&mut self, real: u64) -> u64 {
        let known = self.known as usize;
        if let Some(at) = self.real[..known].iter().position(|&device| device == real) {
            return at as u64;
        }
        if known == MAX_DEVICES {
            return MAX_DEVICES as u64;
        }
        self.real[known] = real;
        self.known += 1;
        known as u64
    }

    /// Says what files a device has.
    pub fn set_measured(&mut self, real: u64, what: Measured) {
        let index = self.index(real) as usize;
        if let Some(measured) = self.measured.get_mut(index) {
            *measured = what;
        }
    }

    /// What [`Devices::set_measured`] was told about a device.
    #[inline]
    pub fn measured(&self, real: u64) -> Measured {
        let known = &self.real[..self.known as usize];
        known.iter().position(|&device| device == real).map_or(Measured::No, |at| self.measured[at])
    }

    /// Whether the kernel makes a device's files when somebody looks.
    #[inline]
    pub fn is_measured(&self, real: u64) -> bool {
        self.measured(real) != Measured::No
    }

    /// The number that programs see for the device at `index`: major 0.
    #[inline]
    pub fn number(index: u64) -> u64 {
        // The kernel's encoding for minor numbers beyond 255 has a gap; the bound stays below.
        FIRST_MINOR + index
    }
}

const _: () = assert!(FIRST_MINOR + MAX_DEVICES as u64 <= 255);
