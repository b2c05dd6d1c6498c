use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::BytesMut;
use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::link::{Binding, Identity};
use crate::node::{Config, Input, Limits, Output, Transports};
use crate::time::Instant;
use crate::wire::{Candidate, CandidateHost, CandidateKind, IceDescription, IceText, Roles};

const UNIX_TIME: u64 = 1_700_000_000;
/// Who introduces, in all tests; the others are linked to it.
const CAROL: usize = 2;

/// RSA keys take long to make, so all tests share them.
static KEYS: LazyLock<[Arc<Identity>; 3]> = LazyLock::new(|| {
    let mut rng = ChaCha20Rng::from_seed([21; 32]);
    [(); 3].map(|()| Arc::new(Identity::generate(&mut rng).unwrap()))
});

/// A node, and what it wanted of its host.
struct Peer {
    node: Node,
    dialled: Vec<(LinkId, Target)>,
    hung_up: Vec<(LinkId, String)>,
    signals: Vec<(LinkId, Signal)>,
    outcomes: Vec<Result<Roles, AskFailure>>,
    sent: VecDeque<(LinkId, BytesMut)>,
}

/// Three nodes: the last one is linked to both others, which are not linked to each other.
struct Three {
    peers: [Peer; 3],
    /// The two ends of each link.
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    now: Instant,
}

fn rsa(peer: usize) -> RsaId {
    KEYS[peer].ids().rsa
}

fn certificate(peer: usize) -> [u8; 32] {
    [0xc0 + peer as u8; 32]
}

fn address(peer: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(30, peer as u8, 0, 1), 9001))
}

/// A tab, or with an address a native router.
fn config(peer: usize, is_native: bool) -> Config {
    Config {
        identity: Some(KEYS[peer].clone()),
        tls_certificate_sha256: None,
        dtls_certificate_sha256: is_native.then(|| certificate(peer)),
        entries: Vec::new(),
        transports: if is_native {
            Transports::NATIVE
        } else {
            Transports::TAB
        },
        roles: Roles::ROUTER.with(Roles::ORDB),
        addresses: is_native.then(|| address(peer)).into_iter().collect(),
        bridges: Vec::new(),
        hops: 3,
        asks: false,
        allow_private: false,
        unix_time: UNIX_TIME,
        limits: Limits::default(),
    }
}

impl Three {
    fn new(natives: [bool; 3]) -> Self {
        let peer = |index: usize| Peer {
            node: Node::new(
                config(index, natives[index]),
                [index as u8 + 1; 32],
                Instant::ZERO,
            ),
            dialled: Vec::new(),
            hung_up: Vec::new(),
            signals: Vec::new(),
            outcomes: Vec::new(),
            sent: VecDeque::new(),
        };
        let mut three = Three {
            peers: [peer(0), peer(1), peer(2)],
            wires: BTreeMap::new(),
            now: Instant::ZERO,
        };
        for one in 0..CAROL {
            let expected = Expected::from(KEYS[CAROL].ids());
            let target = Target::WebRtc {
                addresses: vec![address(CAROL)],
                certificate_sha256: certificate(CAROL),
            };
            let link = three.peers[one].node.dial(target, expected).unwrap();
            three.accept((one, link), CAROL);
        }
        three.carry();
        for peer in &mut three.peers {
            peer.dialled.clear();
        }
        for one in 0..CAROL {
            assert!(three.linked(one, CAROL) && three.linked(CAROL, one));
        }
        three
    }

    fn drain(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        loop {
            match peer.node.poll_output() {
                Output::Timeout(_) => return,
                Output::Transmit { link, bytes } => {
                    peer.sent.push_back((link, BytesMut::from(&bytes[..])));
                }
                Output::Event(Event::Dial { link, target }) => peer.dialled.push((link, target)),
                Output::Event(Event::HangUp { link, why }) => peer.hung_up.push((link, why)),
                Output::Event(Event::Signal { link, signal }) => peer.signals.push((link, signal)),
                Output::Event(Event::Ping { outcome, .. }) => peer.outcomes.push(outcome),
                Output::Event(_) => {}
            }
        }
    }

    fn input(&mut self, at: usize, input: Input) {
        self.peers[at].node.handle_input(self.now, input);
        self.drain(at);
    }

    /// Carries what all send until nobody sends more.
    fn carry(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..3 {
                self.drain(at);
                while let Some((link, bytes)) = self.peers[at].sent.pop_front() {
                    quiet = false;
                    // What goes to nobody is lost.
                    if let Some((to, link)) = self.wires.get(&(at, link)).copied() {
                        self.input(to, Input::Received { link, bytes });
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn connect(&mut self, one: (usize, LinkId), other: (usize, LinkId)) {
        self.wires.insert(one, other);
        self.wires.insert(other, one);
    }

    fn connected(&mut self, at: (usize, LinkId), other: usize) {
        let binding = Binding::WebRtc {
            own_sha256: certificate(at.0),
            peer_sha256: certificate(other),
        };
        let link = at.1;
        let peer = None;
        self.input(
            at.0,
            Input::Connected {
                link,
                binding,
                peer,
            },
        );
    }

    /// A link that was dialled reaches `to`.
    fn accept(&mut self, from: (usize, LinkId), to: usize) {
        let binding = Binding::WebRtc {
            own_sha256: certificate(to),
            peer_sha256: certificate(from.0),
        };
        let accepted = self.peers[to].node.accept(self.now, binding, None).unwrap();
        self.connect(from, (to, accepted));
        self.connected(from, to);
    }

    /// Two hosts' transports found each other.
    fn join(&mut self, offered: (usize, LinkId), answered: (usize, LinkId)) {
        self.connect(offered, answered);
        self.connected(answered, offered.0);
        self.connected(offered, answered.0);
        self.carry();
    }

    fn linked(&self, one: usize, other: usize) -> bool {
        let expected = Expected::from(KEYS[other].ids());
        self.peers[one].node.link_to(&expected).is_some()
    }

    /// Has `one` ask for a link to `other`, introduced by the third.
    fn introduce(&mut self, one: usize, other: usize) -> Option<LinkId> {
        let expected = Expected::from(KEYS[other].ids());
        let onion = KEYS[other].onion_key();
        let node = &mut self.peers[one].node;
        let link = node.introduce(expected, onion, vec![rsa(CAROL)]);
        node.settle();
        self.drain(one);
        link
    }

    fn signal(&mut self, at: usize, link: LinkId, signal: Signal) {
        self.input(at, Input::Signal { link, signal });
        self.carry();
    }

    /// The introducer asks `to` what it likes.
    fn ask(&mut self, to: usize, sealed: Vec<u8>) -> Vec<Result<Roles, AskFailure>> {
        let question = Question::Introduce(sealed);
        let purpose = AskPurpose::Ping(rsa(to));
        let node = &mut self.peers[CAROL].node;
        node.ask(rsa(to), &[], question, purpose).unwrap();
        node.settle();
        self.carry();
        std::mem::take(&mut self.peers[CAROL].outcomes)
    }

    /// The openings that the introducer passed on.
    fn openings(&self) -> Vec<Vec<u8>> {
        let heard = self.peers[CAROL].node.mesh.heard_asks.iter();
        heard
            .filter_map(|ask| match &ask.question {
                Question::Introduce(sealed) => Some(sealed.clone()),
                _ => None,
            })
            .filter(|sealed| matches!(Sealed::of(sealed), Ok(Sealed::Opening { .. })))
            .collect()
    }
}

fn description(peer: usize) -> IceDescription {
    IceDescription {
        ufrag: IceText::new(&format!("ufrag{peer}of")).unwrap(),
        password: IceText::new(&format!("aPasswordOf{peer}AloneAndNobodyElse")).unwrap(),
        certificate_sha256: certificate(peer),
        candidates: vec![candidate(peer)],
    }
}

fn candidate(peer: usize) -> Candidate {
    Candidate {
        kind: CandidateKind::SERVER_REFLEXIVE,
        host: CandidateHost::Ip(Ipv4Addr::new(81, 82, 83, peer as u8).into()),
        port: 40_000,
        priority: 1,
    }
}

fn is_answer(target: &Target) -> bool {
    matches!(target, Target::Answer(_))
}

/// From the first offer to a link; what each side called it.
fn introduce_and_join(three: &mut Three) -> (LinkId, LinkId) {
    let link = three.introduce(0, 1).unwrap();
    assert_eq!(three.peers[0].dialled, [(link, Target::Offer)]);
    three.signal(0, link, Signal::Offer(description(0)));
    let (there, target) = three.peers[1].dialled.pop().unwrap();
    assert_eq!(target, Target::Answer(Box::new(description(0))));
    three.signal(1, there, Signal::Answer(description(1)));
    three.signal(0, link, Signal::Candidate(candidate(0)));
    three.signal(1, there, Signal::Candidate(candidate(1)));
    let came = [
        (link, Signal::Answer(description(1))),
        (link, Signal::Candidate(candidate(1))),
    ];
    assert_eq!(three.peers[0].signals, came);
    let came = [(there, Signal::Candidate(candidate(0)))];
    assert_eq!(three.peers[1].signals, came);
    three.join((0, link), (1, there));
    assert!(three.linked(0, 1) && three.linked(1, 0));
    (link, there)
}

#[test]
fn who_introduces_sees_two_ids_and_nothing_else() {
    let mut three = Three::new([false, false, true]);
    introduce_and_join(&mut three);
    let mesh = &three.peers[CAROL].node.mesh;
    let mut clear = Vec::new();
    for ask in &mesh.heard_asks {
        let mut bytes = vec![0; ask.encoded_len()];
        Writer::new(&mut bytes).write(ask).unwrap();
        clear.push(bytes);
    }
    for answer in &mesh.heard_answers {
        let mut bytes = vec![0; answer.encoded_len()];
        Writer::new(&mut bytes).write(answer).unwrap();
        clear.push(bytes);
    }
    // Offer, answer and two candidates, beside what both said when they came.
    assert!(clear.len() >= 4, "{}", clear.len());
    let holds = |what: &[u8]| {
        clear
            .iter()
            .any(|bytes| bytes.windows(what.len()).any(|w| w == what))
    };
    assert!(holds(&rsa(0).0) && holds(&rsa(1).0), "the two IDs");
    for peer in 0..CAROL {
        let said = description(peer);
        assert!(!holds(said.ufrag.as_str().as_bytes()), "the user fragment");
        assert!(!holds(said.password.as_str().as_bytes()), "the password");
        assert!(!holds(&said.certificate_sha256), "the fingerprint");
        assert!(!holds(&[81, 82, 83, peer as u8]), "the address");
    }
    // Nothing but the header of what is sealed can be read of it.
    let openings = three.openings();
    assert_eq!(openings.len(), 1);
    let opened = Sealed::of(&openings[0]).unwrap();
    assert!(matches!(opened, Sealed::Opening { from, .. } if from == rsa(0)));
}

#[test]
fn an_introduction_is_taken_once() {
    let mut three = Three::new([false, false, true]);
    introduce_and_join(&mut three);
    let opening = three.openings().remove(0);
    assert_eq!(three.ask(1, opening.clone()), [Err(AskFailure::PROTOCOL)]);
    // To somebody else it says nothing at all.
    assert_eq!(three.ask(0, opening), [Err(AskFailure::PROTOCOL)]);
    assert!(
        three.peers[0]
            .dialled
            .iter()
            .all(|(_, target)| !is_answer(target))
    );
    assert!(three.peers[1].dialled.is_empty());
}

/// An opening as anybody can make one.
fn opening(from: RsaId, to: usize, unix_time: u64, seed: u8) -> Vec<u8> {
    let mut rng = ChaCha20Rng::from_seed([seed; 32]);
    let mut opener = Opener::new(from, rsa(to), KEYS[to].onion_key(), &mut rng).unwrap();
    let plain = plain_of(unix_time, &Signal::Offer(description(0))).unwrap();
    opener.seal(&plain).unwrap()
}

#[test]
fn an_old_introduction_is_not_taken() {
    let mut three = Three::new([false, false, true]);
    let old = opening(RsaId([7; 20]), 1, UNIX_TIME - FRESH_SECONDS - 1, 50);
    assert_eq!(three.ask(1, old), [Err(AskFailure::PROTOCOL)]);
    assert!(three.peers[1].dialled.is_empty());
    let fresh = opening(RsaId([7; 20]), 1, UNIX_TIME - FRESH_SECONDS, 51);
    assert_eq!(three.ask(1, fresh), [], "the host answers");
    assert_eq!(three.peers[1].dialled.len(), 1);
}

#[test]
fn an_introducer_that_floods_is_told_that_it_is_too_much() {
    let mut three = Three::new([false, false, true]);
    let mut taken = 0;
    for seed in 0..12u8 {
        let asked = three.ask(1, opening(RsaId([seed; 20]), 1, UNIX_TIME, seed));
        match asked.as_slice() {
            [] => taken += 1,
            outcome => assert!(matches!(outcome, [Err(_)]), "{outcome:?}"),
        }
    }
    assert_eq!(taken, MAX_BY_INTRODUCER);
    // The introducer was told so, and asked elsewhere in vain.
    let heard = &three.peers[CAROL].node.mesh.heard_answers;
    let busy = heard
        .iter()
        .filter(|heard| heard.answer == Answer::Failed(AskFailure::BUSY));
    assert_eq!(busy.count(), 12 - MAX_BY_INTRODUCER);
    assert_eq!(three.peers[1].dialled.len(), MAX_BY_INTRODUCER);
    // When those have come to nothing there is room again.
    let links: Vec<LinkId> = three.peers[1]
        .dialled
        .drain(..)
        .map(|(link, _)| link)
        .collect();
    for link in links {
        let why = "no way was found".to_owned();
        three.input(1, Input::Closed { link, why });
    }
    three.carry();
    three.peers[CAROL].outcomes.clear();
    assert_eq!(three.ask(1, opening(RsaId([99; 20]), 1, UNIX_TIME, 99)), []);
    assert_eq!(three.peers[1].dialled.len(), 1);
}

#[test]
fn of_two_offers_at_once_one_becomes_the_link() {
    let mut three = Three::new([false, false, true]);
    let offers = [
        three.introduce(0, 1).unwrap(),
        three.introduce(1, 0).unwrap(),
    ];
    // Both are under way before either arrives.
    for (at, link) in offers.into_iter().enumerate() {
        let signal = Signal::Offer(description(at));
        three.input(at, Input::Signal { link, signal });
    }
    three.carry();
    let (lower, higher) = if rsa(0) < rsa(1) { (0, 1) } else { (1, 0) };
    let answers = |peer: &Peer| {
        let dialled = peer.dialled.iter();
        dialled.filter(|(_, target)| is_answer(target)).count()
    };
    assert_eq!(
        (answers(&three.peers[lower]), answers(&three.peers[higher])),
        (0, 1)
    );
    let (there, _) = three.peers[higher].dialled.pop().unwrap();
    three.signal(higher, there, Signal::Answer(description(higher)));
    let came = [(offers[lower], Signal::Answer(description(higher)))];
    assert_eq!(three.peers[lower].signals, came);
    three.join((lower, offers[lower]), (higher, there));
    assert!(three.linked(0, 1) && three.linked(1, 0));
    // The other offer is given up, and nobody is left waiting for it.
    let given_up = |(link, _): &(LinkId, String)| *link == offers[higher];
    assert!(three.peers[higher].hung_up.iter().any(given_up));
    assert!(three.peers[lower].hung_up.is_empty());
    for at in 0..2 {
        let links = three.peers[at].node.links.values();
        assert_eq!(links.filter(|link| link.is_open()).count(), 2);
        assert_eq!(three.peers[at].node.links.len(), 2);
        assert!(three.peers[at].node.introductions.sessions.is_empty());
    }
}

#[test]
fn who_makes_no_offers_is_dialled() {
    let mut three = Three::new([true, false, true]);
    let placeholder = three.introduce(0, 1).unwrap();
    assert!(three.peers[0].dialled.is_empty(), "it has nothing to dial");
    three.carry();
    let (link, target) = three.peers[1].dialled.pop().unwrap();
    let there = Target::WebRtc {
        addresses: vec![address(0)],
        certificate_sha256: certificate(0),
    };
    assert_eq!(target, there);
    three.accept((1, link), 0);
    three.carry();
    assert!(three.linked(0, 1) && three.linked(1, 0));
    // What waited for it waits no more, and the host was never told of it.
    assert!(!three.peers[0].node.links.contains_key(&placeholder));
    assert!(three.peers[0].hung_up.is_empty());
    // And to itself a tab is sent by nobody.
    let mut rng = ChaCha20Rng::from_seed([60; 32]);
    let mut opener = Opener::new(RsaId([7; 20]), rsa(1), KEYS[1].onion_key(), &mut rng).unwrap();
    let home = Signal::DialMe {
        addresses: vec!["192.168.0.1:9001".parse().unwrap()],
        certificate_sha256: [1; 32],
    };
    let sealed = opener.seal(&plain_of(UNIX_TIME, &home).unwrap()).unwrap();
    assert_eq!(three.ask(1, sealed), [Err(AskFailure::REFUSED)]);
    assert!(three.peers[1].dialled.is_empty());
}

#[test]
fn who_wanted_a_link_is_told_why_there_is_none() {
    let mut three = Three::new([false, false, true]);
    let link = three.introduce(0, 1).unwrap();
    // The peer is gone when the offer is ready.
    let gone: Vec<LinkId> = three.peers[1].node.links.keys().copied().collect();
    for end in gone {
        let (at, other) = three.wires[&(1, end)];
        let why = "closed".to_owned();
        three.input(at, Input::Closed { link: other, why });
    }
    three.signal(0, link, Signal::Offer(description(0)));
    let (hung_up, why) = three.peers[0].hung_up.pop().unwrap();
    assert_eq!(hung_up, link);
    assert_eq!(why, "nobody who was asked is linked to the peer");
    // And if nothing is said at all, after a while.
    let mut three = Three::new([false, false, true]);
    let link = three.introduce(0, 1).unwrap();
    three.signal(0, link, Signal::Offer(description(0)));
    three.now += Duration::from_secs(11);
    three.input(0, Input::Timeout);
    assert_eq!(
        three.peers[0].hung_up.pop().map(|(link, _)| link),
        Some(link)
    );
}
