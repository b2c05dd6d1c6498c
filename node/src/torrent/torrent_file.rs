//! A `.torrent` file: the info dictionary, and around it trackers, web seeds and v2's piece layers.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::bencode::{self, Dict, Value};
use super::{MAX_TORRENT_FILE_LEN, Magnet, Metainfo, MetainfoError, Verifier};

/// What a `.torrent` file says.
#[derive(Clone, Debug)]
pub struct TorrentFile {
    /// The info dictionary.
    pub metainfo: Arc<Metainfo>,
    /// The infohashes, trackers and web seeds: what a magnet link would say.
    pub magnet: Magnet,
    /// The piece layers of all files that have one, one after another in the order of the files,
    /// checked against the files' roots: what [`Verifier::add_piece_layers`] takes. None where
    /// the file has none.
    pub piece_layers: Option<Bytes>,
}

impl TorrentFile {
    /// Reads and checks the bytes of a `.torrent` file.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        if bytes.len() > MAX_TORRENT_FILE_LEN {
            let (length, limit) = (bytes.len(), MAX_TORRENT_FILE_LEN);
            return Err(MetainfoError::TooLong { length, limit });
        }
        let (tree, info) = bencode::parse_torrent_file(bytes)?;
        let dict = tree.as_dict().ok_or(MetainfoError::Field("info"))?;
        let metainfo = Arc::new(Metainfo::from_trusted_info(Bytes::copy_from_slice(info))?);
        let magnet = magnet(dict, &metainfo);
        let piece_layers = piece_layers(dict, &metainfo)?;
        Ok(Self {
            metainfo,
            magnet,
            piece_layers,
        })
    }
}

fn magnet(dict: &Dict<'_>, metainfo: &Metainfo) -> Magnet {
    let mut magnet = Magnet {
        v1: metainfo.v1(),
        v2: metainfo.v2(),
        ..Magnet::default()
    };
    magnet.name = Some(metainfo.name().to_owned());
    // BEP 12: where there are tiers of trackers, `announce` is one of them.
    let tiers = dict
        .get(b"announce-list")
        .and_then(Value::as_list)
        .unwrap_or_default();
    let of_tiers = tiers
        .iter()
        .flat_map(|tier| tier.as_list().unwrap_or_default());
    for tracker in of_tiers.chain(dict.get(b"announce")) {
        magnet.add_tracker(utf8(tracker));
    }
    // BEP 19: one address or a list.
    let seeds = dict.get(b"url-list");
    let list = seeds.and_then(Value::as_list).unwrap_or_default();
    for seed in list.iter().chain(seeds) {
        magnet.add_web_seed(utf8(seed));
    }
    magnet
}

fn utf8<'a>(value: &Value<'a>) -> &'a str {
    value
        .as_bytes()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .unwrap_or_default()
}

/// Puts the layers, which the file keys by root, in the order of the files.
fn piece_layers(dict: &Dict<'_>, metainfo: &Arc<Metainfo>) -> Result<Option<Bytes>, MetainfoError> {
    let mut verifier = Verifier::new(metainfo.clone());
    let Some(layers) = dict.get(b"piece layers") else {
        return Ok(None);
    };
    let layers = layers.as_dict().ok_or(MetainfoError::PieceLayers)?;
    let length = verifier.piece_layers_length();
    if length == 0 {
        return Ok(None);
    }
    let mut all = BytesMut::with_capacity(length);
    for file in verifier.layered_files() {
        let root = metainfo.files().get(file).and_then(|file| file.pieces_root);
        let layer = root
            .and_then(|root| layers.get(&root))
            .and_then(Value::as_bytes);
        let layer = layer.ok_or(MetainfoError::PieceLayers)?;
        // Many files of one root and one large layer: no more than the files ask for.
        if layer.len() > length.saturating_sub(all.len()) {
            return Err(MetainfoError::PieceLayers);
        }
        all.extend_from_slice(layer);
    }
    let all = all.freeze();
    verifier
        .add_piece_layers(all.clone())
        .map_err(|_| MetainfoError::PieceLayers)?;
    Ok(Some(all))
}
