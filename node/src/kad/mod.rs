//! Kademlia: who is where among 2^160 places, and who is an ORDB for which name.
//!
//! A node's place is its [`RsaId`], a name's is its [`Key`]. [`table`] holds the contacts that can be
//! asked, directly or by introduction; they are no links. [`lookup`] finds who is nearest to a key by
//! asking ever nearer nodes; [`records`] are what others store here. [`asks`] is what is under way,
//! [`upkeep`] what is done by the clock (joining, pings, walks), [`publish`] how own records come to
//! those who keep them, and [`sample`] how random walks yield hops.
//!
//! [`Kad`] does no I/O and no cryptography: descriptors are verified before they come here. What it
//! wants asked it says in [`Kad::poll_ask`]; who asks and through whom is the node's.

mod asks;
mod distance;
mod lookup;
mod publish;
mod records;
mod sample;
mod table;
mod upkeep;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::ids::{Key, RsaId};
use crate::time::Instant;
use crate::wire::Roles;

pub use distance::{BUCKETS, Distance, Group};
pub use lookup::PATHS;
pub use publish::MAX_PUBLISHED;
pub use records::{
    Keeping, MAX_RECORDS, MAX_RECORDS_A_KEY, MAX_RECORDS_A_PUBLISHER, MAX_RECORDS_A_SOURCE,
    MAX_RECORDS_ANSWERED, RECORD_LIFE,
};
pub use sample::SAMPLES;
pub use table::{
    Admission, Contact, FAIR_INTRODUCER_IN_BUCKET, K, Known, MAX_FAILURES, MAX_NETWORK_IN_BUCKET,
    MAX_NETWORK_IN_TABLE,
};

use asks::Pending;
use lookup::Lookup;
use publish::Publishing;
use records::Records;
use sample::Sampler;
use table::Table;
use upkeep::Upkeep;

/// Lookups that the user may have under way. He fills it; one more ends at once with nothing.
pub const MAX_LOOKUPS: usize = 64;
/// Records that one FIND_VALUE collects. Keepers fill it; then the lookup ends.
pub const MAX_RECORDS_FOUND: usize = 32;
/// Nodes that are passed over for what they answered. They fill it; the one that has been in it
/// for the longest is forgotten.
const MAX_SHUNNED: usize = 64;
/// How long they are.
const SHUNNED_FOR: Duration = Duration::from_secs(15 * 60);

/// What a [`Kad`] is to be.
#[derive(Clone, Copy, Debug)]
pub struct KadConfig {
    /// Seconds since 1970 at [`Instant::ZERO`].
    pub unix_time: u64,
    /// How long an answer is waited for.
    pub ask_timeout: Duration,
    /// After so long without an answer a lookup goes on without it.
    pub slow_after: Duration,
    /// How often each contact is pinged.
    pub ping_every: Duration,
    /// How often a random walk looks for hops.
    pub walk_every: Duration,
    /// How often own records are published again.
    pub publish_every: Duration,
}

impl Default for KadConfig {
    fn default() -> Self {
        KadConfig {
            unix_time: 0,
            ask_timeout: Duration::from_secs(10),
            slow_after: Duration::from_secs(2),
            ping_every: Duration::from_secs(15 * 60),
            walk_every: Duration::from_secs(10 * 60),
            publish_every: Duration::from_secs(3600),
        }
    }
}

/// A question under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// A lookup under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LookupId(pub u64);

/// What is asked of another node.
#[derive(Clone, Debug)]
pub enum KadQuestion {
    /// Are you there? With what the asker says of itself, if it is a router.
    Ping(Option<Known>),
    /// Who is nearest to this?
    FindNode(Key),
    /// Who is an ORDB for this, and who is nearest to it?
    FindValue(Key),
    /// Keep this record.
    Store(Known),
}

/// One message of an answer.
#[derive(Clone, Debug)]
pub enum KadAnswer {
    /// It is there, and says this of itself.
    Pong(Known),
    /// One of those that are near.
    Node(Known),
    /// A record.
    Value(Known),
    /// Whether the record is kept.
    Stored(bool),
    /// A descriptor that has expired: nobody's fault, and of no use.
    Stale,
    /// A descriptor whose signature is wrong, or what is no answer to such a question.
    Invalid,
}

/// A question to be asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its answer or failure is told with this.
    pub id: AskId,
    /// Who is asked.
    pub to: Known,
    /// Who may be linked to it, the likeliest first.
    pub hints: Vec<RsaId>,
    /// What is asked.
    pub question: KadQuestion,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum KadEvent {
    /// It knows those near it, and they it.
    Joined,
    /// A lookup found a record. More may come.
    Found {
        /// Which lookup.
        lookup: LookupId,
        /// The record.
        record: Known,
    },
    /// A lookup ended.
    Finished {
        /// Which.
        lookup: LookupId,
        /// The nearest that answered, nearest first.
        closest: Vec<Known>,
        /// How many records it found.
        records: usize,
        /// The most questions of which each had to await the answer of the one before.
        rounds: u32,
        /// How many questions it asked.
        asks: usize,
    },
    /// The record of this name is to be signed anew and given to [`Kad::publish`].
    Renew(Key),
    /// A record was published.
    Published {
        /// Of which name.
        key: Key,
        /// How many keep it.
        kept: usize,
    },
    /// A random walk drew a router as a hop.
    Sampled(Known),
}

/// Why a lookup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The user wants to know who is near.
    Node,
    /// The user wants records.
    Value,
    /// To know those near itself.
    Join,
    /// To fill a bucket.
    Refresh,
    /// To meet routers at random.
    Walk,
    /// To publish the record of the key.
    Publish,
}

#[derive(Debug)]
struct Running {
    lookup: Lookup,
    purpose: Purpose,
    /// The publishers whose records were found.
    found: Vec<Known>,
}

/// One node's Kademlia; see the module.
#[derive(Debug)]
pub struct Kad {
    own: RsaId,
    /// What this node says of itself, if it is a router.
    described: Option<Known>,
    config: KadConfig,
    rng: ChaCha20Rng,
    now: Instant,
    last_id: u64,
    table: Table,
    records: Records,
    sampler: Sampler,
    /// Bounded by what each of their causes may have under way.
    asks: BTreeMap<AskId, Pending>,
    /// What of them the host has not taken yet. It takes all after each call.
    outbox: VecDeque<Ask>,
    lookups: BTreeMap<LookupId, Running>,
    /// What the host has not taken yet. It takes all after each call.
    events: VecDeque<KadEvent>,
    shunned: VecDeque<(Instant, RsaId)>,
    publishing: Publishing,
    upkeep: Upkeep,
}

impl Kad {
    /// The Kademlia of the node `own`. All its randomness comes from `seed`.
    pub fn new(own: RsaId, config: KadConfig, seed: [u8; 32]) -> Self {
        Kad {
            own,
            described: None,
            config,
            rng: ChaCha20Rng::from_seed(seed),
            now: Instant::ZERO,
            last_id: 0,
            table: Table::new(own.into()),
            records: Records::default(),
            sampler: Sampler::default(),
            asks: BTreeMap::new(),
            outbox: VecDeque::new(),
            lookups: BTreeMap::new(),
            events: VecDeque::new(),
            shunned: VecDeque::new(),
            publishing: Publishing::default(),
            upkeep: Upkeep::default(),
        }
    }

    /// The node's own ID.
    pub fn own(&self) -> RsaId {
        self.own
    }

    /// The contacts nearest to `key`, nearest first.
    pub fn closest(&self, key: Key, count: usize) -> Vec<&Contact> {
        self.table.closest(key, count)
    }

    /// A contact.
    pub fn contact(&self, id: RsaId) -> Option<&Contact> {
        self.table.get(id)
    }

    /// What is known of a node: of a contact, or of one that a lookup met.
    pub fn known(&self, id: RsaId) -> Option<&Known> {
        let contact = self.table.get(id).map(|contact| &contact.known);
        contact.or_else(|| {
            let mut lookups = self.lookups.values();
            lookups.find_map(|running| running.lookup.known(id))
        })
    }

    /// All contacts.
    pub fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.table.iter()
    }

    /// How many contacts there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no contact.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// The buckets that are not empty, and how many contacts are in each.
    pub fn buckets(&self) -> impl Iterator<Item = (u8, usize)> + '_ {
        self.table.fill()
    }

    /// How many records of others it keeps.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Whether it keeps records of this name.
    pub fn keeps(&self, key: Key) -> bool {
        self.records.of(key).next().is_some()
    }

    /// Whom random walks drew, of those with all of `roles`; somebody may come several times.
    pub fn samples(&self, roles: Roles) -> impl Iterator<Item = &Known> {
        self.sampler.iter(roles)
    }

    /// One of them.
    pub fn sample(&mut self, roles: Roles) -> Option<Known> {
        let count = self.sampler.iter(roles).count() as u64;
        let place = self.rng.next_u64().checked_rem(count)?;
        self.sampler.iter(roles).nth(place as usize).cloned()
    }

    /// Says what this node says of itself. Who is near is told soon.
    pub fn set_described(&mut self, now: Instant, described: Option<Known>) {
        self.now = now;
        let changed = match (&self.described, &described) {
            (Some(old), Some(new)) => {
                let told = |of: &Known| (of.introducers.clone(), of.addresses.clone(), of.roles);
                told(old) != told(new)
            }
            (None, Some(_)) => true,
            (_, None) => false,
        };
        self.described = described;
        if changed {
            self.announce();
            self.renew_soon();
        }
        self.pump();
    }

    /// There is a router that may be asked: at the other end of a link if there is no `teller`, else
    /// one that `teller` told of, which is pinged before it is believed.
    pub fn handle_contact(&mut self, now: Instant, known: Known, teller: Option<RsaId>) {
        self.now = now;
        self.learn_of(known, teller, false);
    }

    /// The same of a router that this node began with, a bridge, or that one of those told of:
    /// whoever asks for hops may begin there.
    pub fn handle_introduced(&mut self, now: Instant, known: Known, teller: Option<RsaId>) {
        self.now = now;
        self.learn_of(known, teller, true);
    }

    fn learn_of(&mut self, known: Known, teller: Option<RsaId>, met: bool) {
        if known.rsa_id == self.own || self.is_shunned(known.rsa_id) || self.has_expired(&known) {
            return;
        }
        let mut contact = self.contact_of(known, teller, teller.is_none());
        contact.met = met;
        match (teller, self.table.would_admit(&contact)) {
            (None, _) | (_, Admission::Kept) => self.take(contact),
            (Some(_), Admission::Entered) => self.check(contact),
            _ => {}
        }
        self.pump();
    }

    /// A link is gone, and with it the proof that its peer is there.
    pub fn handle_unlinked(&mut self, now: Instant, id: RsaId) {
        self.now = now;
        if let Some(contact) = self.table.get_mut(id) {
            contact.linked = false;
            contact.ping_at = now;
            self.upkeep.ping_by(now);
        }
        self.pump();
    }

    /// Another node asks; `from` is the neighbour that the question came by, which may have passed
    /// it on. The answer's messages, none if there is nothing to say.
    pub fn handle_question(
        &mut self,
        now: Instant,
        from: Option<RsaId>,
        question: &KadQuestion,
    ) -> Vec<KadAnswer> {
        self.now = now;
        if let Some(contact) = from.and_then(|from| self.table.get_mut(from)) {
            contact.heard = now;
        }
        let answers = match question {
            KadQuestion::Ping(described) => {
                if let (Some(known), Some(teller)) = (described, from) {
                    self.handle_contact(now, known.clone(), Some(teller));
                }
                self.described
                    .iter()
                    .cloned()
                    .map(KadAnswer::Pong)
                    .collect()
            }
            KadQuestion::FindNode(key) => self.nearest(*key),
            KadQuestion::FindValue(key) => {
                let records = self.records.sample(*key, &mut self.rng);
                let mut answers: Vec<_> = records.into_iter().map(KadAnswer::Value).collect();
                answers.extend(self.nearest(*key));
                answers
            }
            KadQuestion::Store(record) => vec![KadAnswer::Stored(self.store(record, from))],
        };
        self.pump();
        answers
    }

    fn nearest(&self, key: Key) -> Vec<KadAnswer> {
        let closest = self.table.closest(key, K);
        let nodes = closest.into_iter().map(|contact| contact.known.clone());
        nodes.map(KadAnswer::Node).collect()
    }

    /// Looks for the nodes nearest to `key`.
    pub fn find_node(&mut self, now: Instant, key: Key) -> LookupId {
        self.now = now;
        self.find(key, Purpose::Node)
    }

    /// Looks for records of `key`.
    pub fn find_value(&mut self, now: Instant, key: Key) -> LookupId {
        self.now = now;
        self.find(key, Purpose::Value)
    }

    fn find(&mut self, key: Key, purpose: Purpose) -> LookupId {
        let under_way = self.lookups.values();
        let user = [Purpose::Node, Purpose::Value];
        let count = under_way.filter(|running| user.contains(&running.purpose));
        let id = if count.count() >= MAX_LOOKUPS {
            let id = LookupId(self.next_id());
            self.events.push_back(KadEvent::Finished {
                lookup: id,
                closest: Vec::new(),
                records: 0,
                rounds: 0,
                asks: 0,
            });
            id
        } else {
            self.begin(key, purpose)
        };
        self.pump();
        id
    }

    /// Ends a lookup of which nothing more is wanted. No event follows.
    pub fn cancel(&mut self, lookup: LookupId) {
        self.lookups.remove(&lookup);
    }

    fn begin(&mut self, key: Key, purpose: Purpose) -> LookupId {
        let id = LookupId(self.next_id());
        let seeds = match purpose {
            Purpose::Walk => self.table.closest_met(key, K * PATHS),
            _ => self.table.closest(key, K * PATHS),
        };
        let lookup = Lookup::new(self.own, key, &seeds);
        self.lookups.insert(
            id,
            Running {
                lookup,
                purpose,
                found: Vec::new(),
            },
        );
        if purpose == Purpose::Value {
            for record in self.records.sample(key, &mut self.rng) {
                self.found(id, record);
            }
        }
        id
    }

    /// A record that a lookup looks for. It is told of if it is another's than those found, or newer.
    fn found(&mut self, id: LookupId, record: Known) {
        let Some(running) = self.lookups.get_mut(&id) else {
            return;
        };
        let same = |known: &Known| known.ed25519 == record.ed25519;
        match running.found.iter().position(same) {
            Some(place) => match running.found.get_mut(place) {
                Some(known) if known.expiry < record.expiry => *known = record.clone(),
                _ => return,
            },
            None if running.found.len() >= MAX_RECORDS_FOUND => return,
            None => running.found.push(record.clone()),
        }
        self.events
            .push_back(KadEvent::Found { lookup: id, record });
    }

    /// The next question to ask.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.outbox.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<KadEvent> {
        self.events.pop_front()
    }

    /// Lets every part do what is possible or due.
    fn pump(&mut self) {
        self.pump_upkeep();
        self.pump_publishing();
        self.pump_lookups();
    }

    fn pump_lookups(&mut self) {
        let ids: Vec<LookupId> = self.lookups.keys().copied().collect();
        for id in ids {
            self.pump_lookup(id);
        }
    }

    fn pump_lookup(&mut self, id: LookupId) {
        loop {
            let Some(running) = self.lookups.get_mut(&id) else {
                return;
            };
            let sated = running.found.len() >= MAX_RECORDS_FOUND;
            if sated || running.lookup.is_done() {
                if let Some(running) = self.lookups.remove(&id) {
                    self.lookup_done(id, running);
                }
                return;
            }
            let key = running.lookup.key;
            let question = match running.purpose {
                Purpose::Value => KadQuestion::FindValue(key),
                _ => KadQuestion::FindNode(key),
            };
            let Some(next) = running.lookup.next_ask() else {
                return;
            };
            self.ask(next.known, next.teller, question, asks::Cause::Lookup(id));
        }
    }

    fn lookup_done(&mut self, id: LookupId, running: Running) {
        let Running {
            lookup,
            purpose,
            found,
        } = running;
        match purpose {
            Purpose::Node | Purpose::Value => {
                let closest = lookup.closest().into_iter().map(|(known, _)| known);
                self.events.push_back(KadEvent::Finished {
                    lookup: id,
                    closest: closest.collect(),
                    records: found.len(),
                    rounds: lookup.rounds(),
                    asks: lookup.asks(),
                });
            }
            Purpose::Join | Purpose::Refresh | Purpose::Walk => {
                self.upkeep_lookup_done(purpose, &lookup);
            }
            Purpose::Publish => self.publish_lookup_done(&lookup),
        }
    }

    fn contact_of(&mut self, known: Known, teller: Option<RsaId>, linked: bool) -> Contact {
        let ping_at = self.now + self.first_ping(&known);
        Contact {
            known,
            teller,
            linked,
            met: false,
            heard: self.now,
            ping_at,
            failures: 0,
        }
    }

    /// Takes a contact that is there, if there is room.
    fn take(&mut self, contact: Contact) {
        let (known, ping_at) = (contact.known.clone(), contact.ping_at);
        if self.table.admit(contact) == Admission::Entered {
            self.upkeep.ping_by(ping_at);
            self.pass_on_to(&known);
        }
    }

    fn is_shunned(&self, id: RsaId) -> bool {
        let mut shunned = self.shunned.iter();
        shunned.any(|(until, shunned)| *shunned == id && *until > self.now)
    }

    /// A node answered nonsense: it is no contact for a while.
    fn shun(&mut self, id: RsaId) {
        self.table.remove(id);
        if self.shunned.len() >= MAX_SHUNNED {
            self.shunned.pop_front();
        }
        self.shunned.push_back((self.now + SHUNNED_FOR, id));
    }

    fn has_expired(&self, known: &Known) -> bool {
        known.expiry <= self.unix_now()
    }

    fn unix_now(&self) -> u64 {
        self.config.unix_time + self.now.as_micros() / 1_000_000
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
