//! Names and integrity: a name is a BitTorrent infohash, a link is a magnet link, the metadata is
//! BitTorrent's info dictionary.
//!
//! Nothing here does I/O and nothing here is trusted before it is checked: the info dictionary
//! ([`Metainfo`]) against the infohash, the content ([`Verifier`]) against the dictionary. What a
//! hostile publisher can put into a dictionary whose infohash is right is bounded by the `MAX_*`
//! constants of this module.
//!
//! Specifications: BEP 3 (v1), BEP 9 (magnet links), BEP 47 (padding files), BEP 52 (v2).

mod bencode;
mod create;
mod display_name;
mod error;
mod infohash;
mod layout;
mod magnet;
mod merkle;
mod metainfo;
mod torrent_file;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

pub use create::{CreateError, Created, Creator, NewFile, PieceLength, PieceShape};
pub use error::{HashesError, MagnetError, MetainfoError};
pub use infohash::{Infohash, InfohashV1, InfohashV2};
pub use layout::Layout;
pub use magnet::Magnet;
pub use merkle::{Sha256Hash, leaf_hash};
pub use metainfo::{File, Metainfo};
pub use torrent_file::TorrentFile;
pub use verify::{PieceCheck, Verdict, Verifier};

/// A chunk: the unit of asking, verifying and storing. BitTorrent's block, and v2's leaf.
pub const CHUNK_LEN: u32 = 16 * 1024;

/// The longest info dictionary that is looked at; the publisher chooses its length, and a film
/// needs some 100 KiB. A longer one is refused before it is parsed.
pub const MAX_METADATA_LEN: usize = 16 * 1024 * 1024;

/// The longest `.torrent` file that is looked at: metadata, all the piece layers, trackers.
pub const MAX_TORRENT_FILE_LEN: usize = MAX_METADATA_LEN + 40 * 1024 * 1024;

/// The longest magnet link that is looked at, in bytes.
pub const MAX_MAGNET_LEN: usize = 64 * 1024;

/// How many trackers, peers or web seeds of a magnet link or `.torrent` file are kept, of each;
/// those after them are left out.
pub const MAX_MAGNET_HINTS: usize = 64;

/// Files of one torrent, padding files included.
pub const MAX_FILES: usize = 100_000;

/// Folders above a file, and the file itself.
pub const MAX_PATH_DEPTH: usize = 64;

/// The longest name of one file or folder as it is shown, in bytes of UTF-8; longer ones are
/// shortened in the middle.
pub const MAX_NAME_LEN: usize = 255;

/// The longest piece: a tab holds a whole piece before it can check it (v1).
pub const MAX_PIECE_LEN: u32 = 64 * 1024 * 1024;

/// Pieces of one torrent. BitTorrent's own metadata limit leaves room for no more in v1; in v2 it
/// bounds the piece layers to 32 MiB.
pub const MAX_PIECES: u32 = 1 << 20;

/// Chunks of one torrent: 4 TiB. Who keeps a bit for each keeps 32 MiB.
pub const MAX_CHUNKS: u32 = 1 << 28;
