//! What can be wrong with a link, with metadata, with hashes. Each is a sentence for the page.

use super::{MAX_CHUNKS, MAX_FILES, MAX_MAGNET_LEN, MAX_PATH_DEPTH, MAX_PIECE_LEN, MAX_PIECES};

/// What is wrong with something that was typed or pasted as a magnet link; the user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// Nothing was given.
    #[error("Nothing was given: paste a magnet link (magnet:?xt=urn:btih:…) or an infohash.")]
    Empty,
    /// Neither a magnet link nor an infohash.
    #[error(
        "This is neither a magnet link nor an infohash: a link begins with magnet:?xt=urn:btih: \
         or magnet:?xt=urn:btmh:, an infohash has 40 or 64 digits 0-9 a-f."
    )]
    NotAMagnet,
    /// An address of a web page or of a `.torrent` file.
    #[error(
        "This is an address of a page or file, not a magnet link: download the .torrent file \
         from there and drop it here, or copy the magnet link itself."
    )]
    WebAddress,
    /// A magnet link without an infohash.
    #[error(
        "This magnet link names no BitTorrent content: it needs xt=urn:btih: or xt=urn:btmh: with \
         an infohash. Copy the link again, whole."
    )]
    NoInfohash,
    /// An infohash that has not the length or the characters of one.
    #[error(
        "The infohash in this link is damaged: after {urn} come {expected}, and here are {found} \
         characters that are not so. Copy the link again, whole."
    )]
    BadInfohash {
        /// The namespace, `urn:btih:` or `urn:btmh:`.
        urn: &'static str,
        /// What should stand there.
        expected: &'static str,
        /// How many characters stand there.
        found: usize,
    },
    /// Two different infohashes of one version.
    #[error("This magnet link names two different torrents: use a link for each.")]
    TwoTorrents,
    /// Longer than [`MAX_MAGNET_LEN`].
    #[error("This link is longer than {MAX_MAGNET_LEN} bytes: no magnet link needs that.")]
    TooLong,
    /// A `%` that is not followed by two hexadecimal digits, or bytes that are not UTF-8, where it
    /// matters.
    #[error("This magnet link is damaged (its %-escapes are broken). Copy it again, whole.")]
    BadEscape,
}

/// What is wrong with an info dictionary or a `.torrent` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// The bytes are not those that the infohash names: the fault of whoever sent them.
    #[error("the metadata is not what the infohash names")]
    WrongHash,
    /// No infohash was given to check against.
    #[error("there is no infohash to check the metadata against")]
    NothingExpected,
    /// Longer than the limit.
    #[error("the metadata is {length} bytes long, the limit is {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not bencode, or nested too deeply, or of too many parts.
    #[error("the metadata cannot be read: {0}")]
    Bencode(String),
    /// A key that must be there is not, or has a value of another type.
    #[error("the metadata has no proper “{0}”")]
    Field(&'static str),
    /// A `meta version` that is not known.
    #[error("the torrent is of version {0}; only 1 and 2 are known")]
    Version(u64),
    /// A piece length that cannot be served in chunks.
    #[error(
        "its pieces are {0} bytes long; only multiples of 16 KiB up to {limit} MiB can be fetched \
         here (and for version 2 only powers of two)",
        limit = MAX_PIECE_LEN / 1024 / 1024
    )]
    PieceLength(u64),
    /// No bytes at all.
    #[error("the torrent is empty")]
    Empty,
    /// More files than [`MAX_FILES`].
    #[error("the torrent has more than {MAX_FILES} files")]
    TooManyFiles,
    /// A path deeper than [`MAX_PATH_DEPTH`] or without a name.
    #[error("a file's path is empty or has more than {MAX_PATH_DEPTH} folders")]
    Path,
    /// Longer than [`MAX_CHUNKS`] or of more than [`MAX_PIECES`] pieces.
    #[error(
        "the torrent is too large: the limits are {} GiB and {MAX_PIECES} pieces",
        MAX_CHUNKS / 65536
    )]
    TooLarge,
    /// The number of piece hashes is not what the length asks for.
    #[error("the torrent has {found} piece hashes where its length asks for {expected}")]
    PieceCount {
        /// Hashes that are there.
        found: usize,
        /// Pieces that the length makes.
        expected: u32,
    },
    /// The keys of a dictionary are not in order, where the order decides what the torrent is.
    #[error("the file tree is not in order")]
    Unsorted,
    /// A hybrid torrent whose two descriptions are not of the same files.
    #[error("the two halves of this hybrid torrent describe different files")]
    Contradiction,
    /// A `.torrent` file whose piece layers do not belong to its files.
    #[error("the piece layers of the torrent file do not fit its files")]
    PieceLayers,
}

impl MetainfoError {
    /// Whether whoever sent the bytes is to blame. Everything else the publisher made so: every
    /// source would send the same.
    pub fn is_senders_fault(&self) -> bool {
        matches!(self, Self::WrongHash)
    }
}

/// What is wrong with v2 hashes that somebody sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashesError {
    /// The torrent has no v2 description, or no such piece.
    #[error("this torrent has no such hashes")]
    NotApplicable,
    /// Too many or too few bytes: the sender's fault.
    #[error("the hashes have the wrong length")]
    Length,
    /// They do not lead to the root: the sender's fault.
    #[error("the hashes do not lead to the file's root")]
    Wrong,
    /// The piece layers must come first.
    #[error("the piece layers must be known first")]
    NeedLayers,
}
