//! Files that the user shares: where chunks are read from that are not in the store.
//!
//! A file may be changed after it was hashed, so nothing of it is given out before its piece was
//! checked again; a piece is read whole for that, and what else is wanted of it comes along.

use crate::order::map_of;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::torrent::{Metainfo, Verdict, Verifier};

/// Pieces that the worker is asked for at a time.
const MAX_READING: usize = 4;

/// The files of one torrent.
pub(super) struct Files {
    verifier: Verifier,
    /// Chunks that are wanted, by piece. Bounded by what the node asks back.
    wanted: BTreeMap<u32, BTreeSet<u32>>,
    /// Pieces that the worker reads now.
    reading: BTreeSet<u32>,
    /// A file is gone or changed: nothing more can be read.
    pub(super) broken: bool,
}

/// Where a piece lies: always in one file, for each file begins at a piece.
pub(super) struct Place {
    /// The file's number in the torrent.
    pub(super) file: usize,
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Files {
    pub(super) fn new(metainfo: Arc<Metainfo>, layers: Option<Bytes>) -> Self {
        let mut verifier = Verifier::new(metainfo);
        if let Some(layers) = layers {
            // Without them it is checked by v1.
            let _ = verifier.add_piece_layers(layers);
        }
        Self {
            verifier,
            wanted: BTreeMap::new(),
            reading: BTreeSet::new(),
            broken: false,
        }
    }

    pub(super) fn want(&mut self, metainfo: &Metainfo, chunk: u32) {
        let piece = metainfo.piece_of(chunk);
        self.wanted.entry(piece).or_default().insert(chunk);
    }

    /// Whether [`Self::next`] has something.
    pub(super) fn has_reads(&self) -> bool {
        self.reading.len() < MAX_READING
            && self
                .wanted
                .keys()
                .any(|piece| !self.reading.contains(piece))
    }

    /// The next piece that the worker is to read.
    pub(super) fn next(&mut self) -> Option<u32> {
        if self.reading.len() >= MAX_READING {
            return None;
        }
        let piece = *self
            .wanted
            .keys()
            .find(|piece| !self.reading.contains(piece))?;
        self.reading.insert(piece);
        Some(piece)
    }

    /// A piece was read, or cannot be. The chunks that were wanted of it, each with its bytes if
    /// the piece is what was hashed.
    pub(super) fn give(&mut self, piece: u32, bytes: Option<Bytes>) -> Vec<(u32, Option<Bytes>)> {
        self.reading.remove(&piece);
        let wanted = self.wanted.remove(&piece).unwrap_or_default();
        let chunks = bytes.and_then(|bytes| self.check(piece, &bytes));
        self.broken |= chunks.is_none();
        let chunks = chunks.unwrap_or_default();
        wanted
            .into_iter()
            .map(|chunk| (chunk, chunks.get(&chunk).cloned()))
            .collect()
    }

    /// The chunks of a piece, if it is what was hashed.
    pub(super) fn check(&self, piece: u32, bytes: &Bytes) -> Option<BTreeMap<u32, Bytes>> {
        let metainfo = self.verifier.metainfo();
        let mut at = 0usize;
        let mut chunks = Vec::new();
        for chunk in metainfo.piece_chunks(piece) {
            let end = at.checked_add(metainfo.chunk_length(chunk) as usize)?;
            if end > bytes.len() {
                return None;
            }
            chunks.push((chunk, bytes.slice(at..end)));
            at = end;
        }
        let whole = at == bytes.len();
        let good = self
            .verifier
            .check_piece(piece, chunks.iter().map(|(_, bytes)| bytes.as_ref()))
            == Verdict::Good;
        (whole && good).then(|| map_of(chunks))
    }
}

pub(super) fn place(metainfo: &Metainfo, piece: u32) -> Option<Place> {
    let start = u64::from(piece).checked_mul(metainfo.piece_length().into())?;
    let end = start.checked_add(metainfo.piece_length().into())?;
    let (file, found) = metainfo.files().iter().enumerate().find(|(_, file)| {
        !file.padding && (file.offset..file.offset.saturating_add(file.length)).contains(&start)
    })?;
    let end = end.min(found.offset.saturating_add(found.length));
    Some(Place {
        file,
        start: start - found.offset,
        length: end - start,
    })
}
