use std::net::SocketAddr;
use std::sync::LazyLock;

use bytes::BytesMut;

use super::*;
use crate::ids::RsaId;
use crate::link::{Expected, Identity};
use crate::node::{BridgeLine, BridgeState, Config, Input, Limits, Output, Target, Transports};
use crate::wire::Roles;

const UNIX_TIME: u64 = 1_700_000_000;

/// Keys of two routers, which hosts hold; RSA keys take long to make, so all tests share them.
static KEYS: LazyLock<[Arc<Identity>; 2]> = LazyLock::new(|| {
    let mut rng = generator(7);
    [(); 2].map(|()| Arc::new(Identity::generate(&mut rng).unwrap()))
});

fn generator(seed: u8) -> chacha20::ChaCha20Rng {
    rand_core::SeedableRng::from_seed([seed; 32])
}

fn config(identity: Arc<Identity>) -> Config {
    Config {
        identity: Some(identity),
        tls_certificate_sha256: None,
        dtls_certificate_sha256: None,
        entries: Vec::new(),
        transports: Transports::TAB,
        roles: Roles::ROUTER.with(Roles::ORDB),
        addresses: Vec::new(),
        bridges: Vec::new(),
        hops: 3,
        asks: false,
        allow_private: false,
        unix_time: UNIX_TIME,
        limits: Limits::default(),
    }
}

/// A node and its host, which signs if it likes.
struct Tab {
    node: Node,
    now: Instant,
    /// Whose keys the host signs with.
    keys: Arc<Identity>,
    /// What it was asked and has not answered.
    asked: Vec<(SignatureId, HostKey, Vec<u8>)>,
    dialled: Vec<(LinkId, Target)>,
    hung_up: Vec<(LinkId, String)>,
    unsigned: usize,
    records: Vec<Descriptor>,
    sent: Vec<(LinkId, BytesMut)>,
}

impl Tab {
    /// A node whose keys are with its host.
    fn hosted(keys: usize, change: impl FnOnce(&mut Config)) -> Self {
        let keys = KEYS[keys].clone();
        let rsa = keys.rsa_der();
        let identity = Identity::hosted(&rsa, keys.ids().ed25519.0, [9; 32]).unwrap();
        Self::new(keys, Arc::new(identity), change)
    }

    /// A node that has its keys.
    fn native(keys: usize, change: impl FnOnce(&mut Config)) -> Self {
        let keys = KEYS[keys].clone();
        Self::new(keys.clone(), keys, change)
    }

    fn new(keys: Arc<Identity>, identity: Arc<Identity>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(identity);
        change(&mut config);
        let mut tab = Tab {
            node: Node::new(config, [3; 32], Instant::ZERO),
            now: Instant::ZERO,
            keys,
            asked: Vec::new(),
            dialled: Vec::new(),
            hung_up: Vec::new(),
            unsigned: 0,
            records: Vec::new(),
            sent: Vec::new(),
        };
        tab.drain();
        tab
    }

    /// Takes what the node put out; answers when it wants to be called.
    fn drain(&mut self) -> Instant {
        loop {
            match self.node.poll_output() {
                Output::Timeout(at) => return at,
                Output::Transmit { link, bytes } => {
                    self.sent.push((link, BytesMut::from(&bytes[..])));
                }
                Output::Event(Event::Sign {
                    request,
                    key,
                    message,
                }) => self.asked.push((request, key, message)),
                Output::Event(Event::Dial { link, target }) => self.dialled.push((link, target)),
                Output::Event(Event::HangUp { link, why }) => self.hung_up.push((link, why)),
                Output::Event(Event::Unsigned { .. }) => self.unsigned += 1,
                Output::Event(Event::Record(record)) => self.records.push(*record),
                Output::Event(_) => {}
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.node.handle_input(self.now, input);
        self.drain();
    }

    /// The host signs all that it was asked, with the keys that it holds.
    fn sign(&mut self) -> usize {
        let mut rng = generator(11);
        let mut signed = 0;
        while !self.asked.is_empty() {
            let (request, key, message) = self.asked.remove(0);
            // As WebCrypto signs.
            let what = match key {
                HostKey::Rsa => Unsigned::rsa(message),
                HostKey::Ed25519 => Unsigned::ed25519(message),
            };
            let signature = Some(self.keys.sign(&what, &mut rng).unwrap());
            self.input(Input::Signed { request, signature });
            signed += 1;
        }
        signed
    }

    /// The host refuses all that it was asked.
    fn refuse(&mut self) -> usize {
        let asked = std::mem::take(&mut self.asked);
        for (request, ..) in &asked {
            self.input(Input::Signed {
                request: *request,
                signature: None,
            });
        }
        asked.len()
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.input(Input::Timeout);
    }

    fn ids(&self) -> RsaId {
        self.keys.ids().rsa
    }
}

/// A link between two nodes: its names at each, and what each host knows of it.
struct Wire {
    ends: [LinkId; 2],
}

impl Wire {
    /// The first dialled, or dials now; the second accepts.
    fn new(one: &mut Tab, other: &mut Tab, bindings: [Binding; 2]) -> Self {
        let link = match one.dialled.pop() {
            Some((link, _)) => link,
            None => {
                let expected: Expected = other.keys.ids().into();
                let link = one.node.dial(Target::Offer, expected).unwrap();
                one.drain();
                one.dialled.clear();
                link
            }
        };
        let accepted = other.node.accept(other.now, bindings[1], None).unwrap();
        other.drain();
        one.input(Input::Connected {
            link,
            binding: bindings[0],
            peer: None,
        });
        Wire {
            ends: [link, accepted],
        }
    }

    /// Carries what both sent until neither sends more.
    fn carry(&self, one: &mut Tab, other: &mut Tab) {
        while !one.sent.is_empty() || !other.sent.is_empty() {
            for (_, bytes) in std::mem::take(&mut one.sent) {
                let link = self.ends[1];
                other.input(Input::Received { link, bytes });
            }
            for (_, bytes) in std::mem::take(&mut other.sent) {
                let link = self.ends[0];
                one.input(Input::Received { link, bytes });
            }
        }
    }
}

const WEBRTC: [Binding; 2] = [
    Binding::WebRtc {
        own_sha256: [1; 32],
        peer_sha256: [2; 32],
    },
    Binding::WebRtc {
        own_sha256: [2; 32],
        peer_sha256: [1; 32],
    },
];

fn identity_of(tab: &Tab, link: LinkId) -> Option<RsaId> {
    let link = tab.node.links.get(&link)?;
    link.identity().map(|ids| ids.rsa)
}

#[test]
fn tabs_whose_hosts_sign_prove_themselves_to_each_other() {
    let (mut one, mut other) = (Tab::hosted(0, |_| {}), Tab::hosted(1, |_| {}));
    // Three certificates, and what each says of itself.
    assert_eq!((one.sign(), other.sign()), (4, 4));
    let wire = Wire::new(&mut one, &mut other, WEBRTC);
    wire.carry(&mut one, &mut other);
    assert_eq!(identity_of(&one, wire.ends[0]), Some(other.ids()));
    assert_eq!(identity_of(&other, wire.ends[1]), Some(one.ids()));
    for (tab, link) in [(&one, wire.ends[0]), (&other, wire.ends[1])] {
        assert!(tab.node.links[&link].encrypts && tab.node.links[&link].is_open());
    }
}

#[test]
fn links_wait_for_the_certificates() {
    let (mut one, mut other) = (Tab::hosted(0, |_| {}), Tab::hosted(1, |_| {}));
    one.sign();
    // The responder has been asked and has not signed; what comes meanwhile is kept.
    let wire = Wire::new(&mut one, &mut other, WEBRTC);
    wire.carry(&mut one, &mut other);
    assert_eq!(identity_of(&one, wire.ends[0]), None);
    other.sign();
    wire.carry(&mut one, &mut other);
    assert_eq!(identity_of(&one, wire.ends[0]), Some(other.ids()));
    assert_eq!(identity_of(&other, wire.ends[1]), Some(one.ids()));
}

#[test]
fn what_waits_for_certificates_is_bounded() {
    let mut tab = Tab::hosted(0, |_| {});
    let link = tab.node.accept(tab.now, WEBRTC[1], None).unwrap();
    let mut sent = 0;
    while tab.hung_up.is_empty() {
        assert!(sent < 40_000, "{sent}");
        let bytes = BytesMut::zeroed(1_000);
        tab.input(Input::Received { link, bytes });
        sent += 1_000;
    }
    assert!(sent > 32_000);
    assert_eq!(tab.node.gauges().links, 0);
}

#[test]
fn a_host_that_refuses_is_asked_again() {
    let mut tab = Tab::hosted(0, |_| {});
    let link = tab.node.accept(tab.now, WEBRTC[1], None).unwrap();
    assert_eq!(tab.refuse(), 4);
    // The link is told why; a new one too, until the host signs.
    assert_eq!(tab.hung_up.len(), 1);
    assert_eq!(tab.hung_up[0].0, link);
    assert!(
        tab.hung_up[0].1.contains("certificates"),
        "{:?}",
        tab.hung_up
    );
    assert_eq!(tab.unsigned, 4);
    tab.node.accept(tab.now, WEBRTC[1], None).unwrap();
    tab.drain();
    assert_eq!((tab.hung_up.len(), tab.node.gauges().links), (2, 0));
    assert!(tab.asked.is_empty());
    tab.wait(SIGN_AGAIN.as_secs());
    assert_eq!(tab.sign(), 4);
    let mut other = Tab::native(1, |_| {});
    let wire = Wire::new(&mut other, &mut tab, WEBRTC);
    wire.carry(&mut other, &mut tab);
    assert_eq!(identity_of(&other, wire.ends[0]), Some(tab.ids()));
}

#[test]
fn a_host_that_does_not_answer_or_signs_wrongly_is_asked_again() {
    let mut tab = Tab::hosted(0, |_| {});
    let first = std::mem::take(&mut tab.asked);
    tab.wait(SIGN_TIMEOUT.as_secs());
    assert_eq!((tab.unsigned, tab.asked.len()), (4, 0));
    // What comes too late is of no draft that still is.
    for (request, ..) in first {
        let signature = Some(vec![1; 128]);
        tab.input(Input::Signed { request, signature });
    }
    assert!(tab.node.certs.is_none());
    tab.wait(SIGN_AGAIN.as_secs());
    // With other keys than it said.
    tab.keys = KEYS[1].clone();
    assert_eq!(tab.sign(), 4);
    assert!(tab.node.certs.is_none());
    tab.wait(SIGN_AGAIN.as_secs());
    tab.keys = KEYS[0].clone();
    assert_eq!(tab.sign(), 4);
    assert!(tab.node.certs.is_some());
    // Half their life later they are made anew, and the old ones stand until then.
    tab.wait(RENEW_CERTS.as_secs());
    assert_eq!(tab.asked.len(), 4);
    assert!(tab.node.certs.as_ref().is_some_and(|certs| certs.renew_at() < UNIX_TIME + tab.now.as_micros() / 1_000_000 + 1));
    assert_eq!(tab.refuse(), 4);
    assert!(tab.node.certs.is_some());
    tab.wait(SIGN_AGAIN.as_secs());
    assert_eq!(tab.sign(), 4);
    assert!(
        tab.node
            .certs
            .as_ref()
            .is_some_and(|certs| certs.renew_at() > UNIX_TIME + tab.now.as_micros() / 1_000_000)
    );
}

fn bridge(change: impl FnOnce(&mut Config)) -> Tab {
    Tab::native(1, |config| {
        config.roles = Roles::BRIDGE.with(Roles::ROUTER);
        config.addresses = vec![SocketAddr::from(([192, 0, 2, 1], 9001))];
        change(config);
    })
}

fn line_of(bridge: &Tab) -> BridgeLine {
    BridgeLine::WebSocket {
        url: "ws://192.0.2.1/link".into(),
        ed25519: bridge.keys.ids().ed25519,
        onion: bridge.keys.onion_key(),
    }
}

/// A tab that routes, entered at a bridge by WebSocket.
fn entered(asks: bool) -> (Tab, Tab, Wire) {
    let mut bridge = bridge(|_| {});
    let mut tab = Tab::hosted(0, |config| {
        config.bridges = vec![line_of(&bridge)];
        config.asks = asks;
    });
    tab.sign();
    let wire = Wire::new(&mut tab, &mut bridge, [Binding::WebSocket; 2]);
    wire.carry(&mut tab, &mut bridge);
    (tab, bridge, wire)
}

#[test]
fn a_tab_registers_with_its_bridge_over_a_websocket() {
    for asks in [false, true] {
        let (mut tab, mut bridge, wire) = entered(asks);
        // Its descriptor is signed when it is first needed.
        assert_eq!(bridge.node.gauges().registered, 0);
        assert_eq!(tab.sign(), 1);
        wire.carry(&mut tab, &mut bridge);
        assert_eq!(bridge.node.gauges().registered, 1);
        assert_eq!(
            tab.node.bridges().next().unwrap().1,
            &BridgeState::Registered
        );
        let own = tab.node.own_descriptor().unwrap();
        assert_eq!(own.unverified().introducers, [bridge.ids()]);
        assert_eq!(own.unverified().expiry % EXPIRY_STEP_SECONDS, 0);
        // The bridge knows who it is and does not take the link for proof of who sends over it.
        let link = &bridge.node.links[&wire.ends[1]];
        assert_eq!(link.shown().map(|ids| ids.rsa), Some(tab.ids()));
        assert_eq!((link.identity(), link.encrypts), (None, false));
        assert_eq!(bridge.node.link_to(&tab.keys.ids().into()), None);
        // Nothing more is signed or told until it grows old.
        tab.wait(DESCRIPTOR_RENEWAL.as_secs() - 1);
        assert!(tab.asked.is_empty());
        tab.wait(1);
        assert_eq!(tab.asked.len(), 1);
        tab.sign();
        wire.carry(&mut tab, &mut bridge);
        assert_eq!(bridge.node.gauges().registered, 1);
        assert_ne!(tab.node.own_descriptor(), Some(own));
    }
}

#[test]
fn a_descriptor_that_is_refused_is_asked_for_again() {
    let (mut tab, mut bridge, wire) = entered(true);
    assert_eq!(tab.refuse(), 1);
    assert!(tab.asked.is_empty() && tab.hung_up.is_empty());
    // The one without introducers still is its word, which bridges are not told.
    let own = tab.node.own_descriptor().unwrap();
    assert!(own.unverified().introducers.is_empty());
    assert_eq!(bridge.node.gauges().registered, 0);
    tab.wait(SIGN_AGAIN.as_secs());
    assert_eq!(tab.sign(), 1);
    wire.carry(&mut tab, &mut bridge);
    assert_eq!(bridge.node.gauges().registered, 1);
}

#[test]
fn nobody_registers_for_another() {
    // Descriptors that their routers signed: the bridge's own, and the tab's, which somebody who
    // shows no identity brings.
    let mut bridge = bridge(|_| {});
    let stranger = bridge.node.own_descriptor().unwrap();
    let (mut tab, ..) = entered(true);
    tab.sign();
    let own = tab.node.own_descriptor().unwrap();
    let mut client = Tab::hosted(0, |config| {
        config.identity = None;
        config.bridges = vec![line_of(&bridge)];
        config.asks = true;
    });
    let wire = Wire::new(&mut client, &mut bridge, [Binding::WebSocket; 2]);
    wire.carry(&mut client, &mut bridge);
    for descriptor in [own, stranger] {
        let circuit = client.node.circuits.keys().next().copied().unwrap();
        let stream = client.node.allocate_stream(circuit);
        let register = crate::wire::RelayMessage::DbFindPeer(crate::wire::DbFindPeer::Register(
            Box::new(descriptor),
        ));
        client.node.send_own(circuit, stream, &register);
        client.drain();
        wire.carry(&mut client, &mut bridge);
        assert_eq!(bridge.node.gauges().registered, 0);
    }
}

#[test]
fn records_are_signed_for_the_name_they_provide() {
    for mut tab in [Tab::hosted(0, |_| {}), Tab::native(1, |_| {})] {
        tab.sign();
        let key = Key([8; 20]);
        tab.node.sign_record(tab.now, key);
        tab.drain();
        tab.sign();
        let record = tab.records.pop().unwrap();
        assert_eq!(record.unverified().provides, Some(key));
        assert_eq!(record.unverified().rsa_id, tab.ids());
        assert!(record.verify(UNIX_TIME).is_ok() && tab.records.is_empty());
        let own = tab.node.own_descriptor().unwrap();
        assert_eq!(own.unverified().provides, None);
    }
}

#[test]
fn as_many_signatures_as_may_be_are_asked_for() {
    let mut tab = Tab::hosted(0, |_| {});
    for number in 0..100 {
        tab.node.sign_record(tab.now, Key([number; 20]));
        tab.drain();
    }
    assert_eq!(tab.asked.len(), MAX_SIGNATURES);
    assert_eq!(tab.unsigned, 4 + 100 - MAX_SIGNATURES);
    assert_eq!(tab.sign(), MAX_SIGNATURES);
    assert!(tab.node.certs.is_some());
    assert_eq!(tab.records.len(), MAX_SIGNATURES - 4);
}
