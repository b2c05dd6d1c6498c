//! What is known of the store's content, in IndexedDB.
//!
//! Four object stores: `torrents` (what the user did with each, JSON), `metainfo` (info
//! dictionaries and piece layers), `pages` (claims), and `chunks` where there is no OPFS.

use js_sys::Uint8Array;
use rexie::{KeyRange, ObjectStore, Rexie, Store, TransactionMode};
use wasm_bindgen::{JsCast, JsValue};

use crate::store::{Page, Slot, StoredName};

const NAME: &str = "chive";
const VERSION: u32 = 1;
const TORRENTS: &str = "torrents";
const METAINFO: &str = "metainfo";
const PAGES: &str = "pages";
const CHUNKS: &str = "chunks";
const ALL: [&str; 4] = [TORRENTS, METAINFO, PAGES, CHUNKS];

/// One transaction's content.
#[derive(Default)]
pub(super) struct Transaction {
    pub(super) removed: Vec<StoredName>,
    pub(super) pages: Vec<Page>,
    /// What the user did with a torrent, as JSON.
    pub(super) records: Vec<(StoredName, String)>,
    /// Info dictionaries and piece layers.
    pub(super) metainfo: Vec<(StoredName, Uint8Array, Option<Uint8Array>)>,
    /// Chunks, where there is no file for them.
    pub(super) chunks: Vec<(Slot, Uint8Array)>,
}

/// A torrent as it was put.
pub(super) struct Stored {
    pub(super) name: StoredName,
    pub(super) record: String,
    pub(super) info: Vec<u8>,
    pub(super) layers: Option<Vec<u8>>,
}

/// All that a page begins with.
pub(super) struct Content {
    pub(super) torrents: Vec<Stored>,
    pub(super) pages: Vec<Page>,
}

pub(super) struct Database(Rexie);

impl Database {
    pub(super) async fn open() -> Result<Self, String> {
        let mut builder = Rexie::builder(NAME).version(VERSION);
        for store in ALL {
            builder = builder.add_object_store(ObjectStore::new(store));
        }
        builder.build().await.map(Self).map_err(sentence)
    }

    pub(super) async fn delete() -> Result<(), String> {
        Rexie::delete(NAME).await.map_err(sentence)
    }

    pub(super) fn close(self) {
        self.0.close();
    }

    pub(super) async fn load(&self) -> Result<Content, String> {
        self.try_load().await.map_err(sentence)
    }

    async fn try_load(&self) -> rexie::Result<Content> {
        let transaction = self
            .0
            .transaction(&[TORRENTS, METAINFO, PAGES], TransactionMode::ReadOnly)?;
        let records = all(&transaction.store(TORRENTS)?).await?;
        let pages = all(&transaction.store(PAGES)?).await?;
        let metainfo = transaction.store(METAINFO)?;
        let mut torrents = Vec::new();
        for (key, record) in records {
            let (Some(name), Some(record)) = (parse_name(&key), record.as_string()) else {
                continue;
            };
            let Some(info) = metainfo.get(key.as_str().into()).await? else {
                continue;
            };
            let layers = metainfo.get(layers_key(name).as_str().into()).await?;
            torrents.push(Stored {
                name,
                record,
                info: bytes(&info),
                layers: layers.as_ref().map(bytes),
            });
        }
        let pages = pages.into_iter().filter_map(|(key, value)| {
            let (name, page) = key.split_once(':')?;
            Some(Page {
                name: parse_name(name)?,
                page: page.parse().ok()?,
                bytes: bytes(&value),
            })
        });
        Ok(Content {
            pages: pages.collect(),
            torrents,
        })
    }

    pub(super) async fn put(&self, what: Transaction) -> Result<(), String> {
        self.try_put(what).await.map_err(sentence)
    }

    async fn try_put(&self, what: Transaction) -> rexie::Result<()> {
        let transaction = self.0.transaction(&ALL, TransactionMode::ReadWrite)?;
        let pages = transaction.store(PAGES)?;
        let torrents = transaction.store(TORRENTS)?;
        let metainfo = transaction.store(METAINFO)?;
        for name in what.removed {
            let key: JsValue = hex(name).into();
            torrents.delete(key.clone()).await?;
            metainfo.delete(key).await?;
            metainfo.delete(layers_key(name).into()).await?;
            // Every page's key begins so; `;` is the next character after `:`.
            let (from, to) = (format!("{}:", hex(name)), format!("{};", hex(name)));
            let range = KeyRange::bound(&from.into(), &to.into(), None, Some(true))?;
            pages.delete(range.into()).await?;
        }
        for (name, record) in what.records {
            torrents
                .put(&record.into(), Some(&hex(name).into()))
                .await?;
        }
        for (name, info, layers) in what.metainfo {
            metainfo.put(&info, Some(&hex(name).into())).await?;
            if let Some(layers) = layers {
                metainfo
                    .put(&layers, Some(&layers_key(name).into()))
                    .await?;
            }
        }
        let chunks = transaction.store(CHUNKS)?;
        chunks
            .put_all(what.chunks.into_iter().map(|(slot, bytes)| {
                let key = JsValue::from_f64(slot.0.into());
                (bytes.into(), Some(key))
            }))
            .await?;
        for page in what.pages {
            let key: JsValue = format!("{}:{:08}", hex(page.name), page.page).into();
            if page.bytes.is_empty() {
                pages.delete(key).await?;
            } else {
                let bytes = Uint8Array::from(page.bytes.as_slice());
                pages.put(&bytes, Some(&key)).await?;
            }
        }
        transaction.done().await?;
        Ok(())
    }

    /// A chunk, where there is no file for them.
    pub(super) async fn chunk(&self, slot: Slot) -> Result<Option<Vec<u8>>, String> {
        let read = async {
            let transaction = self.0.transaction(&[CHUNKS], TransactionMode::ReadOnly)?;
            let key = JsValue::from_f64(slot.0.into());
            transaction.store(CHUNKS)?.get(key).await
        };
        let found: rexie::Result<Option<JsValue>> = read.await;
        Ok(found.map_err(sentence)?.as_ref().map(bytes))
    }
}

/// All entries whose keys are text.
async fn all(store: &Store) -> rexie::Result<Vec<(String, JsValue)>> {
    let keys = store.get_all_keys(None, None).await?;
    let values = store.get_all(None, None).await?;
    let entries = keys.into_iter().zip(values);
    Ok(entries
        .filter_map(|(key, value)| Some((key.as_string()?, value)))
        .collect())
}

fn bytes(value: &JsValue) -> Vec<u8> {
    value
        .dyn_ref::<Uint8Array>()
        .map(Uint8Array::to_vec)
        .unwrap_or_default()
}

pub(super) fn hex(name: StoredName) -> String {
    name.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn layers_key(name: StoredName) -> String {
    format!("{}:layers", hex(name))
}

pub(super) fn parse_name(text: &str) -> Option<StoredName> {
    let digits: Vec<u8> = (0..40)
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect::<Option<_>>()?;
    (text.len() == 40).then_some(())?;
    digits.try_into().ok().map(StoredName)
}

fn sentence(error: rexie::Error) -> String {
    error.to_string()
}
