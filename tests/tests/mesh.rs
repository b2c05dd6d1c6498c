//! Peers that ask and introduce each other, in a simulated network.

use std::sync::Arc;
use std::time::Duration;

use chive_node::circuit::client::Router;
use chive_node::ids::{CircuitId, RsaId};
use chive_node::node::{Carried, Carry, Event, LinkTransport, PeerKind, Transports};
use chive_node::ordb::{Demand, Read};
use chive_node::wire::{AskFailure, DestroyReason, Roles};
use chive_tests::sim::{LinkModel, Manner, Nat, NodeIndex, World, download};
use chive_tests::torrents::TestTorrent;

const FACILITATOR: Roles = Roles::ROUTER.with(Roles::ORDB).with(Roles::FACILITATOR);
const BRIDGE: Roles = Roles::BRIDGE.with(Roles::ROUTER);

fn rsa(world: &World, node: NodeIndex) -> RsaId {
    world.router(node).rsa
}

/// Pings `to` from `from` and waits for what comes of it.
fn ping(
    world: &mut World,
    from: NodeIndex,
    to: RsaId,
    hints: &[RsaId],
) -> Result<Roles, AskFailure> {
    world.take_events(from);
    world.call(from, |node, now| node.ping(now, to, hints));
    let mut outcome = None;
    world.run_until(Duration::from_secs(30), |world| {
        for event in world.take_events(from) {
            if let Event::Ping { rsa, outcome: what } = event
                && rsa == to
            {
                outcome = Some(what);
            }
        }
        outcome.is_some()
    });
    outcome.expect("an outcome, for every question expires")
}

/// A bridge and two facilitators that are linked to it, and not to each other.
fn three_routers(seed: u64) -> (World, NodeIndex, [NodeIndex; 2]) {
    let mut world = World::new(seed, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let pair = [(); 2].map(|()| world.add_router(FACILITATOR, &[bridge], |_| {}));
    let there = world.run_until(Duration::from_secs(10), |world| {
        world.node(bridge).gauges().registered == 2
    });
    assert!(there, "both are registered");
    (world, bridge, pair)
}

#[test]
fn a_question_goes_to_a_neighbour_and_is_passed_on_to_its_neighbours() {
    let (mut world, bridge, [one, other]) = three_routers(100);
    let (bridge_id, other_id) = (rsa(&world, bridge), rsa(&world, other));
    assert_eq!(ping(&mut world, one, bridge_id, &[]), Ok(BRIDGE));
    // Not linked to it: the bridge passes the question on, told to by a hint, or by itself.
    assert_eq!(
        ping(&mut world, one, other_id, &[bridge_id]),
        Ok(FACILITATOR)
    );
    assert_eq!(ping(&mut world, one, other_id, &[]), Ok(FACILITATOR));
    // Backward too: the bridge asks over links that were opened to it.
    assert_eq!(ping(&mut world, bridge, other_id, &[]), Ok(FACILITATOR));
    let status = world.node(bridge).neighbours();
    assert_eq!(status.len(), 2);
    assert!(status.iter().all(|peer| peer.roles == Some(FACILITATOR)));
    assert!(
        status
            .iter()
            .all(|peer| peer.bytes_sent > 514 && peer.bytes_received > 514)
    );
}

#[test]
fn a_tab_that_is_nobody_may_ask_and_is_not_asked() {
    let (mut world, bridge, [one, _]) = three_routers(101);
    let tab = world.add_tab(&[bridge], |_| {});
    let there = world.run_until(Duration::from_secs(10), |world| {
        world.node(tab).neighbours().len() == 1
    });
    assert!(there, "ntor proved the bridge");
    let one = rsa(&world, one);
    assert_eq!(ping(&mut world, tab, one, &[]), Ok(FACILITATOR));
    assert_eq!(world.node(bridge).neighbours().len(), 2, "not the tab");
}

#[test]
fn who_is_not_there_or_goes_is_told_of() {
    let (mut world, bridge, [one, other]) = three_routers(102);
    let nobody = RsaId([7; 20]);
    assert_eq!(
        ping(&mut world, one, nobody, &[]),
        Err(AskFailure::UNREACHABLE)
    );
    let other_id = rsa(&world, other);
    assert_eq!(ping(&mut world, one, other_id, &[]), Ok(FACILITATOR));
    world.kill(other);
    assert_eq!(
        ping(&mut world, one, other_id, &[]),
        Err(AskFailure::UNREACHABLE)
    );
    world.kill(bridge);
    world.run_until(Duration::from_secs(1), |_| false);
    assert!(world.node(one).neighbours().is_empty());
    assert_eq!(
        ping(&mut world, one, other_id, &[]),
        Err(AskFailure::UNREACHABLE)
    );
}

/// A bridge that is dialled by WebRTC too, and tabs that take part.
fn tabs(seed: u64, count: usize) -> (World, NodeIndex, Vec<NodeIndex>) {
    let mut world = World::new(seed, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let tabs = (0..count)
        .map(|_| world.add_tab_router(&[bridge], Nat::HOME, |_| {}))
        .collect();
    (world, bridge, tabs)
}

/// How many circuits of three routers stand.
fn standing(world: &World, tab: NodeIndex) -> usize {
    let circuits = world.node(tab).circuits();
    circuits.iter().filter(|circuit| circuit.hops == 3).count()
}

/// Those of `peers` that a node has a WebRTC link to.
fn linked(world: &World, node: NodeIndex, peers: &[NodeIndex]) -> Vec<NodeIndex> {
    let neighbours = world.node(node).neighbours();
    let has = |peer: &NodeIndex| {
        neighbours.iter().any(|neighbour| {
            neighbour.transport == LinkTransport::WebRtc && neighbour.rsa == rsa(world, *peer)
        })
    };
    peers.iter().copied().filter(has).collect()
}

#[test]
fn tabs_that_a_bridge_introduces_carry_each_others_circuits() {
    let (mut world, bridge, tabs) = tabs(110, 5);
    let stand = world.run_until(Duration::from_secs(120), |world| {
        tabs.iter().all(|tab| standing(world, *tab) >= 6)
    });
    let counts: Vec<usize> = tabs.iter().map(|tab| standing(&world, *tab)).collect();
    assert!(stand, "six circuits each: {counts:?}");
    for tab in &tabs {
        for circuit in world.node(*tab).circuits() {
            let own = rsa(&world, *tab);
            assert!(circuit.path.iter().all(|router| router.rsa != own));
            assert_eq!(circuit.path[0].rsa, rsa(&world, bridge));
        }
        assert!(!linked(&world, *tab, &tabs).is_empty(), "a link to a tab");
        assert!(world.node(*tab).carried().circuits > 0);
    }
}

#[test]
fn without_any_bridge_members_introduce_each_other_and_build_circuits() {
    let (mut world, bridge, tabs) = tabs(120, 6);
    let stand = world.run_until(Duration::from_secs(120), |world| {
        tabs.iter().all(|tab| standing(world, *tab) >= 6)
    });
    assert!(stand);
    world.kill(bridge);
    world.run_until(Duration::from_secs(1), |_| false);
    let before: Vec<Vec<NodeIndex>> = tabs.iter().map(|tab| linked(&world, *tab, &tabs)).collect();
    assert!(before.iter().all(|linked| !linked.is_empty()));
    let again = world.run_until(Duration::from_secs(180), |world| {
        tabs.iter().all(|tab| standing(world, *tab) >= 6)
    });
    let counts: Vec<usize> = tabs.iter().map(|tab| standing(&world, *tab)).collect();
    assert!(again, "six circuits each, of tabs alone: {counts:?}");
    let gone = rsa(&world, bridge);
    for tab in &tabs {
        for circuit in world.node(*tab).circuits() {
            assert!(circuit.path.iter().all(|router| router.rsa != gone));
        }
    }
}

/// A bridge goes before a tab has learned of more than those who were there first, and one of these
/// goes too: those who came since are found by walks.
#[test]
fn who_knows_few_routers_and_has_no_bridge_finds_those_who_came_later() {
    let mut world = World::new(121, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let facilitator = world.add_router(FACILITATOR, &[bridge], |_| {});
    let [tab, other] = [(); 2].map(|()| world.add_tab_router(&[bridge], Nat::HOME, |_| {}));
    assert!(world.run_until(Duration::from_secs(60), |world| {
        standing(world, tab) > 0 && standing(world, other) > 0
    }));
    world.kill(bridge);
    let entrance = vec![world.peer_line(facilitator)];
    for _ in 0..4 {
        let entrance = entrance.clone();
        world.add_tab_router(&[], Nat::HOME, |config| config.bridges = entrance);
    }
    world.kill(other);
    // None of those that it knew leads anywhere but this: a path needs two more.
    let again = world.run_until(Duration::from_secs(120), |world| standing(world, tab) > 0);
    let known = world.node(tab).gauges().routers;
    assert!(again, "no circuit, of {known} routers");
}

#[test]
fn a_circuit_over_tabs_carries_a_torrent_from_a_facilitator() {
    let mut world = World::new(130, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let facilitator = world.add_router(FACILITATOR, &[bridge], |_| {});
    // These carry and do not serve: the facilitator is the only ORDB.
    let carriers: Vec<NodeIndex> = (0..3)
        .map(|_| world.add_tab_router(&[bridge], Nat::HOME, |config| config.roles = Roles::ROUTER))
        .collect();
    let torrent = TestTorrent::new(130, 2_000_000, 1 << 16);
    let (info, content) = (torrent.info.clone(), torrent.content.clone());
    world
        .library(facilitator)
        .put(torrent.name, info, content, Manner::Honest);
    let tab = world.add_tab_router(&[bridge], Nat::HOME, |config| {
        config.roles = Roles::ROUTER;
        config.hops = 4;
    });
    world.run_until(Duration::from_secs(20), |_| false);
    let magnet = torrent.magnet.clone();
    let id = world
        .call(tab, |node, now| node.open_torrent(now, magnet))
        .expect("opened");
    let mut bytes = Vec::new();
    let mut read = None;
    let done = world.run_until(Duration::from_secs(120), |world| {
        if read.is_none() && world.node(tab).metainfo(id).is_some() {
            let all = 0..torrent.content.len() as u64;
            let opened = world.call(tab, |node, now| {
                node.open_read(now, id, 0, all, Demand::Play)
            });
            read = Some(opened.expect("a reader"));
        }
        let Some(read) = read else { return false };
        loop {
            match world.call(tab, |node, now| node.poll_read(now, read, 1 << 20)) {
                Read::Bytes(some) => bytes.extend_from_slice(&some),
                Read::Pending => return false,
                Read::End => return true,
                Read::Failed => panic!("the read failed"),
            }
        }
    });
    assert!(done, "{} bytes", bytes.len());
    assert!(bytes == torrent.content);
    let circuits = world.node(tab).circuits();
    let used = circuits.iter().find(|circuit| circuit.torrent == Some(id));
    let path = &used.expect("its circuit").path;
    assert_eq!(path.len(), 4);
    let by_tabs = path[1..3]
        .iter()
        .all(|router| carriers.iter().any(|tab| rsa(&world, *tab) == router.rsa));
    assert!(by_tabs, "two tabs in the middle");
}

#[test]
fn nats_that_ice_cannot_join_do_not_keep_others_apart() {
    let mut world = World::new(140, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let nats = [Nat::SYMMETRIC, Nat::SYMMETRIC, Nat::HOME, Nat::NONE];
    let tabs = nats.map(|nat| world.add_tab_router(&[bridge], nat, |_| {}));
    let stand = world.run_until(Duration::from_secs(300), |world| {
        tabs[..3].iter().all(|tab| standing(world, *tab) >= 2)
    });
    // Each by the last one, which all of them reach.
    assert!(stand);
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        assert!(!nats[one].reaches(nats[other]));
        assert!(linked(&world, tabs[one], &[tabs[other]]).is_empty());
    }
    assert!(!linked(&world, tabs[3], &tabs[..3]).is_empty());
}

#[test]
fn who_asks_too_much_is_told_so_and_answered_again_later() {
    let (mut world, bridge, [one, _]) = three_routers(170);
    let bridge = rsa(&world, bridge);
    assert_eq!(ping(&mut world, one, bridge, &[]), Ok(BRIDGE));
    world.take_events(one);
    for _ in 0..400 {
        world.call(one, |node, now| node.ping(now, bridge, &[]));
    }
    world.run_until(Duration::from_secs(2), |_| false);
    let outcomes: Vec<_> = world
        .take_events(one)
        .into_iter()
        .filter_map(|event| match event {
            Event::Ping { outcome, .. } => Some(outcome),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes.len(), 400);
    let busy = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!((100..300).contains(&busy), "{busy} of 400");
    world.run_until(Duration::from_secs(10), |_| false);
    assert_eq!(ping(&mut world, one, bridge, &[]), Ok(BRIDGE));
}

#[test]
fn a_tab_that_carries_nothing_is_asked_and_refuses_circuits() {
    let (mut world, bridge, tabs) = tabs(150, 4);
    let off = Carry {
        on: false,
        ..Carry::default()
    };
    world.call(tabs[0], |node, now| node.set_limits(now, off));
    let others = &tabs[1..];
    let stand = world.run_until(Duration::from_secs(200), |world| {
        others.iter().all(|tab| standing(world, *tab) >= 2)
    });
    assert!(stand);
    let refuses = rsa(&world, tabs[0]);
    for tab in others {
        let circuits = world.node(*tab).circuits();
        let mut open = circuits.iter().filter(|circuit| circuit.hops == 3);
        assert!(open.all(|circuit| circuit.path.iter().all(|router| router.rsa != refuses)));
    }
    assert_eq!(world.node(tabs[0]).carried(), Carried::default());
    let bridge = rsa(&world, bridge);
    let there = ping(&mut world, tabs[1], refuses, &[bridge]);
    assert_eq!(there, Ok(Roles::ROUTER.with(Roles::ORDB)));
}

#[test]
fn entries_are_kept_and_told_to_the_host() {
    let mut world = World::new(160, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let facilitators = [(); 3].map(|()| world.add_router(FACILITATOR, &[bridge], |_| {}));
    let tab = world.add_tab_router(&[bridge], Nat::HOME, |_| {});
    world.run_until(Duration::from_secs(20), |_| false);
    let told = world
        .take_events(tab)
        .into_iter()
        .rev()
        .find_map(|event| match event {
            Event::Entries(lines) => Some(lines),
            _ => None,
        });
    let lines = told.expect("entries");
    assert_eq!(lines.len(), 2);
    let known = facilitators.map(|facilitator| world.peer_line(facilitator));
    assert!(lines.iter().all(|line| known.contains(line)));
    // In the next session, without any bridge, circuits begin at one of them.
    world.kill(bridge);
    let first = lines[0].clone();
    let entries = lines.clone();
    let again = world.add_tab_router(&[], Nat::HOME, |config| config.entries = entries);
    let linked = world.run_until(Duration::from_secs(20), |world| {
        let neighbours = world.node(again).neighbours();
        lines.iter().filter(|line| known.contains(line)).count() == neighbours.len()
    });
    assert!(linked, "linked to both");
    assert!(world.node(again).bridges().next().is_none(), "{first}");
}

/// A bridge may be reached in two ways, and is one peer; who circuits begin at without it is what it
/// is.
#[test]
fn a_peer_is_shown_once_and_as_what_it_is() {
    let mut world = World::new(164, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let facilitator = world.add_router(FACILITATOR, &[bridge], |_| {});
    let lines = [bridge, facilitator].map(|router| world.peer_line(router));
    let tab = world.add_tab_router(&[bridge], Nat::HOME, |config| {
        let [bridge, facilitator] = lines;
        config.bridges.push(bridge);
        config.entries.push(facilitator);
    });
    let other = world.add_tab_router(&[bridge], Nat::HOME, |config| config.asks = false);
    world.run_until(Duration::from_secs(10), |_| false);
    let through = vec![
        world.router(bridge),
        introduced_by(&world, other, bridge),
        introduced_by(&world, tab, bridge),
    ];
    let client = world.add_client();
    assert!(build(&mut world, client, through).is_ok());
    let status = world.node(tab);
    let bridge_id = rsa(&world, bridge);
    let neighbours = status.neighbours();
    let ways = neighbours.iter().filter(|peer| peer.rsa == bridge_id);
    assert_eq!(ways.count(), 2, "the bridge is linked to in two ways");
    let mut peers: Vec<_> = status
        .peers()
        .into_iter()
        .map(|p| (p.rsa, p.kind))
        .collect();
    peers.sort_by_key(|(rsa, _)| *rsa);
    let mut expected = vec![
        (rsa(&world, bridge), PeerKind::Bridge),
        (rsa(&world, facilitator), PeerKind::Facilitator),
        (rsa(&world, other), PeerKind::Tab),
    ];
    expected.sort_by_key(|(rsa, _)| *rsa);
    assert_eq!(peers, expected);
}

/// Where all routers but the bridge are entries of an earlier session, they are hops all the same.
#[test]
fn a_tab_that_comes_again_to_a_small_network_fetches_there() {
    let mut world = World::new(170, LinkModel::default());
    let torrent = TestTorrent::new(170, 300_000, 1 << 15);
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let facilitators = [(); 2].map(|()| world.add_router(FACILITATOR, &[bridge], |_| {}));
    for facilitator in facilitators {
        let (info, content) = (torrent.info.clone(), torrent.content.clone());
        let library = world.library(facilitator);
        library.put(torrent.name, info, content, Manner::Honest);
    }
    let entries = facilitators
        .map(|facilitator| world.peer_line(facilitator))
        .to_vec();
    let again = world.add_tab_router(&[bridge], Nat::HOME, |config| config.entries = entries);
    world.run_until(Duration::from_secs(20), |_| false);
    download(&mut world, again, &torrent, Duration::from_secs(60));
}

/// Somebody dials a tab with many identities, and stays linked to it. Whom it dialled so, circuits
/// neither begin at nor lead through, not even when every router that circuits began at is gone.
#[test]
fn who_dials_a_tab_is_no_hop_for_that() {
    let mut world = World::new(165, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    // So many that it does not look for more: those who took part in lookups for long enough are
    // routers as others are, and walks would find them.
    let honest: Vec<NodeIndex> = (0..30)
        .map(|_| world.add_router(FACILITATOR, &[bridge], |_| {}))
        .collect();
    // One that can be dialled, for nobody would introduce so many at once.
    let bridges = vec![world.peer_line(bridge)];
    let victim = world.add_router(Roles::ROUTER.with(Roles::ORDB), &[], |config| {
        config.asks = true;
        config.transports = Transports::TAB;
        config.bridges = bridges;
    });
    assert!(world.run_until(Duration::from_secs(60), |world| {
        standing(world, victim) >= 6
    }));
    // It knows its hops now: walks are minutes apart.
    world.run_for(Duration::from_secs(60));
    let mut entries = Vec::new();
    for event in world.take_events(victim) {
        if let Event::Entries(lines) = event {
            entries = lines;
        }
    }
    // Where circuits of theirs begin; with two entries they look for no others, such as the bridge,
    // which would introduce them as it introduces everybody.
    let nobody = world.add_router(FACILITATOR, &[], |_| {});
    world.kill(nobody);
    let lines = [victim, nobody].map(|router| world.peer_line(router));
    let adversary: Vec<NodeIndex> = (0..24)
        .map(|_| {
            world.add_router(FACILITATOR, &[], |config| {
                config.asks = true;
                config.transports = Transports::TAB;
                config.entries = lines.to_vec();
            })
        })
        .collect();
    world.run_until(Duration::from_secs(60), |_| false);
    assert!(linked(&world, victim, &adversary).len() >= 20, "they came");
    let known = world.node(victim).gauges().routers;
    assert!(known <= honest.len(), "{known} routers may be hops");
    let is_entry = |gone: &&NodeIndex| entries.contains(&world.peer_line(**gone));
    let gone: Vec<NodeIndex> = honest.iter().filter(is_entry).copied().collect();
    assert_eq!(gone.len(), 2);
    for gone in gone.into_iter().chain([bridge]) {
        world.kill(gone);
    }
    world.run_until(Duration::from_secs(5), |_| false);
    let placed: Vec<RsaId> = adversary.iter().map(|of| rsa(&world, *of)).collect();
    let mut circuits = 0;
    for _ in 0..120 {
        world.run_for(Duration::from_secs(1));
        for circuit in world.node(victim).circuits() {
            circuits += usize::from(circuit.hops == 3);
            let mut path = circuit.path.iter();
            let hop = path.find(|router| placed.contains(&router.rsa));
            assert!(hop.is_none(), "a hop that placed itself");
        }
    }
    assert!(circuits > 0, "there are circuits to look at");
}

/// A router as a circuit names it that knows who introduces it.
fn introduced_by(world: &World, tab: NodeIndex, introducer: NodeIndex) -> Arc<Router> {
    let router = world.router(tab);
    Arc::new(Router {
        introducers: vec![rsa(world, introducer)],
        ..(*router).clone()
    })
}

/// Builds a circuit by hand and waits for what comes of it.
fn build(
    world: &mut World,
    client: NodeIndex,
    path: Vec<Arc<Router>>,
) -> Result<CircuitId, DestroyReason> {
    let circuit = world
        .call(client, |node, now| node.build_circuit(now, path))
        .expect("a path that can be tried");
    let mut outcome = None;
    world.run_until(Duration::from_secs(30), |world| {
        for event in world.take_events(client) {
            match event {
                Event::CircuitOpen { circuit: of } if of == circuit => outcome = Some(Ok(circuit)),
                Event::CircuitClosed {
                    circuit: of,
                    reason,
                    ..
                } if of == circuit => outcome = Some(Err(reason)),
                _ => {}
            }
        }
        outcome.is_some()
    });
    outcome.expect("a circuit stands, or its builder is told why not")
}

#[test]
fn who_asks_for_what_nats_do_not_allow_is_told_that_it_cannot_be_connected() {
    let mut world = World::new(180, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let nats = [Nat::SYMMETRIC, Nat::HOME, Nat::NONE];
    let tabs = nats.map(|nat| world.add_tab_router(&[bridge], nat, |config| config.asks = false));
    let client = world.add_client();
    world.run_until(Duration::from_secs(10), |_| false);
    let first = world.router(bridge);
    let [symmetric, home, open] = tabs.map(|tab| introduced_by(&world, tab, bridge));
    let through = |last: &Arc<Router>| vec![first.clone(), symmetric.clone(), last.clone()];
    let refused = build(&mut world, client, through(&home));
    assert_eq!(refused, Err(DestroyReason::CONNECTFAILED));
    assert!(build(&mut world, client, through(&open)).is_ok());
}

#[test]
fn links_that_nobody_uses_are_closed_but_for_a_few() {
    let mut world = World::new(190, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let tab = |world: &mut World| {
        world.add_tab_router(&[bridge], Nat::NONE, |config| config.asks = false)
    };
    let hub = tab(&mut world);
    let leaves: Vec<NodeIndex> = (0..14).map(|_| tab(&mut world)).collect();
    let client = world.add_client();
    world.run_until(Duration::from_secs(10), |_| false);
    let first = [world.router(bridge), introduced_by(&world, hub, bridge)];
    for leaf in &leaves {
        let last = introduced_by(&world, *leaf, bridge);
        let path = first.iter().cloned().chain([last]).collect();
        let circuit = build(&mut world, client, path).expect("a circuit");
        world.call(client, |node, now| node.close_circuit(now, circuit));
    }
    let before = linked(&world, hub, &leaves).len();
    assert_eq!(before, leaves.len());
    let few = world.run_until(Duration::from_secs(1_800), |world| {
        linked(world, hub, &leaves).len() <= 8
    });
    let after = linked(&world, hub, &leaves).len();
    assert!(few, "{after} links");
    // What keeps it in the mesh stays, and what was closed is made again when it is wanted.
    world.run_until(Duration::from_secs(600), |_| false);
    assert!(linked(&world, hub, &leaves).len() >= 5);
    let closed = leaves.iter().find(|leaf| {
        let here = [**leaf];
        linked(&world, hub, &here).is_empty()
    });
    let last = introduced_by(&world, *closed.expect("a closed one"), bridge);
    let path = first.iter().cloned().chain([last]).collect();
    assert!(build(&mut world, client, path).is_ok());
}

#[test]
fn a_link_without_a_circuit_holds_its_place_for_minutes_only() {
    let mut world = World::new(191, LinkModel::default());
    let router = world.add_router(FACILITATOR, &[], |_| {});
    let client = world.add_client();
    let path = vec![world.router(router)];
    let circuit = build(&mut world, client, path).expect("a circuit");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.node(router).gauges().links, 1, "a circuit is on it");
    world.call(client, |node, now| node.close_circuit(now, circuit));
    let gone = world.run_until(Duration::from_secs(400), |world| {
        world.node(router).gauges().links == 0
    });
    assert!(gone);
}

#[test]
fn an_idle_tab_builds_less_than_a_circuit_a_minute() {
    let (mut world, _, tabs) = tabs(200, 6);
    let stand = world.run_until(Duration::from_secs(120), |world| {
        tabs.iter().all(|tab| standing(world, *tab) >= 6)
    });
    assert!(stand);
    let begun = |world: &World| -> u64 {
        let counters = tabs.iter().map(|tab| world.node(*tab).counters());
        counters.map(|of| of.circuits_begun).sum()
    };
    let before = begun(&world);
    world.run_until(Duration::from_secs(1_800), |_| false);
    let rate = (begun(&world) - before) as f64 / tabs.len() as f64 / 30.0;
    assert!(rate < 1.0, "{rate} a minute");
    assert!(rate > 0.3, "spares are replaced in time: {rate} a minute");
}

#[test]
fn who_can_build_no_circuit_tries_ever_less_and_never_gives_up() {
    let mut world = World::new(210, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let refuses = Carry {
        on: false,
        ..Carry::default()
    };
    let facilitator = world.add_router(FACILITATOR, &[bridge], |config| {
        config.limits.carry = refuses;
    });
    let tab = world.add_tab_router(&[bridge], Nat::HOME, |config| config.hops = 2);
    let stands = |world: &World| world.node(tab).circuits().iter().any(|own| own.hops == 2);
    world.run_until(Duration::from_secs(600), |_| false);
    let begun = world.node(tab).counters().circuits_begun;
    assert!(!stands(&world));
    assert!((5..60).contains(&begun), "{begun} in ten minutes");
    world.call(facilitator, |node, now| {
        node.set_limits(now, Carry::default());
    });
    assert!(world.run_until(Duration::from_secs(90), |world| stands(world)));
}

#[test]
fn what_is_carried_keeps_to_the_rate_and_loses_nothing() {
    let mut world = World::new(220, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let facilitator = world.add_router(FACILITATOR, &[bridge], |_| {});
    let carrier = world.add_tab_router(&[bridge], Nat::HOME, |config| {
        config.roles = Roles::ROUTER;
        config.asks = false;
        config.limits.carry.bytes_per_second = Some(200_000);
    });
    let torrent = TestTorrent::new(220, 2_000_000, 1 << 16);
    let (info, content) = (torrent.info.clone(), torrent.content.clone());
    world
        .library(facilitator)
        .put(torrent.name, info, content, Manner::Honest);
    let tab = world.add_tab(&[bridge], |_| {});
    world.run_until(Duration::from_secs(20), |_| false);
    let begin = world.now();
    download(&mut world, tab, &torrent, Duration::from_secs(60));
    let took = world.now().saturating_since(begin);
    let bytes = world.node(carrier).carried().bytes;
    assert!(bytes > 2_000_000, "it carried all: {bytes}");
    assert!(
        took > Duration::from_secs(9),
        "{took:?} for 2 MB at 200 kB/s"
    );
    assert!(
        took < Duration::from_secs(20),
        "{took:?} for 2 MB at 200 kB/s"
    );
    assert_eq!(world.node(carrier).gauges().queued_bytes, 0);
    // One circuit to the end: nobody was thrown out for being fast.
    assert_eq!(world.node(tab).counters().circuits_failed, 0);
}
