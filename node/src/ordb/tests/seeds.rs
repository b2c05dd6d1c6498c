//! Hundreds of worlds, each of a seed: sources that die, stall, lie, refuse and are slow.

use std::time::Duration;

use super::Rng;
use super::torrents::{Kind, Torrent};
use super::world::{Nature, World};
use crate::ordb::{Config, Demand};
use crate::wire::DbEndReason;

/// The seeds to run: `CHIVE_SEED` alone, or so many.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("CHIVE_SEED") {
        Ok(seed) => vec![seed.parse().expect("CHIVE_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

fn torrent(rng: &mut Rng) -> Torrent {
    let kind = match rng.below(3) {
        0 => Kind::V1,
        1 => Kind::Hybrid,
        _ => Kind::V2,
    };
    let piece_length = 16384u32 << rng.below(9);
    let total = rng.range(1..=3) * 1024 * 1024 + u64::from(piece_length) * rng.below(2);
    let files = if rng.once_in(2) { 1 } else { rng.range(2..=6) };
    let lengths: Vec<u64> = (0..files)
        .map(|_| total / files + rng.below(40_000))
        .map(|length| length.max(1))
        .collect();
    Torrent::new(rng, kind, piece_length, &lengths)
}

fn nature(rng: &mut Rng) -> Nature {
    let mut nature = Nature {
        cells_per_second: rng.range(300..=8000),
        delay: Duration::from_millis(rng.range(1..=250)),
        host_delay: Duration::from_millis(rng.range(0..=300)),
        ..Nature::default()
    };
    match rng.below(10) {
        0 => nature.dies_after = Some(rng.range(1..=3000)),
        1 => nature.stalls_after = Some(rng.range(1..=3000)),
        2 => nature.wrong_one_in = rng.range(1..=100),
        3 => nature.wrong_metadata = true,
        4 => nature.wrong_length = u32::try_from(rng.range(1..=50_000)).unwrap(),
        5 => nature.refuses = Some((DbEndReason::BUSY, u32::try_from(rng.range(1..=3)).unwrap())),
        6 => nature.refuses = Some((DbEndReason::NOT_FOUND, 1)),
        7 => nature.lacks = Some(u32::try_from(rng.below(7)).unwrap()),
        8 => nature.cells_per_second = rng.range(20..=60),
        _ => {}
    }
    nature
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let torrent = torrent(&mut rng);
    let piece = u64::from(torrent.metainfo.piece_length());
    let config = Config {
        read_ahead_bytes: rng.range(256 << 10..=4 << 20),
        max_unverified_bytes: piece * rng.range(1..=3) + (rng.below(2) << 20),
        max_store_bytes: piece * 2 * rng.range(1..=3) + (rng.range(1..=4) << 18),
        ..Config::default()
    };
    let mut world = World::new(seed, torrent, config);
    world.replaces = Some(Duration::from_millis(rng.range(10..=2000)));
    // One at least is as it should be.
    let honest = Nature {
        cells_per_second: rng.range(1000..=8000),
        delay: Duration::from_millis(rng.range(1..=150)),
        ..Nature::default()
    };
    world.add_source(Duration::from_millis(rng.below(3000)), honest);
    for _ in 0..rng.range(0..=3) {
        let after = Duration::from_millis(rng.below(3000));
        let nature = nature(&mut rng);
        world.add_source(after, nature);
    }
    world.run_until(Duration::from_secs(300), |world| world.has_metadata);
    let files = world.torrent.content_files();
    let readers = rng.range(1..=3);
    for id in 0..readers {
        let file = files[usize::try_from(rng.below(files.len() as u64)).unwrap()];
        let length = world.torrent.file(file).len() as u64;
        let start = if rng.once_in(2) { 0 } else { rng.below(length) };
        let end = if rng.once_in(2) {
            length
        } else {
            rng.range(start + 1..=length)
        };
        let rate = if rng.once_in(2) {
            0
        } else {
            rng.range(100_000..=2_000_000)
        };
        let demand = if rng.once_in(3) {
            Demand::Save
        } else {
            Demand::Play
        };
        world.add_reader(id, file, start..end, rate, demand);
        if rng.once_in(2) {
            let to = rng.range(start..=end - 1);
            world.seek(id, Duration::from_millis(rng.below(2000)), to);
        }
    }
    world.run_until(Duration::from_secs(1800), World::all_read);
}

#[test]
fn every_reader_gets_the_right_bytes() {
    for seed in seeds(400) {
        run(seed);
    }
}
