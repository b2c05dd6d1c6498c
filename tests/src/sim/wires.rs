//! Transports between simulated nodes: how they are made, and what goes over them.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use chive_node::ids::LinkId;
use chive_node::link::Binding;
use chive_node::node::{Input, Target};
use chive_node::time::Instant;
use chive_node::wire::{Candidate, CandidateHost, CandidateKind, IceDescription, IceText, Signal};

use super::{What, World};

/// How long a browser takes to make an offer or an answer.
const DESCRIBE: Duration = Duration::from_millis(5);
/// How long until it has a candidate.
const GATHER: Duration = Duration::from_millis(15);
/// When a browser gives up.
const ICE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a transport is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tls,
    WebSocket,
    WebRtc,
}

/// One direction of a wire.
#[derive(Default)]
pub(super) struct Direction {
    pub(super) in_flight: VecDeque<Bytes>,
    pub(super) buffered: usize,
    pub(super) free_at: Instant,
}

/// A transport between two nodes.
pub(super) struct Wire {
    pub(super) dialler: (usize, LinkId),
    pub(super) acceptor: (usize, Option<LinkId>),
    kind: Kind,
    pub(super) latency: Duration,
    bandwidth: u64,
    pub(super) forward: Direction,
    pub(super) back: Direction,
    pub(super) dead: bool,
}

/// A browser's side of a WebRTC connection that is being made.
pub(super) struct Agent {
    /// The offer that it answers, if it does not offer itself.
    answers: Option<IceText>,
    /// The other side's, once it is known.
    remote: Option<IceText>,
    /// Whether a candidate of the other side's has come.
    heard: bool,
}

impl World {
    /// The name that a browser's side has on the wire: ICE's user fragment.
    fn ufrag(node: usize, link: LinkId) -> IceText {
        IceText::new(&format!("{node}/{}", link.0)).expect("it is short")
    }

    /// Whose side this user fragment is.
    fn of_ufrag(ufrag: &IceText) -> Option<(usize, LinkId)> {
        let (node, link) = ufrag.as_str().split_once('/')?;
        Some((node.parse().ok()?, LinkId(link.parse().ok()?)))
    }

    pub(super) fn dial(&mut self, node: usize, link: LinkId, target: &Target) {
        let (address, kind) = match target {
            Target::Tls { addresses } => (addresses.first().copied(), Kind::Tls),
            Target::WebSocket { url } => {
                let host = url.trim_start_matches("ws://").split('/').next();
                (host.and_then(|host| host.parse().ok()), Kind::WebSocket)
            }
            Target::WebRtc { addresses, .. } => (addresses.first().copied(), Kind::WebRtc),
            Target::Offer => return self.begin_agent(node, link, None),
            Target::Answer(offer) => {
                return self.begin_agent(node, link, Some(offer.ufrag.clone()));
            }
        };
        let there = address.and_then(|address| self.at_address(address));
        let there = there.filter(|there| self.nodes[*there].side == self.nodes[node].side);
        let there = there.filter(|there| match target {
            Target::WebRtc {
                certificate_sha256, ..
            } => {
                self.nodes[*there].certificate == *certificate_sha256
                    && self.nodes[node].nat.reaches(self.nodes[*there].nat)
            }
            _ => true,
        });
        let latency = self.draw(self.model.latency.clone());
        let Some(there) = there else {
            return self.schedule(self.now + latency, What::Refused { node, link });
        };
        let wire = self.add_wire((node, link), (there, None), kind, latency);
        self.nodes[node].links.insert(link, wire);
        // A round trip for the transport's own handshake.
        self.schedule(self.now + latency * 2, What::Arrive { wire });
    }

    fn add_wire(
        &mut self,
        dialler: (usize, LinkId),
        acceptor: (usize, Option<LinkId>),
        kind: Kind,
        latency: Duration,
    ) -> usize {
        let model = self.model.bandwidth.clone();
        let bandwidth = model.start + self.below(model.end - model.start);
        self.wires.push(Wire {
            dialler,
            acceptor,
            kind,
            latency,
            bandwidth,
            forward: Direction::default(),
            back: Direction::default(),
            dead: false,
        });
        self.wires.len() - 1
    }

    pub(super) fn arrive(&mut self, wire: usize) {
        let (node, link) = self.wires[wire].acceptor;
        let (dialler, dialled) = self.wires[wire].dialler;
        let (at_dialler, at_acceptor) = match self.wires[wire].kind {
            Kind::WebSocket => (Binding::WebSocket, Binding::WebSocket),
            Kind::Tls => {
                let certificate_sha256 = self.nodes[node].certificate;
                let binding = Binding::Tls { certificate_sha256 };
                (binding, binding)
            }
            Kind::WebRtc => {
                let own_sha256 = self.nodes[dialler].certificate;
                let peer_sha256 = self.nodes[node].certificate;
                let binding = |own_sha256, peer_sha256| Binding::WebRtc {
                    own_sha256,
                    peer_sha256,
                };
                (
                    binding(own_sha256, peer_sha256),
                    binding(peer_sha256, own_sha256),
                )
            }
        };
        let peer = None;
        match link {
            // Both sides of an introduction have a name for it already.
            Some(link) => {
                let binding = at_acceptor;
                self.input(
                    node,
                    Input::Connected {
                        link,
                        binding,
                        peer,
                    },
                );
            }
            None => {
                let accepted = self.nodes[node]
                    .alive
                    .then(|| self.nodes[node].node.accept(self.now, at_acceptor, None))
                    .flatten();
                let Some(accepted) = accepted else {
                    self.bury_wire(wire);
                    self.nodes[dialler].links.remove(&dialled);
                    let why = "connection refused".into();
                    return self.input(dialler, Input::Closed { link: dialled, why });
                };
                self.wires[wire].acceptor.1 = Some(accepted);
                self.nodes[node].links.insert(accepted, wire);
                self.drain(node);
            }
        }
        self.input(
            dialler,
            Input::Connected {
                link: dialled,
                binding: at_dialler,
                peer,
            },
        );
    }

    fn begin_agent(&mut self, node: usize, link: LinkId, answers: Option<IceText>) {
        let agent = Agent {
            remote: answers.clone(),
            answers,
            heard: false,
        };
        self.agents.insert((node, link), agent);
        let gathered = |first| What::Gathered { node, link, first };
        self.schedule(self.now + DESCRIBE, gathered(true));
        self.schedule(self.now + GATHER, gathered(false));
        self.schedule(self.now + ICE_TIMEOUT, What::NoWay { node, link });
    }

    /// A browser has its description, or then its candidate.
    pub(super) fn gathered(&mut self, node: usize, link: LinkId, first: bool) {
        let Some(agent) = self.agents.get(&(node, link)) else {
            return;
        };
        let signal = if first {
            let ufrag = World::ufrag(node, link);
            let description = IceDescription {
                password: ufrag.clone(),
                ufrag,
                certificate_sha256: self.nodes[node].certificate,
                candidates: Vec::new(),
            };
            match agent.answers {
                Some(_) => Signal::Answer(description),
                None => Signal::Offer(description),
            }
        } else {
            let number = u32::try_from(node).expect("a world of fewer");
            Signal::Candidate(Candidate {
                kind: CandidateKind::SERVER_REFLEXIVE,
                host: CandidateHost::Ip(Ipv4Addr::from_bits((60 << 24) + number).into()),
                port: 40_000,
                priority: 1,
            })
        };
        self.input(node, Input::Signal { link, signal });
    }

    /// A browser is told what the other side says.
    pub(super) fn signal(&mut self, node: usize, link: LinkId, signal: &Signal) {
        let Some(agent) = self.agents.get_mut(&(node, link)) else {
            return;
        };
        match signal {
            Signal::Answer(description) if agent.answers.is_none() => {
                agent.remote = Some(description.ufrag.clone());
            }
            Signal::Candidate(_) => agent.heard = true,
            _ => {}
        }
        self.try_connect((node, link));
    }

    /// Connects two browsers that know of each other, if their NATs let them.
    fn try_connect(&mut self, one: (usize, LinkId)) {
        let Some(agent) = self.agents.get(&one) else {
            return;
        };
        let Some(other) = agent.remote.as_ref().and_then(World::of_ufrag) else {
            return;
        };
        let Some(peer) = self.agents.get(&other) else {
            return;
        };
        let back = peer.remote.as_ref().and_then(World::of_ufrag) == Some(one);
        // Who has heard of a candidate sends to it, and is heard of by that.
        let heard = agent.heard || peer.heard;
        let opposite = agent.answers.is_some() != peer.answers.is_some();
        let (here, there) = (&self.nodes[one.0], &self.nodes[other.0]);
        let up =
            here.side == there.side && here.alive && there.alive && !here.offline && !there.offline;
        if !(back && heard && opposite && up && here.nat.reaches(there.nat)) {
            return;
        }
        let (dialler, acceptor) = if agent.answers.is_some() {
            (other, one)
        } else {
            (one, other)
        };
        self.agents.remove(&one);
        self.agents.remove(&other);
        let latency = self.draw(self.model.latency.clone());
        let acceptor = (acceptor.0, Some(acceptor.1));
        let wire = self.add_wire(dialler, acceptor, Kind::WebRtc, latency);
        for (node, link) in [one, other] {
            self.nodes[node].links.insert(link, wire);
        }
        // ICE's check, DTLS's handshake and SCTP's.
        self.schedule(self.now + latency * 4, What::Arrive { wire });
    }

    /// A browser has found no way for too long.
    pub(super) fn no_way(&mut self, node: usize, link: LinkId) {
        if self.agents.remove(&(node, link)).is_some() {
            let why = "no way to the peer was found through the networks between".into();
            self.input(node, Input::Closed { link, why });
        }
    }

    pub(super) fn transmit(&mut self, node: usize, link: LinkId, bytes: Bytes) {
        let Some(wire) = self.nodes[node].links.get(&link).copied() else {
            return;
        };
        let to_acceptor = self.wires[wire].dialler == (node, link);
        let (now, latency, bandwidth) = (
            self.now,
            self.wires[wire].latency,
            self.wires[wire].bandwidth,
        );
        let direction = self.direction(wire, to_acceptor);
        let len = bytes.len();
        direction.buffered += len;
        let takes = Duration::from_micros(len as u64 * 1_000_000 / bandwidth);
        direction.free_at = direction.free_at.max(now) + takes;
        let left = direction.free_at;
        direction.in_flight.push_back(bytes);
        self.schedule(
            left,
            What::Left {
                wire,
                to_acceptor,
                bytes: len,
            },
        );
        self.schedule(left + latency, What::Deliver { wire, to_acceptor });
    }

    /// Nothing goes over a wire any more: what waited on it is lost.
    pub(super) fn bury_wire(&mut self, wire: usize) {
        let wire = &mut self.wires[wire];
        wire.dead = true;
        for direction in [&mut wire.forward, &mut wire.back] {
            direction.in_flight = VecDeque::new();
        }
    }

    pub(super) fn direction(&mut self, wire: usize, to_acceptor: bool) -> &mut Direction {
        let wire = &mut self.wires[wire];
        if to_acceptor {
            &mut wire.forward
        } else {
            &mut wire.back
        }
    }

    pub(super) fn end(&self, wire: usize, acceptor: bool) -> (usize, Option<LinkId>) {
        let wire = &self.wires[wire];
        if acceptor {
            wire.acceptor
        } else {
            (wire.dialler.0, Some(wire.dialler.1))
        }
    }
}
