//! The reader, the writer, and what derives both directions of a message from one line.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::ids::{Ed25519Id, Key, OnionKey, RsaId, StreamId};

/// What is wrong with bytes that a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the message does.
    #[error("the message ends too early")]
    Truncated,
    /// The message ends before the bytes do.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// A length, a count or a number is not within its bounds.
    #[error("{0} is out of bounds")]
    OutOfBounds(&'static str),
    /// A field has a value that it cannot have.
    #[error("{0} has an impossible value")]
    Invalid(&'static str),
    /// A cell that may not come now, or not in this shape.
    #[error("a cell of command {0} may not come here")]
    UnexpectedCell(u8),
}

/// Why a message of ours cannot be written: the caller's fault, never a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message does not fit where it is to go.
    #[error("the message does not fit")]
    NoRoom,
    /// A length, a count or a number is not within its bounds.
    #[error("{0} is out of bounds")]
    OutOfBounds(&'static str),
}

/// Reads a message from front to back; the only code that takes slices of network bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// How many bytes are yet unread.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether all bytes are read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next value of type `T`.
    pub fn read<T: Decode<'a>>(&mut self) -> Result<T, DecodeError> {
        T::decode(self)
    }

    /// All bytes that are yet unread.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Everything up to the next zero byte, which is read too.
    pub fn until_nul(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.rest.iter().position(|byte| *byte == 0);
        let taken = self.take(len.ok_or(DecodeError::Truncated)?)?;
        self.take(1)?;
        Ok(taken)
    }

    /// Ends the reading: an error if bytes are left.
    pub const fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.rest.len()))
        }
    }
}

/// Writes a message from front to back into a slice, and never past its end.
#[derive(Debug)]
pub struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    /// A writer over all of `bytes`.
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Writer { rest: bytes }
    }

    /// How many bytes may yet be written.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Appends `bytes`.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let rest = std::mem::take(&mut self.rest);
        let (to, rest) = rest
            .split_at_mut_checked(bytes.len())
            .ok_or(EncodeError::NoRoom)?;
        to.copy_from_slice(bytes);
        self.rest = rest;
        Ok(())
    }

    /// Appends `value`.
    pub fn write<T: Encode + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.encode(self)
    }

    /// Fills what is left with zeros.
    pub fn pad(self) {
        self.rest.fill(0);
    }
}

/// What can be written to the wire.
pub trait Encode {
    /// Exactly how many bytes [`Encode::encode`] writes.
    fn encoded_len(&self) -> usize;

    /// Writes this value; after an error what was written is of no use.
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError>;

    /// This value as bytes of its own.
    fn encoded(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = vec![0; self.encoded_len()];
        self.encode(&mut Writer::new(&mut bytes))?;
        Ok(bytes)
    }
}

/// What can be read from the wire.
pub trait Decode<'a>: Sized {
    /// Reads a value and leaves what follows it unread.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Reads a value that takes up all of `bytes`.
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Encode for $type {
            fn encoded_len(&self) -> usize {
                size_of::<$type>()
            }
            fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
                writer.put(&self.to_be_bytes())
            }
        }
        impl<'a> Decode<'a> for $type {
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                reader.array().map(<$type>::from_be_bytes)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64);

impl<const N: usize> Encode for [u8; N] {
    fn encoded_len(&self) -> usize {
        N
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.put(self)
    }
}
impl<'a, const N: usize> Decode<'a> for [u8; N] {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.array()
    }
}

/// Derives both directions for types that are a wrapper around one encodable value.
macro_rules! newtypes {
    ($($name:ident => $make:expr, $get:expr, $inner:ty);* $(;)?) => {$(
        impl $crate::wire::Encode for $name {
            fn encoded_len(&self) -> usize {
                size_of::<$inner>()
            }
            fn encode(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
            ) -> Result<(), $crate::wire::EncodeError> {
                #[allow(clippy::redundant_closure_call, reason = "the closure is the argument")]
                writer.write::<$inner>(&($get)(self))
            }
        }
        impl<'a> $crate::wire::Decode<'a> for $name {
            fn decode(
                reader: &mut $crate::wire::Reader<'a>,
            ) -> Result<Self, $crate::wire::DecodeError> {
                reader.read::<$inner>().map($make)
            }
        }
    )*};
}
pub(super) use newtypes;

newtypes! {
    RsaId => RsaId, |id: &RsaId| id.0, [u8; 20];
    Key => Key, |key: &Key| key.0, [u8; 20];
    Ed25519Id => Ed25519Id, |id: &Ed25519Id| id.0, [u8; 32];
    OnionKey => OnionKey, |key: &OnionKey| key.0, [u8; 32];
    StreamId => StreamId, |id: &StreamId| id.0, u16;
    Ipv4Addr => Ipv4Addr::from_octets, |ip: &Ipv4Addr| ip.octets(), [u8; 4];
    Ipv6Addr => Ipv6Addr::from_octets, |ip: &Ipv6Addr| ip.octets(), [u8; 16];
}

/// A number of the wire as a type of its own: the known ones have names, unknown ones stay
/// representable.
macro_rules! numbers {
    ($(#[$meta:meta])* $name:ident($inner:ty) {
        $($(#[$value_meta:meta])* $value_name:ident = $value:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            $($(#[$value_meta])* pub const $value_name: $name = $name($value);)*

            /// All that have a name.
            pub const KNOWN: &'static [$name] = &[$($name($value)),*];

            /// The specification's name, if it has one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($value_name)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        $crate::wire::codec::newtypes! { $name => $name, |number: &$name| number.0, $inner; }
    };
}
pub(super) use numbers;

/// How one field of a message is written, where its type alone does not say: a bound is stated
/// once, in the codec's parameter, and holds in both directions.
pub(super) trait Field<T: ?Sized> {
    fn len(value: &T) -> usize;
    fn put(value: &T, writer: &mut Writer<'_>) -> Result<(), EncodeError>;
    fn take(reader: &mut Reader<'_>) -> Result<T, DecodeError>
    where
        T: Sized;
}

/// A field whose type has one form only.
pub(super) struct Plain;

impl<T: Encode + for<'a> Decode<'a>> Field<T> for Plain {
    fn len(value: &T) -> usize {
        value.encoded_len()
    }
    fn put(value: &T, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(value)
    }
    fn take(reader: &mut Reader<'_>) -> Result<T, DecodeError> {
        reader.read()
    }
}

/// Bytes after their length, a `u16`, of at most `MAX`.
pub(super) struct Bytes16<const MAX: usize>;

impl<const MAX: usize> Field<Vec<u8>> for Bytes16<MAX> {
    fn len(value: &Vec<u8>) -> usize {
        2 + value.len()
    }
    fn put(value: &Vec<u8>, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        let len = bounded(value.len(), MAX).ok_or(EncodeError::OutOfBounds("a length"))?;
        writer.write::<u16>(&len)?;
        writer.put(value)
    }
    fn take(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        let len = usize::from(reader.read::<u16>()?);
        if len > MAX {
            return Err(DecodeError::OutOfBounds("a length"));
        }
        reader.take(len).map(<[u8]>::to_vec)
    }
}

/// Values after their count, a `u8`, of at most `MAX`.
pub(super) struct List8<const MAX: usize>;

impl<const MAX: usize, T: Encode + for<'a> Decode<'a>> Field<Vec<T>> for List8<MAX> {
    fn len(value: &Vec<T>) -> usize {
        1 + value.iter().map(Encode::encoded_len).sum::<usize>()
    }
    fn put(value: &Vec<T>, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        let count = bounded(value.len(), MAX).ok_or(EncodeError::OutOfBounds("a count"))?;
        writer.write::<u8>(&count)?;
        value.iter().try_for_each(|item| writer.write(item))
    }
    fn take(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let count = usize::from(reader.read::<u8>()?);
        if count > MAX {
            return Err(DecodeError::OutOfBounds("a count"));
        }
        // No room is reserved on the peer's word: each item must be there to be pushed.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(reader.read()?);
        }
        Ok(items)
    }
}

/// A value that may be missing, after a `u8` that is 1 if it is there and 0 if not.
pub(super) struct Optional;

impl<T: Encode + for<'a> Decode<'a>> Field<Option<T>> for Optional {
    fn len(value: &Option<T>) -> usize {
        1 + value.as_ref().map_or(0, Encode::encoded_len)
    }
    fn put(value: &Option<T>, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&u8::from(value.is_some()))?;
        value.as_ref().map_or(Ok(()), |value| writer.write(value))
    }
    fn take(reader: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
        match reader.read::<u8>()? {
            0 => Ok(None),
            1 => reader.read().map(Some),
            _ => Err(DecodeError::Invalid("a presence")),
        }
    }
}

/// Values until the bytes end.
pub(super) struct RestList;

impl<T: Encode + for<'a> Decode<'a>> Field<Vec<T>> for RestList {
    fn len(value: &Vec<T>) -> usize {
        value.iter().map(Encode::encoded_len).sum()
    }
    fn put(value: &Vec<T>, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        value.iter().try_for_each(|item| writer.write(item))
    }
    fn take(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let mut items = Vec::new();
        while !reader.is_empty() {
            items.push(reader.read()?);
        }
        Ok(items)
    }
}

/// `len` as a length prefix, if it is at most `max` and fits.
fn bounded<N: TryFrom<usize>>(len: usize, max: usize) -> Option<N> {
    if len > max {
        None
    } else {
        N::try_from(len).ok()
    }
}

/// Derives both directions of a message: its fields in order, each by its type or `as` a
/// [`Field`]. With `; rest` what follows the fields is ignored: later versions may say more.
macro_rules! codec {
    ($name:ident { $($field:ident $(as $how:ty)?),* $(,)? } $(; $tail:ident)?) => {
        impl $crate::wire::Encode for $name {
            fn encoded_len(&self) -> usize {
                0 $(+ <$crate::wire::codec::codec!(@how $($how)?) as
                    $crate::wire::codec::Field<_>>::len(&self.$field))*
            }
            fn encode(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
            ) -> Result<(), $crate::wire::EncodeError> {
                $(<$crate::wire::codec::codec!(@how $($how)?) as
                    $crate::wire::codec::Field<_>>::put(&self.$field, writer)?;)*
                Ok(())
            }
        }
        impl<'a> $crate::wire::Decode<'a> for $name {
            fn decode(
                reader: &mut $crate::wire::Reader<'a>,
            ) -> Result<Self, $crate::wire::DecodeError> {
                let message = $name {
                    $($field: <$crate::wire::codec::codec!(@how $($how)?) as
                        $crate::wire::codec::Field<_>>::take(reader)?,)*
                };
                $(reader.$tail();)?
                Ok(message)
            }
        }
    };
    (@how) => { $crate::wire::codec::Plain };
    (@how $how:ty) => { $how };
}
pub(super) use codec;
