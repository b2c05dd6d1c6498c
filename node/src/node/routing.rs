//! Other people's circuits: creating, extending, passing cells on, and the messages that end here.

use rand_core::Rng;

use crate::circuit::client::body_of;
use crate::circuit::router::{Inward, RouterCircuit};
use crate::crypto::ntor::{fast_server, ntor_server};
use crate::crypto::relay::{BODY_LEN, Body, Tag};
use crate::ids::{LinkId, OnionKey, StreamId};
use crate::link::{Expected, Side};
use crate::node::Node;
use crate::node::links::{Link, Owner};
use crate::node::mesh::Way;
use crate::node::timers::Wake;
use crate::ordb::StreamKey;
use crate::torrent::Infohash;
use crate::wire::{
    CellBody, CircId, Command, Create2, CreateFast, Created2, CreatedFast, DbEnd, DbEndReason,
    DbFindPeer, DbFoundPeer, DbQuery, Descriptor, DestroyReason, End, EndReason, Extend2,
    Extended2, HandshakeType, LinkSpecifier, RelayMessage, Resolved, ResolvedAnswer, Roles, Sendme,
    Truncated, encode_relay, relay_padding, split_relay,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a circuit waits for its next hop to be made.
const EXTEND_TIMEOUT: Duration = Duration::from_secs(15);
/// The most routers that one DB_FIND_PEER brings.
const MAX_FOUND: usize = 32;

/// How far a circuit reaches from here.
#[derive(Debug)]
enum Next {
    /// This router is its end.
    None,
    /// The next hop is being dialled; this is for it.
    AwaitLink(LinkId, Box<Body>),
    /// CREATE2 is sent.
    AwaitCreated(LinkId, CircId),
    /// Cells go on.
    Open(LinkId, CircId),
}

/// Somebody else's circuit.
pub(crate) struct Routed {
    previous: (LinkId, CircId),
    next: Next,
    machine: RouterCircuit,
    /// Whether its client is the peer at the other end of the previous link itself, and nobody
    /// behind it: CREATE_FAST is never passed on (tor-spec), and no router extends a circuit over a
    /// WebSocket.
    pub(crate) is_peers: bool,
    /// Whether a cell went through since the last sweep.
    busy: bool,
}

impl Routed {
    /// Whether it is carried for another: all but the circuits of one hop over which a neighbour
    /// asks.
    pub(crate) fn is_carried(&self) -> bool {
        !self.is_peers || !matches!(self.next, Next::None)
    }

    /// The link on its client's side.
    pub(crate) fn previous_link(&self) -> LinkId {
        self.previous.0
    }

    /// Whether a counted cell may go back to its client now, and would at once.
    pub(crate) fn can_send_back(&self, links: &BTreeMap<LinkId, Box<Link>>) -> bool {
        let link = links.get(&self.previous.0);
        self.machine.can_send() && link.is_some_and(|link| link.queue.is_writable())
    }

    /// A circuit through which nothing went since the last call gives back what only speed needs.
    pub(crate) fn sweep(&mut self) {
        if !std::mem::replace(&mut self.busy, false) {
            self.machine.rest();
        }
    }
}

impl Node {
    /// CREATE2, CREATE_FAST or the obsolete CREATE came for a free circuit number.
    pub(crate) fn handle_create(
        &mut self,
        id: LinkId,
        circ: CircId,
        command: Command,
        body: &Body,
    ) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        // tor-spec, "Choosing circuit IDs": the initiator's have the high bit, ours do not.
        let theirs = match link.side {
            Side::Initiator => !circ.is_initiators(),
            Side::Responder => circ.is_initiators(),
        };
        let circuits = link.circuits.len();
        let encrypts = link.encrypts;
        let Some(identity) = self.config.identity.clone() else {
            // A tab that only asks routes for nobody.
            self.send_destroy(id, circ, DestroyReason::PROTOCOL);
            return;
        };
        if circ == CircId::LINK || !theirs {
            self.send_destroy(id, circ, DestroyReason::PROTOCOL);
            return;
        }
        if circuits >= self.config.limits.circuits_per_link {
            self.send_destroy(id, circ, DestroyReason::RESOURCELIMIT);
            return;
        }
        // Who carries nothing may still be asked: on a circuit that nobody can have extended.
        let is_neighbours = command == Command::CREATE_FAST && encrypts;
        if !is_neighbours && !self.carries_one_more() {
            self.send_destroy(id, circ, DestroyReason::RESOURCELIMIT);
            return;
        }
        let made = match command {
            Command::CREATE_FAST if encrypts => CreateFast::from_cell(body).ok().map(|create| {
                let (keys, key_material, derivative) =
                    fast_server(&create.key_material, &mut self.rng);
                let reply = body_of(&CreatedFast {
                    key_material,
                    derivative,
                });
                (keys, Command::CREATED_FAST, reply)
            }),
            Command::CREATE2 => Create2::from_cell(body)
                .ok()
                .filter(|create| create.handshake_type == HandshakeType::NTOR)
                .and_then(|create| {
                    let (keys, reply) = ntor_server(
                        identity.ids().rsa,
                        identity.onion_secret(),
                        &create.data,
                        &mut self.rng,
                    )
                    .ok()?;
                    let reply = body_of(&Created2 {
                        data: reply.to_vec(),
                    });
                    Some((keys, Command::CREATED2, reply))
                }),
            _ => None,
        };
        let Some((keys, reply, Ok(body))) = made else {
            // The obsolete CREATE, CREATE_FAST where the link proves nobody, a wrong onionskin.
            self.send_destroy(id, circ, DestroyReason::PROTOCOL);
            return;
        };
        let key = self.next_id();
        self.routed.insert(
            key,
            Box::new(Routed {
                previous: (id, circ),
                next: Next::None,
                machine: RouterCircuit::new(&keys),
                is_peers: command == Command::CREATE_FAST || !encrypts,
                busy: true,
            }),
        );
        self.sweep_later();
        if let Some(link) = self.links.get_mut(&id) {
            link.circuits.insert(circ, Owner::RoutedPrevious(key));
            link.queue.push_control(circ, reply, &body);
            self.dirty.insert(id);
        }
        self.counters.circuits_routed += 1;
    }

    /// Whether one more circuit may be carried for another.
    fn carries_one_more(&self) -> bool {
        let carry = self.config.limits.carry;
        // Counted only where there is a limit: a bridge carries thousands.
        let full = carry.circuits != usize::MAX && self.carried().circuits >= carry.circuits;
        carry.on && !full && !self.throttle.is_behind(carry.bytes_per_second)
    }

    /// A relay cell from the client's side.
    pub(crate) fn routed_forward(&mut self, key: u64, command: Command, body: &mut Body) {
        let Some(routed) = self.routed.get_mut(&key) else {
            return;
        };
        routed.busy = true;
        match routed.machine.handle_forward(command, body) {
            Ok(Inward::Onward) => {
                self.counters.cells_relayed += 1;
                let next = match routed.next {
                    Next::Open(link, circ) => Some((link, circ)),
                    _ => None,
                };
                let sent = match next {
                    Some((link, circ)) => self.carry_cell(link, circ, command, body),
                    // tor-spec: a cell that nobody recognises ends the circuit.
                    _ => return self.end_routed(key, DestroyReason::PROTOCOL),
                };
                if !sent {
                    self.end_routed(key, DestroyReason::RESOURCELIMIT);
                }
            }
            Ok(Inward::Ours(tag, early)) => self.routed_message(key, &tag, early, body),
            Err(fault) => self.end_routed(key, fault.reason()),
        }
    }

    /// A relay cell from the next hop.
    pub(crate) fn routed_backward(&mut self, key: u64, command: Command, body: &mut Body) {
        let Some(routed) = self.routed.get_mut(&key) else {
            return;
        };
        routed.busy = true;
        if let Err(fault) = routed.machine.handle_backward(command, body) {
            return self.end_routed(key, fault.reason());
        }
        self.counters.cells_relayed += 1;
        let (link, circ) = routed.previous;
        if !self.carry_cell(link, circ, Command::RELAY, body) {
            self.end_routed(key, DestroyReason::RESOURCELIMIT);
        }
    }

    /// A relay message for this router.
    fn routed_message(&mut self, key: u64, tag: &Tag, early: bool, body: &Body) {
        let decoded = split_relay(body).and_then(|(header, data)| {
            Ok((header.stream, RelayMessage::decode(header.command, data)?))
        });
        let Ok((stream, message)) = decoded else {
            return self.end_routed(key, DestroyReason::PROTOCOL);
        };
        match (message, stream) {
            (RelayMessage::Extend2(extend), None) if early => self.routed_extend(key, extend),
            // tor-spec: EXTEND2 outside of RELAY_EARLY is refused.
            (RelayMessage::Extend2(_), _) => self.end_routed(key, DestroyReason::PROTOCOL),
            (RelayMessage::Truncate, None) => self.routed_truncate(key),
            (RelayMessage::Sendme(sendme), None) => {
                let Some(routed) = self.routed.get_mut(&key) else {
                    return;
                };
                let echoed = sendme.tag.as_ref().map_or(&[][..], |tag| tag);
                if let Err(fault) = routed.machine.flow().handle_sendme(echoed) {
                    let fault: crate::circuit::CircuitFault = fault.into();
                    return self.end_routed(key, fault.reason());
                }
                self.server_dirty = true;
            }
            (RelayMessage::Data(_), Some(_)) => {
                // Nothing here opens streams, so these bytes are for nobody; they count all the
                // same, or the client's window would never open again.
                self.routed_counted(key, tag);
            }
            (RelayMessage::Begin(_), Some(stream)) => {
                self.send_stream_end(key, stream, EndReason::EXITPOLICY);
            }
            (RelayMessage::BeginDir, Some(stream)) => {
                self.send_stream_end(key, stream, EndReason::NOTDIRECTORY);
            }
            (RelayMessage::Resolve(_), Some(stream)) => {
                // 0xF1: "error, nontransient": this router resolves for nobody.
                let answer = ResolvedAnswer {
                    kind: 0xf1,
                    value: Vec::new(),
                    ttl: 600,
                };
                let resolved = Resolved {
                    answers: vec![answer],
                };
                self.send_back(key, Some(stream), &RelayMessage::Resolved(resolved));
            }
            // The numbers of streams that this router opens are not the client's to take.
            (RelayMessage::DbQuery(_), Some(stream)) if stream.is_backward() => {
                self.end_routed(key, DestroyReason::PROTOCOL);
            }
            (RelayMessage::DbInfo(info), Some(_)) => self.handle_info(key, &info),
            (RelayMessage::DbTold(told), None) => self.handle_told_of(Way::Back(key), &told),
            (
                message @ (RelayMessage::DbConnected(_)
                | RelayMessage::DbData(_)
                | RelayMessage::DbEnd(_)),
                Some(stream),
            ) if stream.is_backward() => {
                if matches!(message, RelayMessage::DbData(_)) {
                    self.routed_counted(key, tag);
                }
                self.handle_held(key, stream, &message);
            }
            (RelayMessage::DbQuery(query), Some(stream)) => {
                if self.config.roles.contains(Roles::ORDB) {
                    let now = self.now;
                    let from = StreamKey {
                        circuit: key,
                        stream,
                    };
                    if self.server.handle_query(now, from, &query).is_err() {
                        return self.end_routed(key, DestroyReason::RESOURCELIMIT);
                    }
                    self.server_dirty = true;
                    if let DbQuery::Open { name, .. } = query {
                        self.tell_asker(key, name);
                    }
                } else {
                    let end = DbEnd {
                        reason: DbEndReason::UNAVAILABLE,
                        scope: None,
                        tried: None,
                    };
                    self.send_back(key, Some(stream), &RelayMessage::DbEnd(end));
                }
            }
            (RelayMessage::DbEnd(end), Some(stream)) => {
                let from = StreamKey {
                    circuit: key,
                    stream,
                };
                if self.server.handle_end(self.now, from, &end).is_err() {
                    return self.end_routed(key, DestroyReason::RESOURCELIMIT);
                }
                self.server_dirty = true;
            }
            (RelayMessage::DbFindPeer(find), Some(stream)) => self.find_peer(key, stream, find),
            (RelayMessage::PeerAsk(ask), Some(stream)) => {
                self.handle_peer_ask(Way::Back(key), stream, ask);
            }
            (RelayMessage::PeerAnswer(answer), Some(_)) => {
                self.handle_peer_answer(Way::Back(key), answer);
            }
            // Padding, answers to what this router never asks, and what it does not know are
            // dropped, as Tor drops them.
            _ => {}
        }
    }

    /// A cell came that flow control counts.
    fn routed_counted(&mut self, key: u64, tag: &Tag) {
        let Some(routed) = self.routed.get_mut(&key) else {
            return;
        };
        match routed.machine.flow().note_received(tag) {
            Ok(None) => {}
            Ok(Some(tag)) => {
                self.send_back(key, None, &RelayMessage::Sendme(Sendme { tag: Some(tag) }));
            }
            Err(_) => self.end_routed(key, DestroyReason::PROTOCOL),
        }
    }

    /// EXTEND2: the circuit is to grow by one router.
    fn routed_extend(&mut self, key: u64, extend: Extend2) {
        let Some(routed) = self.routed.get(&key) else {
            return;
        };
        let (previous, _) = routed.previous;
        if !matches!(routed.next, Next::None) {
            return self.end_routed(key, DestroyReason::PROTOCOL);
        }
        if !routed.is_carried() && !self.carries_one_more() {
            return self.end_routed(key, DestroyReason::RESOURCELIMIT);
        }
        let mut expected = Expected::default();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let mut dtls = None;
        let mut introducers = Vec::new();
        for specifier in &extend.specifiers {
            match specifier {
                LinkSpecifier::RsaId(rsa) => expected.rsa = Some(*rsa),
                LinkSpecifier::Ed25519Id(ed25519) => expected.ed25519 = Some(*ed25519),
                LinkSpecifier::Dtls(sha256) => dtls = Some(*sha256),
                LinkSpecifier::Introducer(rsa) => introducers.push(*rsa),
                other => addresses.extend(other.socket_addr()),
            }
        }
        // ntor names the onion key that it is for (tor-spec, "The ntor handshake"), and an
        // introduction is sealed to that.
        let onion = (extend.handshake_type == HandshakeType::NTOR)
            .then(|| extend.data.get(20..52)?.try_into().ok())
            .flatten()
            .map(OnionKey);
        let create = Create2 {
            handshake_type: extend.handshake_type,
            data: extend.data,
        };
        let (Some(rsa), Ok(body)) = (expected.rsa, body_of(&create)) else {
            return self.end_routed(key, DestroyReason::PROTOCOL);
        };
        // A circuit neither turns back at once nor goes round in its own router.
        let is_us = self
            .config
            .identity
            .as_ref()
            .is_some_and(|identity| identity.ids().rsa == rsa);
        let is_previous = self
            .links
            .get(&previous)
            .and_then(|link| link.shown())
            .is_some_and(|previous| previous.rsa == rsa);
        if is_us || is_previous {
            return self.end_routed(key, DestroyReason::PROTOCOL);
        }
        let open = self.link_to(&expected);
        // What stands or is being made first; then who says where it is; then who is introduced.
        let link = open
            .or_else(|| self.introduction_to(&expected))
            .or_else(|| self.reach(expected, &addresses, dtls))
            .or_else(|| self.introduce(expected, onion?, introducers));
        let Some(link) = link else {
            return self.end_routed(key, DestroyReason::CONNECTFAILED);
        };
        if let Some(routed) = self.routed.get_mut(&key) {
            routed.next = Next::AwaitLink(link, Box::new(body));
        }
        self.timers
            .set(Wake::Extend(key), self.now + EXTEND_TIMEOUT);
        if open.is_some() {
            self.extend_over(key, link);
        } else if let Some(link) = self.links.get_mut(&link) {
            link.awaited_by.push(key);
        }
    }

    /// The link to the next hop stands: CREATE2 goes over it.
    pub(crate) fn extend_over(&mut self, key: u64, id: LinkId) {
        let Some(routed) = self.routed.get_mut(&key) else {
            return;
        };
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if let Next::AwaitLink(_, body) = std::mem::replace(&mut routed.next, Next::None) {
            let circ = link.allocate(Owner::RoutedNext(key));
            link.queue.push_control(circ, Command::CREATE2, &body);
            routed.next = Next::AwaitCreated(id, circ);
            self.dirty.insert(id);
        }
    }

    /// The next hop answered.
    pub(crate) fn routed_created(&mut self, key: u64, command: Command, body: &Body) {
        let Some(routed) = self.routed.get_mut(&key) else {
            return;
        };
        let Next::AwaitCreated(link, circ) = routed.next else {
            return self.end_routed(key, DestroyReason::PROTOCOL);
        };
        let Some(created) = (command == Command::CREATED2)
            .then(|| Created2::from_cell(body).ok())
            .flatten()
        else {
            return self.end_routed(key, DestroyReason::PROTOCOL);
        };
        routed.next = Next::Open(link, circ);
        self.timers.clear(Wake::Extend(key));
        let extended = Extended2 { data: created.data };
        self.send_back(key, None, &RelayMessage::Extended2(extended));
    }

    /// TRUNCATE: the circuit is to end here.
    fn routed_truncate(&mut self, key: u64) {
        self.drop_next(key, DestroyReason::REQUESTED);
        let truncated = Truncated {
            reason: DestroyReason::REQUESTED,
        };
        self.send_back(key, None, &RelayMessage::Truncated(truncated));
    }

    /// The next hop ended the circuit, or its link is gone: the client is told how far it still
    /// reaches (tor-spec, "Tearing down circuits").
    pub(crate) fn routed_cut(&mut self, key: u64, reason: DestroyReason) {
        if let Some(routed) = self.routed.get_mut(&key) {
            routed.next = Next::None;
            self.timers.clear(Wake::Extend(key));
            self.send_back(key, None, &RelayMessage::Truncated(Truncated { reason }));
        }
    }

    /// The next hop was not reached in time.
    pub(crate) fn routed_late(&mut self, key: u64) {
        self.end_routed(key, DestroyReason::CONNECTFAILED);
    }

    /// Tells the next hop, if there is one, that the circuit is over.
    fn drop_next(&mut self, key: u64, reason: DestroyReason) {
        let Some(routed) = self.routed.get_mut(&key) else {
            return;
        };
        match std::mem::replace(&mut routed.next, Next::None) {
            Next::Open(link, circ) | Next::AwaitCreated(link, circ) => {
                self.forget_circuit(link, circ);
                self.send_destroy(link, circ, reason);
            }
            Next::AwaitLink(link, _) => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.awaited_by.retain(|waiting| *waiting != key);
                }
            }
            Next::None => {}
        }
        self.timers.clear(Wake::Extend(key));
    }

    /// Ends a circuit here, and tells both sides.
    pub(crate) fn end_routed(&mut self, key: u64, reason: DestroyReason) {
        self.drop_next(key, reason);
        if let Some(routed) = self.routed.remove(&key) {
            let (link, circ) = routed.previous;
            self.forget_circuit(link, circ);
            self.send_destroy(link, circ, reason);
            self.way_gone(link, Way::Back(key));
            self.server.handle_circuit_gone(self.now, key);
            self.relays_circuit_gone(key);
            self.server_dirty = true;
        }
    }

    /// Sends a message of this router's own to the client.
    pub(crate) fn send_back(
        &mut self,
        key: u64,
        stream: Option<StreamId>,
        message: &RelayMessage<'_>,
    ) {
        let mut body = [0; BODY_LEN];
        if encode_relay(&mut body, stream, message).is_err() {
            return self.end_routed(key, DestroyReason::INTERNAL);
        }
        self.send_body_back(key, &mut body, false);
    }

    /// Sends a plain body to the client; `counted` if flow control counts it.
    pub(crate) fn send_body_back(&mut self, key: u64, body: &mut Body, counted: bool) {
        let Some(routed) = self.routed.get_mut(&key) else {
            return;
        };
        routed.busy = true;
        if counted {
            // So that nobody who knows the content can foretell what SENDME must echo.
            self.rng.fill_bytes(relay_padding(body));
        }
        let tag = routed.machine.seal(body);
        if counted {
            routed.machine.flow().note_sent(&tag);
        }
        let (link, circ) = routed.previous;
        if !self.send_cell(link, circ, Command::RELAY, body) {
            self.end_routed(key, DestroyReason::RESOURCELIMIT);
        }
    }

    fn send_stream_end(&mut self, key: u64, stream: StreamId, reason: EndReason) {
        let end = End {
            reason,
            address: None,
        };
        self.send_back(key, Some(stream), &RelayMessage::End(end));
    }

    /// DB_FIND_PEER: a router registers, or somebody asks for routers.
    fn find_peer(&mut self, key: u64, stream: StreamId, find: DbFindPeer) {
        let unix_now = self.unix_now();
        let none = DbFoundPeer {
            remaining: 0,
            descriptor: None,
        };
        let found = match find {
            _ if !self.config.roles.contains(Roles::BRIDGE) => Vec::new(),
            DbFindPeer::Register(descriptor) => self
                .register(key, &descriptor, unix_now)
                .then_some(descriptor)
                .into_iter()
                .collect(),
            DbFindPeer::Ask { roles, count } => {
                let count = usize::from(count).min(MAX_FOUND);
                self.registry
                    .sample(roles, count, unix_now, &mut self.rng)
                    .into_iter()
                    .map(Box::new)
                    .collect()
            }
        };
        if found.is_empty() {
            self.send_back(key, Some(stream), &RelayMessage::DbFoundPeer(none));
        }
        let mut remaining = found.len();
        for descriptor in found {
            remaining -= 1;
            let message = DbFoundPeer {
                remaining: u8::try_from(remaining).unwrap_or(u8::MAX),
                descriptor: Some(descriptor),
            };
            self.send_back(key, Some(stream), &RelayMessage::DbFoundPeer(message));
        }
    }

    /// Takes a descriptor, only from a one-hop circuit of whom it names: the link's handshake
    /// proved both identities, the descriptor's own signature only one. On a WebSocket that is all
    /// that the handshake proved, and all that is asked here.
    fn register(&mut self, key: u64, descriptor: &Descriptor, unix_now: u64) -> bool {
        let Some(routed) = self.routed.get(&key).filter(|routed| routed.is_peers) else {
            return false;
        };
        let (link, _) = routed.previous;
        let proved = self.links.get(&link).and_then(|link| link.shown());
        let most = self.config.limits.registered;
        match descriptor.verify(unix_now) {
            Ok(verified)
                if proved.is_some_and(|ids| {
                    (ids.rsa, ids.ed25519) == (verified.rsa_id, verified.ed25519)
                }) =>
            {
                // A tab that came by WebSocket is a neighbour by this alone, and this is the
                // circuit to ask it over; any other already is one by its link.
                let unproven = self
                    .links
                    .get(&link)
                    .is_some_and(|link| link.identity().is_none());
                if unproven && let Some(ids) = proved {
                    self.neighbour_by(link, ids, Way::Back(key));
                }
                self.note_neighbour(&verified);
                self.registry.register(verified, link, most)
            }
            _ => false,
        }
    }

    /// What this router could say of those who ask it for a name, or offer one: over which link
    /// their circuit comes, and by which number. For whoever checks what a role can know.
    pub fn views(&self) -> Vec<(LinkId, CircId, Infohash)> {
        let asked = self.server.streams();
        let offered = self.relays.adverts.circuits();
        asked
            .chain(offered)
            .filter_map(|(circuit, name)| {
                let (link, circ) = self.routed.get(&circuit)?.previous;
                Some((link, circ, name))
            })
            .collect()
    }

    /// Whether the circuit of this number on a link is one by which this node's own user asks for,
    /// or offers, a torrent. The other side of [`Node::views`].
    pub fn asks_over(&self, link: LinkId, circ: CircId) -> bool {
        let owner = self
            .links
            .get(&link)
            .and_then(|link| link.circuits.get(&circ));
        let Some(Owner::Own(own)) = owner else {
            return false;
        };
        let own = self.circuits.get(own);
        own.is_some_and(|own| own.purpose.torrent().is_some())
    }

    /// Fills `bytes` with the node's own randomness.
    pub(crate) fn fill_random(&mut self, bytes: &mut [u8]) {
        self.rng.fill_bytes(bytes);
    }
}
