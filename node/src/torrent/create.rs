//! Making hybrid torrents (v1 and v2, BEP 52) of files that somebody has.
//!
//! No file is read here: the content is given in order ([`Creator::update`]), or piece by piece in
//! any order and from several threads, hashed by whoever has it ([`Creator::shape`],
//! [`Creator::set_piece`]).
//! What is kept is 52 bytes a piece, and the leaf hashes of no more than the piece that is being
//! hashed: a v2 torrent is named by its files' roots and checked by its piece layers.
//!
//! The same files give the same torrent, byte for byte what libtorrent makes of them: files lie in
//! the order of their paths, each from the beginning of a piece, with padding files between them.

mod encode;
mod hash;

#[cfg(test)]
mod tests;

use crate::order::ascending_by;
use bytes::Bytes;

use super::display_name::display_name;
use super::merkle::{self, Sha256Hash};
use super::verify::height_of;
use super::{
    CHUNK_LEN, MAX_CHUNKS, MAX_FILES, MAX_METADATA_LEN, MAX_PATH_DEPTH, MAX_PIECE_LEN, MAX_PIECES,
    MetainfoError, TorrentFile,
};

pub use hash::PieceShape;
use hash::{PieceHash, PieceHasher};

/// The least piece that is chosen: smaller ones cost a tab more for each than they save.
const MIN_CHOSEN_PIECE_LEN: u32 = 64 * 1024;
/// The longest piece that is chosen: a tab must hold one before it can check it by v1.
const MAX_CHOSEN_PIECE_LEN: u32 = 16 * 1024 * 1024;
/// Pieces that a torrent is to have at most: its dictionary then stays within some 80 KiB.
const WANTED_PIECES: u64 = 4096;

/// One file of a torrent to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Folders and name.
    pub path: Vec<String>,
    /// Its bytes.
    pub length: u64,
}

/// Why no torrent can be made; a sentence for the page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// There are no bytes in any of the files.
    #[error("There is nothing to share: the files are empty.")]
    Empty,
    /// A path without a name, or a deeper one than [`MAX_PATH_DEPTH`].
    #[error("A file has no name, or lies in more than {MAX_PATH_DEPTH} folders.")]
    Path,
    /// Two files of one name, or a file where a folder is.
    #[error("Two files have the same name: {0}.")]
    Twice(String),
    /// More than [`MAX_FILES`].
    #[error("These are more than {MAX_FILES} files.")]
    TooManyFiles,
    /// More than [`MAX_CHUNKS`] or [`MAX_PIECES`].
    #[error("These files are too large for one torrent.")]
    TooLarge,
    /// Not a power of two from 16 KiB to [`MAX_PIECE_LEN`].
    #[error("Pieces of {0} bytes cannot be: it must be a power of two from 16384 on.")]
    PieceLength(u32),
    /// The torrent has no such piece.
    #[error("There is no piece {0}.")]
    NoSuchPiece(u32),
    /// Not one hash for each chunk of a piece.
    #[error("A piece has one hash for each of its chunks.")]
    Leaves,
    /// More bytes were given than the files have.
    #[error("A file is longer than it was said to be.")]
    TooManyBytes,
    /// Some pieces have not been hashed.
    #[error("A file is shorter than it was said to be.")]
    Unfinished,
    /// What was made cannot be read: the dictionary is over a limit.
    #[error("No torrent can be made of these files: {0}.")]
    Metainfo(#[from] MetainfoError),
}

/// How long pieces are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PieceLength {
    /// By the length of all files.
    #[default]
    Chosen,
    /// So long.
    Fixed(u32),
}

/// A file where it will lie.
#[derive(Clone, Debug)]
struct Planned {
    path: Vec<String>,
    length: u64,
    /// Where it stood among those that were given.
    given: usize,
    /// Its first piece; that of the next file if it is empty.
    first_piece: u32,
    pieces: u32,
}

/// Makes one torrent; see the module. Dropping it is cancelling.
#[derive(Debug)]
pub struct Creator {
    name: String,
    is_single: bool,
    piece_length: u32,
    files: Vec<Planned>,
    total: u64,
    hashes: Vec<Option<PieceHash>>,
    hashed_bytes: u64,
    /// What [`Self::update`] is at.
    streaming: Option<PieceHasher>,
    next_piece: u32,
}

impl Creator {
    /// Plans a torrent of a folder, or without one of a single file, whose path is its name.
    /// Names are changed where they could not be shown or saved as they are.
    pub fn new(
        folder: Option<&str>,
        files: impl IntoIterator<Item = NewFile>,
        piece_length: PieceLength,
    ) -> Result<Self, CreateError> {
        let mut planned = Vec::new();
        let mut total = 0u64;
        for (given, file) in files.into_iter().enumerate() {
            if given >= MAX_FILES {
                return Err(CreateError::TooManyFiles);
            }
            if file.path.is_empty() || file.path.len() > MAX_PATH_DEPTH {
                return Err(CreateError::Path);
            }
            let path = file.path.iter().map(|part| display_name(part.as_bytes()));
            planned.push(Planned {
                path: path.collect(),
                length: file.length,
                given,
                first_piece: 0,
                pieces: 0,
            });
            total = total
                .checked_add(file.length)
                .ok_or(CreateError::TooLarge)?;
        }
        if total == 0 {
            return Err(CreateError::Empty);
        }
        // By the bytes of the names, folder by folder: the order of the file tree's keys.
        planned = ascending_by(planned, |file| file.path.clone());
        let pairs = planned.iter().zip(planned.iter().skip(1));
        if let Some((_, twice)) = pairs
            .into_iter()
            .find(|(one, next)| next.path.starts_with(&one.path))
        {
            return Err(CreateError::Twice(twice.path.join("/")));
        }
        let piece_length = match piece_length {
            PieceLength::Chosen => chosen_piece_length(total),
            PieceLength::Fixed(length) => length,
        };
        if !piece_length.is_power_of_two() || !(CHUNK_LEN..=MAX_PIECE_LEN).contains(&piece_length) {
            return Err(CreateError::PieceLength(piece_length));
        }
        let mut pieces = 0u32;
        for file in &mut planned {
            file.first_piece = pieces;
            file.pieces = u32::try_from(file.length.div_ceil(piece_length.into()))
                .map_err(|_| CreateError::TooLarge)?;
            pieces = pieces
                .checked_add(file.pieces)
                .filter(|pieces| *pieces <= MAX_PIECES)
                .ok_or(CreateError::TooLarge)?;
        }
        let chunks = u64::from(pieces) * u64::from(piece_length / CHUNK_LEN);
        if chunks > MAX_CHUNKS.into() {
            return Err(CreateError::TooLarge);
        }
        let name = match (folder, planned.as_slice()) {
            (Some(folder), _) => display_name(folder.as_bytes()),
            (None, [file]) => match file.path.as_slice() {
                [name] => name.clone(),
                _ => return Err(CreateError::Path),
            },
            (None, _) => return Err(CreateError::Path),
        };
        Ok(Self {
            name,
            is_single: folder.is_none(),
            piece_length,
            files: planned,
            total,
            hashes: vec![None; pieces as usize],
            hashed_bytes: 0,
            streaming: None,
            next_piece: 0,
        })
    }

    /// What the torrent will be called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// The bytes of those pieces that have been hashed.
    pub fn hashed_bytes(&self) -> u64 {
        self.hashed_bytes
    }

    /// The bytes of a piece, a file's last one excepted.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// How many pieces there are.
    pub fn piece_count(&self) -> u32 {
        u32::try_from(self.hashes.len()).unwrap_or(u32::MAX)
    }

    /// The files in the order in which they will lie: the places that they had when given.
    pub fn order(&self) -> impl Iterator<Item = usize> + '_ {
        self.files.iter().map(|file| file.given)
    }

    /// Which bytes a piece is of, and what its trees look like.
    pub fn shape(&self, piece: u32) -> Option<PieceShape> {
        if piece >= self.piece_count() {
            return None;
        }
        let after = self.files.partition_point(|file| file.first_piece <= piece);
        // Empty files share their first piece with the one after them.
        let file = self
            .files
            .get(..after)?
            .iter()
            .rfind(|file| file.pieces > 0)?;
        let within = piece.checked_sub(file.first_piece)?;
        let start = u64::from(within) * u64::from(self.piece_length);
        let length = u32::try_from(file.length.checked_sub(start)?)
            .unwrap_or(u32::MAX)
            .min(self.piece_length);
        let height = match file.pieces {
            1 => height_of(length.div_ceil(CHUNK_LEN).into()),
            _ => self.piece_height(),
        };
        let padded_length = if self.files.len() == 1 {
            length
        } else {
            self.piece_length
        };
        Some(PieceShape {
            file: file.given,
            start,
            length,
            padded_length,
            height,
        })
    }

    /// Takes what was made of a piece: SHA-1 of its bytes with their padding, and SHA-256 of each
    /// of its chunks.
    pub fn set_piece(
        &mut self,
        piece: u32,
        v1: [u8; 20],
        leaves: Vec<Sha256Hash>,
    ) -> Result<(), CreateError> {
        let shape = self.shape(piece).ok_or(CreateError::NoSuchPiece(piece))?;
        let hash = hash::of_leaves(shape, v1, leaves).ok_or(CreateError::Leaves)?;
        self.set_hash(piece, hash)
    }

    fn set_hash(&mut self, piece: u32, hash: PieceHash) -> Result<(), CreateError> {
        let no_such = CreateError::NoSuchPiece(piece);
        let length = self.shape(piece).ok_or(no_such.clone())?.length;
        let place = self.hashes.get_mut(piece as usize).ok_or(no_such)?;
        if place.replace(hash).is_none() {
            self.hashed_bytes = self.hashed_bytes.saturating_add(length.into());
        }
        Ok(())
    }

    /// Takes the next bytes of the content: the files in their [order](Self::order), one after
    /// another, in parts of any length.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<(), CreateError> {
        while !bytes.is_empty() {
            let mut hasher = match self.streaming.take() {
                Some(hasher) => hasher,
                None => {
                    let shape = self.shape(self.next_piece);
                    PieceHasher::new(shape.ok_or(CreateError::TooManyBytes)?)
                }
            };
            bytes = hasher.update(bytes);
            if hasher.missing() > 0 {
                self.streaming = Some(hasher);
                continue;
            }
            self.set_hash(self.next_piece, hasher.finish())?;
            self.next_piece = self.next_piece.saturating_add(1);
        }
        Ok(())
    }

    /// The torrent, once every piece has been hashed.
    pub fn finish(self) -> Result<Created, CreateError> {
        let hashes: Option<Vec<PieceHash>> = self.hashes.iter().copied().collect();
        let hashes = hashes.ok_or(CreateError::Unfinished)?;
        let roots: Vec<Option<Sha256Hash>> = self
            .files
            .iter()
            .map(|file| self.root(file, &hashes))
            .collect();
        let info = encode::info(&self, &hashes, &roots);
        if info.len() > MAX_METADATA_LEN {
            let (length, limit) = (info.len(), MAX_METADATA_LEN);
            return Err(MetainfoError::TooLong { length, limit }.into());
        }
        let bytes = encode::torrent_file(&self, &info, &hashes, &roots);
        // Read as anybody else's: what nobody could open is not handed out.
        let file = TorrentFile::parse(&bytes)?;
        Ok(Created {
            file,
            bytes: bytes.into(),
        })
    }

    /// A file's root; none if it is empty.
    fn root(&self, file: &Planned, hashes: &[PieceHash]) -> Option<Sha256Hash> {
        let layer: Vec<Sha256Hash> = file_hashes(file, hashes).map(|hash| hash.v2).collect();
        match layer.as_slice() {
            [] => None,
            [root] => Some(*root),
            _ => {
                let missing = merkle::missing_root(self.piece_height());
                merkle::root(layer, height_of(file.pieces.into()), missing)
            }
        }
    }

    fn piece_height(&self) -> u32 {
        height_of((self.piece_length / CHUNK_LEN).into())
    }
}

/// A torrent that was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// As if it had been opened: its dictionary, its magnet link, its piece layers.
    pub file: TorrentFile,
    /// The `.torrent` file. It says neither who made it nor when.
    pub bytes: Bytes,
}

fn file_hashes<'a>(
    file: &Planned,
    hashes: &'a [PieceHash],
) -> impl Iterator<Item = &'a PieceHash> + use<'a> {
    let first = file.first_piece as usize;
    hashes.iter().skip(first).take(file.pieces as usize)
}

/// The least power of two that makes few enough pieces.
fn chosen_piece_length(total: u64) -> u32 {
    let wanted = total.div_ceil(WANTED_PIECES).next_power_of_two();
    u32::try_from(wanted)
        .unwrap_or(u32::MAX)
        .clamp(MIN_CHOSEN_PIECE_LEN, MAX_CHOSEN_PIECE_LEN)
}
