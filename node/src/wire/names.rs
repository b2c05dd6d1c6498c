//! Infohashes: the torrent layer's own, so that there is one type of them.

pub use crate::torrent::{Infohash, InfohashV1, InfohashV2};
