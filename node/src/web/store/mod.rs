//! What a tab keeps: chunks in one OPFS file, or in IndexedDB where there is none; what is known of
//! them in IndexedDB. [`Slab`] says what lies where and what may be claimed; here is its I/O.
//!
//! Chunks are written at once, and claimed about each second, when the worker calls
//! [`super::Host::commit_store`]: so a tab that is killed loses that second and claims nothing else.

mod calls;
mod database;
mod files;
mod guests;
mod share;

pub(super) use guests::Guest;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use js_sys::Uint8Array;
use serde::{Deserialize, Serialize};
use wasm_bindgen_futures::spawn_local;
use web_sys::{FileSystemReadWriteOptions, FileSystemSyncAccessHandle};

use super::{Inner, handle};
use crate::ids::TorrentId;
use crate::node::{Input, Node};
use crate::store::{Claim, RangeSet, Slab, Slot, StoreAnswer, StoreWant, StoredName, Written};
use crate::torrent::{CHUNK_LEN, Metainfo};
use database::{Database, Transaction};
use files::Files;

/// What the user did with a torrent, as it is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    magnet: String,
    /// When it was last opened or read, in seconds since 1970.
    used: u64,
    /// Shared by choice.
    shared: bool,
    paused: bool,
    /// All of it is to be fetched.
    wanted: bool,
}

/// Where the chunks are.
enum Backing {
    /// In one file of the origin's own file system.
    File(FileSystemSyncAccessHandle),
    /// In IndexedDB; here those that are not put yet.
    Records(BTreeMap<Slot, Bytes>),
}

/// What was found in a slot.
enum Found {
    Here(Option<Vec<u8>>),
    In(Rc<Database>),
}

/// What a tab keeps; see the module.
pub(super) struct Storage {
    slab: Slab,
    backing: Backing,
    database: Rc<Database>,
    names: BTreeMap<TorrentId, StoredName>,
    torrents: BTreeMap<StoredName, Kept>,
    limit_bytes: u64,
    committing: bool,
    /// Pieces of files are wanted of the worker, and it has not been told.
    file_reads: bool,
    /// Why the last commit failed, in words.
    error: Option<String>,
}

/// One torrent that is kept.
struct Kept {
    id: TorrentId,
    metainfo: Arc<Metainfo>,
    layers: Option<Bytes>,
    record: Record,
    /// The record is to be put; the metainfo too.
    record_changed: bool,
    metainfo_changed: bool,
    files: Option<Files>,
    /// What guests have been told is stored of it, if any has it open.
    lent: Option<RangeSet>,
    /// Opened or shared in this tab, not by a guest alone.
    own: bool,
}

impl Kept {
    fn is_held(&self, node: &Node) -> bool {
        let flags = node.torrent_flags(self.id).unwrap_or_default();
        self.record.shared
            || self.lent.is_some()
            || (flags.wanted && !flags.complete && !flags.paused)
    }
}

fn name_of(metainfo: &Metainfo) -> StoredName {
    let mut name = [0; 20];
    for (to, from) in name.iter_mut().zip(metainfo.infohash().as_bytes()) {
        *to = *from;
    }
    StoredName(name)
}

fn unix_seconds() -> u64 {
    (js_sys::Date::now() / 1000.0) as u64
}

fn slots(bytes: u64) -> u64 {
    bytes / u64::from(CHUNK_LEN)
}

impl Storage {
    fn name(&self, torrent: TorrentId) -> Option<StoredName> {
        self.names.get(&torrent).copied()
    }

    /// Whether the worker is to look at [`super::Host::file_reads`].
    pub(super) fn take_file_reads(&mut self) -> bool {
        std::mem::take(&mut self.file_reads)
    }

    /// Adds to a status what the node does not know.
    pub(super) fn describe(&self, status: &mut serde_json::Value) {
        let torrents = status.get_mut("torrents").and_then(|it| it.as_array_mut());
        for torrent in torrents.into_iter().flatten() {
            let id = torrent.get("id").and_then(serde_json::Value::as_u64);
            let name = id.and_then(|id| self.name(TorrentId(id)));
            let kept = name.and_then(|name| self.torrents.get(&name));
            torrent["shared"] = kept.is_some_and(|kept| kept.record.shared).into();
            torrent["stored"] = kept.is_some().into();
        }
    }

    fn kept(&mut self, torrent: TorrentId) -> Option<&mut Kept> {
        let name = self.name(torrent)?;
        self.torrents.get_mut(&name)
    }

    /// A torrent's metadata is here: from now on it is kept.
    pub(super) fn register(&mut self, node: &Node, id: TorrentId, metainfo: &Arc<Metainfo>) {
        let name = name_of(metainfo);
        if self.torrents.contains_key(&name) || self.names.contains_key(&id) {
            return;
        }
        let magnet = node.magnet(id).map(ToString::to_string).unwrap_or_default();
        let flags = node.torrent_flags(id).unwrap_or_default();
        let record = Record {
            magnet,
            used: unix_seconds(),
            shared: false,
            paused: flags.paused,
            wanted: flags.wanted,
        };
        let kept = Kept {
            id,
            metainfo: metainfo.clone(),
            layers: None,
            record,
            record_changed: true,
            metainfo_changed: true,
            files: None,
            lent: None,
            own: true,
        };
        self.add(node, name, kept);
    }

    fn add(&mut self, node: &Node, name: StoredName, kept: Kept) {
        self.slab.set(name, kept.record.used, kept.is_held(node));
        self.names.insert(kept.id, name);
        self.torrents.insert(name, kept);
    }

    /// The page did something with a torrent.
    fn changed(&mut self, node: &Node, id: TorrentId, change: impl FnOnce(&mut Record)) {
        let Some(name) = self.name(id) else { return };
        if let Some(kept) = self.torrents.get_mut(&name) {
            change(&mut kept.record);
            kept.own = true;
            kept.record.used = unix_seconds();
            kept.record_changed = true;
            self.slab.set(name, kept.record.used, kept.is_held(node));
        }
    }

    /// Does what the node wants. Answers what can be answered at once.
    pub(super) fn handle(
        inner: &Rc<RefCell<Inner>>,
        this: &mut Inner,
        want: StoreWant,
    ) -> Vec<StoreAnswer> {
        let Some(storage) = &mut this.storage else {
            return match &mut this.guest {
                Some(guest) => {
                    guest.want(want);
                    Vec::new()
                }
                None => vec![refusal(want)],
            };
        };
        match want {
            StoreWant::Write {
                torrent,
                chunk,
                bytes,
            } => {
                let kept = storage.write(torrent, chunk, bytes);
                let mut answers = vec![StoreAnswer::Written {
                    torrent,
                    chunk,
                    kept,
                }];
                answers.extend(storage.gone());
                answers
            }
            StoreWant::Read { torrent, chunk } => {
                storage.read(inner, torrent, chunk).into_iter().collect()
            }
        }
    }

    fn write(&mut self, torrent: TorrentId, chunk: u32, bytes: Bytes) -> bool {
        let Some(name) = self.name(torrent) else {
            return false;
        };
        let slot = match self.slab.write(name, chunk, &bytes) {
            Written::To(slot) => slot,
            Written::Already => return true,
            Written::Full => return false,
        };
        match &mut self.backing {
            Backing::Records(waiting) => {
                waiting.insert(slot, bytes);
            }
            Backing::File(file) => {
                let options = FileSystemReadWriteOptions::new();
                options.set_at(slot.offset() as f64);
                let wrote = file.write_with_u8_array_and_options(&bytes, &options);
                if !wrote.is_ok_and(|wrote| wrote == bytes.len() as f64) {
                    // The disk is full, whatever was promised.
                    self.slab.lose(name, chunk);
                    self.error = Some("The disk is full.".to_owned());
                    return false;
                }
            }
        }
        true
    }

    /// What the slab let go, told to the node, where there are no files to read it from.
    fn gone(&mut self) -> Vec<StoreAnswer> {
        let gone = self.slab.take_gone();
        gone.into_iter()
            .filter_map(|(name, chunks)| {
                let kept = self.torrents.get(&name)?;
                let torrent = kept.id;
                (kept.files.is_none()).then_some(StoreAnswer::Gone { torrent, chunks })
            })
            .collect()
    }

    fn read(
        &mut self,
        inner: &Rc<RefCell<Inner>>,
        torrent: TorrentId,
        chunk: u32,
    ) -> Option<StoreAnswer> {
        let lost = StoreAnswer::Read {
            torrent,
            chunk,
            bytes: None,
        };
        let Some(name) = self.name(torrent) else {
            return Some(lost);
        };
        let Some(kept) = self.torrents.get_mut(&name) else {
            return Some(lost);
        };
        let Some(claim) = self.slab.claim(name, chunk) else {
            return match &mut kept.files {
                Some(files) => {
                    files.want(&kept.metainfo, chunk);
                    self.file_reads = true;
                    None
                }
                None => Some(lost),
            };
        };
        let length = kept.metainfo.chunk_length(chunk) as usize;
        match self.find(claim.slot, length) {
            Found::Here(bytes) => self.checked(name, torrent, chunk, claim, bytes),
            Found::In(database) => {
                let inner = inner.clone();
                spawn_local(async move {
                    let found = database.chunk(claim.slot).await.ok().flatten();
                    let answer = {
                        let mut this = inner.borrow_mut();
                        let Some(storage) = &mut this.storage else {
                            return;
                        };
                        storage.checked(name, torrent, chunk, claim, found)
                    };
                    if let Some(answer) = answer {
                        handle(&inner, Input::Store(answer));
                    }
                });
                None
            }
        }
    }

    /// What lies in a slot, or where it must be waited for.
    fn find(&self, slot: Slot, length: usize) -> Found {
        match &self.backing {
            Backing::File(file) => {
                let mut bytes = vec![0; length];
                let options = FileSystemReadWriteOptions::new();
                options.set_at(slot.offset() as f64);
                let read = file.read_with_u8_array_and_options(&mut bytes, &options);
                let whole = read.is_ok_and(|read| read == length as f64);
                Found::Here(whole.then_some(bytes))
            }
            Backing::Records(waiting) => match waiting.get(&slot) {
                Some(bytes) => Found::Here(Some(bytes.to_vec())),
                None => Found::In(self.database.clone()),
            },
        }
    }

    /// What was read, if it is what was written.
    fn checked(
        &mut self,
        name: StoredName,
        torrent: TorrentId,
        chunk: u32,
        claim: Claim,
        bytes: Option<Vec<u8>>,
    ) -> Option<StoreAnswer> {
        let bytes = bytes.filter(|bytes| claim.holds(name, chunk, bytes));
        if bytes.is_none() && self.slab.claim(name, chunk) == Some(claim) {
            self.slab.lose(name, chunk);
        }
        let bytes = bytes.map(Bytes::from);
        Some(StoreAnswer::Read {
            torrent,
            chunk,
            bytes,
        })
    }

    /// All that is to be put in the next transaction, the file flushed. None if there is nothing.
    fn begin_commit(&mut self, node: &Node) -> Option<Transaction> {
        if self.committing {
            return None;
        }
        for (name, kept) in &mut self.torrents {
            self.slab.set(*name, kept.record.used, kept.is_held(node));
            // They come after the metadata, and a v2 torrent's chunks are nothing without them.
            if kept.layers.is_none()
                && let Some(layers) = node.piece_layers(kept.id)
            {
                kept.layers = Some(layers.clone());
                kept.metainfo_changed = true;
            }
        }
        let mut transaction = Transaction::default();
        if let Some(commit) = self.slab.commit() {
            transaction.removed.clone_from(&commit.removed);
            transaction.pages.clone_from(&commit.pages);
        }
        for (name, kept) in &mut self.torrents {
            if std::mem::take(&mut kept.record_changed) {
                let record = serde_json::to_string(&kept.record).unwrap_or_default();
                transaction.records.push((*name, record));
            }
            if std::mem::take(&mut kept.metainfo_changed) {
                let info = Uint8Array::from(kept.metainfo.info().as_ref());
                let layers = kept.layers.as_ref();
                let layers = layers.map(|layers| Uint8Array::from(layers.as_ref()));
                transaction.metainfo.push((*name, info, layers));
            }
        }
        match &self.backing {
            Backing::File(file) if !transaction.pages.is_empty() => {
                if file.flush().is_err() {
                    self.slab.handle_commit_failed();
                    return None;
                }
            }
            Backing::File(_) => {}
            Backing::Records(waiting) => {
                let chunks = waiting.iter();
                let chunks = chunks.map(|(slot, bytes)| (*slot, Uint8Array::from(bytes.as_ref())));
                transaction.chunks = chunks.collect();
            }
        }
        let nothing = transaction.pages.is_empty()
            && transaction.removed.is_empty()
            && transaction.records.is_empty()
            && transaction.metainfo.is_empty();
        if nothing {
            return None;
        }
        self.committing = true;
        Some(transaction)
    }

    /// Whether there is more room than before.
    fn end_commit(
        &mut self,
        result: Result<(), String>,
        names: &BTreeSet<StoredName>,
        put: &[Slot],
    ) -> bool {
        self.committing = false;
        match result {
            Ok(()) => {
                if let Backing::Records(waiting) = &mut self.backing {
                    for slot in put {
                        waiting.remove(slot);
                    }
                }
                self.error = None;
                self.slab.handle_committed()
            }
            Err(why) => {
                self.slab.handle_commit_failed();
                for name in names {
                    if let Some(kept) = self.torrents.get_mut(name) {
                        kept.record_changed = true;
                        kept.metainfo_changed = true;
                    }
                }
                self.error = Some(why);
                false
            }
        }
    }
}

fn refusal(want: StoreWant) -> StoreAnswer {
    match want {
        StoreWant::Write { torrent, chunk, .. } => StoreAnswer::Written {
            torrent,
            chunk,
            kept: false,
        },
        StoreWant::Read { torrent, chunk } => StoreAnswer::Read {
            torrent,
            chunk,
            bytes: None,
        },
    }
}

fn ranges(have: &RangeSet) -> Vec<Range<u32>> {
    have.iter().collect()
}
