//! Whether what lies in the folder is what a `.torrent` file describes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chive_node::sensitive::Sensitive;
use chive_node::torrent::{
    CHUNK_LEN, InfohashV1, MAX_TORRENT_FILE_LEN, MetainfoError, TorrentFile, Verdict, Verifier,
};
use tokio::time::Instant;
use tracing::info;
use url::Url;

use super::files::{Files, Reader, Stamp};

/// How often the progress of a long check is logged.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Why a torrent is not shared: sentences for the operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it is no torrent: {0}")]
    NotTorrent(#[from] MetainfoError),
    #[error("it is a v2 torrent without a v1 half, and only v1 and hybrid ones can be shared")]
    OnlyV2,
    #[error("another .torrent file of the folder is of the same torrent")]
    Twice,
    #[error("more than {0} torrents cannot be shared")]
    TooMany(usize),
    #[error("its file {0} is missing, beside it and in the folder of the torrent's name")]
    Missing(Sensitive<String>),
    #[error("its file {path} has {found} bytes, and should have {expected}")]
    Length {
        path: Sensitive<String>,
        found: u64,
        expected: u64,
    },
    #[error("its file {path} cannot be read: {error}")]
    File {
        path: Sensitive<String>,
        error: io::Error,
    },
    #[error("{wrong} of its {pieces} pieces are damaged, the first of them in {path}")]
    Damaged {
        wrong: u32,
        pieces: u32,
        path: Sensitive<String>,
    },
    #[error("the check was interrupted")]
    Stopped,
}

/// A torrent whose files are there, not checked yet or checked.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: InfohashV1,
    pub(super) torrent: TorrentFile,
    pub(super) files: Arc<Files>,
    /// Of the `.torrent` file and of each of its files.
    pub(super) stamps: Vec<Stamp>,
    path: PathBuf,
}

impl Found {
    /// Reads a `.torrent` file and looks for its files. Blocks.
    pub(super) fn look(path: &Path, folder: &Path) -> Result<Self, Refusal> {
        let stamp = Stamp::of(path).map_err(Refusal::Unreadable)?;
        if stamp.length() > MAX_TORRENT_FILE_LEN as u64 {
            return Err(Refusal::NotTorrent(MetainfoError::TooLong {
                length: usize::try_from(stamp.length()).unwrap_or(usize::MAX),
                limit: MAX_TORRENT_FILE_LEN,
            }));
        }
        let bytes = std::fs::read(path).map_err(Refusal::Unreadable)?;
        let torrent = TorrentFile::parse(&bytes)?;
        let id = torrent.metainfo.v1().ok_or(Refusal::OnlyV2)?;
        let named = folder.join(torrent.metainfo.name());
        let mut refusal = None;
        // A folder of the torrent's name is what clients make of one with several files.
        for base in [named.as_path(), folder] {
            let files = Files::below(base, &torrent.metainfo);
            match stamps(&files) {
                Ok(of_files) => {
                    return Ok(Self {
                        id,
                        torrent,
                        files: Arc::new(files),
                        stamps: [vec![stamp], of_files].concat(),
                        path: path.to_owned(),
                    });
                }
                // A file that is wrong says more than one that is not there.
                Err(error @ Refusal::Missing(_)) => refusal = refusal.or(Some(error)),
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal.unwrap_or(Refusal::OnlyV2))
    }

    /// Whether nothing has changed since. Blocks.
    pub(super) fn is_unchanged(&self) -> bool {
        let paths = self.files.each().map(|(path, _)| path);
        let now = std::iter::once(self.path.as_path()).chain(paths);
        now.map(|path| Stamp::of(path).ok())
            .eq(self.stamps.iter().copied().map(Some))
    }

    /// Checks every piece against the torrent. Blocks for as long as the disk needs, with one
    /// chunk in memory.
    pub(super) fn check(&self, stop: &AtomicBool) -> Result<(), Refusal> {
        let metainfo = &self.torrent.metainfo;
        let verifier = Verifier::new(metainfo.clone());
        let mut reader = Reader::new(self.files.clone());
        let mut buffer = vec![0; CHUNK_LEN as usize];
        let mut wrong = 0u32;
        let mut first_wrong = None;
        let mut said_at = Instant::now();
        for piece in 0..metainfo.piece_count() {
            let mut check = verifier.begin_piece(piece);
            for chunk in metainfo.piece_chunks(piece) {
                if stop.load(Ordering::Relaxed) {
                    return Err(Refusal::Stopped);
                }
                let length = metainfo.chunk_length(chunk) as usize;
                let offset = metainfo.chunk_offset(chunk);
                let out = buffer.get_mut(..length).unwrap_or_default();
                reader.read(offset, out).map_err(|error| Refusal::File {
                    path: shown(self.files.at(offset)),
                    error,
                })?;
                verifier.continue_piece(&mut check, out);
            }
            if verifier.finish_piece(check) != Verdict::Good {
                wrong = wrong.saturating_add(1);
                let offset = u64::from(piece) * u64::from(metainfo.piece_length());
                first_wrong.get_or_insert(offset);
            }
            if said_at.elapsed() >= PROGRESS_EVERY {
                said_at = Instant::now();
                let (checked, pieces) = (piece.saturating_add(1), metainfo.piece_count());
                info!(checked, pieces, "checking a torrent that is to be shared");
            }
        }
        match first_wrong {
            None => Ok(()),
            Some(offset) => Err(Refusal::Damaged {
                wrong,
                pieces: metainfo.piece_count(),
                path: shown(self.files.at(offset)),
            }),
        }
    }

    /// The trackers that the `.torrent` file names.
    pub(super) fn trackers(&self) -> impl Iterator<Item = Url> {
        let named = self.torrent.magnet.trackers.iter();
        named.filter_map(|url| Url::parse(url).ok())
    }

    /// v2's piece layers, where it has them.
    pub(super) fn piece_layers(&self) -> Option<&Bytes> {
        self.torrent.piece_layers.as_ref()
    }
}

fn stamps(files: &Files) -> Result<Vec<Stamp>, Refusal> {
    let mut stamps = Vec::new();
    for (path, expected) in files.each() {
        let stamp = Stamp::of(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Refusal::Missing(shown(Some(path)))
            }
            _ => Refusal::File {
                path: shown(Some(path)),
                error,
            },
        })?;
        if stamp.length() != expected {
            return Err(Refusal::Length {
                path: shown(Some(path)),
                found: stamp.length(),
                expected,
            });
        }
        stamps.push(stamp);
    }
    Ok(stamps)
}

/// A file's name tells what is shared.
pub(super) fn shown(path: Option<&Path>) -> Sensitive<String> {
    Sensitive(path.map_or_else(String::new, |path| path.display().to_string()))
}
