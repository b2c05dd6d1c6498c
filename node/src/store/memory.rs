//! Verified chunks in memory, within a cap.
//!
//! When it is full, the chunk farthest behind every reader goes first, then the one farthest ahead
//! of them.

use crate::order::set_of;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::RangeSet;

/// Verified chunks, as they were received: reading gives slices of them, never copies.
#[derive(Debug)]
pub struct MemoryStore {
    chunks: BTreeMap<u32, Bytes>,
    present: RangeSet,
    bytes: u64,
    cap: u64,
    /// The chunks at which readers stand, ascending; as last told.
    readers: Vec<u32>,
    /// Chunks that went and that [`Self::take_evicted`] has not told yet.
    evicted: Vec<u32>,
}

impl MemoryStore {
    /// An empty store for at most `cap` bytes.
    pub fn new(cap: u64) -> Self {
        Self {
            chunks: BTreeMap::new(),
            present: RangeSet::new(),
            bytes: 0,
            cap,
            readers: Vec::new(),
            evicted: Vec::new(),
        }
    }

    /// The chunks that went since this was last asked; what went was not in use.
    pub fn take_evicted(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.evicted)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most bytes that it will hold.
    pub fn cap(&self) -> u64 {
        self.cap
    }

    /// The chunks held.
    pub fn present(&self) -> &RangeSet {
        &self.present
    }

    /// Whether it holds this chunk.
    pub fn contains(&self, chunk: u32) -> bool {
        self.chunks.contains_key(&chunk)
    }

    /// A chunk's bytes; cheap to clone.
    pub fn read(&self, chunk: u32) -> Option<&Bytes> {
        self.chunks.get(&chunk)
    }

    /// Says at which chunks readers stand, in any order; eviction is measured from them.
    pub fn set_readers(&mut self, readers: impl IntoIterator<Item = u32>) {
        self.readers.clear();
        self.readers.extend(set_of(readers));
    }

    /// Changes the cap, evicting what no longer fits. Returns whether anything went.
    pub fn set_cap(&mut self, cap: u64) -> bool {
        self.cap = cap;
        self.evict()
    }

    /// Puts a verified chunk in, evicting what no longer fits: perhaps the chunk itself. Returns
    /// whether anything went.
    pub fn insert(&mut self, chunk: u32, bytes: Bytes) -> bool {
        let length = bytes.len() as u64;
        if let Some(old) = self.chunks.insert(chunk, bytes) {
            self.bytes = self.bytes.saturating_sub(old.len() as u64);
        }
        self.bytes = self.bytes.saturating_add(length);
        self.present.insert(chunk..chunk.saturating_add(1));
        self.evict()
    }

    /// Bytes held behind every reader: what eviction would take before anybody misses it.
    pub fn bytes_behind(&self) -> u64 {
        let Some(&first) = self.readers.first() else {
            return 0;
        };
        let behind: u64 = self
            .present
            .within(0..first)
            .map(|range| u64::from(range.end - range.start))
            .sum();
        behind
            .saturating_mul(crate::torrent::CHUNK_LEN.into())
            .min(self.bytes)
    }

    fn evict(&mut self) -> bool {
        let mut evicted = false;
        while self.bytes > self.cap
            && let Some(chunk) = self.victim()
        {
            if let Some(bytes) = self.chunks.remove(&chunk) {
                self.bytes = self.bytes.saturating_sub(bytes.len() as u64);
            }
            self.present.remove(chunk..chunk.saturating_add(1));
            self.evicted.push(chunk);
            evicted = true;
        }
        evicted
    }

    /// The chunk that will be missed last: the one farthest behind all readers, else the one
    /// farthest ahead of the nearest reader before it.
    fn victim(&self) -> Option<u32> {
        let lowest = self.present.next_present(0)?;
        let Some(&first) = self.readers.first() else {
            return Some(lowest);
        };
        if lowest < first {
            return Some(lowest);
        }
        let ends = self.readers.iter().skip(1).copied().chain([u32::MAX]);
        self.readers
            .iter()
            .zip(ends)
            .filter_map(|(&reader, end)| {
                let last = self.present.last_before(end)?;
                Some((last.checked_sub(reader)?, last))
            })
            .max()
            .map(|(_, chunk)| chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u32) -> Bytes {
        Bytes::from(vec![u8::try_from(number % 256).unwrap(); 16])
    }

    fn held(store: &MemoryStore) -> Vec<u32> {
        store.present().iter().flatten().collect()
    }

    #[test]
    fn evicts_behind_first_then_ahead() {
        let mut store = MemoryStore::new(16 * 6);
        store.set_readers([3]);
        for number in 0..6 {
            assert!(!store.insert(number, chunk(number)));
        }
        // 0, 1 and 2 are behind: the farthest goes first.
        assert!(store.insert(6, chunk(6)));
        assert_eq!(held(&store), [1, 2, 3, 4, 5, 6]);
        for number in 7..9 {
            store.insert(number, chunk(number));
        }
        assert_eq!(held(&store), [3, 4, 5, 6, 7, 8]);
        // Nothing is behind any more: the farthest ahead goes, which is the one that came.
        assert!(store.insert(20, chunk(20)));
        assert_eq!(held(&store), [3, 4, 5, 6, 7, 8]);
        // A second reader makes what is near it precious, and what is far from both not.
        store.set_readers([20, 3]);
        store.insert(20, chunk(20));
        assert_eq!(held(&store), [3, 4, 5, 6, 7, 20]);
        assert_eq!(store.bytes(), 16 * 6);
    }

    #[test]
    fn counts_bytes_through_everything() {
        let mut store = MemoryStore::new(1000);
        for step in 0..5000u32 {
            let number = step.wrapping_mul(2_654_435_761) % 300;
            store.set_readers([step % 300, (step / 7) % 300]);
            store.insert(number, Bytes::from(vec![0; (number as usize % 31) + 1]));
            let sum: u64 = held(&store)
                .iter()
                .map(|&chunk| store.read(chunk).map_or(0, |bytes| bytes.len() as u64))
                .sum();
            assert_eq!(sum, store.bytes());
            assert!(store.bytes() <= store.cap());
        }
        assert!(store.set_cap(10));
        assert!(store.bytes() <= 10);
        assert!(!store.set_cap(10));
    }

    #[test]
    fn reading_does_not_copy() {
        let mut store = MemoryStore::new(1000);
        let bytes = chunk(1);
        store.insert(1, bytes.clone());
        assert_eq!(store.read(1).unwrap().as_ptr(), bytes.as_ptr());
        assert!(store.contains(1) && !store.contains(2));
    }
}
