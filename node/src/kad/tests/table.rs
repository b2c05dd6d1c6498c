//! The routing table against a plain list that says the rules in another way.

use rand_core::Rng;

use super::{UNIX_TIME, Who, random_id, rng};
use crate::ids::{Key, RsaId};
use crate::kad::distance::{Distance, random_in_bucket};
use crate::kad::table::{Admission, Contact, Table};
use crate::kad::{K, Known, MAX_NETWORK_IN_BUCKET, MAX_NETWORK_IN_TABLE};
use crate::time::Instant;

fn contact(known: Known, linked: bool) -> Contact {
    Contact {
        known,
        teller: None,
        linked,
        met: true,
        heard: Instant::ZERO,
        ping_at: Instant::ZERO,
        failures: 0,
    }
}

/// 2^j ≤ distance < 2^(j+1), by arithmetic on the bits one by one.
fn bucket_by_bits(own: RsaId, id: RsaId) -> Option<u8> {
    (0..160_u8).rev().find(|j| {
        let (byte, bit) = (19 - usize::from(j / 8), j % 8);
        (own.0[byte] ^ id.0[byte]) >> bit & 1 == 1
    })
}

#[test]
fn buckets_are_powers_of_two() {
    let mut rng = rng(20);
    let own = random_id(&mut rng);
    for j in 0..160 {
        for _ in 0..20 {
            let key = random_in_bucket(own.into(), j, &mut rng);
            assert_eq!(bucket_by_bits(own, RsaId(key.0)), Some(j));
            assert_eq!(Distance::between(own.into(), key).bucket(), Some(j));
        }
    }
    assert_eq!(Distance::between(own.into(), own.into()).bucket(), None);
}

#[test]
fn the_table_does_what_a_plain_list_does() {
    let mut rng = rng(21);
    let own = random_id(&mut rng);
    let mut table = Table::new(own.into());
    // Oldest first, all buckets in one.
    let mut model: Vec<(RsaId, Option<u8>)> = Vec::new();
    let network = |n: Option<u8>| n.map(|n| format!("80.{n}.0.1:443"));
    for step in 0..20_000 {
        let j = 120 + (rng.next_u64() % 40) as u8;
        let id = match (rng.next_u64() % 4, model.len() as u64) {
            (0, count) if count > 0 => model[(rng.next_u64() % count) as usize].0,
            _ => RsaId(random_in_bucket(own.into(), j, &mut rng).0),
        };
        let there = model.iter().position(|(known, _)| *known == id);
        if rng.next_u64().is_multiple_of(5) {
            let removed = table.remove(id).is_some();
            assert_eq!(removed, there.is_some(), "step {step}");
            if let Some(place) = there {
                model.remove(place);
            }
        } else {
            // Few networks, so that their limits are met.
            let stands_in =
                (!rng.next_u64().is_multiple_of(3)).then(|| (rng.next_u64() % 12) as u8);
            let stands_in = there.map_or(stands_in, |place| model[place].1);
            let who = match network(stands_in) {
                Some(address) => Who::native(id, &address),
                // Introduced by itself alone, so that tabs are never surplus.
                None => Who::tab(id).introduced_by(&[id]),
            };
            let admission = table.admit(contact(who.known(), false));
            let bucket = bucket_by_bits(own, id);
            let in_bucket: Vec<_> = model
                .iter()
                .filter(|(other, _)| bucket_by_bits(own, *other) == bucket)
                .collect();
            let same =
                |(_, other): &&(RsaId, Option<u8>)| stands_in.is_some() && *other == stands_in;
            let expected = if there.is_some() {
                Admission::Kept
            } else if in_bucket.iter().copied().filter(same).count() >= MAX_NETWORK_IN_BUCKET
                || model.iter().filter(same).count() >= MAX_NETWORK_IN_TABLE
            {
                Admission::Network
            } else if in_bucket.len() >= K {
                Admission::Full
            } else {
                model.push((id, stands_in));
                Admission::Entered
            };
            assert_eq!(admission, expected, "step {step}");
        }
        if step % 100 == 0 {
            let mut expected: Vec<_> = model
                .iter()
                .map(|(id, _)| (bucket_by_bits(own, *id), *id))
                .collect();
            // Stable: within a bucket the oldest stay first.
            expected.sort_by_key(|(bucket, _)| *bucket);
            let ids: Vec<_> = table
                .iter()
                .map(|contact| (bucket_by_bits(own, contact.id()), contact.id()))
                .collect();
            assert_eq!(ids, expected, "step {step}");
            let key = Key(random_id(&mut rng).0);
            let mut nearest: Vec<_> = model.clone();
            nearest.sort_by_key(|(id, _)| Distance::between(key, (*id).into()));
            let mut of_network = [0; 12];
            nearest.truncate(K * 3);
            nearest.retain(|(_, stands_in)| {
                stands_in.is_none_or(|n| {
                    of_network[usize::from(n)] += 1;
                    of_network[usize::from(n)] <= MAX_NETWORK_IN_BUCKET
                })
            });
            nearest.truncate(K);
            let closest: Vec<_> = table.closest(key, K).iter().map(|c| c.id()).collect();
            let nearest: Vec<_> = nearest.into_iter().map(|(id, _)| id).collect();
            assert_eq!(closest, nearest, "step {step}");
        }
    }
    assert!(model.len() > 100, "the limits were met: {}", model.len());
}

#[test]
fn tabs_of_one_introducer_yield_to_others() {
    let mut rng = rng(22);
    let own = random_id(&mut rng);
    let mut table = Table::new(own.into());
    let mut tab = |introducer: u8| {
        let id = RsaId(random_in_bucket(own.into(), 159, &mut rng).0);
        let who = Who::tab(id).introduced_by(&[RsaId([introducer; 20])]);
        contact(who.known(), false)
    };
    let first: Vec<RsaId> = (0..K)
        .map(|_| {
            let tab = tab(1);
            let id = tab.id();
            assert_eq!(table.admit(tab), Admission::Entered);
            id
        })
        .collect();
    assert_eq!(table.admit(tab(1)), Admission::Full);
    // Beyond a fair share the youngest yields, and no more than that.
    for _ in 0..K - crate::kad::FAIR_INTRODUCER_IN_BUCKET {
        assert_eq!(table.admit(tab(2)), Admission::Entered);
    }
    assert_eq!(table.admit(tab(3)), Admission::Full);
    let left: Vec<RsaId> = table.iter().map(Contact::id).collect();
    assert_eq!(left[..4], first[..4]);
}

#[test]
fn only_a_link_proves_an_id() {
    let mut rng = rng(23);
    let own = random_id(&mut rng);
    let mut table = Table::new(own.into());
    assert_eq!(
        table.admit(contact(Who::tab(own).known(), true)),
        Admission::Impostor
    );
    let honest = Who::tab(random_id(&mut rng));
    let impostor = Who {
        secret: [1; 32],
        ..honest.clone()
    };
    assert_eq!(
        table.admit(contact(honest.known(), false)),
        Admission::Entered
    );
    let forged = contact(impostor.known(), false);
    assert_eq!(table.admit(forged), Admission::Impostor);
    assert_eq!(
        table.get(honest.id).unwrap().known.ed25519,
        honest.known().ed25519
    );
    // Had the impostor come first, the link would put it right, and for good.
    table.remove(honest.id);
    table.admit(contact(impostor.known(), false));
    assert_eq!(table.admit(contact(honest.known(), true)), Admission::Kept);
    assert_eq!(
        table.get(honest.id).unwrap().known.ed25519,
        honest.known().ed25519
    );
    assert_eq!(
        table.admit(contact(impostor.known(), true)),
        Admission::Impostor
    );
}

#[test]
fn an_older_descriptor_does_not_replace_a_newer_one() {
    let mut rng = rng(24);
    let mut table = Table::new(random_id(&mut rng).into());
    let who = Who::tab(random_id(&mut rng));
    let newer = who.clone().until(UNIX_TIME + 900).known();
    let older = who.until(UNIX_TIME + 800).known();
    table.admit(contact(newer.clone(), true));
    table.admit(contact(older, true));
    assert_eq!(table.get(newer.rsa_id).unwrap().known.expiry, newer.expiry);
}
