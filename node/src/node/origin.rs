//! This node's own circuits: built along a path, used by whoever asked for them, and the streams
//! over them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::circuit::CircuitFault;
use crate::circuit::client::{ClientCircuit, FirstHop, Router, Step};
use crate::circuit::flow::StreamWindow;
use crate::crypto::relay::{BODY_LEN, Body, Tag};
use crate::ids::{CircuitId, LinkId, StreamId, TorrentId};
use crate::link::Expected;
use crate::node::Node;
use crate::node::holding::Others;
use crate::node::io::{CircuitStatus, Event, Target};
use crate::node::links::{Link, Owner};
use crate::node::mesh::Way;
use crate::node::timers::Wake;
use crate::ordb::SourceId;
use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::{
    Begin, CircId, Command, DestroyReason, End, EndReason, RELAY_DATA_MAX, RelayMessage, Sendme,
    encode_relay, split_relay,
};

/// How long a circuit may take to be built.
const BUILD_TIMEOUT: Duration = Duration::from_secs(20);

/// The most streams that a host may have open on one circuit.
const MAX_STREAMS: usize = 128;

/// What a circuit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// One hop to a bridge, to register or to ask for routers.
    Bridge(usize),
    /// Ready for the next who needs one.
    Ahead,
    /// One hop to the neighbour at the other end of a link, for questions.
    Neighbour(LinkId),
    /// A torrent's.
    Torrent(TorrentId, SourceId),
    /// A shared torrent is offered over it.
    Share(TorrentId),
    /// To another ORDB, for those who ask this one.
    Relay(Infohash, SourceId),
    /// The host asked for it.
    Host,
}

impl Purpose {
    /// The torrent of this node's user that a circuit is for.
    pub(crate) const fn torrent(self) -> Option<TorrentId> {
        match self {
            Purpose::Torrent(torrent, _) | Purpose::Share(torrent) => Some(torrent),
            _ => None,
        }
    }
}

/// What a stream carries.
#[derive(Debug)]
enum Stream {
    /// BEGIN is sent.
    AwaitConnected,
    /// Bytes, to and fro.
    Open(StreamWindow),
}

/// A circuit that this node built.
pub(crate) struct Own {
    link: LinkId,
    /// None until the link stands.
    circ: Option<CircId>,
    /// What CREATE is to say, until the link stands.
    create: Option<(Command, Box<Body>)>,
    machine: ClientCircuit,
    pub(crate) purpose: Purpose,
    streams: BTreeMap<StreamId, Stream>,
    pub(crate) opened: Option<Instant>,
    /// How much of its torrent its ORDB was last told to be held here, and when.
    pub(crate) told: Option<(u8, Instant)>,
    /// How many others its ORDB says to hold it.
    pub(crate) others: Others,
    /// Whether a cell came since the last sweep.
    busy: bool,
}

impl Own {
    /// A circuit over which nothing came since the last call gives back what only speed needs.
    pub(crate) fn sweep(&mut self) {
        if !std::mem::replace(&mut self.busy, false) {
            self.machine.rest();
        }
    }

    /// A number for a new stream.
    pub(crate) fn allocate_stream(&mut self) -> StreamId {
        self.machine.allocate_stream()
    }

    /// The link that it begins on.
    pub(crate) fn link(&self) -> LinkId {
        self.link
    }

    /// Whether a counted cell may go now, and would at once.
    pub(crate) fn can_send(&self, links: &BTreeMap<LinkId, Box<Link>>) -> bool {
        let link = links.get(&self.link);
        self.machine.can_send() && link.is_some_and(|link| link.queue.is_writable())
    }

    /// The routers on its way, nearest first.
    pub(crate) fn path(&self) -> &[Arc<Router>] {
        self.machine.path()
    }
}

/// Why a host's request for a circuit or stream was not taken. The host's fault, or its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// There is no such circuit, or it does not stand.
    #[error("there is no such open circuit")]
    NoCircuit,
    /// There is no such stream, or it does not stand.
    #[error("there is no such open stream")]
    NoStream,
    /// A path must have at least one router, the first with an address.
    #[error("a path needs routers, and the first one an address")]
    Path,
    /// A limit was reached.
    #[error("as many links or streams as allowed are open")]
    Limit,
    /// A host name that does not fit in BEGIN.
    #[error("this is not a host name and port that can be asked for")]
    Address,
}

impl Node {
    /// Builds a circuit along `path`; [`Event::CircuitOpen`] or [`Event::CircuitClosed`] follows.
    pub fn build_circuit(
        &mut self,
        now: Instant,
        path: Vec<Arc<Router>>,
    ) -> Result<CircuitId, Misuse> {
        self.now = now;
        let first = path.first().ok_or(Misuse::Path)?.clone();
        let link = self.link_towards(&first)?;
        self.build_over(link, path, FirstHop::Fast, Purpose::Host)
            .ok_or(Misuse::Path)
    }

    /// A TLS link to a router: one that stands, or is being made, or is dialled now.
    pub(crate) fn link_towards(&mut self, router: &Router) -> Result<LinkId, Misuse> {
        let expected = Expected {
            rsa: Some(router.rsa),
            ed25519: Some(router.ed25519),
        };
        let addresses = router.addresses.clone();
        let link = self
            .link_to(&expected)
            .or_else(|| self.link_in_making(&expected, &addresses));
        match link {
            Some(link) => Ok(link),
            None if addresses.is_empty() => Err(Misuse::Path),
            None => self
                .dial(Target::Tls { addresses }, expected)
                .ok_or(Misuse::Limit),
        }
    }

    /// Closes a circuit that the host asked for.
    pub fn close_circuit(&mut self, now: Instant, circuit: CircuitId) {
        self.now = now;
        self.drop_own(circuit, DestroyReason::REQUESTED);
        self.settle();
    }

    /// Opens a stream to `host` and `port` from the circuit's last router.
    pub fn open_stream(
        &mut self,
        now: Instant,
        circuit: CircuitId,
        host: &str,
        port: u16,
    ) -> Result<StreamId, Misuse> {
        self.now = now;
        let own = self.circuits.get_mut(&circuit).ok_or(Misuse::NoCircuit)?;
        if !own.machine.is_open() {
            return Err(Misuse::NoCircuit);
        }
        if own.streams.len() >= MAX_STREAMS {
            return Err(Misuse::Limit);
        }
        let stream = own.machine.allocate_stream();
        let begin = RelayMessage::Begin(Begin {
            host: host.to_owned(),
            port,
            flags: 0,
        });
        let mut body = [0; BODY_LEN];
        encode_relay(&mut body, Some(stream), &begin).map_err(|_| Misuse::Address)?;
        own.streams.insert(stream, Stream::AwaitConnected);
        self.send_own_body(circuit, &mut body, false);
        Ok(stream)
    }

    /// Sends bytes on a stream. Answers how many were taken; windows and the link bound them.
    pub fn send_stream(
        &mut self,
        now: Instant,
        circuit: CircuitId,
        stream: StreamId,
        bytes: &[u8],
    ) -> Result<usize, Misuse> {
        self.now = now;
        let mut taken = 0;
        for part in bytes.chunks(RELAY_DATA_MAX) {
            let own = self.circuits.get_mut(&circuit).ok_or(Misuse::NoCircuit)?;
            let Some(Stream::Open(window)) = own.streams.get_mut(&stream) else {
                return Err(Misuse::NoStream);
            };
            let writable = self
                .links
                .get(&own.link)
                .is_some_and(|link| link.queue.is_writable());
            if !window.can_send() || !own.machine.flow().can_send() || !writable {
                break;
            }
            let mut body = [0; BODY_LEN];
            encode_relay(&mut body, Some(stream), &RelayMessage::Data(part))
                .map_err(|_| Misuse::Address)?;
            window.note_sent();
            self.send_own_body(circuit, &mut body, true);
            taken += part.len();
        }
        Ok(taken)
    }

    /// The host has taken `cells` [`Event::StreamData`] of a stream: as many more may come.
    pub fn stream_consumed(
        &mut self,
        now: Instant,
        circuit: CircuitId,
        stream: StreamId,
        cells: u16,
    ) {
        self.now = now;
        let Some(own) = self.circuits.get_mut(&circuit) else {
            return;
        };
        let Some(Stream::Open(window)) = own.streams.get_mut(&stream) else {
            return;
        };
        for _ in 0..window.note_consumed(cells) {
            let sendme = RelayMessage::Sendme(Sendme { tag: None });
            self.send_own(circuit, Some(stream), &sendme);
        }
    }

    /// Closes a stream.
    pub fn close_stream(&mut self, now: Instant, circuit: CircuitId, stream: StreamId) {
        self.now = now;
        let known = self
            .circuits
            .get_mut(&circuit)
            .and_then(|own| own.streams.remove(&stream));
        if known.is_some() {
            let end = RelayMessage::End(End {
                reason: EndReason::DONE,
                address: None,
            });
            self.send_own(circuit, Some(stream), &end);
        }
    }

    /// This node's circuits, for the status page.
    pub fn circuits(&self) -> Vec<CircuitStatus> {
        self.circuits
            .iter()
            .filter(|(_, own)| !matches!(own.purpose, Purpose::Bridge(_) | Purpose::Neighbour(_)))
            .map(|(id, own)| CircuitStatus {
                circuit: *id,
                path: own.path().to_vec(),
                hops: own.machine.hops(),
                torrent: own.purpose.torrent(),
            })
            .collect()
    }

    /// Builds a circuit whose first hop is at the other end of `link`.
    pub(crate) fn build_over(
        &mut self,
        link: LinkId,
        path: Vec<Arc<Router>>,
        first: FirstHop,
        purpose: Purpose,
    ) -> Option<CircuitId> {
        let hops = path.len();
        let (machine, command, body) = ClientCircuit::new(path, first, &mut self.rng)?;
        self.counters.circuits_begun += u64::from(hops > 1);
        let id = CircuitId(self.next_id());
        self.circuits.insert(
            id,
            Box::new(Own {
                link,
                circ: None,
                create: Some((command, Box::new(body))),
                machine,
                purpose,
                streams: BTreeMap::new(),
                opened: None,
                told: None,
                others: Others::default(),
                busy: true,
            }),
        );
        self.sweep_later();
        self.timers.set(Wake::Build(id), self.now + BUILD_TIMEOUT);
        if self.links.get(&link).is_some_and(|link| link.is_open()) {
            self.create_own(id);
        }
        Some(id)
    }

    /// A link stands: the circuits that waited for it begin.
    pub(crate) fn own_link_open(&mut self, link: LinkId) {
        for id in self.own_waiting_for(link) {
            self.create_own(id);
        }
    }

    /// Circuits that wait for one link begin on another to the same peer, which stands.
    pub(crate) fn own_moves(&mut self, from: LinkId, to: LinkId) {
        for id in self.own_waiting_for(from) {
            if let Some(own) = self.circuits.get_mut(&id) {
                own.link = to;
            }
            self.create_own(id);
        }
    }

    /// A link could not be made: the circuits that waited for it are over.
    pub(crate) fn own_link_gone(&mut self, link: LinkId, why: &str) {
        for id in self.own_waiting_for(link) {
            self.own_lost(id, None, DestroyReason::CONNECTFAILED, why);
        }
    }

    fn own_waiting_for(&self, link: LinkId) -> Vec<CircuitId> {
        self.circuits
            .iter()
            .filter(|(_, own)| own.link == link && own.circ.is_none())
            .map(|(id, _)| *id)
            .collect()
    }

    fn create_own(&mut self, id: CircuitId) {
        let Some(own) = self.circuits.get_mut(&id) else {
            return;
        };
        let (Some(link), Some((command, body))) =
            (self.links.get_mut(&own.link), own.create.take())
        else {
            return;
        };
        let circ = link.allocate(Owner::Own(id));
        own.circ = Some(circ);
        link.queue.push_control(circ, command, &body);
        self.dirty.insert(own.link);
    }

    /// CREATED2 or CREATED_FAST came.
    pub(crate) fn own_created(&mut self, id: CircuitId, command: Command, body: &Body) {
        let Some(own) = self.circuits.get_mut(&id) else {
            return;
        };
        let step = own.machine.handle_created(command, body, &mut self.rng);
        self.own_step(id, step);
    }

    fn own_step(&mut self, id: CircuitId, step: Result<Step, CircuitFault>) {
        match step {
            Ok(Step::Send(command, body)) => {
                let Some(own) = self.circuits.get(&id) else {
                    return;
                };
                if let (link, Some(circ)) = (own.link, own.circ)
                    && !self.send_cell(link, circ, command, &body)
                {
                    self.drop_own(id, DestroyReason::RESOURCELIMIT);
                }
            }
            Ok(Step::Open) => {
                self.timers.clear(Wake::Build(id));
                if let Some(own) = self.circuits.get_mut(&id) {
                    own.opened = Some(self.now);
                    match own.purpose {
                        Purpose::Bridge(bridge) => self.bridge_circuit_open(bridge, id),
                        Purpose::Neighbour(link) => self.way_open(link),
                        Purpose::Host => self.emit(Event::CircuitOpen { circuit: id }),
                        Purpose::Relay(name, source) => self.relay_circuit_open(name, source, id),
                        Purpose::Ahead | Purpose::Torrent(..) | Purpose::Share(_) => {
                            self.building_went_well(id);
                            self.emit(Event::Circuits);
                            self.directory_dirty = true;
                        }
                    }
                }
            }
            Err(fault) => {
                let hop = self.circuits.get(&id).map(|own| own.machine.hops());
                self.own_faulty(id, hop, &fault);
            }
        }
    }

    /// A relay cell came back.
    pub(crate) fn own_relay(&mut self, id: CircuitId, command: Command, body: &mut Body) {
        let Some(own) = self.circuits.get_mut(&id) else {
            return;
        };
        if command != Command::RELAY {
            return self.own_faulty(id, None, &CircuitFault::TooManyEarly);
        }
        own.busy = true;
        let opened = own.machine.open(body);
        let (hop, tag) = match opened {
            Ok(from) => from,
            Err(fault) => return self.own_faulty(id, None, &fault),
        };
        let last = own.machine.hops().saturating_sub(1);
        let is_open = own.machine.is_open();
        let decoded = split_relay(body).and_then(|(header, data)| {
            Ok((header.stream, RelayMessage::decode(header.command, data)?))
        });
        let (stream, message) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return self.own_faulty(id, Some(hop), &error.into()),
        };
        match (message, stream) {
            (RelayMessage::Truncated(truncated), None) => {
                self.suspect_unreached(id, hop + 1, truncated.reason);
                self.own_lost(
                    id,
                    Some(hop + 1),
                    truncated.reason,
                    "a router on the way ended it",
                );
            }
            (RelayMessage::Extended2(extended), None) => {
                let step = own
                    .machine
                    .handle_extended(hop, &extended.data, &mut self.rng);
                self.own_step(id, step);
            }
            // What an ORDB has is told to its peers; a requester asks.
            (RelayMessage::Drop | RelayMessage::DbInfo(_) | RelayMessage::Unknown { .. }, _) => {}
            // Only the last hop talks of streams: a nearer one that does tags the circuit.
            _ if hop != last || !is_open => {
                self.own_faulty(id, Some(hop), &CircuitFault::OutOfOrder);
            }
            (RelayMessage::Sendme(sendme), None) => {
                let echoed = sendme.tag.as_ref().map_or(&[][..], |tag| tag);
                if let Err(fault) = own.machine.flow().handle_sendme(echoed) {
                    self.own_faulty(id, Some(hop), &fault.into());
                }
                self.holder_dirty = true;
            }
            (RelayMessage::Sendme(_), Some(stream)) => {
                if let Some(Stream::Open(window)) = own.streams.get_mut(&stream)
                    && let Err(fault) = window.handle_sendme()
                {
                    self.own_faulty(id, Some(hop), &fault.into());
                }
            }
            // Only the host opens streams of bytes; elsewhere DATA was not asked for.
            (RelayMessage::Data(data), Some(stream)) if own.purpose == Purpose::Host => {
                let data = Bytes::copy_from_slice(data);
                self.own_counted(id, &tag);
                self.own_data(id, stream, data);
            }
            (RelayMessage::Connected(_), Some(stream)) => {
                if let Some(state @ Stream::AwaitConnected) = own.streams.get_mut(&stream) {
                    *state = Stream::Open(StreamWindow::default());
                    self.emit(Event::StreamOpen {
                        circuit: id,
                        stream,
                    });
                }
            }
            (RelayMessage::End(end), Some(stream)) => {
                if own.streams.remove(&stream).is_some() {
                    self.emit(Event::StreamClosed {
                        circuit: id,
                        stream,
                        reason: end.reason,
                    });
                }
            }
            (RelayMessage::DbFoundPeer(found), Some(stream)) => {
                if let Purpose::Bridge(bridge) = own.purpose {
                    self.found_peer(bridge, stream, found);
                }
            }
            // Questions of the neighbour's own, and answers to ours.
            (RelayMessage::PeerAsk(ask), Some(stream))
                if matches!(own.purpose, Purpose::Bridge(_) | Purpose::Neighbour(_)) =>
            {
                self.handle_peer_ask(Way::Own(id), stream, ask);
            }
            (RelayMessage::PeerAnswer(answer), Some(_))
                if matches!(own.purpose, Purpose::Bridge(_) | Purpose::Neighbour(_)) =>
            {
                self.handle_peer_answer(Way::Own(id), answer);
            }
            (RelayMessage::DbTold(told), None)
                if matches!(own.purpose, Purpose::Bridge(_) | Purpose::Neighbour(_)) =>
            {
                self.handle_told_of(Way::Own(id), &told);
            }
            (RelayMessage::DbTold(told), None) => own.others = own.others.with(&told),
            // What is held here is asked for by the ORDB that was told of it.
            (RelayMessage::DbQuery(query), Some(stream)) if stream.is_backward() => {
                self.held_query(id, stream, &query);
            }
            (RelayMessage::DbEnd(end), Some(stream)) if stream.is_backward() => {
                self.held_end(id, stream, &end);
            }
            (
                message @ (RelayMessage::DbData(_)
                | RelayMessage::DbConnected(_)
                | RelayMessage::DbEnd(_)),
                Some(stream),
            ) => {
                let purpose = own.purpose;
                let asks = matches!(purpose, Purpose::Torrent(..) | Purpose::Relay(..));
                if asks && matches!(message, RelayMessage::DbData(_)) {
                    self.own_counted(id, &tag);
                }
                match purpose {
                    Purpose::Torrent(torrent, source) => {
                        self.content_message(torrent, source, stream, &message);
                    }
                    Purpose::Relay(name, source) => {
                        self.relay_message(name, source, stream, &message);
                    }
                    _ => {}
                }
            }
            _ => self.own_faulty(id, Some(hop), &CircuitFault::OutOfOrder),
        }
    }

    /// A cell came that flow control counts.
    fn own_counted(&mut self, id: CircuitId, tag: &Tag) {
        let Some(own) = self.circuits.get_mut(&id) else {
            return;
        };
        match own.machine.flow().note_received(tag) {
            Ok(None) => {}
            Ok(Some(tag)) => {
                let sendme = RelayMessage::Sendme(Sendme { tag: Some(tag) });
                self.send_own(id, None, &sendme);
            }
            Err(fault) => self.own_faulty(id, None, &fault.into()),
        }
    }

    fn own_data(&mut self, id: CircuitId, stream: StreamId, bytes: Bytes) {
        let Some(own) = self.circuits.get_mut(&id) else {
            return;
        };
        // Cells of a stream that was closed here are still on their way: they are passed over.
        if let Some(Stream::Open(window)) = own.streams.get_mut(&stream) {
            match window.note_received() {
                Ok(()) => self.emit(Event::StreamData {
                    circuit: id,
                    stream,
                    bytes,
                }),
                Err(fault) => self.own_faulty(id, None, &fault.into()),
            }
        }
    }

    /// Sends a message to a circuit's last hop.
    pub(crate) fn send_own(
        &mut self,
        id: CircuitId,
        stream: Option<StreamId>,
        message: &RelayMessage<'_>,
    ) {
        let mut body = [0; BODY_LEN];
        match encode_relay(&mut body, stream, message) {
            Ok(()) => self.send_own_body(id, &mut body, false),
            Err(error) => self.own_faulty(id, None, &error.into()),
        }
    }

    pub(crate) fn send_own_body(&mut self, id: CircuitId, body: &mut Body, counted: bool) {
        let Some(own) = self.circuits.get_mut(&id) else {
            return;
        };
        let last = own.machine.hops().saturating_sub(1);
        match own.machine.seal(last, false, body) {
            Ok((command, tag)) => {
                if counted {
                    own.machine.flow().note_sent(&tag);
                }
                if let (link, Some(circ)) = (own.link, own.circ)
                    && !self.send_cell(link, circ, command, body)
                {
                    self.own_lost(id, None, DestroyReason::RESOURCELIMIT, "its queue is full");
                }
            }
            Err(fault) => self.own_faulty(id, None, &fault),
        }
    }

    /// Opens a stream number on an own circuit.
    pub(crate) fn allocate_stream(&mut self, id: CircuitId) -> Option<StreamId> {
        let own = self.circuits.get_mut(&id)?;
        Some(own.machine.allocate_stream())
    }

    /// A circuit was not built in time.
    pub(crate) fn own_late(&mut self, id: CircuitId) {
        let hop = self.circuits.get(&id).map(|own| own.machine.hops());
        self.own_lost(id, hop, DestroyReason::TIMEOUT, "it was not built in time");
    }

    /// A router on the way broke the protocol.
    fn own_faulty(&mut self, id: CircuitId, hop: Option<usize>, fault: &CircuitFault) {
        self.own_lost(id, hop, fault.reason(), &fault.to_string());
    }

    /// Ends a circuit of ours from our side.
    pub(crate) fn drop_own(&mut self, id: CircuitId, reason: DestroyReason) {
        self.own_lost(id, None, reason, "closed here");
    }

    /// The first router ended a circuit.
    pub(crate) fn own_destroyed(&mut self, id: CircuitId, reason: DestroyReason) {
        self.suspect_unreached(id, 0, reason);
        self.own_lost(id, None, reason, "the first router ended it");
    }

    /// The router at the place `by` ended a circuit, and says that it did not reach the next. Which of
    /// the two that is laid to cannot be known: both are passed over for a while, and the one that is
    /// there is trusted again with the next circuit that stands.
    fn suspect_unreached(&mut self, id: CircuitId, by: usize, reason: DestroyReason) {
        let is_unreached = matches!(
            reason,
            DestroyReason::CONNECTFAILED | DestroyReason::OR_IDENTITY
        );
        let Some(own) = self.circuits.get(&id).filter(|_| is_unreached) else {
            return;
        };
        // Only the last one that stands can have been asked to extend it.
        let next = own.machine.path().get(by + 1);
        if let Some(next) = next.filter(|_| own.machine.hops() == by + 1) {
            self.directory.suspect(&next.ed25519, self.now);
        }
    }

    /// A circuit of ours is over; `hop` is the place in its path of whom that is laid to.
    pub(crate) fn own_lost(
        &mut self,
        id: CircuitId,
        hop: Option<usize>,
        reason: DestroyReason,
        why: &str,
    ) {
        let Some(own) = self.circuits.remove(&id) else {
            return;
        };
        self.timers.clear(Wake::Build(id));
        self.holder.handle_circuit_gone(self.now, id.0);
        self.holder_dirty = true;
        if let Some(circ) = own.circ {
            // Known to the link still: the other side has not ended it.
            let known = self
                .links
                .get(&own.link)
                .is_some_and(|link| link.circuits.contains_key(&circ));
            self.forget_circuit(own.link, circ);
            if known {
                // tor-spec: a client's DESTROY does not say why.
                self.send_destroy(own.link, circ, DestroyReason::NONE);
            }
        }
        let was_built = own.opened.is_some();
        if let Some(router) = hop.and_then(|hop| own.machine.path().get(hop)) {
            self.directory.suspect(&router.ed25519, self.now);
        }
        self.counters.circuits_failed += u64::from(!was_built && own.machine.path().len() > 1);
        tracing::debug!(circuit = id.0, %why, "a circuit is over");
        match own.purpose {
            Purpose::Bridge(bridge) => {
                self.way_gone(own.link, Way::Own(id));
                self.bridge_circuit_gone(bridge);
            }
            Purpose::Neighbour(link) => self.way_gone(link, Way::Own(id)),
            Purpose::Torrent(torrent, source) => {
                self.source_lost(torrent, source);
                self.emit(Event::Circuits);
            }
            Purpose::Share(torrent) => {
                self.torrents_dirty.insert(torrent);
                self.emit(Event::Circuits);
            }
            Purpose::Relay(name, source) => self.relay_source_lost(name, source),
            Purpose::Ahead => {
                self.rest_building(was_built);
                self.emit(Event::Circuits);
            }
            Purpose::Host => self.emit(Event::CircuitClosed {
                circuit: id,
                reason,
                why: why.to_owned(),
            }),
        }
        self.directory_dirty = true;
    }
}
