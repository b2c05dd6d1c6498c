//! The requester: fetches one torrent from several sources at once.
//!
//! What is fetched is put together in [assemblies](assembly): what is verified as one is blamed as
//! one. Sources are given runs of whole pieces, in the order in which readers want them, each to
//! the source that is expected to be done with it first ([`schedule`]); what would come too late
//! is asked of a second source ([`rescue`]). A byte reaches the store, and so a reader, only when
//! its piece or leaf is verified ([`verify`]).

mod api;
mod asked;
mod assembly;
mod estimate;
mod leaves;
mod meter;
mod reads;
mod rescue;
mod schedule;
mod source;
mod status;
mod stored;
mod verify;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::asked::Asked;
use self::assembly::{Assembly, Unit};
use self::leaves::Leaves;
use self::meter::Meter;
use self::reads::Reads;
use self::source::{Arrival, Ask, Source, SourceState};
use super::{MAX_SOURCES, block_ranges};
use crate::ids::{Ed25519Id, ReadId};
use crate::store::{ChunkStore, ChunkWant};
use crate::time::Instant;
use crate::torrent::{CHUNK_LEN, Magnet, Metainfo, Verifier};
use crate::wire::{BlockRange, DbConnected, DbData, DbEnd, DbEndReason, DbQuery, RelayMessage};

pub use api::{
    Config, Demand, DropReason, Failure, Progress, Read, ReadError, RequesterEvent, SourceFailure,
    SourceId, SourceStats,
};
pub use estimate::{MAX_WINDOW_CHUNKS, MIN_WINDOW_CHUNKS};
#[cfg(test)]
pub(super) use leaves::MAX_BEGUN as MAX_LEAF_BLOCKS;

/// How often sources are compared while something is awaited.
const TICK: Duration = Duration::from_millis(100);
/// After so long a silence a source is let go.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How long a source that stalled is left alone if others can take its part; doubled each time.
const STALL_REST: Duration = Duration::from_secs(5);
/// Events not yet taken, above which "verified" is no longer told: progress has it all the same.
/// A host that does not poll fills it.
const MAX_VERIFIED_EVENTS: usize = 4096;
/// Routers that are remembered to have lied or refused. Each takes a circuit to fill; when it is
/// full the first one by name is forgotten.
const MAX_REMEMBERED_ROUTERS: usize = 256;

static ZEROS: [u8; CHUNK_LEN as usize] = [0; CHUNK_LEN as usize];

/// How urgently something is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// The read-ahead of somebody who plays.
    Play,
    /// The read-ahead of somebody who saves.
    Save,
    /// What comes after, while there is room.
    Beyond,
}

/// What is known of the content once the metadata is.
#[derive(Debug)]
struct Content {
    metainfo: Arc<Metainfo>,
    verifier: Verifier,
}

/// Fetches one torrent; see the module.
#[derive(Debug)]
pub struct Requester {
    config: Config,
    now: Instant,
    started: Instant,
    magnet: Magnet,
    sources: BTreeMap<SourceId, Source>,
    dropped_routers: BTreeSet<Ed25519Id>,
    refusals: BTreeMap<Ed25519Id, SourceFailure>,
    last_refusal: Instant,
    /// When a block last came, or it began.
    given: Instant,
    content: Option<Content>,
    assemblies: BTreeMap<Unit, Assembly>,
    /// Bytes that the assemblies of pieces may come to hold.
    reserved: u64,
    store: ChunkStore,
    reads: Reads,
    asked: Asked,
    leaves: Leaves,
    events: VecDeque<RequesterEvent>,
    /// Asks and ends: bounded by what may be awaited of the sources, cancelled or not.
    transmits: VecDeque<(SourceId, RelayMessage<'static>)>,
    pump_due: bool,
    /// The user wants nothing asked now.
    paused: bool,
    /// Bytes that may still be asked for; none is no limit.
    allowance: Option<u64>,
    /// Bytes asked for since this was last told.
    asked_bytes: u64,
    next_tick: Instant,
    /// When a host that had no room is handed a chunk again.
    room_at: Instant,
    failure: Option<Failure>,
    received: Meter,
    verified_in_all: u64,
    wasted: u64,
}

impl Requester {
    /// A requester of what a magnet link names.
    pub fn new(now: Instant, magnet: Magnet, config: Config) -> Self {
        Self {
            now,
            started: now,
            magnet,
            sources: BTreeMap::new(),
            dropped_routers: BTreeSet::new(),
            refusals: BTreeMap::new(),
            last_refusal: now,
            given: now,
            content: None,
            assemblies: BTreeMap::new(),
            reserved: 0,
            store: ChunkStore::new(config.max_store_bytes),
            reads: Reads::default(),
            asked: Asked::default(),
            leaves: Leaves::default(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            pump_due: false,
            paused: false,
            allowance: None,
            asked_bytes: 0,
            next_tick: Instant::FAR_FUTURE,
            room_at: Instant::FAR_FUTURE,
            failure: None,
            received: Meter::new(now),
            verified_in_all: 0,
            wasted: 0,
            config,
        }
    }

    /// A requester of a torrent whose metadata the user has, and perhaps its piece layers.
    pub fn with_metainfo(
        now: Instant,
        magnet: Magnet,
        metainfo: Arc<Metainfo>,
        piece_layers: Option<Bytes>,
        config: Config,
    ) -> Self {
        let mut requester = Self::new(now, magnet, config);
        requester.set_metainfo(metainfo);
        if let Some(content) = &mut requester.content
            && let Some(layers) = piece_layers
        {
            // If they do not fit they are asked for.
            let _ = content.verifier.add_piece_layers(layers);
        }
        requester
    }

    /// A circuit with an ORDB at its end is there: the source is opened.
    pub fn handle_source(&mut self, now: Instant, id: SourceId, router: Ed25519Id) {
        self.now = now;
        if self.dropped_routers.contains(&router) {
            let why = DropReason::DroppedBefore;
            self.events.push_back(RequesterEvent::SourceDropped {
                source: id,
                router,
                why,
            });
            return;
        }
        if self.sources.len() >= MAX_SOURCES || self.sources.contains_key(&id) {
            let why = SourceFailure::TooMany;
            self.events.push_back(RequesterEvent::SourceFailed {
                source: id,
                router,
                why,
            });
            return;
        }
        self.sources.insert(id, Source::new(now, router));
        self.open_source(id);
    }

    /// A source's circuit is gone.
    pub fn handle_source_lost(&mut self, now: Instant, id: SourceId) {
        self.now = now;
        self.remove_source(id);
        self.check_failure();
    }

    /// A message came on a source's stream.
    pub fn handle_message(&mut self, now: Instant, id: SourceId, message: &RelayMessage<'_>) {
        self.now = now;
        let Some(source) = self.sources.get(&id) else {
            return;
        };
        match message {
            RelayMessage::DbData(data) => self.handle_data(id, data),
            RelayMessage::DbConnected(connected) => self.handle_connected(id, connected),
            RelayMessage::DbEnd(end) => match end.scope {
                Some(scope) => self.handle_range_end(id, end, scope),
                None => self.handle_stream_end(id, end),
            },
            RelayMessage::DbInfo(_) => {}
            _ => {
                let why = DropReason::Protocol("a message that an ORDB does not send");
                self.drop_router(source.router, why);
            }
        }
    }

    /// The time that [`Self::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if now < self.next_tick {
            return;
        }
        self.next_tick = Instant::FAR_FUTURE;
        if self.reads.expire_ghost(now) {
            self.pump_due = true;
        }
        let ids: Vec<SourceId> = self.sources.keys().copied().collect();
        for id in ids {
            self.tick_source(id);
        }
        if now >= self.room_at {
            self.room_at = Instant::FAR_FUTURE;
            self.handle_room(now);
        }
        self.give_up_leaves();
        self.check_failure();
        self.rescue_late();
        self.find_lacking();
        self.pump_due = true;
    }

    /// Opens a reader of a range of a file's bytes; what it wants is asked from now on.
    pub fn open_read(
        &mut self,
        now: Instant,
        id: ReadId,
        file: usize,
        range: Range<u64>,
        demand: Demand,
    ) -> Result<(), ReadError> {
        self.now = now;
        let content = self.content.as_ref().ok_or(ReadError::NoMetadata)?;
        self.reads
            .open(&content.metainfo, id, file, range, demand)?;
        self.handle_demand_changed();
        if demand == Demand::Play {
            self.make_way();
        }
        Ok(())
    }

    /// Closes a reader. What it wanted stays wanted for a moment: another may follow.
    pub fn close_read(&mut self, now: Instant, id: ReadId) {
        self.now = now;
        self.reads.close(now, id);
        self.handle_demand_changed();
    }

    /// The next bytes of a read, at most `max` and at most what is left of a chunk.
    pub fn poll_read(&mut self, id: ReadId, max: usize) -> Read {
        let Some(read) = self.reads.get_mut(id) else {
            return Read::Failed;
        };
        if read.is_done() {
            return Read::End;
        }
        let chunk = read.chunk();
        let within = usize::try_from(read.position % u64::from(CHUNK_LEN)).unwrap_or(0);
        let left = usize::try_from(read.end.saturating_sub(read.position)).unwrap_or(usize::MAX);
        let most = max
            .min(left)
            .min((CHUNK_LEN as usize).saturating_sub(within));
        let bytes = match self.store.read(chunk) {
            _ if read.padding => Bytes::from_static(ZEROS.get(..most).unwrap_or_default()),
            Some(bytes) => {
                let end = within.saturating_add(most).min(bytes.len());
                bytes.slice(within.min(end)..end)
            }
            None if !self.store.contains(chunk) && self.failure.is_some() => return Read::Failed,
            None => {
                self.store.load(chunk);
                if !std::mem::replace(&mut read.waiting, true) {
                    // What it waits for comes first, and the sources are compared soon.
                    self.reads.invalidate();
                    self.pump_due = true;
                }
                return Read::Pending;
            }
        };
        let is_padding = read.padding;
        read.position = read.position.saturating_add(bytes.len() as u64);
        if !is_padding && (read.chunk() != chunk || read.is_done()) {
            self.handle_position_moved(chunk, id);
        }
        Read::Bytes(bytes)
    }

    /// The next message to send, and on whose stream. A DB_QUERY OPEN begins a new stream on the
    /// source's circuit; a DB_END without a scope ends it.
    pub fn poll_transmit(&mut self) -> Option<(SourceId, RelayMessage<'static>)> {
        self.pump_if_due();
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<RequesterEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called, and why.
    pub fn poll_timeout(&mut self) -> (Instant, &'static str) {
        self.pump_if_due();
        let is_busy = self.sources.values().any(|source| match source.state {
            SourceState::AwaitConnected { .. } | SourceState::AwaitRetry { .. } => true,
            SourceState::Open => source.awaited_blocks() > 0 || source.rests_until > self.now,
        });
        let is_waiting = self.reads.waited_chunks().next().is_some()
            || !self.asked.is_empty()
            || self.leaves.is_awaiting();
        let refused = !self.refusals.is_empty() && self.sources.is_empty();
        if is_busy || is_waiting || (refused && self.failure.is_none()) {
            self.next_tick = self.next_tick.min(self.now + TICK);
        }
        if let Some(expiry) = self.reads.ghost_expiry() {
            self.next_tick = self.next_tick.min(expiry);
        }
        self.next_tick = self.next_tick.min(self.room_at);
        (self.next_tick, "comparing the sources")
    }

    /// Changes the cap of the store.
    pub fn set_store_cap(&mut self, bytes: u64) {
        self.config.max_store_bytes = bytes;
        if self.store.set_cap(bytes) {
            self.handle_demand_changed();
        }
    }

    // What sources say.

    fn handle_connected(&mut self, id: SourceId, connected: &DbConnected) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        if !matches!(source.state, SourceState::AwaitConnected { .. }) {
            let why = DropReason::Protocol("DB_CONNECTED twice");
            let router = source.router;
            return self.drop_router(router, why);
        }
        source.state = SourceState::Open;
        source.rests_until = self.now;
        let length = connected.metadata_length;
        source.metadata_length = Some(length);
        if let Some(content) = &self.content {
            // Whoever says another length has other metadata than the infohash names.
            if content.metainfo.info().len() as u64 != u64::from(length) {
                let router = source.router;
                return self.drop_router(router, DropReason::WrongMetadata);
            }
        } else if length > self.config.max_metadata_bytes || length == 0 {
            return self.fail_source(id, SourceFailure::MetadataTooLarge { length });
        }
        if self
            .failure
            .as_ref()
            .is_some_and(|failure| !failure.is_final())
        {
            self.failure = None;
        }
        self.refusals.clear();
        self.pump_due = true;
    }

    fn handle_data(&mut self, id: SourceId, data: &DbData<'_>) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let was_stalled = source.stalled.is_some();
        match source.handle_data(self.now, data) {
            Arrival::Part => {}
            Arrival::First => {
                if was_stalled {
                    self.pump_due = true;
                }
            }
            Arrival::Block(ask, bytes) => {
                self.given = self.now;
                self.received.add(self.now, bytes.len() as u64);
                self.handle_block(id, &ask, bytes);
                self.pump_due = true;
            }
            Arrival::Unasked => {
                let router = source.router;
                self.drop_router(
                    router,
                    DropReason::Protocol("blocks that were not asked for"),
                );
            }
        }
    }

    fn handle_range_end(&mut self, id: SourceId, end: &DbEnd, scope: BlockRange) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        if end.reason == DbEndReason::GONE {
            // Not these blocks alone: whoever this source had them from has left.
            let why = SourceFailure::Refused {
                reason: end.reason,
                tried: end.tried,
            };
            return self.let_go(id, why);
        }
        let confirms = end.reason == DbEndReason::CANCELLED;
        let ended = source.handle_ended(scope.section, &scope.blocks(), confirms);
        if !confirms {
            match end.reason {
                DbEndReason::BUSY | DbEndReason::EXHAUSTED => {
                    source.rests_until = self.now + source.next_backoff();
                }
                _ => source.handle_lack(self.now, scope.section, scope.blocks()),
            }
        }
        self.release_asks(id, ended);
        self.give_up_solo(id, |unit, it| {
            let blocks = scope.blocks();
            unit.section() == scope.section && blocks.into_iter().any(|at| it.slot_of(at).is_some())
        });
        self.check_failure();
        self.pump_due = true;
    }

    fn handle_stream_end(&mut self, id: SourceId, end: &DbEnd) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let at = match end.reason {
            DbEndReason::BUSY | DbEndReason::EXHAUSTED => self.now + source.next_backoff(),
            // Perhaps only because another's question had a smaller counter.
            DbEndReason::LOOP if self.config.counter > 0 && !self.config.relays => {
                self.config.counter /= 2;
                self.now + source.next_backoff()
            }
            DbEndReason::IDLE => self.now,
            reason => {
                let why = SourceFailure::Refused {
                    reason,
                    tried: end.tried,
                };
                return self.let_go(id, why);
            }
        };
        source.state = SourceState::AwaitRetry { at };
        let asks = source.handle_stream_gone();
        self.release_leases(id);
        self.release_asks(id, asks);
    }

    // Sources come and go.

    fn open_source(&mut self, id: SourceId) {
        let Some(name) = self.magnet.infohash() else {
            return;
        };
        if let Some(source) = self.sources.get_mut(&id) {
            source.state = SourceState::AwaitConnected { since: self.now };
            let counter = self.config.counter;
            let open = RelayMessage::DbQuery(DbQuery::Open { counter, name });
            self.transmits.push_back((id, open));
        }
    }

    fn tick_source(&mut self, id: SourceId) {
        let now = self.now;
        let others_can = self
            .sources
            .iter()
            .any(|(other, source)| *other != id && source.is_askable(now));
        let is_needed = self.content.is_none()
            || self.reads.iter().next().is_some()
            || (self.reads.wants_whole() && !self.is_complete())
            || !self.asked.is_empty();
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        match source.state {
            SourceState::AwaitConnected { since } => {
                if now.saturating_since(since) >= self.config.open_timeout {
                    self.fail_source(id, SourceFailure::OpenTimeout);
                }
            }
            SourceState::AwaitRetry { at } => {
                if at <= now && is_needed {
                    self.open_source(id);
                }
            }
            SourceState::Open => {
                let Some(silent_for) = source.silent_for(now) else {
                    return;
                };
                if silent_for >= GIVE_UP {
                    return self.fail_source(id, SourceFailure::Stalled);
                }
                if silent_for < source.estimate.stall_after() || source.stalled.is_some() {
                    return;
                }
                source.stalled = Some(now);
                source.estimate.handle_stall();
                let router = source.router;
                let event = RequesterEvent::SourceStalled {
                    source: id,
                    router,
                    silent_for,
                };
                self.events.push_back(event);
                self.release_leases(id);
                if others_can {
                    self.take_back_from(id);
                }
            }
        }
    }

    /// What a silent source was asked is cancelled there, and free for others.
    fn take_back_from(&mut self, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        source.rests_until = self.now + STALL_REST.max(source.next_backoff());
        // It gets another chance after its rest, and until then nothing is awaited of it.
        source.stalled = None;
        self.cancel_asks(id, |_, _| true);
        self.give_up_solo(id, |_, _| true);
    }

    /// What was asked of this source alone after a dispute, it does not give: another is to.
    fn give_up_solo(&mut self, id: SourceId, which: impl Fn(Unit, &Assembly) -> bool) {
        let units: Vec<Unit> = self
            .assemblies
            .iter()
            .filter(|(unit, it)| it.solo == Some(id) && which(**unit, it))
            .map(|(unit, _)| *unit)
            .collect();
        for unit in units {
            self.cancel_asks(id, |_, ask| ask.unit == unit);
            if let Some(source) = self.sources.get_mut(&id) {
                source.leases.retain(|lease| lease.unit != unit);
            }
            if let Some(assembly) = self.assemblies.get_mut(&unit) {
                assembly.start_over();
            }
            self.reads.invalidate();
        }
    }

    /// Ends a source's stream without blame.
    fn fail_source(&mut self, id: SourceId, why: SourceFailure) {
        self.let_go(id, why);
        let end = DbEnd {
            reason: DbEndReason::CANCELLED,
            scope: None,
            tried: None,
        };
        self.transmits.push_back((id, RelayMessage::DbEnd(end)));
    }

    fn let_go(&mut self, id: SourceId, why: SourceFailure) {
        let Some(router) = self.remove_source(id) else {
            return;
        };
        if self.refusals.len() >= MAX_REMEMBERED_ROUTERS {
            self.refusals.pop_first();
        }
        if why != SourceFailure::Stalled {
            self.refusals.insert(router, why);
            self.last_refusal = self.now;
        }
        self.events.push_back(RequesterEvent::SourceFailed {
            source: id,
            router,
            why,
        });
        self.check_failure();
    }

    /// Lets go of every source that this router is, with blame, and of all that it gave and that
    /// is not verified.
    fn drop_router(&mut self, router: Ed25519Id, why: DropReason) {
        if self.dropped_routers.len() >= MAX_REMEMBERED_ROUTERS {
            self.dropped_routers.pop_first();
        }
        self.dropped_routers.insert(router);
        let ids: Vec<SourceId> = self
            .sources
            .iter()
            .filter(|(_, source)| source.router == router)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.remove_source(id);
            let end = DbEnd {
                reason: DbEndReason::PROTOCOL,
                scope: None,
                tried: None,
            };
            self.transmits.push_back((id, RelayMessage::DbEnd(end)));
            self.events.push_back(RequesterEvent::SourceDropped {
                source: id,
                router,
                why,
            });
        }
        for assembly in self.assemblies.values_mut() {
            assembly.forget(|giver| giver.is_some_and(|giver| giver.router == router));
        }
        self.handle_demand_changed();
        self.check_failure();
    }

    fn remove_source(&mut self, id: SourceId) -> Option<Ed25519Id> {
        self.release_leases(id);
        let mut source = self.sources.remove(&id)?;
        let asks = source.handle_stream_gone();
        self.release_asks(id, asks);
        for assembly in self
            .assemblies
            .values_mut()
            .filter(|it| it.solo == Some(id))
        {
            // Whoever goes on alone must give all of it, or there could be a dispute again.
            assembly.start_over();
        }
        self.transmits.retain(|(to, _)| *to != id);
        self.handle_demand_changed();
        Some(source.router)
    }

    // Asks and leases.

    fn release_asks(&mut self, id: SourceId, asks: Vec<Ask>) {
        for ask in asks {
            if let Some(assembly) = self.assemblies.get_mut(&ask.unit)
                && let Some(slot) = assembly.slot_of(ask.block)
            {
                assembly.remove_asker(slot, id);
            }
        }
        self.handle_demand_changed();
    }

    fn release_leases(&mut self, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        for lease in source.leases.drain(..) {
            if let Some(assembly) = self.assemblies.get_mut(&lease.unit) {
                assembly.set_leased(lease.slots, false);
            }
        }
        self.reads.invalidate();
        self.pump_due = true;
    }

    /// Cancels what `which` picks of what a source was asked, and frees it for others.
    fn cancel_asks(&mut self, id: SourceId, which: impl FnMut(usize, &Ask) -> bool) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        for (unit, blocks) in source.cancel(which) {
            if let Some(assembly) = self.assemblies.get_mut(&unit) {
                for block in blocks.clone() {
                    if let Some(slot) = assembly.slot_of(block) {
                        assembly.remove_asker(slot, id);
                    }
                }
            }
            for scope in block_ranges(unit.section(), blocks) {
                let reason = DbEndReason::CANCELLED;
                let end = DbEnd {
                    reason,
                    scope: Some(scope),
                    tried: None,
                };
                self.transmits.push_back((id, RelayMessage::DbEnd(end)));
            }
        }
        self.reads.invalidate();
        self.pump_due = true;
    }

    fn handle_demand_changed(&mut self) {
        self.reads.invalidate();
        self.tell_store_readers();
        self.pump_due = true;
    }

    /// The store keeps what is ahead of readers, and what was asked for.
    fn tell_store_readers(&mut self) {
        let asked = self.asked.first();
        self.store.set_readers(self.reads.positions().chain(asked));
    }

    fn handle_position_moved(&mut self, from: u32, id: ReadId) {
        self.tell_store_readers();
        let chunk = self.reads.get_mut(id).map_or(0, |read| read.chunk());
        // The zones move with the readers, but in steps: walking them costs.
        let ahead = self.read_ahead() / 4 / u64::from(CHUNK_LEN);
        let step = u32::try_from(ahead)
            .unwrap_or(u32::MAX)
            .clamp(1, schedule::RUN_CHUNKS);
        if from / step != chunk / step {
            self.reads.invalidate();
            self.pump_due = true;
        }
    }
}
