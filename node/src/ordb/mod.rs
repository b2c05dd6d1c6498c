//! The ORDB protocol: asking content of ORDBs, verified chunk by chunk, and answering.
//!
//! [`Requester`] fetches one torrent from several [sources](SourceId) at once; [`Server`] answers
//! many requesters from what its host offers. Neither does I/O or knows circuits: the node gives
//! each its relay messages and takes theirs.
//!
//! What this module adds to the layouts in [`crate::wire`]:
//! - Each DB_QUERY OPEN begins a stream. A DB_END without a scope, from either side, ends it; who
//!   wants to go on opens another.
//! - Blocks come in the order in which they were asked for. A block that cannot be given is
//!   skipped, after a DB_END that names it.
//! - Who cancels (DB_END with a scope, from the requester) is answered by DB_END CANCELLED of the
//!   same scope; after it none of these blocks comes on account of what was asked before. Until
//!   then they are not asked of this ORDB again.

mod requester;
mod server;

#[cfg(test)]
mod tests;

pub use requester::{
    Config, Demand, DropReason, Failure, MAX_WINDOW_CHUNKS, MIN_WINDOW_CHUNKS, Progress, Read,
    ReadError, Requester, RequesterEvent, SourceFailure, SourceId, SourceStats,
};
pub use server::{
    ContentAnswer, ContentWant, FIRST_COUNTERS, LINGER, MAX_AHEAD_BLOCKS, MAX_CIRCUIT_MESSAGES,
    MAX_COUNTER, MAX_QUEUED_BLOCKS, MAX_STREAMS_PER_CIRCUIT, Overrun, Server, ServerConfig,
    StreamKey,
};

use std::ops::Range;

use crate::wire::{BlockRange, MAX_ASK_BLOCKS, Section};

/// Readers of one torrent at a time. A page fills it by opening reads and not closing them; the
/// next one is refused.
pub const MAX_READS: usize = 256;

/// Sources of one torrent at a time. The node fills it; the next one is refused.
pub const MAX_SOURCES: usize = 16;

/// Blocks as messages name them.
fn block_ranges(section: Section, blocks: Range<u32>) -> impl Iterator<Item = BlockRange> {
    let Range { mut start, end } = blocks;
    std::iter::from_fn(move || {
        let left = end.checked_sub(start).filter(|left| *left > 0)?;
        let count = u16::try_from(left).unwrap_or(u16::MAX).min(MAX_ASK_BLOCKS);
        let range = BlockRange {
            section,
            first: start,
            count,
        };
        start = start.saturating_add(count.into());
        Some(range)
    })
}
