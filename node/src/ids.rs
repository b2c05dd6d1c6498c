//! The names of things, each a type of its own.

use std::fmt;

/// A router's 160-bit ID: Tor's fingerprint, the SHA-1 of its RSA identity key in PKCS#1 DER.
///
/// tor-spec, "Relay keys and identities".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RsaId(pub [u8; 20]);

/// A place in Kademlia's 160-bit space: a router's [`RsaId`], or a name of content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 20]);

impl From<RsaId> for Key {
    fn from(id: RsaId) -> Self {
        Key(id.0)
    }
}

/// A router's Ed25519 identity key: what everything is really checked against.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ed25519Id(pub [u8; 32]);

/// A router's ntor onion key (Curve25519, public half).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OnionKey(pub [u8; 32]);

/// One transport and the link on it, as this node and its host name it to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A circuit that this node built, as it names it to itself and its host; never on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitId(pub u64);

/// A stream's number within its circuit, as the wire has it; never zero for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u16);

impl StreamId {
    /// The first number of the streams that a circuit's last router opens towards its client; the
    /// client's own are below, so that neither takes a number of the other's.
    pub const FIRST_BACKWARD: u16 = 1 << 15;

    /// Whether it is one that the circuit's last router opened.
    pub const fn is_backward(self) -> bool {
        self.0 >= Self::FIRST_BACKWARD
    }
}

/// A torrent that this node was asked to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub u64);

/// A signature that the node asked its host for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignatureId(pub u64);

/// One reader of a torrent's bytes: a `<video>`'s request, a save to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

macro_rules! hex_debug {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}
hex_debug!(RsaId, Ed25519Id, OnionKey, Key);
