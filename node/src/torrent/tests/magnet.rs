//! Magnet links as people have them, and as people damage them.

use super::super::{Infohash, MAX_MAGNET_HINTS, MAX_MAGNET_LEN, Magnet, MagnetError};
use super::build::Random;

const V1: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
const V1_BASE32: &str = "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK";
const V2: &str = "caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e";

fn read(text: &str) -> Magnet {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refuse(text: &str) -> MagnetError {
    text.parse::<Magnet>().expect_err(text)
}

fn hash(text: &str) -> String {
    read(text).infohash().unwrap().to_string()
}

#[test]
fn every_way_to_write_an_infohash() {
    for text in [
        V1.to_owned(),
        V1.to_uppercase(),
        V1_BASE32.to_owned(),
        V1_BASE32.to_lowercase(),
        format!("  {V1}\r\n"),
        format!("urn:btih:{V1}"),
        format!("magnet:?xt=urn:btih:{V1}"),
        format!("magnet:?xt=urn:btih:{V1_BASE32}"),
        format!("MAGNET:?XT=URN:BTIH:{}", V1.to_uppercase()),
        format!("magnet:?dn=x&xt=urn:btih:{V1}"),
        format!("magnet:?dn=x&amp;xt=urn:btih:{V1}&amp;tr=udp://t.example"),
        format!("magnet:?xt.1=urn:btih:{V1}&xt.2=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C"),
        format!("magnet:?xt=urn%3Abtih%3A{V1}"),
        format!("magnet%3A%3Fxt%3Durn%3Abtih%3A{V1}%26dn%3Dx"),
        format!("magnet://?xt=urn:btih:{V1}"),
        format!("magnet:?xt=urn:btih:{V1}#player"),
        format!("magnet:?xt=urn:btih:{V1}&xt=urn:btih:{V1_BASE32}"),
        format!("magnet:?xt=urn:btih:{V1}&so=0,2,4-6&select-only=1&kt=a+b&xl=17&mt=%zz&broken"),
    ] {
        assert_eq!(hash(&text), V1, "{text}");
    }
    for text in [
        V2.to_owned(),
        format!("1220{V2}"),
        format!("magnet:?xt=urn:btmh:1220{V2}"),
        format!("urn:btmh:1220{}", V2.to_uppercase()),
    ] {
        assert_eq!(hash(&text), V2, "{text}");
    }
    let hybrid = read(&format!("magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{V2}"));
    assert_eq!(hybrid.v1.map(|hash| hash.to_string()), Some(V1.to_owned()));
    assert_eq!(hybrid.v2.map(|hash| hash.to_string()), Some(V2.to_owned()));
    assert!(matches!(hybrid.infohash(), Some(Infohash::V1(_))));
}

#[test]
fn what_a_link_says_besides() {
    let magnet = read(&format!(
        "magnet:?xt=urn:btih:{V1}&dn=%D9%81%DB%8C%D9%84%D9%85+one%2Btwo%2F..%2F%E2%80%AEgpj.exe\
         &dn=second\
         &tr=udp%3A%2F%2Ftracker.example%3A80%2Fannounce&tr=udp://tracker.example:80/announce\
         &tr.2=https://t.example/a%3Fkey=1%26x&tr=javascript:alert(1)&tr=http:///nohost&tr=%ff%fe\
         &tr=http://has%20space.example/&tr=&tr=wss://w.example\
         &x.pe=192.0.2.7:6881&x.pe=%5B2001%3Adb8%3A%3A1%5D%3A51413&x.pe=host.example:6881\
         &x.pe=192.0.2.7:0&x.pe=0.0.0.0:1&x.pe=192.0.2.7:6881\
         &ws=https://seed.example/a+b&ws=ftp://seed.example/"
    ));
    // The slash is no folder any longer, the override turns nothing around.
    assert_eq!(magnet.name.as_deref(), Some("فیلم one+two_.._gpj.exe"));
    assert_eq!(
        magnet.trackers,
        [
            "udp://tracker.example:80/announce",
            "https://t.example/a?key=1&x",
            "wss://w.example"
        ]
    );
    assert_eq!(
        magnet.peers,
        [
            "192.0.2.7:6881".parse().unwrap(),
            "[2001:db8::1]:51413".parse().unwrap()
        ]
    );
    assert_eq!(magnet.web_seeds, ["https://seed.example/a+b"]);
    assert_eq!(read(&magnet.to_string()), magnet);
}

#[test]
fn what_is_not_a_link_is_refused_with_advice() {
    assert_eq!(refuse(""), MagnetError::Empty);
    assert_eq!(refuse(" \n"), MagnetError::Empty);
    for text in [
        "ubuntu",
        "magnet",
        "magnet.example",
        &V1[1..],
        &format!("{V1}0"),
        "عکس",
        "%",
        "%3A",
    ] {
        assert_eq!(refuse(text), MagnetError::NotAMagnet, "{text}");
    }
    for text in [
        "https://example.org/x.torrent",
        "HTTP://example.org/",
        "file:///x.torrent",
    ] {
        assert_eq!(refuse(text), MagnetError::WebAddress, "{text}");
    }
    for text in [
        "magnet:",
        "magnet:?",
        "magnet:?dn=name",
        "magnet:?xt=",
        "magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C",
        "magnet:?xt=urn:ed2k:354B15E68FB8F36D7CD88FF94116CDC1",
        "magnet:?xs=urn:btpk:8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e",
    ] {
        assert_eq!(refuse(text), MagnetError::NoInfohash, "{text}");
    }
    for text in [
        format!("magnet:?xt=urn:btih:{}", &V1[1..]),
        format!("magnet:?xt=urn:btih:{V1}a"),
        format!("magnet:?xt=urn:btih:{}", V1.replace('c', "g")),
        format!("magnet:?xt=urn:btih:{}", V1_BASE32.replace('Y', "1")),
        "magnet:?xt=urn:btih:".to_owned(),
        format!("magnet:?xt=urn:btmh:{V2}"),
        format!("magnet:?xt=urn:btmh:1114{V1}"),
        format!("magnet:?xt=urn:btmh:1220{}", &V2[2..]),
        format!("magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220"),
        format!("urn:btih:{V2}"),
    ] {
        assert!(
            matches!(refuse(&text), MagnetError::BadInfohash { .. }),
            "{text}"
        );
    }
    let other = V1.replace('c', "d");
    assert_eq!(
        refuse(&format!("magnet:?xt=urn:btih:{V1}&xt=urn:btih:{other}")),
        MagnetError::TwoTorrents
    );
    for text in [
        "magnet:?xt=urn:btih:%",
        "magnet:?xt=%f",
        "magnet:?xt=%zz",
        "magnet:?xt=%+1",
        "magnet:?xt=%ff",
    ] {
        assert_eq!(refuse(text), MagnetError::BadEscape, "{text}");
    }
    let long = format!("magnet:?xt=urn:btih:{V1}&dn={}", "x".repeat(MAX_MAGNET_LEN));
    assert_eq!(refuse(&long), MagnetError::TooLong);
}

#[test]
fn the_sentences_say_what_to_do() {
    let said = refuse("magnet:?xt=urn:btih:c12fe1c0").to_string();
    assert_eq!(
        said,
        "The infohash in this link is damaged: after urn:btih: come 40 digits 0-9 a-f (or 32 \
         letters and digits), and here are 8 characters that are not so. Copy the link again, \
         whole."
    );
    assert!(
        refuse("https://example.org/")
            .to_string()
            .contains("drop it here")
    );
}

#[test]
fn hints_are_bounded() {
    let mut text = format!("magnet:?xt=urn:btih:{V1}");
    for i in 0..500 {
        text += &format!(
            "&tr=udp://{i}.example&ws=http://{i}.example/&x.pe=192.0.2.1:{}",
            i + 1
        );
    }
    text += &format!("&dn={}", "%D9%81".repeat(2000));
    let magnet = read(&text);
    assert_eq!(magnet.trackers.len(), MAX_MAGNET_HINTS);
    assert_eq!(magnet.web_seeds.len(), MAX_MAGNET_HINTS);
    assert_eq!(magnet.peers.len(), MAX_MAGNET_HINTS);
    assert!(magnet.name.is_some_and(|name| name.len() <= 255));
    let long = format!("magnet:?xt=urn:btih:{V1}&tr=http://{}/", "x".repeat(3000));
    assert_eq!(read(&long).trackers, [""; 0]);
}

#[test]
fn damaged_links_never_panic_and_what_is_read_reads_back() {
    let whole = format!(
        "magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{V2}&dn=%D9%81%DB%8C%D9%84%D9%85+x&\
         tr=udp%3A%2F%2Ft.example%3A80&x.pe=%5B2001%3Adb8%3A%3A1%5D%3A51413&ws=https://s.example/"
    );
    let check = |bytes: &[u8]| {
        if let Ok(magnet) = String::from_utf8_lossy(bytes).parse::<Magnet>() {
            assert_eq!(read(&magnet.to_string()), magnet);
        }
    };
    for end in 0..whole.len() {
        check(&whole.as_bytes()[..end]);
        check(&whole.as_bytes()[end..]);
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes);
    }
    let mut random = Random(3);
    for _ in 0..20_000 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..4 {
            let (at, from) = (random.below(bytes.len()), random.below(bytes.len()));
            bytes[at] = if random.below(2) == 0 {
                bytes[from]
            } else {
                random.next() as u8
            };
        }
        check(&bytes);
    }
}
