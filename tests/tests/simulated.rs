//! The whole path in a simulated network: one thread, one seed.

use std::time::Duration;

use chive_node::ids::{ReadId, TorrentId};
use chive_node::node::Event;
use chive_node::ordb::{Demand, Read};
use chive_node::wire::Roles;
use chive_tests::sim::{LinkModel, Manner, NodeIndex, World};
use chive_tests::torrents::TestTorrent;

const FACILITATOR: Roles = Roles::ROUTER.with(Roles::ORDB).with(Roles::FACILITATOR);

/// A bridge, `facilitators` that have `torrent`, and a tab that builds circuits of `hops`.
fn network(
    world: &mut World,
    facilitators: usize,
    hops: usize,
    torrent: &TestTorrent,
) -> (NodeIndex, Vec<NodeIndex>, NodeIndex) {
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    let facilitators: Vec<NodeIndex> = (0..facilitators)
        .map(|_| world.add_router(FACILITATOR, &[bridge], |_| {}))
        .collect();
    for facilitator in &facilitators {
        let (info, content) = (torrent.info.clone(), torrent.content.clone());
        world
            .library(*facilitator)
            .put(torrent.name, info, content, Manner::Honest);
    }
    let tab = world.add_tab(&[bridge], |config| config.hops = hops);
    (bridge, facilitators, tab)
}

/// A tab that opens a torrent and reads all of its one file.
struct Download {
    tab: NodeIndex,
    torrent: TorrentId,
    read: Option<ReadId>,
    bytes: Vec<u8>,
    events: Vec<Event>,
}

impl Download {
    fn begin(world: &mut World, tab: NodeIndex, torrent: &TestTorrent) -> Self {
        let magnet = torrent.magnet.clone();
        let id = world
            .call(tab, |node, now| node.open_torrent(now, magnet))
            .expect("opened");
        Download {
            tab,
            torrent: id,
            read: None,
            bytes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Takes what is there. True once all is.
    fn step(&mut self, world: &mut World) -> bool {
        let events = world.take_events(self.tab);
        if self.read.is_none()
            && let Some(metainfo) = world.node(self.tab).metainfo(self.torrent)
        {
            let length = metainfo.files()[0].length;
            let torrent = self.torrent;
            let read = world.call(self.tab, |node, now| {
                node.open_read(now, torrent, 0, 0..length, Demand::Play)
            });
            self.read = Some(read.expect("a reader"));
        }
        self.events.extend(events);
        let Some(read) = self.read else {
            return false;
        };
        loop {
            match world.call(self.tab, |node, now| node.poll_read(now, read, 1 << 20)) {
                Read::Bytes(bytes) => self.bytes.extend_from_slice(&bytes),
                Read::Pending => return false,
                Read::End => return true,
                Read::Failed => panic!("the read failed"),
            }
        }
    }
}

#[test]
fn a_magnet_link_becomes_a_film_through_three_routers() {
    let mut world = World::new(1, LinkModel::default());
    let torrent = TestTorrent::new(1, 3_000_001, 1 << 16);
    let (_, _, tab) = network(&mut world, 2, 3, &torrent);
    let mut download = Download::begin(&mut world, tab, &torrent);
    let done = world.run_until(Duration::from_secs(120), |world| download.step(world));
    println!(
        "{:?} {} bytes; {:?}",
        world.now(),
        download.bytes.len(),
        download.events.iter().take(30).collect::<Vec<_>>()
    );
    assert!(done, "seed {}", world.seed());
    assert!(download.bytes == torrent.content);
    for circuit in world.node(tab).circuits() {
        assert_eq!(circuit.path.len(), 3);
    }
}
