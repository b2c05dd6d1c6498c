//! What is shown of the names that a publisher chose.

use super::super::MAX_NAME_LEN;
use super::super::display_name::display_name;

#[test]
fn honest_names_stay() {
    for name in [
        "Sintel.mkv",
        "فیلم خانوادگی.mp4",
        // With a zero-width non-joiner, as Persian has it.
        "می\u{200C}خواهم.mp4",
        "电影 第1集：开始.mkv",
        "What? A *film*: part 1 <cut>.mp4",
        ".hidden",
        "ends in… dots",
        "👨‍👩‍👧.jpg",
        "console.txt",
        "COM10.txt",
        "community.txt",
    ] {
        assert_eq!(display_name(name.as_bytes()), name);
    }
}

#[test]
fn tricks_are_undone() {
    for (raw, shown) in [
        (&b""[..], "_"),
        (b".", "_"),
        (b"..", "_"),
        (b"...", "_"),
        (b" .. ", "_"),
        (b"../../etc/passwd", ".._.._etc_passwd"),
        (b"..\\..\\windows", ".._.._windows"),
        (b"/etc", "_etc"),
        (b"name. . ", "name"),
        (b"C:", "_C:"),
        (b"c:windows", "_c:windows"),
        (b"CON", "_CON"),
        (b"con.txt", "_con.txt"),
        (b"Aux .x.y", "_Aux .x.y"),
        (b"LPT1", "_LPT1"),
        (b"com9.tar.gz", "_com9.tar.gz"),
        ("COM¹".as_bytes(), "_COM¹"),
        (
            b"a\0b\nc\x1b[31m\x7f",
            "a\u{FFFD}b\u{FFFD}c\u{FFFD}[31m\u{FFFD}",
        ),
        // NEL, a C1 control character.
        ("a\u{85}b".as_bytes(), "a\u{FFFD}b"),
        ("\u{202E}gpj.exe".as_bytes(), "gpj.exe"),
        (
            "a\u{2066}\u{2067}\u{2068}\u{2069}\u{202A}\u{202B}\u{202C}\u{202D}b".as_bytes(),
            "ab",
        ),
        (
            "x\u{2028}\u{2029}\u{FEFF}\u{FFF9}y\u{E0041}".as_bytes(),
            "xy",
        ),
        (b"\xff\xfe name \xd0\xbf", "\u{FFFD}\u{FFFD} name п"),
        // A legal ending cut in its middle.
        (b"abc\xd0", "abc\u{FFFD}"),
    ] {
        assert_eq!(display_name(raw), shown, "{raw:?}");
    }
}

#[test]
fn long_names_keep_their_endings() {
    for length in [200, 253, 254, 255, 256, 300, 5000] {
        for letter in ["x", "ф", "影", "👪"] {
            let name = letter.repeat(length / letter.len()) + ".mp4";
            let shown = display_name(name.as_bytes());
            assert!(
                shown.len() <= MAX_NAME_LEN && shown.ends_with(".mp4"),
                "{shown}"
            );
            assert!(shown == name || shown.contains('…') && shown.len() > 200);
        }
    }
    let device = format!("con.{}", "x".repeat(400));
    assert!(display_name(device.as_bytes()).len() <= MAX_NAME_LEN);
}
