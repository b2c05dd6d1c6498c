//! What would come too late is asked of another source.
//!
//! Two means. What a source has set aside but not asked for is taken over by one that would be
//! done sooner ([`Requester::assist`]); what it was asked for is asked a second time, and the
//! first to come wins. Both are done for what a reader waits for and for the metadata, and for
//! everything when a source has nothing else to do.

use crate::order::{Total, ascending_by};
use std::cmp::Reverse;
use std::ops::Range;

use super::assembly::Unit;
use super::schedule::may_have;
use super::source::Lease;
use super::{Requester, SourceId};
use crate::torrent::CHUNK_LEN;

/// Fewer blocks are not worth taking over.
const MIN_ASSIST: f64 = 2.0;
/// A second asking must be expected to be sooner by this factor…
const SOONER: f64 = 1.5;
/// … and by so many seconds.
const SOONER_SECONDS: f64 = 0.1;
/// Blocks asked a second time in one tick.
const MAX_RESCUED: usize = 64;
/// Blocks that may be asked of a source above its window when somebody waits for them.
const OVER_WINDOW: usize = 8;

impl Requester {
    /// Compares the sources for all that somebody waits for.
    pub(super) fn rescue_late(&mut self) {
        if self.sources.len() < 2 {
            return;
        }
        let urgent = self.urgent_units();
        let ids: Vec<SourceId> = self
            .sources
            .iter()
            .filter(|(_, source)| source.is_askable(self.now))
            .map(|(id, _)| *id)
            .collect();
        for unit in urgent {
            for id in &ids {
                self.take_over(*id, Some(unit));
            }
            self.ask_again(&ids, Some(unit));
        }
        let idle: Vec<SourceId> = ids
            .into_iter()
            .filter(|id| {
                let source = self.sources.get(id);
                source
                    .is_some_and(|source| source.awaited_blocks() == 0 && source.leases.is_empty())
            })
            .collect();
        if !idle.is_empty() {
            self.ask_again(&idle, None);
        }
    }

    /// A source that has nothing to do takes over what another has not asked for yet.
    pub(super) fn assist(&mut self, id: SourceId) -> bool {
        self.take_over(id, None)
    }

    /// What somebody waits for now.
    fn urgent_units(&self) -> Vec<Unit> {
        let sections = self
            .assemblies
            .keys()
            .copied()
            .take_while(|unit| unit.piece().is_none());
        let waited = self.reads.waited_chunks().filter_map(|chunk| {
            let piece = self.content.as_ref()?.metainfo.piece_of(chunk);
            Some(Unit::Piece(piece)).filter(|unit| self.assemblies.contains_key(unit))
        });
        let mut units: Vec<Unit> = sections.chain(waited).collect();
        units.dedup();
        units
    }

    /// Takes the tail of a lease over, so long that both are done at the same time.
    fn take_over(&mut self, id: SourceId, only: Option<Unit>) -> bool {
        let chunk = f64::from(CHUNK_LEN);
        let Some(source) = self.sources.get(&id) else {
            return false;
        };
        let rate = source.estimate.rate();
        // What is urgent goes before what it has set aside.
        let busy =
            source.estimate.delay().as_secs_f64() + source.awaited_blocks() as f64 * chunk / rate;
        let mut best: Option<(f64, SourceId, Unit, Range<usize>)> = None;
        for (other_id, other) in self.sources.iter().filter(|(other, _)| **other != id) {
            let mut before = other.awaited_blocks() as f64 * chunk;
            for lease in &other.leases {
                before += lease.slots.len() as f64 * chunk;
                if only.is_some_and(|only| only != lease.unit) || !self.can_give(id, lease) {
                    continue;
                }
                let done = before / other.estimate.rate();
                let count = (done - busy) / (chunk / rate + chunk / other.estimate.rate());
                if count < MIN_ASSIST || best.as_ref().is_some_and(|(best, ..)| *best >= count) {
                    continue;
                }
                // A cast from a float saturates.
                let count_slots = (count as usize).min(lease.slots.len());
                let start = lease.slots.end.saturating_sub(count_slots);
                best = Some((count, *other_id, lease.unit, start..lease.slots.end));
            }
        }
        let Some((_, other, unit, slots)) = best else {
            return false;
        };
        if let Some(other) = self.sources.get_mut(&other) {
            for lease in other.leases.iter_mut().filter(|lease| lease.unit == unit) {
                if lease.slots.end == slots.end {
                    lease.slots.end = slots.start;
                }
            }
            other.leases.retain(|lease| !lease.slots.is_empty());
        }
        if let Some(source) = self.sources.get_mut(&id) {
            source.leases.push_front(Lease { unit, slots });
        }
        self.pump_due = true;
        true
    }

    fn can_give(&self, id: SourceId, lease: &Lease) -> bool {
        let (Some(source), Some(assembly)) =
            (self.sources.get(&id), self.assemblies.get(&lease.unit))
        else {
            return false;
        };
        let is_its_length = match lease.unit {
            Unit::Metadata { length } => source.metadata_length == Some(length),
            Unit::PieceLayers | Unit::Leaves(_) | Unit::Piece(_) => true,
        };
        let section = lease.unit.section();
        is_its_length
            && !assembly.is_disputed()
            && lease
                .slots
                .clone()
                .all(|slot| source.can_give(self.now, section, assembly.block(slot)))
    }

    /// Asks blocks a second time, the latest first.
    fn ask_again(&mut self, ids: &[SourceId], only: Option<Unit>) {
        let chunk = f64::from(CHUNK_LEN);
        let mut late: Vec<(f64, SourceId, Unit, u32)> = Vec::new();
        for (id, source) in &self.sources {
            let silent = source
                .silent_for(self.now)
                .unwrap_or_default()
                .as_secs_f64();
            let awaited = source.awaited().filter(|ask| !ask.cancelled);
            for (place, ask) in awaited.enumerate() {
                if only.is_some_and(|only| only != ask.unit) {
                    continue;
                }
                let eta = (place + 1) as f64 * chunk / source.estimate.rate();
                // Who is silent now will perhaps be so for as long again.
                late.push((eta.max(silent), *id, ask.unit, ask.block));
            }
        }
        late = ascending_by(late, |(eta, ..)| Reverse(Total(*eta)));
        for (eta, from, unit, block) in late.into_iter().take(MAX_RESCUED) {
            let Some(assembly) = self.assemblies.get(&unit) else {
                continue;
            };
            let Some(slot) = assembly.slot_of(block) else {
                continue;
            };
            if assembly.askers(slot).count() != 1 || assembly.is_disputed() {
                continue;
            }
            let best = ids
                .iter()
                .filter(|id| **id != from && may_have(assembly, **id))
                .filter_map(|id| Some((*id, self.sources.get(id)?)))
                .filter(|(id, source)| {
                    let room = source.room() + if only.is_some() { OVER_WINDOW } else { 0 };
                    let lease = Lease {
                        unit,
                        slots: slot..slot.saturating_add(1),
                    };
                    room > 0 && self.can_give(*id, &lease)
                })
                .map(|(id, source)| {
                    let awaited = (source.awaited_blocks() + 1) as f64 * chunk;
                    let done =
                        source.estimate.delay().as_secs_f64() + awaited / source.estimate.rate();
                    (done, id)
                })
                .min_by(|one, other| one.0.total_cmp(&other.0));
            if let Some((done, id)) = best
                && done * SOONER + SOONER_SECONDS < eta
            {
                self.ask(id, unit, slot..slot.saturating_add(1));
            }
        }
    }

    /// Whether the piece layers are wanted and every source has said that it has not got them.
    pub(super) fn lacks_layers_everywhere(&self) -> bool {
        let Some(assembly) = self.assemblies.get(&Unit::PieceLayers) else {
            return false;
        };
        let section = Unit::PieceLayers.section();
        !self.sources.is_empty()
            && self
                .sources
                .values()
                .all(|source| source.lacks(self.now, section, assembly.block(0)))
    }
}
