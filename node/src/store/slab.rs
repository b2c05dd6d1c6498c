//! What lies where in one large file of slots, and what may be claimed of it after a crash.
//!
//! A host has a file of slots, one chunk each, and beside it a small database that is written in
//! transactions (in a tab: OPFS and IndexedDB). The order is always: bytes into the file, the file
//! flushed, then the claim into the database. So a claim never names bytes that were not written;
//! and a slot that was let go is written to again only once the database no longer claims it. What
//! was written since the last commit is lost in a crash, and nothing else.
//!
//! This is the bookkeeping only. The host does, about each second: [`Slab::commit`], flush the
//! file, put what the [`Commit`] says in one transaction, [`Slab::handle_committed`].

mod claims;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use super::{RangeSet, xxh64};
use claims::Claims;

pub use claims::PAGE_CHUNKS;

/// Slots kept free ahead of need, because one that is let go can be used only after the next
/// commit: 8 MiB, or an eighth of a small store.
const RESERVE: u64 = 512;

/// Names a torrent within a store: the first 20 bytes of the infohash that it is asked by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredName(pub [u8; 20]);

/// It is a name of content.
impl std::fmt::Debug for StoredName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredName(…)")
    }
}

/// A place in the file, [`crate::torrent::CHUNK_LEN`] bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// Where it begins in the file.
    pub fn offset(self) -> u64 {
        u64::from(self.0) * u64::from(crate::torrent::CHUNK_LEN)
    }
}

/// Where a chunk lies, and what it is checked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where.
    pub slot: Slot,
    sum: u64,
}

impl Claim {
    /// Whether these bytes are those that were written for this chunk of this torrent.
    pub fn holds(&self, name: StoredName, chunk: u32, bytes: &[u8]) -> bool {
        self.sum == checksum(name, chunk, bytes)
    }
}

/// What came of [`Slab::write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Write the bytes there, at once.
    To(Slot),
    /// It is there already.
    Already,
    /// There is no room now; after the next commit there may be.
    Full,
}

/// One page of claims as the database is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Whose.
    pub name: StoredName,
    /// Its number: it is of the chunks from this many times [`PAGE_CHUNKS`] on.
    pub page: u32,
    /// What to put; nothing: delete it.
    pub bytes: Vec<u8>,
}

/// What is to be put into the database in one transaction, after the file was flushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Delete all that is known of these, first.
    pub removed: Vec<StoredName>,
    /// Then put these.
    pub pages: Vec<Page>,
}

/// What of a database cannot be what this module wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page of claims is damaged")]
pub struct SlabError;

#[derive(Debug, Default)]
struct Entry {
    claims: Claims,
    /// When it was last used; only the order counts.
    used: u64,
    /// Never evicted: shared by choice, or being fetched.
    held: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Slab {
    limit: u64,
    names: BTreeMap<StoredName, Entry>,
    /// Slots that are claimed, here or still in the database.
    taken: RangeSet,
    /// Let go since the last commit began.
    dying: Vec<Slot>,
    /// Let go before the commit that is under way.
    dying_in_commit: Vec<Slot>,
    removed: Vec<StoredName>,
    commit: Option<Commit>,
    /// Chunks that went to make room and that the host has not been told of; it takes them after
    /// each call.
    gone: Vec<(StoredName, Range<u32>)>,
}

impl Slab {
    /// An empty one of at most so many slots.
    pub fn new(limit_slots: u64) -> Self {
        Self {
            limit: limit_slots.min(u32::MAX.into()),
            names: BTreeMap::new(),
            taken: RangeSet::new(),
            dying: Vec::new(),
            dying_in_commit: Vec::new(),
            removed: Vec::new(),
            commit: None,
            gone: Vec::new(),
        }
    }

    /// Makes a torrent known, or what is known of it newer. It is evicted after those that were
    /// used before it, and not at all while `held`.
    pub fn set(&mut self, name: StoredName, used: u64, held: bool) {
        let entry = self.names.entry(name).or_default();
        entry.used = entry.used.max(used);
        entry.held = held;
    }

    /// Takes a page that the database has, when the host begins. Claims of slots beyond the file
    /// or of slots that others claim are let go.
    pub fn restore(
        &mut self,
        name: StoredName,
        page: u32,
        bytes: &[u8],
        file_slots: u32,
    ) -> Result<(), SlabError> {
        let found = claims::decode(page, bytes).ok_or(SlabError)?;
        let entry = self.names.entry(name).or_default();
        for (chunk, claim) in found {
            let slot = claim.slot.0;
            if slot < file_slots && !self.taken.contains(slot) {
                self.taken.insert(slot..slot.saturating_add(1));
                entry.claims.restore(chunk, claim);
            } else {
                entry.claims.touch(chunk);
            }
        }
        Ok(())
    }

    /// The torrents that are known.
    pub fn names(&self) -> impl Iterator<Item = StoredName> + '_ {
        self.names.keys().copied()
    }

    /// The chunks of a torrent that are here.
    pub fn have(&self, name: StoredName) -> RangeSet {
        let mut have = RangeSet::new();
        if let Some(entry) = self.names.get(&name) {
            for chunk in entry.claims.chunks() {
                have.insert(chunk..chunk.saturating_add(1));
            }
        }
        have
    }

    /// Slots that are in use, those that are free only after the next commit included.
    pub fn used_slots(&self) -> u64 {
        self.taken.len()
    }

    /// One past the last slot in use: the file needs no more.
    pub fn end(&self) -> u32 {
        self.taken
            .last_before(u32::MAX)
            .map_or(0, |last| last.saturating_add(1))
    }

    /// Changes how many slots there may be, and lets go of what is too much.
    pub fn set_limit(&mut self, limit_slots: u64) {
        self.limit = limit_slots.min(u32::MAX.into());
        self.make_room(None);
    }

    /// Where a chunk lies.
    pub fn claim(&self, name: StoredName, chunk: u32) -> Option<Claim> {
        self.names.get(&name)?.claims.get(chunk)
    }

    /// A place for a chunk, which is claimed from the next [`Self::commit`] on: so the host writes
    /// it before it calls anything else, or calls [`Self::lose`]. Call [`Self::take_gone`] after.
    pub fn write(&mut self, name: StoredName, chunk: u32, bytes: &[u8]) -> Written {
        match self.names.get(&name) {
            None => return Written::Full,
            Some(entry) if entry.claims.get(chunk).is_some() => return Written::Already,
            Some(_) => {}
        }
        self.make_room(Some((name, chunk)));
        let slot = self.taken.next_missing(0);
        let (true, Some(entry)) = (
            self.taken.len() < self.limit && slot < u32::MAX,
            self.names.get_mut(&name),
        ) else {
            return Written::Full;
        };
        self.taken.insert(slot..slot.saturating_add(1));
        let slot = Slot(slot);
        let sum = checksum(name, chunk, bytes);
        entry.claims.insert(chunk, Claim { slot, sum });
        Written::To(slot)
    }

    /// A chunk is not there after all: it could not be written, or what is read is not what was.
    pub fn lose(&mut self, name: StoredName, chunk: u32) {
        if let Some(entry) = self.names.get_mut(&name)
            && let Some(claim) = entry.claims.remove(chunk)
        {
            self.dying.push(claim.slot);
        }
    }

    /// Forgets a torrent and all its chunks.
    pub fn remove(&mut self, name: StoredName) {
        if let Some(entry) = self.names.remove(&name) {
            let slots = entry
                .claims
                .chunks()
                .filter_map(|chunk| entry.claims.get(chunk));
            self.dying.extend(slots.map(|claim| claim.slot));
            self.removed.push(name);
        }
    }

    /// What went to make room since this was last asked.
    pub fn take_gone(&mut self) -> Vec<(StoredName, Range<u32>)> {
        std::mem::take(&mut self.gone)
    }

    /// What the database is to be told, if there is anything and nothing is being told. All that
    /// was written before must be flushed before it is put.
    pub fn commit(&mut self) -> Option<&Commit> {
        if self.commit.is_some() {
            return None;
        }
        let mut commit = Commit {
            removed: std::mem::take(&mut self.removed),
            pages: Vec::new(),
        };
        for (name, entry) in &mut self.names {
            let pages = entry.claims.take_dirty();
            commit.pages.extend(pages.map(|(page, bytes)| Page {
                name: *name,
                page,
                bytes,
            }));
        }
        if commit == Commit::default() {
            return None;
        }
        self.dying_in_commit = std::mem::take(&mut self.dying);
        self.commit = Some(commit);
        self.commit.as_ref()
    }

    /// The transaction is done: what it no longer claims can be written to. Whether there is more
    /// room than before.
    pub fn handle_committed(&mut self) -> bool {
        self.commit = None;
        let freed = std::mem::take(&mut self.dying_in_commit);
        for slot in &freed {
            self.taken.remove(slot.0..slot.0.saturating_add(1));
        }
        !freed.is_empty()
    }

    /// The transaction did not come to be: all of it is for the next one.
    pub fn handle_commit_failed(&mut self) {
        let Some(commit) = self.commit.take() else {
            return;
        };
        let slots = std::mem::take(&mut self.dying_in_commit);
        self.dying.extend(slots);
        self.removed.extend(commit.removed);
        for page in commit.pages {
            if let Some(entry) = self.names.get_mut(&page.name) {
                entry.claims.touch(page.page.saturating_mul(PAGE_CHUNKS));
            }
        }
    }

    /// Lets go of chunks until the reserve is free, or will be after the next commit: of the
    /// torrent that was used longest ago, its end first; of the one that is written to only what
    /// lies before the chunk, which is behind whoever reads it.
    fn make_room(&mut self, writing: Option<(StoredName, u32)>) {
        let reserve = RESERVE.min(self.limit / 8);
        let dying = (self.dying.len() + self.dying_in_commit.len()) as u64;
        let in_use = self.taken.len().saturating_sub(dying);
        let mut excess = in_use.saturating_add(reserve).saturating_sub(self.limit);
        while excess > 0 {
            let victim = self
                .names
                .iter()
                .filter(|(name, entry)| {
                    !entry.held
                        && !entry.claims.is_empty()
                        && writing.is_none_or(|(writing, _)| writing != **name)
                })
                .min_by_key(|(name, entry)| (entry.used, **name))
                .map(|(name, _)| *name);
            let (name, before) = match (victim, writing) {
                (Some(name), _) => (name, u32::MAX),
                (None, Some((name, chunk))) => (name, chunk),
                (None, None) => return,
            };
            let Some(entry) = self.names.get_mut(&name) else {
                return;
            };
            let chunk = match victim {
                Some(_) => entry.claims.last(),
                None if entry.held => None,
                None => entry.claims.first().filter(|first| *first < before),
            };
            let Some(chunk) = chunk else { return };
            self.lose(name, chunk);
            let next = chunk.saturating_add(1);
            match self.gone.last_mut() {
                Some((of, range)) if *of == name && range.start == next => range.start = chunk,
                Some((of, range)) if *of == name && range.end == chunk => range.end = next,
                _ => self.gone.push((name, chunk..next)),
            }
            excess -= 1;
        }
    }
}

/// Of the bytes and of whose they are: a slot with another chunk's bytes is found as well.
fn checksum(name: StoredName, chunk: u32, bytes: &[u8]) -> u64 {
    xxh64(xxh64(chunk.into(), &name.0), bytes)
}
