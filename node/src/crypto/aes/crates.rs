//! Keystream by the crates `aes` and `ctr`.

use aes::Aes128Enc;
use ctr::cipher::{Array, InnerIvInit, KeyInit, StreamCipherCore};
use ctr::{CtrCore, flavors::Ctr128BE};

use super::{Block, Engine};

/// An expanded key; the crate wipes it.
pub(super) struct Crates(Aes128Enc);

impl Engine for Crates {
    const GRAIN: usize = 1;

    fn new(key: &[u8; 16]) -> Self {
        Crates(Aes128Enc::new(&(*key).into()))
    }

    fn fill(&self, first: u128, out: &mut [Block]) {
        CtrCore::<_, Ctr128BE>::inner_iv_init(&self.0, &first.to_be_bytes().into())
            .write_keystream_blocks(Array::cast_slice_from_core_mut(out));
    }
}
