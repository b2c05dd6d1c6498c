//! What a host keeps for a node, and how fast it may be fetched and served: in a simulated network.

use std::time::Duration;

use chive_node::ids::TorrentId;
use chive_node::node::Rates;
use chive_node::store::StoredName;
use chive_node::torrent::TorrentFile;
use chive_node::wire::Roles;
use chive_tests::sim::{Disk, Download, LinkModel, Manner, NodeIndex, World, download, hold};
use chive_tests::torrents::TestTorrent;

const ORDB: Roles = Roles::ROUTER.with(Roles::ORDB);
const NAME: StoredName = StoredName([7; 20]);
const PIECE: usize = 1 << 17;

fn file(torrent: &TestTorrent) -> TorrentFile {
    let bytes = [&b"d4:info"[..], &torrent.info, b"e"].concat();
    TorrentFile::parse(&bytes).expect("a .torrent file")
}

/// A bridge, and facilitators that have this torrent.
fn network(world: &mut World, torrent: &TestTorrent) -> (NodeIndex, Vec<NodeIndex>) {
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    let facilitators: Vec<NodeIndex> = (0..3)
        .map(|_| world.add_router(ORDB.with(Roles::FACILITATOR), &[bridge], |_| {}))
        .collect();
    for facilitator in &facilitators {
        let (info, content) = (torrent.info.clone(), torrent.content.clone());
        world
            .library(*facilitator)
            .put(torrent.name, info, content, Manner::Honest);
    }
    (bridge, facilitators)
}

/// A tab that keeps, with this torrent open, and wanted whole.
fn restored(
    world: &mut World,
    bridge: NodeIndex,
    disk: &mut Disk,
    torrent: &TestTorrent,
) -> (NodeIndex, TorrentId) {
    // The memory above the disk is small, so that what is read must come from there.
    let tab = world.add_tab(&[bridge], |config| config.limits.store_bytes = 1 << 20);
    let id = world.call(tab, |node, now| {
        node.set_host_store();
        let id = node.restore_torrent(now, file(torrent), []);
        id.expect("opened")
    });
    let have = disk.keep(id, NAME);
    world.call(tab, |node, now| {
        node.add_stored(now, id, have.iter());
        node.set_wanted(now, id, true);
    });
    (tab, id)
}

fn verified(world: &World, tab: NodeIndex, id: TorrentId) -> u64 {
    world
        .node(tab)
        .progress(id)
        .expect("it is open")
        .verified_bytes
}

fn chunks_given(world: &mut World, facilitators: &[NodeIndex]) -> u64 {
    let given = facilitators.iter();
    given.map(|it| world.library(*it).chunks_given).sum()
}

#[test]
fn a_killed_tab_goes_on_at_the_next_missing_chunk() {
    let mut world = World::new(300, LinkModel::default());
    let torrent = TestTorrent::new(300, 8_000_001, PIECE);
    let all = torrent.content.len() as u64;
    let (bridge, facilitators) = network(&mut world, &torrent);
    let mut disk = Disk::new(10_000);
    let (tab, id) = restored(&mut world, bridge, &mut disk, &torrent);
    let half = world.run_until(Duration::from_secs(120), |world| {
        let events = world.take_events(tab);
        disk.step(world, tab, &events);
        verified(world, tab, id) > all / 2
    });
    assert!(half);
    world.kill(tab);
    let given = chunks_given(&mut world, &facilitators);

    let mut disk = disk.crash();
    let (tab, id) = restored(&mut world, bridge, &mut disk, &torrent);
    let before = verified(&world, tab, id);
    assert!(before > 0 && before < all, "{before}");
    let done = world.run_until(Duration::from_secs(120), |world| {
        let events = world.take_events(tab);
        disk.step(world, tab, &events);
        verified(world, tab, id) == all
    });
    assert!(done, "{} of {all}", verified(&world, tab, id));
    // What was claimed is not asked for again; a piece that was begun is.
    let missing = (all - before).div_ceil(16 << 10);
    let asked = chunks_given(&mut world, &facilitators) - given;
    assert!(asked <= missing + missing / 4 + 64, "{asked} for {missing}");
    // All of it is on the disk, for it is read from there.
    let mut reader = Download::reopen(tab, id);
    let read = world.run_until(Duration::from_secs(60), |world| {
        let done = reader.step(world);
        let events = std::mem::take(&mut reader.events);
        disk.step(world, tab, &events);
        done
    });
    assert!(read && reader.bytes == torrent.content);
    assert!(disk.reads > 400, "{}", disk.reads);
}

/// What else is on the disk takes the room, and gives it back, and nobody says so.
#[test]
fn a_disk_without_room_is_told_of_and_tried_again() {
    let mut world = World::new(303, LinkModel::default());
    let torrent = TestTorrent::new(303, 8_000_001, PIECE);
    let all = torrent.content.len() as u64;
    let (bridge, _) = network(&mut world, &torrent);
    let mut disk = Disk::new(200);
    let (tab, id) = restored(&mut world, bridge, &mut disk, &torrent);
    let run = |world: &mut World, disk: &mut Disk, seconds| {
        world.run_until(Duration::from_secs(seconds), |world| {
            let events = world.take_events(tab);
            disk.step(world, tab, &events);
            verified(world, tab, id) == all
        })
    };
    let flags = |world: &World| world.node(tab).torrent_flags(id).expect("it is open");
    assert!(!run(&mut world, &mut disk, 60));
    assert!(flags(&world).full);
    // What the disk has, and as much as memory may hold.
    let here = verified(&world, tab, id);
    assert!(here > 200 * (15 << 10) && here < 280 * (16 << 10), "{here}");
    disk.set_limit(10_000);
    assert!(
        run(&mut world, &mut disk, 60),
        "{}",
        verified(&world, tab, id)
    );
    // What memory held alone is written too.
    run(&mut world, &mut disk, 5);
    assert!(!flags(&world).full);
    assert_eq!(disk.writes, all.div_ceil(16 << 10));
}

#[test]
fn what_only_the_disk_has_is_served() {
    let mut world = World::new(301, LinkModel::default());
    let torrent = TestTorrent::new(301, 5_000_001, PIECE);
    let all = torrent.content.len() as u64;
    let (bridge, facilitators) = network(&mut world, &torrent);
    for _ in 0..2 {
        world.add_router(ORDB, &[bridge], |_| {});
    }
    let mut disk = Disk::new(10_000);
    let (tab, id) = restored(&mut world, bridge, &mut disk, &torrent);
    let done = world.run_until(Duration::from_secs(120), |world| {
        let events = world.take_events(tab);
        disk.step(world, tab, &events);
        verified(world, tab, id) == all
    });
    assert!(done);
    // What was written in the last second is not claimed yet.
    world.run_for(Duration::from_secs(2));
    let events = world.take_events(tab);
    disk.step(&mut world, tab, &events);
    // Whoever had it first is gone, and so is the tab's memory.
    world.kill(tab);
    for facilitator in facilitators {
        world.kill(facilitator);
    }
    let mut disk = disk.crash();
    let (tab, id) = restored(&mut world, bridge, &mut disk, &torrent);
    world.call(tab, |node, now| node.share_torrent(now, id, true));
    let asker = world.add_tab(&[bridge], |_| {});
    let mut fetch = Download::begin(&mut world, asker, &torrent);
    let reads = disk.reads;
    let done = world.run_until(Duration::from_secs(240), |world| {
        let events = world.take_events(tab);
        disk.step(world, tab, &events);
        fetch.step(world)
    });
    assert!(done, "{} bytes", fetch.bytes.len());
    assert!(fetch.bytes == torrent.content);
    assert!(disk.reads - reads >= all.div_ceil(16 << 10));
}

#[test]
fn fetching_keeps_to_its_rate() {
    let seconds = |rate: Option<u64>| {
        let mut world = World::new(302, LinkModel::default());
        let torrent = TestTorrent::new(302, 4_000_000, PIECE);
        let (bridge, _) = network(&mut world, &torrent);
        let tab = world.add_tab(&[bridge], |_| {});
        let rates = Rates {
            down: rate,
            up: None,
        };
        world.call(tab, |node, now| node.set_rates(now, rates));
        let began = world.now();
        download(&mut world, tab, &torrent, Duration::from_secs(120));
        world.now().saturating_since(began).as_secs_f64()
    };
    let (free, held) = (seconds(None), seconds(Some(200_000)));
    assert!(free < 10.0, "{free}");
    // Four megabytes at 200 kB a second.
    assert!((19.0..30.0).contains(&held), "{held}");
}

#[test]
fn serving_keeps_to_its_rate() {
    let seconds = |rate: Option<u64>| {
        let mut world = World::new(303, LinkModel::default());
        let torrent = TestTorrent::new(303, 3_000_000, PIECE);
        let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
        for _ in 0..3 {
            world.add_router(Roles::ROUTER, &[bridge], |_| {});
            world.add_router(ORDB, &[bridge], |_| {});
        }
        let holder = world.add_tab(&[bridge], |_| {});
        let asker = world.add_tab(&[bridge], |_| {});
        let pieces = torrent.content.len().div_ceil(PIECE) as u32;
        hold(&mut world, holder, &torrent, 0..pieces, true);
        let rates = Rates {
            up: rate,
            down: None,
        };
        world.call(holder, |node, now| node.set_rates(now, rates));
        let began = world.now();
        download(&mut world, asker, &torrent, Duration::from_secs(200));
        world.now().saturating_since(began).as_secs_f64()
    };
    let (free, held) = (seconds(None), seconds(Some(150_000)));
    assert!(free < 12.0, "{free}");
    // Three megabytes and what the cells add, at 150 kB a second.
    assert!((19.5..45.0).contains(&held), "{held}");
}

#[test]
fn what_is_passed_on_and_what_is_held_share_the_rate() {
    let mut world = World::new(304, LinkModel::default());
    let held = TestTorrent::new(304, 8_000_000, PIECE);
    let passed_on = TestTorrent::new(305, 8_000_000, PIECE);
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    for _ in 0..3 {
        world.add_router(Roles::ROUTER, &[bridge], |_| {});
    }
    let ordb = world.add_router(ORDB, &[bridge], |_| {});
    // It shares one torrent by way of the ORDB, and is one itself for the other.
    let roles = ORDB.with(Roles::FACILITATOR);
    let both = world.add_router(roles, &[bridge], |config| config.asks = true);
    let (info, content) = (passed_on.info.clone(), passed_on.content.clone());
    world
        .library(both)
        .put(passed_on.name, info, content, Manner::Honest);
    let pieces = held.content.len().div_ceil(PIECE) as u32;
    hold(&mut world, both, &held, 0..pieces, true);
    let rates = Rates {
        up: Some(200_000),
        down: None,
    };
    world.call(both, |node, now| node.set_rates(now, rates));
    world.run_for(Duration::from_secs(30));
    let path_to = |world: &World, last| vec![world.router(bridge), world.router(last)];
    let path = path_to(&world, ordb);
    let mut of_held = Download::begin_over(&mut world, path, &held);
    let path = path_to(&world, both);
    let mut of_passed_on = Download::begin_over(&mut world, path, &passed_on);
    let begun = world.run_until(Duration::from_secs(60), |world| {
        of_held.step(world);
        of_passed_on.step(world);
        !of_held.bytes.is_empty() && !of_passed_on.bytes.is_empty()
    });
    assert!(begun);
    let before = (of_held.bytes.len(), of_passed_on.bytes.len());
    world.run_until(Duration::from_secs(40), |world| {
        of_held.step(world) | of_passed_on.step(world)
    });
    let held = (of_held.bytes.len() - before.0) as f64;
    let passed_on = (of_passed_on.bytes.len() - before.1) as f64;
    println!("held {held}, passed on {passed_on} bytes");
    assert!(held + passed_on > 6_000_000.0, "{held} and {passed_on}");
    assert!(
        (0.5..2.0).contains(&(held / passed_on)),
        "{held} and {passed_on}"
    );
}
