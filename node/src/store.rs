//! The store: verified chunks of torrents, in memory and with the host.
//!
//! What is put in was verified by whoever puts it in ([`crate::ordb`]): a store never holds a byte
//! that was not. A torrent's [`ChunkStore`] keeps in memory what is in use and hands everything to
//! the host ([`StoreWant`]), if the host keeps anything; what is not in memory is asked back. A
//! chunk that neither has is missing again.
//!
//! A host that has one large file uses [`Slab`] to know what lies where in it, what may be claimed
//! after a crash, and what goes when it is full.

mod checksum;
mod chunks;
mod memory;
mod ranges;
mod slab;

pub use checksum::xxh64;
pub use chunks::{ChunkStore, ChunkWant, MAX_LOADS, MAX_WRITES};
pub use memory::MemoryStore;
pub use ranges::RangeSet;
pub use slab::{Claim, Commit, PAGE_CHUNKS, Page, Slab, SlabError, Slot, StoredName, Written};

use std::ops::Range;

use bytes::Bytes;

use crate::ids::TorrentId;

/// What the node wants of a host that keeps chunks ([`crate::node::Node::set_host_store`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreWant {
    /// Keep these verified bytes; answered by [`StoreAnswer::Written`].
    Write {
        /// Of which torrent.
        torrent: TorrentId,
        /// Which chunk.
        chunk: u32,
        /// All of it.
        bytes: Bytes,
    },
    /// Give back what was kept; answered by [`StoreAnswer::Read`].
    Read {
        /// Of which torrent.
        torrent: TorrentId,
        /// Which chunk.
        chunk: u32,
    },
}

/// What a host that keeps chunks answers, or says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAnswer {
    /// A chunk can be read back from now on; or it cannot, for there is no room.
    Written {
        /// Of which torrent.
        torrent: TorrentId,
        /// Which chunk.
        chunk: u32,
        /// Whether it was kept.
        kept: bool,
    },
    /// A chunk that was asked for, whole and checked against what was written; nothing if it is
    /// lost.
    Read {
        /// Of which torrent.
        torrent: TorrentId,
        /// Which chunk.
        chunk: u32,
        /// Its bytes.
        bytes: Option<Bytes>,
    },
    /// The host let these go, to make room or because they were found damaged.
    Gone {
        /// Of which torrent.
        torrent: TorrentId,
        /// Which chunks.
        chunks: Range<u32>,
    },
    /// There is room again.
    Room,
}
