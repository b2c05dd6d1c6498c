//! A node's events and state as plain objects for the page.

use serde_json::{Value, json};

use crate::ids::TorrentId;
use crate::node::{BridgeLine, BridgeState, Event, Node, PeerKind, PeerStatus};
use crate::ordb::Failure;
use crate::torrent::Metainfo;
use crate::wire::Holders;

/// Kademlia's: one for each bit of an ID.
const BUCKETS: usize = 160;

/// An event as the page gets it; nothing for those that are the host's own.
pub(super) fn event(node: &Node, event: &Event) -> Option<Value> {
    Some(match event {
        Event::Metadata { torrent, metainfo } => {
            let mut value = described(metainfo);
            value["type"] = "metadata".into();
            value["torrent"] = torrent.0.into();
            value["magnet"] = node.magnet(*torrent).map(ToString::to_string).into();
            value
        }
        Event::Progress { torrent } => {
            let progress = node.progress(*torrent)?;
            json!({
                "type": "progress",
                "torrent": torrent.0,
                "verified_bytes": progress.verified_bytes,
                "rate_bytes_per_second": progress.rate_bytes_per_second,
            })
        }
        Event::Readable(read) => json!({ "type": "readable", "read": read.0 }),
        Event::Failed { torrent, failure } => json!({
            "type": "failed",
            "torrent": torrent.0,
            "message": failure.to_string(),
            "reason": reason(failure),
            "final": failure.is_final(),
        }),
        Event::SourceDropped {
            torrent, rsa, why, ..
        } => json!({
            "type": "source-dropped",
            "torrent": torrent.0,
            "router": rsa.map(|rsa| rsa.to_string()),
            "message": why,
        }),
        Event::Bridge { bridge, state } => {
            let (line, _) = node.bridges().nth(*bridge)?;
            let (word, message) = bridge_words(state);
            json!({
                "type": "bridge",
                "url": bridge_url(line),
                "state": word,
                "message": message,
            })
        }
        Event::Entries(lines) => {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            json!({ "type": "entries", "lines": lines })
        }
        Event::Circuits => json!({ "type": "circuits" }),
        _ => return None,
    })
}

/// All that the status page shows.
pub(super) fn status(node: &Node) -> Value {
    let bridges: Vec<Value> = node
        .bridges()
        .map(|(line, state)| {
            let (word, error) = bridge_words(state);
            json!({ "url": bridge_url(line), "state": word, "error": error })
        })
        .collect();
    let peers = node.peers();
    let circuits: Vec<Value> = node
        .circuits()
        .into_iter()
        .map(|circuit| {
            let last = circuit.path.len().saturating_sub(1);
            let hops: Vec<Value> = circuit
                .path
                .iter()
                .enumerate()
                .map(|(place, router)| {
                    let linked = peers.iter().find(|peer| peer.rsa == router.rsa);
                    let role = match place {
                        // While its link is gone or to come, nobody knows what it is.
                        0 => linked.map_or("entry", |peer| kind(peer.kind)),
                        place if place == last => "ordb",
                        _ => "middle",
                    };
                    json!({
                        "role": role,
                        "fingerprint": router.rsa.to_string(),
                        "address": router.addresses.first().map(ToString::to_string),
                    })
                })
                .collect();
            let open = circuit.hops == circuit.path.len();
            json!({
                "id": circuit.circuit.0,
                "state": if open { "open" } else { "building" },
                "hops": hops,
                "torrent": circuit.torrent.map(|torrent| torrent.0),
            })
        })
        .collect();
    let torrents: Vec<Value> = node.torrents().map(|id| torrent(node, id)).collect();
    let links: Vec<Value> = peers.iter().map(link).collect();
    let counters = node.counters();
    let carried = node.carried();
    let mut buckets = vec![0; BUCKETS];
    let mut peers_known = 0;
    for (bucket, contacts) in node.buckets() {
        peers_known += contacts;
        if let Some(fill) = buckets.get_mut(usize::from(bucket)) {
            *fill = contacts;
        }
    }
    json!({
        "links": links,
        "bridges": bridges,
        "circuits": circuits,
        "torrents": torrents,
        "carried": { "circuits": carried.circuits, "bytes": carried.bytes },
        "buckets": buckets,
        "peers_known": peers_known,
        "routers_known": node.gauges().routers,
        "link_bytes": { "sent": counters.bytes_sent, "received": counters.bytes_received },
    })
}

fn link(peer: &PeerStatus) -> Value {
    json!({
        "id": peer.rsa.to_string(),
        "kind": kind(peer.kind),
        "state": "open",
        "sent": peer.bytes_sent,
        "received": peer.bytes_received,
    })
}

fn kind(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::Bridge => "bridge",
        PeerKind::Facilitator => "facilitator",
        PeerKind::Tab => "tab",
    }
}

fn torrent(node: &Node, id: TorrentId) -> Value {
    let progress = node.progress(id).unwrap_or_default();
    let metainfo = node.metainfo(id);
    let verified: Vec<[u64; 2]> = node
        .verified_ranges(id)
        .into_iter()
        .map(|range| [range.start, range.end])
        .collect();
    let sources: Vec<Value> = node
        .sources(id)
        .into_iter()
        .map(|(rsa, stats)| {
            json!({
                "router": rsa.to_string(),
                "state": stats.state,
                "rate_bytes_per_second": stats.rate_bytes_per_second,
                "delay_ms": stats.delay.as_secs_f64() * 1000.0,
                "window_chunks": stats.window_chunks,
                "unanswered_chunks": stats.unanswered_chunks,
                "delivered_bytes": stats.delivered_bytes,
            })
        })
        .collect();
    let failure = node.failure(id);
    let flags = node.torrent_flags(id).unwrap_or_default();
    let state = match (failure, metainfo) {
        (Some(_), _) => "failed",
        (None, None) => "finding",
        (None, Some(_)) if progress.verified_bytes >= progress.total_bytes => "complete",
        (None, Some(_)) => "open",
    };
    json!({
        "id": id.0,
        "infohash": metainfo.map(|metainfo| metainfo.infohash().to_string()),
        "name": metainfo.map(|metainfo| metainfo.name()),
        "state": state,
        "paused": flags.paused,
        "wanted": flags.wanted,
        "complete": flags.complete,
        "full": flags.full && !flags.complete,
        "total_bytes": progress.total_bytes,
        "verified_bytes": progress.verified_bytes,
        "verified_in_all_bytes": progress.verified_in_all_bytes,
        "wasted_bytes": progress.wasted_bytes,
        "rate_bytes_per_second": progress.rate_bytes_per_second,
        "sent_bytes": node.sent_bytes(id),
        "availability": availability(&node.availability(id)),
        "verified": verified,
        "sources": sources,
        "error": failure.map(ToString::to_string),
    })
}

/// How many others hold so much or more.
fn availability(others: &Holders) -> Value {
    json!([
        { "percent": 25, "count": others.quarter },
        { "percent": 50, "count": others.half },
        { "percent": 75, "count": others.three_quarters },
        { "percent": 100, "count": others.whole },
    ])
}

/// What a torrent holds, padding left out.
fn described(metainfo: &Metainfo) -> Value {
    let files: Vec<Value> = metainfo
        .files()
        .iter()
        .enumerate()
        .filter(|(_, file)| !file.padding)
        .map(|(index, file)| {
            json!({
                "index": index,
                "path": file.path,
                "length": file.length,
                "offset": file.offset,
            })
        })
        .collect();
    json!({
        "name": metainfo.name(),
        "infohash": metainfo.infohash().to_string(),
        "files": files,
        "total_bytes": metainfo.layout().total_length(),
    })
}

/// Why a torrent cannot be had, in a word: the page's advice hangs on it.
fn reason(failure: &Failure) -> &'static str {
    match failure {
        Failure::NotFound { .. } => "not-found",
        Failure::Gone { .. } => "gone",
        Failure::MetadataTooLarge { .. }
        | Failure::PieceTooLarge { .. }
        | Failure::TooLargeForSources { .. } => "too-large",
        Failure::NoPieceLayers => "unavailable",
        Failure::Metadata(_) | Failure::Contradiction => "unusable",
    }
}

fn bridge_url(line: &BridgeLine) -> String {
    match line {
        BridgeLine::WebSocket { url, .. } => url.clone(),
        BridgeLine::Tls { address, .. } | BridgeLine::Peer { address, .. } => address.to_string(),
    }
}

fn bridge_words(state: &BridgeState) -> (&'static str, Option<&str>) {
    match state {
        BridgeState::Idle => ("idle", None),
        BridgeState::Connecting => ("connecting", None),
        BridgeState::Connected | BridgeState::Registered => ("connected", None),
        BridgeState::Failed { why } => ("failed", Some(why)),
    }
}
