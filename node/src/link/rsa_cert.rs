//! What the RSA identity signs: itself (type 2, X.509) and the Ed25519 identity (type 7).

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};

use super::CertFault;
use super::identity::{IdentityError, Unsigned};
use super::rsa_public::{Padding, RsaPublicKey};
use super::validity::{
    CERT_LIFETIME_SECONDS, CLOCK_TOLERANCE_SECONDS, DAY_SECONDS, expired, expiry_hours,
};
use super::x509::{Contents, X509, signed};
use crate::ids::Ed25519Id;
use crate::wire::{DecodeError, Reader};

/// What the RSA identity signs of the Ed25519 identity begins with. cert-spec, "RSA→Ed25519
/// cross-certificate".
const CROSS_PREFIX: &[u8] = b"Tor TLS RSA/Ed25519 cross-certificate";

/// The certificate of type 2: X.509, self-signed. Not signed yet.
pub(super) struct IdentityCert(Vec<u8>);

impl IdentityCert {
    pub(super) fn new<R: CryptoRng>(key: &RsaPublicKey, unix_now: u64, rng: &mut R) -> Self {
        let mut serial = [0; 8];
        rng.fill_bytes(&mut serial);
        // To the day: a certificate does not tell by how much its maker's clock is wrong.
        let today = unix_now - unix_now % DAY_SECONDS;
        let contents = Contents {
            // Tor's own have a made-up host name; nobody reads it.
            common_name: "www.example.net",
            not_before: today.saturating_sub(CLOCK_TOLERANCE_SECONDS),
            not_after: today.saturating_add(CERT_LIFETIME_SECONDS + DAY_SECONDS),
            serial,
            key: &key.to_der(),
        };
        IdentityCert(contents.unsigned())
    }

    pub(super) fn unsigned(&self) -> Unsigned {
        Unsigned::rsa(self.0.clone())
    }

    pub(super) fn signed(&self, signature: &[u8]) -> Vec<u8> {
        signed(&self.0, signature)
    }
}

/// Checks a certificate of type 2; gives the identity.
///
/// Its dates are not asked for: the identity does not end with the certificate, and what it says
/// of the Ed25519 identity has an expiry of its own.
pub(super) fn check_identity_cert(cert: &[u8]) -> Result<RsaPublicKey, CertFault> {
    let cert = X509::parse(cert).map_err(|_| CertFault::Malformed)?;
    let key = RsaPublicKey::from_der(cert.key).map_err(|_| CertFault::OtherKind)?;
    let hash = Sha256::digest(cert.signed).into();
    if key.verifies(Padding::Pkcs1, &hash, cert.signature) {
        Ok(key)
    } else {
        Err(CertFault::Signature)
    }
}

/// The certificate of type 7: the Ed25519 identity (32), expiry in hours (4), and the signature
/// after its length (1). Not signed yet.
pub(super) struct CrossCert(Vec<u8>);

impl CrossCert {
    pub(super) fn new(ed25519: &Ed25519Id, unix_now: u64) -> Self {
        let mut cert = ed25519.0.to_vec();
        cert.extend_from_slice(&expiry_hours(unix_now).to_be_bytes());
        CrossCert(cert)
    }

    pub(super) fn unsigned(&self) -> Unsigned {
        Unsigned::rsa_bare([CROSS_PREFIX, &self.0].concat())
    }

    pub(super) fn signed(&self, signature: &[u8]) -> Result<Vec<u8>, IdentityError> {
        let len = u8::try_from(signature.len()).map_err(|_| IdentityError::Signature)?;
        Ok([&self.0, &[len][..], signature].concat())
    }
}

/// Checks that the certificate of type 7 binds `ed25519` to `rsa`, signed with one of `paddings`.
pub(super) fn check_cross_cert(
    cert: &[u8],
    rsa: &RsaPublicKey,
    ed25519: &Ed25519Id,
    paddings: &[Padding],
    unix_now: u64,
) -> Result<(), CertFault> {
    let cert = CrossParts::parse(cert).map_err(|_| CertFault::Malformed)?;
    let hash = Sha256::new_with_prefix(CROSS_PREFIX)
        .chain_update(cert.signed)
        .finalize()
        .into();
    let signed = |padding: &Padding| rsa.verifies(*padding, &hash, cert.signature);
    if !paddings.iter().any(signed) {
        return Err(CertFault::Signature);
    }
    if cert.key != *ed25519 {
        return Err(CertFault::OtherKey);
    }
    if expired(cert.expiry_hours, unix_now) {
        Err(CertFault::Expired)
    } else {
        Ok(())
    }
}

/// The parts of a certificate of type 7.
struct CrossParts<'a> {
    signed: &'a [u8],
    key: Ed25519Id,
    expiry_hours: u32,
    signature: &'a [u8],
}

impl<'a> CrossParts<'a> {
    fn parse(cert: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(cert);
        let signed = reader.clone().take(36)?;
        let (key, expiry_hours) = (reader.read()?, reader.read()?);
        let len: u8 = reader.read()?;
        let signature = reader.take(usize::from(len))?;
        reader.finish()?;
        Ok(CrossParts {
            signed,
            key,
            expiry_hours,
            signature,
        })
    }
}
