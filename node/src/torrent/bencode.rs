//! Bencode as a tree of borrowed values, within bounds.
//!
//! The grammar is the crate `bt_bencode`'s. Its own ways to skip or to capture a value recurse as
//! deep as the input says, so nothing here skips: a tree is built by a visitor that counts levels
//! and values, and only what that visitor has seen whole is given to [`raw_value`].

use std::cell::Cell;
use std::fmt;

use bt_bencode::Deserializer;
use serde::Deserializer as _;
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

/// Parses the value at the beginning of `bytes`; `whole` says that nothing may follow it.
pub(super) fn parse(bytes: &[u8], whole: bool) -> Result<Value<'_>, MetainfoError> {
    let mut input = Deserializer::from_slice(bytes);
    let values_left = Cell::new(MAX_VALUES);
    let tree = Tree {
        levels_left: MAX_NESTING,
        values_left: &values_left,
    };
    let value = tree.deserialize(&mut input).map_err(refusal)?;
    if whole {
        input.end().map_err(refusal)?;
    }
    Ok(value)
}

/// The bytes of one value of the dictionary that `bytes` begins with. Only for input that
/// [`parse`] has accepted: see the module's words.
pub(super) fn raw_value<'a>(
    bytes: &'a [u8],
    wanted: &[u8],
) -> Result<Option<&'a [u8]>, MetainfoError> {
    Deserializer::from_slice(bytes)
        .deserialize_map(RawValue { wanted })
        .map_err(refusal)
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
            entries.sort_unstable_by_key(|(key, _)| *key);
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

#[derive(Clone, Copy)]
struct Tree<'b> {
    levels_left: usize,
    values_left: &'b Cell<usize>,
}

impl Tree<'_> {
    /// The seed of the values one level further in.
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) => Ok(Self {
                levels_left,
                ..self
            }),
            None => Err(E::custom("nested too deeply")),
        }
    }

    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        match self.values_left.get().checked_sub(1) {
            Some(left) => {
                self.values_left.set(left);
                Ok(())
            }
            None => Err(E::custom("too many values")),
        }
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
            entries.push((key, map.next_value_seed(inner)?));
        }
        match Dict::new(entries) {
            Some(dict) => Ok(Value::Dict(dict)),
            None => Err(A::Error::custom("a key stands twice in a dictionary")),
        }
    }
}

struct RawValue<'k> {
    wanted: &'k [u8],
}

impl<'de> Visitor<'de> for RawValue<'_> {
    type Value = Option<&'de [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bencoded dictionary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<&'de [u8]>, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<&[u8]>()? {
            // bt_bencode gives a value that is no byte string as it stands in the input.
            let raw: &[u8] = map.next_value()?;
            if key == self.wanted {
                found = Some(raw);
            }
        }
        Ok(found)
    }
}
