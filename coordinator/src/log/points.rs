//! Where entries stand: a sparse index, one point for each stretch of the log.

/// Bytes of log between two points.
const STRIDE_BYTES: u64 = 64 << 10;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Position of the segment in the log's list.
    pub(super) segment: u32,
    pub(super) offset: u32,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    index: u64,
    place: Place,
}

/// From each point on, entries follow each other up to the next point. So wherever they do not (a new segment, an entry
/// that replaces another one), there is a point.
#[derive(Debug, Default)]
pub(super) struct Points(Vec<Point>);

impl Points {
    /// Entry `index` was written at `place`; all entries from `index` on that were known before are gone.
    pub(super) fn note(&mut self, index: u64, place: Place, replaces: bool) {
        while self.0.last().is_some_and(|point| point.index >= index) {
            self.0.pop();
        }
        let needed = replaces
            || self.0.last().is_none_or(|last| {
                last.place.segment != place.segment
                    || u64::from(place.offset - last.place.offset) >= STRIDE_BYTES
            });
        if needed {
            self.0.push(Point { index, place });
        }
    }

    /// The log begins with entry `first`, at `place`: the files before that one are gone.
    pub(super) fn cut(&mut self, first: u64, place: Place) {
        let gone = self.0.partition_point(|point| point.index <= first);
        self.0.splice(..gone, [Point { index: first, place }]);
        self.0.iter_mut().for_each(|point| point.place.segment -= place.segment);
    }

    /// The last point at or before `index`, and its number.
    pub(super) fn before(&self, index: u64) -> Option<(usize, u64, Place)> {
        let number = self.0.partition_point(|point| point.index <= index).checked_sub(1)?;
        Some((number, self.0[number].index, self.0[number].place))
    }

    /// The place of point `number`, if it is for entry `index`.
    pub(super) fn at(&self, number: usize, index: u64) -> Option<Place> {
        self.0.get(number).filter(|point| point.index == index).map(|point| point.place)
    }
}
