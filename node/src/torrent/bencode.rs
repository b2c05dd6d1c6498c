//! Bencode as a tree of borrowed values, within bounds.
//!
//! The grammar is the crate `bt_bencode`'s, with a reader and a visitor of our own. Its reader of
//! slices adds a string's length to its place unchecked, and panics on a length near the end of
//! `usize` (0.8.2); its ways to skip and to capture a value recurse as deep as the input says.
//! Here lengths are checked, nothing is skipped, and the visitor counts levels and values.

use crate::order::ascending_by;
use std::cell::Cell;
use std::fmt;

use bt_bencode::read::{Read, Ref};
use bt_bencode::{Deserializer, Error, ErrorKind};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::{MAX_PATH_DEPTH, MetainfoError};

/// Lists and dictionaries within each other: a v2 file tree has one for each folder, and a few
/// around it.
const MAX_NESTING: usize = MAX_PATH_DEPTH + 8;

/// Values in one tree. A torrent with the most files uses some ten a file, and the tree of the
/// worst values (dictionaries of one entry each) takes less than 100 MiB while it is read.
const MAX_VALUES: usize = 1_000_000;

/// One value, borrowed from the input.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Unsigned(u64),
    /// Nothing in a torrent is negative.
    Negative,
    Bytes(&'a [u8]),
    List(Box<[Value<'a>]>),
    Dict(Dict<'a>),
}

/// A dictionary: its entries in order of their keys, no key twice.
#[derive(Debug)]
pub(super) struct Dict<'a> {
    entries: Box<[(&'a [u8], Value<'a>)]>,
    was_sorted: bool,
}

/// Parses the one value that `bytes` are.
pub(super) fn parse(bytes: &[u8]) -> Result<Value<'_>, MetainfoError> {
    let bounds = Bounds::default();
    let mut input = Deserializer::new(CheckedRead {
        bytes,
        at: &bounds.at,
    });
    let value = bounds.tree().deserialize(&mut input).map_err(refusal)?;
    input.end().map_err(refusal)?;
    Ok(value)
}

/// Parses a `.torrent` file, and captures the bytes of its info dictionary. What follows the
/// file's dictionary is no matter: some editors leave a line break.
pub(super) fn parse_torrent_file(bytes: &[u8]) -> Result<(Value<'_>, &[u8]), MetainfoError> {
    let bounds = Bounds::default();
    let mut input = Deserializer::new(CheckedRead {
        bytes,
        at: &bounds.at,
    });
    let value = bounds.tree().deserialize(&mut input).map_err(refusal)?;
    let (start, end) = bounds.info.get().ok_or(MetainfoError::Field("info"))?;
    let info = bytes.get(start..end).ok_or(MetainfoError::Field("info"))?;
    Ok((value, info))
}

impl<'a> Value<'a> {
    pub(super) fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn as_unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }

    pub(super) fn as_dict(&self) -> Option<&Dict<'a>> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }
}

impl<'a> Dict<'a> {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Value<'a>> {
        let at = self
            .entries
            .binary_search_by(|(name, _)| (*name).cmp(key))
            .ok()?;
        self.entries.get(at).map(|(_, value)| value)
    }

    pub(super) fn entries(&self) -> &[(&'a [u8], Value<'a>)] {
        &self.entries
    }

    /// Whether the input had the keys in order, as the specification has it. Not all that made
    /// torrents knew; where the order decides nothing, it is not asked for.
    pub(super) fn was_sorted(&self) -> bool {
        self.was_sorted
    }

    fn new(mut entries: Vec<(&'a [u8], Value<'a>)>) -> Option<Self> {
        let ascends = |entries: &[(&[u8], _)]| entries.is_sorted_by(|(a, _), (b, _)| a < b);
        let was_sorted = ascends(&entries);
        if !was_sorted {
            entries = ascending_by(entries, |(key, _)| *key);
            if !ascends(&entries) {
                return None;
            }
        }
        Some(Self {
            entries: entries.into(),
            was_sorted,
        })
    }
}

fn refusal(error: bt_bencode::Error) -> MetainfoError {
    MetainfoError::Bencode(error.to_string())
}

/// Where the input is being read, and how much more of it there may be.
struct Bounds {
    at: Cell<usize>,
    values_left: Cell<usize>,
    /// From where to where the value of `info` in the outermost dictionary goes.
    info: Cell<Option<(usize, usize)>>,
}

impl Default for Bounds {
    fn default() -> Self {
        let values_left = Cell::new(MAX_VALUES);
        Self {
            at: Cell::new(0),
            values_left,
            info: Cell::new(None),
        }
    }
}

impl Bounds {
    fn tree(&self) -> Tree<'_> {
        Tree {
            level: 0,
            bounds: self,
        }
    }
}

/// The seed and the visitor of one value.
#[derive(Clone, Copy)]
struct Tree<'b> {
    /// In how many lists and dictionaries it stands.
    level: usize,
    bounds: &'b Bounds,
}

impl Tree<'_> {
    /// The seed of the values one level further in.
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.level >= MAX_NESTING {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self {
            level: self.level + 1,
            ..self
        })
    }

    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.bounds.values_left.get().checked_sub(1);
        self.bounds
            .values_left
            .set(left.ok_or_else(|| E::custom("too many values"))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, input: D) -> Result<Value<'de>, D::Error> {
        self.count()?;
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bencoded value")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Unsigned(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(u64::try_from(number).map_or(Value::Negative, Value::Unsigned))
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Value<'de>, E> {
        Ok(Value::Bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::List(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let inner = self.inner()?;
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<&[u8]>()? {
            let start = self.bounds.at.get();
            let value = map.next_value_seed(inner)?;
            if self.level == 0 && key == b"info" {
                self.bounds.info.set(Some((start, self.bounds.at.get())));
            }
            entries.push((key, value));
        }
        match Dict::new(entries) {
            Some(dict) => Ok(Value::Dict(dict)),
            None => Err(A::Error::custom("a key stands twice in a dictionary")),
        }
    }
}

/// Reads a slice, and never beyond it. Its place is shared with who asks for spans.
struct CheckedRead<'a, 'b> {
    bytes: &'a [u8],
    at: &'b Cell<usize>,
}

impl CheckedRead<'_, '_> {
    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.at.get())
    }

    /// Nothing here asks for a value as it stands in the input.
    fn not_asked_for<T>(&self) -> Result<T, Error> {
        Err(self.error(ErrorKind::UnsupportedType))
    }
}

impl<'a> Read<'a> for CheckedRead<'a, '_> {
    fn next(&mut self) -> Option<Result<u8, Error>> {
        let byte = self.bytes.get(self.at.get())?;
        self.at.set(self.at.get().saturating_add(1));
        Some(Ok(*byte))
    }

    fn peek(&mut self) -> Option<Result<u8, Error>> {
        self.bytes.get(self.at.get()).map(|byte| Ok(*byte))
    }

    fn byte_offset(&self) -> usize {
        self.at.get()
    }

    fn parse_byte_str<'c>(&'c mut self, _: &'c mut Vec<u8>) -> Result<Ref<'a, 'c, [u8]>, Error> {
        let mut length = 0usize;
        loop {
            let byte = self
                .next()
                .ok_or_else(|| self.error(ErrorKind::EofWhileParsingValue))??;
            let digit = match byte {
                b':' => break,
                b'0'..=b'9' => usize::from(byte - b'0'),
                _ => return Err(self.error(ErrorKind::InvalidByteStrLen)),
            };
            let next = length
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(digit));
            length = next.ok_or_else(|| self.error(ErrorKind::InvalidByteStrLen))?;
        }
        let start = self.at.get();
        let end = start.checked_add(length);
        let string = end.and_then(|end| self.bytes.get(start..end));
        let string = string.ok_or_else(|| self.error(ErrorKind::EofWhileParsingValue))?;
        self.at.set(start.saturating_add(length));
        Ok(Ref::Source(string))
    }

    fn parse_raw_integer<'c>(&'c mut self, _: &'c mut Vec<u8>) -> Result<Ref<'a, 'c, [u8]>, Error> {
        self.not_asked_for()
    }

    fn parse_raw_byte_str<'c>(&mut self, _: &'c mut Vec<u8>) -> Result<Ref<'a, 'c, [u8]>, Error> {
        self.not_asked_for()
    }

    fn parse_raw_list<'c>(&'c mut self, _: &'c mut Vec<u8>) -> Result<Ref<'a, 'c, [u8]>, Error> {
        self.not_asked_for()
    }

    fn parse_raw_dict<'c>(&'c mut self, _: &'c mut Vec<u8>) -> Result<Ref<'a, 'c, [u8]>, Error> {
        self.not_asked_for()
    }
}
