//! One torrent among peers of all kinds, with a clock of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chive_node::ordb::ContentAnswer;
use chive_node::torrent::{CHUNK_LEN, Infohash, InfohashV1};
use chive_node::wire::{DbEndReason, Section};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha1::{Digest, Sha1};
use tokio::time::Instant;

use super::{Send, Step, Torrent, read_info};
use crate::swarm::peers::{PeerKey, Request};
use crate::swarm::store::Store;
use crate::swarm::{SwarmConfig, TorrentKey};

const PIECE_LEN: usize = 4 * CHUNK_LEN as usize;

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    /// Sends wrong bytes, now and then.
    Liar,
    /// Takes requests and sends nothing.
    Silent,
}

struct FakePeer {
    address: SocketAddr,
    manner: Manner,
    choked: bool,
    requests: VecDeque<Request>,
}

struct World {
    rng: StdRng,
    now: Instant,
    torrent: Torrent,
    store: Store,
    content: Vec<u8>,
    info: Bytes,
    peers: BTreeMap<PeerKey, FakePeer>,
    manners: BTreeMap<SocketAddr, Manner>,
    /// Asked and not answered.
    asked: BTreeSet<u32>,
    failures: Vec<DbEndReason>,
    sent: u64,
}

impl World {
    fn new(seed: u64, pieces: usize, cap: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let length = pieces * PIECE_LEN - 20_000;
        let mut content = vec![0; length];
        rng.fill(&mut content[..]);
        let hashes: Vec<u8> = content.chunks(PIECE_LEN).flat_map(Sha1::digest).collect();
        let mut info = format!(
            "d6:lengthi{length}e4:name1:x12:piece lengthi{PIECE_LEN}e6:pieces{}:",
            hashes.len()
        )
        .into_bytes();
        info.extend(hashes);
        info.push(b'e');
        let info = Bytes::from(info);
        let name = Infohash::V1(InfohashV1::of(&info));
        let now = Instant::now();
        let config = SwarmConfig {
            max_peers: 6,
            ..SwarmConfig::default()
        };
        let torrent = Torrent::new(now, TorrentKey(1), name, Arc::new(config));
        Self {
            rng,
            now,
            torrent,
            store: Store::new(cap),
            content,
            info,
            peers: BTreeMap::new(),
            manners: BTreeMap::new(),
            asked: BTreeSet::new(),
            failures: Vec::new(),
            sent: 0,
        }
    }

    fn chunk_count(&self) -> u32 {
        self.content.len().div_ceil(CHUNK_LEN as usize) as u32
    }

    fn right(&self, chunk: u32) -> &[u8] {
        let start = (chunk * CHUNK_LEN) as usize;
        &self.content[start..self.content.len().min(start + CHUNK_LEN as usize)]
    }

    fn meet(&mut self, number: u8, manner: Manner) {
        let address = ([1, 1, 1, number], 6881).into();
        self.manners.insert(address, manner);
        self.torrent.handle_address(self.now, address);
    }

    /// Dials whom the torrent wants to dial.
    fn dial(&mut self) {
        while let Step::Dial(key, address) = self.torrent.poll_step(self.now, &mut self.store) {
            let wake = Arc::default();
            self.torrent.handle_connected(self.now, key, address, wake);
            let pieces = self.content.len().div_ceil(PIECE_LEN);
            self.torrent
                .handle_bitfield(key, &vec![0xff; pieces.div_ceil(8)]);
            self.torrent.handle_choked(&mut self.store, key, false);
            let peer = FakePeer {
                address,
                manner: self.manners[&address],
                choked: false,
                requests: VecDeque::new(),
            };
            self.peers.insert(key, peer);
        }
    }

    /// One peer takes what it is told.
    fn exchange(&mut self, key: PeerKey) {
        let mut sends = Vec::new();
        let polled = self
            .torrent
            .poll_send(self.now, &mut self.store, key, &mut sends);
        if polled.is_none() {
            return self.leave(key);
        }
        let peer = self.peers.get_mut(&key).expect("a peer");
        for send in sends {
            match send {
                Send::Request(request) => {
                    assert!(!peer.choked, "asked while choked");
                    let twice = peer.requests.iter().any(|r| same(r, &request));
                    assert!(!twice, "asked twice: {request:?}");
                    peer.requests.push_back(request);
                }
                Send::Cancel(request) => peer.requests.retain(|r| !same(r, &request)),
                Send::Metadata(_) | Send::Hashes(_) => panic!("all is known"),
            }
        }
        assert!(peer.requests.len() <= 250);
    }

    /// One peer sends a block.
    fn send(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.manner == Manner::Silent || peer.choked {
            return;
        }
        let lies = peer.manner == Manner::Liar && self.rng.random_ratio(1, 3);
        let Some(request) = peer.requests.pop_front() else {
            return;
        };
        let chunk = request.piece * (PIECE_LEN / CHUNK_LEN as usize) as u32 + request.block;
        let mut bytes = self.right(chunk).to_vec();
        assert_eq!(bytes.len(), request.length as usize);
        if lies {
            bytes[7] ^= 1;
        }
        self.sent += bytes.len() as u64;
        let offset = request.block * CHUNK_LEN;
        let (now, store) = (self.now, &mut self.store);
        let check = self
            .torrent
            .handle_block(now, store, key, request.piece, offset, bytes.into());
        if let Some(check) = check {
            let good = check.is_good();
            self.torrent.handle_checked(store, check.piece, good);
        }
    }

    fn leave(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.remove(&key) {
            let (now, store) = (self.now, &mut self.store);
            self.torrent.handle_gone(now, store, key, peer.address);
        }
    }

    fn ask(&mut self, first: u32, count: u16) {
        let (now, store) = (self.now, &mut self.store);
        self.torrent
            .handle_blocks(now, store, Section::CHUNKS, first, count);
        self.asked.extend(first..first.saturating_add(count.into()));
    }

    /// Takes the answers, which must be right and asked for.
    fn take(&mut self) -> usize {
        let mut count = 0;
        while let Some(answer) = self.torrent.poll_answer(&mut self.store) {
            match answer {
                ContentAnswer::Block { block, bytes, .. } => {
                    assert!(self.asked.remove(&block), "{block} was not asked for");
                    assert!(bytes == self.right(block), "{block} is wrong");
                }
                ContentAnswer::Failed { scope, reason, .. } => {
                    let (_, first, count) = scope.expect("of blocks");
                    for chunk in first..first.saturating_add(count.into()) {
                        self.asked.remove(&chunk);
                    }
                    self.failures.push(reason);
                }
                ContentAnswer::Opened { metadata, .. } => assert_eq!(metadata, self.info),
            }
            count += 1;
        }
        count
    }

    fn check(&self) {
        assert!(self.store.used() <= self.store.cap());
        for (piece, held) in self.store.pieces_of(TorrentKey(1)) {
            for (at, block) in held.blocks().iter().enumerate() {
                for asked in block.asked_of.iter().flatten() {
                    let peer = self.peers.get(&asked.peer);
                    let known = peer.is_some_and(|peer| {
                        let same = |r: &Request| (r.piece, r.block as usize) == (piece, at);
                        peer.manner != Manner::Honest || peer.requests.iter().any(same)
                    });
                    assert!(known, "block {at} of {piece} is expected from nobody");
                }
            }
        }
    }

    fn know(&mut self) {
        let read = read_info(self.torrent.name, self.info.clone());
        assert!(read.is_some());
        self.torrent.handle_info(self.now, PeerKey(0), read);
    }

    fn keys(&self) -> Vec<PeerKey> {
        self.peers.keys().copied().collect()
    }

    /// Everybody does what is to be done, until nothing more comes.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < 200 {
            self.dial();
            for key in self.keys() {
                self.exchange(key);
            }
            for key in self.keys() {
                self.send(key);
            }
            self.check();
            idle = if self.take() == 0 { idle + 1 } else { 0 };
            self.now += Duration::from_millis(150);
        }
    }
}

fn same(one: &Request, other: &Request) -> bool {
    (one.piece, one.block) == (other.piece, other.block)
}

#[test]
fn a_liar_among_several_is_found_and_banned() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut world = World::new(seed, 20, 1 << 30);
        for number in 0..4 {
            let manner = if number == 2 {
                Manner::Liar
            } else {
                Manner::Honest
            };
            world.meet(number, manner);
        }
        world.know();
        world.ask(0, world.chunk_count() as u16);
        world.settle();
        assert!(world.asked.is_empty(), "{:?}", world.asked);
        assert_eq!(world.failures, []);
        let banned = |number| {
            world
                .torrent
                .book
                .is_banned(([1, 1, 1, number], 6881).into())
        };
        assert_eq!([0, 1, 2, 3].map(banned), [false, false, true, false]);
    }
}

#[test]
fn one_who_is_silent_holds_up_nobody() {
    let mut world = World::new(1, 20, 1 << 30);
    world.meet(0, Manner::Silent);
    world.dial();
    world.know();
    world.ask(0, world.chunk_count() as u16);
    let silent = world.keys()[0];
    world.exchange(silent);
    assert!(!world.peers[&silent].requests.is_empty());
    world.meet(1, Manner::Honest);
    let began = world.now;
    while !world.asked.is_empty() {
        world.dial();
        for key in world.keys() {
            world.exchange(key);
            world.send(key);
        }
        world.take();
        world.now += Duration::from_millis(5);
        assert!(world.now < began + Duration::from_secs(5));
    }
    assert!(world.sent < world.content.len() as u64 * 11 / 10);
}

/// A reader with a window, and peers of which one is a hundred times as fast as another: all of
/// the fast one's rate is used, the slow one holds nothing up, and little is sent twice.
#[test]
fn peers_of_all_speeds_send_in_order_and_hardly_twice() {
    let mut world = World::new(8, 200, 1 << 30);
    let every_ms = [1, 10, 100];
    for number in 0..3 {
        world.meet(number, Manner::Honest);
    }
    world.know();
    world.dial();
    let count = world.chunk_count();
    let window = 256;
    let mut asked = 0;
    let mut elapsed_ms = 0;
    while !(asked == count && world.asked.is_empty()) {
        while asked < count && world.asked.len() < window {
            world.ask(asked, 1);
            asked += 1;
        }
        for (key, every) in world.keys().into_iter().zip(every_ms) {
            world.exchange(key);
            if elapsed_ms % every == 0 {
                world.send(key);
            }
        }
        world.take();
        world.now += Duration::from_millis(1);
        elapsed_ms += 1;
    }
    let at_best_ms = count * 100 / 111;
    println!(
        "{} sent of {}, in {elapsed_ms} ms",
        world.sent,
        world.content.len()
    );
    assert!(world.sent <= world.content.len() as u64 * 103 / 100);
    assert!(
        elapsed_ms < at_best_ms * 3 / 2,
        "{elapsed_ms} of {at_best_ms}"
    );
}

#[test]
fn only_what_is_asked_for_is_fetched() {
    let mut world = World::new(2, 64, 1 << 30);
    world.meet(0, Manner::Honest);
    world.know();
    // Stripes of two pieces, as one of two sources is asked for.
    for piece in (0..60).step_by(4) {
        world.ask(piece * 4, 8);
        world.settle();
    }
    assert!(world.asked.is_empty());
    assert_eq!(world.sent, 15 * 2 * PIECE_LEN as u64);
}

#[test]
fn a_small_cap_is_enough_for_a_long_film_and_too_small_a_one_fails() {
    let cap = 3 * PIECE_LEN;
    let mut world = World::new(3, 40, cap);
    world.meet(0, Manner::Honest);
    world.meet(1, Manner::Honest);
    world.know();
    world.ask(0, world.chunk_count() as u16);
    world.settle();
    assert!(world.asked.is_empty());
    assert_eq!(world.failures, []);
    // And back again.
    for piece in (0..39).rev() {
        world.ask(piece * 4, 4);
        world.settle();
    }
    assert!(world.asked.is_empty());
    assert_eq!(world.failures, []);

    let mut world = World::new(4, 4, PIECE_LEN - 1);
    world.meet(0, Manner::Honest);
    world.know();
    world.ask(0, 4);
    world.take();
    assert_eq!(world.failures, [DbEndReason::EXHAUSTED]);
}

#[test]
fn nobody_is_not_waited_for_forever() {
    let mut world = World::new(5, 4, 1 << 20);
    let timeout = world.torrent.config.find_timeout;
    let start = world.now;
    while world.now < start + timeout {
        let step = world.torrent.poll_step(world.now, &mut world.store);
        let Step::Wait(until) = step else {
            panic!("{step:?}")
        };
        assert!(until > world.now);
        world.now = until;
    }
    assert_eq!(
        world.torrent.poll_step(world.now, &mut world.store),
        Step::End
    );

    let mut world = World::new(6, 4, 1 << 20);
    world.know();
    world.take();
    world.ask(0, 9);
    world.take();
    world.now += world.torrent.config.stall_timeout;
    world.torrent.poll_step(world.now, &mut world.store);
    world.take();
    assert_eq!(world.failures, [DbEndReason::GONE]);
    assert!(world.asked.is_empty());
}

#[test]
fn nonsense_is_refused_and_what_was_asked_with_it_is_not() {
    let mut world = World::new(7, 4, 1 << 20);
    world.meet(0, Manner::Honest);
    world.ask(0, 1);
    world.know();
    world.ask(14, 2);
    world.ask(u32::MAX, 1);
    world.ask(3, 0);
    let (now, store) = (world.now, &mut world.store);
    for section in [Section::LEAF_HASHES, Section::PIECE_LAYERS] {
        world.torrent.handle_blocks(now, store, section, 0, 1);
    }
    world.settle();
    let expected = [
        DbEndReason::UNAVAILABLE,
        DbEndReason::PROTOCOL,
        DbEndReason::UNAVAILABLE,
        DbEndReason::UNAVAILABLE,
    ];
    assert_eq!(world.failures, expected);
    assert!(world.asked.is_empty(), "{:?}", world.asked);
    assert_eq!(world.sent, (4 * PIECE_LEN - 20_000 - 3 * PIECE_LEN) as u64);
}

/// Everything at random: who comes, goes, chokes, lies; what is asked and taken back. Whatever
/// happens, answers are right, nothing passes the cap, and once honest peers stay, all that is
/// still asked for comes.
#[test]
fn anything_may_happen() {
    for seed in 0..60 {
        println!("seed {seed}");
        let cap = if seed % 2 == 0 {
            5 * PIECE_LEN
        } else {
            1 << 30
        };
        let mut world = World::new(seed, 24, cap);
        world.know();
        let count = world.chunk_count();
        for number in 0..8 {
            let manners = [Manner::Honest, Manner::Honest, Manner::Liar, Manner::Silent];
            world.meet(number, manners[number as usize % 4]);
        }
        for _ in 0..1500 {
            let keys = world.keys();
            let key = keys
                .get(world.rng.random_range(0..keys.len().max(1)))
                .copied();
            match (world.rng.random_range(0..20), key) {
                (0, _) => world.dial(),
                (1, _) => {
                    let first = world.rng.random_range(0..count);
                    let most = (count - first).min(20);
                    let asked = world.rng.random_range(1..=most);
                    // As an ORDB does: nothing twice before it is answered.
                    for chunk in first..first + asked {
                        if !world.asked.contains(&chunk) {
                            world.ask(chunk, 1);
                        }
                    }
                }
                (2, _) => {
                    world.take();
                    let first = world.rng.random_range(0..count);
                    let (section, store) = (Section::CHUNKS, &mut world.store);
                    world.torrent.handle_cancel(store, section, first, 10);
                    world
                        .asked
                        .retain(|chunk| !(first..first + 10).contains(chunk));
                }
                (3, Some(key)) => {
                    let choked = !world.peers[&key].choked;
                    let peer = world.peers.get_mut(&key).expect("a peer");
                    peer.choked = choked;
                    peer.requests.clear();
                    world.torrent.handle_choked(&mut world.store, key, choked);
                }
                (4, Some(key)) if world.rng.random_ratio(1, 5) => world.leave(key),
                (5, _) => {
                    world.take();
                }
                (6, _) => world.now += Duration::from_millis(300),
                (7..12, Some(key)) => world.exchange(key),
                (_, Some(key)) => world.send(key),
                _ => {}
            }
            world.check_after_exchange();
        }
        for number in 10..14 {
            world.meet(number, Manner::Honest);
        }
        for key in world.keys() {
            world.leave(key);
        }
        world.settle();
        assert!(world.asked.is_empty(), "{:?}", world.asked);
        let gave_up = world.failures.iter().any(|r| *r != DbEndReason::EXHAUSTED);
        assert!(!gave_up, "{:?}", world.failures);
    }
}

impl World {
    /// Between a choke or cancel and the next exchange the two sides differ; the cap never waits.
    fn check_after_exchange(&self) {
        assert!(self.store.used() <= self.store.cap());
    }
}
