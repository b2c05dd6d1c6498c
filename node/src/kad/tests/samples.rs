//! Hops out of random walks: placing identities does not help.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_core::Rng;

use super::world::{Nature, World};
use super::{Who, random_id, rng};
use crate::ids::RsaId;
use crate::kad::sample::Sampler;
use crate::kad::{Kad, KadAnswer, KadConfig, KadEvent, KadQuestion};
use crate::time::Instant;
use crate::wire::{AskFailure, Roles};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn being_met_often_does_not_help() {
    let mut rng = rng(40);
    let root = random_id(&mut rng);
    let natives: Vec<Who> = (0..50)
        .map(|n| Who::native(random_id(&mut rng), &format!("80.{n}.0.1:443")))
        .collect();
    let pushed = natives[0].known();
    let mut drawn = 0;
    for _ in 0..40 {
        let mut sampler = Sampler::default();
        for who in &natives {
            let known = who.known();
            for known in [&known, &pushed, &pushed, &pushed] {
                sampler.offer(known, root, || rng.next_u64());
            }
        }
        drawn += sampler
            .iter(Roles::ROUTER)
            .filter(|k| k.rsa_id == pushed.rsa_id)
            .count();
    }
    // 1,280 draws of one in fifty: 26 are expected, and the deviation is 5.
    assert!((8..=46).contains(&drawn), "{drawn}");
}

#[test]
fn numbers_in_one_network_do_not_help() {
    let mut rng = rng(41);
    let root = random_id(&mut rng);
    let mut drawn = 0;
    let crowd: Vec<_> = (0..200)
        .map(|n| Who::native(random_id(&mut rng), &format!("91.1.{n}.1:443")).known())
        .collect();
    let others: Vec<_> = (0..40)
        .map(|n| Who::native(random_id(&mut rng), &format!("80.{n}.0.1:443")).known())
        .collect();
    let ids: BTreeSet<RsaId> = crowd.iter().map(|known| known.rsa_id).collect();
    for _ in 0..40 {
        let mut sampler = Sampler::default();
        for known in crowd.iter().chain(&others) {
            sampler.offer(known, root, || rng.next_u64());
        }
        drawn += sampler
            .iter(Roles::ROUTER)
            .filter(|k| ids.contains(&k.rsa_id))
            .count();
    }
    // One network of 41, though five routers of six: 31 of 1,280 are expected.
    assert!(drawn <= 55, "{drawn}");
}

#[test]
fn ids_placed_near_a_victim_are_drawn_no_more_than_others() {
    let mut world = World::new(42);
    world.populate(300, 5 * MINUTE);
    let victim = world.join(false);
    let id = world.peers[victim].known.rsa_id;
    let mut placed = BTreeSet::new();
    for place in 0..30_u8 {
        let mut near = id.0;
        near[19] ^= place + 1;
        // Each in a network of its own: only their places are special.
        let address = world.public_address();
        world.add(Who::native(RsaId(near), &address), Nature::Honest);
        placed.insert(RsaId(near));
    }
    world.run(60 * MINUTE);
    let kad = &world.peers[victim].kad;
    let near = kad
        .contacts()
        .filter(|c| placed.contains(&c.known.rsa_id))
        .count();
    assert!(near >= 4, "they are contacts, as they wanted: {near}");
    let draws: Vec<RsaId> = kad
        .samples(Roles::ROUTER)
        .map(|known| known.rsa_id)
        .collect();
    assert!(draws.len() == crate::kad::SAMPLES);
    let drawn = draws.iter().filter(|id| placed.contains(id)).count();
    // Thirty of 330 routers and of 60 networks; half of the draws at most were it by chance.
    assert!(drawn <= 16, "{drawn} of {}", draws.len());
    let different: BTreeSet<_> = draws.iter().collect();
    assert!(different.len() >= 8, "{}", different.len());
}

/// A node that one was introduced to, and that fifty came to, walks for hours; each who is asked
/// knows nobody. Whom the walks drew.
fn drawn_of_those_who_came() -> (RsaId, BTreeSet<RsaId>) {
    let mut rng = rng(46);
    let config = KadConfig {
        unix_time: super::UNIX_TIME,
        ..KadConfig::default()
    };
    let mut kad = Kad::new(random_id(&mut rng), config, [4; 32]);
    let mut now = Instant::ZERO;
    let introduced = Who::tab(random_id(&mut rng)).known();
    kad.handle_introduced(now, introduced.clone(), None);
    for _ in 0..50 {
        kad.handle_contact(now, Who::tab(random_id(&mut rng)).known(), None);
    }
    assert!(kad.len() > 20, "they are contacts: {}", kad.len());
    let mut drawn = BTreeSet::new();
    for _ in 0..180 {
        now += MINUTE;
        kad.handle_timeout(now);
        while let Some(ask) = kad.poll_ask() {
            match ask.question {
                KadQuestion::Ping(_) => kad.handle_answer(now, ask.id, 0, KadAnswer::Pong(ask.to)),
                _ => kad.handle_ask_failed(now, ask.id, AskFailure::NOTHING),
            }
        }
        while let Some(event) = kad.poll_event() {
            if let KadEvent::Sampled(known) = event {
                drawn.insert(known.rsa_id);
            }
        }
    }
    (introduced.rsa_id, drawn)
}

#[test]
fn who_merely_came_begins_no_walk_and_is_not_drawn() {
    let (introduced, drawn) = drawn_of_those_who_came();
    assert_eq!(drawn, BTreeSet::from([introduced]));
}
