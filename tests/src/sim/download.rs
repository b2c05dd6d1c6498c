//! What a user does: opens a torrent and reads it, or shares one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chive_node::circuit::client::Router;
use chive_node::ids::{ReadId, TorrentId};
use chive_node::node::Event;
use chive_node::ordb::{Demand, Read};
use chive_node::torrent::TorrentFile;

use super::{Manner, NodeIndex, World};
use crate::torrents::TestTorrent;

/// What a circuit takes to be built, at the most.
const CIRCUIT_TIME: Duration = Duration::from_secs(10);

/// A tab that opens a torrent and reads all of its one file.
pub struct Download {
    tab: NodeIndex,
    /// Which.
    pub torrent: TorrentId,
    read: Option<ReadId>,
    /// What was read.
    pub bytes: Vec<u8>,
    /// What happened meanwhile.
    pub events: Vec<Event>,
}

impl Download {
    /// Opens it.
    pub fn begin(world: &mut World, tab: NodeIndex, torrent: &TestTorrent) -> Self {
        let magnet = torrent.magnet.clone();
        let id = world
            .call(tab, |node, now| node.open_torrent(now, magnet))
            .expect("opened");
        Download {
            tab,
            torrent: id,
            read: None,
            bytes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Opens it as somebody new who asks the last of these routers and nobody else.
    pub fn begin_over(world: &mut World, path: Vec<Arc<Router>>, torrent: &TestTorrent) -> Self {
        let tab = world.add_client();
        let circuit = world.call(tab, |node, now| node.build_circuit(now, path));
        let circuit = circuit.expect("a circuit");
        world.run_for(CIRCUIT_TIME);
        let download = Download::begin(world, tab, torrent);
        let id = download.torrent;
        let given = world.call(tab, |node, now| node.add_source(now, id, circuit));
        given.expect("a source");
        download
    }

    /// Of one that is open.
    pub fn reopen(tab: NodeIndex, torrent: TorrentId) -> Self {
        Download {
            tab,
            torrent,
            read: None,
            bytes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Takes what is there. True once all is.
    pub fn step(&mut self, world: &mut World) -> bool {
        let events = world.take_events(self.tab);
        if self.read.is_none()
            && let Some(metainfo) = world.node(self.tab).metainfo(self.torrent)
        {
            let length = metainfo.files()[0].length;
            let torrent = self.torrent;
            let read = world.call(self.tab, |node, now| {
                node.open_read(now, torrent, 0, 0..length, Demand::Play)
            });
            self.read = Some(read.expect("a reader"));
        }
        self.events.extend(events);
        let Some(read) = self.read else {
            return false;
        };
        loop {
            match world.call(self.tab, |node, now| node.poll_read(now, read, 1 << 20)) {
                Read::Bytes(bytes) => self.bytes.extend_from_slice(&bytes),
                Read::Pending => return false,
                Read::End => return true,
                Read::Failed => panic!("the read failed"),
            }
        }
    }

    /// Runs it to its end and compares every byte.
    pub fn finish(&mut self, world: &mut World, torrent: &TestTorrent, limit: Duration) {
        let done = world.run_until(limit, |world| self.step(world));
        assert!(
            done,
            "seed {}: {} of {} bytes by {:?}",
            world.seed(),
            self.bytes.len(),
            torrent.content.len(),
            world.now()
        );
        assert!(self.bytes == torrent.content, "seed {}", world.seed());
    }
}

/// Runs a download to its end and compares every byte.
pub fn download(
    world: &mut World,
    tab: NodeIndex,
    torrent: &TestTorrent,
    limit: Duration,
) -> Download {
    let mut download = Download::begin(world, tab, torrent);
    download.finish(world, torrent, limit);
    download
}

/// Gives a tab these pieces of a torrent, and shares it if it is to.
pub fn hold(
    world: &mut World,
    tab: NodeIndex,
    torrent: &TestTorrent,
    pieces: std::ops::Range<u32>,
    share: bool,
) -> TorrentId {
    let file = [&b"d4:info"[..], &torrent.info, b"e"].concat();
    let file = TorrentFile::parse(&file).expect("a .torrent file");
    let metainfo = file.metainfo.clone();
    let id = world
        .call(tab, |node, now| node.open_torrent_file(now, file))
        .expect("opened");
    for piece in pieces {
        let blocks: Vec<Bytes> = metainfo
            .piece_chunks(piece)
            .map(|chunk| {
                let start = usize::try_from(metainfo.chunk_offset(chunk)).expect("a small file");
                let length = metainfo.chunk_length(chunk) as usize;
                torrent.content.slice(start..start + length)
            })
            .collect();
        let is_right = world.call(tab, |node, now| node.put_piece(now, id, piece, &blocks));
        assert!(is_right, "piece {piece}");
    }
    if share {
        world.call(tab, |node, now| node.share_torrent(now, id, true));
    }
    id
}

/// A tab whose host has the whole of a torrent from before, and gives it back truly or not.
pub fn restore(
    world: &mut World,
    tab: NodeIndex,
    torrent: &TestTorrent,
    manner: Manner,
) -> TorrentId {
    let file = [&b"d4:info"[..], &torrent.info, b"e"].concat();
    let file = TorrentFile::parse(&file).expect("a .torrent file");
    let chunks = file.metainfo.chunk_count();
    world.keep(tab, torrent.content.clone(), manner);
    world.call(tab, |node, now| {
        node.set_host_store();
        node.restore_torrent(now, file, std::iter::once(0..chunks))
            .expect("opened")
    })
}
