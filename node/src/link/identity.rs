//! A router's long-lived keys, and their form on disk.

use ed25519_dalek::SigningKey;
use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::RouterIds;
use super::rsa_public::{Padding, RsaPublicKey};
use super::rsa_secret::{self, KeyPair, RsaSigner};
use crate::ids::{Ed25519Id, OnionKey};
use crate::wire::{DecodeError, Reader};

/// What a saved identity begins with.
const MAGIC: &[u8; 16] = b"chive-identity-1";

/// A router's long-lived keys.
pub struct Identity {
    rsa: RsaPublicKey,
    rsa_signer: Box<dyn RsaSigner>,
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
        let rsa = rsa_secret::generate(rng)?;
        let mut ed25519 = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *ed25519);
        let mut onion = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *onion);
        Ok(Self::new(
            rsa,
            SigningKey::from_bytes(&ed25519),
            StaticSecret::from(*onion),
        ))
    }

    fn new((rsa_signer, rsa): KeyPair, ed25519: SigningKey, onion: StaticSecret) -> Self {
        let ids = RouterIds {
            rsa: rsa.id(),
            ed25519: Ed25519Id(ed25519.verifying_key().to_bytes()),
        };
        Identity {
            rsa,
            rsa_signer,
            ed25519,
            onion,
            ids,
        }
    }

    /// The keys as they lie on disk: `chive-identity-1`, the Ed25519 seed (32), the onion secret
    /// (32), and to the end the RSA key as PKCS#1 DER.
    pub fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let rsa = self.rsa_signer.to_der()?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(80 + rsa.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.ed25519.as_bytes());
        bytes.extend_from_slice(self.onion.as_bytes());
        bytes.extend_from_slice(&rsa);
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
        let rsa = rsa_secret::from_der(reader.rest())?;
        Ok(Self::new(
            rsa,
            SigningKey::from_bytes(&ed25519),
            StaticSecret::from(*onion),
        ))
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

    /// The RSA identity key, public half.
    pub(super) const fn rsa(&self) -> &RsaPublicKey {
        &self.rsa
    }

    /// Signs with the RSA identity key.
    pub(super) fn sign_rsa<R: CryptoRng>(
        &self,
        padding: Padding,
        hash: &[u8; 32],
        rng: &mut R,
    ) -> Result<Vec<u8>, IdentityError> {
        self.rsa_signer.sign(padding, hash, rng)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}
