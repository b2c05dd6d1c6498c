//! AES-128 in counter mode: the keystream of an onion layer.
//!
//! A router holds thousands of circuits, most of them idle, and a few that carry nearly all the
//! cells. So a keystream begins as its key and its position alone, and builds its expanded key
//! afresh for every call; one that has lived a little gets the expanded key and a buffer of
//! keystream ahead of need, because AES is fastest many blocks at a time.
//!
//! Two engines make the blocks: the crates `aes` and `ctr`, which use the processor's AES
//! instructions, and `sliced` in a tab, which cannot reach those.

#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
mod crates;
#[cfg(any(test, all(target_arch = "wasm32", target_feature = "simd128")))]
mod lane;
#[cfg(any(test, all(target_arch = "wasm32", target_feature = "simd128")))]
mod sbox;
#[cfg(any(test, all(target_arch = "wasm32", target_feature = "simd128")))]
mod sliced;

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
type Fastest = crates::Crates;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
type Fastest = sliced::Sliced<lane::Simd>;

/// A block of AES.
type Block = [u8; BLOCK];

const BLOCK: usize = 16;

/// Blocks made at once for a circuit that has lived a little. In a tab two batches of `sliced`,
/// which share the first round; its expanded key takes as much again.
const AHEAD: usize = if cfg!(target_arch = "wasm32") {
    256
} else {
    512
};

/// Blocks made at once for one that has not: enough for a cell, wherever in a block it begins.
const AT_REST: usize = 128;

/// Calls of [`Aes128Ctr::apply`] before keystream is made ahead of need. Circuits that are built,
/// used for a question or two and closed stay below it.
const CALLS_BEFORE_AHEAD: u8 = 64;

/// An expanded key.
trait Engine {
    /// Blocks are made in multiples of so many, and the first one's number is such a multiple.
    /// It divides [`AHEAD`] and [`AT_REST`].
    const GRAIN: usize;

    fn new(key: &[u8; 16]) -> Self;

    /// Writes the keystream from block number `first` on.
    fn fill(&self, first: u128, out: &mut [Block]);
}

/// AES-128 in counter mode as Tor's relay cells use it: the counter is the whole block, big
/// endian, and starts at zero.
pub struct Aes128Ctr(Keystream<Fastest>);

impl Aes128Ctr {
    /// The keystream of `key` from its first byte on.
    pub fn new(key: &[u8; 16]) -> Self {
        Aes128Ctr(Keystream::starting_at(key, 0))
    }

    /// Encrypts or decrypts `data`: the next `data.len()` bytes of keystream are xored into it.
    pub fn apply(&mut self, data: &mut [u8]) {
        self.0.apply(data);
    }

    /// Gives back the memory of a circuit that has fallen idle. It grows again after some more
    /// calls of [`apply`](Self::apply).
    pub fn rest(&mut self) {
        self.0.rest();
    }
}

impl ZeroizeOnDrop for Aes128Ctr {}

impl fmt::Debug for Aes128Ctr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes128Ctr { .. }")
    }
}

struct Keystream<E> {
    key: [u8; 16],
    /// Where the next byte of keystream lies, while there is none ahead: its block…
    block: u128,
    /// … and its place in that block.
    byte: u8,
    calls: u8,
    ahead: Option<Box<Ahead<E>>>,
}

/// The expanded key and the keystream made ahead of need.
struct Ahead<E> {
    engine: E,
    /// The block that follows the buffer.
    next: u128,
    /// How many bytes of the buffer are used up.
    used: usize,
    keystream: [Block; AHEAD],
}

impl<E: Engine> Keystream<E> {
    fn starting_at(key: &[u8; 16], block: u128) -> Self {
        Keystream {
            key: *key,
            block,
            byte: 0,
            calls: 0,
            ahead: None,
        }
    }

    fn apply(&mut self, data: &mut [u8]) {
        if self.ahead.is_none() {
            if self.calls < CALLS_BEFORE_AHEAD {
                self.calls += 1;
                self.apply_at_rest(data);
                return;
            }
            self.ahead = Some(Ahead::new(&self.key, self.block, self.byte));
        }
        if let Some(ahead) = &mut self.ahead {
            ahead.apply(data);
        }
    }

    fn rest(&mut self) {
        self.calls = 0;
        if let Some(ahead) = self.ahead.take() {
            (self.block, self.byte) = ahead.position();
        }
    }

    #[inline(never)]
    fn apply_at_rest(&mut self, data: &mut [u8]) {
        let engine = E::new(&self.key);
        let mut keystream = [[0; BLOCK]; AT_REST];
        let mut rest = data;
        while !rest.is_empty() {
            let (grain, skip) = grain::<E>(self.block);
            let begin = skip + usize::from(self.byte);
            let (now, later) = rest.split_at_mut(rest.len().min(AT_REST * BLOCK - begin));
            let end = begin + now.len();
            let made = &mut keystream[..end.div_ceil(BLOCK).next_multiple_of(E::GRAIN)];
            engine.fill(grain, made);
            xor(now, &made.as_flattened()[begin..end]);
            self.block = grain.wrapping_add((end / BLOCK) as u128);
            self.byte = (end % BLOCK) as u8;
            rest = later;
        }
    }
}

impl<E: Engine> Ahead<E> {
    fn new(key: &[u8; 16], block: u128, byte: u8) -> Box<Self> {
        let (grain, skip) = grain::<E>(block);
        let mut ahead = Box::new(Ahead {
            engine: E::new(key),
            next: grain,
            used: skip + usize::from(byte),
            keystream: [[0; BLOCK]; AHEAD],
        });
        ahead.refill();
        ahead
    }

    fn refill(&mut self) {
        self.engine.fill(self.next, &mut self.keystream);
        self.next = self.next.wrapping_add(AHEAD as u128);
    }

    fn apply(&mut self, mut data: &mut [u8]) {
        loop {
            let ready = &self.keystream.as_flattened()[self.used..];
            if data.len() <= ready.len() {
                xor(data, &ready[..data.len()]);
                self.used += data.len();
                return;
            }
            let (now, later) = data.split_at_mut(ready.len());
            xor(now, ready);
            data = later;
            self.refill();
            self.used = 0;
        }
    }

    /// The block and the byte in it that come next.
    fn position(&self) -> (u128, u8) {
        let begin = self.next.wrapping_sub(AHEAD as u128);
        let block = begin.wrapping_add((self.used / BLOCK) as u128);
        (block, (self.used % BLOCK) as u8)
    }
}

/// Where an engine must begin to make `block`, and how many bytes come before it from there.
fn grain<E: Engine>(block: u128) -> (u128, usize) {
    let skip = block % E::GRAIN as u128;
    (block - skip, skip as usize * BLOCK)
}

fn xor(data: &mut [u8], keystream: &[u8]) {
    for (byte, key) in data.iter_mut().zip(keystream) {
        *byte ^= key;
    }
}

impl<E> Drop for Keystream<E> {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl<E> Drop for Ahead<E> {
    fn drop(&mut self) {
        self.keystream.zeroize();
    }
}

#[cfg(test)]
mod tests;
