//! One torrent: what is asked of it, which peer is asked for what, and what came.
//!
//! No I/O is done here and no clock is read: the tasks of [`super::run`] and [`super::connection`]
//! bring in what happened and take out what to do.

mod fetch;
mod info;
mod layers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chive_node::ordb::ContentAnswer;
use chive_node::torrent::{Infohash, Metainfo, Verdict, Verifier};
use chive_node::wire::{DbEndReason, Section, Tried};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::fetch::{Rate, Suspicion};
pub(super) use self::info::{read_info, swarm_id};
use self::layers::Layers;
pub(super) use self::layers::{HashRequest, read_layers};
use super::peers::{AddressBook, Peer, PeerKey, Request};
use super::store::{PieceState, Store};
use super::{SwarmConfig, TorrentKey};
use crate::address::may_contact;
use crate::asks::Asks;

/// Failures that were not taken yet. Askers of nonsense fill it faster than the host takes them;
/// when it is full the oldest is dropped, and whoever asked gives up by itself.
const MAX_FAILURES: usize = 256;

/// The length of a block of any section.
const BLOCK_LEN: u32 = chive_node::torrent::CHUNK_LEN;

/// One torrent.
#[derive(Debug)]
pub(super) struct Torrent {
    pub(super) key: TorrentKey,
    pub(super) name: Infohash,
    config: Arc<SwarmConfig>,
    opened_at: Instant,
    info: Info,
    asks: Asks,
    /// Which run is answered next: they take turns.
    turn: usize,
    /// When something last came, or began to be waited for.
    progress_at: Instant,
    peers: BTreeMap<PeerKey, Peer>,
    connecting: usize,
    next_peer: u64,
    pub(super) book: AddressBook,
    suspicions: BTreeMap<u32, Suspicion>,
    rate: Rate,
    layers: Layers,
    tried: Tried,
    opened: Option<Bytes>,
    /// Whether [`Self::poll_answer`] may have something.
    pub(super) has_answers: bool,
    failures: VecDeque<ContentAnswer>,
    /// Wakes the task that dials.
    pub(super) changed: Arc<Notify>,
    pub(super) counts: Counts,
}

/// What is known of the torrent.
#[derive(Debug)]
enum Info {
    /// Nobody sent the info dictionary yet; since when somebody claims that it is over the limit.
    AwaitMetadata { too_large_since: Option<Instant> },
    /// The dictionary, and what checks pieces; none if the dictionary makes no sense to us.
    Known {
        bytes: Bytes,
        verifier: Option<Arc<Verifier>>,
    },
}

/// Bytes of content that came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) received: u64,
    /// Those that were of no use: twice sent, taken back too late, wrong.
    pub(super) wasted: u64,
}

impl Counts {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            wasted: self.wasted + other.wasted,
        }
    }
}

/// What a torrent's task has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Connect to this peer.
    Dial(PeerKey, SocketAddr),
    /// Come back then, or when [`Torrent::changed`] says so.
    Wait(Instant),
    /// Nobody has it: the torrent is to be let go.
    End,
}

/// What a connection has to do for us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Send {
    Request(Request),
    Cancel(Request),
    /// Ask for this part of the info dictionary.
    Metadata(u32),
    Hashes(HashRequest),
}

/// A piece that is whole and has to be checked, outside of the lock.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) piece: u32,
    pub(super) verifier: Arc<Verifier>,
    pub(super) blocks: Vec<Bytes>,
}

impl Check {
    pub(super) fn is_good(&self) -> bool {
        let blocks = self.blocks.iter().map(|block| &block[..]);
        self.verifier.check_piece(self.piece, blocks) == Verdict::Good
    }
}

impl Torrent {
    pub(super) fn new(
        now: Instant,
        key: TorrentKey,
        name: Infohash,
        config: Arc<SwarmConfig>,
    ) -> Self {
        let mut book = AddressBook::default();
        // The operator named these: they are not a stranger's.
        for address in &config.peers {
            book.add_lasting(now, *address);
        }
        Self {
            key,
            name,
            config,
            opened_at: now,
            info: Info::AwaitMetadata {
                too_large_since: None,
            },
            asks: Asks::default(),
            turn: 0,
            progress_at: now,
            peers: BTreeMap::new(),
            connecting: 0,
            next_peer: 0,
            book,
            suspicions: BTreeMap::new(),
            rate: Rate::default(),
            layers: Layers::default(),
            tried: Tried::default(),
            opened: None,
            has_answers: false,
            failures: VecDeque::new(),
            changed: Arc::default(),
            counts: Counts::default(),
        }
    }

    // === What the ORDB wants ===

    /// Somebody opens it, perhaps again.
    pub(super) fn handle_open(&mut self) {
        if let Info::Known { bytes, .. } = &self.info {
            self.opened = Some(bytes.clone());
            self.has_answers = true;
        }
    }

    /// Somebody asks for blocks.
    pub(super) fn handle_blocks(
        &mut self,
        now: Instant,
        store: &mut Store,
        section: Section,
        first: u32,
        count: u16,
    ) {
        if section == Section::PIECE_LAYERS {
            return self.handle_layer_blocks(first, count);
        }
        let metainfo = self.metainfo().filter(|_| section == Section::CHUNKS);
        let Some(metainfo) = metainfo else {
            let scope = Some((section, first, count));
            return self.fail(scope, DbEndReason::UNAVAILABLE, None);
        };
        if self.asks.is_empty() {
            self.progress_at = now;
        }
        let mut has_work = false;
        let asked = first..first.saturating_add(count.into());
        for (chunks, is_content) in content_runs(&metainfo, asked) {
            // Several may ask in one go; one's nonsense is not the other's failure.
            if !is_content {
                self.fail_chunks(chunks, DbEndReason::PROTOCOL);
            } else if self.asks.add(chunks.clone()).is_err() {
                self.fail_chunks(chunks, DbEndReason::BUSY);
            } else {
                for piece in metainfo.piece_of(chunks.start)..=metainfo.piece_of(chunks.end - 1) {
                    store.keep((self.key, piece));
                    let held = store.piece((self.key, piece));
                    has_work |= held.is_none_or(|held| !held.is_all_asked());
                }
            }
        }
        self.claim_fronts(store);
        self.has_answers = true;
        if has_work {
            self.wake_peers();
        }
        self.changed.notify_one();
    }

    /// Nobody asks for these blocks any longer.
    pub(super) fn handle_cancel(
        &mut self,
        store: &mut Store,
        section: Section,
        first: u32,
        count: u16,
    ) {
        if section == Section::CHUNKS {
            let chunks = first..first.saturating_add(count.into());
            self.asks.cancel(chunks.clone());
            self.take_back_unwanted(store, &chunks);
            self.release(store, chunks);
            self.wake_peers();
        } else if section == Section::PIECE_LAYERS {
            self.cancel_layer_blocks(first, count);
        }
    }

    /// What to answer now.
    pub(super) fn poll_answer(&mut self, store: &mut Store) -> Option<ContentAnswer> {
        let answer = self.next_answer(store);
        self.has_answers = answer.is_some();
        answer
    }

    fn next_answer(&mut self, store: &mut Store) -> Option<ContentAnswer> {
        if let Some(metadata) = self.opened.take() {
            let name = self.name;
            return Some(ContentAnswer::Opened { name, metadata });
        }
        if let Some(failure) = self.failures.pop_front() {
            return Some(failure);
        }
        if let Some((block, bytes)) = self.next_layer_block() {
            return Some(ContentAnswer::Block {
                name: self.name,
                section: Section::PIECE_LAYERS,
                block,
                bytes,
            });
        }
        let verifier = self.verifier()?;
        let metainfo = verifier.metainfo();
        let runs = self.asks.runs().len();
        for place in 0..runs {
            let at = (self.turn + place) % runs;
            let chunk = self.asks.runs().get(at)?.next;
            let piece = metainfo.piece_of(chunk);
            let Some(held) = store.piece((self.key, piece)) else {
                continue;
            };
            if held.state != PieceState::Verified {
                continue;
            }
            let chunks = metainfo.piece_chunks(piece);
            let block = held.blocks().get((chunk - chunks.start) as usize)?;
            let bytes = block.bytes.clone()?;
            self.asks.advance(at);
            self.turn = at + 1;
            self.release(store, chunk..chunk + 1);
            if chunk + 1 == chunks.end {
                self.claim_fronts(store);
            }
            return Some(ContentAnswer::Block {
                name: self.name,
                section: Section::CHUNKS,
                block: chunk,
                bytes,
            });
        }
        None
    }

    // === What the torrent's task does ===

    /// What to do now.
    pub(super) fn poll_step(&mut self, now: Instant, store: &mut Store) -> Step {
        let mut wake_at = now + Duration::from_secs(3600);
        if let Info::AwaitMetadata { too_large_since } = self.info {
            let give_up_at = self.opened_at + self.config.find_timeout;
            let too_large_at = too_large_since.map(|since| since + TOO_LARGE_AFTER);
            if too_large_at.is_some_and(|at| now >= at) {
                self.fail(None, DbEndReason::TOO_LARGE, None);
                return Step::End;
            }
            if now >= give_up_at {
                let seconds = now.saturating_duration_since(self.opened_at).as_secs();
                self.tried.seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
                self.fail(None, DbEndReason::NOT_FOUND, Some(self.tried));
                return Step::End;
            }
            wake_at = too_large_at.map_or(give_up_at, |at| at.min(give_up_at));
        } else if !self.asks.is_empty() {
            if self.has_answers {
                // It is the host that does not take what it asked for.
                self.progress_at = now;
            }
            let give_up_at = self.progress_at + self.config.stall_timeout;
            if now >= give_up_at {
                while !self.asks.is_empty() {
                    self.fail_run(store, 0, DbEndReason::GONE);
                }
            } else {
                wake_at = give_up_at;
            }
        }
        if self.peers.len() + self.connecting < self.config.max_peers {
            if let Some((address, first)) = self.book.take(now) {
                self.tried.peers = self.tried.peers.saturating_add(u32::from(first));
                self.connecting += 1;
                self.next_peer += 1;
                return Step::Dial(PeerKey(self.next_peer), address);
            }
            wake_at = self.book.next_at().map_or(wake_at, |at| at.min(wake_at));
        } else if self.lacks_blocks() && self.book.next_at().is_some_and(|at| at <= now) {
            // Somebody waits for a place.
            wake_at = wake_at.min(self.make_place(now));
        }
        Step::Wait(wake_at)
    }

    /// A stranger named an address.
    pub(super) fn handle_address(&mut self, now: Instant, address: SocketAddr) {
        // A socket for both families names IPv4 peers so.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if may_contact(address, self.config.allow_private) && self.book.add(now, address) {
            self.changed.notify_one();
        }
    }

    /// The DHT or another peer named an address. Of a private torrent only trackers may (BEP 27).
    pub(super) fn handle_gossip(&mut self, now: Instant, address: SocketAddr) {
        if !self.is_private() {
            self.handle_address(now, address);
        }
    }

    /// Whether nobody but trackers may hear and tell of its peers (BEP 27). Until the metadata is
    /// here nobody knows, for a magnet link does not say so.
    pub(super) fn is_private(&self) -> bool {
        let verifier = self.verifier();
        verifier.is_some_and(|verifier| verifier.metainfo().is_private())
    }

    /// Whether more peers would be of use.
    pub(super) fn lacks_peers(&self) -> bool {
        self.lacks_blocks() && self.peers.len() < self.config.max_peers / 2
    }

    fn lacks_blocks(&self) -> bool {
        matches!(self.info, Info::AwaitMetadata { .. }) || !self.asks.is_empty()
    }

    /// Nodes of the DHT answered.
    pub(super) fn count_dht_nodes(&mut self, nodes: u32) {
        self.tried.dht_nodes = self.tried.dht_nodes.saturating_add(nodes);
    }

    /// A tracker answered for the first time.
    pub(super) fn count_tracker(&mut self) {
        self.tried.trackers = self.tried.trackers.saturating_add(1);
    }

    pub(super) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Whether a peer was asked for blocks that did not come yet.
    pub(super) fn owes(&self, peer: PeerKey) -> bool {
        let peer = self.peers.get(&peer);
        peer.is_some_and(|peer| !peer.queue.is_empty())
    }

    /// What is left to say when the torrent is let go.
    pub(super) fn take_failures(&mut self) -> VecDeque<ContentAnswer> {
        std::mem::take(&mut self.failures)
    }

    fn fail(
        &mut self,
        scope: Option<(Section, u32, u16)>,
        reason: DbEndReason,
        tried: Option<Tried>,
    ) {
        if self.failures.len() >= MAX_FAILURES {
            self.failures.pop_front();
        }
        self.has_answers = true;
        self.failures.push_back(ContentAnswer::Failed {
            name: self.name,
            scope,
            reason,
            tried,
        });
    }

    /// This run will not be answered.
    fn fail_run(&mut self, store: &mut Store, run: usize, reason: DbEndReason) {
        let run = self.asks.remove(run);
        self.release(store, run.next..run.end);
        self.fail_chunks(run.next..run.end, reason);
    }

    fn fail_chunks(&mut self, chunks: Range<u32>, reason: DbEndReason) {
        let mut first = chunks.start;
        while first < chunks.end {
            let count = u16::try_from(chunks.end - first).unwrap_or(u16::MAX);
            let count = count.min(chive_node::wire::MAX_ASK_BLOCKS);
            self.fail(Some((Section::CHUNKS, first, count)), reason, None);
            first += u32::from(count);
        }
    }

    fn verifier(&self) -> Option<Arc<Verifier>> {
        match &self.info {
            Info::Known { verifier, .. } => verifier.clone(),
            Info::AwaitMetadata { .. } => None,
        }
    }

    fn metainfo(&self) -> Option<Arc<Metainfo>> {
        Some(self.verifier()?.metainfo().clone())
    }

    fn wake_peers(&self) {
        for peer in self.peers.values() {
            peer.wake.notify_one();
        }
    }
}

/// Cuts a range of chunks into those that are content and those that are padding or nothing.
fn content_runs(metainfo: &Metainfo, chunks: Range<u32>) -> Vec<(Range<u32>, bool)> {
    let mut runs: Vec<(Range<u32>, bool)> = Vec::new();
    for chunk in chunks {
        // Of no chunk at all this is the length, too.
        let is_content = metainfo.chunk_length(chunk) > 0;
        match runs.last_mut() {
            Some((run, same)) if *same == is_content => run.end = chunk + 1,
            _ => runs.push((chunk..chunk + 1, is_content)),
        }
    }
    runs
}

/// How long somebody may claim a length under the limit after somebody claimed one above it.
const TOO_LARGE_AFTER: Duration = Duration::from_secs(3);
