//! What breaks, and how long it stays broken.

use std::collections::BTreeSet;
use std::time::Duration;

use chive_node::ids::TorrentId;

use super::measure::small_torrent;
use super::population::{Population, Tab};
use super::report::Recovery;
use crate::sim::{Download, Library, Manner, NodeIndex};
use crate::torrents::TestTorrent;

/// After this it is said not to recover.
const LIMIT: Duration = Duration::from_secs(3600);
/// New downloads by which it is tried whether the network works.
const PROBES: usize = 20;
/// How many of them must have what they asked for …
const WORKING: usize = PROBES * 9 / 10;
/// … within this.
const PROBE_TIME: Duration = Duration::from_secs(30);
/// Tabs that hold what is probed for.
const HOLDERS: usize = 20;

impl Population {
    /// Breaks the network in three ways, one after another.
    pub fn faults(&mut self) -> Recovery {
        let torrent = small_torrent(1_000_000);
        self.keep_held(&torrent);
        self.run(Duration::from_secs(60));

        let half = self.tabs.len() / 2;
        for _ in 0..half {
            let index = self.world.below(self.tabs.len() as u64) as usize;
            self.leave(index);
        }
        let half_gone = self.recovery(&torrent);

        // Whoever is on the other side is as good as gone until the two are one again.
        self.keep_held(&torrent);
        let side: Vec<(NodeIndex, bool)> = self
            .everybody()
            .into_iter()
            .enumerate()
            .map(|(index, node)| (node, index % 2 == 0))
            .collect();
        for (node, side) in &side {
            self.world.set_side(*node, u8::from(*side));
        }
        self.world.cut_between_sides();
        self.run(Duration::from_secs(600));
        for (node, _) in &side {
            self.world.set_side(*node, 0);
        }
        let rejoined = self.recovery(&torrent);

        self.keep_held(&torrent);
        for bridge in self.bridges.clone() {
            self.world.pause(bridge);
        }
        let bridges_gone = self.recovery(&torrent);
        for bridge in self.bridges.clone() {
            self.world.resume(bridge);
        }
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        Recovery {
            bridges_gone: seconds(bridges_gone),
            half_gone: seconds(half_gone),
            rejoined: seconds(rejoined),
        }
    }

    fn everybody(&self) -> Vec<NodeIndex> {
        let routers = self.bridges.iter().chain(&self.facilitators).copied();
        routers
            .chain(self.tabs.iter().map(|tab| tab.node))
            .collect()
    }

    /// Makes sure that enough tabs hold a torrent.
    fn keep_held(&mut self, torrent: &TestTorrent) {
        let holds = |population: &Population, tab: &Tab| {
            let node = population.node(*tab);
            let names = node.torrents().filter_map(|id| node.metainfo(id).cloned());
            names
                .into_iter()
                .any(|metainfo| metainfo.infohash() == torrent.name)
        };
        let mut holders: BTreeSet<NodeIndex> = self
            .tabs
            .iter()
            .filter(|tab| holds(self, tab))
            .map(|tab| tab.node)
            .collect();
        while holders.len() < HOLDERS.min(self.tabs.len() / 2) {
            let tab = self.settled_tab(&holders);
            holders.insert(tab.node);
            self.share(tab, torrent);
        }
    }

    /// How long it takes until new downloads work.
    fn recovery(&mut self, torrent: &TestTorrent) -> Option<Duration> {
        let begin = self.world.now();
        while self.world.now().saturating_since(begin) < LIMIT {
            let probe = self.world.now();
            if self.probe(torrent) {
                // It worked from the moment that this probe began.
                return Some(probe.saturating_since(begin));
            }
        }
        None
    }

    /// Whether new downloads work now.
    fn probe(&mut self, torrent: &TestTorrent) -> bool {
        let mut taken = BTreeSet::new();
        let mut asking: Vec<(Tab, TorrentId)> = Vec::new();
        for _ in 0..PROBES.min(self.tabs.len() / 2) {
            let tab = self.settled_tab(&taken);
            taken.insert(tab.node);
            let magnet = torrent.magnet.clone();
            let opened = self
                .world
                .call(tab.node, |node, now| node.open_torrent(now, magnet));
            asking.extend(opened.ok().map(|id| (tab, id)));
        }
        self.run(PROBE_TIME);
        let there: BTreeSet<NodeIndex> = self.tabs.iter().map(|tab| tab.node).collect();
        let asked = asking.len();
        asking.retain(|(tab, _)| there.contains(&tab.node));
        let left = asked - asking.len();
        let found = asking
            .iter()
            .filter(|(tab, id)| self.node(*tab).metainfo(*id).is_some())
            .count();
        for (tab, id) in asking {
            self.world
                .call(tab.node, |node, now| node.close_torrent(now, id));
        }
        found + left >= WORKING.min(asked)
    }

    /// Some of the facilitators that have a file give wrong bytes of it. Downloads that finished,
    /// all of them, and chunks that were stored and are wrong.
    pub fn liars(&mut self, percent: u32, downloads: usize) -> (u64, u64, u64) {
        let torrent = TestTorrent::new(31, 2_000_000, 1 << 16);
        let holders = self.facilitators.clone();
        let lying = (holders.len() * percent as usize).div_ceil(100);
        for (index, holder) in holders.iter().enumerate() {
            let manner = if index < lying {
                Manner::Lying
            } else {
                Manner::Honest
            };
            let library: &mut Library = self.world.library(*holder);
            let (info, content) = (torrent.info.clone(), torrent.content.clone());
            library.put(torrent.name, info, content, manner);
        }
        let mut taken = BTreeSet::new();
        let mut under_way = Vec::new();
        for _ in 0..downloads {
            let tab = self.settled_tab(&taken);
            taken.insert(tab.node);
            self.world.keep_events(tab.node, true);
            under_way.push((tab, Download::begin(&mut self.world, tab.node, &torrent)));
        }
        let (mut finished, mut wrong, mut all) = (0, 0, downloads as u64);
        let mut time = Duration::ZERO;
        while !under_way.is_empty() && time < LIMIT {
            self.run(Duration::from_secs(1));
            time += Duration::from_secs(1);
            let there: BTreeSet<NodeIndex> = self.tabs.iter().map(|tab| tab.node).collect();
            let mut still = Vec::new();
            for (tab, mut download) in under_way {
                if !there.contains(&tab.node) {
                    all -= 1;
                } else if download.step(&mut self.world) {
                    finished += 1;
                    wrong += u64::from(download.bytes != torrent.content);
                    let id = download.torrent;
                    self.world
                        .call(tab.node, |node, now| node.close_torrent(now, id));
                } else {
                    still.push((tab, download));
                }
            }
            under_way = still;
        }
        (finished, all, wrong)
    }
}
