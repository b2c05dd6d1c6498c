//! What libtorrent made and what libtorrent reads in it, against what is read here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde::Deserialize;

use super::super::{
    CHUNK_LEN, Magnet, Metainfo, MetainfoError, Sha256Hash, TorrentFile, Verdict, Verifier,
    leaf_hash,
};
use super::content;

#[derive(Deserialize)]
struct Said {
    libtorrent: String,
    salt: String,
    cases: std::collections::BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    v1: Option<String>,
    v2: Option<String>,
    piece_length: u32,
    piece_count: u32,
    magnet: String,
    files: Vec<SaidFile>,
}

#[derive(Deserialize)]
struct SaidFile {
    path: String,
    offset: u64,
    length: u64,
    padding: bool,
    root: Option<String>,
}

pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/torrent/testdata")
}

#[test]
fn committed_torrents_read_as_libtorrent_reads_them() {
    compare(&testdata());
}

#[test]
fn fresh_torrents_read_as_libtorrent_reads_them() {
    let Some(python) = python_with_libtorrent() else {
        println!("skipped: no python3 here has libtorrent (Debian: python3-libtorrent)");
        return;
    };
    for salt in ["one", "two", "three"] {
        let out =
            std::env::temp_dir().join(format!("chive-torrents-{}-{salt}", std::process::id()));
        fs::create_dir_all(&out).unwrap();
        let made = Command::new(python)
            .args([
                testdata().join("make.py").as_os_str(),
                out.as_os_str(),
                salt.as_ref(),
            ])
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        compare(&out);
        fs::remove_dir_all(&out).unwrap();
    }
}

pub(crate) fn python_with_libtorrent() -> Option<&'static str> {
    let can = |python: &&&str| {
        let tried = Command::new(python)
            .args(["-c", "import libtorrent"])
            .output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    ["python3", "/usr/bin/python3"].iter().find(can).copied()
}

fn compare(folder: &Path) {
    let said = fs::read(folder.join("cases.json")).unwrap();
    let said: Said = serde_json::from_slice(&said).unwrap();
    assert_eq!(
        said.cases.len(),
        13,
        "made by libtorrent {}",
        said.libtorrent
    );
    for (name, case) in &said.cases {
        println!("{name} (salt {:?})", said.salt);
        let raw = fs::read(folder.join(format!("{name}.torrent"))).unwrap();
        let torrent = TorrentFile::parse(&raw).unwrap();
        compare_metainfo(&torrent, case);
        compare_magnet(&torrent, case);
        let layers = torrent.piece_layers.clone();
        verify_content(&torrent.metainfo, layers, &said.salt);
    }
}

fn compare_metainfo(torrent: &TorrentFile, case: &Case) {
    let metainfo = &torrent.metainfo;
    assert_eq!(metainfo.name(), case.name);
    assert_eq!(metainfo.v1().map(|hash| hash.to_string()), case.v1);
    assert_eq!(metainfo.v2().map(|hash| hash.to_string()), case.v2);
    assert_eq!(metainfo.piece_length(), case.piece_length);
    assert_eq!(metainfo.piece_count(), case.piece_count);

    let ours: Vec<_> = metainfo
        .files()
        .iter()
        .filter(|file| !file.padding)
        .collect();
    let theirs: Vec<_> = case.files.iter().filter(|file| !file.padding).collect();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let path = ours.path.join("/");
        let theirs_path = theirs.path.strip_prefix(&format!("{}/", case.name));
        assert_eq!(path, theirs_path.unwrap_or(&theirs.path));
        assert_eq!(ours.length, theirs.length, "{path}");
        if ours.length > 0 {
            assert_eq!(ours.offset, theirs.offset, "{path}");
            let root = ours.pieces_root.map(|root| hex(&root));
            assert_eq!(root, theirs.root, "{path}");
        }
    }
    assert_eq!(
        metainfo.total_length(),
        theirs.iter().map(|file| file.length).sum::<u64>()
    );

    // Asked for by its name, the same dictionary is taken; a changed one is not.
    let info = metainfo.info();
    let again = Metainfo::from_info(info.clone(), &torrent.magnet).unwrap();
    assert_eq!(again.files(), metainfo.files());
    let mut changed = info.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let refused = Metainfo::from_info(changed, &torrent.magnet);
    assert_eq!(refused.err(), Some(MetainfoError::WrongHash));
}

fn compare_magnet(torrent: &TorrentFile, case: &Case) {
    let theirs: Magnet = case.magnet.parse().unwrap();
    assert_eq!(torrent.magnet, theirs);
    assert_eq!(torrent.magnet.to_string().parse(), Ok(theirs));
}

/// Real content is good by every way of checking that the torrent has, and a changed byte is bad.
fn verify_content(metainfo: &Arc<Metainfo>, layers: Option<bytes::Bytes>, salt: &str) {
    let space = content::space(salt, metainfo.files(), metainfo);
    let mut verifier = Verifier::new(metainfo.clone());
    if metainfo.v1().is_some() {
        // By v1 alone, where there are layers to be had.
        verify_pieces(&verifier, &space);
    }
    assert_eq!(verifier.lacks_piece_layers(), layers.is_some());
    if let Some(layers) = layers {
        verifier.add_piece_layers(layers).unwrap();
        assert!(!verifier.lacks_piece_layers());
    }
    verify_pieces(&verifier, &space);
    if metainfo.v2().is_some() {
        verify_leaves(verifier, &space);
    }
}

fn verify_pieces(verifier: &Verifier, space: &[u8]) {
    let metainfo = verifier.metainfo();
    for piece in 0..metainfo.piece_count() {
        let range = metainfo.piece_chunks(piece);
        let chunks = content::chunks(metainfo, space, range.clone());
        assert!(verifier.can_check_piece(piece));
        assert_eq!(
            verifier.check_piece(piece, chunks.clone()),
            Verdict::Good,
            "piece {piece}"
        );
        for wrong in range {
            if metainfo.is_padding_chunk(wrong) {
                continue;
            }
            let mut changed = content::chunk(metainfo, space, wrong).to_vec();
            *changed.last_mut().unwrap() ^= 1;
            let index = (wrong - metainfo.piece_chunks(piece).start) as usize;
            let mixed = chunks.clone().enumerate();
            let mixed = mixed.map(|(i, chunk)| if i == index { &changed[..] } else { chunk });
            assert_eq!(
                verifier.check_piece(piece, mixed),
                Verdict::Bad,
                "chunk {wrong}"
            );
        }
    }
}

fn verify_leaves(mut verifier: Verifier, space: &[u8]) {
    let metainfo = verifier.metainfo().clone();
    for piece in 0..metainfo.piece_count() {
        let range = metainfo.piece_chunks(piece);
        let mut leaves: Vec<u8> = Vec::new();
        for chunk in content::chunks(&metainfo, space, range.clone()) {
            let leaf: Sha256Hash = if chunk.is_empty() {
                [0; 32]
            } else {
                leaf_hash(chunk)
            };
            leaves.extend_from_slice(&leaf);
        }
        let mut wrong = leaves.clone();
        wrong[5] ^= 1;
        assert!(verifier.add_leaf_hashes(piece, &wrong).is_err());
        assert!(verifier.add_leaf_hashes(piece, &leaves[1..]).is_err());
        verifier.add_leaf_hashes(piece, &leaves).unwrap();
        for chunk in range {
            let bytes = content::chunk(&metainfo, space, chunk);
            assert!(verifier.knows_chunk(chunk));
            assert_eq!(
                verifier.check_chunk(chunk, bytes),
                Verdict::Good,
                "chunk {chunk}"
            );
            assert!(bytes.len() <= CHUNK_LEN as usize);
            if let Some((last, rest)) = bytes.split_last() {
                let changed = [rest, &[last ^ 1]].concat();
                assert_eq!(verifier.check_chunk(chunk, &changed), Verdict::Bad);
                assert_eq!(verifier.check_chunk(chunk, rest), Verdict::Bad);
            }
        }
        verifier.forget_leaf_hashes(piece);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
