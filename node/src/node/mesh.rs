//! Neighbours: the peers at the other ends of links, what they are asked, and what they ask.
//!
//! A question (PEER_ASK) travels on a circuit of one hop to a neighbour, which is opened when the
//! first question is there and then kept. Whoever is not the one that is asked passes it on to whom
//! it is linked to, with a token of its own, and keeps the way back until the answer has come or the
//! question has expired. A tab that came by WebSocket is asked backward on its own circuit.

mod idle;
mod meter;
mod passing;
mod questions;
mod ways;

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{LinkId, RsaId};
use crate::link::{RouterIds, Side};
use crate::node::Node;
use crate::node::io::LinkTransport;
use crate::order::ascending;
use crate::time::Instant;
use crate::wire::{Descriptor, MAX_INTRODUCERS, Question, Roles, VerifiedDescriptor};
#[cfg(test)]
use crate::wire::{PeerAnswer, PeerAsk};

pub use idle::Carried;
pub(crate) use passing::ASK_TIMEOUT;
pub(crate) use questions::{AskPurpose, Reply};
pub(crate) use ways::Way;

use passing::Asks;

/// A peer at the other end of a link that proved who it is.
#[derive(Debug)]
struct Neighbour {
    ids: RouterIds,
    /// What its descriptor says, once it has been seen.
    roles: Option<Roles>,
    descriptor: Option<VerifiedDescriptor>,
    way: Option<Way>,
}

/// Neighbours and questions.
#[derive(Default)]
pub(crate) struct Mesh {
    neighbours: BTreeMap<LinkId, Neighbour>,
    /// Links by the ID of who is at the other end.
    by_rsa: BTreeMap<RsaId, BTreeSet<LinkId>>,
    asks: Asks,
    /// All that came here in clear: what an introducer can know.
    #[cfg(test)]
    pub(crate) heard_asks: Vec<PeerAsk>,
    #[cfg(test)]
    pub(crate) heard_answers: Vec<PeerAnswer>,
}

/// A neighbour, for whoever looks at the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourStatus {
    /// The link to it.
    pub link: LinkId,
    /// What the link runs over.
    pub transport: LinkTransport,
    /// Its ID.
    pub rsa: RsaId,
    /// What it does, once it has said so.
    pub roles: Option<Roles>,
    /// Since when the link stands.
    pub since: Instant,
    /// Bytes handed to the link.
    pub bytes_sent: u64,
    /// Bytes that came over it.
    pub bytes_received: u64,
}

/// What sort of router a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// It lets tabs in.
    Bridge,
    /// It is always there.
    Facilitator,
    /// It is somebody's open tab.
    Tab,
}

/// A peer that this node is linked to, by however many links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its ID.
    pub rsa: RsaId,
    /// What it is.
    pub kind: PeerKind,
    /// Bytes handed to all links to it.
    pub bytes_sent: u64,
    /// Bytes that came over them.
    pub bytes_received: u64,
}

impl PeerKind {
    fn of(roles: Option<Roles>, transport: LinkTransport) -> Self {
        let does = |role| roles.is_some_and(|roles| roles.contains(role));
        // Who has not said yet what it does is known by how it is reached.
        match transport {
            _ if does(Roles::BRIDGE) => PeerKind::Bridge,
            _ if does(Roles::FACILITATOR) => PeerKind::Facilitator,
            LinkTransport::WebSocket => PeerKind::Bridge,
            LinkTransport::Tls => PeerKind::Facilitator,
            LinkTransport::WebRtc => PeerKind::Tab,
        }
    }
}

impl Mesh {
    /// The link to the neighbour of this ID; the oldest, if there are several.
    pub(crate) fn link_to(&self, rsa: &RsaId) -> Option<LinkId> {
        self.by_rsa.get(rsa)?.first().copied()
    }

    /// Who is at the other end of a link.
    pub(crate) fn ids_of(&self, link: LinkId) -> Option<RouterIds> {
        self.neighbours.get(&link).map(|neighbour| neighbour.ids)
    }

    /// What a neighbour says of itself, if it has said so.
    pub(crate) fn descriptor_of(&self, link: LinkId) -> Option<&VerifiedDescriptor> {
        self.neighbours.get(&link)?.descriptor.as_ref()
    }

    fn add(&mut self, link: LinkId, ids: RouterIds) {
        let neighbour = self.neighbours.entry(link).or_insert(Neighbour {
            ids,
            roles: None,
            descriptor: None,
            way: None,
        });
        neighbour.ids = ids;
        self.by_rsa.entry(ids.rsa).or_default().insert(link);
    }

    /// What links asked long ago is forgotten.
    pub(crate) fn rest(&mut self, now: Instant) {
        for meter in self.asks.meters.values_mut() {
            meter.rest(now);
        }
    }

    fn remove(&mut self, link: LinkId) -> Option<Neighbour> {
        let neighbour = self.neighbours.remove(&link)?;
        if let Some(links) = self.by_rsa.get_mut(&neighbour.ids.rsa) {
            links.remove(&link);
            if links.is_empty() {
                self.by_rsa.remove(&neighbour.ids.rsa);
            }
        }
        Some(neighbour)
    }
}

impl Node {
    /// The peers at the other ends of links that proved who they are.
    pub fn neighbours(&self) -> Vec<NeighbourStatus> {
        let status = |(id, neighbour): (&LinkId, &Neighbour)| {
            let link = self.links.get(id)?;
            Some(NeighbourStatus {
                link: *id,
                transport: link.transport,
                rsa: neighbour.ids.rsa,
                roles: neighbour.roles,
                since: link.since,
                bytes_sent: link.bytes_sent,
                bytes_received: link.bytes_received,
            })
        };
        self.mesh.neighbours.iter().filter_map(status).collect()
    }

    /// The peers that this node is linked to, each once: a bridge may be reached in two ways.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let mut peers = Vec::new();
        for (rsa, links) in &self.mesh.by_rsa {
            let neighbours = || {
                let known = links
                    .iter()
                    .filter_map(|id| self.mesh.neighbours.get_key_value(id));
                known.filter_map(|(id, neighbour)| Some((neighbour, self.links.get(id)?)))
            };
            let roles = neighbours().find_map(|(neighbour, _)| neighbour.roles);
            let Some((_, first)) = neighbours().next() else {
                continue;
            };
            peers.push(PeerStatus {
                rsa: *rsa,
                kind: PeerKind::of(roles, first.transport),
                bytes_sent: neighbours().map(|(_, link)| link.bytes_sent).sum(),
                bytes_received: neighbours().map(|(_, link)| link.bytes_received).sum(),
            });
        }
        peers
    }

    /// What a neighbour says of itself.
    pub(crate) fn note_neighbour(&mut self, verified: &VerifiedDescriptor) {
        let links = self.mesh.by_rsa.get(&verified.rsa_id);
        let links = links.cloned().unwrap_or_default();
        let mut is_neighbour = false;
        for link in links {
            if let Some(neighbour) = self.mesh.neighbours.get_mut(&link)
                && neighbour.ids.ed25519 == verified.ed25519
                // Anybody can tell again what it once said of itself.
                && neighbour.descriptor.as_ref().is_none_or(|said| said.expiry <= verified.expiry)
            {
                neighbour.roles = Some(verified.roles);
                neighbour.descriptor = Some(verified.clone());
                is_neighbour = true;
            }
        }
        // Whoever connects becomes a contact.
        if is_neighbour {
            let is_entry = self.entries().contains(&verified.ed25519);
            let chosen = is_entry || self.is_bridge(&verified.ed25519);
            self.kademlia_contact(verified, None, chosen);
            // Whoever links to us may have chosen us. A hop is only who was drawn, now or in an
            // earlier session; of such a one this is news.
            if self.config.asks && (is_entry || self.directory.knows(&verified.ed25519)) {
                self.learn_router(verified);
            }
        }
    }

    /// A link stands. If the other side proved who it is, it is a neighbour.
    pub(crate) fn neighbour_link_open(&mut self, link: LinkId) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let Some(ids) = state.identity() else {
            return;
        };
        let greets = state.side == Side::Initiator && state.transport == LinkTransport::WebRtc;
        self.mesh.add(link, ids);
        self.open_way(link);
        self.substitute_changed(link);
        // Who is at the other end of a TLS link may be a relay of Tor's, which nobody asks.
        if greets {
            self.greet(link, ids.rsa);
        }
    }

    /// A circuit stands over which a neighbour is asked that its link alone does not prove: a
    /// bridge that ntor proved, or a tab that registered.
    pub(crate) fn neighbour_by(&mut self, link: LinkId, ids: RouterIds, way: Way) {
        self.mesh.add(link, ids);
        if let Some(neighbour) = self.mesh.neighbours.get_mut(&link) {
            neighbour.way = Some(way);
        }
        self.way_open(link);
        if matches!(way, Way::Own(_)) {
            self.greet(link, ids.rsa);
        }
    }

    /// Tells a neighbour who we are, and asks the same of it.
    pub(crate) fn greet(&mut self, link: LinkId, rsa: RsaId) {
        let own = self.own_descriptor().map(Box::new);
        // If it cannot be asked, its link is as good as gone.
        let _ = self.ask(rsa, &[], Question::Ping(own), AskPurpose::Greeting(link));
    }

    /// What this node says of itself has changed: those whom it asks are told.
    pub(crate) fn greet_again(&mut self) {
        let asked = self.mesh.neighbours.iter();
        let asked = asked.filter(|(_, neighbour)| matches!(neighbour.way, Some(Way::Own(_))));
        let asked: Vec<(LinkId, RsaId)> = asked.map(|(link, n)| (*link, n.ids.rsa)).collect();
        for (link, rsa) in asked {
            self.greet(link, rsa);
        }
    }

    /// A link is gone, and with it the neighbour and what was asked over it.
    pub(crate) fn neighbour_gone(&mut self, link: LinkId) {
        self.forget_neighbour(link);
        self.redirect(link);
        self.mesh.asks.forget_link(link);
    }

    fn forget_neighbour(&mut self, link: LinkId) {
        let gone = self.mesh.remove(link);
        let Some(rsa) = gone.map(|gone| gone.ids.rsa) else {
            return;
        };
        self.telling_gone(link, rsa);
        if self.mesh.link_to(&rsa).is_none() {
            self.kademlia_unlinked(rsa);
        }
    }

    /// Somebody's descriptor came, by a neighbour that may have passed it on: Kademlia takes it.
    fn handle_told(&mut self, descriptor: &Descriptor, teller: Option<RsaId>) {
        if let Ok(verified) = self.verify_told(descriptor) {
            self.note_neighbour(&verified);
            if teller.is_some() {
                self.kademlia_contact(&verified, teller, false);
            }
        }
    }

    /// Somebody's descriptor came: a neighbour's is kept.
    pub(crate) fn handle_descriptor(&mut self, descriptor: &Descriptor) {
        let Ok(verified) = self.verify_told(descriptor) else {
            return;
        };
        self.note_neighbour(&verified);
    }

    /// This node's ID, if it shows one.
    pub(crate) fn own_rsa(&self) -> Option<RsaId> {
        let identity = self.config.identity.as_ref()?;
        Some(identity.ids().rsa)
    }

    /// The routers that introduce this node: those it is linked to that are always there first,
    /// then the neighbours of longest standing.
    pub(crate) fn own_introducers(&self) -> Vec<RsaId> {
        // Who is dialled by address needs none.
        if !self.config.addresses.is_empty() {
            return Vec::new();
        }
        let mut neighbours: Vec<(bool, Instant, RsaId)> = self
            .mesh
            .neighbours
            .iter()
            .filter_map(|(id, neighbour)| {
                let link = self.links.get(id)?;
                let bridge = self.bridges.iter().any(|bridge| bridge.link == Some(*id));
                let descriptor = neighbour.descriptor.as_ref();
                let stays = bridge || descriptor.is_some_and(|d| !d.addresses.is_empty());
                Some((!stays, link.since, neighbour.ids.rsa))
            })
            .collect();
        neighbours = ascending(neighbours);
        let mut ids = Vec::new();
        for (_, _, rsa) in neighbours {
            if ids.len() < MAX_INTRODUCERS && !ids.contains(&rsa) {
                ids.push(rsa);
            }
        }
        ids
    }
}
