//! Records: who keeps them, for how long, and what fills no table.

use std::time::Duration;

use super::world::World;
use super::{UNIX_TIME, Who, random_id, rng};
use crate::ids::{Key, RsaId};
use crate::kad::distance::{Distance, random_key};
use crate::kad::records::{Keeping, Records};
use crate::kad::{
    MAX_RECORDS, MAX_RECORDS_A_KEY, MAX_RECORDS_A_PUBLISHER, MAX_RECORDS_A_SOURCE, RECORD_LIFE,
};
use crate::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const OWN: Key = Key([0; 20]);

#[test]
fn what_is_published_is_found_and_ends_when_it_is_not_renewed() {
    let mut world = World::new(30);
    world.populate(300, 5 * MINUTE);
    world.run(5 * MINUTE);
    let key = random_key(&mut world.rng);
    let publishers: Vec<usize> = (0..6).map(|_| world.random_honest()).collect();
    for publisher in &publishers {
        world.publish(*publisher, key);
    }
    world.run(MINUTE);
    for publisher in &publishers {
        let kept = world.published[&(*publisher, key)];
        assert!(kept >= 7, "{kept}");
    }
    let asker = world.random_honest();
    let id = world.find_value(asker, key);
    world.run(MINUTE);
    let mut found: Vec<RsaId> = world.found[&id]
        .iter()
        .map(|record| record.rsa_id)
        .collect();
    found.sort_unstable();
    found.dedup();
    let mut expected: Vec<RsaId> = publishers
        .iter()
        .map(|publisher| world.peers[*publisher].known.rsa_id)
        .collect();
    expected.sort_unstable();
    expected.dedup();
    // Not just the first: nearly all, for each keeper draws four of six.
    assert!(found.len() + 1 >= expected.len(), "{found:?}");

    // Published anew each hour, it is there after many lives of a record, through churn.
    world.churn(5 * HOUR);
    let asker = world.random_honest();
    let id = world.find_value(asker, key);
    world.run(MINUTE);
    assert!(world.found.contains_key(&id));

    for publisher in &publishers {
        let now = world.now;
        world.peers[*publisher].kad.unpublish(now, key);
    }
    world.run(RECORD_LIFE + 2 * MINUTE);
    let keepers = world
        .peers
        .iter()
        .filter(|peer| peer.kad.keeps(key))
        .count();
    assert_eq!(keepers, 0);
}

#[test]
fn who_comes_nearer_is_given_the_records() {
    let mut world = World::new(31);
    world.populate(200, 5 * MINUTE);
    world.run(5 * MINUTE);
    let key = random_key(&mut world.rng);
    let publisher = world.random_honest();
    world.publish(publisher, key);
    world.run(MINUTE);
    let mut id = key.0;
    id[19] ^= 1;
    let nearer = world.add(Who::tab(RsaId(id)), super::world::Nature::Honest);
    world.run(2 * MINUTE);
    assert!(world.peers[nearer].kad.keeps(key));
}

#[test]
fn a_record_given_to_somebody_far_comes_to_somebody_near() {
    let mut world = World::new(32);
    world.populate(400, 5 * MINUTE);
    world.run(10 * MINUTE);
    let key = random_key(&mut world.rng);
    let all = world.nearest(key, 400);
    let farthest = *all.last().unwrap();
    let place = world
        .peers
        .iter()
        .position(|p| p.known.rsa_id == farthest)
        .unwrap();
    let record = Who::tab(all[200]).providing(key).known();
    let now = world.now;
    let question = crate::kad::KadQuestion::Store(record);
    let kad = &mut world.peers[place].kad;
    let answers = kad.handle_question(now, Some(all[200]), &question);
    assert!(matches!(
        answers[..],
        [crate::kad::KadAnswer::Stored(false)]
    ));
    world.drive(place);
    world.run(MINUTE);
    let keeper = world
        .peers
        .iter()
        .find(|peer| peer.kad.keeps(key))
        .expect("somebody keeps it");
    assert!(all[..20].contains(&keeper.known.rsa_id));
}

/// A record of somebody new, in a network or of a tab.
fn record(rng: &mut chacha20::ChaCha20Rng, key: Key, address: Option<&str>, expiry: u64) -> Who {
    let id = random_id(rng);
    let who = match address {
        Some(address) => Who::native(id, address),
        None => Who::tab(id).introduced_by(&[id]),
    };
    who.providing(key).until(UNIX_TIME + expiry)
}

#[test]
fn one_network_does_not_fill_a_name() {
    let mut rng = rng(33);
    let key = random_key(&mut rng);
    let mut records = Records::default();
    let mut put = |who: Who, lasts: u64| {
        let lasts = Duration::from_secs(lasts);
        records.put(Instant::ZERO, OWN, who.known(), None, lasts)
    };
    for host in 0..50 {
        let address = format!("91.1.{host}.1:443");
        let crowd = record(&mut rng, key, Some(&address), 7000);
        put(crowd, 7000);
    }
    let honest: Vec<Who> = (0..5)
        .map(|n| record(&mut rng, key, Some(&format!("80.{n}.0.1:443")), 100))
        .collect();
    for who in &honest {
        assert_eq!(put(who.clone(), 100), Keeping::New);
    }
    // The crowd comes again, and competes with itself.
    for host in 0..50 {
        let address = format!("91.1.{host}.2:443");
        put(record(&mut rng, key, Some(&address), 7200), 7200);
    }
    assert_eq!(records.len(), MAX_RECORDS_A_KEY);
    for who in &honest {
        assert!(records.of(key).any(|known| known.rsa_id == who.id));
    }
}

#[test]
fn replays_are_refused_and_newer_ones_renew() {
    let mut rng = rng(34);
    let key = random_key(&mut rng);
    let mut records = Records::default();
    let who = record(&mut rng, key, None, 1000);
    let newer = who.clone().until(UNIX_TIME + 2000);
    let mut put = |who: &Who| {
        records.put(
            Instant::ZERO,
            OWN,
            who.known(),
            None,
            Duration::from_secs(1000),
        )
    };
    assert_eq!(put(&who), Keeping::New);
    assert_eq!(put(&who), Keeping::Same);
    assert_eq!(put(&newer), Keeping::Renewed);
    assert_eq!(put(&who), Keeping::Refused);
    let plain = Who::tab(random_id(&mut rng));
    assert_eq!(put(&plain), Keeping::Refused);
    assert_eq!(records.len(), 1);
}

#[test]
fn a_record_lives_no_longer_than_it_may() {
    let mut rng = rng(35);
    let mut records = Records::default();
    let (short, long) = (random_key(&mut rng), random_key(&mut rng));
    for (key, lasts) in [(short, MINUTE), (long, 1000 * HOUR)] {
        let known = record(&mut rng, key, None, 9999).known();
        records.put(Instant::ZERO, OWN, known, None, lasts);
    }
    records.expire(Instant::ZERO + MINUTE);
    assert_eq!(records.keys().collect::<Vec<_>>(), [long]);
    records.expire(Instant::ZERO + RECORD_LIFE);
    assert_eq!(records.len(), 0);
}

#[test]
fn neither_a_neighbour_nor_a_publisher_fills_a_keeper() {
    let mut rng = rng(36);
    let mut records = Records::default();
    let publisher = Who::tab(random_id(&mut rng));
    let mut kept = 0;
    for _ in 0..MAX_RECORDS_A_PUBLISHER + 20 {
        let known = publisher.clone().providing(random_key(&mut rng)).known();
        let keeping = records.put(Instant::ZERO, OWN, known, None, HOUR);
        kept += usize::from(keeping.is_kept());
    }
    assert_eq!(kept, MAX_RECORDS_A_PUBLISHER);
    let neighbour = Some(random_id(&mut rng));
    let mut kept = 0;
    for _ in 0..MAX_RECORDS_A_SOURCE + 20 {
        let key = random_key(&mut rng);
        let known = record(&mut rng, key, None, 9999).known();
        let keeping = records.put(Instant::ZERO, OWN, known, neighbour, HOUR);
        kept += usize::from(keeping.is_kept());
    }
    assert_eq!(kept, MAX_RECORDS_A_SOURCE);
}

#[test]
fn a_full_keeper_keeps_what_is_near() {
    let mut rng = rng(37);
    let mut records = Records::default();
    let mut keys = Vec::new();
    for _ in 0..MAX_RECORDS * 2 {
        let key = random_key(&mut rng);
        let known = record(&mut rng, key, None, 9999).known();
        records.put(Instant::ZERO, OWN, known, None, HOUR);
        keys.push(key);
        assert!(records.len() <= MAX_RECORDS);
    }
    keys.sort_by_key(|key| Distance::between(OWN, *key));
    keys.truncate(MAX_RECORDS);
    let mut kept: Vec<Key> = records.keys().collect();
    kept.sort_by_key(|key| Distance::between(OWN, *key));
    assert!(kept == keys);
}
