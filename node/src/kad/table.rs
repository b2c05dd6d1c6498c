//! The routing table: 160 buckets of 8 contacts, made when they get their first.
//!
//! Within a bucket the oldest stand first. A full bucket takes nobody new until one fails: who has
//! been there for long is likely to stay, and nobody can flush a table by coming in numbers. Two
//! limits keep one operator from filling it. Of one *network* (/16, /32 for IPv6) no more than
//! [`MAX_NETWORK_IN_BUCKET`] are taken, whatever room there is. Tabs have no address, and a claim of
//! another introducer costs nothing; so what counts for them is by whom they are reached, and the
//! limit is a soft one: beyond [`FAIR_INTRODUCER_IN_BUCKET`] tabs of one introducer a tab is
//! *surplus*, which takes a free place but yields it to whoever is not. A hard one would leave the
//! buckets empty where one bridge is all there is.

use crate::order::ascending_by;
use std::collections::BTreeMap;

use super::distance::{Distance, Group, Tally, introducers, networks};
use crate::ids::{Key, RsaId};
use crate::time::Instant;
use crate::wire::VerifiedDescriptor;

/// Contacts in a bucket, and nodes in an answer: Kademlia's k.
pub const K: usize = 8;
/// The most contacts of one network in a bucket, and in an answer. One more is not taken.
pub const MAX_NETWORK_IN_BUCKET: usize = 2;
/// The most contacts of one network in all buckets. One more is not taken.
pub const MAX_NETWORK_IN_TABLE: usize = 16;
/// Tabs of one introducer in a bucket beyond which further ones yield to others.
pub const FAIR_INTRODUCER_IN_BUCKET: usize = 4;
/// So many questions in a row without an answer, and a contact is dropped.
pub const MAX_FAILURES: u8 = 2;

/// A router's descriptor, shared by whoever holds it.
pub type Known = VerifiedDescriptor;

/// A router that can be asked, perhaps by introduction.
#[derive(Clone, Debug)]
pub struct Contact {
    /// What it says of itself.
    pub known: Known,
    /// Who told of it; none if it came by itself.
    pub teller: Option<RsaId>,
    /// Whether it is at the other end of a link, so that its ID is proven.
    pub linked: bool,
    /// Whether somebody led to it whom this node began with or was led to. Who only came here may
    /// have chosen this node: no random walk begins with it.
    pub met: bool,
    /// When it last answered, or asked.
    pub heard: Instant,
    /// When it is to be pinged.
    pub(super) ping_at: Instant,
    /// Questions in a row that it did not answer.
    pub(super) failures: u8,
}

impl Contact {
    pub(super) fn id(&self) -> RsaId {
        self.known.rsa_id
    }
}

/// What became of a contact that was to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is in the table and was not.
    Entered,
    /// It was there; what it says of itself may have changed.
    Kept,
    /// Its bucket is full of others.
    Full,
    /// There are enough of its network.
    Network,
    /// It is this node, or says that it has the ID of another contact.
    Impostor,
}

/// The buckets of one node.
#[derive(Debug)]
pub(super) struct Table {
    own: Key,
    /// By number; the empty ones are not there.
    buckets: BTreeMap<u8, Vec<Contact>>,
}

impl Table {
    pub(super) fn new(own: Key) -> Self {
        Table {
            own,
            buckets: BTreeMap::new(),
        }
    }

    /// How many contacts there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.values().map(Vec::len).sum()
    }

    /// All contacts, bucket by bucket, the oldest of each first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.buckets.values().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Contact> {
        self.buckets.values_mut().flatten()
    }

    /// The buckets that are not empty, and how many are in each.
    pub(super) fn fill(&self) -> impl Iterator<Item = (u8, usize)> + '_ {
        self.buckets.iter().map(|(j, bucket)| (*j, bucket.len()))
    }

    /// The bucket of an ID; none for the own.
    fn bucket_of(&self, id: RsaId) -> Option<u8> {
        Distance::between(self.own, id.into()).bucket()
    }

    pub(super) fn get(&self, id: RsaId) -> Option<&Contact> {
        let bucket = self.buckets.get(&self.bucket_of(id)?)?;
        bucket.iter().find(|contact| contact.id() == id)
    }

    pub(super) fn get_mut(&mut self, id: RsaId) -> Option<&mut Contact> {
        let bucket = self.bucket_of(id)?;
        let bucket = self.buckets.get_mut(&bucket)?;
        bucket.iter_mut().find(|contact| contact.id() == id)
    }

    pub(super) fn remove(&mut self, id: RsaId) -> Option<Contact> {
        let j = self.bucket_of(id)?;
        let bucket = self.buckets.get_mut(&j)?;
        let place = bucket.iter().position(|contact| contact.id() == id)?;
        let contact = bucket.remove(place);
        if bucket.is_empty() {
            self.buckets.remove(&j);
        }
        Some(contact)
    }

    /// What [`Table::admit`] would say of this one.
    pub(super) fn would_admit(&self, contact: &Contact) -> Admission {
        self.place_for(contact).0
    }

    /// Takes a contact if there is room for it, or what is new of one that is there.
    pub(super) fn admit(&mut self, contact: Contact) -> Admission {
        let (admission, yields) = self.place_for(&contact);
        match admission {
            Admission::Entered => {
                if let Some(yields) = yields {
                    self.remove(yields);
                }
                if let Some(j) = self.bucket_of(contact.id()) {
                    self.buckets.entry(j).or_default().push(contact);
                }
            }
            Admission::Kept => {
                if let Some(there) = self.get_mut(contact.id()) {
                    if there.known.ed25519 != contact.known.ed25519
                        || contact.known.expiry > there.known.expiry
                    {
                        there.known = contact.known;
                    }
                    if contact.linked || there.teller.is_none() {
                        there.teller = contact.teller;
                    }
                    there.linked |= contact.linked;
                    there.met |= contact.met;
                }
            }
            Admission::Full | Admission::Network | Admission::Impostor => {}
        }
        admission
    }

    /// What becomes of a contact, and who yields its place to it.
    fn place_for(&self, contact: &Contact) -> (Admission, Option<RsaId>) {
        let Some(j) = self.bucket_of(contact.id()) else {
            return (Admission::Impostor, None);
        };
        let none = Vec::new();
        let bucket = self.buckets.get(&j).unwrap_or(&none);
        if let Some(there) = bucket.iter().find(|there| there.id() == contact.id()) {
            // Anybody can sign a descriptor that names another's ID: only its link proves it.
            let same = there.known.ed25519 == contact.known.ed25519;
            let proven = contact.linked && !there.linked;
            return match same || proven {
                true => (Admission::Kept, None),
                false => (Admission::Impostor, None),
            };
        }
        let own = networks(&contact.known);
        let crowded = own.iter().any(|network| {
            let in_bucket = bucket.iter().filter(|there| stands_in(there, network));
            in_bucket.count() >= MAX_NETWORK_IN_BUCKET
                || self
                    .iter()
                    .filter(|there| stands_in(there, network))
                    .count()
                    >= MAX_NETWORK_IN_TABLE
        });
        if crowded {
            return (Admission::Network, None);
        }
        if bucket.len() < K {
            return (Admission::Entered, None);
        }
        if is_surplus(contact, bucket) {
            return (Admission::Full, None);
        }
        // The youngest of those who yield.
        let yields = bucket.iter().rev().find(|there| is_surplus(there, bucket));
        match yields {
            Some(yields) => (Admission::Entered, Some(yields.id())),
            None => (Admission::Full, None),
        }
    }

    /// The `count` contacts nearest to `key` that did answer when they were last asked, no more
    /// than a few of one network; with them those who did not, if the others are too few.
    pub(super) fn closest(&self, key: Key, count: usize) -> Vec<&Contact> {
        self.closest_of(key, count, |_| true)
    }

    /// Those of them that did not merely come here.
    pub(super) fn closest_met(&self, key: Key, count: usize) -> Vec<&Contact> {
        self.closest_of(key, count, |contact| contact.met)
    }

    fn closest_of(&self, key: Key, count: usize, fits: fn(&Contact) -> bool) -> Vec<&Contact> {
        let mut all: Vec<(bool, Distance, &Contact)> = self
            .iter()
            .filter(|contact| fits(contact))
            .map(|contact| {
                let distance = Distance::between(key, contact.id().into());
                (contact.failures > 0, distance, contact)
            })
            .collect();
        all = ascending_by(all, |(failed, distance, _)| (*failed, *distance));
        // Enough for those whom their networks exclude.
        all.truncate(count * 3);
        let mut tally = Tally::default();
        all.into_iter()
            .map(|(_, _, contact)| contact)
            .filter(|contact| tally.admits(&networks(&contact.known), MAX_NETWORK_IN_BUCKET))
            .take(count)
            .collect()
    }

    /// How many contacts are nearer to `key` than `distance`, counting no more than a few of one
    /// network.
    pub(super) fn nearer(&self, key: Key, distance: Distance) -> usize {
        let mut tally = Tally::default();
        self.iter()
            .filter(|contact| Distance::between(key, contact.id().into()) < distance)
            .filter(|contact| tally.admits(&networks(&contact.known), MAX_NETWORK_IN_BUCKET))
            .count()
    }
}

fn stands_in(contact: &Contact, network: &Group) -> bool {
    // Most contacts are tabs, which have no address.
    !contact.known.addresses.is_empty() && networks(&contact.known).contains(network)
}

/// Whether, besides this contact, a bucket holds its fair share of tabs of one of its introducers.
fn is_surplus(contact: &Contact, bucket: &[Contact]) -> bool {
    introducers(&contact.known, contact.teller)
        .iter()
        .any(|group| {
            let others = bucket.iter().filter(|there| there.id() != contact.id());
            others
                .filter(|there| introducers(&there.known, there.teller).contains(group))
                .count()
                >= FAIR_INTRODUCER_IN_BUCKET
        })
}
