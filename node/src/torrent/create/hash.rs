//! One piece's two hashes.

use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::super::CHUNK_LEN;
use super::super::merkle::{self, NO_LEAF, Sha256Hash};

static ZEROS: [u8; CHUNK_LEN as usize] = [0; CHUNK_LEN as usize];

/// Which bytes a piece is of, and what its trees look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceShape {
    /// The file, by its place among those that were given.
    pub file: usize,
    /// Where in the file it begins.
    pub start: u64,
    /// Its bytes.
    pub length: u32,
    /// Its bytes and the zeros after them, as v1 hashes them.
    pub padded_length: u32,
    /// The height of its tree of leaves, as v2 hashes it.
    pub height: u32,
}

/// What a piece is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PieceHash {
    /// SHA-1 of the piece, padding included.
    pub(super) v1: [u8; 20],
    /// The root of its tree: a hash of the piece layer, or the root of a file of one piece.
    pub(super) v2: Sha256Hash,
}

/// Of a piece whose bytes were hashed elsewhere. None if there is not one leaf for each chunk.
pub(super) fn of_leaves(
    shape: PieceShape,
    v1: [u8; 20],
    leaves: Vec<Sha256Hash>,
) -> Option<PieceHash> {
    (leaves.len() == shape.length.div_ceil(CHUNK_LEN) as usize).then_some(())?;
    let v2 = merkle::root(leaves, shape.height, NO_LEAF)?;
    Some(PieceHash { v1, v2 })
}

/// Hashes a piece whose bytes come in order.
#[derive(Debug)]
pub(super) struct PieceHasher {
    shape: PieceShape,
    missing: u32,
    v1: Sha1,
    leaf: Sha256,
    /// Bytes that are still to come of the leaf.
    leaf_missing: u32,
    leaves: Vec<Sha256Hash>,
}

impl PieceHasher {
    /// Nothing yet of a piece of this shape.
    pub(super) fn new(shape: PieceShape) -> Self {
        Self {
            shape,
            missing: shape.length,
            v1: Sha1::new(),
            leaf: Sha256::new(),
            leaf_missing: CHUNK_LEN,
            leaves: Vec::new(),
        }
    }

    /// How many bytes are still to come.
    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    /// Takes as much of `bytes` as the piece still lacks; answers what is left.
    pub(super) fn update<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while self.missing > 0 && !rest.is_empty() {
            let most = self.missing.min(self.leaf_missing) as usize;
            let (part, after) = rest.split_at(most.min(rest.len()));
            rest = after;
            self.v1.update(part);
            self.leaf.update(part);
            // No longer than the u32 that bounded it.
            let taken = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.missing = self.missing.saturating_sub(taken);
            self.leaf_missing = self.leaf_missing.saturating_sub(taken);
            if self.leaf_missing == 0 || self.missing == 0 {
                self.leaves.push(self.leaf.finalize_reset().into());
                self.leaf_missing = CHUNK_LEN;
            }
        }
        rest
    }

    /// The hashes; of no use while something is missing.
    pub(super) fn finish(mut self) -> PieceHash {
        let mut padding = self.shape.padded_length.saturating_sub(self.shape.length);
        while padding > 0 {
            let most = padding.min(CHUNK_LEN);
            self.v1
                .update(ZEROS.get(..most as usize).unwrap_or_default());
            padding -= most;
        }
        PieceHash {
            v1: self.v1.finalize().into(),
            // The shape's height was made for as many leaves.
            v2: merkle::root(self.leaves, self.shape.height, NO_LEAF).unwrap_or(NO_LEAF),
        }
    }
}
