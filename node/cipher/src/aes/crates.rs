//! Keystream by the crate `aes`.

use aes::Aes128Enc;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

use super::{Block, Engine};

/// An expanded key; the crate wipes it.
pub(super) struct Crates(Aes128Enc);

impl Engine for Crates {
    const GRAIN: usize = 1;

    fn new(key: &[u8; 16]) -> Self {
        Crates(Aes128Enc::new(&(*key).into()))
    }

    fn fill(&self, first: u128, out: &mut [Block]) {
        let mut counter = first;
        for block in out.iter_mut() {
            *block = counter.to_be_bytes();
            counter = counter.wrapping_add(1);
        }
        self.0.encrypt_blocks(Array::cast_slice_from_core_mut(out));
    }
}
