//! The swarm engine against real BitTorrent software on loopback.

mod real;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use chive_facilitator::swarm::{Swarm, SwarmConfig};
use chive_node::ordb::{ContentAnswer, ContentWant};
use chive_node::torrent::{CHUNK_LEN, Infohash, InfohashV1, Magnet};
use chive_node::wire::{DbEndReason, Section, Tried};
use real::{RealSwarm, swarm};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const MAX_ASK: usize = 1024;

/// No way to find anybody, yet.
fn config() -> SwarmConfig {
    SwarmConfig {
        dht: false,
        dht_bootstrap: Vec::new(),
        allow_private: true,
        ..SwarmConfig::default()
    }
}

fn name(swarm: &RealSwarm, kind: &str) -> Infohash {
    let torrent = swarm.torrent(kind);
    let magnet = magnet(match kind {
        "v2" => &torrent.infohash_v2,
        _ => &torrent.infohash_v1,
    });
    match (magnet.v1, magnet.v2) {
        (Some(v1), _) => v1.into(),
        (_, Some(v2)) => v2.into(),
        _ => panic!("an infohash has a version"),
    }
}

fn magnet(infohash: &Option<String>) -> Magnet {
    let infohash = infohash.as_deref().expect("a name of this version");
    infohash.parse().expect("an infohash")
}

/// The address of a seeder by name, if it is installed.
fn seeder(real: &RealSwarm, name: &str) -> Option<SocketAddr> {
    let mut seeders = real.swarm.seeders().iter();
    Some(seeders.find(|seeder| seeder.name == name)?.address)
}

/// An engine, and one who asks it.
struct Asker {
    swarm: Swarm,
    answers: mpsc::Receiver<ContentAnswer>,
    name: Infohash,
    most_memory: usize,
}

impl Asker {
    fn new(config: SwarmConfig, name: Infohash) -> Self {
        let (swarm, answers) = Swarm::start(config);
        swarm.handle(ContentWant::Open { name });
        Self {
            swarm,
            answers,
            name,
            most_memory: 0,
        }
    }

    async fn next(&mut self) -> ContentAnswer {
        let answer = timeout(PATIENCE, self.answers.recv()).await;
        self.most_memory = self.most_memory.max(self.swarm.stats().memory_bytes);
        answer.expect("an answer in time").expect("an engine")
    }

    async fn metadata(&mut self) -> Bytes {
        match self.next().await {
            ContentAnswer::Opened { name, metadata } if name == self.name => metadata,
            other => panic!("{other:?}"),
        }
    }

    async fn failure(&mut self) -> (Option<(Section, u32, u16)>, DbEndReason, Option<Tried>) {
        match self.next().await {
            ContentAnswer::Failed {
                name,
                scope,
                reason,
                tried,
            } if name == self.name => (scope, reason, tried),
            other => panic!("{other:?}"),
        }
    }

    fn ask(&self, chunks: Range<u32>) {
        self.swarm.handle(ContentWant::Blocks {
            name: self.name,
            section: Section::CHUNKS,
            first: chunks.start,
            count: chunks.len().try_into().expect("not too many"),
        });
    }

    fn want_layers(&self, blocks: Range<u32>) {
        self.swarm.handle(ContentWant::Blocks {
            name: self.name,
            section: Section::PIECE_LAYERS,
            first: blocks.start,
            count: blocks.len().try_into().expect("not too many"),
        });
    }

    /// Asks for chunks with at most `window` of them under way; what came, which must come in
    /// order and be right.
    async fn read(&mut self, real: &RealSwarm, chunks: Range<u32>, window: usize) {
        let mut asked = chunks.start;
        for chunk in chunks.clone() {
            while asked < chunks.end && (asked - chunk) as usize <= window / 2 {
                let end = chunks
                    .end
                    .min(asked + (window / 2).clamp(1, MAX_ASK) as u32);
                self.ask(asked..end);
                asked = end;
            }
            match self.next().await {
                ContentAnswer::Block {
                    name,
                    section: Section::CHUNKS,
                    block,
                    bytes,
                } if (name, block) == (self.name, chunk) => assert!(bytes == right(real, chunk)),
                other => panic!("not chunk {chunk}: {other:?}"),
            }
        }
    }
}

fn chunk_count(real: &RealSwarm) -> u32 {
    real.content.len().div_ceil(CHUNK_LEN as usize) as u32
}

fn right(real: &RealSwarm, chunk: u32) -> &[u8] {
    let start = chunk as usize * CHUNK_LEN as usize;
    &real.content[start..real.content.len().min(start + CHUNK_LEN as usize)]
}

fn by_dht(real: &RealSwarm) -> SwarmConfig {
    SwarmConfig {
        dht: true,
        dht_bootstrap: vec![real.swarm.dht_bootstrap().to_owned()],
        ..config()
    }
}

fn by_trackers(real: &RealSwarm, schemes: &[&str]) -> SwarmConfig {
    SwarmConfig {
        trackers: schemes.iter().map(|scheme| real.tracker(scheme)).collect(),
        ..config()
    }
}

fn from(seeder: Option<SocketAddr>) -> SwarmConfig {
    SwarmConfig {
        peers: seeder.into_iter().collect(),
        ..config()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_from_each_way_to_find_a_peer() {
    let Some(real) = swarm().await else { return };
    let ways = [
        ("DHT", by_dht(&real)),
        ("HTTP tracker", by_trackers(&real, &["http"])),
        ("UDP tracker", by_trackers(&real, &["udp"])),
        ("initial peer", from(seeder(&real, "libtorrent"))),
    ];
    for (way, config) in ways {
        for kind in ["v1", "hybrid", "v2"] {
            let began = Instant::now();
            let mut asker = Asker::new(config.clone(), name(&real, kind));
            let metadata = asker.metadata().await;
            let right = real.torrent_file(kind);
            assert!(metadata == right.metainfo.info(), "{way}, {kind}");
            println!("metadata by {way}, {kind}: {:?}", began.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_file_from_each_seeder() {
    let Some(real) = swarm().await else { return };
    for client in ["libtorrent", "aria2", "rtorrent", "transmission"] {
        let Some(address) = seeder(&real, client) else {
            println!("SKIPPED: no {client}");
            continue;
        };
        let mut asker = Asker::new(from(Some(address)), name(&real, "v1"));
        asker.metadata().await;
        let began = Instant::now();
        asker.read(&real, 0..chunk_count(&real), 1024).await;
        let rate = real.content.len() as f64 / began.elapsed().as_secs_f64() / 1e6;
        let stats = asker.swarm.stats();
        println!("{client}: {rate:.0} MB/s, {stats:?}");
        assert!(stats.wasted_bytes < real.content.len() as u64 / 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_by_its_v2_name_and_a_torrent_without_v1() {
    let Some(real) = swarm().await else { return };
    let v2_name = magnet(&real.torrent("hybrid").infohash_v2);
    let v2_name = v2_name.v2.expect("a v2 name").into();
    let mut asker = Asker::new(from(seeder(&real, "libtorrent")), v2_name);
    asker.metadata().await;
    asker.read(&real, 0..chunk_count(&real), 256).await;

    let mut asker = Asker::new(from(seeder(&real, "libtorrent")), name(&real, "v2"));
    asker.metadata().await;
    asker.read(&real, 0..chunk_count(&real), 256).await;
    let layers = real.torrent_file("v2").piece_layers.expect("piece layers");
    asker.want_layers(0..layers.len().div_ceil(CHUNK_LEN as usize) as u32);
    let mut got = Vec::new();
    while got.len() < layers.len() {
        match asker.next().await {
            ContentAnswer::Block {
                section: Section::PIECE_LAYERS,
                bytes,
                ..
            } => got.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(got == layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_here_and_there_from_everybody() {
    let Some(real) = swarm().await else { return };
    let config = SwarmConfig {
        trackers: vec![real.tracker("udp")],
        ..by_dht(&real)
    };
    let mut asker = Asker::new(config, name(&real, "v1"));
    asker.metadata().await;
    let count = chunk_count(&real);
    let mut wanted: Vec<u32> = (0..200).map(|i| i * 7919 % count).collect();
    wanted.push(count - 1);
    wanted.dedup();
    for chunk in &wanted {
        asker.ask(*chunk..*chunk + 1);
    }
    let mut got = BTreeSet::new();
    while got.len() < wanted.len() {
        match asker.next().await {
            ContentAnswer::Block { block, bytes, .. } => {
                assert!(bytes == right(&real, block));
                assert!(wanted.contains(&block) && got.insert(block));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(asker.swarm.stats().peers > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_are_asked_together_fetch_one_file_together() {
    let Some(real) = swarm().await else { return };
    let config = from(seeder(&real, "libtorrent"));
    let mut askers = [
        Asker::new(config.clone(), name(&real, "v1")),
        Asker::new(config, name(&real, "v1")),
    ];
    for asker in &mut askers {
        asker.metadata().await;
    }
    // Runs of eight pieces of 64 KiB, in turns.
    let stripe = 32;
    let count = chunk_count(&real);
    for (turn, first) in (0..count).step_by(stripe as usize).enumerate() {
        let chunks = first..count.min(first + stripe);
        askers[turn % 2].read(&real, chunks, 64).await;
    }
    let received: Vec<u64> = askers
        .iter()
        .map(|a| a.swarm.stats().received_bytes)
        .collect();
    println!("received {received:?} of {}", real.content.len());
    assert!(received.iter().sum::<u64>() <= real.content.len() as u64 * 105 / 100);
    assert!(
        received
            .iter()
            .all(|bytes| *bytes > real.content.len() as u64 * 45 / 100)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_under_a_cap_smaller_than_the_file() {
    let Some(real) = swarm().await else { return };
    let cap = 2 << 20;
    let config = SwarmConfig {
        memory_cap: cap,
        ..from(seeder(&real, "libtorrent"))
    };
    let mut asker = Asker::new(config, name(&real, "v1"));
    asker.metadata().await;
    let count = chunk_count(&real);
    asker.read(&real, 0..count, 256).await;
    // And back, a piece at a time: what was let go is fetched again.
    for first in (0..count).step_by(64).rev() {
        asker.read(&real, first..count.min(first + 64), 64).await;
    }
    println!("at most {} of {cap}", asker.most_memory);
    assert!(asker.most_memory <= cap && asker.most_memory > cap / 2);
    let length = real.content.len() as u64;
    let received = asker.swarm.stats().received_bytes;
    assert!(received > length * 18 / 10 && received < length * 22 / 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_too_small_for_what_is_asked_is_said() {
    let Some(real) = swarm().await else { return };
    let config = SwarmConfig {
        memory_cap: 32 << 10,
        ..from(seeder(&real, "libtorrent"))
    };
    let mut asker = Asker::new(config, name(&real, "v1"));
    asker.metadata().await;
    asker.ask(5..9);
    let scope = Some((Section::CHUNKS, 5, 4));
    assert_eq!(asker.failure().await, (scope, DbEndReason::EXHAUSTED, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_that_nobody_asks_for_is_let_go() {
    let Some(real) = swarm().await else { return };
    let mut asker = Asker::new(from(seeder(&real, "libtorrent")), name(&real, "v1"));
    asker.metadata().await;
    asker.read(&real, 0..500, 256).await;
    let before = asker.swarm.stats();
    assert!(before.memory_bytes >= 500 * CHUNK_LEN as usize && before.torrents == 1);
    let name = asker.name;
    asker.swarm.handle(ContentWant::Close { name });
    let after = asker.swarm.stats();
    assert_eq!((after.memory_bytes, after.torrents, after.peers), (0, 0, 0));
    assert_eq!(after.received_bytes, before.received_bytes);
    // And taken up again.
    asker.swarm.handle(ContentWant::Open { name });
    asker.metadata().await;
    asker.read(&real, 100..200, 64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_is_not_found_and_what_was_tried_is_told() {
    let Some(real) = swarm().await else { return };
    let config = SwarmConfig {
        trackers: vec![real.tracker("udp"), real.tracker("http")],
        peers: seeder(&real, "libtorrent").into_iter().collect(),
        find_timeout: Duration::from_secs(2),
        ..by_dht(&real)
    };
    let mut asker = Asker::new(config, InfohashV1([0x5a; 20]).into());
    let (scope, reason, tried) = asker.failure().await;
    assert_eq!((scope, reason), (None, DbEndReason::NOT_FOUND));
    let tried = tried.expect("what was tried");
    println!("{tried:?}");
    // Over UDP opentracker says nothing of infohashes that it does not list.
    assert!(tried.trackers >= 1 && tried.dht_nodes >= 5);
    assert_eq!((tried.seconds, tried.peers), (2, 1));
    assert_eq!(asker.swarm.stats().torrents, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_said() {
    let Some(real) = swarm().await else { return };
    let config = SwarmConfig {
        max_metadata: 1000,
        max_torrents: 1,
        ..from(seeder(&real, "libtorrent"))
    };
    let mut asker = Asker::new(config, name(&real, "v1"));
    let other = InfohashV1([1; 20]).into();
    asker.swarm.handle(ContentWant::Open { name: other });
    let busy = ContentAnswer::Failed {
        name: other,
        scope: None,
        reason: DbEndReason::BUSY,
        tried: None,
    };
    assert_eq!(asker.next().await, busy);
    assert_eq!(asker.failure().await, (None, DbEndReason::TOO_LARGE, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_send_us_to_addresses_at_home() {
    let Some(real) = swarm().await else { return };
    let config = SwarmConfig {
        allow_private: false,
        find_timeout: Duration::from_secs(1),
        ..by_trackers(&real, &["udp", "http"])
    };
    let mut asker = Asker::new(config, name(&real, "v1"));
    let (_, reason, tried) = asker.failure().await;
    assert_eq!(reason, DbEndReason::NOT_FOUND);
    let tried = tried.expect("what was tried");
    assert_eq!((tried.trackers, tried.peers), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn trackers_name_us_to_nobody() {
    let Some(real) = swarm().await else { return };
    let name = name(&real, "hybrid");
    for scheme in ["udp", "http"] {
        let mut asker = Asker::new(by_trackers(&real, &[scheme]), name);
        asker.metadata().await;
        // While we still take part, a newcomer asks; until our "stopped" was heard, at most.
        let listed = async {
            while real
                .listed(name.as_bytes())
                .iter()
                .any(|port| [0, 9].contains(port))
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, listed)
            .await
            .expect("we are off the list");
        drop(asker);
    }
}
