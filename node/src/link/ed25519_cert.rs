//! Tor's own certificate format, signed with Ed25519: types 4, 5 and 6.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq;

use super::CertFault;
use super::validity::{expired, expiry_hours};
use crate::ids::Ed25519Id;
use crate::memo;
use crate::wire::{CertType, DecodeError, Reader};

/// The only version there is.
const VERSION: u8 = 1;
/// What is certified is an Ed25519 key.
const KEY_ED25519: u8 = 1;
/// What is certified is the SHA-256 of an X.509 certificate, be it TLS's or DTLS's.
const KEY_X509_SHA256: u8 = 3;
/// An extension: the Ed25519 key that signs.
const EXTENSION_SIGNED_WITH: u8 = 4;
/// A flag of extensions: who does not understand this one must not accept the certificate.
const AFFECTS_VALIDATION: u8 = 1;
/// Length of the signature at the end.
const SIGNATURE_LEN: usize = 64;

/// Makes a certificate that `signer` signs.
pub(super) fn make(
    kind: CertType,
    certified: &[u8; 32],
    signer: &SigningKey,
    unix_now: u64,
) -> Vec<u8> {
    let by = Ed25519Id(signer.verifying_key().to_bytes());
    let mut cert = unsigned(kind, certified, &by, unix_now);
    let signature = signer.sign(&cert);
    cert.extend_from_slice(&signature.to_bytes());
    cert
}

/// What is to be signed by `signer`; the signature follows it. cert-spec, "Ed25519 certificates":
/// version (1), type (1), expiry in hours (4), key type (1), key (32), number of extensions (1),
/// extensions (length 2, type 1, flags 1, data), signature (64).
pub(super) fn unsigned(
    kind: CertType,
    certified: &[u8; 32],
    signer: &Ed25519Id,
    unix_now: u64,
) -> Vec<u8> {
    let mut cert = vec![VERSION, kind.0];
    cert.extend_from_slice(&expiry_hours(unix_now).to_be_bytes());
    cert.push(key_type(kind));
    cert.extend_from_slice(certified);
    if kind == CertType::ED25519_SIGNING {
        // Only here is it news who signs.
        cert.extend_from_slice(&[1, 0, 32, EXTENSION_SIGNED_WITH, 0]);
        cert.extend_from_slice(&signer.0);
    } else {
        cert.push(0);
    }
    cert
}

/// What is certified by the certificates of each type.
const fn key_type(kind: CertType) -> u8 {
    match kind {
        CertType::ED25519_TLS_LINK => KEY_X509_SHA256,
        _ => KEY_ED25519,
    }
}

/// A certificate that has been read and not checked.
#[derive(Debug)]
pub(super) struct Ed25519Cert<'a> {
    kind: CertType,
    expiry: u32,
    key_type: u8,
    certified: [u8; 32],
    signed_with: Option<Ed25519Id>,
    signed: &'a [u8],
    signature: [u8; SIGNATURE_LEN],
}

impl<'a> Ed25519Cert<'a> {
    /// Reads a certificate.
    pub(super) fn parse(cert: &'a [u8]) -> Result<Self, CertFault> {
        Self::parse_parts(cert).map_err(|_| CertFault::Malformed)
    }

    fn parse_parts(cert: &'a [u8]) -> Result<Self, DecodeError> {
        let mut whole = Reader::new(cert);
        let signed_len = whole
            .remaining()
            .checked_sub(SIGNATURE_LEN)
            .ok_or(DecodeError::Truncated)?;
        let signed = whole.take(signed_len)?;
        let signature = whole.array()?;
        let mut reader = Reader::new(signed);
        if reader.read::<u8>()? != VERSION {
            return Err(DecodeError::Invalid("a certificate's version"));
        }
        let (kind, expiry) = (reader.read()?, reader.read()?);
        let (key_type, certified) = (reader.read()?, reader.read()?);
        let mut signed_with = None;
        for _ in 0..reader.read::<u8>()? {
            let len: u16 = reader.read()?;
            let [extension, flags] = reader.array()?;
            let mut data = Reader::new(reader.take(usize::from(len))?);
            if extension == EXTENSION_SIGNED_WITH {
                signed_with = Some(data.read()?);
                data.finish()?;
            } else if flags & AFFECTS_VALIDATION != 0 {
                return Err(DecodeError::Invalid("a certificate's extension"));
            }
        }
        reader.finish()?;
        Ok(Ed25519Cert {
            kind,
            expiry,
            key_type,
            certified,
            signed_with,
            signed,
            signature,
        })
    }

    /// Who says that it has signed.
    pub(super) const fn signed_with(&self) -> Option<Ed25519Id> {
        self.signed_with
    }

    /// Checks that this is of type `kind` and signed by `signer`; gives what it certifies.
    pub(super) fn check(
        &self,
        kind: CertType,
        signer: &Ed25519Id,
        unix_now: u64,
    ) -> Result<[u8; 32], CertFault> {
        if self.kind != kind || self.key_type != key_type(kind) {
            return Err(CertFault::OtherKind);
        }
        if self.signed_with.is_some_and(|named| named != *signer) {
            return Err(CertFault::OtherKey);
        }
        let is_signed = memo::holds(&[&signer.0, &self.signature, self.signed], || {
            VerifyingKey::from_bytes(&signer.0)
                .and_then(|key| {
                    key.verify_strict(self.signed, &Signature::from_bytes(&self.signature))
                })
                .is_ok()
        });
        if !is_signed {
            return Err(CertFault::Signature);
        }
        if expired(self.expiry, unix_now) {
            Err(CertFault::Expired)
        } else {
            Ok(self.certified)
        }
    }
}

/// Whether two hashes or keys are the same, in a time that does not tell where they differ.
pub(super) fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.ct_eq(other).into()
}
