//! The bodies of cells that make a link: VERSIONS, CERTS, AUTH_CHALLENGE, AUTHENTICATE, NETINFO.

use std::net::IpAddr;

use super::codec::{Bytes16, List8, RestList, codec, numbers};
use super::{CellBody, Command, Decode, DecodeError, Encode, EncodeError, Reader, Writer};

/// VERSIONS. tor-spec, "Negotiating versions with VERSIONS cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The link protocols that its sender speaks.
    pub versions: Vec<u16>,
}
codec!(Versions { versions as RestList });
impl CellBody for Versions {
    const COMMAND: Command = Command::VERSIONS;
}

impl Versions {
    /// The highest version in both this cell and `ours`.
    pub fn best_shared(&self, ours: &[u16]) -> Option<u16> {
        self.versions
            .iter()
            .filter(|version| ours.contains(version))
            .max()
            .copied()
    }
}

numbers! {
    /// What a certificate certifies. tor-spec, "CERTS cells"; cert-spec, "List of certificate
    /// types".
    CertType(u8) {
        /// TLS link key, signed with the RSA identity (X.509).
        RSA_LINK = 1,
        /// RSA identity, signed with itself (X.509).
        RSA_IDENTITY = 2,
        /// RSA link authentication key, signed with the RSA identity (X.509); obsolete.
        RSA_AUTH = 3,
        /// Ed25519 signing key, signed with the Ed25519 identity.
        ED25519_SIGNING = 4,
        /// SHA-256 of the TLS certificate, signed with the Ed25519 signing key.
        ED25519_TLS_LINK = 5,
        /// Ed25519 authentication key, signed with the Ed25519 signing key.
        ED25519_AUTH = 6,
        /// Ed25519 identity, signed with the RSA identity (a format of its own).
        RSA_CROSS = 7,
    }
}

/// The longest certificate that is read: several times the longest of Tor's.
pub const MAX_CERT_LEN: usize = 4096;

/// One certificate of a CERTS cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cert {
    /// What it certifies.
    pub kind: CertType,
    /// The certificate.
    pub body: Vec<u8>,
}
codec!(Cert { kind, body as Bytes16<MAX_CERT_LEN> });

/// CERTS. tor-spec, "CERTS cells".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certs {
    /// The certificates; unknown ones are ignored by whoever looks for known ones.
    pub certs: Vec<Cert>,
}
codec!(Certs { certs as List8<255> });
impl CellBody for Certs {
    const COMMAND: Command = Command::CERTS;
}

impl Certs {
    /// The certificate of type `kind`: none if there is none, or more than one.
    pub fn only(&self, kind: CertType) -> Option<&[u8]> {
        let mut found = self.certs.iter().filter(|cert| cert.kind == kind);
        let first = found.next()?;
        if found.next().is_some() {
            None
        } else {
            Some(&first.body)
        }
    }
}

numbers! {
    /// How an initiator authenticates itself. tor-spec, "AUTH_CHALLENGE cells".
    AuthMethod(u16) {
        /// By RSA and the TLS master secret; obsolete.
        RSA_SHA256_TLSSECRET = 1,
        /// By Ed25519 and RFC 5705.
        ED25519_SHA256_RFC5705 = 3,
        /// By Ed25519 and both DTLS certificates. Ours, far above what Tor counts up to.
        ED25519_SHA256_DTLS = 0xf001,
    }
}

/// AUTH_CHALLENGE. tor-spec, "AUTH_CHALLENGE cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthChallenge {
    /// Random; it enters the proof with the rest of what the responder sent.
    pub challenge: [u8; 32],
    /// What the responder accepts.
    pub methods: Vec<AuthMethod>,
}
impl Encode for AuthChallenge {
    fn encoded_len(&self) -> usize {
        self.challenge.len() + 2 + 2 * self.methods.len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        let count = u16::try_from(self.methods.len());
        writer.write(&self.challenge)?;
        writer.write(&count.map_err(|_| EncodeError::OutOfBounds("a count"))?)?;
        self.methods
            .iter()
            .try_for_each(|method| writer.write(method))
    }
}
impl<'a> Decode<'a> for AuthChallenge {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let challenge = reader.read()?;
        let count: u16 = reader.read()?;
        let mut methods = Vec::new();
        for _ in 0..count {
            methods.push(reader.read()?);
        }
        Ok(AuthChallenge { challenge, methods })
    }
}
impl CellBody for AuthChallenge {
    const COMMAND: Command = Command::AUTH_CHALLENGE;
}

/// AUTHENTICATE. tor-spec, "AUTHENTICATE cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    /// How.
    pub method: AuthMethod,
    /// The proof.
    pub body: Vec<u8>,
}
codec!(Authenticate { method, body as Bytes16<MAX_CERT_LEN> });
impl CellBody for Authenticate {
    const COMMAND: Command = Command::AUTHENTICATE;
}

/// An address as NETINFO has it: type, length, value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetAddress {
    /// Type 4 or 6.
    Ip(IpAddr),
    /// A type that is not known, or of a length that it should not have: to be ignored.
    Other {
        /// The type.
        kind: u8,
        /// The value.
        value: Vec<u8>,
    },
}

impl NetAddress {
    const IPV4: u8 = 4;
    const IPV6: u8 = 6;

    /// The address, if it is one.
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            NetAddress::Ip(ip) => Some(*ip),
            NetAddress::Other { .. } => None,
        }
    }
}

impl Encode for NetAddress {
    fn encoded_len(&self) -> usize {
        2 + match self {
            NetAddress::Ip(IpAddr::V4(_)) => 4,
            NetAddress::Ip(IpAddr::V6(_)) => 16,
            NetAddress::Other { value, .. } => value.len(),
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            NetAddress::Ip(IpAddr::V4(ip)) => {
                writer.put(&[NetAddress::IPV4, 4])?;
                writer.write(ip)
            }
            NetAddress::Ip(IpAddr::V6(ip)) => {
                writer.put(&[NetAddress::IPV6, 16])?;
                writer.write(ip)
            }
            NetAddress::Other { kind, value } => {
                let len = u8::try_from(value.len());
                writer.write(kind)?;
                writer.write(&len.map_err(|_| EncodeError::OutOfBounds("an address"))?)?;
                writer.put(value)
            }
        }
    }
}
impl<'a> Decode<'a> for NetAddress {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind: u8 = reader.read()?;
        let len: u8 = reader.read()?;
        let value = reader.take(usize::from(len))?;
        Ok(match kind {
            NetAddress::IPV4 if value.len() == 4 => {
                NetAddress::Ip(IpAddr::V4(Decode::from_bytes(value)?))
            }
            NetAddress::IPV6 if value.len() == 16 => {
                NetAddress::Ip(IpAddr::V6(Decode::from_bytes(value)?))
            }
            _ => NetAddress::Other {
                kind,
                value: value.to_vec(),
            },
        })
    }
}

/// NETINFO. tor-spec, "NETINFO cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netinfo {
    /// The sender's time, Unix seconds; zero from those who do not tell it.
    pub timestamp: u32,
    /// The receiver's address as the sender sees it.
    pub other_address: NetAddress,
    /// The sender's addresses; none from those who have none to tell.
    pub own_addresses: Vec<NetAddress>,
}
codec!(Netinfo { timestamp, other_address, own_addresses as List8<255> });
impl CellBody for Netinfo {
    const COMMAND: Command = Command::NETINFO;
}
