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
    let mut characters = name.chars();
    let (first, second) = (characters.next(), characters.next());
    if first.is_some_and(|drive| drive.is_ascii_alphabetic()) && second == Some(':') {
        return true;
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let is = |device: &&str| stem.eq_ignore_ascii_case(device);
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
        .iter()
        .any(is)
    {
        return true;
    }
    let Some((port, number)) = stem.split_at_checked(3) else {
        return false;
    };
    let is_port = ["COM", "LPT"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(port));
    let mut number = number.chars();
    is_port && matches!(number.next(), Some('0'..='9' | '¹' | '²' | '³')) && number.next().is_none()
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
