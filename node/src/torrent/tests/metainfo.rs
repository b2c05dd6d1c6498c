//! Info dictionaries and `.torrent` files as the world has them, beyond what libtorrent makes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{
    CHUNK_LEN, Infohash, InfohashV1, InfohashV2, Magnet, Metainfo, MetainfoError, TorrentFile,
    Verdict, Verifier,
};
use super::build::{B, Built, Version, bytes, dict, int, list, noise, torrent};

const CHUNK: usize = CHUNK_LEN as usize;

fn read(info: &B) -> Metainfo {
    Metainfo::from_trusted_info(info.encoded().into()).unwrap()
}

/// A v1 dictionary of one file, and the hashes that its length asks for.
fn one(length: usize) -> B {
    dict([
        ("length", int(length)),
        ("name", bytes("film.mp4")),
        ("piece length", int(CHUNK)),
        ("pieces", bytes(vec![7; length.div_ceil(CHUNK) * 20])),
    ])
}

/// A v1 dictionary of many files.
fn many(files: impl IntoIterator<Item = B>, total: usize) -> B {
    one(total)
        .with("length", None)
        .with("files", Some(list(files)))
}

fn file(length: usize, path: &[&[u8]]) -> B {
    dict([
        ("length", int(length)),
        ("path", list(path.iter().map(bytes))),
    ])
}

#[test]
fn the_name_decides_whether_metadata_is_taken() {
    let info = one(5).encoded();
    let (v1, v2) = (InfohashV1::of(&info), InfohashV2::of(&info));
    let mut wrong = v1;
    wrong.0[19] ^= 1;

    for magnet in [
        Magnet::new(v1),
        Magnet::new(v2),
        Magnet {
            v2: Some(v2),
            ..Magnet::new(v1)
        },
    ] {
        assert!(Metainfo::from_info(info.clone(), &magnet).is_ok());
        assert!(magnet.infohash().unwrap().names(&info));
    }
    // Both names must be right.
    for magnet in [
        Magnet::new(wrong),
        Magnet {
            v2: Some(v2),
            ..Magnet::new(wrong)
        },
    ] {
        let refused = Metainfo::from_info(info.clone(), &magnet).unwrap_err();
        assert!(refused.is_senders_fault());
        assert_eq!(refused, MetainfoError::WrongHash);
    }
    let refused = Metainfo::from_info(info.clone(), &Magnet::default()).unwrap_err();
    assert_eq!(refused, MetainfoError::NothingExpected);
    assert!(!Infohash::V1(wrong).names(&info));
}

#[test]
fn chunks_and_pieces_of_odd_lengths() {
    for length in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 7 * CHUNK + 5] {
        for chunks_per_piece in [1, 2, 3, 4] {
            let piece_length = chunks_per_piece * CHUNK;
            let hashes = vec![0; length.div_ceil(piece_length) * 20];
            let info = one(length).with("piece length", Some(int(piece_length)));
            let metainfo = read(&info.with("pieces", Some(bytes(hashes))));
            let chunks = metainfo.chunk_count();
            assert_eq!(chunks as usize, length.div_ceil(CHUNK));
            assert_eq!(
                (0..chunks)
                    .map(|c| metainfo.chunk_length(c) as usize)
                    .sum::<usize>(),
                length
            );
            let pieces = 0..metainfo.piece_count();
            assert_eq!(
                pieces
                    .clone()
                    .flat_map(|p| metainfo.piece_chunks(p))
                    .collect::<Vec<_>>(),
                (0..chunks).collect::<Vec<_>>()
            );
            for piece in pieces {
                assert!(
                    metainfo
                        .piece_chunks(piece)
                        .all(|chunk| metainfo.piece_of(chunk) == piece)
                );
            }
            // What is none of ours is empty, not a panic.
            for beyond in [chunks, chunks + 1, u32::MAX] {
                assert_eq!(metainfo.chunk_length(beyond), 0);
                assert!(metainfo.is_padding_chunk(beyond));
                assert!(metainfo.piece_chunks(beyond).is_empty());
            }
            assert_eq!(metainfo.chunks_of(0..length as u64), 0..chunks);
            assert_eq!(metainfo.chunks_of(0..u64::MAX), 0..chunks);
            assert_eq!(metainfo.chunks_of(0..1), 0..1);
            assert_eq!(
                metainfo.chunks_of(length as u64 - 1..length as u64),
                chunks - 1..chunks
            );
            assert!(metainfo.chunks_of(0..0).is_empty());
            assert!(metainfo.chunks_of(u64::MAX - 1..u64::MAX).is_empty());
            assert!(metainfo.chunks_of(Range { start: 5, end: 3 }).is_empty());
        }
    }
}

#[test]
fn padding_is_never_asked_for() {
    let pad = |length| file(length, &[b".pad", b"x"]).with("attr", Some(bytes("p")));
    // Padding that aligns nothing, at the beginning, in the middle of a chunk, over several.
    let metainfo = read(&many(
        [
            pad(10),
            file(5, &[b"a"]),
            pad(20),
            file(0, &[b"empty"]),
            file(CHUNK, &[b"b"]),
            pad(3 * CHUNK),
            file(1, &[b"c"]),
            pad(7),
        ],
        10 + 5 + 20 + CHUNK + 3 * CHUNK + 1 + 7,
    ));
    assert_eq!(metainfo.total_length(), 5 + CHUNK as u64 + 1);
    assert_eq!(metainfo.space_length(), 4 * CHUNK as u64 + 43);
    let lengths: Vec<u32> = (0..5).map(|chunk| metainfo.chunk_length(chunk)).collect();
    // Padding before content belongs to its chunk; after it, it is left out.
    assert_eq!(lengths, [CHUNK_LEN, 35, 0, 0, 36]);
    let padding: Vec<bool> = metainfo.files().iter().map(|file| file.padding).collect();
    assert_eq!(
        padding,
        [true, false, true, false, false, true, false, true]
    );
}

#[test]
fn padding_counts_in_v1_hashes() {
    use sha1::{Digest, Sha1};
    let mut space = noise(1, 100);
    space.resize(2 * CHUNK, 0);
    let pad = file(2 * CHUNK - 100, &[b"pad"]).with("attr", Some(bytes("xp")));
    let info = many([file(100, &[b"a"]), pad], 2 * CHUNK)
        .with("piece length", Some(int(2 * CHUNK)))
        .with("pieces", Some(bytes(Sha1::digest(&space))));
    let verifier = Verifier::new(Arc::new(read(&info)));
    assert_eq!(verifier.check_piece(0, [&space[..100], &[]]), Verdict::Good);
    assert_eq!(verifier.check_piece(0, [&space[..101], &[]]), Verdict::Bad);
    assert_eq!(
        verifier.check_piece(0, [&space[..CHUNK], &space[CHUNK..]]),
        Verdict::Bad
    );
    assert_eq!(verifier.check_chunk(1, &[]), Verdict::Good);
    assert_eq!(verifier.check_chunk(0, &space[..100]), Verdict::NeedPiece);
}

#[test]
fn names_in_other_encodings_and_their_utf8_variants() {
    let gbk = b"\xb5\xe7\xd3\xb0"; // 电影
    let metainfo = read(&one(5).with("name", Some(bytes(gbk))));
    assert_eq!(metainfo.name(), "\u{FFFD}\u{FFFD}Ӱ");
    let info = one(5)
        .with("name", Some(bytes(gbk)))
        .with("name.utf-8", Some(bytes("电影")));
    let metainfo = read(&info);
    assert_eq!(metainfo.name(), "电影");
    assert_eq!(metainfo.files()[0].path, ["电影"]);

    let twice = file(5, &[gbk, b"a"]).with("path.utf-8", Some(list([bytes("电影"), bytes("a")])));
    let metainfo = read(&many([twice, file(5, &[b"..", gbk, b"a/b"])], 10));
    assert_eq!(metainfo.files()[0].path, ["电影", "a"]);
    assert_eq!(metainfo.files()[1].path, ["_", "\u{FFFD}\u{FFFD}Ӱ", "a_b"]);
}

#[test]
fn unusual_but_honest() {
    // Keys out of order, keys that nobody knows, a symbolic link without a length, the same path
    // twice, an old `meta version`.
    let B::Dict(mut entries) = many(
        [
            file(5, &[b"a"]),
            file(4, &[b"a"]),
            dict([
                ("attr", bytes("l")),
                ("path", list([bytes("link")])),
                ("symlink path", list([bytes("a")])),
            ]),
        ],
        9,
    )
    .with("private", Some(int(1)))
    .with("meta version", Some(int(1)))
    .with("x_unknown", Some(list([dict([]), B::Int(-5), list([])]))) else {
        unreachable!()
    };
    entries.reverse();
    let metainfo = read(&B::Dict(entries));
    assert!(metainfo.is_private());
    assert_eq!(metainfo.v2(), None);
    let lengths: Vec<u64> = metainfo.files().iter().map(|file| file.length).collect();
    assert_eq!(lengths, [5, 4, 0]);
    assert!(!read(&one(5).with("private", Some(int(0)))).is_private());
}

#[test]
fn hybrids_with_padding_after_the_last_file() {
    let files = [("a", noise(1, 5)), ("b", noise(2, CHUNK + 5))];
    let built = torrent(Version::Hybrid, "both", &files, 2 * CHUNK);
    let metainfo = Metainfo::from_trusted_info(built.info.into()).unwrap();
    assert_eq!(metainfo.piece_count(), 2);
    assert_eq!(metainfo.files().len(), 3);
    assert!(metainfo.files()[0].pieces_root.is_some() && metainfo.files()[2].pieces_root.is_some());
    assert_eq!(metainfo.infohash(), Infohash::V1(metainfo.v1().unwrap()));
}

/// The info dictionary as a whole: what BEP 3 says, `info` and what stands around it.
fn around(built: &Built, piece_layers: Option<B>) -> B {
    let mut file = dict([("info", B::Raw(built.info.clone()))]);
    if let Some(layers) = piece_layers {
        file = file.with("piece layers", Some(layers));
    }
    file
}

#[test]
fn torrent_files() {
    let files = [
        ("a", noise(1, 5 * CHUNK)),
        ("b", noise(2, 5)),
        ("c", noise(1, 5 * CHUNK)),
    ];
    let built = torrent(Version::V2, "twins", &files, 2 * CHUNK);
    let root = super::build::file_root(&files[0].1);
    // Two files of the same content share a layer, which comes twice in the section.
    let layer = built.piece_layers[..96].to_vec();
    assert_eq!(built.piece_layers, [&layer[..], &layer[..]].concat());
    let layers = |root: &[u8], layer: &[u8]| Some(B::Dict(vec![(root.into(), bytes(layer))]));

    let good = around(&built, layers(&root, &layer));
    let parsed = TorrentFile::parse(&good.encoded()).unwrap();
    assert_eq!(
        parsed.piece_layers,
        Some(Bytes::from(built.piece_layers.clone()))
    );
    assert_eq!(parsed.magnet.v2, Some(InfohashV2::of(&built.info)));
    assert_eq!(parsed.magnet.v1, None);
    // A line break at the end is no matter.
    assert!(TorrentFile::parse(&[&good.encoded()[..], b"\r\n"].concat()).is_ok());
    // A file without layers can have them asked for.
    let without = TorrentFile::parse(&around(&built, None).encoded()).unwrap();
    assert_eq!(without.piece_layers, None);

    let mut wrong = layer.clone();
    wrong[40] ^= 1;
    for bad in [
        layers(&root, &wrong),
        layers(&root, &layer[..64]),
        layers(&root, &[&layer[..], &layer[..32]].concat()),
        layers(&root, &layer.repeat(1000)),
        layers(&[3; 32], &layer),
        layers(b"", &layer),
        Some(dict([])),
        Some(list([])),
        Some(B::Dict(vec![(root.to_vec(), int(5))])),
    ] {
        let refused = TorrentFile::parse(&around(&built, bad).encoded()).unwrap_err();
        assert_eq!(refused, MetainfoError::PieceLayers);
    }
}

#[test]
fn trackers_and_seeds_of_torrent_files() {
    let built = torrent(Version::V1, "x", &[("x", noise(1, 5))], CHUNK);
    let file = around(&built, None)
        .with("announce", Some(bytes("udp://one.example:1")))
        .with(
            "announce-list",
            Some(list([
                list([
                    bytes("udp://one.example:1"),
                    bytes("http://two.example/"),
                    bytes(b"\xff"),
                ]),
                list([int(5), bytes("dht://x")]),
                bytes("http://flat.example/"),
                list([bytes("https://three.example/")]),
            ])),
        )
        .with("url-list", Some(bytes("http://seed.example/")));
    let magnet = TorrentFile::parse(&file.encoded()).unwrap().magnet;
    assert_eq!(
        magnet.trackers,
        [
            "udp://one.example:1",
            "http://two.example/",
            "https://three.example/"
        ]
    );
    assert_eq!(magnet.web_seeds, ["http://seed.example/"]);
    assert_eq!(magnet.name.as_deref(), Some("x"));
    let list_of = list([bytes("http://a.example/"), bytes("http://b.example/")]);
    let magnet = TorrentFile::parse(&file.with("url-list", Some(list_of)).encoded())
        .unwrap()
        .magnet;
    assert_eq!(magnet.web_seeds, ["http://a.example/", "http://b.example/"]);
}
