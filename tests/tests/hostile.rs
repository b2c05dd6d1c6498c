//! Peers that keep no rules: they are cut at the limits, and memory stays under its bound.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use chacha20::ChaCha20Rng;
use chive_node::circuit::client::{ClientCircuit, Router};
use chive_node::ids::{LinkId, StreamId};
use chive_node::link::{Binding, Identity};
use chive_node::node::{
    BridgeLine, Config, Event, Gauges, Input, Limits, Node, Output, Target, Transports,
};
use chive_node::time::Instant;
use chive_node::wire::{
    CELL_LEN, CellBody, CircId, Command, Destroy, DestroyReason, RawCell, RelayMessage, Roles,
};
use chive_tests::raw::{RawLink, UNIX_TIME, relay_body};
use rand_core::SeedableRng;

const NOW: Instant = Instant::ZERO;

fn config() -> Config {
    Config {
        identity: None,
        tls_certificate_sha256: None,
        dtls_certificate_sha256: None,
        entries: Vec::new(),
        transports: Transports::NATIVE,
        roles: Roles(0),
        addresses: Vec::new(),
        bridges: Vec::new(),
        hops: 3,
        asks: false,
        allow_private: true,
        unix_time: UNIX_TIME,
        limits: Limits::default(),
    }
}

fn identity(seed: u8) -> Identity {
    Identity::generate(&mut ChaCha20Rng::from_seed([seed; 32])).expect("keys")
}

/// A router that listens at `address`, and how circuits name it.
fn router(seed: u8, address: &str, limits: Limits) -> (Node, Arc<Router>) {
    let identity = identity(seed);
    let address: SocketAddr = address.parse().expect("an address");
    let named = Router {
        rsa: identity.ids().rsa,
        ed25519: identity.ids().ed25519,
        onion: identity.onion_key(),
        addresses: vec![address],
        dtls: None,
        introducers: Vec::new(),
    };
    let config = Config {
        identity: Some(Arc::new(identity)),
        tls_certificate_sha256: Some([seed; 32]),
        dtls_certificate_sha256: None,
        entries: Vec::new(),
        transports: Transports::NATIVE,
        roles: Roles::ROUTER,
        addresses: vec![address],
        limits,
        ..config()
    };
    (Node::new(config, [seed; 32], NOW), Arc::new(named))
}

/// Two routers with a link between them, the first of which a raw tab enters.
struct Pair {
    first: Node,
    second: Node,
    path: Vec<Arc<Router>>,
    tab: RawLink,
    entry: LinkId,
    /// The link's names at its two ends, once it is there.
    between: Option<(LinkId, LinkId)>,
}

impl Pair {
    fn new(limits: Limits) -> Self {
        let (mut first, a) = router(1, "127.0.0.1:1001", limits.clone());
        let (second, b) = router(2, "127.0.0.1:1002", limits);
        let tab = RawLink::tab(3);
        let entry = first
            .accept(NOW, Binding::WebSocket, None)
            .expect("accepted");
        let mut pair = Pair {
            first,
            second,
            path: vec![a, b],
            tab,
            entry,
            between: None,
        };
        pair.run();
        assert!(pair.tab.is_open());
        pair
    }

    /// Passes everything on until all are quiet. Answers the cells that reached the tab.
    fn run(&mut self) -> Vec<RawCell> {
        let mut cells = Vec::new();
        loop {
            let (came, outputs) = self.tab.exchange(&mut self.first, NOW, self.entry);
            let mut quiet = came.is_empty() && outputs.is_empty();
            cells.extend(came);
            for output in outputs {
                self.pass_on(output);
            }
            loop {
                match self.second.poll_output() {
                    Output::Timeout(_) => break,
                    Output::Transmit { bytes, .. } => {
                        quiet = false;
                        if let Some((link, _)) = self.between {
                            let bytes = BytesMut::from(bytes);
                            self.first
                                .handle_input(NOW, Input::Received { link, bytes });
                        }
                    }
                    Output::Event(Event::Export { link, context }) => {
                        let input = Input::Exported {
                            link,
                            secret: context,
                        };
                        self.second.handle_input(NOW, input);
                    }
                    Output::Event(_) => {}
                }
            }
            if quiet {
                return cells;
            }
        }
    }

    fn pass_on(&mut self, output: Output) {
        match output {
            Output::Event(Event::Dial {
                link,
                target: Target::Tls { .. },
            }) => {
                let binding = Binding::Tls {
                    certificate_sha256: [2; 32],
                };
                let accepted = self.second.accept(NOW, binding, None).expect("accepted");
                self.between = Some((link, accepted));
                let peer = None;
                let input = Input::Connected {
                    link,
                    binding,
                    peer,
                };
                self.first.handle_input(NOW, input);
            }
            Output::Event(Event::Export { link, context }) => {
                let input = Input::Exported {
                    link,
                    secret: context,
                };
                self.first.handle_input(NOW, input);
            }
            Output::Transmit { bytes, .. } => {
                if let Some((_, link)) = self.between {
                    let bytes = BytesMut::from(bytes);
                    self.second
                        .handle_input(NOW, Input::Received { link, bytes });
                }
            }
            _ => {}
        }
    }

    /// A circuit of both routers.
    fn circuit(&mut self, circ: CircId) -> ClientCircuit {
        let mut machine = self.tab.begin(circ, self.path.clone());
        while !machine.is_open() {
            let cells = self.run();
            assert!(!cells.is_empty(), "the circuit is not built");
            for cell in cells {
                self.tab.advance(&mut machine, cell);
            }
        }
        self.run();
        machine
    }

    /// Sends cells that the second router would get, while the first one's link to it takes
    /// nothing. Answers what the tab gets.
    fn flood(&mut self, circ: CircId, machine: &mut ClientCircuit, cells: usize) -> Vec<RawCell> {
        let mut came = Vec::new();
        for _ in 0..cells {
            let mut body = relay_body(None, &RelayMessage::Drop);
            let (command, _) = machine.seal(1, false, &mut body).expect("sealed");
            self.tab.send(circ, command, &body);
        }
        // Only the tab's own link moves: what the first router wants sent on stays undone, and
        // its host never says that anything has left.
        let (cells, _) = self.tab.exchange(&mut self.first, NOW, self.entry);
        came.extend(cells);
        came
    }
}

fn circ(number: u32) -> CircId {
    CircId(0x8000_0000 | number)
}

fn destroyed(cells: &[RawCell]) -> Vec<(CircId, DestroyReason)> {
    cells
        .iter()
        .filter(|cell| cell.command == Command::DESTROY)
        .map(|cell| {
            (
                cell.circ,
                Destroy::from_cell(&cell.body).expect("DESTROY").reason,
            )
        })
        .collect()
}

#[test]
fn a_circuit_that_fills_its_queue_dies_and_the_router_does_not() {
    let mut pair = Pair::new(Limits::default());
    let mut flooding = pair.circuit(circ(1));
    let mut quiet = pair.circuit(circ(2));
    let cells = pair.flood(circ(1), &mut flooding, 10_000);
    assert_eq!(destroyed(&cells), [(circ(1), DestroyReason::RESOURCELIMIT)]);
    let Gauges {
        queued_bytes,
        circuits_routed,
        ..
    } = pair.first.gauges();
    assert_eq!(queued_bytes, 0, "what waited for the dead circuit is freed");
    assert_eq!(circuits_routed, 1, "the other circuit lives");
    let cells = pair.flood(circ(2), &mut quiet, 10);
    assert!(destroyed(&cells).is_empty());
}

#[test]
fn all_queues_together_stay_under_the_node_s_limit() {
    let limits = Limits {
        queued_bytes: 1 << 20,
        ..Limits::default()
    };
    let most = limits.queued_bytes;
    let mut pair = Pair::new(limits);
    let mut machines: Vec<ClientCircuit> = (1..=8).map(|n| pair.circuit(circ(n))).collect();
    let mut ended = 0;
    for (n, machine) in (1..).zip(&mut machines) {
        // Each stays within a circuit's own limit.
        let cells = pair.flood(circ(n), machine, 1_200);
        ended += destroyed(&cells).len();
        let queued = pair.first.gauges().queued_bytes;
        assert!(queued <= most + CELL_LEN, "{queued} bytes queued");
    }
    assert!(ended >= 4, "only {ended} circuits were ended");
}

#[test]
fn more_circuits_than_a_link_may_have_are_refused() {
    let limits = Limits {
        circuits_per_link: 16,
        ..Limits::default()
    };
    let mut pair = Pair::new(limits);
    let path = vec![pair.path[0].clone()];
    for n in 1..=40 {
        pair.tab.begin(circ(n), path.clone());
    }
    let cells = pair.run();
    let refused = destroyed(&cells);
    assert_eq!(refused.len(), 24);
    assert!(
        refused
            .iter()
            .all(|(_, reason)| *reason == DestroyReason::RESOURCELIMIT)
    );
    assert_eq!(pair.first.gauges().circuits_routed, 16);
}

#[test]
fn cells_that_are_replayed_changed_or_astray_end_their_circuit_only() {
    let mut pair = Pair::new(Limits::default());
    let mut machine = pair.circuit(circ(1));
    let _other = pair.circuit(circ(2));

    // Astray: a circuit that nobody knows. Tor drops it.
    pair.tab.send(circ(99), Command::RELAY, &[7; 509]);
    assert!(destroyed(&pair.run()).is_empty());

    // Replayed: the second copy is noise at the last hop.
    let mut body = relay_body(None, &RelayMessage::Drop);
    let (command, _) = machine.seal(1, false, &mut body).expect("sealed");
    pair.tab.send(circ(1), command, &body);
    assert!(destroyed(&pair.run()).is_empty());
    pair.tab.send(circ(1), command, &body);
    pair.run();
    assert_eq!(pair.second.gauges().circuits_routed, 1);

    // The circuit number may be used again only after it was ended.
    let again = Pair::new(Limits::default());
    let mut pair = again;
    let _first = pair.circuit(circ(1));
    pair.tab.begin(circ(1), vec![pair.path[0].clone()]);
    assert_eq!(destroyed(&pair.run()), [(circ(1), DestroyReason::PROTOCOL)]);
}

#[test]
fn relay_early_is_counted() {
    let mut pair = Pair::new(Limits::default());
    let mut machine = pair.circuit(circ(1));
    let mut ended = Vec::new();
    for _ in 0..9 {
        // The client's own count stops at eight; the attacker's does not.
        let mut body = relay_body(None, &RelayMessage::Drop);
        machine.seal(0, false, &mut body).expect("sealed");
        pair.tab.send(circ(1), Command::RELAY_EARLY, &body);
        ended.extend(destroyed(&pair.run()));
    }
    assert_eq!(ended, [(circ(1), DestroyReason::PROTOCOL)]);
}

#[test]
fn bytes_that_nobody_asked_for_end_the_circuit() {
    let identity = identity(9);
    let line = BridgeLine::WebSocket {
        url: "ws://127.0.0.1:1/link".into(),
        ed25519: identity.ids().ed25519,
        onion: identity.onion_key(),
    };
    let config = Config {
        bridges: vec![line],
        asks: true,
        ..config()
    };
    let mut tab = Node::new(config, [5; 32], NOW);
    let link = loop {
        if let Output::Event(Event::Dial { link, .. }) = tab.poll_output() {
            break link;
        }
    };
    let mut bridge = RawLink::bridge(&identity, 6);
    let connected = Input::Connected {
        link,
        binding: Binding::WebSocket,
        peer: None,
    };
    tab.handle_input(NOW, connected);
    let (cells, _) = bridge.exchange(&mut tab, NOW, link);
    let create = cells
        .iter()
        .find(|cell| cell.command == Command::CREATE2)
        .expect("CREATE2");
    let mut machine = bridge.create(&identity, create);
    bridge.exchange(&mut tab, NOW, link);
    assert_eq!(tab.gauges().circuits_own, 1);
    let mut body = relay_body(Some(StreamId(7)), &RelayMessage::Data(&[0; 400]));
    machine.seal(&mut body);
    bridge.send(create.circ, Command::RELAY, &body);
    let (cells, _) = bridge.exchange(&mut tab, NOW, link);
    // A client's DESTROY does not say why.
    assert_eq!(destroyed(&cells), [(create.circ, DestroyReason::NONE)]);
    assert_eq!(tab.gauges().circuits_own, 0);
}
