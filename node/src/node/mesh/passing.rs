//! Questions under way: bringing each to whom it is for, or to somebody who is linked to that one,
//! and the answer back to whoever asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_core::Rng;

use super::meter::Meter;
use super::questions::{AskPurpose, Reply};
use crate::ids::{LinkId, RsaId};
use crate::node::Node;
use crate::node::timers::Wake;
use crate::time::Instant;
use crate::wire::{Answer, AskFailure, PeerAsk, Question, RelayMessage};

/// How long a question may be under way, here or anywhere.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Questions under way here in all. Peers fill it; one more is answered with BUSY.
const MAX_ASKS: usize = 4096;
/// Questions that wait for the circuit to one neighbour. We and those whose questions we pass on
/// fill it; one more goes elsewhere or fails.
const MAX_WAITING: usize = 64;
/// Who is tried at most to bring a question nearer to whom it is for.
const MAX_TRIED: usize = 5;

/// Whose question it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Own(AskPurpose),
    Passed { link: LinkId, reply: Reply },
}

/// A question under way.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) asker: Asker,
    to: RsaId,
    passes: u8,
    hints: Vec<RsaId>,
    question: Question,
    /// Over which link it went or will go.
    pub(super) over: Option<LinkId>,
    /// Who may be tried if this one cannot pass it on.
    untried: VecDeque<RsaId>,
    /// How many messages of the answer were to follow the last one that came.
    pub(super) remaining: Option<u8>,
    expires: Instant,
}

/// Questions under way.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    pub(super) by_token: BTreeMap<u64, Ask>,
    expiries: BTreeSet<(Instant, u64)>,
    /// Questions that wait for a link, or for the circuit to the neighbour at its end.
    pub(super) waiting: BTreeMap<LinkId, Vec<u64>>,
    /// What each link asked of late.
    pub(super) meters: BTreeMap<LinkId, Meter>,
}

impl Asks {
    /// A link is gone: answers to who asked over it are of no use.
    pub(super) fn forget_link(&mut self, link: LinkId) {
        self.meters.remove(&link);
        let asks = self.by_token.iter();
        let orphans: Vec<u64> = asks
            .filter(|(_, ask)| matches!(ask.asker, Asker::Passed { link: of, .. } if of == link))
            .map(|(token, _)| *token)
            .collect();
        for token in orphans {
            self.take(token);
        }
    }

    pub(super) fn take(&mut self, token: u64) -> Option<Ask> {
        let ask = self.by_token.remove(&token)?;
        self.expiries.remove(&(ask.expires, token));
        if let Asker::Passed { link, .. } = ask.asker
            && let Some(meter) = self.meters.get_mut(&link)
        {
            meter.under_way = meter.under_way.saturating_sub(1);
        }
        Some(ask)
    }
}

impl Node {
    pub(super) fn begin_ask(
        &mut self,
        asker: Asker,
        to: RsaId,
        hints: Vec<RsaId>,
        question: Question,
        passes: u8,
    ) -> Result<(), AskFailure> {
        if self.mesh.asks.by_token.len() >= MAX_ASKS {
            return Err(AskFailure::BUSY);
        }
        let untried = self.candidates(asker, to, &hints);
        if untried.is_empty() {
            return Err(AskFailure::UNREACHABLE);
        }
        if let Asker::Passed { link, .. } = asker
            && let Some(meter) = self.mesh.asks.meters.get_mut(&link)
        {
            meter.under_way += 1;
        }
        let token = self.rng.next_u64();
        let expires = self.now + ASK_TIMEOUT;
        let ask = Ask {
            asker,
            to,
            passes,
            hints,
            question,
            over: None,
            untried,
            remaining: None,
            expires,
        };
        self.mesh.asks.by_token.insert(token, ask);
        self.mesh.asks.expiries.insert((expires, token));
        self.wake_asks();
        self.try_next(token, AskFailure::UNREACHABLE);
        Ok(())
    }

    /// Who may bring a question to whom it is for, the likeliest first: the peer itself and the
    /// hints, those that are linked before those that must be dialled; for a question of our own
    /// also our bridges, to whom most are linked, and the neighbours of longest standing.
    fn candidates(&self, asker: Asker, to: RsaId, hints: &[RsaId]) -> VecDeque<RsaId> {
        let came_from = match asker {
            Asker::Passed { link, .. } => self.mesh.ids_of(link).map(|ids| ids.rsa),
            Asker::Own(_) => None,
        };
        let named = || std::iter::once(to).chain(hints.iter().copied());
        let linked = named().filter(|rsa| self.mesh.link_to(rsa).is_some());
        let dialled =
            named().filter(|rsa| self.mesh.link_to(rsa).is_none() && self.dialable(rsa).is_some());
        let bridges = self.bridges.iter().filter_map(|bridge| {
            let ids = self.mesh.ids_of(bridge.link?)?;
            matches!(asker, Asker::Own(_)).then_some(ids.rsa)
        });
        let mut candidates = VecDeque::new();
        let oldest = self.mesh.neighbours.values().map(|peer| peer.ids.rsa);
        let oldest = oldest.filter(|_| matches!(asker, Asker::Own(_)));
        for rsa in linked.chain(dialled).chain(bridges).chain(oldest) {
            if candidates.len() == MAX_TRIED {
                break;
            }
            let fit = Some(rsa) != came_from && Some(rsa) != self.own_rsa();
            if fit && !candidates.contains(&rsa) {
                candidates.push_back(rsa);
            }
        }
        candidates
    }

    /// Sends a question to the next who may bring it on; `failure` if there is nobody left.
    pub(super) fn try_next(&mut self, token: u64, failure: AskFailure) {
        loop {
            let Some(ask) = self.mesh.asks.by_token.get_mut(&token) else {
                return;
            };
            ask.over = None;
            let Some(next) = ask.untried.pop_front() else {
                return self.end_ask(token, failure);
            };
            let link = self.mesh.link_to(&next).or_else(|| {
                let router = self.dialable(&next)?;
                self.reach_directly(&router)
            });
            if let Some(link) = link
                && self.send_ask(token, link)
            {
                return;
            }
        }
    }

    /// Sends a question over a link, or lets it wait for the circuit to the neighbour there. False
    /// if it cannot be.
    pub(super) fn send_ask(&mut self, token: u64, link: LinkId) -> bool {
        let Some(ask) = self.mesh.asks.by_token.get_mut(&token) else {
            return true;
        };
        ask.over = Some(link);
        let message = RelayMessage::PeerAsk(PeerAsk {
            passes: ask.passes,
            token,
            to: ask.to,
            hints: ask.hints.clone(),
            question: ask.question.clone(),
        });
        if let Some(way) = self.open_way_of(link) {
            self.send_way(way, None, &message);
            return true;
        }
        let waiting = self.mesh.asks.waiting.entry(link).or_default();
        if waiting.len() >= MAX_WAITING {
            return false;
        }
        waiting.push(token);
        self.open_way(link);
        true
    }

    /// What was asked over a link, or waited for it, is asked elsewhere.
    pub(super) fn redirect(&mut self, link: LinkId) {
        self.mesh.asks.waiting.remove(&link);
        let cut: Vec<u64> = self
            .mesh
            .asks
            .by_token
            .iter()
            .filter(|(_, ask)| ask.over == Some(link))
            .map(|(token, _)| *token)
            .collect();
        for token in cut {
            self.try_next(token, AskFailure::UNREACHABLE);
        }
    }

    /// A question is over without an answer, or with half of one.
    pub(super) fn end_ask(&mut self, token: u64, failure: AskFailure) {
        let Some(ask) = self.mesh.asks.take(token) else {
            return;
        };
        if let Some(link) = ask.over
            && let Some(waiting) = self.mesh.asks.waiting.get_mut(&link)
        {
            waiting.retain(|waits| *waits != token);
        }
        match ask.asker {
            Asker::Own(purpose) => self.unanswered(purpose, failure),
            Asker::Passed { reply, .. } => self.send_answer(reply, 0, Answer::Failed(failure)),
        }
    }

    /// Questions that are late.
    pub(crate) fn expire_asks(&mut self) {
        while let Some((at, token)) = self.mesh.asks.expiries.first().copied() {
            if at > self.now {
                break;
            }
            self.end_ask(token, AskFailure::UNREACHABLE);
        }
        self.wake_asks();
    }

    fn wake_asks(&mut self) {
        if let Some((at, _)) = self.mesh.asks.expiries.first() {
            self.timers.set(Wake::Asks, *at);
        }
    }
}
