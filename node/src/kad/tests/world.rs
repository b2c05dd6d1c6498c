//! Thousands of [`Kad`]s in one thread, with latency, silence, churn and liars, out of one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::Rng;

use super::{UNIX_TIME, Who, random_id, rng};
use crate::ids::{Key, RsaId};
use crate::kad::{
    Ask, AskId, Distance, Kad, KadAnswer, KadConfig, KadEvent, KadQuestion, Known, LookupId,
};
use crate::time::Instant;
use crate::wire::AskFailure;

/// What a peer does with questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    Honest,
    /// Names nodes that it makes up, nearer to the key than anybody.
    MakesUp,
    /// Names only its own kind, keeps nothing, says that it does.
    Eclipses,
    /// Names nine nodes.
    TooMany,
    /// Sends what no signature fits.
    Unsigned,
}

pub(super) struct Peer {
    pub(super) kad: Kad,
    pub(super) known: Known,
    pub(super) nature: Nature,
    pub(super) alive: bool,
    pub(super) born: Instant,
    wake: Instant,
}

enum Happening {
    Question(usize, usize, Ask),
    Answer(usize, AskId, u8, KadAnswer),
    Failure(usize, AskId, AskFailure),
    Wake(usize),
}

/// How a lookup ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) peer: usize,
    pub(super) closest: Vec<Known>,
    pub(super) rounds: u32,
    pub(super) asks: usize,
    pub(super) took: Duration,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) rng: ChaCha20Rng,
    pub(super) peers: Vec<Peer>,
    by_id: BTreeMap<RsaId, usize>,
    /// What will happen, in its order.
    happenings: BTreeMap<(Instant, u64), Happening>,
    last: u64,
    begun: BTreeMap<(usize, LookupId), Instant>,
    pub(super) ended: BTreeMap<(usize, LookupId), Ended>,
    pub(super) found: BTreeMap<(usize, LookupId), Vec<Known>>,
    pub(super) published: BTreeMap<(usize, Key), usize>,
    pub(super) sampled: BTreeMap<usize, Vec<RsaId>>,
    /// Questions that went out, and messages of answers.
    pub(super) questions: u64,
    pub(super) answers: u64,
    /// Of a thousand questions so many get no answer.
    pub(super) lost: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        World {
            now: Instant::ZERO,
            rng: rng(seed),
            peers: Vec::new(),
            by_id: BTreeMap::new(),
            happenings: BTreeMap::new(),
            last: 0,
            begun: BTreeMap::new(),
            ended: BTreeMap::new(),
            found: BTreeMap::new(),
            published: BTreeMap::new(),
            sampled: BTreeMap::new(),
            questions: 0,
            answers: 0,
            lost: 0,
        }
    }

    /// So many peers, one of ten native, who come within `within`.
    pub(super) fn populate(&mut self, count: usize, within: Duration) {
        let natives = (count / 10).max(3);
        for place in 0..count {
            let until = within * u32::try_from(place).unwrap() / u32::try_from(count).unwrap();
            self.run_until(Instant::ZERO + until);
            self.join(place < natives);
        }
    }

    /// One more honest peer.
    pub(super) fn join(&mut self, native: bool) -> usize {
        let id = random_id(&mut self.rng);
        let who = if native {
            Who::native(id, &self.public_address())
        } else {
            Who::tab(id)
        };
        self.add(who, Nature::Honest)
    }

    /// An address in a network of its own, as good as surely.
    pub(super) fn public_address(&mut self) -> String {
        let [a, b, c, d] = (self.rng.next_u32()).to_be_bytes();
        format!("{}.{b}.{c}.{d}:443", 11 + a % 80)
    }

    /// One more peer, who links to two natives.
    pub(super) fn add(&mut self, who: Who, nature: Nature) -> usize {
        let place = self.peers.len();
        let entries: Vec<usize> = (0..2).filter_map(|_| self.random_native()).collect();
        let mut who = who;
        if who.addresses.is_empty() && who.introducers.is_empty() {
            who.introducers = entries
                .iter()
                .map(|entry| self.peers[*entry].known.rsa_id)
                .collect();
            who.introducers.dedup();
        }
        let known = who.known();
        let config = KadConfig {
            unix_time: UNIX_TIME,
            ..KadConfig::default()
        };
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let mut kad = Kad::new(who.id, config, seed);
        kad.set_described(self.now, Some(known.clone()));
        self.by_id.insert(who.id, place);
        self.peers.push(Peer {
            kad,
            known,
            nature,
            alive: true,
            born: self.now,
            wake: Instant::FAR_FUTURE,
        });
        for entry in entries {
            self.link(place, entry);
        }
        place
    }

    /// A link between two, and both know it.
    pub(super) fn link(&mut self, a: usize, b: usize) {
        let (known_a, known_b) = (self.peers[a].known.clone(), self.peers[b].known.clone());
        self.peers[a].kad.handle_introduced(self.now, known_b, None);
        self.peers[b].kad.handle_introduced(self.now, known_a, None);
        self.drive(a);
        self.drive(b);
    }

    fn random_native(&mut self) -> Option<usize> {
        for _ in 0..1000 {
            let count = self.peers.len() as u64;
            let place = self.rng.next_u64().checked_rem(count)? as usize;
            let peer = &self.peers[place];
            if peer.alive && peer.nature == Nature::Honest && !peer.known.addresses.is_empty() {
                return Some(place);
            }
        }
        None
    }

    pub(super) fn random_honest(&mut self) -> usize {
        loop {
            let place = (self.rng.next_u64() % self.peers.len() as u64) as usize;
            let peer = &self.peers[place];
            if peer.alive && peer.nature == Nature::Honest && peer.kad.is_joined() {
                return place;
            }
        }
    }

    pub(super) fn kill(&mut self, place: usize) {
        let id = self.peers[place].known.rsa_id;
        self.peers[place].alive = false;
        self.by_id.remove(&id);
        // Its memory is wanted in long runs.
        self.peers[place].kad = Kad::new(id, KadConfig::default(), [0; 32]);
    }

    /// Half of the peers leave in 20 hours, and as many come: what of that falls into `time`.
    pub(super) fn churn(&mut self, time: Duration) {
        let alive = self.peers.iter().filter(|peer| peer.alive).count();
        let share = 1.0 - 0.5_f64.powf(time.as_secs_f64() / 72_000.0);
        let gone = (alive as f64 * share).round() as u32;
        let start = self.now;
        for step in 0..gone {
            self.run_until(start + time * step / gone);
            loop {
                let place = (self.rng.next_u64() % self.peers.len() as u64) as usize;
                if self.peers[place].alive {
                    let native = !self.peers[place].known.addresses.is_empty();
                    self.kill(place);
                    self.join(native);
                    break;
                }
            }
        }
        self.run_until(start + time);
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    pub(super) fn run_until(&mut self, until: Instant) {
        while let Some(next) = self.happenings.first_entry() {
            let (at, _) = *next.key();
            if at > until {
                break;
            }
            let happening = next.remove();
            self.now = at;
            self.happen(happening);
        }
        self.now = self.now.max(until);
    }

    fn after(&mut self, time: Duration, happening: Happening) {
        self.at(self.now + time, happening);
    }

    fn at(&mut self, at: Instant, happening: Happening) {
        self.last += 1;
        self.happenings.insert((at, self.last), happening);
    }

    fn latency(&mut self) -> Duration {
        Duration::from_millis(20 + self.rng.next_u64() % 130)
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Question(from, to, ask) => self.question(from, to, &ask),
            Happening::Answer(to, ask, remaining, answer) => {
                if self.peers[to].alive {
                    self.peers[to]
                        .kad
                        .handle_answer(now, ask, remaining, answer);
                    self.drive(to);
                }
            }
            Happening::Failure(to, ask, why) => {
                if self.peers[to].alive {
                    self.peers[to].kad.handle_ask_failed(now, ask, why);
                    self.drive(to);
                }
            }
            Happening::Wake(place) => {
                let peer = &mut self.peers[place];
                if peer.alive && peer.wake <= now {
                    peer.wake = Instant::FAR_FUTURE;
                    peer.kad.handle_timeout(now);
                    self.drive(place);
                }
            }
        }
    }

    fn question(&mut self, from: usize, to: usize, ask: &Ask) {
        if !self.peers[to].alive || self.rng.next_u64() % 1000 < self.lost {
            return;
        }
        // A tab is reached by an introducer of its own, a native by whoever asks.
        let by = match self.peers[to].known.introducers.first() {
            Some(introducer) => *introducer,
            None => self.peers[from].known.rsa_id,
        };
        let mut answers = self.answers_of(to, by, &ask.question);
        self.drive(to);
        let latency = self.latency();
        if answers.is_empty() {
            let failure = Happening::Failure(from, ask.id, AskFailure::NOTHING);
            self.after(latency, failure);
            return;
        }
        answers.truncate(250);
        self.answers += answers.len() as u64;
        let count = answers.len();
        for (place, answer) in answers.into_iter().enumerate() {
            let remaining = u8::try_from(count - place - 1).unwrap();
            self.after(latency, Happening::Answer(from, ask.id, remaining, answer));
        }
    }

    fn answers_of(&mut self, to: usize, by: RsaId, question: &KadQuestion) -> Vec<KadAnswer> {
        let (now, nature) = (self.now, self.peers[to].nature);
        let key = match question {
            KadQuestion::FindNode(key) | KadQuestion::FindValue(key) => *key,
            KadQuestion::Store(_) if nature == Nature::Eclipses => {
                return vec![KadAnswer::Stored(true)];
            }
            KadQuestion::Store(_) | KadQuestion::Ping(_) => {
                return self.peers[to].kad.handle_question(now, Some(by), question);
            }
        };
        match nature {
            Nature::Honest => self.peers[to].kad.handle_question(now, Some(by), question),
            Nature::MakesUp => (0..8)
                .map(|_| {
                    let mut id = key.0;
                    self.rng.fill_bytes(&mut id[8..]);
                    KadAnswer::Node(Who::tab(RsaId(id)).known())
                })
                .collect(),
            Nature::Eclipses => {
                let like = |peer: &&Peer| peer.nature == Nature::Eclipses && peer.alive;
                let mut own: Vec<_> = self.peers.iter().filter(like).collect();
                own.sort_by_key(|peer| Distance::between(key, peer.known.rsa_id.into()));
                let own = own.into_iter().take(8);
                own.map(|peer| KadAnswer::Node(peer.known.clone()))
                    .collect()
            }
            Nature::TooMany => {
                let others = self.peers.iter().filter(|peer| peer.alive).take(9);
                others
                    .map(|peer| KadAnswer::Node(peer.known.clone()))
                    .collect()
            }
            Nature::Unsigned => vec![KadAnswer::Invalid],
        }
    }

    /// Takes out of a peer all that it wants.
    pub(super) fn drive(&mut self, place: usize) {
        while let Some(ask) = self.peers[place].kad.poll_ask() {
            self.questions += 1;
            let latency = self.latency();
            let Some(to) = self.by_id.get(&ask.to.rsa_id).copied() else {
                // Gone: half of the time somebody knows it and says so.
                if self.rng.next_u64().is_multiple_of(2) {
                    let failure = Happening::Failure(place, ask.id, AskFailure::UNREACHABLE);
                    self.after(latency * 2, failure);
                }
                continue;
            };
            // Who has no address is reached by those who are linked to it, if they are named.
            let target = &self.peers[to].known;
            let direct = !target.addresses.is_empty();
            if direct
                || ask
                    .hints
                    .iter()
                    .any(|hint| target.introducers.contains(hint))
            {
                self.after(latency, Happening::Question(place, to, ask));
            } else {
                let failure = Happening::Failure(place, ask.id, AskFailure::UNREACHABLE);
                self.after(latency * 2, failure);
            }
        }
        while let Some(event) = self.peers[place].kad.poll_event() {
            self.event(place, event);
        }
        let (at, _) = self.peers[place].kad.poll_timeout();
        if at < self.peers[place].wake {
            self.peers[place].wake = at;
            self.at(at.max(self.now), Happening::Wake(place));
        }
    }

    fn event(&mut self, place: usize, event: KadEvent) {
        match event {
            KadEvent::Finished {
                lookup,
                closest,
                rounds,
                asks,
                ..
            } => {
                let begun = self.begun.remove(&(place, lookup)).unwrap_or(self.now);
                let ended = Ended {
                    peer: place,
                    closest,
                    rounds,
                    asks,
                    took: self.now - begun,
                };
                self.ended.insert((place, lookup), ended);
            }
            KadEvent::Found { lookup, record } => {
                self.found.entry((place, lookup)).or_default().push(record);
            }
            KadEvent::Published { key, kept } => {
                self.published.insert((place, key), kept);
            }
            KadEvent::Sampled(known) => {
                self.sampled.entry(place).or_default().push(known.rsa_id);
            }
            KadEvent::Renew(key) => self.publish(place, key),
            KadEvent::Joined => {}
        }
    }

    /// Publishes a record of a peer, signed now.
    pub(super) fn publish(&mut self, place: usize, key: Key) {
        let known = &self.peers[place].known;
        let who = Who {
            addresses: known.addresses.clone(),
            introducers: known.introducers.clone(),
            ..Who::tab(known.rsa_id)
        };
        let expiry = UNIX_TIME + self.now.as_micros() / 1_000_000 + 7200;
        let record = who.providing(key).until(expiry).known();
        assert!(self.peers[place].kad.publish(self.now, record));
        self.drive(place);
    }

    pub(super) fn find_node(&mut self, place: usize, key: Key) -> (usize, LookupId) {
        let id = self.peers[place].kad.find_node(self.now, key);
        self.begun.insert((place, id), self.now);
        self.drive(place);
        (place, id)
    }

    pub(super) fn find_value(&mut self, place: usize, key: Key) -> (usize, LookupId) {
        let id = self.peers[place].kad.find_value(self.now, key);
        self.begun.insert((place, id), self.now);
        self.drive(place);
        (place, id)
    }

    /// The honest peers nearest to a key of those that have been there for a minute.
    pub(super) fn nearest(&self, key: Key, count: usize) -> Vec<RsaId> {
        let settled = |peer: &&Peer| {
            peer.alive
                && peer.nature == Nature::Honest
                && self.now.saturating_since(peer.born) >= Duration::from_secs(60)
        };
        let mut all: Vec<RsaId> = self
            .peers
            .iter()
            .filter(settled)
            .map(|peer| peer.known.rsa_id)
            .collect();
        all.sort_by_key(|id| Distance::between(key, (*id).into()));
        all.truncate(count);
        all
    }
}
