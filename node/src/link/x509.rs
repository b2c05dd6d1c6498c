//! X.509 certificates with RSA keys, signed by themselves: RFC 5280, as little as Tor needs.

use sha2::{Digest, Sha256};

use super::IdentityError;
use super::der::{any, bit_string, element, expect, expect_bit_string, tag, time};
use crate::wire::{DecodeError, Reader};

/// `1.2.840.113549.1.1.11`.
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// `1.2.840.113549.1.1.1`.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `2.5.4.3`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What a certificate says.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    /// Whose it is, and who signs it.
    pub(super) common_name: &'a str,
    /// From when on it is good, Unix seconds.
    pub(super) not_before: u64,
    /// Until when.
    pub(super) not_after: u64,
    /// Random.
    pub(super) serial: [u8; 8],
    /// The key, PKCS#1 DER.
    pub(super) key: &'a [u8],
}

impl Contents<'_> {
    /// Makes the certificate; `sign` signs its SHA-256 with the key's other half.
    pub(super) fn sign(
        &self,
        sign: impl FnOnce(&[u8; 32]) -> Result<Vec<u8>, IdentityError>,
    ) -> Result<Vec<u8>, IdentityError> {
        let unsigned = self.unsigned();
        let signature = sign(&Sha256::digest(&unsigned).into())?;
        Ok(signed(&unsigned, &signature))
    }

    /// What is to be signed.
    pub(super) fn unsigned(&self) -> Vec<u8> {
        let null = element(tag::NULL, &[]);
        let name = element(tag::UTF8_STRING, &[self.common_name.as_bytes()]);
        let name = element(
            tag::SEQUENCE,
            &[&element(tag::OBJECT_IDENTIFIER, &[COMMON_NAME]), &name],
        );
        let name = element(tag::SEQUENCE, &[&element(tag::SET, &[&name])]);
        let [first, rest @ ..] = self.serial;
        // A serial number is positive and has no needless zeros in front.
        let first = first & 0x7f | 0x40;
        let rsa = element(tag::OBJECT_IDENTIFIER, &[RSA_ENCRYPTION]);
        element(
            tag::SEQUENCE,
            &[
                &element(tag::VERSION, &[&element(tag::INTEGER, &[&[2]])]),
                &element(tag::INTEGER, &[&[first], &rest]),
                &sha256_with_rsa(),
                &name,
                &element(
                    tag::SEQUENCE,
                    &[&time(self.not_before), &time(self.not_after)],
                ),
                &name,
                &element(
                    tag::SEQUENCE,
                    &[
                        &element(tag::SEQUENCE, &[&rsa, &null]),
                        &bit_string(self.key),
                    ],
                ),
            ],
        )
    }
}

/// The certificate, of [`Contents::unsigned`] and the signature over it.
pub(super) fn signed(unsigned: &[u8], signature: &[u8]) -> Vec<u8> {
    element(
        tag::SEQUENCE,
        &[unsigned, &sha256_with_rsa(), &bit_string(signature)],
    )
}

fn sha256_with_rsa() -> Vec<u8> {
    let name = element(tag::OBJECT_IDENTIFIER, &[SHA256_WITH_RSA]);
    element(tag::SEQUENCE, &[&name, &element(tag::NULL, &[])])
}

/// The parts of a certificate that matter here.
#[derive(Debug)]
pub(super) struct X509<'a> {
    /// PKCS#1 DER.
    pub(super) key: &'a [u8],
    pub(super) signed: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl<'a> X509<'a> {
    /// Reads a certificate that is signed with RSA and SHA-256 and has an RSA key. What else it
    /// says is passed over.
    pub(super) fn parse(cert: &'a [u8]) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(cert);
        let mut fields = Reader::new(expect(&mut outer, tag::SEQUENCE)?);
        outer.finish()?;
        let (signed_tag, signed, signed_fields) = any(&mut fields)?;
        if signed_tag != tag::SEQUENCE {
            return Err(DecodeError::Invalid("a DER tag"));
        }
        expect_algorithm(&mut fields, SHA256_WITH_RSA)?;
        let signature = expect_bit_string(&mut fields)?;
        fields.finish()?;

        let mut fields = Reader::new(signed_fields);
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
