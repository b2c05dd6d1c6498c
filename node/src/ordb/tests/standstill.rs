//! Sources die in every way that there is, one after another: as long as one is well, it goes on.

use std::time::Duration;

use super::Rng;
use super::torrents::{Kind, Torrent};
use super::world::{Nature, World};
use crate::ordb::{Config, Demand};

/// While one source is well, something new is verified at least so often. A source that falls
/// silent before its first byte is found out after ten seconds, one whose circuit died at once.
const MOST: Duration = Duration::from_secs(25);

fn run(seed: u64) {
    let mut rng = Rng::new(seed ^ 0xDEAD);
    let piece_length = 1 << rng.range(14..=20);
    let torrent = Torrent::new(&mut rng, Kind::Hybrid, piece_length, &[12 << 20]);
    let mut world = World::new(seed, torrent, Config::default());
    world.replaces = Some(Duration::from_millis(rng.range(50..=8000)));
    let well = |rng: &mut Rng| Nature {
        cells_per_second: rng.range(400..=6000),
        delay: Duration::from_millis(rng.range(1..=250)),
        host_delay: Duration::from_millis(rng.range(0..=500)),
        ..Nature::default()
    };
    let lasting = well(&mut rng);
    let mut sources = vec![world.add_source(Duration::ZERO, lasting)];
    for _ in 0..rng.range(1..=4) {
        let mut nature = well(&mut rng);
        match rng.below(3) {
            0 => nature.dies_after = Some(rng.range(1..=8000)),
            1 => nature.stalls_after = Some(rng.range(1..=8000)),
            _ => {}
        }
        sources.push(world.add_source(Duration::from_millis(rng.below(2000)), nature));
    }
    world.run_until(Duration::from_secs(120), |world| world.has_metadata);
    let length = world.torrent.file(0).len() as u64;
    let demand = if rng.once_in(2) {
        Demand::Save
    } else {
        Demand::Play
    };
    world.add_reader(0, 0, 0..length, 0, demand);
    let mut verified = 0;
    let mut since = world.now;
    let mut kill_at = world.now + Duration::from_millis(rng.range(100..=4000));
    world.run_until(Duration::from_secs(1800), |world| {
        let now = world.requester.progress().verified_in_all_bytes;
        if now > verified {
            (verified, since) = (now, world.now);
        }
        let still = world.now.saturating_since(since);
        assert!(
            still < MOST,
            "seed {seed}: nothing new for {still:?}\n{world:?}"
        );
        world.all_read() || world.now >= kill_at
    });
    // Circuits break under whoever is left but the first.
    while !world.all_read() {
        let victim = sources[usize::try_from(rng.range(1..=sources.len() as u64 - 1)).unwrap()];
        world.kill(victim);
        kill_at = world.now + Duration::from_millis(rng.range(100..=4000));
        world.run_until(Duration::from_secs(1800), |world| {
            let now = world.requester.progress().verified_in_all_bytes;
            if now > verified {
                (verified, since) = (now, world.now);
            }
            let still = world.now.saturating_since(since);
            assert!(
                still < MOST,
                "seed {seed}: nothing new for {still:?}\n{world:?}"
            );
            world.all_read() || world.now >= kill_at
        });
    }
}

#[test]
fn sources_that_die_one_after_another_never_bring_it_to_a_stand() {
    let seeds = match std::env::var("CHIVE_SEED") {
        Ok(seed) => vec![seed.parse().expect("CHIVE_SEED is a number")],
        Err(_) => (0..150).collect(),
    };
    for seed in seeds {
        run(seed);
    }
}
