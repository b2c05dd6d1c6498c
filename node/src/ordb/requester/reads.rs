//! Who reads what, and so in which order chunks are wanted.
//!
//! Demand comes in zones, each a range of pieces that is wanted from its front on. First come the
//! read-aheads of those who play, then of those who save, then what lies beyond, while the store
//! has room. Within a class the zone that has got least far is served first.

use crate::order::ascending_by;
use std::collections::BTreeMap;
use std::ops::Range;

use super::super::{MAX_READS, ReadError};
use super::asked::Asked;
use super::{Class, Demand};
use crate::ids::ReadId;
use crate::store::ChunkStore;
use crate::time::Instant;
use crate::torrent::{CHUNK_LEN, Metainfo};

/// How long what comes after a closed read is still wanted: a player that asks range after range
/// closes one before it opens the next.
const GHOST: std::time::Duration = std::time::Duration::from_secs(5);

/// One reader.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) demand: Demand,
    /// In the chunk space.
    pub(super) position: u64,
    /// In the chunk space.
    pub(super) end: u64,
    /// Where its file ends in the chunk space.
    file_end: u64,
    /// Nothing but zeros that everybody knows.
    pub(super) padding: bool,
    /// It was told that nothing is there yet, and is to be told when there is.
    pub(super) waiting: bool,
}

impl Reader {
    pub(super) fn chunk(&self) -> u32 {
        u32::try_from(self.position / u64::from(CHUNK_LEN)).unwrap_or(u32::MAX)
    }

    pub(super) fn is_done(&self) -> bool {
        self.position >= self.end
    }
}

/// A range of pieces that is wanted from its front on.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    pub(super) class: Class,
    pub(super) pieces: Range<u32>,
    /// Pieces before it are had or being had.
    cursor: u32,
}

/// All readers.
#[derive(Debug, Default)]
pub(super) struct Reads {
    reads: BTreeMap<ReadId, Reader>,
    /// A closed read's rest.
    ghost: Option<(Reader, Instant)>,
    /// All of it is wanted, whoever reads.
    whole: bool,
    zones: Vec<Zone>,
    zones_stale: bool,
}

impl Reads {
    pub(super) fn open(
        &mut self,
        metainfo: &Metainfo,
        id: ReadId,
        file: usize,
        range: Range<u64>,
        demand: Demand,
    ) -> Result<(), ReadError> {
        if self.reads.len() >= MAX_READS {
            return Err(ReadError::TooMany);
        }
        if self.reads.contains_key(&id) {
            return Err(ReadError::IdInUse);
        }
        let file = metainfo.files().get(file).ok_or(ReadError::NoSuchFile)?;
        let end = range.end.min(file.length);
        let start = range.start.min(end);
        // The metainfo has bounded the sums.
        let read = Reader {
            demand,
            position: file.offset.saturating_add(start),
            end: file.offset.saturating_add(end),
            file_end: file.offset.saturating_add(file.length),
            padding: file.padding,
            waiting: false,
        };
        if self
            .ghost
            .as_ref()
            .is_some_and(|(ghost, _)| ghost.file_end == read.file_end)
        {
            self.ghost = None;
        }
        self.reads.insert(id, read);
        self.zones_stale = true;
        Ok(())
    }

    pub(super) fn close(&mut self, now: Instant, id: ReadId) {
        if let Some(read) = self.reads.remove(&id) {
            self.zones_stale = true;
            if read.demand == Demand::Play && !read.padding {
                self.ghost = Some((read, now + GHOST));
            }
        }
    }

    pub(super) fn get_mut(&mut self, id: ReadId) -> Option<&mut Reader> {
        self.reads.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ReadId, &Reader)> {
        self.reads.iter().map(|(id, read)| (*id, read))
    }

    /// The chunks at which readers stand.
    pub(super) fn positions(&self) -> impl Iterator<Item = u32> + '_ {
        self.reads
            .values()
            .chain(self.ghost.as_ref().map(|(ghost, _)| ghost))
            .filter(|read| !read.padding && !read.is_done())
            .map(Reader::chunk)
    }

    /// Whether all of it is wanted, whoever reads.
    pub(super) fn set_whole(&mut self, whole: bool) {
        self.whole = whole;
        self.zones_stale = true;
    }

    /// Whether all of it is wanted, whoever reads.
    pub(super) fn wants_whole(&self) -> bool {
        self.whole
    }

    /// Something is missing again, or a reader moved: look from the front.
    pub(super) fn invalidate(&mut self) {
        self.zones_stale = true;
    }

    /// Lets go of what a closed read left. True if there was something.
    pub(super) fn expire_ghost(&mut self, now: Instant) -> bool {
        let expired = self.ghost.as_ref().is_some_and(|(_, until)| *until <= now);
        if expired {
            self.ghost = None;
            self.zones_stale = true;
        }
        expired
    }

    pub(super) fn ghost_expiry(&self) -> Option<Instant> {
        self.ghost.as_ref().map(|(_, until)| *until)
    }

    /// The readers that wait for a chunk which is there now; they are told once.
    pub(super) fn take_readable(&mut self, store: &ChunkStore, mut tell: impl FnMut(ReadId)) {
        for (id, read) in &mut self.reads {
            if read.waiting && (read.is_done() || store.read(read.chunk()).is_some()) {
                read.waiting = false;
                tell(*id);
            }
        }
    }

    /// Everybody who waits: to be told of a failure.
    pub(super) fn take_waiting(&mut self, mut tell: impl FnMut(ReadId)) {
        for (id, read) in &mut self.reads {
            if std::mem::take(&mut read.waiting) {
                tell(*id);
            }
        }
    }

    /// The chunks that readers wait for, those who play first.
    pub(super) fn waited_chunks(&self) -> impl Iterator<Item = u32> + '_ {
        let of = |demand| {
            self.reads
                .values()
                .filter(move |read| read.waiting && read.demand == demand && !read.padding)
                .map(Reader::chunk)
        };
        of(Demand::Play).chain(of(Demand::Save))
    }

    /// The zones, in order of class.
    pub(super) fn zones(
        &mut self,
        metainfo: &Metainfo,
        read_ahead: u64,
        asked: &Asked,
    ) -> &mut Vec<Zone> {
        if !self.zones_stale {
            return &mut self.zones;
        }
        self.zones_stale = false;
        self.zones.clear();
        let mut add = |class, bytes: Range<u64>| {
            let chunks = metainfo.chunks_of(bytes);
            let Some(last) = chunks.end.checked_sub(1).filter(|_| !chunks.is_empty()) else {
                return;
            };
            let first = metainfo.piece_of(chunks.start);
            let pieces = first..metainfo.piece_of(last).saturating_add(1);
            self.zones.push(Zone {
                class,
                cursor: pieces.start,
                pieces,
            });
        };
        let everybody = self.reads.values().map(|read| (false, read));
        let ghost = self.ghost.iter().map(|(ghost, _)| (true, ghost));
        for (is_ghost, read) in everybody.chain(ghost) {
            if read.padding {
                continue;
            }
            let ahead = read.position.saturating_add(read_ahead);
            let class = match read.demand {
                _ if is_ghost => Class::Beyond,
                Demand::Play => Class::Play,
                Demand::Save => Class::Save,
            };
            let wanted_end = if is_ghost { read.file_end } else { read.end };
            add(class, read.position..ahead.min(wanted_end));
            if !is_ghost {
                add(Class::Beyond, ahead.min(wanted_end)..read.file_end);
            }
        }
        if self.whole {
            add(Class::Beyond, 0..metainfo.space_length());
        }
        for chunks in asked.runs() {
            let bytes = |chunk: u32| u64::from(chunk).saturating_mul(CHUNK_LEN.into());
            add(Class::Play, bytes(chunks.start)..bytes(chunks.end));
        }
        self.zones = ascending_by(std::mem::take(&mut self.zones), |zone| zone.class);
        &mut self.zones
    }

    /// How urgently a piece is wanted: its class, and how many pieces lie before it in its zone.
    pub(super) fn urgency(&self, piece: u32) -> Option<(Class, u32)> {
        self.zones
            .iter()
            .filter(|zone| zone.pieces.contains(&piece))
            .map(|zone| (zone.class, piece.saturating_sub(zone.pieces.start)))
            .min()
    }
}

/// Walks through demand in order without moving anything: what the next sources would be given.
pub(super) struct Walk {
    zones: Vec<Zone>,
}

impl Walk {
    pub(super) fn new(zones: &[Zone]) -> Self {
        Self {
            zones: zones.to_vec(),
        }
    }

    /// The next run of pieces that `wants` says are needed, of at most `most` pieces.
    pub(super) fn next(
        &mut self,
        most: u32,
        mut wants: impl FnMut(Class, u32) -> Wanted,
    ) -> Option<(Class, Range<u32>)> {
        loop {
            let zone = self
                .zones
                .iter_mut()
                .filter(|zone| zone.cursor < zone.pieces.end)
                .min_by_key(|zone| (zone.class, zone.cursor.saturating_sub(zone.pieces.start)))?;
            match wants(zone.class, zone.cursor) {
                Wanted::Yes => {}
                Wanted::NotBefore(piece) => {
                    zone.cursor = piece.max(zone.cursor.saturating_add(1));
                    continue;
                }
                Wanted::EndOfZone => {
                    zone.cursor = zone.pieces.end;
                    continue;
                }
            }
            let start = zone.cursor;
            let limit = start.saturating_add(most.max(1)).min(zone.pieces.end);
            let mut end = start.saturating_add(1);
            while end < limit && matches!(wants(zone.class, end), Wanted::Yes) {
                end = end.saturating_add(1);
            }
            zone.cursor = end;
            return Some((zone.class, start..end));
        }
    }
}

/// Whether a piece is to be asked for.
pub(super) enum Wanted {
    /// It is.
    Yes,
    /// Neither it nor any before this one.
    NotBefore(u32),
    /// Neither it nor any after it in its zone.
    EndOfZone,
}

/// Moves the cursors of the zones past what is not wanted any more.
pub(super) fn advance_cursors(zones: &mut [Zone], mut wants: impl FnMut(Class, u32) -> Wanted) {
    for zone in zones {
        while zone.cursor < zone.pieces.end {
            match wants(zone.class, zone.cursor) {
                Wanted::NotBefore(piece) => {
                    zone.cursor = piece
                        .max(zone.cursor.saturating_add(1))
                        .min(zone.pieces.end);
                }
                Wanted::Yes | Wanted::EndOfZone => break,
            }
        }
    }
}
