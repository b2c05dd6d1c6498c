//! Real metadata, cut and broken in every place: never a panic, and whatever is still taken is
//! whole in itself.

use std::path::Path;
use std::sync::Arc;

use super::super::{CHUNK_LEN, Metainfo, TorrentFile, Verdict, Verifier};
use super::build::Random;

const CASES: [&str; 5] = [
    "v1-multi",
    "v1-padded",
    "hybrid-multi",
    "hybrid-one",
    "v2-multi",
];

fn golden(case: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/torrent/testdata");
    std::fs::read(folder.join(format!("{case}.torrent"))).unwrap()
}

/// The info dictionary, and the whole file.
fn samples() -> Vec<Vec<u8>> {
    let with_info = |case| {
        let file = golden(case);
        let info = TorrentFile::parse(&file).unwrap().metainfo.info().to_vec();
        [info, file]
    };
    CASES.into_iter().flat_map(with_info).collect()
}

/// Reads it both ways; if it is taken, nothing in it may contradict itself.
fn try_out(bytes: &[u8]) -> bool {
    let info = Metainfo::from_trusted_info(bytes.to_vec().into());
    let file = TorrentFile::parse(bytes);
    let taken = info.is_ok() || file.is_ok();
    for metainfo in info
        .map(Arc::new)
        .into_iter()
        .chain(file.map(|file| file.metainfo))
    {
        assert_whole(&metainfo);
    }
    taken
}

fn assert_whole(metainfo: &Arc<Metainfo>) {
    let space = metainfo.space_length();
    let mut end = 0;
    for file in metainfo.files() {
        assert!(file.offset >= end && file.length <= space - file.offset);
        assert!(!file.path.is_empty() && file.path.iter().all(|name| !name.is_empty()));
        end = file.offset + file.length;
    }
    assert_eq!(end, space);
    assert!(metainfo.total_length() <= space);
    let chunks = metainfo.chunk_count();
    assert_eq!(metainfo.piece_of(chunks - 1), metainfo.piece_count() - 1);
    let mut verifier = Verifier::new(metainfo.clone());
    for chunk in [0, chunks - 1, chunks, u32::MAX] {
        assert!(metainfo.chunk_length(chunk) <= CHUNK_LEN);
        let bytes = vec![0; metainfo.chunk_length(chunk) as usize];
        let verdict = verifier.check_chunk(chunk, &bytes);
        assert!(verdict != Verdict::Good || bytes.is_empty());
        let piece = metainfo.piece_of(chunk);
        assert_ne!(
            verifier.check_piece(piece, [&bytes[..]]),
            Verdict::NeedPiece
        );
        let _ = verifier.add_leaf_hashes(piece, &vec![0; metainfo.piece_chunks(piece).len() * 32]);
    }
    if verifier.piece_layers_length() < 1 << 20 {
        let wrong = vec![1; verifier.piece_layers_length()];
        assert!(verifier.add_piece_layers(wrong.into()).is_err());
    }
}

#[test]
fn cut_anywhere() {
    for whole in samples() {
        assert!(try_out(&whole));
        for end in 0..whole.len() {
            assert!(!try_out(&whole[..end]), "taken though cut at {end}");
            try_out(&whole[end..]);
        }
    }
}

#[test]
fn every_bit_flipped() {
    for whole in samples() {
        let mut bytes = whole.clone();
        for bit in 0..whole.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            try_out(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn parts_put_together_at_random() {
    let samples = samples();
    let mut random = Random(7);
    let mut taken = 0;
    for _ in 0..30_000 {
        let mut bytes = samples[random.below(samples.len())].clone();
        for _ in 0..=random.below(4) {
            match random.below(4) {
                // A digit: lengths and numbers.
                0 => {
                    let digits: Vec<usize> = (0..bytes.len())
                        .filter(|at| bytes[*at].is_ascii_digit())
                        .collect();
                    bytes[digits[random.below(digits.len())]] = b'0' + random.below(10) as u8;
                }
                // A part of another, put in or in place of something.
                1 => {
                    let other = &samples[random.below(samples.len())];
                    let from = random.below(other.len());
                    let part = other[from..other.len().min(from + random.below(60))].to_vec();
                    let at = random.below(bytes.len());
                    let end = (at + random.below(60)).min(bytes.len());
                    bytes.splice(at..end, part);
                }
                // A part twice.
                2 => {
                    let at = random.below(bytes.len());
                    let part = bytes[at..bytes.len().min(at + random.below(200))].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => {
                    let at = random.below(bytes.len());
                    bytes[at] = b"dlie:0123456789-"[random.below(16)];
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        taken += usize::from(try_out(&bytes));
    }
    assert!(
        taken > 100,
        "the mutations are too wild to reach anything: {taken}"
    );
}
