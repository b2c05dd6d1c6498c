//! Verification of content and of v2 hashes, for torrents of every version.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{CHUNK_LEN, HashesError, Metainfo, Verdict, Verifier};
use super::build::{Built, Random, Version, bytes, dict, int, noise, torrent};
use super::content;

const CHUNK: usize = CHUNK_LEN as usize;

fn verifier(built: &Built) -> Verifier {
    Verifier::new(Arc::new(
        Metainfo::from_trusted_info(built.info.clone().into()).unwrap(),
    ))
}

/// One file of each length, for the lengths around every edge.
fn edges(version: Version, piece_length: usize) -> Built {
    let mut files = Vec::new();
    for pieces in 0..6 {
        for chunks in [0, 1, piece_length / CHUNK / 2] {
            for more in [0, 1, CHUNK - 1] {
                let length = pieces * piece_length + chunks * CHUNK + more;
                files.push((
                    format!("{:03}", files.len()),
                    noise(files.len() as u64, length),
                ));
            }
        }
    }
    let files: Vec<(&str, Vec<u8>)> = files
        .iter()
        .map(|(path, content)| (&path[..], content.clone()))
        .collect();
    torrent(version, "edges", &files, piece_length)
}

fn check(verifier: &Verifier, built: &Built, piece: u32) -> Verdict {
    let metainfo = verifier.metainfo();
    let chunks = content::chunks(metainfo, &built.space, metainfo.piece_chunks(piece));
    verifier.check_piece(piece, chunks)
}

#[test]
fn every_edge_of_every_version() {
    for version in [Version::V1, Version::Hybrid, Version::V2] {
        for piece_length in [CHUNK, 2 * CHUNK, 4 * CHUNK, 16 * CHUNK] {
            let built = edges(version, piece_length);
            let mut verifier = verifier(&built);
            let metainfo = verifier.metainfo().clone();
            assert_eq!(metainfo.space_length(), built.space.len() as u64);
            assert_eq!(verifier.piece_layers_length(), built.piece_layers.len());
            let pieces = 0..metainfo.piece_count();
            for piece in pieces.clone() {
                // Without layers: v1 by its hashes, v2 where a file is no longer than a piece.
                let verdict = check(&verifier, &built, piece);
                if version == Version::V2 && verdict != Verdict::Good {
                    assert_eq!(verdict, Verdict::NeedLayers);
                    assert!(!verifier.can_check_piece(piece));
                    let first = metainfo.piece_chunks(piece).start;
                    let bytes = content::chunk(&metainfo, &built.space, first);
                    assert_eq!(verifier.check_chunk(first, bytes), Verdict::NeedLayers);
                } else {
                    assert_eq!(verdict, Verdict::Good);
                    assert!(verifier.can_check_piece(piece));
                }
            }
            let layers = Bytes::from(built.piece_layers.clone());
            if version == Version::V1 {
                assert_eq!(
                    verifier.add_piece_layers(layers),
                    Err(HashesError::NotApplicable)
                );
                continue;
            }
            verifier.add_piece_layers(layers).unwrap();
            for piece in pieces {
                assert_eq!(check(&verifier, &built, piece), Verdict::Good);
                let range = metainfo.piece_chunks(piece);
                let leaves = &built.leaf_hashes[range.start as usize * 32..range.end as usize * 32];
                verifier.add_leaf_hashes(piece, leaves).unwrap();
                for chunk in range {
                    let bytes = content::chunk(&metainfo, &built.space, chunk);
                    assert_eq!(verifier.check_chunk(chunk, bytes), Verdict::Good);
                }
            }
        }
    }
}

#[test]
fn wrong_layers_are_refused_and_change_nothing() {
    let built = edges(Version::V2, 2 * CHUNK);
    let mut verifier = verifier(&built);
    let layers = &built.piece_layers;
    for length in [0, 1, layers.len() - 32, layers.len() - 1, layers.len() + 32] {
        let mut other = layers.clone();
        other.resize(length, 0);
        assert_eq!(
            verifier.add_piece_layers(other.into()),
            Err(HashesError::Length)
        );
    }
    for at in 0..layers.len() {
        let mut wrong = layers.clone();
        wrong[at] ^= 0x10;
        assert_eq!(
            verifier.add_piece_layers(wrong.into()),
            Err(HashesError::Wrong)
        );
    }
    let mut swapped = layers.clone();
    swapped.rotate_left(32);
    assert_eq!(
        verifier.add_piece_layers(swapped.into()),
        Err(HashesError::Wrong)
    );
    assert!(verifier.lacks_piece_layers());
    verifier.add_piece_layers(layers.clone().into()).unwrap();
    assert!(!verifier.lacks_piece_layers());
}

#[test]
fn leaf_hashes_are_checked_before_use() {
    let content = noise(5, 9 * CHUNK + 5);
    let built = torrent(Version::V2, "x", &[("x", content.clone())], 4 * CHUNK);
    let mut verifier = verifier(&built);
    let leaves = |piece: usize| {
        &built.leaf_hashes[piece * 128..(piece * 128 + 128).min(built.leaf_hashes.len())]
    };
    assert_eq!(
        verifier.add_leaf_hashes(0, leaves(0)),
        Err(HashesError::NeedLayers)
    );
    verifier
        .add_piece_layers(built.piece_layers.clone().into())
        .unwrap();
    assert_eq!(
        verifier.check_chunk(0, &content[..CHUNK]),
        Verdict::NeedPiece
    );
    assert_eq!(
        verifier.add_leaf_hashes(0, leaves(1)),
        Err(HashesError::Wrong)
    );
    assert_eq!(
        verifier.add_leaf_hashes(0, leaves(2)),
        Err(HashesError::Length)
    );
    assert_eq!(verifier.add_leaf_hashes(0, &[]), Err(HashesError::Length));
    assert_eq!(
        verifier.add_leaf_hashes(3, leaves(0)),
        Err(HashesError::NotApplicable)
    );
    assert_eq!(
        verifier.add_leaf_hashes(u32::MAX, leaves(0)),
        Err(HashesError::NotApplicable)
    );
    assert!(!verifier.knows_chunk(0));
    for piece in 0..3 {
        verifier
            .add_leaf_hashes(piece as u32, leaves(piece))
            .unwrap();
        // Twice is no harm.
        verifier
            .add_leaf_hashes(piece as u32, leaves(piece))
            .unwrap();
    }
    for (chunk, bytes) in content.chunks(CHUNK).enumerate() {
        assert!(verifier.knows_chunk(chunk as u32));
        assert_eq!(verifier.check_chunk(chunk as u32, bytes), Verdict::Good);
    }
    // Another chunk's bytes, too few, too many, none, and no chunk of ours.
    assert_eq!(
        verifier.check_chunk(0, &content[CHUNK..2 * CHUNK]),
        Verdict::Bad
    );
    assert_eq!(verifier.check_chunk(0, &content[..CHUNK - 1]), Verdict::Bad);
    assert_eq!(verifier.check_chunk(0, &content[..CHUNK + 1]), Verdict::Bad);
    assert_eq!(
        verifier.check_chunk(9, &content[9 * CHUNK..][..4]),
        Verdict::Bad
    );
    assert_eq!(verifier.check_chunk(9, &[]), Verdict::Bad);
    assert_eq!(verifier.check_chunk(u32::MAX, &content[..5]), Verdict::Bad);
    verifier.forget_leaf_hashes(0);
    assert_eq!(
        verifier.check_chunk(0, &content[..CHUNK]),
        Verdict::NeedPiece
    );
    assert_eq!(
        verifier.check_chunk(4, &content[4 * CHUNK..5 * CHUNK]),
        Verdict::Good
    );
}

#[test]
fn remembered_leaf_hashes_are_bounded() {
    // 2.5 GiB of one chunk that repeats, so that its trees are made of few hashes.
    let (pieces, width) = (40usize, 4096usize);
    let chunk = noise(1, CHUNK);
    let leaf = super::super::leaf_hash(&chunk);
    let root = |node, levels: u32| {
        (0..levels).fold(node, |node: [u8; 32], _| {
            use sha2::{Digest, Sha256};
            Sha256::digest([node, node].concat()).into()
        })
    };
    let piece_root = root(leaf, 12);
    let layer = vec![piece_root; pieces];
    let tree = super::super::merkle::root(layer.clone(), 6, super::super::merkle::missing_root(12));
    let file = dict([
        ("length", int(pieces * width * CHUNK)),
        ("pieces root", bytes(tree.unwrap())),
    ]);
    let info = dict([
        ("file tree", dict([("x", dict([("", file)]))])),
        ("meta version", int(2)),
        ("name", bytes("x")),
        ("piece length", int(width * CHUNK)),
    ]);
    let metainfo = Metainfo::from_trusted_info(info.encoded().into()).unwrap();
    let mut verifier = Verifier::new(Arc::new(metainfo));
    verifier.add_piece_layers(layer.concat().into()).unwrap();
    let leaves = vec![leaf; width].concat();
    for piece in 0..pieces as u32 {
        verifier.add_leaf_hashes(piece, &leaves).unwrap();
        assert_eq!(
            verifier.check_chunk(piece * 4096 + 9, &chunk),
            Verdict::Good
        );
    }
    // 2^17 hashes are those of 32 pieces: the first eight are forgotten, and asked for again.
    let known = |verifier: &Verifier, piece: u32| verifier.knows_chunk(piece * 4096);
    assert!((0..8).all(|piece| !known(&verifier, piece)));
    assert!((8..40).all(|piece| known(&verifier, piece)));
    verifier.add_leaf_hashes(0, &leaves).unwrap();
    assert!(known(&verifier, 0) && !known(&verifier, 8) && known(&verifier, 9));
}

#[test]
fn pieces_chunk_by_chunk() {
    for version in [Version::V1, Version::Hybrid, Version::V2] {
        let content = noise(6, 4 * CHUNK + 5);
        let built = torrent(version, "x", &[("x", content.clone())], 4 * CHUNK);
        let mut verifier = verifier(&built);
        let chunks: Vec<&[u8]> = content.chunks(CHUNK).collect();
        // Layers may come while a piece is under way.
        let mut check = verifier.begin_piece(0);
        for chunk in &chunks[..4] {
            verifier.continue_piece(&mut check, chunk);
        }
        let verdict = verifier.finish_piece(check.clone());
        assert_eq!(
            verdict,
            if version == Version::V2 {
                Verdict::NeedLayers
            } else {
                Verdict::Good
            }
        );
        if version != Version::V1 {
            verifier
                .add_piece_layers(built.piece_layers.clone().into())
                .unwrap();
        }
        assert_eq!(verifier.finish_piece(check.clone()), Verdict::Good);
        // One too many.
        verifier.continue_piece(&mut check, chunks[4]);
        assert_eq!(verifier.finish_piece(check), Verdict::Bad);
        assert_eq!(verifier.check_piece(1, [chunks[4]]), Verdict::Good);
        assert_eq!(
            verifier.check_piece(0, chunks[..3].iter().copied()),
            Verdict::Bad
        );
        assert_eq!(
            verifier.check_piece(0, [chunks[1], chunks[0], chunks[2], chunks[3]]),
            Verdict::Bad
        );
        assert_eq!(verifier.check_piece(0, []), Verdict::Bad);
        assert_eq!(verifier.check_piece(2, []), Verdict::Bad);
        assert_eq!(verifier.check_piece(u32::MAX, [chunks[0]]), Verdict::Bad);
    }
}

#[test]
fn pieces_of_one_chunk_need_no_more() {
    for version in [Version::V1, Version::Hybrid, Version::V2] {
        let content = noise(7, 3 * CHUNK + 5);
        let built = torrent(version, "x", &[("x", content.clone())], CHUNK);
        let mut verifier = verifier(&built);
        if version != Version::V1 {
            verifier
                .add_piece_layers(built.piece_layers.clone().into())
                .unwrap();
        }
        for (chunk, bytes) in content.chunks(CHUNK).enumerate() {
            assert!(verifier.knows_chunk(chunk as u32));
            assert_eq!(verifier.check_chunk(chunk as u32, bytes), Verdict::Good);
            let mut wrong = bytes.to_vec();
            wrong[3] ^= 1;
            assert_eq!(verifier.check_chunk(chunk as u32, &wrong), Verdict::Bad);
        }
    }
}

#[test]
fn a_hybrid_whose_halves_hash_different_content() {
    // The files agree, the hashes do not: v1's are of other bytes than v2's.
    let (by_v1, by_v2) = (noise(8, 4 * CHUNK), noise(9, 4 * CHUNK));
    let v1 = torrent(Version::Hybrid, "x", &[("x", by_v1.clone())], 2 * CHUNK);
    let v2 = torrent(Version::Hybrid, "x", &[("x", by_v2.clone())], 2 * CHUNK);
    let at = |info: &[u8]| {
        info.windows(9)
            .position(|window| window == b"6:pieces4")
            .unwrap()
    };
    let mut info = v2.info.clone();
    let end = |info: &[u8]| at(info) + b"6:pieces40:".len() + 40;
    info[at(&v2.info)..end(&v2.info)].copy_from_slice(&v1.info[at(&v1.info)..end(&v1.info)]);
    let metainfo = Metainfo::from_trusted_info(info.into()).unwrap();
    let mut verifier = Verifier::new(Arc::new(metainfo));

    let piece = |content: &'static [u8]| content.chunks(CHUNK).take(2);
    let (by_v1, by_v2): (&'static [u8], &'static [u8]) = (by_v1.leak(), by_v2.leak());
    assert_eq!(verifier.check_piece(0, piece(by_v1)), Verdict::Good);
    assert_eq!(verifier.check_piece(0, piece(by_v2)), Verdict::Bad);
    verifier.add_piece_layers(v2.piece_layers.into()).unwrap();
    // v2 decides, and an honest v1 source is not blamed.
    assert_eq!(verifier.check_piece(0, piece(by_v2)), Verdict::Good);
    assert_eq!(verifier.check_piece(0, piece(by_v1)), Verdict::Bad);
    assert!(verifier.is_contradiction(0, piece(by_v1)));
    assert!(!verifier.is_contradiction(0, [&[0u8; CHUNK][..], &[0u8; CHUNK]]));
}

#[test]
fn a_changed_bit_anywhere_is_bad() {
    let mut random = Random(4);
    for version in [Version::V1, Version::Hybrid, Version::V2] {
        let built = edges(version, 4 * CHUNK);
        let mut verifier = verifier(&built);
        if version != Version::V1 {
            verifier
                .add_piece_layers(built.piece_layers.clone().into())
                .unwrap();
        }
        let metainfo = verifier.metainfo().clone();
        for _ in 0..300 {
            let at = random.below(built.space.len());
            let chunk = (at / CHUNK) as u32;
            let mut space = built.space.clone();
            space[at] ^= 1 << random.below(8);
            let piece = metainfo.piece_of(chunk);
            let chunks = content::chunks(&metainfo, &space, metainfo.piece_chunks(piece));
            let is_content = at % CHUNK < metainfo.chunk_length(chunk) as usize;
            let expected = if is_content {
                Verdict::Bad
            } else {
                Verdict::Good
            };
            assert_eq!(verifier.check_piece(piece, chunks), expected);
        }
    }
}
