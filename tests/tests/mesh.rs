//! Peers that ask and introduce each other, in a simulated network.

use std::time::Duration;

use chive_node::ids::RsaId;
use chive_node::node::Event;
use chive_node::wire::{AskFailure, Roles};
use chive_tests::sim::{LinkModel, NodeIndex, World};

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
