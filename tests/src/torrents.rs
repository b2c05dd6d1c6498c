//! Torrents made for tests: content from a seed, and the v1 info dictionary that names it.

use bytes::Bytes;
use chive_node::torrent::{Infohash, InfohashV1, Magnet};
use sha1::{Digest, Sha1};

/// A torrent of one file.
#[derive(Clone)]
pub struct TestTorrent {
    /// The info dictionary.
    pub info: Bytes,
    /// The file.
    pub content: Bytes,
    /// The name of both.
    pub name: Infohash,
    /// The link to it.
    pub magnet: Magnet,
}

impl TestTorrent {
    /// `len` bytes that `seed` makes, in pieces of `piece_len`.
    pub fn new(seed: u64, len: usize, piece_len: usize) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut content = vec![0; len];
        for word in content.chunks_mut(8) {
            // xorshift64: quick, and no two chunks are alike.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        let mut info = format!(
            "d6:lengthi{len}e4:name9:film.webm12:piece lengthi{piece_len}e6:pieces{}:",
            len.div_ceil(piece_len) * 20
        )
        .into_bytes();
        for piece in content.chunks(piece_len) {
            info.extend_from_slice(&Sha1::digest(piece));
        }
        info.push(b'e');
        let hash = InfohashV1::of(&info);
        TestTorrent {
            info: info.into(),
            content: content.into(),
            name: Infohash::V1(hash),
            magnet: Magnet::new(Infohash::V1(hash)),
        }
    }
}
