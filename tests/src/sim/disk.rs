//! What outlives a simulated tab: a file of slots and a database, kept as a browser's tab keeps
//! them, by the same [`Slab`].

use std::collections::BTreeMap;
use std::time::Duration;

use chive_node::ids::TorrentId;
use chive_node::node::{Event, Input};
use chive_node::store::{RangeSet, Slab, StoreAnswer, StoreWant, StoredName, Written};
use chive_node::time::Instant;

use super::{NodeIndex, World};

/// How often what was written is claimed.
const COMMIT: Duration = Duration::from_secs(1);
const CHUNK: usize = 16 << 10;

/// See the module.
pub struct Disk {
    slab: Slab,
    limit_slots: u64,
    file: Vec<u8>,
    pages: BTreeMap<(StoredName, u32), Vec<u8>>,
    names: BTreeMap<TorrentId, StoredName>,
    next_commit: Instant,
    /// Chunks given back.
    pub reads: u64,
    /// Chunks written.
    pub writes: u64,
}

impl Disk {
    /// An empty one.
    pub fn new(limit_slots: u64) -> Self {
        Disk {
            slab: Slab::new(limit_slots),
            limit_slots,
            file: Vec::new(),
            pages: BTreeMap::new(),
            names: BTreeMap::new(),
            next_commit: Instant::ZERO,
            reads: 0,
            writes: 0,
        }
    }

    /// There is more room on it, or less.
    pub fn set_limit(&mut self, limit_slots: u64) {
        self.limit_slots = limit_slots;
        self.slab.set_limit(limit_slots);
    }

    /// Keeps a torrent's chunks under this name. What of it is here.
    pub fn keep(&mut self, torrent: TorrentId, name: StoredName) -> RangeSet {
        self.names.insert(torrent, name);
        self.slab.set(name, 1, true);
        self.slab.have(name)
    }

    /// Does what the tab's node wants, and claims what is to be claimed.
    pub fn step(&mut self, world: &mut World, tab: NodeIndex, events: &[Event]) {
        for event in events {
            let Event::Store(want) = event else {
                continue;
            };
            let answer = self.handle(want);
            let input = Input::Store(answer);
            world.call(tab, |node, now| node.handle_input(now, input));
        }
        if world.now() >= self.next_commit {
            self.commit();
            self.next_commit = world.now() + COMMIT;
        }
    }

    fn handle(&mut self, want: &StoreWant) -> StoreAnswer {
        match want {
            StoreWant::Write {
                torrent,
                chunk,
                bytes,
            } => {
                let written = match self.names.get(torrent) {
                    Some(name) => self.slab.write(*name, *chunk, bytes),
                    None => Written::Full,
                };
                if let Written::To(slot) = &written {
                    let at = usize::try_from(slot.offset()).expect("a small file");
                    let end = at + bytes.len();
                    self.file.resize(self.file.len().max(at + CHUNK), 0);
                    self.file[at..end].copy_from_slice(bytes);
                    self.writes += 1;
                }
                StoreAnswer::Written {
                    torrent: *torrent,
                    chunk: *chunk,
                    kept: written != Written::Full,
                }
            }
            StoreWant::Read { torrent, chunk } => StoreAnswer::Read {
                torrent: *torrent,
                chunk: *chunk,
                bytes: self.read(*torrent, *chunk).map(Into::into),
            },
        }
    }

    /// A chunk's bytes, if they are what was written: only its checksum tells how many they are.
    fn read(&mut self, torrent: TorrentId, chunk: u32) -> Option<Vec<u8>> {
        let name = *self.names.get(&torrent)?;
        let claim = self.slab.claim(name, chunk)?;
        let at = usize::try_from(claim.slot.offset()).ok()?;
        let slot = self.file.get(at..at + CHUNK)?;
        let lengths = (0..=CHUNK).rev();
        let mut found = lengths.filter(|length| claim.holds(name, chunk, &slot[..*length]));
        let length = found.next()?;
        self.reads += 1;
        Some(slot[..length].to_vec())
    }

    fn commit(&mut self) {
        let Some(commit) = self.slab.commit() else {
            return;
        };
        for name in &commit.removed {
            self.pages.retain(|(of, _), _| of != name);
        }
        for page in &commit.pages {
            self.pages
                .insert((page.name, page.page), page.bytes.clone());
        }
        self.slab.handle_committed();
    }

    /// The tab is killed: what is left is the file, and what was claimed of it.
    pub fn crash(self) -> Self {
        let mut left = Disk {
            file: self.file,
            pages: self.pages,
            ..Disk::new(self.limit_slots)
        };
        let slots = u32::try_from(left.file.len() / CHUNK).expect("a small file");
        for ((name, page), bytes) in &left.pages {
            let restored = left.slab.restore(*name, *page, bytes, slots);
            restored.expect("what was written");
        }
        left
    }
}
