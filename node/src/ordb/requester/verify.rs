//! Blocks come, units become whole, and are verified; whoever gave wrong bytes is found.
//!
//! What one source alone gave and is wrong is that source's doing. If several gave it, the hash of
//! every block is noted with its giver, the whole is asked again of one source alone, and once it
//! is right, those whose blocks differ from it are to blame.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::MAX_VERIFIED_EVENTS;
use super::assembly::{Assembly, Giver, Unit};
use super::source::Ask;
use super::{Content, DropReason, Failure, Requester, RequesterEvent, SourceFailure, SourceId};
use crate::torrent::{Metainfo, Verdict, Verifier};
use crate::wire::{DbEndReason, Tried};

impl Requester {
    /// A block of a source is whole.
    pub(super) fn handle_block(&mut self, id: SourceId, ask: &Ask, bytes: Bytes) {
        let length = bytes.len() as u64;
        let giver = self.sources.get(&id).map(|source| source.giver(id));
        let (Some(assembly), Some(giver)) = (self.assemblies.get_mut(&ask.unit), giver) else {
            self.wasted = self.wasted.saturating_add(length);
            return;
        };
        let Some(slot) = assembly.slot_of(ask.block) else {
            return;
        };
        assembly.remove_asker(slot, id);
        let is_alone = !assembly.is_disputed() || assembly.solo == Some(id);
        if !is_alone || assembly.is_held(slot) {
            self.wasted = self.wasted.saturating_add(length);
            return;
        }
        // A chunk that can be judged alone is.
        let mut known = false;
        if let (Unit::Piece(piece), Some(content)) = (ask.unit, &self.content)
            && assembly.len() > 1
            && content.verifier.knows_chunk(ask.block)
        {
            match content.verifier.check_chunk(ask.block, &bytes) {
                Verdict::Good => known = true,
                Verdict::Bad => {
                    self.wasted = self.wasted.saturating_add(length);
                    return self.drop_router(giver.router, DropReason::WrongBytes { piece });
                }
                Verdict::NeedPiece | Verdict::NeedLayers => {}
            }
        }
        let others: Vec<SourceId> = assembly.askers(slot).collect();
        assembly.fill(slot, bytes.clone(), (!known).then_some(giver));
        for other in others {
            self.cancel_asks(other, |_, it| it.unit == ask.unit && it.block == ask.block);
        }
        if known {
            self.store_chunk(ask.block, bytes);
            self.tell_readers();
        }
        self.advance(ask.unit);
    }

    /// Hashes what can be hashed of a unit, and judges it if it is whole.
    pub(super) fn advance(&mut self, unit: Unit) {
        let Some(assembly) = self.assemblies.get_mut(&unit) else {
            return;
        };
        if let (Unit::Piece(piece), Some(content)) = (unit, &self.content) {
            assembly.advance_check(&content.verifier, piece);
        }
        if assembly.missing() > 0 {
            return;
        }
        match unit {
            Unit::Metadata { .. } => self.judge_metadata(unit),
            Unit::PieceLayers => self.judge_layers(unit),
            Unit::Leaves(group) => self.judge_leaves(unit, group),
            Unit::Piece(piece) => self.judge_piece(unit, piece),
        }
    }

    fn judge_metadata(&mut self, unit: Unit) {
        let Some(assembly) = self.assemblies.get(&unit) else {
            return;
        };
        let bytes = joined(assembly);
        match Metainfo::from_info(bytes, &self.magnet) {
            Err(error) if error.is_senders_fault() => {
                self.handle_wrong(unit, DropReason::WrongMetadata);
            }
            Err(error) => self.fail(Failure::Metadata(error)),
            Ok(metainfo) => {
                let metainfo = Arc::new(metainfo);
                let liars = assembly.liars();
                let length = metainfo.info().len() as u64;
                self.take_assembly(unit);
                let units: Vec<Unit> = self.assemblies.keys().copied().collect();
                for unit in units {
                    self.drop_assembly(unit);
                }
                self.set_metainfo(Arc::clone(&metainfo));
                self.blame(&liars, DropReason::WrongMetadata);
                let claimed = self.sources.values().filter_map(|source| {
                    let other = source.metadata_length.filter(|it| u64::from(*it) != length);
                    other.map(|_| source.router)
                });
                for router in claimed.collect::<Vec<_>>() {
                    self.drop_router(router, DropReason::WrongMetadata);
                }
                self.events.push_back(RequesterEvent::Metadata(metainfo));
            }
        }
    }

    /// The metadata is known: what its torrent needs that we have not ends it here.
    pub(super) fn set_metainfo(&mut self, metainfo: Arc<Metainfo>) {
        let mut verifier = Verifier::new(Arc::clone(&metainfo));
        verifier.set_max_leaves(self.config.max_leaves);
        let piece_length = metainfo.piece_length();
        let limit = self
            .config
            .max_unverified_bytes
            .min(self.config.max_store_bytes / 2);
        let layers_length = verifier.piece_layers_length();
        let needs_layers = metainfo.v1().is_none() && verifier.lacks_piece_layers();
        self.store.set_metainfo(Arc::clone(&metainfo));
        self.content = Some(Content { metainfo, verifier });
        if u64::from(piece_length) > limit {
            self.fail(Failure::PieceTooLarge {
                piece_length,
                limit,
            });
        } else if needs_layers && layers_length > self.config.max_metadata_bytes as usize {
            self.fail(Failure::NoPieceLayers);
        }
    }

    fn judge_layers(&mut self, unit: Unit) {
        let (Some(assembly), Some(content)) = (self.assemblies.get(&unit), &mut self.content)
        else {
            return;
        };
        if content.verifier.add_piece_layers(joined(assembly)).is_err() {
            return self.handle_wrong(unit, DropReason::WrongPieceLayers);
        }
        let liars = assembly.liars();
        self.take_assembly(unit);
        self.blame(&liars, DropReason::WrongPieceLayers);
        // Pieces that were whole already have waited for this.
        let units: Vec<Unit> = self.assemblies.keys().copied().collect();
        for unit in units {
            self.advance(unit);
        }
    }

    fn judge_piece(&mut self, unit: Unit, piece: u32) {
        let (Some(assembly), Some(content)) = (self.assemblies.get_mut(&unit), &self.content)
        else {
            return;
        };
        let verifier = &content.verifier;
        let mut checked = None;
        if !assembly.is_all_known() {
            if !verifier.can_check_piece(piece) {
                return;
            }
            checked = assembly.take_check();
            let verdict = match checked.clone() {
                Some(check) => verifier.finish_piece(check),
                None => verifier.check_piece(piece, assembly.blocks()),
            };
            match verdict {
                Verdict::Good => {}
                Verdict::Bad if verifier.is_contradiction(piece, assembly.blocks()) => {
                    return self.fail(Failure::Contradiction);
                }
                Verdict::Bad => {
                    return self.handle_wrong(unit, DropReason::WrongBytes { piece });
                }
                Verdict::NeedPiece | Verdict::NeedLayers => return,
            }
        }
        let liars = assembly.liars();
        if let Some(assembly) = self.take_assembly(unit) {
            self.keep_leaves(piece, checked.as_ref(), assembly.blocks());
            for (chunk, bytes) in assembly.into_blocks() {
                if !bytes.is_empty() && !self.store.contains(chunk) {
                    self.store_chunk(chunk, bytes);
                }
            }
        }
        self.tell_readers();
        self.blame(&liars, DropReason::WrongBytes { piece });
    }

    /// A unit is whole and wrong.
    fn handle_wrong(&mut self, unit: Unit, why: DropReason) {
        let Some(assembly) = self.assemblies.get_mut(&unit) else {
            return;
        };
        let wrong_bytes = assembly.held_bytes();
        self.wasted = self.wasted.saturating_add(wrong_bytes);
        let givers = assembly.givers();
        let mut routers: Vec<_> = givers.iter().map(|giver| giver.router).collect();
        routers.dedup();
        if routers.len() > 1 {
            assembly.dispute = assembly.testimony();
        }
        assembly.solo = None;
        assembly.forget(|giver| giver.is_some());
        self.handle_demand_changed();
        if let [router] = routers.as_slice() {
            self.drop_router(*router, why);
        }
    }

    pub(super) fn blame(&mut self, liars: &[Giver], why: DropReason) {
        for liar in liars {
            let is_here = self
                .sources
                .values()
                .any(|source| source.router == liar.router);
            if !is_here && !self.dropped_routers.contains(&liar.router) {
                let Giver { source, router } = *liar;
                self.events.push_back(RequesterEvent::SourceDropped {
                    source,
                    router,
                    why,
                });
            }
            self.drop_router(liar.router, why);
        }
    }

    /// Puts a verified chunk into the store.
    pub(super) fn store_chunk(&mut self, chunk: u32, bytes: Bytes) {
        self.verified_in_all = self.verified_in_all.saturating_add(bytes.len() as u64);
        self.asked.handle_verified(chunk, &bytes);
        if self.store.insert(chunk, bytes) {
            // What went may be wanted again.
            self.reads.invalidate();
        }
        let end = chunk.saturating_add(1);
        if let Some(RequesterEvent::Verified { chunks }) = self.events.back_mut()
            && chunks.end == chunk
        {
            chunks.end = end;
        } else if self.events.len() < MAX_VERIFIED_EVENTS {
            self.events
                .push_back(RequesterEvent::Verified { chunks: chunk..end });
        }
    }

    pub(super) fn tell_readers(&mut self) {
        let events = &mut self.events;
        self.reads.take_readable(&self.store, |id| {
            events.push_back(RequesterEvent::Readable(id))
        });
    }

    /// Takes a unit out, and asks nobody for it any longer.
    pub(super) fn take_assembly(&mut self, unit: Unit) -> Option<Assembly> {
        let ids: Vec<SourceId> = self.sources.keys().copied().collect();
        for id in ids {
            let Some(source) = self.sources.get_mut(&id) else {
                continue;
            };
            source.leases.retain(|lease| lease.unit != unit);
            if source
                .awaited()
                .any(|ask| ask.unit == unit && !ask.cancelled)
            {
                self.cancel_asks(id, |_, ask| ask.unit == unit);
            }
        }
        let assembly = self.assemblies.remove(&unit)?;
        if unit.piece().is_some() {
            self.reserved = self.reserved.saturating_sub(assembly.reserved_bytes());
        }
        Some(assembly)
    }

    pub(super) fn drop_assembly(&mut self, unit: Unit) {
        if let Some(assembly) = self.take_assembly(unit) {
            self.wasted = self.wasted.saturating_add(assembly.held_bytes());
        }
    }

    /// It cannot be had: everybody who waits is told.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.failure.is_some() {
            return;
        }
        self.failure = Some(failure.clone());
        self.events.push_back(RequesterEvent::Failed(failure));
        let events = &mut self.events;
        self.reads
            .take_waiting(|id| events.push_back(RequesterEvent::Readable(id)));
    }

    /// Whether nobody is left who could give what is wanted.
    pub(super) fn check_failure(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let needs_layers = self.metainfo().is_some_and(|it| it.v1().is_none());
        if needs_layers && self.lacks_layers_everywhere() {
            return self.fail(Failure::NoPieceLayers);
        }
        let refused = self.refusals.len();
        let waited = self.now.saturating_since(self.last_refusal) >= self.config.patience;
        let is_enough = refused > 0 && (refused >= self.config.sources_wanted || waited);
        // Sources that are busy count as there: they are asked again.
        if !self.sources.is_empty() || !is_enough {
            return;
        }
        let failure = self.failure_of_refusals();
        let may_come = matches!(failure, Failure::Gone { .. } | Failure::NotFound { .. });
        if may_come && self.now.saturating_since(self.given) < self.config.persistence {
            return;
        }
        self.fail(failure);
    }

    /// What all the refusals come to.
    fn failure_of_refusals(&self) -> Failure {
        let sources = self.refusals.len();
        let too_large = self.refusals.values().filter_map(|why| match why {
            SourceFailure::MetadataTooLarge { length } => Some(*length),
            _ => None,
        });
        if let Some(length) = too_large.max() {
            return Failure::MetadataTooLarge {
                length,
                limit: self.config.max_metadata_bytes,
            };
        }
        let reasons = self.refusals.values().filter_map(|why| match why {
            SourceFailure::Refused { reason, .. } => Some(*reason),
            _ => None,
        });
        if reasons
            .clone()
            .any(|reason| reason == DbEndReason::TOO_LARGE)
        {
            return Failure::TooLargeForSources { sources };
        }
        if self.content.is_some() {
            return Failure::Gone { sources };
        }
        let tried = self.refusals.values().filter_map(|why| match why {
            SourceFailure::Refused { tried, .. } => *tried,
            _ => None,
        });
        let tried = tried.fold(Tried::default(), |sum, tried| Tried {
            seconds: sum.seconds.max(tried.seconds),
            dht_nodes: sum.dht_nodes.saturating_add(tried.dht_nodes),
            trackers: sum.trackers.saturating_add(tried.trackers),
            peers: sum.peers.saturating_add(tried.peers),
        });
        let after = self.now.saturating_since(self.started);
        Failure::NotFound {
            sources,
            tried,
            after,
        }
    }
}

fn joined(assembly: &Assembly) -> Bytes {
    let mut bytes = BytesMut::with_capacity(assembly.blocks().map(<[u8]>::len).sum());
    for block in assembly.blocks() {
        bytes.extend_from_slice(block);
    }
    bytes.freeze()
}
