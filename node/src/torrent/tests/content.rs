//! The content of a torrent that a test made, laid out in chunks.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::super::{File, Layout};

/// The same bytes that `testdata/make.py` writes into a file.
pub(super) fn of_file(salt: &str, file: &File) -> Vec<u8> {
    let path = file.path.join("/");
    let mut out = Vec::new();
    for block in 0.. {
        if out.len() as u64 >= file.length {
            break;
        }
        out.extend_from_slice(&Sha256::digest(format!("{salt}\0{path}\0{block}")));
    }
    out.truncate(file.length as usize);
    out
}

/// The whole chunk space: the files' bytes where they lie, zeros elsewhere.
pub(super) fn space(salt: &str, files: &[File], layout: &Layout) -> Vec<u8> {
    let mut space = vec![0; layout.space_length() as usize];
    for file in files.iter().filter(|file| !file.padding) {
        let at = file.offset as usize;
        space[at..at + file.length as usize].copy_from_slice(&of_file(salt, file));
    }
    space
}

/// One chunk of that space, as it is sent and stored.
pub(super) fn chunk<'a>(layout: &Layout, space: &'a [u8], chunk: u32) -> &'a [u8] {
    let start = layout.chunk_offset(chunk) as usize;
    &space[start..start + layout.chunk_length(chunk) as usize]
}

/// Several chunks.
pub(super) fn chunks<'a>(
    layout: &'a Layout,
    space: &'a [u8],
    range: Range<u32>,
) -> impl Iterator<Item = &'a [u8]> + Clone {
    range.map(move |one| chunk(layout, space, one))
}
