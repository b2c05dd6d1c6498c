//! AES-128 keystream out of bitwise operations: for processors whose AES instructions a tab
//! cannot reach.
//!
//! Constant time by construction: there is no branch and no address that depends on the key, the
//! counter or the data.
//!
//! 128 blocks are made at once. The state is 16 bytes of 8 planes; a *plane* is a lane that holds
//! one bit of that byte for each of the 128 blocks. ShiftRows then costs nothing (it is only
//! where one reads), MixColumns is xors without rotations, and the S-box is a circuit of 113
//! gates. What counters have in common is computed once: the blocks of an aligned batch differ in
//! the last byte alone, so of the first round's S-boxes one, and of the second's four, are
//! computed for 128 blocks and the rest for one.
//!
//! A byte's place in the block is `4 * column + row`, as in FIPS 197. The affine constant 0x63 of
//! SubBytes is left out everywhere and put into the round keys 1 to 10 instead, MixColumns leaves
//! it as it is.
//!
//! The hot loops are functions of their own, never inlined, with nothing but one straight line of
//! gates in the body, masks come from memory: this is what V8's register allocator does well.

use std::marker::PhantomData;

use zeroize::Zeroize;

use super::lane::Lane;
use super::sbox::sub_byte;
use super::{Block, Engine};

/// Blocks made at once.
pub(super) const BATCH: usize = 128;

/// The eight bits of a byte, the lowest first.
pub(super) type Planes<L> = [L; 8];
/// The planes of the bytes of 128 blocks.
type State<L> = [Planes<L>; 16];
/// All bits of a block, each a word of zeros or ones: `[column][bit][row]`.
type Masks = [Column; 4];
type Column = [[u32; 4]; 8];

const NO_MASKS: Masks = [[[0; 4]; 8]; 4];

/// An expanded key.
pub(super) struct Sliced<L> {
    /// The keys of the rounds that one block goes through for many.
    early: [Block; 3],
    /// The keys of rounds 3 to 9…
    late: [Masks; 7],
    /// … and of the last.
    last: Masks,
    lane: PhantomData<L>,
}

impl<L: Lane> Engine for Sliced<L> {
    const GRAIN: usize = BATCH;

    #[inline(never)]
    fn new(key: &[u8; 16]) -> Self {
        let mut engine = Sliced {
            early: [*key, [0; 16], [0; 16]],
            late: [NO_MASKS; 7],
            last: NO_MASKS,
            lane: PhantomData,
        };
        let mut words = key
            .as_chunks()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word));
        let mut words: [u32; 4] = std::array::from_fn(|_| words.next().unwrap_or(0));
        let mut constant = 1;
        for round in 1..=10 {
            let mut block = [0; 16];
            block[..4].copy_from_slice(&words[3].rotate_right(8).to_le_bytes());
            let [a, b, c, d, ..] = sub_block::<L>(block);
            words[0] ^= u32::from_le_bytes([a, b, c, d]) ^ 0x6363_6363 ^ constant;
            words[1] ^= words[0];
            words[2] ^= words[1];
            words[3] ^= words[2];
            constant = times_two(constant);
            for (bytes, word) in block.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&(word ^ 0x6363_6363).to_le_bytes());
            }
            match round {
                1 | 2 => engine.early[round] = block,
                10 => spread::<L>(&block, &mut engine.last),
                _ => spread::<L>(&block, &mut engine.late[round - 3]),
            }
        }
        engine
    }

    fn fill(&self, first: u128, out: &mut [Block]) {
        debug_assert!(first.is_multiple_of(BATCH as u128) && out.len().is_multiple_of(BATCH));
        let mut common = Common::empty();
        let (mut a, mut b) = (zeros::<L>(), zeros::<L>());
        let mut counter = first;
        for batch in out.as_chunks_mut().0 {
            if counter == first || counter.is_multiple_of(256) {
                common.prepare::<L>(&self.early, counter);
            }
            let (mut state, mut next) = (&mut a, &mut b);
            common.second_round(counter as u8, state);
            for keys in &self.late {
                sub_bytes(state);
                mix_columns(state, keys, next);
                (state, next) = (next, state);
            }
            sub_bytes(state);
            last_round(state, &self.last, next);
            to_blocks(next, batch);
            counter = counter.wrapping_add(BATCH as u128);
        }
    }
}

impl<L> Drop for Sliced<L> {
    fn drop(&mut self) {
        self.early.zeroize();
        self.late.zeroize();
        self.last.zeroize();
    }
}

/// What the blocks have in common whose counters differ in the last byte alone.
struct Common {
    /// The last byte of the first round's key.
    key: u8,
    /// The first column after the first round, but for the last byte's part in it.
    one: Masks,
    /// The state after the second round, but for the first column's part in it.
    two: Masks,
}

impl Common {
    fn empty() -> Self {
        Common {
            key: 0,
            one: NO_MASKS,
            two: NO_MASKS,
        }
    }

    #[inline(never)]
    fn prepare<L: Lane>(&mut self, keys: &[Block; 3], counter: u128) {
        let key = u128::from_be_bytes(keys[0]);
        self.key = key as u8;
        let mut block = sub_block::<L>((counter ^ key).to_be_bytes());
        block[15] = 0;
        let block = mix_block(block, &keys[1]);
        spread::<L>(&block, &mut self.one);
        let mut block = sub_block::<L>(block);
        block[..4].fill(0);
        spread::<L>(&mix_block(block, &keys[2]), &mut self.two);
    }

    /// The state after the second round of the blocks whose counters' last bytes begin with
    /// `first`.
    #[inline(never)]
    fn second_round<L: Lane>(&self, first: u8, state: &mut State<L>) {
        let last = sub_byte(counters(first ^ self.key));
        // The last byte stands in row 3 and goes to the first column…
        self.first_column::<L, 0, 1>(last, state);
        self.first_column::<L, 1, 1>(last, state);
        self.first_column::<L, 2, 3>(last, state);
        self.first_column::<L, 3, 2>(last, state);
    }

    /// … times `TIMES` in its row `ROW`, which in the second round goes to another column.
    #[inline(always)]
    fn first_column<L: Lane, const ROW: usize, const TIMES: u8>(
        &self,
        last: Planes<L>,
        state: &mut State<L>,
    ) {
        let mut byte = times::<L, TIMES>(last);
        for (plane, masks) in byte.iter_mut().zip(&self.one[0]) {
            *plane = plane.xor(L::splat(masks[ROW]));
        }
        let byte = sub_byte(byte);
        let [two, three] = [times::<L, 2>(byte), times::<L, 3>(byte)];
        let column = (4 - ROW) % 4;
        for (row, mixed) in [
            (ROW, two),
            (ROW + 3, three),
            (ROW + 2, byte),
            (ROW + 1, byte),
        ] {
            let row = row % 4;
            let to = &mut state[4 * column + row];
            for ((to, plane), masks) in to.iter_mut().zip(mixed).zip(&self.two[column]) {
                *to = plane.xor(L::splat(masks[row]));
            }
        }
    }
}

fn zeros<L: Lane>() -> State<L> {
    [[L::splat(0); 8]; 16]
}

/// The planes of 128 bytes that count up from `first`, of which the low seven bits are xored on
/// instead of added: nothing carries in an aligned batch.
#[inline(always)]
fn counters<L: Lane>(first: u8) -> Planes<L> {
    let bit = |n: u32| L::splat(0_u32.wrapping_sub(u32::from(first >> n & 1)));
    let words = |a: u64, b: u64| L::from_bytes((u128::from(b) << 64 | u128::from(a)).to_le_bytes());
    [
        bit(0).xor(L::splat(0xaaaa_aaaa)),
        bit(1).xor(L::splat(0xcccc_cccc)),
        bit(2).xor(L::splat(0xf0f0_f0f0)),
        bit(3).xor(L::splat(0xff00_ff00)),
        bit(4).xor(L::splat(0xffff_0000)),
        bit(5).xor(words(0xffff_ffff_0000_0000, 0xffff_ffff_0000_0000)),
        bit(6).xor(words(0, u64::MAX)),
        bit(7),
    ]
}

/// A byte times 1, 2 or 3 in GF(2⁸).
#[inline(always)]
fn times<L: Lane, const N: u8>(p: Planes<L>) -> Planes<L> {
    if N == 1 {
        return p;
    }
    let two = [
        p[7],
        p[0].xor(p[7]),
        p[1],
        p[2].xor(p[7]),
        p[3].xor(p[7]),
        p[4],
        p[5],
        p[6],
    ];
    if N == 2 {
        return two;
    }
    std::array::from_fn(|i| two[i].xor(p[i]))
}

/// SubBytes.
#[inline(never)]
fn sub_bytes<L: Lane>(state: &mut State<L>) {
    for planes in state {
        *planes = sub_byte(*planes);
    }
}

/// The place from which ShiftRows takes the byte at `row` of `column`.
#[inline(always)]
fn shifted(column: usize, row: usize) -> usize {
    4 * ((column + row) % 4) + row
}

/// ShiftRows, MixColumns and AddRoundKey.
fn mix_columns<L: Lane>(from: &State<L>, keys: &Masks, to: &mut State<L>) {
    for ((column, to), keys) in to.as_chunks_mut().0.iter_mut().enumerate().zip(keys) {
        let from = |row| &from[shifted(column, row)];
        mix_column(from(0), from(1), from(2), from(3), keys, to);
    }
}

/// A column of MixColumns: with t = a xor the next row's a, each row is
/// 2 t + the next row's a + t of the row after the next.
//
// Not inlined into the loop, where the compiler would compute all addresses anew.
#[inline(never)]
fn mix_column<L: Lane>(
    a: &Planes<L>,
    b: &Planes<L>,
    c: &Planes<L>,
    d: &Planes<L>,
    keys: &Column,
    to: &mut [Planes<L>; 4],
) {
    // A macro, since a loop would be left a loop, with its branches.
    macro_rules! steps {
        ($i:literal) => {
            [
                a[$i].xor(b[$i]),
                b[$i].xor(c[$i]),
                c[$i].xor(d[$i]),
                d[$i].xor(a[$i]),
            ]
        };
    }
    let top = steps!(7);
    macro_rules! row {
        ($i:literal, $folds:literal, $row:literal, $next:ident, $t:ident, $far:literal, $below:ident) => {
            let key = L::splat(keys[$i][$row]);
            let sum = $next[$i].xor(key).xor($t[$far]).xor($below[$row]);
            to[$row][$i] = if $folds { sum.xor(top[$row]) } else { sum };
        };
    }
    macro_rules! plane {
        ($i:literal, $folds:literal, $t:ident, $below:ident) => {
            row!($i, $folds, 0, b, $t, 2, $below);
            row!($i, $folds, 1, c, $t, 3, $below);
            row!($i, $folds, 2, d, $t, 0, $below);
            row!($i, $folds, 3, a, $t, 1, $below);
        };
    }
    let t0 = steps!(0);
    plane!(0, false, t0, top);
    let t1 = steps!(1);
    plane!(1, true, t1, t0);
    let t2 = steps!(2);
    plane!(2, false, t2, t1);
    let t3 = steps!(3);
    plane!(3, true, t3, t2);
    let t4 = steps!(4);
    plane!(4, true, t4, t3);
    let t5 = steps!(5);
    plane!(5, false, t5, t4);
    let t6 = steps!(6);
    plane!(6, false, t6, t5);
    plane!(7, false, top, t6);
}

/// ShiftRows and AddRoundKey, and the planes back to bytes: `to[place][i]` has that byte of the
/// blocks 8 n + i.
fn last_round<L: Lane>(from: &State<L>, keys: &Masks, to: &mut State<L>) {
    for ((column, to), keys) in to.as_chunks_mut::<4>().0.iter_mut().enumerate().zip(keys) {
        let from = |row| &from[shifted(column, row)];
        to[0] = to_bytes::<L, 0>(from(0), keys);
        to[1] = to_bytes::<L, 1>(from(1), keys);
        to[2] = to_bytes::<L, 2>(from(2), keys);
        to[3] = to_bytes::<L, 3>(from(3), keys);
    }
}

#[inline(always)]
fn to_bytes<L: Lane, const ROW: usize>(p: &Planes<L>, keys: &Column) -> [L; 8] {
    let [a, b, c, d, e, f, g, h] = keys;
    transpose_bits([
        p[0].xor(L::splat(a[ROW])),
        p[1].xor(L::splat(b[ROW])),
        p[2].xor(L::splat(c[ROW])),
        p[3].xor(L::splat(d[ROW])),
        p[4].xor(L::splat(e[ROW])),
        p[5].xor(L::splat(f[ROW])),
        p[6].xor(L::splat(g[ROW])),
        p[7].xor(L::splat(h[ROW])),
    ])
}

/// Bit `i` of byte `n` of plane `j` becomes bit `j` of byte `n` of lane `i`.
#[inline(always)]
fn transpose_bits<L: Lane>(planes: Planes<L>) -> [L; 8] {
    #[inline(always)]
    fn swap<L: Lane, const N: u32>(a: &mut L, b: &mut L, mask: u32) {
        let t = a.shr::<N>().xor(*b).and(L::splat(mask));
        *b = b.xor(t);
        *a = a.xor(t.shl::<N>());
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = planes;
    for (x, y) in [
        (&mut a, &mut b),
        (&mut c, &mut d),
        (&mut e, &mut f),
        (&mut g, &mut h),
    ] {
        swap::<L, 1>(x, y, 0x5555_5555);
    }
    for (x, y) in [
        (&mut a, &mut c),
        (&mut b, &mut d),
        (&mut e, &mut g),
        (&mut f, &mut h),
    ] {
        swap::<L, 2>(x, y, 0x3333_3333);
    }
    for (x, y) in [
        (&mut a, &mut e),
        (&mut b, &mut f),
        (&mut c, &mut g),
        (&mut d, &mut h),
    ] {
        swap::<L, 4>(x, y, 0x0f0f_0f0f);
    }
    [a, b, c, d, e, f, g, h]
}

/// The bytes that [`last_round`] made, block by block.
#[inline(never)]
fn to_blocks<L: Lane>(bytes: &State<L>, out: &mut [Block; BATCH]) {
    // Four perfect shuffles transpose 16 lanes of 16 bytes.
    #[inline(always)]
    fn shuffle<L: Lane>(x: [L; 16]) -> [L; 16] {
        let low = |i: usize| x[i].zip_low(x[i + 8]);
        let high = |i: usize| x[i].zip_high(x[i + 8]);
        [
            low(0),
            high(0),
            low(1),
            high(1),
            low(2),
            high(2),
            low(3),
            high(3),
            low(4),
            high(4),
            low(5),
            high(5),
            low(6),
            high(6),
            low(7),
            high(7),
        ]
    }
    for i in 0..8 {
        let lanes = std::array::from_fn(|place| bytes[place][i]);
        let blocks = shuffle(shuffle(shuffle(shuffle(lanes))));
        for (n, block) in blocks.into_iter().enumerate() {
            out[8 * n + i] = block.to_bytes();
        }
    }
}

/// Each bit of `block` as a word of zeros or ones.
#[inline(never)]
fn spread<L: Lane>(block: &Block, to: &mut Masks) {
    for (bit, bytes) in bits_of::<L>(*block).into_iter().enumerate() {
        let [low, high] = [bytes.zip_low(bytes), bytes.zip_high(bytes)];
        let columns = [
            low.zip_low(low),
            low.zip_high(low),
            high.zip_low(high),
            high.zip_high(high),
        ];
        for (to, words) in to.iter_mut().zip(columns) {
            to[bit] = words.to_words();
        }
    }
}

/// The bits of the bytes of one block, each as a byte of zeros or ones.
#[inline(always)]
fn bits_of<L: Lane>(block: Block) -> Planes<L> {
    let block = L::from_bytes(block);
    #[inline(always)]
    fn bit<L: Lane, const N: u32>(block: L) -> L {
        block.shr::<N>().and(L::splat(0x0101_0101)).negate_bytes()
    }
    [
        bit::<L, 0>(block),
        bit::<L, 1>(block),
        bit::<L, 2>(block),
        bit::<L, 3>(block),
        bit::<L, 4>(block),
        bit::<L, 5>(block),
        bit::<L, 6>(block),
        bit::<L, 7>(block),
    ]
}

/// SubBytes of one block.
#[inline(never)]
fn sub_block<L: Lane>(block: Block) -> Block {
    let planes = sub_byte(bits_of::<L>(block));
    let mut bytes = L::splat(0);
    for (bit, plane) in planes.into_iter().enumerate() {
        bytes = bytes.xor(plane.and(L::splat(0x0101_0101 << bit)));
    }
    bytes.to_bytes()
}

/// ShiftRows, MixColumns and AddRoundKey of one block.
fn mix_block(block: Block, key: &Block) -> Block {
    let mut out = *key;
    for (column, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // Row `r` of the column in byte `r` of the word.
        let a = u32::from_le_bytes(std::array::from_fn(|row| block[shifted(column, row)]));
        let t = a ^ a.rotate_right(8);
        let mixed = times_two(t) ^ a.rotate_right(8) ^ t.rotate_right(16);
        *out = (mixed ^ u32::from_le_bytes(*out)).to_le_bytes();
    }
    out
}

/// Each byte of `word` times 2 in GF(2⁸).
const fn times_two(word: u32) -> u32 {
    let over = word >> 7 & 0x0101_0101;
    (word & 0x7f7f_7f7f) << 1 ^ over ^ over << 1 ^ over << 3 ^ over << 4
}
