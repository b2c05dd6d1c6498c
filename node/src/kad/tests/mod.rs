//! Kademlia, alone and in a world of its own kind.

mod lookups;
mod records;
mod samples;
mod table;
mod world;

use std::net::SocketAddr;

use chacha20::ChaCha20Rng;
use ed25519_dalek::SigningKey;
use rand_core::{Rng, SeedableRng};

use super::Known;
use crate::ids::{Ed25519Id, Key, OnionKey, RsaId};
use crate::wire::{DescriptorBody, Roles};

/// Seconds since 1970 at which the tests begin.
const UNIX_TIME: u64 = 1_800_000_000;
/// A descriptor's life, longer than any test.
const LIFE: u64 = 400 * 3600;

fn rng(seed: u64) -> ChaCha20Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    ChaCha20Rng::from_seed(bytes)
}

fn random_id(rng: &mut ChaCha20Rng) -> RsaId {
    let mut id = [0; 20];
    rng.fill_bytes(&mut id);
    RsaId(id)
}

/// Somebody, with all that a descriptor can say; signed when it is asked for.
#[derive(Clone)]
struct Who {
    id: RsaId,
    secret: [u8; 32],
    addresses: Vec<SocketAddr>,
    introducers: Vec<RsaId>,
    provides: Option<Key>,
    expiry: u64,
}

impl Who {
    fn tab(id: RsaId) -> Self {
        let mut secret = [7; 32];
        secret[..20].copy_from_slice(&id.0);
        Who {
            id,
            secret,
            addresses: Vec::new(),
            introducers: Vec::new(),
            provides: None,
            expiry: UNIX_TIME + LIFE,
        }
    }

    fn native(id: RsaId, address: &str) -> Self {
        Who {
            addresses: vec![address.parse().unwrap()],
            ..Who::tab(id)
        }
    }

    fn introduced_by(self, introducers: &[RsaId]) -> Self {
        Who {
            introducers: introducers.to_vec(),
            ..self
        }
    }

    fn providing(self, key: Key) -> Self {
        Who {
            provides: Some(key),
            ..self
        }
    }

    fn until(self, expiry: u64) -> Self {
        Who { expiry, ..self }
    }

    fn known(&self) -> Known {
        let identity = SigningKey::from_bytes(&self.secret);
        let body = DescriptorBody {
            rsa_id: self.id,
            ed25519: Ed25519Id(identity.verifying_key().to_bytes()),
            onion_key: OnionKey([1; 32]),
            roles: Roles::ROUTER.with(Roles::ORDB),
            expiry: self.expiry,
            addresses: self.addresses.clone(),
            dtls: None,
            introducers: self.introducers.clone(),
            provides: self.provides,
            extensions: Vec::new(),
        };
        let signed = body.sign(&identity).unwrap();
        signed.verify(UNIX_TIME).unwrap()
    }
}
