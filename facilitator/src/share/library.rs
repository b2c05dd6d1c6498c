//! What is shared now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chive_node::torrent::{Infohash, InfohashV1};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::check::{Found, Refusal, shown};

/// Torrents shared at once. The operator's folder fills it; when it is full, those after it in the
/// order of their names are not shared.
const MAX_SHARED: usize = 4096;

/// A torrent that is given to whoever asks for it.
#[derive(Debug)]
pub(super) struct SharedTorrent {
    pub(super) found: Found,
    withdrawn: AtomicBool,
    /// Wakes whoever announces it.
    pub(super) ended: Notify,
}

impl SharedTorrent {
    /// Whether it may not be given any longer: its files are gone, or not those that were checked.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed)
    }
}

/// What is shared, by all of its names.
#[derive(Debug, Default)]
pub(super) struct Library {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_id: BTreeMap<InfohashV1, Arc<SharedTorrent>>,
    by_name: BTreeMap<Infohash, Arc<SharedTorrent>>,
    /// By `.torrent` file.
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
enum Entry {
    Shared(Arc<SharedTorrent>),
    /// It is not, and why. What was found damaged is kept: it is not read again before it changes.
    Refused(String, Option<Box<Found>>),
}

impl Library {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is a bug, not a reason to stop serving.
        self.state.lock().unwrap_or_else(|error| error.into_inner())
    }

    /// By the infohash of a BitTorrent handshake.
    pub(super) fn by_id(&self, id: [u8; 20]) -> Option<Arc<SharedTorrent>> {
        self.state().by_id.get(&InfohashV1(id)).cloned()
    }

    /// By the name that somebody in Chive asks for.
    pub(super) fn by_name(&self, name: Infohash) -> Option<Arc<SharedTorrent>> {
        self.state().by_name.get(&name).cloned()
    }

    pub(super) fn count(&self) -> usize {
        self.state().by_id.len()
    }

    pub(super) fn all(&self) -> Vec<Arc<SharedTorrent>> {
        self.state().by_id.values().cloned().collect()
    }

    /// The `.torrent` files that are not shared, and why.
    pub(super) fn refused(&self) -> Vec<(PathBuf, String)> {
        let state = self.state();
        let entries = state.entries.iter();
        let refused = entries.filter_map(|(path, entry)| match entry {
            Entry::Refused(why, _) => Some((path.clone(), why.clone())),
            Entry::Shared(_) => None,
        });
        refused.collect()
    }

    /// Looks at the folder: takes up what is new, withdraws what is gone or has changed. Blocks
    /// for as long as the checks need. Those that are shared from now on.
    pub(super) fn scan(
        &self,
        folder: &Path,
        stop: &AtomicBool,
        mut shared: impl FnMut(Arc<SharedTorrent>),
    ) {
        let paths = match torrent_files(folder) {
            Ok(paths) => paths,
            Err(error) => {
                warn!(%error, "the folder that is shared cannot be read");
                return;
            }
        };
        let known: Vec<PathBuf> = self.state().entries.keys().cloned().collect();
        for gone in known.iter().filter(|path| !paths.contains(path)) {
            self.withdraw(gone);
        }
        for path in paths {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(torrent) = self.look(&path, folder, stop) {
                shared(torrent);
            }
        }
    }

    fn look(&self, path: &Path, folder: &Path, stop: &AtomicBool) -> Option<Arc<SharedTorrent>> {
        let shared = match self.state().entries.get(path) {
            Some(Entry::Shared(torrent)) => Some(torrent.clone()),
            _ => None,
        };
        if let Some(shared) = shared {
            if shared.found.is_unchanged() {
                return None;
            }
            info!(torrent = %shown(Some(path)), "what is shared has changed");
            self.withdraw(path);
        }
        let found = match Found::look(path, folder) {
            Ok(found) => found,
            Err(refusal) => {
                self.refuse(path, &refusal, None);
                return None;
            }
        };
        let mut state = self.state();
        if let Some(Entry::Refused(_, Some(damaged))) = state.entries.get(path)
            && damaged.stamps == found.stamps
        {
            return None;
        }
        let is_taken = state.by_id.contains_key(&found.id);
        let is_full = state.by_id.len() >= MAX_SHARED;
        drop(state);
        if is_taken {
            self.refuse(path, &Refusal::Twice, None);
            return None;
        }
        if is_full {
            self.refuse(path, &Refusal::TooMany(MAX_SHARED), None);
            return None;
        }
        if let Err(refusal) = found.check(stop) {
            self.refuse(path, &refusal, Some(Box::new(found)));
            return None;
        }
        let metainfo = &found.torrent.metainfo;
        let (bytes, pieces) = (metainfo.total_length(), metainfo.piece_count());
        info!(torrent = %shown(Some(path)), bytes, pieces, "a torrent is shared");
        let (id, v2) = (found.id, metainfo.v2());
        let torrent = Arc::new(SharedTorrent {
            found,
            withdrawn: AtomicBool::new(false),
            ended: Notify::new(),
        });
        state = self.state();
        state.by_id.insert(id, torrent.clone());
        state.by_name.insert(id.into(), torrent.clone());
        if let Some(v2) = v2 {
            state.by_name.insert(v2.into(), torrent.clone());
        }
        let entry = Entry::Shared(torrent.clone());
        state.entries.insert(path.to_owned(), entry);
        Some(torrent)
    }

    fn refuse(&self, path: &Path, refusal: &Refusal, found: Option<Box<Found>>) {
        if matches!(refusal, Refusal::Stopped) {
            return;
        }
        let why = refusal.to_string();
        let mut state = self.state();
        let is_news =
            !matches!(state.entries.get(path), Some(Entry::Refused(said, _)) if *said == why);
        if is_news {
            warn!(torrent = %shown(Some(path)), "a torrent is not shared: {why}");
        }
        let entry = Entry::Refused(why, found);
        state.entries.insert(path.to_owned(), entry);
    }

    fn withdraw(&self, path: &Path) {
        let mut state = self.state();
        let Some(Entry::Shared(torrent)) = state.entries.remove(path) else {
            return;
        };
        torrent.withdrawn.store(true, Ordering::Relaxed);
        torrent.ended.notify_waiters();
        state.by_id.remove(&torrent.found.id);
        state
            .by_name
            .retain(|_, other| !Arc::ptr_eq(other, &torrent));
        info!(torrent = %shown(Some(path)), "a torrent is not shared any longer");
    }
}

/// The `.torrent` files of a folder, in the order of their names.
pub(super) fn torrent_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "torrent")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
