//! How much memory hostile metadata can make the parser take: counted, not estimated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use chive_node::torrent::{InfohashV1, MAX_METADATA_LEN, Magnet, Metainfo};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; the counting beside it touches no memory of its.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is taken at the highest point, and what stays, beyond the metadata itself.
fn measure(name: &str, info: Vec<u8>) -> (usize, usize) {
    assert!(
        info.len() <= MAX_METADATA_LEN,
        "{name} would be refused unread"
    );
    let magnet = Magnet::new(InfohashV1::of(&info));
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let metainfo = Metainfo::from_info(info, &magnet);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let kept = NOW.load(Ordering::Relaxed).saturating_sub(before);
    let verdict = metainfo
        .as_ref()
        .map_or_else(ToString::to_string, |_| "taken".to_owned());
    println!(
        "{name}: at most {} KiB, kept {} KiB: {verdict}",
        peak / 1024,
        kept / 1024
    );
    (peak, kept)
}

/// An info dictionary as full as it may be of one thing.
fn full_of(part: &str, behind: &str) -> Vec<u8> {
    let mut info = String::from("d1:ai5e1:x");
    info.push_str(behind);
    info.push('l');
    while info.len() + part.len() + 2 <= MAX_METADATA_LEN {
        info.push_str(part);
    }
    info.push_str("ee");
    info.into_bytes()
}

/// A dictionary of as many keys as fit, out of order so that they are sorted.
fn one_dictionary() -> Vec<u8> {
    let keys = (0..1_300_000u32).rev().map(|key| format!("8:{key:08}0:"));
    format!("d{}e", keys.collect::<String>()).into_bytes()
}

/// As many files as are allowed, each of the parts given.
fn files(number: usize, file: &str) -> Vec<u8> {
    let pieces = "x".repeat(20 * number.div_ceil(16384));
    let head = format!("d5:filesl{}e", file.repeat(number));
    let rest = format!(
        "4:name1:x12:piece lengthi16384e6:pieces{}:{pieces}e",
        pieces.len()
    );
    (head + &rest).into_bytes()
}

#[test]
fn memory_is_bounded() {
    const MIB: usize = 1024 * 1024;
    // One test, since the counters are the process's.
    for (name, info) in [
        ("numbers", full_of("i0e", "")),
        ("empty strings", full_of("0:", "")),
        ("empty lists", full_of("le", "")),
        ("empty dictionaries", full_of("de", "")),
        ("lists of one", full_of("l0:e", "")),
        ("dictionaries of one", full_of("d0:0:e", "")),
        (
            "lists in lists",
            full_of(&("l".repeat(60) + &"e".repeat(60)), ""),
        ),
        (
            "dictionaries in dictionaries",
            full_of(&("d0:".repeat(60) + "0:" + &"e".repeat(60)), ""),
        ),
        ("lists of five", full_of("l0:0:0:0:0:e", "")),
        ("one dictionary", one_dictionary()),
        (
            "one string",
            full_of(&format!("16000000:{}", "x".repeat(16_000_000)), ""),
        ),
        (
            "files without end",
            files(300_000, "d6:lengthi1e4:pathl0:ee"),
        ),
    ] {
        let (peak, kept) = measure(name, info);
        assert!(peak < 100 * MIB, "{name} took {peak} bytes");
        assert_eq!(kept, 0, "{name} was refused, yet {kept} bytes stay");
    }
    for (name, info) in [
        ("the most files", files(100_000, "d6:lengthi1e4:pathl0:ee")),
        (
            "the most folders",
            files(14_500, &format!("d6:lengthi1e4:pathl{}ee", "0:".repeat(64))),
        ),
        (
            "the longest names",
            files(
                50_000,
                &format!("d6:lengthi1e4:pathl300:{}ee", "\u{7f}".repeat(300)),
            ),
        ),
    ] {
        let length = info.len();
        let (peak, kept) = measure(name, info);
        assert!(kept > length, "{name} was to be taken");
        assert!(
            peak < 100 * MIB && kept < 64 * MIB,
            "{name} took {peak} bytes, keeps {kept}"
        );
    }
}
