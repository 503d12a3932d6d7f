//! Maps of user and group numbers between a user namespace and the whole system (user_namespaces(7), "User
//! and group ID mappings").

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::abi::Errno;

/// Most lines a map may have (`UID_GID_MAP_MAX_EXTENTS`).
const EXTENTS_MAX: usize = 340;

/// A run of numbers: `count` from `inside` on are those from `outside` on. In a namespace, `outside` is a
/// number of the whole system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Extent {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// A map of numbers. Without extents nothing is mapped.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Map {
    /// In the order in which they were written.
    extents: Vec<Extent>,
    /// Their places in the order of their numbers inside, and outside.
    by_inside: Vec<u16>,
    by_outside: Vec<u16>,
}

fn shift(from: u32, to: u32, count: u32, id: u32) -> Option<u32> {
    let offset = id.checked_sub(from).filter(|&offset| offset < count)?;
    to.checked_add(offset)
}

impl Map {
    /// No number is in two of the runs, inside or outside; there are [`EXTENTS_MAX`] at most.
    fn new(extents: Vec<Extent>) -> Map {
        let sorted = |key: fn(&Extent) -> u32| {
            let mut all: Vec<u16> = (0..).take(extents.len()).collect();
            all.sort_unstable_by_key(|&at| key(&extents[usize::from(at)]));
            all
        };
        Map {
            by_inside: sorted(|one| one.inside),
            by_outside: sorted(|one| one.outside),
            extents,
        }
    }

    /// The last run, in one of the orders, that begins no later than a number.
    fn last(&self, order: &[u16], first: fn(&Extent) -> u32, id: u32) -> Option<&Extent> {
        let extent = |&at: &u16| &self.extents[usize::from(at)];
        let after = order.partition_point(|at| first(extent(at)) <= id);
        order.get(after.checked_sub(1)?).map(extent)
    }

    /// Its runs, in the order in which they were written.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// How many runs there are.
    pub(crate) fn len(&self) -> usize {
        self.extents.len()
    }

    /// Whether nothing is mapped.
    pub(crate) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Every number stands for itself.
    pub(crate) fn identical() -> Map {
        let all = Extent {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        };
        Map::new(Vec::from([all]))
    }

    /// The number outside of one inside.
    pub(crate) fn outward(&self, id: u32) -> Option<u32> {
        let one = self.last(&self.by_inside, |one| one.inside, id)?;
        shift(one.inside, one.outside, one.count, id)
    }

    /// The number inside of one outside.
    pub(crate) fn inward(&self, id: u32) -> Option<u32> {
        let one = self.last(&self.by_outside, |one| one.outside, id)?;
        shift(one.outside, one.inside, one.count, id)
    }

    /// Reads lines of three numbers: first inside, first outside, count. `EINVAL`.
    pub(crate) fn parse(text: &[u8]) -> Result<Map, Errno> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let mut extents: Vec<Extent> = Vec::new();
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            let mut numbers = line.split_ascii_whitespace().map(number);
            let mut next = || numbers.next().ok_or(Errno::EINVAL)?;
            let one = Extent {
                inside: next()?,
                outside: next()?,
                count: next()?,
            };
            let ends = |first: u32| first.checked_add(one.count).is_some_and(|end| end > first);
            let overlaps = |a: u32, a_count: u32, b: u32| {
                u64::from(a) < u64::from(b) + u64::from(one.count)
                    && u64::from(b) < u64::from(a) + u64::from(a_count)
            };
            let taken = extents.iter().any(|other| {
                overlaps(other.inside, other.count, one.inside)
                    || overlaps(other.outside, other.count, one.outside)
            });
            let rest = numbers.next().is_some();
            if rest
                || one.inside == u32::MAX
                || one.outside == u32::MAX
                || !ends(one.inside)
                || !ends(one.outside)
                || taken
                || extents.len() == EXTENTS_MAX
            {
                return Err(Errno::EINVAL);
            }
            extents.push(one);
        }
        Ok(Map::new(extents))
    }

    /// The same map with the numbers outside of another one's outside. `None` if that does not map them all
    /// in one run.
    pub(crate) fn through(&self, parent: &Map) -> Option<Map> {
        let mut extents = Vec::with_capacity(self.extents.len());
        for one in &self.extents {
            let first = parent.outward(one.outside)?;
            let last = parent.outward(one.outside + (one.count - 1))?;
            if last - first != one.count - 1 {
                return None;
            }
            extents.push(Extent {
                outside: first,
                ..*one
            });
        }
        Some(Map::new(extents))
    }

    /// As `/proc/PID/uid_map` shows it to a reader whose own map is `reader`.
    pub(crate) fn show(&self, reader: &Map) -> String {
        let all = self.extents.iter().map(|one| {
            let outside = reader.inward(one.outside).unwrap_or(u32::MAX);
            format!("{:>10} {outside:>10} {:>10}\n", one.inside, one.count)
        });
        all.collect()
    }
}

/// A number as `simple_strtoul` with base 10 reads it.
fn number(text: &str) -> Result<u32, Errno> {
    match text.as_bytes() {
        [b'0'..=b'9', ..] => text.parse().map_err(|_| Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_through_nested_maps() {
        let outer = Map::parse(b"0 1000 10\n10 5000 10\n").unwrap();
        assert_eq!(
            (outer.outward(3), outer.outward(10)),
            (Some(1003), Some(5000))
        );
        assert_eq!((outer.inward(5001), outer.inward(7)), (Some(11), None));
        let inner = Map::parse(b"0 2 3").unwrap().through(&outer).unwrap();
        assert_eq!(inner.outward(0), Some(1002));
        assert_eq!(inner.show(&outer), "         0          2          3\n");
        // Runs are found whatever order they were written in.
        let mixed = Map::parse(b"20 7000 5\n0 8000 5\n10 6000 5").unwrap();
        for (inside, outside) in [(0, 8000), (14, 6004), (24, 7004)] {
            assert_eq!(mixed.outward(inside), Some(outside));
            assert_eq!(mixed.inward(outside), Some(inside));
        }
        for none in [5, 9, 15, 19, 25] {
            assert_eq!(mixed.outward(none), None);
        }
        assert_eq!(
            (mixed.inward(5999), mixed.inward(6005), mixed.inward(8005)),
            (None, None, None)
        );
        // A run may not be torn apart.
        assert_eq!(Map::parse(b"0 9 2").unwrap().through(&outer), None);
        assert_eq!(Map::identical().outward(u32::MAX), None);
    }

    #[test]
    fn maps_that_make_no_sense_are_refused() {
        for text in [
            &b""[..],
            b"0 0",
            b"0 0 0",
            b"0 0 1 1",
            b"x 0 1",
            b"-1 0 1",
            b"4294967295 0 1",
            b"0 4294967295 1",
            b"1 1 4294967295",
            b"0 0 2\n1 5 1",
            b"0 0 2\n5 1 1",
            b"0 0 1\n\n",
        ] {
            assert_eq!(Map::parse(text), Err(Errno::EINVAL), "{text:?}");
        }
    }
}
