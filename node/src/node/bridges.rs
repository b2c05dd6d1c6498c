//! Bridges as a node uses them: entered and kept, registered with, asked for routers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::{FirstHop, Router};
use crate::ids::{CircuitId, Ed25519Id, LinkId, OnionKey, RsaId, StreamId};
use crate::link::{Expected, RouterIds};
use crate::node::Node;
use crate::node::bridge_line::BridgeLine;
use crate::node::directory::{is_public, pick};
use crate::node::io::{BridgeState, Config, Event, Target};
use crate::node::mesh::Way;
use crate::node::origin::Purpose;
use crate::node::timers::Wake;
use crate::order::set_of;
use crate::time::Instant;
use crate::wire::{DbFindPeer, DbFoundPeer, Descriptor, RelayMessage, Roles};

/// The first wait before a bridge is tried again; it doubles up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest wait before a bridge is tried again.
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Bridges that a client is linked to at once: more samples of routers, and one to fall back on.
const CLIENT_BRIDGES: usize = 2;
/// Routers that a node keeps to begin circuits at, besides its bridges.
const ENTRIES: usize = 2;
/// How often in turn such a router may not be reached before another takes its place: hours, for
/// who restarts is to be found again.
const ENTRY_FAILURES: u32 = 240;
/// Routers asked for at once.
const ASK_ROUTERS: u8 = 16;
/// How soon routers are asked for again while they do not suffice; it doubles up to
/// [`ASK_WHILE_FEW`].
const ASK_AGAIN: Duration = Duration::from_millis(750);
/// Fewer routers than this are a small sample of whoever came first …
const FEW_ROUTERS: usize = 24;
/// … and are asked for again this soon.
const ASK_WHILE_FEW: Duration = Duration::from_secs(15);
/// How often random walks look for more of them where no bridge tells of any, once there are enough
/// for a path.
const WALK_WHILE_FEW: Duration = Duration::from_secs(60);
/// How soon they are asked for again when they do.
const REFRESH: Duration = Duration::from_secs(600);

/// One bridge of the configuration.
pub(crate) struct Bridge {
    pub(crate) line: BridgeLine,
    /// Whether it is none of the configuration's, but an entry that this node chose itself.
    pub(crate) is_entry: bool,
    /// How often in turn it could not be reached.
    failures: u32,
    pub(crate) state: BridgeState,
    pub(crate) link: Option<LinkId>,
    circuit: Option<CircuitId>,
    retry: Duration,
    /// When it is next asked for routers.
    due: Instant,
    /// How long after that once more, if they still do not suffice.
    ask_again: Duration,
    /// Whether it told of a router since it was entered: what is no bridge tells of nobody.
    gives: bool,
    /// The descriptor that it was last told, and the stream on which it says whether it took it.
    told: Option<(Box<Descriptor>, Option<StreamId>)>,
}

impl Bridge {
    pub(crate) fn new(line: BridgeLine) -> Self {
        Bridge {
            line,
            is_entry: false,
            failures: 0,
            state: BridgeState::Idle,
            link: None,
            circuit: None,
            retry: RETRY_FIRST,
            due: Instant::ZERO,
            ask_again: ASK_AGAIN,
            gives: false,
            told: None,
        }
    }

    /// Whether circuits can begin here.
    pub(crate) fn is_up(&self) -> bool {
        self.circuit.is_some()
            && matches!(self.state, BridgeState::Connected | BridgeState::Registered)
    }
}

/// The bridges of a configuration, and the entries of earlier sessions.
pub(crate) fn all(config: &Config) -> Vec<Bridge> {
    let bridges = config.bridges.iter().cloned().map(Bridge::new);
    let entries =
        config.entries.iter().take(ENTRIES).filter(|line| {
            matches!(line, BridgeLine::Peer { .. }) && !config.bridges.contains(line)
        });
    let entries = entries.cloned().map(|line| Bridge {
        is_entry: true,
        ..Bridge::new(line)
    });
    bridges.chain(entries).collect()
}

impl Node {
    /// Chooses routers to begin circuits at for good, while there are fewer than a few: such as
    /// can be dialled by WebRTC. One that cannot be reached any more is replaced.
    pub(crate) fn keep_entries(&mut self) {
        if !self.config.transports.webrtc || !self.config.asks {
            return;
        }
        let lost = self.bridges.iter().position(|bridge| {
            bridge.is_entry && bridge.link.is_none() && bridge.failures >= ENTRY_FAILURES
        });
        let entries = self.bridges.iter().filter(|bridge| bridge.is_entry);
        if lost.is_none() && entries.count() >= ENTRIES {
            return;
        }
        let known: Vec<Ed25519Id> = self.bridges.iter().map(|b| b.line.ed25519()).collect();
        let allow_private = self.config.allow_private;
        let fit = self
            .directory
            .trusted(Roles::ROUTER, self.now)
            .filter(|router| !known.contains(&router.ed25519))
            .filter_map(|router| {
                let mut addresses = router.addresses.iter();
                let address = addresses.find(|at| allow_private || is_public(at.ip()))?;
                Some(BridgeLine::Peer {
                    address: *address,
                    certificate_sha256: router.dtls?,
                    ed25519: router.ed25519,
                    onion: router.onion_key,
                })
            });
        let fit: Vec<BridgeLine> = fit.collect();
        let Some(line) = pick(&fit, &mut self.rng).cloned() else {
            return;
        };
        let entry = Bridge {
            is_entry: true,
            ..Bridge::new(line)
        };
        match lost.and_then(|index| self.bridges.get_mut(index)) {
            Some(place) => *place = entry,
            None => self.bridges.push(entry),
        }
        let entries = self.bridges.iter().filter(|bridge| bridge.is_entry);
        let entries = entries.map(|bridge| bridge.line.clone()).collect();
        self.emit(Event::Entries(entries));
        self.directory_dirty = true;
    }

    /// Whether somebody is one of our bridges, which are no later hops. An entry that we chose
    /// ourselves may be one, where there are no others: a small network has nobody to spare.
    pub(crate) fn is_bridge(&self, ed25519: &Ed25519Id) -> bool {
        let mut bridges = self.bridges.iter().filter(|bridge| !bridge.is_entry);
        bridges.any(|bridge| bridge.line.ed25519() == *ed25519)
    }

    /// The entries that we chose ourselves.
    pub(crate) fn entries(&self) -> BTreeSet<Ed25519Id> {
        let entries = self.bridges.iter().filter(|bridge| bridge.is_entry);
        set_of(entries.map(|bridge| bridge.line.ed25519()))
    }

    /// Dials the bridges that are to be linked and are not.
    pub(crate) fn dial_bridges(&mut self) {
        let most = if self.config.asks {
            CLIENT_BRIDGES
        } else {
            self.bridges.len()
        };
        let linked = self
            .bridges
            .iter()
            .filter(|b| b.link.is_some() && !b.is_entry);
        let mut linked = linked.count();
        for index in 0..self.bridges.len() {
            let Some(bridge) = self.bridges.get(index) else {
                return;
            };
            if linked >= most && !bridge.is_entry {
                continue;
            }
            let is_entry = bridge.is_entry;
            let waits = matches!(bridge.state, BridgeState::Failed { .. });
            let cannot =
                !self.config.transports.webrtc && matches!(bridge.line, BridgeLine::Peer { .. });
            if bridge.link.is_some() || waits || cannot {
                continue;
            }
            self.dial_bridge(index);
            linked += usize::from(!is_entry);
        }
    }

    /// A bridge may be tried again.
    pub(crate) fn retry_bridge(&mut self, index: usize) {
        if let Some(bridge) = self.bridges.get_mut(index)
            && bridge.link.is_none()
        {
            bridge.state = BridgeState::Idle;
            self.dial_bridges();
        }
    }

    fn dial_bridge(&mut self, index: usize) {
        let Some(bridge) = self.bridges.get(index) else {
            return;
        };
        let (target, expected) = match &bridge.line {
            BridgeLine::WebSocket { url, ed25519, .. } => (
                Target::WebSocket { url: url.clone() },
                Expected {
                    rsa: None,
                    ed25519: Some(*ed25519),
                },
            ),
            BridgeLine::Peer {
                address,
                certificate_sha256,
                ed25519,
                ..
            } => (
                Target::WebRtc {
                    addresses: vec![*address],
                    certificate_sha256: *certificate_sha256,
                },
                Expected {
                    rsa: None,
                    ed25519: Some(*ed25519),
                },
            ),
            BridgeLine::Tls {
                address,
                rsa,
                ed25519,
            } => (
                Target::Tls {
                    addresses: vec![*address],
                },
                Expected {
                    rsa: Some(*rsa),
                    ed25519: Some(*ed25519),
                },
            ),
        };
        let link = self.dial(target, expected);
        if let Some(bridge) = self.bridges.get_mut(index) {
            bridge.link = link;
        }
        self.set_bridge_state(index, BridgeState::Connecting);
    }

    fn set_bridge_state(&mut self, index: usize, state: BridgeState) {
        if let Some(bridge) = self.bridges.get_mut(index)
            && bridge.state != state
        {
            bridge.state = state.clone();
            if bridge.is_entry {
                return;
            }
            self.emit(Event::Bridge {
                bridge: index,
                state,
            });
        }
    }

    fn bridge_of_link(&self, link: LinkId) -> Option<usize> {
        self.bridges
            .iter()
            .position(|bridge| bridge.link == Some(link))
    }

    /// A link stands: if it is a bridge's, a circuit of one hop over it is the way to talk to it.
    pub(crate) fn bridge_link_open(&mut self, link: LinkId) {
        let Some(index) = self.bridge_of_link(link) else {
            return;
        };
        let shown = self.links.get(&link).and_then(|link| link.claimed());
        let (Some(ids), Some(bridge)) = (shown, self.bridges.get(index)) else {
            return self.hang_up(link, "the bridge did not prove who it is");
        };
        let (first, onion) = match &bridge.line {
            BridgeLine::WebSocket { onion, .. } => (FirstHop::Ntor, *onion),
            // CREATE_FAST needs no onion key: the link proves the bridge.
            BridgeLine::Tls { .. } => (FirstHop::Fast, OnionKey([0; 32])),
            BridgeLine::Peer { onion, .. } => (FirstHop::Fast, *onion),
        };
        let router = Arc::new(Router {
            rsa: ids.rsa,
            ed25519: ids.ed25519,
            onion,
            // Not to be dialled, but no other hop may stand in its network.
            addresses: address_of(&bridge.line).into_iter().collect(),
            dtls: None,
            introducers: Vec::new(),
        });
        let circuit = self.build_over(link, vec![router], first, Purpose::Bridge(index));
        if let Some(bridge) = self.bridges.get_mut(index) {
            bridge.circuit = circuit;
        }
    }

    /// The circuit to a bridge stands: for a WebSocket, only this proves the bridge.
    pub(crate) fn bridge_circuit_open(&mut self, index: usize, circuit: CircuitId) {
        let proven = self.circuits.get(&circuit).and_then(|own| {
            let bridge = own.path().first()?;
            let ids = RouterIds {
                rsa: bridge.rsa,
                ed25519: bridge.ed25519,
            };
            Some((own.link(), ids))
        });
        if let Some((link, ids)) = proven {
            self.neighbour_by(link, ids, Way::Own(circuit));
        }
        if let Some(bridge) = self.bridges.get_mut(index) {
            bridge.retry = RETRY_FIRST;
            bridge.failures = 0;
            bridge.due = self.now;
            bridge.ask_again = ASK_AGAIN;
            bridge.told = None;
        }
        self.set_bridge_state(index, BridgeState::Connected);
        self.hurry_building();
    }

    /// The circuit to a bridge is gone. Without it the link is of no use.
    pub(crate) fn bridge_circuit_gone(&mut self, index: usize) {
        let Some(bridge) = self.bridges.get_mut(index) else {
            return;
        };
        bridge.circuit = None;
        let unproven = bridge.state == BridgeState::Connecting;
        if let Some(link) = bridge.link {
            let why = if unproven {
                "the bridge could not prove that it holds the key of its bridge line: \
                 the line is wrong or old, or somebody stands between"
            } else {
                "the bridge ended the circuit to it"
            };
            self.hang_up(link, why);
        }
    }

    /// A link is gone: if it was a bridge's, it is tried again later.
    pub(crate) fn bridge_link_gone(&mut self, link: LinkId, why: &str) {
        let Some(index) = self.bridge_of_link(link) else {
            return;
        };
        let jitter = Duration::from_millis(self.rng.next_u64() % 250);
        if let Some(bridge) = self.bridges.get_mut(index) {
            bridge.link = None;
            bridge.circuit = None;
            bridge.gives = false;
            let wait = bridge.retry + jitter;
            bridge.failures = bridge.failures.saturating_add(1);
            bridge.retry = (bridge.retry * 2).min(RETRY_MOST);
            self.timers.set(Wake::Bridge(index), self.now + wait);
        }
        let why = why.to_owned();
        self.set_bridge_state(index, BridgeState::Failed { why });
        self.dial_bridges();
        self.directory_dirty = true;
    }

    /// Registers with the bridges, and asks them for routers, where that is due.
    pub(crate) fn talk_to_bridges(&mut self) {
        // Which signs it anew if it is due, be there a bridge or not.
        self.own_descriptor();
        if std::mem::take(&mut self.signing.untold) {
            self.greet_again();
        }
        let enough = self.routers_suffice();
        let few = self.directory.len() < FEW_ROUTERS;
        for index in 0..self.bridges.len() {
            let Some(bridge) = self.bridges.get_mut(index) else {
                return;
            };
            let (true, Some(circuit)) = (bridge.is_up(), bridge.circuit) else {
                continue;
            };
            let asks = self.config.asks && bridge.due <= self.now;
            if asks {
                bridge.due = self.now
                    + match (enough, few) {
                        (false, _) => {
                            let wait = bridge.ask_again;
                            bridge.ask_again = (wait * 2).min(ASK_WHILE_FEW);
                            wait
                        }
                        (true, true) => ASK_WHILE_FEW,
                        (true, false) => REFRESH,
                    };
            }
            if self.config.asks {
                self.wake_directory(bridge_due(&self.bridges, index));
            }
            self.register_with(index, circuit);
            if asks {
                let ask = RelayMessage::DbFindPeer(DbFindPeer::Ask {
                    roles: Roles::ROUTER,
                    count: ASK_ROUTERS,
                });
                let stream = self.allocate_stream(circuit);
                self.send_own(circuit, stream, &ask);
            }
        }
        self.walk_while_few(enough);
    }

    /// Where no bridge tells of routers, random walks among the peers find them, and soon while
    /// there are few.
    fn walk_while_few(&mut self, enough: bool) {
        let tells = self.bridges.iter().any(|it| it.is_up() && it.gives);
        if tells || !self.config.asks || self.directory.len() >= FEW_ROUTERS {
            return;
        }
        let wait = if enough {
            WALK_WHILE_FEW
        } else {
            ASK_WHILE_FEW
        };
        let at = self.now + wait;
        if self.walk_by(at) {
            self.wake_directory(at);
        }
    }

    /// Tells a bridge what this node says of itself, unless it has been told just that.
    fn register_with(&mut self, index: usize, circuit: CircuitId) {
        // If it is yet to be signed, the bridges are looked after again when it is. What names
        // neither an address nor an introducer is of no use to anybody.
        let Some(descriptor) = self.own_descriptor().filter(|own| {
            let own = own.unverified();
            !own.addresses.is_empty() || !own.introducers.is_empty()
        }) else {
            return;
        };
        let told = self.bridges.get(index).and_then(|b| b.told.as_ref());
        if told.is_some_and(|(told, _)| **told == descriptor) {
            return;
        }
        let stream = self.allocate_stream(circuit);
        if let Some(bridge) = self.bridges.get_mut(index) {
            bridge.told = Some((Box::new(descriptor.clone()), stream));
        }
        let register = RelayMessage::DbFindPeer(DbFindPeer::Register(Box::new(descriptor)));
        self.send_own(circuit, stream, &register);
    }

    /// A bridge answered DB_FIND_PEER.
    pub(crate) fn found_peer(&mut self, index: usize, stream: StreamId, found: DbFoundPeer) {
        let told = self.bridges.get(index).and_then(|b| b.told.as_ref());
        if told.is_some_and(|(_, registers)| *registers == Some(stream)) {
            return self.registered_with(index, found.descriptor.is_some());
        }
        let own = self.config.identity.as_ref().map(|own| own.ids().ed25519);
        match found.descriptor {
            None => {}
            Some(descriptor) => {
                if let Some(bridge) = self.bridges.get_mut(index) {
                    bridge.gives = true;
                }
                // Signed by whom it names and still valid; no bridge of ours, which would be
                // two hops of one circuit.
                if let Ok(verified) = self.verify_told(&descriptor)
                    && !self.is_bridge(&verified.ed25519)
                    && own != Some(verified.ed25519)
                {
                    self.learn_router(&verified);
                    let teller = self.bridge_rsa(index);
                    self.kademlia_contact(&verified, teller, true);
                }
            }
        }
        if found.remaining == 0 {
            self.directory_dirty = true;
        }
    }

    /// The ID of a bridge, once it has proved it.
    fn bridge_rsa(&self, index: usize) -> Option<RsaId> {
        let link = self.bridges.get(index)?.link?;
        Some(self.mesh.ids_of(link)?.rsa)
    }

    /// A bridge says whether it took this node's descriptor.
    fn registered_with(&mut self, index: usize, taken: bool) {
        if taken {
            return self.set_bridge_state(index, BridgeState::Registered);
        }
        let why = "the bridge did not take this router's descriptor: it is full, is no bridge, or \
                   the clocks differ by more than an hour";
        if self.config.asks {
            // It is of use all the same, and is told the next descriptor.
            tracing::warn!("{why}");
        } else if let Some(link) = self.bridges.get(index).and_then(|bridge| bridge.link) {
            // Without its link the bridge is tried again later.
            self.hang_up(link, why);
        }
    }

    /// A link that circuits can begin over, and their first hop.
    pub(crate) fn entry(&self) -> Option<(LinkId, FirstHop, Arc<Router>)> {
        self.bridge_entry().or_else(|| self.substitute_entry())
    }

    /// The link of a bridge that circuits can begin at, and the bridge as their first hop.
    pub(crate) fn bridge_entry(&self) -> Option<(LinkId, FirstHop, Arc<Router>)> {
        self.bridges.iter().find_map(|bridge| {
            let link = bridge.link.filter(|_| bridge.is_up())?;
            let own = self.circuits.get(&bridge.circuit?)?;
            let first = match bridge.line {
                BridgeLine::WebSocket { .. } => FirstHop::Ntor,
                BridgeLine::Tls { .. } | BridgeLine::Peer { .. } => FirstHop::Fast,
            };
            Some((link, first, own.path().first()?.clone()))
        })
    }
}

impl BridgeLine {
    /// Whether it is reached at an address that means nothing outside of a home.
    pub fn is_at_home(&self) -> bool {
        let at_home = address_of(self).map(|address| !is_public(address.ip()));
        at_home.unwrap_or_else(|| match self {
            BridgeLine::WebSocket { url, .. } => url.contains("://localhost"),
            BridgeLine::Tls { .. } | BridgeLine::Peer { .. } => false,
        })
    }
}

/// Where a bridge is, as far as its line says it: a name is for the browser to look up.
fn address_of(line: &BridgeLine) -> Option<SocketAddr> {
    match line {
        BridgeLine::Tls { address, .. } | BridgeLine::Peer { address, .. } => Some(*address),
        BridgeLine::WebSocket { url, .. } => {
            let (_, rest) = url.split_once("://")?;
            let host = rest.split(['/', '?']).next()?;
            host.parse().ok().or_else(|| {
                let ip = host.trim_start_matches('[').trim_end_matches(']');
                Some(SocketAddr::new(ip.parse().ok()?, 443))
            })
        }
    }
}

fn bridge_due(bridges: &[Bridge], index: usize) -> Instant {
    bridges
        .get(index)
        .map_or(Instant::FAR_FUTURE, |bridge| bridge.due)
}
