//! XXH64, by its specification: a checksum of what lies on the disk.
//!
//! What is read back was verified by its torrent's hashes before it was written, and whoever can
//! write to this origin's storage can as well change the page that reads it: so what must be found
//! is damage (a torn write, a lost one, bytes of another chunk), and for that 64 bits that cost a
//! tenth of a SHA-256 are enough. What leaves for another peer is checked there once more.

const PRIMES: [u64; 5] = [
    0x9E37_79B1_85EB_CA87,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x27D4_EB2F_1656_67C5,
];

/// The checksum of `bytes`; another seed gives another one.
pub fn xxh64(seed: u64, bytes: &[u8]) -> u64 {
    let [p1, p2, p3, p4, p5] = PRIMES;
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() {
        seed.wrapping_add(p5)
    } else {
        let mut a = seed.wrapping_add(p1).wrapping_add(p2);
        let mut b = seed.wrapping_add(p2);
        let mut c = seed;
        let mut d = seed.wrapping_sub(p1);
        for stripe in stripes {
            let (lanes, _) = stripe.as_chunks::<8>();
            if let [one, two, three, four] = lanes {
                a = round(a, u64::from_le_bytes(*one));
                b = round(b, u64::from_le_bytes(*two));
                c = round(c, u64::from_le_bytes(*three));
                d = round(d, u64::from_le_bytes(*four));
            }
        }
        let mixed = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
        [a, b, c, d].into_iter().fold(mixed, |hash, lane| {
            (hash ^ round(0, lane)).wrapping_mul(p1).wrapping_add(p4)
        })
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
    }
    let (halves, rest) = rest.as_chunks::<4>();
    for half in halves {
        hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(p1);
        hash = hash.rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
    }
    for byte in rest {
        hash ^= u64::from(*byte).wrapping_mul(p5);
        hash = hash.rotate_left(11).wrapping_mul(p1);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(p2);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(p3);
    hash ^ (hash >> 32)
}

fn round(lane: u64, word: u64) -> u64 {
    let [p1, p2, ..] = PRIMES;
    lane.wrapping_add(word.wrapping_mul(p2))
        .rotate_left(31)
        .wrapping_mul(p1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the reference implementation (python's `xxhash`).
    #[test]
    fn gives_the_published_values() {
        assert_eq!(xxh64(0, b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(0, b"a"), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(0, b"abc"), 0x44BC_2CF5_AD77_0999);
        let long: Vec<u8> = (0..101).collect();
        assert_eq!(xxh64(0, &long), 0xE990_3849_5F85_381E);
        assert_eq!(xxh64(0x1234_5678_90AB_CDEF, &long), 0xD3FC_7BC3_CE74_7F67);
    }

    #[test]
    fn any_bit_and_any_seed_changes_it() {
        let bytes: Vec<u8> = (0..=255).cycle().take(16 * 1024 + 13).collect();
        let right = xxh64(5, &bytes);
        assert_ne!(right, xxh64(6, &bytes));
        assert_ne!(right, xxh64(5, &bytes[1..]));
        for at in (0..bytes.len()).step_by(37) {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            assert_ne!(right, xxh64(5, &other), "byte {at}");
        }
    }
}
