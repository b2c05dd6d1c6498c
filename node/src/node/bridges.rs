//! Bridges as a node uses them: entered and kept, registered with, asked for routers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::{FirstHop, Router};
use crate::ids::{CircuitId, LinkId, OnionKey, RsaId, StreamId};
use crate::link::{Expected, RouterIds};
use crate::node::Node;
use crate::node::bridge_line::BridgeLine;
use crate::node::io::{BridgeState, Event, Target};
use crate::node::links::Link;
use crate::node::mesh::Way;
use crate::node::origin::Purpose;
use crate::node::timers::Wake;
use crate::time::Instant;
use crate::wire::{DbFindPeer, DbFoundPeer, Descriptor, RelayMessage, Roles};

/// The first wait before a bridge is tried again; it doubles up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest wait before a bridge is tried again.
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Bridges that a client is linked to at once: more samples of routers, and one to fall back on.
const CLIENT_BRIDGES: usize = 2;
/// Routers asked for at once.
const ASK_ROUTERS: u8 = 16;
/// How soon routers are asked for again while they do not suffice.
const ASK_AGAIN: Duration = Duration::from_millis(750);
/// How soon they are asked for again when they do.
const REFRESH: Duration = Duration::from_secs(600);

/// One bridge of the configuration.
pub(crate) struct Bridge {
    pub(crate) line: BridgeLine,
    pub(crate) state: BridgeState,
    pub(crate) link: Option<LinkId>,
    circuit: Option<CircuitId>,
    retry: Duration,
    /// When it is next asked for routers.
    due: Instant,
    /// The descriptor that it was last told, and the stream on which it says whether it took it.
    told: Option<(Descriptor, Option<StreamId>)>,
}

impl Bridge {
    pub(crate) fn new(line: BridgeLine) -> Self {
        Bridge {
            line,
            state: BridgeState::Idle,
            link: None,
            circuit: None,
            retry: RETRY_FIRST,
            due: Instant::ZERO,
            told: None,
        }
    }

    /// Whether circuits can begin here.
    pub(crate) fn is_up(&self) -> bool {
        self.circuit.is_some()
            && matches!(self.state, BridgeState::Connected | BridgeState::Registered)
    }
}

impl Node {
    /// Dials the bridges that are to be linked and are not.
    pub(crate) fn dial_bridges(&mut self) {
        let most = if self.config.asks {
            CLIENT_BRIDGES
        } else {
            self.bridges.len()
        };
        let mut linked = self.bridges.iter().filter(|b| b.link.is_some()).count();
        for index in 0..self.bridges.len() {
            if linked >= most {
                return;
            }
            let Some(bridge) = self.bridges.get(index) else {
                return;
            };
            let waits = matches!(bridge.state, BridgeState::Failed { .. });
            if bridge.link.is_some() || waits {
                continue;
            }
            self.dial_bridge(index);
            linked += 1;
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
        let shown = self.links.get(&link).and_then(Link::claimed);
        let (Some(ids), Some(bridge)) = (shown, self.bridges.get(index)) else {
            return self.hang_up(link, "the bridge did not prove who it is");
        };
        let (first, onion) = match &bridge.line {
            BridgeLine::WebSocket { onion, .. } => (FirstHop::Ntor, *onion),
            // CREATE_FAST needs no onion key: the link proves the bridge.
            BridgeLine::Tls { .. } => (FirstHop::Fast, OnionKey([0; 32])),
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
            bridge.due = self.now;
            bridge.told = None;
        }
        self.set_bridge_state(index, BridgeState::Connected);
        self.directory_dirty = true;
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
            let wait = bridge.retry + jitter;
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
        for index in 0..self.bridges.len() {
            let Some(bridge) = self.bridges.get_mut(index) else {
                return;
            };
            let (true, Some(circuit)) = (bridge.is_up(), bridge.circuit) else {
                continue;
            };
            let asks = self.config.asks && bridge.due <= self.now;
            if asks {
                bridge.due = self.now + if enough { REFRESH } else { ASK_AGAIN };
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
        if told.is_some_and(|(told, _)| *told == descriptor) {
            return;
        }
        let stream = self.allocate_stream(circuit);
        if let Some(bridge) = self.bridges.get_mut(index) {
            bridge.told = Some((descriptor.clone(), stream));
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
        let unix_now = self.unix_now();
        let own = self.config.identity.as_ref().map(|own| own.ids().ed25519);
        let is_bridge = |id| {
            self.bridges.iter().any(|bridge| match &bridge.line {
                BridgeLine::WebSocket { ed25519, .. } | BridgeLine::Tls { ed25519, .. } => {
                    *ed25519 == id
                }
            })
        };
        match found.descriptor {
            None => {}
            Some(descriptor) => {
                // Signed by whom it names and still valid; no bridge of ours, which would be
                // two hops of one circuit.
                if let Ok(verified) = descriptor.verify(unix_now)
                    && !is_bridge(verified.ed25519)
                    && own != Some(verified.ed25519)
                {
                    self.directory.learn(&verified);
                    let teller = self.bridge_rsa(index);
                    self.kademlia_contact(&verified, teller);
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

    /// The link of a bridge that circuits can begin at, and the bridge as their first hop.
    pub(crate) fn entry(&self) -> Option<(LinkId, FirstHop, Arc<Router>)> {
        self.bridges.iter().find_map(|bridge| {
            let link = bridge.link.filter(|_| bridge.is_up())?;
            let own = self.circuits.get(&bridge.circuit?)?;
            let first = match bridge.line {
                BridgeLine::WebSocket { .. } => FirstHop::Ntor,
                BridgeLine::Tls { .. } => FirstHop::Fast,
            };
            Some((link, first, own.path().first()?.clone()))
        })
    }
}

/// Where a bridge is, as far as its line says it: a name is for the browser to look up.
fn address_of(line: &BridgeLine) -> Option<SocketAddr> {
    match line {
        BridgeLine::Tls { address, .. } => Some(*address),
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
