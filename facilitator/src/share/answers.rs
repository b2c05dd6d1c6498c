//! What those in Chive are given of a shared torrent: from disk, chunk by chunk, to the server that
//! serves their circuits.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use chive_node::ordb::{ContentAnswer, ContentWant};
use chive_node::torrent::{CHUNK_LEN, Infohash};
use chive_node::wire::{DbEndReason, Section};
use tokio::sync::{Notify, mpsc};

use super::files::Reader;
use super::library::{Library, SharedTorrent};
use crate::asks::Asks;

/// Failures that the host has not taken yet. Askers fill it; when it is full the oldest is dropped,
/// and its asker gives up by itself.
const MAX_FAILURES: usize = 1024;

/// What is asked of shared torrents.
#[derive(Debug)]
pub(super) struct Desk {
    library: Arc<Library>,
    state: Mutex<State>,
    answerable: Notify,
}

#[derive(Debug, Default)]
struct State {
    opened: BTreeMap<Infohash, Opened>,
    failures: VecDeque<ContentAnswer>,
    /// Whose answer was the last: they take turns.
    turn: Option<Infohash>,
}

/// A shared torrent that somebody asks for. No more of them than are shared, by two names each.
#[derive(Debug)]
struct Opened {
    torrent: Arc<SharedTorrent>,
    /// The metadata is to be told.
    tell: bool,
    chunks: Asks,
    layers: Asks,
}

/// What to answer next.
enum Next {
    Answer(ContentAnswer),
    Chunk(Infohash, Arc<SharedTorrent>, u32),
}

impl Desk {
    pub(super) fn new(library: Arc<Library>) -> Self {
        Self {
            library,
            state: Mutex::default(),
            answerable: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is a bug, not a reason to stop serving.
        self.state.lock().unwrap_or_else(|error| error.into_inner())
    }

    /// Takes what is wanted of a shared torrent, and gives back what is for others.
    pub(super) fn handle(&self, want: ContentWant) -> Option<ContentWant> {
        let mut state = self.state();
        match want {
            ContentWant::Open { name } => {
                let Some(torrent) = self.library.by_name(name) else {
                    return Some(want);
                };
                let opened = state.opened.entry(name).or_insert_with(|| Opened {
                    torrent: torrent.clone(),
                    tell: true,
                    chunks: Asks::default(),
                    layers: Asks::default(),
                });
                opened.torrent = torrent;
                opened.tell = true;
            }
            ContentWant::Close { name } => {
                state.opened.remove(&name);
                // It may have been opened there before it was shared.
                return Some(want);
            }
            ContentWant::Blocks {
                name,
                section,
                first,
                count,
            } => {
                let Some(opened) = state.opened.get_mut(&name) else {
                    return Some(want);
                };
                let blocks = first..first.saturating_add(count.into());
                let added = match opened.of(section) {
                    Some(asks) => asks.add(blocks).map_err(|_| DbEndReason::BUSY),
                    None => Err(DbEndReason::UNAVAILABLE),
                };
                if let Err(reason) = added {
                    state.fail(name, Some((section, first, count)), reason);
                }
            }
            ContentWant::Cancel {
                name,
                section,
                first,
                count,
            } => {
                let Some(opened) = state.opened.get_mut(&name) else {
                    return Some(want);
                };
                if let Some(asks) = opened.of(section) {
                    asks.cancel(first..first.saturating_add(count.into()));
                }
            }
        }
        drop(state);
        self.answerable.notify_one();
        None
    }

    /// Answers, as fast as the host takes it.
    pub(super) async fn answer(&self, answers: mpsc::Sender<ContentAnswer>) {
        let mut reader: Option<(Arc<SharedTorrent>, Reader)> = None;
        while let Ok(place) = answers.reserve().await {
            let next = loop {
                let next = self.state().poll();
                if let Some(next) = next {
                    break next;
                }
                // Files that nobody reads are not kept open.
                reader = None;
                self.answerable.notified().await;
            };
            let answer = match next {
                Next::Answer(answer) => answer,
                Next::Chunk(name, torrent, chunk) => {
                    let mut files = match reader.take() {
                        Some((of, reader)) if Arc::ptr_eq(&of, &torrent) => reader,
                        _ => Reader::new(torrent.found.files.clone()),
                    };
                    let metainfo = &torrent.found.torrent.metainfo;
                    let length = metainfo.chunk_length(chunk) as usize;
                    let offset = metainfo.chunk_offset(chunk);
                    let reading = tokio::task::spawn_blocking(move || {
                        let mut bytes = vec![0; length];
                        files.read(offset, &mut bytes)?;
                        Ok::<_, std::io::Error>((files, bytes))
                    });
                    match reading.await {
                        Ok(Ok((files, bytes))) => {
                            reader = Some((torrent, files));
                            ContentAnswer::Block {
                                name,
                                section: Section::CHUNKS,
                                block: chunk,
                                bytes: bytes.into(),
                            }
                        }
                        // The next look at the folder finds what is wrong, and says it.
                        _ => failed(name, Some((Section::CHUNKS, chunk, 1)), DbEndReason::GONE),
                    }
                }
            };
            place.send(answer);
        }
    }
}

impl Opened {
    fn of(&mut self, section: Section) -> Option<&mut Asks> {
        match section {
            Section::CHUNKS => Some(&mut self.chunks),
            Section::PIECE_LAYERS if self.torrent.found.piece_layers().is_some() => {
                Some(&mut self.layers)
            }
            _ => None,
        }
    }

    fn poll(&mut self, name: Infohash) -> Option<Next> {
        if std::mem::take(&mut self.tell) {
            return Some(Next::Answer(ContentAnswer::Opened {
                name,
                metadata: self.torrent.found.torrent.metainfo.info().clone(),
            }));
        }
        if let Some(block) = pop(&mut self.layers) {
            let bytes = self.layer_block(block);
            let section = Section::PIECE_LAYERS;
            return Some(Next::Answer(match bytes {
                Some(bytes) => ContentAnswer::Block {
                    name,
                    section,
                    block,
                    bytes,
                },
                None => failed(name, Some((section, block, 1)), DbEndReason::PROTOCOL),
            }));
        }
        let chunk = pop(&mut self.chunks)?;
        // Nobody asks for padding, or for what the torrent has not.
        if self.torrent.found.torrent.metainfo.is_padding_chunk(chunk) {
            let scope = Some((Section::CHUNKS, chunk, 1));
            return Some(Next::Answer(failed(name, scope, DbEndReason::PROTOCOL)));
        }
        Some(Next::Chunk(name, self.torrent.clone(), chunk))
    }

    fn layer_block(&self, block: u32) -> Option<Bytes> {
        let layers = self.torrent.found.piece_layers()?;
        let start = (block as usize).checked_mul(CHUNK_LEN as usize)?;
        let end = start.saturating_add(CHUNK_LEN as usize).min(layers.len());
        (start < end).then(|| layers.slice(start..end))
    }
}

impl State {
    fn fail(&mut self, name: Infohash, scope: Option<(Section, u32, u16)>, reason: DbEndReason) {
        if self.failures.len() >= MAX_FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(failed(name, scope, reason));
    }

    fn poll(&mut self) -> Option<Next> {
        if let Some(failure) = self.failures.pop_front() {
            return Some(Next::Answer(failure));
        }
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.opened.range((after, Bound::Unbounded));
        let names: Vec<Infohash> = later.chain(&self.opened).map(|(name, _)| *name).collect();
        for name in names {
            let opened = self.opened.get_mut(&name)?;
            if opened.torrent.is_withdrawn() {
                self.opened.remove(&name);
                return Some(Next::Answer(failed(name, None, DbEndReason::GONE)));
            }
            if let Some(next) = opened.poll(name) {
                self.turn = Some(name);
                return Some(next);
            }
        }
        None
    }
}

fn pop(asks: &mut Asks) -> Option<u32> {
    let next = asks.runs().first()?.next;
    asks.advance(0);
    Some(next)
}

fn failed(
    name: Infohash,
    scope: Option<(Section, u32, u16)>,
    reason: DbEndReason,
) -> ContentAnswer {
    ContentAnswer::Failed {
        name,
        scope,
        reason,
        tried: None,
    }
}
