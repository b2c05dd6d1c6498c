//! What the RSA identity signs: itself (type 2, X.509) and the Ed25519 identity (type 7).

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};

use super::CertFault;
use super::certs::{CERT_LIFETIME_SECONDS, CLOCK_TOLERANCE_SECONDS, expired, expiry_hours};
use super::identity::{Identity, IdentityError};
use super::rsa_public::{Padding, RsaPublicKey};
use super::x509::{Contents, X509};
use crate::ids::Ed25519Id;
use crate::wire::{DecodeError, Reader};

/// What the RSA identity signs of the Ed25519 identity begins with. cert-spec, "RSA→Ed25519
/// cross-certificate".
const CROSS_PREFIX: &[u8] = b"Tor TLS RSA/Ed25519 cross-certificate";

/// The certificate of type 2: X.509, self-signed.
pub(super) fn make_identity_cert<R: CryptoRng>(
    identity: &Identity,
    unix_now: u64,
    rng: &mut R,
) -> Result<Vec<u8>, IdentityError> {
    let mut serial = [0; 8];
    rng.fill_bytes(&mut serial);
    Contents {
        // Tor's own have a made-up host name; nobody reads it.
        common_name: "www.example.net",
        not_before: unix_now.saturating_sub(CLOCK_TOLERANCE_SECONDS),
        not_after: unix_now.saturating_add(CERT_LIFETIME_SECONDS),
        serial,
        key: &identity.rsa().to_der(),
    }
    .sign(|hash| identity.sign_rsa(Padding::Pkcs1, hash, rng))
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
/// after its length (1).
pub(super) fn make_cross_cert<R: CryptoRng>(
    identity: &Identity,
    unix_now: u64,
    rng: &mut R,
) -> Result<Vec<u8>, IdentityError> {
    let mut cert = identity.ids().ed25519.0.to_vec();
    cert.extend_from_slice(&expiry_hours(unix_now).to_be_bytes());
    let signature = identity.sign_rsa(Padding::Bare, &cross_digest(&cert), rng)?;
    cert.push(u8::try_from(signature.len()).map_err(|_| IdentityError::Rsa)?);
    cert.extend_from_slice(&signature);
    Ok(cert)
}

/// Checks that the certificate of type 7 binds `ed25519` to `rsa`.
pub(super) fn check_cross_cert(
    cert: &[u8],
    rsa: &RsaPublicKey,
    ed25519: &Ed25519Id,
    unix_now: u64,
) -> Result<(), CertFault> {
    let cert = CrossCert::parse(cert).map_err(|_| CertFault::Malformed)?;
    if !rsa.verifies(Padding::Bare, &cross_digest(cert.signed), cert.signature) {
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
struct CrossCert<'a> {
    signed: &'a [u8],
    key: Ed25519Id,
    expiry_hours: u32,
    signature: &'a [u8],
}

impl<'a> CrossCert<'a> {
    fn parse(cert: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(cert);
        let signed = reader.clone().take(36)?;
        let (key, expiry_hours) = (reader.read()?, reader.read()?);
        let len: u8 = reader.read()?;
        let signature = reader.take(usize::from(len))?;
        reader.finish()?;
        Ok(CrossCert {
            signed,
            key,
            expiry_hours,
            signature,
        })
    }
}

fn cross_digest(signed: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(CROSS_PREFIX)
        .chain_update(signed)
        .finalize()
        .into()
}
