//! One tab of an origin owns the store; the others use it through that one.
//!
//! A tab that does not own it, a *guest*, is told by its node what to keep and to read, as the
//! owner is; its worker hands that to the owner's worker (`web/guests.js`). What a guest keeps is a
//! torrent of the owner's too, whose node serves it, but fetches nothing of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use js_sys::{Array, Object, Promise, Reflect, Uint8Array, Uint32Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use super::calls::close_all;
use super::database::{hex, parse_name};
use super::{Found, Kept, Record, name_of, refusal, unix_seconds};
use crate::ids::TorrentId;
use crate::node::Input;
use crate::store::{RangeSet, StoreAnswer, StoreWant};
use crate::torrent::{Magnet, Metainfo, TorrentFile};
use crate::web::{Host, drive, handle};
use std::sync::Arc;

/// The store of another tab, as this tab's node uses it.
#[derive(Default)]
pub(in crate::web) struct Guest {
    /// What the worker has not taken yet. The node bounds it: so much of each torrent is under way.
    wants: VecDeque<StoreWant>,
    /// What the owner was told of, and whether piece layers were among it.
    told: BTreeMap<TorrentId, bool>,
    has_news: bool,
}

impl Guest {
    pub(in crate::web) fn want(&mut self, want: StoreWant) {
        self.wants.push_back(want);
        self.has_news = true;
    }

    /// Whether the worker is to look at [`Host::next_guest_want`].
    pub(in crate::web) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    pub(in crate::web) fn describe(&self, status: &mut serde_json::Value) {
        let torrents = status.get_mut("torrents").and_then(|it| it.as_array_mut());
        for torrent in torrents.into_iter().flatten() {
            let id = torrent.get("id").and_then(serde_json::Value::as_u64);
            torrent["stored"] = id
                .is_some_and(|id| self.told.contains_key(&TorrentId(id)))
                .into();
        }
    }
}

fn object<const N: usize>(entries: [(&str, JsValue); N]) -> JsValue {
    let object = Object::new();
    for (name, value) in entries {
        // Of a plain object it cannot fail.
        let _ = Reflect::set(&object, &name.into(), &value);
    }
    object.into()
}

/// `[start, end, start, end, …]`.
fn flat(ranges: &RangeSet) -> JsValue {
    let ends: Vec<u32> = ranges
        .iter()
        .flat_map(|range| [range.start, range.end])
        .collect();
    Uint32Array::from(ends.as_slice()).into()
}

fn without(of: &RangeSet, which: &RangeSet) -> RangeSet {
    let mut left = of.clone();
    which.iter().for_each(|range| left.remove(range));
    left
}

/// What a guest does.
#[wasm_bindgen]
impl Host {
    /// From now on another tab's store keeps what is fetched here.
    pub fn enter_store(&self) {
        let mut inner = self.0.borrow_mut();
        inner.node.set_host_store();
        inner.guest = Some(Guest::default());
    }

    /// What the owner is to know of a torrent: `{torrent, magnet, info, layers?, wanted, paused}`;
    /// nothing before its metadata is here.
    pub fn guest_torrent(&self, torrent: f64) -> JsValue {
        let id = TorrentId(torrent as u64);
        let mut guard = self.0.borrow_mut();
        let this = &mut *guard;
        let (Some(guest), Some(metainfo), Some(magnet)) = (
            &mut this.guest,
            this.node.metainfo(id),
            this.node.magnet(id),
        ) else {
            return JsValue::UNDEFINED;
        };
        let flags = this.node.torrent_flags(id).unwrap_or_default();
        let layers = this.node.piece_layers(id);
        guest.told.insert(id, layers.is_some());
        object([
            ("magnet", magnet.to_string().into()),
            ("name", hex(name_of(metainfo)).into()),
            ("info", Uint8Array::from(metainfo.info().as_ref()).into()),
            (
                "layers",
                layers.map_or(JsValue::UNDEFINED, |it| {
                    Uint8Array::from(it.as_ref()).into()
                }),
            ),
            ("wanted", flags.wanted.into()),
            ("paused", flags.paused.into()),
        ])
    }

    /// The torrents that the owner does not know, or knows without their piece layers.
    pub fn guest_news(&self) -> Array {
        let inner = self.0.borrow();
        let Some(guest) = &inner.guest else {
            return Array::new();
        };
        let node = &inner.node;
        let news = node.torrents().filter(|id| match guest.told.get(id) {
            None => node.metainfo(*id).is_some(),
            Some(with_layers) => !with_layers && node.piece_layers(*id).is_some(),
        });
        news.map(|id| JsValue::from_f64(id.0 as f64)).collect()
    }

    /// What the node wants of the owner's store next: `{torrent, chunk, bytes?}`.
    pub fn next_guest_want(&self) -> JsValue {
        let mut inner = self.0.borrow_mut();
        let Some(want) = inner.guest.as_mut().and_then(|it| it.wants.pop_front()) else {
            return JsValue::UNDEFINED;
        };
        let (torrent, chunk, bytes) = match want {
            StoreWant::Write {
                torrent,
                chunk,
                bytes,
            } => (torrent, chunk, Uint8Array::from(bytes.as_ref()).into()),
            StoreWant::Read { torrent, chunk } => (torrent, chunk, JsValue::UNDEFINED),
        };
        object([
            ("torrent", (torrent.0 as f64).into()),
            ("chunk", chunk.into()),
            ("bytes", bytes),
        ])
    }

    /// The owner has kept a chunk, or has not.
    pub fn guest_written(&self, torrent: f64, chunk: u32, kept: bool) {
        let torrent = TorrentId(torrent as u64);
        let answer = StoreAnswer::Written {
            torrent,
            chunk,
            kept,
        };
        handle(&self.0, Input::Store(answer));
    }

    /// The owner gives a chunk back, or has it no more.
    pub fn guest_read(&self, torrent: f64, chunk: u32, bytes: Option<Vec<u8>>) {
        let torrent = TorrentId(torrent as u64);
        let bytes = bytes.map(Bytes::from);
        let answer = StoreAnswer::Read {
            torrent,
            chunk,
            bytes,
        };
        handle(&self.0, Input::Store(answer));
    }

    /// What the owner has no more of a torrent, and what it has now: `[start, end, …]`.
    pub fn guest_have(&self, torrent: f64, gone: &[u32], have: &[u32]) {
        let torrent = TorrentId(torrent as u64);
        let ranges = |flat: &[u32]| {
            let (pairs, _) = flat.as_chunks::<2>();
            let ranges = pairs.iter().map(|[start, end]| *start..*end);
            ranges.collect::<Vec<_>>()
        };
        for chunks in ranges(gone) {
            handle(&self.0, Input::Store(StoreAnswer::Gone { torrent, chunks }));
        }
        self.with(|node, now| node.add_stored(now, torrent, ranges(have)));
        handle(&self.0, Input::Store(StoreAnswer::Room));
    }

    /// All is forgotten by the owner, and so it is here.
    pub fn forget_guest(&self) {
        self.leave_store();
        close_all(&self.0);
    }

    /// There is no owner any more: what it had may be gone, until one says what it has. What it
    /// has not answered is the worker's to answer.
    pub fn leave_store(&self) {
        let Some(guest) = self.0.borrow_mut().guest.take() else {
            return;
        };
        let gone = guest.told.into_keys().map(|torrent| StoreAnswer::Gone {
            torrent,
            chunks: 0..u32::MAX,
        });
        let waiting = guest.wants.into_iter().map(refusal);
        for answer in waiting.chain(gone).chain([StoreAnswer::Room]) {
            handle(&self.0, Input::Store(answer));
        }
    }
}

/// What the owner does for guests.
#[wasm_bindgen]
impl Host {
    /// A guest has this torrent open: it is kept as one's own is. `[start, end, …]` of what is
    /// stored of it.
    pub fn lend(
        &self,
        magnet: &str,
        info: Vec<u8>,
        layers: Option<Vec<u8>>,
        wanted: bool,
        paused: bool,
    ) -> Result<JsValue, JsError> {
        let magnet: Magnet = magnet.parse()?;
        let metainfo = Arc::new(Metainfo::from_info(info, &magnet)?);
        let name = name_of(&metainfo);
        let layers = layers.map(Bytes::from);
        let have = {
            let mut guard = self.0.borrow_mut();
            let this = &mut *guard;
            let now = this.now();
            let storage = this.storage.as_mut();
            let storage = storage.ok_or_else(|| JsError::new("there is no store"))?;
            if !storage.torrents.contains_key(&name) {
                let text = magnet.to_string();
                let known = this.node.find_torrent(&magnet);
                let id = match known {
                    Some(id) => id,
                    None => {
                        let file = TorrentFile {
                            metainfo: metainfo.clone(),
                            magnet,
                            piece_layers: layers.clone(),
                        };
                        this.node.restore_torrent(now, file, [])?
                    }
                };
                let kept = Kept {
                    id,
                    metainfo,
                    layers: layers.clone(),
                    record: Record {
                        magnet: text,
                        ..Record::default()
                    },
                    record_changed: true,
                    metainfo_changed: true,
                    files: None,
                    lent: None,
                    own: known.is_some(),
                };
                storage.add(&this.node, name, kept);
            }
            let have = storage.slab.have(name);
            if let Some(kept) = storage.torrents.get_mut(&name) {
                if kept.layers.is_none() && layers.is_some() {
                    kept.layers = layers;
                    kept.metainfo_changed = true;
                }
                // What another tab has open is not fetched here, but in the next session.
                if !kept.own {
                    (kept.record.wanted, kept.record.paused) = (wanted, paused);
                }
                kept.record.used = unix_seconds();
                kept.record_changed = true;
                kept.lent = Some(have.clone());
                let held = kept.is_held(&this.node);
                storage.slab.set(name, kept.record.used, held);
            }
            have
        };
        drive(&self.0);
        Ok(flat(&have))
    }

    /// Keeps a chunk that a guest has verified. Whether there was room.
    pub fn write_lent(&self, name: &str, chunk: u32, bytes: Vec<u8>) -> bool {
        let (answers, kept) = {
            let mut guard = self.0.borrow_mut();
            let this = &mut *guard;
            let now = this.now();
            let (Some(storage), Some(name)) = (&mut this.storage, parse_name(name)) else {
                return false;
            };
            let Some(kept) = storage.torrents.get(&name) else {
                return false;
            };
            let (id, length) = (kept.id, kept.metainfo.chunk_length(chunk) as usize);
            if length == 0 || length != bytes.len() {
                return false;
            }
            let kept = storage.write(id, chunk, Bytes::from(bytes));
            if kept {
                let all = [chunk..chunk.saturating_add(1)];
                this.node.add_stored(now, id, all);
            }
            (storage.gone(), kept)
        };
        for answer in answers {
            handle(&self.0, Input::Store(answer));
        }
        drive(&self.0);
        kept
    }

    /// Resolves to the bytes of a chunk, or to nothing if it is not there.
    pub fn read_lent(&self, name: &str, chunk: u32) -> Promise {
        let (inner, name) = (self.0.clone(), parse_name(name));
        future_to_promise(async move {
            let nothing = Ok(JsValue::UNDEFINED);
            let Some(name) = name else { return nothing };
            let (id, claim, found) = {
                let mut this = inner.borrow_mut();
                let Some(storage) = &mut this.storage else {
                    return nothing;
                };
                let (Some(kept), Some(claim)) =
                    (storage.torrents.get(&name), storage.slab.claim(name, chunk))
                else {
                    return nothing;
                };
                let length = kept.metainfo.chunk_length(chunk) as usize;
                (kept.id, claim, storage.find(claim.slot, length))
            };
            let bytes = match found {
                Found::Here(bytes) => bytes,
                Found::In(database) => database.chunk(claim.slot).await.ok().flatten(),
            };
            let answer = {
                let mut this = inner.borrow_mut();
                let Some(storage) = &mut this.storage else {
                    return nothing;
                };
                storage.checked(name, id, chunk, claim, bytes)
            };
            match answer {
                Some(StoreAnswer::Read {
                    bytes: Some(bytes), ..
                }) => Ok(Uint8Array::from(bytes.as_ref()).into()),
                _ => nothing,
            }
        })
    }

    /// What is stored otherwise than guests know: `[{name, gone, have}, …]`.
    pub fn lending_changes(&self) -> Array {
        let mut inner = self.0.borrow_mut();
        let Some(storage) = &mut inner.storage else {
            return Array::new();
        };
        let slab = &storage.slab;
        let changed = storage.torrents.iter_mut().filter_map(|(name, kept)| {
            let told = kept.lent.as_ref()?;
            let have = slab.have(*name);
            let (gone, new) = (without(told, &have), without(&have, told));
            kept.lent = Some(have);
            (!gone.is_empty() || !new.is_empty()).then(|| {
                object([
                    ("name", hex(*name).into()),
                    ("gone", flat(&gone)),
                    ("have", flat(&new)),
                ])
            })
        });
        changed.collect()
    }

    /// No guest has this torrent open any more.
    pub fn end_lending(&self, name: &str) {
        let mut guard = self.0.borrow_mut();
        let this = &mut *guard;
        if let (Some(storage), Some(name)) = (&mut this.storage, parse_name(name))
            && let Some(kept) = storage.torrents.get_mut(&name)
        {
            kept.lent = None;
            let held = kept.is_held(&this.node);
            storage.slab.set(name, kept.record.used, held);
        }
    }

    /// A guest wants a torrent forgotten. Its number, if that was done: not where this tab has
    /// opened it too.
    pub fn forget_lent(&self, name: &str) -> Option<f64> {
        let id = {
            let inner = self.0.borrow();
            let kept = inner.storage.as_ref()?.torrents.get(&parse_name(name)?)?;
            (!kept.own).then_some(kept.id.0 as f64)?
        };
        self.forget_torrent(id);
        Some(id)
    }
}
