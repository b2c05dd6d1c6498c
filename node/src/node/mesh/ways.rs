//! Ways: the circuits of one hop over which neighbours are asked and ask.

use std::sync::Arc;

use crate::circuit::client::{FirstHop, Router};
use crate::ids::{CircuitId, LinkId, OnionKey, RsaId, StreamId};
use crate::node::Node;
use crate::node::origin::Purpose;
use crate::wire::RelayMessage;

/// The stream that questions backward on a peer's circuit name: they need none, the token tells
/// them apart, and a client counts its own from one.
const BACKWARD: StreamId = StreamId(u16::MAX);

/// A circuit over which questions and answers come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One of our own; the peer is its last hop.
    Own(CircuitId),
    /// One that ends here; the peer is its client.
    Back(u64),
}

impl Node {
    /// The circuit to a neighbour, if it stands.
    pub(crate) fn open_way_of(&self, link: LinkId) -> Option<Way> {
        let way = self.mesh.neighbours.get(&link)?.way?;
        match way {
            Way::Own(circuit) => self.circuits.get(&circuit)?.opened.map(|_| way),
            Way::Back(_) => Some(way),
        }
    }

    /// Begins the circuit to a neighbour for whom something waits.
    pub(super) fn open_way(&mut self, link: LinkId) {
        let waits = self.mesh.asks.waiting.contains_key(&link);
        let Some(neighbour) = self.mesh.neighbours.get(&link) else {
            return;
        };
        if !waits || neighbour.way.is_some() {
            return;
        }
        let ids = neighbour.ids;
        let onion = self.mesh.descriptor_of(link).map(|said| said.onion_key);
        let encrypts = self.links.get(&link).is_some_and(|link| link.encrypts);
        let first = match (encrypts, onion) {
            (true, _) => FirstHop::Fast,
            (false, Some(_)) => FirstHop::Ntor,
            (false, None) => return self.redirect(link),
        };
        let router = Arc::new(Router {
            rsa: ids.rsa,
            ed25519: ids.ed25519,
            onion: onion.unwrap_or(OnionKey([0; 32])),
            addresses: Vec::new(),
            dtls: None,
            introducers: Vec::new(),
        });
        let circuit = self.build_over(link, vec![router], first, Purpose::Neighbour(link));
        match (circuit, self.mesh.neighbours.get_mut(&link)) {
            (Some(circuit), Some(neighbour)) => neighbour.way = Some(Way::Own(circuit)),
            _ => self.redirect(link),
        }
    }

    /// A circuit that questions went over is gone. The link may stand.
    pub(crate) fn way_gone(&mut self, link: LinkId, way: Way) {
        let Some(neighbour) = self.mesh.neighbours.get_mut(&link) else {
            return;
        };
        if neighbour.way != Some(way) {
            return;
        }
        neighbour.way = None;
        // Nothing but this circuit proved it.
        let unproven = self
            .links
            .get(&link)
            .is_none_or(|link| link.identity().is_none());
        if unproven {
            self.forget_neighbour(link);
        }
        self.redirect(link);
    }

    /// The circuit to a neighbour stands: what waited for it goes.
    pub(crate) fn way_open(&mut self, link: LinkId) {
        for token in self.mesh.asks.waiting.remove(&link).unwrap_or_default() {
            self.send_ask(token, link);
        }
    }

    pub(super) fn send_way(
        &mut self,
        way: Way,
        stream: Option<StreamId>,
        message: &RelayMessage<'_>,
    ) {
        match way {
            Way::Own(circuit) => {
                let stream = stream.or_else(|| self.allocate_stream(circuit));
                self.send_own(circuit, stream, message);
            }
            Way::Back(routed) => {
                let stream = stream.unwrap_or(BACKWARD);
                self.send_back(routed, Some(stream), message);
            }
        }
    }

    /// Who asks, if it is the neighbour itself: a circuit that was extended to here may be
    /// anybody's, whose name nobody needs to know.
    pub(crate) fn asker(&self, way: Way, link: LinkId) -> Option<RsaId> {
        let is_peers = match way {
            Way::Own(_) => true,
            Way::Back(routed) => self.routed.get(&routed)?.is_peers,
        };
        let ids = self.mesh.ids_of(link).filter(|_| is_peers)?;
        Some(ids.rsa)
    }

    /// The link that a circuit's peer is at.
    pub(crate) fn link_of(&self, way: Way) -> Option<LinkId> {
        match way {
            Way::Own(circuit) => self.circuits.get(&circuit).map(|own| own.link()),
            Way::Back(routed) => self
                .routed
                .get(&routed)
                .map(|routed| routed.previous_link()),
        }
    }
}
