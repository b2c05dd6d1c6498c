//! How two browsers find a way to each other: what an introduction carries, sealed, in place of
//! SDP (RFC 8839, RFC 8841), which is text of any length and full of what nobody needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::codec::{Bytes16, Field, List8, codec, numbers};
use super::descriptor::MAX_DESCRIPTOR_ADDRESSES;
use super::{Decode, DecodeError, Encode, EncodeError, Reader, Writer};

/// The longest ICE user fragment or password (RFC 8839: at most 256; browsers make 4 to 32).
pub const MAX_ICE_TEXT: usize = 64;
/// The most candidates that one message carries; further ones follow by themselves.
pub const MAX_CANDIDATES: usize = 6;

/// ICE's user fragment or password: its `ice-char`s are letters, digits, `+` and `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceText(String);

impl IceText {
    /// Nothing if `text` is empty, too long, or has another character.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=MAX_ICE_TEXT).contains(&text.len());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        (fits && text.bytes().all(allowed)).then(|| IceText(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Encode for IceText {
    fn encoded_len(&self) -> usize {
        2 + self.0.len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        Bytes16::<MAX_ICE_TEXT>::put(&self.0.as_bytes().to_vec(), writer)
    }
}
impl<'a> Decode<'a> for IceText {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let bytes = Bytes16::<MAX_ICE_TEXT>::take(reader)?;
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(IceText::new)
            .ok_or(DecodeError::Invalid("ICE's user fragment or password"))
    }
}

numbers! {
    /// Of which kind a candidate is (RFC 8445, section 5.1.1).
    CandidateKind(u8) {
        /// An address of the host's own.
        HOST = 0,
        /// One that a STUN server saw.
        SERVER_REFLEXIVE = 1,
        /// One that the other side saw.
        PEER_REFLEXIVE = 2,
        /// A TURN server's.
        RELAYED = 3,
    }
}

/// Where a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateHost {
    /// Kind 4, 4 bytes; kind 6, 16 bytes.
    Ip(IpAddr),
    /// Kind 0, 16 bytes: the UUID of a name of multicast DNS that hides an address of the local
    /// network (`UUID.local`).
    Mdns([u8; 16]),
}

impl Encode for CandidateHost {
    fn encoded_len(&self) -> usize {
        1 + match self {
            CandidateHost::Ip(IpAddr::V4(_)) => 4,
            CandidateHost::Ip(IpAddr::V6(_)) | CandidateHost::Mdns(_) => 16,
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            CandidateHost::Ip(IpAddr::V4(ip)) => {
                writer.write::<u8>(&4)?;
                writer.write(ip)
            }
            CandidateHost::Ip(IpAddr::V6(ip)) => {
                writer.write::<u8>(&6)?;
                writer.write(ip)
            }
            CandidateHost::Mdns(uuid) => {
                writer.write::<u8>(&0)?;
                writer.write(uuid)
            }
        }
    }
}
impl<'a> Decode<'a> for CandidateHost {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.read::<u8>()? {
            4 => Ok(CandidateHost::Ip(reader.read::<Ipv4Addr>()?.into())),
            6 => Ok(CandidateHost::Ip(reader.read::<Ipv6Addr>()?.into())),
            0 => Ok(CandidateHost::Mdns(reader.read()?)),
            _ => Err(DecodeError::Invalid("a candidate's host")),
        }
    }
}

/// An ICE candidate over UDP: `kind u8, host, port u16, priority u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Of which kind.
    pub kind: CandidateKind,
    /// Where.
    pub host: CandidateHost,
    /// The UDP port.
    pub port: u16,
    /// How much its side likes it.
    pub priority: u32,
}
codec!(Candidate {
    kind,
    host,
    port,
    priority
});

/// One side of a connection that is to be: the ICE user fragment and password, the SHA-256 of its
/// DTLS certificate, and the candidates that it has so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceDescription {
    /// ICE's user fragment.
    pub ufrag: IceText,
    /// ICE's password.
    pub password: IceText,
    /// SHA-256 of the DTLS certificate, DER.
    pub certificate_sha256: [u8; 32],
    /// Candidates; more may follow.
    pub candidates: Vec<Candidate>,
}
codec!(IceDescription {
    ufrag,
    password,
    certificate_sha256,
    candidates as List8<MAX_CANDIDATES>
});

/// What one side tells the other, `form u8` first. Who offers is the connection's initiator: it
/// opens the data channel, the answerer is DTLS's client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Form 0: let us connect.
    Offer(IceDescription),
    /// Form 1: its answer.
    Answer(IceDescription),
    /// Form 2: one more candidate.
    Candidate(Candidate),
    /// Form 3, addresses after a `u8` count, then 32 bytes: dial me there, on UDP, by this
    /// certificate. From who cannot be an ICE agent of its own: bridges and facilitators.
    DialMe {
        /// Any of these.
        addresses: Vec<SocketAddr>,
        /// SHA-256 of the DTLS certificate that is shown there.
        certificate_sha256: [u8; 32],
    },
}

impl Encode for Signal {
    fn encoded_len(&self) -> usize {
        1 + match self {
            Signal::Offer(description) | Signal::Answer(description) => description.encoded_len(),
            Signal::Candidate(candidate) => candidate.encoded_len(),
            Signal::DialMe { addresses, .. } => {
                List8::<MAX_DESCRIPTOR_ADDRESSES>::len(addresses) + 32
            }
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Signal::Offer(description) => {
                writer.write::<u8>(&0)?;
                writer.write(description)
            }
            Signal::Answer(description) => {
                writer.write::<u8>(&1)?;
                writer.write(description)
            }
            Signal::Candidate(candidate) => {
                writer.write::<u8>(&2)?;
                writer.write(candidate)
            }
            Signal::DialMe {
                addresses,
                certificate_sha256,
            } => {
                writer.write::<u8>(&3)?;
                List8::<MAX_DESCRIPTOR_ADDRESSES>::put(addresses, writer)?;
                writer.write(certificate_sha256)
            }
        }
    }
}
impl<'a> Decode<'a> for Signal {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.read::<u8>()? {
            0 => reader.read().map(Signal::Offer),
            1 => reader.read().map(Signal::Answer),
            2 => reader.read().map(Signal::Candidate),
            3 => Ok(Signal::DialMe {
                addresses: List8::<MAX_DESCRIPTOR_ADDRESSES>::take(reader)?,
                certificate_sha256: reader.read()?,
            }),
            _ => Err(DecodeError::Invalid("a signal's form")),
        }
    }
}
