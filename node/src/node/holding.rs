//! What this node has and others may have of it: told to the ORDBs at the ends of its circuits,
//! and served over the same circuits, backward.
//!
//! A holder is hidden as a requester is. It is asked only over circuits that are its torrent's
//! own, and only for that torrent: so no ORDB learns that two torrents are one node's.

use std::time::Duration;

use bytes::Bytes;

use crate::crypto::relay::Body;
use crate::ids::{CircuitId, StreamId, TorrentId};
use crate::node::Node;
use crate::node::content::{Torrent, percent_told};
use crate::node::io::Event;
use crate::node::origin::Purpose;
use crate::ordb::{ContentAnswer, ContentWant, StreamKey};
use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::{
    DbData, DbEnd, DbEndReason, DbInfo, DbQuery, DbTold, Decode, DestroyReason, Holders,
    RelayMessage, Roles, Section, split_relay,
};

/// Circuits over which a shared torrent is offered.
pub(crate) const SHARES: usize = 3;

/// How often what is held is told again to those who were told, so that they keep it.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// How many others hold a torrent, as the ORDB at the end of a circuit says: of each of its two
/// names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Others {
    v1: Holders,
    v2: Holders,
}

impl Others {
    /// An ORDB says it anew.
    pub(crate) fn with(self, told: &DbTold) -> Self {
        match told.name {
            Infohash::V1(_) => Others {
                v1: told.holders,
                ..self
            },
            Infohash::V2(_) => Others {
                v2: told.holders,
                ..self
            },
        }
    }
}

/// What can be said to whoever asks for a block now.
enum Held {
    /// Its bytes.
    Here(Bytes),
    /// The host has it and was asked for it.
    Later,
    /// It is not held.
    Missing,
}

impl Node {
    /// Shares a torrent by choice, or no longer: what is held of it is offered over circuits of
    /// its own.
    pub fn share_torrent(&mut self, now: Instant, id: TorrentId, shared: bool) {
        self.now = now;
        let Some(torrent) = self.torrents.get_mut(&id) else {
            return;
        };
        torrent.shared = shared;
        if !shared {
            let circuits: Vec<CircuitId> = self.share_circuits(id).collect();
            for circuit in circuits {
                self.drop_own(circuit, DestroyReason::FINISHED);
            }
        }
        self.torrents_dirty.insert(id);
        self.directory_dirty = true;
        self.settle();
    }

    /// Takes a piece of a torrent that the host has, given the bytes of its chunks in order
    /// (padding is empty). Whether it is right.
    pub fn put_piece(&mut self, now: Instant, id: TorrentId, piece: u32, blocks: &[Bytes]) -> bool {
        self.now = now;
        let Some(torrent) = self.torrents.get_mut(&id) else {
            return false;
        };
        let is_right = torrent.requester.add_piece(now, piece, blocks);
        self.torrents_dirty.insert(id);
        self.settle();
        is_right
    }

    /// The circuits over which a torrent is offered and not fetched.
    pub(crate) fn share_circuits(&self, id: TorrentId) -> impl Iterator<Item = CircuitId> + '_ {
        self.circuits
            .iter()
            .filter(move |(_, own)| own.purpose == Purpose::Share(id))
            .map(|(circuit, _)| *circuit)
    }

    /// Whether a torrent is offered over too few circuits: one that is shared by choice, or that
    /// is whole and so is fetched over none.
    pub(crate) fn wants_share(&self, id: TorrentId) -> bool {
        let offers = self.torrents.get(&id).is_some_and(|torrent| {
            let is_meant = torrent.shared || torrent.requester.is_complete();
            is_meant && torrent.percent_told() > 0
        });
        let circuits = self.circuits.values();
        offers
            && circuits
                .filter(|own| own.purpose.torrent() == Some(id))
                .count()
                < SHARES
    }

    /// A spare circuit becomes one over which a torrent is offered.
    pub(crate) fn give_share(&mut self, id: TorrentId, circuit: CircuitId) {
        if let Some(own) = self.circuits.get_mut(&circuit) {
            own.purpose = Purpose::Share(id);
            self.torrents_dirty.insert(id);
            self.emit(Event::Circuits);
        }
    }

    /// Tells the ORDBs at the ends of a torrent's circuits what of it is held, where that is new
    /// to them.
    pub(crate) fn tell_holdings(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get(&id) else {
            return;
        };
        let percent = torrent.percent_told();
        let names = torrent.names();
        let now = self.now;
        let is_new = |told: Option<(u8, Instant)>| match told {
            None => percent > 0,
            Some((before, at)) => {
                before != percent || (percent > 0 && now.saturating_since(at) >= TELL_AGAIN)
            }
        };
        let circuits: Vec<CircuitId> = self
            .circuits
            .iter()
            .filter(|(_, own)| own.opened.is_some() && own.purpose.torrent() == Some(id))
            .filter(|(_, own)| is_new(own.told))
            .map(|(circuit, _)| *circuit)
            .collect();
        for circuit in circuits {
            if let Some(own) = self.circuits.get_mut(&circuit) {
                own.told = Some((percent, now));
            }
            for name in &names {
                let flags = match self.config.roles.contains(Roles::FACILITATOR) {
                    true => DbInfo::FACILITATOR,
                    false => 0,
                };
                let info = DbInfo {
                    flags,
                    percent,
                    name: *name,
                };
                let stream = self.allocate_stream(circuit);
                self.send_own(circuit, stream, &RelayMessage::DbInfo(info));
            }
        }
    }

    /// An ORDB asks, backward.
    pub(crate) fn held_query(&mut self, id: CircuitId, stream: StreamId, query: &DbQuery) {
        let Some(own) = self.circuits.get(&id) else {
            return;
        };
        if let DbQuery::Open { name, .. } = query {
            let is_told = own.told.is_some_and(|(percent, _)| percent > 0);
            let torrent = own.purpose.torrent().and_then(|id| self.torrents.get(&id));
            // Whatever else is held here is not this circuit's.
            if !is_told || !torrent.is_some_and(|torrent| torrent.names().contains(name)) {
                let end = DbEnd {
                    reason: DbEndReason::NOT_FOUND,
                    scope: None,
                    tried: None,
                };
                return self.send_own(id, Some(stream), &RelayMessage::DbEnd(end));
            }
        }
        let key = StreamKey {
            circuit: id.0,
            stream,
        };
        if self.holder.handle_query(self.now, key, query).is_err() {
            return self.drop_own(id, DestroyReason::RESOURCELIMIT);
        }
        self.holder_dirty = true;
    }

    /// An ORDB ends or cancels what it asked, backward.
    pub(crate) fn held_end(&mut self, id: CircuitId, stream: StreamId, end: &DbEnd) {
        let key = StreamKey {
            circuit: id.0,
            stream,
        };
        if self.holder.handle_end(self.now, key, end).is_err() {
            return self.drop_own(id, DestroyReason::RESOURCELIMIT);
        }
        self.holder_dirty = true;
    }

    /// What the server of what is held here wants is given to it.
    pub(crate) fn answer_wants(&mut self) {
        while let Some(want) = self.holder.poll_want() {
            self.answer_held(&want);
        }
    }

    /// Sends a message of what is held here over one of a torrent's circuits.
    pub(crate) fn send_held(&mut self, circuit: CircuitId, body: &mut Body, counted: bool) {
        let content = if counted { content_bytes(body) } else { 0 };
        self.send_own_body(circuit, body, counted);
        self.count_sent(circuit, content);
    }

    /// So much of a torrent's content went over one of its circuits.
    fn count_sent(&mut self, circuit: CircuitId, bytes: u64) {
        let own = self.circuits.get(&circuit);
        let id = own.and_then(|own| own.purpose.torrent());
        if let Some(torrent) = id.and_then(|id| self.torrents.get_mut(&id)) {
            torrent.sent_bytes = torrent.sent_bytes.saturating_add(bytes);
        }
    }

    /// Bytes of a torrent's content that were sent to others since it was opened.
    pub fn sent_bytes(&self, id: TorrentId) -> u64 {
        let torrent = self.torrents.get(&id);
        torrent.map_or(0, |torrent| torrent.sent_bytes)
    }

    /// How many others are known to hold a torrent: as many as the ORDB says that knows of most.
    /// Each ORDB knows who told it alone, so there may be more.
    pub fn availability(&self, id: TorrentId) -> Holders {
        let circuits = self.circuits.values();
        let of_it = circuits.filter(|own| own.purpose.torrent() == Some(id));
        let said = of_it.map(|own| own.others.v1.max(own.others.v2));
        said.fold(Holders::default(), Holders::max)
    }

    fn answer_held(&mut self, want: &ContentWant) {
        match *want {
            ContentWant::Open { name } => {
                let held = self.held(&name).and_then(|torrent| {
                    let metainfo = torrent.requester.metainfo()?;
                    Some(metainfo.info().clone())
                });
                let answer = match held {
                    Some(metadata) => ContentAnswer::Opened { name, metadata },
                    None => ContentAnswer::Failed {
                        name,
                        scope: None,
                        reason: DbEndReason::NOT_FOUND,
                        tried: None,
                    },
                };
                self.holder.handle_answer(self.now, answer);
            }
            ContentWant::Blocks {
                name,
                section,
                first,
                count,
            } => {
                // What is missing is said in runs: each costs a cell.
                let mut missing = None;
                for block in (first..).take(count.into()) {
                    match self.held_block(&name, section, block) {
                        Held::Later => {
                            self.say_missing(name, section, missing.take());
                            self.holder_loading.insert((name, block));
                        }
                        Held::Here(bytes) => {
                            self.say_missing(name, section, missing.take());
                            let answer = ContentAnswer::Block {
                                name,
                                section,
                                block,
                                bytes,
                            };
                            self.holder.handle_answer(self.now, answer);
                        }
                        Held::Missing => {
                            let (_, count) = missing.get_or_insert((block, 0u16));
                            *count = count.saturating_add(1);
                        }
                    }
                }
                self.say_missing(name, section, missing);
            }
            ContentWant::Cancel {
                name,
                section: Section::CHUNKS,
                first,
                count,
            } => {
                let end = first.saturating_add(count.into());
                self.holder_loading
                    .retain(|(of, chunk)| *of != name || !(first..end).contains(chunk));
            }
            ContentWant::Cancel { .. } | ContentWant::Close { .. } => {}
        }
    }

    /// The host has given chunks back, or lost them: those that are awaited are served.
    pub(crate) fn serve_loaded(&mut self, id: TorrentId) {
        if self.holder_loading.is_empty() {
            return;
        }
        let names = self.torrents.get(&id).map(Torrent::names);
        let names = names.unwrap_or_default();
        let awaited: Vec<(Infohash, u32)> = self
            .holder_loading
            .iter()
            .filter(|(name, _)| names.contains(name))
            .copied()
            .collect();
        for (name, block) in awaited {
            let section = Section::CHUNKS;
            let answer = match self.held_block(&name, section, block) {
                Held::Later => continue,
                Held::Here(bytes) => ContentAnswer::Block {
                    name,
                    section,
                    block,
                    bytes,
                },
                Held::Missing => ContentAnswer::Failed {
                    name,
                    scope: Some((section, block, 1)),
                    reason: DbEndReason::UNAVAILABLE,
                    tried: None,
                },
            };
            self.holder_loading.remove(&(name, block));
            self.holder.handle_answer(self.now, answer);
            self.holder_dirty = true;
        }
    }

    fn say_missing(&mut self, name: Infohash, section: Section, run: Option<(u32, u16)>) {
        if let Some((first, count)) = run {
            let answer = ContentAnswer::Failed {
                name,
                scope: Some((section, first, count)),
                reason: DbEndReason::UNAVAILABLE,
                tried: None,
            };
            self.holder.handle_answer(self.now, answer);
        }
    }

    /// A block of what is held, from memory or asked back of the host.
    fn held_block(&mut self, name: &Infohash, section: Section, block: u32) -> Held {
        let id = self.torrents.iter().find_map(|(id, torrent)| {
            let has = torrent.percent_told() > 0 && torrent.names().contains(name);
            has.then_some(*id)
        });
        let Some((id, torrent)) = id.and_then(|id| Some((id, self.torrents.get_mut(&id)?))) else {
            return Held::Missing;
        };
        match torrent.requester.block(section, block) {
            Some(bytes) => Held::Here(bytes),
            None if section == Section::CHUNKS && torrent.requester.load(block) => {
                // One that is awaited already wants nothing new: it would be looked at for ever.
                if torrent.requester.wants_of_host() {
                    self.torrents_dirty.insert(id);
                }
                Held::Later
            }
            None => Held::Missing,
        }
    }

    fn held(&self, name: &Infohash) -> Option<&Torrent> {
        self.torrents
            .values()
            .find(|torrent| torrent.percent_told() > 0 && torrent.names().contains(name))
    }
}

/// Bytes of content in a DB_DATA.
fn content_bytes(body: &Body) -> u64 {
    let data = split_relay(body).and_then(|(_, data)| DbData::from_bytes(data));
    match data {
        Ok(data) if data.section == Section::CHUNKS => data.data.len() as u64,
        _ => 0,
    }
}

impl Torrent {
    /// What ORDBs are told that is held of it: 0, 25, 50, 75 or 100.
    pub(crate) fn percent_told(&self) -> u8 {
        let progress = self.requester.progress();
        percent_told(progress.verified_bytes, progress.total_bytes)
    }

    /// The names that it can be asked by, once they are proven.
    pub(crate) fn names(&self) -> Vec<Infohash> {
        let Some(metainfo) = self.requester.metainfo() else {
            return Vec::new();
        };
        let v1 = metainfo.v1().map(Infohash::V1);
        let v2 = metainfo.v2().map(Infohash::V2);
        v1.into_iter().chain(v2).collect()
    }
}
