//! Infohashes as the wire has them.

/// The SHA-1 of an info dictionary (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfohashV1(pub [u8; 20]);

/// The SHA-256 of an info dictionary (BEP 52).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfohashV2(pub [u8; 32]);

/// A torrent's name, of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Infohash {
    /// SHA-1: v1 and hybrid torrents.
    V1(InfohashV1),
    /// SHA-256: v2 and hybrid torrents.
    V2(InfohashV2),
}
