//! Kademlia among real nodes, in a simulated network: they find each other, names, and hops.

use std::collections::BTreeSet;
use std::time::Duration;

use chive_node::ids::{Key, RsaId};
use chive_node::kad::LookupId;
use chive_node::node::Event;
use chive_node::wire::Roles;
use chive_tests::sim::{LinkModel, NodeIndex, World};

const FACILITATOR: Roles = Roles::ROUTER.with(Roles::ORDB).with(Roles::FACILITATOR);
const BRIDGE: Roles = Roles::BRIDGE.with(Roles::ROUTER);
const SECOND: Duration = Duration::from_secs(1);

fn rsa(world: &World, node: NodeIndex) -> RsaId {
    world.router(node).rsa
}

/// A bridge, and facilitators that know nobody but it.
fn standing(seed: u64, facilitators: usize) -> (World, NodeIndex, Vec<NodeIndex>) {
    let mut world = World::new(seed, LinkModel::default());
    let bridge = world.add_router(BRIDGE, &[], |_| {});
    let facilitators: Vec<NodeIndex> = (0..facilitators)
        .map(|_| world.add_router(FACILITATOR, &[bridge], |_| {}))
        .collect();
    let all = facilitators.clone();
    let joined = world.run_until(120 * SECOND, |world| {
        all.iter().all(|node| world.node(*node).is_joined())
    });
    assert!(joined, "all know those near them");
    (world, bridge, facilitators)
}

/// Waits for a lookup's end: who is nearest, and which ORDBs were found.
fn await_lookup(
    world: &mut World,
    node: NodeIndex,
    lookup: LookupId,
) -> (Vec<RsaId>, BTreeSet<RsaId>) {
    let (mut nearest, mut providers) = (None, BTreeSet::new());
    world.run_until(60 * SECOND, |world| {
        for event in world.take_events(node) {
            match event {
                Event::Provider { lookup: of, rsa } if of == lookup => {
                    providers.insert(rsa);
                }
                Event::LookedUp {
                    lookup: of,
                    closest,
                    ..
                } if of == lookup => nearest = Some(closest),
                _ => {}
            }
        }
        nearest.is_some()
    });
    (nearest.expect("every lookup ends"), providers)
}

#[test]
fn routers_that_know_one_bridge_come_to_know_each_other() {
    let (mut world, bridge, facilitators) = standing(300, 10);
    world.run_until(90 * SECOND, |_| false);
    for node in &facilitators {
        let contacts: usize = world.node(*node).buckets().iter().map(|(_, n)| n).sum();
        // Buckets of eight may be full.
        assert!(contacts >= 7, "{contacts} of 10");
        for (_, fill) in world.node(*node).buckets() {
            assert!((1..=8).contains(&fill));
        }
    }
    // Each finds each by its ID, though it be linked to none but the bridge at first.
    let (asker, wanted) = (facilitators[0], rsa(&world, facilitators[7]));
    world.take_events(asker);
    let lookup = world.call(asker, |node, now| node.find_node(now, wanted.into()));
    let (nearest, _) = await_lookup(&mut world, asker, lookup.expect("it has an identity"));
    assert_eq!(nearest.first(), Some(&wanted));
    // A bridge gone takes nobody's contacts away.
    world.kill(bridge);
    let (asker, wanted) = (facilitators[3], rsa(&world, facilitators[8]));
    world.take_events(asker);
    let lookup = world.call(asker, |node, now| node.find_node(now, wanted.into()));
    let (nearest, _) = await_lookup(&mut world, asker, lookup.expect("it has an identity"));
    assert_eq!(nearest.first(), Some(&wanted));
}

#[test]
fn a_name_that_is_provided_is_found_until_it_is_withdrawn() {
    let (mut world, _, facilitators) = standing(301, 8);
    let name = Key([0x5a; 20]);
    let providers = [facilitators[1], facilitators[4]];
    for node in providers {
        world.call(node, |node, now| node.provide(now, name));
    }
    world.run_until(30 * SECOND, |_| false);
    assert!(
        facilitators
            .iter()
            .any(|node| world.node(*node).records() > 0),
        "somebody keeps it"
    );
    let ids: BTreeSet<RsaId> = providers.iter().map(|node| rsa(&world, *node)).collect();
    let asker = facilitators[6];
    world.take_events(asker);
    let lookup = world.call(asker, |node, now| node.look_up(now, name));
    let (_, found) = await_lookup(&mut world, asker, lookup.expect("it has an identity"));
    assert_eq!(found, ids);

    // Signed and published anew, it outlives its first record many times.
    world.run_until(3 * 3600 * SECOND, |_| false);
    world.take_events(asker);
    let lookup = world.call(asker, |node, now| node.look_up(now, name));
    let (_, found) = await_lookup(&mut world, asker, lookup.expect("it has an identity"));
    assert_eq!(found, ids);

    world.call(providers[0], |node, now| node.withdraw(now, name));
    world.run_until(2 * 3600 * SECOND, |_| false);
    world.take_events(asker);
    let lookup = world.call(asker, |node, now| node.look_up(now, name));
    let (_, found) = await_lookup(&mut world, asker, lookup.expect("it has an identity"));
    assert_eq!(found, BTreeSet::from([rsa(&world, providers[1])]));
}

#[test]
fn who_is_nobody_takes_no_part() {
    let (mut world, bridge, _) = standing(302, 3);
    let tab = world.add_tab(&[bridge], |_| {});
    world.run_until(60 * SECOND, |_| false);
    assert!(world.node(tab).buckets().is_empty());
    assert!(!world.node(tab).is_joined());
    let lookup = world.call(tab, |node, now| node.look_up(now, Key([1; 20])));
    assert_eq!(lookup, None);
}
