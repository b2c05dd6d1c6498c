//! Signals as plain objects, as `web/rtc.js` has them.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::{Candidate, CandidateHost, CandidateKind, IceDescription, IceText, Signal};

/// Kinds of candidates as ICE's text form has them (RFC 8839).
const KINDS: [(CandidateKind, &str); 4] = [
    (CandidateKind::HOST, "host"),
    (CandidateKind::SERVER_REFLEXIVE, "srflx"),
    (CandidateKind::PEER_REFLEXIVE, "prflx"),
    (CandidateKind::RELAYED, "relay"),
];
/// What a name of multicast DNS ends with.
const LOCAL: &str = ".local";

/// A candidate, for the page; nothing of a kind that we do not know.
fn candidate(candidate: &Candidate) -> Option<Value> {
    let (_, kind) = KINDS.iter().find(|(known, _)| *known == candidate.kind)?;
    let host = match candidate.host {
        CandidateHost::Ip(ip) => ip.to_string(),
        CandidateHost::Mdns(uuid) => format!("{}{LOCAL}", uuid_text(&uuid)),
    };
    Some(json!({
        "kind": kind,
        "host": host,
        "port": candidate.port,
        "priority": candidate.priority,
    }))
}

/// A description, for the page.
pub(super) fn description(form: &str, description: &IceDescription) -> Value {
    let candidates: Vec<Value> = description
        .candidates
        .iter()
        .filter_map(candidate)
        .collect();
    json!({
        "form": form,
        "ufrag": description.ufrag.as_str(),
        "password": description.password.as_str(),
        "certificate_sha256": hex(&description.certificate_sha256),
        "candidates": candidates,
    })
}

/// A signal, for the page; nothing for what is not its to act on.
pub(super) fn to_page(signal: &Signal) -> Option<Value> {
    match signal {
        Signal::Offer(offer) => Some(description("offer", offer)),
        Signal::Answer(answer) => Some(description("answer", answer)),
        Signal::Candidate(one) => {
            let mut value = candidate(one)?;
            value["form"] = "candidate".into();
            Some(value)
        }
        Signal::DialMe { .. } => None,
    }
}

#[derive(Deserialize)]
#[serde(tag = "form", rename_all = "lowercase")]
enum Said {
    Offer(SaidDescription),
    Answer(SaidDescription),
    Candidate(SaidCandidate),
}

#[derive(Deserialize)]
struct SaidDescription {
    ufrag: String,
    password: String,
    certificate_sha256: String,
    candidates: Vec<SaidCandidate>,
}

#[derive(Deserialize)]
struct SaidCandidate {
    kind: String,
    host: String,
    port: u16,
    priority: u32,
}

/// A signal that the page tells; nothing if it is none.
pub(super) fn from_page(text: &str) -> Option<Signal> {
    match serde_json::from_str(text).ok()? {
        Said::Offer(said) => said.read().map(Signal::Offer),
        Said::Answer(said) => said.read().map(Signal::Answer),
        Said::Candidate(said) => said.read().map(Signal::Candidate),
    }
}

impl SaidDescription {
    fn read(self) -> Option<IceDescription> {
        Some(IceDescription {
            ufrag: IceText::new(&self.ufrag)?,
            password: IceText::new(&self.password)?,
            certificate_sha256: from_hex(&self.certificate_sha256)?,
            candidates: self
                .candidates
                .into_iter()
                .filter_map(SaidCandidate::read)
                .collect(),
        })
    }
}

impl SaidCandidate {
    fn read(self) -> Option<Candidate> {
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == self.kind)?;
        let host = match self.host.strip_suffix(LOCAL) {
            Some(uuid) => CandidateHost::Mdns(uuid_bytes(uuid)?),
            None => CandidateHost::Ip(self.host.parse::<IpAddr>().ok()?),
        };
        Some(Candidate {
            kind: *kind,
            host,
            port: self.port,
            priority: self.priority,
        })
    }
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many bytes as there are to be, from hex.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    bytes(text)?.try_into().ok()
}

/// Bytes from hex.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// A UUID with its four dashes.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = hex(uuid);
    for place in [20, 16, 12, 8] {
        text.insert(place, '-');
    }
    text
}

fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let bytes = from_hex(&text.replace('-', ""))?;
    (uuid_text(&bytes) == text.to_ascii_lowercase()).then_some(bytes)
}

#[cfg(test)]
#[path = "signal/tests.rs"]
mod tests;
