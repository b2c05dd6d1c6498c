//! What a simulated network is asked: lookups, hidden names, views, faults, liars.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chive_node::ids::{Key, RsaId, TorrentId};
use chive_node::kad::LookupId;
use chive_node::node::Event;
use chive_node::time::Instant;
use chive_node::torrent::Infohash;

use serde::Serialize;

use super::population::{Population, Tab};
use super::report::Colluding;
use crate::sim::{Download, NodeIndex, Views, hold};
use crate::torrents::TestTorrent;

/// Tabs that are asked for or ask have been there so long.
const SETTLED: Duration = Duration::from_secs(120);
/// Lookups and downloads under way at once.
const AT_ONCE: usize = 50;
/// What a lookup may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(60);
/// What a small download may take.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);
/// How often all views are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A shared file: a few chunks, for thousands of them are fetched.
const FILE_BYTES: usize = 100_000;
const PIECE_BYTES: usize = 1 << 15;

/// What lookups came to.
#[derive(Clone, Debug, Default)]
pub struct Lookups {
    /// How many there were.
    pub asked: u32,
    /// How many found the tab that was looked for.
    pub found: u32,
    /// The rounds of those.
    pub rounds: Vec<u32>,
}

impl Lookups {
    /// The share that found.
    pub fn success(&self) -> f64 {
        f64::from(self.found) / f64::from(self.asked.max(1))
    }

    /// The median of the rounds.
    pub fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_unstable();
        rounds
            .get(rounds.len() / 2)
            .map_or(f64::NAN, |rounds| f64::from(*rounds))
    }
}

impl Population {
    /// A tab that has been there for a while, none of `but`.
    pub fn settled_tab(&mut self, but: &BTreeSet<NodeIndex>) -> Tab {
        // Nearly all are: under churn of half in hours only the newest are not.
        for _ in 0..10_000 {
            let tab = self.any_tab();
            let age = self.world.now().saturating_since(tab.since);
            if age >= SETTLED && !but.contains(&tab.node) {
                return tab;
            }
        }
        panic!("no tab has been there for {SETTLED:?}");
    }

    /// Tabs look for other tabs by their IDs.
    pub fn lookups(&mut self, count: u32) -> Lookups {
        let mut outcome = Lookups::default();
        let mut under_way: BTreeMap<(NodeIndex, LookupId), (RsaId, Instant)> = BTreeMap::new();
        while outcome.asked < count || !under_way.is_empty() {
            while outcome.asked < count && under_way.len() < AT_ONCE {
                let from = self.settled_tab(&BTreeSet::new());
                let target = self.settled_tab(&BTreeSet::from([from.node]));
                self.world.keep_events(from.node, true);
                let key = Key::from(target.rsa);
                let lookup = self
                    .world
                    .call(from.node, |node, now| node.find_node(now, key))
                    .expect("a tab takes part in Kademlia");
                outcome.asked += 1;
                let until = self.world.now() + LOOKUP_LIMIT;
                under_way.insert((from.node, lookup), (target.rsa, until));
            }
            self.run(Duration::from_millis(100));
            let nodes: BTreeSet<NodeIndex> = under_way.keys().map(|(node, _)| *node).collect();
            for node in nodes {
                for event in self.world.take_events(node) {
                    let Event::LookedUp {
                        lookup,
                        closest,
                        rounds,
                        ..
                    } = event
                    else {
                        continue;
                    };
                    if let Some((target, _)) = under_way.remove(&(node, lookup))
                        && closest.contains(&target)
                    {
                        outcome.found += 1;
                        outcome.rounds.push(rounds);
                    }
                }
            }
            let now = self.world.now();
            let there: BTreeSet<NodeIndex> = self.tabs.iter().map(|tab| tab.node).collect();
            under_way.retain(|(node, _), (target, until)| {
                // Who left in the middle asked nothing, and who was looked for and left is not
                // there to be found.
                if !there.contains(node) || !self.tabs.iter().any(|tab| tab.rsa == *target) {
                    outcome.asked -= 1;
                    return false;
                }
                *until > now
            });
        }
        outcome
    }

    /// A tab shares a small file of its own.
    pub fn share(&mut self, tab: Tab, torrent: &TestTorrent) -> TorrentId {
        let pieces = u32::try_from(torrent.content.len().div_ceil(PIECE_BYTES)).expect("small");
        hold(&mut self.world, tab.node, torrent, 0..pieces, true)
    }

    /// `holders` hidden tabs share a name, `askers` ask for it: how many have its metadata within
    /// a minute.
    pub fn hidden(&mut self, holders: usize, askers: usize) -> f64 {
        let torrent = small_torrent(7_777);
        let mut taken = BTreeSet::new();
        for _ in 0..holders {
            let tab = self.settled_tab(&taken);
            taken.insert(tab.node);
            self.share(tab, &torrent);
        }
        self.run(Duration::from_secs(60));
        let mut asking = Vec::new();
        for _ in 0..askers {
            let tab = self.settled_tab(&taken);
            taken.insert(tab.node);
            let magnet = torrent.magnet.clone();
            let id = self
                .world
                .call(tab.node, |node, now| node.open_torrent(now, magnet))
                .expect("opened");
            asking.push((tab, id));
        }
        self.run(Duration::from_secs(60));
        let there: BTreeSet<NodeIndex> = self.tabs.iter().map(|tab| tab.node).collect();
        asking.retain(|(tab, _)| there.contains(&tab.node));
        let found = asking
            .iter()
            .filter(|(tab, id)| self.node(*tab).metainfo(*id).is_some())
            .count();
        for (tab, id) in &asking {
            self.world
                .call(tab.node, |node, now| node.close_torrent(now, *id));
        }
        found as f64 / asking.len().max(1) as f64
    }

    /// Tabs share files and others fetch them, while all that every router sees is recorded.
    pub fn views(&mut self, count: u64) -> Seen {
        let mut seen = Seen::default();
        let mut views = Views::default();
        let mut next = 0;
        let mut under_way: Vec<Fetch> = Vec::new();
        // Who asked for and who held each name.
        let mut users: BTreeMap<Infohash, [NodeIndex; 2]> = BTreeMap::new();
        while seen.downloads + seen.unfinished < count {
            while next < count && under_way.len() < AT_ONCE {
                let holder = self.settled_tab(&BTreeSet::new());
                let asker = self.settled_tab(&BTreeSet::from([holder.node]));
                let torrent = small_torrent(next);
                users.insert(torrent.name, [asker.node, holder.node]);
                let shared = self.share(holder, &torrent);
                self.world.keep_events(asker.node, true);
                let download = Download::begin(&mut self.world, asker.node, &torrent);
                under_way.push(Fetch {
                    holder,
                    shared,
                    asker,
                    download,
                    torrent,
                    until: self.world.now() + DOWNLOAD_LIMIT,
                    pairs: BTreeSet::new(),
                });
                next += 1;
            }
            self.run(LOOK);
            views.look(&self.world);
            let there: BTreeSet<NodeIndex> = self.tabs.iter().map(|tab| tab.node).collect();
            let mut still = Vec::new();
            for mut fetch in under_way {
                let gone =
                    !there.contains(&fetch.asker.node) || !there.contains(&fetch.holder.node);
                let late = self.world.now() >= fetch.until;
                if gone || late {
                    seen.unfinished += 1;
                    seen.late += u64::from(late && !gone);
                    self.forget(&fetch, &there);
                    continue;
                }
                for circuit in self.node(fetch.asker).circuits() {
                    if circuit.torrent == Some(fetch.download.torrent)
                        && let (Some(entry), Some(ordb)) =
                            (circuit.path.first(), circuit.path.last())
                    {
                        fetch.pairs.insert((entry.rsa, ordb.rsa));
                    }
                }
                if fetch.download.step(&mut self.world) {
                    seen.downloads += 1;
                    seen.wrong += u64::from(fetch.download.bytes != fetch.torrent.content);
                    self.count_pairs(&fetch.pairs, &mut seen);
                    self.forget(&fetch, &there);
                } else {
                    still.push(fetch);
                }
            }
            under_way = still;
        }
        for (router, other, name) in &views.linked {
            let Some(users) = users.get(name) else {
                continue;
            };
            if router != other && users.contains(other) {
                seen.linkable += 1;
            }
        }
        seen
    }

    /// How many of a download's circuits have both ends in the adversary's hand, and how many
    /// would if the ends were drawn independently.
    fn count_pairs(&self, pairs: &BTreeSet<(RsaId, RsaId)>, seen: &mut Seen) {
        // Circuits begin at bridges, which are the first of the long-lived, and of three there is no
        // tenth; ORDBs are any.
        let entries = self.adversary_share(self.long_lived.iter().take(self.bridges.len()));
        let tabs = self.tabs.iter().map(|tab| &tab.member);
        let ordbs = self.adversary_share(self.long_lived.iter().chain(tabs));
        let both = |pair: &&(RsaId, RsaId)| self.colludes(pair.0) && self.colludes(pair.1);
        let count = pairs.len() as f64;
        seen.circuits += pairs.len() as u64;
        seen.pairs += pairs.iter().filter(both).count() as u64;
        seen.expected += count * entries * ordbs;
        // One entry stands for all circuits of a download, so they are bad together: the variance
        // of the number of pairs is that of E * (O1 + … + Ok).
        let squares = count * ordbs * (1.0 - ordbs) + (count * ordbs).powi(2);
        seen.variance += entries * squares - (count * entries * ordbs).powi(2);
    }

    /// IDs that are nearest of all to a victim's are made and put into the network: how often the
    /// victim takes them for a hop, while it asks for `names` names one after another.
    pub fn placed(&mut self, identities: u32, names: u32) -> Placed {
        let victim = self.settled_tab(&BTreeSet::new());
        let mut placed = BTreeSet::new();
        for _ in 0..identities {
            self.world.place_next(Key::from(victim.rsa));
            placed.insert(self.add_tab().rsa);
        }
        self.run(SETTLED * 5);
        let mut outcome = Placed::default();
        let mut seen = BTreeSet::new();
        for number in 0..names {
            if !self.is_there(victim) {
                break;
            }
            let magnet = small_torrent(2_000_000 + u64::from(number)).magnet;
            let opened = self
                .world
                .call(victim.node, |node, now| node.open_torrent(now, magnet));
            for _ in 0..20 {
                self.run(Duration::from_secs(1));
                if !self.is_there(victim) {
                    break;
                }
                for circuit in self.node(victim).circuits() {
                    let complete = circuit.hops == circuit.path.len();
                    if complete && seen.insert(circuit.circuit) {
                        for hop in circuit.path.iter().skip(1) {
                            outcome.hops += 1;
                            outcome.placed += u64::from(placed.contains(&hop.rsa));
                        }
                    }
                }
            }
            if let (Ok(id), true) = (opened, self.is_there(victim)) {
                self.world
                    .call(victim.node, |node, now| node.close_torrent(now, id));
            }
        }
        let all = (self.tabs.len() + self.long_lived.len()) as f64;
        let share = f64::from(identities) / all;
        outcome.expected = outcome.hops as f64 * share;
        outcome.bound = outcome.expected + 3.0 * (outcome.expected * (1.0 - share)).sqrt() + 1.0;
        outcome
    }

    fn is_there(&self, tab: Tab) -> bool {
        self.tabs.iter().any(|there| there.node == tab.node)
    }

    fn forget(&mut self, fetch: &Fetch, there: &BTreeSet<NodeIndex>) {
        for (tab, id) in [
            (fetch.holder, fetch.shared),
            (fetch.asker, fetch.download.torrent),
        ] {
            if there.contains(&tab.node) {
                self.world
                    .call(tab.node, |node, now| node.close_torrent(now, id));
                self.world.keep_events(tab.node, false);
            }
        }
    }
}

/// One download that is looked at.
struct Fetch {
    holder: Tab,
    shared: TorrentId,
    asker: Tab,
    download: Download,
    torrent: TestTorrent,
    until: Instant,
    /// Entry and ORDB of each circuit that it had.
    pairs: BTreeSet<(RsaId, RsaId)>,
}

/// What was seen of downloads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Downloads that finished.
    pub downloads: u64,
    /// Those that did not, for somebody left or the time was over.
    pub unfinished: u64,
    /// Those of them that had all the time and both ends.
    pub late: u64,
    /// Files whose bytes were wrong.
    pub wrong: u64,
    /// How often a router saw who asks for, or holds, a name beside the name.
    pub linkable: u64,
    /// Circuits that carried them.
    pub circuits: u64,
    /// Those whose entry and ORDB are in the adversary's hand.
    pub pairs: u64,
    /// As many as independent draws would give.
    pub expected: f64,
    /// The variance of that.
    pub variance: f64,
}

/// What IDs that were placed near a victim gained.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Placed {
    /// Hops of the victim's circuits after the entry.
    pub hops: u64,
    /// Those that were placed.
    pub placed: u64,
    /// As many as IDs anywhere would be.
    pub expected: f64,
    /// Three standard deviations above that, and one.
    pub bound: f64,
}

impl Seen {
    /// For the report.
    pub fn colluding(&self, adversary_percent: u32) -> Colluding {
        let bound = self.expected + 3.0 * self.variance.sqrt() + 1.0;
        Colluding {
            adversary_percent,
            circuits: self.circuits,
            pairs: self.pairs,
            expected: self.expected,
            bound,
        }
    }
}

/// A file that nobody else has.
pub fn small_torrent(number: u64) -> TestTorrent {
    TestTorrent::new(number + 1_000, FILE_BYTES, PIECE_BYTES)
}
