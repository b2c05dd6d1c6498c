//! Leaf hashes: asked for ahead of the content, so that each chunk is judged alone and not with
//! its piece; and given to whoever asks, of what is known.
//!
//! A block has those of 512 chunks, and zeros for the pieces of which its sender knows none.
//! Nothing waits for them: where nobody gives them, pieces are judged whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::assembly::{Assembly, Unit};
use super::{DropReason, Requester};
use crate::time::Instant;
use crate::torrent::{HashesError, Metainfo, PieceCheck, Verdict, leaf_hash};
use crate::wire::{BLOCK_LEN, Section};

/// Length of a hash.
const HASH_LEN: usize = 32;
/// Chunks of which one block has the hashes.
const GROUP_CHUNKS: u32 = (BLOCK_LEN / HASH_LEN) as u32;
/// Blocks that are asked for at a time. What is begun next fills it; beyond it pieces are judged
/// whole.
pub(in crate::ordb) const MAX_BEGUN: usize = 4;
/// Blocks that are not asked for again, remembered. Each takes 8 MiB of content to fill; when it
/// is full the first is forgotten, and may be asked for once more.
const MAX_SETTLED: usize = 1024;
/// How long one block may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    begun: BTreeMap<u32, Instant>,
    /// Had, or had from nobody.
    settled: BTreeSet<u32>,
    /// Nobody gives a hybrid's piece layers: it is verified by v1.
    pub(super) no_layers: bool,
}

impl Leaves {
    /// Whether any are awaited.
    pub(super) fn is_awaiting(&self) -> bool {
        !self.begun.is_empty()
    }

    fn settle(&mut self, group: u32) {
        self.begun.remove(&group);
        if self.settled.len() >= MAX_SETTLED {
            self.settled.pop_first();
        }
        self.settled.insert(group);
    }
}

impl Requester {
    /// A piece is about to be asked for: the leaf hashes of its chunks are to come before it.
    pub(super) fn begin_leaves(&mut self, piece: u32) {
        let Some(content) = &self.content else {
            return;
        };
        let chunks = content.metainfo.piece_chunks(piece);
        if !content.verifier.knows_chunk(chunks.start) {
            self.begin_group(chunks.start / GROUP_CHUNKS);
        }
    }

    /// Somebody who is served asks for a block of leaf hashes: it is asked for, if it can be.
    pub fn ask_leaves(&mut self, now: Instant, block: u32) {
        self.now = now;
        if self.leaf_block(block).is_none() && !self.sources.is_empty() {
            self.begin_group(block);
        }
    }

    fn begin_group(&mut self, group: u32) {
        let Some(content) = &self.content else {
            return;
        };
        let unit = Unit::Leaves(group);
        let leaves = &self.leaves;
        let is_over = leaves.settled.contains(&group) || leaves.begun.len() >= MAX_BEGUN;
        if is_over || self.assemblies.contains_key(&unit) {
            return;
        }
        let Some(chunks) = group_chunks(&content.metainfo, group) else {
            return;
        };
        let length = u32::try_from(chunks.len() * HASH_LEN).unwrap_or(0);
        let assembly = Assembly::new(group, std::iter::once(length));
        self.assemblies.insert(unit, assembly);
        self.leaves.begun.insert(group, self.now);
        self.pump_due = true;
    }

    /// A block of leaf hashes is here.
    pub(super) fn judge_leaves(&mut self, unit: Unit, group: u32) {
        let (Some(assembly), Some(content)) = (self.assemblies.get(&unit), &mut self.content)
        else {
            return;
        };
        let metainfo = content.metainfo.clone();
        let Some(chunks) = group_chunks(&metainfo, group) else {
            return;
        };
        let bytes = assembly.blocks().next().unwrap_or_default();
        let mut pieces = Vec::new();
        for piece in pieces_of(&metainfo, &chunks) {
            let place = place_of(&metainfo, &chunks, piece);
            let hashes = bytes.get(place).unwrap_or_default();
            if hashes.iter().all(|byte| *byte == 0) {
                continue;
            }
            match content.verifier.add_leaf_hashes(piece, hashes) {
                Ok(()) => pieces.push(piece),
                // They come yet, or do not: then this is given up.
                Err(HashesError::NeedLayers) => return,
                Err(HashesError::NotApplicable) => {}
                Err(HashesError::Length | HashesError::Wrong) => {
                    let givers = assembly.givers();
                    self.leaves.begun.remove(&group);
                    self.drop_assembly(unit);
                    return self.blame(&givers, DropReason::WrongLeafHashes);
                }
            }
        }
        self.take_assembly(unit);
        self.leaves.settle(group);
        for piece in pieces {
            self.judge_held(piece);
        }
    }

    /// The leaf hashes of a piece are known: what is held of it is judged chunk by chunk.
    fn judge_held(&mut self, piece: u32) {
        let unit = Unit::Piece(piece);
        let (Some(assembly), Some(content)) = (self.assemblies.get_mut(&unit), &self.content)
        else {
            return;
        };
        let mut right = Vec::new();
        let mut wrong = Vec::new();
        for (chunk, bytes, giver) in assembly.unverified() {
            match content.verifier.check_chunk(chunk, &bytes) {
                Verdict::Good => right.push((chunk, bytes)),
                Verdict::Bad => wrong.push(giver),
                Verdict::NeedPiece | Verdict::NeedLayers => {}
            }
        }
        for (chunk, bytes) in right {
            if let Some(assembly) = self.assemblies.get_mut(&unit) {
                assembly.confirm(chunk);
            }
            self.store_chunk(chunk, bytes);
        }
        wrong.dedup();
        self.blame(&wrong, DropReason::WrongBytes { piece });
        self.tell_readers();
        self.advance(unit);
    }

    /// What nobody gives is waited for no longer.
    pub(super) fn give_up_leaves(&mut self) {
        let given_up = |(group, since): (&u32, &Instant)| {
            let is_late = self.now.saturating_since(*since) >= PATIENCE;
            let section = Section::LEAF_HASHES;
            let mut sources = self.sources.values();
            let lacks = sources.all(|source| source.lacks(self.now, section, *group));
            (is_late || lacks).then_some(*group)
        };
        let groups: Vec<u32> = self.leaves.begun.iter().filter_map(given_up).collect();
        for group in groups {
            self.drop_assembly(Unit::Leaves(group));
            self.leaves.settle(group);
        }
        let is_hybrid = self.metainfo().is_some_and(|it| it.v1().is_some());
        if is_hybrid && self.lacks_layers_everywhere() {
            self.drop_assembly(Unit::PieceLayers);
            self.leaves.no_layers = true;
        }
    }

    /// Whether a block of leaf hashes may still come.
    pub(super) fn is_fetching_leaves(&self, block: u32) -> bool {
        self.leaves.begun.contains_key(&block)
    }

    /// A piece was found right: its leaf hashes are kept for whoever asks, those that checking it
    /// brought forth or, of a hybrid that v1 has verified, those of its chunks.
    pub(super) fn keep_leaves<'a>(
        &mut self,
        piece: u32,
        check: Option<&PieceCheck>,
        chunks: impl Iterator<Item = &'a [u8]>,
    ) {
        let Some(content) = &mut self.content else {
            return;
        };
        let is_of_use = content.metainfo.v2().is_some()
            && content.metainfo.chunks_per_piece() > 1
            && content.verifier.leaf_hashes(piece).is_none();
        if !is_of_use {
            return;
        }
        let leaves = match check.and_then(PieceCheck::leaves) {
            Some(leaves) => leaves.to_vec(),
            None => {
                let chunks = chunks.filter(|bytes| !bytes.is_empty());
                chunks.map(leaf_hash).collect()
            }
        };
        content.verifier.keep_leaf_hashes(piece, leaves);
    }

    /// A block of leaf hashes as it is to be served, if any of them are known.
    pub(super) fn leaf_block(&self, group: u32) -> Option<Bytes> {
        let content = self.content.as_ref()?;
        let chunks = group_chunks(&content.metainfo, group)?;
        let mut block = BytesMut::zeroed(chunks.len() * HASH_LEN);
        let mut any = false;
        for piece in pieces_of(&content.metainfo, &chunks) {
            let place = place_of(&content.metainfo, &chunks, piece);
            let known = content.verifier.leaf_hashes(piece);
            if let (Some(known), Some(place)) = (known, block.get_mut(place)) {
                for (hash, place) in known.iter().zip(place.chunks_exact_mut(HASH_LEN)) {
                    place.copy_from_slice(hash);
                    any = true;
                }
            }
        }
        any.then(|| block.freeze())
    }
}

/// The chunks of which a block has the hashes; none where there are none to be had. A piece longer
/// than that is judged whole.
fn group_chunks(metainfo: &Metainfo, group: u32) -> Option<Range<u32>> {
    let is_fit =
        metainfo.v2().is_some() && (2..=GROUP_CHUNKS).contains(&metainfo.chunks_per_piece());
    let start = group.checked_mul(GROUP_CHUNKS).filter(|_| is_fit)?;
    let end = start
        .saturating_add(GROUP_CHUNKS)
        .min(metainfo.chunk_count());
    (start < end).then_some(start..end)
}

fn pieces_of(metainfo: &Metainfo, chunks: &Range<u32>) -> Range<u32> {
    let last = chunks.end.saturating_sub(1);
    metainfo.piece_of(chunks.start)..metainfo.piece_of(last).saturating_add(1)
}

/// Where in a block the hashes of a piece lie.
fn place_of(metainfo: &Metainfo, chunks: &Range<u32>, piece: u32) -> Range<usize> {
    let of_piece = metainfo.piece_chunks(piece);
    let at = |chunk: u32| chunk.saturating_sub(chunks.start) as usize * HASH_LEN;
    at(of_piece.start)..at(of_piece.end)
}
