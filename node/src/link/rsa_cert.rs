//! What the RSA identity signs: itself (type 2, X.509) and the Ed25519 identity (type 7).

use rand_core::CryptoRng;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::CertFault;
use super::certs::{CERT_LIFETIME_SECONDS, CLOCK_TOLERANCE_SECONDS, expired, expiry_hours};
use super::der::{any, bit_string, element, expect, expect_bit_string, tag, time};
use super::identity::{Identity, IdentityError, rsa_der};
use crate::ids::{Ed25519Id, RsaId};
use crate::wire::{DecodeError, Reader};

/// What the RSA identity signs of the Ed25519 identity begins with. cert-spec, "RSA→Ed25519
/// cross-certificate".
const CROSS_PREFIX: &[u8] = b"Tor TLS RSA/Ed25519 cross-certificate";
/// `1.2.840.113549.1.1.11`.
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// `1.2.840.113549.1.1.1`.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `2.5.4.3`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// A peer's RSA identity, out of its certificate of type 2.
#[derive(Debug)]
pub(super) struct RsaIdentity {
    key: RsaPublicKey,
    /// The fingerprint.
    pub(super) id: RsaId,
    /// The SHA-256 of what the fingerprint is the SHA-1 of: how AUTHENTICATE names the key.
    pub(super) sha256: [u8; 32],
}

impl RsaIdentity {
    pub(super) fn new(key: RsaPublicKey) -> Option<Self> {
        let der = rsa_der(&key)?;
        let (id, sha256) = (
            RsaId(Sha1::digest(&der).into()),
            Sha256::digest(&der).into(),
        );
        Some(RsaIdentity { key, id, sha256 })
    }
}

/// The certificate of type 2: X.509, self-signed.
pub(super) fn make_identity_cert<R: CryptoRng>(
    identity: &Identity,
    unix_now: u64,
    rng: &mut R,
) -> Result<Vec<u8>, IdentityError> {
    let key = rsa_der(identity.rsa().as_public_key()).ok_or(IdentityError::Rsa)?;
    let null = element(tag::NULL, &[]);
    let algorithm = |oid| {
        element(
            tag::SEQUENCE,
            &[&element(tag::OBJECT_IDENTIFIER, &[oid]), &null],
        )
    };
    // Tor's own have a made-up host name; nobody reads it.
    let name = element(
        tag::SEQUENCE,
        &[&element(
            tag::SET,
            &[&element(
                tag::SEQUENCE,
                &[
                    &element(tag::OBJECT_IDENTIFIER, &[COMMON_NAME]),
                    &element(tag::UTF8_STRING, &[b"chive"]),
                ],
            )],
        )],
    );
    let mut serial = [0; 8];
    rng.fill_bytes(&mut serial);
    // A serial number is positive and has no needless zeros in front.
    serial[0] = serial[0] & 0x7f | 0x40;
    let tbs = element(
        tag::SEQUENCE,
        &[
            &element(tag::VERSION, &[&element(tag::INTEGER, &[&[2]])]),
            &element(tag::INTEGER, &[&serial]),
            &algorithm(SHA256_WITH_RSA),
            &name,
            &element(
                tag::SEQUENCE,
                &[
                    &time(unix_now.saturating_sub(CLOCK_TOLERANCE_SECONDS)),
                    &time(unix_now + CERT_LIFETIME_SECONDS),
                ],
            ),
            &name,
            &element(
                tag::SEQUENCE,
                &[&algorithm(RSA_ENCRYPTION), &bit_string(&key)],
            ),
        ],
    );
    let signature = identity
        .rsa()
        .sign_with_rng(rng, Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(&tbs))
        .map_err(|_| IdentityError::Rsa)?;
    Ok(element(
        tag::SEQUENCE,
        &[&tbs, &algorithm(SHA256_WITH_RSA), &bit_string(&signature)],
    ))
}

/// Checks a certificate of type 2.
///
/// Its dates are not asked for: the identity does not end with the certificate, and what it says
/// of the Ed25519 identity has an expiry of its own.
pub(super) fn check_identity_cert(cert: &[u8]) -> Result<RsaIdentity, CertFault> {
    let cert = X509::parse(cert).map_err(|_| CertFault::Malformed)?;
    let key = RsaPublicKey::from_pkcs1_der(cert.key).map_err(|_| CertFault::Malformed)?;
    let identity = RsaIdentity::new(key).ok_or(CertFault::OtherKind)?;
    identity
        .key
        .verify(
            Pkcs1v15Sign::new::<Sha256>(),
            &Sha256::digest(cert.signed),
            cert.signature,
        )
        .map_err(|_| CertFault::Signature)?;
    Ok(identity)
}

/// The parts of an X.509 certificate that matter. RFC 5280, "Basic Certificate Fields".
struct X509<'a> {
    /// PKCS#1.
    key: &'a [u8],
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> X509<'a> {
    fn parse(cert: &'a [u8]) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(cert);
        let mut fields = Reader::new(expect(&mut outer, tag::SEQUENCE)?);
        outer.finish()?;
        let (tbs_tag, signed, tbs_fields) = any(&mut fields)?;
        if tbs_tag != tag::SEQUENCE {
            return Err(DecodeError::Invalid("a DER tag"));
        }
        expect_algorithm(&mut fields, SHA256_WITH_RSA)?;
        let signature = expect_bit_string(&mut fields)?;
        fields.finish()?;

        let mut fields = Reader::new(tbs_fields);
        // The version may be absent, then the first field is the serial number.
        if any(&mut fields)?.0 == tag::VERSION {
            expect(&mut fields, tag::INTEGER)?;
        }
        expect_algorithm(&mut fields, SHA256_WITH_RSA)?;
        expect(&mut fields, tag::SEQUENCE)?; // the issuer
        expect(&mut fields, tag::SEQUENCE)?; // the validity
        expect(&mut fields, tag::SEQUENCE)?; // the subject
        let mut key_info = Reader::new(expect(&mut fields, tag::SEQUENCE)?);
        // Extensions may follow.
        fields.rest();
        expect_algorithm(&mut key_info, RSA_ENCRYPTION)?;
        let key = expect_bit_string(&mut key_info)?;
        key_info.finish()?;
        Ok(X509 {
            key,
            signed,
            signature,
        })
    }
}

/// An algorithm identifier, which must be this one; RSA's have no parameters (RFC 4055).
fn expect_algorithm(reader: &mut Reader<'_>, oid: &[u8]) -> Result<(), DecodeError> {
    let mut fields = Reader::new(expect(reader, tag::SEQUENCE)?);
    let found = expect(&mut fields, tag::OBJECT_IDENTIFIER)?;
    let parameters = expect(&mut fields, tag::NULL)?;
    if found != oid || !parameters.is_empty() {
        return Err(DecodeError::Invalid("an algorithm"));
    }
    fields.finish()
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
    let signature = identity
        .rsa()
        .sign_with_rng(rng, Pkcs1v15Sign::new_unprefixed(), &cross_digest(&cert))
        .map_err(|_| IdentityError::Rsa)?;
    cert.push(u8::try_from(signature.len()).map_err(|_| IdentityError::Rsa)?);
    cert.extend_from_slice(&signature);
    Ok(cert)
}

/// Checks that the certificate of type 7 binds `ed25519` to `rsa`.
pub(super) fn check_cross_cert(
    cert: &[u8],
    rsa: &RsaIdentity,
    ed25519: &Ed25519Id,
    unix_now: u64,
) -> Result<(), CertFault> {
    let cert = CrossCert::parse(cert).map_err(|_| CertFault::Malformed)?;
    rsa.key
        .verify(
            Pkcs1v15Sign::new_unprefixed(),
            &cross_digest(cert.signed),
            cert.signature,
        )
        .map_err(|_| CertFault::Signature)?;
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
