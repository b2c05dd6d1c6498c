//! Getters: how far it has come, and by whom.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::source::{Source, SourceState};
use super::{Failure, Progress, Requester, SourceStats};
use crate::store::ChunkStore;
use crate::torrent::{CHUNK_LEN, Magnet, Metainfo};

impl Requester {
    /// What is fetched.
    pub fn magnet(&self) -> &Magnet {
        &self.magnet
    }

    /// The metadata, once it is known.
    pub fn metainfo(&self) -> Option<&Arc<Metainfo>> {
        self.content.as_ref().map(|content| &content.metainfo)
    }

    /// The piece layers, once they are here and checked.
    pub fn piece_layers(&self) -> Option<&Bytes> {
        self.content.as_ref()?.verifier.piece_layers()
    }

    /// Why it cannot be had, if it cannot.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The verified chunks.
    pub fn store(&self) -> &ChunkStore {
        &self.store
    }

    /// How far it has come, as of the last call that told the time.
    pub fn progress(&self) -> Progress {
        Progress {
            total_bytes: self
                .metainfo()
                .map_or(0, |metainfo| metainfo.total_length()),
            verified_bytes: self.store.bytes(),
            verified_in_all_bytes: self.verified_in_all,
            wasted_bytes: self.wasted,
            rate_bytes_per_second: self.received.rate(self.now),
        }
    }

    /// The verified bytes in the store, as ranges of the chunk space.
    pub fn verified(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let chunk = u64::from(CHUNK_LEN);
        let end = self
            .metainfo()
            .map_or(0, |metainfo| metainfo.space_length());
        let runs = self.store.present().iter();
        runs.map(move |run| u64::from(run.start) * chunk..(u64::from(run.end) * chunk).min(end))
    }

    /// The verified bytes of a file, as ranges of the file.
    pub fn verified_of_file(&self, file: usize) -> Vec<Range<u64>> {
        let Some(file) = self
            .metainfo()
            .and_then(|metainfo| metainfo.files().get(file))
        else {
            return Vec::new();
        };
        self.verified()
            .map(|range| {
                let within = |at: u64| at.saturating_sub(file.offset).min(file.length);
                within(range.start)..within(range.end)
            })
            .filter(|range| !range.is_empty())
            .collect()
    }

    /// The sources, as they do now.
    pub fn sources(&self) -> impl Iterator<Item = SourceStats> + '_ {
        self.sources.iter().map(|(id, source)| SourceStats {
            source: *id,
            router: source.router,
            state: self.state_of(source),
            // A cast from a float saturates.
            rate_bytes_per_second: if source.estimate.is_measured() {
                source.estimate.rate() as u64
            } else {
                0
            },
            delay: source.estimate.delay(),
            window_chunks: source.estimate.window_chunks(),
            awaited_chunks: source.awaited_blocks(),
            unanswered_chunks: source.awaited().count(),
            delivered_bytes: source.estimate.delivered(),
        })
    }

    /// Bytes held that are not verified: pieces being put together and parts of blocks.
    pub fn unverified_bytes(&self) -> u64 {
        let held: u64 = self
            .assemblies
            .values()
            .map(|assembly| assembly.held_bytes())
            .sum();
        let partial: u64 = self.sources.values().map(Source::partial_bytes).sum();
        held.saturating_add(partial)
    }

    /// All that is going on, for a failed test's output.
    #[cfg(test)]
    pub(in crate::ordb) fn describe(&self) -> String {
        let mut text = format!("reserved {}\n", self.reserved);
        for (unit, it) in &self.assemblies {
            text += &format!(
                "{unit:?}: {} missing of {}, {} free, solo {:?}, disputed {}\n",
                it.missing(),
                it.len(),
                it.free(),
                it.solo,
                it.dispute.len()
            );
        }
        for (id, source) in &self.sources {
            let leases: Vec<_> = source.leases.iter().collect();
            text += &format!("{id:?}: {:?} leases {leases:?}\n", source.state);
        }
        text + &format!("{:?}", self.reads)
    }

    fn state_of(&self, source: &Source) -> &'static str {
        match source.state {
            SourceState::AwaitConnected { .. } => "searching",
            SourceState::AwaitRetry { .. } => "waiting",
            SourceState::Open if source.stalled.is_some() => "stalled",
            SourceState::Open if source.rests_until > self.now => "resting",
            SourceState::Open if source.awaited_blocks() > 0 => "sending",
            SourceState::Open => "idle",
        }
    }
}
