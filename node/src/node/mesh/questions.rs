//! Questions that neighbours ask this node, and those of its own.

use super::meter::Meter;
use super::passing::Asker;
use super::ways::Way;
use crate::ids::{LinkId, RsaId, StreamId};
use crate::kad::AskId;
use crate::node::Node;
use crate::node::io::Event;
use crate::time::Instant;
use crate::wire::{Answer, AskFailure, MAX_HINTS, PeerAnswer, PeerAsk, Question, RelayMessage};

/// How often a question of our own may be passed on: to a hint, to an introducer that the hint is
/// linked to, to the peer.
const OWN_PASSES: u8 = 3;
/// Messages that one question may be answered with; a longer answer is an error.
const MAX_ANSWERS: u8 = 32;

/// How a question stands to be answered, by whoever answers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    way: Way,
    stream: StreamId,
    token: u64,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskPurpose {
    /// To know a neighbour's descriptor.
    Greeting(LinkId),
    /// A link to the peer is to be made: this is its offer.
    Introduce(LinkId),
    /// One more candidate, which nobody has to answer.
    Trickle,
    /// The host wants to know whether the peer is there.
    Ping(RsaId),
    /// Kademlia asks.
    Kademlia(AskId),
}

impl Node {
    /// Asks whether a peer is there, by way of the neighbours that `hints` name if it is none
    /// itself; [`Event::Ping`] follows.
    pub fn ping(&mut self, now: Instant, to: RsaId, hints: &[RsaId]) {
        self.now = now;
        let purpose = AskPurpose::Ping(to);
        if let Err(failure) = self.ask(to, hints, Question::Ping(None), purpose) {
            self.unanswered(purpose, failure);
        }
        self.settle();
    }

    /// Asks the peer `to`, by way of the neighbours that `hints` name if it is none itself. The
    /// answers, or that none will come, are told to what `purpose` names; an error is told at once,
    /// and to nobody else.
    pub(crate) fn ask(
        &mut self,
        to: RsaId,
        hints: &[RsaId],
        question: Question,
        purpose: AskPurpose,
    ) -> Result<(), AskFailure> {
        let hints: Vec<RsaId> = hints.iter().copied().take(MAX_HINTS).collect();
        self.begin_ask(Asker::Own(purpose), to, hints, question, OWN_PASSES)
    }

    /// Answers a question that was asked of this node.
    pub(crate) fn reply(&mut self, reply: Reply, answers: Vec<Answer>) {
        let answers = if answers.is_empty() {
            vec![Answer::Failed(AskFailure::NOTHING)]
        } else {
            answers
        };
        let count = answers.len().min(usize::from(MAX_ANSWERS));
        for (index, answer) in answers.into_iter().take(count).enumerate() {
            let remaining = u8::try_from(count - 1 - index).unwrap_or(0);
            self.send_answer(reply, remaining, answer);
        }
    }

    /// PEER_ASK came.
    pub(crate) fn handle_peer_ask(&mut self, way: Way, stream: StreamId, ask: PeerAsk) {
        let Some(link) = self.link_of(way) else {
            return;
        };
        #[cfg(test)]
        self.mesh.heard_asks.push(ask.clone());
        let now = self.now;
        let reply = Reply {
            way,
            stream,
            token: ask.token,
        };
        let meter = self.mesh.asks.meters.entry(link).or_insert_with(Meter::new);
        if !meter.allows(now) {
            return self.reply(reply, vec![Answer::Failed(AskFailure::BUSY)]);
        }
        if !meter.is_new(ask.token) {
            return self.reply(reply, vec![Answer::Failed(AskFailure::PROTOCOL)]);
        }
        if self.own_rsa() == Some(ask.to) {
            let from = self.asker(way, link);
            return self.handle_question(link, from, reply, ask.question);
        }
        // Who is nobody passes nothing on.
        let Some(passes) = ask
            .passes
            .checked_sub(1)
            .filter(|_| self.own_rsa().is_some())
        else {
            return self.reply(reply, vec![Answer::Failed(AskFailure::UNREACHABLE)]);
        };
        let meter = self.mesh.asks.meters.entry(link).or_insert_with(Meter::new);
        if meter.is_full() {
            return self.reply(reply, vec![Answer::Failed(AskFailure::BUSY)]);
        }
        let asker = Asker::Passed { link, reply };
        let passed = self.begin_ask(asker, ask.to, ask.hints, ask.question, passes);
        if let Err(failure) = passed {
            self.reply(reply, vec![Answer::Failed(failure)]);
        }
    }

    /// A question for this node. Every arm answers, now or later.
    fn handle_question(
        &mut self,
        over: LinkId,
        from: Option<RsaId>,
        reply: Reply,
        question: Question,
    ) {
        let answers = match question {
            Question::Ping(descriptor) => {
                if let Some(descriptor) = descriptor {
                    self.handle_told(&descriptor, from);
                }
                match self.own_descriptor() {
                    Some(own) => vec![Answer::Pong(Box::new(own))],
                    None => Vec::new(),
                }
            }
            Question::FindNode(_) | Question::FindValue(_) | Question::Store(_) => {
                self.kademlia_question(from, &question)
            }
            Question::Introduce(sealed) => return self.handle_introduce(over, reply, &sealed),
        };
        self.reply(reply, answers);
    }

    /// PEER_ANSWER came.
    pub(crate) fn handle_peer_answer(&mut self, way: Way, answer: PeerAnswer) {
        #[cfg(test)]
        self.mesh.heard_answers.push(answer.clone());
        let link = self.link_of(way);
        let token = answer.token;
        // Late, or invented: nobody waits for it.
        let Some(ask) = self.mesh.asks.by_token.get_mut(&token) else {
            return;
        };
        if ask.over.is_none() || ask.over != link {
            return;
        }
        let counts_down = match ask.remaining {
            None => answer.remaining < MAX_ANSWERS,
            Some(before) => answer.remaining < before,
        };
        if !counts_down {
            return self.end_ask(token, AskFailure::PROTOCOL);
        }
        let first = ask.remaining.is_none();
        if let Answer::Failed(failure) = answer.answer {
            // Somebody else may be nearer.
            let elsewhere = failure == AskFailure::UNREACHABLE || failure == AskFailure::BUSY;
            return if first && elsewhere {
                self.try_next(token, failure)
            } else {
                self.end_ask(token, failure)
            };
        }
        ask.remaining = Some(answer.remaining);
        let asker = ask.asker;
        if answer.remaining == 0 {
            self.mesh.asks.take(token);
        }
        match asker {
            Asker::Own(purpose) => self.answered(purpose, answer.remaining, answer.answer),
            Asker::Passed { reply, .. } => {
                self.send_answer(reply, answer.remaining, answer.answer);
            }
        }
    }

    /// A question of ours is answered, or a part of it; after `remaining` more nothing follows.
    fn answered(&mut self, purpose: AskPurpose, remaining: u8, answer: Answer) {
        match (purpose, answer) {
            (AskPurpose::Kademlia(ask), answer) => {
                self.kademlia_answered(ask, remaining, &answer);
            }
            (AskPurpose::Greeting(link), Answer::Pong(descriptor)) => {
                let is_its_own = self.mesh.ids_of(link).is_some_and(|ids| {
                    let said = descriptor.unverified();
                    (ids.rsa, ids.ed25519) == (said.rsa_id, said.ed25519)
                });
                if is_its_own {
                    self.handle_descriptor(&descriptor);
                }
            }
            (AskPurpose::Ping(rsa), Answer::Pong(descriptor)) => {
                let roles = descriptor.unverified().roles;
                self.emit(Event::Ping {
                    rsa,
                    outcome: Ok(roles),
                });
            }
            (AskPurpose::Ping(rsa), _) => {
                self.unanswered(AskPurpose::Ping(rsa), AskFailure::PROTOCOL)
            }
            (AskPurpose::Introduce(link), answer) => self.handle_introduced(link, &answer),
            (AskPurpose::Greeting(_) | AskPurpose::Trickle, _) => {}
        }
    }

    /// A question of ours will not be answered.
    pub(super) fn unanswered(&mut self, purpose: AskPurpose, failure: AskFailure) {
        match purpose {
            AskPurpose::Ping(rsa) => self.emit(Event::Ping {
                rsa,
                outcome: Err(failure),
            }),
            AskPurpose::Kademlia(ask) => self.kademlia_unanswered(ask, failure),
            AskPurpose::Introduce(_) => self.handle_not_introduced(purpose, failure),
            AskPurpose::Greeting(_) | AskPurpose::Trickle => {}
        }
    }

    pub(super) fn send_answer(&mut self, reply: Reply, remaining: u8, answer: Answer) {
        let message = RelayMessage::PeerAnswer(PeerAnswer {
            token: reply.token,
            remaining,
            answer,
        });
        self.send_way(reply.way, Some(reply.stream), &message);
    }
}
