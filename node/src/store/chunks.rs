//! Verified chunks of one torrent: in memory what is in use, with the host all that fits there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{MemoryStore, RangeSet};
use crate::torrent::Metainfo;

/// Chunks handed to the host and not known to be written: 4 MiB. A slow disk fills it; then no
/// more is asked of the network than readers need, and what comes stays in memory alone.
pub const MAX_WRITES: usize = 256;
/// Chunks asked back of the host and not answered. Readers and those who are served fill it; what
/// is asked above it is asked again when it is polled again.
pub const MAX_LOADS: usize = 256;
/// Chunks that are asked back at once where one is missed: who reads one reads on.
const LOAD_AHEAD: u32 = 16;

/// What is wanted of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkWant {
    /// Keep it.
    Write(u32, Bytes),
    /// Give it back.
    Read(u32),
}

/// Whether the host takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Yes,
    /// It had none, and may have some again: one chunk is to find out.
    Perhaps,
    No,
}

/// See the module. What is put in is verified; so is what the host gives back, for it is what was
/// put in or nothing.
#[derive(Debug)]
pub struct ChunkStore {
    memory: MemoryStore,
    metainfo: Option<Arc<Metainfo>>,
    /// Whether there is a host that keeps chunks.
    hosted: bool,
    /// Whether the host takes more.
    room: Room,
    /// Some chunks are in memory alone: there was no room for them, or too many were on their way.
    alone: bool,
    /// What the host has.
    kept: RangeSet,
    /// Handed to the host; held until it answers, whatever memory lets go.
    writing: BTreeMap<u32, Bytes>,
    /// What the host had no room for last; held likewise, for it is to find out whether there is
    /// room again.
    refused: Option<(u32, Bytes)>,
    loading: BTreeSet<u32>,
    /// All of the above but what is only being loaded.
    present: RangeSet,
    /// The bytes of what is present.
    bytes: u64,
    /// Bounded by [`MAX_WRITES`] and [`MAX_LOADS`].
    wants: VecDeque<ChunkWant>,
}

impl ChunkStore {
    /// An empty store that holds at most `cap` bytes in memory.
    pub fn new(cap: u64) -> Self {
        Self {
            memory: MemoryStore::new(cap),
            metainfo: None,
            hosted: false,
            room: Room::Yes,
            alone: false,
            kept: RangeSet::new(),
            writing: BTreeMap::new(),
            refused: None,
            loading: BTreeSet::new(),
            present: RangeSet::new(),
            bytes: 0,
            wants: VecDeque::new(),
        }
    }

    /// What the chunks are of; known before the first of them.
    pub fn set_metainfo(&mut self, metainfo: Arc<Metainfo>) {
        self.metainfo = Some(metainfo);
    }

    /// From now on there is a host that keeps chunks, those too that are here already.
    pub fn set_hosted(&mut self) {
        self.hosted = true;
        self.alone = true;
        self.write_alone();
    }

    /// The host has these, from before.
    pub fn restore(&mut self, chunks: impl IntoIterator<Item = Range<u32>>) {
        let Some(metainfo) = self.metainfo.clone() else {
            return;
        };
        for range in chunks {
            for chunk in range.start..range.end.min(metainfo.chunk_count()) {
                if !metainfo.is_padding_chunk(chunk) {
                    self.kept.insert(one(chunk));
                    self.update(chunk);
                }
            }
        }
    }

    /// Bytes of all chunks, in memory or with the host.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// The most bytes in memory.
    pub fn cap(&self) -> u64 {
        self.memory.cap()
    }

    /// The chunks, in memory or with the host.
    pub fn present(&self) -> &RangeSet {
        &self.present
    }

    /// Whether this chunk is in memory or with the host.
    pub fn contains(&self, chunk: u32) -> bool {
        self.present.contains(chunk)
    }

    /// A chunk's bytes, if they are in memory; cheap to clone. What is not may be with the host:
    /// [`Self::load`].
    pub fn read(&self, chunk: u32) -> Option<&Bytes> {
        let refused = self.refused.as_ref();
        let refused = refused.filter(|(of, _)| *of == chunk);
        self.memory
            .read(chunk)
            .or_else(|| self.writing.get(&chunk))
            .or_else(|| refused.map(|(_, bytes)| bytes))
    }

    /// Asks the host for a chunk that is not in memory, and for some after it. Whether it will
    /// come.
    pub fn load(&mut self, chunk: u32) -> bool {
        if !self.kept.contains(chunk) {
            return false;
        }
        let end = self.kept.next_missing(chunk);
        for chunk in chunk..end.min(chunk.saturating_add(LOAD_AHEAD)) {
            if self.loading.len() >= MAX_LOADS {
                break;
            }
            if self.read(chunk).is_none() && self.loading.insert(chunk) {
                self.wants.push_back(ChunkWant::Read(chunk));
            }
        }
        true
    }

    /// Says at which chunks readers stand, in any order; eviction is measured from them.
    pub fn set_readers(&mut self, readers: impl IntoIterator<Item = u32>) {
        self.memory.set_readers(readers);
    }

    /// Changes how much is held in memory. Returns whether anything is missing that was there.
    pub fn set_cap(&mut self, cap: u64) -> bool {
        self.memory.set_cap(cap);
        self.settle()
    }

    /// Puts a verified chunk in. Returns whether anything is missing that was there: perhaps the
    /// chunk itself.
    pub fn insert(&mut self, chunk: u32, bytes: Bytes) -> bool {
        if self.hosted && !self.kept.contains(chunk) && !self.writing.contains_key(&chunk) {
            match self.writing.len() < self.most_writes() {
                true => self.write(chunk, bytes.clone()),
                false => self.alone = true,
            }
        }
        self.memory.insert(chunk, bytes);
        self.update(chunk);
        self.settle()
    }

    /// How many chunks may be on their way to the host.
    fn most_writes(&self) -> usize {
        match self.room {
            Room::Yes => MAX_WRITES,
            Room::Perhaps => 1,
            Room::No => 0,
        }
    }

    fn write(&mut self, chunk: u32, bytes: Bytes) {
        self.wants.push_back(ChunkWant::Write(chunk, bytes.clone()));
        self.writing.insert(chunk, bytes);
    }

    /// Hands the host what is in memory alone, as far as that may be on its way.
    fn write_alone(&mut self) {
        let free = self.most_writes().saturating_sub(self.writing.len());
        if !self.alone || !self.hosted || free == 0 {
            return;
        }
        let alone: Vec<u32> = self
            .memory
            .present()
            .iter()
            .flatten()
            .filter(|chunk| !self.kept.contains(*chunk) && !self.writing.contains_key(chunk))
            .take(free)
            .collect();
        self.alone = alone.len() == free;
        for chunk in alone {
            if let Some(bytes) = self.memory.read(chunk).cloned() {
                self.write(chunk, bytes);
            }
        }
    }

    /// Bytes in memory behind every reader: what eviction would take before anybody misses it.
    pub fn bytes_behind(&self) -> u64 {
        self.memory.bytes_behind()
    }

    /// Whether the host takes more, so that what comes need not stay in memory; nothing where
    /// there is no such host.
    pub fn has_room(&self) -> Option<bool> {
        (self.hosted && self.room == Room::Yes).then_some(self.writing.len() < MAX_WRITES / 2)
    }

    /// Whether the host had no room for the last chunk that it was handed.
    pub fn is_full(&self) -> bool {
        self.room != Room::Yes
    }

    /// The host has written a chunk, or has no room. Returns whether it is missing now.
    pub fn handle_written(&mut self, chunk: u32, kept: bool) -> bool {
        let Some(bytes) = self.writing.remove(&chunk) else {
            return false;
        };
        let mut missing = false;
        if kept {
            self.kept.insert(one(chunk));
            self.room = match self.room {
                // It was on its way before the host said that it is full.
                Room::No => Room::No,
                _ => Room::Yes,
            };
            if self.writing.len() < MAX_WRITES / 2 {
                self.write_alone();
            }
        } else {
            self.room = Room::No;
            self.alone = true;
            if let Some((before, _)) = self.refused.replace((chunk, bytes)) {
                missing = self.update(before);
            }
        }
        self.update(chunk) || missing
    }

    /// The host gives a chunk back, or has lost it. The bytes, if they are those of a chunk.
    pub fn handle_read(&mut self, chunk: u32, bytes: Option<Bytes>) -> Option<Bytes> {
        if !self.loading.remove(&chunk) {
            return None;
        }
        let length = self.metainfo.as_ref()?.chunk_length(chunk) as usize;
        let bytes = bytes.filter(|bytes| bytes.len() == length && length > 0);
        match &bytes {
            Some(bytes) => {
                self.memory.insert(chunk, bytes.clone());
                self.settle();
            }
            None => {
                self.kept.remove(one(chunk));
                self.update(chunk);
            }
        }
        bytes
    }

    /// The host has let these go. Returns whether anything is missing now.
    pub fn handle_gone(&mut self, chunks: Range<u32>) -> bool {
        let gone: Vec<u32> = self.kept.within(chunks).flatten().collect();
        let mut missing = false;
        for chunk in gone {
            self.kept.remove(one(chunk));
            missing |= self.update(chunk);
        }
        missing
    }

    /// The host may have room again.
    pub fn handle_room(&mut self) {
        if self.room != Room::No {
            return;
        }
        self.room = Room::Perhaps;
        match self.refused.take() {
            Some((chunk, bytes)) if self.writing.is_empty() && !self.kept.contains(chunk) => {
                self.write(chunk, bytes);
            }
            // What is on its way finds out as well.
            Some((chunk, _)) => {
                self.update(chunk);
            }
            None => {}
        }
        self.write_alone();
    }

    /// Whether something is wanted of the host that it was not told yet.
    pub fn has_wants(&self) -> bool {
        !self.wants.is_empty()
    }

    /// The next thing that is wanted of the host.
    pub fn poll_want(&mut self) -> Option<ChunkWant> {
        self.wants.pop_front()
    }

    /// What memory let go may be nowhere else.
    fn settle(&mut self) -> bool {
        let mut missing = false;
        for chunk in self.memory.take_evicted() {
            missing |= self.update(chunk);
        }
        missing
    }

    /// Brings what is said of a chunk in line with where it is. Returns whether it was there and
    /// is missing now.
    fn update(&mut self, chunk: u32) -> bool {
        let is = self.read(chunk).is_some() || self.kept.contains(chunk);
        let was = self.present.contains(chunk);
        if is == was {
            return false;
        }
        let held = self.read(chunk).map(|bytes| bytes.len() as u64);
        let known = self
            .metainfo
            .as_ref()
            .map(|metainfo| metainfo.chunk_length(chunk).into());
        let length: u64 = known.or(held).unwrap_or_default();
        if is {
            self.present.insert(one(chunk));
            self.bytes = self.bytes.saturating_add(length);
        } else {
            self.present.remove(one(chunk));
            self.bytes = self.bytes.saturating_sub(length);
        }
        was
    }
}

fn one(chunk: u32) -> Range<u32> {
    chunk..chunk.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::CHUNK_LEN;
    use crate::torrent::tests::build::{Version, torrent};
    use crate::torrent::{InfohashV1, Magnet};

    const CHUNKS: u32 = 40;

    fn store(cap_chunks: u64) -> ChunkStore {
        store_of(CHUNKS, cap_chunks)
    }

    fn store_of(chunks: u32, cap_chunks: u64) -> ChunkStore {
        let length = (CHUNK_LEN * chunks - 100) as usize;
        let built = torrent(Version::V1, "a", &[("b", vec![7; length])], 32768);
        let magnet = Magnet {
            v1: Some(InfohashV1::of(&built.info)),
            ..Magnet::default()
        };
        let metainfo = Metainfo::from_info(built.info, &magnet).unwrap();
        let mut store = ChunkStore::new(cap_chunks * u64::from(CHUNK_LEN));
        store.set_metainfo(Arc::new(metainfo));
        store.set_hosted();
        store
    }

    fn content(chunk: u32) -> Bytes {
        let short = if chunk == CHUNKS - 1 { 100 } else { 0 };
        Bytes::from(vec![chunk as u8; CHUNK_LEN as usize - short])
    }

    /// A host that writes and reads whatever is wanted.
    fn serve(store: &mut ChunkStore, disk: &mut BTreeMap<u32, Bytes>) {
        while let Some(want) = store.poll_want() {
            match want {
                ChunkWant::Write(chunk, bytes) => {
                    disk.insert(chunk, bytes);
                    assert!(!store.handle_written(chunk, true));
                }
                ChunkWant::Read(chunk) => {
                    let bytes = disk.get(&chunk).cloned();
                    assert_eq!(store.handle_read(chunk, bytes.clone()), bytes);
                }
            }
        }
    }

    #[test]
    fn memory_is_a_cache_above_the_host() {
        let mut store = store(4);
        let mut disk = BTreeMap::new();
        for chunk in 0..CHUNKS {
            // Nothing is missing, though memory holds four.
            assert!(!store.insert(chunk, content(chunk)));
            serve(&mut store, &mut disk);
        }
        let all = u64::from(CHUNK_LEN * CHUNKS - 100);
        assert_eq!(store.bytes(), all);
        assert!(store.memory_bytes() <= store.cap());
        assert!(store.contains(3) && store.read(3).is_none());
        store.set_readers([3]);
        assert!(store.load(3));
        serve(&mut store, &mut disk);
        assert_eq!(store.read(3), Some(&content(3)));
        // What the host lost or damaged is missing again, and only that.
        disk.remove(&20);
        disk.insert(21, Bytes::from_static(b"short"));
        store.set_readers([20]);
        assert!(store.load(20));
        while let Some(want) = store.poll_want() {
            if let ChunkWant::Read(chunk) = want {
                store.handle_read(chunk, disk.get(&chunk).cloned());
            }
        }
        assert!(!store.contains(20) && !store.contains(21) && store.contains(22));
        assert_eq!(store.bytes(), all - 2 * u64::from(CHUNK_LEN));
        assert!(!store.load(20));
        assert!(store.handle_gone(30..CHUNKS));
        assert_eq!(store.present().len(), 28);
    }

    #[test]
    fn what_finds_no_room_stays_in_memory_alone() {
        let mut store = store(4);
        assert_eq!(store.has_room(), Some(true));
        store.insert(0, content(0));
        assert!(matches!(store.poll_want(), Some(ChunkWant::Write(0, _))));
        assert!(!store.handle_written(0, false));
        assert_eq!(store.has_room(), None);
        store.set_readers([10]);
        for chunk in 1..4 {
            assert!(!store.insert(chunk, content(chunk)));
        }
        assert!(store.poll_want().is_none());
        // Memory lets one go, which is to find out whether there is room; then one that nobody has.
        assert!(!store.insert(10, content(10)));
        assert!(store.contains(0));
        assert!(store.insert(11, content(11)));
        assert!(!store.contains(1));
        // One of them finds out whether there is room again, and the others follow it.
        store.handle_room();
        assert_eq!(store.has_room(), None);
        assert!(matches!(store.poll_want(), Some(ChunkWant::Write(0, _))));
        assert!(store.poll_want().is_none());
        assert!(!store.handle_written(0, true));
        assert_eq!(store.has_room(), Some(true));
        for chunk in [2, 3, 10, 11] {
            assert!(matches!(store.poll_want(), Some(ChunkWant::Write(it, _)) if it == chunk));
            assert!(!store.handle_written(chunk, true));
        }
        assert!(store.poll_want().is_none());
        store.insert(12, content(12));
        assert!(matches!(store.poll_want(), Some(ChunkWant::Write(12, _))));
        // Even if memory lets it go before the host answers, it is there.
        store.set_cap(0);
        assert_eq!(store.read(12), Some(&content(12)));
        assert!(!store.handle_written(12, true));
        assert!(store.contains(12) && store.read(12).is_none());
    }

    #[test]
    fn a_slow_host_is_not_handed_more_than_may_wait_and_all_of_it_in_time() {
        const MANY: u32 = MAX_WRITES as u32 + 100;
        let mut store = store_of(MANY, MANY.into());
        for _ in 0..2 {
            for chunk in 0..MANY {
                store.insert(chunk, content(chunk % CHUNKS));
            }
            assert_eq!(store.writing.len(), MAX_WRITES);
            assert_eq!(store.has_room(), Some(false));
        }
        let mut written = BTreeSet::new();
        while let Some(ChunkWant::Write(chunk, _)) = store.poll_want() {
            assert!(written.insert(chunk), "{chunk} twice");
            store.handle_written(chunk, true);
        }
        assert_eq!(written.len(), MANY as usize);
    }

    #[test]
    fn what_was_here_before_there_was_a_host_is_handed_to_it() {
        let mut store = store(8);
        store.hosted = false;
        store.insert(5, content(5));
        assert!(store.poll_want().is_none());
        store.set_hosted();
        assert!(matches!(store.poll_want(), Some(ChunkWant::Write(5, _))));
    }

    #[test]
    fn answers_to_nothing_change_nothing() {
        let mut store = store(4);
        assert!(!store.handle_written(3, true));
        assert_eq!(store.handle_read(3, Some(content(3))), None);
        assert!(!store.handle_gone(0..u32::MAX));
        assert!(!store.contains(3));
        assert!(!store.load(3));
        store.restore([0..2, 38..u32::MAX]);
        assert_eq!(store.present().len(), 4);
        assert_eq!(store.bytes(), u64::from(CHUNK_LEN * 4 - 100));
    }
}
