//! Records of others that this node keeps: who is an ORDB for which name.
//!
//! A record is a descriptor with the name in `provides`, signed by the router that it describes, so
//! nobody can put another's. Everybody can put his own, as many as he makes identities; therefore
//! what is full gives way by fairness: of the networks, introducers or senders that hold the most
//! places the one that expires first goes. Who comes in numbers competes with himself.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_core::Rng;

use super::distance::{Distance, Group, introducers, networks};
use super::table::Known;
use crate::ids::{Key, RsaId};
use crate::time::Instant;

/// Records of one name. ORDBs of that name fill it; then one of the most numerous group goes.
pub const MAX_RECORDS_A_KEY: usize = 16;
/// Records in all. Whoever publishes fills it; then one of the name farthest from this node goes.
pub const MAX_RECORDS: usize = 2048;
/// Records in all that came by one neighbour. It fills it; one more is refused.
pub const MAX_RECORDS_A_SOURCE: usize = 512;
/// Records of one publisher. It fills it; one more is refused.
pub const MAX_RECORDS_A_PUBLISHER: usize = 128;
/// Records in one answer; which, if there are more, is drawn anew for each asker.
pub const MAX_RECORDS_ANSWERED: usize = 4;
/// A record is kept so long at most, whatever it says: twice the time after which it is published
/// again, so that one publication may fail.
pub const RECORD_LIFE: Duration = Duration::from_secs(2 * 3600);

#[derive(Debug)]
pub(super) struct Record {
    pub(super) known: Known,
    expires: Instant,
    /// The neighbour that it came by.
    source: Option<RsaId>,
}

impl Record {
    /// The groups in whose name it competes for a place.
    fn groups(&self) -> Vec<Group> {
        let networks = networks(&self.known);
        match networks.is_empty() {
            true => introducers(&self.known, self.source),
            false => networks,
        }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It is kept and was not.
    New,
    /// It is newer than the one that was kept.
    Renewed,
    /// It was kept before.
    Same,
    /// An older one than is kept, a limit is reached, or it is no record.
    Refused,
}

impl Keeping {
    /// Whether it is kept.
    pub fn is_kept(self) -> bool {
        self != Keeping::Refused
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Records {
    by_key: BTreeMap<Key, Vec<Record>>,
    len: usize,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.by_key.keys().copied()
    }

    pub(super) fn of(&self, key: Key) -> impl Iterator<Item = &Known> {
        let records = self.by_key.get(&key).into_iter().flatten();
        records.map(|record| &record.known)
    }

    /// Takes a record. `lasts` is how long it says that it holds from now on.
    pub(super) fn put(
        &mut self,
        now: Instant,
        own: Key,
        known: Known,
        source: Option<RsaId>,
        lasts: Duration,
    ) -> Keeping {
        let Some(key) = known.provides else {
            return Keeping::Refused;
        };
        let expires = now + lasts.min(RECORD_LIFE);
        let publisher = known.ed25519;
        if let Some(there) = self
            .by_key
            .get_mut(&key)
            .and_then(|records| records.iter_mut().find(|r| r.known.ed25519 == publisher))
        {
            // A replay of an older one would bring back addresses and introducers that are no more.
            if known.expiry < there.known.expiry {
                return Keeping::Refused;
            }
            if known.expiry == there.known.expiry {
                return Keeping::Same;
            }
            there.known = known;
            there.expires = expires;
            return Keeping::Renewed;
        }
        if self.is_greedy(&known, source) {
            return Keeping::Refused;
        }
        if self.len >= MAX_RECORDS && !self.make_room(own, key) {
            return Keeping::Refused;
        }
        let records = self.by_key.entry(key).or_default();
        records.push(Record {
            known,
            expires,
            source,
        });
        self.len += 1;
        if records.len() <= MAX_RECORDS_A_KEY {
            return Keeping::New;
        }
        let victim = least_missed(records);
        self.len -= 1;
        let gone = victim.map(|place| records.remove(place));
        match gone {
            Some(gone) if gone.known.ed25519 == publisher => Keeping::Refused,
            _ => Keeping::New,
        }
    }

    /// Whether the publisher or the neighbour has all that one may have.
    fn is_greedy(&self, known: &Known, source: Option<RsaId>) -> bool {
        // Below the least of the limits nobody can have reached his.
        if self.len < MAX_RECORDS_A_PUBLISHER {
            return false;
        }
        let all = || self.by_key.values().flatten();
        let published = all().filter(|r| r.known.ed25519 == known.ed25519).count();
        let brought = all()
            .filter(|r| source.is_some() && r.source == source)
            .count();
        published >= MAX_RECORDS_A_PUBLISHER || brought >= MAX_RECORDS_A_SOURCE
    }

    /// Drops a record of the name that is farthest from this node, if that is farther than `key`.
    fn make_room(&mut self, own: Key, key: Key) -> bool {
        let farthest = self.keys().max_by_key(|key| Distance::between(own, *key));
        let Some(farthest) = farthest else {
            return false;
        };
        if Distance::between(own, farthest) <= Distance::between(own, key) {
            return false;
        }
        if let Some(records) = self.by_key.get_mut(&farthest) {
            if let Some(victim) = least_missed(records) {
                records.remove(victim);
                self.len -= 1;
            }
            if records.is_empty() {
                self.by_key.remove(&farthest);
            }
        }
        true
    }

    /// Some of a name's records, each as likely as the others.
    pub(super) fn sample<R: Rng>(&self, key: Key, rng: &mut R) -> Vec<Known> {
        let mut all: Vec<&Known> = self.of(key).collect();
        let mut some = Vec::new();
        while some.len() < MAX_RECORDS_ANSWERED && !all.is_empty() {
            let place = (rng.next_u64() % all.len() as u64) as usize;
            some.push(all.swap_remove(place).clone());
        }
        some
    }

    /// Forgets one publisher's record of a name.
    pub(super) fn remove(&mut self, key: Key, publisher: RsaId) {
        if let Some(records) = self.by_key.get_mut(&key) {
            let before = records.len();
            records.retain(|record| record.known.rsa_id != publisher);
            self.len -= before - records.len();
            if records.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    /// Forgets what has expired.
    pub(super) fn expire(&mut self, now: Instant) {
        self.by_key.retain(|_, records| {
            records.retain(|record| record.expires > now);
            !records.is_empty()
        });
        self.len = self.by_key.values().map(Vec::len).sum();
    }
}

/// Of the records whose group has the most, the one that expires first.
fn least_missed(records: &[Record]) -> Option<usize> {
    let groups: Vec<Vec<Group>> = records.iter().map(Record::groups).collect();
    let crowd = |of: &Vec<Group>| {
        of.iter()
            .map(|group| groups.iter().filter(|other| other.contains(group)).count())
            .max()
            .unwrap_or(1)
    };
    let crowds: Vec<usize> = groups.iter().map(crowd).collect();
    records
        .iter()
        .zip(crowds)
        .enumerate()
        .max_by_key(|(_, (record, crowd))| (*crowd, std::cmp::Reverse(record.expires)))
        .map(|(place, _)| place)
}
