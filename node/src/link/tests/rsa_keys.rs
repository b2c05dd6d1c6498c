use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Pkcs1v15Sign, RsaPrivateKey};

use super::super::rsa_public::{Padding, RSA_LEN, RsaPublicKey};
use super::*;
use crate::wire::tests::Numbers;

fn keys() -> Vec<RsaPrivateKey> {
    let mut rng = ChaCha20Rng::from_seed([11; 32]);
    (0..6)
        .map(|_| RsaPrivateKey::new(&mut rng, RSA_LEN * 8).unwrap())
        .collect()
}

fn public(key: &RsaPrivateKey) -> RsaPublicKey {
    let der = key.to_public_key().to_pkcs1_der().unwrap();
    let public = RsaPublicKey::from_der(der.as_bytes()).unwrap();
    assert_eq!(public.to_der(), der.as_bytes());
    public
}

/// What the library signs we find right, and nothing else.
#[test]
fn signatures_of_the_library_are_right() {
    let mut numbers = Numbers(12);
    let keys = keys();
    for round in 0..600 {
        let key = &keys[round % keys.len()];
        let mut hash: [u8; 32] = std::array::from_fn(|_| numbers.next() as u8);
        let (padding, other, scheme) = if numbers.below(2) == 0 {
            (Padding::Pkcs1, Padding::Bare, Pkcs1v15Sign::new::<Sha256>())
        } else {
            (
                Padding::Bare,
                Padding::Pkcs1,
                Pkcs1v15Sign::new_unprefixed(),
            )
        };
        let mut signature = key.sign(scheme, &hash).unwrap();
        let public = public(key);
        assert!(public.verifies(padding, &hash, &signature));
        assert!(!public.verifies(other, &hash, &signature));
        assert!(!public.verifies(padding, &hash, &signature[1..]));
        let bit = numbers.below(RSA_LEN * 8);
        signature[bit / 8] ^= 1 << (bit % 8);
        assert!(!public.verifies(padding, &hash, &signature));
        signature[bit / 8] ^= 1 << (bit % 8);
        hash[bit % 32] ^= 1;
        assert!(!public.verifies(padding, &hash, &signature));
    }
}

/// Numbers at the edges: what they are raised to is known, and they are nobody's signature.
#[test]
fn numbers_at_the_edges_sign_nothing() {
    for key in keys() {
        let public = public(&key);
        let modulus = key.n().to_be_bytes();
        let less_one = {
            let mut bytes = modulus.clone();
            bytes[RSA_LEN - 1] -= 1;
            bytes
        };
        let one = BoxedUint::one_with_precision(1024).to_be_bytes();
        for number in [
            &[0; RSA_LEN][..],
            &one,
            &less_one,
            &modulus,
            &[0xff; RSA_LEN],
        ] {
            for padding in [Padding::Pkcs1, Padding::Bare] {
                assert!(!public.verifies(padding, &[0; 32], number));
            }
        }
    }
}

#[test]
fn keys_of_another_kind_are_refused() {
    let key = &keys()[0];
    let der = key
        .to_public_key()
        .to_pkcs1_der()
        .unwrap()
        .as_bytes()
        .to_vec();
    let mut even = der.clone();
    even[7 + RSA_LEN - 1] ^= 1;
    let mut short = der.clone();
    short[7] &= 0x7f;
    let mut exponent = der.clone();
    *exponent.last_mut().unwrap() = 3;
    let mut longer = der.clone();
    longer.push(0);
    for wrong in [
        &even,
        &short,
        &exponent,
        &longer,
        &der[..der.len() - 1].to_vec(),
    ] {
        assert!(RsaPublicKey::from_der(wrong).is_err());
    }
    let mut rng = ChaCha20Rng::from_seed([13; 32]);
    let long = RsaPrivateKey::new(&mut rng, 1088).unwrap();
    let long = long.to_public_key().to_pkcs1_der().unwrap();
    assert!(RsaPublicKey::from_der(long.as_bytes()).is_err());
}
