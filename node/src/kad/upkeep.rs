//! What is done by the clock: joining, pings, refreshing, walks, forgetting.

use std::time::Duration;

use rand_core::Rng;

use super::asks::Cause;
use super::distance::{Distance, random_in_bucket, random_key};
use super::lookup::Lookup;
use super::table::{K, Known};
use super::{Kad, KadEvent, KadQuestion, Purpose};
use crate::ids::RsaId;
use crate::time::Instant;

/// Pings under way at once: a table is not pinged in one burst.
const MAX_PINGS: usize = 3;
/// How soon the next are sent when so many are due.
const PINGS_AGAIN: Duration = Duration::from_secs(1);
/// Lookups of the own ID while each finds somebody nearer than the one before.
const MAX_JOIN_LOOKUPS: u32 = 5;
/// How soon joining is tried again when nobody answered.
const JOIN_AGAIN: Duration = Duration::from_secs(5);
/// Walks when a node has just joined: enough to choose hops among.
const FIRST_WALKS: u32 = 4;
/// How often the own ID is looked up, to meet who came near.
const OWN_EVERY: Duration = Duration::from_secs(3600);
/// How often what has expired is forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// Those near the own ID that are told at once when what it says of itself changes.
const ANNOUNCED: usize = 2 * K;

#[derive(Debug, Default)]
enum Joining {
    /// There is nobody to ask, or nobody answered.
    #[default]
    Alone,
    /// The own ID is looked up.
    AwaitNearer {
        lookups: u32,
        nearest: Option<Distance>,
    },
    Joined,
}

#[derive(Debug, Default)]
pub(super) struct Upkeep {
    joining: Joining,
    join_at: Instant,
    /// No contact is to be pinged before; none if there is no contact.
    ping_at: Option<Instant>,
    /// Buckets to fill, one lookup after the other.
    refresh: Vec<u8>,
    walks: u32,
    is_busy: bool,
    walk_at: Instant,
    own_at: Instant,
    expire_at: Instant,
}

impl Upkeep {
    /// Some contact is to be pinged at `at`.
    pub(super) fn ping_by(&mut self, at: Instant) {
        self.ping_at = Some(self.ping_at.map_or(at, |before| before.min(at)));
    }
}

impl Kad {
    /// Whether it knows those near it.
    pub fn is_joined(&self) -> bool {
        matches!(self.upkeep.joining, Joining::Joined)
    }

    /// Hops are few: the next random walk begins no later than `at`.
    pub fn walk_by(&mut self, at: Instant) {
        self.upkeep.walk_at = self.upkeep.walk_at.min(at);
    }

    /// When [`Kad::handle_timeout`] is to be called, and why.
    pub fn poll_timeout(&self) -> (Instant, &'static str) {
        let mut next = (Instant::FAR_FUTURE, "nothing");
        let mut sooner = |at: Option<Instant>, why| {
            if let Some(at) = at.filter(|at| *at < next.0) {
                next = (at, why);
            }
        };
        let joined = self.is_joined();
        let holds = !self.is_empty() || self.records.len() > 0;
        let alone = matches!(self.upkeep.joining, Joining::Alone) && !self.is_empty();
        sooner(self.next_late_ask(), "an answer is late");
        sooner(self.upkeep.ping_at, "a contact is to be pinged");
        sooner(alone.then_some(self.upkeep.join_at), "joining again");
        sooner(joined.then_some(self.upkeep.walk_at), "a random walk");
        sooner(
            joined.then_some(self.upkeep.own_at),
            "meeting who came near",
        );
        sooner(
            holds.then_some(self.upkeep.expire_at),
            "forgetting what has expired",
        );
        sooner(self.next_publishing(), "publishing anew");
        next
    }

    /// Looks at the clock.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.handle_late_asks();
        if self.upkeep.expire_at <= now {
            self.expire();
        }
        self.ping_due();
        if self.is_joined() {
            if self.upkeep.walk_at <= now {
                self.upkeep.walk_at = now + self.spread(self.config.walk_every);
                self.upkeep.walks = self.upkeep.walks.max(1);
            }
            if self.upkeep.own_at <= now {
                self.upkeep.own_at = now + self.spread(OWN_EVERY);
                self.begin(self.own.into(), Purpose::Refresh);
            }
        }
        self.renew_due();
        self.pump();
    }

    /// A little less than `every`, at random, so that what was begun together does not stay so.
    pub(super) fn spread(&mut self, every: Duration) -> Duration {
        every - self.within(every / 8)
    }

    /// A time shorter than `most`, at random.
    fn within(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.next_u64().checked_rem(micros).unwrap_or(0))
    }

    /// When a contact that answered is pinged again.
    pub(super) fn next_ping(&mut self) -> Duration {
        self.spread(self.config.ping_every)
    }

    /// When a new contact is pinged, by which it learns of this node: soon if it is near, for those
    /// near must know each other, else when there is time.
    pub(super) fn first_ping(&mut self, known: &Known) -> Duration {
        let own = self.own.into();
        let distance = Distance::between(own, known.rsa_id.into());
        let near = self.table.nearer(own, distance) < K;
        self.within(Duration::from_secs(if near { 2 } else { 60 }))
    }

    /// Those near are told what this node says of itself.
    pub(super) fn announce(&mut self) {
        let closest = self.table.closest(self.own.into(), ANNOUNCED);
        let near: Vec<RsaId> = closest.iter().map(|contact| contact.id()).collect();
        for id in near {
            let at = self.now + self.within(Duration::from_secs(2));
            if let Some(contact) = self.table.get_mut(id) {
                contact.ping_at = contact.ping_at.min(at);
                self.upkeep.ping_by(at);
            }
        }
    }

    fn ping_due(&mut self) {
        let now = self.now;
        if self.upkeep.ping_at.is_none_or(|at| at > now) {
            return;
        }
        let under_way = self.under_way(|cause| *cause == Cause::Ping);
        let mut due = Vec::new();
        let mut next = None;
        for contact in self.table.iter_mut() {
            if contact.ping_at > now {
                next = Some(next.map_or(contact.ping_at, |n: Instant| n.min(contact.ping_at)));
            } else if under_way + due.len() < MAX_PINGS {
                // Its answer, or that there is none, sets another time.
                contact.ping_at = now + self.config.ping_every;
                due.push((contact.known.clone(), contact.teller));
            } else {
                next = Some(now + PINGS_AGAIN);
            }
        }
        self.upkeep.ping_at = next;
        for (known, teller) in due {
            self.upkeep.ping_by(now + self.config.ping_every);
            let question = KadQuestion::Ping(self.described.clone());
            self.ask(known, teller, question, Cause::Ping);
        }
    }

    fn expire(&mut self) {
        let (now, unix_now) = (self.now, self.unix_now());
        self.upkeep.expire_at = now + EXPIRE_EVERY;
        let expired: Vec<RsaId> = self
            .table
            .iter()
            .filter(|contact| contact.known.expiry <= unix_now)
            .map(|contact| contact.id())
            .collect();
        for id in expired {
            self.table.remove(id);
        }
        self.records.expire(now);
        self.sampler.retain(|known| known.expiry > unix_now);
        self.shunned.retain(|(until, _)| *until > now);
    }

    pub(super) fn pump_upkeep(&mut self) {
        if self.is_empty() {
            if self.is_joined() {
                self.upkeep.joining = Joining::Alone;
            }
            return;
        }
        match self.upkeep.joining {
            Joining::Alone if self.upkeep.join_at <= self.now => {
                self.upkeep.joining = Joining::AwaitNearer {
                    lookups: 1,
                    nearest: None,
                };
                self.begin(self.own.into(), Purpose::Join);
            }
            Joining::Joined if !self.upkeep.is_busy => {
                let own = self.own.into();
                // Others' questions and the lookups before may have filled it.
                let full = |bucket: &u8| self.table.fill().any(|(j, n)| j == *bucket && n >= K);
                while self.upkeep.refresh.last().is_some_and(full) {
                    self.upkeep.refresh.pop();
                }
                let (key, purpose) = if let Some(bucket) = self.upkeep.refresh.pop() {
                    let key = random_in_bucket(own, bucket, &mut self.rng);
                    (key, Purpose::Refresh)
                } else if self.upkeep.walks > 0 {
                    self.upkeep.walks -= 1;
                    (random_key(&mut self.rng), Purpose::Walk)
                } else {
                    return;
                };
                self.upkeep.is_busy = true;
                self.begin(key, purpose);
            }
            _ => {}
        }
    }

    pub(super) fn upkeep_lookup_done(&mut self, purpose: Purpose, lookup: &Lookup) {
        if purpose != Purpose::Join {
            self.upkeep.is_busy = false;
            self.pump_upkeep();
            return;
        }
        let Joining::AwaitNearer { lookups, nearest } = self.upkeep.joining else {
            return;
        };
        let own = self.own.into();
        let closest = lookup.closest();
        let Some((first, _)) = closest.first() else {
            self.upkeep.joining = Joining::Alone;
            self.upkeep.join_at = self.now + JOIN_AGAIN;
            return;
        };
        let distance = Distance::between(own, first.rsa_id.into());
        let nearer = nearest.is_none_or(|before| distance < before);
        if nearer && lookups < MAX_JOIN_LOOKUPS {
            self.upkeep.joining = Joining::AwaitNearer {
                lookups: lookups + 1,
                nearest: Some(distance),
            };
            self.begin(own, Purpose::Join);
            return;
        }
        self.upkeep.joining = Joining::Joined;
        // Every bucket that is farther than the nearest contact can be filled; the farthest, which
        // all lookups begin in, first.
        let nearest = distance.bucket().unwrap_or(0);
        self.upkeep.refresh = (nearest.saturating_add(1)..=159).collect();
        self.upkeep.walks = FIRST_WALKS;
        self.upkeep.walk_at = self.now + self.spread(self.config.walk_every);
        self.upkeep.own_at = self.now + self.spread(OWN_EVERY);
        self.events.push_back(KadEvent::Joined);
        self.pump_upkeep();
    }
}
