//! Sharing: hashing in workers of its own, and what is served from files or copied into the store.

use std::sync::Arc;

use bytes::Bytes;
use js_sys::{Array, Uint8Array};
use serde::Deserialize;
use serde_json::json;
use wasm_bindgen::prelude::*;

use super::files::{self, Files};
use super::{Kept, Record, handle, name_of, unix_seconds};
use crate::ids::TorrentId;
use crate::node::Input;
use crate::store::StoreAnswer;
use crate::torrent::{Creator, NewFile, PieceLength, TorrentFile};
use crate::web::{Host, drive, to_js};

#[derive(Deserialize)]
struct Given {
    path: Vec<String>,
    length: u64,
}

/// A torrent that is being made, in the worker that leads those that hash.
#[wasm_bindgen]
pub struct Creation(Option<Creator>);

#[wasm_bindgen]
impl Creation {
    /// Plans a torrent of `files`, `[{path: [folder, …, name], length}, …]` as JSON, in a folder of
    /// that name, or of one file without.
    #[wasm_bindgen(constructor)]
    pub fn new(folder: Option<String>, files: &str) -> Result<Creation, JsError> {
        let files: Vec<Given> = serde_json::from_str(files)?;
        let files = files
            .into_iter()
            .map(|Given { path, length }| NewFile { path, length });
        let creator = Creator::new(folder.as_deref(), files, PieceLength::Chosen)?;
        Ok(Creation(Some(creator)))
    }

    /// How many pieces are to be hashed.
    pub fn piece_count(&self) -> u32 {
        self.0.as_ref().map_or(0, Creator::piece_count)
    }

    /// Of which bytes a piece is: `[file, start, length, padded_length]`.
    pub fn shape(&self, piece: u32) -> Option<Vec<f64>> {
        let shape = self.0.as_ref()?.shape(piece)?;
        Some(vec![
            shape.file as f64,
            shape.start as f64,
            shape.length.into(),
            shape.padded_length.into(),
        ])
    }

    /// Takes what a piece was hashed to: SHA-1 with its padding, then SHA-256 of each chunk.
    pub fn set_piece(&mut self, piece: u32, hashes: &[u8]) -> Result<(), JsError> {
        let (Some(creator), Some((v1, leaves))) = (&mut self.0, hashes.split_first_chunk()) else {
            return Err(JsError::new("there is nothing to hash, or no hash"));
        };
        let (leaves, rest) = leaves.as_chunks();
        if !rest.is_empty() {
            return Err(JsError::new("half a hash"));
        }
        Ok(creator.set_piece(piece, *v1, leaves.to_vec())?)
    }

    /// Bytes hashed.
    pub fn hashed_bytes(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |it| it.hashed_bytes() as f64)
    }

    /// The places that the files had when given, in the order in which they lie.
    pub fn order(&self) -> Vec<u32> {
        let order = self.0.iter().flat_map(Creator::order);
        order
            .filter_map(|place| u32::try_from(place).ok())
            .collect()
    }

    /// The `.torrent` file.
    pub fn finish(&mut self) -> Result<Uint8Array, JsError> {
        let creator = self
            .0
            .take()
            .ok_or_else(|| JsError::new("it was finished before"))?;
        Ok(Uint8Array::from(creator.finish()?.bytes.as_ref()))
    }
}

#[wasm_bindgen]
impl Host {
    /// Shares a torrent whose files the worker has: `{torrent, magnet, files}`, the
    /// numbers of its files in their order. It reads what
    /// [`Host::next_file_read`] says and gives it to [`Host::give_piece`].
    pub fn share(&self, bytes: &[u8]) -> Result<JsValue, JsError> {
        let file = TorrentFile::parse(bytes)?;
        let magnet = file.magnet.clone();
        let (metainfo, layers) = (file.metainfo.clone(), file.piece_layers.clone());
        let name = name_of(&metainfo);
        let id = {
            let mut guard = self.0.borrow_mut();
            let this = &mut *guard;
            let now = this.now();
            this.node.set_host_store();
            let all = [0..metainfo.chunk_count()];
            let files = Files::new(metainfo.clone(), layers.clone());
            let known = this.storage.as_ref().and_then(|it| it.torrents.get(&name));
            let id = match known.map(|kept| kept.id) {
                Some(id) => {
                    this.node.add_stored(now, id, all);
                    id
                }
                None => this.node.restore_torrent(now, file, all)?,
            };
            let record = Record {
                magnet: magnet.to_string(),
                used: unix_seconds(),
                shared: true,
                paused: false,
                wanted: true,
            };
            this.node.set_wanted(now, id, true);
            this.node.set_paused(now, id, false);
            this.node.share_torrent(now, id, true);
            let kept = Kept {
                id,
                metainfo: Arc::clone(&metainfo),
                layers,
                record,
                record_changed: true,
                metainfo_changed: true,
                files: Some(files),
                lent: None,
                own: true,
            };
            if let Some(storage) = &mut this.storage {
                storage.add(&this.node, name, kept);
            } else {
                this.node.close_torrent(now, id);
                return Err(JsError::new("there is no store to share from"));
            }
            id
        };
        drive(&self.0);
        let files = metainfo.files().iter().enumerate();
        let numbers = files.filter(|(_, file)| !file.padding);
        Ok(to_js(&json!({
            "torrent": id.0,
            "magnet": magnet.to_string(),
            "files": numbers.map(|(number, _)| number).collect::<Vec<_>>(),
        })))
    }

    /// The next piece that is to be read of a shared torrent's files: `[piece, file, start,
    /// length]`, the file by its number in the torrent.
    pub fn next_file_read(&self, torrent: f64) -> Option<Vec<f64>> {
        let mut inner = self.0.borrow_mut();
        let kept = inner.storage.as_mut()?.kept(TorrentId(torrent as u64))?;
        let piece = kept.files.as_mut()?.next()?;
        let place = files::place(&kept.metainfo, piece)?;
        Some(vec![
            piece.into(),
            place.file as f64,
            place.start as f64,
            place.length as f64,
        ])
    }

    /// A piece of a shared torrent's files was read, or cannot be. False if it is not what was
    /// hashed.
    pub fn give_piece(&self, torrent: f64, piece: u32, bytes: Option<Vec<u8>>) -> bool {
        let id = TorrentId(torrent as u64);
        let (answers, good) = {
            let mut inner = self.0.borrow_mut();
            let files = inner
                .storage
                .as_mut()
                .and_then(|storage| storage.kept(id)?.files.as_mut());
            let Some(files) = files else { return false };
            let given = files.give(piece, bytes.map(Bytes::from));
            (given, !files.broken)
        };
        for (chunk, bytes) in answers {
            let answer = StoreAnswer::Read {
                torrent: id,
                chunk,
                bytes,
            };
            handle(&self.0, Input::Store(answer));
        }
        good
    }

    /// Where a piece lies that is not in the store yet, from `piece` on: as
    /// [`Host::next_file_read`] says it.
    pub fn next_to_copy(&self, torrent: f64, from: u32) -> Option<Vec<f64>> {
        let mut inner = self.0.borrow_mut();
        let storage = inner.storage.as_mut()?;
        let name = storage.name(TorrentId(torrent as u64))?;
        let kept = storage.torrents.get(&name)?;
        let metainfo = &kept.metainfo;
        let piece = (from..metainfo.piece_count()).find(|piece| {
            metainfo.piece_chunks(*piece).any(|chunk| {
                !metainfo.is_padding_chunk(chunk) && storage.slab.claim(name, chunk).is_none()
            })
        })?;
        let place = files::place(metainfo, piece)?;
        Some(vec![
            piece.into(),
            place.file as f64,
            place.start as f64,
            place.length as f64,
        ])
    }

    /// Copies a piece of a shared torrent's files into the store: `"kept"`, `"full"`, or
    /// `"changed"` if it is not what was hashed.
    pub fn copy_piece(&self, torrent: f64, piece: u32, bytes: Vec<u8>) -> String {
        let id = TorrentId(torrent as u64);
        let (answers, said) = {
            let mut inner = self.0.borrow_mut();
            let Some(storage) = &mut inner.storage else {
                return "full".to_owned();
            };
            let bytes = Bytes::from(bytes);
            let chunks = storage
                .kept(id)
                .and_then(|kept| kept.files.as_ref()?.check(piece, &bytes));
            let said = match chunks {
                None => "changed",
                Some(chunks) => {
                    let mut chunks = chunks.into_iter().filter(|(_, bytes)| !bytes.is_empty());
                    match chunks.all(|(chunk, bytes)| storage.write(id, chunk, bytes)) {
                        true => "kept",
                        false => "full",
                    }
                }
            };
            (storage.gone(), said)
        };
        for answer in answers {
            handle(&self.0, Input::Store(answer));
        }
        said.to_owned()
    }

    /// A shared torrent's files are gone or changed: what is not in the store is missing.
    pub fn lose_files(&self, torrent: f64) {
        let id = TorrentId(torrent as u64);
        let answers: Vec<StoreAnswer> = {
            let mut inner = self.0.borrow_mut();
            let Some(storage) = &mut inner.storage else {
                return;
            };
            let Some(name) = storage.name(id) else { return };
            let have = storage.slab.have(name);
            let Some(kept) = storage.torrents.get_mut(&name) else {
                return;
            };
            kept.files = None;
            let mut gone = crate::store::RangeSet::new();
            gone.insert(0..kept.metainfo.chunk_count());
            have.iter().for_each(|run| gone.remove(run));
            let gone = gone.iter().map(|chunks| StoreAnswer::Gone {
                torrent: id,
                chunks,
            });
            gone.collect()
        };
        for answer in answers {
            handle(&self.0, Input::Store(answer));
        }
    }

    /// The torrents that are shared and have pieces to be read.
    pub fn file_reads(&self) -> Array {
        let inner = self.0.borrow();
        let all = inner.storage.iter().flat_map(|it| it.torrents.values());
        all.filter(|kept| kept.files.as_ref().is_some_and(Files::has_reads))
            .map(|kept| JsValue::from_f64(kept.id.0 as f64))
            .collect()
    }
}
