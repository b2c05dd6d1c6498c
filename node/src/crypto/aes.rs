//! AES-128 in counter mode: the keystream of an onion layer.
//!
//! A router holds thousands of circuits, most of them idle, and a few that carry nearly all the
//! cells. So a keystream begins as its key and its position alone, and builds its expanded key
//! afresh for every call; one that has lived a little gets the expanded key and a buffer of
//! keystream ahead of need, because AES is fastest many blocks at a time.

mod crates;

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crates::Engine;

/// Bytes of an AES block.
const BLOCK: usize = 16;

/// Keystream made at once for a circuit that has lived a little.
const AHEAD: usize = 8192;

/// Calls of [`Aes128Ctr::apply`] before keystream is made ahead of need. Circuits that are built,
/// used for a question or two and closed stay below it.
const CALLS_BEFORE_AHEAD: u8 = 32;

/// Keystream made at once while resting: a cell's, wherever in a block it begins.
const AT_REST: usize = 33 * BLOCK;

/// AES-128 in counter mode as Tor's relay cells use it: the counter is the whole block, big
/// endian, and starts at zero.
pub struct Aes128Ctr {
    key: [u8; BLOCK],
    /// Where the next byte of keystream lies, while there is none ahead: its block…
    block: u128,
    /// … and its place in that block.
    byte: u8,
    calls: u8,
    ahead: Option<Box<Ahead>>,
}

/// The expanded key and the keystream made ahead of need.
struct Ahead {
    engine: Engine,
    /// The block that follows the buffer.
    next: u128,
    /// How much of the buffer is used up.
    used: usize,
    keystream: [u8; AHEAD],
}

impl Aes128Ctr {
    /// The keystream of `key` from its first byte on.
    pub fn new(key: &[u8; 16]) -> Self {
        Self::starting_at(key, 0)
    }

    fn starting_at(key: &[u8; 16], block: u128) -> Self {
        Aes128Ctr {
            key: *key,
            block,
            byte: 0,
            calls: 0,
            ahead: None,
        }
    }

    /// Encrypts or decrypts `data`: the next `data.len()` bytes of keystream are xored into it.
    pub fn apply(&mut self, data: &mut [u8]) {
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

    /// Gives back the memory of a circuit that has fallen idle. It grows again after some more
    /// calls of [`apply`](Self::apply).
    pub fn rest(&mut self) {
        self.calls = 0;
        if let Some(ahead) = self.ahead.take() {
            (self.block, self.byte) = ahead.position();
        }
    }

    fn apply_at_rest(&mut self, data: &mut [u8]) {
        let mut engine = Engine::new(&self.key);
        let mut keystream = [0; AT_REST];
        let mut rest = data;
        while !rest.is_empty() {
            let begin = usize::from(self.byte);
            let (now, later) = rest.split_at_mut(rest.len().min(AT_REST - begin));
            let end = begin + now.len();
            let made = &mut keystream[..end.next_multiple_of(BLOCK)];
            engine.fill(self.block, made);
            xor(now, &made[begin..end]);
            self.block = self.block.wrapping_add((end / BLOCK) as u128);
            self.byte = (end % BLOCK) as u8;
            rest = later;
        }
        keystream.zeroize();
    }
}

impl Ahead {
    fn new(key: &[u8; 16], block: u128, byte: u8) -> Box<Self> {
        let mut ahead = Box::new(Ahead {
            engine: Engine::new(key),
            next: block,
            used: usize::from(byte),
            keystream: [0; AHEAD],
        });
        ahead.refill();
        ahead
    }

    fn refill(&mut self) {
        self.engine.fill(self.next, &mut self.keystream);
        self.next = self.next.wrapping_add((AHEAD / BLOCK) as u128);
    }

    fn apply(&mut self, mut data: &mut [u8]) {
        loop {
            let ready = &self.keystream[self.used..];
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
        let begin = self.next.wrapping_sub((AHEAD / BLOCK) as u128);
        let block = begin.wrapping_add((self.used / BLOCK) as u128);
        (block, (self.used % BLOCK) as u8)
    }
}

fn xor(data: &mut [u8], keystream: &[u8]) {
    for (byte, key) in data.iter_mut().zip(keystream) {
        *byte ^= key;
    }
}

impl Drop for Aes128Ctr {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl ZeroizeOnDrop for Aes128Ctr {}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.keystream.zeroize();
    }
}

impl fmt::Debug for Aes128Ctr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes128Ctr { .. }")
    }
}

#[cfg(test)]
mod tests;
