//! Torrents made for tests: v1, hybrid and v2, of one file and of many.

use std::sync::Arc;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::Rng;
use crate::torrent::{CHUNK_LEN, Infohash, InfohashV1, InfohashV2, Magnet, Metainfo, leaf_hash};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V1,
    Hybrid,
    V2,
}

/// A torrent with all that a host needs to serve it.
pub(super) struct Torrent {
    pub(super) magnet: Magnet,
    pub(super) name: Infohash,
    pub(super) metainfo: Arc<Metainfo>,
    pub(super) piece_layers: Bytes,
    /// The chunk space.
    space: Vec<u8>,
}

impl Torrent {
    /// Files of these lengths with random bytes.
    pub(super) fn new(rng: &mut Rng, kind: Kind, piece_length: u32, lengths: &[u64]) -> Self {
        let files: Vec<Vec<u8>> = lengths
            .iter()
            .map(|length| {
                let mut bytes = vec![0; usize::try_from(*length).unwrap()];
                rng.fill(&mut bytes);
                bytes
            })
            .collect();
        let piece = piece_length as usize;
        let aligned = kind != Kind::V1;

        // The chunk space, and the v1 files in it.
        let mut space = Vec::new();
        let mut v1_files = Vec::new();
        for (index, file) in files.iter().enumerate() {
            v1_files.push(format!(
                "d6:lengthi{}e4:pathl8:file{index:04}ee",
                file.len()
            ));
            space.extend_from_slice(file);
            let padding = space.len().next_multiple_of(piece) - space.len();
            if aligned && index + 1 < files.len() && padding > 0 {
                v1_files.push(format!(
                    "d4:attr1:p6:lengthi{padding}e4:pathl4:.pad8:pad{index:05}ee"
                ));
                space.resize(space.len() + padding, 0);
            }
        }
        let mut pieces = Vec::new();
        for piece in space.chunks(piece) {
            pieces.extend_from_slice(&Sha1::digest(piece));
        }

        // The v2 half.
        let mut tree = Vec::new();
        let mut piece_layers = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let leaves: Vec<[u8; 32]> = file.chunks(CHUNK_LEN as usize).map(leaf_hash).collect();
            let per_piece = piece / CHUNK_LEN as usize;
            let root = if file.len() > piece {
                let layer: Vec<[u8; 32]> = leaves
                    .chunks(per_piece)
                    .map(|leaves| root(leaves, per_piece))
                    .collect();
                piece_layers.extend(layer.iter().flatten());
                let width = layer.len().next_power_of_two();
                let missing = root(&[], per_piece);
                let mut layer = layer;
                layer.resize(width, missing);
                root(&layer, width)
            } else {
                root(&leaves, leaves.len().next_power_of_two())
            };
            tree.extend_from_slice(
                format!("8:file{index:04}d0:d6:lengthi{}e", file.len()).as_bytes(),
            );
            tree.extend_from_slice(b"11:pieces root32:");
            tree.extend_from_slice(&root);
            tree.extend_from_slice(b"ee");
        }

        // Keys in order.
        let mut info = b"d".to_vec();
        if aligned {
            info.extend_from_slice(b"9:file treed");
            info.extend_from_slice(&tree);
            info.push(b'e');
        }
        if kind != Kind::V2 {
            info.extend_from_slice(b"5:filesl");
            info.extend_from_slice(v1_files.concat().as_bytes());
            info.push(b'e');
        }
        if aligned {
            info.extend_from_slice(b"12:meta versioni2e");
        }
        info.extend_from_slice(format!("4:name4:test12:piece lengthi{piece}e").as_bytes());
        if kind != Kind::V2 {
            info.extend_from_slice(format!("6:pieces{}:", pieces.len()).as_bytes());
            info.extend_from_slice(&pieces);
        }
        info.push(b'e');

        let magnet = match kind {
            Kind::V1 => Magnet::new(InfohashV1::of(&info)),
            Kind::V2 => Magnet::new(InfohashV2::of(&info)),
            Kind::Hybrid => Magnet {
                v2: Some(InfohashV2::of(&info)),
                ..Magnet::new(InfohashV1::of(&info))
            },
        };
        let metainfo = Arc::new(Metainfo::from_info(info, &magnet).unwrap());
        assert_eq!(metainfo.space_length(), space.len() as u64);
        Self {
            name: magnet.infohash().unwrap(),
            magnet,
            metainfo,
            piece_layers: piece_layers.into(),
            space,
        }
    }

    pub(super) fn metadata(&self) -> &Bytes {
        self.metainfo.info()
    }

    /// A chunk as it should be.
    pub(super) fn chunk(&self, chunk: u32) -> &[u8] {
        let start = usize::try_from(self.metainfo.chunk_offset(chunk)).unwrap();
        &self.space[start..start + self.metainfo.chunk_length(chunk) as usize]
    }

    /// A block of leaf hashes as it should be: zeros for chunks of padding.
    pub(super) fn leaf_block(&self, block: u32) -> Vec<u8> {
        let chunks = (block * 512)..((block + 1) * 512).min(self.metainfo.chunk_count());
        let leaf = |chunk| match self.metainfo.is_padding_chunk(chunk) {
            true => [0; 32],
            false => leaf_hash(self.chunk(chunk)),
        };
        chunks.flat_map(leaf).collect()
    }

    /// A file's bytes as they should be.
    pub(super) fn file(&self, file: usize) -> &[u8] {
        let file = &self.metainfo.files()[file];
        let start = usize::try_from(file.offset).unwrap();
        &self.space[start..start + usize::try_from(file.length).unwrap()]
    }

    /// The files that are not padding.
    pub(super) fn content_files(&self) -> Vec<usize> {
        let files = self.metainfo.files().iter().enumerate();
        files
            .filter(|(_, file)| !file.padding && file.length > 0)
            .map(|(index, _)| index)
            .collect()
    }
}

/// The root of a tree `width` wide; what is missing are zeros.
fn root(leaves: &[[u8; 32]], width: usize) -> [u8; 32] {
    let mut level = leaves.to_vec();
    level.resize(width, [0; 32]);
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| {
                use sha2::Sha256;
                Sha256::new()
                    .chain_update(pair[0])
                    .chain_update(pair[1])
                    .finalize()
                    .into()
            })
            .collect();
    }
    level[0]
}
