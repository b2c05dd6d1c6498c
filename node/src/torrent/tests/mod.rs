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
