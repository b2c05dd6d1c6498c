//! Sharing: what the operator puts into a folder is given to plain BitTorrent clients, and to those
//! in Chive who ask for it.
//!
//! By default a facilitator gives a swarm nothing, and what it fetches for others it never gives,
//! sharing or not. So this module and `swarm` know nothing of each other: what is given here is read
//! from the operator's folder, whose every piece was checked against its `.torrent` file, and there
//! is no way from here to what the engine holds in memory. A client that asks for anything else than
//! a torrent of the folder is hung up on without a byte.
//!
//! `library` looks at the folder, `check` at the torrents, `files` reads them; `peer` serves one
//! BitTorrent client, `answers` the ORDB, `announce` tells trackers.

mod announce;
mod answers;
mod check;
mod files;
mod library;
mod pace;
mod peer;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use chive_node::native::limits::{ConnectionLimits, Gate};
use chive_node::native::process::{Stop, Stopper};
use chive_node::native::{Failure, listen};
use chive_node::ordb::{ContentAnswer, ContentWant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use url::Url;

use self::announce::Announcer;
use self::answers::Desk;
use self::library::{Library, SharedTorrent};
use self::pace::Pace;
use self::peer::Givers;

/// Answers that the host has not taken yet: 256 KiB of chunks. The askers' windows fill it; when it
/// is full nothing more is read from disk.
const MAX_ANSWERS: usize = 16;

/// Torrents found shared and not announced yet. The folder fills it; when it is full the next check
/// waits.
const MAX_NEW: usize = 16;

/// Trackers asked at once.
const MAX_TRACKERS_AT_ONCE: usize = 16;

/// Connections at once from one address.
const MAX_PER_ADDRESS: u32 = 8;
/// New connections a second from one address.
const MAX_NEW_PER_SECOND: u32 = 4;

/// What to share and how.
#[derive(Clone, Debug)]
pub struct ShareConfig {
    /// Where the `.torrent` files and their content lie.
    pub folder: PathBuf,
    /// Where BitTorrent clients connect.
    pub listen: SocketAddr,
    /// What all of them together are given a second; without a limit if none.
    pub bytes_a_second: Option<NonZeroU64>,
    /// Trackers that are told of every torrent that is not private.
    pub trackers: Vec<Url>,
    /// BitTorrent clients connected at once.
    pub max_peers: usize,
    /// Those of them that are given something at once; the others wait for their turn.
    pub max_unchoked: usize,
    /// How often the folder is looked at.
    pub look_every: Duration,
    /// Whether trackers that a `.torrent` file names may be in private networks.
    pub allow_private: bool,
}

impl ShareConfig {
    /// The usual way to share a folder.
    pub fn new(folder: PathBuf, listen: SocketAddr) -> Self {
        Self {
            folder,
            listen,
            bytes_a_second: None,
            trackers: Vec::new(),
            max_peers: 100,
            max_unchoked: 8,
            look_every: Duration::from_secs(60),
            allow_private: false,
        }
    }
}

/// What is shared and was given, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareStats {
    /// Torrents that are shared.
    pub torrents: usize,
    /// BitTorrent clients connected.
    pub peers: usize,
    /// Bytes of content given to them since the start.
    pub given_bytes: u64,
}

/// What was given, and to how many.
#[derive(Debug, Default)]
struct Given {
    bytes: AtomicU64,
    peers: AtomicUsize,
}

impl Given {
    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A folder that is shared. Dropping it ends everything that it started.
#[derive(Debug)]
pub struct Share {
    library: Arc<Library>,
    desk: Arc<Desk>,
    given: Arc<Given>,
    announcer: Arc<Announcer>,
    address: SocketAddr,
    /// Ends a check.
    stop: Arc<AtomicBool>,
    stopper: Stopper,
    tasks: Vec<JoinHandle<()>>,
}

impl Share {
    /// Begins to listen and to look at the folder, on the current tokio runtime. Answers to what
    /// [`Self::handle`] takes come out of the channel.
    pub fn start(config: ShareConfig) -> Result<(Self, mpsc::Receiver<ContentAnswer>), Failure> {
        library::torrent_files(&config.folder).map_err(|error| {
            let folder = config.folder.display();
            Failure::new(format!(
                "cannot read the folder {folder} that is to be shared: {error}"
            ))
        })?;
        let listener = listen::bind(config.listen, "shared torrents")?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::new(format!("cannot tell where this listens: {error}")))?;
        let library = Arc::<Library>::default();
        let given = Arc::<Given>::default();
        let desk = Arc::new(Desk::new(library.clone()));
        let announcer = Arc::new(Announcer {
            trackers: config.trackers.clone(),
            port: address.port(),
            allow_private: config.allow_private,
            places: Arc::new(Semaphore::new(MAX_TRACKERS_AT_ONCE)),
        });
        let (answers, receiver) = mpsc::channel(MAX_ANSWERS);
        let (stopper, stop_listening) = Stop::pair();
        let stop = Arc::<AtomicBool>::default();
        let (found, news) = mpsc::channel(MAX_NEW);
        let givers = Arc::new(Givers::new(
            library.clone(),
            Pace::new(config.bytes_a_second),
            config.max_unchoked.max(1),
            given.clone(),
        ));
        let gate = Gate::new(ConnectionLimits {
            in_all: config.max_peers,
            per_address: MAX_PER_ADDRESS,
            per_second: MAX_NEW_PER_SECOND,
        });
        let tasks = vec![
            tokio::spawn(look(config, library.clone(), stop.clone(), found)),
            tokio::spawn(announce(announcer.clone(), news, stop_listening.clone())),
            tokio::spawn({
                let desk = desk.clone();
                async move { desk.answer(answers).await }
            }),
            tokio::spawn(serve(listener, givers, gate, stop_listening)),
        ];
        let share = Self {
            library,
            desk,
            given,
            announcer,
            address,
            stop,
            stopper,
            tasks,
        };
        Ok((share, receiver))
    }

    /// Takes what the ORDB wants, and gives back what is not of a shared torrent. Never blocks.
    pub fn handle(&self, want: ContentWant) -> Option<ContentWant> {
        self.desk.handle(want)
    }

    /// Where BitTorrent clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is shared and was given.
    pub fn stats(&self) -> ShareStats {
        ShareStats {
            torrents: self.library.count(),
            peers: self.given.peers.load(Ordering::Relaxed),
            given_bytes: self.given.bytes.load(Ordering::Relaxed),
        }
    }

    /// The `.torrent` files of the folder that are not shared, each with a sentence that says why.
    pub fn refused(&self) -> Vec<(PathBuf, String)> {
        self.library.refused()
    }

    /// Hangs up on everybody, and tells the trackers that nothing is to be had here any longer.
    pub async fn stop(&self) {
        self.end();
        self.announcer.clone().farewell(self.library.all()).await;
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stopper.stop();
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks at the folder again and again.
async fn look(
    config: ShareConfig,
    library: Arc<Library>,
    stop: Arc<AtomicBool>,
    found: mpsc::Sender<Arc<SharedTorrent>>,
) {
    loop {
        let (library, stop, found) = (library.clone(), stop.clone(), found.clone());
        let folder = config.folder.clone();
        // Hashing holds up nobody else.
        let looking = tokio::task::spawn_blocking(move || {
            library.scan(&folder, &stop, |torrent| {
                // Nobody takes it when all ends.
                let _ = found.blocking_send(torrent);
            });
        });
        let _ = looking.await;
        sleep(config.look_every).await;
    }
}

/// Announces what is found, until all ends.
async fn announce(
    announcer: Arc<Announcer>,
    mut news: mpsc::Receiver<Arc<SharedTorrent>>,
    mut stop: Stop,
) {
    let mut announcing = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            torrent = news.recv() => match torrent {
                Some(torrent) => {
                    announcing.spawn(announcer.clone().run(torrent));
                }
                None => return,
            },
            Some(_) = announcing.join_next(), if !announcing.is_empty() => {}
            () = stop.wait() => return,
        }
    }
}

/// Takes BitTorrent clients, within the limits.
async fn serve(listener: tokio::net::TcpListener, givers: Arc<Givers>, gate: Gate, stop: Stop) {
    let mut ends = stop.clone();
    let accepting = listen::accept(listener, stop, |stream, from| {
        let Ok(places) = gate.admit_from(from.ip()) else {
            return;
        };
        let (givers, mut ends) = (givers.clone(), ends.clone());
        tokio::spawn(async move {
            let _places = places;
            givers.given.peers.fetch_add(1, Ordering::Relaxed);
            let given = givers.given.clone();
            tokio::select! {
                gone = peer::run(givers, stream) => {
                    if let Err(gone) = gone {
                        tracing::trace!(%gone, "a client that took what is shared is gone");
                    }
                }
                () = ends.wait() => {}
            }
            given.peers.fetch_sub(1, Ordering::Relaxed);
        });
    });
    accepting.await;
    ends.wait().await;
}
