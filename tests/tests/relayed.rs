//! Hidden holders, and ORDBs between them and those who ask: in a simulated network.

use std::time::Duration;

use chive_node::node::Event;
use chive_node::wire::Roles;
use chive_tests::sim::{Download, LinkModel, NodeIndex, Views, World, hold};
use chive_tests::torrents::TestTorrent;
use sha2::{Digest, Sha256};

const ORDB: Roles = Roles::ROUTER.with(Roles::ORDB);

/// A bridge, plain routers and ORDBs that have nothing themselves.
fn mesh(world: &mut World, routers: usize, ordbs: usize) -> (NodeIndex, Vec<NodeIndex>) {
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    for _ in 0..routers {
        world.add_router(Roles::ROUTER, &[bridge], |_| {});
    }
    let ordbs = (0..ordbs)
        .map(|_| world.add_router(ORDB, &[bridge], |_| {}))
        .collect();
    (bridge, ordbs)
}

fn pieces(torrent: &TestTorrent, piece_len: usize) -> u32 {
    u32::try_from(torrent.content.len().div_ceil(piece_len)).unwrap()
}

/// Runs a download to its end, looking at what is seen all the while.
fn finish(world: &mut World, download: &mut Download, views: &mut Views, limit: Duration) -> bool {
    let mut next = world.now();
    world.run_until(limit, |world| {
        if world.now() >= next {
            views.look(world);
            next = world.now() + Duration::from_millis(20);
        }
        download.step(world)
    })
}

#[test]
fn what_a_hidden_holder_shares_comes_through_an_ordb_that_has_nothing() {
    let mut world = World::new(1, LinkModel::default());
    let torrent = TestTorrent::new(1, 5_000_001, 1 << 17);
    let (bridge, ordbs) = mesh(&mut world, 3, 2);
    let holder = world.add_tab(&[bridge], |_| {});
    let asker = world.add_tab(&[bridge], |_| {});
    hold(
        &mut world,
        holder,
        &torrent,
        0..pieces(&torrent, 1 << 17),
        true,
    );
    let mut download = Download::begin(&mut world, asker, &torrent);
    let mut views = Views::default();
    let done = finish(
        &mut world,
        &mut download,
        &mut views,
        Duration::from_secs(120),
    );
    assert!(done, "{} bytes by {:?}", download.bytes.len(), world.now());
    assert_eq!(
        Sha256::digest(&download.bytes),
        Sha256::digest(&torrent.content)
    );
    // The ORDBs know the name, and nobody knows who asks for it or has it.
    let seen: Vec<NodeIndex> = views.names.keys().copied().collect();
    assert!(!seen.is_empty() && seen.iter().all(|router| ordbs.contains(router)));
    assert!(!views.knows(asker) && !views.knows(holder), "{views:?}");
    let gauges = ordbs.iter().map(|ordb| world.node(*ordb).gauges().relays);
    assert!(gauges.sum::<usize>() > 0, "an ORDB relays");
    let took = world.now();
    println!("5 MB in {took:?}");
    let blamed = download
        .events
        .iter()
        .any(|event| matches!(event, Event::SourceDropped { .. }));
    assert!(!blamed);
}
