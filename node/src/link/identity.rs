//! A router's long-lived keys, and their form on disk.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::RouterIds;
use super::rsa_public::{Padding, RsaPublicKey};
use super::rsa_secret::{self, KeyPair, RsaSigner};
use crate::crypto::ntor::OnionSecret;
use crate::ids::{Ed25519Id, OnionKey};
use crate::wire::{DecodeError, Reader};

/// What a saved identity begins with.
const MAGIC: &[u8; 16] = b"chive-identity-1";

/// A router's long-lived keys.
pub struct Identity {
    rsa: RsaPublicKey,
    secrets: Secrets,
    onion: OnionSecret,
    ids: RouterIds,
}

/// The secret halves of the identity keys.
enum Secrets {
    Here {
        rsa: Box<dyn RsaSigner>,
        ed25519: Box<SigningKey>,
    },
    /// With the host, which signs when it is asked and does not let them out.
    Hosted,
}

/// One of a router's identity keys, named to whoever signs with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostKey {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// What an identity key is to sign.
#[derive(Clone, Debug)]
pub struct Unsigned {
    key: HostKey,
    padding: Padding,
    message: Vec<u8>,
}

impl Unsigned {
    /// To be signed with the Ed25519 key.
    pub const fn ed25519(message: Vec<u8>) -> Self {
        Unsigned {
            key: HostKey::Ed25519,
            // Nobody asks.
            padding: Padding::Pkcs1,
            message,
        }
    }

    /// To be signed with the RSA key.
    pub const fn rsa(message: Vec<u8>) -> Self {
        Unsigned {
            key: HostKey::Rsa,
            padding: Padding::Pkcs1,
            message,
        }
    }

    /// To be signed with the RSA key and Tor's bare padding, if the key is here: a host has only
    /// the usual one.
    pub(super) const fn rsa_bare(message: Vec<u8>) -> Self {
        Unsigned {
            key: HostKey::Rsa,
            padding: Padding::Bare,
            message,
        }
    }

    /// With which key.
    pub const fn key(&self) -> HostKey {
        self.key
    }

    /// What: the signature's algorithm hashes it itself.
    pub fn into_message(self) -> Vec<u8> {
        self.message
    }
}

/// Why there is no identity, or nothing signed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// What was saved cannot be read.
    #[error("the saved identity is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The RSA key is not one that Tor's routers accept.
    #[error("the RSA identity key is not a valid key of 1024 bits with the exponent 65537")]
    Rsa,
    /// The Ed25519 key is none.
    #[error("the Ed25519 identity key is not valid")]
    Ed25519,
    /// The keys are with the host.
    #[error("the identity's keys are with the host, which alone can sign with them")]
    Hosted,
    /// What was signed is not what the keys sign.
    #[error("a signature is not by the identity's key")]
    Signature,
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
        let secrets = Secrets::Here {
            rsa: rsa_signer,
            ed25519: Box::new(ed25519),
        };
        Identity {
            rsa,
            secrets,
            onion: onion.into(),
            ids,
        }
    }

    /// An identity whose keys the host holds and signs with when it is asked. `rsa` is the public
    /// key, as PKCS#1 DER or as SubjectPublicKeyInfo, which is what WebCrypto calls `spki`;
    /// `onion_secret` is random. What is with the host cannot be saved here.
    pub fn hosted(
        rsa: &[u8],
        ed25519: [u8; 32],
        onion_secret: [u8; 32],
    ) -> Result<Self, IdentityError> {
        let rsa = RsaPublicKey::from_der(rsa)
            .or_else(|_| RsaPublicKey::from_spki(rsa))
            .map_err(|_| IdentityError::Rsa)?;
        VerifyingKey::from_bytes(&ed25519)
            .ok()
            .filter(|key| !key.is_weak())
            .ok_or(IdentityError::Ed25519)?;
        let ids = RouterIds {
            rsa: rsa.id(),
            ed25519: Ed25519Id(ed25519),
        };
        Ok(Identity {
            rsa,
            secrets: Secrets::Hosted,
            onion: StaticSecret::from(onion_secret).into(),
            ids,
        })
    }

    /// The keys as they lie on disk: `chive-identity-1`, the Ed25519 seed (32), the onion secret
    /// (32), and to the end the RSA key as PKCS#1 DER.
    pub fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let Secrets::Here { rsa, ed25519 } = &self.secrets else {
            return Err(IdentityError::Hosted);
        };
        let rsa = rsa.to_der()?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(80 + rsa.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(ed25519.as_bytes());
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
        self.onion.public()
    }

    /// The ntor onion key, secret half.
    pub const fn onion_secret(&self) -> &OnionSecret {
        &self.onion
    }

    /// The RSA identity key, public half, as PKCS#1 DER.
    pub fn rsa_der(&self) -> Vec<u8> {
        self.rsa.to_der()
    }

    /// The RSA identity key, public half.
    pub(super) const fn rsa(&self) -> &RsaPublicKey {
        &self.rsa
    }

    /// Signs, if the keys are here; [`IdentityError::Hosted`] if the host must be asked.
    pub fn sign<R: CryptoRng>(
        &self,
        what: &Unsigned,
        rng: &mut R,
    ) -> Result<Vec<u8>, IdentityError> {
        match (&self.secrets, what.key) {
            (Secrets::Hosted, _) => Err(IdentityError::Hosted),
            (Secrets::Here { ed25519, .. }, HostKey::Ed25519) => {
                Ok(ed25519.sign(&what.message).to_bytes().to_vec())
            }
            (Secrets::Here { rsa, .. }, HostKey::Rsa) => {
                rsa.sign(what.padding, &Sha256::digest(&what.message).into(), rng)
            }
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}
