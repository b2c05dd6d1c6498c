//! The little of STUN (RFC 8489) that is read before anything is kept of who sent it.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;

use super::certificate_hash::CertificateHash;
use crate::wire::{DecodeError, Reader};

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const COOKIE: u32 = 0x2112_a442;
const HEADER: usize = 20;

/// Attributes.
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// A length of an integrity attribute with its header.
const INTEGRITY: usize = 24;

/// A browser's requests have about 120 bytes; this is all that two longest user fragments need.
const MAX_REQUEST: usize = 1024;

/// A request without a name has 20 bytes, or 28 with a fingerprint. What is longer asks for
/// something else.
const MAX_PLAIN_REQUEST: usize = 128;

/// RFC 8839, 5.4.
const MAX_UFRAG: usize = 256;

/// A binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// Without a name: who sends it wants to know its own address.
    Plain {
        /// To be said again in the answer.
        transaction: [u8; 12],
    },
    /// Of who dials. Its integrity is not checked yet.
    Dial(Dial<'a>),
}

/// What a dialling browser's request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dial<'a> {
    /// Our user fragment and password, as the browser wrote it for us.
    pub(super) name: &'a str,
    /// What the name decodes to.
    pub(super) certificate: CertificateHash,
    /// The browser's user fragment.
    pub(super) remote: &'a str,
    /// What the integrity covers: the header with its length as it was then, and the rest.
    header: [u8; HEADER],
    attributes: &'a [u8],
    integrity: [u8; 20],
}

impl Dial<'_> {
    /// Whether it was made by who knows the name. That the name is known is no secret; that it
    /// goes with the request keeps others' requests and noise out.
    pub(super) fn is_genuine(&self) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.name.as_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(&self.header);
        context.update(self.attributes);
        // In constant time.
        let made = context.sign();
        subtle::ConstantTimeEq::ct_eq(made.as_ref(), &self.integrity[..]).into()
    }
}

/// Reads a binding request, if `datagram` is one that we answer.
pub(super) fn parse(datagram: &[u8]) -> Option<Request<'_>> {
    if datagram.len() > MAX_REQUEST {
        return None;
    }
    read(datagram).ok().flatten()
}

fn read(datagram: &[u8]) -> Result<Option<Request<'_>>, DecodeError> {
    let mut reader = Reader::new(datagram);
    let header: [u8; HEADER] = reader.array()?;
    let mut fields = Reader::new(&header);
    let kind = fields.read::<u16>()?;
    let length = usize::from(fields.read::<u16>()?);
    let cookie = fields.read::<u32>()?;
    let transaction: [u8; 12] = fields.array()?;
    let body = reader.rest();
    if kind != BINDING_REQUEST || cookie != COOKIE || length != body.len() || length % 4 != 0 {
        return Ok(None);
    }
    let mut reader = Reader::new(body);
    let mut username = None;
    while reader.remaining() > 0 {
        let before = body.len() - reader.remaining();
        let (kind, length) = (reader.read::<u16>()?, reader.read::<u16>()?);
        let value = reader.take(usize::from(length))?;
        reader.take(usize::from(length).wrapping_neg() % 4)?;
        match kind {
            USERNAME if username.is_none() => username = Some(value),
            MESSAGE_INTEGRITY => {
                let Some((name, certificate, remote)) = username.and_then(split) else {
                    return Ok(None);
                };
                let Ok(integrity) = value.try_into() else {
                    return Ok(None);
                };
                // RFC 8489, 14.5: the length as if nothing came after this.
                let covered = u16::try_from(before + INTEGRITY)
                    .map_err(|_| DecodeError::Invalid("a STUN length"))?
                    .to_be_bytes();
                let mut header = header;
                [header[2], header[3]] = covered;
                let attributes = Reader::new(body).take(before)?;
                return Ok(Some(Request::Dial(Dial {
                    name,
                    certificate,
                    remote,
                    header,
                    attributes,
                    integrity,
                })));
            }
            _ => {}
        }
    }
    let plain = username.is_none() && datagram.len() <= MAX_PLAIN_REQUEST;
    Ok(plain.then_some(Request::Plain { transaction }))
}

/// The two user fragments of a name, if the first is a hash.
fn split(username: &[u8]) -> Option<(&str, CertificateHash, &str)> {
    let (name, remote) = std::str::from_utf8(username).ok()?.split_once(':')?;
    let certificate = CertificateHash::from_name(name)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let good = (4..=MAX_UFRAG).contains(&remote.len()) && remote.bytes().all(allowed);
    good.then_some((name, certificate, remote))
}

/// The answer to a request without a name: the address that it came from, and nothing else.
pub(super) fn mapped_address(transaction: [u8; 12], source: SocketAddr) -> Vec<u8> {
    let cookie = COOKIE.to_be_bytes();
    let mask = cookie.iter().chain(&transaction);
    let (family, address): (u8, Vec<u8>) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (
            1,
            ip.octets().iter().zip(mask).map(|(a, b)| a ^ b).collect(),
        ),
        IpAddr::V6(ip) => (
            2,
            ip.octets().iter().zip(mask).map(|(a, b)| a ^ b).collect(),
        ),
    };
    let port = source.port() ^ (COOKIE >> 16) as u16;
    // 8 or 20.
    let value = 4 + address.len() as u16;
    let mut answer = Vec::with_capacity(HEADER + 24);
    answer.extend(BINDING_SUCCESS.to_be_bytes());
    answer.extend((4 + value).to_be_bytes());
    answer.extend(cookie);
    answer.extend(transaction);
    answer.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    answer.extend(value.to_be_bytes());
    answer.extend([0, family]);
    answer.extend(port.to_be_bytes());
    answer.extend(address);
    answer
}

#[cfg(test)]
mod tests {
    use str0m::ice::{StunMessage, StunMessageBuilder, TransId};

    use super::*;
    use crate::native::webrtc::crypto;

    fn request(username: &str, password: &str) -> Vec<u8> {
        let message = StunMessage::binding_request(username, TransId::new(), true, 7, 1, true);
        let mut bytes = vec![0; 1500];
        let mac = |key: &[u8], parts: &[&[u8]]| {
            crypto::provider().sha1_hmac_provider.sha1_hmac(key, parts)
        };
        let length = message
            .to_bytes(Some(password.as_bytes()), &mut bytes, mac)
            .unwrap();
        bytes.truncate(length);
        bytes
    }

    fn dial(bytes: &[u8]) -> Option<Dial<'_>> {
        match parse(bytes)? {
            Request::Dial(dial) => Some(dial),
            Request::Plain { .. } => None,
        }
    }

    /// RFC 8489, 14.2, the other way round.
    fn read_mapped(answer: &[u8]) -> SocketAddr {
        let port = u16::from_be_bytes([answer[26] ^ 0x21, answer[27] ^ 0x12]);
        let plain = answer[28..].iter().zip(&answer[4..]).map(|(a, b)| a ^ b);
        let plain: Vec<u8> = plain.collect();
        let ip: IpAddr = match <[u8; 4]>::try_from(&plain[..]) {
            Ok(ip) => ip.into(),
            Err(_) => <[u8; 16]>::try_from(&plain[..]).unwrap().into(),
        };
        assert_eq!(answer[25], if ip.is_ipv4() { 1 } else { 2 });
        SocketAddr::new(ip, port)
    }

    #[test]
    fn what_str0m_sends_is_taken() {
        let name = CertificateHash([0xab; 32]).to_name();
        let bytes = request(&format!("{name}:abcd"), &name);
        let dial = dial(&bytes).unwrap();
        assert_eq!(dial.certificate, CertificateHash([0xab; 32]));
        assert_eq!(dial.remote, "abcd");
        assert!(dial.is_genuine());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let name = CertificateHash([0xab; 32]).to_name();
        let bytes = request(&format!("{name}:abcd"), &name);
        // The fingerprint behind the integrity is str0m's to check.
        let covered = bytes.len() - 8;
        for at in 0..covered * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            // The attribute's own length of the two is not covered by it, nor is what it is called.
            assert!(
                dial(&flipped).is_none_or(|dial| !dial.is_genuine()),
                "bit {at}"
            );
        }
        for length in 0..bytes.len() {
            assert!(dial(&bytes[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn other_names_and_passwords_are_none() {
        let name = CertificateHash([1; 32]).to_name();
        let wrong = request(&format!("{name}:abcd"), "another password of some length");
        assert!(!dial(&wrong).unwrap().is_genuine());
        for username in [
            "abcd:efgh".to_owned(),
            format!("{name}abcd"),
            format!("{name}:abc"),
            format!("{name}:ab:cd"),
            format!("x{name}:abcd"),
            format!("{}:abcd", &name[1..]),
            format!("{}-:abcd", &name[1..]),
        ] {
            assert_eq!(dial(&request(&username, &name)), None, "{username}");
        }
    }

    #[test]
    fn who_asks_for_an_address_gets_that_alone() {
        for source in ["192.0.2.1:4660", "[2001:db8::1]:80", "[::ffff:192.0.2.1]:1"] {
            let source: SocketAddr = source.parse().unwrap();
            let message = StunMessageBuilder::new()
                .binding()
                .request()
                .build(TransId::new());
            let mut bytes = vec![0; 100];
            let length = message.to_bytes(None, &mut bytes, |_, _| [0; 20]).unwrap();
            let Some(Request::Plain { transaction }) = parse(&bytes[..length]) else {
                panic!("{source}");
            };
            let answer = mapped_address(transaction, source);
            assert_eq!(
                answer[..8],
                [1, 1, 0, answer.len() as u8 - 20, 0x21, 0x12, 0xa4, 0x42]
            );
            assert_eq!(answer[8..20], bytes[8..20]);
            let canonical = SocketAddr::new(source.ip().to_canonical(), source.port());
            assert_eq!(read_mapped(&answer), canonical);
            assert!(answer.len() <= 20 + 24);
        }
    }
}
