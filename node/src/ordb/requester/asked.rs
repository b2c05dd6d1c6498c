//! Chunks that are wanted one by one, for whoever relays them, and sections for whoever serves them.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::Requester;
use super::assembly::Unit;
use super::source::SourceState;
use crate::time::Instant;
use crate::wire::{BLOCK_LEN, Section};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Not there yet. The caller fills it and bounds it.
    wanted: BTreeSet<u32>,
    /// There, and not taken; bounded by what was wanted.
    ready: VecDeque<(u32, Bytes)>,
    /// Wanted, and none of the sources can give it now; told once.
    lacking: BTreeSet<u32>,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.wanted.first().copied()
    }

    /// The runs of chunks that are wanted.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut chunks = self.wanted.iter().copied().peekable();
        std::iter::from_fn(move || {
            let start = chunks.next()?;
            let mut end = start.saturating_add(1);
            while chunks.next_if_eq(&end).is_some() {
                end = end.saturating_add(1);
            }
            Some(start..end)
        })
    }

    /// A chunk is verified.
    pub(super) fn handle_verified(&mut self, chunk: u32, bytes: &Bytes) {
        if self.wanted.remove(&chunk) {
            self.lacking.remove(&chunk);
            self.ready.push_back((chunk, bytes.clone()));
        }
    }
}

impl Requester {
    /// These chunks are wanted, once: [`Self::poll_asked`] gives each as soon as it is verified.
    pub fn ask_chunks(&mut self, now: Instant, chunks: Range<u32>) {
        self.now = now;
        for chunk in chunks {
            match self.store.read(chunk) {
                Some(bytes) => self.asked.ready.push_back((chunk, bytes.clone())),
                None => {
                    // It may be with the host.
                    self.store.load(chunk);
                    self.asked.wanted.insert(chunk);
                }
            }
        }
        self.handle_demand_changed();
    }

    /// These chunks are no longer wanted.
    pub fn unask_chunks(&mut self, now: Instant, chunks: Range<u32>) {
        self.now = now;
        for chunk in chunks.clone() {
            self.asked.wanted.remove(&chunk);
            self.asked.lacking.remove(&chunk);
        }
        self.asked
            .ready
            .retain(|(chunk, _)| !chunks.contains(chunk));
        self.handle_demand_changed();
    }

    /// The next chunk of those that were asked.
    pub fn poll_asked(&mut self) -> Option<(u32, Bytes)> {
        self.asked.ready.pop_front()
    }

    /// The chunks that are asked and not there.
    pub fn asked_chunks(&self) -> Vec<Range<u32>> {
        self.asked.runs().collect()
    }

    /// Chunks that were asked and that no source can give; they are not asked any longer.
    pub fn take_lacking(&mut self) -> Vec<Range<u32>> {
        let lacking = Asked {
            wanted: std::mem::take(&mut self.asked.lacking),
            ..Asked::default()
        };
        for chunk in &lacking.wanted {
            self.asked.wanted.remove(chunk);
        }
        if !lacking.is_empty() {
            self.handle_demand_changed();
        }
        lacking.runs().collect()
    }

    /// Whether there is a chunk that was asked and that no source can give.
    pub fn has_lacking(&self) -> bool {
        !self.asked.lacking.is_empty()
    }

    /// Looks for chunks that every open source has said it has not.
    pub(super) fn find_lacking(&mut self) {
        self.asked.lacking.clear();
        if self.asked.is_empty() {
            return;
        }
        let open: Vec<_> = self
            .sources
            .values()
            .filter(|source| source.state == SourceState::Open)
            .collect();
        if open.len() < self.sources.len() || open.is_empty() {
            return;
        }
        let Some(content) = &self.content else {
            return;
        };
        let mut judged: Option<(u32, bool)> = None;
        for chunk in &self.asked.wanted {
            // A piece is verified whole: any part of it that nobody has keeps it from coming.
            let piece = content.metainfo.piece_of(*chunk);
            if let Some((_, lacks)) = judged.filter(|(of, _)| *of == piece) {
                if lacks {
                    self.asked.lacking.insert(*chunk);
                }
                continue;
            }
            let assembly = self.assemblies.get(&Unit::Piece(piece));
            let nobody_gives = |chunk: u32| {
                let is_held = assembly
                    .and_then(|it| Some(it.is_held(it.slot_of(chunk)?)))
                    .unwrap_or(false);
                !is_held
                    && !content.metainfo.is_padding_chunk(chunk)
                    && !self.store.contains(chunk)
                    && open
                        .iter()
                        .all(|source| source.lacks(self.now, Section::CHUNKS, chunk))
            };
            let lacks = content.metainfo.piece_chunks(piece).any(nobody_gives);
            judged = Some((piece, lacks));
            if lacks {
                self.asked.lacking.insert(*chunk);
            }
        }
    }

    /// With which counter the next streams are opened.
    pub fn set_counter(&mut self, counter: u8) {
        self.config.counter = counter;
    }

    /// A block of a section as it is to be served, if it is here; chunks out of the store.
    pub fn block(&self, section: Section, block: u32) -> Option<Bytes> {
        let blob = match section {
            Section::METADATA => self.metainfo()?.info().clone(),
            Section::CHUNKS => return self.store.read(block).cloned(),
            Section::PIECE_LAYERS => self.content.as_ref()?.verifier.piece_layers()?.clone(),
            Section::LEAF_HASHES => return self.leaf_block(block),
            _ => return None,
        };
        let start = usize::try_from(block).ok()?.checked_mul(BLOCK_LEN)?;
        let end = start.saturating_add(BLOCK_LEN).min(blob.len());
        (start < end).then(|| blob.slice(start..end))
    }

    /// A chunk that is here and not in memory is asked of the host; whether it is here.
    pub fn load(&mut self, chunk: u32) -> bool {
        self.store.load(chunk) || self.store.contains(chunk)
    }

    /// Whether the host is yet to be told that something is wanted of it.
    pub fn wants_of_host(&self) -> bool {
        self.store.has_wants()
    }

    /// Whether a block of a section that is not here may still come.
    pub fn is_fetching(&self, section: Section, block: u32) -> bool {
        let lacks_layers =
            |it: &super::Content| it.metainfo.v1().is_none() && it.verifier.lacks_piece_layers();
        self.failure.is_none()
            && match section {
                Section::PIECE_LAYERS => {
                    self.content.as_ref().is_some_and(lacks_layers)
                        || self.assemblies.contains_key(&Unit::PieceLayers)
                }
                Section::LEAF_HASHES => self.is_fetching_leaves(block),
                _ => false,
            }
    }

    /// Takes a piece that is at hand, given the bytes of its chunks in order (padding is empty):
    /// whether it is right, and stored.
    pub fn add_piece(&mut self, now: Instant, piece: u32, blocks: &[Bytes]) -> bool {
        self.now = now;
        let Some(content) = &self.content else {
            return false;
        };
        let verifier = &content.verifier;
        let mut check = verifier.begin_piece(piece);
        for block in blocks {
            verifier.continue_piece(&mut check, block);
        }
        let chunks = content.metainfo.piece_chunks(piece);
        if verifier.finish_piece(check.clone()) != crate::torrent::Verdict::Good {
            return false;
        }
        self.keep_leaves(piece, Some(&check), blocks.iter().map(AsRef::as_ref));
        self.drop_assembly(Unit::Piece(piece));
        for (chunk, bytes) in chunks.zip(blocks) {
            if !bytes.is_empty() && !self.store.contains(chunk) {
                self.store_chunk(chunk, bytes.clone());
            }
        }
        self.tell_readers();
        self.handle_demand_changed();
        true
    }
}
