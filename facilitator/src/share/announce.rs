//! Telling trackers that a shared torrent is to be had here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use url::Url;

use super::library::SharedTorrent;
use crate::tracker::{self, Seeding, Told};

/// Trackers told of each torrent: the operator's first, then those that it names.
const MAX_TRACKERS: usize = 32;
/// How long after a failure a tracker is told again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(1800);
/// How long trackers have to hear that a torrent is not to be had any longer.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where all torrents are announced.
#[derive(Debug)]
pub(super) struct Announcer {
    /// The operator's.
    pub(super) trackers: Vec<Url>,
    /// Where we listen.
    pub(super) port: u16,
    pub(super) allow_private: bool,
    /// Trackers asked at once, of all torrents.
    pub(super) places: Arc<Semaphore>,
}

impl Announcer {
    /// Announces a torrent for as long as it is shared.
    pub(super) async fn run(self: Arc<Self>, torrent: Arc<SharedTorrent>) {
        let mut tasks = JoinSet::new();
        for (url, by_operator) in self.trackers_of(&torrent) {
            tasks.spawn(self.clone().announce(torrent.clone(), url, by_operator));
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Tells the trackers of these torrents that they are not to be had any longer.
    pub(super) async fn farewell(self: Arc<Self>, torrents: Vec<Arc<SharedTorrent>>) {
        let mut tasks = JoinSet::new();
        for torrent in torrents {
            for (url, by_operator) in self.trackers_of(&torrent) {
                let seeding = self.seeding(&torrent);
                let may_be_private = by_operator || self.allow_private;
                tasks.spawn(async move {
                    let told = tracker::tell(&url, &seeding, Told::Stopped, may_be_private);
                    let _ = told.await;
                });
            }
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(FAREWELL, all).await;
    }

    /// The operator's trackers, and those of the `.torrent` file: those may not lead into the home.
    fn trackers_of(&self, torrent: &SharedTorrent) -> Vec<(Url, bool)> {
        let mut all: Vec<(Url, bool)> = self
            .trackers
            .iter()
            .map(|url| (url.clone(), true))
            .collect();
        // BEP 27: who publishes a private torrent says which trackers may know of its peers.
        if torrent.found.torrent.metainfo.is_private() {
            all.clear();
        }
        for url in torrent.found.trackers() {
            if all.iter().all(|(known, _)| *known != url) {
                all.push((url, false));
            }
        }
        all.retain(|(url, _)| ["udp", "http"].contains(&url.scheme()));
        all.truncate(MAX_TRACKERS);
        all
    }

    fn seeding(&self, torrent: &SharedTorrent) -> Seeding {
        Seeding::new(torrent.found.id.0, self.port)
    }

    async fn announce(self: Arc<Self>, torrent: Arc<SharedTorrent>, url: Url, by_operator: bool) {
        let seeding = self.seeding(&torrent);
        let may_be_private = by_operator || self.allow_private;
        let mut told = Told::Started;
        let mut pause = FIRST_PAUSE;
        while !torrent.is_withdrawn() {
            let answer = {
                // It is never closed.
                let _place = self.places.acquire().await;
                tracker::tell(&url, &seeding, told, may_be_private).await
            };
            match answer {
                Ok(interval) => {
                    told = Told::StillThere;
                    pause = interval;
                }
                Err(error) => {
                    tracing::debug!(%error, "a tracker does not take what is shared");
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = torrent.ended.notified() => {}
            }
        }
        let _ = tracker::tell(&url, &seeding, Told::Stopped, may_be_private).await;
    }
}
