//! What a requester tells its user, and is told.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::{Ed25519Id, ReadId};
use crate::torrent::{Metainfo, MetainfoError};
use crate::wire::{DbEndReason, Tried};

/// One circuit's stream to an ORDB, as the node and its requester name it to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u64);

/// The limits of one requester.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest info dictionary (and the longest piece layers) that will be fetched.
    pub max_metadata_bytes: u32,
    /// How far ahead of a reader chunks are asked before anything else.
    pub read_ahead_bytes: u64,
    /// The most bytes held that are not verified yet; a torrent needs room for one piece.
    pub max_unverified_bytes: u64,
    /// The most verified bytes held; a torrent needs room for two pieces.
    pub max_store_bytes: u64,
    /// Chunks whose leaf hashes are kept at most, for whoever asks.
    pub max_leaves: usize,
    /// How many ORDBs must say that they have not found it before it counts as not found, unless
    /// no others come.
    pub sources_wanted: usize,
    /// How long a source may take to find the metadata.
    pub open_timeout: Duration,
    /// How long other sources are waited for after the last one has refused.
    pub patience: Duration,
    /// How long it is looked for at least, from the beginning on and since something of it came, however
    /// soon all refuse: who has it may only be on his way to those who are asked.
    pub persistence: Duration,
    /// What an OPEN's counter begins with; smaller after each LOOP.
    pub counter: u8,
    /// It asks for others: its counter is not its own to make smaller.
    pub relays: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_metadata_bytes: 16 << 20,
            read_ahead_bytes: 32 << 20,
            max_unverified_bytes: 64 << 20,
            max_store_bytes: 256 << 20,
            max_leaves: usize::MAX,
            sources_wanted: 1,
            open_timeout: Duration::from_secs(90),
            patience: Duration::from_secs(20),
            persistence: Duration::ZERO,
            counter: 0,
            relays: false,
        }
    }
}

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is played: every chunk has its time.
    Play,
    /// It is saved: what plays goes before.
    Save,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The next bytes: a slice of the store's, not a copy.
    Bytes(Bytes),
    /// They are not there yet: [`RequesterEvent::Readable`] will come.
    Pending,
    /// The range has been read.
    End,
    /// They will not come: see [`super::Requester::failure`].
    Failed,
}

/// Why a read cannot be opened: the caller's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The metadata is not known yet.
    #[error("the torrent's files are not known yet")]
    NoMetadata,
    /// The torrent has fewer files.
    #[error("the torrent has no such file")]
    NoSuchFile,
    /// The id belongs to an open read.
    #[error("this read is open already")]
    IdInUse,
    /// [`crate::ordb::MAX_READS`] are open.
    #[error("too many reads are open at a time")]
    TooMany,
}

/// What a requester tells its user.
#[derive(Clone, Debug)]
pub enum RequesterEvent {
    /// The metadata is here, and is what the infohash names.
    Metadata(Arc<Metainfo>),
    /// These chunks are verified and stored.
    Verified {
        /// Which.
        chunks: Range<u32>,
    },
    /// A read that was pending has bytes, has ended, or has failed.
    Readable(ReadId),
    /// A source is to blame; it was let go and is not taken again for this torrent.
    SourceDropped {
        /// Which.
        source: SourceId,
        /// The router that it is.
        router: Ed25519Id,
        /// What it did.
        why: DropReason,
    },
    /// A source will not give, and was let go: its stream has ended.
    SourceFailed {
        /// Which.
        source: SourceId,
        /// The router that it is.
        router: Ed25519Id,
        /// What it said.
        why: SourceFailure,
    },
    /// Nothing has come of a source for a multiple of its delay; another circuit may do better.
    SourceStalled {
        /// Which.
        source: SourceId,
        /// The router that it is.
        router: Ed25519Id,
        /// For how long nothing came.
        silent_for: Duration,
    },
    /// The torrent, or what of it was read, cannot be had. Should a source come that has it, it
    /// goes on, unless [`Failure::is_final`].
    Failed(Failure),
}

/// What a source did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// Its metadata is not what the infohash names.
    #[error("it sent metadata that the infohash does not name")]
    WrongMetadata,
    /// Its piece layers do not lead to the files' roots.
    #[error("it sent piece layers that do not belong to the torrent")]
    WrongPieceLayers,
    /// Its leaf hashes do not lead to the piece.
    #[error("it sent leaf hashes that do not belong to the torrent")]
    WrongLeafHashes,
    /// Its bytes are not those of the torrent.
    #[error("it sent wrong bytes in piece {piece}")]
    WrongBytes {
        /// Where.
        piece: u32,
    },
    /// It sent what it was not asked for.
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
    /// It was dropped before.
    #[error("it had been dropped before")]
    DroppedBefore,
}

/// Why a source was let go without blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceFailure {
    /// It ended the stream.
    #[error("it ended the stream ({reason})")]
    Refused {
        /// Why.
        reason: DbEndReason,
        /// What it tried.
        tried: Option<Tried>,
    },
    /// It found no metadata in [`Config::open_timeout`].
    #[error("it found nothing in time")]
    OpenTimeout,
    /// The metadata is longer than [`Config::max_metadata_bytes`].
    #[error("its metadata is {length} bytes long")]
    MetadataTooLarge {
        /// How long it says.
        length: u32,
    },
    /// It gave nothing for too long.
    #[error("it fell silent")]
    Stalled,
    /// [`crate::ordb::MAX_SOURCES`] are there already.
    #[error("there are enough sources")]
    TooMany,
}

/// Why a torrent cannot be had; a sentence for the page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody has it.
    #[error(
        "Nobody was found who has this torrent: {sources} source(s) looked for {} seconds and \
         asked {} nodes of the DHT, {} trackers and {} peers.",
        after.as_secs(), tried.dht_nodes, tried.trackers, tried.peers
    )]
    NotFound {
        /// How many sources looked.
        sources: usize,
        /// All that they tried.
        tried: Tried,
        /// Since it was opened.
        after: Duration,
    },
    /// The metadata is over the limit.
    #[error(
        "The description of this torrent is {length} bytes long; no more than {limit} are fetched."
    )]
    MetadataTooLarge {
        /// How long it is said to be.
        length: u32,
        /// What the limit is.
        limit: u32,
    },
    /// The publisher made metadata that cannot be used.
    #[error("This torrent cannot be used: {0}.")]
    Metadata(MetainfoError),
    /// The v1 and the v2 half describe different bytes.
    #[error("This torrent contradicts itself: its two descriptions are of different bytes.")]
    Contradiction,
    /// The piece layers are over the limit or nobody gives them.
    #[error("The hashes of this torrent cannot be had: none of the sources gives them.")]
    NoPieceLayers,
    /// A piece does not fit into memory.
    #[error(
        "The pieces of this torrent are {piece_length} bytes long, too long for the {limit} bytes \
         of memory that are set aside."
    )]
    PieceTooLarge {
        /// How long a piece is.
        piece_length: u32,
        /// What one would have to fit in.
        limit: u64,
    },
    /// Those who had it are gone.
    #[error("Those who had this torrent are gone: none of {sources} source(s) can go on.")]
    Gone {
        /// How many sources said so.
        sources: usize,
    },
    /// Sources have a limit that it is over.
    #[error("This torrent is larger than any of {sources} source(s) will fetch.")]
    TooLargeForSources {
        /// How many sources said so.
        sources: usize,
    },
}

impl Failure {
    /// Whether no further source can help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Metadata(_) | Self::Contradiction | Self::PieceTooLarge { .. } => true,
            Self::NotFound { .. }
            | Self::MetadataTooLarge { .. }
            | Self::NoPieceLayers
            | Self::Gone { .. }
            | Self::TooLargeForSources { .. } => false,
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of all files; 0 until the metadata is known.
    pub total_bytes: u64,
    /// Verified bytes in the store.
    pub verified_bytes: u64,
    /// Verified bytes since it was opened, those that the store let go included.
    pub verified_in_all_bytes: u64,
    /// Bytes received that were of no use: wrong, twice, or no longer wanted.
    pub wasted_bytes: u64,
    /// Bytes received in each of the last seconds.
    pub rate_bytes_per_second: u64,
}

/// How a source does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceStats {
    /// Which.
    pub source: SourceId,
    /// The router that it is.
    pub router: Ed25519Id,
    /// What it does, in a word.
    pub state: &'static str,
    /// Bytes a second that it gives.
    pub rate_bytes_per_second: u64,
    /// The least time from asking to the first byte.
    pub delay: Duration,
    /// How many chunks may be awaited of it.
    pub window_chunks: u32,
    /// How many are.
    pub awaited_chunks: usize,
    /// How many may still come: those too that were cancelled, until it confirms that.
    pub unanswered_chunks: usize,
    /// Bytes that it gave in all.
    pub delivered_bytes: u64,
}
