//! The task of one torrent: it looks for peers and dials them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::torrent::{Step, swarm_id};
use super::{Shared, TorrentKey, connection, dht};
use crate::tracker::{self, TrackerError};

/// How long after a search for peers in the DHT the next begins, while there are too few: at
/// first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(3);
const MAX_PAUSE: Duration = Duration::from_secs(180);

/// Runs until the torrent is let go; everything that it started ends with it.
pub(super) async fn run(shared: Arc<Shared>, torrent: TorrentKey) {
    let Some((id, changed)) = shared.with(torrent, |t, _| (swarm_id(t.name), t.changed.clone()))
    else {
        return;
    };
    let mut tasks = JoinSet::new();
    if shared.config.dht {
        tasks.spawn(search_dht(shared.clone(), torrent, id));
    }
    for url in shared.config.trackers.iter().take(super::MAX_TRACKERS) {
        tasks.spawn(ask_tracker(shared.clone(), torrent, id, url.clone()));
    }
    loop {
        let step = shared.with(torrent, |t, store| t.poll_step(Instant::now(), store));
        match step {
            Some(Step::Dial(peer, address)) => {
                tasks.spawn(connection::run(shared.clone(), torrent, peer, address));
            }
            Some(Step::Wait(until)) => tokio::select! {
                () = changed.notified() => {}
                () = sleep_until(until) => {}
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            },
            Some(Step::End) => return shared.let_go(torrent),
            None => return,
        }
    }
}

async fn search_dht(shared: Arc<Shared>, torrent: TorrentKey, id: [u8; 20]) {
    let mut pause = FIRST_PAUSE;
    loop {
        let is_public = || shared.with(torrent, |t, _| t.is_private()) == Some(false);
        if !is_public() {
            return;
        }
        let found = |addresses: &[SocketAddr]| {
            let now = Instant::now();
            shared.with(torrent, |t, _| {
                for address in addresses {
                    t.handle_gossip(now, *address);
                }
            });
        };
        let answered = |nodes: u32| {
            shared.with(torrent, |t, _| t.count_dht_nodes(nodes));
        };
        dht::search(&shared.dht, id, is_public, found, answered).await;
        sleep(pause).await;
        while shared.with(torrent, |t, _| t.lacks_peers()) == Some(false) {
            sleep(FIRST_PAUSE).await;
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn ask_tracker(shared: Arc<Shared>, torrent: TorrentKey, id: [u8; 20], url: url::Url) {
    let mut pause = FIRST_PAUSE;
    let mut has_answered = false;
    loop {
        let answer = tracker::ask(&url, id).await;
        let answers = matches!(answer, Ok(_) | Err(TrackerError::Refused));
        if answers && !has_answered {
            has_answered = true;
            shared.with(torrent, |t, _| t.count_tracker());
        }
        match answer {
            Ok(answer) => {
                add(&shared, torrent, &answer.peers);
                pause = answer.interval;
            }
            Err(error) => {
                tracing::debug!(%error, "a tracker names no peers");
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
        sleep(pause).await;
        while shared.with(torrent, |t, _| t.lacks_peers()) == Some(false) {
            sleep(FIRST_PAUSE).await;
        }
    }
}

/// Peers that a tracker named.
fn add(shared: &Shared, torrent: TorrentKey, addresses: &[SocketAddr]) {
    let now = Instant::now();
    shared.with(torrent, |t, _| {
        for address in addresses {
            t.handle_address(now, *address);
        }
    });
}
