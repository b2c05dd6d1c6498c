//! Hidden holders, and ORDBs between them and those who ask: in a simulated network.

use std::sync::Arc;
use std::time::Duration;

use chive_node::node::Event;
use chive_node::wire::Roles;
use chive_tests::sim::{Download, LinkModel, Manner, Nat, NodeIndex, Views, World, hold, restore};
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

/// Length of a piece.
const PIECE: usize = 1 << 16;

#[test]
fn another_holder_and_what_was_had_finish_what_the_first_began() {
    for seed in 10..13 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 6_000_000, PIECE);
        let all = pieces(&torrent, PIECE);
        let (bridge, _) = mesh(&mut world, 3, 3);
        let first = world.add_tab(&[bridge], |_| {});
        let second = world.add_tab(&[bridge], |_| {});
        let asker = world.add_tab(&[bridge], |_| {});
        hold(&mut world, first, &torrent, 0..all, true);
        // The last half alone: more than a quarter, and what the asker will lack.
        hold(&mut world, second, &torrent, all / 2..all, true);
        let mut download = Download::begin(&mut world, asker, &torrent);
        let most = torrent.content.len() * 6 / 10;
        let part = world.run_until(Duration::from_secs(120), |world| {
            download.step(world) || download.bytes.len() >= most
        });
        assert!(
            part && download.bytes.len() < torrent.content.len(),
            "seed {seed}"
        );
        world.kill(first);
        let mut views = Views::default();
        let done = finish(
            &mut world,
            &mut download,
            &mut views,
            Duration::from_secs(300),
        );
        assert!(done, "seed {seed}: {} bytes", download.bytes.len());
        assert!(download.bytes == torrent.content, "seed {seed}");
        assert!(!views.knows(asker) && !views.knows(second), "seed {seed}");
    }
}

#[test]
fn an_ordb_that_dies_costs_time_and_not_the_download() {
    for seed in 20..23 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 6_000_000, PIECE);
        let (bridge, ordbs) = mesh(&mut world, 3, 4);
        let holder = world.add_tab(&[bridge], |_| {});
        let asker = world.add_tab(&[bridge], |_| {});
        hold(
            &mut world,
            holder,
            &torrent,
            0..pieces(&torrent, PIECE),
            true,
        );
        let mut download = Download::begin(&mut world, asker, &torrent);
        let part = world.run_until(Duration::from_secs(120), |world| {
            download.step(world) || download.bytes.len() >= 2_000_000
        });
        assert!(part, "seed {seed}: {} bytes", download.bytes.len());
        let relaying = ordbs
            .iter()
            .find(|ordb| world.node(**ordb).gauges().relays > 0);
        world.kill(*relaying.expect("an ORDB relays"));
        let done = world.run_until(Duration::from_secs(300), |world| download.step(world));
        assert!(done, "seed {seed}: {} bytes", download.bytes.len());
        assert!(download.bytes == torrent.content, "seed {seed}");
    }
}

#[test]
fn a_holder_who_comes_back_is_asked_while_the_facilitator_still_looks_elsewhere() {
    for seed in 25..28 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 6_000_000, PIECE);
        let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
        for _ in 0..3 {
            world.add_router(Roles::ROUTER, &[bridge], |_| {});
        }
        let facilitator = world.add_router(ORDB.with(Roles::FACILITATOR), &[bridge], |_| {});
        // Its swarms have not got it, and it takes long to find that out.
        world
            .library(facilitator)
            .set_delay(Duration::from_secs(3600));
        let holder = world.add_tab(&[bridge], |_| {});
        let asker = world.add_tab(&[bridge], |_| {});
        let all = pieces(&torrent, PIECE);
        hold(&mut world, holder, &torrent, 0..all, true);
        let told = world.run_until(Duration::from_secs(30), |world| {
            !world.node(facilitator).views().is_empty()
        });
        assert!(told, "seed {seed}");
        let mut download = Download::begin(&mut world, asker, &torrent);
        let part = world.run_until(Duration::from_secs(120), |world| {
            download.step(world) || download.bytes.len() >= 2_000_000
        });
        assert!(part, "seed {seed}: {} bytes", download.bytes.len());
        // Another takes the place of the one that goes.
        world.kill(holder);
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.node(facilitator).gauges().relays, 0, "seed {seed}");
        let back = world.add_tab(&[bridge], |_| {});
        hold(&mut world, back, &torrent, 0..all, true);
        let done = world.run_until(Duration::from_secs(60), |world| download.step(world));
        assert!(done, "seed {seed}: {} bytes", download.bytes.len());
        assert!(download.bytes == torrent.content, "seed {seed}");
    }
}

#[test]
fn what_one_holder_of_twenty_falsifies_is_never_stored_and_no_ordb_is_blamed() {
    let mut world = World::new(30, LinkModel::default());
    let torrent = TestTorrent::new(30, 4_000_000, PIECE);
    let (bridge, _) = mesh(&mut world, 3, 1);
    let mut liar = None;
    for number in 0..20 {
        let tab = world.add_tab(&[bridge], |_| {});
        let manner = match number {
            7 => Manner::Lying,
            _ => Manner::Honest,
        };
        restore(&mut world, tab, &torrent, manner);
        if manner == Manner::Lying {
            liar = Some(tab);
        }
    }
    let liar = liar.expect("a liar");
    // Each time the ORDB has forgotten the torrent, and asks the next four who told of it.
    for _ in 0..6 {
        let asker = world.add_tab(&[bridge], |_| {});
        let mut download = Download::begin(&mut world, asker, &torrent);
        let is_done = world.run_until(Duration::from_secs(300), |world| download.step(world));
        assert!(is_done, "{} bytes", download.bytes.len());
        assert!(download.bytes == torrent.content);
        world.call(asker, |node, now| node.close_torrent(now, download.torrent));
        let blamed = |event: &&Event| matches!(event, Event::SourceDropped { .. });
        let blamed: Vec<&Event> = download.events.iter().filter(blamed).collect();
        assert!(blamed.is_empty(), "{blamed:?}");
        world.run_until(Duration::from_secs(90), |_| false);
    }
    assert!(world.given(liar) > 0, "the liar was never asked");
}

#[test]
fn ordbs_that_know_nothing_but_each_other_say_so_soon() {
    let mut world = World::new(40, LinkModel::default());
    let torrent = TestTorrent::new(40, 200_000, PIECE);
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    for _ in 0..3 {
        world.add_router(Roles::ROUTER, &[bridge], |_| {});
    }
    // ORDBs that ask others as tabs do, and facilitators without a swarm's content.
    for _ in 0..3 {
        world.add_router(ORDB, &[bridge], |config| config.asks = true);
    }
    let facilitator = ORDB.with(Roles::FACILITATOR);
    for _ in 0..2 {
        world.add_router(facilitator, &[bridge], |_| {});
    }
    let asker = world.add_tab(&[bridge], |_| {});
    let mut download = Download::begin(&mut world, asker, &torrent);
    let said = world.run_until(Duration::from_secs(120), |world| {
        download.step(world);
        let failed = |event: &Event| matches!(event, Event::Failed { .. });
        download.events.iter().any(failed)
    });
    assert!(said, "nobody said that it cannot be had");
    // And if a facilitator has it, an ORDB that was not told of it finds it there.
    let mut world = World::new(41, LinkModel::default());
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    for _ in 0..3 {
        world.add_router(Roles::ROUTER, &[bridge], |_| {});
    }
    let has_it = world.add_router(facilitator, &[bridge], |_| {});
    let (info, content) = (torrent.info.clone(), torrent.content.clone());
    world
        .library(has_it)
        .put(torrent.name, info, content, Manner::Honest);
    let plain = world.add_router(ORDB, &[bridge], |config| config.asks = true);
    let asker = world.add_tab(&[bridge], |_| {});
    // To that ORDB alone.
    world.run_until(Duration::from_secs(10), |_| false);
    let path = vec![world.router(plain)];
    let client = world.add_client();
    let circuit = world.call(client, |node, now| node.build_circuit(now, path));
    let circuit = circuit.expect("a circuit");
    world.run_until(Duration::from_secs(5), |_| false);
    let mut download = Download::begin(&mut world, client, &torrent);
    let id = download.torrent;
    let given = world.call(client, |node, now| node.add_source(now, id, circuit));
    given.expect("a source");
    let done = world.run_until(Duration::from_secs(120), |world| download.step(world));
    assert!(done, "{} bytes", download.bytes.len());
    assert!(download.bytes == torrent.content);
    assert_eq!(world.node(asker).gauges().relays, 0);
}

#[test]
fn an_ordb_that_was_told_nothing_finds_by_kademlia_one_that_was() {
    for seed in 50..52 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 400_000, PIECE);
        let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
        for _ in 0..3 {
            world.add_router(Roles::ROUTER, &[bridge], |_| {});
        }
        // Tabs are the only ORDBs; nobody keeps a swarm's content.
        let tabs: Vec<NodeIndex> = (0..6)
            .map(|_| world.add_tab_router(&[bridge], Nat::HOME, |_| {}))
            .collect();
        let stand = world.run_until(Duration::from_secs(120), |world| {
            let mut nodes = tabs.iter().map(|tab| world.node(*tab));
            nodes.all(|node| node.is_joined() && node.circuits().len() >= 6)
        });
        assert!(stand, "seed {seed}");
        let holder = tabs[0];
        hold(
            &mut world,
            holder,
            &torrent,
            0..pieces(&torrent, PIECE),
            true,
        );
        world.run_until(Duration::from_secs(30), |_| false);
        let told = |world: &World, tab: NodeIndex| {
            let node = world.node(tab);
            node.views()
                .iter()
                .any(|(_, _, name)| *name == torrent.name)
        };
        let ordb = tabs[1..].iter().copied().find(|tab| !told(&world, *tab));
        let ordb = ordb.expect("three of five were told");
        // Somebody asks that one alone.
        let mut last = (*world.router(ordb)).clone();
        last.introducers = vec![world.router(bridge).rsa];
        let path = vec![world.router(bridge), Arc::new(last)];
        let asker = world.add_client();
        let circuit = world.call(asker, |node, now| node.build_circuit(now, path));
        let circuit = circuit.expect("a circuit");
        world.run_until(Duration::from_secs(10), |_| false);
        let mut download = Download::begin(&mut world, asker, &torrent);
        let id = download.torrent;
        let given = world.call(asker, |node, now| node.add_source(now, id, circuit));
        given.expect("a source");
        let done = world.run_until(Duration::from_secs(60), |world| download.step(world));
        assert!(done, "seed {seed}: {} bytes", download.bytes.len());
        assert!(download.bytes == torrent.content, "seed {seed}");
        assert_eq!(world.node(ordb).gauges().relays, 1, "seed {seed}");
        println!("found after {:?}", world.now());
    }
}
