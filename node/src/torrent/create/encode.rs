//! The dictionaries, in bencode: keys in order.

use crate::order::map_of;
use std::collections::BTreeMap;

use super::super::merkle::Sha256Hash;
use super::{Creator, PieceHash, Planned, file_hashes};

/// The info dictionary.
pub(super) fn info(
    creator: &Creator,
    hashes: &[PieceHash],
    roots: &[Option<Sha256Hash>],
) -> Vec<u8> {
    let mut out = Encoder::default();
    out.open('d');
    out.text("file tree");
    file_tree(&mut out, creator, roots);
    match creator.files.as_slice() {
        [file] if creator.is_single => {
            out.text("length");
            out.number(file.length);
        }
        files => {
            out.text("files");
            out.open('l');
            v1_files(&mut out, files, creator.piece_length);
            out.close();
        }
    }
    out.text("meta version");
    out.number(2);
    out.text("name");
    out.text(&creator.name);
    out.text("piece length");
    out.number(creator.piece_length.into());
    out.text("pieces");
    let pieces: Vec<u8> = hashes.iter().flat_map(|hash| hash.v1).collect();
    out.bytes(&pieces);
    out.close();
    out.0
}

/// The `.torrent` file: the info dictionary, and the piece layers by the root that each leads to.
pub(super) fn torrent_file(
    creator: &Creator,
    info: &[u8],
    hashes: &[PieceHash],
    roots: &[Option<Sha256Hash>],
) -> Vec<u8> {
    // Files of the same content have the same layer.
    let files = creator.files.iter().zip(roots);
    let files = files.filter(|(file, _)| file.pieces > 1);
    let layers: BTreeMap<Sha256Hash, &Planned> =
        map_of(files.filter_map(|(file, root)| Some(((*root)?, file))));
    let mut out = Encoder::default();
    out.open('d');
    out.text("info");
    out.0.extend_from_slice(info);
    out.text("piece layers");
    out.open('d');
    for (root, file) in layers {
        out.bytes(&root);
        let layer: Vec<u8> = file_hashes(file, hashes).flat_map(|hash| hash.v2).collect();
        out.bytes(&layer);
    }
    out.close();
    out.close();
    out.0
}

/// The v1 half: files one after another, and the zeros that fill the last piece of each.
fn v1_files(out: &mut Encoder, files: &[Planned], piece_length: u32) {
    for file in files {
        out.open('d');
        out.text("length");
        out.number(file.length);
        out.text("path");
        out.open('l');
        for part in &file.path {
            out.text(part);
        }
        out.close();
        out.close();
        let end = file.length.next_multiple_of(piece_length.max(1).into());
        let padding = end.saturating_sub(file.length);
        if padding == 0 || files.len() == 1 {
            continue;
        }
        out.open('d');
        out.text("attr");
        out.text("p");
        out.text("length");
        out.number(padding);
        out.text("path");
        out.open('l');
        out.text(".pad");
        out.text(&padding.to_string());
        out.close();
        out.close();
    }
}

/// The v2 half: folders within folders. The files are in the order of the tree.
fn file_tree(out: &mut Encoder, creator: &Creator, roots: &[Option<Sha256Hash>]) {
    out.open('d');
    let mut folder: &[String] = &[];
    for (file, root) in creator.files.iter().zip(roots) {
        let Some((name, folders)) = file.path.split_last() else {
            continue;
        };
        let shared = folder
            .iter()
            .zip(folders)
            .take_while(|(one, other)| one == other)
            .count();
        for _ in shared..folder.len() {
            out.close();
        }
        for entered in folders.iter().skip(shared) {
            out.text(entered);
            out.open('d');
        }
        folder = folders;
        out.text(name);
        out.open('d');
        out.text("");
        out.open('d');
        out.text("length");
        out.number(file.length);
        if let Some(root) = root {
            out.text("pieces root");
            out.bytes(root);
        }
        out.close();
        out.close();
    }
    for _ in folder {
        out.close();
    }
    out.close();
}

#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn open(&mut self, kind: char) {
        self.0
            .extend_from_slice(kind.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn close(&mut self) {
        self.0.push(b'e');
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(format!("i{number}e").as_bytes());
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0
            .extend_from_slice(format!("{}:", bytes.len()).as_bytes());
        self.0.extend_from_slice(bytes);
    }
}
