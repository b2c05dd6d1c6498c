//! The chunk space: where each file lies, and how long each chunk is.
//!
//! The space is the v1 concatenation of all files, padding files included. A v2 torrent without a
//! v1 half is laid out as its hybrid would be: each file begins at a piece. Padding is zeros that
//! everybody knows, so it is never asked for: [`Layout::chunk_length`] ends at a chunk's last byte
//! of content.

use std::ops::Range;

use super::{CHUNK_LEN, MAX_CHUNKS, MAX_PIECE_LEN, MAX_PIECES, MetainfoError};

/// Where the content of one torrent lies.
#[derive(Clone, Debug)]
pub struct Layout {
    piece_length: u32,
    length: u64,
    content_length: u64,
    /// Files with bytes of content, in order of their offset, without overlap.
    extents: Vec<Extent>,
}

/// The bytes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Which of the torrent's files.
    pub(super) file: u32,
}

impl Layout {
    /// `extents` ascend and do not overlap; `length` is the end of the space.
    pub(super) fn new(
        piece_length: u32,
        length: u64,
        extents: Vec<Extent>,
    ) -> Result<Self, MetainfoError> {
        if piece_length == 0
            || !piece_length.is_multiple_of(CHUNK_LEN)
            || piece_length > MAX_PIECE_LEN
        {
            return Err(MetainfoError::PieceLength(piece_length.into()));
        }
        if length.div_ceil(CHUNK_LEN.into()) > MAX_CHUNKS.into()
            || length.div_ceil(piece_length.into()) > MAX_PIECES.into()
        {
            return Err(MetainfoError::TooLarge);
        }
        let content_length = extents.iter().map(|extent| extent.end - extent.start).sum();
        if content_length == 0 {
            return Err(MetainfoError::Empty);
        }
        Ok(Self {
            piece_length,
            length,
            content_length,
            extents,
        })
    }

    /// Bytes of a piece, the last one perhaps excepted.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Chunks of a piece, the last one perhaps excepted.
    pub fn chunks_per_piece(&self) -> u32 {
        self.piece_length / CHUNK_LEN
    }

    /// The length of the chunk space, padding included.
    pub fn space_length(&self) -> u64 {
        self.length
    }

    /// The bytes of all files, without padding: what a user calls the size.
    pub fn total_length(&self) -> u64 {
        self.content_length
    }

    /// How many chunks the space has.
    pub fn chunk_count(&self) -> u32 {
        // `new` refuses what does not fit.
        u32::try_from(self.length.div_ceil(CHUNK_LEN.into())).unwrap_or(u32::MAX)
    }

    /// How many chunks have content: all that are ever asked for, stored or sent.
    pub fn content_chunk_count(&self) -> u64 {
        let mut count = 0u64;
        let mut counted_to = 0u64;
        for extent in &self.extents {
            let chunk = u64::from(CHUNK_LEN);
            let first = (extent.start / chunk).max(counted_to);
            let end = extent.end.div_ceil(chunk);
            count = count.saturating_add(end.saturating_sub(first));
            counted_to = counted_to.max(end);
        }
        count
    }

    /// How many pieces the space has.
    pub fn piece_count(&self) -> u32 {
        u32::try_from(self.length.div_ceil(self.piece_length.into())).unwrap_or(u32::MAX)
    }

    /// The piece that a chunk belongs to.
    pub fn piece_of(&self, chunk: u32) -> u32 {
        chunk / self.chunks_per_piece()
    }

    /// The chunks of a piece, those of nothing but padding included. Empty for no piece of ours.
    pub fn piece_chunks(&self, piece: u32) -> Range<u32> {
        let count = self.chunk_count();
        let first = piece.saturating_mul(self.chunks_per_piece()).min(count);
        first..first.saturating_add(self.chunks_per_piece()).min(count)
    }

    /// Where a chunk begins in the space.
    pub fn chunk_offset(&self, chunk: u32) -> u64 {
        u64::from(chunk) * u64::from(CHUNK_LEN)
    }

    /// The bytes of a chunk up to its last byte of content; those after are zeros. 0 for a chunk
    /// of padding only (it is never asked for, stored or sent), and for no chunk of ours.
    pub fn chunk_length(&self, chunk: u32) -> u32 {
        let start = self.chunk_offset(chunk);
        let end = self.chunk_space_end(chunk);
        let after = self.extents.partition_point(|extent| extent.start < end);
        let last = after.checked_sub(1).and_then(|last| self.extents.get(last));
        let content_end = last.map_or(0, |extent| extent.end.min(end));
        u32::try_from(content_end.saturating_sub(start)).unwrap_or(CHUNK_LEN)
    }

    /// Whether a chunk has nothing but padding, so that nobody needs to be asked for it.
    pub fn is_padding_chunk(&self, chunk: u32) -> bool {
        self.chunk_length(chunk) == 0
    }

    /// The chunks that hold these bytes of the space.
    pub fn chunks_of(&self, bytes: Range<u64>) -> Range<u32> {
        let chunk = u64::from(CHUNK_LEN);
        let end = bytes.end.min(self.length).div_ceil(chunk);
        let first = if bytes.is_empty() {
            end
        } else {
            (bytes.start / chunk).min(end)
        };
        // Both are below MAX_CHUNKS.
        u32::try_from(first).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX)
    }

    /// The bytes of the chunk in the space, padding included.
    pub(super) fn padded_chunk_length(&self, chunk: u32) -> u32 {
        let length = self
            .chunk_space_end(chunk)
            .saturating_sub(self.chunk_offset(chunk));
        u32::try_from(length).unwrap_or(CHUNK_LEN)
    }

    /// The file that has content at this offset.
    pub(super) fn extent_at(&self, offset: u64) -> Option<&Extent> {
        let after = self
            .extents
            .partition_point(|extent| extent.start <= offset);
        let extent = after
            .checked_sub(1)
            .and_then(|last| self.extents.get(last))?;
        (offset < extent.end).then_some(extent)
    }

    /// The files that have content.
    pub(super) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    fn chunk_space_end(&self, chunk: u32) -> u64 {
        (self.chunk_offset(chunk) + u64::from(CHUNK_LEN)).min(self.length)
    }
}
