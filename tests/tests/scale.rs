//! Networks of hundreds of real nodes in one thread: what holds in them. `cargo xtask sim` asks the
//! same of larger ones.

use chive_tests::scale::{Plan, Population};
use std::time::Duration;

/// A network that has run for a while under churn.
fn network(tabs: u32, adversary: u32, seed: u64) -> Population {
    let mut plan = Plan::new(tabs, seed);
    plan.adversary = adversary;
    plan.bridges = 10;
    let mut population = Population::come(plan);
    population.run(Duration::from_secs(300));
    population
}

#[test]
fn tabs_find_tabs_and_names_of_hidden_tabs() {
    let mut population = network(200, 0, 1);
    let lookups = population.lookups(200);
    assert!(lookups.success() >= 0.99, "{lookups:?}");
    assert!(lookups.median() <= 200_f64.log2() / 2.0 + 3.0);
    let found = population.hidden(10, 50);
    assert!(found >= 0.95, "{found} of the askers have the metadata");
}

/// No router sees who asks beside what is asked for; with every fifth router in one hand, both
/// ends of a circuit are as often in it as chance has it.
#[test]
fn no_router_sees_who_asks_and_what() {
    for adversary in [10, 20] {
        let mut population = network(150, adversary, u64::from(adversary));
        let seen = population.views(60);
        assert!(seen.downloads >= 50, "{seen:?}");
        assert_eq!((seen.linkable, seen.wrong), (0, 0), "{seen:?}");
        let colluding = seen.colluding(adversary);
        assert!(
            colluding.pairs as f64 <= colluding.bound,
            "{colluding:?} of {seen:?}"
        );
    }
}

#[test]
fn identities_next_to_a_victim_gain_nothing_as_hops() {
    let mut population = network(100, 0, 3);
    let placed = population.placed(10, 20);
    assert!(placed.hops >= 100, "{placed:?}");
    assert!(placed.placed as f64 <= placed.bound, "{placed:?}");
}

#[test]
fn liars_cost_time_and_not_a_byte() {
    let mut population = network(100, 0, 4);
    let (finished, all, wrong) = population.liars(10, 20);
    assert_eq!((finished, wrong), (all, 0));
}

#[test]
fn a_network_recovers_from_loss_split_and_bridges_that_stop() {
    let mut population = network(100, 0, 5);
    let recovery = population.faults();
    println!("{recovery:?}");
    assert!(
        recovery.half_gone.is_some()
            && recovery.rejoined.is_some()
            && recovery.bridges_gone.is_some(),
        "{recovery:?}"
    );
}

/// The same seed is the same run.
#[test]
fn a_run_can_be_run_again() {
    let run = || {
        let mut population = network(40, 0, 6);
        let lookups = population.lookups(20);
        (lookups.rounds, population.bytes_sent())
    };
    assert_eq!(run(), run());
}
