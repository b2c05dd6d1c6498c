//! Links: from a transport that stands to cells for circuits, and back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, Bytes, BytesMut};

use crate::circuit::client::Router;
use crate::circuit::client::body_of;
use crate::crypto::relay::Body;
use crate::ids::{CircuitId, LinkId};
use crate::link::{
    Binding, Established, Expected, HANDSHAKE_TIMEOUT, Handshake, HandshakeConfig, HandshakeEvent,
    LinkError, MAX_HANDSHAKE_BYTES, PeerFault, RouterIds, Side,
};
use crate::node::Node;
use crate::node::directory::is_public;
use crate::node::io::{Event, LinkTransport, Output, Target};
use crate::node::queue::LinkQueue;
use crate::node::timers::Wake;
use crate::time::Instant;
use crate::wire::{CellDecoder, CircId, Command, Destroy, DestroyReason};

/// Whom a circuit on a link belongs to, and which side of it the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This node built it.
    Own(CircuitId),
    /// Somebody else's; its client is on this link's side.
    RoutedPrevious(u64),
    /// Somebody else's; the next hop is on this link's side.
    RoutedNext(u64),
}

pub(crate) enum LinkState {
    /// The host makes the transport.
    Dialling,
    /// The transport stands; our own certificates are being signed.
    AwaitCerts {
        binding: Binding,
        peer: Option<IpAddr>,
    },
    /// VERSIONS to NETINFO.
    Handshaking(Box<Handshake>),
    /// Cells for circuits.
    Open,
}

/// One link.
pub(crate) struct Link {
    pub(crate) side: Side,
    pub(crate) state: LinkState,
    pub(crate) expected: Expected,
    /// Where it was dialled, if it was.
    pub(crate) target: Option<Target>,
    /// What it runs over, once the transport stands.
    pub(crate) transport: LinkTransport,
    /// When it was begun, then when it opened.
    pub(crate) since: Instant,
    /// When a cell of a circuit last came over it. Padding and noise keep no link.
    pub(crate) used: Instant,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// Who the other side has proved to be.
    pub(crate) peer: Option<Box<Established>>,
    /// Whether the link itself encrypts to that identity, so that CREATE_FAST is enough.
    pub(crate) encrypts: bool,
    pub(crate) circuits: BTreeMap<CircId, Owner>,
    pub(crate) queue: LinkQueue,
    /// Others' circuits that wait for this link to open.
    pub(crate) awaited_by: Vec<u64>,
    decoder: CellDecoder,
    /// The start of a cell that has not come whole. One cell and one read of the host's at most.
    inbox: BytesMut,
    next_circ: u32,
}

impl Link {
    fn new(side: Side, expected: Expected, since: Instant) -> Self {
        Link {
            side,
            state: LinkState::Dialling,
            expected,
            target: None,
            transport: LinkTransport::Tls,
            since,
            used: since,
            bytes_sent: 0,
            bytes_received: 0,
            peer: None,
            encrypts: false,
            circuits: BTreeMap::new(),
            queue: LinkQueue::default(),
            awaited_by: Vec::new(),
            decoder: CellDecoder::new(),
            inbox: BytesMut::new(),
            next_circ: 0,
        }
    }

    /// Whether it runs over WebRTC, or will.
    pub(crate) fn is_to_peer(&self) -> bool {
        match &self.target {
            Some(Target::Offer | Target::Answer(_) | Target::WebRtc { .. }) => true,
            Some(_) => false,
            None => self.transport == LinkTransport::WebRtc,
        }
    }

    /// What goes out now.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let bytes = self.queue.take()?;
        self.bytes_sent += bytes.len() as u64;
        Some(bytes)
    }

    /// Whether cells for circuits may be sent.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, LinkState::Open)
    }

    /// The identity that the other side proved, if it proved one.
    pub(crate) fn identity(&self) -> Option<RouterIds> {
        let peer = self.peer.as_ref()?;
        peer.peer.filter(|_| peer.peer_authenticated)
    }

    /// The identity that whoever dialled us holds the keys of, be it that nobody knows who else is
    /// on the way ([`Established::peer_authenticated`]).
    pub(crate) fn shown(&self) -> Option<RouterIds> {
        self.claimed()
            .filter(|_| self.side == Side::Responder || self.encrypts)
    }

    /// The identity that the other side shows. Of a bridge on a WebSocket only ntor will prove it.
    pub(crate) fn claimed(&self) -> Option<RouterIds> {
        self.peer.as_ref()?.peer
    }

    /// A number for a new circuit. tor-spec: who opened the link sets the highest bit.
    pub(crate) fn allocate(&mut self, owner: Owner) -> CircId {
        let high = if self.side == Side::Initiator {
            0x8000_0000
        } else {
            0
        };
        loop {
            self.next_circ = self.next_circ.wrapping_add(1) & 0x7fff_ffff;
            let circ = CircId(high | self.next_circ);
            if self.next_circ != 0 && !self.circuits.contains_key(&circ) {
                self.circuits.insert(circ, owner);
                return circ;
            }
        }
    }
}

impl Node {
    /// A transport that somebody opened to us stands. The name that it has from now on, or
    /// nothing if the node has as many as it may.
    pub fn accept(
        &mut self,
        now: Instant,
        binding: Binding,
        peer: Option<IpAddr>,
    ) -> Option<LinkId> {
        self.now = now;
        if self.links.len() >= self.config.limits.links {
            return None;
        }
        let id = LinkId(self.next_id());
        self.links.insert(
            id,
            Box::new(Link::new(Side::Responder, Expected::default(), now)),
        );
        self.timers
            .set(Wake::Handshake(id), now + HANDSHAKE_TIMEOUT);
        self.handle_connected(id, binding, peer);
        Some(id)
    }

    /// Asks the host for a transport. Nothing if the node has as many as it may.
    pub(crate) fn dial(&mut self, target: Target, expected: Expected) -> Option<LinkId> {
        self.dial_as(Side::Initiator, target, expected)
    }

    /// The same, where the other side may be the one that begins the handshake.
    pub(crate) fn dial_as(
        &mut self,
        side: Side,
        target: Target,
        expected: Expected,
    ) -> Option<LinkId> {
        let id = self.place_link(side, Some(target.clone()), expected)?;
        self.emit(Event::Dial { link: id, target });
        Some(id)
    }

    /// A link that is to be; without a target the other side will open it, as another.
    pub(crate) fn place_link(
        &mut self,
        side: Side,
        target: Option<Target>,
        expected: Expected,
    ) -> Option<LinkId> {
        if self.links.len() >= self.config.limits.links {
            return None;
        }
        let id = LinkId(self.next_id());
        let mut link = Link::new(side, expected, self.now);
        link.target = target;
        self.links.insert(id, Box::new(link));
        self.timers
            .set(Wake::Handshake(id), self.now + HANDSHAKE_TIMEOUT);
        Some(id)
    }

    /// The open link to whom `expected` names, if there is one.
    pub(crate) fn link_to(&self, expected: &Expected) -> Option<LinkId> {
        let fits = |link: &Link| {
            link.is_open() && link.identity().is_some_and(|ids| expected.allows(&ids))
        };
        self.links
            .iter()
            .find(|(_, link)| fits(link))
            .map(|(id, _)| *id)
    }

    /// The link that is being made to whom `expected` names at `addresses`, if there is one. Who
    /// names another address waits for another dial: a dead one must not hold up the rest.
    pub(crate) fn link_in_making(
        &self,
        expected: &Expected,
        addresses: &[SocketAddr],
    ) -> Option<LinkId> {
        self.links
            .iter()
            .find(|(_, link)| {
                let there = matches!(
                    &link.target,
                    Some(Target::Tls { addresses: dialled }
                        | Target::WebRtc { addresses: dialled, .. })
                    if addresses.iter().any(|address| dialled.contains(address))
                );
                !link.is_open() && link.expected == *expected && there
            })
            .map(|(id, _)| *id)
    }

    /// The link to a router that has addresses: the one that stands, the one in the making, or a
    /// new one. Nothing if there is none and it cannot be dialled from here.
    pub(crate) fn reach_directly(&mut self, router: &Router) -> Option<LinkId> {
        let expected = Expected {
            rsa: Some(router.rsa),
            ed25519: Some(router.ed25519),
        };
        self.reach(expected, &router.addresses, router.dtls)
    }

    /// The same for who is only known by what a client says.
    pub(crate) fn reach(
        &mut self,
        expected: Expected,
        addresses: &[SocketAddr],
        dtls: Option<[u8; 32]>,
    ) -> Option<LinkId> {
        let allow_private = self.config.allow_private;
        let addresses: Vec<SocketAddr> = addresses
            .iter()
            .copied()
            .filter(|address| allow_private || is_public(address.ip()))
            .collect();
        if let Some(link) = self
            .link_to(&expected)
            .or_else(|| self.link_in_making(&expected, &addresses))
        {
            return Some(link);
        }
        if addresses.is_empty() {
            return None;
        }
        let target = match dtls {
            _ if self.config.transports.tls => Target::Tls { addresses },
            Some(certificate_sha256) if self.config.transports.webrtc => Target::WebRtc {
                addresses,
                certificate_sha256,
            },
            _ => return None,
        };
        self.dial(target, expected)
    }

    /// The link that is being made to a peer by introduction, if there is one.
    pub(crate) fn introduction_to(&self, expected: &Expected) -> Option<LinkId> {
        let rsa = expected.rsa?;
        let by_introduction = |link: &Link| {
            matches!(link.state, LinkState::Dialling | LinkState::Handshaking(_))
                && link.expected.rsa == Some(rsa)
                && match link.target {
                    Some(Target::Offer | Target::Answer(_)) => true,
                    Some(_) => false,
                    None => link.side == Side::Initiator,
                }
        };
        let mut links = self.links.iter();
        links
            .find(|(_, link)| by_introduction(link))
            .map(|(id, _)| *id)
    }

    pub(crate) fn handle_connected(&mut self, id: LinkId, binding: Binding, peer: Option<IpAddr>) {
        if self.await_certs(id, binding, peer) {
            return;
        }
        let mut random = [0; 32];
        self.fill_random(&mut random);
        let unix_now = self.unix_now();
        let own = self.certs.clone();
        let own_addresses = self.config.addresses.iter().map(SocketAddr::ip).collect();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.transport = LinkTransport::from(&binding);
        link.encrypts = binding != Binding::WebSocket;
        let config = HandshakeConfig {
            side: link.side,
            binding,
            own,
            expected: link.expected,
            unix_now,
            peer_address: peer,
            own_addresses,
            random,
        };
        match Handshake::new(self.now, config) {
            Ok(handshake) => {
                link.state = LinkState::Handshaking(Box::new(handshake));
                self.handle_received(id, BytesMut::new());
            }
            Err(misuse) => self.hang_up(id, &misuse.to_string()),
        }
    }

    pub(crate) fn handle_exported(&mut self, id: LinkId, secret: [u8; 32]) {
        let now = self.now;
        let state = self.links.get_mut(&id).map(|link| &mut link.state);
        let Some(LinkState::Handshaking(handshake)) = state else {
            return;
        };
        match handshake.handle_export(now, secret) {
            Ok(()) => self.handle_received(id, BytesMut::new()),
            Err(error) => self.hang_up(id, &error.to_string()),
        }
    }

    /// Bytes came: the handshake takes its part of them, circuits the rest.
    pub(crate) fn handle_received(&mut self, id: LinkId, bytes: BytesMut) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.inbox.is_empty() {
            link.inbox = bytes;
        } else {
            link.inbox.extend_from_slice(&bytes);
        }
        let is_early = !link.is_open() && !matches!(link.state, LinkState::Handshaking(_));
        if is_early && link.inbox.len() > MAX_HANDSHAKE_BYTES {
            return self.hang_up(id, &PeerFault::TooMuch.to_string());
        }
        if !link.is_open() && !self.handshake(id) {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        // The inbox is out of the link while its cells are handled in place.
        let mut inbox = std::mem::take(&mut link.inbox);
        let decoder = link.decoder.clone();
        let mut used = 0;
        let outcome = loop {
            let rest = inbox.get_mut(used..).unwrap_or_default();
            let len = rest.len();
            match decoder.peel(rest) {
                Ok(Some((cell, tail))) => {
                    used += len - tail.len();
                    self.handle_cell(id, cell.circ, cell.command, cell.body);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match outcome {
            Ok(()) => {
                inbox.advance(used);
                // What is used up goes now, not when the next bytes come: thousands of links are
                // idle.
                if let Some(link) = self.links.get_mut(&id)
                    && !inbox.is_empty()
                {
                    link.inbox = inbox;
                }
            }
            Err(error) => self.hang_up(id, &error.to_string()),
        }
    }

    /// Drives a link's handshake. True once the link is open.
    fn handshake(&mut self, id: LinkId) -> bool {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        let LinkState::Handshaking(handshake) = &mut link.state else {
            return link.is_open();
        };
        let result = handshake.handle_bytes(now, &mut link.inbox);
        while let Some(bytes) = handshake.poll_transmit() {
            link.queue.push_raw(&bytes);
        }
        let event = handshake.poll_event();
        self.dirty.insert(id);
        if let Err(fault) = result {
            let awaited_by = std::mem::take(&mut link.awaited_by);
            let reason = match &fault {
                LinkError::Peer(fault) => fault.destroy_reason(),
                LinkError::Misuse(_) => DestroyReason::INTERNAL,
            };
            for routed in awaited_by {
                self.end_routed(routed, reason);
            }
            self.hang_up(id, &fault.to_string());
            return false;
        }
        match event {
            Some(HandshakeEvent::NeedExport { context }) => {
                self.flush(id);
                self.emit(Event::Export { link: id, context });
                false
            }
            Some(HandshakeEvent::Done(established)) => {
                let Some(link) = self.links.get_mut(&id) else {
                    return false;
                };
                link.decoder = established.decoder.clone();
                link.peer = Some(established);
                // Who was introduced by its name must have proved it.
                let unproven = link.side == Side::Responder && link.expected.rsa.is_some();
                if unproven && link.identity().is_none() {
                    self.hang_up(id, "the peer did not prove who it is");
                    return false;
                }
                link.state = LinkState::Open;
                link.since = now;
                let waiting = std::mem::take(&mut link.awaited_by);
                self.timers.clear(Wake::Handshake(id));
                self.sweep_later();
                for routed in waiting {
                    self.extend_over(routed, id);
                }
                self.introductions.forget(id);
                self.take_over_waiting(id);
                self.neighbour_link_open(id);
                self.bridge_link_open(id);
                self.own_link_open(id);
                true
            }
            None => false,
        }
    }

    fn handle_cell(&mut self, id: LinkId, circ: CircId, command: Command, body: &mut [u8]) {
        self.counters.cells_received += 1;
        let Ok(body) = <&mut Body>::try_from(body) else {
            // Variable-length cells belong to handshakes; afterwards they are padding or noise,
            // which Tor drops.
            return;
        };
        let now = self.now;
        let owner = self.links.get_mut(&id).and_then(|link| {
            let owner = link.circuits.get(&circ).copied()?;
            link.used = now;
            Some(owner)
        });
        match (command, owner) {
            (Command::CREATE2 | Command::CREATE_FAST | Command::CREATE, None) => {
                self.handle_create(id, circ, command, body);
            }
            // tor-spec: a circuit id in use is a protocol violation.
            (Command::CREATE2 | Command::CREATE_FAST | Command::CREATE, Some(owner)) => {
                self.end_circuit(owner, DestroyReason::PROTOCOL);
            }
            (Command::CREATED2 | Command::CREATED_FAST, Some(Owner::Own(own))) => {
                self.own_created(own, command, body);
            }
            (Command::CREATED2 | Command::CREATED_FAST, Some(Owner::RoutedNext(routed))) => {
                self.routed_created(routed, command, body);
            }
            (Command::RELAY | Command::RELAY_EARLY, Some(Owner::Own(own))) => {
                self.own_relay(own, command, body);
            }
            (Command::RELAY | Command::RELAY_EARLY, Some(Owner::RoutedPrevious(routed))) => {
                self.routed_forward(routed, command, body);
            }
            (Command::RELAY | Command::RELAY_EARLY, Some(Owner::RoutedNext(routed))) => {
                self.routed_backward(routed, command, body);
            }
            (Command::DESTROY, Some(owner)) => {
                let reason = body
                    .first()
                    .map_or(DestroyReason::NONE, |reason| DestroyReason(*reason));
                self.forget_circuit(id, circ);
                self.handle_destroyed(owner, reason);
            }
            // Unknown commands, unknown circuits and padding are dropped, as Tor drops them.
            _ => {}
        }
    }

    /// DESTROY came for a circuit, which its link has already forgotten.
    fn handle_destroyed(&mut self, owner: Owner, reason: DestroyReason) {
        match owner {
            Owner::Own(own) => self.own_destroyed(own, reason),
            Owner::RoutedPrevious(routed) => self.end_routed(routed, reason),
            Owner::RoutedNext(routed) => self.routed_cut(routed, reason),
        }
    }

    /// Ends the circuit of a number, whose cells cannot be sent.
    pub(crate) fn end_circuit_on(&mut self, id: LinkId, circ: CircId) {
        let link = self.links.get(&id);
        if let Some(owner) = link.and_then(|link| link.circuits.get(&circ).copied()) {
            self.end_circuit(owner, DestroyReason::RESOURCELIMIT);
        }
    }

    /// Ends a circuit for a fault on one of its links; the link has yet to forget it.
    fn end_circuit(&mut self, owner: Owner, reason: DestroyReason) {
        match owner {
            Owner::Own(own) => {
                self.own_lost(own, None, reason, "its first link broke the protocol")
            }
            Owner::RoutedPrevious(routed) | Owner::RoutedNext(routed) => {
                self.end_routed(routed, reason);
            }
        }
    }

    /// Sends a circuit's cell. False if the circuit must die for it: its queue, or all queues,
    /// are full, or the link is gone.
    #[must_use]
    pub(crate) fn send_cell(
        &mut self,
        id: LinkId,
        circ: CircId,
        command: Command,
        body: &Body,
    ) -> bool {
        // Not past what waits of the same circuit: its far end counts cells.
        if self.throttle.holds(id, circ) {
            return self.hold_back(id, circ, command, body);
        }
        self.send_now(id, circ, command, body)
    }

    /// The same, past what waits for the rate at which others' circuits are carried.
    #[must_use]
    pub(crate) fn send_now(
        &mut self,
        id: LinkId,
        circ: CircId,
        command: Command,
        body: &Body,
    ) -> bool {
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        match link.queue.push(circ, command, body) {
            Ok(true) => {
                self.dirty.insert(id);
                true
            }
            Ok(false) => {
                self.queued_bytes += crate::wire::CELL_LEN;
                self.queued_bytes <= self.config.limits.queued_bytes
            }
            Err(_) => false,
        }
    }

    pub(crate) fn send_destroy(&mut self, id: LinkId, circ: CircId, reason: DestroyReason) {
        if let (Some(link), Ok(body)) = (self.links.get_mut(&id), body_of(&Destroy { reason })) {
            link.queue.push_control(circ, Command::DESTROY, &body);
            self.dirty.insert(id);
        }
    }

    /// A circuit's number on a link is free again, and what waited for it is dropped.
    pub(crate) fn forget_circuit(&mut self, id: LinkId, circ: CircId) {
        let held = self.throttle.forget(id, circ);
        self.queued_bytes = self.queued_bytes.saturating_sub(held);
        if let Some(link) = self.links.get_mut(&id) {
            link.circuits.remove(&circ);
            let dropped = link.queue.forget(circ);
            self.queued_bytes = self.queued_bytes.saturating_sub(dropped);
        }
    }

    pub(crate) fn handle_buffered(&mut self, id: LinkId, bytes: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            let moved = link.queue.handle_buffered(bytes);
            self.queued_bytes = self.queued_bytes.saturating_sub(moved);
            if moved > 0 {
                self.dirty.insert(id);
            }
            // The server may have cells for circuits of this link.
            self.server_dirty |= link.queue.is_writable();
            self.holder_dirty |= link.queue.is_writable();
        }
    }

    /// Hands a link's ready cells to the host.
    pub(crate) fn flush(&mut self, id: LinkId) {
        if let Some(bytes) = self.links.get_mut(&id).and_then(|link| link.take()) {
            self.outputs.push_back(Output::Transmit { link: id, bytes });
        }
        self.dirty.remove(&id);
    }

    /// Ends a link from our side.
    pub(crate) fn hang_up(&mut self, id: LinkId, why: &str) {
        if let Some(link) = self.links.get(&id) {
            // What was only expected to come has no transport that could be closed.
            let has_transport = link.target.is_some()
                || link.side == Side::Responder
                || !matches!(link.state, LinkState::Dialling);
            if has_transport {
                self.flush(id);
                self.emit(Event::HangUp {
                    link: id,
                    why: why.to_owned(),
                });
            }
            self.link_gone(id, why);
        }
    }

    /// A link is gone, from whichever side: its circuits go with it.
    pub(crate) fn link_gone(&mut self, id: LinkId, why: &str) {
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        self.dirty.remove(&id);
        self.timers.clear(Wake::Handshake(id));
        self.queued_bytes = self.queued_bytes.saturating_sub(link.queue.waiting_bytes());
        self.registry.forget_link(id);
        self.introductions.forget(id);
        self.substitute_changed(id);
        self.neighbour_gone(id);
        for routed in link.awaited_by {
            self.end_routed(routed, DestroyReason::CONNECTFAILED);
        }
        for (circ, owner) in link.circuits {
            self.forget_circuit(id, circ);
            match owner {
                Owner::Own(own) => self.own_lost(own, None, DestroyReason::CHANNEL_CLOSED, why),
                Owner::RoutedPrevious(routed) => {
                    self.end_routed(routed, DestroyReason::CHANNEL_CLOSED);
                }
                Owner::RoutedNext(routed) => self.routed_cut(routed, DestroyReason::CHANNEL_CLOSED),
            }
        }
        self.bridge_link_gone(id, why);
        self.own_link_gone(id, why);
    }
}
