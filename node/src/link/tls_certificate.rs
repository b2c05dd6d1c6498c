//! The certificate that a router's TLS shows: made like Tor's, so that Tor's routers take it
//! without a word.

use rand_core::CryptoRng;
use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::pkcs8::EncodePrivateKey;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::IdentityError;
use super::rsa_public::Padding;
use super::rsa_secret::RsaSigner;
use super::x509::Contents;

/// Bits of the key: as Tor's. Tor complains in its log of a key that is not RSA.
const KEY_BITS: usize = 2048;
/// One day.
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// For how many days the certificate says that it is good; nobody looks.
const LIFETIME_DAYS: u64 = 365;
/// How many days ago at most it says that it was made.
const MAX_AGE_DAYS: u64 = 30;

/// A certificate for TLS and its key; CERTS says whose it is.
pub struct TlsCertificate {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The key, PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
}

impl TlsCertificate {
    /// A new key and its certificate. It takes up to some tenths of a second.
    pub fn generate<R: CryptoRng>(unix_now: u64, rng: &mut R) -> Result<Self, IdentityError> {
        let key = RsaPrivateKey::new(rng, KEY_BITS).map_err(|_| IdentityError::Rsa)?;
        let public = RsaPublicKey::from(&key)
            .to_pkcs1_der()
            .map_err(|_| IdentityError::Rsa)?;
        let mut serial = [0; 8];
        rng.fill_bytes(&mut serial);
        // It does not tell when the process was started.
        let age_days = rng.next_u64() % MAX_AGE_DAYS;
        let begun_day = (unix_now / DAY_SECONDS).saturating_sub(1 + age_days);
        let certificate = Contents {
            common_name: &host_name(rng),
            not_before: begun_day * DAY_SECONDS,
            not_after: (begun_day + LIFETIME_DAYS) * DAY_SECONDS,
            serial,
            key: public.as_bytes(),
        }
        .sign(|hash| RsaSigner::sign(&key, Padding::Pkcs1, hash, rng))?;
        let key = key.to_pkcs8_der().map_err(|_| IdentityError::Rsa)?;
        Ok(TlsCertificate {
            certificate,
            key: Zeroizing::new(key.as_bytes().to_vec()),
        })
    }

    /// What LinkCerts certifies.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }
}

impl std::fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsCertificate").finish_non_exhaustive()
    }
}

/// `www.`, 8 to 20 letters of base32, `.net`: as the links of Tor's routers name themselves.
fn host_name<R: CryptoRng>(rng: &mut R) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let len = 8 + rng.next_u32() % 13;
    let letter = |number: u32| LETTERS.iter().cycle().nth(number as usize % LETTERS.len());
    let letters: String = (0..len)
        .filter_map(|_| letter(rng.next_u32()))
        .map(|letter| char::from(*letter))
        .collect();
    format!("www.{letters}.net")
}
