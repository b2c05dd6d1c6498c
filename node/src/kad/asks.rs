//! Questions under way, and what their answers do.

use super::table::{Contact, K, Known, MAX_FAILURES};
use super::{Ask, AskId, Kad, KadAnswer, KadQuestion, LookupId, MAX_RECORDS_ANSWERED, Purpose};
use crate::ids::{Key, RsaId};
use crate::time::Instant;
use crate::wire::{AskFailure, MAX_HINTS};

/// Contacts that are pinged before they are taken, at once. Whoever tells of nodes fills it; one
/// more is not taken.
const MAX_CHECKS: usize = 16;
/// Messages of one answer. The answerer fills it; one more is nonsense.
const MAX_MESSAGES: usize = K + MAX_RECORDS_ANSWERED;
/// How soon a contact that did not answer is asked again.
const PING_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// Why something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// To know whether a contact is there still.
    Ping,
    /// To know whether one that was told of is there.
    Check,
    /// For a lookup.
    Lookup(LookupId),
    /// To store a record, an own one or another's.
    Store { key: Key, own: bool },
}

#[derive(Debug)]
pub(super) struct Pending {
    to: Known,
    teller: Option<RsaId>,
    /// What will be so of the contact, if it answers a check ([`Contact::met`]).
    met: bool,
    pub(super) cause: Cause,
    deadline: Instant,
    /// When a lookup goes on without it; none once it did.
    slow_at: Option<Instant>,
    nodes: Vec<Known>,
    messages: usize,
}

impl Pending {
    /// When it is to be looked at.
    fn due(&self) -> Instant {
        self.slow_at.unwrap_or(self.deadline).min(self.deadline)
    }
}

impl Kad {
    pub(super) fn ask(
        &mut self,
        to: Known,
        teller: Option<RsaId>,
        question: KadQuestion,
        cause: Cause,
    ) -> AskId {
        let id = AskId(self.next_id());
        let slow_at = match cause {
            Cause::Lookup(_) => Some(self.now + self.config.slow_after),
            Cause::Ping | Cause::Check | Cause::Store { .. } => None,
        };
        let mut hints: Vec<RsaId> = Vec::new();
        // Its introducers are linked to it, by its own word; who told of it may know more.
        let introducers = to.introducers.iter().copied();
        for hint in introducers
            .clone()
            .take(MAX_HINTS - 1)
            .chain(teller)
            .chain(introducers)
        {
            if hints.len() < MAX_HINTS && hint != self.own && !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        let pending = Pending {
            to: to.clone(),
            teller,
            met: false,
            cause,
            deadline: self.now + self.config.ask_timeout,
            slow_at,
            nodes: Vec::new(),
            messages: 0,
        };
        self.asks.insert(id, pending);
        self.outbox.push_back(Ask {
            id,
            to,
            hints,
            question,
        });
        id
    }

    pub(super) fn under_way(&self, is_so: impl Fn(&Cause) -> bool) -> usize {
        self.asks.values().filter(|ask| is_so(&ask.cause)).count()
    }

    /// Pings one that was told of; it becomes a contact if it answers.
    pub(super) fn check(&mut self, contact: Contact) {
        let checks = self.asks.values().filter(|ask| ask.cause == Cause::Check);
        let (mut count, mut twice) = (0, false);
        for check in checks {
            count += 1;
            twice |= check.to.rsa_id == contact.id();
        }
        if count < MAX_CHECKS && !twice {
            let question = KadQuestion::Ping(self.described.clone());
            let id = self.ask(contact.known, contact.teller, question, Cause::Check);
            if let Some(pending) = self.asks.get_mut(&id) {
                pending.met = contact.met;
            }
        }
    }

    /// One message of an answer came, `remaining` more follow.
    pub fn handle_answer(&mut self, now: Instant, id: AskId, remaining: u8, answer: KadAnswer) {
        self.now = now;
        let Some(pending) = self.asks.get_mut(&id) else {
            return;
        };
        pending.messages += 1;
        let too_many = pending.messages + usize::from(remaining) > MAX_MESSAGES;
        let (cause, to) = (pending.cause, pending.to.rsa_id);
        let is_sound = !too_many
            && match (cause, answer) {
                (_, KadAnswer::Stale) => true,
                (Cause::Ping | Cause::Check, KadAnswer::Pong(known)) => {
                    // Another's descriptor, or another's key: not the contact that was asked.
                    let same = known.rsa_id == to
                        && known.ed25519 == pending.to.ed25519
                        && known.provides.is_none();
                    if same && known.expiry > pending.to.expiry {
                        pending.to = known;
                    }
                    same
                }
                (Cause::Lookup(_), KadAnswer::Node(known)) => {
                    let fits = pending.nodes.len() < K && known.provides.is_none();
                    if fits {
                        pending.nodes.push(known);
                    }
                    fits
                }
                (Cause::Lookup(lookup), KadAnswer::Value(record)) => {
                    self.handle_value(lookup, record)
                }
                (Cause::Store { key, own }, KadAnswer::Stored(kept)) => {
                    if own && kept {
                        self.stored(key);
                    }
                    true
                }
                _ => false,
            };
        if !is_sound {
            self.asks.remove(&id);
            self.shun(to);
            self.unanswered(cause, to);
        } else if remaining == 0
            && let Some(pending) = self.asks.remove(&id)
        {
            self.answered(pending);
        }
        self.pump();
    }

    /// Whether a record answers what a lookup asked.
    fn handle_value(&mut self, lookup: LookupId, record: Known) -> bool {
        let Some(running) = self.lookups.get(&lookup) else {
            // The lookup is over.
            return true;
        };
        if running.purpose != Purpose::Value || record.provides != Some(running.lookup.key) {
            return false;
        }
        if !self.has_expired(&record) {
            self.found(lookup, record);
        }
        true
    }

    /// A question was not answered, or that there is nothing to say.
    pub fn handle_ask_failed(&mut self, now: Instant, id: AskId, why: AskFailure) {
        self.now = now;
        if let Some(pending) = self.asks.remove(&id) {
            match (why, pending.cause) {
                // Who knows nobody is there all the same.
                (AskFailure::NOTHING, Cause::Lookup(_)) => self.answered(pending),
                // Who has no time, or whose friends have none, is not gone.
                (AskFailure::BUSY, cause) => self.unanswered(cause, pending.to.rsa_id),
                _ => self.failed(&pending),
            }
        }
        self.pump();
    }

    fn answered(&mut self, pending: Pending) {
        let Pending {
            to,
            mut teller,
            mut met,
            cause,
            nodes,
            ..
        } = pending;
        let id = to.rsa_id;
        if let Cause::Lookup(lookup) = cause
            && let Some(running) = self.lookups.get_mut(&lookup)
        {
            let unix_now = self.config.unix_time + self.now.as_micros() / 1_000_000;
            let nodes = nodes.into_iter().filter(|known| known.expiry > unix_now);
            let reached = running.lookup.handle_answer(id, nodes.collect());
            let walks = running.purpose == Purpose::Walk;
            if let Some(reached) = reached {
                teller = reached.teller;
                met = reached.root.met;
                if walks {
                    let rng = &mut self.rng;
                    let salt = || rand_core::Rng::next_u64(rng);
                    if self.sampler.offer(&reached.known, reached.root.id, salt) {
                        let sampled = super::KadEvent::Sampled(reached.known);
                        self.events.push_back(sampled);
                    }
                }
            }
        }
        let ping_at = self.now + self.next_ping();
        let told_us = matches!(cause, Cause::Ping | Cause::Check);
        if let Some(contact) = self.table.get_mut(id) {
            contact.heard = self.now;
            contact.failures = 0;
            // Who was not told yet of this node is, by a ping.
            if told_us || contact.ping_at > ping_at {
                contact.ping_at = ping_at;
                self.upkeep.ping_by(ping_at);
            }
            if to.expiry > contact.known.expiry && to.ed25519 == contact.known.ed25519 {
                contact.known = to;
            }
            if !contact.linked && teller.is_some() {
                contact.teller = teller;
            }
            contact.met |= met;
        } else if !self.is_shunned(id) && !self.has_expired(&to) {
            let mut contact = self.contact_of(to, teller, false);
            contact.met = met;
            if told_us {
                contact.ping_at = ping_at;
            }
            self.take(contact);
        }
        self.ask_ended(cause);
    }

    /// A node is not there, or cannot be reached.
    fn failed(&mut self, pending: &Pending) {
        let id = pending.to.rsa_id;
        self.note_failure(id);
        self.unanswered(pending.cause, id);
    }

    fn note_failure(&mut self, id: RsaId) {
        let again = self.now + PING_AGAIN;
        let Some(contact) = self.table.get_mut(id) else {
            return;
        };
        contact.failures += 1;
        contact.ping_at = again;
        if contact.failures >= MAX_FAILURES {
            self.table.remove(id);
        }
        self.upkeep.ping_by(again);
    }

    /// Whatever wanted an answer goes on without it.
    fn unanswered(&mut self, cause: Cause, id: RsaId) {
        if let Cause::Lookup(lookup) = cause
            && let Some(running) = self.lookups.get_mut(&lookup)
            && let Some(liar) = running.lookup.handle_failed(id)
        {
            self.note_failure(liar);
        }
        self.ask_ended(cause);
    }

    fn ask_ended(&mut self, cause: Cause) {
        if let Cause::Store { key, own: true } = cause {
            self.store_ended(key);
        }
    }

    /// Looks for answers that are late.
    pub(super) fn handle_late_asks(&mut self) {
        let now = self.now;
        let due: Vec<AskId> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.due() <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(pending) = self.asks.get_mut(&id) else {
                continue;
            };
            if pending.deadline <= now {
                if let Some(pending) = self.asks.remove(&id) {
                    self.failed(&pending);
                }
                continue;
            }
            pending.slow_at = None;
            let to = pending.to.rsa_id;
            if let Cause::Lookup(lookup) = pending.cause
                && let Some(running) = self.lookups.get_mut(&lookup)
            {
                running.lookup.handle_slow(to);
            }
        }
    }

    pub(super) fn next_late_ask(&self) -> Option<Instant> {
        self.asks.values().map(Pending::due).min()
    }
}
