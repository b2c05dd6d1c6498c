//! Torrents that are made here against those that libtorrent makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::super::merkle::leaf_hash;
use super::super::tests::golden::{python_with_libtorrent, testdata};
use super::super::{CHUNK_LEN, TorrentFile, Verdict, Verifier};
use super::*;

/// The same bytes that `testdata/make.py` writes into a file.
fn content(path: &str, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for block in 0.. {
        if out.len() as u64 >= length {
            break;
        }
        out.extend_from_slice(&Sha256::digest(format!("\0{path}\0{block}")));
    }
    out.truncate(length as usize);
    out
}

fn new_file(path: &str, length: u64) -> NewFile {
    NewFile {
        path: path.split('/').map(str::to_owned).collect(),
        length,
    }
}

fn creator(name: &str, files: &[(String, u64)], piece_length: u32) -> Creator {
    let is_single = matches!(files, [(path, _)] if path == name);
    let new = files.iter().map(|(path, length)| new_file(path, *length));
    let folder = (!is_single).then_some(name);
    Creator::new(folder, new, PieceLength::Fixed(piece_length)).unwrap()
}

/// Made of a stream that comes in parts of odd lengths.
fn made(name: &str, files: &[(String, u64)], piece_length: u32) -> Created {
    let mut creator = creator(name, files, piece_length);
    let order: Vec<usize> = creator.order().collect();
    for (turn, given) in order.into_iter().enumerate() {
        let (path, length) = &files[given];
        for part in content(path, *length).chunks(7001 * (turn + 1)) {
            creator.update(part).unwrap();
        }
    }
    assert_eq!(creator.hashed_bytes(), creator.total_bytes());
    creator.finish().unwrap()
}

#[test]
fn the_same_as_libtorrent_made() {
    for case in ["hybrid-multi", "hybrid-one", "hybrid-small", "hybrid-tiny"] {
        let raw = fs::read(testdata().join(format!("{case}.torrent"))).unwrap();
        let theirs = TorrentFile::parse(&raw).unwrap();
        // Given in another order than they will lie in.
        let files: Vec<(String, u64)> = theirs
            .metainfo
            .files()
            .iter()
            .rev()
            .filter(|file| !file.padding)
            .map(|file| (file.path.join("/"), file.length))
            .collect();
        let ours = made(
            theirs.metainfo.name(),
            &files,
            theirs.metainfo.piece_length(),
        );
        assert_eq!(ours.file.metainfo.info(), theirs.metainfo.info(), "{case}");
        assert_eq!(ours.file.piece_layers, theirs.piece_layers, "{case}");
        assert_eq!(ours.file.magnet.v1, theirs.magnet.v1);
        assert_eq!(ours.file.magnet.v2, theirs.magnet.v2);
    }
}

/// A name, its files with their lengths, and the length of a piece.
type Tree = (String, Vec<(String, u64)>, u32);

/// Folders of files around every edge: nothing, a leaf, a piece, and one byte beside them.
fn trees() -> Vec<Tree> {
    let mut state = 7u64;
    let mut next = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let folders = ["", "a/", "a.b/", "a/b/", "Z/y/", "فیلم/", "a b/"];
    let mut trees = vec![
        (
            "one.bin".to_owned(),
            vec![("one.bin".to_owned(), 300_000)],
            32768,
        ),
        (
            "folder of one".to_owned(),
            vec![("one.bin".to_owned(), 300_000)],
            16384,
        ),
    ];
    for tree in 0..24 {
        let piece = CHUNK_LEN << next(4);
        let files = (0..1 + next(12)).map(|at| {
            let edge = [
                0,
                1,
                u64::from(CHUNK_LEN),
                u64::from(piece),
                3 * u64::from(piece),
            ];
            let length = (edge[next(5) as usize] + next(3)).saturating_sub(1);
            let folder = folders[next(7) as usize];
            (format!("{folder}{} {at}", next(50)), length)
        });
        let mut files: Vec<(String, u64)> = files.collect();
        files.push(("last of them".to_owned(), 1 + next(100_000)));
        trees.push((format!("tree {tree}"), files, piece));
    }
    trees
}

#[test]
fn libtorrent_takes_them_and_makes_the_same() {
    let Some(python) = python_with_libtorrent() else {
        println!("skipped: no python3 here has libtorrent (Debian: python3-libtorrent)");
        return;
    };
    let folder = std::env::temp_dir().join(format!("chive-create-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for (name, files, piece_length) in trees() {
        let said = serde_json::json!({
            "name": name, "piece_length": piece_length, "files": files,
        });
        fs::write(folder.join("files.json"), said.to_string()).unwrap();
        fs::write(
            folder.join("ours.torrent"),
            made(&name, &files, piece_length).bytes,
        )
        .unwrap();
        assert_eq!(compare(python, &folder), "same", "{said}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

fn compare(python: &str, folder: &Path) -> String {
    let paths: [PathBuf; 3] = [
        testdata().join("compare.py"),
        folder.join("files.json"),
        folder.join("ours.torrent"),
    ];
    let output = Command::new(python).arg("-B").args(paths).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    said
}

#[test]
fn pieces_in_any_order_make_the_same_and_verify() {
    for (name, files, piece_length) in trees() {
        let whole = made(&name, &files, piece_length);
        let mut creator = creator(&name, &files, piece_length);
        for piece in (0..creator.piece_count()).rev() {
            let shape = creator.shape(piece).unwrap();
            let (path, length) = &files[shape.file];
            let content = content(path, *length);
            let bytes = &content[shape.start as usize..][..shape.length as usize];
            let mut padded = bytes.to_vec();
            padded.resize(shape.padded_length as usize, 0);
            let v1 = Sha1::digest(padded).into();
            let leaves: Vec<_> = bytes.chunks(CHUNK_LEN as usize).map(leaf_hash).collect();
            let few = leaves[1..].to_vec();
            assert_eq!(creator.set_piece(piece, v1, few), Err(CreateError::Leaves));
            creator.set_piece(piece, v1, leaves).unwrap();
        }
        assert_eq!(creator.shape(creator.piece_count()), None);
        let pieces = creator.finish().unwrap();
        assert_eq!(pieces.bytes, whole.bytes, "{name}");

        let metainfo = whole.file.metainfo.clone();
        let mut verifier = Verifier::new(metainfo.clone());
        for by_v2 in [false, true] {
            if by_v2 && let Some(layers) = whole.file.piece_layers.clone() {
                verifier.add_piece_layers(layers).unwrap();
            }
            for file in metainfo.files().iter().filter(|file| !file.padding) {
                let content = content(&file.path.join("/"), file.length);
                for (at, bytes) in content.chunks(piece_length as usize).enumerate() {
                    let piece = file.offset / u64::from(piece_length) + at as u64;
                    let piece = u32::try_from(piece).unwrap();
                    let mut chunks = bytes.chunks(CHUNK_LEN as usize);
                    let chunks = metainfo
                        .piece_chunks(piece)
                        .map(|_| chunks.next().unwrap_or_default());
                    assert_eq!(verifier.check_piece(piece, chunks), Verdict::Good);
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_made_is_refused() {
    let new = |folder, files: &[(&str, u64)]| {
        let files = files.iter().map(|(path, length)| new_file(path, *length));
        Creator::new(folder, files, PieceLength::Chosen)
    };
    assert_eq!(new(Some("a"), &[("b", 0)]).err(), Some(CreateError::Empty));
    assert_eq!(new(Some("a"), &[]).err(), Some(CreateError::Empty));
    assert_eq!(
        new(None, &[("a", 1), ("b", 1)]).err(),
        Some(CreateError::Path)
    );
    let twice = CreateError::Twice("b".into());
    assert_eq!(new(Some("a"), &[("b", 1), ("b", 2)]).err(), Some(twice));
    let beneath = CreateError::Twice("b/c".into());
    assert_eq!(new(Some("a"), &[("b/c", 1), ("b", 2)]).err(), Some(beneath));
    let large = new(Some("a"), &[("b", 5 << 40)]).err();
    assert_eq!(large, Some(CreateError::TooLarge));
    let sum = new(Some("a"), &[("b", u64::MAX), ("c", u64::MAX)]).err();
    assert_eq!(sum, Some(CreateError::TooLarge));
    let deep = ["x"; MAX_PATH_DEPTH + 1].join("/");
    assert_eq!(new(Some("a"), &[(&deep, 1)]).err(), Some(CreateError::Path));
    for wrong in [0, 8192, 49152, MAX_PIECE_LEN * 2] {
        let refused = Creator::new(None, [new_file("a", 5)], PieceLength::Fixed(wrong));
        assert_eq!(refused.err(), Some(CreateError::PieceLength(wrong)));
    }
    let mut short = new(None, &[("a", 70_000)]).unwrap();
    assert!(short.update(&[0; 69_999]).is_ok());
    let mut long = new(None, &[("a", 70_000)]).unwrap();
    assert_eq!(short.finish().err(), Some(CreateError::Unfinished));
    assert_eq!(long.update(&[0; 70_001]), Err(CreateError::TooManyBytes));
}

/// Names that climb, hide or are devices become names that do not.
#[test]
fn names_are_made_fit() {
    let mut made = Creator::new(
        Some("../up"),
        [new_file("con/\u{202e}gpj.exe", 3)],
        PieceLength::Chosen,
    )
    .unwrap();
    made.update(b"abc").unwrap();
    let made = made.finish().unwrap().file.metainfo;
    assert_eq!(made.name(), ".._up");
    let file = made.files().iter().find(|file| !file.padding).unwrap();
    assert_eq!(file.path, ["_con", "gpj.exe"]);
}

#[test]
fn piece_lengths_are_chosen_by_the_total() {
    for (total, expected) in [
        (1, 64 << 10),
        (50 << 20, 64 << 10),
        (1 << 30, 256 << 10),
        (20 << 30, 8 << 20),
        (500 << 30, 16 << 20),
    ] {
        let files = [new_file("a", total)];
        let creator = Creator::new(None, files, PieceLength::Chosen).unwrap();
        assert_eq!(creator.piece_length(), expected, "{total} bytes");
    }
}
