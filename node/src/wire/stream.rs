//! Tor's relay messages: streams, extension, flow control.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::codec::{Bytes16, List8, codec, numbers};
use super::{
    Decode, DecodeError, DestroyReason, Encode, EncodeError, HandshakeType, LinkSpecifier,
    MAX_LINK_SPECIFIERS, RELAY_DATA_MAX, Reader, Writer,
};

/// The longest host name, in BEGIN and RESOLVE.
const MAX_HOST_LEN: usize = 255;

/// BEGIN. tor-spec, "Opening streams": `host ":" port` and a zero byte, then flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Bit 1: IPv6 is fine; bit 2: IPv4 is not; bit 3: IPv6 is preferred. Zero if absent.
    pub flags: u32,
}
impl Encode for Begin {
    fn encoded_len(&self) -> usize {
        let flags = if self.flags == 0 { 0 } else { 4 };
        self.host.len() + decimal_len(self.port) + 2 + flags
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if !is_host(&self.host) {
            return Err(EncodeError::OutOfBounds("a host name"));
        }
        if self.port == 0 {
            return Err(EncodeError::OutOfBounds("a port"));
        }
        writer.put(self.host.as_bytes())?;
        writer.put(format!(":{}\0", self.port).as_bytes())?;
        if self.flags == 0 {
            Ok(())
        } else {
            writer.write(&self.flags)
        }
    }
}
impl<'a> Decode<'a> for Begin {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let address = std::str::from_utf8(reader.until_nul()?);
        let address = address.map_err(|_| DecodeError::Invalid("a host name"))?;
        let (host, port) = address
            .rsplit_once(':')
            .ok_or(DecodeError::Invalid("a port"))?;
        if !is_host(host) {
            return Err(DecodeError::Invalid("a host name"));
        }
        // `parse` alone would take a plus sign.
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0);
        let port = port.ok_or(DecodeError::Invalid("a port"))?;
        // C tor and Arti take flags that are cut for none.
        let flags = reader.read().unwrap_or(0);
        // Later versions may say more.
        reader.rest();
        Ok(Begin {
            host: host.to_owned(),
            port,
            flags,
        })
    }
}

/// How many digits `port` has.
const fn decimal_len(port: u16) -> usize {
    match port {
        0..=9 => 1,
        10..=99 => 2,
        100..=999 => 3,
        1_000..=9_999 => 4,
        _ => 5,
    }
}

/// Whether this can be a host: ASCII without zeros, and not too long; the same for writing and
/// reading.
fn is_host(host: &str) -> bool {
    host.len() <= MAX_HOST_LEN && host.is_ascii() && !host.contains('\0')
}

numbers! {
    /// Why a stream ends. tor-spec, "Closing streams".
    EndReason(u8) {
        /// None of the others.
        MISC = 1,
        /// The host name has no address.
        RESOLVEFAILED = 2,
        /// The host refused.
        CONNECTREFUSED = 3,
        /// The router does not go there.
        EXITPOLICY = 4,
        /// The circuit ends.
        DESTROY = 5,
        /// All is sent.
        DONE = 6,
        /// The host did not answer in time.
        TIMEOUT = 7,
        /// There is no way to the host.
        NOROUTE = 8,
        /// The router saves its bandwidth.
        HIBERNATING = 9,
        /// A fault in the router.
        INTERNAL = 10,
        /// The router's limits are reached.
        RESOURCELIMIT = 11,
        /// The connection was reset.
        CONNRESET = 12,
        /// The protocol was violated.
        TORPROTOCOL = 13,
        /// The router serves no directory.
        NOTDIRECTORY = 14,
    }
}

/// END. tor-spec, "Closing streams".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why; an empty message means MISC.
    pub reason: EndReason,
    /// With EXITPOLICY: the address that the name has, and for how many seconds.
    pub address: Option<(IpAddr, u32)>,
}
impl Encode for End {
    fn encoded_len(&self) -> usize {
        1 + match self.address {
            Some((IpAddr::V4(_), _)) => 8,
            Some((IpAddr::V6(_), _)) => 20,
            None => 0,
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&self.reason)?;
        let Some((address, ttl)) = self.address else {
            return Ok(());
        };
        if self.reason != EndReason::EXITPOLICY {
            return Err(EncodeError::OutOfBounds("END's address"));
        }
        match address {
            IpAddr::V4(ip) => writer.write(&ip)?,
            IpAddr::V6(ip) => writer.write(&ip)?,
        }
        writer.write(&ttl)
    }
}
impl<'a> Decode<'a> for End {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if reader.is_empty() {
            return Ok(End {
                reason: EndReason::MISC,
                address: None,
            });
        }
        let reason = reader.read()?;
        let address = match (reason, reader.remaining()) {
            (EndReason::EXITPOLICY, 8) => Some((IpAddr::V4(reader.read()?), reader.read()?)),
            (EndReason::EXITPOLICY, 20) => Some((IpAddr::V6(reader.read()?), reader.read()?)),
            // Other reasons may say more; it is for nobody.
            _ => None,
        };
        reader.rest();
        Ok(End { reason, address })
    }
}

/// CONNECTED. tor-spec, "Opening streams": nothing, or the address that was connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The address, and for how many seconds it is the name's.
    pub address: Option<(IpAddr, u32)>,
}

impl Connected {
    /// Says that what follows the zero address is an IPv6 one.
    const IPV6: u8 = 6;
}

impl Encode for Connected {
    fn encoded_len(&self) -> usize {
        match self.address {
            Some((IpAddr::V4(_), _)) => 8,
            Some((IpAddr::V6(_), _)) => 25,
            None => 0,
        }
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self.address {
            None => Ok(()),
            Some((IpAddr::V4(Ipv4Addr::UNSPECIFIED), _)) => {
                Err(EncodeError::OutOfBounds("CONNECTED's address"))
            }
            Some((IpAddr::V4(ip), ttl)) => {
                writer.write(&ip)?;
                writer.write(&ttl)
            }
            Some((IpAddr::V6(ip), ttl)) => {
                writer.write(&Ipv4Addr::UNSPECIFIED)?;
                writer.write(&Connected::IPV6)?;
                writer.write(&ip)?;
                writer.write(&ttl)
            }
        }
    }
}
impl<'a> Decode<'a> for Connected {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if reader.is_empty() {
            return Ok(Connected { address: None });
        }
        let ip: Ipv4Addr = reader.read()?;
        let ip = if ip != Ipv4Addr::UNSPECIFIED {
            IpAddr::V4(ip)
        } else if reader.read::<u8>()? == Connected::IPV6 {
            IpAddr::V6(reader.read::<Ipv6Addr>()?)
        } else {
            return Err(DecodeError::Invalid("CONNECTED's address type"));
        };
        let ttl = reader.read()?;
        // Later versions may say more.
        reader.rest();
        Ok(Connected {
            address: Some((ip, ttl)),
        })
    }
}

/// SENDME. tor-spec, "SENDME cell format".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sendme {
    /// Version 1: the running digest of the cell that is acknowledged. None is version 0, the
    /// only one that streams use.
    pub tag: Option<[u8; 20]>,
}

impl Sendme {
    const WITH_TAG: u8 = 1;
}

impl Encode for Sendme {
    fn encoded_len(&self) -> usize {
        self.tag.map_or(0, |tag| 3 + tag.len())
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        let Some(tag) = self.tag else { return Ok(()) };
        writer.write(&Sendme::WITH_TAG)?;
        writer.write::<u16>(&20)?;
        writer.write(&tag)
    }
}
impl<'a> Decode<'a> for Sendme {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if reader.is_empty() {
            return Ok(Sendme { tag: None });
        }
        let tag = match reader.read::<u8>()? {
            0 => None,
            Sendme::WITH_TAG => {
                let len: u16 = reader.read()?;
                // A longer one is cut: "use the first 20 bytes".
                let mut data = Reader::new(reader.take(usize::from(len))?);
                Some(data.read()?)
            }
            _ => return Err(DecodeError::Invalid("SENDME's version")),
        };
        // Later versions may say more.
        reader.rest();
        Ok(Sendme { tag })
    }
}

/// EXTEND2. tor-spec, "EXTEND and EXTENDED cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extend2 {
    /// Who the next hop is and where.
    pub specifiers: Vec<LinkSpecifier>,
    /// Which handshake.
    pub handshake_type: HandshakeType,
    /// The initiator's part of it.
    pub data: Vec<u8>,
}
codec!(Extend2 {
    specifiers as List8<MAX_LINK_SPECIFIERS>,
    handshake_type,
    data as Bytes16<RELAY_DATA_MAX>,
}; rest);

/// EXTENDED2. tor-spec, "EXTEND and EXTENDED cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended2 {
    /// The new hop's part of the handshake.
    pub data: Vec<u8>,
}
codec!(Extended2 { data as Bytes16<RELAY_DATA_MAX> }; rest);

/// TRUNCATED. tor-spec, "Tearing down circuits".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Why.
    pub reason: DestroyReason,
}
codec!(Truncated { reason }; rest);

/// RESOLVE. tor-spec, "Remote hostname lookup".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// A host name, or an address written as `…in-addr.arpa`.
    pub host: String,
}
impl Encode for Resolve {
    fn encoded_len(&self) -> usize {
        self.host.len() + 1
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if !is_host(&self.host) {
            return Err(EncodeError::OutOfBounds("a host name"));
        }
        writer.put(self.host.as_bytes())?;
        writer.write::<u8>(&0)
    }
}
impl<'a> Decode<'a> for Resolve {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let host = std::str::from_utf8(reader.until_nul()?)
            .ok()
            .filter(|host| is_host(host));
        let host = host.ok_or(DecodeError::Invalid("a host name"))?;
        // Later versions may say more.
        reader.rest();
        Ok(Resolve {
            host: host.to_owned(),
        })
    }
}

/// One answer of RESOLVED: type, length, value, seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedAnswer {
    /// 0 a host name, 4 and 6 an address, 0xF0 a failure for now, 0xF1 one for good.
    pub kind: u8,
    /// The value.
    pub value: Vec<u8>,
    /// For how many seconds it holds.
    pub ttl: u32,
}
impl ResolvedAnswer {
    const IPV4: u8 = 4;
    const IPV6: u8 = 6;

    /// Whether an address has an address's length, the same for writing and reading.
    fn is_valid(&self) -> bool {
        match self.kind {
            ResolvedAnswer::IPV4 => self.value.len() == 4,
            ResolvedAnswer::IPV6 => self.value.len() == 16,
            _ => true,
        }
    }

    /// The address, if the answer is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.kind {
            ResolvedAnswer::IPV4 => Decode::from_bytes(&self.value).ok().map(IpAddr::V4),
            ResolvedAnswer::IPV6 => Decode::from_bytes(&self.value).ok().map(IpAddr::V6),
            _ => None,
        }
    }
}
impl Encode for ResolvedAnswer {
    fn encoded_len(&self) -> usize {
        6 + self.value.len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if !self.is_valid() {
            return Err(EncodeError::OutOfBounds("RESOLVED's address"));
        }
        let len = u8::try_from(self.value.len());
        writer.write(&self.kind)?;
        writer.write(&len.map_err(|_| EncodeError::OutOfBounds("RESOLVED's value"))?)?;
        writer.put(&self.value)?;
        writer.write(&self.ttl)
    }
}
impl<'a> Decode<'a> for ResolvedAnswer {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = reader.read()?;
        let len: u8 = reader.read()?;
        let value = reader.take(usize::from(len))?.to_vec();
        let answer = ResolvedAnswer {
            kind,
            value,
            ttl: reader.read()?,
        };
        if answer.is_valid() {
            Ok(answer)
        } else {
            Err(DecodeError::Invalid("RESOLVED's address"))
        }
    }
}

/// RESOLVED. tor-spec, "Remote hostname lookup".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The answers.
    pub answers: Vec<ResolvedAnswer>,
}
codec!(Resolved { answers as super::codec::RestList });

/// The only version of XON and XOFF.
const FLOW_CONTROL_VERSION: u8 = 0;

fn flow_control_version(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    if reader.read::<u8>()? == FLOW_CONTROL_VERSION {
        Ok(())
    } else {
        Err(DecodeError::Invalid("the version of XON or XOFF"))
    }
}

/// XON. Proposal 324, "XON and XOFF": version, rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xon {
    /// The rate that is wanted; zero is any.
    pub kilobytes_per_second: u32,
}
impl Encode for Xon {
    fn encoded_len(&self) -> usize {
        5
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&FLOW_CONTROL_VERSION)?;
        writer.write(&self.kilobytes_per_second)
    }
}
impl<'a> Decode<'a> for Xon {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        flow_control_version(reader)?;
        Ok(Xon {
            kilobytes_per_second: reader.read()?,
        })
    }
}

/// XOFF. Proposal 324, "XON and XOFF": version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xoff;
impl Encode for Xoff {
    fn encoded_len(&self) -> usize {
        1
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&FLOW_CONTROL_VERSION)
    }
}
impl<'a> Decode<'a> for Xoff {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        flow_control_version(reader)?;
        Ok(Xoff)
    }
}
