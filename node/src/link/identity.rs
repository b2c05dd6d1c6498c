//! A router's long-lived keys, and their form on disk.

use ed25519_dalek::SigningKey;
use rand_core::CryptoRng;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha1::{Digest, Sha1};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::RouterIds;
use crate::ids::{Ed25519Id, OnionKey, RsaId};
use crate::wire::{DecodeError, Reader};

/// Bits of the RSA identity key: Tor's routers have this many, and accept no other.
pub(super) const RSA_BITS: usize = 1024;
/// The public exponent of the RSA identity key: Tor's routers accept no other.
const RSA_EXPONENT: &[u8] = &[1, 0, 1];
/// What a saved identity begins with.
const MAGIC: &[u8; 16] = b"chive-identity-1";

/// A router's long-lived keys.
pub struct Identity {
    rsa: RsaPrivateKey,
    ed25519: SigningKey,
    onion: StaticSecret,
    ids: RouterIds,
}

/// Why there is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// What was saved cannot be read.
    #[error("the saved identity is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The RSA key is not one that Tor's routers accept.
    #[error("the RSA identity key is not a valid key of 1024 bits with the exponent 65537")]
    Rsa,
}

impl Identity {
    /// New keys.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Result<Self, IdentityError> {
        let rsa = RsaPrivateKey::new(rng, RSA_BITS).map_err(|_| IdentityError::Rsa)?;
        let mut ed25519 = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *ed25519);
        let mut onion = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *onion);
        Self::new(
            rsa,
            SigningKey::from_bytes(&ed25519),
            StaticSecret::from(*onion),
        )
    }

    fn new(
        rsa: RsaPrivateKey,
        ed25519: SigningKey,
        onion: StaticSecret,
    ) -> Result<Self, IdentityError> {
        let ids = RouterIds {
            rsa: rsa_id(rsa.as_public_key()).ok_or(IdentityError::Rsa)?,
            ed25519: Ed25519Id(ed25519.verifying_key().to_bytes()),
        };
        Ok(Identity {
            rsa,
            ed25519,
            onion,
            ids,
        })
    }

    /// The keys as they lie on disk: `chive-identity-1`, the Ed25519 seed (32), the onion secret
    /// (32), and to the end the RSA key as PKCS#1 DER.
    pub fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let rsa = self.rsa.to_pkcs1_der().map_err(|_| IdentityError::Rsa)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(80 + rsa.as_bytes().len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.ed25519.as_bytes());
        bytes.extend_from_slice(self.onion.as_bytes());
        bytes.extend_from_slice(rsa.as_bytes());
        Ok(bytes)
    }

    /// Reads back what [`Identity::to_secret_bytes`] wrote.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(DecodeError::Invalid("the first line").into());
        }
        let ed25519 = Zeroizing::new(reader.array()?);
        let onion = Zeroizing::new(reader.array()?);
        let rsa = RsaPrivateKey::from_pkcs1_der(reader.rest()).map_err(|_| IdentityError::Rsa)?;
        rsa.validate().map_err(|_| IdentityError::Rsa)?;
        Self::new(
            rsa,
            SigningKey::from_bytes(&ed25519),
            StaticSecret::from(*onion),
        )
    }

    /// Both names.
    pub const fn ids(&self) -> RouterIds {
        self.ids
    }

    /// The ntor onion key, public half.
    pub fn onion_key(&self) -> OnionKey {
        OnionKey(PublicKey::from(&self.onion).to_bytes())
    }

    /// The ntor onion key, secret half.
    pub const fn onion_secret(&self) -> &StaticSecret {
        &self.onion
    }

    /// The Ed25519 identity key, which signs descriptors.
    pub const fn ed25519(&self) -> &SigningKey {
        &self.ed25519
    }

    pub(super) const fn rsa(&self) -> &RsaPrivateKey {
        &self.rsa
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

/// The PKCS#1 DER of `key`, if it is one that Tor's routers accept.
pub(super) fn rsa_der(key: &RsaPublicKey) -> Option<Vec<u8>> {
    // The exact length matters: a shorter modulus would be another, weaker kind of identity.
    let is_tors = key.n().bits() as usize == RSA_BITS && *key.e_bytes() == *RSA_EXPONENT;
    if !is_tors {
        return None;
    }
    key.to_pkcs1_der().ok().map(|der| der.as_bytes().to_vec())
}

/// The fingerprint of `key`, if it is one that Tor's routers accept.
fn rsa_id(key: &RsaPublicKey) -> Option<RsaId> {
    rsa_der(key).map(|der| RsaId(Sha1::digest(der).into()))
}
