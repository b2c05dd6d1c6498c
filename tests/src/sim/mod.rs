//! A simulated network: many real [`Node`]s in one thread, one clock, one seed.
//!
//! Links are reliable and ordered, as TLS, WebSockets and data channels are; each has its own
//! latency and bandwidth, so what goes different ways overtakes. A link can be cut, a node killed.
//! WebRTC is made as browsers make it, by offer, answer and candidates, through [`Nat`]s. The same
//! seed gives the same run.

mod content;
mod disk;
mod download;
mod keys;
mod nat;
mod views;
mod wires;

pub use content::{Library, Manner};
pub use disk::Disk;
pub use download::{Download, download, hold, restore};
pub use keys::KeyPool;
pub use nat::{Behaviour, Nat};
pub use views::Views;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chacha20::ChaCha20Rng;
use chive_node::circuit::client::Router;
use chive_node::ids::{Key, LinkId};
use chive_node::node::{BridgeLine, Config, Event, Input, Limits, Node, Output, Transports};
use chive_node::ordb::ContentAnswer;
use chive_node::store::{StoreAnswer, StoreWant};
use chive_node::time::Instant;
use chive_node::torrent::CHUNK_LEN;
use chive_node::wire::Roles;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use self::wires::{Agent, Wire};

/// When the simulated world begins, Unix seconds.
const UNIX_TIME: u64 = 1_700_000_000;

/// Signatures that all nodes together check once.
const REMEMBERED: usize = 1 << 18;

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(usize);

impl NodeIndex {
    /// The node that was added as the `index`th, from zero.
    pub fn nth(index: usize) -> Self {
        NodeIndex(index)
    }
}

/// How links are, each drawn anew from these ranges.
#[derive(Clone, Debug)]
pub struct LinkModel {
    /// One way.
    pub latency: std::ops::Range<Duration>,
    /// Bytes a second, each way.
    pub bandwidth: std::ops::Range<u64>,
}

impl Default for LinkModel {
    fn default() -> Self {
        LinkModel {
            latency: Duration::from_millis(5)..Duration::from_millis(60),
            bandwidth: 4_000_000..40_000_000,
        }
    }
}

/// Something that will happen.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Happening {
    at: Instant,
    /// Keeps the order of what happens at one moment.
    order: u64,
    what: What,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The link's other side takes the connection.
    Arrive { wire: usize },
    /// The first chunk in flight of one direction arrives.
    Deliver { wire: usize, to_acceptor: bool },
    /// One chunk has left the sender's buffer.
    Left {
        wire: usize,
        to_acceptor: bool,
        bytes: usize,
    },
    /// A node's timer.
    Timer { node: usize },
    /// A dial that found nobody.
    Refused { node: usize, link: LinkId },
    /// A browser has something to tell the other side.
    Gathered {
        node: usize,
        link: LinkId,
        first: bool,
    },
    /// A browser gives up.
    NoWay { node: usize, link: LinkId },
    /// A link is cut.
    Cut { wire: usize },
    /// The content of a host.
    Content { node: usize },
}

struct Simulated {
    node: Node,
    alive: bool,
    offline: bool,
    router: Option<Arc<Router>>,
    /// Of TLS and DTLS both.
    certificate: [u8; 32],
    nat: Nat,
    /// Nodes of different sides do not reach each other.
    side: u8,
    timer: Instant,
    links: BTreeMap<LinkId, usize>,
    events: Vec<Event>,
    keeps_events: bool,
    library: Library,
    /// The file that its host keeps, and whether it gives it back wrong.
    kept: Option<(Bytes, Manner)>,
    /// Chunks that it gave back.
    given: u64,
    answers: VecDeque<(Instant, ContentAnswer)>,
}

/// The world.
pub struct World {
    now: Instant,
    rng: ChaCha20Rng,
    model: LinkModel,
    /// In boxes: the list grows while thousands are in it.
    nodes: Vec<Box<Simulated>>,
    by_address: BTreeMap<SocketAddr, usize>,
    wires: Vec<Wire>,
    agents: BTreeMap<(usize, LinkId), Agent>,
    keys: KeyPool,
    queue: BinaryHeap<Reverse<Happening>>,
    order: u64,
    seed: u64,
}

impl World {
    /// An empty world. The seed is printed, so that a failure can be run again.
    pub fn new(seed: u64, model: LinkModel) -> Self {
        println!("simulated world, seed {seed}");
        chive_node::memo::remember(REMEMBERED);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        World {
            now: Instant::ZERO,
            rng: ChaCha20Rng::from_seed(bytes),
            model,
            nodes: Vec::new(),
            by_address: BTreeMap::new(),
            wires: Vec::new(),
            agents: BTreeMap::new(),
            keys: KeyPool::default(),
            queue: BinaryHeap::new(),
            order: 0,
            seed,
        }
    }

    /// The seed that this world began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The world's time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Adds a router. `change` may change its configuration.
    pub fn add_router(
        &mut self,
        roles: Roles,
        bridges: &[NodeIndex],
        change: impl FnOnce(&mut Config),
    ) -> NodeIndex {
        let identity = self.keys.identity(&mut self.rng);
        let certificate = Sha256::digest(identity.ids().ed25519.0).into();
        let number = u16::try_from(self.nodes.len()).expect("a small world");
        let [high, low] = number.to_be_bytes();
        // Each router in a /16 of its own, so that any two may stand in one circuit.
        let address = SocketAddr::from((Ipv4Addr::new(30 + high, low, 0, 1), 9001));
        let router = Router {
            rsa: identity.ids().rsa,
            ed25519: identity.ids().ed25519,
            onion: identity.onion_key(),
            addresses: vec![address],
            dtls: Some(certificate),
            introducers: Vec::new(),
        };
        let bridges = bridges
            .iter()
            .map(|bridge| self.tls_line(*bridge))
            .collect();
        let mut config = self.config(bridges);
        config.identity = Some(Arc::new(identity));
        config.tls_certificate_sha256 = Some(certificate);
        config.dtls_certificate_sha256 = Some(certificate);
        config.roles = roles;
        config.addresses = vec![address];
        change(&mut config);
        self.add(config, certificate, Some(Arc::new(router)))
    }

    /// Adds a tab that enters by `bridges`.
    pub fn add_tab(
        &mut self,
        bridges: &[NodeIndex],
        change: impl FnOnce(&mut Config),
    ) -> NodeIndex {
        let mut config = self.config(self.websocket_lines(bridges));
        config.transports = Transports::TAB;
        config.asks = true;
        change(&mut config);
        self.add(config, [0; 32], None)
    }

    /// Adds a tab that routes and serves: nobody can dial it, but it can be introduced.
    pub fn add_tab_router(
        &mut self,
        bridges: &[NodeIndex],
        nat: Nat,
        change: impl FnOnce(&mut Config),
    ) -> NodeIndex {
        let identity = self.keys.identity(&mut self.rng);
        let certificate = Sha256::digest(identity.ids().ed25519.0).into();
        let router = Router {
            rsa: identity.ids().rsa,
            ed25519: identity.ids().ed25519,
            onion: identity.onion_key(),
            addresses: Vec::new(),
            dtls: None,
            introducers: Vec::new(),
        };
        let mut config = self.config(self.websocket_lines(bridges));
        config.identity = Some(Arc::new(identity));
        config.transports = Transports::TAB;
        config.roles = Roles::ROUTER.with(Roles::ORDB);
        config.asks = true;
        change(&mut config);
        let node = self.add(config, certificate, Some(Arc::new(router)));
        self.nodes[node.0].nat = nat;
        node
    }

    /// The next node that is added has an ID near `key`, as somebody has who made hundreds and took
    /// the nearest.
    pub fn place_next(&mut self, key: Key) {
        self.keys.place_next(key);
    }

    /// Says whether a node's events are kept for [`World::take_events`]; they are unless said
    /// otherwise. Thousands of nodes that nobody looks at would fill memory with them.
    pub fn keep_events(&mut self, node: NodeIndex, keep: bool) {
        self.nodes[node.0].keeps_events = keep;
        self.nodes[node.0].events.clear();
    }

    /// Adds a node that builds its circuits by hand, over TLS links.
    pub fn add_client(&mut self) -> NodeIndex {
        let config = self.config(Vec::new());
        self.add(config, [0; 32], None)
    }

    fn websocket_lines(&self, bridges: &[NodeIndex]) -> Vec<BridgeLine> {
        let line = |bridge: &NodeIndex| {
            let router = self.router(*bridge);
            BridgeLine::WebSocket {
                url: format!("ws://{}/link", router.addresses[0]),
                ed25519: router.ed25519,
                onion: router.onion,
            }
        };
        bridges.iter().map(line).collect()
    }

    fn config(&self, bridges: Vec<BridgeLine>) -> Config {
        Config {
            identity: None,
            tls_certificate_sha256: None,
            dtls_certificate_sha256: None,
            transports: Transports::NATIVE,
            roles: Roles(0),
            addresses: Vec::new(),
            bridges,
            entries: Vec::new(),
            hops: 3,
            asks: false,
            allow_private: false,
            unix_time: UNIX_TIME + self.now.as_micros() / 1_000_000,
            limits: Limits::default(),
        }
    }

    fn add(
        &mut self,
        config: Config,
        certificate: [u8; 32],
        router: Option<Arc<Router>>,
    ) -> NodeIndex {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        // A node's time begins with the world's: one clock for all.
        let mut config = config;
        config.unix_time = UNIX_TIME;
        let index = self.nodes.len();
        let addresses = config.addresses.iter().map(|address| (*address, index));
        self.by_address.extend(addresses);
        self.nodes.push(Box::new(Simulated {
            node: Node::new(config, seed, self.now),
            alive: true,
            offline: false,
            router,
            certificate,
            nat: Nat::NONE,
            side: 0,
            timer: Instant::FAR_FUTURE,
            links: BTreeMap::new(),
            events: Vec::new(),
            keeps_events: true,
            library: Library::default(),
            kept: None,
            given: 0,
            answers: VecDeque::new(),
        }));
        self.drain(index);
        NodeIndex(index)
    }

    /// A router as circuits name it.
    pub fn router(&self, node: NodeIndex) -> Arc<Router> {
        self.nodes[node.0].router.clone().expect("a router")
    }

    /// How a router is entered by WebRTC.
    pub fn peer_line(&self, node: NodeIndex) -> BridgeLine {
        let router = self.router(node);
        BridgeLine::Peer {
            address: router.addresses[0],
            certificate_sha256: self.nodes[node.0].certificate,
            ed25519: router.ed25519,
            onion: router.onion,
        }
    }

    fn tls_line(&self, node: NodeIndex) -> BridgeLine {
        let router = self.router(node);
        BridgeLine::Tls {
            address: router.addresses[0],
            rsa: router.rsa,
            ed25519: router.ed25519,
        }
    }

    /// What a node's host has to offer.
    pub fn library(&mut self, node: NodeIndex) -> &mut Library {
        &mut self.nodes[node.0].library
    }

    /// A node's host keeps this file, which is the whole of the torrents that it restores.
    pub fn keep(&mut self, node: NodeIndex, content: Bytes, manner: Manner) {
        self.nodes[node.0].kept = Some((content, manner));
    }

    /// How many chunks a node's host gave back of what it keeps.
    pub fn given(&self, node: NodeIndex) -> u64 {
        self.nodes[node.0].given
    }

    /// A node, to look at.
    pub fn node(&self, node: NodeIndex) -> &Node {
        &self.nodes[node.0].node
    }

    /// Calls a node as its host would.
    pub fn call<T>(&mut self, node: NodeIndex, call: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let result = call(&mut self.nodes[node.0].node, self.now);
        self.drain(node.0);
        result
    }

    /// Takes the events of a node that came since the last call.
    pub fn take_events(&mut self, node: NodeIndex) -> Vec<Event> {
        std::mem::take(&mut self.nodes[node.0].events)
    }

    /// Ends a node at once: nobody is told but by its links.
    pub fn kill(&mut self, node: NodeIndex) {
        self.nodes[node.0].alive = false;
        for wire in std::mem::take(&mut self.nodes[node.0].links).into_values() {
            self.schedule(self.now, What::Cut { wire });
        }
        self.agents.retain(|(of, _), _| *of != node.0);
    }

    /// Ends a node as [`World::kill`] does, and gives its memory back: nothing can be asked of it
    /// afterwards.
    pub fn bury(&mut self, node: NodeIndex) {
        self.kill(node);
        let blank = Node::new(self.config(Vec::new()), [0; 32], self.now);
        let buried = &mut self.nodes[node.0];
        buried.node = blank;
        buried.timer = Instant::FAR_FUTURE;
        buried.events = Vec::new();
        buried.answers = VecDeque::new();
        buried.library = Library::default();
    }

    /// A node's host goes offline: its links end, and nobody reaches it. It keeps its state, as
    /// a router that is restarted keeps its keys.
    pub fn pause(&mut self, node: NodeIndex) {
        for wire in self.nodes[node.0].links.clone().into_values() {
            self.schedule(self.now, What::Cut { wire });
        }
        self.nodes[node.0].offline = true;
    }

    /// A paused node can be reached again.
    pub fn resume(&mut self, node: NodeIndex) {
        self.nodes[node.0].offline = false;
    }

    /// Puts a node on one side of a network that is split: it reaches nobody on another from now
    /// on. All begin on side 0. Links that stand are cut by [`World::cut_between_sides`].
    pub fn set_side(&mut self, node: NodeIndex, side: u8) {
        self.nodes[node.0].side = side;
    }

    /// Cuts all links between nodes of different sides.
    pub fn cut_between_sides(&mut self) {
        for wire in 0..self.wires.len() {
            let (one, other) = (self.wires[wire].dialler.0, self.wires[wire].acceptor.0);
            if !self.wires[wire].dead && self.nodes[one].side != self.nodes[other].side {
                self.schedule(self.now, What::Cut { wire });
            }
        }
    }

    /// Cuts the links between two nodes; they can be made again.
    pub fn cut_between(&mut self, one: NodeIndex, other: NodeIndex) {
        for wire in 0..self.wires.len() {
            let ends = (self.wires[wire].dialler.0, self.wires[wire].acceptor.0);
            let is_theirs = ends == (one.0, other.0) || ends == (other.0, one.0);
            if is_theirs && !self.wires[wire].dead {
                self.schedule(self.now, What::Cut { wire });
            }
        }
    }

    /// Cuts one of the links that stand, chosen by the world's randomness. False if none does.
    pub fn cut_some_link(&mut self) -> bool {
        let live: Vec<usize> = (0..self.wires.len())
            .filter(|wire| !self.wires[*wire].dead && self.wires[*wire].acceptor.1.is_some())
            .collect();
        if live.is_empty() {
            return false;
        }
        let wire = live[self.below(live.len() as u64) as usize];
        self.schedule(self.now, What::Cut { wire });
        true
    }

    /// Lets the world go on until `done`, at most until `limit`. Whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut World) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            let Some(Reverse(next)) = self.queue.peek() else {
                return false;
            };
            if next.at > end {
                self.now = end;
                return false;
            }
            let Some(Reverse(happening)) = self.queue.pop() else {
                return false;
            };
            self.now = happening.at;
            self.happen(happening.what);
        }
    }

    /// Lets the world go on for so long.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self
            .queue
            .peek()
            .is_some_and(|Reverse(next)| next.at <= end)
        {
            let Some(Reverse(happening)) = self.queue.pop() else {
                break;
            };
            self.now = happening.at;
            self.happen(happening.what);
        }
        self.now = end;
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Timer { node } => {
                if self.nodes[node].timer == self.now {
                    self.nodes[node].timer = Instant::FAR_FUTURE;
                    self.input(node, Input::Timeout);
                }
            }
            What::Refused { node, link } => {
                let why = "connection refused".into();
                self.input(node, Input::Closed { link, why });
            }
            What::Gathered { node, link, first } => self.gathered(node, link, first),
            What::NoWay { node, link } => self.no_way(node, link),
            What::Arrive { wire } => self.arrive(wire),
            What::Deliver { wire, to_acceptor } => {
                let direction = self.direction(wire, to_acceptor);
                let Some(bytes) = direction.in_flight.pop_front() else {
                    return;
                };
                if self.wires[wire].dead {
                    return;
                }
                let (node, link) = self.end(wire, to_acceptor);
                if let Some(link) = link {
                    let bytes = BytesMut::from(bytes);
                    self.input(node, Input::Received { link, bytes });
                }
            }
            What::Left {
                wire,
                to_acceptor,
                bytes,
            } => {
                let direction = self.direction(wire, to_acceptor);
                direction.buffered -= bytes;
                let bytes = direction.buffered;
                let (node, link) = self.end(wire, !to_acceptor);
                if let (Some(link), false) = (link, self.wires[wire].dead) {
                    self.input(node, Input::Buffered { link, bytes });
                }
            }
            What::Cut { wire } => {
                if self.wires[wire].dead {
                    return;
                }
                self.bury_wire(wire);
                for to_acceptor in [false, true] {
                    let (node, link) = self.end(wire, to_acceptor);
                    if let Some(link) = link {
                        // A link of this name may be another's already, where the node is new.
                        if self.nodes[node].links.get(&link) == Some(&wire) {
                            self.nodes[node].links.remove(&link);
                        }
                        let why = "the link was cut".into();
                        self.input(node, Input::Closed { link, why });
                    }
                }
            }
            What::Content { node } => {
                while let Some((at, _)) = self.nodes[node].answers.front() {
                    if *at > self.now {
                        break;
                    }
                    if let Some((_, answer)) = self.nodes[node].answers.pop_front() {
                        self.input(node, Input::Content(answer));
                    }
                }
            }
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        if self.nodes[node].alive {
            self.nodes[node].node.handle_input(self.now, input);
            self.drain(node);
        }
    }

    /// Does what a node wants.
    fn drain(&mut self, node: usize) {
        loop {
            match self.nodes[node].node.poll_output() {
                Output::Transmit { link, bytes } => self.transmit(node, link, bytes),
                Output::Event(Event::Dial { link, target }) => self.dial(node, link, &target),
                Output::Event(Event::Signal { link, signal }) => self.signal(node, link, &signal),
                Output::Event(Event::HangUp { link, .. }) => {
                    self.agents.remove(&(node, link));
                    if let Some(wire) = self.nodes[node].links.remove(&link) {
                        // What was sent before still arrives.
                        let at = self.wires[wire]
                            .forward
                            .free_at
                            .max(self.wires[wire].back.free_at);
                        let at = at.max(self.now) + self.wires[wire].latency;
                        self.schedule(at, What::Cut { wire });
                    }
                }
                Output::Event(Event::Export { link, context }) => {
                    // Both ends of one TLS connection, and nobody else, can make this.
                    if let Some(wire) = self.nodes[node].links.get(&link) {
                        let secret = Sha256::new()
                            .chain_update(self.seed.to_be_bytes())
                            .chain_update(wire.to_be_bytes())
                            .chain_update(context)
                            .finalize()
                            .into();
                        self.nodes[node]
                            .node
                            .handle_input(self.now, Input::Exported { link, secret });
                    }
                }
                Output::Event(Event::Content(want)) => {
                    let now = self.now;
                    let simulated = &mut self.nodes[node];
                    for (delay, answer) in simulated.library.answer(now, &want) {
                        let at = simulated.answers.back().map_or(now, |(last, _)| *last);
                        simulated.answers.push_back((at.max(now + delay), answer));
                    }
                    if let Some((at, _)) = simulated.answers.back() {
                        let at = *at;
                        self.schedule(at, What::Content { node });
                    }
                }
                Output::Event(Event::Store(StoreWant::Read { torrent, chunk }))
                    if self.nodes[node].kept.is_some() =>
                {
                    let simulated = &mut self.nodes[node];
                    simulated.given += 1;
                    let bytes = simulated.kept.as_ref().map(|(content, manner)| {
                        let start = chunk as usize * CHUNK_LEN as usize;
                        let end = (start + CHUNK_LEN as usize).min(content.len());
                        let mut bytes = BytesMut::from(&content[start..end]);
                        bytes[0] ^= u8::from(*manner == Manner::Lying);
                        bytes.freeze()
                    });
                    let answer = StoreAnswer::Read {
                        torrent,
                        chunk,
                        bytes,
                    };
                    let now = self.now;
                    simulated.node.handle_input(now, Input::Store(answer));
                }
                Output::Event(event) if self.nodes[node].keeps_events => {
                    self.nodes[node].events.push(event);
                }
                Output::Event(_) => {}
                Output::Timeout(at) => {
                    let at = at.max(self.now);
                    if at != Instant::FAR_FUTURE && at != self.nodes[node].timer {
                        self.nodes[node].timer = at;
                        self.schedule(at, What::Timer { node });
                    }
                    return;
                }
            }
        }
    }

    /// The node that answers at an address, if it is there.
    fn at_address(&self, address: SocketAddr) -> Option<usize> {
        let node = *self.by_address.get(&address)?;
        let there = self.nodes[node].alive && !self.nodes[node].offline;
        there.then_some(node)
    }

    fn schedule(&mut self, at: Instant, what: What) {
        self.order += 1;
        let order = self.order;
        self.queue.push(Reverse(Happening { at, order, what }));
    }

    fn draw(&mut self, range: std::ops::Range<Duration>) -> Duration {
        let span = u64::try_from((range.end - range.start).as_micros()).expect("a short time");
        range.start + Duration::from_micros(self.below(span.max(1)))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }
}
