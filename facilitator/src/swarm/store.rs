//! The pieces that are in memory, of all torrents, under one cap.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::time::Instant;

use super::TorrentKey;
use super::peers::PeerKey;

/// A piece of a torrent.
pub(super) type PieceKey = (TorrentKey, u32);

/// How many peers a block is asked of at once, when the first is late.
pub(super) const MAX_ASKED_OF: usize = 2;

/// Pieces, whole and half-fetched.
///
/// Room is taken for a whole piece when its first block is asked for. A piece that nobody asks for
/// any longer is *spare*: it stays for the next who asks until its room is needed, and those served
/// longest ago go first.
#[derive(Debug)]
pub(super) struct Store {
    cap: usize,
    used: usize,
    pieces: BTreeMap<PieceKey, Piece>,
    spare: BTreeMap<u64, PieceKey>,
    spare_bytes: usize,
    clock: u64,
}

/// The cap is reached by pieces that are being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// One piece.
#[derive(Debug)]
pub(super) struct Piece {
    blocks: Vec<Block>,
    held: usize,
    /// How many blocks are neither held nor asked of anybody.
    missing: usize,
    pub(super) state: PieceState,
    length: usize,
    spare_since: Option<u64>,
}

/// How far a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceState {
    AwaitBlocks,
    AwaitCheck,
    Verified,
}

/// A block: what a request asks for, 16 KiB or a file's end.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) length: u32,
    pub(super) bytes: Option<Bytes>,
    /// Who sent it.
    pub(super) from: Option<(PeerKey, SocketAddr)>,
    pub(super) asked_of: [Option<Asked>; MAX_ASKED_OF],
}

/// A request that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) peer: PeerKey,
    pub(super) at: Instant,
    /// When it is late, as that peer answers; none if nothing is known of it.
    pub(super) late_at: Option<Instant>,
}

impl Store {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            cap,
            used: 0,
            pieces: BTreeMap::new(),
            spare: BTreeMap::new(),
            spare_bytes: 0,
            clock: 0,
        }
    }

    /// Bytes for which room is taken. Never above the cap.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    pub(super) fn piece(&self, key: PieceKey) -> Option<&Piece> {
        self.pieces.get(&key)
    }

    pub(super) fn piece_mut(&mut self, key: PieceKey) -> Option<&mut Piece> {
        self.pieces.get_mut(&key)
    }

    /// The pieces of a torrent that are here.
    pub(super) fn pieces_of(&self, torrent: TorrentKey) -> impl Iterator<Item = (u32, &Piece)> {
        self.pieces
            .range((torrent, 0)..=(torrent, u32::MAX))
            .map(|((_, piece), state)| (*piece, state))
    }

    /// Takes room for a piece whose blocks have these lengths (0: padding, which is not fetched),
    /// letting spare ones go. It is not spare itself.
    pub(super) fn begin(&mut self, key: PieceKey, blocks: Vec<u32>) -> Result<&mut Piece, Full> {
        let piece = Piece::new(blocks);
        let length = piece.length;
        self.remove(key);
        if self.used - self.spare_bytes + length > self.cap {
            return Err(Full);
        }
        while self.used + length > self.cap {
            let (_, oldest) = self.spare.first_key_value().ok_or(Full)?;
            self.remove(*oldest);
        }
        self.used += length;
        Ok(self.pieces.entry(key).or_insert(piece))
    }

    /// Somebody asks for this piece: it stays.
    pub(super) fn keep(&mut self, key: PieceKey) {
        if let Some(piece) = self.pieces.get_mut(&key)
            && let Some(since) = piece.spare_since.take()
        {
            self.spare_bytes -= piece.length;
            self.spare.remove(&since);
        }
    }

    /// Nobody asks for this piece any longer: of the spare ones it is the last to go.
    pub(super) fn spare(&mut self, key: PieceKey) {
        self.keep(key);
        self.clock += 1;
        if let Some(piece) = self.pieces.get_mut(&key) {
            piece.spare_since = Some(self.clock);
            self.spare_bytes += piece.length;
            self.spare.insert(self.clock, key);
        }
    }

    pub(super) fn remove(&mut self, key: PieceKey) {
        self.keep(key);
        if let Some(piece) = self.pieces.remove(&key) {
            self.used -= piece.length;
        }
    }

    pub(super) fn remove_torrent(&mut self, torrent: TorrentKey) {
        let keys: Vec<_> = self.pieces_of(torrent).map(|(piece, _)| piece).collect();
        for piece in keys {
            self.remove((torrent, piece));
        }
    }
}

impl Piece {
    fn new(lengths: Vec<u32>) -> Self {
        let length = lengths.iter().map(|length| *length as usize).sum();
        let blocks: Vec<Block> = lengths.into_iter().map(Block::new).collect();
        let held = blocks.iter().filter(|block| block.bytes.is_some()).count();
        Self {
            held,
            missing: blocks.len() - held,
            blocks,
            state: PieceState::AwaitBlocks,
            length,
            spare_since: None,
        }
    }

    /// One for each chunk.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether no block is left that was not yet asked of anybody.
    pub(super) fn is_all_asked(&self) -> bool {
        self.missing == 0
    }

    /// A block was asked of a peer.
    pub(super) fn ask(&mut self, block: u32, asked: Asked) {
        let Some(block) = self.blocks.get_mut(block as usize) else {
            return;
        };
        let was_missing = block.is_missing();
        if let Some(free) = block.asked_of.iter_mut().find(|asked| asked.is_none()) {
            *free = Some(asked);
            self.missing -= usize::from(was_missing);
        }
    }

    /// A block is no longer expected from a peer.
    pub(super) fn forget(&mut self, block: u32, peer: PeerKey) {
        let Some(block) = self.blocks.get_mut(block as usize) else {
            return;
        };
        let was_missing = block.is_missing();
        for asked in &mut block.asked_of {
            asked.take_if(|asked| asked.peer == peer);
        }
        self.missing += usize::from(block.is_missing() && !was_missing);
    }

    /// Takes a block. The others of whom it was asked, or none if it is of no use.
    pub(super) fn receive(
        &mut self,
        block: u32,
        bytes: Bytes,
        from: (PeerKey, SocketAddr),
    ) -> Option<[Option<Asked>; MAX_ASKED_OF]> {
        self.forget(block, from.0);
        let block = self.blocks.get_mut(block as usize)?;
        if block.bytes.is_some() || block.length as usize != bytes.len() {
            return None;
        }
        self.missing -= usize::from(block.is_missing());
        self.held += 1;
        block.bytes = Some(bytes);
        block.from = Some(from);
        Some(std::mem::take(&mut block.asked_of))
    }

    /// All blocks, once all are here.
    pub(super) fn whole(&self) -> Option<Vec<Bytes>> {
        let all = self.held == self.blocks.len();
        all.then(|| {
            let bytes = self.blocks.iter().filter_map(|block| block.bytes.clone());
            bytes.collect()
        })
    }
}

impl Block {
    fn new(length: u32) -> Self {
        Self {
            length,
            bytes: (length == 0).then(Bytes::new),
            from: None,
            asked_of: [None; MAX_ASKED_OF],
        }
    }

    /// Neither here nor asked of anybody.
    pub(super) fn is_missing(&self) -> bool {
        self.bytes.is_none() && self.asked_of.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Store};
    use crate::swarm::TorrentKey;

    const A: TorrentKey = TorrentKey(1);
    const B: TorrentKey = TorrentKey(2);

    #[test]
    fn the_longest_spare_goes_first_and_the_asked_never() {
        let mut store = Store::new(100);
        for (torrent, piece) in [(A, 0), (A, 1), (B, 0)] {
            store.begin((torrent, piece), vec![20, 10]).expect("room");
        }
        assert_eq!(store.used(), 90);
        assert_eq!(store.begin((B, 1), vec![30]).err(), Some(Full));

        store.spare((A, 1));
        store.spare((A, 0));
        store.spare((A, 1)); // Served again: now the younger.
        store.begin((B, 1), vec![30]).expect("room");
        assert!(store.piece((A, 0)).is_none());
        assert!(store.piece((A, 1)).is_some());

        store.keep((A, 1)); // Asked for again.
        assert_eq!(store.begin((B, 2), vec![30]).err(), Some(Full));
        assert_eq!(store.used(), 90);
    }

    #[test]
    fn a_torrent_goes_with_all_that_it_used() {
        let mut store = Store::new(1000);
        for piece in 0..5 {
            store.begin((A, piece), vec![16, 16]).expect("room");
            store.begin((B, piece), vec![1]).expect("room");
        }
        store.spare((A, 3));
        store.remove_torrent(A);
        assert_eq!(store.used(), 5);
        assert_eq!(store.pieces_of(A).count(), 0);
        assert_eq!(store.pieces_of(B).count(), 5);
        assert!(store.spare.is_empty());
    }

    #[test]
    fn a_piece_above_the_cap_never_fits() {
        let mut store = Store::new(100);
        assert_eq!(store.begin((A, 0), vec![101]).err(), Some(Full));
        assert_eq!(store.used(), 0);
    }
}
