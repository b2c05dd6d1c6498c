//! How a bridge is named where people write it: in a page's address, a file, a flag.
//!
//! - For tabs: `ws://HOST:PORT/link#ED25519.NTOR`, or `wss://…`: both keys in base64url.
//! - By WebRTC, without signalling: `IP:PORT:CERTHASH#ED25519.NTOR`: the UDP port, which is the OR
//!   port's number, and the SHA-256 of the DTLS certificate, all in base64url. This is what
//!   `#peer=` of an invitation holds.
//! - For routers: `HOST:PORT/FINGERPRINT/ED25519`: the OR port, forty hex digits, base64url.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::ids::{Ed25519Id, OnionKey, RsaId};
use crate::link::Identity;

/// A bridge as its users name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BridgeLine {
    /// Entered by WebSocket.
    WebSocket {
        /// The address, without the keys.
        url: String,
        /// The identity that its CERTS must prove.
        ed25519: Ed25519Id,
        /// The key that its ntor must prove.
        onion: OnionKey,
    },
    /// Entered by WebRTC.
    Peer {
        /// Where it listens, on UDP.
        address: SocketAddr,
        /// SHA-256 of the DTLS certificate that it shows there.
        certificate_sha256: [u8; 32],
        /// The identity that its CERTS must prove.
        ed25519: Ed25519Id,
        /// Its onion key.
        onion: OnionKey,
    },
    /// Reached on its OR port.
    Tls {
        /// Where its OR port is.
        address: SocketAddr,
        /// Tor's fingerprint.
        rsa: RsaId,
        /// The identity that its CERTS must prove.
        ed25519: Ed25519Id,
    },
}

/// Why a bridge line was not understood. Shown to whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BridgeLineError {
    /// Neither form.
    #[error(
        "a bridge is written ws://HOST:PORT/link#ED25519.NTOR (or wss://…) or \
         IP:PORT:CERTHASH#ED25519.NTOR for a page, or IP:PORT/FINGERPRINT/ED25519 for a router; the bridge prints both when it starts"
    )]
    Form,
    /// The part behind `#` is not two keys.
    #[error(
        "the keys behind # must be the bridge's Ed25519 and ntor keys in base64url, with a dot between"
    )]
    Keys,
    /// The fingerprint is not forty hex digits.
    #[error("the fingerprint must be forty hex digits")]
    Fingerprint,
    /// The part before `#` does not end with a certificate's hash.
    #[error("the hash of the DTLS certificate must be 43 characters of base64url, after the port")]
    Certificate,
    /// The address is not an IP address with a port.
    #[error(
        "the OR port must be an IP address and a port, such as 192.0.2.7:9001 or [2001:db8::7]:9001"
    )]
    Address,
}

impl FromStr for BridgeLine {
    type Err = BridgeLineError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let line = line.trim();
        if line.starts_with("ws://") || line.starts_with("wss://") {
            let (url, keys) = line.split_once('#').ok_or(BridgeLineError::Form)?;
            let (ed25519, onion) = keys.split_once('.').ok_or(BridgeLineError::Keys)?;
            return Ok(BridgeLine::WebSocket {
                url: url.to_owned(),
                ed25519: Ed25519Id(from_base64url(ed25519).ok_or(BridgeLineError::Keys)?),
                onion: OnionKey(from_base64url(onion).ok_or(BridgeLineError::Keys)?),
            });
        }
        if let Some((place, keys)) = line.split_once('#') {
            let (ed25519, onion) = keys.split_once('.').ok_or(BridgeLineError::Keys)?;
            let (address, hash) = place.rsplit_once(':').ok_or(BridgeLineError::Form)?;
            return Ok(BridgeLine::Peer {
                address: address.parse().map_err(|_| BridgeLineError::Address)?,
                certificate_sha256: from_base64url(hash).ok_or(BridgeLineError::Certificate)?,
                ed25519: Ed25519Id(from_base64url(ed25519).ok_or(BridgeLineError::Keys)?),
                onion: OnionKey(from_base64url(onion).ok_or(BridgeLineError::Keys)?),
            });
        }
        let mut parts = line.split('/');
        let (Some(address), Some(rsa), Some(ed25519), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BridgeLineError::Form);
        };
        Ok(BridgeLine::Tls {
            address: address.parse().map_err(|_| BridgeLineError::Address)?,
            rsa: RsaId(from_hex(rsa).ok_or(BridgeLineError::Fingerprint)?),
            ed25519: Ed25519Id(from_base64url(ed25519).ok_or(BridgeLineError::Keys)?),
        })
    }
}

impl fmt::Display for BridgeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BridgeLine::WebSocket {
                url,
                ed25519,
                onion,
            } => write!(
                f,
                "{url}#{}.{}",
                to_base64url(&ed25519.0),
                to_base64url(&onion.0)
            ),
            BridgeLine::Peer {
                address,
                certificate_sha256,
                ed25519,
                onion,
            } => write!(
                f,
                "{address}:{}#{}.{}",
                to_base64url(certificate_sha256),
                to_base64url(&ed25519.0),
                to_base64url(&onion.0)
            ),
            BridgeLine::Tls {
                address,
                rsa,
                ed25519,
            } => write!(f, "{address}/{rsa}/{}", to_base64url(&ed25519.0)),
        }
    }
}

impl BridgeLine {
    /// How a router is entered by WebRTC: a line for each of its addresses.
    pub fn of_peer(
        identity: &Identity,
        certificate_sha256: [u8; 32],
        addresses: &[SocketAddr],
    ) -> Vec<Self> {
        let line = |address: &SocketAddr| BridgeLine::Peer {
            address: *address,
            certificate_sha256,
            ed25519: identity.ids().ed25519,
            onion: identity.onion_key(),
        };
        addresses.iter().map(line).collect()
    }

    /// The identity that it must prove.
    pub const fn ed25519(&self) -> Ed25519Id {
        match self {
            BridgeLine::WebSocket { ed25519, .. }
            | BridgeLine::Tls { ed25519, .. }
            | BridgeLine::Peer { ed25519, .. } => *ed25519,
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A key as base64url without padding (RFC 4648, section 5).
pub fn to_base64url(key: &[u8; 32]) -> String {
    let mut text = String::with_capacity(43);
    for group in key.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for place in 0..=group.len() {
            let index = (bits >> (18 - 6 * place)) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

fn from_base64url(text: &str) -> Option<[u8; 32]> {
    if text.len() != 43 {
        return None;
    }
    let mut key = [0; 32];
    let mut bits = 0u32;
    let mut held = 0;
    let mut at = 0;
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            *key.get_mut(at)? = (bits >> held) as u8;
            bits &= (1 << held) - 1;
            at += 1;
        }
    }
    // One text for one key: the two bits that remain must be zero.
    (bits == 0).then_some(key)
}

fn from_hex(text: &str) -> Option<[u8; 20]> {
    let mut id = [0; 20];
    if text.len() != 40 || !text.bytes().all(|letter| letter.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_go_there_and_back() {
        for seed in [0, 0x5a, 0xff] {
            let lines = [
                BridgeLine::WebSocket {
                    url: "wss://bridge.example/link".into(),
                    ed25519: Ed25519Id([seed; 32]),
                    onion: OnionKey([seed ^ 0x3c; 32]),
                },
                BridgeLine::Peer {
                    address: "192.0.2.7:9001".parse().unwrap(),
                    certificate_sha256: [seed ^ 7; 32],
                    ed25519: Ed25519Id([seed; 32]),
                    onion: OnionKey([seed ^ 0x3c; 32]),
                },
                BridgeLine::Peer {
                    address: "[2001:db8::7]:443".parse().unwrap(),
                    certificate_sha256: [seed; 32],
                    ed25519: Ed25519Id([seed; 32]),
                    onion: OnionKey([seed; 32]),
                },
                BridgeLine::Tls {
                    address: "[2001:db8::1]:9001".parse().unwrap(),
                    rsa: RsaId([seed; 20]),
                    ed25519: Ed25519Id([seed ^ 1; 32]),
                },
            ];
            for line in lines {
                assert_eq!(line.to_string().parse(), Ok(line));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let key = to_base64url(&[1; 32]);
        for (line, error) in [
            ("bridge.example".to_owned(), BridgeLineError::Form),
            (
                format!("192.0.2.7:1:{key}A#{key}.{key}"),
                BridgeLineError::Certificate,
            ),
            (
                format!("host:1:{key}#{key}.{key}"),
                BridgeLineError::Address,
            ),
            (format!("192.0.2.7:1:{key}#{key}"), BridgeLineError::Keys),
            ("ws://h/link".to_owned(), BridgeLineError::Form),
            (format!("ws://h/link#{key}"), BridgeLineError::Keys),
            (format!("ws://h/link#{key}.{key}A"), BridgeLineError::Keys),
            (
                format!("localhost:1/{}/{key}", "0".repeat(40)),
                BridgeLineError::Address,
            ),
            (
                format!("127.0.0.1:1/{}/{key}", "é".repeat(20)),
                BridgeLineError::Fingerprint,
            ),
        ] {
            assert_eq!(line.parse::<BridgeLine>(), Err(error), "{line}");
        }
    }
}
