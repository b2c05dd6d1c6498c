//! Real nodes on real sockets: tabs by WebSocket, routers by TLS, content through all of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chive_bridge::{Bridge, Options};
use chive_node::ids::OnionKey;
use chive_node::link::Identity;
use chive_node::native::limits::{ConnectionLimits, Gate};
use chive_node::native::process::{Stop, Stopper};
use chive_node::native::{Clock, Driver, DriverOptions, Tls, clock, random};
use chive_node::node::{BridgeLine, BridgeState, Config, Event, Limits, Node, Transports};
use chive_node::ordb::{ContentAnswer, ContentWant, Demand, Read};
use chive_node::torrent::{Infohash, InfohashV1, Magnet};
use chive_node::wire::{BLOCK_LEN, DbEndReason, Roles, Section};
use sha1::{Digest, Sha1};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Long enough for a machine that does much else; nothing waits for it that goes well.
const PATIENCE: Duration = Duration::from_secs(60);

const PIECE: usize = 4 * BLOCK_LEN;

/// A torrent of one file.
struct Torrent {
    info: Bytes,
    content: Bytes,
    name: Infohash,
}

impl Torrent {
    fn new(length: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut content = vec![0; length];
        for word in content.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        let pieces = length.div_ceil(PIECE) * 20;
        let mut info =
            format!("d6:lengthi{length}e4:name4:film12:piece lengthi{PIECE}e6:pieces{pieces}:")
                .into_bytes();
        for piece in content.chunks(PIECE) {
            info.extend_from_slice(&Sha1::digest(piece));
        }
        info.push(b'e');
        let name = Infohash::V1(InfohashV1::of(&info));
        Torrent {
            info: info.into(),
            content: content.into(),
            name,
        }
    }

    fn answers(&self, want: ContentWant) -> Vec<ContentAnswer> {
        match want {
            ContentWant::Open { name } if name == self.name => {
                vec![ContentAnswer::Opened {
                    name,
                    metadata: self.info.clone(),
                }]
            }
            ContentWant::Open { name } => vec![ContentAnswer::Failed {
                name,
                scope: None,
                reason: DbEndReason::NOT_FOUND,
                tried: None,
            }],
            ContentWant::Blocks {
                name,
                section,
                first,
                count,
            } => {
                let whole = match section {
                    Section::METADATA => &self.info,
                    _ => &self.content,
                };
                (first..first + u32::from(count))
                    .map(|block| {
                        let start = block as usize * BLOCK_LEN;
                        let bytes = whole.slice(start..whole.len().min(start + BLOCK_LEN));
                        ContentAnswer::Block {
                            name,
                            section,
                            block,
                            bytes,
                        }
                    })
                    .collect()
            }
            ContentWant::Cancel { .. } | ContentWant::Close { .. } => Vec::new(),
        }
    }
}

/// Nobody may listen any longer at a test's end, but nothing may be lost before.
fn told<T>(sent: Result<(), mpsc::error::TrySendError<T>>) {
    assert!(!matches!(sent, Err(mpsc::error::TrySendError::Full(_))));
}

/// A node and what it said.
struct Host {
    driver: Driver,
    events: mpsc::Receiver<Event>,
    or: Option<SocketAddr>,
    _stopper: Option<Stopper>,
}

impl Host {
    fn start(config: Config, tls: Tls, content: Option<Arc<Torrent>>) -> Host {
        let clock = Clock::start();
        let node = Node::new(config, random::seed().unwrap(), clock.now());
        let (said, events) = mpsc::channel(4096);
        let (asked, mut asks) = mpsc::channel(4096);
        let driver = Driver::start(
            node,
            clock,
            DriverOptions::new(tls),
            move |event| match event {
                Event::Content(want) => told(asked.try_send(want)),
                Event::Progress { .. } | Event::Circuits => {}
                event => told(said.try_send(event)),
            },
        );
        if let Some(content) = content {
            let driver = driver.clone();
            tokio::spawn(async move {
                while let Some(want) = asks.recv().await {
                    for answer in content.answers(want) {
                        driver.answer(answer).await.unwrap();
                    }
                }
            });
        }
        Host {
            driver,
            events,
            or: None,
            _stopper: None,
        }
    }

    /// A router that keeps a link with `bridge` and has an OR port.
    async fn router(bridge: &str, content: Option<Arc<Torrent>>) -> Host {
        let tls = Tls::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let or = listener.local_addr().unwrap();
        let identity = Identity::generate(&mut random::generator().unwrap()).unwrap();
        let config = Config {
            identity: Some(Arc::new(identity)),
            tls_certificate_sha256: Some(tls.certificate_sha256()),
            dtls_certificate_sha256: None,
            entries: Vec::new(),
            transports: Transports::NATIVE,
            roles: Roles::ROUTER.with(Roles::ORDB).with(Roles::FACILITATOR),
            addresses: vec![or],
            ..tab_config(bridge, 3)
        };
        let config = Config {
            asks: false,
            ..config
        };
        let mut host = Host::start(config, tls, content);
        let (stopper, stop) = Stop::pair();
        let limits = ConnectionLimits {
            in_all: 64,
            per_address: 64,
            per_second: 64,
        };
        tokio::spawn(
            host.driver
                .clone()
                .serve_or_port(listener, Gate::new(limits), stop),
        );
        host.or = Some(or);
        host._stopper = Some(stopper);
        host
    }

    /// A node that only asks.
    fn tab(bridge: &str, hops: usize) -> Host {
        Host::start(tab_config(bridge, hops), Tls::generate().unwrap(), None)
    }

    async fn event<T>(&mut self, what: &str, mut is: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the node runs");
                if let Some(found) = is(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("no {what} came"))
    }

    async fn bridge(&mut self, wanted: BridgeState) {
        self.event(&format!("{wanted:?}"), |event| match event {
            Event::Bridge { state, .. } if state == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    async fn bridge_failure(&mut self) -> String {
        self.event("failure", |event| match event {
            Event::Bridge {
                state: BridgeState::Failed { why },
                ..
            } => Some(why),
            _ => None,
        })
        .await
    }

    /// Reads the whole first file of a torrent.
    async fn fetch(&mut self, name: Infohash) -> Vec<u8> {
        let torrent = self
            .driver
            .call(move |node, now| node.open_torrent(now, Magnet::new(name)))
            .await
            .unwrap()
            .unwrap();
        let length = self
            .event("metadata", |event| match event {
                Event::Metadata { metainfo, .. } => Some(metainfo.total_length()),
                failed @ Event::Failed { .. } => panic!("{failed:?}"),
                _ => None,
            })
            .await;
        let read = self
            .driver
            .call(move |node, now| node.open_read(now, torrent, 0, 0..length, Demand::Save))
            .await
            .unwrap()
            .unwrap();
        let mut bytes = Vec::new();
        loop {
            let next = self
                .driver
                .call(move |node, now| node.poll_read(now, read, 1 << 20));
            match next.await.unwrap() {
                Read::Bytes(part) => bytes.extend_from_slice(&part),
                Read::End => return bytes,
                Read::Pending => {
                    self.event("bytes", |event| {
                        matches!(event, Event::Readable(_)).then_some(())
                    })
                    .await;
                }
                Read::Failed => panic!("the read failed"),
            }
        }
    }
}

fn tab_config(bridge: &str, hops: usize) -> Config {
    Config {
        identity: None,
        tls_certificate_sha256: None,
        dtls_certificate_sha256: None,
        entries: Vec::new(),
        transports: Transports::NATIVE,
        roles: Roles::default(),
        addresses: Vec::new(),
        bridges: vec![bridge.parse().unwrap()],
        hops,
        asks: true,
        allow_private: true,
        unix_time: clock::unix_seconds(),
        limits: Limits::default(),
    }
}

async fn bridge(data: &tempfile::TempDir, http: &str, or: &str) -> Bridge {
    let options = Options {
        http: vec![http.parse().unwrap()],
        or: vec![or.parse().unwrap()],
        data_dir: Some(data.path().join("data")),
        allow_private: Some(true),
        ..Options::default()
    };
    chive_bridge::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_through_three_routers() {
    let data = tempfile::tempdir().unwrap();
    let bridge = bridge(&data, "127.0.0.1:0", "127.0.0.1:0").await;
    let torrent = Arc::new(Torrent::new(24 << 20));
    let mut routers = VecDeque::new();
    for _ in 0..2 {
        let content = Some(torrent.clone());
        let mut router = Host::router(&bridge.ready.bridge_line, content).await;
        router.bridge(BridgeState::Registered).await;
        routers.push_back(router);
    }
    let mut tab = Host::tab(&bridge.ready.websocket, 3);
    tab.bridge(BridgeState::Connected).await;
    let begun = tokio::time::Instant::now();
    let fetched = tab.fetch(torrent.name).await;
    assert!(fetched == torrent.content, "{} bytes", fetched.len());
    let rate = (torrent.content.len() as f64 / 1e6) / begun.elapsed().as_secs_f64();
    println!("through three routers natively: {rate:.1} MB/s");
    // The bridge carried it, and its memory of it is gone.
    let sent = bridge
        .driver()
        .stats()
        .sent_bytes
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent > torrent.content.len() as u64);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_is_not_who_its_line_says_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let bridge = bridge(&data, "127.0.0.1:0", "127.0.0.1:0").await;
    let Ok(BridgeLine::WebSocket { url, ed25519, .. }) = bridge.ready.websocket.parse() else {
        panic!("{}", bridge.ready.websocket)
    };
    let wrong = BridgeLine::WebSocket {
        url,
        ed25519,
        onion: OnionKey([9; 32]),
    };
    let why = Host::tab(&wrong.to_string(), 3).bridge_failure().await;
    assert!(
        why.contains("could not prove that it holds the key"),
        "{why}"
    );

    let Ok(BridgeLine::Tls {
        address,
        mut rsa,
        ed25519,
    }) = bridge.ready.bridge_line.parse()
    else {
        panic!("{}", bridge.ready.bridge_line)
    };
    rsa.0[0] ^= 1;
    let wrong = BridgeLine::Tls {
        address,
        rsa,
        ed25519,
    };
    let why = Host::router(&wrong.to_string(), None)
        .await
        .bridge_failure()
        .await;
    assert!(!why.is_empty() && !why.contains("127.0.0.1"), "{why}");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_stops_and_comes_back_is_found_again() {
    let data = tempfile::tempdir().unwrap();
    let first = bridge(&data, "127.0.0.1:0", "127.0.0.1:0").await;
    let mut tab = Host::tab(&first.ready.websocket, 3);
    tab.bridge(BridgeState::Connected).await;
    let mut router = Host::router(&first.ready.bridge_line, None).await;
    router.bridge(BridgeState::Registered).await;

    let (http, or) = (first.ready.http.clone(), first.ready.or.to_string());
    let http = http.strip_prefix("http://").unwrap().trim_end_matches('/');
    tokio::time::timeout(PATIENCE, first.stop()).await.unwrap();
    assert_eq!(tab.bridge_failure().await, "closed by the peer");
    assert_eq!(router.bridge_failure().await, "closed by the peer");

    let second = bridge(&data, http, &or).await;
    tab.bridge(BridgeState::Connected).await;
    router.bridge(BridgeState::Registered).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_where_nobody_listens_is_said() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = closed.local_addr().unwrap();
    drop(closed);
    let (ed25519, onion) = (chive_node::ids::Ed25519Id([1; 32]), OnionKey([9; 32]));
    let line = BridgeLine::WebSocket {
        url: format!("ws://{at}/link"),
        ed25519,
        onion,
    };
    let why = Host::tab(&line.to_string(), 3).bridge_failure().await;
    assert!(why.contains("refused"), "{why}");
    let line = BridgeLine::Tls {
        address: at,
        rsa: chive_node::ids::RsaId([1; 20]),
        ed25519,
    };
    let why = Host::router(&line.to_string(), None)
        .await
        .bridge_failure()
        .await;
    assert!(
        why.contains("refused") && !why.contains("127.0.0.1"),
        "{why}"
    );
}

/// Strangers' bytes on the OR port: no TLS, TLS without a handshake, a handshake that stalls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_disturb_those_who_belong() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let data = tempfile::tempdir().unwrap();
    let bridge = bridge(&data, "127.0.0.1:0", "127.0.0.1:0").await;
    let mut held = Vec::new();
    for round in 0..8_u8 {
        let mut tcp = tokio::net::TcpStream::connect(bridge.ready.or)
            .await
            .unwrap();
        let bytes: Vec<u8> = (0..4096).map(|at| (at as u8) ^ round).collect();
        if round % 2 == 0 {
            tcp.write_all(&bytes).await.unwrap();
            // An alert perhaps, then the end.
            let mut answer = Vec::new();
            let _ = tcp.read_to_end(&mut answer).await;
            assert!(answer.len() < 64);
        } else {
            held.push(tcp);
        }
    }
    let mut router = Host::router(&bridge.ready.bridge_line, None).await;
    router.bridge(BridgeState::Registered).await;
    bridge.stop().await;
}
