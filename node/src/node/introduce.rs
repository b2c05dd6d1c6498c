//! Introductions: links over WebRTC to peers that nobody can dial, made by what is passed on for
//! both, sealed ([`crate::crypto::seal`]), by a router that is linked to both.
//!
//! Who wants the link has its host make an offer, and asks the peer over its introducers. The
//! peer's host answers; the answer goes back as the answer to the question. Candidates follow in
//! both directions as questions of the same conversation. Who cannot offer, a native router, says
//! where it is to be dialled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::crypto::seal::{Answerer, Opener, Sealed, SessionId};
use crate::ids::{LinkId, OnionKey, RsaId};
use crate::link::{Expected, Side};
use crate::node::Node;
use crate::node::directory::is_public;
use crate::node::io::{Event, Target};
use crate::node::links::LinkState;
use crate::node::mesh::{AskPurpose, Reply};
use crate::wire::{
    Answer, AskFailure, Decode, Encode, MAX_SEALED, Question, Reader, Signal, Writer,
};

/// Introductions under way in all. We and peers fill it; one more is refused.
const MAX_SESSIONS: usize = 32;
/// Introductions under way that came by one neighbour. It fills it; one more is refused.
const MAX_BY_INTRODUCER: usize = 8;
/// Openings remembered, so that none is taken twice. Peers fill it, no faster than introductions
/// are taken; the oldest gives way.
const MAX_REMEMBERED: usize = 2048;
/// How far two clocks may be apart, seconds.
const FRESH_SECONDS: u64 = 600;

/// What a conversation's own side is.
enum Conversation {
    Opened(Opener),
    Answered(Answerer),
}

/// An introduction under way, for a link that is being made.
struct Session {
    id: SessionId,
    peer: RsaId,
    /// Over whom the peer is asked.
    hints: Vec<RsaId>,
    /// Who passed on the opening, if it was not ours.
    introducer: Option<LinkId>,
    conversation: Conversation,
    /// What the host's answer answers.
    reply: Option<Reply>,
}

/// All introductions under way, each by the link that it is for.
#[derive(Default)]
pub(crate) struct Introductions {
    sessions: BTreeMap<LinkId, Session>,
    seen: BTreeSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Introductions {
    fn link_of(&self, id: SessionId) -> Option<LinkId> {
        let mut all = self.sessions.iter();
        all.find(|(_, session)| session.id == id)
            .map(|(link, _)| *link)
    }

    /// Whether an opening is new; it is not afterwards.
    fn is_new(&mut self, ephemeral: [u8; 32]) -> bool {
        if !self.seen.insert(ephemeral) {
            return false;
        }
        self.order.push_back(ephemeral);
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }

    /// A link stands or is gone: its introduction is over.
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.sessions.remove(&link);
    }
}

impl Node {
    /// Begins a link to a peer that must be introduced. The link that will be, or nothing if it
    /// cannot be tried.
    pub(crate) fn introduce(
        &mut self,
        expected: Expected,
        onion: OnionKey,
        hints: Vec<RsaId>,
    ) -> Option<LinkId> {
        let (own, peer) = (self.own_rsa()?, expected.rsa?);
        if self.introductions.sessions.len() >= MAX_SESSIONS {
            return None;
        }
        let opener = Opener::new(own, peer, onion, &mut self.rng)?;
        let dial_me = if self.config.transports.webrtc {
            None
        } else {
            Some(self.dial_me()?)
        };
        let link = match dial_me {
            None => self.dial(Target::Offer, expected)?,
            Some(_) => self.expect(expected)?,
        };
        self.introductions.sessions.insert(
            link,
            Session {
                id: opener.id(),
                peer,
                hints,
                introducer: None,
                conversation: Conversation::Opened(opener),
                reply: None,
            },
        );
        if let Some(signal) = dial_me {
            self.send_signal(link, &signal);
        }
        self.links.contains_key(&link).then_some(link)
    }

    /// How a router that makes no offers is dialled.
    fn dial_me(&self) -> Option<Signal> {
        let certificate_sha256 = self.config.dtls_certificate_sha256?;
        let addresses = self.config.addresses.clone();
        (!addresses.is_empty()).then_some(Signal::DialMe {
            addresses,
            certificate_sha256,
        })
    }

    /// The host made an offer, an answer or a candidate for a link.
    pub(crate) fn handle_signal(&mut self, link: LinkId, signal: Signal) {
        let allowed = match (self.introductions.sessions.get(&link), &signal) {
            (None, _) | (_, Signal::DialMe { .. }) => false,
            (Some(session), Signal::Offer(_)) => {
                matches!(session.conversation, Conversation::Opened(_))
            }
            (Some(session), Signal::Answer(_)) => session.reply.is_some(),
            (Some(_), Signal::Candidate(_)) => true,
        };
        if allowed {
            self.send_signal(link, &signal);
        }
    }

    fn send_signal(&mut self, link: LinkId, signal: &Signal) {
        let unix_now = self.unix_now();
        let Some(session) = self.introductions.sessions.get_mut(&link) else {
            return;
        };
        let sealed = plain_of(unix_now, signal).and_then(|plain| match &mut session.conversation {
            Conversation::Opened(opener) => opener.seal(&plain),
            Conversation::Answered(answerer) => answerer.seal(&plain),
        });
        let Some(sealed) = sealed.filter(|sealed| sealed.len() <= MAX_SEALED) else {
            // A candidate too many is no loss; without an offer or answer there is no link.
            if !matches!(signal, Signal::Candidate(_)) {
                self.hang_up(link, "what the host offers does not fit in an introduction");
            }
            return;
        };
        if matches!(signal, Signal::Answer(_)) {
            if let Some(reply) = session.reply.take() {
                self.reply(reply, vec![Answer::Introduced(sealed)]);
            }
            return;
        }
        let (peer, hints) = (session.peer, session.hints.clone());
        let purpose = match signal {
            Signal::Candidate(_) => AskPurpose::Trickle,
            _ => AskPurpose::Introduce(link),
        };
        let asked = self.ask(peer, &hints, Question::Introduce(sealed), purpose);
        if let Err(failure) = asked {
            self.handle_not_introduced(purpose, failure);
        }
    }

    /// The peer answered an introduction.
    pub(crate) fn handle_introduced(&mut self, link: LinkId, answer: &Answer) {
        let Answer::Introduced(sealed) = answer else {
            return self.hang_up(
                link,
                "the peer answered an introduction with something else",
            );
        };
        match self.open_signal(link, sealed) {
            Some(signal @ Signal::Answer(_)) => self.emit(Event::Signal { link, signal }),
            _ => self.hang_up(link, "the answer to an introduction is not the peer's"),
        }
    }

    /// An introduction was not answered.
    pub(crate) fn handle_not_introduced(&mut self, purpose: AskPurpose, failure: AskFailure) {
        let AskPurpose::Introduce(link) = purpose else {
            return;
        };
        // Who was told where to dial answers that there is nothing to say.
        if failure == AskFailure::NOTHING && !self.config.transports.webrtc {
            return;
        }
        let why = match failure {
            AskFailure::REFUSED => "the peer takes no more links",
            AskFailure::BUSY => "the peer, or who was to introduce it, is busy",
            AskFailure::UNREACHABLE => "nobody who was asked is linked to the peer",
            _ => "the peer did not take the introduction",
        };
        self.hang_up(link, why);
    }

    /// A question to this node that carries a signal. It is answered now or when the host has.
    pub(crate) fn handle_introduce(&mut self, over: LinkId, reply: Reply, sealed: &[u8]) {
        let failure = match Sealed::of(sealed) {
            Ok(Sealed::Opening { from, ephemeral }) => {
                self.handle_opening(over, reply, from, ephemeral, sealed)
            }
            Ok(Sealed::Further(id) | Sealed::Backward(id)) => {
                let signal = self.introductions.link_of(id).and_then(|link| {
                    let signal = self.open_signal(link, sealed)?;
                    Some((link, signal))
                });
                match signal {
                    Some((link, signal @ Signal::Candidate(_))) => {
                        self.emit(Event::Signal { link, signal });
                        Some(AskFailure::NOTHING)
                    }
                    _ => Some(AskFailure::PROTOCOL),
                }
            }
            Err(_) => Some(AskFailure::PROTOCOL),
        };
        if let Some(failure) = failure {
            self.reply(reply, vec![Answer::Failed(failure)]);
        }
    }

    /// Somebody wants a link. The answer if there is one already; nothing if it comes later, or
    /// never.
    fn handle_opening(
        &mut self,
        over: LinkId,
        reply: Reply,
        from: RsaId,
        ephemeral: [u8; 32],
        sealed: &[u8],
    ) -> Option<AskFailure> {
        let sessions = &self.introductions.sessions;
        let by_it = sessions
            .values()
            .filter(|session| session.introducer == Some(over))
            .count();
        if sessions.len() >= MAX_SESSIONS || by_it >= MAX_BY_INTRODUCER {
            return Some(AskFailure::BUSY);
        }
        let (Some(identity), true) = (
            self.config.identity.clone(),
            self.config.transports.webrtc && self.has_room_for_peer(),
        ) else {
            return Some(AskFailure::REFUSED);
        };
        let own = identity.ids().rsa;
        let secret = identity.onion_secret();
        let Ok((answerer, plain)) = Answerer::accept(own, secret, sealed, &mut self.rng) else {
            return Some(AskFailure::PROTOCOL);
        };
        let Some((at, signal)) = signal_of(&plain) else {
            return Some(AskFailure::PROTOCOL);
        };
        if from == own
            || at.abs_diff(self.unix_now()) > FRESH_SECONDS
            || !self.introductions.is_new(ephemeral)
        {
            return Some(AskFailure::PROTOCOL);
        }
        let expected = Expected {
            rsa: Some(from),
            ed25519: None,
        };
        match signal {
            Signal::Offer(description) => {
                // Both offered at once: the offer of the lower ID stands. Ours does: theirs is not
                // answered, and the other side takes ours.
                let ours = self.introductions.sessions.iter().find(|(_, session)| {
                    session.peer == from && matches!(session.conversation, Conversation::Opened(_))
                });
                if let Some(link) = ours.map(|(link, _)| *link) {
                    if own < from {
                        return None;
                    }
                    // Who waits for it waits for theirs instead.
                    self.introductions.forget(link);
                }
                let target = Target::Answer(Box::new(description));
                let Some(link) = self.dial_as(Side::Responder, target, expected) else {
                    return Some(AskFailure::REFUSED);
                };
                let introducer = self.mesh.ids_of(over).map(|ids| ids.rsa);
                self.introductions.sessions.insert(
                    link,
                    Session {
                        id: answerer.id(),
                        peer: from,
                        hints: introducer.into_iter().collect(),
                        introducer: Some(over),
                        conversation: Conversation::Answered(answerer),
                        reply: Some(reply),
                    },
                );
                None
            }
            Signal::DialMe {
                mut addresses,
                certificate_sha256,
            } => {
                let allow_private = self.config.allow_private;
                addresses.retain(|address| allow_private || is_public(address.ip()));
                let target = Target::WebRtc {
                    addresses: addresses.clone(),
                    certificate_sha256,
                };
                let dialled = !addresses.is_empty() && self.dial(target, expected).is_some();
                Some(if dialled {
                    AskFailure::NOTHING
                } else {
                    AskFailure::REFUSED
                })
            }
            Signal::Answer(_) | Signal::Candidate(_) => Some(AskFailure::PROTOCOL),
        }
    }

    fn open_signal(&mut self, link: LinkId, sealed: &[u8]) -> Option<Signal> {
        let session = self.introductions.sessions.get_mut(&link)?;
        let plain = match &mut session.conversation {
            Conversation::Opened(opener) => opener.open(sealed),
            Conversation::Answered(answerer) => answerer.open(sealed),
        };
        signal_of(&plain.ok()?).map(|(_, signal)| signal)
    }

    /// A link that the other side is going to open: who waits for it is told when it stands.
    fn expect(&mut self, expected: Expected) -> Option<LinkId> {
        self.place_link(Side::Initiator, None, expected)
    }

    /// A link stands: whoever waits for another to the same peer, that is still in the making,
    /// waits for this one no longer, and the other is given up.
    pub(crate) fn take_over_waiting(&mut self, open: LinkId) {
        let Some(ids) = self.links.get(&open).and_then(|link| link.identity()) else {
            return;
        };
        let others: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| {
                matches!(link.state, LinkState::Dialling)
                    && link.expected.rsa == Some(ids.rsa)
                    && link.expected.allows(&ids)
                    && matches!(link.target, None | Some(Target::Offer | Target::Answer(_)))
            })
            .map(|(id, _)| *id)
            .collect();
        for other in others {
            let waiting = match self.links.get_mut(&other) {
                Some(link) => std::mem::take(&mut link.awaited_by),
                None => continue,
            };
            for routed in waiting {
                self.extend_over(routed, open);
            }
            self.own_moves(other, open);
            self.introductions.forget(other);
            self.hang_up(other, "another link to the same peer stands");
        }
    }
}

/// What is sealed: Unix seconds, and the signal.
fn plain_of(unix_now: u64, signal: &Signal) -> Option<Vec<u8>> {
    let mut plain = vec![0; 8 + signal.encoded_len()];
    let mut writer = Writer::new(&mut plain);
    writer.write(&unix_now).ok()?;
    writer.write(signal).ok()?;
    Some(plain)
}

fn signal_of(plain: &[u8]) -> Option<(u64, Signal)> {
    let mut reader = Reader::new(plain);
    let at = reader.read().ok()?;
    let signal = Signal::decode(&mut reader).ok()?;
    reader.finish().ok()?;
    Some((at, signal))
}

#[cfg(test)]
mod tests;
