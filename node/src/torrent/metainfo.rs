//! The info dictionary, checked: what the files are and where they lie.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use super::bencode::{self, Dict, Value};
use super::display_name::display_name;
use super::layout::{Extent, Layout};
use super::{
    CHUNK_LEN, Infohash, InfohashV1, InfohashV2, MAX_CHUNKS, MAX_FILES, MAX_METADATA_LEN,
    MAX_PATH_DEPTH, Magnet, MetainfoError, Sha256Hash,
};

const SHA1_LEN: usize = 20;

/// The end of the largest chunk space. Nothing may lie beyond, so no sum of lengths overflows.
const MAX_SPACE_LEN: u64 = MAX_CHUNKS as u64 * CHUNK_LEN as u64;

/// An info dictionary that was read and found whole.
///
/// The arithmetic of chunks and pieces is its [`Layout`]'s, reached by dereferencing.
#[derive(Clone)]
pub struct Metainfo {
    info: Bytes,
    name: String,
    v1: Option<InfohashV1>,
    v2: Option<InfohashV2>,
    private: bool,
    files: Vec<File>,
    layout: Layout,
    /// The v1 piece hashes, one after another: part of `info`.
    pieces: Bytes,
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Folders and name, made fit to be shown. Two files may have the same: a file is told from
    /// others by its place in [`Metainfo::files`] alone.
    pub path: Vec<String>,
    /// Where it begins in the chunk space.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// The root of its Merkle tree: in v2 and hybrid torrents, where the file is not empty.
    pub pieces_root: Option<Sha256Hash>,
    /// Zeros that only align what follows (BEP 47): to be shown to nobody.
    pub padding: bool,
}

impl Metainfo {
    /// Reads an info dictionary after checking that it is what the magnet link names, by every
    /// infohash that the link has.
    pub fn from_info(info: impl Into<Bytes>, expect: &Magnet) -> Result<Self, MetainfoError> {
        let info = info.into();
        check_length(&info)?;
        if expect.v1.is_none() && expect.v2.is_none() {
            return Err(MetainfoError::NothingExpected);
        }
        if expect.v1.is_some_and(|v1| v1 != InfohashV1::of(&info))
            || expect.v2.is_some_and(|v2| v2 != InfohashV2::of(&info))
        {
            return Err(MetainfoError::WrongHash);
        }
        Self::from_trusted_info(info)
    }

    /// Reads an info dictionary that needs no check: it came from the user, in a `.torrent` file.
    pub(super) fn from_trusted_info(info: Bytes) -> Result<Self, MetainfoError> {
        check_length(&info)?;
        let tree = bencode::parse(&info)?;
        let dict = tree.as_dict().ok_or(MetainfoError::Field("info"))?;

        let piece_length = unsigned(dict, "piece length")?;
        let piece_length =
            u32::try_from(piece_length).map_err(|_| MetainfoError::PieceLength(piece_length))?;
        let is_v2 = match dict.get(b"meta version").map(Value::as_unsigned) {
            None | Some(Some(1)) => false,
            Some(Some(2)) => true,
            Some(Some(other)) => return Err(MetainfoError::Version(other)),
            Some(None) => return Err(MetainfoError::Field("meta version")),
        };
        let pieces = match dict.get(b"pieces").map(Value::as_bytes) {
            Some(Some(pieces)) => Some(pieces),
            None if is_v2 => None,
            _ => return Err(MetainfoError::Field("pieces")),
        };
        if is_v2 && !piece_length.is_power_of_two() {
            return Err(MetainfoError::PieceLength(piece_length.into()));
        }

        let v1_files = pieces.map(|_| v1_files(dict)).transpose()?;
        let v2_files = is_v2.then(|| v2_files(dict, piece_length)).transpose()?;
        let found = match (v1_files, v2_files) {
            (Some(v1), Some(v2)) => agreed(v1, &v2, piece_length)?,
            (Some(files), None) | (None, Some(files)) => files,
            (None, None) => return Err(MetainfoError::Field("pieces")),
        };

        let layout = Layout::new(piece_length, found.length, extents(&found.files))?;
        let hashes = pieces.unwrap_or_default();
        if pieces.is_some() {
            let expected = layout.piece_count();
            if Some(hashes.len())
                != usize::try_from(expected)
                    .ok()
                    .and_then(|n| n.checked_mul(SHA1_LEN))
            {
                return Err(MetainfoError::PieceCount {
                    found: hashes.len() / SHA1_LEN,
                    expected,
                });
            }
        }
        let private = dict.get(b"private").and_then(Value::as_unsigned) == Some(1);
        let name = display_name(text(dict, "name")?);
        let files = found.files.into_iter().map(FoundFile::shown).collect();
        Ok(Self {
            v1: pieces.map(|_| InfohashV1::of(&info)),
            v2: is_v2.then(|| InfohashV2::of(&info)),
            name,
            private,
            files,
            layout,
            pieces: if hashes.is_empty() {
                Bytes::new()
            } else {
                info.slice_ref(hashes)
            },
            info,
        })
    }

    /// The torrent's name, made fit to be shown.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-1 infohash; none if the dictionary has no v1 half.
    pub fn v1(&self) -> Option<InfohashV1> {
        self.v1
    }

    /// The SHA-256 infohash; none if the dictionary has no v2 half.
    pub fn v2(&self) -> Option<InfohashV2> {
        self.v2
    }

    /// The name to ask by: v1 where there is one, since more swarms answer to it.
    pub fn infohash(&self) -> Infohash {
        match (self.v1, self.v2) {
            (Some(v1), _) => v1.into(),
            (None, Some(v2)) => v2.into(),
            (None, None) => InfohashV1::of(&self.info).into(),
        }
    }

    /// The info dictionary as it came.
    pub fn info(&self) -> &Bytes {
        &self.info
    }

    /// Whether the publisher wants no peers from the DHT (BEP 27).
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// The files, padding files included, in the order of the chunk space.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The SHA-1 of a piece, where there is a v1 half.
    pub(super) fn v1_piece(&self, piece: u32) -> Option<&[u8]> {
        let start = usize::try_from(piece).ok()?.checked_mul(SHA1_LEN)?;
        self.pieces.get(start..start.checked_add(SHA1_LEN)?)
    }
}

/// So that `metainfo.chunk_count()` is the layout's: one thing to pass around, not two.
impl Deref for Metainfo {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}

/// Names no content: this ends up in logs.
impl fmt::Debug for Metainfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metainfo")
            .field("files", &self.files.len())
            .field("chunks", &self.layout.chunk_count())
            .finish_non_exhaustive()
    }
}

/// A file as the dictionary has it.
struct FoundFile<'a> {
    path: Vec<&'a [u8]>,
    offset: u64,
    length: u64,
    pieces_root: Option<Sha256Hash>,
    padding: bool,
}

impl FoundFile<'_> {
    fn shown(self) -> File {
        File {
            path: self.path.into_iter().map(display_name).collect(),
            offset: self.offset,
            length: self.length,
            pieces_root: self.pieces_root,
            padding: self.padding,
        }
    }
}

struct Found<'a> {
    files: Vec<FoundFile<'a>>,
    /// The end of the chunk space.
    length: u64,
}

impl<'a> Found<'a> {
    fn new() -> Self {
        Self {
            files: Vec::new(),
            length: 0,
        }
    }

    fn push(&mut self, file: FoundFile<'a>) -> Result<(), MetainfoError> {
        if self.files.len() >= MAX_FILES {
            return Err(MetainfoError::TooManyFiles);
        }
        let end = file
            .offset
            .checked_add(file.length)
            .filter(|end| *end <= MAX_SPACE_LEN);
        self.length = end.ok_or(MetainfoError::TooLarge)?;
        self.files.push(file);
        Ok(())
    }
}

fn check_length(info: &[u8]) -> Result<(), MetainfoError> {
    if info.len() > MAX_METADATA_LEN {
        return Err(MetainfoError::TooLong {
            length: info.len(),
            limit: MAX_METADATA_LEN,
        });
    }
    Ok(())
}

/// The v1 half: one length, or a list of files one after another (BEP 3).
fn v1_files<'a>(dict: &Dict<'a>) -> Result<Found<'a>, MetainfoError> {
    let mut found = Found::new();
    let Some(list) = dict.get(b"files") else {
        found.push(FoundFile {
            path: vec![text(dict, "name")?],
            offset: 0,
            length: unsigned(dict, "length")?,
            pieces_root: None,
            padding: false,
        })?;
        return Ok(found);
    };
    if dict.get(b"length").is_some() {
        return Err(MetainfoError::Field("length"));
    }
    for file in list.as_list().ok_or(MetainfoError::Field("files"))? {
        let file = file.as_dict().ok_or(MetainfoError::Field("files"))?;
        let path = v1_path(file)?;
        let padding = has_attribute(file, b'p');
        // A symbolic link (BEP 47) has no bytes of its own, and some leave its length out.
        let length = if has_attribute(file, b'l') && file.get(b"length").is_none() {
            0
        } else {
            unsigned(file, "length")?
        };
        let offset = found.length;
        found.push(FoundFile {
            path,
            offset,
            length,
            pieces_root: None,
            padding,
        })?;
    }
    Ok(found)
}

fn v1_path<'a>(file: &Dict<'a>) -> Result<Vec<&'a [u8]>, MetainfoError> {
    let parts = file.get(b"path.utf-8").or_else(|| file.get(b"path"));
    let parts = parts
        .and_then(Value::as_list)
        .ok_or(MetainfoError::Field("path"))?;
    if parts.is_empty() || parts.len() > MAX_PATH_DEPTH {
        return Err(MetainfoError::Path);
    }
    parts
        .iter()
        .map(|part| part.as_bytes().ok_or(MetainfoError::Field("path")))
        .collect()
}

/// The v2 half: a tree of folders, its files each from the beginning of a piece (BEP 52).
fn v2_files<'a>(dict: &Dict<'a>, piece_length: u32) -> Result<Found<'a>, MetainfoError> {
    let tree = dict.get(b"file tree").and_then(Value::as_dict);
    let mut found = Found::new();
    let mut path = Vec::new();
    let tree = tree.ok_or(MetainfoError::Field("file tree"))?;
    v2_folder(tree, &mut path, piece_length, &mut found)?;
    Ok(found)
}

/// Recurses no deeper than [`MAX_PATH_DEPTH`].
fn v2_folder<'a>(
    folder: &Dict<'a>,
    path: &mut Vec<&'a [u8]>,
    piece_length: u32,
    found: &mut Found<'a>,
) -> Result<(), MetainfoError> {
    // The order of the files is that of the keys.
    if !folder.was_sorted() {
        return Err(MetainfoError::Unsorted);
    }
    for (name, entry) in folder.entries() {
        let entry = entry.as_dict().ok_or(MetainfoError::Field("file tree"))?;
        if name.is_empty() || path.len() >= MAX_PATH_DEPTH {
            return Err(MetainfoError::Path);
        }
        path.push(name);
        match entry.entries() {
            [(b"", file)] => {
                let file = file.as_dict().ok_or(MetainfoError::Field("file tree"))?;
                found.push(v2_file(file, path.clone(), found.length, piece_length)?)?;
            }
            // An empty name among others is refused one level further in.
            _ => v2_folder(entry, path, piece_length, found)?,
        }
        path.pop();
    }
    Ok(())
}

fn v2_file<'a>(
    file: &Dict<'a>,
    path: Vec<&'a [u8]>,
    previous_end: u64,
    piece_length: u32,
) -> Result<FoundFile<'a>, MetainfoError> {
    let length = if has_attribute(file, b'l') && file.get(b"length").is_none() {
        0
    } else {
        unsigned(file, "length")?
    };
    let pieces_root = match file.get(b"pieces root") {
        _ if length == 0 => None,
        Some(root) => root
            .as_bytes()
            .and_then(|root| Sha256Hash::try_from(root).ok()),
        None => None,
    };
    if length > 0 && pieces_root.is_none() {
        return Err(MetainfoError::Field("pieces root"));
    }
    let offset = if length == 0 {
        previous_end
    } else {
        previous_end.next_multiple_of(piece_length.max(1).into())
    };
    Ok(FoundFile {
        path,
        offset,
        length,
        pieces_root,
        padding: false,
    })
}

/// The files of a hybrid torrent: the v1 half's, with the v2 half's roots. The two must be of the
/// same files in the same places: else what one infohash names would not be what the other does.
fn agreed<'a>(
    mut v1: Found<'a>,
    v2: &Found<'a>,
    piece_length: u32,
) -> Result<Found<'a>, MetainfoError> {
    let mut others = v2.files.iter();
    for file in v1.files.iter_mut().filter(|file| !file.padding) {
        let other = others.next().ok_or(MetainfoError::Contradiction)?;
        if file.path != other.path
            || file.length != other.length
            || file.length > 0 && file.offset != other.offset
        {
            return Err(MetainfoError::Contradiction);
        }
        file.pieces_root = other.pieces_root;
    }
    // Padding after the last file may fill its piece, not make pieces that v2 does not know.
    let pieces = |length: u64| length.div_ceil(piece_length.max(1).into());
    if others.next().is_some() || pieces(v1.length) != pieces(v2.length) {
        return Err(MetainfoError::Contradiction);
    }
    Ok(v1)
}

fn extents(files: &[FoundFile<'_>]) -> Vec<Extent> {
    let numbered = (0u32..).zip(files);
    let content = numbered.filter(|(_, file)| !file.padding && file.length > 0);
    content
        .map(|(index, file)| Extent {
            start: file.offset,
            // `Found::push` has bounded the sum.
            end: file.offset.saturating_add(file.length),
            file: index,
        })
        .collect()
}

fn has_attribute(file: &Dict<'_>, attribute: u8) -> bool {
    let attributes = file.get(b"attr").and_then(Value::as_bytes);
    attributes.is_some_and(|attributes| attributes.contains(&attribute))
}

fn unsigned(dict: &Dict<'_>, key: &'static str) -> Result<u64, MetainfoError> {
    dict.get(key.as_bytes())
        .and_then(Value::as_unsigned)
        .ok_or(MetainfoError::Field(key))
}

/// A name: its UTF-8 variant where there is one (an old habit of torrents in other encodings).
fn text<'a>(dict: &Dict<'a>, key: &'static str) -> Result<&'a [u8], MetainfoError> {
    let utf8 = match key {
        "name" => dict.get(b"name.utf-8"),
        _ => None,
    };
    let value = utf8.or_else(|| dict.get(key.as_bytes()));
    value
        .and_then(Value::as_bytes)
        .ok_or(MetainfoError::Field(key))
}
