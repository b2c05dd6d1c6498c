//! Neighbours: the peers at the other ends of links, what they are asked, and what they ask.
//!
//! A question ([`PeerAsk`]) travels on a circuit of one hop to a neighbour, which is opened when the
//! first question is there and then kept. Whoever is not the one that is asked passes it on to whom
//! it is linked to, with a token of its own, and keeps the way back until the answer has come or the
//! question has expired. A tab that came by WebSocket is asked backward on its own circuit.

use crate::order::ascending;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::{FirstHop, Router};
use crate::ids::{CircuitId, LinkId, OnionKey, RsaId, StreamId};
use crate::kad::AskId;
use crate::link::{RouterIds, Side};
use crate::node::Node;
use crate::node::io::{Event, LinkTransport};
use crate::node::links::{Link, Owner};
use crate::node::origin::Purpose;
use crate::node::timers::Wake;
use crate::time::Instant;
use crate::wire::{
    Answer, AskFailure, Descriptor, MAX_HINTS, MAX_INTRODUCERS, PeerAnswer, PeerAsk, Question,
    RelayMessage, Roles, VerifiedDescriptor,
};

/// How long a question may be under way, here or anywhere.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a question of our own may be passed on: to a hint, to an introducer that the hint is
/// linked to, to the peer.
const OWN_PASSES: u8 = 3;
/// Questions under way here in all. Peers fill it; one more is answered with BUSY.
const MAX_ASKS: usize = 4096;
/// Questions under way here that came over one link. The peer fills it; one more is answered with
/// BUSY.
const MAX_ASKS_OF_LINK: usize = 128;
/// Questions that wait for the circuit to one neighbour. We and those whose questions we pass on
/// fill it; one more goes elsewhere or fails.
const MAX_WAITING: usize = 64;
/// Tokens remembered of each link, so that no question is passed on twice. The peer fills it; the
/// oldest is forgotten.
const MAX_TOKENS: usize = 256;
/// Messages that one question may be answered with; a longer answer is an error.
const MAX_ANSWERS: u8 = 32;
/// Questions that come over one link in a second, in the long run; more are answered with BUSY …
const ASKS_PER_SECOND: u64 = 50;
/// … unless it was silent before.
const ASKS_AT_ONCE: u64 = 250;
/// Links that are kept though nothing is done over them: of those to peers, and of those over TLS
/// that were dialled from here.
const KEEP_LINKS: usize = 8;
/// How long a link has nothing to do before it is closed.
const IDLE: Duration = Duration::from_secs(300);
/// Who is tried at most to bring a question nearer to whom it is for.
const MAX_TRIED: usize = 5;

/// The stream that questions backward on a peer's circuit name: they need none, the token tells
/// them apart, and a client counts its own from one.
const BACKWARD: StreamId = StreamId(u16::MAX);

/// A circuit over which questions and answers come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One of our own; the peer is its last hop.
    Own(CircuitId),
    /// One that ends here; the peer is its client.
    Back(u64),
}

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

/// Whose question it is.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Own(AskPurpose),
    Passed { link: LinkId, reply: Reply },
}

/// A question under way.
#[derive(Debug)]
struct Ask {
    asker: Asker,
    to: RsaId,
    passes: u8,
    hints: Vec<RsaId>,
    question: Question,
    /// Over which link it went or will go.
    over: Option<LinkId>,
    /// Who may be tried if this one cannot pass it on.
    untried: VecDeque<RsaId>,
    /// How many messages of the answer were to follow the last one that came.
    remaining: Option<u8>,
    expires: Instant,
}

/// A peer at the other end of a link that proved who it is.
#[derive(Debug)]
struct Neighbour {
    ids: RouterIds,
    /// What its descriptor says, once it has been seen.
    roles: Option<Roles>,
    descriptor: Option<VerifiedDescriptor>,
    way: Option<Way>,
}

/// What a link asked of late.
#[derive(Debug)]
struct Meter {
    tokens: BTreeSet<u64>,
    order: VecDeque<u64>,
    under_way: usize,
    /// When it may ask again as if it had never asked: a leaky bucket as one moment.
    empty_at: Instant,
}

impl Meter {
    fn new() -> Self {
        Meter {
            tokens: BTreeSet::new(),
            order: VecDeque::new(),
            under_way: 0,
            empty_at: Instant::ZERO,
        }
    }

    /// Whether one more question is within the rate.
    fn allows(&mut self, now: Instant) -> bool {
        let cost = Duration::from_micros(1_000_000 / ASKS_PER_SECOND);
        let depth = Duration::from_micros(1_000_000 * ASKS_AT_ONCE / ASKS_PER_SECOND);
        let begin = self.empty_at.max(now);
        if begin.saturating_since(now) + cost > depth {
            return false;
        }
        self.empty_at = begin + cost;
        true
    }

    /// Whether a token is new; it is not afterwards.
    fn is_new(&mut self, token: u64) -> bool {
        if !self.tokens.insert(token) {
            return false;
        }
        self.order.push_back(token);
        if self.order.len() > MAX_TOKENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.tokens.remove(&oldest);
        }
        true
    }
}

/// Neighbours and questions.
#[derive(Default)]
pub(crate) struct Mesh {
    neighbours: BTreeMap<LinkId, Neighbour>,
    /// Links by the ID of who is at the other end.
    by_rsa: BTreeMap<RsaId, BTreeSet<LinkId>>,
    meters: BTreeMap<LinkId, Meter>,
    asks: BTreeMap<u64, Ask>,
    expiries: BTreeSet<(Instant, u64)>,
    /// Questions that wait for a link, or for the circuit to the neighbour at its end.
    waiting: BTreeMap<LinkId, Vec<u64>>,
    /// All that came here in clear: what an introducer can know.
    #[cfg(test)]
    pub(crate) heard_asks: Vec<PeerAsk>,
    #[cfg(test)]
    pub(crate) heard_answers: Vec<PeerAnswer>,
}

/// What a node carries for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Circuits now.
    pub circuits: usize,
    /// Bytes of cells since it began.
    pub bytes: u64,
}

/// A neighbour, for whoever looks at the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourStatus {
    /// The link to it.
    pub link: LinkId,
    /// What the link runs over.
    pub transport: crate::node::LinkTransport,
    /// Its ID.
    pub rsa: RsaId,
    /// What it does, once it has said so.
    pub roles: Option<Roles>,
    /// Since when the link stands.
    pub since: Instant,
    /// Bytes handed to the link.
    pub bytes_sent: u64,
    /// Bytes that came over it.
    pub bytes_received: u64,
}

impl Mesh {
    /// The link to the neighbour of this ID; the oldest, if there are several.
    pub(crate) fn link_to(&self, rsa: &RsaId) -> Option<LinkId> {
        self.by_rsa.get(rsa)?.first().copied()
    }

    /// Who is at the other end of a link.
    pub(crate) fn ids_of(&self, link: LinkId) -> Option<RouterIds> {
        self.neighbours.get(&link).map(|neighbour| neighbour.ids)
    }

    /// What a neighbour says of itself, if it has said so.
    pub(crate) fn descriptor_of(&self, link: LinkId) -> Option<&VerifiedDescriptor> {
        self.neighbours.get(&link)?.descriptor.as_ref()
    }

    fn add(&mut self, link: LinkId, ids: RouterIds) {
        let neighbour = self.neighbours.entry(link).or_insert(Neighbour {
            ids,
            roles: None,
            descriptor: None,
            way: None,
        });
        neighbour.ids = ids;
        self.by_rsa.entry(ids.rsa).or_default().insert(link);
    }

    fn remove(&mut self, link: LinkId) -> Option<Neighbour> {
        let neighbour = self.neighbours.remove(&link)?;
        if let Some(links) = self.by_rsa.get_mut(&neighbour.ids.rsa) {
            links.remove(&link);
            if links.is_empty() {
                self.by_rsa.remove(&neighbour.ids.rsa);
            }
        }
        Some(neighbour)
    }

    fn take_ask(&mut self, token: u64) -> Option<Ask> {
        let ask = self.asks.remove(&token)?;
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
    /// The peers at the other ends of links that proved who they are.
    pub fn neighbours(&self) -> Vec<NeighbourStatus> {
        let status = |(id, neighbour): (&LinkId, &Neighbour)| {
            let link = self.links.get(id)?;
            Some(NeighbourStatus {
                link: *id,
                transport: link.transport,
                rsa: neighbour.ids.rsa,
                roles: neighbour.roles,
                since: link.since,
                bytes_sent: link.bytes_sent,
                bytes_received: link.bytes_received,
            })
        };
        self.mesh.neighbours.iter().filter_map(status).collect()
    }

    /// What this node carries for others.
    pub fn carried(&self) -> Carried {
        let circuits = self.routed.values().filter(|routed| routed.is_carried());
        Carried {
            circuits: circuits.count(),
            bytes: self.counters.cells_relayed * crate::wire::CELL_LEN as u64,
        }
    }

    /// Whether one more peer may be linked to; an idle one makes room.
    pub(crate) fn has_room_for_peer(&mut self) -> bool {
        let most = self.config.limits.peers;
        if self.peer_links() < most {
            return true;
        }
        if let Some(idle) = self.idlest_link(Duration::from_secs(30), Link::is_to_peer) {
            self.hang_up(idle, "a new peer takes the place of an idle one");
        }
        self.peer_links() < most
    }

    /// Closes links that have had nothing to do for long, but for a few that keep this node in the
    /// mesh. Whoever wants one again makes it again.
    pub(crate) fn close_idle_links(&mut self) {
        // What others dialled over TLS is theirs to close: a router that waits is asked over it.
        let dialled = |link: &Link| {
            link.side == Side::Initiator && link.transport == LinkTransport::Tls && link.is_open()
        };
        for of_kind in [Link::is_to_peer as fn(&Link) -> bool, dialled] {
            while self.links.values().filter(|link| of_kind(link)).count() > KEEP_LINKS
                && let Some(idle) = self.idlest_link(IDLE, of_kind)
            {
                self.hang_up(idle, "nothing was done over it for long");
            }
        }
    }

    fn peer_links(&self) -> usize {
        let links = self.links.values();
        links.filter(|link| link.is_to_peer()).count()
    }

    /// The link of a kind that has had nothing to do for the longest time, and for as long as
    /// `idle` at least.
    fn idlest_link(&self, idle: Duration, of_kind: fn(&Link) -> bool) -> Option<LinkId> {
        let for_questions = |owner: &Owner| match owner {
            Owner::Own(circuit) => self
                .circuits
                .get(circuit)
                .is_none_or(|own| matches!(own.purpose, Purpose::Neighbour(_))),
            Owner::RoutedPrevious(key) => {
                let routed = self.routed.get(key);
                routed.is_none_or(|routed| !routed.is_carried())
            }
            Owner::RoutedNext(_) => false,
        };
        self.links
            .iter()
            .filter(|(id, link)| {
                link.is_open()
                    && of_kind(link)
                    && self.now.saturating_since(link.used) >= idle
                    && !self.bridges.iter().any(|bridge| bridge.link == Some(**id))
                    && link.circuits.values().all(for_questions)
            })
            .min_by_key(|(_, link)| link.used)
            .map(|(id, _)| *id)
    }

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
        let meter = self.mesh.meters.entry(link).or_insert_with(Meter::new);
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
        let meter = self.mesh.meters.entry(link).or_insert_with(Meter::new);
        if meter.under_way >= MAX_ASKS_OF_LINK {
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
        let Some(ask) = self.mesh.asks.get_mut(&token) else {
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
            self.mesh.take_ask(token);
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
    fn unanswered(&mut self, purpose: AskPurpose, failure: AskFailure) {
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

    /// Somebody's descriptor came, by a neighbour that may have passed it on: Kademlia takes it.
    fn handle_told(&mut self, descriptor: &Descriptor, teller: Option<RsaId>) {
        if let Ok(verified) = descriptor.verify(self.unix_now()) {
            self.note_neighbour(&verified);
            if teller.is_some() {
                self.kademlia_contact(&verified, teller);
            }
        }
    }

    /// Somebody's descriptor came: a neighbour's is kept.
    pub(crate) fn handle_descriptor(&mut self, descriptor: &Descriptor) {
        let Ok(verified) = descriptor.verify(self.unix_now()) else {
            return;
        };
        self.note_neighbour(&verified);
    }

    /// What a neighbour says of itself.
    pub(crate) fn note_neighbour(&mut self, verified: &VerifiedDescriptor) {
        let links = self.mesh.by_rsa.get(&verified.rsa_id);
        let links = links.cloned().unwrap_or_default();
        let mut is_neighbour = false;
        for link in links {
            if let Some(neighbour) = self.mesh.neighbours.get_mut(&link)
                && neighbour.ids.ed25519 == verified.ed25519
            {
                neighbour.roles = Some(verified.roles);
                neighbour.descriptor = Some(verified.clone());
                is_neighbour = true;
            }
        }
        // Whoever connects becomes a contact.
        if is_neighbour {
            self.kademlia_contact(verified, None);
            // It is as good a sample as any other: it was not chosen for its ID.
            if self.config.asks && !self.is_bridge(&verified.ed25519) {
                self.learn_router(verified);
            }
        }
    }

    /// A link stands. If the other side proved who it is, it is a neighbour.
    pub(crate) fn neighbour_link_open(&mut self, link: LinkId) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let Some(ids) = state.identity() else {
            return;
        };
        let greets = state.side == Side::Initiator && state.transport == LinkTransport::WebRtc;
        self.mesh.add(link, ids);
        self.open_way(link);
        // Who is at the other end of a TLS link may be a relay of Tor's, which nobody asks.
        if greets {
            self.greet(link, ids.rsa);
        }
    }

    /// A circuit stands over which a neighbour is asked that its link alone does not prove: a
    /// bridge that ntor proved, or a tab that registered.
    pub(crate) fn neighbour_by(&mut self, link: LinkId, ids: RouterIds, way: Way) {
        self.mesh.add(link, ids);
        if let Some(neighbour) = self.mesh.neighbours.get_mut(&link) {
            neighbour.way = Some(way);
        }
        self.way_open(link);
        if matches!(way, Way::Own(_)) {
            self.greet(link, ids.rsa);
        }
    }

    /// Tells a neighbour who we are, and asks the same of it.
    fn greet(&mut self, link: LinkId, rsa: RsaId) {
        let own = self.own_descriptor().map(Box::new);
        // If it cannot be asked, its link is as good as gone.
        let _ = self.ask(rsa, &[], Question::Ping(own), AskPurpose::Greeting(link));
    }

    /// What this node says of itself has changed: those whom it asks are told.
    pub(crate) fn greet_again(&mut self) {
        let asked = self.mesh.neighbours.iter();
        let asked = asked.filter(|(_, neighbour)| matches!(neighbour.way, Some(Way::Own(_))));
        let asked: Vec<(LinkId, RsaId)> = asked.map(|(link, n)| (*link, n.ids.rsa)).collect();
        for (link, rsa) in asked {
            self.greet(link, rsa);
        }
    }

    /// A link is gone, and with it the neighbour and what was asked over it.
    pub(crate) fn neighbour_gone(&mut self, link: LinkId) {
        self.forget_neighbour(link);
        self.mesh.meters.remove(&link);
        self.redirect(link);
        // Answers to who is gone are of no use.
        let orphans: Vec<u64> = self
            .mesh
            .asks
            .iter()
            .filter(|(_, ask)| matches!(ask.asker, Asker::Passed { link: of, .. } if of == link))
            .map(|(token, _)| *token)
            .collect();
        for token in orphans {
            self.mesh.take_ask(token);
        }
    }

    fn forget_neighbour(&mut self, link: LinkId) {
        let gone = self.mesh.remove(link);
        if let Some(rsa) = gone.map(|gone| gone.ids.rsa)
            && self.mesh.link_to(&rsa).is_none()
        {
            self.kademlia_unlinked(rsa);
        }
    }

    /// A circuit that questions went over is gone. The link may stand.
    pub(crate) fn way_gone(&mut self, link: LinkId, way: Way) {
        let Some(neighbour) = self.mesh.neighbours.get_mut(&link) else {
            return;
        };
        if neighbour.way != Some(way) {
            return;
        }
        neighbour.way = None;
        // Nothing but this circuit proved it.
        let unproven = self
            .links
            .get(&link)
            .is_none_or(|link| link.identity().is_none());
        if unproven {
            self.forget_neighbour(link);
        }
        self.redirect(link);
    }

    /// The circuit to a neighbour stands: what waited for it goes.
    pub(crate) fn way_open(&mut self, link: LinkId) {
        for token in self.mesh.waiting.remove(&link).unwrap_or_default() {
            self.send_ask(token, link);
        }
    }

    /// Questions that are late.
    pub(crate) fn expire_asks(&mut self) {
        while let Some((at, token)) = self.mesh.expiries.first().copied() {
            if at > self.now {
                break;
            }
            self.end_ask(token, AskFailure::UNREACHABLE);
        }
        self.wake_asks();
    }

    fn wake_asks(&mut self) {
        if let Some((at, _)) = self.mesh.expiries.first() {
            self.timers.set(Wake::Asks, *at);
        }
    }

    fn begin_ask(
        &mut self,
        asker: Asker,
        to: RsaId,
        hints: Vec<RsaId>,
        question: Question,
        passes: u8,
    ) -> Result<(), AskFailure> {
        if self.mesh.asks.len() >= MAX_ASKS {
            return Err(AskFailure::BUSY);
        }
        let untried = self.candidates(asker, to, &hints);
        if untried.is_empty() {
            return Err(AskFailure::UNREACHABLE);
        }
        if let Asker::Passed { link, .. } = asker
            && let Some(meter) = self.mesh.meters.get_mut(&link)
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
        self.mesh.asks.insert(token, ask);
        self.mesh.expiries.insert((expires, token));
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
            let fit = Some(rsa) != came_from && Some(rsa) != self.own_rsa();
            if fit && !candidates.contains(&rsa) && candidates.len() < MAX_TRIED {
                candidates.push_back(rsa);
            }
        }
        candidates
    }

    /// Sends a question to the next who may bring it on; `failure` if there is nobody left.
    fn try_next(&mut self, token: u64, failure: AskFailure) {
        loop {
            let Some(ask) = self.mesh.asks.get_mut(&token) else {
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
    fn send_ask(&mut self, token: u64, link: LinkId) -> bool {
        let Some(ask) = self.mesh.asks.get_mut(&token) else {
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
        let waiting = self.mesh.waiting.entry(link).or_default();
        if waiting.len() >= MAX_WAITING {
            return false;
        }
        waiting.push(token);
        self.open_way(link);
        true
    }

    /// The circuit to a neighbour, if it stands.
    fn open_way_of(&self, link: LinkId) -> Option<Way> {
        let way = self.mesh.neighbours.get(&link)?.way?;
        match way {
            Way::Own(circuit) => self.circuits.get(&circuit)?.opened.map(|_| way),
            Way::Back(_) => Some(way),
        }
    }

    /// Begins the circuit to a neighbour for whom something waits.
    fn open_way(&mut self, link: LinkId) {
        let waits = self.mesh.waiting.contains_key(&link);
        let Some(neighbour) = self.mesh.neighbours.get(&link) else {
            return;
        };
        if !waits || neighbour.way.is_some() {
            return;
        }
        let ids = neighbour.ids;
        let onion = self.mesh.descriptor_of(link).map(|said| said.onion_key);
        let encrypts = self.links.get(&link).is_some_and(|link| link.encrypts);
        let first = match (encrypts, onion) {
            (true, _) => FirstHop::Fast,
            (false, Some(_)) => FirstHop::Ntor,
            (false, None) => return self.redirect(link),
        };
        let router = Arc::new(Router {
            rsa: ids.rsa,
            ed25519: ids.ed25519,
            onion: onion.unwrap_or(OnionKey([0; 32])),
            addresses: Vec::new(),
            dtls: None,
            introducers: Vec::new(),
        });
        let circuit = self.build_over(link, vec![router], first, Purpose::Neighbour(link));
        match (circuit, self.mesh.neighbours.get_mut(&link)) {
            (Some(circuit), Some(neighbour)) => neighbour.way = Some(Way::Own(circuit)),
            _ => self.redirect(link),
        }
    }

    /// What was asked over a link, or waited for it, is asked elsewhere.
    fn redirect(&mut self, link: LinkId) {
        self.mesh.waiting.remove(&link);
        let cut: Vec<u64> = self
            .mesh
            .asks
            .iter()
            .filter(|(_, ask)| ask.over == Some(link))
            .map(|(token, _)| *token)
            .collect();
        for token in cut {
            self.try_next(token, AskFailure::UNREACHABLE);
        }
    }

    /// A question is over without an answer, or with half of one.
    fn end_ask(&mut self, token: u64, failure: AskFailure) {
        let Some(ask) = self.mesh.take_ask(token) else {
            return;
        };
        if let Some(link) = ask.over
            && let Some(waiting) = self.mesh.waiting.get_mut(&link)
        {
            waiting.retain(|waits| *waits != token);
        }
        match ask.asker {
            Asker::Own(purpose) => self.unanswered(purpose, failure),
            Asker::Passed { reply, .. } => self.send_answer(reply, 0, Answer::Failed(failure)),
        }
    }

    fn send_answer(&mut self, reply: Reply, remaining: u8, answer: Answer) {
        let message = RelayMessage::PeerAnswer(PeerAnswer {
            token: reply.token,
            remaining,
            answer,
        });
        self.send_way(reply.way, Some(reply.stream), &message);
    }

    fn send_way(&mut self, way: Way, stream: Option<StreamId>, message: &RelayMessage<'_>) {
        match way {
            Way::Own(circuit) => {
                let stream = stream.or_else(|| self.allocate_stream(circuit));
                self.send_own(circuit, stream, message);
            }
            Way::Back(routed) => {
                let stream = stream.unwrap_or(BACKWARD);
                self.send_back(routed, Some(stream), message);
            }
        }
    }

    /// Who asks, if it is the neighbour itself: a circuit that was extended to here may be
    /// anybody's, whose name nobody needs to know.
    fn asker(&self, way: Way, link: LinkId) -> Option<RsaId> {
        let is_peers = match way {
            Way::Own(_) => true,
            Way::Back(routed) => self.routed.get(&routed)?.is_peers,
        };
        let ids = self.mesh.ids_of(link).filter(|_| is_peers)?;
        Some(ids.rsa)
    }

    /// The link that a circuit's peer is at.
    fn link_of(&self, way: Way) -> Option<LinkId> {
        match way {
            Way::Own(circuit) => self.circuits.get(&circuit).map(|own| own.link()),
            Way::Back(routed) => self
                .routed
                .get(&routed)
                .map(|routed| routed.previous_link()),
        }
    }

    /// This node's ID, if it shows one.
    pub(crate) fn own_rsa(&self) -> Option<RsaId> {
        let identity = self.config.identity.as_ref()?;
        Some(identity.ids().rsa)
    }

    /// The routers that introduce this node: those it is linked to that are always there first,
    /// then the neighbours of longest standing.
    pub(crate) fn own_introducers(&self) -> Vec<RsaId> {
        // Who is dialled by address needs none.
        if !self.config.addresses.is_empty() {
            return Vec::new();
        }
        let mut neighbours: Vec<(bool, Instant, RsaId)> = self
            .mesh
            .neighbours
            .iter()
            .filter_map(|(id, neighbour)| {
                let link = self.links.get(id)?;
                let bridge = self.bridges.iter().any(|bridge| bridge.link == Some(*id));
                let descriptor = neighbour.descriptor.as_ref();
                let stays = bridge || descriptor.is_some_and(|d| !d.addresses.is_empty());
                Some((!stays, link.since, neighbour.ids.rsa))
            })
            .collect();
        neighbours = ascending(neighbours);
        let mut ids = Vec::new();
        for (_, _, rsa) in neighbours {
            if ids.len() < MAX_INTRODUCERS && !ids.contains(&rsa) {
                ids.push(rsa);
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_once_and_the_oldest_is_forgotten() {
        let mut meter = Meter::new();
        assert!(meter.is_new(1));
        assert!(!meter.is_new(1));
        assert!((2..=MAX_TOKENS as u64 + 1).all(|token| meter.is_new(token)));
        assert_eq!(meter.tokens.len(), MAX_TOKENS);
        assert!(meter.is_new(1), "long ago");
    }

    #[test]
    fn the_rate_is_held_in_the_long_run() {
        let mut meter = Meter::new();
        let mut allowed = 0;
        for millis in 0..100_000 {
            let now = Instant::from_micros(millis * 1000);
            allowed += u64::from(meter.allows(now));
        }
        let most = ASKS_AT_ONCE + 100 * ASKS_PER_SECOND;
        assert!((most - 2..=most + 2).contains(&allowed), "{allowed}");
    }
}
