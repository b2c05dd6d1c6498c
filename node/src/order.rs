//! Order, in little code.
//!
//! The standard library's sorts, and what makes its sets and maps out of iterators, are several
//! kilobytes of code for each type that they are used with: together they were a tenth of the
//! module that a tab loads. A heap orders as well, in a few hundred bytes, and what is ordered
//! here is short.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// `items`, the least first.
pub(crate) fn ascending<T: Ord>(items: Vec<T>) -> Vec<T> {
    BinaryHeap::from(items).into_sorted_vec()
}

/// `items`, the one with the least key first; those with the same key as they were.
pub(crate) fn ascending_by<T, K: Ord>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let keyed = items.into_iter().enumerate();
    let keyed = keyed.map(|(place, item)| Keyed {
        order: (key(&item), place),
        item,
    });
    let sorted = ascending(keyed.collect());
    sorted.into_iter().map(|keyed| keyed.item).collect()
}

/// The set of `items`.
pub(crate) fn set_of<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

/// The map of `items`; of those with the same key the last.
pub(crate) fn map_of<K: Ord, V>(items: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(items);
    map
}

/// A number that orders as it is, NaN above all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Total(pub(crate) f64);

impl PartialEq for Total {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Total {}
impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Total {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What is ordered by a key.
struct Keyed<K, T> {
    order: (K, usize),
    item: T,
}

impl<K: Ord, T> PartialEq for Keyed<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl<K: Ord, T> Eq for Keyed<K, T> {}
impl<K: Ord, T> PartialOrd for Keyed<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: Ord, T> Ord for Keyed<K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.cmp(&other.order)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::*;

    #[test]
    fn orders_as_the_library_does() {
        let mut numbers = crate::wire::tests::Numbers(1);
        for len in 0..60 {
            let items: Vec<(u8, usize)> = (0..len)
                .map(|place| ((numbers.next() % 7) as u8, place))
                .collect();
            let mut sorted = items.clone();
            sorted.sort();
            assert_eq!(ascending(items.clone()), sorted);
            // By the first part alone, the sort is stable, and so the whole is in order.
            assert_eq!(ascending_by(items.clone(), |item| item.0), sorted);
            let down = ascending_by(items.clone(), |item| Reverse(Total(f64::from(item.0))));
            assert!(down.is_sorted_by_key(|item| Reverse(item.0)));
            assert_eq!(set_of(items.clone()), items.iter().copied().collect());
            assert_eq!(map_of(items.clone()), items.into_iter().collect());
        }
    }
}
