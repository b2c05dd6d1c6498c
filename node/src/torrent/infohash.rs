//! Infohashes: the name of all content.

use std::fmt;

use crate::ids::Key;
use sha1::{Digest, Sha1};
use sha2::Sha256;

/// The SHA-1 of an info dictionary (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfohashV1(pub [u8; 20]);

/// The SHA-256 of an info dictionary (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfohashV2(pub [u8; 32]);

/// A torrent's name, of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Infohash {
    /// SHA-1: v1 and hybrid torrents.
    V1(InfohashV1),
    /// SHA-256: v2 and hybrid torrents.
    V2(InfohashV2),
}

impl InfohashV1 {
    /// The name of this info dictionary.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha1::digest(info).into())
    }
}

impl InfohashV2 {
    /// The name of this info dictionary.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha256::digest(info).into())
    }
}

impl Infohash {
    /// Whether this is the name of that info dictionary.
    pub fn names(&self, info: &[u8]) -> bool {
        match self {
            Self::V1(hash) => *hash == InfohashV1::of(info),
            Self::V2(hash) => *hash == InfohashV2::of(info),
        }
    }

    /// Its place in Kademlia: the first 20 bytes.
    pub fn key(&self) -> Key {
        let mut key = [0; 20];
        key.iter_mut()
            .zip(self.as_bytes())
            .for_each(|(place, byte)| *place = *byte);
        Key(key)
    }

    /// The bytes of the hash: 20 or 32.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V1(hash) => &hash.0,
            Self::V2(hash) => &hash.0,
        }
    }
}

impl From<InfohashV1> for Infohash {
    fn from(hash: InfohashV1) -> Self {
        Self::V1(hash)
    }
}

impl From<InfohashV2> for Infohash {
    fn from(hash: InfohashV2) -> Self {
        Self::V2(hash)
    }
}

impl fmt::Display for Infohash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.as_bytes())
    }
}

macro_rules! hex_fmt {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}
hex_fmt!(InfohashV1, InfohashV2);

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Decodes exactly `N` bytes of hexadecimal digits, of either case.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if Some(digits.len()) != N.checked_mul(2) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = match pair {
            [high, low] => hex_digit(*high)? << 4 | hex_digit(*low)?,
            _ => return None,
        };
    }
    Some(out)
}

/// Decodes the 32 letters and digits of RFC 4648 base32 that an older magnet link has.
pub(super) fn from_base32(text: &str) -> Option<[u8; 20]> {
    if text.len() != 32 {
        return None;
    }
    let mut out = [0; 20];
    // Eight characters are five bytes.
    for (bytes, group) in out.chunks_exact_mut(5).zip(text.as_bytes().chunks_exact(8)) {
        let mut bits = 0u64;
        for character in group {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a',
                b'2'..=b'7' => character - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        for (byte, of_bits) in bytes.iter_mut().zip(bits.to_be_bytes().iter().skip(3)) {
            *byte = *of_bits;
        }
    }
    Some(out)
}

fn hex_digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}
