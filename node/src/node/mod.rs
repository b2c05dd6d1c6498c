//! The node: links, circuits, bridges, torrents and content, and the one thing that a host drives.
//!
//! A host puts in what the world did ([`Node::handle_input`]), then takes out what the node wants
//! ([`Node::poll_output`]) until it says [`Output::Timeout`], then waits for the world or for that
//! moment. The parts of a node stand in the files beside this one; each is an `impl Node`.

mod adverts;
pub mod bridge_line;
mod bridges;
mod content;
mod directory;
mod heard;
mod holding;
mod introduce;
mod io;
mod kademlia;
mod links;
mod mesh;
mod origin;
mod paths;
mod queue;
mod rates;
mod relaying;
mod routing;
mod serving;
mod signing;
mod stored;
mod telling;
mod throttle;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::ids::{CircuitId, LinkId, ReadId, TorrentId};
use crate::link::{CERT_LIFETIME_SECONDS, LinkCerts};
use crate::ordb::{Server, ServerConfig};
use crate::time::Instant;
use crate::torrent::Infohash;

pub use bridge_line::{BridgeLine, BridgeLineError};
pub use content::{MAX_TORRENTS, OpenError};
pub use directory::is_public;
pub use io::{
    BridgeState, Carry, CircuitStatus, Config, Event, HostKey, Input, Limits, LinkTransport,
    Output, Target, Transports,
};
pub use mesh::{Carried, NeighbourStatus, PeerKind, PeerStatus};
pub use origin::Misuse;
pub use rates::Rates;
pub use stored::TorrentFlags;

use bridges::Bridge;
use content::Torrent;
use directory::{Directory, Registry};
use introduce::Introductions;
use kademlia::Kademlia;
use links::Link;
use mesh::Mesh;
use origin::Own;
use paths::Building;
use rates::Buckets;
use relaying::Relays;
use routing::Routed;
use serving::Turn;
use signing::Signing;
use telling::Telling;
use throttle::Throttle;
use timers::{Timers, Wake};

/// How often a router's link certificates are made anew.
const RENEW_CERTS: Duration = Duration::from_secs(CERT_LIFETIME_SECONDS / 2);

/// How often idle circuits are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Outputs for which there is room while there are none: what most inputs cause.
const OUTPUTS_KEPT: usize = 8;

/// What a node did since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that came over links.
    pub bytes_received: u64,
    /// Bytes handed to links.
    pub bytes_sent: u64,
    /// Fixed-length cells that came.
    pub cells_received: u64,
    /// Cells passed on for others.
    pub cells_relayed: u64,
    /// Circuits of others that were begun here.
    pub circuits_routed: u64,
    /// Circuits of its own of more than one hop that it began to build.
    pub circuits_begun: u64,
    /// Those of them that were never built.
    pub circuits_failed: u64,
    /// Names that other ORDBs were told of, or no longer.
    pub names_told: u64,
    /// Names that were looked up in Kademlia for those who ask.
    pub names_looked_up: u64,
}

/// What a node holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Links, those in the making included.
    pub links: usize,
    /// Circuits of others.
    pub circuits_routed: usize,
    /// Circuits of its own.
    pub circuits_own: usize,
    /// Routers that it introduces.
    pub registered: usize,
    /// Routers that it knows.
    pub routers: usize,
    /// Names that this node asks others for, for those who ask it.
    pub relays: usize,
    /// Bytes of cells that wait.
    pub queued_bytes: usize,
}

/// An onion proxy, router and server of content, without I/O.
pub struct Node {
    config: Config,
    certs: Option<Arc<LinkCerts>>,
    signing: Signing,
    rng: ChaCha20Rng,
    now: Instant,
    last_id: u64,
    /// What the host has not taken yet. The host empties it after each input, and each input adds
    /// what it caused.
    outputs: VecDeque<Output>,
    /// Links with cells to hand to the host.
    dirty: BTreeSet<LinkId>,
    /// In boxes, as what follows is: a tree keeps room for more than it holds.
    links: BTreeMap<LinkId, Box<Link>>,
    routed: BTreeMap<u64, Box<Routed>>,
    circuits: BTreeMap<CircuitId, Box<Own>>,
    queued_bytes: usize,
    timers: Timers,
    bridges: Vec<Bridge>,
    directory: Directory,
    directory_dirty: bool,
    building: Building,
    throttle: Throttle,
    /// How fast it fetches and serves.
    rates: Buckets,
    /// Who serves next while the rate holds back.
    turn: Turn,
    registry: Registry,
    mesh: Mesh,
    kademlia: Option<Kademlia>,
    kademlia_dirty: bool,
    introductions: Introductions,
    torrents: BTreeMap<TorrentId, Torrent>,
    torrents_dirty: BTreeSet<TorrentId>,
    reads: BTreeMap<ReadId, TorrentId>,
    /// Whether the host keeps chunks.
    host_store: bool,
    /// Answers those whose circuits end here.
    server: Server,
    server_dirty: bool,
    /// Answers ORDBs to which this node is a holder.
    holder: Server,
    holder_dirty: bool,
    /// Chunks that the host is asked for on its behalf; bounded by what it may have ahead.
    holder_loading: BTreeSet<(Infohash, u32)>,
    relays: Relays,
    telling: Telling,
    counters: Counters,
}

impl Node {
    /// A node as `config` describes it. All its randomness comes from `seed`, which must be secret
    /// and used once.
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let kademlia = Kademlia::new(&config, &mut rng);
        let bridges = bridges::all(&config);
        let mut node = Node {
            certs: None,
            signing: Signing::default(),
            rng,
            now,
            last_id: 0,
            outputs: VecDeque::new(),
            dirty: BTreeSet::new(),
            links: BTreeMap::new(),
            routed: BTreeMap::new(),
            circuits: BTreeMap::new(),
            queued_bytes: 0,
            timers: Timers::default(),
            bridges,
            directory: Directory::default(),
            directory_dirty: true,
            building: Building::new(now),
            throttle: Throttle::new(now),
            rates: Buckets::new(now),
            turn: Turn::new(),
            registry: Registry::default(),
            mesh: Mesh::default(),
            kademlia,
            kademlia_dirty: false,
            introductions: Introductions::default(),
            torrents: BTreeMap::new(),
            torrents_dirty: BTreeSet::new(),
            reads: BTreeMap::new(),
            host_store: false,
            server: Server::new(ServerConfig {
                max_metadata_bytes: config.limits.metadata_bytes,
                ..ServerConfig::default()
            }),
            server_dirty: false,
            holder: Server::new(ServerConfig {
                max_metadata_bytes: config.limits.metadata_bytes,
                max_names: MAX_TORRENTS * 2,
                ..ServerConfig::default()
            }),
            holder_dirty: false,
            holder_loading: BTreeSet::new(),
            relays: Relays::default(),
            telling: Telling::new(),
            counters: Counters::default(),
            config,
        };
        node.renew_certs();
        node.settle();
        node
    }

    /// Takes what the world did.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.now = now;
        match input {
            Input::Connected {
                link,
                binding,
                peer,
            } => self.handle_connected(link, binding, peer),
            Input::Received { link, bytes } => {
                self.counters.bytes_received += bytes.len() as u64;
                if let Some(link) = self.links.get_mut(&link) {
                    link.bytes_received += bytes.len() as u64;
                }
                self.handle_received(link, bytes);
            }
            Input::Buffered { link, bytes } => self.handle_buffered(link, bytes),
            Input::Closed { link, why } => self.link_gone(link, &why),
            Input::Exported { link, secret } => self.handle_exported(link, secret),
            Input::Signal { link, signal } => self.handle_signal(link, signal),
            Input::Signed { request, signature } => self.handle_signed(request, signature),
            Input::Content(answer) => self.handle_content(answer),
            Input::Store(answer) => self.handle_store_answer(answer),
            Input::Timeout => {}
        }
        self.settle();
    }

    /// What the node wants: cells and events first, then when it must be called again.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            if let Output::Transmit { bytes, .. } = &output {
                self.counters.bytes_sent += bytes.len() as u64;
            }
            return output;
        }
        while let Some(link) = self.dirty.pop_first() {
            let ready = self.links.get_mut(&link).and_then(|link| link.take());
            if let Some(bytes) = ready {
                self.counters.bytes_sent += bytes.len() as u64;
                return Output::Transmit { link, bytes };
            }
        }
        // Thousands of nodes may stand still in one process.
        self.outputs.shrink_to(OUTPUTS_KEPT);
        Output::Timeout(self.timers.next().unwrap_or(Instant::FAR_FUTURE))
    }

    /// What the node did since it began.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the node holds now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            links: self.links.len(),
            circuits_routed: self.routed.len(),
            circuits_own: self.circuits.len(),
            registered: self.registry.len(),
            routers: self.directory.len(),
            relays: self.relays.len(),
            queued_bytes: self.queued_bytes,
        }
    }

    /// The torrents that are open.
    pub fn torrents(&self) -> impl Iterator<Item = TorrentId> + '_ {
        self.torrents.keys().copied()
    }

    /// How it stands with each bridge of the configuration, in its order.
    pub fn bridges(&self) -> impl Iterator<Item = (&BridgeLine, &BridgeState)> {
        self.bridges
            .iter()
            .filter(|bridge| !bridge.is_entry)
            .map(|bridge| (&bridge.line, &bridge.state))
    }

    /// Lets every part do what the last input made possible or due.
    fn settle(&mut self) {
        while let Some(wake) = self.timers.take_due(self.now) {
            self.wake(wake);
        }
        // Each part may set off another; each round has less to do, for every flag is cleared
        // before its part is called.
        loop {
            if let Some(torrent) = self.torrents_dirty.pop_first() {
                self.pump_torrent(torrent);
            } else if let Some(name) = self.relays.dirty.pop_first() {
                self.pump_relay(name);
            } else if self.holder_dirty || self.server_dirty {
                self.pump_serving();
            } else if self.kademlia_dirty {
                self.pump_kademlia();
            } else if self.directory_dirty {
                self.maintain();
            } else {
                return;
            }
        }
    }

    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Handshake(link) => self.hang_up(link, "the other side did not answer in time"),
            Wake::Bridge(index) => self.retry_bridge(index),
            Wake::Directory => self.directory_dirty = true,
            Wake::Certs => self.renew_certs(),
            Wake::Signatures => self.signatures_late(),
            Wake::Sweep => self.sweep(),
            Wake::Asks => self.expire_asks(),
            Wake::Kademlia => self.wake_kademlia(),
            Wake::Telling => self.tell(),
            Wake::Carry => self.carry_on(),
            Wake::Build(circuit) => self.own_late(circuit),
            Wake::Extend(routed) => self.routed_late(routed),
            Wake::Torrent(torrent) => {
                if let Some(state) = self.torrents.get_mut(&torrent) {
                    state.handle_timeout(self.now);
                    self.torrents_dirty.insert(torrent);
                }
            }
            Wake::Holder => {
                self.holder.handle_timeout(self.now);
                self.holder_dirty = true;
            }
            Wake::Relay(name) => self.relays.handle_timeout(self.now, name),
            Wake::Server => {
                self.server.handle_timeout(self.now);
                self.server_dirty = true;
            }
        }
    }

    /// Circuits that have nothing to do give back memory; looked at while there are any.
    fn sweep(&mut self) {
        self.routed.values_mut().for_each(|routed| routed.sweep());
        self.circuits.values_mut().for_each(|own| own.sweep());
        self.mesh.rest(self.now);
        self.close_idle_links();
        if !self.links.is_empty() {
            self.sweep_later();
        }
    }

    fn sweep_later(&mut self) {
        if self.timers.at(Wake::Sweep).is_none() {
            self.timers.set(Wake::Sweep, self.now + SWEEP);
        }
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// One progress event is enough for all that came before the host looks.
    fn emit_progress(&mut self, torrent: TorrentId) {
        let told = self.outputs.iter().any(|output| {
            matches!(output, Output::Event(Event::Progress { torrent: told }) if *told == torrent)
        });
        if !told {
            self.emit(Event::Progress { torrent });
        }
    }

    /// What it carries for others from now on.
    pub fn set_limits(&mut self, now: Instant, carry: Carry) {
        self.now = now;
        self.config.limits.carry = carry;
        self.carry_on();
    }

    /// A number that this node has not used yet.
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Seconds since 1970.
    fn unix_now(&self) -> u64 {
        self.config.unix_time + self.now.as_micros() / 1_000_000
    }
}
