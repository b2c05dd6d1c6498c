//! Whether content is what the info dictionary describes.
//!
//! v2 is the better description: it knows every chunk, so where its hashes are at hand it
//! decides. v1 knows whole pieces.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::merkle::{self, NO_LEAF, Sha256Hash, leaf_hash};
use super::{CHUNK_LEN, HashesError, Metainfo};

const HASH_LEN: usize = size_of::<Sha256Hash>();

/// Leaf hashes that are kept, unless their owner keeps fewer: 4 MiB, the hashes of 2 GiB of
/// content. Sources fill it by sending right hashes and right pieces; when it is full the oldest
/// piece's are forgotten: that piece is checked as a whole, and nobody is given its hashes.
const MAX_LEAVES: usize = 1 << 17;

static ZEROS: [u8; CHUNK_LEN as usize] = [0; CHUNK_LEN as usize];

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what the info dictionary describes.
    Good,
    /// It is not.
    Bad,
    /// A chunk of its own says nothing: check its whole piece, or add its leaf hashes.
    NeedPiece,
    /// Nothing can be said of this piece before [`Verifier::add_piece_layers`] (v2 without v1).
    NeedLayers,
}

/// Checks the content of one torrent.
#[derive(Clone, Debug)]
pub struct Verifier {
    metainfo: Arc<Metainfo>,
    layers: Option<Bytes>,
    /// Where in the layers those of a file begin, by the file's index; only for files that have
    /// one.
    layer_starts: BTreeMap<u32, usize>,
    layers_length: usize,
    /// Checked leaf hashes, by piece.
    leaves: BTreeMap<u32, Vec<Sha256Hash>>,
    leaf_count: usize,
    oldest_leaves: VecDeque<u32>,
    max_leaves: usize,
}

/// A piece that is being checked chunk by chunk as its chunks come, in order.
#[derive(Clone, Debug)]
pub struct PieceCheck {
    piece: u32,
    next: u32,
    wrong: bool,
    hashing: Hashing,
}

#[derive(Clone, Debug)]
enum Hashing {
    V1(Sha1),
    V2(Vec<Sha256Hash>),
}

/// A piece as v2 sees it: part of one file.
struct V2Piece {
    root: Option<Sha256Hash>,
    /// Chunks with content.
    leaves: u32,
    /// The height of its tree.
    height: u32,
}

impl PieceCheck {
    /// The leaf hashes of the chunks that it has seen, where it is v2 that checks.
    pub fn leaves(&self) -> Option<&[Sha256Hash]> {
        match &self.hashing {
            Hashing::V1(_) => None,
            Hashing::V2(leaves) => Some(leaves),
        }
    }
}

impl Verifier {
    /// Knows what the dictionary says, and no v2 hashes beyond the files' roots.
    pub fn new(metainfo: Arc<Metainfo>) -> Self {
        let mut layer_starts = BTreeMap::new();
        let mut layers_length = 0usize;
        for extent in metainfo.extents() {
            let pieces = file_pieces(extent.end - extent.start, metainfo.piece_length());
            if is_v2(&metainfo) && pieces > 1 {
                layer_starts.insert(extent.file, layers_length);
                // The number of pieces is bounded.
                layers_length = layers_length.saturating_add(hashes_len(pieces));
            }
        }
        Self {
            metainfo,
            layers: None,
            layer_starts,
            layers_length,
            leaves: BTreeMap::new(),
            leaf_count: 0,
            oldest_leaves: VecDeque::new(),
            max_leaves: MAX_LEAVES,
        }
    }

    /// Keeps the leaf hashes of so many chunks at most.
    pub fn set_max_leaves(&mut self, leaves: usize) {
        self.max_leaves = leaves.min(MAX_LEAVES);
    }

    /// The torrent that is checked.
    pub fn metainfo(&self) -> &Arc<Metainfo> {
        &self.metainfo
    }

    /// How many bytes [`Self::add_piece_layers`] takes; 0 where the torrent has none.
    pub fn piece_layers_length(&self) -> usize {
        self.layers_length
    }

    /// Whether there are piece layers to be had that are not known yet. v2 torrents need them;
    /// hybrids are checked by v1 without.
    pub fn lacks_piece_layers(&self) -> bool {
        self.layers.is_none() && self.layers_length > 0
    }

    /// The piece layers, if they are known.
    pub fn piece_layers(&self) -> Option<&Bytes> {
        self.layers.as_ref()
    }

    /// Adds the piece layers of all files that have one (those longer than a piece), one after
    /// another in the order of the files, after checking them against the files' roots.
    pub fn add_piece_layers(&mut self, layers: Bytes) -> Result<(), HashesError> {
        if self.layers_length == 0 {
            return Err(HashesError::NotApplicable);
        }
        if layers.len() != self.layers_length {
            return Err(HashesError::Length);
        }
        for extent in self.metainfo.extents() {
            let Some(start) = self.layer_starts.get(&extent.file) else {
                continue;
            };
            let pieces = file_pieces(extent.end - extent.start, self.metainfo.piece_length());
            let layer = start
                .checked_add(hashes_len(pieces))
                .and_then(|end| layers.get(*start..end));
            let layer = hashes(layer.ok_or(HashesError::Length)?);
            let missing = merkle::missing_root(self.piece_height());
            let root = merkle::root(layer, height_of(pieces), missing);
            if root.is_none() || root != self.root_of(extent.file) {
                return Err(HashesError::Wrong);
            }
        }
        self.layers = Some(layers);
        Ok(())
    }

    /// Adds the leaf hashes of a piece, 32 bytes for each of its chunks (those of padding
    /// included), after checking them. From then on [`Self::check_chunk`] knows its chunks.
    pub fn add_leaf_hashes(&mut self, piece: u32, leaves: &[u8]) -> Result<(), HashesError> {
        let about = self.v2_piece(piece).ok_or(HashesError::NotApplicable)?;
        if leaves.len() != hashes_len(self.metainfo.piece_chunks(piece).len() as u64) {
            return Err(HashesError::Length);
        }
        let root = about.root.ok_or(HashesError::NeedLayers)?;
        let mut leaves = hashes(leaves);
        leaves.truncate(about.leaves as usize);
        if merkle::root(leaves.clone(), about.height, NO_LEAF) != Some(root) {
            return Err(HashesError::Wrong);
        }
        if about.height == 0 {
            // The root is the only leaf, and known.
            return Ok(());
        }
        self.keep_leaf_hashes(piece, leaves);
        Ok(())
    }

    /// Keeps the leaf hashes of a piece that was found right, one for each chunk with content.
    pub fn keep_leaf_hashes(&mut self, piece: u32, leaves: Vec<Sha256Hash>) {
        self.forget_leaf_hashes(piece);
        self.leaf_count = self.leaf_count.saturating_add(leaves.len());
        self.leaves.insert(piece, leaves);
        self.oldest_leaves.push_back(piece);
        while self.leaf_count > self.max_leaves {
            let Some(oldest) = self.oldest_leaves.pop_front() else {
                break;
            };
            self.drop_leaves(oldest);
        }
    }

    /// The leaf hashes of a piece, one for each chunk with content, if they are kept.
    pub fn leaf_hashes(&self, piece: u32) -> Option<&[Sha256Hash]> {
        self.leaves.get(&piece).map(Vec::as_slice)
    }

    /// Forgets the leaf hashes of a piece: it is whole, or nobody wants it any longer.
    pub fn forget_leaf_hashes(&mut self, piece: u32) {
        if self.drop_leaves(piece) {
            self.oldest_leaves.retain(|other| *other != piece);
        }
    }

    /// Whether [`Self::check_chunk`] can judge this chunk alone.
    pub fn knows_chunk(&self, chunk: u32) -> bool {
        self.metainfo.is_padding_chunk(chunk) || self.chunk_hash(chunk).is_some()
    }

    /// Checks one chunk: its bytes up to [`super::Layout::chunk_length`].
    pub fn check_chunk(&self, chunk: u32, bytes: &[u8]) -> Verdict {
        let length = self.metainfo.chunk_length(chunk);
        if bytes.len() != length as usize {
            return Verdict::Bad;
        }
        if length == 0 {
            return Verdict::Good;
        }
        let piece = self.metainfo.piece_of(chunk);
        match self.chunk_hash(chunk) {
            Some(ChunkHash::V2(leaf)) => good_if(leaf_hash(bytes) == leaf),
            Some(ChunkHash::V1) => self.check_piece(piece, [bytes]),
            None if self.can_check_piece(piece) => Verdict::NeedPiece,
            None => Verdict::NeedLayers,
        }
    }

    /// Whether [`Self::check_piece`] can judge this piece now.
    pub fn can_check_piece(&self, piece: u32) -> bool {
        self.metainfo.v1_piece(piece).is_some()
            || self
                .v2_piece(piece)
                .is_some_and(|piece| piece.root.is_some())
    }

    /// Checks a whole piece, given the bytes of each of its chunks in order (those of padding are
    /// empty): [`Verdict::Good`], [`Verdict::Bad`] or [`Verdict::NeedLayers`].
    pub fn check_piece<'a>(
        &self,
        piece: u32,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Verdict {
        self.check_all(self.begin_piece(piece), chunks)
    }

    /// Whether a piece that v2 refuses is what v1 describes. Then the torrent's two halves lie
    /// about each other, and whoever sent the piece is not to blame.
    pub fn is_contradiction<'a>(
        &self,
        piece: u32,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> bool {
        let is_hybrid = self.metainfo.v1_piece(piece).is_some() && is_v2(&self.metainfo);
        is_hybrid
            && self.check_all(self.begin(piece, Hashing::V1(Sha1::new())), chunks) == Verdict::Good
    }

    /// Begins to check a piece whose chunks come in order, so that the hashing is spread over
    /// their coming.
    pub fn begin_piece(&self, piece: u32) -> PieceCheck {
        let by_v2 = self.v2_piece(piece);
        let by_v1 = self.metainfo.v1_piece(piece).is_some();
        let hashing = match by_v2 {
            Some(about) if about.root.is_some() || !by_v1 => Hashing::V2(Vec::new()),
            _ => Hashing::V1(Sha1::new()),
        };
        self.begin(piece, hashing)
    }

    /// Takes the next chunk of the piece (empty where it is padding).
    pub fn continue_piece(&self, check: &mut PieceCheck, bytes: &[u8]) {
        let chunk = check.next;
        let length = self.metainfo.chunk_length(chunk);
        if !self.metainfo.piece_chunks(check.piece).contains(&chunk)
            || bytes.len() != length as usize
        {
            check.wrong = true;
            return;
        }
        check.next = chunk.saturating_add(1);
        match &mut check.hashing {
            Hashing::V1(sha1) => {
                sha1.update(bytes);
                let padding = self
                    .metainfo
                    .padded_chunk_length(chunk)
                    .saturating_sub(length);
                sha1.update(ZEROS.get(..padding as usize).unwrap_or_default());
            }
            Hashing::V2(leaves) if length > 0 => leaves.push(leaf_hash(bytes)),
            Hashing::V2(_) => {}
        }
    }

    /// Judges a piece after its last chunk: [`Verdict::Good`], [`Verdict::Bad`] (too few chunks
    /// as well) or [`Verdict::NeedLayers`].
    pub fn finish_piece(&self, check: PieceCheck) -> Verdict {
        let chunks = self.metainfo.piece_chunks(check.piece);
        if check.wrong || chunks.is_empty() || check.next != chunks.end {
            return Verdict::Bad;
        }
        match check.hashing {
            Hashing::V1(sha1) => {
                let hash: [u8; 20] = sha1.finalize().into();
                good_if(self.metainfo.v1_piece(check.piece) == Some(&hash))
            }
            Hashing::V2(leaves) => match self.v2_piece(check.piece) {
                Some(V2Piece {
                    root: Some(root),
                    height,
                    ..
                }) => good_if(merkle::root(leaves, height, NO_LEAF) == Some(root)),
                Some(_) => Verdict::NeedLayers,
                None => Verdict::Bad,
            },
        }
    }

    /// The files that have a piece layer, in order.
    pub(super) fn layered_files(&self) -> impl Iterator<Item = usize> {
        self.layer_starts.keys().map(|file| *file as usize)
    }

    fn begin(&self, piece: u32, hashing: Hashing) -> PieceCheck {
        let next = self.metainfo.piece_chunks(piece).start;
        PieceCheck {
            piece,
            next,
            wrong: false,
            hashing,
        }
    }

    fn check_all<'a>(
        &self,
        mut check: PieceCheck,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Verdict {
        for bytes in chunks {
            self.continue_piece(&mut check, bytes);
        }
        self.finish_piece(check)
    }

    fn chunk_hash(&self, chunk: u32) -> Option<ChunkHash> {
        let piece = self.metainfo.piece_of(chunk);
        let chunks = self.metainfo.piece_chunks(piece);
        if let Some(leaves) = self.leaves.get(&piece) {
            let place = chunk.checked_sub(chunks.start)? as usize;
            return leaves.get(place).copied().map(ChunkHash::V2);
        }
        match self.v2_piece(piece) {
            // A tree of one leaf.
            Some(V2Piece {
                root: Some(root),
                height: 0,
                ..
            }) => Some(ChunkHash::V2(root)),
            _ if chunks.len() == 1 && self.metainfo.v1_piece(piece).is_some() => {
                Some(ChunkHash::V1)
            }
            _ => None,
        }
    }

    /// None where the torrent has no v2 half, or the piece has no content.
    fn v2_piece(&self, piece: u32) -> Option<V2Piece> {
        if !is_v2(&self.metainfo) {
            return None;
        }
        let piece_length = u64::from(self.metainfo.piece_length());
        let start = u64::from(piece).checked_mul(piece_length)?;
        // With a v2 half, each file begins at a piece.
        let extent = self.metainfo.extent_at(start)?;
        let pieces = file_pieces(extent.end - extent.start, self.metainfo.piece_length());
        let content = (extent.end - start).min(piece_length);
        let leaves = u32::try_from(content.div_ceil(CHUNK_LEN.into())).ok()?;
        if pieces == 1 {
            let root = self.root_of(extent.file);
            return Some(V2Piece {
                root,
                leaves,
                height: height_of(leaves.into()),
            });
        }
        let place = usize::try_from((start - extent.start) / piece_length).ok()?;
        let root = self.layer_starts.get(&extent.file).and_then(|layer_start| {
            let at = place.checked_mul(HASH_LEN)?.checked_add(*layer_start)?;
            let hash = self.layers.as_ref()?.get(at..at.checked_add(HASH_LEN)?)?;
            Sha256Hash::try_from(hash).ok()
        });
        Some(V2Piece {
            root,
            leaves,
            height: self.piece_height(),
        })
    }

    /// The height of the tree of a whole piece.
    fn piece_height(&self) -> u32 {
        height_of(self.metainfo.chunks_per_piece().into())
    }

    fn root_of(&self, file: u32) -> Option<Sha256Hash> {
        self.metainfo.files().get(file as usize)?.pieces_root
    }

    fn drop_leaves(&mut self, piece: u32) -> bool {
        let dropped = self.leaves.remove(&piece);
        self.leaf_count = self
            .leaf_count
            .saturating_sub(dropped.as_ref().map_or(0, Vec::len));
        dropped.is_some()
    }
}

/// What a chunk alone is checked against.
enum ChunkHash {
    V2(Sha256Hash),
    /// The piece is this chunk.
    V1,
}

fn is_v2(metainfo: &Metainfo) -> bool {
    metainfo.v2().is_some()
}

fn good_if(right: bool) -> Verdict {
    if right { Verdict::Good } else { Verdict::Bad }
}

fn file_pieces(length: u64, piece_length: u32) -> u64 {
    length.div_ceil(piece_length.max(1).into())
}

/// The height of the lowest tree with that many leaves.
pub(super) fn height_of(leaves: u64) -> u32 {
    leaves
        .checked_next_power_of_two()
        .map_or(u64::BITS, u64::trailing_zeros)
}

/// Bytes of so many hashes. Their number is bounded by [`super::MAX_PIECES`].
fn hashes_len(hashes: u64) -> usize {
    usize::try_from(hashes)
        .unwrap_or(usize::MAX)
        .saturating_mul(HASH_LEN)
}

fn hashes(bytes: &[u8]) -> Vec<Sha256Hash> {
    bytes
        .chunks_exact(HASH_LEN)
        .filter_map(|hash| hash.try_into().ok())
        .collect()
}
