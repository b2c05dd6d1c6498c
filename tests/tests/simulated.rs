//! The whole path in a simulated network: one thread, one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use chive_node::ids::{CircuitId, TorrentId};
use chive_node::node::{BridgeState, Event};
use chive_node::torrent::TorrentFile;
use chive_node::wire::Roles;
use chive_tests::sim::{Download, LinkModel, Manner, NodeIndex, World, download};
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

#[test]
fn a_magnet_link_becomes_a_film_through_three_routers() {
    let mut world = World::new(1, LinkModel::default());
    let torrent = TestTorrent::new(1, 3_000_001, 1 << 16);
    let (_, _, tab) = network(&mut world, 2, 3, &torrent);
    download(&mut world, tab, &torrent, Duration::from_secs(60));
    let circuits = world.node(tab).circuits();
    assert!(circuits.iter().all(|circuit| circuit.path.len() == 3));
    // Two facilitators, each the ORDB of one of the torrent's circuits.
    let used = circuits.iter().filter(|circuit| circuit.torrent.is_some());
    assert_eq!(used.count(), 2);
}

#[test]
fn circuits_of_two_to_five_routers_carry_a_hundred_megabytes_in_all() {
    for hops in 2..=5 {
        let mut world = World::new(20 + hops as u64, LinkModel::default());
        let torrent = TestTorrent::new(hops as u64, 25_000_000, 1 << 18);
        let (_, _, tab) = network(&mut world, 5, hops, &torrent);
        download(&mut world, tab, &torrent, Duration::from_secs(600));
        for circuit in world.node(tab).circuits() {
            assert_eq!(circuit.path.len(), hops);
        }
    }
}

#[test]
fn links_that_die_all_the_time_cost_time_and_not_a_byte() {
    let mut cuts = 0;
    for seed in 30..34 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 6_000_000, 1 << 17);
        let (_, _, tab) = network(&mut world, 4, 3, &torrent);
        let mut download = Download::begin(&mut world, tab, &torrent);
        let mut done = false;
        for _ in 0..400 {
            // Every 700 ms some link dies, whichever it is, the bridge's own among them.
            done = world.run_until(Duration::from_millis(700), |world| download.step(world));
            if done {
                break;
            }
            cuts += usize::from(world.cut_some_link());
        }
        assert!(done, "seed {seed}: {} bytes", download.bytes.len());
        assert!(download.bytes == torrent.content, "seed {seed}");
    }
    assert!(cuts > 8, "only {cuts} links died");
}

#[test]
fn wrong_bytes_from_one_of_three_never_reach_the_reader() {
    for seed in 40..44 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 8_000_000, 1 << 17);
        let (_, facilitators, tab) = network(&mut world, 3, 3, &torrent);
        let liar = facilitators[0];
        let (info, content) = (torrent.info.clone(), torrent.content.clone());
        world
            .library(liar)
            .put(torrent.name, info, content, Manner::Lying);
        let done = download(&mut world, tab, &torrent, Duration::from_secs(120));
        assert!(world.library(liar).chunks_given > 0, "the liar was asked");
        let named: Vec<_> = done
            .events
            .iter()
            .filter_map(|event| match event {
                Event::SourceDropped { router, .. } => Some(*router),
                _ => None,
            })
            .collect();
        assert_eq!(named, [world.router(liar).ed25519], "seed {seed}");
    }
}

#[test]
fn an_ordb_that_dies_in_mid_download_is_replaced() {
    let mut world = World::new(50, LinkModel::default());
    let torrent = TestTorrent::new(50, 12_000_000, 1 << 18);
    let (_, facilitators, tab) = network(&mut world, 3, 3, &torrent);
    let mut download = Download::begin(&mut world, tab, &torrent);
    let part = torrent.content.len() / 4;
    let there = world.run_until(Duration::from_secs(60), |world| {
        download.step(world) || download.bytes.len() > part
    });
    assert!(there && download.bytes.len() < torrent.content.len());
    world.kill(facilitators[1]);
    download.finish(&mut world, &torrent, Duration::from_secs(120));
}

#[test]
fn a_bridge_that_comes_back_is_found_again() {
    let mut world = World::new(60, LinkModel::default());
    let torrent = TestTorrent::new(60, 2_000_000, 1 << 16);
    let (bridge, _, tab) = network(&mut world, 2, 3, &torrent);
    download(&mut world, tab, &torrent, Duration::from_secs(60));
    world.pause(bridge);
    world.run_until(Duration::from_secs(10), |_| false);
    let down = world.take_events(tab).into_iter().any(|event| {
        matches!(
            event,
            Event::Bridge {
                state: BridgeState::Failed { .. },
                ..
            }
        )
    });
    assert!(down, "the page is told");
    world.resume(bridge);
    let second = TestTorrent::new(61, 2_000_000, 1 << 16);
    for index in 1..3 {
        let (info, content) = (second.info.clone(), second.content.clone());
        world
            .library(NodeIndex::nth(index))
            .put(second.name, info, content, Manner::Honest);
    }
    download(&mut world, tab, &second, Duration::from_secs(120));
}

#[test]
fn what_nobody_has_is_said_with_what_was_tried() {
    let mut world = World::new(70, LinkModel::default());
    let torrent = TestTorrent::new(70, 100_000, 1 << 15);
    let (_, _, tab) = network(&mut world, 2, 3, &torrent);
    let missing = TestTorrent::new(71, 100_000, 1 << 15);
    let mut download = Download::begin(&mut world, tab, &missing);
    let said = world.run_until(Duration::from_secs(300), |world| {
        download.step(world);
        download
            .events
            .iter()
            .any(|event| matches!(event, Event::Failed { .. }))
    });
    assert!(said);
    let sentence = download
        .events
        .iter()
        .find_map(|event| match event {
            Event::Failed { failure, .. } => Some(failure.to_string()),
            _ => None,
        })
        .expect("a failure");
    assert!(sentence.contains("peers"), "{sentence}");
}

#[test]
fn two_torrents_never_share_a_circuit() {
    let mut world = World::new(80, LinkModel::default());
    let one = TestTorrent::new(80, 3_000_000, 1 << 16);
    let two = TestTorrent::new(81, 3_000_000, 1 << 16);
    let (_, facilitators, tab) = network(&mut world, 3, 3, &one);
    for facilitator in facilitators {
        let (info, content) = (two.info.clone(), two.content.clone());
        world
            .library(facilitator)
            .put(two.name, info, content, Manner::Honest);
    }
    let mut first = Download::begin(&mut world, tab, &one);
    let mut second = Download::begin(&mut world, tab, &two);
    let mut seen: BTreeMap<CircuitId, TorrentId> = BTreeMap::new();
    let done = world.run_until(Duration::from_secs(120), |world| {
        for circuit in world.node(tab).circuits() {
            if let Some(torrent) = circuit.torrent {
                let before = *seen.entry(circuit.circuit).or_insert(torrent);
                assert_eq!(before, torrent, "a circuit changed hands");
            }
        }
        // Both take the events of one tab; neither needs them.
        let (a, b) = (first.step(world), second.step(world));
        a && b
    });
    assert!(done);
    assert!(first.bytes == one.content && second.bytes == two.content);
    assert!(seen.len() >= 4, "each torrent had circuits of its own");
}

#[test]
fn a_torrent_file_is_told_of_as_a_link_is() {
    let mut world = World::new(17, LinkModel::default());
    let torrent = TestTorrent::new(17, 100_000, 16 << 10);
    let (_, _, tab) = network(&mut world, 2, 3, &torrent);
    let file = [&b"d4:info"[..], &torrent.info, b"e"].concat();
    let file = TorrentFile::parse(&file).expect("a .torrent file");
    let id = world
        .call(tab, |node, now| node.open_torrent_file(now, file))
        .expect("opened");
    // At once: nobody has to be asked.
    let told = world.take_events(tab).into_iter().any(
        |event| matches!(event, Event::Metadata { torrent, ref metainfo } if torrent == id && metainfo.name() == "film.webm"),
    );
    assert!(told, "the metadata is not told of");
}
