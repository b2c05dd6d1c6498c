//! What the worker calls: the store is opened, told what to keep and how much, committed, forgotten.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use js_sys::Promise;
use serde_json::json;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::FileSystemSyncAccessHandle;

use super::super::{Host, Inner, drive, handle, to_js};
use super::database::Database;
use super::{Backing, Kept, Record, Storage, ranges, slots};
use crate::ids::TorrentId;
use crate::node::Input;
use crate::order::set_of;
use crate::store::{Slab, Slot, StoreAnswer, StoredName};
use crate::torrent::{CHUNK_LEN, Magnet, Metainfo, TorrentFile};

#[wasm_bindgen]
impl Host {
    /// Opens the store, and all torrents that are in it: resolves to an array of `{torrent,
    /// shared, paused, wanted}`. `file` is a sync access handle of OPFS, or nothing where there
    /// is none. Torrents that are opened later are kept too.
    pub fn open_store(
        &self,
        file: Option<FileSystemSyncAccessHandle>,
        limit_bytes: f64,
    ) -> Promise {
        let inner = self.0.clone();
        future_to_promise(async move {
            let opened = open(&inner, file, limit_bytes as u64).await;
            opened.map_err(|why| JsError::new(&why).into())
        })
    }

    /// Claims what was written since the last time; resolves when it is claimed. To be called
    /// about each second.
    pub fn commit_store(&self) -> Promise {
        let inner = self.0.clone();
        future_to_promise(async move {
            commit(&inner).await;
            Ok(JsValue::UNDEFINED)
        })
    }

    /// How many bytes may be kept.
    pub fn set_store_limit(&self, bytes: f64) {
        let answers = {
            let mut inner = self.0.borrow_mut();
            let Some(storage) = &mut inner.storage else {
                return;
            };
            storage.limit_bytes = bytes as u64;
            storage.slab.set_limit(slots(bytes as u64));
            storage.gone()
        };
        for answer in answers.into_iter().chain([StoreAnswer::Room]) {
            handle(&self.0, Input::Store(answer));
        }
    }

    /// `{used_bytes, limit_bytes, kept, error}`.
    pub fn store_status(&self) -> JsValue {
        let inner = self.0.borrow();
        let chunk = u64::from(CHUNK_LEN);
        to_js(&match &inner.storage {
            None => json!({ "used_bytes": 0, "limit_bytes": 0, "kept": "memory", "error": null }),
            Some(storage) => json!({
                "used_bytes": storage.slab.used_slots() * chunk,
                "limit_bytes": storage.limit_bytes,
                "kept": match storage.backing {
                    Backing::File(_) => "opfs",
                    Backing::Records(_) => "indexeddb",
                },
                "error": storage.error,
            }),
        })
    }

    /// Stops asking for a torrent, or goes on; kept for the next session.
    pub fn set_paused(&self, torrent: f64, paused: bool) {
        let id = TorrentId(torrent as u64);
        self.with(|node, now| node.set_paused(now, id, paused));
        self.change(id, |record| record.paused = paused);
    }

    /// Whether all of a torrent is to be fetched, whoever reads; kept for the next session.
    pub fn set_wanted(&self, torrent: f64, wanted: bool) {
        let id = TorrentId(torrent as u64);
        self.with(|node, now| node.set_wanted(now, id, wanted));
        self.change(id, |record| record.wanted = wanted);
    }

    /// Closes a torrent and forgets all that was kept of it.
    pub fn forget_torrent(&self, torrent: f64) {
        let id = TorrentId(torrent as u64);
        {
            let mut inner = self.0.borrow_mut();
            if let Some(storage) = &mut inner.storage
                && let Some(name) = storage.names.remove(&id)
            {
                storage.torrents.remove(&name);
                storage.slab.remove(name);
            }
        }
        self.close_torrent(torrent);
    }

    /// Closes the store and deletes its database; the file is the worker's to delete.
    pub fn forget_store(&self) -> Promise {
        let inner = self.0.clone();
        future_to_promise(async move {
            let storage = inner.borrow_mut().storage.take();
            close_all(&inner);
            if let Some(storage) = storage {
                if let Backing::File(file) = &storage.backing {
                    file.close();
                }
                if let Ok(database) = Rc::try_unwrap(storage.database) {
                    database.close();
                }
            }
            let deleted = Database::delete().await;
            deleted.map_err(|why| JsValue::from(JsError::new(&why)))?;
            Ok(JsValue::UNDEFINED)
        })
    }

    fn change(&self, id: TorrentId, change: impl FnOnce(&mut Record)) {
        let mut inner = self.0.borrow_mut();
        let this = &mut *inner;
        if let Some(storage) = &mut this.storage {
            storage.changed(&this.node, id, change);
        }
    }
}

async fn open(
    inner: &Rc<RefCell<Inner>>,
    file: Option<FileSystemSyncAccessHandle>,
    limit_bytes: u64,
) -> Result<JsValue, String> {
    let database = Database::open().await?;
    let content = database.load().await?;
    let file_slots = match &file {
        Some(file) => {
            let bytes = file.get_size().map_err(|_| "the file cannot be read")?;
            u32::try_from(slots(bytes as u64 + u64::from(CHUNK_LEN) - 1)).unwrap_or(u32::MAX)
        }
        None => u32::MAX,
    };
    let mut opened = Vec::new();
    {
        let mut guard = inner.borrow_mut();
        let this = &mut *guard;
        let mut storage = Storage {
            slab: Slab::new(slots(limit_bytes)),
            backing: match file {
                Some(file) => Backing::File(file),
                None => Backing::Records(BTreeMap::new()),
            },
            database: Rc::new(database),
            names: BTreeMap::new(),
            torrents: BTreeMap::new(),
            limit_bytes,
            committing: false,
            file_reads: false,
            error: None,
        };
        for page in &content.pages {
            // A damaged page claims nothing, and is written anew.
            let _ = storage
                .slab
                .restore(page.name, page.page, &page.bytes, file_slots);
        }
        this.node.set_host_store();
        let mut known = BTreeSet::new();
        for stored in content.torrents {
            let record: Record = serde_json::from_str(&stored.record).unwrap_or_default();
            let Ok(magnet) = record.magnet.parse::<Magnet>() else {
                continue;
            };
            let Ok(metainfo) = Metainfo::from_info(stored.info, &magnet) else {
                continue;
            };
            known.insert(stored.name);
            let metainfo = Arc::new(metainfo);
            let layers = stored.layers.map(Bytes::from);
            let have = storage.slab.have(stored.name);
            let file = TorrentFile {
                metainfo: metainfo.clone(),
                magnet,
                piece_layers: layers.clone(),
            };
            let now = this.now();
            let id = match this.node.find_torrent(&file.magnet) {
                // Opened before the store was ours.
                Some(id) => {
                    this.node.add_stored(now, id, ranges(&have));
                    id
                }
                None => match this.node.restore_torrent(now, file, ranges(&have)) {
                    Ok(id) => id,
                    Err(_) => continue,
                },
            };
            this.node.set_paused(now, id, record.paused);
            this.node.set_wanted(now, id, record.wanted);
            this.node.share_torrent(now, id, record.shared);
            opened.push(json!({
                "torrent": id.0,
                "shared": record.shared,
                "paused": record.paused,
                "wanted": record.wanted,
            }));
            let kept = Kept {
                id,
                metainfo,
                layers,
                record,
                record_changed: false,
                metainfo_changed: false,
                files: None,
                lent: None,
                own: true,
            };
            storage.add(&this.node, stored.name, kept);
        }
        // Claims of what cannot be opened any more.
        for orphan in storage.slab.names().collect::<Vec<_>>() {
            if !known.contains(&orphan) {
                storage.slab.remove(orphan);
            }
        }
        let open: Vec<_> = this
            .node
            .torrents()
            .filter_map(|id| Some((id, this.node.metainfo(id)?.clone())))
            .collect();
        for (id, metainfo) in open {
            storage.register(&this.node, id, &metainfo);
        }
        storage.slab.set_limit(slots(limit_bytes));
        this.storage = Some(storage);
    }
    let gone = inner.borrow_mut().storage.as_mut().map(Storage::gone);
    // What a store of another tab had no room for may have some in this one.
    for answer in gone.into_iter().flatten().chain([StoreAnswer::Room]) {
        handle(inner, Input::Store(answer));
    }
    Ok(to_js(&opened.into()))
}

pub(super) fn close_all(inner: &Rc<RefCell<Inner>>) {
    {
        let mut this = inner.borrow_mut();
        let now = this.now();
        for torrent in this.node.torrents().collect::<Vec<_>>() {
            this.node.close_torrent(now, torrent);
        }
    }
    drive(inner);
}

async fn commit(inner: &Rc<RefCell<Inner>>) {
    let (transaction, database) = {
        let mut guard = inner.borrow_mut();
        let this = &mut *guard;
        let Some(storage) = &mut this.storage else {
            return;
        };
        let Some(transaction) = storage.begin_commit(&this.node) else {
            return;
        };
        (transaction, storage.database.clone())
    };
    let records = transaction.records.iter().map(|(name, _)| *name);
    let metainfo = transaction.metainfo.iter().map(|(name, ..)| *name);
    let names: BTreeSet<StoredName> = set_of(records.chain(metainfo));
    let put: Vec<Slot> = transaction.chunks.iter().map(|(slot, _)| *slot).collect();
    let result = database.put(transaction).await;
    drop(database);
    let has_room = {
        let mut this = inner.borrow_mut();
        let Some(storage) = &mut this.storage else {
            return;
        };
        storage.end_commit(result, &names, &put)
    };
    if has_room {
        handle(inner, Input::Store(StoreAnswer::Room));
    }
}
