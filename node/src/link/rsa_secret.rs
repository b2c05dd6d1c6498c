//! RSA identity keys, secret half.
//!
//! Behind a trait, so that where no such key is ever made or read, as in a tab, the library that
//! signs is not part of the program.

use rand_core::CryptoRng;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::IdentityError;
use super::rsa_public::{Padding, RSA_LEN, RsaPublicKey};

/// Signs with an RSA identity.
pub(super) trait RsaSigner: Send + Sync {
    /// Signs a SHA-256.
    fn sign(
        &self,
        padding: Padding,
        hash: &[u8; 32],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, IdentityError>;

    /// The key as PKCS#1 DER.
    fn to_der(&self) -> Result<Zeroizing<Vec<u8>>, IdentityError>;
}

impl RsaSigner for RsaPrivateKey {
    fn sign(
        &self,
        padding: Padding,
        hash: &[u8; 32],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, IdentityError> {
        let scheme = match padding {
            Padding::Pkcs1 => Pkcs1v15Sign::new::<Sha256>(),
            Padding::Bare => Pkcs1v15Sign::new_unprefixed(),
        };
        self.sign_with_rng(rng, scheme, hash)
            .map_err(|_| IdentityError::Rsa)
    }

    fn to_der(&self) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let der = self.to_pkcs1_der().map_err(|_| IdentityError::Rsa)?;
        Ok(Zeroizing::new(der.as_bytes().to_vec()))
    }
}

/// Both halves of a key.
pub(super) type KeyPair = (Box<dyn RsaSigner>, RsaPublicKey);

/// A new key.
pub(super) fn generate<R: CryptoRng>(rng: &mut R) -> Result<KeyPair, IdentityError> {
    halves(RsaPrivateKey::new(rng, RSA_LEN * 8).map_err(|_| IdentityError::Rsa)?)
}

/// Reads PKCS#1 DER.
pub(super) fn from_der(der: &[u8]) -> Result<KeyPair, IdentityError> {
    let key = RsaPrivateKey::from_pkcs1_der(der).map_err(|_| IdentityError::Rsa)?;
    key.validate().map_err(|_| IdentityError::Rsa)?;
    halves(key)
}

fn halves(key: RsaPrivateKey) -> Result<KeyPair, IdentityError> {
    let public = key
        .to_public_key()
        .to_pkcs1_der()
        .map_err(|_| IdentityError::Rsa)?;
    let public = RsaPublicKey::from_der(public.as_bytes()).map_err(|_| IdentityError::Rsa)?;
    Ok((Box::new(key), public))
}
