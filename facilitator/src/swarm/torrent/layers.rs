//! The piece layers of a torrent without a v1 half (BEP 52): without them no piece of a file
//! longer than a piece can be checked.
//!
//! They are fetched whole from one peer, as the info dictionary is, so that a liar is known.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chive_node::torrent::{CHUNK_LEN, Metainfo, Verifier};
use chive_node::wire::{DbEndReason, Section};
use tokio::time::Instant;

use super::{BLOCK_LEN, Info, Send, Torrent};
use crate::swarm::peers::PeerKey;

const HASH_LEN: usize = 32;
/// Hashes in one request. More may be refused (BEP 52).
const MAX_HASHES: u32 = 512;
/// Requests under way at once.
const MAX_REQUESTS: usize = 4;
/// A peer that sends no hashes for so long is not waited for.
const HASHES_TIMEOUT: Duration = Duration::from_secs(10);
/// Blocks of the layers that are asked for and not answered. Askers fill it; what comes when it is
/// full is refused as BUSY.
const MAX_BLOCKS_ASKED: usize = 2048;

/// A request for hashes, and what tells its answer from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HashRequest {
    /// Of which file.
    pub(crate) root: [u8; HASH_LEN],
    /// How far above the leaves.
    pub(crate) layer: u32,
    pub(crate) index: u32,
    pub(crate) count: u32,
}

/// What is known of the layers.
#[derive(Debug, Default)]
pub(super) struct Layers {
    known: Option<Bytes>,
    fetch: Option<(PeerKey, Fetch)>,
    /// Blocks of them that are asked for.
    asked: Vec<u32>,
}

/// The layers, as far as one peer has sent them.
#[derive(Debug)]
struct Fetch {
    wanted: Vec<Wanted>,
    next: usize,
    asked: usize,
    since: Instant,
}

#[derive(Debug)]
struct Wanted {
    request: HashRequest,
    /// How many of the hashes are of pieces; the others fill the tree up.
    of_pieces: u32,
    hashes: Option<Bytes>,
}

impl Torrent {
    /// Somebody asks for blocks of the layers.
    pub(super) fn handle_layer_blocks(&mut self, first: u32, count: u16) {
        let scope = |blocks: Range<u32>| {
            let count = u16::try_from(blocks.len()).unwrap_or(u16::MAX);
            Some((Section::PIECE_LAYERS, blocks.start, count))
        };
        let asked = first..first.saturating_add(count.into());
        let Some(verifier) = self.verifier().filter(|v| needs_layers(v.metainfo())) else {
            return self.fail(scope(asked), DbEndReason::UNAVAILABLE, None);
        };
        let blocks = verifier.piece_layers_length().div_ceil(BLOCK_LEN as usize);
        let end = asked.end.min(u32::try_from(blocks).unwrap_or(u32::MAX));
        let (asked, beyond) = (first..end.max(first), end.max(first)..asked.end);
        if !beyond.is_empty() {
            self.fail(scope(beyond), DbEndReason::PROTOCOL, None);
        }
        if self.layers.asked.len() + asked.len() > MAX_BLOCKS_ASKED {
            return self.fail(scope(asked), DbEndReason::BUSY, None);
        }
        self.layers.asked.extend(asked);
        self.has_answers = true;
    }

    /// Nobody asks for these blocks any longer.
    pub(super) fn cancel_layer_blocks(&mut self, first: u32, count: u16) {
        let taken = first..first.saturating_add(count.into());
        self.layers.asked.retain(|block| !taken.contains(block));
    }

    /// A block of the layers that can be answered.
    pub(super) fn next_layer_block(&mut self) -> Option<(u32, Bytes)> {
        let known = self.layers.known.as_ref()?;
        let block = *self.layers.asked.first()?;
        let start = (block as usize * BLOCK_LEN as usize).min(known.len());
        let end = (start + BLOCK_LEN as usize).min(known.len());
        self.layers.asked.remove(0);
        Some((block, known.slice(start..end)))
    }

    /// Whether pieces can be checked, and so are worth asking for.
    pub(super) fn can_check(&self) -> bool {
        let verifier = self.verifier();
        verifier.is_some_and(|v| !needs_layers(v.metainfo()) || !v.lacks_piece_layers())
    }

    /// Which hashes to ask this peer for, and when to look whether they came.
    pub(super) fn poll_layers(
        &mut self,
        now: Instant,
        key: PeerKey,
        out: &mut Vec<Send>,
    ) -> Option<Instant> {
        let verifier = self.verifier()?;
        if self.can_check() {
            return None;
        }
        if let Some((source, fetch)) = &self.layers.fetch {
            if *source != key {
                return None;
            }
            if now >= fetch.since + HASHES_TIMEOUT {
                self.handle_hashes_refused(key);
                return None;
            }
        } else {
            // One that never sent a bitfield has nothing.
            let peer = self.peers.get(&key)?;
            if peer.lacks_layers || peer.has.byte_length() == 0 {
                return None;
            }
            self.layers.fetch = Some((key, Fetch::new(now, verifier.metainfo())));
        }
        let (_, fetch) = self.layers.fetch.as_mut()?;
        while fetch.asked < MAX_REQUESTS
            && let Some(wanted) = fetch.wanted.get(fetch.next)
        {
            out.push(Send::Hashes(wanted.request));
            fetch.next += 1;
            fetch.asked += 1;
        }
        Some(fetch.since + HASHES_TIMEOUT)
    }

    /// A peer sent hashes. The layers, once all of them are there, to be checked by
    /// [`read_layers`] outside of the lock.
    pub(crate) fn handle_hashes(
        &mut self,
        now: Instant,
        key: PeerKey,
        request: HashRequest,
        hashes: &[u8],
    ) -> Option<(Arc<Verifier>, Bytes)> {
        let fetch = match &mut self.layers.fetch {
            Some((source, fetch)) if *source == key => fetch,
            _ => return None,
        };
        let wanted = fetch.wanted.iter_mut().find(|w| w.request == request)?;
        let of_pieces = hashes.get(..wanted.of_pieces as usize * HASH_LEN)?;
        wanted.hashes = Some(Bytes::copy_from_slice(of_pieces));
        fetch.since = now;
        fetch.asked = fetch.asked.saturating_sub(1);
        let all = fetch.wanted.iter().map(|wanted| wanted.hashes.as_deref());
        let all: Option<Vec<&[u8]>> = all.collect();
        let layers = all?.concat();
        Some((self.verifier()?, layers.into()))
    }

    /// A peer does not send hashes after all.
    pub(crate) fn handle_hashes_refused(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.lacks_layers = true;
        }
        self.end_layers_fetch(key);
    }

    /// What [`read_layers`] made of what a peer sent.
    pub(crate) fn handle_layers(&mut self, key: PeerKey, read: Option<(Verifier, Bytes)>) {
        self.end_layers_fetch(key);
        let Some((checked, layers)) = read else {
            return self.ban(key);
        };
        if let Info::Known { verifier, .. } = &mut self.info {
            *verifier = Some(Arc::new(checked));
            self.layers.known = Some(layers);
            self.has_answers = true;
        }
        self.wake_peers();
    }

    /// Another peer may be asked.
    pub(super) fn end_layers_fetch(&mut self, key: PeerKey) {
        if self
            .layers
            .fetch
            .take_if(|(source, _)| *source == key)
            .is_some()
        {
            self.wake_peers();
        }
    }
}

/// Checks layers against the files' roots.
pub(crate) fn read_layers(verifier: &Verifier, layers: Bytes) -> Option<(Verifier, Bytes)> {
    let mut verifier = verifier.clone();
    verifier.add_piece_layers(layers.clone()).ok()?;
    Some((verifier, layers))
}

impl Fetch {
    fn new(now: Instant, metainfo: &Metainfo) -> Self {
        let piece_length = u64::from(metainfo.piece_length());
        let layer = (metainfo.piece_length() / CHUNK_LEN).ilog2();
        let mut wanted = Vec::new();
        for file in metainfo.files() {
            let Some(root) = file.pieces_root.filter(|_| file.length > piece_length) else {
                continue;
            };
            let pieces = u32::try_from(file.length.div_ceil(piece_length)).unwrap_or(u32::MAX);
            let count = pieces.next_power_of_two().min(MAX_HASHES);
            for index in (0..pieces).step_by(count as usize) {
                wanted.push(Wanted {
                    request: HashRequest {
                        root,
                        layer,
                        index,
                        count,
                    },
                    of_pieces: (pieces - index).min(count),
                    hashes: None,
                });
            }
        }
        Self {
            wanted,
            next: 0,
            asked: 0,
            since: now,
        }
    }
}

fn needs_layers(metainfo: &Metainfo) -> bool {
    metainfo.v1().is_none()
}
