//! The files of a shared torrent on disk, read as one chunk space.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use chive_node::torrent::Metainfo;

/// Where the content of a torrent lies.
#[derive(Debug)]
pub(super) struct Files {
    /// Ascending, without overlap; what lies between them is padding, zeros.
    extents: Vec<Extent>,
}

#[derive(Debug)]
struct Extent {
    start: u64,
    end: u64,
    path: PathBuf,
}

/// What tells that a file is not the one that was checked any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(Self {
            length: about.len(),
            modified: about.modified().ok(),
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

impl Files {
    /// The files below `base`, by the names that the torrent gives them, made harmless.
    pub(super) fn below(base: &Path, metainfo: &Metainfo) -> Self {
        let with_content = metainfo
            .files()
            .iter()
            .filter(|file| !file.padding && file.length > 0);
        let extents = with_content.map(|file| Extent {
            start: file.offset,
            end: file.offset.saturating_add(file.length),
            path: file
                .path
                .iter()
                .fold(base.to_owned(), |folder, part| folder.join(part)),
        });
        Self {
            extents: extents.collect(),
        }
    }

    /// Each file, with the length that it must have.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Path, u64)> {
        let extents = self.extents.iter();
        extents.map(|extent| (extent.path.as_path(), extent.end - extent.start))
    }

    /// The file that has the first byte of content at or after this place.
    pub(super) fn at(&self, offset: u64) -> Option<&Path> {
        let (_, extent) = self.find(offset)?;
        Some(&extent.path)
    }

    fn find(&self, offset: u64) -> Option<(usize, &Extent)> {
        let at = self.extents.partition_point(|extent| extent.end <= offset);
        Some((at, self.extents.get(at)?))
    }
}

/// Reads from a torrent's files, with one of them open.
#[derive(Debug)]
pub(super) struct Reader {
    files: Arc<Files>,
    open: Option<(usize, File)>,
}

impl Reader {
    pub(super) fn new(files: Arc<Files>) -> Self {
        Self { files, open: None }
    }

    /// Fills `out` with what begins at `offset` of the chunk space. Blocks.
    pub(super) fn read(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        let mut rest = out;
        while !rest.is_empty() {
            let Some((index, extent)) = self.files.find(at) else {
                rest.fill(0);
                return Ok(());
            };
            let left = rest.len() as u64;
            let is_padding = at < extent.start;
            let until = if is_padding { extent.start } else { extent.end };
            let length = (until - at).min(left);
            let within = at.saturating_sub(extent.start);
            // No longer than the rest, which has a `usize` length.
            let Some((part, after)) = rest.split_at_mut_checked(length as usize) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            if is_padding {
                part.fill(0);
            } else {
                if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
                    self.open = Some((index, File::open(&extent.path)?));
                }
                if let Some((_, file)) = &self.open {
                    file.read_exact_at(part, within)?;
                }
            }
            at = at.saturating_add(length);
            rest = after;
        }
        Ok(())
    }
}
