//! Own records, on their way to those who keep them, and others', on their way to who is nearer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::asks::Cause;
use super::distance::Distance;
use super::lookup::Lookup;
use super::records::Keeping;
use super::table::{K, Known};
use super::{Kad, KadEvent, KadQuestion, Purpose};
use crate::ids::{Key, RsaId};
use crate::time::Instant;

/// Names that a node publishes. Its user fills it; one more is refused.
pub const MAX_PUBLISHED: usize = 1024;
/// Publications looked up at once.
const MAX_PUBLISH_LOOKUPS: usize = 2;
/// Records that wait to be stored elsewhere. Own ones and those passed on fill it; one more is not
/// sent, and found by the next publication.
const MAX_STORES: usize = 512;
/// Records being stored at once.
const MAX_STORING: usize = 4;
/// How soon a record that nobody kept is published again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(60);
/// How soon records are published anew when this node is reached in another way than they say …
const RENEW_WITHIN: Duration = Duration::from_secs(60);
/// … but not sooner than this after they were published.
const RENEW_REST: Duration = Duration::from_secs(300);
/// A node keeps a record if fewer contacts than this are nearer to its name. Twice k, because no
/// two nodes know the same.
const KEEPERS: usize = 2 * K;
/// As many of the nearest keepers pass a record on to who comes nearer: two, so that one may fail.
const PASSING_KEEPERS: usize = 2;

#[derive(Debug)]
struct Own {
    record: Known,
    since: Instant,
    /// When it is to be signed and published anew.
    due: Instant,
    /// Keepers that have not answered yet.
    awaited: usize,
    kept: usize,
}

#[derive(Debug)]
struct Storing {
    to: Known,
    teller: Option<RsaId>,
    record: Known,
    own: bool,
}

#[derive(Debug, Default)]
pub(super) struct Publishing {
    own: BTreeMap<Key, Own>,
    /// Names that wait to be looked up; each at most once.
    waiting: VecDeque<Key>,
    stores: VecDeque<Storing>,
}

impl Kad {
    /// Publishes a record of this node, again and again: [`KadEvent::Renew`] asks for a new one in
    /// time. False if it is no record of this node, or there are too many.
    pub fn publish(&mut self, now: Instant, record: Known) -> bool {
        self.now = now;
        let Some(key) = record.provides.filter(|_| record.rsa_id == self.own) else {
            return false;
        };
        let own = &mut self.publishing.own;
        if own.len() >= MAX_PUBLISHED && !own.contains_key(&key) {
            return false;
        }
        let due = now + self.spread(self.config.publish_every);
        self.publishing.own.insert(
            key,
            Own {
                record,
                since: now,
                due,
                awaited: 0,
                kept: 0,
            },
        );
        if !self.publishing.waiting.contains(&key) {
            self.publishing.waiting.push_back(key);
        }
        self.pump();
        true
    }

    /// Publishes a name no more. What others keep expires.
    pub fn unpublish(&mut self, now: Instant, key: Key) {
        self.now = now;
        self.publishing.own.remove(&key);
        self.publishing.waiting.retain(|waiting| *waiting != key);
        self.records.remove(key, self.own);
    }

    /// The names that this node publishes.
    pub fn published(&self) -> impl Iterator<Item = Key> + '_ {
        self.publishing.own.keys().copied()
    }

    pub(super) fn next_publishing(&self) -> Option<Instant> {
        self.publishing.own.values().map(|own| own.due).min()
    }

    /// Asks for new signatures where it is time.
    pub(super) fn renew_due(&mut self) {
        for (key, own) in &mut self.publishing.own {
            if own.due <= self.now {
                // If none comes it is asked for again.
                own.due = self.now + PUBLISH_AGAIN;
                self.events.push_back(KadEvent::Renew(*key));
            }
        }
    }

    /// What own records say is no longer true.
    pub(super) fn renew_soon(&mut self) {
        let soon = self.now + self.spread(RENEW_WITHIN);
        for own in self.publishing.own.values_mut() {
            own.due = own.due.min(soon.max(own.since + RENEW_REST));
        }
    }

    pub(super) fn pump_publishing(&mut self) {
        if self.is_joined() {
            let publishing = |running: &&super::Running| running.purpose == Purpose::Publish;
            let mut looked_up = self.lookups.values().filter(publishing).count();
            while looked_up < MAX_PUBLISH_LOOKUPS
                && let Some(key) = self.publishing.waiting.pop_front()
            {
                self.begin(key, Purpose::Publish);
                looked_up += 1;
            }
        }
        if self.publishing.stores.is_empty() {
            return;
        }
        let mut storing = self.under_way(|cause| matches!(cause, Cause::Store { .. }));
        while storing < MAX_STORING
            && let Some(store) = self.publishing.stores.pop_front()
        {
            let Some(key) = store.record.provides else {
                continue;
            };
            let own = store.own;
            let question = KadQuestion::Store(store.record);
            self.ask(store.to, store.teller, question, Cause::Store { key, own });
            storing += 1;
        }
    }

    /// Who is to keep a record is known.
    pub(super) fn publish_lookup_done(&mut self, lookup: &Lookup) {
        let (now, own_key, key) = (self.now, Key::from(self.own), lookup.key);
        let closest = lookup.closest();
        let Some(record) = self.publishing.own.get(&key).map(|own| own.record.clone()) else {
            return;
        };
        let distance = Distance::between(key, own_key);
        let farther =
            |(known, _): &(Known, _)| distance < Distance::between(key, Key::from(known.rsa_id));
        let mut kept = 0;
        if closest.len() < K || closest.last().is_some_and(farther) {
            let lasts = self.lasts(&record);
            let keeping = self.records.put(now, own_key, record.clone(), None, lasts);
            kept += usize::from(keeping.is_kept());
        }
        let room = MAX_STORES.saturating_sub(self.publishing.stores.len());
        let stores = closest.into_iter().take(room).map(|(to, teller)| Storing {
            to,
            teller,
            record: record.clone(),
            own: true,
        });
        let before = self.publishing.stores.len();
        self.publishing.stores.extend(stores);
        let awaited = self.publishing.stores.len() - before;
        if let Some(own) = self.publishing.own.get_mut(&key) {
            own.kept = kept;
            // One more, which is ended here, so that it ends also if there is none.
            own.awaited = awaited + 1;
        }
        self.store_ended(key);
        self.pump_publishing();
    }

    /// A keeper took an own record.
    pub(super) fn stored(&mut self, key: Key) {
        if let Some(own) = self.publishing.own.get_mut(&key) {
            own.kept += 1;
        }
    }

    /// A keeper took an own record, or did not.
    pub(super) fn store_ended(&mut self, key: Key) {
        let Some(own) = self.publishing.own.get_mut(&key) else {
            return;
        };
        if own.awaited == 0 {
            return;
        }
        own.awaited -= 1;
        if own.awaited == 0 {
            let kept = own.kept;
            if kept == 0 {
                own.due = own.due.min(self.now + PUBLISH_AGAIN);
            }
            self.events.push_back(KadEvent::Published { key, kept });
        }
    }

    /// Another's record is to be kept here. Whether it is; if others are nearer, it is passed on to
    /// the nearest, each time nearer, until somebody keeps it.
    pub(super) fn store(&mut self, record: &Known, from: Option<RsaId>) -> bool {
        let own = Key::from(self.own);
        let Some(key) = record.provides.filter(|_| !self.has_expired(record)) else {
            return false;
        };
        let distance = Distance::between(key, own);
        if self.table.nearer(key, distance) >= KEEPERS {
            let nearest = self.table.closest(key, 1);
            let nearest = nearest.first().map(|c| (c.known.clone(), c.teller));
            if let Some((to, teller)) = nearest {
                self.pass_on(to, teller, record.clone());
            }
            return false;
        }
        let lasts = self.lasts(record);
        let keeping = self.records.put(self.now, own, record.clone(), from, lasts);
        keeping != Keeping::Refused
    }

    /// Somebody became a contact: records that are nearer to him than to this node, and for which
    /// this node is one of the nearest keepers, are passed on to him.
    pub(super) fn pass_on_to(&mut self, to: &Known) {
        let (own, new) = (Key::from(self.own), Key::from(to.rsa_id));
        let teller = self.table.get(to.rsa_id).and_then(|contact| contact.teller);
        let keys: Vec<Key> = self
            .records
            .keys()
            .filter(|key| {
                let distance = Distance::between(*key, own);
                Distance::between(*key, new) < distance
                    // The new one counts among those who are nearer.
                    && self.table.nearer(*key, distance) <= PASSING_KEEPERS
            })
            .collect();
        for key in keys {
            let records: Vec<Known> = self.records.of(key).cloned().collect();
            for record in records {
                self.pass_on(to.clone(), teller, record);
            }
        }
    }

    fn pass_on(&mut self, to: Known, teller: Option<RsaId>, record: Known) {
        if self.publishing.stores.len() < MAX_STORES {
            self.publishing.stores.push_back(Storing {
                to,
                teller,
                record,
                own: false,
            });
        }
    }

    /// How long a record says that it holds from now on.
    fn lasts(&self, record: &Known) -> Duration {
        Duration::from_secs(record.expiry.saturating_sub(self.unix_now()))
    }
}
