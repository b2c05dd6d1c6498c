//! Hidden holders, and ORDBs between them and those who ask: in a simulated network.

use std::sync::Arc;
use std::time::Duration;

use chive_node::ids::RsaId;
use chive_node::node::{Config, Event};
use chive_node::wire::{Holders, Roles};
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
        download.finish(&mut world, &torrent, Duration::from_secs(300));
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
        download.finish(&mut world, &torrent, Duration::from_secs(60));
    }
}

/// Not so many that the same four are asked together each time around.
const HOLDERS: usize = 21;

#[test]
fn what_one_holder_of_many_falsifies_is_never_stored_and_no_ordb_is_blamed() {
    let mut world = World::new(30, LinkModel::default());
    // So much that he too is asked whose way is the longest.
    let torrent = TestTorrent::new(30, 12_000_000, PIECE);
    let (bridge, _) = mesh(&mut world, 3, 1);
    let mut liar = None;
    for number in 0..HOLDERS {
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
    // Each time the ORDB has forgotten the torrent, and asks the next four who told of it. The last
    // of them may come too late to give anything; the next time around it is not the last.
    for _ in 0..HOLDERS {
        let asker = world.add_tab(&[bridge], |_| {});
        let mut download = Download::begin(&mut world, asker, &torrent);
        download.finish(&mut world, &torrent, Duration::from_secs(300));
        world.call(asker, |node, now| node.close_torrent(now, download.torrent));
        let blamed = |event: &&Event| matches!(event, Event::SourceDropped { .. });
        let blamed: Vec<&Event> = download.events.iter().filter(blamed).collect();
        assert!(blamed.is_empty(), "{blamed:?}");
        if world.given(liar) > 0 {
            break;
        }
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
    let mut download = Download::begin_over(&mut world, path, &torrent);
    download.finish(&mut world, &torrent, Duration::from_secs(120));
    assert_eq!(world.node(asker).gauges().relays, 0);
}

#[test]
fn who_shares_sees_how_many_have_it_and_what_he_gave() {
    let mut world = World::new(45, LinkModel::default());
    let torrent = TestTorrent::new(45, 3_000_000, PIECE);
    let all = pieces(&torrent, PIECE);
    let (bridge, _) = mesh(&mut world, 3, 2);
    let holder = world.add_tab(&[bridge], |_| {});
    let half = world.add_tab(&[bridge], |_| {});
    let asker = world.add_tab(&[bridge], |_| {});
    let shared = hold(&mut world, holder, &torrent, 0..all, true);
    hold(&mut world, half, &torrent, 0..all / 2, true);
    world.run_for(Duration::from_secs(60));
    let counts = |world: &World, tab: NodeIndex, id| {
        let others = world.node(tab).availability(id);
        let Holders {
            quarter,
            half,
            three_quarters,
            whole,
        } = others;
        [quarter, half, three_quarters, whole]
    };
    assert_eq!(counts(&world, holder, shared), [1, 1, 0, 0]);
    assert_eq!(world.node(holder).sent_bytes(shared), 0);
    let mut download = Download::begin(&mut world, asker, &torrent);
    download.finish(&mut world, &torrent, Duration::from_secs(120));
    world.run_for(Duration::from_secs(60));
    // Now the asker is one more who has all of it, and he knows of both.
    assert_eq!(counts(&world, holder, shared), [2, 2, 1, 1]);
    assert_eq!(counts(&world, asker, download.torrent), [2, 2, 1, 1]);
    let given = world.node(holder).sent_bytes(shared);
    // At least the half that the other has not.
    let length = torrent.content.len() as u64;
    let least = length - u64::from(all / 2) * PIECE as u64;
    assert!((least..2 * length).contains(&given), "{given} bytes");
    assert_eq!(world.node(asker).sent_bytes(download.torrent), 0);
}

/// Tabs that are the only ORDBs, of which the first shares; and one of the others whom nobody told
/// of it, but who is linked to one that was told, if there is one.
fn tabs_of_which_one_shares(
    world: &mut World,
    torrent: &TestTorrent,
    mut configure: impl FnMut(&mut Config),
) -> (NodeIndex, Vec<NodeIndex>, Option<NodeIndex>) {
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    for _ in 0..3 {
        world.add_router(Roles::ROUTER, &[bridge], |_| {});
    }
    // Nobody keeps a swarm's content.
    let tabs: Vec<NodeIndex> = (0..6)
        .map(|_| world.add_tab_router(&[bridge], Nat::HOME, &mut configure))
        .collect();
    let stand = world.run_until(Duration::from_secs(120), |world| {
        let mut nodes = tabs.iter().map(|tab| world.node(*tab));
        nodes.all(|node| node.is_joined() && node.circuits().len() >= 6)
    });
    assert!(stand, "seed {}", world.seed());
    hold(world, tabs[0], torrent, 0..pieces(torrent, PIECE), true);
    // What it asked before it was given the pieces is forgotten by then.
    world.run_for(Duration::from_secs(100));
    let told = |tab: NodeIndex| {
        let views = world.node(tab).views();
        views.iter().any(|(_, _, name)| *name == torrent.name)
    };
    let knows = tabs.iter().filter(|tab| told(**tab));
    let knows: Vec<RsaId> = knows.map(|tab| world.router(*tab).rsa).collect();
    let linked = |tab: NodeIndex| {
        let neighbours = world.node(tab).neighbours();
        neighbours.iter().any(|it| knows.contains(&it.rsa))
    };
    let mut others = tabs[1..].iter().copied();
    let ordb = others.find(|tab| !told(*tab) && linked(*tab));
    (bridge, tabs, ordb)
}

/// Somebody asks this ORDB alone.
fn ask_one(
    world: &mut World,
    torrent: &TestTorrent,
    bridge: NodeIndex,
    ordb: NodeIndex,
) -> Download {
    let mut last = (*world.router(ordb)).clone();
    last.introducers = vec![world.router(bridge).rsa];
    let path = vec![world.router(bridge), Arc::new(last)];
    Download::begin_over(world, path, torrent)
}

/// The same, until he has all of it from one of whom the ORDB knew or whom it found; how many names
/// it looked up for that.
fn looked_up_for(
    world: &mut World,
    torrent: &TestTorrent,
    bridge: NodeIndex,
    ordb: NodeIndex,
) -> u64 {
    let before = world.node(ordb).counters().names_looked_up;
    let mut download = ask_one(world, torrent, bridge, ordb);
    download.finish(world, torrent, Duration::from_secs(60));
    let gauges = world.node(ordb).gauges();
    assert_eq!(gauges.relays, 1, "seed {}", world.seed());
    world.node(ordb).counters().names_looked_up - before
}

fn names_told(world: &World, tabs: &[NodeIndex]) -> u64 {
    let told = tabs
        .iter()
        .map(|tab| world.node(*tab).counters().names_told);
    told.sum()
}

#[test]
fn an_ordb_that_was_told_nothing_finds_by_kademlia_one_that_was() {
    for seed in 50..52 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 400_000, PIECE);
        let alone = |config: &mut Config| config.limits.told_neighbours = 0;
        let (bridge, tabs, ordb) = tabs_of_which_one_shares(&mut world, &torrent, alone);
        let ordb = ordb.expect("three of five were told");
        let looked_up = looked_up_for(&mut world, &torrent, bridge, ordb);
        assert_eq!(looked_up, 1, "seed {seed}");
        assert_eq!(names_told(&world, &tabs), 0);
    }
}

#[test]
fn an_ordb_that_was_told_nothing_has_heard_of_one_that_was() {
    for seed in 52..55 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 400_000, PIECE);
        let (bridge, tabs, ordb) = tabs_of_which_one_shares(&mut world, &torrent, |_| {});
        let ordb = ordb.expect("three of five were told");
        let told = names_told(&world, &tabs);
        assert!(told > 0, "seed {seed}");
        let looked_up = looked_up_for(&mut world, &torrent, bridge, ordb);
        // And nobody had to look it up.
        assert_eq!(looked_up, 0, "seed {seed}");
        println!(
            "seed {seed}: {told} messages, found after {:?}",
            world.now()
        );
    }
}

#[test]
fn a_neighbour_is_told_of_a_name_once() {
    for seed in 55..57 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 400_000, PIECE);
        let (_, tabs, _) = tabs_of_which_one_shares(&mut world, &torrent, |_| {});
        let first = names_told(&world, &tabs);
        // At most each of those who were told tells each of those who were not.
        assert!((1..=3 * 3).contains(&first), "seed {seed}: {first}");
        // Others share it as well: of those who are told now, all neighbours that have told them
        // of it know it.
        for tab in &tabs[1..4] {
            hold(&mut world, *tab, &torrent, 0..pieces(&torrent, PIECE), true);
        }
        world.run_for(Duration::from_secs(60));
        let second = names_told(&world, &tabs);
        let most = (tabs.len() * (tabs.len() - 1)) as u64;
        assert!(second <= most, "seed {seed}: {second} of {most}");
        // Some circuits go and others come; nothing is told again for its own sake.
        world.run_for(Duration::from_secs(600));
        let third = names_told(&world, &tabs);
        assert!(third <= second + most / 2, "seed {seed}: {third}, {second}");
        println!("seed {seed}: {first}, {second}, {third} messages");
    }
}

#[test]
fn what_was_told_and_is_not_so_costs_a_try() {
    for seed in 57..59 {
        let mut world = World::new(seed, LinkModel::default());
        let torrent = TestTorrent::new(seed, 400_000, PIECE);
        let (bridge, tabs, ordb) = tabs_of_which_one_shares(&mut world, &torrent, |_| {});
        let ordb = ordb.expect("three of five were told");
        let facilitator = ORDB.with(Roles::FACILITATOR);
        let has_it = world.add_router(facilitator, &[bridge], |_| {});
        let (info, content) = (torrent.info.clone(), torrent.content.clone());
        world
            .library(has_it)
            .put(torrent.name, info, content, Manner::Honest);
        world.run_for(Duration::from_secs(120));
        // Who was told still says so: none of them can give it any more.
        world.kill(tabs[0]);
        let mut download = ask_one(&mut world, &torrent, bridge, ordb);
        let began = world.now();
        download.finish(&mut world, &torrent, Duration::from_secs(120));
        println!("seed {seed}: {:?}", world.now().saturating_since(began));
    }
}
