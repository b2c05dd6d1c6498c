//! A whole network in one thread: thousands of real nodes that come and go, and what becomes of
//! lookups, hidden names, anonymity and content in it.

pub mod args;
mod faults;
mod measure;
mod population;
mod report;

pub use measure::{Lookups, Placed, Seen, small_torrent};
pub use population::{ARRIVAL, Member, Plan, Population, Tab};
pub use report::{Colluding, Recovery, Report};

use std::time::Duration;

use tokio::time::Instant;

use args::Args;

/// Runs what the arguments ask for. `say` is told what is being done.
pub fn run(args: &Args, mut say: impl FnMut(&str)) -> Report {
    let began = Instant::now();
    let wants = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    let mut plan = Plan::new(args.peers, args.seed);
    plan.adversary = args.adversary;
    plan.bridges = args.bridges.unwrap_or(plan.bridges).max(1);
    plan.half_life = (args.churn > 0.0).then(|| Duration::from_secs_f64(args.churn * 3600.0));
    let mut report = Report {
        peers: args.peers,
        seed: args.seed,
        churn_half_life_h: args.churn,
        lookup_rounds_bound: f64::from(args.peers).log2() / 2.0 + 3.0,
        ..Report::default()
    };
    say(&format!("{} tabs come, one after another", args.peers));
    let mut population = Population::come(plan);
    say(&format!("{} minutes under churn", args.minutes));
    let before = population.bytes_sent();
    let (begun_before, failed_before) = population.circuits();
    let time = Duration::from_secs(u64::from(args.minutes) * 60);
    population.run(time);
    let bytes = population.bytes_sent().saturating_sub(before) as f64;
    let hours = time.as_secs_f64() / 3600.0;
    if hours > 0.0 {
        // Who came with circuits and left with them makes no difference to speak of.
        let (begun, failed) = population.circuits();
        let a_minute = |now: u64, before: u64| {
            Some(now.saturating_sub(before) as f64 / hours / 60.0 / f64::from(args.peers))
        };
        report.circuits_begun_per_peer_minute = a_minute(begun, begun_before);
        report.circuits_failed_per_peer_minute = a_minute(failed, failed_before);
        report.cost_bytes_per_peer_hour = Some(bytes / hours / f64::from(args.peers));
    }
    // Of the network as it stands; what is asked of it below keeps records of its own.
    report.memory_kib_per_peer = resident_kib().map(|kib| kib / f64::from(args.peers));
    if wants("lookups") {
        say("lookups");
        let lookups = population.lookups(args.lookups);
        report.lookup_success = Some(lookups.success());
        report.lookup_rounds_median = Some(lookups.median());
    }
    if wants("hidden") {
        say("a name shared by 20 hidden tabs, asked for by 200");
        let holders = 20.min(args.peers as usize / 8);
        let askers = 200.min(args.peers as usize / 4);
        report.hidden_found_60s = Some(population.hidden(holders, askers));
    }
    if wants("views") {
        say("downloads, and all that every router sees of them");
        let seen = population.views(u64::from(args.downloads));
        report.linkable_views = Some(seen.linkable);
        report.downloads = Some(seen.downloads);
        report.colluding_pairs = Some(seen.colluding(args.adversary));
        report.wrong_bytes_stored = Some(seen.wrong);
    }
    if wants("placed") {
        say("IDs next to a victim's are put into the network");
        let identities = (args.peers / 20).max(2);
        report.placed = Some(population.placed(identities, 40));
    }
    if wants("liars") {
        say("some of those who hold a file give wrong bytes");
        let downloads = 50.min(args.peers as usize / 4);
        let (finished, all, wrong) = population.liars(args.liars, downloads);
        report.liars_finished = Some((finished, all));
        report.wrong_bytes_stored = Some(report.wrong_bytes_stored.unwrap_or(0) + wrong);
    }
    if wants("faults") {
        say("half of the tabs leave, the network splits, the bridges stop");
        report.recovery_s = Some(population.faults());
    }
    let simulated = population.world.now().as_micros() as f64 / 1e6;
    report.real_seconds_per_simulated = Some(began.elapsed().as_secs_f64() / simulated);
    report
}

/// Resident memory of this process.
fn resident_kib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
