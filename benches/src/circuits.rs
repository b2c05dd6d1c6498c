//! How long a circuit takes in a standing mesh: in the simulated network, by its clock, for on one
//! machine no hop is far away.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use chive_node::ids::CircuitId;
use chive_node::wire::Roles;
use chive_tests::sim::{LinkModel, Nat, NodeIndex, World};

use crate::report::{Goal, Row};

/// Each way, of every link.
const HOP: Duration = Duration::from_millis(50);
/// Bytes a second, of every link: a line at home.
const BANDWIDTH: u64 = 4_000_000;
const TABS: usize = 24;
/// Circuits that each tab keeps.
const STANDING: usize = 6;
const CIRCUITS: usize = 200;
/// Circuits that are replaced before any is measured: a mesh in use has linked most who meet.
const BEFORE: usize = 600;
const LIMIT_MS: f64 = 1000.0;
const SEED: u64 = 50;

/// `introduction-circuit`.
pub fn circuit() -> Result<Row> {
    let model = LinkModel {
        latency: HOP..HOP,
        bandwidth: BANDWIDTH..BANDWIDTH + 1,
    };
    let mut world = World::new(SEED, model);
    let bridge = world.add_router(Roles::BRIDGE.with(Roles::ROUTER), &[], |_| {});
    let tabs: Vec<NodeIndex> = (0..TABS)
        .map(|_| world.add_tab_router(&[bridge], Nat::HOME, |_| {}))
        .collect();
    for tab in &tabs {
        world.keep_events(*tab, false);
    }
    let stands = world.run_until(Duration::from_secs(600), |world| {
        tabs.iter().all(|tab| open(world, *tab).len() >= STANDING)
    });
    ensure!(stands, "the mesh does not stand");
    let mut took = Vec::new();
    let mut lost = 0;
    while took.len() < BEFORE + CIRCUITS {
        let tab = tabs[(took.len() + lost) % TABS];
        let before = circuits(&world, tab);
        let Some(old) = open(&world, tab).first().copied() else {
            break;
        };
        world.call(tab, |node, now| node.close_circuit(now, old));
        // What takes its place, from the moment that the tab begins it.
        let mut begun = BTreeMap::new();
        let mut done = None;
        world.run_until(Duration::from_secs(60), |world| {
            let now = world.now();
            let all = circuits(world, tab);
            for circuit in all.keys().filter(|circuit| !before.contains_key(circuit)) {
                begun.entry(*circuit).or_insert(now);
            }
            done = begun
                .iter()
                .find(|(circuit, _)| all.get(circuit) == Some(&3))
                .map(|(_, at)| now.saturating_since(*at));
            done.is_some()
        });
        lost += begun.len() - usize::from(done.is_some());
        match done {
            Some(time) => took.push(time.as_secs_f64() * 1e3),
            None => lost += 1,
        }
        ensure!(lost < BEFORE + CIRCUITS, "circuits are not replaced");
    }
    let mut took = took.split_off(took.len().min(BEFORE));
    took.sort_by(f64::total_cmp);
    let at = |part: usize| took.get(took.len() * part / 100).copied();
    println!(
        "circuits of three at {HOP:?} a hop, ms: 10 % within {:.0}, half {:.0}, 90 % {:.0}; {lost} of {} \
         failed",
        at(10).unwrap_or_default(),
        at(50).unwrap_or_default(),
        at(90).unwrap_or_default(),
        BEFORE + took.len() + lost,
    );
    Ok(Row::new(
        "introduction-circuit",
        "ms",
        at(50),
        ("the limit, simulated", Some(LIMIT_MS)),
        Goal::AtMost(1.0),
    ))
}

/// Circuits and how many of their routers stand.
fn circuits(world: &World, tab: NodeIndex) -> BTreeMap<CircuitId, usize> {
    let all = world.node(tab).circuits();
    all.iter()
        .map(|circuit| (circuit.circuit, circuit.hops))
        .collect()
}

fn open(world: &World, tab: NodeIndex) -> Vec<CircuitId> {
    let all = circuits(world, tab);
    all.into_iter()
        .filter(|(_, hops)| *hops == 3)
        .map(|(circuit, _)| circuit)
        .collect()
}
