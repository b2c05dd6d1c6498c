//! An ORDB's own work: it asks on, for those who ask it, whoever told that he holds a name, then
//! whoever is known to know; and passes on what is verified.
//!
//! A relay is a [`Requester`] of one name: it finds the liars, keeps what it fetched for the next
//! who asks, and gives nothing away that it has not checked. Both ends are behind circuits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::Router;
use crate::ids::{CircuitId, Ed25519Id, StreamId};
use crate::kad::LookupId;
use crate::node::Node;
use crate::node::adverts::Adverts;
use crate::node::io::Event;
use crate::node::origin::Purpose;
use crate::node::timers::Wake;
use crate::ordb::{
    Config, ContentAnswer, ContentWant, FIRST_COUNTERS, Failure, Requester, RequesterEvent,
    SourceFailure, SourceId,
};
use crate::time::Instant;
use crate::torrent::{Infohash, Magnet};
use crate::wire::{
    DbEnd, DbEndReason, DbInfo, DbQuery, DestroyReason, RelayMessage, Roles, Section, Tried,
};

/// Names that are asked on at a time. Who asks for more of them is told BUSY.
const MAX_RELAYS: usize = 64;
/// Whom one name is asked of at a time.
const UPSTREAMS: usize = 4;
/// Own circuits to other ORDBs for one name at a time.
const ONWARD: usize = 2;
/// Other ORDBs that one name is asked of in all.
const MAX_TRIED: usize = 8;
/// How long those who told of a name may take to open before others are asked as well.
const IMPATIENCE: Duration = Duration::from_secs(5);
/// How long a name is kept for holders to come, or to come back, when nobody is left.
const GRACE: Duration = Duration::from_secs(3);

/// How an upstream is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Backward over the circuit over which it told of the name.
    Back(u64),
    /// Over a circuit of our own.
    Own(CircuitId),
}

#[derive(Clone, Copy, Debug)]
struct Upstream {
    way: Way,
    /// Zero until its first OPEN.
    stream: StreamId,
}

/// One name that is asked on.
pub(crate) struct Relay {
    requester: Requester,
    upstreams: BTreeMap<SourceId, Upstream>,
    /// Circuits being built to other ORDBs.
    building: BTreeMap<SourceId, CircuitId>,
    /// Other ORDBs that were asked for it.
    tried: BTreeSet<Ed25519Id>,
    /// Circuits that lied or had nothing.
    avoid: BTreeSet<u64>,
    /// Blocks of sections that were asked and are not here yet.
    waiting: Vec<(Section, u32)>,
    /// ORDBs that Kademlia names, not asked yet.
    providers: VecDeque<Arc<Router>>,
    /// Kademlia is being asked; and whether it was.
    lookup: Option<LookupId>,
    looked_up: bool,
    /// What the host said that it tried, where it did not find the name.
    host_tried: Option<Tried>,
    began: Instant,
    /// Since when nobody is left to ask.
    alone_since: Option<Instant>,
}

/// All that an ORDB keeps for others' questions.
#[derive(Default)]
pub(crate) struct Relays {
    pub(crate) adverts: Adverts,
    relays: BTreeMap<Infohash, Relay>,
    /// Streams that were opened backward, by circuit.
    streams: BTreeMap<(u64, StreamId), (Infohash, SourceId)>,
    /// The last number of a stream opened backward, by circuit.
    numbers: BTreeMap<u64, u16>,
    pub(crate) dirty: BTreeSet<Infohash>,
    /// Names that the host is opening after those who told of them had not all; bounded by the
    /// server's names.
    handed_over: BTreeSet<Infohash>,
}

impl Relays {
    /// Names that are being asked on.
    pub(crate) fn len(&self) -> usize {
        self.relays.len()
    }

    /// The requester looks at the clock.
    pub(crate) fn handle_timeout(&mut self, now: Instant, name: Infohash) {
        if let Some(relay) = self.relays.get_mut(&name) {
            relay.requester.handle_timeout(now);
            self.dirty.insert(name);
        }
    }

    fn next_stream(&mut self, circuit: u64) -> StreamId {
        let last = self.numbers.entry(circuit).or_default();
        // They go round; a circuit lives too short to meet itself.
        *last = (*last + 1) % StreamId::FIRST_BACKWARD;
        StreamId(StreamId::FIRST_BACKWARD | *last)
    }
}

impl Node {
    /// What the content server wants: of those who told of the name, or of the host.
    pub(crate) fn handle_want(&mut self, want: ContentWant) {
        match want {
            ContentWant::Open { name } => {
                let has_host = self.config.roles.contains(Roles::FACILITATOR);
                if has_host && !self.relays.adverts.has(&name) {
                    return self.emit(Event::Content(want));
                }
                self.open_relay(name, None);
            }
            ContentWant::Blocks {
                name,
                section,
                first,
                count,
            } if self.relays.relays.contains_key(&name) => {
                self.relay_blocks(name, section, first, count);
            }
            ContentWant::Cancel {
                name,
                section,
                first,
                count,
            } if self.relays.relays.contains_key(&name) => {
                let blocks = first..first.saturating_add(count.into());
                if let Some(relay) = self.relays.relays.get_mut(&name) {
                    relay
                        .waiting
                        .retain(|(of, block)| *of != section || !blocks.contains(block));
                    if section == Section::CHUNKS {
                        relay.requester.unask_chunks(self.now, blocks);
                    }
                    self.relays.dirty.insert(name);
                }
            }
            ContentWant::Close { name } if self.relays.relays.contains_key(&name) => {
                self.close_relay(name);
            }
            ContentWant::Blocks { name, .. } | ContentWant::Cancel { name, .. }
                if self.relays.handed_over.contains(&name) =>
            {
                // The server wants it again once the host has opened it.
            }
            ContentWant::Close { name } => {
                self.relays.handed_over.remove(&name);
                self.emit(Event::Content(want));
            }
            other => self.emit(Event::Content(other)),
        }
    }

    /// The host answers.
    pub(crate) fn handle_content(&mut self, answer: ContentAnswer) {
        let (ContentAnswer::Opened { name, .. }
        | ContentAnswer::Block { name, .. }
        | ContentAnswer::Failed { name, .. }) = answer;
        if self.relays.relays.contains_key(&name) {
            // It was told that this is no longer asked of it.
            return;
        }
        let host_tried = match answer {
            ContentAnswer::Failed {
                scope: None,
                reason: DbEndReason::NOT_FOUND,
                tried,
                ..
            } => Some(tried.unwrap_or_default()),
            _ => None,
        };
        let was_relayed = match &answer {
            ContentAnswer::Block { .. } | ContentAnswer::Failed { scope: Some(_), .. } => false,
            _ => self.relays.handed_over.remove(&name),
        };
        let others = self.relays.adverts.has(&name) || self.is_joined();
        if host_tried.is_some() && !was_relayed && others {
            // Somebody told of it meanwhile, or told another ORDB.
            return self.open_relay(name, host_tried);
        }
        self.server.handle_answer(self.now, answer);
        self.server_dirty = true;
    }

    /// Nobody else has what is wanted of a name: the host is to find it.
    fn hand_over(&mut self, name: Infohash) {
        self.close_relay(name);
        self.relays.handed_over.insert(name);
        self.emit(Event::Content(ContentWant::Open { name }));
    }

    /// Somebody tells over a circuit what he holds.
    pub(crate) fn handle_info(&mut self, circuit: u64, info: &DbInfo) {
        if !self.config.roles.contains(Roles::ORDB) {
            return;
        }
        let was_known = self.relays.adverts.has(&info.name);
        self.relays.adverts.handle_info(self.now, circuit, info);
        if !was_known && self.relays.adverts.has(&info.name) {
            self.publish_name(info.name.key());
        }
        self.withdraw_names();
        if let Some(relay) = self.relays.relays.get_mut(&info.name) {
            // What it has is more than when it was asked last.
            relay.avoid.remove(&circuit);
            self.relays.dirty.insert(info.name);
        }
    }

    /// Says no longer in Kademlia that this is an ORDB for names that nobody tells of any more.
    pub(crate) fn withdraw_names(&mut self) {
        for name in self.relays.adverts.take_gone() {
            self.unpublish_name(name.key());
        }
    }

    /// A lookup found an ORDB that says that it can be asked for a name.
    pub(crate) fn relay_provider(&mut self, lookup: LookupId, router: Arc<Router>) {
        let own = self.config.identity.as_ref().map(|own| own.ids().ed25519);
        let mut relays = self.relays.relays.iter_mut();
        if let Some((name, relay)) = relays.find(|(_, it)| it.lookup == Some(lookup))
            && own != Some(router.ed25519)
            && !relay.tried.contains(&router.ed25519)
            && relay.providers.len() < MAX_TRIED
        {
            relay.providers.push_back(router);
            self.relays.dirty.insert(*name);
        }
    }

    /// A lookup is over.
    pub(crate) fn relay_looked_up(&mut self, lookup: LookupId) {
        let mut relays = self.relays.relays.iter_mut();
        if let Some((name, relay)) = relays.find(|(_, it)| it.lookup == Some(lookup)) {
            relay.lookup = None;
            self.relays.dirty.insert(*name);
        }
    }

    /// A holder answers on a stream that was opened backward.
    pub(crate) fn handle_held(&mut self, key: u64, stream: StreamId, message: &RelayMessage<'_>) {
        let Some((name, source)) = self.relays.streams.get(&(key, stream)).copied() else {
            return;
        };
        self.relay_message(name, source, stream, message);
    }

    /// An upstream answers.
    pub(crate) fn relay_message(
        &mut self,
        name: Infohash,
        source: SourceId,
        stream: StreamId,
        message: &RelayMessage<'_>,
    ) {
        if let Some(relay) = self.relays.relays.get_mut(&name)
            && relay
                .upstreams
                .get(&source)
                .is_some_and(|known| known.stream == stream)
        {
            relay.requester.handle_message(self.now, source, message);
            self.relays.dirty.insert(name);
        }
    }

    /// A circuit of another's is gone: with it who told over it, and what he was asked.
    pub(crate) fn relays_circuit_gone(&mut self, circuit: u64) {
        self.relays.adverts.handle_circuit_gone(circuit);
        self.withdraw_names();
        self.relays.numbers.remove(&circuit);
        let back = Way::Back(circuit);
        let mut lost = Vec::new();
        for (name, relay) in &self.relays.relays {
            let of_it = relay.upstreams.iter().filter(|(_, it)| it.way == back);
            lost.extend(of_it.map(|(source, _)| (*name, *source)));
        }
        for (name, source) in lost {
            self.relay_source_lost(name, source);
        }
    }

    /// A circuit of our own to another ORDB stands.
    pub(crate) fn relay_circuit_open(&mut self, name: Infohash, source: SourceId, id: CircuitId) {
        let router = self
            .circuits
            .get(&id)
            .and_then(|own| Some(own.path().last()?.ed25519));
        let (Some(relay), Some(router)) = (self.relays.relays.get_mut(&name), router) else {
            return self.drop_own(id, DestroyReason::FINISHED);
        };
        relay.building.remove(&source);
        relay.upstreams.insert(
            source,
            Upstream {
                way: Way::Own(id),
                stream: StreamId(0),
            },
        );
        relay.requester.handle_source(self.now, source, router);
        self.relays.dirty.insert(name);
    }

    /// An upstream's circuit is gone.
    pub(crate) fn relay_source_lost(&mut self, name: Infohash, source: SourceId) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        relay.building.remove(&source);
        if let Some(upstream) = relay.upstreams.remove(&source) {
            relay.requester.handle_source_lost(self.now, source);
            if let Way::Back(circuit) = upstream.way {
                self.relays.streams.remove(&(circuit, upstream.stream));
            }
        }
        self.relays.dirty.insert(name);
    }

    fn open_relay(&mut self, name: Infohash, host_tried: Option<Tried>) {
        if self.relays.relays.len() >= MAX_RELAYS {
            let answer = ContentAnswer::Failed {
                name,
                scope: None,
                reason: DbEndReason::BUSY,
                tried: None,
            };
            self.server.handle_answer(self.now, answer);
            self.server_dirty = true;
            return;
        }
        let limits = &self.config.limits;
        let store = limits.relay_bytes as u64;
        let config = Config {
            max_metadata_bytes: u32::try_from(limits.metadata_bytes).unwrap_or(u32::MAX),
            max_store_bytes: store,
            max_unverified_bytes: store,
            open_timeout: limits.find_timeout,
            // The node says when it is over: it knows whom else to ask.
            sources_wanted: usize::MAX,
            patience: Duration::MAX,
            relays: true,
            ..Config::default()
        };
        let relay = Relay {
            requester: Requester::new(self.now, Magnet::new(name), config),
            upstreams: BTreeMap::new(),
            building: BTreeMap::new(),
            tried: BTreeSet::new(),
            avoid: BTreeSet::new(),
            waiting: Vec::new(),
            providers: VecDeque::new(),
            lookup: None,
            looked_up: false,
            host_tried,
            began: self.now,
            alone_since: None,
        };
        self.relays.relays.insert(name, relay);
        self.share_relay_bytes();
        self.relays.dirty.insert(name);
    }

    /// The names that are asked on share what may be kept of them.
    fn share_relay_bytes(&mut self) {
        let count = self.relays.relays.len().max(1) as u64;
        let each = self.config.limits.relay_bytes as u64 / count;
        for relay in self.relays.relays.values_mut() {
            // Below two pieces nothing would ever be whole.
            let piece = relay.requester.metainfo().map(|it| it.piece_length());
            let least = piece.map_or(0, |piece| u64::from(piece).saturating_mul(2));
            relay.requester.set_store_cap(each.max(least));
        }
    }

    fn close_relay(&mut self, name: Infohash) {
        let Some(relay) = self.relays.relays.remove(&name) else {
            return;
        };
        self.timers.clear(Wake::Relay(name));
        self.relays.dirty.remove(&name);
        for (_, upstream) in relay.upstreams {
            self.end_upstream(upstream, DbEndReason::CANCELLED);
        }
        for circuit in relay.building.into_values() {
            self.drop_own(circuit, DestroyReason::FINISHED);
        }
        self.share_relay_bytes();
    }

    /// Ends what an upstream was asked, from our side.
    fn end_upstream(&mut self, upstream: Upstream, reason: DbEndReason) {
        match upstream.way {
            Way::Own(circuit) => self.drop_own(circuit, DestroyReason::FINISHED),
            Way::Back(circuit) => {
                let known = self.relays.streams.remove(&(circuit, upstream.stream));
                if known.is_some() {
                    let end = RelayMessage::DbEnd(DbEnd {
                        reason,
                        scope: None,
                        tried: None,
                    });
                    self.send_back(circuit, Some(upstream.stream), &end);
                }
            }
        }
    }

    /// Blocks are wanted of a name that is asked on.
    fn relay_blocks(&mut self, name: Infohash, section: Section, first: u32, count: u16) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let blocks = first..first.saturating_add(count.into());
        let end = relay.requester.metainfo().map_or(0, |it| it.chunk_count());
        match section {
            Section::CHUNKS if blocks.end <= end => {
                relay.requester.ask_chunks(self.now, blocks);
            }
            Section::PIECE_LAYERS | Section::LEAF_HASHES => {
                // Asked within the server's limits, which bound this too.
                relay.waiting.extend(blocks.map(|block| (section, block)));
            }
            _ => {
                let failed = ContentAnswer::Failed {
                    name,
                    scope: Some((section, first, count)),
                    reason: DbEndReason::PROTOCOL,
                    tried: None,
                };
                self.server.handle_answer(self.now, failed);
                self.server_dirty = true;
            }
        }
        self.relays.dirty.insert(name);
    }

    /// Does what a relay wants done: tells, sends, finds more to ask.
    pub(crate) fn pump_relay(&mut self, name: Infohash) {
        loop {
            let Some(relay) = self.relays.relays.get_mut(&name) else {
                return;
            };
            if let Some(event) = relay.requester.poll_event() {
                self.handle_relay_event(name, event);
                continue;
            }
            if let Some((block, bytes)) = relay.requester.poll_asked() {
                let answer = ContentAnswer::Block {
                    name,
                    section: Section::CHUNKS,
                    block,
                    bytes,
                };
                self.server.handle_answer(self.now, answer);
                self.server_dirty = true;
                continue;
            }
            if let Some((source, message)) = relay.requester.poll_transmit() {
                self.send_upstream(name, source, &message);
                continue;
            }
            if !self.find_upstream(name) {
                break;
            }
        }
        self.answer_sections(name);
        self.settle_relay(name);
        if let Some(relay) = self.relays.relays.get_mut(&name) {
            let (mut at, _) = relay.requester.poll_timeout();
            if let Some(since) = relay.alone_since {
                at = at.min(since + GRACE);
            }
            if relay.requester.metainfo().is_none() && self.now < relay.began + IMPATIENCE {
                at = at.min(relay.began + IMPATIENCE);
            }
            self.timers.set(Wake::Relay(name), at);
        }
    }

    fn send_upstream(&mut self, name: Infohash, id: SourceId, message: &RelayMessage<'static>) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let Some(mut upstream) = relay.upstreams.get(&id).copied() else {
            return;
        };
        // Each OPEN begins a stream of its own; what still comes on the one before is old.
        let opens = matches!(message, RelayMessage::DbQuery(DbQuery::Open { .. }));
        match upstream.way {
            Way::Back(circuit) if opens => {
                self.relays.streams.remove(&(circuit, upstream.stream));
                upstream.stream = self.relays.next_stream(circuit);
                let key = (circuit, upstream.stream);
                self.relays.streams.insert(key, (name, id));
            }
            Way::Own(circuit) if opens => {
                if let Some(own) = self.circuits.get_mut(&circuit) {
                    upstream.stream = own.allocate_stream();
                }
            }
            Way::Back(_) | Way::Own(_) => {}
        }
        if let Some(relay) = self.relays.relays.get_mut(&name) {
            relay.upstreams.insert(id, upstream);
        }
        match upstream.way {
            Way::Back(circuit) => self.send_back(circuit, Some(upstream.stream), message),
            Way::Own(circuit) => self.send_own(circuit, Some(upstream.stream), message),
        }
    }

    fn handle_relay_event(&mut self, name: Infohash, event: RequesterEvent) {
        match event {
            RequesterEvent::Metadata(metainfo) => {
                let metadata = metainfo.info().clone();
                let answer = ContentAnswer::Opened { name, metadata };
                self.server.handle_answer(self.now, answer);
                self.server_dirty = true;
                self.share_relay_bytes();
            }
            RequesterEvent::SourceDropped { source, .. } => {
                self.drop_upstream(name, source, DbEndReason::PROTOCOL, true);
            }
            RequesterEvent::SourceFailed { source, why, .. } => {
                // One that is only busy or slow may be asked again.
                let for_good = !matches!(why, SourceFailure::Stalled | SourceFailure::TooMany);
                self.drop_upstream(name, source, DbEndReason::CANCELLED, for_good);
            }
            RequesterEvent::SourceStalled { source, .. } => {
                self.drop_upstream(name, source, DbEndReason::CANCELLED, false);
            }
            RequesterEvent::Failed(failure) if failure.is_final() => {
                let reason = match failure {
                    Failure::PieceTooLarge { .. } => DbEndReason::TOO_LARGE,
                    _ => DbEndReason::UNAVAILABLE,
                };
                self.fail_relay(name, reason);
            }
            // Whether others can be asked is found out here.
            RequesterEvent::Failed(_)
            | RequesterEvent::Verified { .. }
            | RequesterEvent::Readable(_) => {}
        }
    }

    /// Lets an upstream go; `for_good` if it is not to be asked for this name again.
    fn drop_upstream(
        &mut self,
        name: Infohash,
        source: SourceId,
        reason: DbEndReason,
        for_good: bool,
    ) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let Some(upstream) = relay.upstreams.remove(&source) else {
            return;
        };
        if let (Way::Back(circuit), true) = (upstream.way, for_good) {
            relay.avoid.insert(circuit);
            self.relays.adverts.remove(circuit, &name);
            self.withdraw_names();
        }
        self.end_upstream(upstream, reason);
        // A stalled one is still the requester's.
        if let Some(relay) = self.relays.relays.get_mut(&name) {
            relay.requester.handle_source_lost(self.now, source);
        }
    }

    /// Asks one more, if more could help and there is anybody. Whether one was asked.
    fn find_upstream(&mut self, name: Infohash) -> bool {
        let Some(relay) = self.relays.relays.get(&name) else {
            return false;
        };
        let lacks = relay.requester.has_lacking();
        let asked = relay.upstreams.len() + relay.building.len();
        if asked < UPSTREAMS || lacks {
            // Those who are asked by nobody but the one whose circuit it is cannot help him.
            let askers = self.server.circuits_of(&name);
            let in_use = |circuit| {
                let mut ways = relay.upstreams.values().map(|upstream| upstream.way);
                ways.any(|way| way == Way::Back(circuit))
            };
            let fit = |circuit| {
                !in_use(circuit)
                    && !relay.avoid.contains(&circuit)
                    && askers.iter().any(|asker| *asker != circuit)
            };
            let room = relay.upstreams.len() < crate::ordb::MAX_SOURCES;
            if let Some(advert) = self
                .relays
                .adverts
                .take(self.now, &name, fit)
                .filter(|_| room)
            {
                self.ask_back(name, advert.circuit);
                return true;
            }
        }
        // Nobody told of it who has it all: others are asked.
        let late = self.now.saturating_since(relay.began) >= IMPATIENCE;
        let is_open = relay.requester.metainfo().is_some();
        let needs = lacks || relay.upstreams.is_empty() || (late && !is_open);
        needs && relay.building.len() < ONWARD && self.ask_onward(name)
    }

    fn ask_back(&mut self, name: Infohash, circuit: u64) {
        let source = SourceId(self.next_id());
        // A holder asks nobody: any counter will do, but what an ORDB was told stays so.
        let any = u8::try_from(self.rng.next_u32() % u32::from(FIRST_COUNTERS)).unwrap_or(0);
        let counter = self.server.level(&name).unwrap_or(any);
        // Who it is nobody knows: its circuit stands for it.
        let mut who = [0; 32];
        if let Some(place) = who.last_chunk_mut() {
            *place = circuit.to_be_bytes();
        }
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        relay.alone_since = None;
        relay.upstreams.insert(
            source,
            Upstream {
                way: Way::Back(circuit),
                stream: StreamId(0),
            },
        );
        relay.requester.set_counter(counter);
        let now = self.now;
        relay.requester.handle_source(now, source, Ed25519Id(who));
    }

    /// Builds a circuit to another ORDB that may have the name or find it.
    fn ask_onward(&mut self, name: Infohash) -> bool {
        let Some(relay) = self.relays.relays.get(&name) else {
            return false;
        };
        if relay.tried.len() >= MAX_TRIED {
            return false;
        }
        let tried = relay.tried.clone();
        if !relay.looked_up {
            let lookup = self.find_providers(name.key());
            if let Some(relay) = self.relays.relays.get_mut(&name) {
                (relay.looked_up, relay.lookup) = (true, lookup);
            }
        }
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return false;
        };
        let provider = relay.providers.pop_front();
        if provider.is_none() && relay.lookup.is_some() {
            // Facilitators come last.
            return false;
        }
        let own = self.config.identity.as_ref().map(|own| own.ids().ed25519);
        // A facilitator finds by its swarms what others would ask facilitators for.
        if provider.is_none() && self.config.roles.contains(Roles::FACILITATOR) {
            return false;
        }
        let facilitator = Roles::ORDB.with(Roles::FACILITATOR);
        let last = self
            .directory
            .trusted(facilitator, self.now)
            .find(|router| !tried.contains(&router.ed25519) && own != Some(router.ed25519));
        let Some(router) = provider.or_else(|| last.cloned()) else {
            return false;
        };
        let Some(counter) = self.server.raise(&name) else {
            return false;
        };
        let source = SourceId(self.next_id());
        let id = router.ed25519;
        let built = self.build_to(&router, Purpose::Relay(name, source));
        if let Some(relay) = self.relays.relays.get_mut(&name) {
            relay.tried.insert(id);
            relay.requester.set_counter(counter);
            if let Some(circuit) = built {
                relay.building.insert(source, circuit);
                relay.alone_since = None;
            }
        }
        true
    }

    /// Sections other than the content, once they are here.
    fn answer_sections(&mut self, name: Infohash) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let waiting = std::mem::take(&mut relay.waiting);
        let mut answers = Vec::new();
        for (section, block) in waiting {
            match relay.requester.block(section, block) {
                Some(bytes) => answers.push(ContentAnswer::Block {
                    name,
                    section,
                    block,
                    bytes,
                }),
                None if relay.requester.is_fetching(section) => {
                    relay.waiting.push((section, block));
                }
                None => answers.push(ContentAnswer::Failed {
                    name,
                    scope: Some((section, block, 1)),
                    reason: DbEndReason::UNAVAILABLE,
                    tried: None,
                }),
            }
        }
        for answer in answers {
            self.server.handle_answer(self.now, answer);
            self.server_dirty = true;
        }
    }

    /// Nobody is left to ask: those who wait are told, once a moment has passed in which somebody
    /// might have come.
    fn settle_relay(&mut self, name: Infohash) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let is_facilitator = self.config.roles.contains(Roles::FACILITATOR);
        let has_host = is_facilitator && relay.host_tried.is_none();
        let is_asking = !relay.building.is_empty() || relay.lookup.is_some();
        if relay.requester.has_lacking() && !is_asking {
            if has_host {
                return self.hand_over(name);
            }
            for chunks in relay.requester.take_lacking() {
                let mut first = chunks.start;
                while first < chunks.end {
                    let count = u16::try_from(chunks.end - first).unwrap_or(u16::MAX);
                    let answer = ContentAnswer::Failed {
                        name,
                        scope: Some((Section::CHUNKS, first, count)),
                        reason: DbEndReason::UNAVAILABLE,
                        tried: None,
                    };
                    self.server.handle_answer(self.now, answer);
                    first = first.saturating_add(count.into());
                }
                self.server_dirty = true;
            }
        }
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let is_asking = !relay.building.is_empty() || relay.lookup.is_some();
        if is_asking || !relay.upstreams.is_empty() {
            relay.alone_since = None;
            return;
        }
        let since = *relay.alone_since.get_or_insert(self.now);
        if relay.host_tried.is_none() && self.now.saturating_since(since) < GRACE {
            return;
        }
        let is_idle = relay.requester.asked_chunks().is_empty() && relay.waiting.is_empty();
        if relay.requester.metainfo().is_some() {
            if is_idle {
                // What is kept may be all that is wanted; it is asked on when it is not.
                relay.alone_since = Some(self.now);
                return;
            }
            if has_host {
                return self.hand_over(name);
            }
            return self.fail_relay(name, DbEndReason::GONE);
        }
        if has_host {
            return self.hand_over(name);
        }
        self.fail_relay(name, DbEndReason::NOT_FOUND);
    }

    fn fail_relay(&mut self, name: Infohash, reason: DbEndReason) {
        let tried = self.relays.relays.get(&name).map(|relay| Tried {
            seconds: u16::try_from(self.now.saturating_since(relay.began).as_secs())
                .unwrap_or(u16::MAX),
            peers: u32::try_from(relay.tried.len() + relay.avoid.len()).unwrap_or(u32::MAX),
            ..relay.host_tried.unwrap_or_default()
        });
        self.close_relay(name);
        let answer = ContentAnswer::Failed {
            name,
            scope: None,
            reason,
            tried,
        };
        self.server.handle_answer(self.now, answer);
        self.server_dirty = true;
    }
}
