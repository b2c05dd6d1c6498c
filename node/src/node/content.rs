//! Torrents: each one's requester, and the circuits that are its sources.

use crate::order::set_of;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::ids::{CircuitId, Ed25519Id, ReadId, RsaId, StreamId, TorrentId};
use crate::node::Node;
use crate::node::io::Event;
use crate::node::origin::{Misuse, Purpose};
use crate::node::stored;
use crate::node::timers::Wake;
use crate::ordb::{
    Config, Demand, FIRST_COUNTERS, Failure, Progress, Read, ReadError, Requester, RequesterEvent,
    SourceFailure, SourceId, SourceStats,
};
use crate::time::Instant;
use crate::torrent::{Magnet, Metainfo, TorrentFile};
use crate::wire::{DbEndReason, DbQuery, DestroyReason, RelayMessage, Section};

/// Torrents that a host may have open; each holds circuits while it fetches, and memory.
pub const MAX_TORRENTS: usize = 64;

/// Bytes of a torrent that are held in memory where the host keeps the rest.
const MAX_HOSTED_MEMORY: u64 = 48 << 20;

/// How long an ORDB that does not have a torrent is not asked for it again; doubled each time, until
/// it gives something.
const AVOID_FIRST: Duration = Duration::from_secs(30);
/// The same where whoever it had the torrent of is gone: if only their circuit broke, they tell it
/// of the torrent again in seconds.
const AVOID_GONE: Duration = Duration::from_secs(2);
/// The longest such pause.
const AVOID_MOST: Duration = Duration::from_secs(1800);
/// While nobody is left to ask, such a pause is so much shorter: in a small mesh he who is to be found
/// comes back to one of the few ORDBs that there are.
const ALONE_SHORTER: u32 = 4;
/// How long nobody is told that a torrent cannot be had, however soon all that are asked say so: its
/// holder's circuits take so long to be built, or to be built again.
const PERSISTENCE: Duration = Duration::from_secs(20);
/// Who sent wrong bytes is not asked again at all.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 86400);

/// Why a torrent was not opened. The host's fault, or its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As many as may be are open.
    #[error("as many torrents as this tab can hold are open: close one first")]
    TooMany,
    /// The link names no infohash.
    #[error("this magnet link names no infohash, so there is nothing to ask for")]
    NoInfohash,
}

/// One torrent.
pub(crate) struct Torrent {
    pub(crate) requester: Requester,
    sources: BTreeMap<SourceId, Source>,
    /// ORDBs that are not asked again before a time: they do not have it, or sent wrong bytes.
    avoid: BTreeMap<Ed25519Id, Pause>,
    over: bool,
    /// By choice: offered over circuits of its own.
    pub(crate) shared: bool,
    /// Bytes of its content that others were given.
    pub(crate) sent_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    circuit: CircuitId,
    stream: StreamId,
    router: Ed25519Id,
    rsa: RsaId,
}

/// How long an ORDB is not asked.
#[derive(Clone, Copy, Debug)]
struct Pause {
    since: Instant,
    length: Duration,
}

impl Pause {
    fn until(self, is_alone: bool) -> Instant {
        let shorter = if is_alone { ALONE_SHORTER } else { 1 };
        self.since + self.length / shorter
    }
}

impl Torrent {
    /// The ORDBs that are asked or not to be asked again; of the latter fewer for one that `is_alone`.
    pub(crate) fn ordbs(&self, now: Instant, is_alone: bool) -> BTreeSet<Ed25519Id> {
        let asked = self.sources.values().map(|source| source.router);
        let avoided = self
            .avoid
            .iter()
            .filter(|(_, pause)| pause.until(is_alone) > now);
        set_of(avoided.map(|(router, _)| *router).chain(asked))
    }

    /// When the next of those that are avoided may be asked again.
    pub(crate) fn avoids_until(&self, now: Instant) -> Option<Instant> {
        let pauses = self.avoid.values();
        let times = pauses.flat_map(|pause| [pause.until(true), pause.until(false)]);
        times.filter(|until| *until > now).min()
    }

    /// A source gave something of the content: it is well with its ORDB.
    fn note_given(&mut self, router: &Ed25519Id) {
        // Nearly always there is nothing to forget.
        if self
            .avoid
            .get(router)
            .is_some_and(|pause| pause.length < FOR_GOOD)
        {
            self.avoid.remove(router);
        }
    }

    /// How many sources it has.
    pub(crate) fn sources(&self) -> usize {
        self.sources.len()
    }

    /// The requester looks at the clock.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.requester.handle_timeout(now);
    }

    /// Whether more sources could help.
    pub(crate) fn wants_sources(&self) -> bool {
        !self.over && !self.requester.is_paused() && !self.requester.is_complete()
    }
}

/// What ORDBs are told of so much of a torrent: it is to say nothing of how far a reader is.
pub(crate) fn percent_told(held: u64, total: u64) -> u8 {
    let percent = u128::from(held) * 100 / u128::from(total.max(1));
    let percent = u8::try_from(percent).unwrap_or(100).min(100);
    percent - percent % 25
}

impl Node {
    /// Opens a torrent by its magnet link; [`Event::Metadata`] or [`Event::Failed`] follows.
    pub fn open_torrent(&mut self, now: Instant, magnet: Magnet) -> Result<TorrentId, OpenError> {
        self.now = now;
        if magnet.infohash().is_none() {
            return Err(OpenError::NoInfohash);
        }
        let requester = Requester::new(now, magnet, self.requester_config());
        self.add_torrent(requester)
    }

    /// Opens a torrent whose file is at hand; [`Event::Metadata`] follows at once.
    pub fn open_torrent_file(
        &mut self,
        now: Instant,
        file: TorrentFile,
    ) -> Result<TorrentId, OpenError> {
        self.now = now;
        let config = self.requester_config();
        let requester =
            Requester::with_metainfo(now, file.magnet, file.metainfo, file.piece_layers, config);
        self.add_torrent(requester)
    }

    pub(super) fn requester_config(&mut self) -> Config {
        let limits = &self.config.limits;
        Config {
            max_metadata_bytes: u32::try_from(limits.metadata_bytes).unwrap_or(u32::MAX),
            max_store_bytes: match self.host_store {
                true => (limits.store_bytes as u64).min(MAX_HOSTED_MEMORY),
                false => limits.store_bytes as u64,
            },
            max_unverified_bytes: (limits.store_bytes as u64 / 4).max(16 << 20),
            open_timeout: limits.find_timeout,
            persistence: PERSISTENCE,
            counter: self.first_counter(),
            ..Config::default()
        }
    }

    /// At random, so that no ORDB can tell whether its asker asks for himself.
    fn first_counter(&mut self) -> u8 {
        u8::try_from(self.rng.next_u32() % u32::from(FIRST_COUNTERS)).unwrap_or(0)
    }

    pub(super) fn add_torrent(&mut self, mut requester: Requester) -> Result<TorrentId, OpenError> {
        if self.torrents.len() >= MAX_TORRENTS {
            return Err(OpenError::TooMany);
        }
        let id = TorrentId(self.next_id());
        if self.host_store {
            requester.set_hosted();
        }
        let metainfo = requester.metainfo().cloned();
        self.torrents.insert(
            id,
            Torrent {
                requester,
                sources: BTreeMap::new(),
                avoid: BTreeMap::new(),
                over: false,
                shared: false,
                sent_bytes: 0,
            },
        );
        self.torrents_dirty.insert(id);
        self.hurry_building();
        // Told also where the user had it, so that a host has one way to learn of it.
        if let Some(metainfo) = metainfo {
            self.emit(Event::Metadata {
                torrent: id,
                metainfo,
            });
        }
        self.settle();
        Ok(id)
    }

    /// Fetches a torrent over a circuit that the host built, beside those that the node builds.
    pub fn add_source(
        &mut self,
        now: Instant,
        torrent: TorrentId,
        circuit: CircuitId,
    ) -> Result<(), Misuse> {
        self.now = now;
        let own = self.circuits.get(&circuit).ok_or(Misuse::NoCircuit)?;
        if own.purpose != Purpose::Host || own.opened.is_none() {
            return Err(Misuse::NoCircuit);
        }
        self.give_source(torrent, circuit);
        self.settle();
        Ok(())
    }

    /// Closes a torrent: its circuits are dropped, so that no later one is linked to it.
    pub fn close_torrent(&mut self, now: Instant, id: TorrentId) {
        self.now = now;
        if let Some(torrent) = self.torrents.remove(&id) {
            self.torrents_dirty.remove(&id);
            self.timers.clear(Wake::Torrent(id));
            self.reads.retain(|_, of| *of != id);
            for source in torrent.sources.into_values() {
                self.drop_own(source.circuit, DestroyReason::FINISHED);
            }
            let shares: Vec<CircuitId> = self.share_circuits(id).collect();
            for circuit in shares {
                self.drop_own(circuit, DestroyReason::FINISHED);
            }
        }
        self.settle();
    }

    /// A torrent's checked info dictionary, once it is there.
    pub fn metainfo(&self, id: TorrentId) -> Option<&Arc<Metainfo>> {
        self.torrents.get(&id)?.requester.metainfo()
    }

    /// How far a torrent has come.
    pub fn progress(&self, id: TorrentId) -> Option<Progress> {
        Some(self.torrents.get(&id)?.requester.progress())
    }

    /// What of a torrent's chunk space is verified and held, in bytes.
    pub fn verified_ranges(&self, id: TorrentId) -> Vec<Range<u64>> {
        self.torrents
            .get(&id)
            .map(|torrent| torrent.requester.verified().collect())
            .unwrap_or_default()
    }

    /// How a torrent's sources do, with each one's fingerprint.
    pub fn sources(&self, id: TorrentId) -> Vec<(RsaId, SourceStats)> {
        let Some(torrent) = self.torrents.get(&id) else {
            return Vec::new();
        };
        torrent
            .requester
            .sources()
            .filter_map(|stats| Some((torrent.sources.get(&stats.source)?.rsa, stats)))
            .collect()
    }

    /// Why a torrent cannot be had, if it cannot.
    pub fn failure(&self, id: TorrentId) -> Option<&Failure> {
        self.torrents.get(&id)?.requester.failure()
    }

    /// Opens a reader of `range` of a file; [`Event::Readable`] says when to poll it.
    pub fn open_read(
        &mut self,
        now: Instant,
        id: TorrentId,
        file: usize,
        range: Range<u64>,
        demand: Demand,
    ) -> Result<ReadId, ReadError> {
        self.now = now;
        let read = ReadId(self.next_id());
        let torrent = self.torrents.get_mut(&id).ok_or(ReadError::NoMetadata)?;
        torrent
            .requester
            .open_read(now, read, file, range, demand)?;
        self.reads.insert(read, id);
        self.torrents_dirty.insert(id);
        self.settle();
        Ok(read)
    }

    /// The reader's next bytes, at most `max`.
    pub fn poll_read(&mut self, now: Instant, read: ReadId, max: usize) -> Read {
        self.now = now;
        let Some(id) = self.reads.get(&read) else {
            return Read::Failed;
        };
        let Some(torrent) = self.torrents.get_mut(id) else {
            return Read::Failed;
        };
        let bytes = torrent.requester.poll_read(read, max);
        self.torrents_dirty.insert(*id);
        self.settle();
        bytes
    }

    /// Closes a reader.
    pub fn close_read(&mut self, now: Instant, read: ReadId) {
        self.now = now;
        if let Some(id) = self.reads.remove(&read)
            && let Some(torrent) = self.torrents.get_mut(&id)
        {
            torrent.requester.close_read(now, read);
            self.torrents_dirty.insert(id);
            self.settle();
        }
    }

    /// A spare circuit becomes a torrent's source.
    pub(crate) fn give_source(&mut self, id: TorrentId, circuit: CircuitId) {
        let source = SourceId(self.next_id());
        let (Some(torrent), Some(own)) =
            (self.torrents.get_mut(&id), self.circuits.get_mut(&circuit))
        else {
            return;
        };
        own.purpose = Purpose::Torrent(id, source);
        let Some(ordb) = own.path().last() else {
            return;
        };
        torrent.sources.insert(
            source,
            Source {
                circuit,
                // Its first OPEN allocates one.
                stream: StreamId(0),
                router: ordb.ed25519,
                rsa: ordb.rsa,
            },
        );
        torrent
            .requester
            .handle_source(self.now, source, ordb.ed25519);
        self.torrents_dirty.insert(id);
        self.emit(Event::Circuits);
    }

    /// A source's circuit is gone.
    pub(crate) fn source_lost(&mut self, id: TorrentId, source: SourceId) {
        if let Some(torrent) = self.torrents.get_mut(&id)
            && torrent.sources.remove(&source).is_some()
        {
            torrent.requester.handle_source_lost(self.now, source);
            self.torrents_dirty.insert(id);
        }
    }

    /// A source answered.
    pub(crate) fn content_message(
        &mut self,
        id: TorrentId,
        source: SourceId,
        stream: StreamId,
        message: &RelayMessage<'_>,
    ) {
        if let Some(torrent) = self.torrents.get_mut(&id)
            && let Some(known) = torrent.sources.get(&source).copied()
            && known.stream == stream
        {
            if let RelayMessage::DbData(data) = message
                && data.section == Section::CHUNKS
            {
                torrent.note_given(&known.router);
            }
            torrent.requester.handle_message(self.now, source, message);
            self.torrents_dirty.insert(id);
        }
    }

    /// What a torrent's requester wants sent and told.
    pub(crate) fn pump_torrent(&mut self, id: TorrentId) {
        let allowance = self.allowance();
        if let Some(torrent) = self.torrents.get_mut(&id) {
            torrent.requester.set_allowance(allowance);
        }
        loop {
            let Some(torrent) = self.torrents.get_mut(&id) else {
                return;
            };
            if let Some(event) = torrent.requester.poll_event() {
                self.handle_requester_event(id, event);
                continue;
            }
            if let Some(want) = torrent.requester.poll_store() {
                self.emit(Event::Store(stored::wanted(id, want)));
                continue;
            }
            let Some((id, message)) = torrent.requester.poll_transmit() else {
                break;
            };
            let Some(mut source) = torrent.sources.get(&id).copied() else {
                continue;
            };
            // Each OPEN begins a stream of its own; what still comes on the one before is old.
            if matches!(message, RelayMessage::DbQuery(DbQuery::Open { .. }))
                && let Some(own) = self.circuits.get_mut(&source.circuit)
            {
                source.stream = own.allocate_stream();
                torrent.sources.insert(id, source);
            }
            self.send_own(source.circuit, Some(source.stream), &message);
        }
        self.tell_holdings(id);
        self.serve_loaded(id);
        if let Some(torrent) = self.torrents.get_mut(&id) {
            let (at, _) = torrent.requester.poll_timeout();
            let down = &mut self.rates.down;
            down.take(self.now, torrent.requester.take_asked_bytes());
            let waits = torrent.requester.is_held_back() && torrent.wants_sources();
            let at = if waits { at.min(down.opens_at()) } else { at };
            self.timers.set(Wake::Torrent(id), at);
        }
    }

    fn handle_requester_event(&mut self, id: TorrentId, event: RequesterEvent) {
        match event {
            RequesterEvent::Metadata(metainfo) => self.emit(Event::Metadata {
                torrent: id,
                metainfo,
            }),
            RequesterEvent::Verified { .. } => self.emit_progress(id),
            RequesterEvent::Readable(read) => self.emit(Event::Readable(read)),
            RequesterEvent::SourceDropped {
                source,
                router,
                why,
            } => {
                let rsa = self.end_source(id, source, Some(FOR_GOOD));
                self.emit(Event::SourceDropped {
                    torrent: id,
                    router,
                    rsa,
                    why: why.to_string(),
                });
            }
            RequesterEvent::SourceFailed { source, why, .. } => {
                // One that is only busy may be asked again, over another circuit.
                let pause = match why {
                    SourceFailure::Stalled | SourceFailure::TooMany => None,
                    SourceFailure::Refused { reason, .. } if reason == DbEndReason::GONE => {
                        Some(AVOID_GONE)
                    }
                    _ => Some(AVOID_FIRST),
                };
                self.end_source(id, source, pause);
            }
            RequesterEvent::SourceStalled { source, .. } => {
                self.end_source(id, source, None);
            }
            RequesterEvent::Failed(failure) => {
                if let Some(torrent) = self.torrents.get_mut(&id) {
                    torrent.over = failure.is_final();
                }
                self.emit(Event::Failed {
                    torrent: id,
                    failure,
                });
            }
        }
    }

    /// Closes a source's circuit; its ORDB is not asked again for `avoid`.
    fn end_source(
        &mut self,
        id: TorrentId,
        source: SourceId,
        avoid: Option<Duration>,
    ) -> Option<RsaId> {
        let torrent = self.torrents.get_mut(&id)?;
        let known = torrent.sources.get(&source).copied()?;
        if let Some(first) = avoid {
            // Longer each time: who has nothing may have it later, but is not asked all the time.
            let before = torrent.avoid.get(&known.router);
            let length = match before {
                Some(pause) if first < FOR_GOOD => (pause.length * 2).min(AVOID_MOST),
                _ => first,
            };
            let since = self.now;
            let pause = Pause { since, length };
            torrent.avoid.insert(known.router, pause);
        } else {
            self.directory.suspect(&known.router, self.now);
        }
        self.drop_own(known.circuit, DestroyReason::FINISHED);
        Some(known.rsa)
    }
}
