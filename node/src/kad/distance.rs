//! Kademlia's metric, and the networks that contacts stand in.

use crate::order::ascending;
use std::net::{IpAddr, SocketAddr};

use rand_core::Rng;

use crate::ids::{Key, RsaId};
use crate::node::is_public;
use crate::wire::VerifiedDescriptor;

/// The number of buckets: one for each bit of a key.
pub const BUCKETS: usize = 160;

/// How far two keys are from each other: their XOR, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; 20]);

impl Distance {
    /// From `a` to `b`.
    pub fn between(a: Key, b: Key) -> Self {
        let mut bytes = a.0;
        for (byte, other) in bytes.iter_mut().zip(b.0) {
            *byte ^= other;
        }
        Distance(bytes)
    }

    /// The j for which 2^j ≤ this < 2^(j+1); none for zero.
    pub fn bucket(self) -> Option<u8> {
        let (place, byte) = (0_u8..).zip(self.0).find(|(_, byte)| *byte != 0)?;
        let leading = place
            .checked_mul(8)?
            .checked_add(byte.leading_zeros() as u8)?;
        159_u8.checked_sub(leading)
    }
}

/// A random key, as far from `own` as bucket `bucket` wants it.
pub(super) fn random_in_bucket<R: Rng>(own: Key, bucket: u8, rng: &mut R) -> Key {
    let mut key = own;
    let random = random_key(rng);
    let mut left = bucket;
    // From the last byte, which holds the lowest bits: whole bytes first.
    for (byte, random) in key.0.iter_mut().zip(random.0).rev() {
        if left >= 8 {
            *byte ^= random;
            left -= 8;
        } else {
            let bit = 1_u8 << left;
            *byte ^= bit | (random & (bit - 1));
            break;
        }
    }
    key
}

/// A random key.
pub(super) fn random_key<R: Rng>(rng: &mut R) -> Key {
    let mut key = [0; 20];
    rng.fill_bytes(&mut key);
    Key(key)
}

/// Those who stand in one group are likely to be one operator's: a network of addresses, or the
/// tabs of one introducer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// A /16.
    V4([u8; 2]),
    /// A /32.
    V6([u8; 4]),
    /// Who introduces a tab, or told of it.
    Introducer(RsaId),
}

/// The networks of a router's addresses. Addresses that mean nothing outside a home tell nothing.
pub(super) fn networks(of: &VerifiedDescriptor) -> Vec<Group> {
    let mut groups: Vec<Group> = of
        .addresses
        .iter()
        .map(SocketAddr::ip)
        .filter(|ip| is_public(*ip))
        .map(|ip| match ip {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                Group::V4([a, b])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.octets();
                Group::V6([a, b, c, d])
            }
        })
        .collect();
    groups = ascending(groups);
    groups.dedup();
    groups
}

/// By whom a tab is reached: its introducers, or who told of it if it names none.
pub(super) fn introducers(of: &VerifiedDescriptor, teller: Option<RsaId>) -> Vec<Group> {
    if !of.addresses.is_empty() {
        return Vec::new();
    }
    let mut groups: Vec<Group> = of
        .introducers
        .iter()
        .copied()
        .map(Group::Introducer)
        .collect();
    if groups.is_empty() {
        groups.extend(teller.map(Group::Introducer));
    }
    groups = ascending(groups);
    groups.dedup();
    groups
}

/// Counts groups while a list of contacts is gone through.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<(Group, usize)>);

impl Tally {
    /// Counts a contact with these groups, unless one of them is counted `most` times already.
    pub(super) fn admits(&mut self, groups: &[Group], most: usize) -> bool {
        if groups.iter().any(|group| self.count(*group) >= most) {
            return false;
        }
        for group in groups {
            match self.0.iter_mut().find(|(counted, _)| counted == group) {
                Some((_, count)) => *count += 1,
                None => self.0.push((*group, 1)),
            }
        }
        true
    }

    fn count(&self, group: Group) -> usize {
        let found = self.0.iter().find(|(counted, _)| *counted == group);
        found.map_or(0, |(_, count)| *count)
    }
}
