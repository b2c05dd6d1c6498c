//! Kademlia in a node: what is told is verified here, what is asked goes over the mesh, names are
//! published and looked up, and random walks feed the directory.
//!
//! Who shows no identity is no node of Kademlia and takes no part in it.

use crate::order::set_of;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::Router;
use crate::ids::{Key, RsaId};
use crate::kad::{AskId, Kad, KadAnswer, KadConfig, KadEvent, KadQuestion, Known, LookupId};
use crate::node::Node;
use crate::node::io::{Config, Event};
use crate::node::mesh::{ASK_TIMEOUT, AskPurpose};
use crate::node::signing::{DESCRIPTOR_LIFE, DescriptorFor};
use crate::node::timers::Wake;
use crate::time::Instant;
use crate::wire::{
    Answer, AskFailure, Descriptor, DescriptorError, Question, Roles, VerifiedDescriptor,
};

/// Names that this node publishes. Who shares content fills it; one more is not published.
const MAX_NAMES: usize = crate::kad::MAX_PUBLISHED;
/// How soon a record that was not signed is tried again.
const SIGN_AGAIN: Duration = Duration::from_secs(15);
/// Links up to which a tab dials whom it asks, instead of having its neighbours pass the question
/// on: a browser affords tens of connections.
const DIALLING_LINKS: usize = 16;

/// A node's part in Kademlia.
#[derive(Debug)]
pub(crate) struct Kademlia {
    kad: Kad,
    /// What is published, or is to be as soon as it is signed.
    names: BTreeSet<Key>,
    /// When records that were not signed are tried again.
    sign_at: Instant,
}

impl Kademlia {
    /// Nothing for who is nobody.
    pub(crate) fn new<R: Rng>(config: &Config, rng: &mut R) -> Option<Self> {
        let own = config.identity.as_ref()?.ids().rsa;
        let kad_config = KadConfig {
            unix_time: config.unix_time,
            // The mesh gives up first, and says why.
            ask_timeout: ASK_TIMEOUT + Duration::from_secs(1),
            // A record lives as long as a descriptor: one publication may fail.
            publish_every: DESCRIPTOR_LIFE / 2,
            ..KadConfig::default()
        };
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Some(Kademlia {
            kad: Kad::new(own, kad_config, seed),
            names: BTreeSet::new(),
            sign_at: Instant::FAR_FUTURE,
        })
    }
}

impl Node {
    /// The buckets of Kademlia's table that are not empty, and how many contacts are in each.
    pub fn buckets(&self) -> Vec<(u8, usize)> {
        let kademlia = self.kademlia.as_ref();
        kademlia.map_or_else(Vec::new, |kademlia| kademlia.kad.buckets().collect())
    }

    /// Whether this node knows those near it.
    pub fn is_joined(&self) -> bool {
        let kademlia = self.kademlia.as_ref();
        kademlia.is_some_and(|kademlia| kademlia.kad.is_joined())
    }

    /// How many records of others it keeps.
    pub fn records(&self) -> usize {
        let kademlia = self.kademlia.as_ref();
        kademlia.map_or(0, |kademlia| kademlia.kad.records())
    }

    /// Looks for the nodes nearest to `key`; [`Event::LookedUp`] follows.
    pub fn find_node(&mut self, now: Instant, key: Key) -> Option<LookupId> {
        self.now = now;
        let lookup = self.kademlia.as_mut()?.kad.find_node(now, key);
        self.kademlia_dirty = true;
        self.settle();
        Some(lookup)
    }

    /// Says in Kademlia that this node is an ORDB for `name`, until [`Node::withdraw`].
    pub fn provide(&mut self, now: Instant, name: Key) {
        self.now = now;
        self.publish_name(name);
        self.settle();
    }

    /// Says it no more.
    pub fn withdraw(&mut self, now: Instant, name: Key) {
        self.now = now;
        self.unpublish_name(name);
        self.settle();
    }

    /// Looks for ORDBs for `name`: an [`Event::Provider`] for each, then [`Event::LookedUp`].
    pub fn look_up(&mut self, now: Instant, name: Key) -> Option<LookupId> {
        self.now = now;
        let lookup = self.find_providers(name);
        self.settle();
        lookup
    }

    /// [`Node::provide`] for the node's own parts.
    pub(crate) fn publish_name(&mut self, name: Key) {
        let Some(kademlia) = &mut self.kademlia else {
            return;
        };
        if kademlia.names.len() < MAX_NAMES && kademlia.names.insert(name) {
            kademlia.sign_at = self.now + SIGN_AGAIN;
            self.kademlia_dirty = true;
            self.sign_descriptor(Some(name), DescriptorFor::Provided(name));
        }
    }

    /// [`Node::withdraw`] for the node's own parts.
    pub(crate) fn unpublish_name(&mut self, name: Key) {
        if let Some(kademlia) = &mut self.kademlia {
            kademlia.names.remove(&name);
            kademlia.kad.unpublish(self.now, name);
        }
    }

    /// [`Node::look_up`] for the node's own parts: [`Node::provider_found`] and
    /// [`Node::providers_looked_up`] go on with it. Nothing if this node is nobody.
    pub(crate) fn find_providers(&mut self, name: Key) -> Option<LookupId> {
        let lookup = self.kademlia.as_mut()?.kad.find_value(self.now, name);
        self.kademlia_dirty = true;
        Some(lookup)
    }

    /// A lookup found an ORDB for the name that it looks for.
    fn provider_found(&mut self, lookup: LookupId, record: &Known) {
        self.emit(Event::Provider {
            lookup,
            rsa: record.rsa_id,
        });
        // It may have moved since it signed the record.
        let kademlia = self.kademlia.as_ref();
        let known = kademlia
            .and_then(|kademlia| kademlia.kad.known(record.rsa_id))
            .filter(|known| known.ed25519 == record.ed25519 && known.expiry > record.expiry);
        let router = Arc::new(Router::from(known.unwrap_or(record)));
        self.relay_provider(lookup, router);
    }

    /// A lookup of a name is over.
    fn providers_looked_up(&mut self, lookup: LookupId, providers: usize) {
        tracing::debug!(providers, "a name was looked up");
        self.relay_looked_up(lookup);
    }

    /// A record of this node is signed, or will not be for now.
    pub(crate) fn record_signed(&mut self, name: Key, record: Option<Descriptor>) {
        let verified = record.and_then(|record| record.verify(self.unix_now()).ok());
        let Some(kademlia) = &mut self.kademlia else {
            return;
        };
        // It may have been withdrawn meanwhile.
        if !kademlia.names.contains(&name) {
            return;
        }
        match verified {
            Some(record) => {
                kademlia.kad.publish(self.now, record);
            }
            None => kademlia.sign_at = self.now + SIGN_AGAIN,
        }
        self.kademlia_dirty = true;
    }

    /// This node's descriptor is signed anew.
    pub(crate) fn kademlia_described(&mut self, own: &Descriptor) {
        let Ok(verified) = own.verify(self.unix_now()) else {
            return;
        };
        if let Some(kademlia) = &mut self.kademlia {
            let of_use = !verified.addresses.is_empty() || !verified.introducers.is_empty();
            // Who is reached by nobody is not to be told of.
            let described = of_use.then_some(verified);
            kademlia.kad.set_described(self.now, described);
            self.kademlia_dirty = true;
        }
    }

    /// Hops are few: the next random walk begins no later than `at`. Whether this node walks.
    pub(crate) fn walk_by(&mut self, at: Instant) -> bool {
        let Some(kademlia) = &mut self.kademlia else {
            return false;
        };
        kademlia.kad.walk_by(at);
        self.kademlia_dirty = true;
        true
    }

    /// A router may be asked: a neighbour if there is no `teller`, else one whom `teller` told of.
    /// Random walks begin with those that are bridges of ours, or that one of these introduced.
    pub(crate) fn kademlia_contact(
        &mut self,
        known: &VerifiedDescriptor,
        teller: Option<RsaId>,
        introduced: bool,
    ) {
        if let Some(kademlia) = &mut self.kademlia {
            let (now, known) = (self.now, known.clone());
            match introduced {
                true => kademlia.kad.handle_introduced(now, known, teller),
                false => kademlia.kad.handle_contact(now, known, teller),
            }
            self.kademlia_dirty = true;
        }
    }

    /// The last link to a neighbour is gone.
    pub(crate) fn kademlia_unlinked(&mut self, rsa: RsaId) {
        if let Some(kademlia) = &mut self.kademlia {
            kademlia.kad.handle_unlinked(self.now, rsa);
            self.kademlia_dirty = true;
        }
    }

    /// A question of Kademlia's came over `from`, the neighbour that asks it or passed it on.
    pub(crate) fn kademlia_question(
        &mut self,
        from: Option<RsaId>,
        question: &Question,
    ) -> Vec<Answer> {
        let refused = || vec![Answer::Failed(AskFailure::REFUSED)];
        let question = match question {
            Question::FindNode(key) => KadQuestion::FindNode(*key),
            Question::FindValue(key) => KadQuestion::FindValue(*key),
            Question::Store(record) => match self.verify_told(record) {
                Ok(record) => KadQuestion::Store(record),
                Err(DescriptorError::Expired) => return vec![Answer::Stored(false)],
                Err(_) => return vec![Answer::Failed(AskFailure::PROTOCOL)],
            },
            Question::Ping(_) | Question::Introduce(_) => return refused(),
        };
        let Some(kademlia) = &mut self.kademlia else {
            return refused();
        };
        let answers = kademlia.kad.handle_question(self.now, from, &question);
        self.kademlia_dirty = true;
        let boxed = |known: Known| Box::new(known.descriptor().clone());
        answers
            .into_iter()
            .filter_map(|answer| match answer {
                KadAnswer::Pong(known) => Some(Answer::Pong(boxed(known))),
                KadAnswer::Node(known) => Some(Answer::Node(boxed(known))),
                KadAnswer::Value(known) => Some(Answer::Value(boxed(known))),
                KadAnswer::Stored(kept) => Some(Answer::Stored(kept)),
                KadAnswer::Stale | KadAnswer::Invalid => None,
            })
            .collect()
    }

    /// A question of Kademlia's is answered, or a part of it.
    pub(crate) fn kademlia_answered(&mut self, ask: AskId, remaining: u8, answer: &Answer) {
        let told = |node: &Self, descriptor: &Descriptor, make: fn(Known) -> KadAnswer| match node
            .verify_told(descriptor)
        {
            Ok(known) => make(known),
            Err(DescriptorError::Expired) => KadAnswer::Stale,
            Err(_) => KadAnswer::Invalid,
        };
        let answer = match answer {
            Answer::Pong(descriptor) => told(self, descriptor, KadAnswer::Pong),
            Answer::Node(descriptor) => told(self, descriptor, KadAnswer::Node),
            Answer::Value(descriptor) => told(self, descriptor, KadAnswer::Value),
            Answer::Stored(kept) => KadAnswer::Stored(*kept),
            Answer::Introduced(_) | Answer::Failed(_) => KadAnswer::Invalid,
        };
        if let Some(kademlia) = &mut self.kademlia {
            kademlia.kad.handle_answer(self.now, ask, remaining, answer);
            self.kademlia_dirty = true;
        }
    }

    /// A question of Kademlia's will not be answered.
    pub(crate) fn kademlia_unanswered(&mut self, ask: AskId, failure: AskFailure) {
        if let Some(kademlia) = &mut self.kademlia {
            kademlia.kad.handle_ask_failed(self.now, ask, failure);
            self.kademlia_dirty = true;
        }
    }

    /// Checks what somebody told; what is known already was checked and is not held twice.
    pub(crate) fn verify_told(&self, told: &Descriptor) -> Result<Known, DescriptorError> {
        let unix_now = self.unix_now();
        let kademlia = self.kademlia.as_ref();
        let contact = kademlia.and_then(|kademlia| kademlia.kad.known(told.unverified().rsa_id));
        let router = || self.directory.said(&told.unverified().ed25519);
        let same = |known: &&Known| known.descriptor() == told && known.expiry > unix_now;
        match contact.filter(same).or_else(|| router().filter(same)) {
            Some(known) => Ok(known.clone()),
            None => told.verify(unix_now),
        }
    }

    /// The router of this ID, if it says where it is: one of the directory, or a contact.
    pub(crate) fn dialable(&self, rsa: &RsaId) -> Option<Arc<Router>> {
        if let Some(router) = self.directory.dialable(rsa) {
            return Some(router);
        }
        let affords = self.config.transports.tls || self.links.len() < DIALLING_LINKS;
        let known = self.kademlia.as_ref()?.kad.known(*rsa)?;
        (affords && !known.addresses.is_empty()).then(|| Arc::new(Router::from(known)))
    }

    /// The time has come for Kademlia to look at the clock.
    pub(crate) fn wake_kademlia(&mut self) {
        let now = self.now;
        let Some(kademlia) = &mut self.kademlia else {
            return;
        };
        kademlia.kad.handle_timeout(now);
        self.kademlia_dirty = true;
        let unsigned: Vec<Key> = match kademlia.sign_at <= now {
            true => kademlia.unsigned(),
            false => Vec::new(),
        };
        if !unsigned.is_empty() {
            kademlia.sign_at = now + SIGN_AGAIN;
        }
        for name in unsigned {
            self.sign_descriptor(Some(name), DescriptorFor::Provided(name));
        }
    }

    /// Takes out of Kademlia what it wants asked and what it tells.
    pub(crate) fn pump_kademlia(&mut self) {
        self.kademlia_dirty = false;
        while let Some(ask) = self.kademlia.as_mut().and_then(|k| k.kad.poll_ask()) {
            let boxed = |known: &Known| Box::new(known.descriptor().clone());
            let question = match &ask.question {
                KadQuestion::Ping(own) => Question::Ping(own.as_ref().map(boxed)),
                KadQuestion::FindNode(key) => Question::FindNode(*key),
                KadQuestion::FindValue(key) => Question::FindValue(*key),
                KadQuestion::Store(record) => Question::Store(boxed(record)),
            };
            let purpose = AskPurpose::Kademlia(ask.id);
            if let Err(failure) = self.ask(ask.to.rsa_id, &ask.hints, question, purpose) {
                self.kademlia_unanswered(ask.id, failure);
            }
        }
        while let Some(event) = self.kademlia.as_mut().and_then(|k| k.kad.poll_event()) {
            self.kademlia_event(event);
        }
        if let Some(kademlia) = &self.kademlia {
            let (mut at, _) = kademlia.kad.poll_timeout();
            if !kademlia.unsigned().is_empty() {
                at = at.min(kademlia.sign_at);
            }
            match at {
                Instant::FAR_FUTURE => self.timers.clear(Wake::Kademlia),
                at => self.timers.set(Wake::Kademlia, at),
            }
        }
    }

    fn kademlia_event(&mut self, event: KadEvent) {
        match event {
            KadEvent::Joined => tracing::info!("joined the other nodes"),
            KadEvent::Found { lookup, record } => self.provider_found(lookup, &record),
            KadEvent::Finished {
                lookup,
                closest,
                records,
                rounds,
                asks,
            } => {
                self.providers_looked_up(lookup, records);
                self.emit(Event::LookedUp {
                    lookup,
                    closest: closest.iter().map(|known| known.rsa_id).collect(),
                    providers: records,
                    rounds,
                    asks,
                });
            }
            KadEvent::Renew(name) => {
                self.relays.adverts.expire(self.now);
                self.adverts_changed();
                self.sign_descriptor(Some(name), DescriptorFor::Provided(name));
            }
            KadEvent::Published { kept, .. } => tracing::debug!(kept, "a name is published"),
            KadEvent::Sampled(known) => {
                // Only who builds circuits needs hops; and a bridge of ours would be two hops of
                // one circuit.
                let fit = known.roles.contains(Roles::ROUTER) && !self.is_bridge(&known.ed25519);
                if self.config.asks && fit {
                    self.learn_router(&known);
                }
            }
        }
    }
}

impl Kademlia {
    /// The names of which no record could be published yet.
    fn unsigned(&self) -> Vec<Key> {
        // Nearly always all are.
        if self.kad.published().count() == self.names.len() {
            return Vec::new();
        }
        let published = set_of(self.kad.published());
        self.names.difference(&published).copied().collect()
    }
}
