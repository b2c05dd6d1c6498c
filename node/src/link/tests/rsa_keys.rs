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

/// A key as OpenSSL and WebCrypto export it.
#[test]
fn a_key_with_its_algorithm_before_it() {
    let spki = crate::wire::tests::hex(
        "30819f 300d 06092a864886f70d010101 0500 03818d00
         308189 02818100 ec9b165e18085ee7a6583edf905c767c8b502e4a76662a556cf212bcaefdbd1104d8e2
         53d39b0bec9392ea15488c70af933b1e65239d79eae3774f0e9a56bcb19de131a7546bcf3bc1204d21da109a
         8a5bbbceb633ff4f4f5d5d817044857b10967d2d328094f6c4af0f8fb05f236bcbb307eaab6d458213da2674
         a15ef36b67 0203010001",
    );
    let key = RsaPublicKey::from_spki(&spki).unwrap();
    assert_eq!(key.to_der(), &spki[22..]);
    for at in 0..spki.len() {
        let mut other = spki.clone();
        other[at] ^= 0x80;
        // Within the modulus a changed bit makes another key.
        let is_modulus = (30..157).contains(&at);
        assert_eq!(RsaPublicKey::from_spki(&other).is_ok(), is_modulus, "{at}");
        assert!(RsaPublicKey::from_spki(&spki[..at]).is_err());
    }
    let identity = Identity::hosted(&spki, ROUTERS[0].ids().ed25519.0, [0; 32]).unwrap();
    assert_eq!(identity.ids().rsa, key.id());
}
