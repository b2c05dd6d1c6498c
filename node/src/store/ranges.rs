//! A set of numbers that mostly come in runs.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of `u32`, kept as the fewest ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start → end (exclusive); disjoint, never adjacent, never empty.
    ranges: BTreeMap<u32, u32>,
    len: u64,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many numbers are in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Puts `added` in.
    pub fn insert(&mut self, added: Range<u32>) {
        if added.is_empty() {
            return;
        }
        let Range { mut start, mut end } = added;
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back()
            && before_end >= start
        {
            if before_end >= end {
                return;
            }
            start = before;
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..=end).next() {
            self.ranges.remove(&next);
            self.len = self.len.saturating_sub(u64::from(next_end - next));
            end = end.max(next_end);
        }
        self.ranges.insert(start, end);
        self.len += u64::from(end - start);
    }

    /// Takes `removed` out.
    pub fn remove(&mut self, removed: Range<u32>) {
        if removed.is_empty() {
            return;
        }
        let from = self
            .run_at(removed.start)
            .map_or(removed.start, |run| run.start);
        let mut head = None;
        while let Some((&start, &end)) = self.ranges.range(from..removed.end).next() {
            self.ranges.remove(&start);
            self.len = self.len.saturating_sub(u64::from(end - start));
            if end > removed.end {
                self.ranges.insert(removed.end, end);
                self.len += u64::from(end - removed.end);
            }
            if start < removed.start {
                // Put back below: here it would be found again.
                head = Some(start);
            }
        }
        if let Some(start) = head {
            self.ranges.insert(start, removed.start);
            self.len += u64::from(removed.start - start);
        }
    }

    /// Whether `number` is in it.
    pub fn contains(&self, number: u32) -> bool {
        self.run_at(number).is_some()
    }

    /// Whether all of `range` is in it.
    pub fn contains_all(&self, range: Range<u32>) -> bool {
        range.is_empty()
            || self
                .run_at(range.start)
                .is_some_and(|run| run.end >= range.end)
    }

    /// The first number at or after `from` that is not in it.
    pub fn next_missing(&self, from: u32) -> u32 {
        self.run_at(from).map_or(from, |run| run.end)
    }

    /// The first number in it at or after `from`.
    pub fn next_present(&self, from: u32) -> Option<u32> {
        if self.contains(from) {
            return Some(from);
        }
        self.ranges.range(from..).next().map(|(&start, _)| start)
    }

    /// The last number in it that is before `end`.
    pub fn last_before(&self, end: u32) -> Option<u32> {
        let (_, &run_end) = self.ranges.range(..end).next_back()?;
        run_end.min(end).checked_sub(1)
    }

    /// The ranges, ascending, with gaps between them.
    pub fn iter(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// The parts of the set within `range`, ascending.
    pub fn within(&self, range: Range<u32>) -> impl Iterator<Item = Range<u32>> + '_ {
        let from = self
            .run_at(range.start)
            .map_or(range.start, |run| run.start);
        self.ranges
            .range(from..range.end.max(from))
            .map(move |(&start, &end)| start.max(range.start)..end.min(range.end))
    }

    fn run_at(&self, number: u32) -> Option<Range<u32>> {
        let (&start, &end) = self.ranges.range(..=number).next_back()?;
        (end > number).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every operation against a plain set, over many seeds.
    #[test]
    fn agrees_with_a_plain_set() {
        for seed in 0..200u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut next = |below: u32| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                u32::try_from(state >> 33).unwrap() % below
            };
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for _ in 0..200 {
                let start = next(64);
                let end = start + next(12);
                if next(2) == 0 {
                    set.insert(start..end);
                    model.extend(start..end);
                } else {
                    set.remove(start..end);
                    model.retain(|number| !(start..end).contains(number));
                }
                let members: Vec<u32> = set.iter().flatten().collect();
                assert_eq!(
                    members,
                    model.iter().copied().collect::<Vec<_>>(),
                    "seed {seed}"
                );
                assert_eq!(set.len(), model.len() as u64, "seed {seed}");
                let mut last_end = None;
                for range in set.iter() {
                    assert!(last_end.is_none_or(|end| end < range.start), "seed {seed}");
                    last_end = Some(range.end);
                }
                let at = next(80);
                assert_eq!(set.contains(at), model.contains(&at));
                assert_eq!(
                    set.next_missing(at),
                    (at..).find(|number| !model.contains(number)).unwrap()
                );
                assert_eq!(set.next_present(at), model.range(at..).next().copied());
                assert_eq!(set.last_before(at), model.range(..at).next_back().copied());
                let within: Vec<u32> = set.within(start..end).flatten().collect();
                assert_eq!(within, model.range(start..end).copied().collect::<Vec<_>>());
                assert_eq!(
                    set.contains_all(start..end),
                    (start..end).all(|number| model.contains(&number))
                );
            }
        }
    }
}
