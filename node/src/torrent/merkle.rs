//! The Merkle trees of BEP 52: SHA-256, leaves of 16 KiB, width a power of two.

use sha2::{Digest, Sha256};

/// A node of a Merkle tree.
pub type Sha256Hash = [u8; 32];

/// What stands for a leaf beyond the end of the file.
pub(super) const NO_LEAF: Sha256Hash = [0; 32];

/// The leaf of one chunk: of the file's own bytes, without the padding after them.
pub fn leaf_hash(chunk: &[u8]) -> Sha256Hash {
    Sha256::digest(chunk).into()
}

/// The root of a tree of `1 << height` nodes, of which those after `nodes` are `missing`. None if
/// there are more nodes than that.
pub(super) fn root(
    mut nodes: Vec<Sha256Hash>,
    height: u32,
    mut missing: Sha256Hash,
) -> Option<Sha256Hash> {
    for _ in 0..height {
        // Level by level in place: each pair's parent replaces it.
        let mut parents = 0;
        for pair in 0..nodes.len().div_ceil(2) {
            let left = nodes.get(pair * 2)?;
            let right = nodes.get(pair * 2 + 1).unwrap_or(&missing);
            let parent = parent(left, right);
            *nodes.get_mut(pair)? = parent;
            parents = pair + 1;
        }
        nodes.truncate(parents);
        missing = parent(&missing, &missing);
    }
    match nodes.as_slice() {
        [] => Some(missing),
        [root] => Some(*root),
        _ => None,
    }
}

/// The root of a whole tree, `1 << height` leaves wide, that lies beyond the end of a file.
pub(super) fn missing_root(height: u32) -> Sha256Hash {
    (0..height).fold(NO_LEAF, |node, _| parent(&node, &node))
}

fn parent(left: &Sha256Hash, right: &Sha256Hash) -> Sha256Hash {
    Sha256::new()
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}
