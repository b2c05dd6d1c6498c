//! The torrent layer against libtorrent, against hostile metadata, against broken bits.

pub(crate) mod build;
mod content;
pub(crate) mod golden;
mod hostile;
mod magnet;
mod metainfo;
mod mutations;
mod names;
mod verify;

use super::{Infohash, InfohashV1};

/// The name of a torrent that there is not, one for each number.
pub(crate) fn name(number: u16) -> Infohash {
    let mut hash = [0; 20];
    hash[..2].copy_from_slice(&number.to_be_bytes());
    Infohash::V1(InfohashV1(hash))
}
