//! Metadata whose publisher means harm. Its infohash is right: nothing but the parser stands
//! between it and the tab.

use super::super::{
    CHUNK_LEN, MAX_CHUNKS, MAX_FILES, MAX_METADATA_LEN, MAX_PATH_DEPTH, MAX_PIECE_LEN, Magnet,
    Metainfo, MetainfoError, TorrentFile,
};
use super::build::{B, Version, bytes, dict, int, list, noise, torrent};

const CHUNK: usize = CHUNK_LEN as usize;
const TIB: usize = 1 << 40;

fn parse(info: Vec<u8>) -> Result<Metainfo, MetainfoError> {
    Metainfo::from_trusted_info(info.into())
}

fn refuse(info: &B) -> MetainfoError {
    refuse_raw(info.encoded())
}

fn refuse_raw(info: Vec<u8>) -> MetainfoError {
    // As a part of a .torrent file it is refused as well.
    let file = [b"d4:info", &info[..], b"e"].concat();
    assert!(TorrentFile::parse(&file).is_err());
    parse(info).expect_err("hostile metadata was taken")
}

fn refuse_bencode(info: Vec<u8>, why: &str) {
    match refuse_raw(info) {
        MetainfoError::Bencode(said) => assert!(said.contains(why), "{said}"),
        other => panic!("{other}"),
    }
}

/// A v1 dictionary of one file of 5 bytes that is taken as it is.
fn v1() -> B {
    dict([
        ("length", int(5)),
        ("name", bytes("film.mp4")),
        ("piece length", int(CHUNK)),
        ("pieces", bytes([7; 20])),
    ])
}

/// The same of many files.
fn v1_files(files: Vec<B>) -> B {
    v1().with("length", None)
        .with("files", Some(B::List(files)))
}

fn v1_file(length: i128, path: &[&str]) -> B {
    dict([
        ("length", B::Int(length)),
        ("path", list(path.iter().map(bytes))),
    ])
}

/// A v2 dictionary.
fn v2(tree: B) -> B {
    dict([
        ("file tree", tree),
        ("meta version", int(2)),
        ("name", bytes("films")),
        ("piece length", int(CHUNK)),
    ])
}

fn v2_file(length: usize) -> B {
    dict([(
        "",
        dict([("length", int(length)), ("pieces root", bytes([9; 32]))]),
    )])
}

#[test]
fn the_samples_are_good_before_they_are_spoilt() {
    assert!(parse(v1().encoded()).is_ok());
    assert!(parse(v1_files(vec![v1_file(5, &["a", "b"])]).encoded()).is_ok());
    assert!(parse(v2(dict([("a", v2_file(5))])).encoded()).is_ok());
}

#[test]
fn no_bencode_at_all() {
    for junk in [
        &b""[..],
        b"d",
        b"e",
        b"l",
        b"i",
        b"i5",
        b"5",
        b"5:",
        b"5:abc",
        b"x",
        b"\0",
        b"-1:x",
        b"d3:abc",
        b"di5ei6ee",
        b"d1:a",
        b"d1:ae",
        b"ie",
        b"i-e",
        b"i--5e",
        b"i5x",
        b"i 5e",
        b"<html>",
        b"d4:infod",
        b"\xff\xff\xff\xff",
        b"dl",
        b"d1:ad1:bl",
    ] {
        assert!(
            matches!(refuse_raw(junk.to_vec()), MetainfoError::Bencode(_)),
            "{junk:?}"
        );
    }
    for value in [&b"i5e"[..], b"le", b"5:abcde", b"0:"] {
        assert_eq!(refuse_raw(value.to_vec()), MetainfoError::Field("info"));
    }
    assert_eq!(
        refuse_raw(b"de".to_vec()),
        MetainfoError::Field("piece length")
    );
    // Something behind the dictionary.
    assert!(parse([v1().encoded(), b"x".to_vec()].concat()).is_err());
}

#[test]
fn lengths_of_strings_beyond_the_end_and_beyond_arithmetic() {
    for length in [
        "6",
        "999999999",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999",
    ] {
        refuse_bencode(format!("d4:name{length}:abcde").into_bytes(), "");
        refuse_bencode(format!("d{length}:abcde").into_bytes(), "");
        refuse_bencode(format!("l{length}:abcde").into_bytes(), "");
    }
    for number in [
        "18446744073709551616",
        "-9223372036854775809",
        &"9".repeat(5000),
    ] {
        refuse_bencode(
            v1().with("x", Some(B::Raw(format!("i{number}e").into())))
                .encoded(),
            "",
        );
    }
}

#[test]
fn deep_nesting() {
    for depth in [100, 10_000, MAX_METADATA_LEN / 2 - 100] {
        let nested = [vec![b'l'; depth], vec![b'e'; depth]].concat();
        refuse_bencode(
            v1().with("x", Some(B::Raw(nested.clone()))).encoded(),
            "nested too deeply",
        );
        refuse_bencode(nested, "nested too deeply");
        // Never closed.
        refuse_bencode(vec![b'l'; depth], "nested too deeply");
        let depth = depth / 2;
        let nested = [
            b"d1:a".repeat(depth / 2),
            b"de".to_vec(),
            vec![b'e'; depth / 2],
        ]
        .concat();
        if depth / 2 > 100 {
            refuse_bencode(
                v1().with("x", Some(B::Raw(nested))).encoded(),
                "nested too deeply",
            );
        }
    }
    // In what stands around the info dictionary as well, before it and behind it.
    for key in ["a", "z"] {
        let file = dict([("info", B::Raw(v1().encoded()))]);
        let file = file.with(key, Some(B::Raw(vec![b'l'; 5_000_000])));
        assert!(matches!(
            TorrentFile::parse(&file.encoded()),
            Err(MetainfoError::Bencode(_))
        ));
    }
}

#[test]
fn paths_deeper_than_the_limit() {
    let tree = |depth: usize| (0..depth).fold(v2_file(5), |tree, _| dict([("a", tree)]));
    assert!(parse(v2(tree(MAX_PATH_DEPTH)).encoded()).is_ok());
    assert_eq!(refuse(&v2(tree(MAX_PATH_DEPTH + 1))), MetainfoError::Path);
    let path = |depth: usize| v1_files(vec![v1_file(5, &vec!["a"; depth])]);
    assert!(parse(path(MAX_PATH_DEPTH).encoded()).is_ok());
    assert_eq!(refuse(&path(MAX_PATH_DEPTH + 1)), MetainfoError::Path);
    assert_eq!(refuse(&path(0)), MetainfoError::Path);
}

#[test]
fn too_many_values() {
    refuse_bencode(
        v1().with("x", Some(list(vec![int(0); 1_000_001])))
            .encoded(),
        "too many values",
    );
    refuse_bencode(b"le".repeat(MAX_METADATA_LEN / 2), "");
    let long = [&b"l"[..], &b"0:".repeat(MAX_METADATA_LEN / 2 - 1), b"e"].concat();
    refuse_bencode(long, "too many values");
}

#[test]
fn keys_twice_and_out_of_order() {
    let twice = |dict: B| {
        let B::Dict(mut entries) = dict else {
            unreachable!()
        };
        entries.push(entries[0].clone());
        B::Dict(entries).encoded()
    };
    refuse_bencode(twice(v1()), "twice");
    refuse_bencode(twice(v2(dict([("a", v2_file(5))]))), "twice");
    refuse_bencode(v1().with("x", Some(B::Raw(twice(v1())))).encoded(), "twice");
    let B::Dict(mut entries) = v1() else {
        unreachable!()
    };
    entries.insert(0, entries[1].clone());
    refuse_bencode(B::Dict(entries).encoded(), "twice");
    // Two files of one name, and a file tree in another order than everybody else would read it.
    let a = || (b"a".to_vec(), v2_file(5));
    let b = || (b"b".to_vec(), v2_file(5));
    refuse_bencode(v2(B::Dict(vec![a(), a()])).encoded(), "twice");
    assert_eq!(
        refuse(&v2(B::Dict(vec![b(), a()]))),
        MetainfoError::Unsorted
    );
    let inner = dict([("d", B::Dict(vec![b(), a()]))]);
    assert_eq!(refuse(&v2(inner)), MetainfoError::Unsorted);
}

#[test]
fn fields_that_are_missing_or_of_another_kind() {
    let wrong = || [None, Some(B::Int(-1)), Some(list([])), Some(dict([]))];
    for key in ["name", "piece length", "pieces", "length"] {
        for value in wrong() {
            assert_eq!(refuse(&v1().with(key, value)), MetainfoError::Field(key));
        }
    }
    for value in [B::Int(-5), bytes("5"), dict([])] {
        assert_eq!(
            refuse(&v1().with("length", Some(value))),
            MetainfoError::Field("length")
        );
    }
    // One length and many files at once.
    let both = v1_files(vec![v1_file(5, &["a"])]).with("length", Some(int(5)));
    assert_eq!(refuse(&both), MetainfoError::Field("length"));
    for files in [
        int(5),
        bytes("a"),
        dict([]),
        list([int(5)]),
        list([list([])]),
    ] {
        assert_eq!(
            refuse(&v1().with("length", None).with("files", Some(files))),
            MetainfoError::Field("files")
        );
    }
    assert_eq!(refuse(&v1_files(vec![])), MetainfoError::Empty);
    for key in ["length", "path"] {
        for value in wrong() {
            let refused = refuse(&v1_files(vec![v1_file(5, &["a"]).with(key, value)]));
            assert!(
                matches!(refused, MetainfoError::Field(_) | MetainfoError::Path),
                "{refused}"
            );
        }
    }
    let number = v1_file(5, &[]).with("path", Some(list([int(5)])));
    assert_eq!(
        refuse(&v1_files(vec![number])),
        MetainfoError::Field("path")
    );

    let tree = || dict([("a", v2_file(5))]);
    for value in wrong() {
        assert!(parse(v2(tree()).with("file tree", value.clone()).encoded()).is_err());
        assert!(parse(v2(tree()).with("meta version", value.clone()).encoded()).is_err());
        let file = dict([("length", int(5)), ("pieces root", bytes([9; 32]))]);
        for key in ["length", "pieces root"] {
            let file = file.clone().with(key, value.clone());
            let refused = refuse(&v2(dict([("a", dict([("", file)]))])));
            assert_eq!(refused, MetainfoError::Field(key));
        }
    }
    for length in [0, 20, 31, 33, 64] {
        let file = dict([("length", int(5)), ("pieces root", bytes(vec![9; length]))]);
        let refused = refuse(&v2(dict([("a", dict([("", file)]))])));
        assert_eq!(refused, MetainfoError::Field("pieces root"));
    }
}

#[test]
fn file_trees_that_are_none() {
    for tree in [int(5), bytes(""), list([])] {
        assert_eq!(refuse(&v2(tree)), MetainfoError::Field("file tree"));
    }
    for entry in [int(5), bytes(""), list([]), dict([("", int(5))])] {
        assert_eq!(
            refuse(&v2(dict([("a", entry)]))),
            MetainfoError::Field("file tree")
        );
    }
    // No file, only folders; a file that is a folder as well; a file without a name.
    assert_eq!(refuse(&v2(dict([]))), MetainfoError::Empty);
    assert_eq!(
        refuse(&v2(dict([("a", dict([("b", dict([]))]))]))),
        MetainfoError::Empty
    );
    let file = || dict([("length", int(5)), ("pieces root", bytes([9; 32]))]);
    assert_eq!(
        refuse(&v2(dict([("a", dict([("", file()), ("b", v2_file(5))]))]))),
        MetainfoError::Path
    );
    assert_eq!(refuse(&v2(dict([("", file())]))), MetainfoError::Path);
    assert_eq!(refuse(&v2(dict([("", v2_file(5))]))), MetainfoError::Path);
}

#[test]
fn versions_of_another_time() {
    let tree = dict([("a", v2_file(5))]);
    for version in [0, 3, usize::MAX] {
        let refused = refuse(&v2(tree.clone()).with("meta version", Some(int(version))));
        assert_eq!(refused, MetainfoError::Version(version as u64));
    }
}

#[test]
fn piece_lengths() {
    for length in [
        0,
        1,
        16383,
        16385,
        20000,
        MAX_PIECE_LEN as usize + CHUNK,
        1 << 32,
        (1 << 32) + CHUNK,
        usize::MAX,
    ] {
        let refused = refuse(&v1().with("piece length", Some(int(length))));
        assert_eq!(refused, MetainfoError::PieceLength(length as u64));
        let tree = dict([("a", v2_file(5))]);
        let refused = refuse(&v2(tree).with("piece length", Some(int(length))));
        assert_eq!(refused, MetainfoError::PieceLength(length as u64));
    }
    // v1 may have what is no power of two.
    let three = int(3 * CHUNK);
    assert!(parse(v1().with("piece length", Some(three.clone())).encoded()).is_ok());
    let refused = refuse(&v2(dict([("a", v2_file(5))])).with("piece length", Some(three)));
    assert_eq!(refused, MetainfoError::PieceLength(3 * CHUNK as u64));
}

#[test]
fn piece_hashes_that_do_not_fit_the_length() {
    for hashes in [0, 1, 19, 21, 39, 40, 20_000] {
        let refused = refuse(&v1().with("pieces", Some(bytes(vec![7; hashes]))));
        let expected = MetainfoError::PieceCount {
            found: hashes / 20,
            expected: 1,
        };
        assert_eq!(refused, expected);
    }
    let refused = refuse(&v1().with("length", Some(int(CHUNK + 1))));
    assert_eq!(
        refused,
        MetainfoError::PieceCount {
            found: 1,
            expected: 2
        }
    );
}

#[test]
fn sizes_beyond_the_limit_and_beyond_arithmetic() {
    for length in [4 * TIB + 1, 1 << 60, i64::MAX as usize, usize::MAX] {
        assert_eq!(
            refuse(&v1().with("length", Some(int(length)))),
            MetainfoError::TooLarge
        );
        assert_eq!(
            refuse(&v2(dict([("a", v2_file(length))]))),
            MetainfoError::TooLarge
        );
        let half = v1_file(length as i128 / 2 + 1, &["a"]);
        assert_eq!(refuse(&v1_files(vec![half; 2])), MetainfoError::TooLarge);
    }
    // Sums that would wrap around to something small.
    let wrapping = vec![
        v1_file(1 << 63, &["a"]),
        v1_file(1 << 63, &["b"]),
        v1_file(5, &["c"]),
    ];
    assert_eq!(refuse(&v1_files(wrapping)), MetainfoError::TooLarge);
    // Within the bytes, beyond the pieces.
    assert_eq!(
        refuse(&v1().with("length", Some(int(TIB)))),
        MetainfoError::TooLarge
    );
    let large = int(MAX_PIECE_LEN as usize);
    let largest = v2(dict([("a", v2_file(4 * TIB))])).with("piece length", Some(large.clone()));
    let metainfo = parse(largest.encoded()).unwrap();
    assert_eq!(metainfo.chunk_count(), MAX_CHUNKS);
    // Small files of large pieces: the space is what counts.
    let names: Vec<String> = (0..70_000).map(|i| format!("{i:05}")).collect();
    let files = dict(names.iter().map(|name| (&name[..], v2_file(1))));
    assert_eq!(
        refuse(&v2(files).with("piece length", Some(large))),
        MetainfoError::TooLarge
    );
}

#[test]
fn nothing_but_nothing() {
    assert_eq!(
        refuse(
            &v1()
                .with("length", Some(int(0)))
                .with("pieces", Some(bytes("")))
        ),
        MetainfoError::Empty
    );
    let empty = vec![v1_file(0, &["a"]); 1000];
    assert_eq!(
        refuse(&v1_files(empty).with("pieces", Some(bytes("")))),
        MetainfoError::Empty
    );
    let padding = v1_file(5, &["a"]).with("attr", Some(bytes("p")));
    assert_eq!(refuse(&v1_files(vec![padding])), MetainfoError::Empty);
    let empty = dict([("", dict([("length", int(0))]))]);
    assert_eq!(
        refuse(&v2(dict([("a", empty.clone())]))),
        MetainfoError::Empty
    );
    // Among others they are honest.
    let mixed = dict([("a", empty.clone()), ("b", v2_file(5)), ("c", empty)]);
    assert_eq!(parse(v2(mixed).encoded()).unwrap().files().len(), 3);
}

#[test]
fn billions_of_files() {
    let files = vec![v1_file(0, &["a"]); MAX_FILES + 1];
    assert_eq!(refuse(&v1_files(files)), MetainfoError::TooManyFiles);
    let mut files = vec![v1_file(0, &["a"]); MAX_FILES - 1];
    files.push(v1_file(5, &["b"]));
    let metainfo = parse(v1_files(files).encoded()).unwrap();
    assert_eq!(metainfo.files().len(), MAX_FILES);
    assert_eq!(metainfo.chunk_length(0), 5);
}

#[test]
fn hybrids_whose_halves_disagree() {
    let files = [
        ("a", noise(1, CHUNK + 1)),
        ("b", noise(2, 5)),
        ("c", noise(3, 0)),
    ];
    let honest = torrent(Version::Hybrid, "x", &files, 2 * CHUNK).info;
    assert!(parse(honest).is_ok());
    let hybrid = |v1: &[(&str, i128, &str)], v2_files: &[(&str, usize)]| {
        let of_v1 = v1
            .iter()
            .map(|(path, length, attr)| v1_file(*length, &[path]).with("attr", Some(bytes(attr))));
        let pieces = v1
            .iter()
            .map(|(_, length, _)| *length as usize)
            .sum::<usize>()
            .div_ceil(CHUNK);
        v2(dict(
            v2_files
                .iter()
                .map(|(path, length)| (*path, v2_file(*length))),
        ))
        .with("files", Some(list(of_v1)))
        .with("pieces", Some(bytes(vec![7; pieces * 20])))
    };
    let pad = CHUNK as i128 - 5;
    let tree = [("a", 5), ("b", 7)];
    assert!(parse(hybrid(&[("a", 5, ""), ("p", pad, "p"), ("b", 7, "")], &tree).encoded()).is_ok());
    // The last piece may be padded to its end.
    let padded = [
        ("a", 5, ""),
        ("p", pad, "p"),
        ("b", 7, ""),
        ("p", pad - 2, "p"),
    ];
    assert!(parse(hybrid(&padded, &tree).encoded()).is_ok());
    for halves in [
        hybrid(&[("a", 5, ""), ("b", 7, "")], &tree),
        hybrid(&[("a", 5, ""), ("p", pad - 1, "p"), ("b", 7, "")], &tree),
        hybrid(
            &[("a", 5, ""), ("p", pad + CHUNK as i128, "p"), ("b", 7, "")],
            &tree,
        ),
        hybrid(&[("a", 5, ""), ("p", pad, ""), ("b", 7, "")], &tree),
        hybrid(&[("a", 5, ""), ("p", pad, "p"), ("b", 8, "")], &tree),
        hybrid(&[("a", 5, ""), ("p", pad, "p"), ("B", 7, "")], &tree),
        hybrid(&[("b", 7, ""), ("p", pad - 2, "p"), ("a", 5, "")], &tree),
        hybrid(&[("a", 5, "")], &tree),
        hybrid(&[("a", 5, ""), ("p", pad, "p"), ("b", 7, "p")], &tree),
        hybrid(&[("a", 5, ""), ("p", pad, "p"), ("b", 7, "")], &tree[..1]),
        hybrid(
            &[
                ("a", 5, ""),
                ("p", pad, "p"),
                ("b", 7, ""),
                ("p", pad - 1, "p"),
            ],
            &tree,
        ),
        hybrid(
            &[
                ("p", CHUNK as i128, "p"),
                ("a", 5, ""),
                ("p", pad, "p"),
                ("b", 7, ""),
            ],
            &tree,
        ),
    ] {
        assert_eq!(refuse(&halves), MetainfoError::Contradiction);
    }
}

#[test]
fn paths_that_would_climb() {
    let tricks = [
        "..",
        ".",
        "",
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\x",
        "a\0b",
        "\u{202E}gpj.exe",
        "CON",
    ];
    let files: Vec<B> = tricks
        .iter()
        .map(|name| v1_file(1, &["..", name]))
        .collect();
    let mut metainfos = vec![parse(v1_files(files).encoded()).unwrap()];
    let mut names: Vec<&str> = tricks
        .iter()
        .copied()
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    let tree = dict(names.iter().map(|name| (*name, v2_file(1))));
    metainfos.push(parse(v2(dict([("..", tree)])).encoded()).unwrap());
    for name in tricks {
        metainfos.push(parse(v1().with("name", Some(bytes(name))).encoded()).unwrap());
    }
    for metainfo in &metainfos {
        for name in metainfo
            .files()
            .iter()
            .flat_map(|file| &file.path)
            .chain([&metainfo.name().to_owned()])
        {
            assert!(
                !name.is_empty() && name != "." && name != ".." && name != "CON",
                "{name:?}"
            );
            assert!(!name.contains(['/', '\\', '\0', '\u{202E}']), "{name:?}");
        }
    }
}

#[test]
fn longer_than_the_limit() {
    let long = vec![b'd'; MAX_METADATA_LEN + 1];
    let magnet: Magnet = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a".parse().unwrap();
    let expected = MetainfoError::TooLong {
        length: MAX_METADATA_LEN + 1,
        limit: MAX_METADATA_LEN,
    };
    assert_eq!(
        Metainfo::from_info(long.clone(), &magnet).err(),
        Some(expected.clone())
    );
    assert_eq!(refuse_raw(long), expected);
}
