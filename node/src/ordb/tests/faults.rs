//! One thing at a time: what each kind of source does to the whole.

use std::time::Duration;

use super::Rng;
use super::torrents::{Kind, Torrent};
use super::world::{Nature, World};
use crate::ordb::{Config, Demand, DropReason, Failure, SourceFailure};
use crate::wire::{DbEndReason, Section, Tried};

const MIB: u64 = 1 << 20;
const MINUTE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::ZERO;

fn world(kind: Kind, piece_length: u32, length: u64) -> World {
    let mut rng = Rng::new(length ^ u64::from(piece_length));
    let torrent = Torrent::new(&mut rng, kind, piece_length, &[length]);
    World::new(1, torrent, Config::default())
}

/// Runs until the metadata is there, then reads the whole file as fast as it comes. Returns how
/// long the reading took.
fn read_all(world: &mut World) -> Duration {
    world.run_until(MINUTE, |world| world.has_metadata);
    let began = world.now;
    let length = world.torrent.file(0).len() as u64;
    world.add_reader(0, 0, 0..length, 0, Demand::Play);
    world.run_until(10 * MINUTE, World::all_read);
    world.now.saturating_since(began)
}

/// How long a circuit needs for so many bytes of content.
fn time_for(bytes: u64, nature: &Nature) -> Duration {
    let cells = bytes.div_ceil(491);
    Duration::from_micros(cells * 1_000_000 / nature.cells_per_second)
}

#[test]
fn a_far_source_is_used_to_the_full() {
    for delay in [1, 50, 200] {
        let mut world = world(Kind::V1, 1 << 18, 24 * MIB);
        let nature = Nature {
            delay: Duration::from_millis(delay),
            ..Nature::default()
        };
        world.add_source(SOON, nature.clone());
        let took = read_all(&mut world);
        let ideal = time_for(24 * MIB, &nature);
        assert!(
            took < ideal * 115 / 100 + 6 * nature.delay,
            "{delay} ms: {took:?}, not {ideal:?}"
        );
        assert_eq!(world.requester.progress().wasted_bytes, 0);
    }
}

#[test]
fn a_source_that_fetches_from_a_swarm_is_used_to_the_full() {
    // Each piece needs 800 ms before its first byte, however near the source is.
    let mut world = world(Kind::V1, 1 << 18, 32 * MIB);
    let nature = Nature {
        delay: Duration::from_millis(5),
        host_delay: Duration::from_millis(800),
        ..Nature::default()
    };
    world.add_source(SOON, nature.clone());
    let took = read_all(&mut world);
    let ideal = time_for(32 * MIB, &nature);
    assert!(
        took < ideal * 3 / 2 + Duration::from_secs(3),
        "{took:?}, not {ideal:?}"
    );
}

#[test]
fn sources_add_up_and_each_fetches_its_own_part() {
    let mut world = world(Kind::Hybrid, 1 << 18, 32 * MIB);
    let natures = [3000, 3000, 1500].map(|cells_per_second| Nature {
        cells_per_second,
        ..Nature::default()
    });
    for nature in &natures {
        world.add_source(SOON, nature.clone());
    }
    let took = read_all(&mut world);
    let all = Nature {
        cells_per_second: 7500,
        ..Nature::default()
    };
    let ideal = time_for(32 * MIB, &all);
    assert!(
        took < ideal * 125 / 100 + Duration::from_millis(500),
        "{took:?}, not {ideal:?}"
    );
    let twice = world
        .asked_of_hosts
        .values()
        .filter(|sources| sources.len() > 1)
        .count();
    assert!(
        twice * 20 < world.asked_of_hosts.len(),
        "{twice} chunks were fetched twice"
    );
    for source in 0..3 {
        let share = world.sent_cells(source) as f64 / world.cells as f64;
        assert!(share > 0.12, "source {source} gave {share}");
    }
}

#[test]
fn a_slow_source_does_not_hold_up_a_fast_one() {
    for piece_length in [1 << 16, 1 << 20, 4 << 20] {
        let mut world = world(Kind::V1, piece_length, 24 * MIB);
        let fast = Nature::default();
        world.add_source(SOON, fast.clone());
        let slow = Nature {
            cells_per_second: 40,
            ..Nature::default()
        };
        world.add_source(SOON, slow);
        let took = read_all(&mut world);
        let ideal = time_for(24 * MIB, &fast);
        let limit = ideal * 12 / 10 + Duration::from_millis(1500);
        assert!(
            took < limit,
            "pieces of {piece_length}: {took:?}, not {ideal:?}"
        );
    }
}

#[test]
fn the_liar_of_three_is_found_by_the_chunk() {
    for kind in [Kind::Hybrid, Kind::V2] {
        // A piece is 256 chunks: judged whole, each lie would cost all of them.
        let mut world = world(kind, 4 << 20, 16 * MIB);
        world.add_source(SOON, Nature::default());
        world.add_source(SOON, Nature::default());
        let liar = Nature {
            wrong_one_in: 20,
            ..Nature::default()
        };
        let liar = world.add_source(SOON, liar);
        read_all(&mut world);
        assert_eq!(world.dropped.len(), 1, "{:?}", world.dropped);
        let (who, why) = world.dropped[0];
        assert_eq!(who, liar);
        assert!(matches!(
            why,
            DropReason::WrongBytes { .. } | DropReason::WrongLeafHashes
        ));
        let wasted = world.requester.progress().wasted_bytes;
        assert!(wasted < MIB, "{kind:?}: {wasted} bytes");
        // What it has verified it can give in turn.
        for block in 0..2 {
            let given = world.requester.block(Section::LEAF_HASHES, block);
            let given = given.expect("leaf hashes");
            assert!(given == world.torrent.leaf_block(block), "{kind:?}");
        }
    }
}

#[test]
fn what_has_no_leaf_hashes_is_judged_by_pieces_and_they_are_known_then() {
    for kind in [Kind::Hybrid, Kind::V2] {
        let mut world = world(kind, 1 << 20, 16 * MIB);
        for _ in 0..3 {
            let nature = Nature {
                no_leaves: true,
                ..Nature::default()
            };
            world.add_source(SOON, nature);
        }
        let took = read_all(&mut world);
        let all = Nature {
            cells_per_second: 12_000,
            ..Nature::default()
        };
        let ideal = time_for(16 * MIB, &all);
        assert!(took < ideal * 3 / 2 + Duration::from_secs(1), "{took:?}");
        assert!(world.dropped.is_empty() && world.failure.is_none());
        for block in 0..2 {
            let given = world.requester.block(Section::LEAF_HASHES, block);
            assert!(given.expect("leaf hashes") == world.torrent.leaf_block(block));
        }
    }
}

#[test]
fn the_liar_of_three_is_named_and_the_reader_never_knows() {
    for (kind, piece_length) in [
        (Kind::V1, 1 << 14),
        (Kind::V1, 1 << 18),
        (Kind::Hybrid, 1 << 20),
        (Kind::V2, 1 << 22),
    ] {
        let mut world = world(kind, piece_length, 16 * MIB);
        world.add_source(SOON, Nature::default());
        let liar = world.add_source(
            SOON,
            Nature {
                wrong_one_in: 4,
                ..Nature::default()
            },
        );
        world.add_source(SOON, Nature::default());
        read_all(&mut world);
        assert!(world.has_lied(liar));
        assert!(
            matches!(world.dropped.as_slice(),
                [(source, DropReason::WrongBytes { .. })] if *source == liar),
            "{kind:?} {piece_length}: {:?}",
            world.dropped
        );
    }
}

#[test]
fn a_liar_alone_gets_nothing_through() {
    let mut world = world(Kind::V1, 1 << 18, 4 * MIB);
    world.add_source(
        SOON,
        Nature {
            wrong_one_in: 1,
            ..Nature::default()
        },
    );
    world.run_until(MINUTE, |world| world.has_metadata);
    world.add_reader(0, 0, 0..4 * MIB, 0, Demand::Play);
    world.run_until(MINUTE, |world| !world.dropped.is_empty());
    assert_eq!(world.requester.progress().verified_in_all_bytes, 0);
    assert_eq!(world.requester.unverified_bytes(), 0);
    // Another comes, and all is well.
    world.add_source(SOON, Nature::default());
    world.run_until(MINUTE, World::all_read);
}

#[test]
fn a_dead_circuit_costs_what_was_on_its_way() {
    let mut world = world(Kind::V1, 1 << 18, 16 * MIB);
    let nature = Nature {
        dies_after: Some(15_000),
        ..Nature::default()
    };
    world.replaces = Some(Duration::from_millis(300));
    world.add_source(SOON, nature.clone());
    let took = read_all(&mut world);
    let ideal = time_for(16 * MIB, &nature);
    assert!(
        took < ideal * 12 / 10 + Duration::from_secs(1),
        "{took:?}, not {ideal:?}"
    );
    assert_eq!(world.requester.progress().wasted_bytes, 0);
    // What was verified is not asked again: the second circuit carried the rest alone.
    let all = 16 * MIB / 491;
    assert!(
        world.cells < all + all / 10,
        "{} cells for {all}",
        world.cells
    );
}

#[test]
fn a_stalled_source_is_told_of_and_does_not_stop_the_film() {
    let mut world = world(Kind::V1, 1 << 18, 24 * MIB);
    let stalls = world.add_source(
        SOON,
        Nature {
            stalls_after: Some(6000),
            ..Nature::default()
        },
    );
    world.add_source(Duration::from_millis(100), Nature::default());
    world.run_until(MINUTE, |world| world.has_metadata);
    // A film of 8 Mbit a second.
    world.add_reader(0, 0, 0..24 * MIB, 1_000_000, Demand::Play);
    world.run_until(2 * MINUTE, World::all_read);
    assert_eq!(world.stalled.first(), Some(&stalls));
    let waited = world.waited(0);
    assert!(
        waited < Duration::from_millis(1500),
        "the film stood still for {waited:?}"
    );
}

#[test]
fn a_seek_is_served_before_what_was_being_fetched() {
    for piece_length in [1 << 14, 1 << 18, 1 << 20] {
        let mut world = world(Kind::V1, piece_length, 48 * MIB);
        let nature = Nature {
            cells_per_second: 2000,
            ..Nature::default()
        };
        world.add_source(SOON, nature.clone());
        world.add_source(SOON, nature.clone());
        world.run_until(MINUTE, |world| world.has_metadata);
        world.add_reader(0, 0, 0..48 * MIB, 500_000, Demand::Play);
        world.run_for(Duration::from_secs(5));
        let before = world.waited(0);
        world.seek(0, SOON, 40 * MIB);
        world.run_for(Duration::from_secs(10));
        let waited = world.waited(0) - before;
        // A round trip, a piece, and what was on its way already.
        let limit = nature.delay * 2
            + nature.host_delay
            + time_for(piece_length.into(), &nature)
            + Duration::from_millis(600);
        assert!(
            waited < limit,
            "pieces of {piece_length}: {waited:?}, not {limit:?}"
        );
        assert!(waited > Duration::ZERO);
    }
}

#[test]
fn nobody_has_it() {
    let mut world = world(Kind::V1, 1 << 18, MIB);
    for _ in 0..3 {
        let refuses = Some((DbEndReason::NOT_FOUND, u32::MAX));
        world.add_source(
            SOON,
            Nature {
                refuses,
                ..Nature::default()
            },
        );
    }
    world.run_until(MINUTE, |world| world.failure.is_some());
    let Some(Failure::NotFound {
        sources: 3,
        tried,
        after,
    }) = &world.failure
    else {
        panic!("{:?}", world.failure)
    };
    let all = Tried {
        seconds: 9,
        dht_nodes: 150,
        trackers: 6,
        peers: 9,
    };
    assert_eq!(*tried, all);
    assert!(*after < Duration::from_secs(1));
    let told = world
        .failure
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    assert!(
        told.contains("150 nodes of the DHT, 6 trackers and 9 peers"),
        "{told}"
    );
    // Somebody comes who has it after all.
    world.add_source(SOON, Nature::default());
    read_all(&mut world);
    assert_eq!(world.requester.failure(), None);
}

#[test]
fn one_of_those_wanted_is_not_all() {
    let mut rng = Rng::new(5);
    let torrent = Torrent::new(&mut rng, Kind::V1, 1 << 18, &[MIB]);
    let config = Config {
        sources_wanted: 2,
        patience: Duration::from_secs(5),
        ..Config::default()
    };
    let mut world = World::new(5, torrent, config);
    let refuses = Some((DbEndReason::NOT_FOUND, u32::MAX));
    world.add_source(
        SOON,
        Nature {
            refuses,
            ..Nature::default()
        },
    );
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.failure, None);
    world.run_for(Duration::from_secs(5));
    assert!(matches!(
        world.failure,
        Some(Failure::NotFound { sources: 1, .. })
    ));
}

#[test]
fn busy_sources_are_asked_again() {
    for reason in [DbEndReason::BUSY, DbEndReason::EXHAUSTED] {
        let mut world = world(Kind::V1, 1 << 18, MIB);
        world.add_source(
            SOON,
            Nature {
                refuses: Some((reason, 3)),
                ..Nature::default()
            },
        );
        read_all(&mut world);
        assert_eq!(world.failure, None);
    }
}

#[test]
fn wrong_metadata_is_its_senders_end() {
    for wrong in [
        Nature {
            wrong_metadata: true,
            ..Nature::default()
        },
        Nature {
            wrong_length: 1,
            ..Nature::default()
        },
        Nature {
            wrong_length: 40_000,
            ..Nature::default()
        },
    ] {
        let mut world = world(Kind::V1, 1 << 14, 32 * MIB);
        // It comes first, so it is asked first.
        let liar = world.add_source(SOON, wrong);
        world.add_source(Duration::from_millis(30), Nature::default());
        read_all(&mut world);
        assert_eq!(world.dropped, [(liar, DropReason::WrongMetadata)]);
    }
}

#[test]
fn metadata_split_over_a_liar_and_others_names_the_liar() {
    // 320 KiB of piece hashes: many blocks, so that several sources give some.
    let mut world = world(Kind::V1, 1 << 14, 256 * MIB);
    let slow = Nature {
        cells_per_second: 200,
        ..Nature::default()
    };
    world.add_source(SOON, slow.clone());
    let liar = world.add_source(
        SOON,
        Nature {
            wrong_metadata: true,
            ..slow.clone()
        },
    );
    world.add_source(SOON, slow);
    world.run_until(MINUTE, |world| world.has_metadata);
    if world.has_lied(liar) {
        assert_eq!(world.dropped, [(liar, DropReason::WrongMetadata)]);
    }
}

#[test]
fn metadata_over_the_limit_is_refused_with_its_length() {
    let mut rng = Rng::new(6);
    let torrent = Torrent::new(&mut rng, Kind::V1, 1 << 14, &[8 * MIB]);
    let length = u32::try_from(torrent.metadata().len()).unwrap();
    let config = Config {
        max_metadata_bytes: 10_000,
        ..Config::default()
    };
    let mut world = World::new(6, torrent, config);
    world.add_source(SOON, Nature::default());
    world.run_until(MINUTE, |world| world.failure.is_some());
    assert_eq!(
        world.failure,
        Some(Failure::MetadataTooLarge {
            length,
            limit: 10_000
        })
    );
    assert_eq!(
        world.failed,
        [(0, SourceFailure::MetadataTooLarge { length })]
    );
}

#[test]
fn a_piece_that_does_not_fit_into_memory_is_refused() {
    let mut rng = Rng::new(7);
    let torrent = Torrent::new(&mut rng, Kind::V1, 4 << 20, &[8 * MIB]);
    let config = Config {
        max_store_bytes: 6 << 20,
        ..Config::default()
    };
    let mut world = World::new(7, torrent, config);
    world.add_source(SOON, Nature::default());
    world.run_until(MINUTE, |world| world.failure.is_some());
    assert!(matches!(
        world.failure,
        Some(Failure::PieceTooLarge {
            piece_length: 4_194_304,
            limit: 3_145_728
        })
    ));
}

#[test]
fn a_film_longer_than_the_store_plays_through() {
    for piece_length in [1 << 14, 1 << 18, 2 << 20] {
        let mut rng = Rng::new(8);
        let torrent = Torrent::new(&mut rng, Kind::Hybrid, piece_length, &[40 * MIB]);
        let config = Config {
            max_store_bytes: 8 * MIB,
            ..Config::default()
        };
        let mut world = World::new(8, torrent, config);
        world.add_source(SOON, Nature::default());
        world.run_until(MINUTE, |world| world.has_metadata);
        world.add_reader(0, 0, 0..40 * MIB, 1_000_000, Demand::Play);
        world.run_until(2 * MINUTE, World::all_read);
        let waited = world.waited(0);
        assert!(
            waited < Duration::from_millis(1500),
            "{piece_length}: {waited:?}"
        );
        let wasted = world.requester.progress().wasted_bytes;
        assert_eq!(wasted, 0, "pieces of {piece_length}");
        // Nothing is fetched twice.
        let all = 40 * MIB / 491;
        assert!(
            world.cells < all + all / 20,
            "{piece_length}: {} cells for {all}",
            world.cells
        );
    }
}

#[test]
fn who_plays_goes_before_who_saves() {
    let mut world = world(Kind::V1, 1 << 18, 32 * MIB);
    let nature = Nature {
        cells_per_second: 3000,
        ..Nature::default()
    };
    world.add_source(SOON, nature);
    world.run_until(MINUTE, |world| world.has_metadata);
    world.add_reader(1, 0, 0..32 * MIB, 0, Demand::Save);
    world.run_for(Duration::from_secs(2));
    world.add_reader(2, 0, 20 * MIB..24 * MIB, 700_000, Demand::Play);
    world.run_until(2 * MINUTE, World::all_read);
    let waited = world.waited(2);
    assert!(waited < Duration::from_millis(1200), "{waited:?}");
}

#[test]
fn a_big_first_piece_is_fetched_from_all() {
    // 4 MiB before the first byte can be shown: three sources must be faster than one.
    let took = |sources| {
        let mut world = world(Kind::V1, 4 << 20, 32 * MIB);
        for _ in 0..sources {
            world.add_source(SOON, Nature::default());
        }
        world.run_until(MINUTE, |world| world.has_metadata);
        world.add_reader(0, 0, 0..4 * MIB, 0, Demand::Play);
        world.run_until(MINUTE, World::all_read);
        world.waited(0)
    };
    let (one, three) = (took(1), took(3));
    assert!(three < one * 6 / 10, "one: {one:?}, three: {three:?}");
}
