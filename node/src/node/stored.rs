//! Torrents and the host's store: what is handed down and what comes back.

use std::ops::Range;

use bytes::Bytes;

use crate::ids::TorrentId;
use crate::node::{Node, OpenError};
use crate::ordb::Requester;
use crate::store::{ChunkWant, StoreAnswer, StoreWant};
use crate::time::Instant;
use crate::torrent::{Magnet, TorrentFile};

impl Node {
    /// Says that the host keeps chunks: torrents hand it what they verify from now on
    /// ([`crate::node::Event::Store`]), and hold in memory only what is in use.
    pub fn set_host_store(&mut self) {
        self.host_store = true;
        for torrent in self.torrents.values_mut() {
            torrent.requester.set_hosted();
        }
    }

    /// Opens a torrent of which the host has these chunks: from an earlier session, or because it
    /// has the files. What is missing is fetched for readers, and all of it where
    /// [`Self::set_wanted`] says so.
    pub fn restore_torrent(
        &mut self,
        now: Instant,
        file: TorrentFile,
        have: impl IntoIterator<Item = Range<u32>>,
    ) -> Result<TorrentId, OpenError> {
        self.now = now;
        let config = self.requester_config();
        let mut requester =
            Requester::with_metainfo(now, file.magnet, file.metainfo, file.piece_layers, config);
        requester.restore(now, have);
        self.add_torrent(requester)
    }

    /// Whether all of a torrent is wanted, whoever reads.
    pub fn set_wanted(&mut self, now: Instant, id: TorrentId, wanted: bool) {
        self.with_requester(now, id, |requester| requester.set_wanted(now, wanted));
    }

    /// Stops asking for a torrent, or goes on. What is here is read and served all the same.
    pub fn set_paused(&mut self, now: Instant, id: TorrentId, paused: bool) {
        self.with_requester(now, id, |requester| requester.set_paused(now, paused));
        self.directory_dirty = true;
        self.settle();
    }

    /// The host has these chunks of an open torrent as well.
    pub fn add_stored(
        &mut self,
        now: Instant,
        id: TorrentId,
        have: impl IntoIterator<Item = Range<u32>>,
    ) {
        self.with_requester(now, id, |requester| requester.restore(now, have));
    }

    /// The piece layers of a torrent, once they are here; each says what its pieces are by v2.
    pub fn piece_layers(&self, id: TorrentId) -> Option<&Bytes> {
        self.torrents.get(&id)?.requester.piece_layers()
    }

    /// What a torrent was opened by.
    pub fn magnet(&self, id: TorrentId) -> Option<&Magnet> {
        Some(self.torrents.get(&id)?.requester.magnet())
    }

    /// The open torrent that this link names, if its metadata is known or it was opened by the
    /// same name.
    pub fn find_torrent(&self, magnet: &Magnet) -> Option<TorrentId> {
        let same = |one: &Magnet| {
            (one.v1.is_some() && one.v1 == magnet.v1) || (one.v2.is_some() && one.v2 == magnet.v2)
        };
        self.torrents
            .iter()
            .find(|(_, torrent)| {
                let known = torrent.requester.metainfo().map(|metainfo| Magnet {
                    v1: metainfo.v1(),
                    v2: metainfo.v2(),
                    ..Magnet::default()
                });
                same(torrent.requester.magnet()) || known.is_some_and(|known| same(&known))
            })
            .map(|(id, _)| *id)
    }

    /// Whether a torrent is whole, and whether it is paused or wanted whole.
    pub fn torrent_flags(&self, id: TorrentId) -> Option<TorrentFlags> {
        let requester = &self.torrents.get(&id)?.requester;
        Some(TorrentFlags {
            complete: requester.is_complete(),
            paused: requester.is_paused(),
            wanted: requester.is_wanted(),
            full: requester.is_full(),
        })
    }

    pub(super) fn handle_store_answer(&mut self, answer: StoreAnswer) {
        let now = self.now;
        match answer {
            StoreAnswer::Written {
                torrent,
                chunk,
                kept,
            } => self.with_requester(now, torrent, |it| it.handle_written(now, chunk, kept)),
            StoreAnswer::Read {
                torrent,
                chunk,
                bytes,
            } => self.with_requester(now, torrent, |it| it.handle_loaded(now, chunk, bytes)),
            StoreAnswer::Gone { torrent, chunks } => {
                self.with_requester(now, torrent, |it| it.handle_gone(now, chunks));
                self.emit_progress(torrent);
            }
            StoreAnswer::Room => {
                let all: Vec<TorrentId> = self.torrents.keys().copied().collect();
                for torrent in all {
                    self.with_requester(now, torrent, |it| it.handle_room(now));
                }
            }
        }
    }

    fn with_requester(&mut self, now: Instant, id: TorrentId, call: impl FnOnce(&mut Requester)) {
        self.now = now;
        if let Some(torrent) = self.torrents.get_mut(&id) {
            call(&mut torrent.requester);
            self.torrents_dirty.insert(id);
            self.settle();
        }
    }
}

/// What a user may have done with a torrent, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TorrentFlags {
    /// All of it is here.
    pub complete: bool,
    /// Nothing is asked for it.
    pub paused: bool,
    /// All of it is to be fetched.
    pub wanted: bool,
    /// The host has no room for more of it: it is tried again by and by.
    pub full: bool,
}

pub(super) fn wanted(torrent: TorrentId, want: ChunkWant) -> StoreWant {
    match want {
        ChunkWant::Write(chunk, bytes) => StoreWant::Write {
            torrent,
            chunk,
            bytes,
        },
        ChunkWant::Read(chunk) => StoreWant::Read { torrent, chunk },
    }
}
