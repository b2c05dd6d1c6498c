//! What every codec must do: read and write its annotated golden sample, say its length, and
//! meet changed and cut bytes without panic.

mod cells;
mod messages;

use super::{Decode, Encode, Reader, Writer};

/// Bytes from hexadecimal, in groups as a reader likes them.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    assert_eq!(digits.len() % 2, 0, "half a byte in {text}");
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

/// Numbers that look random and are the same each time (SplitMix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// `bytes` with some bits flipped, some bytes replaced, perhaps cut, perhaps longer.
    pub(crate) fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.below(4) {
            if !bytes.is_empty() {
                let at = self.below(bytes.len());
                bytes[at] = if self.below(2) == 0 {
                    bytes[at] ^ 1 << self.below(8)
                } else {
                    [0, 1, 4, 6, 0x7f, 0x80, 0xff][self.below(7)]
                };
            }
        }
        match self.below(4) {
            0 => bytes.truncate(self.below(bytes.len() + 1)),
            1 => bytes.extend((0..self.below(9)).map(|at| at as u8)),
            _ => {}
        }
        bytes
    }
}

/// The full kit for a codec; `tolerant` of bytes that follow, as Tor's specification wants some.
fn kit<T>(golden: &str, value: &T, tolerant: bool)
where
    T: Encode + for<'a> Decode<'a> + PartialEq + std::fmt::Debug,
{
    kit_with(golden, value, tolerant, |bytes| T::from_bytes(bytes))
}

fn kit_with<T, E>(golden: &str, value: &T, tolerant: bool, decode: impl Fn(&[u8]) -> Result<T, E>)
where
    T: Encode + PartialEq + std::fmt::Debug,
    E: std::fmt::Debug,
{
    let golden = hex(golden);
    assert_eq!(value.encoded().unwrap(), golden, "{value:?}");
    assert_eq!(decode(&golden).unwrap(), *value);
    assert_eq!(value.encoded_len(), golden.len());
    let mut short = vec![0; golden.len().saturating_sub(1)];
    assert!(value.encode(&mut Writer::new(&mut short)).is_err() || golden.is_empty());
    let mut longer = golden.clone();
    longer.push(0);
    assert!(tolerant || decode(&longer).is_err(), "{value:?}");

    for len in 0..golden.len() {
        reread(&golden[..len], &decode);
    }
    for bit in 0..golden.len() * 8 {
        let mut changed = golden.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        reread(&changed, &decode);
    }
    let mut numbers = Numbers(golden.len() as u64);
    for _ in 0..5_000 {
        let changed = numbers.spoil(&golden);
        reread(&changed, &decode);
    }
}

/// Whatever can be read can be written in as many bytes as it says, and reads as the same again.
fn reread<T, E>(bytes: &[u8], decode: &impl Fn(&[u8]) -> Result<T, E>)
where
    T: Encode + PartialEq + std::fmt::Debug,
    E: std::fmt::Debug,
{
    if let Ok(value) = decode(bytes) {
        let again = value.encoded().unwrap();
        assert_eq!(again.len(), value.encoded_len());
        assert_eq!(decode(&again).unwrap(), value, "{bytes:02x?}");
    }
}

#[test]
fn a_reader_gives_all_and_no_more() {
    let mut reader = Reader::new(b"ab\0cd");
    assert_eq!(reader.until_nul(), Ok(&b"ab"[..]));
    assert_eq!(reader.take(3), Err(super::DecodeError::Truncated));
    assert_eq!((reader.remaining(), reader.until_nul().is_err()), (2, true));
    assert_eq!(reader.finish(), Err(super::DecodeError::Trailing(2)));
    assert_eq!((reader.rest(), reader.finish()), (&b"cd"[..], Ok(())));
}
