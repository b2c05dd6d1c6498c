//! Makes torrents for tests: honest ones of any version, and any nonsense that bencode can say.
//!
//! Uses nothing of the code that it tests: its Merkle trees are built from the top down, by the
//! words of BEP 52.

use std::collections::BTreeMap;

use sha1::Sha1;
use sha2::{Digest, Sha256};

const LEAF: usize = 16 * 1024;

/// Which halves an info dictionary has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    Hybrid,
    V2,
}

/// Everything that a source of the torrent has.
pub(crate) struct Built {
    /// The info dictionary.
    pub(crate) info: Vec<u8>,
    /// All piece layers, one after another in the order of the files.
    pub(crate) piece_layers: Vec<u8>,
    /// A leaf hash for each chunk of the space (zeros for padding), v2 and hybrid.
    pub(crate) leaf_hashes: Vec<u8>,
    /// The whole chunk space, padding included.
    pub(crate) space: Vec<u8>,
}

/// A torrent of these files, whose paths have `/` between folders. Those of v2 and hybrid
/// torrents must come in order.
pub(crate) fn torrent(
    version: Version,
    name: &str,
    files: &[(&str, Vec<u8>)],
    piece_length: usize,
) -> Built {
    let mut built = Built {
        info: Vec::new(),
        piece_layers: Vec::new(),
        leaf_hashes: Vec::new(),
        space: Vec::new(),
    };
    let mut v1_files = Vec::new();
    let mut tree = BTreeMap::new();
    for (path, content) in files {
        if version != Version::V1 && !content.is_empty() {
            let padding = built.space.len().next_multiple_of(piece_length) - built.space.len();
            if padding > 0 {
                v1_files.push(dict([
                    ("attr", bytes("p")),
                    ("length", int(padding)),
                    ("path", list([bytes(".pad"), bytes(padding.to_string())])),
                ]));
                built.space.resize(built.space.len() + padding, 0);
            }
        }
        let parts = path.split('/').map(bytes);
        v1_files.push(dict([
            ("length", int(content.len())),
            ("path", list(parts)),
        ]));
        built.space.extend_from_slice(content);

        let mut entry = vec![("length", int(content.len()))];
        if !content.is_empty() {
            entry.push(("pieces root", bytes(file_root(content))));
        }
        insert(&mut tree, path, dict(entry));
        if version != Version::V1 && content.len() > piece_length {
            for piece in content.chunks(piece_length) {
                built
                    .piece_layers
                    .extend_from_slice(&subtree(piece, piece_length / LEAF));
            }
        }
    }
    if version != Version::V1 {
        // In such a space a chunk is of one file: its leaf is that of the file's bytes alone.
        built.leaf_hashes = vec![0; built.space.len().div_ceil(LEAF) * 32];
        let mut start = 0usize;
        for (_, content) in files.iter().filter(|(_, content)| !content.is_empty()) {
            start = start.next_multiple_of(piece_length);
            for (i, chunk) in content.chunks(LEAF).enumerate() {
                let at = (start / LEAF + i) * 32;
                built.leaf_hashes[at..at + 32].copy_from_slice(&Sha256::digest(chunk));
            }
            start += content.len();
        }
    }

    let mut info = vec![("name", bytes(name)), ("piece length", int(piece_length))];
    if version != Version::V2 {
        let pieces = built.space.chunks(piece_length).flat_map(Sha1::digest);
        info.push(("pieces", bytes(pieces.collect::<Vec<u8>>())));
        match files {
            [(path, content)] if *path == name => info.push(("length", int(content.len()))),
            _ => info.push(("files", list(v1_files))),
        }
    }
    if version != Version::V1 {
        info.push(("meta version", int(2)));
        info.push(("file tree", folder(tree)));
    }
    info.sort_by_key(|(key, _)| *key);
    built.info = dict(info).encoded();
    built
}

/// Bytes that do not repeat.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..length).map(|_| random.next() as u8).collect()
}

/// A small generator of numbers, the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// The `pieces root` of a file.
pub(crate) fn file_root(content: &[u8]) -> [u8; 32] {
    subtree(content, content.len().div_ceil(LEAF).next_power_of_two())
}

/// The root of a tree so many leaves wide over these bytes.
fn subtree(content: &[u8], leaves: usize) -> [u8; 32] {
    if leaves == 1 {
        return if content.is_empty() {
            [0; 32]
        } else {
            Sha256::digest(content).into()
        };
    }
    let half = leaves / 2;
    let (left, right) = content.split_at(content.len().min(half * LEAF));
    Sha256::digest([subtree(left, half), subtree(right, half)].concat()).into()
}

/// Anything that bencode can say, right or wrong.
#[derive(Clone, Debug)]
pub(crate) enum B {
    Int(i128),
    Bytes(Vec<u8>),
    List(Vec<B>),
    /// In the order given, be it wrong.
    Dict(Vec<(Vec<u8>, B)>),
    /// Whatever stands there, be it no bencode at all.
    Raw(Vec<u8>),
}

impl B {
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// With one entry of a dictionary changed, added, or taken out.
    pub(crate) fn with(mut self, key: &str, value: Option<B>) -> Self {
        let Self::Dict(entries) = &mut self else {
            panic!("not a dictionary");
        };
        entries.retain(|(name, _)| name != key.as_bytes());
        if let Some(value) = value {
            entries.push((key.into(), value));
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        self
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
            Self::Bytes(bytes) => encode_bytes(bytes, out),
            Self::List(values) => {
                out.push(b'l');
                values.iter().for_each(|value| value.encode(out));
                out.push(b'e');
            }
            Self::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    encode_bytes(key, out);
                    value.encode(out);
                }
                out.push(b'e');
            }
            Self::Raw(raw) => out.extend_from_slice(raw),
        }
    }
}

pub(crate) fn int(number: usize) -> B {
    B::Int(number as i128)
}

pub(crate) fn bytes(bytes: impl AsRef<[u8]>) -> B {
    B::Bytes(bytes.as_ref().to_vec())
}

pub(crate) fn list(values: impl IntoIterator<Item = B>) -> B {
    B::List(values.into_iter().collect())
}

pub(crate) fn dict<'k>(entries: impl IntoIterator<Item = (&'k str, B)>) -> B {
    B::Dict(
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

enum Node {
    Folder(BTreeMap<String, Node>),
    File(B),
}

fn insert(tree: &mut BTreeMap<String, Node>, path: &str, file: B) {
    match path.split_once('/') {
        None => {
            tree.insert(path.to_owned(), Node::File(file));
        }
        Some((name, rest)) => {
            let folder = tree.entry(name.to_owned());
            let Node::Folder(inner) = folder.or_insert_with(|| Node::Folder(BTreeMap::new()))
            else {
                panic!("{name} is a file");
            };
            insert(inner, rest, file);
        }
    }
}

fn folder(tree: BTreeMap<String, Node>) -> B {
    let entry = |(name, node): (String, Node)| match node {
        Node::Folder(inner) => (name.into_bytes(), folder(inner)),
        Node::File(file) => (name.into_bytes(), dict([("", file)])),
    };
    B::Dict(tree.into_iter().map(entry).collect())
}
