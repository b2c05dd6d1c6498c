//! Circuits ahead of need, and who gets them: choosing paths, feeding torrents with sources.

use crate::order::set_of;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::{FirstHop, Router};
use crate::ids::{CircuitId, Ed25519Id, LinkId, TorrentId};
use crate::link::Expected;
use crate::node::Node;
use crate::node::directory::pick;
use crate::node::origin::{Own, Purpose};
use crate::node::timers::Wake;
use crate::time::Instant;
use crate::wire::{DestroyReason, Roles, VerifiedDescriptor};

/// Circuits kept open for whoever asks next …
const CIRCUITS_AHEAD: usize = 2;
/// … and all that a node has that takes part: to ask over, and to tell ORDBs what it has.
const CIRCUITS_OF_A_PEER: usize = 6;
/// Circuits that may be under construction at once …
const BUILDING_MOST: usize = 4;
/// … unless so often in turn none could be built: then one is tried at a time.
const FAILURES_FEW: u32 = 3;
/// Circuits that one torrent is fetched over at once, where there are as many ORDBs. With the spare
/// ones that are kept ahead its requester has six at least.
const SOURCES: usize = 5;
/// A spare circuit older than this gives way to a fresh one, as in Tor ("MaxCircuitDirtiness").
const SPARE_LIFE: Duration = Duration::from_secs(600);
/// How soon building is tried again after a circuit died or was not built; it doubles each time that
/// none could be built …
const BUILD_AGAIN: Duration = Duration::from_millis(200);
/// … up to this while a torrent waits for its first source …
const BUILD_AGAIN_WANTED: Duration = Duration::from_secs(5);
/// … to this while no circuit stands …
const BUILD_AGAIN_NONE: Duration = Duration::from_secs(30);
/// … and to this while only spares are missing.
const BUILD_AGAIN_MOST: Duration = Duration::from_secs(120);

/// Routers that are tried in one go to begin circuits at, while no bridge can be reached.
const SUBSTITUTES_AT_ONCE: usize = 8;

/// A router that circuits begin at while no bridge can be reached.
#[derive(Debug)]
struct Substitute {
    router: Arc<Router>,
    /// The link that was begun to it; another may stand instead.
    link: LinkId,
    /// Whether it was ever reached.
    stood: bool,
}

/// How building circuits goes.
#[derive(Debug)]
pub(crate) struct Building {
    /// How often in turn no circuit could be built.
    failures: u32,
    /// When it was last tried in vain, or a circuit died.
    failed: Instant,
    /// How much of the pause that `failures` says is kept, in parts of a thousand: so that not all
    /// nodes try again at once.
    jitter: u32,
    substitute: Option<Substitute>,
}

impl Building {
    pub(crate) fn new(now: Instant) -> Self {
        Building {
            failures: 0,
            failed: now,
            jitter: 0,
            substitute: None,
        }
    }

    /// Until when building rests, for `most` at most.
    fn rests_until(&self, most: Duration) -> Instant {
        let doubled = BUILD_AGAIN.saturating_mul(1 << self.failures.min(16));
        self.failed + doubled.min(most) * self.jitter / 1000
    }
}

impl Node {
    /// A router may be a hop from now on.
    pub(crate) fn learn_router(&mut self, router: &VerifiedDescriptor) {
        let unix_now = self.unix_now();
        if self.directory.learn(router, self.now, unix_now) {
            self.hurry_building();
        }
        self.directory_dirty = true;
    }

    /// Something is new by which circuits may be built that could not be, or are wanted that were
    /// not.
    pub(crate) fn hurry_building(&mut self) {
        self.building.failures = self.building.failures.min(1);
        self.directory_dirty = true;
    }

    /// A circuit was built: its routers are well.
    pub(crate) fn building_went_well(&mut self, circuit: CircuitId) {
        self.building.failures = 0;
        let path = self.circuits.get(&circuit).map(|own| own.path());
        for router in path.unwrap_or_default() {
            self.directory.trust(&router.ed25519);
        }
    }

    /// When the next circuit may be begun.
    fn build_after(&self) -> Instant {
        // Whatever the longest pause is, a short one is over.
        let after = self.building.rests_until(BUILD_AGAIN_MOST);
        if after <= self.now {
            return after;
        }
        let waits = |torrent: &TorrentId| {
            let has_source = self.torrents.get(torrent).is_some_and(|t| t.sources() > 0);
            !has_source && self.wants_circuit(*torrent).is_some()
        };
        let stands = |own: &Own| own.opened.is_some() && own.path().len() > 1;
        let most = if self.torrents.keys().any(waits) {
            BUILD_AGAIN_WANTED
        } else if !self.circuits.values().any(|own| stands(own)) {
            BUILD_AGAIN_NONE
        } else {
            BUILD_AGAIN_MOST
        };
        self.building.rests_until(most)
    }

    /// Whether the routers that are known suffice for a circuit.
    pub(crate) fn routers_suffice(&self) -> bool {
        let wanted = self.config.hops.saturating_sub(1);
        let now = self.now;
        let ordbs = self.directory.trusted(Roles::ORDB, now).count();
        ordbs >= 1 && self.directory.trusted(Roles::ROUTER, now).count() >= wanted.max(2)
    }

    /// Makes sure that [`Node::maintain`] is called again at `at`.
    pub(crate) fn wake_directory(&mut self, at: Instant) {
        let sooner = self
            .timers
            .at(Wake::Directory)
            .is_none_or(|before| before > at);
        if sooner {
            self.timers.set(Wake::Directory, at);
        }
    }

    /// Looks after bridges, routers and circuits: whatever is missing is begun.
    pub(crate) fn maintain(&mut self) {
        self.directory_dirty = false;
        self.directory.expire(self.unix_now());
        self.dial_bridges();
        self.talk_to_bridges();
        if self.config.asks {
            self.keep_entries();
            self.keep_substitute();
            self.retire_spares();
            self.feed_torrents();
            let again = self.torrents.values();
            let again = again
                .filter_map(|torrent| torrent.avoids_until(self.now))
                .min();
            if let Some(at) = again {
                self.wake_directory(at);
            }
            self.build_ahead();
        }
    }

    fn retire_spares(&mut self) {
        let old: Vec<CircuitId> = self
            .circuits
            .iter()
            .filter(|(_, own)| {
                own.purpose == Purpose::Ahead
                    && own
                        .opened
                        .is_some_and(|opened| self.now.saturating_since(opened) >= SPARE_LIFE)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.drop_own(id, DestroyReason::FINISHED);
        }
    }

    /// Gives spare circuits to the torrents that have too few sources.
    fn feed_torrents(&mut self) {
        let hungry: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for torrent in hungry {
            while let Some((used, fetches)) = self.wants_circuit(torrent) {
                let Some(circuit) = self.spare_for(&used) else {
                    break;
                };
                if fetches {
                    self.give_source(torrent, circuit);
                } else {
                    self.give_share(torrent, circuit);
                }
            }
        }
    }

    /// The ORDBs that a torrent uses or will not use again, if it wants one more circuit; and
    /// whether to fetch over it, or only to offer.
    fn wants_circuit(&self, torrent: TorrentId) -> Option<(BTreeSet<Ed25519Id>, bool)> {
        let used = self.wants_source(torrent);
        let others = || Some((self.wants_offer(torrent)?, false));
        used.map(|used| (used, true)).or_else(others)
    }

    /// The ORDBs that a shared torrent is offered to, if it is to be offered to one more.
    fn wants_offer(&self, torrent: TorrentId) -> Option<BTreeSet<Ed25519Id>> {
        let own = self.circuits.values();
        let own = own.filter(|own| own.purpose.torrent() == Some(torrent));
        let used: BTreeSet<Ed25519Id> =
            set_of(own.filter_map(|own| Some(own.path().last()?.ed25519)));
        (self.wants_share(torrent) && self.has_ordb_for(torrent, &used)).then_some(used)
    }

    /// The ORDBs that a torrent uses or will not use again, if it wants one more source.
    fn wants_source(&self, torrent: TorrentId) -> Option<BTreeSet<Ed25519Id>> {
        let state = self.torrents.get(&torrent)?;
        let mut used = state.ordbs(self.now, false);
        if state.sources() == 0 && !self.has_trusted_ordb(&used) {
            used = state.ordbs(self.now, true);
        }
        let wants = state.wants_sources() && state.sources() < SOURCES;
        (wants && self.has_ordb_for(torrent, &used)).then_some(used)
    }

    /// Whether there is an ORDB for a torrent that is none of `used`. Who let circuits down of late
    /// counts only for a torrent that has none at all: others would try again and again whether he is
    /// back.
    fn has_ordb_for(&self, torrent: TorrentId, used: &BTreeSet<Ed25519Id>) -> bool {
        let is_other = |router: &VerifiedDescriptor| !used.contains(&router.ed25519);
        let mut own = self.circuits.values();
        self.has_trusted_ordb(used)
            || (!own.any(|own| own.purpose.torrent() == Some(torrent))
                && self.directory.with_roles(Roles::ORDB).any(is_other))
    }

    /// Whether there is an ORDB that is none of `used` and let no circuit down of late.
    fn has_trusted_ordb(&self, used: &BTreeSet<Ed25519Id>) -> bool {
        let mut trusted = self.directory.trusted(Roles::ORDB, self.now);
        trusted.any(|router| !used.contains(&router.ed25519))
    }

    /// An open spare circuit whose ORDB is not among `used`.
    fn spare_for(&self, used: &BTreeSet<Ed25519Id>) -> Option<CircuitId> {
        self.circuits
            .iter()
            .find(|(_, own)| {
                own.purpose == Purpose::Ahead
                    && own.opened.is_some()
                    && own
                        .path()
                        .last()
                        .is_some_and(|ordb| !used.contains(&ordb.ed25519))
            })
            .map(|(id, _)| *id)
    }

    /// Builds what the pool lacks: first for torrents that wait, then spares.
    fn build_ahead(&mut self) {
        loop {
            let spare = self
                .circuits
                .values()
                .filter(|own| own.purpose == Purpose::Ahead);
            let (mut open, mut building) = (0, 0);
            let mut coming: BTreeSet<Ed25519Id> = BTreeSet::new();
            for own in spare {
                coming.extend(own.path().last().map(|ordb| ordb.ed25519));
                if own.opened.is_some() {
                    open += 1;
                } else {
                    building += 1;
                }
            }
            let building_most = match self.building.failures {
                0..FAILURES_FEW => BUILDING_MOST,
                _ => 1,
            };
            // Spares that no torrent can use are not added to without end.
            if building >= building_most || open >= self.circuits_ahead() + SOURCES {
                return;
            }
            // A torrent that waits wants an ORDB that is not its own yet and is not being built.
            let wanted = self.torrents.keys().find_map(|torrent| {
                let (mut used, _) = self.wants_circuit(*torrent)?;
                used.extend(&coming);
                self.has_ordb_for(*torrent, &used).then_some(used)
            });
            let avoid = match wanted {
                Some(used) => used,
                None if open + building >= self.circuits_ahead() => return,
                // Rather the same ORDB twice than one that is not there.
                None if !self.has_trusted_ordb(&coming) => BTreeSet::new(),
                None => coming,
            };
            if !self.build_one(&avoid) {
                return;
            }
        }
    }

    /// How many circuits are kept ready beside those that torrents have.
    fn circuits_ahead(&self) -> usize {
        if self.config.identity.is_none() {
            return CIRCUITS_AHEAD;
        }
        let circuits = self.circuits.values();
        let used = circuits.filter(|own| own.purpose.torrent().is_some());
        CIRCUITS_OF_A_PEER
            .saturating_sub(used.count())
            .max(CIRCUITS_AHEAD)
    }

    /// While no bridge can be reached, circuits begin at a router that was drawn as all hops are,
    /// and then linked to: who is linked already may have chosen us. It stays the same as long as
    /// it can be reached.
    pub(crate) fn keep_substitute(&mut self) {
        if self.bridge_entry().is_some() {
            return;
        }
        for _ in 0..SUBSTITUTES_AT_ONCE {
            let router = match self.building.substitute.take() {
                None => match self.draw_substitute() {
                    Some(router) => router,
                    None => break,
                },
                Some(kept) if self.link_to(&expected_of(&kept.router)).is_some() => {
                    let stood = true;
                    self.building.substitute = Some(Substitute { stood, ..kept });
                    return;
                }
                Some(kept) if self.links.contains_key(&kept.link) => {
                    self.building.substitute = Some(kept);
                    return;
                }
                // Its link may only have been cut.
                Some(kept) if kept.stood => kept.router,
                Some(kept) => {
                    self.directory.suspect(&kept.router.ed25519, self.now);
                    continue;
                }
            };
            match self.link_to_hop(&router) {
                Some(link) => {
                    let stood = false;
                    self.building.substitute = Some(Substitute {
                        router,
                        link,
                        stood,
                    });
                    return;
                }
                None => self.directory.suspect(&router.ed25519, self.now),
            }
        }
        if let Some(at) = self.directory.rests_until(self.now) {
            self.wake_directory(at);
        }
    }

    /// A router to begin circuits at: one that stays where it is before a tab.
    fn draw_substitute(&mut self) -> Option<Arc<Router>> {
        let trusted = self.directory.trusted(Roles::ROUTER, self.now);
        let stays: Vec<&VerifiedDescriptor> =
            trusted.filter(|said| !said.addresses.is_empty()).collect();
        if let Some(said) = pick(&stays, &mut self.rng) {
            return Some(Arc::new(Router::from(*said)));
        }
        let none = BTreeSet::new();
        self.directory
            .choose(Roles::ROUTER, &[], &none, &none, self.now, &mut self.rng)
    }

    /// The link to a router that was drawn: the one that stands, or one that is begun.
    fn link_to_hop(&mut self, router: &Router) -> Option<LinkId> {
        let expected = expected_of(router);
        self.reach_directly(router)
            .or_else(|| self.introduction_to(&expected))
            .or_else(|| self.introduce(expected, router.onion, router.introducers.clone()))
    }

    /// A link to somebody stands or is gone: it may be where circuits are to begin.
    pub(crate) fn substitute_changed(&mut self, link: LinkId) {
        let peer = self.mesh.ids_of(link).map(|ids| ids.ed25519);
        let substitute = self.building.substitute.as_ref();
        if substitute.is_some_and(|kept| kept.link == link || peer == Some(kept.router.ed25519)) {
            self.hurry_building();
        }
    }

    /// Where circuits begin while no bridge can be reached.
    pub(crate) fn substitute_entry(&self) -> Option<(LinkId, FirstHop, Arc<Router>)> {
        let router = &self.building.substitute.as_ref()?.router;
        let link = self.link_to(&expected_of(router))?;
        self.links.get(&link).filter(|link| link.encrypts)?;
        Some((link, FirstHop::Fast, router.clone()))
    }

    /// Begins one circuit whose ORDB is, if possible, none of `avoid`.
    fn build_one(&mut self, avoid: &BTreeSet<Ed25519Id>) -> bool {
        let Some((link, first, entry)) = self.entry() else {
            return false;
        };
        let at = self.build_after();
        if self.now < at {
            self.wake_directory(at);
            return false;
        }
        // Rather none of those that know our address as entries, then rather another ORDB.
        let (none, entries) = (BTreeSet::new(), self.entries());
        let rather_not = set_of(avoid.union(&entries).copied());
        let Some(path) = self
            .choose_path(&entry, &rather_not, &entries)
            .or_else(|| self.choose_path(&entry, avoid, &none))
            .or_else(|| self.choose_path(&entry, &none, &none))
        else {
            // Who failed a moment ago may be all that there is.
            if let Some(at) = self.directory.rests_until(self.now) {
                self.wake_directory(at);
            }
            return false;
        };
        self.build_over(link, path, first, Purpose::Ahead).is_some()
    }

    /// The middles of the circuits that are ready or a torrent's: one more is rather over others, so
    /// that no router takes all of them with it. Which circuit is over whom stays for chance to say.
    fn middles(&self) -> BTreeSet<Ed25519Id> {
        let kept = self
            .circuits
            .values()
            .filter(|own| own.purpose == Purpose::Ahead || own.purpose.torrent().is_some());
        set_of(kept.flat_map(|own| {
            let path = own.path();
            let middles = path.get(1..path.len().saturating_sub(1));
            let middles = middles.unwrap_or_default().iter();
            middles.map(|router| router.ed25519)
        }))
    }

    /// A path of as many routers as are wanted, whose ORDB is none of `no_ordbs` and whose middles
    /// are none of `no_middles`. The ORDB is chosen first: it must have the role. All are
    /// independent samples of those that the bridges introduced.
    fn choose_path(
        &mut self,
        entry: &Arc<Router>,
        no_ordbs: &BTreeSet<Ed25519Id>,
        no_middles: &BTreeSet<Ed25519Id>,
    ) -> Option<Vec<Arc<Router>>> {
        let (taken, any) = ([entry.clone()], BTreeSet::new());
        let ordb =
            self.directory
                .choose(Roles::ORDB, &taken, no_ordbs, &any, self.now, &mut self.rng)?;
        self.path_through(entry, &ordb, no_middles)
    }

    /// A path of as many routers as are wanted from `entry` to `ordb`.
    fn path_through(
        &mut self,
        entry: &Arc<Router>,
        ordb: &Arc<Router>,
        no_middles: &BTreeSet<Ed25519Id>,
    ) -> Option<Vec<Arc<Router>>> {
        let mut taken = vec![entry.clone(), ordb.clone()];
        let mut path = vec![entry.clone()];
        let middles = self.middles();
        for _ in 2..self.config.hops {
            let middle = self.directory.choose(
                Roles::ROUTER,
                &taken,
                no_middles,
                &middles,
                self.now,
                &mut self.rng,
            )?;
            taken.push(middle.clone());
            path.push(middle);
        }
        path.push(ordb.clone());
        Some(path)
    }

    /// Begins a circuit to a certain ORDB: as long as any where this node builds such, else as
    /// short as can be, for a router has nothing to hide but whom it asks for.
    pub(crate) fn build_to(&mut self, ordb: &Arc<Router>, purpose: Purpose) -> Option<CircuitId> {
        if self.config.asks {
            let (link, first, entry) = self.entry()?;
            let (none, entries) = (BTreeSet::new(), self.entries());
            let path = self
                .path_through(&entry, ordb, &entries)
                .or_else(|| self.path_through(&entry, ordb, &none))?;
            return self.build_over(link, path, first, purpose);
        }
        let (link, path) = match self.link_towards(ordb).ok() {
            Some(link) => (link, vec![ordb.clone()]),
            // A tab, which nobody dials: who introduces it is asked to extend to it.
            None => {
                let mut introducers = ordb.introducers.iter();
                let introducer = introducers.find_map(|id| self.dialable(id))?;
                let link = self.link_towards(&introducer).ok()?;
                (link, vec![introducer, ordb.clone()])
            }
        };
        self.build_over(link, path, FirstHop::Fast, purpose)
    }

    /// A spare circuit died or was not built: building rests, so that a router that refuses all is
    /// not flooded, and a node without a way out does not try for ever at full speed.
    pub(crate) fn rest_building(&mut self, was_built: bool) {
        // Those that were begun together fail together, and count once.
        if self.now < self.build_after() {
            return;
        }
        if !was_built {
            self.building.failures = self.building.failures.saturating_add(1);
        }
        self.building.failed = self.now;
        self.building.jitter = 500 + self.rng.next_u32() % 1000;
    }
}

fn expected_of(router: &Router) -> Expected {
    Expected {
        rsa: Some(router.rsa),
        ed25519: Some(router.ed25519),
    }
}
