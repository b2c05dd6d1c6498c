use ctr::cipher::{KeyIvInit, StreamCipher};

use super::*;

type Oracle = ctr::Ctr128BE<aes::Aes128>;

/// A small repeatable source of test bytes (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn key(&mut self) -> [u8; 16] {
        (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes()
    }
}

/// The same bytes through ours, in pieces as `piece` says, resting at times, and through the
/// crates in one go.
fn compare(key: [u8; 16], first: u128, pieces: &[usize], rest_each: usize) {
    compare_engine::<crates::Crates>(key, first, pieces, rest_each);
    compare_engine::<sliced::Sliced<lane::Words>>(key, first, pieces, rest_each);
}

fn compare_engine<E: Engine>(key: [u8; 16], first: u128, pieces: &[usize], rest_each: usize) {
    let total = pieces.iter().sum();
    let mut expected = vec![0x5a; total];
    Oracle::new(&key.into(), &first.to_be_bytes().into()).apply_keystream(&mut expected);

    let mut ours = Keystream::<E>::starting_at(&key, first);
    let mut data = vec![0x5a; total];
    let mut at = 0;
    for (i, &piece) in pieces.iter().enumerate() {
        if rest_each != 0 && i % rest_each == rest_each - 1 {
            ours.rest();
        }
        ours.apply(&mut data[at..at + piece]);
        at += piece;
        assert_eq!(
            data[..at],
            expected[..at],
            "key {key:x?} from {first:#x}, piece {i}"
        );
    }
}

#[test]
fn nist_sp_800_38a_f_5_1() {
    let key = 0x2b7e151628aed2a6abf7158809cf4f3c_u128.to_be_bytes();
    let mut data = [
        0x6bc1bee22e409f96e93d7e117393172a_u128,
        0xae2d8a571e03ac9c9eb76fac45af8e51,
        0x30c81c46a35ce411e5fbc1191a0a52ef,
        0xf69f2445df4f9b17ad2b417be66c3710,
    ]
    .map(u128::to_be_bytes)
    .concat();
    let expected = [
        0x874d6191b620e3261bef6864990db6ce_u128,
        0x9806f66b7970fdff8617187bb9fffdff,
        0x5ae4df3edbd5d35e5b4f09020db03eab,
        0x1e031dda2fbe03d1792170a0f3009cee,
    ]
    .map(u128::to_be_bytes)
    .concat();
    let first = 0xf0f1f2f3f4f5f6f7f8f9fafbfcfdfeff;
    let mut sliced = data.clone();
    Keystream::<crates::Crates>::starting_at(&key, first).apply(&mut data);
    assert_eq!(data, expected);
    Keystream::<sliced::Sliced<lane::Words>>::starting_at(&key, first).apply(&mut sliced);
    assert_eq!(sliced, expected);
}

#[test]
fn cells_agree_with_the_crates() {
    let mut random = Random(1);
    for rest_each in [0, 1, 3, 40, 70] {
        compare(random.key(), 0, &[509; 200], rest_each);
    }
}

#[test]
fn all_lengths_and_offsets_agree_with_the_crates() {
    let mut random = Random(2);
    for length in 0..600 {
        let offset = random.below(40);
        compare(
            random.key(),
            u128::from(random.next()),
            &[offset, length, 7],
            0,
        );
    }
    for _ in 0..60 {
        let pieces: Vec<usize> = (0..100)
            .map(|_| match random.below(4) {
                0 => random.below(4),
                1 => random.below(40),
                2 => random.below(2000),
                _ => random.below(20_000),
            })
            .collect();
        compare(
            random.key(),
            u128::from(random.next()),
            &pieces,
            random.below(60),
        );
    }
}

#[test]
fn counters_wrap_as_the_crates_do() {
    let mut random = Random(3);
    for bits in [8, 9, 12, 16, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128] {
        let edge = 1_u128.checked_shl(bits).unwrap_or(0);
        for before in [
            1, 2, 7, 8, 9, 31, 127, 128, 129, 255, 256, 300, 511, 600, 1500,
        ] {
            let first = edge.wrapping_sub(before);
            compare(random.key(), first, &[509; 60], 0);
            compare(random.key(), first, &[30_000], 0);
        }
    }
}

#[test]
fn resting_circuits_are_small() {
    assert!(size_of::<Aes128Ctr>() <= 64, "{}", size_of::<Aes128Ctr>());
    let mut ours = Aes128Ctr::new(&[7; 16]);
    for _ in 0..CALLS_BEFORE_AHEAD {
        ours.apply(&mut [0; 509]);
        assert!(ours.0.ahead.is_none());
    }
    ours.apply(&mut [0; 509]);
    assert!(ours.0.ahead.is_some());
    ours.rest();
    assert!(ours.0.ahead.is_none());
}
