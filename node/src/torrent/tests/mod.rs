//! The torrent layer against libtorrent, against hostile metadata, against broken bits.

mod content;
mod golden;
