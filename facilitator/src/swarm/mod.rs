//! The swarm engine: takes content out of BitTorrent swarms for the ORDB, and gives nothing back.
//!
//! # Why not librqbit's session
//!
//! librqbit 9.1 was to do this; its session cannot, by its source:
//! - *Only what was asked for.* Files are selected, not pieces (`update_only_files`). What is
//!   fetched first is steered by streams, each of which fetches 32 MiB ahead of its position to
//!   the file's end (`PER_STREAM_BUF_DEFAULT` in `torrent_state/streaming.rs`, a private
//!   constant). Of two facilitators asked for alternate parts of a film each would fetch nearly
//!   all of it.
//! - *Within a cap.* A piece that was had is had for ever: `ChunkTracker` sets `have` and never
//!   clears it. To evict one, the torrent has to be deleted and added again, which drops every
//!   connection and checks the storage anew; in mid-film that is a stall of seconds at every
//!   eviction. A storage that forgets on its own fails the stream that reads it.
//! - *Taking only.* `disable-upload` stops pieces, but the session still gives the info dictionary
//!   (`send_metadata_piece`) and other peers' addresses (`task_send_pex_to_peer`), and names the
//!   client.
//! - *No listening port.* Where nothing listens trackers are told port 4240
//!   (`announce_port().unwrap_or(4240)` in `session.rs`), for the session's life and without ever a
//!   `stopped`: others are sent to our address, where at best nobody answers.
//! - One piece is asked of one peer, so the first piece comes at that peer's rate.
//!
//! So the leech's own part, who is asked for what (`torrent`), is written here, on librqbit's
//! codec of the peer protocol (messages, extensions, `ut_metadata`, PEX). `dht` and [`crate::tracker`]
//! say why they are not crates either.
//!
//! # How it works
//!
//! `torrent::Torrent` does no I/O: each of its methods takes what happened, its `poll_`s tell
//! what to do. All torrents and the `store` are behind one lock, held for microseconds and never
//! over an await or a long hash. Tasks around it: one for each torrent (`run`), one for each
//! peer (`connection`), and one that answers the ORDB. Letting a torrent go drops its task, and
//! with it all others of the torrent.
//!
//! Peers are reached by TCP, in the clear. Those that take only uTP or only encrypted connections
//! are few among those that can be reached at all, and are left out.

mod connection;
mod dht;
mod metadata;
mod peers;
mod run;
mod store;
mod torrent;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chive_node::ordb::{ContentAnswer, ContentWant};
use chive_node::torrent::{Infohash, MAX_METADATA_LEN};
use chive_node::wire::DbEndReason;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use url::Url;

use self::dht::Dht;
use self::store::Store;
use self::torrent::{Counts, Torrent};

/// Answers that the host has not taken yet: 1 MiB of blocks. The swarm fills it; when it is full
/// the swarm's blocks wait in the store.
const MAX_ANSWERS: usize = 64;

/// Failures of torrents that are gone or never were, not taken yet. Whoever opens torrents fills
/// it; when it is full the oldest is dropped, and its asker gives up by itself.
const MAX_FAILURES: usize = 1024;

/// Trackers asked for each torrent; the operator's first ones.
const MAX_TRACKERS: usize = 32;

/// Where the Mainline DHT is entered by default.
pub const DEFAULT_DHT_BOOTSTRAP: [&str; 4] = [
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
    "router.utorrent.com:6881",
];

/// How to take part in swarms.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// Whether to look for peers in the DHT.
    pub dht: bool,
    /// Hosts with ports where the DHT is entered.
    pub dht_bootstrap: Vec<String>,
    /// Trackers that are asked for every torrent: `udp:` or `http:`.
    pub trackers: Vec<Url>,
    /// Peers that are tried for every torrent.
    pub peers: Vec<SocketAddr>,
    /// The most bytes of content in memory, of all torrents.
    pub memory_cap: usize,
    /// The most torrents at once; more are refused as BUSY.
    pub max_torrents: usize,
    /// The most peers of a torrent that we are connected to.
    pub max_peers: usize,
    /// The most peers of all torrents together. A home router keeps a note of each.
    pub max_connections: usize,
    /// The longest info dictionary; a longer one is refused as TOO_LARGE.
    pub max_metadata: usize,
    /// After this time without an info dictionary a torrent is NOT_FOUND.
    pub find_timeout: Duration,
    /// After this time without a block what is asked is GONE.
    pub stall_timeout: Duration,
    /// Whether addresses of private networks and of this machine may be contacted when a stranger
    /// names them. Not in a home network.
    pub allow_private: bool,
}

impl Default for SwarmConfig {
    fn default() -> Self {
        Self {
            dht: true,
            dht_bootstrap: DEFAULT_DHT_BOOTSTRAP.map(String::from).to_vec(),
            trackers: Vec::new(),
            peers: Vec::new(),
            memory_cap: 256 << 20,
            max_torrents: 32,
            max_peers: 40,
            max_connections: 400,
            max_metadata: MAX_METADATA_LEN,
            find_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            allow_private: false,
        }
    }
}

/// The engine. Dropping it ends everything that it started.
#[derive(Debug)]
pub struct Swarm {
    shared: Arc<Shared>,
    runtime: Handle,
    answering: AbortHandle,
}

/// What the engine holds and has done, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmStats {
    /// Torrents that are open.
    pub torrents: usize,
    /// Peers that we are connected to.
    pub peers: usize,
    /// Bytes of memory taken for content; never above the cap.
    pub memory_bytes: usize,
    /// Bytes of content that came from peers since the start.
    pub received_bytes: u64,
    /// Those of them that were of no use: sent twice, taken back too late, wrong.
    pub wasted_bytes: u64,
}

/// One opening of a torrent; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct TorrentKey(u64);

#[derive(Debug)]
struct Shared {
    config: Arc<SwarmConfig>,
    dht: Dht,
    state: Mutex<State>,
    /// `max_connections` of them.
    places: Semaphore,
    /// There may be something to answer.
    answerable: Notify,
}

#[derive(Debug)]
struct State {
    names: BTreeMap<Infohash, TorrentKey>,
    torrents: BTreeMap<TorrentKey, Running>,
    store: Store,
    failures: VecDeque<ContentAnswer>,
    last_key: u64,
    /// Whose answer was the last: they take turns.
    turn: TorrentKey,
    /// Of torrents that are gone.
    counts: Counts,
}

/// A torrent and its task, which ends with it.
#[derive(Debug)]
struct Running {
    torrent: Torrent,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Swarm {
    /// Starts an engine on the current tokio runtime. Answers come out of the channel, in the
    /// order in which the blocks of a run were asked.
    pub fn start(config: SwarmConfig) -> (Self, mpsc::Receiver<ContentAnswer>) {
        let (answers, receiver) = mpsc::channel(MAX_ANSWERS);
        let shared = Arc::new(Shared {
            dht: Dht::new(config.dht_bootstrap.clone(), config.allow_private),
            state: Mutex::new(State {
                names: BTreeMap::new(),
                torrents: BTreeMap::new(),
                store: Store::new(config.memory_cap),
                failures: VecDeque::new(),
                last_key: 0,
                turn: TorrentKey(0),
                counts: Counts::default(),
            }),
            places: Semaphore::new(config.max_connections),
            config: Arc::new(config),
            answerable: Notify::new(),
        });
        let runtime = Handle::current();
        let answering = runtime
            .spawn(answer(shared.clone(), answers))
            .abort_handle();
        let swarm = Self {
            shared,
            runtime,
            answering,
        };
        (swarm, receiver)
    }

    /// Takes what the ORDB wants. Never blocks.
    pub fn handle(&self, want: ContentWant) {
        let now = Instant::now();
        match want {
            ContentWant::Open { name } => self.open(now, name),
            ContentWant::Close { name } => {
                let key = self.shared.state().names.get(&name).copied();
                if let Some(key) = key {
                    self.shared.let_go(key);
                }
            }
            ContentWant::Blocks {
                name,
                section,
                first,
                count,
            } => {
                let known = self.shared.with_name(name, |torrent, store| {
                    torrent.handle_blocks(now, store, section, first, count);
                });
                if known.is_none() {
                    let scope = Some((section, first, count));
                    self.shared.fail(name, scope, DbEndReason::UNAVAILABLE);
                }
            }
            ContentWant::Cancel {
                name,
                section,
                first,
                count,
            } => {
                self.shared.with_name(name, |torrent, store| {
                    torrent.handle_cancel(store, section, first, count);
                });
            }
        }
    }

    /// What the engine holds and has done.
    pub fn stats(&self) -> SwarmStats {
        let state = self.shared.state();
        let running = state.torrents.values();
        let counts = running.clone().fold(state.counts, |sum, running| {
            sum.plus(running.torrent.counts)
        });
        SwarmStats {
            torrents: state.torrents.len(),
            peers: running.map(|running| running.torrent.peer_count()).sum(),
            memory_bytes: state.store.used(),
            received_bytes: counts.received,
            wasted_bytes: counts.wasted,
        }
    }

    fn open(&self, now: Instant, name: Infohash) {
        let mut state = self.shared.state();
        let known = state.names.get(&name).copied();
        if let Some(running) = known.and_then(|key| state.torrents.get_mut(&key)) {
            running.torrent.handle_open();
            return self.shared.answerable.notify_one();
        }
        if state.torrents.len() >= self.shared.config.max_torrents {
            drop(state);
            return self.shared.fail(name, None, DbEndReason::BUSY);
        }
        state.last_key += 1;
        let key = TorrentKey(state.last_key);
        let torrent = Torrent::new(now, key, name, self.shared.config.clone());
        // The task waits for the lock that is held here.
        let task = self.runtime.spawn(run::run(self.shared.clone(), key));
        let task = task.abort_handle();
        state.names.insert(name, key);
        state.torrents.insert(key, Running { torrent, task });
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.answering.abort();
        let torrents = std::mem::take(&mut self.shared.state().torrents);
        drop(torrents);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is a bug, not a reason to stop serving.
        self.state.lock().unwrap_or_else(|error| error.into_inner())
    }

    /// Does something with a torrent, if it is still open.
    fn with<R>(
        &self,
        key: TorrentKey,
        work: impl FnOnce(&mut Torrent, &mut Store) -> R,
    ) -> Option<R> {
        let mut state = self.state();
        let State {
            torrents, store, ..
        } = &mut *state;
        let torrent = &mut torrents.get_mut(&key)?.torrent;
        let result = work(torrent, store);
        if torrent.has_answers {
            self.answerable.notify_one();
        }
        Some(result)
    }

    fn with_name<R>(
        &self,
        name: Infohash,
        work: impl FnOnce(&mut Torrent, &mut Store) -> R,
    ) -> Option<R> {
        let key = self.state().names.get(&name).copied()?;
        self.with(key, work)
    }

    /// Ends a torrent and frees what it held.
    fn let_go(&self, key: TorrentKey) {
        let mut state = self.state();
        let Some(mut running) = state.torrents.remove(&key) else {
            return;
        };
        state.store.remove_torrent(key);
        state.names.remove(&running.torrent.name);
        state.counts = state.counts.plus(running.torrent.counts);
        for failure in running.torrent.take_failures() {
            state.push_failure(failure);
        }
        drop(state);
        // Ends its task; not under the lock.
        drop(running);
        self.answerable.notify_one();
        give_memory_back();
    }

    fn fail(
        &self,
        name: Infohash,
        scope: Option<(chive_node::wire::Section, u32, u16)>,
        reason: DbEndReason,
    ) {
        self.state().push_failure(ContentAnswer::Failed {
            name,
            scope,
            reason,
            tried: None,
        });
        self.answerable.notify_one();
    }
}

impl State {
    fn push_failure(&mut self, failure: ContentAnswer) {
        if self.failures.len() >= MAX_FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
    }

    /// What to answer next, the torrents taking turns.
    fn poll_answer(&mut self) -> Option<ContentAnswer> {
        if let Some(failure) = self.failures.pop_front() {
            return Some(failure);
        }
        let after: Vec<TorrentKey> = {
            let waiting = |(key, running): (&TorrentKey, &Running)| {
                running.torrent.has_answers.then_some(*key)
            };
            let (before, after): (Vec<_>, Vec<_>) = self
                .torrents
                .iter()
                .filter_map(waiting)
                .partition(|key| *key <= self.turn);
            after.into_iter().chain(before).collect()
        };
        for key in after {
            let running = self.torrents.get_mut(&key)?;
            if let Some(answer) = running.torrent.poll_answer(&mut self.store) {
                self.turn = key;
                return Some(answer);
            }
        }
        None
    }
}

/// Hands answers to the host, as fast as it takes them.
async fn answer(shared: Arc<Shared>, answers: mpsc::Sender<ContentAnswer>) {
    while let Ok(place) = answers.reserve().await {
        loop {
            let answer = shared.state().poll_answer();
            if let Some(answer) = answer {
                place.send(answer);
                break;
            }
            shared.answerable.notified().await;
        }
    }
}

/// Blocks are small allocations, which glibc keeps for itself when they are freed. A facilitator
/// that nobody uses should be small again.
fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim has no preconditions, and is safe to call from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
