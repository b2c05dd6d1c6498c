//! The info dictionary: whom to ask for it, and what to make of it.

use std::sync::Arc;

use bytes::Bytes;
use chive_node::torrent::{Infohash, InfohashV1, Magnet, Metainfo, Verifier};
use tokio::time::Instant;

use super::{Info, Send, Torrent};
use crate::swarm::metadata::{HEDGE_AFTER, MAX_SOURCES, MetadataFetch, PART_TIMEOUT};
use crate::swarm::peers::PeerKey;

impl Torrent {
    /// A peer says that it has an info dictionary of this length.
    pub(crate) fn handle_metadata_length(&mut self, now: Instant, peer: PeerKey, length: u32) {
        let Info::AwaitMetadata { too_large_since } = &mut self.info else {
            return;
        };
        if length as usize > self.config.max_metadata {
            too_large_since.get_or_insert(now);
            self.changed.notify_one();
        } else if length > 0
            && let Some(peer) = self.peers.get_mut(&peer)
        {
            // Somebody has one that we would take: wait for that.
            *too_large_since = None;
            peer.metadata_length = Some(length);
        }
    }

    /// A peer sent a part of the info dictionary. The whole, once it is there, to be checked by
    /// [`read_info`] outside of the lock.
    pub(crate) fn handle_metadata_part(
        &mut self,
        now: Instant,
        key: PeerKey,
        part: u32,
        bytes: &[u8],
    ) -> Option<Bytes> {
        let peer = self.peers.get_mut(&key)?;
        let fetch = peer.metadata.as_mut()?;
        match fetch.handle_part(now, part, bytes) {
            Ok(whole) => whole,
            Err(_) => {
                self.ban(key);
                None
            }
        }
    }

    /// A peer does not send the info dictionary after all.
    pub(crate) fn handle_metadata_refused(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.metadata = None;
            peer.metadata_length = None;
            self.wake_peers();
        }
    }

    /// What [`read_info`] made of what a peer sent.
    pub(crate) fn handle_info(&mut self, now: Instant, key: PeerKey, read: Option<InfoRead>) {
        if matches!(self.info, Info::Known { .. }) {
            return;
        }
        let Some(InfoRead { bytes, verifier }) = read else {
            return self.ban(key);
        };
        let pieces = verifier.as_ref().map(|v| v.metainfo().piece_count());
        for peer in self.peers.values_mut() {
            peer.metadata = None;
            // One who speaks of more pieces than there are speaks of another torrent.
            let most = pieces.map(|pieces| (pieces as usize).div_ceil(8));
            peer.hang_up |= most.is_some_and(|most| peer.has.byte_length() > most);
        }
        self.progress_at = now;
        self.opened = Some(bytes.clone());
        self.has_answers = true;
        self.info = Info::Known { bytes, verifier };
        self.wake_peers();
        self.changed.notify_one();
    }

    /// Which parts of the info dictionary to ask this peer for; and when it may be this peer's
    /// turn to be asked as well.
    pub(super) fn poll_metadata(
        &mut self,
        now: Instant,
        key: PeerKey,
        out: &mut Vec<Send>,
    ) -> Option<Instant> {
        if matches!(self.info, Info::Known { .. }) {
            return None;
        }
        let sources = self.peers.values().filter_map(|p| p.metadata.as_ref());
        let heard: Vec<Instant> = sources.map(|fetch| fetch.since).collect();
        let peer = self.peers.get_mut(&key)?;
        let length = peer.metadata_length?;
        if let Some(fetch) = &peer.metadata {
            if now >= fetch.since + PART_TIMEOUT {
                self.handle_metadata_refused(key);
                return None;
            }
        } else {
            // Whoever was heard last tells whether the others are slow.
            let latest = heard.iter().max();
            let turn = latest.map_or(now, |latest| *latest + HEDGE_AFTER);
            if heard.len() >= MAX_SOURCES || now < turn {
                return Some(turn.max(now + HEDGE_AFTER));
            }
            peer.metadata = Some(MetadataFetch::new(now, length));
        }
        let fetch = peer.metadata.as_mut()?;
        while let Some(part) = fetch.poll_request() {
            out.push(Send::Metadata(part));
        }
        Some(fetch.since + PART_TIMEOUT)
    }
}

/// An info dictionary that is the one named.
#[derive(Debug)]
pub(crate) struct InfoRead {
    bytes: Bytes,
    verifier: Option<Arc<Verifier>>,
}

/// Checks what a peer sent against the name, and reads it. None if it is something else.
///
/// One that is what was named and makes no sense to us is still handed on: whoever asked reads it
/// itself, and has a better sentence for it than we.
pub(crate) fn read_info(name: Infohash, bytes: Bytes) -> Option<InfoRead> {
    if !name.names(&bytes) {
        return None;
    }
    let metainfo = Metainfo::from_info(bytes.clone(), &Magnet::new(name)).ok();
    let verifier = metainfo.map(|metainfo| Arc::new(Verifier::new(Arc::new(metainfo))));
    Some(InfoRead { bytes, verifier })
}

/// The 20 bytes by which trackers, the DHT and peers know a torrent: v2 names are cut (BEP 52).
pub(crate) fn swarm_id(name: Infohash) -> [u8; 20] {
    match name {
        Infohash::V1(InfohashV1(id)) => id,
        Infohash::V2(v2) => {
            let mut id = [0; 20];
            id.copy_from_slice(&v2.0[..20]);
            id
        }
    }
}
