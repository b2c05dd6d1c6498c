//! What is asked of whom, and when.
//!
//! A source is given a *lease*: a run of whole pieces that nobody else will be asked for, so that
//! sources which must fetch them from a swarm each fetch their own part, and a wrong piece has one
//! giver. Runs are given out in the order in which readers want them, each to the source that is
//! expected to be done with it first; so a slow source gets a run far enough ahead that it is not
//! waited for, and near the end of all demand it gets none.

use crate::order::{Total, ascending_by};
use std::cmp::Reverse;
use std::ops::Range;

use super::super::block_ranges;
use super::assembly::{Assembly, Unit};
use super::reads::{Walk, Wanted, advance_cursors};
use super::source::{Lease, Source};
use super::{Class, Requester, SourceId};
use crate::torrent::CHUNK_LEN;
use crate::wire::{BLOCK_LEN, DbQuery, MAX_ASK_BLOCKS, RelayMessage};

/// A run has at least one piece, and else about so many chunks: half a MiB.
pub(super) const RUN_CHUNKS: u32 = 32;
/// How many runs are looked at for one that this source should be given.
const MAX_LOOKED_AT: usize = 64;
/// On a seek, what is awaited this near ahead of somebody who plays is left alone.
const NEAR_BYTES: u64 = 2 << 20;

impl Requester {
    /// Asks what may be asked.
    pub(super) fn pump_if_due(&mut self) {
        if !std::mem::take(&mut self.pump_due) {
            return;
        }
        if self.paused || self.failure.as_ref().is_some_and(super::Failure::is_final) {
            return;
        }
        self.begin_sections();
        let mut ids: Vec<(SourceId, f64)> = self
            .sources
            .iter()
            .filter(|(_, source)| source.is_askable(self.now))
            .map(|(id, source)| (*id, source.estimate.rate()))
            .collect();
        ids = ascending_by(ids, |(_, rate)| Reverse(Total(*rate)));
        for (id, _) in ids {
            while self.ask_some(id) {}
        }
    }

    /// Asks a source for a few blocks. False if there is nothing to ask or no room to.
    fn ask_some(&mut self, id: SourceId) -> bool {
        if self.is_held_back() {
            return false;
        }
        let Some(source) = self.sources.get_mut(&id) else {
            return false;
        };
        let room = source.room();
        // Not block by block: an ask costs a cell.
        let batch = (source.estimate.window_chunks() as usize / 8).clamp(1, 32);
        if room == 0 || (room < batch && source.awaited_blocks() > 0) {
            return false;
        }
        let Some(lease) = source.leases.front_mut() else {
            return self.lease(id);
        };
        let unit = lease.unit;
        let Some(assembly) = self.assemblies.get_mut(&unit) else {
            source.leases.pop_front();
            return true;
        };
        // Some of it may have come from others meanwhile.
        let skipped = lease
            .slots
            .clone()
            .take_while(|slot| !assembly.is_askable(*slot))
            .count();
        let start = lease.slots.start.saturating_add(skipped);
        let allowed = self.allowance.map_or(u64::MAX, |it| it / CHUNK_LEN as u64);
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX).max(1);
        let most = room.min(usize::from(MAX_ASK_BLOCKS)).min(allowed);
        let count = (start..lease.slots.end)
            .take(most)
            .take_while(|slot| assembly.is_askable(*slot))
            .count();
        let asked = start..start.saturating_add(count);
        assembly.set_leased(lease.slots.start..asked.end, false);
        lease.slots.start = asked.end;
        if lease.slots.is_empty() {
            source.leases.pop_front();
        }
        self.ask(id, unit, asked);
        true
    }

    /// Asks a source for these slots of a unit.
    pub(super) fn ask(&mut self, id: SourceId, unit: Unit, slots: Range<usize>) {
        let (Some(source), Some(assembly)) =
            (self.sources.get_mut(&id), self.assemblies.get_mut(&unit))
        else {
            return;
        };
        let blocks = assembly.block(slots.start)..assembly.block(slots.end);
        for slot in slots {
            if assembly.add_asker(slot, id) {
                let (block, length) = (assembly.block(slot), assembly.length(slot));
                source.handle_asked(self.now, unit, block, length);
                self.asked_bytes = self.asked_bytes.saturating_add(length.into());
                let left = self.allowance.map(|it| it.saturating_sub(length.into()));
                self.allowance = left;
            }
        }
        for range in block_ranges(unit.section(), blocks) {
            self.transmits
                .push_back((id, RelayMessage::DbQuery(DbQuery::Ask(range))));
        }
    }

    /// Gives a source something to ask for. False if there is nothing for it.
    fn lease(&mut self, id: SourceId) -> bool {
        self.lease_section(id) || self.lease_run(id) || self.assist(id)
    }

    /// The metadata and the piece layers, as soon as somebody can be asked for them.
    fn begin_sections(&mut self) {
        let block = BLOCK_LEN as u32;
        let lengths =
            |total: u32| (0..total.div_ceil(block)).map(move |at| (total - at * block).min(block));
        if let Some(content) = &self.content {
            // A hybrid does without, but then no chunk is known alone.
            let is_of_use = content.metainfo.v1().is_none()
                || (content.metainfo.chunks_per_piece() > 1 && !self.leaves.no_layers);
            let needs = is_of_use && content.verifier.lacks_piece_layers();
            let length = u32::try_from(content.verifier.piece_layers_length()).unwrap_or(u32::MAX);
            if needs && length <= self.config.max_metadata_bytes {
                self.assemblies
                    .entry(Unit::PieceLayers)
                    .or_insert_with(|| Assembly::new(0, lengths(length)));
            }
            return;
        }
        // One for each length that is claimed: who claims a wrong one hinders nobody.
        for length in self
            .sources
            .values()
            .filter_map(|source| source.metadata_length)
        {
            self.assemblies
                .entry(Unit::Metadata { length })
                .or_insert_with(|| Assembly::new(0, lengths(length)));
        }
    }

    fn lease_section(&mut self, id: SourceId) -> bool {
        let Some(source) = self.sources.get(&id) else {
            return false;
        };
        let units = self
            .assemblies
            .iter()
            .take_while(|(unit, _)| unit.piece().is_none());
        let found = units
            .filter(|(unit, assembly)| match unit {
                Unit::Metadata { length } => source.metadata_length == Some(*length),
                _ => !source.lacks(self.now, unit.section(), assembly.block(0)),
            })
            .filter(|(_, assembly)| assembly.free() > 0 && may_have(assembly, id))
            .map(|(unit, _)| *unit)
            .next();
        found.is_some_and(|unit| self.lease_all(id, unit))
    }

    /// Sets all that is free of a unit aside for a source.
    fn lease_all(&mut self, id: SourceId, unit: Unit) -> bool {
        let (Some(source), Some(assembly)) =
            (self.sources.get_mut(&id), self.assemblies.get_mut(&unit))
        else {
            return false;
        };
        if !may_have(assembly, id) {
            return false;
        }
        if assembly.is_disputed() {
            // All of it or nothing.
            let blocks = assembly.missing_blocks();
            let mut blocks = blocks.map(|block| source.can_give(self.now, unit.section(), block));
            if !blocks.all(|can| can) {
                return false;
            }
            drop(blocks);
            assembly.solo = Some(id);
        }
        let mut from = 0;
        let mut any = false;
        while let Some(run) = assembly.free_run(from, usize::MAX) {
            // What it was asked for and has not confirmed the end of cannot be asked of it.
            let section = unit.section();
            let usable = |slot: &usize| source.can_give(self.now, section, assembly.block(*slot));
            let Some(start) = run.clone().find(usable) else {
                from = run.end;
                continue;
            };
            let end = (start..run.end)
                .find(|slot| !usable(slot))
                .unwrap_or(run.end);
            assembly.set_leased(start..end, true);
            source.leases.push_back(Lease {
                unit,
                slots: start..end,
            });
            from = end;
            any = true;
        }
        any
    }

    /// The next run of pieces that this source should be given.
    fn lease_run(&mut self, id: SourceId) -> bool {
        let Some(content) = &self.content else {
            return false;
        };
        let metainfo = content.metainfo.clone();
        let read_ahead = self.read_ahead();
        let has_room = self.has_room_beyond();
        let zones = self.reads.zones(&metainfo, read_ahead, &self.asked);
        let (store, assemblies) = (&self.store, &self.assemblies);
        let wanted = |class: Class, piece: u32, for_whom: Option<SourceId>| {
            if class == Class::Beyond && !has_room && for_whom.is_some() {
                return Wanted::EndOfZone;
            }
            if let Some(assembly) = assemblies.get(&Unit::Piece(piece)) {
                let is_free =
                    assembly.free() > 0 && for_whom.is_none_or(|source| may_have(assembly, source));
                return if is_free {
                    Wanted::Yes
                } else {
                    Wanted::NotBefore(piece + 1)
                };
            }
            let chunks = metainfo.piece_chunks(piece);
            let mut missing = store.present().next_missing(chunks.start);
            while missing < chunks.end {
                if !metainfo.is_padding_chunk(missing) {
                    return Wanted::Yes;
                }
                missing = store.present().next_missing(missing.saturating_add(1));
            }
            Wanted::NotBefore(metainfo.piece_of(missing))
        };
        advance_cursors(zones, |class, piece| wanted(class, piece, None));
        let mut walk = Walk::new(zones);

        // When each source would be done with what it has, and how fast it goes on.
        let now = self.now;
        let mut finish: Vec<(SourceId, f64, f64)> = self
            .sources
            .iter()
            .filter(|(_, source)| source.is_askable(now))
            .map(|(id, source)| (*id, source.eta_of(0.0), source.estimate.rate()))
            .collect();
        let Some(source) = self.sources.get(&id) else {
            return false;
        };
        let sources = &self.sources;
        let pieces_a_run = match sources.values().any(Source::lacks_anything) {
            true => 1,
            false => (RUN_CHUNKS / metainfo.chunks_per_piece().max(1)).max(1),
        };
        let mut found = None;
        let mut last = None;
        for _ in 0..MAX_LOOKED_AT {
            let run = walk.next(pieces_a_run, |class, piece| wanted(class, piece, Some(id)));
            let Some((class, pieces)) = run else {
                // All that is wanted will be had from others before this one could.
                last = None;
                break;
            };
            // Whether a source can give anything of it; mostly nobody has said otherwise.
            let unit = Unit::Piece(pieces.start);
            let assembly = assemblies.get(&unit);
            let can = |source: &Source| {
                if !source.lacks_anything() {
                    return true;
                }
                let mut chunks = metainfo.piece_chunks(pieces.start);
                let gives = |chunk| source.can_give(now, unit.section(), chunk);
                match assembly {
                    Some(it) if it.is_disputed() => {
                        chunks.all(|chunk| metainfo.is_padding_chunk(chunk) || gives(chunk))
                    }
                    Some(it) => chunks.any(|chunk| {
                        it.slot_of(chunk).is_some_and(|slot| it.is_free(slot)) && gives(chunk)
                    }),
                    None => chunks.any(|chunk| {
                        !store.contains(chunk) && !metainfo.is_padding_chunk(chunk) && gives(chunk)
                    }),
                }
            };
            if !can(source) {
                continue;
            }
            let bytes = pieces.len() as f64 * f64::from(metainfo.piece_length());
            let best = finish
                .iter_mut()
                .filter(|it| it.0 == id || sources.get(&it.0).is_some_and(can))
                .map(|it| (it.1 + bytes / it.2, it))
                .min_by(|one, other| one.0.total_cmp(&other.0));
            match best {
                Some((done, it)) if it.0 != id => it.1 = done,
                _ => {
                    found = Some((class, pieces));
                    break;
                }
            }
            last = Some((class, pieces));
        }
        let Some((class, pieces)) = found.or(last) else {
            return false;
        };
        let mut any = false;
        for piece in pieces {
            if !self.begin_piece(class, piece) {
                break;
            }
            self.begin_leaves(piece);
            any |= self.lease_all(id, Unit::Piece(piece));
        }
        // Leaf hashes go before the chunks that they judge.
        if self.lease_section(id)
            && let Some(source) = self.sources.get_mut(&id)
        {
            source.leases.rotate_right(1);
            any = true;
        }
        any
    }

    /// Makes an assembly for a piece, if the bound on what is not verified allows.
    fn begin_piece(&mut self, class: Class, piece: u32) -> bool {
        let unit = Unit::Piece(piece);
        if self.assemblies.contains_key(&unit) {
            return true;
        }
        let Some(content) = &self.content else {
            return false;
        };
        let metainfo = content.metainfo.clone();
        let chunks = metainfo.piece_chunks(piece);
        let lengths = chunks.clone().map(|chunk| metainfo.chunk_length(chunk));
        let mut assembly = Assembly::new(chunks.start, lengths);
        let reserved = assembly.reserved_bytes();
        let fits =
            |it: &Self| it.reserved.saturating_add(reserved) <= it.config.max_unverified_bytes;
        while !fits(self) {
            if !self.drop_least_urgent(class, piece) {
                return false;
            }
        }
        for chunk in chunks {
            // What the store kept of it needs not come again.
            if let (Some(bytes), Some(slot)) = (self.store.read(chunk), assembly.slot_of(chunk)) {
                assembly.fill(slot, bytes.clone(), None);
            }
        }
        self.reserved = self.reserved.saturating_add(reserved);
        self.assemblies.insert(unit, assembly);
        true
    }

    /// Drops the piece that is wanted least, if it is wanted less than this one.
    fn drop_least_urgent(&mut self, class: Class, piece: u32) -> bool {
        let urgency = |piece: u32| match self.reads.urgency(piece) {
            Some((class, pieces)) => (0, class, pieces),
            None => (1, Class::Beyond, 0),
        };
        let of_this = self
            .reads
            .urgency(piece)
            .map_or((0, class, 0), |it| (0, it.0, it.1));
        let victim = self
            .assemblies
            .keys()
            .filter_map(|unit| unit.piece())
            .map(|piece| (urgency(piece), piece))
            .max()
            .filter(|(of_that, _)| *of_that > of_this);
        match victim {
            Some((_, piece)) => {
                self.drop_assembly(Unit::Piece(piece));
                self.reads.invalidate();
                true
            }
            None => false,
        }
    }

    /// Somebody who plays jumps: what was set aside is given out anew, and what is awaited but not
    /// near any player does not stand in the way.
    pub(super) fn make_way(&mut self) {
        let Some(content) = &self.content else { return };
        let metainfo = content.metainfo.clone();
        let read_ahead = self.read_ahead();
        self.reads.zones(&metainfo, read_ahead, &self.asked);
        let is_missing = self.reads.iter().any(|(_, read)| {
            !read.padding && !read.is_done() && !self.store.contains(read.chunk())
        });
        if !is_missing {
            return;
        }
        let near = u32::try_from(NEAR_BYTES / u64::from(metainfo.piece_length())).unwrap_or(0);
        let ids: Vec<SourceId> = self.sources.keys().copied().collect();
        for id in ids {
            self.release_leases(id);
            let far: Vec<Unit> = self
                .assemblies
                .keys()
                .copied()
                .filter(|unit| match unit.piece() {
                    None => false,
                    Some(piece) => match self.reads.urgency(piece) {
                        Some((Class::Play, pieces)) => pieces > near,
                        _ => true,
                    },
                })
                .collect();
            // The first is being sent already.
            self.cancel_asks(id, |index, ask| {
                index > 1 && far.binary_search(&ask.unit).is_ok()
            });
        }
    }

    /// How far ahead of each reader is asked: no farther than the store can hold for all.
    pub(super) fn read_ahead(&self) -> u64 {
        let readers = self.reads.iter().count().max(1) as u64;
        self.config
            .read_ahead_bytes
            .min(self.store.cap() / 2 / readers)
            .max(CHUNK_LEN.into())
    }

    /// Whether the store has room for what lies beyond all read-aheads: what is behind the readers
    /// may go, but not all of it.
    fn has_room_beyond(&self) -> bool {
        if let Some(has_room) = self.store.has_room() {
            return has_room;
        }
        let ahead = self
            .store
            .memory_bytes()
            .saturating_sub(self.store.bytes_behind());
        let piece = self
            .content
            .as_ref()
            .map_or(0, |it| u64::from(it.metainfo.piece_length()));
        let all = ahead.saturating_add(self.reserved).saturating_add(piece);
        all <= self.store.cap() / 4 * 3
    }
}

/// Whether a source may be given parts of this: after a dispute one alone may.
pub(super) fn may_have(assembly: &Assembly, source: SourceId) -> bool {
    !assembly.is_disputed() || assembly.solo.is_none_or(|solo| solo == source)
}
