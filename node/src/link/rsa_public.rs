//! RSA identity keys, public half, checked with a little arithmetic of our own.
//!
//! All keys that may come have one shape: 1024 bits and the exponent 65537. A library for any key
//! would be a twentieth of the page's module; nothing here is secret, so nothing need be done in
//! constant time.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::ids::RsaId;
use crate::memo;
use crate::wire::{Decode, DecodeError, Reader};

/// Bytes of the modulus, and of signatures.
pub(super) const RSA_LEN: usize = 128;
/// Length of a key as PKCS#1 DER.
const DER_LEN: usize = DER_BEFORE.len() + RSA_LEN + DER_AFTER.len();
/// A sequence of an integer of 129 bytes, whose first is zero so that it is positive …
const DER_BEFORE: [u8; 7] = [0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0];
/// … and of the integer 65537.
const DER_AFTER: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
/// What stands before such a key in a SubjectPublicKeyInfo (RFC 5280, RFC 8017): a sequence of the
/// algorithm rsaEncryption and of a bit string that holds the key.
const SPKI_BEFORE: [u8; 22] = [
    0x30, 0x81, 0x9f, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    0x05, 0x00, 0x03, 0x81, 0x8d, 0x00,
];
/// What PKCS#1 v1.5 puts before a SHA-256 (RFC 8017, 9.2).
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// How a SHA-256 stands in a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// As PKCS#1 v1.5 has it.
    Pkcs1,
    /// Without saying that it is a SHA-256: Tor's cross-certificates.
    Bare,
}

/// An RSA identity key of Tor's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RsaPublicKey {
    modulus: Digits,
}

impl RsaPublicKey {
    /// Reads PKCS#1 DER; another kind of key is an error.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(der);
        let before = reader.read::<[u8; DER_BEFORE.len()]>()?;
        let modulus = reader.read::<[u8; RSA_LEN]>()?;
        let after = <[u8; DER_AFTER.len()]>::from_bytes(reader.rest())?;
        // The first bit, or the modulus is shorter; the last bit, or it is even.
        let [first, .., last] = modulus;
        let proper = first & 0x80 != 0 && last & 1 != 0;
        if before != DER_BEFORE || after != DER_AFTER || !proper {
            return Err(DecodeError::Invalid("an RSA key"));
        }
        Ok(RsaPublicKey {
            modulus: digits(&modulus),
        })
    }

    /// Reads a SubjectPublicKeyInfo, DER; another kind of key is an error.
    pub(super) fn from_spki(spki: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(spki);
        if reader.read::<[u8; SPKI_BEFORE.len()]>()? != SPKI_BEFORE {
            return Err(DecodeError::Invalid("an RSA key"));
        }
        Self::from_der(reader.rest())
    }

    /// The key as PKCS#1 DER.
    pub(super) fn to_der(&self) -> Vec<u8> {
        let modulus = bytes(&self.modulus);
        let parts: [&[u8]; 3] = [&DER_BEFORE, &modulus, &DER_AFTER];
        let der = parts.concat();
        debug_assert_eq!(der.len(), DER_LEN);
        der
    }

    /// The fingerprint.
    pub(super) fn id(&self) -> RsaId {
        RsaId(Sha1::digest(self.to_der()).into())
    }

    /// How AUTHENTICATE names the key.
    pub(super) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.to_der()).into()
    }

    /// Whether `signature` is this key's of the SHA-256 `hash`.
    pub(super) fn verifies(&self, padding: Padding, hash: &[u8; 32], signature: &[u8]) -> bool {
        let Ok(signature) = <[u8; RSA_LEN]>::from_bytes(signature) else {
            return false;
        };
        let padded = padded(padding, hash);
        memo::holds(&[&bytes(&self.modulus), &signature, &padded], || {
            let signature = digits(&signature);
            is_less(&signature, &self.modulus) && bytes(&self.to_the_65537th(&signature)) == padded
        })
    }

    /// `base` to the 65537th power, modulo the modulus, by Montgomery's method.
    fn to_the_65537th(&self, base: &Digits) -> Digits {
        let field = Field::new(&self.modulus);
        let base = field.enter(base);
        let mut power = base;
        for _ in 0..16 {
            power = field.multiply(&power, &power);
        }
        field.leave(&field.multiply(&power, &base))
    }
}

/// What is signed: 0, 1, as many 255 as fit, 0, and the hash.
pub(super) fn padded(padding: Padding, hash: &[u8; 32]) -> [u8; RSA_LEN] {
    let info: &[u8] = match padding {
        Padding::Pkcs1 => &SHA256_INFO,
        Padding::Bare => &[],
    };
    let mut message = [0xff; RSA_LEN];
    let end = [&[0], info, hash].concat();
    message
        .iter_mut()
        .zip([0, 1])
        .for_each(|(to, from)| *to = from);
    message
        .iter_mut()
        .rev()
        .zip(end.iter().rev())
        .for_each(|(to, from)| *to = *from);
    message
}

/// A number of 1024 bits, the least significant digit first.
type Digits = [u32; DIGITS];
const DIGITS: usize = RSA_LEN / 4;

fn digits(bytes: &[u8; RSA_LEN]) -> Digits {
    let mut digits = [0; DIGITS];
    for (digit, four) in digits.iter_mut().zip(bytes.as_chunks().0.iter().rev()) {
        *digit = u32::from_be_bytes(*four);
    }
    digits
}

fn bytes(digits: &Digits) -> [u8; RSA_LEN] {
    let mut bytes = [0; RSA_LEN];
    for (four, digit) in bytes.as_chunks_mut().0.iter_mut().zip(digits.iter().rev()) {
        *four = digit.to_be_bytes();
    }
    bytes
}

fn is_less(one: &Digits, other: &Digits) -> bool {
    one.iter().rev().lt(other.iter().rev())
}

/// Subtracts and forgets a borrow from beyond the last digit.
fn subtract(from: &mut Digits, other: &Digits) {
    let mut borrow = false;
    for (digit, other) in from.iter_mut().zip(other) {
        let (difference, one) = digit.overflowing_sub(*other);
        let (difference, two) = difference.overflowing_sub(u32::from(borrow));
        (*digit, borrow) = (difference, one || two);
    }
}

/// Numbers modulo an odd modulus of 1024 bits, times R = 2^1024 (Montgomery's form).
struct Field<'a> {
    modulus: &'a Digits,
    /// -1 / modulus, modulo 2^32.
    negative_inverse: u32,
    /// R², which brings a number into the form.
    square: Digits,
}

impl<'a> Field<'a> {
    fn new(modulus: &'a Digits) -> Self {
        let [lowest, ..] = *modulus;
        // Newton: each round doubles how many bits are right, and of an odd number three are.
        let mut inverse = lowest;
        for _ in 0..4 {
            inverse = inverse.wrapping_mul(2u32.wrapping_sub(lowest.wrapping_mul(inverse)));
        }
        // R less the modulus is R modulo the modulus, whose first bit is set; doubled 1024 times.
        let mut square = [0; DIGITS];
        subtract(&mut square, modulus);
        for _ in 0..RSA_LEN * 8 {
            let mut carry = 0;
            for digit in &mut square {
                (*digit, carry) = (*digit << 1 | carry, *digit >> 31);
            }
            if carry != 0 || !is_less(&square, modulus) {
                subtract(&mut square, modulus);
            }
        }
        Field {
            modulus,
            negative_inverse: inverse.wrapping_neg(),
            square,
        }
    }

    fn enter(&self, number: &Digits) -> Digits {
        self.multiply(number, &self.square)
    }

    fn leave(&self, number: &Digits) -> Digits {
        let mut one = [0; DIGITS];
        one.iter_mut().take(1).for_each(|digit| *digit = 1);
        self.multiply(number, &one)
    }

    /// `one` × `other` / R.
    fn multiply(&self, one: &Digits, other: &Digits) -> Digits {
        let (mut low, mut high) = ([0; DIGITS], 0u64);
        for factor in other {
            high += add_product(&mut low, one, *factor);
            let [lowest, ..] = low;
            // So that the lowest digit becomes zero and can be dropped.
            let factor = lowest.wrapping_mul(self.negative_inverse);
            high += add_product(&mut low, self.modulus, factor);
            low.rotate_left(1);
            let [.., last] = &mut low;
            *last = high as u32;
            high >>= 32;
        }
        if high != 0 || !is_less(&low, self.modulus) {
            subtract(&mut low, self.modulus);
        }
        low
    }
}

/// Adds `number` × `factor`; gives what goes beyond the last digit.
fn add_product(to: &mut Digits, number: &Digits, factor: u32) -> u64 {
    let mut carry = 0;
    for (digit, other) in to.iter_mut().zip(number) {
        // At most 2^64 - 1: (2^32 - 1)² and twice 2^32 - 1.
        let sum = u64::from(*digit) + u64::from(*other) * u64::from(factor) + carry;
        (*digit, carry) = (sum as u32, sum >> 32);
    }
    carry
}
