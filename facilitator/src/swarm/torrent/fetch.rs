//! Who is asked for which block, and what becomes of the blocks that come.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use sha1::{Digest, Sha1};
use tokio::time::Instant;

use super::{BLOCK_LEN, Check, Send, Torrent};
use crate::swarm::peers::{MAX_QUEUE_DELAY, MIN_QUEUE_DELAY, PeerKey, Request};
use crate::swarm::store::{Asked, Full, Piece, PieceState, Store};

/// How many pieces of each run are looked at for something to ask, and of all runs.
const MAX_PIECES_AHEAD: u32 = 256;
const MAX_WANTED: usize = 4096;

/// A peer that owes us blocks and sends none for so long is left.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(25);

/// How often an idle peer looks whether another is late.
const LATE_CHECK: Duration = Duration::from_millis(100);

/// Over how long a rate is measured.
const RATE_INTERVAL: Duration = Duration::from_millis(250);

/// Blocks asked of a second peer at a time.
const MAX_SECOND_ASKS: usize = 8;

/// Blocks that a peer may send without being asked, above those that it was asked for: they are
/// those that were taken back too late.
const MAX_UNASKED: u32 = 2000;

/// A place is given to a new peer when the old one was of no use for so long.
const USELESS_AFTER: Duration = Duration::from_secs(30);

/// Pieces of which it is remembered who sent what when they were wrong. Liars fill it; when it is
/// full the oldest piece's liars stay unknown.
const MAX_SUSPICIONS: usize = 16;

/// How fast the torrent comes, over the last second or so.
#[derive(Debug, Default)]
pub(super) struct Rate {
    bytes_per_second: u64,
    since: Option<Instant>,
    bytes: u64,
}

impl Rate {
    fn count(&mut self, now: Instant, bytes: u64) {
        let since = *self.since.get_or_insert(now);
        self.bytes += bytes;
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= RATE_INTERVAL {
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            let latest = self.bytes.saturating_mul(1_000_000) / micros.max(1);
            self.bytes_per_second = (self.bytes_per_second + latest) / 2;
            self.since = Some(now);
            self.bytes = 0;
        }
    }

    /// How long blocks may wait at the peers: half of the time in which all that is asked for
    /// comes. So no peer is given what is needed before it can send it.
    fn queue_delay(&self, chunks_asked: usize) -> Duration {
        let asked = chunks_asked as u64 * u64::from(BLOCK_LEN);
        let micros = (asked / 2).saturating_mul(1_000_000) / self.bytes_per_second.max(1);
        Duration::from_micros(micros).clamp(MIN_QUEUE_DELAY, MAX_QUEUE_DELAY)
    }
}

/// A piece was wrong and several peers had sent of it. It is fetched again from one of them alone;
/// then those whose blocks differ are known.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    sent: Vec<(usize, SocketAddr, [u8; 20])>,
}

impl Torrent {
    /// A connection to a peer stands.
    pub(crate) fn handle_connected(
        &mut self,
        now: Instant,
        key: PeerKey,
        address: SocketAddr,
        wake: std::sync::Arc<tokio::sync::Notify>,
    ) {
        self.connecting = self.connecting.saturating_sub(1);
        let peer = super::Peer::new(now, address, wake);
        self.peers.insert(key, peer);
    }

    /// A connection ended, or never stood.
    pub(crate) fn handle_gone(
        &mut self,
        now: Instant,
        store: &mut Store,
        key: PeerKey,
        address: SocketAddr,
    ) {
        let peer = self.peers.remove(&key);
        if peer.is_none() {
            self.connecting = self.connecting.saturating_sub(1);
        }
        if let Some(peer) = &peer {
            self.forget(store, key, peer.queue.iter());
            self.restart_alone(store, key);
            self.end_layers_fetch(key);
        }
        let was_of_use = peer.is_some_and(|peer| peer.last_block.is_some());
        if !self.book.is_banned(address) {
            self.book.ended(now, address, was_of_use);
        }
        self.wake_peers();
        self.changed.notify_one();
    }

    /// It told which pieces it has.
    pub(crate) fn handle_bitfield(&mut self, key: PeerKey, bitfield: &[u8]) {
        let pieces = self.metainfo().map(|metainfo| metainfo.piece_count());
        if let Some(peer) = self.peers.get_mut(&key) {
            if pieces.is_some_and(|pieces| bitfield.len() != (pieces as usize).div_ceil(8)) {
                peer.hang_up = true;
            } else {
                peer.has.set_all(bitfield);
            }
        }
    }

    /// It has one more piece.
    pub(crate) fn handle_have(&mut self, key: PeerKey, piece: u32) {
        let pieces = self.metainfo().map(|metainfo| metainfo.piece_count());
        if let Some(peer) = self.peers.get_mut(&key) {
            if piece >= pieces.unwrap_or(chive_node::torrent::MAX_PIECES) {
                peer.hang_up = true;
            } else {
                peer.has.set(piece);
            }
        }
    }

    /// It forgets all that was asked of it, or takes requests again.
    pub(crate) fn handle_choked(&mut self, store: &mut Store, key: PeerKey, choked: bool) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.choked = choked;
        if choked {
            let queue = std::mem::take(&mut peer.queue);
            peer.cancels.clear();
            self.forget(store, key, queue.iter());
            self.restart_alone(store, key);
            self.wake_peers();
        }
    }

    /// It says how many requests it keeps waiting.
    pub(crate) fn handle_queue_limit(&mut self, key: PeerKey, requests: u32) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.limit_depth(requests);
        }
    }

    /// A block came. If it makes its piece whole, the piece is to be checked outside of the lock,
    /// and [`Self::handle_checked`] told.
    pub(crate) fn handle_block(
        &mut self,
        now: Instant,
        store: &mut Store,
        key: PeerKey,
        piece: u32,
        offset: u32,
        bytes: Bytes,
    ) -> Option<Check> {
        self.counts.received += bytes.len() as u64;
        let asked = |request: &Request| {
            (request.piece, request.block * BLOCK_LEN) == (piece, offset)
                && request.length as usize == bytes.len()
        };
        let length = bytes.len() as u64;
        let peer = self.peers.get_mut(&key)?;
        let from = (key, peer.address);
        let Some(at) = peer.queue.iter().position(asked) else {
            self.counts.wasted += length;
            peer.unasked += 1;
            peer.hang_up |= peer.unasked > MAX_UNASKED;
            return None;
        };
        let request = peer.queue.remove(at)?;
        peer.unasked = peer.unasked.saturating_sub(1);
        let waited = now.saturating_duration_since(request.at);
        peer.block_came(now, waited, self.rate.queue_delay(self.asks.count()));
        self.rate.count(now, length);
        self.progress_at = now;

        let held = store.piece_mut((self.key, piece));
        let Some(others) = held.and_then(|held| held.receive(request.block, bytes, from)) else {
            self.counts.wasted += length;
            return None;
        };
        for other in others.into_iter().flatten() {
            self.take_back(other.peer, piece, request.block);
        }
        self.begin_check(store, piece)
    }

    /// A piece was checked.
    pub(crate) fn handle_checked(&mut self, store: &mut Store, piece: u32, good: bool) {
        let key = (self.key, piece);
        let Some(held) = store.piece_mut(key) else {
            return;
        };
        if held.state != PieceState::AwaitCheck {
            return;
        }
        if good {
            held.state = PieceState::Verified;
            self.has_answers = true;
            let blocks: Vec<Option<Bytes>> = held
                .blocks()
                .iter()
                .map(|block| block.bytes.clone())
                .collect();
            if let Some(suspicion) = self.suspicions.remove(&piece) {
                for address in suspicion.liars(&blocks) {
                    self.ban_address(address);
                }
            }
            if let Some(metainfo) = self.metainfo()
                && !self.asks.wants(&metainfo.piece_chunks(piece))
            {
                store.spare(key);
            }
        } else {
            self.suspect(piece, store);
            store.remove(key);
            self.wake_peers();
        }
    }

    /// What to do on this connection; and when to come back. None: hang up.
    pub(crate) fn poll_send(
        &mut self,
        now: Instant,
        store: &mut Store,
        key: PeerKey,
        out: &mut Vec<Send>,
    ) -> Option<Instant> {
        let metadata_at = self.poll_metadata(now, key, out);
        let layers_at = self.poll_layers(now, key, out);
        let peer = self.peers.get_mut(&key)?;
        let silent_at = peer.silent_since().map(|since| since + SILENCE_TIMEOUT);
        if peer.hang_up || silent_at.is_some_and(|at| now >= at) {
            return None;
        }
        out.extend(peer.cancels.drain(..).map(Send::Cancel));
        let room = if peer.choked { 0 } else { peer.room() };
        let mut late_at = None;
        if room > 0 && self.can_check() {
            let before = out.len();
            self.pick(now, store, key, room, out);
            if out.len() - before < room && !self.asks.is_empty() {
                late_at = Some(now + LATE_CHECK);
            }
        }
        let idle = now + Duration::from_secs(3600);
        let wakes = [metadata_at, layers_at, silent_at, late_at];
        Some(wakes.into_iter().flatten().min().unwrap_or(idle))
    }

    /// Takes room for the next piece of every run. A run whose next piece finds none fails.
    pub(super) fn claim_fronts(&mut self, store: &mut Store) {
        let Some(metainfo) = self.metainfo() else {
            return;
        };
        let mut run = 0;
        while let Some(next) = self.asks.runs().get(run).map(|run| run.next) {
            match self.claim(store, metainfo.piece_of(next), true) {
                Ok(()) => run += 1,
                Err(Full) => self.fail_run(store, run, super::DbEndReason::EXHAUSTED),
            }
        }
    }

    /// These chunks were answered or taken back: pieces of which nobody wants any more are spare.
    pub(super) fn release(&mut self, store: &mut Store, chunks: Range<u32>) {
        let Some(metainfo) = self.metainfo() else {
            return;
        };
        if chunks.is_empty() {
            return;
        }
        for piece in metainfo.piece_of(chunks.start)..=metainfo.piece_of(chunks.end - 1) {
            if !self.asks.wants(&metainfo.piece_chunks(piece)) {
                store.spare((self.key, piece));
            }
        }
    }

    /// Ends the connection to the peer that was of least use lately, for one that waits; or says
    /// when there may be one.
    pub(super) fn make_place(&mut self, now: Instant) -> Instant {
        let of_use = |peer: &super::Peer| peer.last_block.unwrap_or(peer.connected_at);
        let worst = self.peers.values_mut().min_by_key(|peer| of_use(peer));
        let Some(peer) = worst else {
            return now + USELESS_AFTER;
        };
        if now < of_use(peer) + USELESS_AFTER {
            return of_use(peer) + USELESS_AFTER;
        }
        peer.hang_up = true;
        peer.wake.notify_one();
        now + USELESS_AFTER
    }

    /// Never again.
    pub(super) fn ban(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get(&key) {
            self.ban_address(peer.address);
        }
    }

    fn ban_address(&mut self, address: SocketAddr) {
        self.book.ban(address);
        for peer in self.peers.values_mut().filter(|p| p.address == address) {
            peer.hang_up = true;
            peer.wake.notify_one();
        }
    }

    /// Asks this peer for blocks: those that nobody was asked for, in the order in which they are
    /// wanted; then those that another peer is late with.
    fn pick(
        &mut self,
        now: Instant,
        store: &mut Store,
        key: PeerKey,
        room: usize,
        out: &mut Vec<Send>,
    ) {
        let Some(metainfo) = self.metainfo() else {
            return;
        };
        let mut room = room;
        let mut late = Vec::new();
        let mut is_full = false;
        for (piece, is_front) in self.wanted(metainfo.chunks_per_piece()) {
            if room == 0 {
                return;
            }
            let has = |peer: &super::Peer| peer.has.contains(piece);
            if piece >= metainfo.piece_count() || !self.peers.get(&key).is_some_and(has) {
                continue;
            }
            if is_full && store.piece((self.key, piece)).is_none() {
                continue;
            }
            if self.claim(store, piece, is_front).is_err() {
                is_full = true;
                continue;
            }
            let Some(held) = store.piece_mut((self.key, piece)) else {
                continue;
            };
            if held.state != PieceState::AwaitBlocks {
                continue;
            }
            if self.suspicions.contains_key(&piece) && !is_only_from(held, key) {
                continue;
            }
            if held.is_all_asked() {
                late.push(piece);
                continue;
            }
            for block in 0..held.blocks().len() {
                let missing = held.blocks().get(block).filter(|block| block.is_missing());
                if let Some(length) = missing.map(|block| block.length) {
                    self.ask(now, held, key, (piece, block as u32, length), out);
                    room -= 1;
                    if room == 0 {
                        return;
                    }
                }
            }
        }
        self.pick_late(now, store, key, &late, room.min(MAX_SECOND_ASKS), out);
    }

    /// Asks for blocks with which another peer is late.
    fn pick_late(
        &mut self,
        now: Instant,
        store: &mut Store,
        key: PeerKey,
        pieces: &[u32],
        mut room: usize,
        out: &mut Vec<Send>,
    ) {
        let Some(first_patience) = self.peers.get(&key).map(|peer| peer.first_patience()) else {
            return;
        };
        for piece in pieces {
            if self.suspicions.contains_key(piece) {
                continue;
            }
            let Some(held) = store.piece_mut((self.key, *piece)) else {
                continue;
            };
            for block in 0..held.blocks().len() {
                let Some(asked) = held.blocks().get(block) else {
                    break;
                };
                let mut others = asked.asked_of.iter().flatten();
                let (Some(other), None) = (others.next(), others.next()) else {
                    continue;
                };
                let late_at = other.late_at.unwrap_or(other.at + first_patience);
                if other.peer == key || asked.bytes.is_some() || now < late_at {
                    continue;
                }
                if room == 0 {
                    return;
                }
                let length = asked.length;
                self.ask(now, held, key, (*piece, block as u32, length), out);
                room -= 1;
            }
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        held: &mut Piece,
        key: PeerKey,
        (piece, block, length): (u32, u32, u32),
        out: &mut Vec<Send>,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let asked = Asked {
            peer: key,
            at: now,
            late_at: peer.late_at(now),
        };
        held.ask(block, asked);
        let mut queue = peer.queue.iter();
        if queue.any(|request| (request.piece, request.block) == (piece, block)) {
            // Asked before the piece had to give way to others; it still comes.
            return;
        }
        let request = Request {
            piece,
            block,
            length,
            at: now,
        };
        peer.queue.push_back(request);
        out.push(Send::Request(request));
    }

    /// The pieces that are wanted, in the order in which they are, and whether one is the next of
    /// its run. Runs take turns.
    fn wanted(&self, chunks_per_piece: u32) -> Vec<(u32, bool)> {
        let mut wanted = Vec::new();
        let pieces = |run: &crate::asks::Run| {
            let first = run.next / chunks_per_piece;
            first..run.end.div_ceil(chunks_per_piece)
        };
        for ahead in 0..MAX_PIECES_AHEAD {
            let before = wanted.len();
            for run in self.asks.runs() {
                wanted.extend(pieces(run).nth(ahead as usize).map(|p| (p, ahead == 0)));
            }
            if wanted.len() == before || wanted.len() >= MAX_WANTED {
                break;
            }
        }
        wanted.extend(self.asks.read_ahead(chunks_per_piece).map(|p| (p, false)));
        wanted
    }

    /// Takes room for a piece, if it is not there yet. For the next piece of a run, those that are
    /// wanted last give way.
    fn claim(&mut self, store: &mut Store, piece: u32, is_front: bool) -> Result<(), Full> {
        let key = (self.key, piece);
        if store.piece(key).is_some() {
            return Ok(());
        }
        let metainfo = self.metainfo().ok_or(Full)?;
        let lengths = metainfo.piece_chunks(piece);
        let lengths: Vec<u32> = lengths.map(|chunk| metainfo.chunk_length(chunk)).collect();
        if is_front && lengths.iter().sum::<u32>() as usize <= store.cap() {
            while store.begin(key, lengths.clone()).is_err() {
                let last = self
                    .last_wanted(store, metainfo.chunks_per_piece())
                    .ok_or(Full)?;
                self.drop_piece(store, last);
            }
        } else {
            store.begin(key, lengths)?;
        }
        if !self.asks.wants(&metainfo.piece_chunks(piece)) {
            store.spare(key);
        }
        Ok(())
    }

    /// The piece in memory that is wanted last, and is not the next of a run.
    fn last_wanted(&self, store: &Store, chunks_per_piece: u32) -> Option<u32> {
        let wanted = self.wanted(chunks_per_piece);
        let held = |piece: u32| store.piece((self.key, piece)).is_some();
        let fronts: BTreeSet<u32> = wanted.iter().filter(|w| w.1).map(|w| w.0).collect();
        let mut last = wanted.iter().rev().map(|(piece, _)| *piece);
        last.find(|piece| held(*piece) && !fronts.contains(piece))
    }

    /// Gives the room of a piece back, and takes back what was asked of it.
    fn drop_piece(&mut self, store: &mut Store, piece: u32) {
        self.take_back_piece(store, piece);
        store.remove((self.key, piece));
    }

    /// Takes back what was asked of those pieces of which nobody wants anything any longer.
    pub(super) fn take_back_unwanted(&mut self, store: &mut Store, chunks: &Range<u32>) {
        let Some(metainfo) = self.metainfo() else {
            return;
        };
        let held: Vec<u32> = store.pieces_of(self.key).map(|(piece, _)| piece).collect();
        for piece in held {
            let of_piece = metainfo.piece_chunks(piece);
            let touched = of_piece.start < chunks.end && chunks.start < of_piece.end;
            if touched && !self.asks.wants(&of_piece) {
                self.take_back_piece(store, piece);
            }
        }
    }

    fn take_back_piece(&mut self, store: &mut Store, piece: u32) {
        let Some(held) = store.piece_mut((self.key, piece)) else {
            return;
        };
        for block in 0..held.blocks().len() {
            let asked_of = held.blocks().get(block).map(|block| block.asked_of);
            for asked in asked_of.into_iter().flatten().flatten() {
                held.forget(block as u32, asked.peer);
                self.take_back(asked.peer, piece, block as u32);
            }
        }
    }

    /// A request is not wanted any longer.
    fn take_back(&mut self, key: PeerKey, piece: u32, block: u32) {
        if let Some(peer) = self.peers.get_mut(&key)
            && let Some(at) = peer
                .queue
                .iter()
                .position(|request| (request.piece, request.block) == (piece, block))
            && let Some(request) = peer.queue.remove(at)
        {
            peer.cancels.push(request);
            peer.wake.notify_one();
        }
    }

    /// These requests will not be answered by this peer.
    fn forget<'a>(
        &mut self,
        store: &mut Store,
        key: PeerKey,
        requests: impl Iterator<Item = &'a Request>,
    ) {
        for request in requests {
            if let Some(held) = store.piece_mut((self.key, request.piece)) {
                held.forget(request.block, key);
            }
        }
    }

    /// A piece that this peer alone was to send is begun anew, so that again one alone sends it.
    fn restart_alone(&mut self, store: &mut Store, key: PeerKey) {
        let suspect: Vec<u32> = self.suspicions.keys().copied().collect();
        for piece in suspect {
            let held = store.piece((self.key, piece));
            let began = |held: &Piece| {
                held.blocks()
                    .iter()
                    .any(|block| block.from.is_some_and(|from| from.0 == key))
            };
            if held.is_some_and(|held| held.state == PieceState::AwaitBlocks && began(held)) {
                store.remove((self.key, piece));
            }
        }
    }

    fn begin_check(&mut self, store: &mut Store, piece: u32) -> Option<Check> {
        let verifier = self.verifier()?;
        let held = store.piece_mut((self.key, piece))?;
        let blocks = held.whole()?;
        if held.state != PieceState::AwaitBlocks {
            return None;
        }
        held.state = PieceState::AwaitCheck;
        Some(Check {
            piece,
            verifier,
            blocks,
        })
    }

    /// A piece was wrong: bans who sent it, or remembers who sent what of it.
    fn suspect(&mut self, piece: u32, store: &Store) {
        let Some(held) = store.piece((self.key, piece)) else {
            return;
        };
        let mut suspicion = Suspicion::default();
        for (at, block) in held.blocks().iter().enumerate() {
            let Some(bytes) = block.bytes.as_ref() else {
                continue;
            };
            self.counts.wasted += bytes.len() as u64;
            if let Some((_, address)) = block.from {
                let hash = Sha1::digest(bytes).into();
                suspicion.sent.push((at, address, hash));
            }
        }
        let mut senders = suspicion.sent.iter().map(|(_, address, _)| *address);
        let first = senders.next();
        match first {
            Some(address) if senders.all(|sender| sender == address) => self.ban_address(address),
            _ => {
                if self.suspicions.len() >= MAX_SUSPICIONS {
                    self.suspicions.pop_first();
                }
                self.suspicions.entry(piece).or_insert(suspicion);
            }
        }
    }
}

impl Suspicion {
    /// Who sent something else than what is right.
    fn liars(&self, right: &[Option<Bytes>]) -> Vec<SocketAddr> {
        let mut liars = Vec::new();
        for (at, address, hash) in &self.sent {
            let bytes = right.get(*at).and_then(Option::as_ref);
            let differs = bytes.is_some_and(|b| <[u8; 20]>::from(Sha1::digest(b)) != *hash);
            if differs && !liars.contains(address) {
                liars.push(*address);
            }
        }
        liars
    }
}

/// Whether nobody else has sent or been asked for a block of this piece.
fn is_only_from(held: &Piece, key: PeerKey) -> bool {
    held.blocks().iter().all(|block| {
        let other = |peer: PeerKey| peer != key;
        !block.from.is_some_and(|from| other(from.0))
            && !block
                .asked_of
                .iter()
                .flatten()
                .any(|asked| other(asked.peer))
    })
}
