//! Lookups in a world: they end at the nearest, in few rounds, whatever liars say.

use std::time::Duration;

use super::world::{Nature, World};
use super::{Who, random_id};
use crate::ids::{Key, RsaId};
use crate::kad::distance::random_key;
use crate::kad::{K, Kad, KadConfig};
use crate::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// What lookups of random keys came to.
#[derive(Debug)]
struct Measured {
    success: f64,
    /// Of the eight nearest, the share that was found.
    recall: f64,
    rounds_median: u32,
    asks_mean: f64,
    took_median: Duration,
    took_worst: Duration,
}

impl Measured {
    fn print(&self) {
        println!(
            "success {:.4}, recall of the eight {:.4}, rounds median {}, asks mean {:.1}, \
             took median {:?}, worst {:?}",
            self.success,
            self.recall,
            self.rounds_median,
            self.asks_mean,
            self.took_median,
            self.took_worst
        );
    }
}

fn measure(world: &mut World, count: usize, spread: Duration) -> Measured {
    let mut begun = Vec::new();
    for _ in 0..count {
        let (peer, key) = (world.random_honest(), random_key(&mut world.rng));
        // Its own place is nobody's to find.
        let own = world.peers[peer].known.rsa_id;
        let mut nearest = world.nearest(key, K + 1);
        nearest.retain(|id| *id != own);
        nearest.truncate(K);
        begun.push((world.find_node(peer, key), nearest));
        world.run(spread / u32::try_from(count).unwrap());
    }
    world.run(MINUTE / 2);
    let (mut successes, mut right, mut rounds, mut took, mut asks) =
        (0, 0, Vec::new(), Vec::new(), 0);
    let mut asked = 0;
    for (id, nearest) in &begun {
        // Who left while it looked did not fail.
        if !world.peers[id.0].alive {
            continue;
        }
        asked += 1;
        let ended = world.ended.get(id).expect("every lookup ends");
        assert_eq!(ended.peer, id.0);
        let found: Vec<RsaId> = ended.closest.iter().map(|known| known.rsa_id).collect();
        successes += usize::from(found.contains(&nearest[0]));
        right += nearest.iter().filter(|id| found.contains(id)).count();
        rounds.push(ended.rounds);
        took.push(ended.took);
        asks += ended.asks;
    }
    rounds.sort_unstable();
    took.sort_unstable();
    Measured {
        success: successes as f64 / asked as f64,
        recall: right as f64 / (asked * K) as f64,
        rounds_median: rounds[rounds.len() / 2],
        asks_mean: asks as f64 / asked as f64,
        took_median: took[took.len() / 2],
        took_worst: took[took.len() - 1],
    }
}

fn most_rounds(peers: usize) -> f64 {
    (peers as f64).log2() / 2.0 + 3.0
}

#[test]
fn two_thousand_under_churn_find_the_nearest_in_few_rounds() {
    const PEERS: usize = 2000;
    let mut world = World::new(1);
    world.lost = 5;
    world.populate(PEERS, 20 * MINUTE);
    world.run(5 * MINUTE);
    world.churn(30 * MINUTE);
    let measured = measure(&mut world, 400, 5 * MINUTE);
    measured.print();
    assert!(measured.success >= 0.99, "{measured:?}");
    assert!(measured.recall >= 0.95, "{measured:?}");
    assert!(
        f64::from(measured.rounds_median) <= most_rounds(PEERS),
        "{measured:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = || {
        let mut world = World::new(3);
        world.populate(100, MINUTE);
        world.churn(20 * MINUTE);
        (world.questions, world.answers, world.now)
    };
    assert_eq!(run(), run());
}

#[test]
fn liars_of_every_kind_spoil_few_lookups() {
    for (nature, seed) in [
        (Nature::MakesUp, 4),
        (Nature::TooMany, 5),
        (Nature::Unsigned, 6),
    ] {
        let mut world = World::new(seed);
        world.populate(400, 10 * MINUTE);
        for _ in 0..40 {
            let id = random_id(&mut world.rng);
            world.add(Who::tab(id), nature);
        }
        world.run(20 * MINUTE);
        let measured = measure(&mut world, 200, 5 * MINUTE);
        measured.print();
        assert!(measured.success >= 0.99, "{nature:?}: {measured:?}");
    }
}

#[test]
fn who_answers_nonsense_is_no_contact_any_more() {
    for (nature, seed) in [(Nature::TooMany, 7), (Nature::Unsigned, 8)] {
        let mut world = World::new(seed);
        world.populate(30, MINUTE);
        let asker = world.random_honest();
        // So near that there is room in its bucket.
        let mut id = world.peers[asker].known.rsa_id;
        id.0[19] ^= 1;
        let liar = world.add(Who::tab(id), nature);
        world.link(asker, liar);
        assert!(world.peers[asker].kad.contact(id).is_some());
        world.find_node(asker, id.into());
        world.run(MINUTE / 4);
        assert!(world.peers[asker].kad.contact(id).is_none(), "{nature:?}");
    }
}

#[test]
fn placed_ids_in_two_networks_do_not_hide_a_name() {
    let mut world = World::new(9);
    world.populate(300, 10 * MINUTE);
    let key = random_key(&mut world.rng);
    // Sixty-four identities nearer to the name than any honest one, who name only each other.
    for place in 0..64_u8 {
        let mut id = key.0;
        id[19] ^= place + 1;
        let network = if place % 2 == 0 { "91.1" } else { "91.2" };
        let who = Who::native(RsaId(id), &format!("{network}.{place}.1:443"));
        world.add(who, Nature::Eclipses);
    }
    world.run(20 * MINUTE);
    let mut publishers = Vec::new();
    for _ in 0..5 {
        let publisher = world.random_honest();
        world.publish(publisher, key);
        publishers.push(publisher);
    }
    world.run(2 * MINUTE);
    let mut found = 0;
    for _ in 0..50 {
        let asker = world.random_honest();
        let id = world.find_value(asker, key);
        world.run(MINUTE / 2);
        found += usize::from(world.found.contains_key(&id));
    }
    assert!(found >= 48, "{found} of 50");
}

#[test]
fn placed_ids_around_a_victim_fill_no_more_than_their_share_of_its_table() {
    let mut world = World::new(10);
    world.populate(200, 5 * MINUTE);
    let victim = world.join(false);
    world.run(5 * MINUTE);
    let victim_id = world.peers[victim].known.rsa_id;
    for place in 0..100_u8 {
        let mut id = victim_id.0;
        id[0] ^= place % 64;
        id[19] ^= place + 1;
        let who = Who::native(RsaId(id), &format!("91.1.{place}.1:443"));
        let placed = world.add(who, Nature::Eclipses);
        world.link(victim, placed);
    }
    world.run(10 * MINUTE);
    let kad = &world.peers[victim].kad;
    let placed = kad
        .contacts()
        .filter(|contact| !contact.known.addresses.is_empty())
        .filter(|contact| contact.known.addresses[0].to_string().starts_with("91.1."))
        .count();
    assert!(placed <= crate::kad::MAX_NETWORK_IN_TABLE, "{placed}");
    let key = random_key(&mut world.rng);
    let nearest = world.nearest(key, 1);
    let id = world.find_node(victim, key);
    world.run(MINUTE);
    assert_eq!(world.ended[&id].closest[0].rsa_id, nearest[0]);
}

#[test]
fn who_is_alone_waits_and_who_was_left_joins_again() {
    let mut world = World::new(11);
    world.populate(20, MINUTE);
    world.run(5 * MINUTE);
    let peer = world.random_honest();
    for other in 0..20 {
        if other != peer {
            world.kill(other);
        }
    }
    world.run(90 * MINUTE);
    assert!(world.peers[peer].kad.is_empty());
    assert!(!world.peers[peer].kad.is_joined());
    assert_eq!(world.peers[peer].kad.poll_timeout().0, Instant::FAR_FUTURE);
    let other = world.join(true);
    world.link(peer, other);
    world.run(MINUTE);
    assert!(world.peers[peer].kad.is_joined());
    assert!(world.peers[other].kad.is_joined());
}

#[test]
fn contacts_are_pinged_each_quarter_of_an_hour_and_never_all_at_once() {
    let mut world = World::new(12);
    world.populate(300, 5 * MINUTE);
    world.run(30 * MINUTE);
    for peer in &world.peers {
        for contact in peer.kad.contacts() {
            let silent = world.now.saturating_since(contact.heard);
            assert!(silent <= 16 * MINUTE, "{silent:?}");
        }
    }
    // Whoever asks a table for its pings gets a few of them.
    let peer = world.random_honest();
    let kad = &mut world.peers[peer].kad;
    kad.handle_timeout(world.now + 60 * MINUTE);
    let mut pings = 0;
    while kad.poll_ask().is_some_and(|ask| {
        pings += usize::from(matches!(ask.question, crate::kad::KadQuestion::Ping(_)));
        true
    }) {}
    assert!((1..=3).contains(&pings), "{pings}");
}

#[test]
fn nothing_that_is_answered_makes_a_lookup_ask_without_end() {
    let config = KadConfig {
        unix_time: super::UNIX_TIME,
        ..KadConfig::default()
    };
    let mut rng = super::rng(13);
    let own = random_id(&mut rng);
    let mut kad = Kad::new(own, config, [3; 32]);
    let now = Instant::ZERO;
    let liar = Who::tab(RsaId([9; 20])).known();
    kad.handle_contact(now, liar, None);
    let key = Key([0; 20]);
    let lookup = kad.find_node(now, key);
    // Whoever is asked names eight that are nearer.
    let mut asked = 0;
    while let Some(ask) = kad.poll_ask() {
        asked += 1;
        assert!(asked < 1000, "a lookup without end");
        for remaining in (0..8).rev() {
            let mut id = random_id(&mut rng);
            id.0[..usize::min(asked, 19)].fill(0);
            let made_up = Who::tab(id).known();
            let answer = crate::kad::KadAnswer::Node(made_up);
            kad.handle_answer(now, ask.id, remaining, answer);
        }
    }
    let mut finished = false;
    while let Some(event) = kad.poll_event() {
        if let crate::kad::KadEvent::Finished { lookup: id, .. } = event {
            finished |= id == lookup;
        }
    }
    assert!(finished);
}
