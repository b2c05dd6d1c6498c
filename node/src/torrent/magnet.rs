//! Magnet links (BEP 9, BEP 52, BEP 53), and bare infohashes.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::display_name::display_name;
use super::infohash::{from_base32, from_hex};
use super::{Infohash, InfohashV1, InfohashV2, MAX_MAGNET_HINTS, MAX_MAGNET_LEN, MagnetError};

const BTIH: &str = "urn:btih:";
const BTMH: &str = "urn:btmh:";

/// A multihash of SHA-256: its code, its length.
const SHA256_MULTIHASH: &str = "1220";

/// The longest tracker or web seed address that is kept.
const MAX_URL_LEN: usize = 2048;

/// What a magnet link says: which torrent, and where others say it can be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Magnet {
    /// `xt=urn:btih:`
    pub v1: Option<InfohashV1>,
    /// `xt=urn:btmh:`
    pub v2: Option<InfohashV2>,
    /// `dn`: a name to show until the metadata is there, made fit to be shown.
    pub name: Option<String>,
    /// `tr`: trackers, http(s), udp or ws(s).
    pub trackers: Vec<String>,
    /// `x.pe`: peers, where they are given by address. Names of hosts are left out: resolving them
    /// would tell a name server.
    pub peers: Vec<SocketAddr>,
    /// `ws`: web seeds, http(s).
    pub web_seeds: Vec<String>,
}

impl Magnet {
    /// A link of nothing but a name.
    pub fn new(infohash: impl Into<Infohash>) -> Self {
        match infohash.into() {
            Infohash::V1(v1) => Self {
                v1: Some(v1),
                ..Self::default()
            },
            Infohash::V2(v2) => Self {
                v2: Some(v2),
                ..Self::default()
            },
        }
    }

    /// The name to ask by: v1 where there is one, since more swarms answer to it. None in a link
    /// that was made by hand and names nothing.
    pub fn infohash(&self) -> Option<Infohash> {
        self.v1.map(Infohash::V1).or(self.v2.map(Infohash::V2))
    }

    /// Adds a tracker unless its address is not one, is there already, or is one too many.
    pub fn add_tracker(&mut self, url: &str) {
        add_url(
            &mut self.trackers,
            url,
            &["http://", "https://", "udp://", "ws://", "wss://"],
        );
    }

    /// Adds a web seed, on the same conditions.
    pub fn add_web_seed(&mut self, url: &str) {
        add_url(&mut self.web_seeds, url, &["http://", "https://"]);
    }

    /// Adds a peer, on the same conditions.
    pub fn add_peer(&mut self, peer: SocketAddr) {
        let usable = peer.port() != 0 && !peer.ip().is_unspecified();
        if usable && self.peers.len() < MAX_MAGNET_HINTS && !self.peers.contains(&peer) {
            self.peers.push(peer);
        }
    }

    fn add_topic(&mut self, topic: &str) -> Result<(), MagnetError> {
        if let Some(hash) = strip_prefix_ignoring_case(topic, BTIH) {
            let v1 = v1_from_text(hash).ok_or(MagnetError::BadInfohash {
                urn: BTIH,
                expected: "40 digits 0-9 a-f (or 32 letters and digits)",
                found: hash.chars().count(),
            })?;
            return set(&mut self.v1, v1);
        }
        if let Some(hash) = strip_prefix_ignoring_case(topic, BTMH) {
            let v2 = hash.strip_prefix(SHA256_MULTIHASH).and_then(from_hex);
            let v2 = v2.map(InfohashV2).ok_or(MagnetError::BadInfohash {
                urn: BTMH,
                expected: "1220 and 64 digits 0-9 a-f",
                found: hash.chars().count(),
            })?;
            return set(&mut self.v2, v2);
        }
        // A topic of another network: the link may have one of ours as well.
        Ok(())
    }

    fn add_parameter(&mut self, key: &str, value: &str) -> Result<(), MagnetError> {
        // `tr.1=…&tr.2=…` is another way to repeat a key.
        let key = match key.rsplit_once('.') {
            Some((key, number)) if number.bytes().all(|c| c.is_ascii_digit()) => key,
            _ => key,
        };
        match key.to_ascii_lowercase().as_str() {
            "xt" => {
                let topic = unescape(value, false);
                let topic = topic.and_then(|topic| String::from_utf8(topic).ok());
                let topic = topic.ok_or(MagnetError::BadEscape)?;
                // A link has no fragment; where somebody added one, it is no part of the hash.
                self.add_topic(topic.split('#').next().unwrap_or_default().trim())?;
            }
            "dn" if self.name.is_none() => {
                let name = unescape(value, true).filter(|name| !name.is_empty());
                self.name = name.map(|name| display_name(&name));
            }
            "tr" => self.add_tracker(&unescape_hint(value)),
            "ws" => self.add_web_seed(&unescape_hint(value)),
            "x.pe" => {
                if let Ok(peer) = unescape_hint(value).parse() {
                    self.add_peer(peer);
                }
            }
            // Lengths, keywords, sources, a selection of files (so, select-only): no use here.
            _ => {}
        }
        Ok(())
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    /// Reads a magnet link or a bare infohash: 40 hexadecimal digits, 32 of base32, 64 hexadecimal
    /// digits, or those after `1220`.
    fn from_str(text: &str) -> Result<Self, MagnetError> {
        if text.len() > MAX_MAGNET_LEN {
            return Err(MagnetError::TooLong);
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(MagnetError::Empty);
        }
        if let Some(infohash) = bare_infohash(text) {
            return Ok(Self::new(infohash));
        }
        if strip_prefix_ignoring_case(text, "magnet%3A").is_some() {
            // Escaped as a whole, as a part of another address is.
            let link = unescape(text, false).and_then(|link| String::from_utf8(link).ok());
            return link.ok_or(MagnetError::BadEscape)?.parse();
        }
        let mut magnet = Self::default();
        if strip_prefix_ignoring_case(text, "urn:bt").is_some() {
            magnet.add_topic(text)?;
        } else {
            let link = strip_prefix_ignoring_case(text, "magnet:");
            let link = link.ok_or_else(|| not_a_magnet(text))?;
            let query = link.trim_start_matches('/').trim_start_matches('?');
            for parameter in query.split('&') {
                // HTML writes `&` as `&amp;`.
                let parameter = parameter.strip_prefix("amp;").unwrap_or(parameter);
                if let Some((key, value)) = parameter.split_once('=') {
                    magnet.add_parameter(key.trim(), value.trim())?;
                }
            }
        }
        if magnet.infohash().is_none() {
            return Err(MagnetError::NoInfohash);
        }
        Ok(magnet)
    }
}

/// A link that reads back as the same.
impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "magnet:?";
        let mut parameter = |f: &mut fmt::Formatter<'_>, key: &str| {
            let separator = std::mem::replace(&mut before, "&");
            write!(f, "{separator}{key}=")
        };
        if let Some(v1) = self.v1 {
            parameter(f, "xt")?;
            write!(f, "{BTIH}{v1}")?;
        }
        if let Some(v2) = self.v2 {
            parameter(f, "xt")?;
            write!(f, "{BTMH}{SHA256_MULTIHASH}{v2}")?;
        }
        if let Some(name) = &self.name {
            parameter(f, "dn")?;
            write_escaped(f, name)?;
        }
        for tracker in &self.trackers {
            parameter(f, "tr")?;
            write_escaped(f, tracker)?;
        }
        for peer in &self.peers {
            parameter(f, "x.pe")?;
            write!(f, "{peer}")?;
        }
        for seed in &self.web_seeds {
            parameter(f, "ws")?;
            write_escaped(f, seed)?;
        }
        Ok(())
    }
}

fn bare_infohash(text: &str) -> Option<Infohash> {
    if let Some(v1) = v1_from_text(text) {
        return Some(v1.into());
    }
    let digits = text
        .strip_prefix(SHA256_MULTIHASH)
        .filter(|rest| rest.len() == 64);
    from_hex(digits.unwrap_or(text)).map(|hash| InfohashV2(hash).into())
}

fn v1_from_text(text: &str) -> Option<InfohashV1> {
    from_hex(text).or_else(|| from_base32(text)).map(InfohashV1)
}

fn set<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), MagnetError> {
    match slot {
        Some(other) if *other != value => Err(MagnetError::TwoTorrents),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn not_a_magnet(text: &str) -> MagnetError {
    let is_address = ["http:", "https:", "ftp:", "file:", "blob:"]
        .iter()
        .any(|scheme| strip_prefix_ignoring_case(text, scheme).is_some());
    if is_address {
        MagnetError::WebAddress
    } else {
        MagnetError::NotAMagnet
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

fn add_url(urls: &mut Vec<String>, url: &str, schemes: &[&str]) {
    let rest = schemes
        .iter()
        .find_map(|scheme| strip_prefix_ignoring_case(url, scheme));
    let has_host =
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '['));
    let is_plain = !url.contains(|c: char| c.is_control() || c.is_whitespace());
    if has_host
        && is_plain
        && url.len() <= MAX_URL_LEN
        && urls.len() < MAX_MAGNET_HINTS
        && !urls.iter().any(|known| known == url)
    {
        urls.push(url.to_owned());
    }
}

/// A value without which the link still works: damaged, it is left out.
fn unescape_hint(value: &str) -> String {
    let bytes = unescape(value, false).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Undoes %-escapes. In names a `+` is a space: many links are written so.
fn unescape(value: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let [byte] = from_hex(std::str::from_utf8(&digits).ok()?)?;
                byte
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    Some(out)
}

fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))?;
            }
            byte => write!(f, "%{byte:02X}")?,
        }
    }
    Ok(())
}
