//! Where the store meets its host: what is handed down, what comes back, what was there before.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::{ChunkWant, Requester, SourceId};
use crate::time::Instant;

/// How long a host that had no room is left alone before it is handed one chunk again. It says so
/// itself when it lets something go; what others on its disk do it cannot know.
const ROOM_AGAIN: Duration = Duration::from_secs(30);

impl Requester {
    /// From now on there is a host that keeps chunks.
    pub fn set_hosted(&mut self) {
        self.store.set_hosted();
    }

    /// The host has these chunks, from an earlier session or because it has the files.
    pub fn restore(&mut self, now: Instant, chunks: impl IntoIterator<Item = Range<u32>>) {
        self.now = now;
        self.store.restore(chunks);
        self.handle_demand_changed();
    }

    /// Whether all of the torrent is wanted, whoever reads: what readers want goes before.
    pub fn set_wanted(&mut self, now: Instant, wanted: bool) {
        self.now = now;
        self.reads.set_whole(wanted);
        self.handle_demand_changed();
    }

    /// Stops asking, for readers too, or goes on. What is here is read and served all the same.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        self.now = now;
        self.paused = paused;
        if paused {
            let ids: Vec<SourceId> = self.sources.keys().copied().collect();
            for id in ids {
                self.release_leases(id);
                self.cancel_asks(id, |_, _| true);
            }
        }
        self.handle_demand_changed();
    }

    /// How many bytes may be asked for until this is told anew; none is no limit.
    pub fn set_allowance(&mut self, bytes: Option<u64>) {
        self.pump_due |= self.is_held_back() && bytes != Some(0);
        self.allowance = bytes;
    }

    /// Whether more could be asked for than is allowed.
    pub fn is_held_back(&self) -> bool {
        self.allowance == Some(0)
    }

    /// How many bytes were asked for since this was last called.
    pub fn take_asked_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.asked_bytes)
    }

    /// Whether all of it is wanted.
    pub fn is_wanted(&self) -> bool {
        self.reads.wants_whole()
    }

    /// Whether it was told to stop asking.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether every chunk is here.
    pub fn is_complete(&self) -> bool {
        self.content.as_ref().is_some_and(|content| {
            self.store.present().len() >= content.metainfo.content_chunk_count()
        })
    }

    /// What is wanted of the host next.
    pub fn poll_store(&mut self) -> Option<ChunkWant> {
        self.store.poll_want()
    }

    /// The host has written a chunk, or has no room for it.
    pub fn handle_written(&mut self, now: Instant, chunk: u32, kept: bool) {
        self.now = now;
        if self.store.handle_written(chunk, kept) {
            self.handle_demand_changed();
        }
        self.room_at = match self.store.is_full() {
            true if kept => self.room_at,
            true => now + ROOM_AGAIN,
            false => Instant::FAR_FUTURE,
        };
        // There is room for another.
        self.pump_due = true;
    }

    /// The host gives a chunk back; or it is lost, and is asked of the sources again.
    pub fn handle_loaded(&mut self, now: Instant, chunk: u32, bytes: Option<Bytes>) {
        self.now = now;
        match self.store.handle_read(chunk, bytes) {
            Some(bytes) => self.asked.handle_verified(chunk, &bytes),
            None => self.handle_demand_changed(),
        }
        self.tell_readers();
        // A reader whose chunk found no place among those to be loaded tries again.
        let asked = self.asked.runs().flatten();
        let waited: Vec<u32> = self.reads.waited_chunks().chain(asked).collect();
        for chunk in waited {
            self.store.load(chunk);
        }
    }

    /// The host has let chunks go.
    pub fn handle_gone(&mut self, now: Instant, chunks: Range<u32>) {
        self.now = now;
        if self.store.handle_gone(chunks) {
            self.handle_demand_changed();
        }
    }

    /// Whether the host has no room, so that no more is fetched than memory holds.
    pub fn is_full(&self) -> bool {
        self.store.is_full()
    }

    /// The host may have room again.
    pub fn handle_room(&mut self, now: Instant) {
        self.now = now;
        self.store.handle_room();
        self.handle_demand_changed();
    }
}
