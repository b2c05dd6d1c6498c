//! Whom a relay asks: those who told of the name, backward over their circuits, then other ORDBs
//! over circuits of its own.

use std::sync::Arc;

use rand_core::Rng;

use crate::circuit::client::Router;
use crate::ids::{CircuitId, Ed25519Id, StreamId};
use crate::kad::LookupId;
use crate::node::Node;
use crate::node::origin::Purpose;
use crate::node::relaying::{IMPATIENCE, RETURN, Relays};
use crate::ordb::{FIRST_COUNTERS, SourceId};
use crate::torrent::Infohash;
use crate::wire::{DbEnd, DbEndReason, DbQuery, DestroyReason, RelayMessage, Roles};

/// Whom one name is asked of at a time.
const UPSTREAMS: usize = 4;
/// Own circuits to other ORDBs for one name at a time.
const ONWARD: usize = 2;
/// Other ORDBs that one name is asked of in all.
const MAX_TRIED: usize = 8;

/// How an upstream is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Backward over the circuit over which it told of the name.
    Back(u64),
    /// Over a circuit of our own.
    Own(CircuitId),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Upstream {
    pub(super) way: Way,
    /// Zero until its first OPEN.
    pub(super) stream: StreamId,
}

impl Relays {
    fn next_stream(&mut self, circuit: u64) -> StreamId {
        let last = self.numbers.entry(circuit).or_default();
        // They go round; a circuit lives too short to meet itself.
        *last = (*last + 1) % StreamId::FIRST_BACKWARD;
        StreamId(StreamId::FIRST_BACKWARD | *last)
    }
}

impl Node {
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
        self.adverts_changed();
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
                relay.returns_until = self.now + RETURN;
                self.relays.streams.remove(&(circuit, upstream.stream));
            }
        }
        self.relays.dirty.insert(name);
    }

    pub(super) fn send_upstream(
        &mut self,
        name: Infohash,
        id: SourceId,
        message: &RelayMessage<'static>,
    ) {
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

    /// Lets an upstream go; `for_good` if it is not to be asked for this name again.
    pub(super) fn drop_upstream(
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
            self.adverts_changed();
        }
        self.end_upstream(upstream, reason);
        // A stalled one is still the requester's.
        if let Some(relay) = self.relays.relays.get_mut(&name) {
            relay.requester.handle_source_lost(self.now, source);
        }
    }

    /// Ends what an upstream was asked, from our side.
    pub(super) fn end_upstream(&mut self, upstream: Upstream, reason: DbEndReason) {
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

    /// Asks one more, if more could help and there is anybody. Whether one was asked.
    pub(super) fn find_upstream(&mut self, name: Infohash) -> bool {
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
        let (tried, looked_up) = (relay.tried.clone(), relay.looked_up);
        let is_late = self.now.saturating_since(relay.began) >= IMPATIENCE;
        let waits = !relay.building.is_empty() && !is_late;
        // Who said that it can be asked comes first; Kademlia is asked when nobody is left who did.
        let heard = self.heard_provider(&name, &tried);
        if heard.is_none() && !looked_up && waits {
            return false;
        }
        if heard.is_none() && !looked_up {
            let lookup = self.find_providers(name.key());
            self.counters.names_looked_up += u64::from(lookup.is_some());
            if let Some(relay) = self.relays.relays.get_mut(&name) {
                (relay.looked_up, relay.lookup) = (true, lookup);
            }
        }
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return false;
        };
        let mut provider = heard.or_else(|| relay.providers.pop_front());
        // Both may name the same.
        while provider
            .as_ref()
            .is_some_and(|it| tried.contains(&it.ed25519))
        {
            provider = relay.providers.pop_front();
        }
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
        let Some(router) = provider.or_else(|| last.map(|said| Arc::new(Router::from(said))))
        else {
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
}
