//! A small mesh in which links break and routers go: how soon it goes on. In a simulated network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chive_node::ids::RsaId;
use chive_node::wire::Roles;
use chive_tests::sim::{Download, LinkModel, Nat, NodeIndex, World, hold};
use chive_tests::torrents::TestTorrent;

const PIECE: usize = 1 << 16;

/// A bridge, and so many tabs, which are all the other routers that there are.
fn tabs(seed: u64, count: usize, circuits: usize) -> (World, NodeIndex, Vec<NodeIndex>) {
    let mut world = World::new(seed, LinkModel::default());
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    let tabs: Vec<NodeIndex> = (0..count)
        .map(|_| world.add_tab_router(&[bridge], Nat::HOME, |_| {}))
        .collect();
    let stand = world.run_until(Duration::from_secs(120), |world| {
        tabs.iter().all(|tab| standing(world, *tab) >= circuits)
    });
    assert!(stand, "seed {seed}");
    (world, bridge, tabs)
}

/// How many circuits of three routers stand.
fn standing(world: &World, tab: NodeIndex) -> usize {
    let circuits = world.node(tab).circuits();
    circuits.iter().filter(|circuit| circuit.hops == 3).count()
}

fn rsa(world: &World, node: NodeIndex) -> RsaId {
    world.router(node).rsa
}

fn pieces(torrent: &TestTorrent) -> u32 {
    u32::try_from(torrent.content.len().div_ceil(PIECE)).unwrap()
}

#[test]
fn three_tabs_fetch_from_each_other_though_their_links_break() {
    let mut longest = Duration::ZERO;
    for seed in 300..312 {
        let (mut world, _, tabs) = tabs(seed, 3, 6);
        let torrent = TestTorrent::new(seed, 4_000_000, PIECE);
        // Asked at once: nobody has been told of it yet.
        hold(&mut world, tabs[0], &torrent, 0..pieces(&torrent), true);
        let mut download = Download::begin(&mut world, tabs[1], &torrent);
        // Of three, each stands on every path of the others: nothing is left of their circuits.
        for (part, one, other) in [(1, 0, 2), (2, 1, 2), (3, 0, 1)] {
            let part = torrent.content.len() * part / 4;
            let began = world.now();
            let there = world.run_until(Duration::from_secs(600), |world| {
                download.step(world) || download.bytes.len() >= part
            });
            assert!(there, "seed {seed}: {} bytes", download.bytes.len());
            longest = longest.max(world.now().saturating_since(began));
            world.cut_between(tabs[one], tabs[other]);
        }
        let began = world.now();
        let done = world.run_until(Duration::from_secs(600), |world| download.step(world));
        assert!(done, "seed {seed}: {} bytes", download.bytes.len());
        assert!(download.bytes == torrent.content, "seed {seed}");
        longest = longest.max(world.now().saturating_since(began));
    }
    println!("at the longest {longest:?} for a quarter");
    assert!(longest < Duration::from_secs(10), "{longest:?}");
}

/// The holder is gone for about as long as an ORDB waits for it, and then looks for its bridge: who
/// asked asks again soon after.
#[test]
fn a_holder_who_was_away_is_asked_again_soon() {
    let mut longest = Duration::ZERO;
    for seed in 320..328 {
        let (mut world, _, tabs) = tabs(seed, 3, 6);
        let torrent = TestTorrent::new(seed, 4_000_000, PIECE);
        hold(&mut world, tabs[0], &torrent, 0..pieces(&torrent), true);
        world.run_for(Duration::from_secs(5));
        let mut download = Download::begin(&mut world, tabs[1], &torrent);
        let part = world.run_until(Duration::from_secs(60), |world| {
            download.step(world) || download.bytes.len() >= 1_000_000
        });
        assert!(part, "seed {seed}: {} bytes", download.bytes.len());
        world.pause(tabs[0]);
        world.run_until(Duration::from_secs(6), |world| download.step(world));
        world.resume(tabs[0]);
        let began = world.now();
        let done = world.run_until(Duration::from_secs(120), |world| download.step(world));
        assert!(done, "seed {seed}: {} bytes", download.bytes.len());
        assert!(download.bytes == torrent.content, "seed {seed}");
        longest = longest.max(world.now().saturating_since(began));
    }
    println!("at the longest {longest:?} after it was back");
    assert!(longest < Duration::from_secs(20), "{longest:?}");
}

/// A tab that has left is still in the directories of those who stay, and is an ORDB that a download
/// would gladly ask as well.
#[test]
fn who_left_is_seldom_tried_as_a_hop() {
    let (mut begun, mut failed) = (0, 0);
    for seed in 340..344 {
        let (mut world, _, tabs) = tabs(seed, 5, 6);
        let torrent = TestTorrent::new(seed, 4_000_000, PIECE);
        // The other half is wanted all the time.
        hold(&mut world, tabs[0], &torrent, 0..pieces(&torrent) / 2, true);
        let mut download = Download::begin(&mut world, tabs[1], &torrent);
        world.run_until(Duration::from_secs(30), |world| download.step(world));
        let gone = rsa(&world, tabs[4]);
        world.kill(tabs[4]);
        world.run_for(Duration::from_secs(1));
        let before = world.node(tabs[1]).counters();
        for _ in 0..600 {
            world.run_for(Duration::from_secs(1));
            download.step(&mut world);
        }
        let after = world.node(tabs[1]).counters();
        begun += after.circuits_begun - before.circuits_begun;
        failed += after.circuits_failed - before.circuits_failed;
        let circuits = world.node(tabs[1]).circuits();
        let open = circuits.iter().filter(|circuit| circuit.hops == 3);
        let mut routers = open.flat_map(|circuit| &circuit.path);
        assert!(routers.all(|router| router.rsa != gone), "seed {seed}");
    }
    println!("of {begun} circuits {failed} failed in ten minutes of four tabs");
    assert!(failed <= 4 * 6, "{failed} of {begun}");
}

/// Where there are routers enough, none of them takes half of a tab's circuits with it.
#[test]
fn circuits_that_stand_ready_lead_over_different_routers() {
    for seed in 360..364 {
        let (mut world, bridge, tabs) = tabs(seed, 10, 6);
        // Those that were built before all were known are replaced after ten minutes.
        world.run_for(Duration::from_secs(700));
        for tab in &tabs {
            let circuits = world.node(*tab).circuits();
            let open: Vec<_> = circuits.iter().filter(|it| it.hops == 3).collect();
            assert!(open.len() >= 6, "seed {seed}: {} circuits", open.len());
            let mut over: BTreeMap<RsaId, usize> = BTreeMap::new();
            let mut paths = BTreeSet::new();
            for circuit in &open {
                let path: Vec<RsaId> = circuit.path.iter().map(|router| router.rsa).collect();
                assert_eq!(path[0], rsa(&world, bridge));
                *over.entry(path[1]).or_default() += 1;
                paths.insert(path);
            }
            assert_eq!(paths.len(), open.len(), "seed {seed}: the same path twice");
            let most = over.values().max().copied().unwrap_or_default();
            assert!(
                most * 3 <= open.len(),
                "seed {seed}: {most} over one middle"
            );
        }
    }
}
