//! Device numbers: the kernel counts the mounts of all containers, the server sees those of its own, in the order in
//! which they were made. A container that is made anew for a restored server has the same mounts with other numbers.

use super::mounts::Mount;
use crate::bounds::MAX_DEVICES;

/// The first number that programs see; below are those of real devices without a driver.
const FIRST_MINOR: u64 = 32;
/// A number that no device has.
const NO_DEVICE: u64 = u64::MAX;

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
    /// Where each is mounted; 0 = not known.
    points: [u64; MAX_DEVICES],
    known: u32,
}

impl Devices {
    /// The place of a device in the order, from 0; a new one becomes the last. Beyond [`MAX_DEVICES`] all share one.
    #[inline]
    pub fn index(&mut self, real: u64) -> u64 {
        let known = self.known as usize;
        if let Some(at) = self.place(real) {
            return at;
        }
        if known == MAX_DEVICES {
            return MAX_DEVICES as u64;
        }
        self.real[known] = real;
        self.known += 1;
        known as u64
    }

    /// The place of a device that has one.
    #[inline]
    pub fn place(&self, real: u64) -> Option<u64> {
        self.real[..self.known as usize].iter().position(|&device| device == real).map(|at| at as u64)
    }

    /// The server has this mount.
    pub fn mounted(&mut self, mount: &Mount) {
        let (index, known) = (self.index(mount.device) as usize, self.known);
        if index + 1 == known as usize && self.points[index] == 0 {
            self.points[index] = mount.point;
        }
        if mount.measured != Measured::No
            && let Some(measured) = self.measured.get_mut(index)
        {
            *measured = mount.measured;
        }
    }

    /// The server was restored in a container with these mounts: the devices have other numbers in the kernel now, and the same
    /// places. What is mounted nowhere (the kernel's own file systems) keeps its number.
    pub fn mounted_anew(&mut self, mounts: impl Iterator<Item = Mount>) {
        let mut old = [0; MAX_DEVICES];
        let known = self.known as usize;
        old[..known].copy_from_slice(&self.points[..known]);
        // A number of before may be another device's now.
        (0..known).filter(|&at| old[at] != 0).for_each(|at| self.real[at] = NO_DEVICE);
        for mount in mounts {
            let seen = self.real[..known]
                .iter()
                .zip(&self.points)
                .any(|(&real, &point)| real == mount.device && point != 0);
            let place = old[..known].iter().position(|&point| point == mount.point);
            if let (false, Some(place)) = (seen, place) {
                (self.real[place], old[place]) = (mount.device, 0);
            }
        }
    }

    /// What files a device has.
    #[inline]
    pub fn measured(&self, real: u64) -> Measured {
        self.place(real).map_or(Measured::No, |at| self.measured[at as usize])
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

#[cfg(test)]
mod tests {
    use super::{Devices, Measured, Mount};

    fn mount(device: u64, point: u64) -> Mount {
        let measured = if point == 3 { Measured::Proc } else { Measured::No };
        Mount { device, point, measured }
    }

    #[test]
    fn devices_keep_their_places_in_a_container_that_was_made_anew() {
        // SAFETY: plain data, for which all zeroes is valid.
        let mut devices: Devices = unsafe { core::mem::zeroed() };
        // The third is a second mount of the first one, the fourth covers the second, and the fifth goes away.
        for one in [mount(70, 1), mount(71, 2), mount(70, 4), mount(72, 2), mount(75, 9), mount(73, 3)] {
            devices.mounted(&one);
        }
        assert_eq!(devices.index(1), 5, "one that is mounted nowhere");
        let anew = [mount(73, 1), mount(72, 2), mount(73, 4), mount(71, 2), mount(90, 8), mount(75, 3)];
        devices.mounted_anew(anew.into_iter());
        assert_eq!([73, 72, 71, 75, 1].map(|device| devices.index(device)), [0, 1, 2, 4, 5]);
        assert!(devices.is_measured(75) && !devices.is_measured(73));
        assert_eq!(devices.index(90), 6, "a new one");
        assert_eq!(devices.index(70), 7, "a number that is nobody's now");
    }
}
