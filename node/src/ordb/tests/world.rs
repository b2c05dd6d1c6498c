//! One requester, its readers, and sources that are real servers behind simulated circuits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;

use super::Rng;
use super::torrents::Torrent;
use crate::ids::{Ed25519Id, ReadId, StreamId};
use crate::ordb::requester::MAX_LEAF_BLOCKS;
use crate::ordb::{
    Config, ContentAnswer, ContentWant, Demand, DropReason, Failure, Read, Requester,
    RequesterEvent, Server, ServerConfig, SourceFailure, SourceId, StreamKey,
};
use crate::time::Instant;
use crate::torrent::CHUNK_LEN;
use crate::wire::{
    BLOCK_LEN, CELL_BODY_LEN, DbEndReason, DbQuery, RelayBody, RelayHeader, RelayMessage, Section,
    Tried, split_relay,
};

/// What a source is like.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    /// Cells a second that its circuit carries.
    pub(super) cells_per_second: u64,
    /// One way.
    pub(super) delay: Duration,
    /// What its host needs for the first block of a piece; those after it come at once, as from a
    /// swarm.
    pub(super) host_delay: Duration,
    /// One block in so many is wrong; 0: none.
    pub(super) wrong_one_in: u64,
    /// Its metadata is wrong.
    pub(super) wrong_metadata: bool,
    /// Says that its metadata has so many bytes more.
    pub(super) wrong_length: u32,
    /// Says this instead of opening, so many times.
    pub(super) refuses: Option<(DbEndReason, u32)>,
    /// The circuit breaks after so many cells.
    pub(super) dies_after: Option<u64>,
    /// Nothing comes any more after so many cells.
    pub(super) stalls_after: Option<u64>,
    /// Blocks of which it has none: those whose number has this remainder by 7.
    pub(super) lacks: Option<u32>,
    /// Has no leaf hashes to give.
    pub(super) no_leaves: bool,
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            cells_per_second: 4000,
            delay: Duration::from_millis(40),
            host_delay: Duration::from_millis(20),
            wrong_one_in: 0,
            wrong_metadata: false,
            wrong_length: 0,
            refuses: None,
            dies_after: None,
            stalls_after: None,
            lacks: None,
            no_leaves: false,
        }
    }
}

impl Nature {
    pub(super) fn is_honest(&self) -> bool {
        self.wrong_one_in == 0 && !self.wrong_metadata && self.wrong_length == 0
    }
}

struct Source {
    nature: Nature,
    router: Ed25519Id,
    server: Server,
    /// The stream that is open, and the number of the next one.
    stream: Option<StreamId>,
    next_stream: u16,
    refused: u32,
    sent_cells: u64,
    /// When its circuit can carry the next cell; a sending is under way if it is in the future.
    next_cell: Instant,
    sending: bool,
    /// Pieces that its host has.
    host_has: BTreeSet<u32>,
    gone: bool,
    wrong_blocks: u64,
}

enum Event {
    Start(usize),
    ToServer(usize, StreamId, RelayMessage<'static>),
    FromServer(usize, Box<RelayBody>),
    Send(usize),
    Answer(usize, ContentAnswer),
    ServerTimeout(usize),
    RequesterTimeout,
    Reader(ReadId),
    Seek(ReadId, u64),
}

/// A reader that reads a range at a rate, and checks all it gets.
struct Reader {
    file: usize,
    position: u64,
    end: u64,
    bytes_per_second: u64,
    waits: bool,
    waited_since: Instant,
    pub(super) waited: Duration,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) now: Instant,
    pub(super) requester: Requester,
    pub(super) torrent: Torrent,
    config: Config,
    sources: Vec<Source>,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    pending: BTreeMap<u64, Event>,
    sequence: u64,
    readers: BTreeMap<ReadId, Reader>,
    finished_reads: usize,
    timeout_at: Instant,
    rng: Rng,
    pub(super) failure: Option<Failure>,
    pub(super) dropped: Vec<(usize, DropReason)>,
    pub(super) failed: Vec<(usize, SourceFailure)>,
    pub(super) stalled: Vec<usize>,
    pub(super) has_metadata: bool,
    pub(super) cells: u64,
    pub(super) most_unverified: u64,
    /// How often each chunk came from the sources' hosts.
    pub(super) asked_of_hosts: BTreeMap<u32, BTreeSet<usize>>,
    /// Whether a circuit that died is built again, and how soon.
    pub(super) replaces: Option<Duration>,
}

impl World {
    pub(super) fn new(seed: u64, torrent: Torrent, config: Config) -> Self {
        let now = Instant::from_micros(1);
        Self {
            seed,
            now,
            requester: Requester::new(now, torrent.magnet.clone(), config.clone()),
            torrent,
            config,
            sources: Vec::new(),
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            readers: BTreeMap::new(),
            finished_reads: 0,
            timeout_at: Instant::FAR_FUTURE,
            rng: Rng::new(seed ^ 0x5EED),
            failure: None,
            dropped: Vec::new(),
            failed: Vec::new(),
            stalled: Vec::new(),
            has_metadata: false,
            cells: 0,
            most_unverified: 0,
            asked_of_hosts: BTreeMap::new(),
            replaces: None,
        }
    }

    /// A source whose circuit is built after `after`.
    pub(super) fn add_source(&mut self, after: Duration, nature: Nature) -> usize {
        let index = self.sources.len();
        let mut id = [7; 32];
        id[..8].copy_from_slice(&(index as u64).to_le_bytes());
        self.add_source_of(after, nature, Ed25519Id(id))
    }

    fn add_source_of(&mut self, after: Duration, nature: Nature, router: Ed25519Id) -> usize {
        let index = self.sources.len();
        self.sources.push(Source {
            nature,
            router,
            server: Server::new(ServerConfig::default()),
            stream: None,
            next_stream: 1,
            refused: 0,
            sent_cells: 0,
            next_cell: self.now,
            sending: false,
            host_has: BTreeSet::new(),
            gone: false,
            wrong_blocks: 0,
        });
        self.at(self.now + after, Event::Start(index));
        index
    }

    /// A reader of part of a file, once the metadata is there.
    pub(super) fn add_reader(
        &mut self,
        id: u64,
        file: usize,
        range: std::ops::Range<u64>,
        bytes_per_second: u64,
        demand: Demand,
    ) {
        let id = ReadId(id);
        let (start, end) = (range.start, range.end);
        self.requester
            .open_read(self.now, id, file, range, demand)
            .unwrap();
        let reader = Reader {
            file,
            position: start,
            end,
            bytes_per_second,
            waits: false,
            waited_since: self.now,
            waited: Duration::ZERO,
        };
        self.readers.insert(id, reader);
        self.at(self.now, Event::Reader(id));
        self.settle();
    }

    /// After `after`, the reader goes on from elsewhere.
    pub(super) fn seek(&mut self, id: u64, after: Duration, position: u64) {
        self.at(self.now + after, Event::Seek(ReadId(id), position));
    }

    /// How long a reader has waited for bytes.
    pub(super) fn waited(&self, id: u64) -> Duration {
        self.readers[&ReadId(id)].waited
    }

    pub(super) fn has_lied(&self, source: usize) -> bool {
        self.sources[source].wrong_blocks > 0
    }

    pub(super) fn sent_cells(&self, source: usize) -> u64 {
        self.sources[source].sent_cells
    }

    /// Breaks a source's circuit.
    pub(super) fn kill(&mut self, source: usize) {
        if std::mem::replace(&mut self.sources[source].gone, true) {
            return;
        }
        self.requester
            .handle_source_lost(self.now, SourceId(source as u64));
        if let Some(after) = self.replaces {
            let nature = Nature {
                dies_after: None,
                ..self.sources[source].nature.clone()
            };
            let router = self.sources[source].router;
            self.add_source_of(after, nature, router);
        }
        self.settle();
    }

    /// Runs until `done` or the time is over; what is not done then has no progress.
    pub(super) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(
                self.step(),
                "seed {}: nothing left to happen\n{self:?}",
                self.seed
            );
            assert!(
                self.now < end,
                "seed {}: no progress in {limit:?}\n{self:?}",
                self.seed
            );
        }
    }

    /// Runs for a time.
    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self
            .events
            .peek()
            .is_some_and(|Reverse((at, _))| *at <= end)
        {
            self.step();
        }
        self.now = end;
    }

    pub(super) fn all_read(&self) -> bool {
        self.finished_reads == self.readers.len()
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.pending.insert(self.sequence, event);
        self.events.push(Reverse((at.max(self.now), self.sequence)));
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((at, sequence))) = self.events.pop() else {
            return false;
        };
        self.now = at;
        let event = self.pending.remove(&sequence).unwrap();
        match event {
            Event::Start(index) => {
                let router = self.sources[index].router;
                self.requester
                    .handle_source(self.now, SourceId(index as u64), router);
            }
            Event::ToServer(index, stream, message) => self.reach_server(index, stream, &message),
            Event::FromServer(index, body) => self.reach_requester(index, &body),
            Event::Send(index) => {
                self.sources[index].sending = false;
                self.send(index);
            }
            Event::Answer(index, answer) => {
                self.sources[index].server.handle_answer(self.now, answer);
                self.serve(index);
            }
            Event::ServerTimeout(index) => {
                self.sources[index].server.handle_timeout(self.now);
                self.serve(index);
            }
            Event::RequesterTimeout => {
                if self.now >= self.timeout_at {
                    self.timeout_at = Instant::FAR_FUTURE;
                    self.requester.handle_timeout(self.now);
                }
            }
            Event::Reader(id) => self.read(id),
            Event::Seek(id, position) => {
                let reader = self.readers.get_mut(&id).unwrap();
                if reader.position < reader.end {
                    reader.position = position;
                    let (file, end) = (reader.file, reader.end);
                    reader.waits = false;
                    self.requester.close_read(self.now, id);
                    self.requester
                        .open_read(self.now, id, file, position..end, Demand::Play)
                        .unwrap();
                    self.read(id);
                }
            }
        }
        self.settle();
        true
    }

    /// Takes all that the requester has to say, and checks what must always hold.
    fn settle(&mut self) {
        while let Some((id, message)) = self.requester.poll_transmit() {
            self.transmit(usize::try_from(id.0).unwrap(), message);
        }
        while let Some(event) = self.requester.poll_event() {
            self.handle_event(event);
        }
        let (at, _) = self.requester.poll_timeout();
        if at < self.timeout_at {
            self.timeout_at = at;
            self.at(at, Event::RequesterTimeout);
        }
        let unverified = self.requester.unverified_bytes();
        self.most_unverified = self.most_unverified.max(unverified);
        let bound = self.config.max_unverified_bytes
            + u64::from(CHUNK_LEN) * self.sources.len() as u64
            + self.torrent.metadata().len() as u64 * 4
            + (MAX_LEAF_BLOCKS * BLOCK_LEN) as u64
            + self.torrent.piece_layers.len() as u64;
        assert!(
            unverified <= bound,
            "seed {}: {unverified} > {bound}",
            self.seed
        );
        assert!(self.requester.store().bytes() <= self.config.max_store_bytes);
    }

    fn handle_event(&mut self, event: RequesterEvent) {
        let seed = self.seed;
        match event {
            RequesterEvent::Metadata(metainfo) => {
                assert_eq!(metainfo.info(), self.torrent.metadata(), "seed {seed}");
                self.has_metadata = true;
            }
            RequesterEvent::Verified { chunks } => {
                for chunk in chunks {
                    if let Some(bytes) = self.requester.store().read(chunk) {
                        let right = self.torrent.chunk(chunk);
                        assert!(
                            bytes.as_ref() == right,
                            "seed {seed}: chunk {chunk} is wrong"
                        );
                    }
                }
            }
            RequesterEvent::Readable(id) => self.at(self.now, Event::Reader(id)),
            RequesterEvent::SourceDropped { source, why, .. } => {
                let index = usize::try_from(source.0).unwrap();
                let is_honest =
                    self.sources[index].nature.is_honest() || why == DropReason::DroppedBefore;
                assert!(
                    !is_honest,
                    "seed {seed}: honest source {index} dropped: {why}"
                );
                self.sources[index].gone = true;
                self.dropped.push((index, why));
            }
            RequesterEvent::SourceFailed { source, why, .. } => {
                let index = usize::try_from(source.0).unwrap();
                self.sources[index].gone = true;
                self.failed.push((index, why));
                if why == SourceFailure::Stalled
                    && let Some(after) = self.replaces
                {
                    let nature = Nature {
                        stalls_after: None,
                        ..self.sources[index].nature.clone()
                    };
                    let router = self.sources[index].router;
                    self.add_source_of(after, nature, router);
                }
            }
            RequesterEvent::SourceStalled { source, .. } => {
                self.stalled.push(usize::try_from(source.0).unwrap());
            }
            RequesterEvent::Failed(failure) => self.failure = Some(failure),
        }
    }

    fn transmit(&mut self, index: usize, message: RelayMessage<'static>) {
        let source = &mut self.sources[index];
        if matches!(message, RelayMessage::DbQuery(DbQuery::Open { .. })) {
            source.stream = Some(StreamId(source.next_stream));
            source.next_stream += 1;
        }
        let Some(stream) = source.stream else { return };
        if matches!(&message, RelayMessage::DbEnd(end) if end.scope.is_none()) {
            source.stream = None;
        }
        let at = self.now + source.nature.delay;
        self.at(at, Event::ToServer(index, stream, message));
    }

    fn reach_server(&mut self, index: usize, stream: StreamId, message: &RelayMessage<'_>) {
        let now = self.now;
        let source = &mut self.sources[index];
        let key = StreamKey { circuit: 1, stream };
        match message {
            RelayMessage::DbQuery(query) => source.server.handle_query(now, key, query).unwrap(),
            RelayMessage::DbEnd(end) => source.server.handle_end(now, key, end).unwrap(),
            other => panic!("the requester sent {other:?}"),
        }
        let (at, _) = source.server.poll_timeout();
        self.at(at, Event::ServerTimeout(index));
        self.serve(index);
    }

    /// The host answers what the server wants.
    fn serve(&mut self, index: usize) {
        while let Some(want) = self.sources[index].server.poll_want() {
            self.host(index, want);
        }
        self.send(index);
    }

    fn host(&mut self, index: usize, want: ContentWant) {
        let source = &mut self.sources[index];
        let nature = source.nature.clone();
        let jitter = Duration::from_micros(self.rng.below(2000));
        let answer_at = self.now + nature.host_delay + jitter;
        match want {
            ContentWant::Open { name } => {
                assert_eq!(name, self.torrent.name);
                if let Some((reason, times)) = nature.refuses
                    && source.refused < times
                {
                    source.refused += 1;
                    let tried = Tried {
                        seconds: 9,
                        dht_nodes: 50,
                        trackers: 2,
                        peers: 3,
                    };
                    let tried = (reason == DbEndReason::NOT_FOUND).then_some(tried);
                    let failed = ContentAnswer::Failed {
                        name,
                        scope: None,
                        reason,
                        tried,
                    };
                    return self.at(answer_at, Event::Answer(index, failed));
                }
                let mut metadata = self.torrent.metadata().to_vec();
                if nature.wrong_metadata {
                    let place = self.rng.below(metadata.len() as u64) as usize;
                    metadata[place] ^= 1;
                }
                metadata.resize(metadata.len() + nature.wrong_length as usize, 0);
                let opened = ContentAnswer::Opened {
                    name,
                    metadata: metadata.into(),
                };
                self.at(answer_at, Event::Answer(index, opened));
            }
            ContentWant::Blocks {
                name,
                section,
                first,
                count,
            } => {
                let mut at = answer_at;
                for block in first..first + u32::from(count) {
                    let bytes = match section {
                        Section::CHUNKS => self.torrent.chunk(block).to_vec(),
                        Section::PIECE_LAYERS => {
                            let start = block as usize * BLOCK_LEN;
                            let end = (start + BLOCK_LEN).min(self.torrent.piece_layers.len());
                            self.torrent.piece_layers[start..end].to_vec()
                        }
                        Section::LEAF_HASHES => self.torrent.leaf_block(block),
                        _ => Vec::new(),
                    };
                    let lacks = match section {
                        Section::CHUNKS => nature.lacks.is_some_and(|rest| block % 7 == rest),
                        Section::LEAF_HASHES => nature.no_leaves,
                        _ => false,
                    };
                    let source = &mut self.sources[index];
                    if section == Section::CHUNKS {
                        self.asked_of_hosts.entry(block).or_default().insert(index);
                        let piece = self.torrent.metainfo.piece_of(block);
                        at = if source.host_has.insert(piece) {
                            answer_at
                        } else {
                            self.now
                        };
                    }
                    let answer = if lacks {
                        let scope = Some((section, block, 1));
                        let reason = DbEndReason::UNAVAILABLE;
                        ContentAnswer::Failed {
                            name,
                            scope,
                            reason,
                            tried: None,
                        }
                    } else {
                        let mut bytes = bytes;
                        if nature.wrong_one_in > 0 && self.rng.once_in(nature.wrong_one_in) {
                            let place = self.rng.below(bytes.len() as u64) as usize;
                            bytes[place] ^= 1 << self.rng.below(8);
                            source.wrong_blocks += 1;
                        }
                        ContentAnswer::Block {
                            name,
                            section,
                            block,
                            bytes: Bytes::from(bytes),
                        }
                    };
                    self.at(at, Event::Answer(index, answer));
                }
            }
            ContentWant::Cancel { .. } | ContentWant::Close { .. } => {}
        }
    }

    /// The circuit carries the next cell.
    fn send(&mut self, index: usize) {
        let now = self.now;
        let source = &mut self.sources[index];
        if source.sending || source.gone {
            return;
        }
        if source
            .nature
            .stalls_after
            .is_some_and(|cells| source.sent_cells >= cells)
        {
            return;
        }
        let mut body = [0; CELL_BODY_LEN];
        if source.server.poll_transmit(|_| true, &mut body).is_none() {
            return;
        }
        source.sent_cells += 1;
        self.cells += 1;
        let arrives = now + source.nature.delay;
        let per_cell = Duration::from_micros(1_000_000 / source.nature.cells_per_second);
        source.next_cell = now + per_cell;
        source.sending = true;
        let (next, dies) = (
            source.next_cell,
            source.nature.dies_after == Some(source.sent_cells),
        );
        self.at(arrives, Event::FromServer(index, Box::new(body)));
        self.at(next, Event::Send(index));
        if dies {
            self.kill(index);
        }
        // The host may have to answer what is wanted next.
        while let Some(want) = self.sources[index].server.poll_want() {
            self.host(index, want);
        }
    }

    fn reach_requester(&mut self, index: usize, body: &RelayBody) {
        let source = &mut self.sources[index];
        if source.gone {
            return;
        }
        let (header, data) = split_relay(body).unwrap();
        // A stream that we have ended or replaced.
        if header.stream != source.stream || source.stream.is_none() {
            return;
        }
        let message = RelayMessage::decode(RelayHeader::of(body).command, data).unwrap();
        if matches!(&message, RelayMessage::DbEnd(end) if end.scope.is_none()) {
            source.stream = None;
        }
        self.requester
            .handle_message(self.now, SourceId(index as u64), &message);
    }

    fn read(&mut self, id: ReadId) {
        let seed = self.seed;
        loop {
            let Some(reader) = self.readers.get_mut(&id) else {
                return;
            };
            match self.requester.poll_read(id, 1 << 20) {
                Read::Bytes(bytes) => {
                    if std::mem::take(&mut reader.waits) {
                        reader.waited += self.now.saturating_since(reader.waited_since);
                    }
                    let start = usize::try_from(reader.position).unwrap();
                    let right = &self.torrent.file(reader.file)[start..start + bytes.len()];
                    assert!(!bytes.is_empty(), "seed {seed}: an empty read");
                    assert!(bytes.as_ref() == right, "seed {seed}: wrong bytes read");
                    reader.position += bytes.len() as u64;
                    let micros = bytes.len() as u64 * 1_000_000;
                    if let Some(micros) = micros.checked_div(reader.bytes_per_second) {
                        return self
                            .at(self.now + Duration::from_micros(micros), Event::Reader(id));
                    }
                }
                Read::Pending => {
                    if !std::mem::replace(&mut reader.waits, true) {
                        reader.waited_since = self.now;
                    }
                    return;
                }
                Read::End => {
                    assert_eq!(reader.position, reader.end, "seed {seed}");
                    if reader.bytes_per_second != u64::MAX {
                        reader.bytes_per_second = u64::MAX;
                        self.finished_reads += 1;
                    }
                    return;
                }
                Read::Failed => return,
            }
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "at {:?}, {} cells", self.now, self.cells)?;
        writeln!(f, "{:?}", self.requester.progress())?;
        for stats in self.requester.sources() {
            writeln!(f, "{stats:?}")?;
        }
        for (index, source) in self.sources.iter().enumerate() {
            writeln!(
                f,
                "source {index}: {:?} sent {} gone {} stream {:?} open names {} streams {} ahead {}",
                source.nature,
                source.sent_cells,
                source.gone,
                source.stream,
                source.server.open_names(),
                source.server.open_streams(),
                source.server.ahead_blocks()
            )?;
        }
        for (id, reader) in &self.readers {
            writeln!(
                f,
                "{id:?}: {} of {} waits {}",
                reader.position, reader.end, reader.waits
            )?;
        }
        writeln!(
            f,
            "dropped {:?} failed {:?} {:?}",
            self.dropped, self.failed, self.failure
        )?;
        writeln!(f, "{}", self.requester.describe())
    }
}
