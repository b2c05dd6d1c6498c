//! The DTLS certificate that this router shows: what an invitation names.
//!
//! It is kept beside the keys, unlike TLS's, which is made with each process: a TLS link learns
//! by CERTS whose certificate it is, but who dials by WebRTC must know the certificate's hash
//! before, from a descriptor or from an invitation that somebody printed months ago. It says what
//! a browser's own certificate says, and nothing of this program: DTLS 1.2 shows it to everybody
//! on the way.

use chacha20::ChaCha20Rng;
use rand_core::Rng;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use sha2::{Digest, Sha256};
use str0m::config::DtlsCert;
use zeroize::Zeroizing;

use crate::link::der::{any, bit_string, element, expect, expect_bit_string, tag, time};
use crate::wire::{DecodeError, Reader};

/// `1.2.840.10045.4.3.2`.
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `1.2.840.10045.2.1`.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `1.2.840.10045.3.1.7`.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `2.5.4.3`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What browsers write in theirs.
const NAME: &str = "WebRTC";
const DAY: u64 = 86_400;
/// What a page may ask of a browser at most. Nobody looks at it: a browser checks the hash alone.
const LIFE: u64 = 365 * DAY;
/// Renewed at the first start within this time of its end. Invitations that name the old one lead
/// nowhere then; a router's descriptor has the new one.
const RENEWED_BEFORE: u64 = 30 * DAY;

/// A kept certificate is below 1 KiB.
const MAX_PART: usize = 4096;

/// A certificate, its key, and until when it is shown.
#[derive(Clone)]
pub struct DtlsCertificate {
    certificate: Vec<u8>,
    /// PKCS#8 DER.
    key: Zeroizing<Vec<u8>>,
    not_after: u64,
}

impl std::fmt::Debug for DtlsCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DtlsCertificate").finish_non_exhaustive()
    }
}

/// A kept certificate that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a DTLS certificate and its key")]
pub struct NoCertificate;

impl From<DecodeError> for NoCertificate {
    fn from(_: DecodeError) -> Self {
        NoCertificate
    }
}

impl DtlsCertificate {
    /// Makes one, at `now`, in seconds since 1970.
    pub fn generate(now: u64, generator: &mut ChaCha20Rng) -> Result<Self, NoCertificate> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| NoCertificate)?;
        let key = Zeroizing::new(key.as_ref().to_vec());
        let pair = key_pair(&key)?;

        let oid = |oid| element(tag::OBJECT_IDENTIFIER, &[oid]);
        let algorithm = element(tag::SEQUENCE, &[&oid(ECDSA_WITH_SHA256)]);
        let name = element(tag::UTF8_STRING, &[NAME.as_bytes()]);
        let name = element(tag::SEQUENCE, &[&oid(COMMON_NAME), &name]);
        let name = element(tag::SEQUENCE, &[&element(tag::SET, &[&name])]);
        let mut serial = [0; 8];
        generator.fill_bytes(&mut serial);
        let [first, rest @ ..] = serial;
        // Positive, and without needless zeros in front.
        let first = first & 0x7f | 0x40;
        let not_after = now.saturating_add(LIFE);
        let curve = element(tag::SEQUENCE, &[&oid(EC_PUBLIC_KEY), &oid(P256)]);
        let signed = element(
            tag::SEQUENCE,
            &[
                &element(tag::VERSION, &[&element(tag::INTEGER, &[&[2]])]),
                &element(tag::INTEGER, &[&[first], &rest]),
                &algorithm,
                &name,
                &element(
                    tag::SEQUENCE,
                    // A browser's clock and ours may differ by a day.
                    &[&time(now.saturating_sub(DAY)), &time(not_after)],
                ),
                &name,
                &element(
                    tag::SEQUENCE,
                    &[&curve, &bit_string(pair.public_key().as_ref())],
                ),
            ],
        );
        let signature = pair.sign(&random, &signed).map_err(|_| NoCertificate)?;
        let signature = bit_string(signature.as_ref());
        Ok(DtlsCertificate {
            certificate: element(tag::SEQUENCE, &[&signed, &algorithm, &signature]),
            key,
            not_after,
        })
    }

    /// SHA-256 of the certificate: what who dials must know.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Whether it is to be shown by a process that starts at `now`, in seconds since 1970.
    pub fn is_good(&self, now: u64) -> bool {
        now.saturating_add(RENEWED_BEFORE) < self.not_after
    }

    /// What is written to the disk: the end of its life, then key and certificate with their
    /// lengths.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(self.not_after.to_be_bytes().to_vec());
        for part in [&*self.key, &self.certificate] {
            // Made here, or read below its bound.
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Reads what [`DtlsCertificate::to_secret_bytes`] wrote.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, NoCertificate> {
        let mut reader = Reader::new(bytes);
        let not_after = u64::from_be_bytes(reader.array()?);
        let mut part = || -> Result<Vec<u8>, NoCertificate> {
            let length = usize::from(u16::from_be_bytes(reader.array()?));
            if length > MAX_PART {
                return Err(NoCertificate);
            }
            Ok(reader.take(length)?.to_vec())
        };
        let (key, certificate) = (Zeroizing::new(part()?), part()?);
        reader.finish()?;
        let pair = key_pair(&key)?;
        if public_key(&certificate)? != pair.public_key().as_ref() {
            return Err(NoCertificate);
        }
        Ok(DtlsCertificate {
            certificate,
            key,
            not_after,
        })
    }

    /// As str0m wants it.
    pub(super) fn to_dtls(&self) -> DtlsCert {
        DtlsCert {
            certificate: self.certificate.clone(),
            private_key: self.key.to_vec(),
        }
    }
}

/// A key of PKCS#8.
pub(super) fn key_pair(pkcs8: &[u8]) -> Result<EcdsaKeyPair, NoCertificate> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new())
        .map_err(|_| NoCertificate)
}

/// The point of P-256 that a certificate has as its key. What else it says, and who signed it, is
/// nothing to DTLS here: its hash is what is checked.
pub(super) fn public_key(certificate: &[u8]) -> Result<&[u8], DecodeError> {
    let mut outer = Reader::new(certificate);
    let mut fields = Reader::new(expect(&mut outer, tag::SEQUENCE)?);
    outer.finish()?;
    let mut fields = Reader::new(expect(&mut fields, tag::SEQUENCE)?);
    // The version may be absent, then the first field is the serial number.
    if any(&mut fields)?.0 == tag::VERSION {
        expect(&mut fields, tag::INTEGER)?;
    }
    for _ in ["algorithm", "issuer", "validity", "subject"] {
        expect(&mut fields, tag::SEQUENCE)?;
    }
    let mut key_info = Reader::new(expect(&mut fields, tag::SEQUENCE)?);
    let mut algorithm = Reader::new(expect(&mut key_info, tag::SEQUENCE)?);
    for wanted in [EC_PUBLIC_KEY, P256] {
        if expect(&mut algorithm, tag::OBJECT_IDENTIFIER)? != wanted {
            return Err(DecodeError::Invalid("a key that is not on P-256"));
        }
    }
    algorithm.finish()?;
    let key = expect_bit_string(&mut key_info)?;
    key_info.finish()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn made() -> DtlsCertificate {
        DtlsCertificate::generate(NOW, &mut ChaCha20Rng::from_seed([7; 32])).unwrap()
    }

    #[test]
    fn what_is_kept_is_what_was_made() {
        let made = made();
        let kept = DtlsCertificate::from_secret_bytes(&made.to_secret_bytes()).unwrap();
        assert_eq!(kept.sha256(), made.sha256());
        assert_eq!(kept.not_after, NOW + LIFE);
        assert!(kept.is_good(NOW) && kept.is_good(NOW + 300 * DAY));
        assert!(!kept.is_good(NOW + 336 * DAY));
    }

    #[test]
    fn it_is_signed_by_its_own_key() {
        let made = made();
        let mut outer = Reader::new(&made.certificate);
        let mut fields = Reader::new(expect(&mut outer, tag::SEQUENCE).unwrap());
        let (_, signed, _) = any(&mut fields).unwrap();
        expect(&mut fields, tag::SEQUENCE).unwrap();
        let signature = expect_bit_string(&mut fields).unwrap();
        ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            public_key(&made.certificate).unwrap(),
        )
        .verify(signed, signature)
        .unwrap();
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = made().to_secret_bytes();
        for length in 0..bytes.len() {
            assert!(
                DtlsCertificate::from_secret_bytes(&bytes[..length]).is_err(),
                "{length}"
            );
        }
        let other = made();
        let mut mixed = DtlsCertificate::from_secret_bytes(&bytes).unwrap();
        mixed.key = other.key;
        // Two keys of one seed differ: they come from the system.
        assert!(DtlsCertificate::from_secret_bytes(&mixed.to_secret_bytes()).is_err());
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            // Never a panic; some bits make no difference to what is checked.
            let _ = DtlsCertificate::from_secret_bytes(&flipped);
        }
    }
}
