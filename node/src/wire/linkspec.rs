//! Link specifiers: how EXTEND2 and descriptors say where a router is and who it is.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use super::{Decode, DecodeError, Encode, EncodeError, Reader, Writer};
use crate::ids::{Ed25519Id, RsaId};

/// The most link specifiers in one message; Tor's clients send three or four.
pub const MAX_LINK_SPECIFIERS: usize = 32;

/// One link specifier. tor-spec, "EXTEND and EXTENDED cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkSpecifier {
    /// Type 0: an address of the router.
    Ipv4(SocketAddrV4),
    /// Type 1: an address of the router.
    Ipv6(SocketAddrV6),
    /// Type 2: the router's fingerprint.
    RsaId(RsaId),
    /// Type 3: the router's Ed25519 identity.
    Ed25519Id(Ed25519Id),
    /// Type 240, Chive's: the router answers WebRTC too, on UDP at the same addresses, and this is
    /// the SHA-256 of its DTLS certificate.
    Dtls([u8; 32]),
    /// Type 241, Chive's: the fingerprint of a router that is linked to this one and introduces it.
    Introducer(RsaId),
    /// Any other: to be passed on and otherwise ignored.
    Unknown {
        /// The type.
        kind: u8,
        /// The value.
        data: Vec<u8>,
    },
}

impl LinkSpecifier {
    const IPV4: u8 = 0;
    const IPV6: u8 = 1;
    const RSA_ID: u8 = 2;
    const ED25519_ID: u8 = 3;
    const DTLS: u8 = 240;
    const INTRODUCER: u8 = 241;

    /// The specifier of an address.
    pub const fn address(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => LinkSpecifier::Ipv4(address),
            SocketAddr::V6(address) => LinkSpecifier::Ipv6(address),
        }
    }

    /// The address, if it is one.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            LinkSpecifier::Ipv4(address) => Some(SocketAddr::V4(*address)),
            LinkSpecifier::Ipv6(address) => Some(SocketAddr::V6(*address)),
            _ => None,
        }
    }
}

impl Encode for LinkSpecifier {
    fn encoded_len(&self) -> usize {
        2 + match self {
            LinkSpecifier::Ipv4(_) => 6,
            LinkSpecifier::Ipv6(_) => 18,
            LinkSpecifier::RsaId(_) => 20,
            LinkSpecifier::Ed25519Id(_) | LinkSpecifier::Dtls(_) => 32,
            LinkSpecifier::Introducer(_) => 20,
            LinkSpecifier::Unknown { data, .. } => data.len(),
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            LinkSpecifier::Ipv4(address) => {
                writer.put(&[LinkSpecifier::IPV4, 6])?;
                writer.write(address.ip())?;
                writer.write(&address.port())
            }
            LinkSpecifier::Ipv6(address) => {
                writer.put(&[LinkSpecifier::IPV6, 18])?;
                writer.write(address.ip())?;
                writer.write(&address.port())
            }
            LinkSpecifier::RsaId(id) => {
                writer.put(&[LinkSpecifier::RSA_ID, 20])?;
                writer.write(id)
            }
            LinkSpecifier::Ed25519Id(id) => {
                writer.put(&[LinkSpecifier::ED25519_ID, 32])?;
                writer.write(id)
            }
            LinkSpecifier::Dtls(sha256) => {
                writer.put(&[LinkSpecifier::DTLS, 32])?;
                writer.write(sha256)
            }
            LinkSpecifier::Introducer(id) => {
                writer.put(&[LinkSpecifier::INTRODUCER, 20])?;
                writer.write(id)
            }
            LinkSpecifier::Unknown { kind, data } => {
                let len = u8::try_from(data.len());
                writer.write(kind)?;
                writer.write(&len.map_err(|_| EncodeError::OutOfBounds("a link specifier"))?)?;
                writer.put(data)
            }
        }
    }
}

impl<'a> Decode<'a> for LinkSpecifier {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind: u8 = reader.read()?;
        let len: u8 = reader.read()?;
        let data = reader.take(usize::from(len))?;
        // A known type of the wrong length is malformed: the inner reader must be exhausted.
        let mut inner = Reader::new(data);
        let specifier = match kind {
            LinkSpecifier::IPV4 => {
                LinkSpecifier::Ipv4(SocketAddrV4::new(inner.read()?, inner.read()?))
            }
            LinkSpecifier::IPV6 => {
                LinkSpecifier::Ipv6(SocketAddrV6::new(inner.read()?, inner.read()?, 0, 0))
            }
            LinkSpecifier::RSA_ID => LinkSpecifier::RsaId(inner.read()?),
            LinkSpecifier::ED25519_ID => LinkSpecifier::Ed25519Id(inner.read()?),
            LinkSpecifier::DTLS => LinkSpecifier::Dtls(inner.read()?),
            LinkSpecifier::INTRODUCER => LinkSpecifier::Introducer(inner.read()?),
            _ => LinkSpecifier::Unknown {
                kind,
                data: inner.rest().to_vec(),
            },
        };
        inner.finish()?;
        Ok(specifier)
    }
}
