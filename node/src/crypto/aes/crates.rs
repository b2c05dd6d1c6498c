//! The keystream by the crates `aes` and `ctr`: the processor's AES instructions natively.

use aes::Aes128Enc;
use ctr::cipher::{Array, InnerIvInit, KeyInit, StreamCipherCore};
use ctr::{CtrCore, flavors::Ctr128BE};

/// An expanded key.
pub(super) struct Engine(Aes128Enc);

impl Engine {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        Engine(Aes128Enc::new(&(*key).into()))
    }

    /// Fills `out`, whole blocks, with the keystream from block `first` on.
    pub(super) fn fill(&mut self, first: u128, out: &mut [u8]) {
        let (blocks, rest) = Array::slice_as_chunks_mut(out);
        debug_assert!(rest.is_empty());
        CtrCore::<_, Ctr128BE>::inner_iv_init(&self.0, &first.to_be_bytes().into())
            .write_keystream_blocks(blocks);
    }
}
