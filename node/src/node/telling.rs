//! What an ORDB says of what it was told: to those at whose torrent it is, how many others hold
//! it; to the ORDBs that are its neighbours, which names it can be asked for.
//!
//! It says that *it* can be asked, never over whose circuit. It says so a while later, drawn at
//! random, and of many names together: who sees a circuit begin learns nothing by when a name is
//! told. A neighbour is told what it has not told itself, and once; what was heard is never told
//! on, so nothing goes round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::Router;
use crate::ids::{Ed25519Id, LinkId, RsaId};
use crate::node::Node;
use crate::node::heard::{self, Heard};
use crate::node::mesh::Way;
use crate::node::timers::Wake;
use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::{DbTold, Holders, RelayMessage, Roles};

/// How long changes are gathered before those at the torrent's circuits are told.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How long what is new is kept to oneself, and up to twice as long by chance.
const GOSSIP_AFTER: Duration = Duration::from_secs(5);
/// How long it counts; it is told again when half of it has passed.
const GOSSIP_LIFE: Duration = Duration::from_secs(1800);
/// Messages to one neighbour at a time; the rest goes the next time.
const MAX_AT_ONCE: usize = 32;
/// Circuits that wait to be told of a name. Those who tell and ask fill it; one more is told at the
/// next change.
const MAX_DUE: usize = 4096;

/// What is to be told, and what was heard.
pub(crate) struct Telling {
    pub(crate) heard: Heard,
    /// Circuits whose clients are to be told how many hold a name.
    due: BTreeSet<(Infohash, u64)>,
    /// What each neighbour was told, and when: at most [`heard::MAX_NAMES`], as more is not kept
    /// there.
    told: BTreeMap<LinkId, BTreeMap<Infohash, Instant>>,
    count_at: Option<Instant>,
    gossip_at: Option<Instant>,
}

impl Telling {
    pub(crate) fn new() -> Self {
        Telling {
            heard: Heard::default(),
            due: BTreeSet::new(),
            told: BTreeMap::new(),
            count_at: None,
            gossip_at: None,
        }
    }
}

impl Node {
    /// What was told to this ORDB has changed.
    pub(crate) fn tell_changes(&mut self) {
        for name in self.relays.adverts.take_changed() {
            let tellers = self.relays.adverts.tellers(&name);
            let askers = self.server.circuits_of(&name);
            let circuits = tellers.chain(askers);
            let due = circuits.map(|circuit| (name, circuit));
            self.telling.due.extend(due.take(MAX_DUE));
        }
        while self.telling.due.len() > MAX_DUE {
            self.telling.due.pop_last();
        }
        self.wake_telling();
    }

    /// Somebody asks for a name: he is told how many hold it.
    pub(crate) fn tell_asker(&mut self, circuit: u64, name: Infohash) {
        if self.relays.adverts.has(&name) && self.telling.due.len() < MAX_DUE {
            self.telling.due.insert((name, circuit));
            self.wake_telling();
        }
    }

    fn wake_telling(&mut self) {
        let is_quiet = self.telling.due.is_empty() && self.telling.told.is_empty();
        if is_quiet && self.relays.adverts.is_empty() {
            return;
        }
        let now = self.now;
        let spread = u64::from(self.rng.next_u32()) * 1000 % micros(GOSSIP_AFTER);
        let telling = &mut self.telling;
        if !telling.due.is_empty() {
            telling.count_at.get_or_insert(now + COUNT_EVERY);
        }
        let gossips = self.config.limits.told_neighbours > 0;
        let has_any = !self.relays.adverts.is_empty() || !telling.told.is_empty();
        if gossips && has_any && telling.gossip_at.is_none() {
            let after = GOSSIP_AFTER + Duration::from_micros(spread);
            telling.gossip_at = Some(now + after);
        }
        let at = telling.count_at.into_iter().chain(telling.gossip_at).min();
        if let Some(at) = at {
            self.timers.set(Wake::Telling, at);
        }
    }

    /// The time has come to tell.
    pub(crate) fn tell(&mut self) {
        let now = self.now;
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if is_due(&mut self.telling.count_at) {
            while let Some((name, circuit)) = self.telling.due.pop_first() {
                let told = self.told_of(name, Some(circuit));
                self.send_back(circuit, None, &RelayMessage::DbTold(told));
            }
        }
        if is_due(&mut self.telling.gossip_at) {
            self.relays.adverts.expire(now);
            self.adverts_changed();
            self.gossip();
        }
        self.wake_telling();
    }

    /// What is said of a name; to whom told over `except`, of the others.
    fn told_of(&self, name: Infohash, except: Option<u64>) -> DbTold {
        DbTold {
            life_seconds: u16::try_from(GOSSIP_LIFE.as_secs()).unwrap_or(u16::MAX),
            holders: self.relays.adverts.holders(&name, except),
            name,
        }
    }

    /// Tells neighbouring ORDBs what they do not know yet, and takes back what is so no longer.
    fn gossip(&mut self) {
        let is_ordb = |roles: Option<Roles>| roles.is_some_and(|it| it.contains(Roles::ORDB));
        let mut peers: Vec<(LinkId, RsaId)> = Vec::new();
        for neighbour in self.neighbours() {
            let has_room = peers.len() < self.config.limits.told_neighbours;
            let is_new = peers.iter().all(|(_, rsa)| *rsa != neighbour.rsa);
            if has_room && is_new && is_ordb(neighbour.roles) {
                peers.push((neighbour.link, neighbour.rsa));
            }
        }
        let stays = |link: &LinkId| peers.iter().any(|(known, _)| known == link);
        self.telling.told.retain(|link, _| stays(link));
        for (link, rsa) in peers {
            let Some(way) = self.open_way_of(link) else {
                // What it is asked opens one; it is told the next time.
                self.greet(link, rsa);
                continue;
            };
            for (name, is_so) in self.news_for(link, rsa) {
                let mut told = self.told_of(name, None);
                let known = self.telling.told.entry(link).or_default();
                if is_so {
                    known.insert(name, self.now);
                } else {
                    known.remove(&name);
                    told.holders = Holders::default();
                }
                self.counters.names_told += 1;
                let message = RelayMessage::DbTold(told);
                match way {
                    Way::Own(circuit) => self.send_own(circuit, None, &message),
                    Way::Back(routed) => self.send_back(routed, None, &message),
                }
            }
        }
        self.telling.told.retain(|_, names| !names.is_empty());
    }

    /// What a neighbour is to be told now: names, and whether they can be asked for here.
    fn news_for(&self, link: LinkId, rsa: RsaId) -> Vec<(Infohash, bool)> {
        let (adverts, heard, now) = (&self.relays.adverts, &self.telling.heard, self.now);
        let none = BTreeMap::new();
        let told = self.telling.told.get(&link).unwrap_or(&none);
        let over = told.keys().filter(|name| !adverts.has(name));
        let mut news: Vec<_> = over.map(|name| (*name, false)).take(MAX_AT_ONCE).collect();
        let mut room = heard::MAX_NAMES.saturating_sub(told.len());
        for name in adverts.names() {
            if news.len() >= MAX_AT_ONCE {
                break;
            }
            match told.get(name) {
                Some(at) if now.saturating_since(*at) < GOSSIP_LIFE / 2 => continue,
                Some(_) => {}
                None if room == 0 => continue,
                None => room -= 1,
            }
            // Who told of it knows it.
            if !heard.has_from(now, rsa, name) {
                news.push((*name, true));
            }
        }
        news
    }

    /// A neighbour says what it can be asked for.
    pub(crate) fn handle_told_of(&mut self, way: Way, told: &DbTold) {
        if !self.config.roles.contains(Roles::ORDB) || self.config.limits.told_neighbours == 0 {
            return;
        }
        let link = self.link_of(way);
        let Some(from) = link.and_then(|link| self.asker(way, link)) else {
            return;
        };
        if self.telling.heard.handle_told(self.now, from, told) {
            self.relays.handle_heard(told.name);
        }
    }

    /// A neighbour is gone.
    pub(crate) fn telling_gone(&mut self, link: LinkId, rsa: RsaId) {
        self.telling.told.remove(&link);
        if self.mesh.link_to(&rsa).is_none() {
            self.telling.heard.forget(rsa);
        }
    }

    /// The next ORDB that said that it can be asked for a name, and was not.
    pub(crate) fn heard_provider(
        &mut self,
        name: &Infohash,
        tried: &BTreeSet<Ed25519Id>,
    ) -> Option<Arc<Router>> {
        let routers = |rsa: RsaId| -> Option<Arc<Router>> {
            let link = self.mesh.link_to(&rsa)?;
            let said = self.mesh.descriptor_of(link);
            let said = said.map(|said| Arc::new(Router::from(said)));
            said.or_else(|| self.dialable(&rsa))
        };
        let known = self.telling.heard.tellers_of(name);
        let known: Vec<Arc<Router>> = known
            .into_iter()
            .filter_map(routers)
            .filter(|router| !tried.contains(&router.ed25519))
            .collect();
        let fit = |rsa| known.iter().any(|router| router.rsa == rsa);
        let rsa = self.telling.heard.take(self.now, name, fit)?;
        known.into_iter().find(|router| router.rsa == rsa)
    }

    /// Whether any ORDB said that it can be asked for a name.
    pub(crate) fn has_heard(&self, name: &Infohash) -> bool {
        self.telling.heard.has(self.now, name)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
