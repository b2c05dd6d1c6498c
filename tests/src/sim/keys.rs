//! Keys for thousands: RSA-1024 keys of few primes, each pair of which is a key. Good for nothing
//! but a simulation.

use chacha20::ChaCha20Rng;
use chive_node::ids::Key;
use chive_node::link::Identity;
use rand_core::{Rng, SeedableRng};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PrivateKeyParts;
use rsa::{BoxedUint, RsaPrivateKey};

/// How many identities are made to find one that is near a place.
const TRIES: usize = 500;
/// How [`Identity::to_secret_bytes`] begins.
const MAGIC: &[u8] = b"chive-identity-1";

/// Where a simulated world's identities come from. The primes are the same in each world: they are
/// dear, and nobody's secret.
pub struct KeyPool {
    rng: ChaCha20Rng,
    primes: Vec<BoxedUint>,
    /// The next pair.
    next: (usize, usize),
    /// Where the next identity is to be.
    near: Option<Key>,
}

impl Default for KeyPool {
    fn default() -> Self {
        KeyPool {
            rng: ChaCha20Rng::from_seed([112; 32]),
            primes: Vec::new(),
            next: (0, 1),
            near: None,
        }
    }
}

impl KeyPool {
    /// The next identity is the nearest to `key` of [`TRIES`]: what somebody does who wants to be
    /// there.
    pub fn place_next(&mut self, key: Key) {
        self.near = Some(key);
    }

    /// An identity that nobody in this world has yet.
    pub fn identity(&mut self, rng: &mut impl Rng) -> Identity {
        let Some(key) = self.near.take() else {
            return self.any(rng);
        };
        let tries = (0..TRIES).map(|_| self.any(rng));
        let distance = |identity: &Identity| {
            let id = identity.ids().rsa.0;
            let bytes: Vec<u8> = id
                .iter()
                .zip(key.0)
                .map(|(one, other)| one ^ other)
                .collect();
            bytes
        };
        tries.min_by_key(distance).expect("there are some")
    }

    fn any(&mut self, rng: &mut impl Rng) -> Identity {
        let (one, other) = self.next;
        self.next = if one + 1 < other {
            (one + 1, other)
        } else {
            (0, other + 1)
        };
        while self.primes.len() <= other {
            let key = RsaPrivateKey::new(&mut self.rng, 1024).expect("a key");
            let primes = key.primes().iter();
            self.primes
                .extend(primes.map(|prime| prime.as_ref().clone()));
        }
        let primes = vec![self.primes[one].clone(), self.primes[other].clone()];
        let key = RsaPrivateKey::from_primes(primes, BoxedUint::from(65_537u64))
            .expect("two primes make a key");
        let der = key.to_pkcs1_der().expect("a key can be written");
        let mut secrets = [0; 64];
        rng.fill_bytes(&mut secrets);
        let bytes = [MAGIC, &secrets, der.as_bytes()].concat();
        Identity::from_secret_bytes(&bytes).expect("it was just made")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_are_one() {
        let mut pool = KeyPool::default();
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let ids: BTreeSet<_> = (0..60).map(|_| pool.identity(&mut rng).ids().rsa).collect();
        assert_eq!(ids.len(), 60);
    }
}
