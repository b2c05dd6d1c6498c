//! The server: answers many requesters from what its host offers.
//!
//! A host is whatever has content: a swarm, a store. It is told what is wanted
//! ([`ContentWant`]) and answers in its own time and order ([`ContentAnswer`]). The server wants
//! each block once however many ask for it, no more blocks than it may hold, and sends to each
//! stream in the order in which it asked, taking circuits in turn.

mod ends;
mod host;
mod queue;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use self::queue::{Circuit, Stream};
use crate::ids::StreamId;
use crate::order::set_of;
use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::{
    BLOCK_LEN, BlockRange, DbConnected, DbEnd, DbEndReason, DbQuery, RelayBody, RelayMessage,
    Section, Tried,
};

/// Streams of one circuit. Its requester fills it; the next one is told BUSY.
pub const MAX_STREAMS_PER_CIRCUIT: usize = 16;
/// Blocks that a stream has asked for and not been sent. Its requester fills it; what is asked
/// above it is told BUSY.
pub const MAX_QUEUED_BLOCKS: usize = 2048;
/// Blocks of a stream that are wanted of the host or held, ahead of what is being sent: 4 MiB.
/// The requester fills it by asking; the rest of what it asked waits.
pub const MAX_AHEAD_BLOCKS: usize = 256;
/// Messages to one circuit that are not blocks. Its requester fills it by asking for what cannot
/// be had and not reading the answers; the circuit that does is to be destroyed.
pub const MAX_CIRCUIT_MESSAGES: usize = 4096;
/// How long a name that nobody asks for is kept open at the host.
pub const LINGER: Duration = Duration::from_secs(60);
/// How often timeouts are looked for.
const TICK: Duration = Duration::from_secs(1);
/// The largest counter of a question: who would have to ask with a larger one does not ask on.
pub const MAX_COUNTER: u8 = 24;
/// A requester begins with a counter below this, so that nobody can tell who asks for himself.
pub const FIRST_COUNTERS: u8 = 16;
/// Cells that a circuit is sent before it is the next one's turn.
const TURN_CELLS: u32 = 8;

/// A stream of a circuit that ends here, as the node names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The circuit.
    pub circuit: u64,
    /// The stream in it.
    pub stream: StreamId,
}

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Names open at the host at a time; who asks for another is told BUSY.
    pub max_names: usize,
    /// Blocks wanted of the host or held for sending, over all streams.
    pub max_ahead_blocks: usize,
    /// The longest info dictionary that is served.
    pub max_metadata_bytes: usize,
    /// How long the host may take for a block before it is said not to come.
    pub block_timeout: Duration,
    /// How long a stream may be open without asking for anything.
    pub idle_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_names: 256,
            max_ahead_blocks: 4096,
            max_metadata_bytes: 16 << 20,
            block_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// What the server wants of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentWant {
    /// Find this torrent: answered by `Opened` or `Failed` without a scope.
    Open {
        /// Which.
        name: Infohash,
    },
    /// These blocks, in this order if possible: each is answered by `Block`, or several by
    /// `Failed` with their scope.
    Blocks {
        /// Of which torrent.
        name: Infohash,
        /// Of which section.
        section: Section,
        /// The first.
        first: u32,
        /// How many.
        count: u16,
    },
    /// These blocks are no longer wanted.
    Cancel {
        /// Of which torrent.
        name: Infohash,
        /// Of which section.
        section: Section,
        /// The first.
        first: u32,
        /// How many.
        count: u16,
    },
    /// Nobody asks for this torrent any longer.
    Close {
        /// Which.
        name: Infohash,
    },
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentAnswer {
    /// The torrent was found.
    Opened {
        /// Which.
        name: Infohash,
        /// Its info dictionary.
        metadata: Bytes,
    },
    /// A block that was wanted.
    Block {
        /// Of which torrent.
        name: Infohash,
        /// Of which section.
        section: Section,
        /// Which.
        block: u32,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Something will not come.
    Failed {
        /// Of which torrent.
        name: Infohash,
        /// Section, first block, and how many; without, the torrent is closed.
        scope: Option<(Section, u32, u16)>,
        /// Why.
        reason: DbEndReason,
        /// With NOT_FOUND: what was tried.
        tried: Option<Tried>,
    },
}

/// A circuit has passed [`MAX_CIRCUIT_MESSAGES`]: it is to be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a circuit asks without reading the answers")]
pub struct Overrun;

/// What is known of a torrent.
#[derive(Debug)]
struct Name {
    /// None until the host has opened it.
    metadata: Option<Bytes>,
    streams: BTreeSet<StreamKey>,
    wanted: BTreeMap<(Section, u32), Wanted>,
    /// When the last stream went.
    unused_since: Option<Instant>,
    /// The counter with which the host asks other ORDBs for it: see [`Server::raise`].
    level: Option<u8>,
}

/// A block that the host was asked for.
#[derive(Debug)]
struct Wanted {
    /// As often as they asked.
    askers: Vec<StreamKey>,
    since: Instant,
}

/// Answers many requesters; see the module.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    names: BTreeMap<Infohash, Name>,
    circuits: BTreeMap<u64, Circuit>,
    /// Circuits that have something to be sent, in turn.
    turns: VecDeque<u64>,
    sent_in_turn: u32,
    /// Streams that want more than `max_ahead_blocks` allows, in turn.
    starved: VecDeque<StreamKey>,
    /// Bounded by `max_ahead_blocks`, by the names, and by what was wanted.
    wants: VecDeque<ContentWant>,
    ahead: usize,
    /// No blocks are sent for now, only the rest.
    holds_blocks: bool,
    next_tick: Instant,
}

impl Server {
    /// A server of nothing yet.
    pub fn new(config: ServerConfig) -> Self {
        Self {
            config,
            names: BTreeMap::new(),
            circuits: BTreeMap::new(),
            turns: VecDeque::new(),
            sent_in_turn: 0,
            starved: VecDeque::new(),
            wants: VecDeque::new(),
            ahead: 0,
            holds_blocks: false,
            next_tick: Instant::FAR_FUTURE,
        }
    }

    /// A DB_QUERY came. An error says that the circuit is to be destroyed.
    pub fn handle_query(
        &mut self,
        now: Instant,
        key: StreamKey,
        query: &DbQuery,
    ) -> Result<(), Overrun> {
        self.next_tick = self.next_tick.min(now + TICK);
        match query {
            DbQuery::Open { counter, name } => self.open(now, key, *name, *counter),
            DbQuery::Ask(range) => self.ask(now, key, *range),
        }
        self.check(key.circuit)
    }

    /// A DB_END came. An error says that the circuit is to be destroyed.
    pub fn handle_end(&mut self, now: Instant, key: StreamKey, end: &DbEnd) -> Result<(), Overrun> {
        match end.scope {
            None => self.remove_stream(now, key),
            Some(scope) => {
                let Some(stream) = self.stream_mut(key) else {
                    return Ok(());
                };
                stream.heard = now;
                self.remove_blocks(key, scope);
                let reason = DbEndReason::CANCELLED;
                self.send_end(
                    key,
                    DbEnd {
                        reason,
                        scope: Some(scope),
                        tried: None,
                    },
                );
            }
        }
        self.check(key.circuit)
    }

    /// A circuit is gone, and its streams with it.
    pub fn handle_circuit_gone(&mut self, now: Instant, circuit: u64) {
        let streams: Vec<StreamId> = self
            .circuits
            .get(&circuit)
            .map_or_else(Vec::new, |circuit| {
                circuit.streams.keys().copied().collect()
            });
        for stream in streams {
            self.remove_stream(now, StreamKey { circuit, stream });
        }
        self.circuits.remove(&circuit);
        self.turns.retain(|other| *other != circuit);
    }

    /// The host answers.
    pub fn handle_answer(&mut self, now: Instant, answer: ContentAnswer) {
        match answer {
            ContentAnswer::Opened { name, metadata } => self.handle_opened(now, name, metadata),
            ContentAnswer::Block {
                name,
                section,
                block,
                bytes,
            } => {
                self.handle_block(name, section, block, bytes);
            }
            ContentAnswer::Failed {
                name,
                scope: None,
                reason,
                tried,
            } => {
                self.end_name(now, name, reason, tried);
            }
            ContentAnswer::Failed {
                name,
                scope: Some((section, first, count)),
                reason,
                ..
            } => {
                let blocks = first..first.saturating_add(count.into());
                self.end_blocks(name, section, blocks, reason);
            }
        }
    }

    /// The time that [`Self::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        self.end_idle_streams(now);
        self.end_late_blocks(now);
        self.close_unused_names(now);
        self.next_tick = if self.names.is_empty() {
            Instant::FAR_FUTURE
        } else {
            now + TICK
        };
    }

    /// When [`Self::handle_timeout`] is to be called, and why.
    pub fn poll_timeout(&self) -> (Instant, &'static str) {
        (self.next_tick, "closing what nobody asks for")
    }

    /// What the host is to do next.
    pub fn poll_want(&mut self) -> Option<ContentWant> {
        self.wants.pop_front()
    }

    /// Whether blocks are held back from now on; everything else is sent all the same.
    pub fn hold_blocks(&mut self, hold: bool) {
        self.holds_blocks = hold;
    }

    /// Circuits for which something waits to be sent.
    pub fn waiting_circuits(&self) -> usize {
        self.turns.len()
    }

    /// Whether anything waits to be sent.
    pub fn has_waiting(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Writes the next message into a relay cell's body, and says whose it is; circuits for which
    /// `can_send` is false are passed over. DB_DATA is written straight from the block.
    pub fn poll_transmit(
        &mut self,
        can_send: impl Fn(u64) -> bool,
        body: &mut RelayBody,
    ) -> Option<StreamKey> {
        // Once around, and once more for the one whose turn ends now.
        for _ in 0..=self.turns.len() {
            let circuit_id = *self.turns.front()?;
            if self.sent_in_turn >= TURN_CELLS || !can_send(circuit_id) {
                self.next_turn();
                continue;
            }
            let Some(circuit) = self.circuits.get_mut(&circuit_id) else {
                self.turns.pop_front();
                continue;
            };
            if self.holds_blocks && circuit.messages.is_empty() && circuit.has_something() {
                self.next_turn();
                continue;
            }
            match circuit.write_next(body) {
                Some((stream, sent_block)) => {
                    self.sent_in_turn += 1;
                    let key = StreamKey {
                        circuit: circuit_id,
                        stream,
                    };
                    if sent_block {
                        self.ahead = self.ahead.saturating_sub(1);
                        self.want_more(key);
                        self.feed_starved();
                    }
                    return Some(key);
                }
                None => {
                    circuit.in_turns = false;
                    self.turns.pop_front();
                    self.sent_in_turn = 0;
                }
            }
        }
        None
    }

    /// Blocks held for sending or wanted of the host.
    pub fn ahead_blocks(&self) -> usize {
        self.ahead
    }

    /// Torrents open at the host.
    pub fn open_names(&self) -> usize {
        self.names.len()
    }

    /// The host is about to ask another ORDB for this name: the counter to ask with, larger than
    /// that of every stream that is open for it. From now on only streams with a smaller one are
    /// taken. So counters grow along every way that a question goes, and none comes round. None if
    /// the limit is reached: then no other ORDB is to be asked.
    pub fn raise(&mut self, name: &Infohash) -> Option<u8> {
        let known = self.names.get_mut(name)?;
        if known.level.is_some() {
            return known.level;
        }
        let counters = known.streams.iter().filter_map(|key| {
            let circuit = self.circuits.get(&key.circuit)?;
            Some(circuit.streams.get(&key.stream)?.counter)
        });
        let level = counters.max()?.checked_add(1)?;
        if level > MAX_COUNTER {
            return None;
        }
        known.level = Some(level);
        known.level
    }

    /// The counter with which the host asks other ORDBs for a name, if it does.
    pub fn level(&self, name: &Infohash) -> Option<u8> {
        self.names.get(name)?.level
    }

    /// The circuits that have streams for this name.
    pub fn circuits_of(&self, name: &Infohash) -> BTreeSet<u64> {
        let streams = self.names.get(name).map(|known| &known.streams);
        let streams = streams.into_iter().flatten();
        set_of(streams.map(|key| key.circuit))
    }

    /// The circuit of each stream, and the name that it is for.
    pub fn streams(&self) -> impl Iterator<Item = (u64, Infohash)> + '_ {
        let names = self.names.iter();
        names.flat_map(|(name, known)| known.streams.iter().map(|key| (key.circuit, *name)))
    }

    /// Streams open.
    pub fn open_streams(&self) -> usize {
        self.circuits
            .values()
            .map(|circuit| circuit.streams.len())
            .sum()
    }

    // What requesters ask.

    fn open(&mut self, now: Instant, key: StreamKey, name: Infohash, counter: u8) {
        let known = self.names.get(&name);
        let is_new_name = known.is_none();
        let is_loop = known.is_some_and(|name| name.level.is_some_and(|level| counter >= level));
        let max_names = self.config.max_names;
        let circuit = self.circuits.entry(key.circuit).or_default();
        if circuit.streams.contains_key(&key.stream) {
            self.remove_stream(now, key);
            return self.send_reason(key, DbEndReason::PROTOCOL);
        }
        if circuit.streams.len() >= MAX_STREAMS_PER_CIRCUIT
            || (is_new_name && self.names.len() >= max_names)
        {
            return self.send_reason(key, DbEndReason::BUSY);
        }
        if is_loop {
            return self.send_reason(key, DbEndReason::LOOP);
        }
        circuit
            .streams
            .insert(key.stream, Stream::new(now, name, counter));
        if is_new_name {
            self.wants.push_back(ContentWant::Open { name });
        }
        let known = self.names.entry(name).or_insert_with(|| Name {
            metadata: None,
            streams: BTreeSet::new(),
            wanted: BTreeMap::new(),
            unused_since: None,
            level: None,
        });
        known.streams.insert(key);
        known.unused_since = None;
        if let Some(length) = known.metadata.as_ref().map(Bytes::len) {
            self.send_connected(key, length);
        }
    }

    fn ask(&mut self, now: Instant, key: StreamKey, range: BlockRange) {
        let Some(stream) = self.stream_mut(key) else {
            return self.send_reason(key, DbEndReason::PROTOCOL);
        };
        stream.heard = now;
        let name = stream.name;
        let queued = stream.queued();
        let metadata = self.names.get(&name).and_then(|name| name.metadata.clone());
        let Some(metadata) = metadata else {
            // It may only ask after DB_CONNECTED.
            self.remove_stream(now, key);
            return self.send_reason(key, DbEndReason::PROTOCOL);
        };
        let refuse = |reason| DbEnd {
            reason,
            scope: Some(range),
            tried: None,
        };
        if queued.saturating_add(range.count.into()) > MAX_QUEUED_BLOCKS {
            return self.send_end(key, refuse(DbEndReason::BUSY));
        }
        let is_known = Section::KNOWN.contains(&range.section);
        let metadata_blocks = metadata.len().div_ceil(BLOCK_LEN) as u64;
        let is_metadata = range.section == Section::METADATA;
        if !is_known || (is_metadata && u64::from(range.blocks().end) > metadata_blocks) {
            return self.send_end(key, refuse(DbEndReason::UNAVAILABLE));
        }
        if let Some(stream) = self.stream_mut(key) {
            for block in range.blocks() {
                stream.push(range.section, block);
            }
        }
        self.want_more(key);
    }

    // Sending.

    fn send_connected(&mut self, key: StreamKey, length: usize) {
        let metadata_length = u32::try_from(length).unwrap_or(u32::MAX);
        self.send(
            key,
            RelayMessage::DbConnected(DbConnected { metadata_length }),
        );
    }

    fn send_reason(&mut self, key: StreamKey, reason: DbEndReason) {
        self.send_end(
            key,
            DbEnd {
                reason,
                scope: None,
                tried: None,
            },
        );
    }

    fn send_end(&mut self, key: StreamKey, end: DbEnd) {
        self.send(key, RelayMessage::DbEnd(end));
    }

    fn send(&mut self, key: StreamKey, message: RelayMessage<'static>) {
        let circuit = self.circuits.entry(key.circuit).or_default();
        if circuit.messages.len() <= MAX_CIRCUIT_MESSAGES {
            circuit.messages.push_back((key.stream, message));
        }
        self.take_turn(key.circuit);
    }

    fn check(&self, circuit: u64) -> Result<(), Overrun> {
        match self.circuits.get(&circuit) {
            Some(circuit) if circuit.messages.len() > MAX_CIRCUIT_MESSAGES => Err(Overrun),
            _ => Ok(()),
        }
    }

    fn take_turn(&mut self, id: u64) {
        if let Some(circuit) = self.circuits.get_mut(&id)
            && !circuit.in_turns
            && circuit.has_something()
        {
            circuit.in_turns = true;
            self.turns.push_back(id);
        }
    }

    fn next_turn(&mut self) {
        self.sent_in_turn = 0;
        if let Some(circuit) = self.turns.pop_front() {
            self.turns.push_back(circuit);
        }
    }

    fn stream_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.circuits
            .get_mut(&key.circuit)?
            .streams
            .get_mut(&key.stream)
    }
}
