//! Names of files and folders as they are shown and as they are offered for saving.
//!
//! A publisher chooses them freely. What is shown must not climb out of a folder, hide its ending
//! or turn the line around; what is not UTF-8 is shown as well as it can be.

use super::MAX_NAME_LEN;

/// What stands in the middle of a name that was too long.
const CUT: char = '…';

/// Makes one name fit to be shown: never empty, no separator, no control character, at most
/// [`MAX_NAME_LEN`] bytes.
pub(super) fn display_name(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let replaced: String = text
        .chars()
        .filter(|c| !is_invisible(*c))
        .map(printable)
        .collect();
    // Windows drops dots and spaces at the end; a name of nothing else would be its folder.
    let trimmed = replaced.trim().trim_end_matches(['.', ' ']);
    let mut name = shorten(trimmed);
    if name.is_empty() || is_reserved(&name) {
        name.insert(0, '_');
    }
    name
}

fn printable(c: char) -> char {
    match c {
        '/' | '\\' => '_',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Characters that show nothing and change what others show: bidirectional embeddings, overrides
/// and isolates (`gpj.exe` for `exe.jpg`), line separators, byte order marks, annotations, tags.
/// The joiners and marks that Persian, Arabic and Hebrew names are written with stay.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}'
        | '\u{2028}' | '\u{2029}'
        | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}'
        | '\u{E0000}'..='\u{E007F}')
}

/// Names that are devices on Windows, with whatever ending, and drive letters.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let mut characters = name.chars();
    if matches!((characters.next(), characters.next()), (Some(drive), Some(':')) if drive.is_ascii_alphabetic())
    {
        return true;
    }
    ["CON", "PRN", "AUX", "NUL"]
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
        || stem.len() == 4
            && stem.is_char_boundary(3)
            && ["COM", "LPT"].iter().any(|port| {
                stem.get(..3)
                    .is_some_and(|letters| letters.eq_ignore_ascii_case(port))
            })
            && stem.ends_with(|digit: char| digit.is_ascii_digit())
}

/// Cuts the middle out of a long name, so that its ending still says what it is.
fn shorten(name: &str) -> String {
    // One byte less than the limit: a `_` may yet be put before it.
    let limit = MAX_NAME_LEN - 1;
    if name.len() <= limit {
        return name.to_owned();
    }
    const TAIL: usize = 32;
    let head = name.floor_char_boundary(limit - TAIL - CUT.len_utf8());
    let tail = name.ceil_char_boundary(name.len() - TAIL);
    match (name.get(..head), name.get(tail..)) {
        (Some(head), Some(tail)) => format!("{head}{CUT}{tail}"),
        _ => String::new(),
    }
}
