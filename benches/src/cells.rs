//! What an onion router does to a cell, by our keystream and digest and by the crates.

use aes::Aes128;
use chive_node::crypto::{aes::Aes128Ctr, sha1::RunningSha1};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use sha1::{Digest, Sha1};

/// Bytes of a cell's body.
pub const CELL_BODY_LEN: usize = 509;

/// What is measured, by its place in [`work`]'s arguments.
pub const CASES: [&str; 4] = [
    "forward",
    "originate, 3 hops",
    "endpoint",
    "a circuit's first",
];

/// One direction of a circuit, seen by whom it concerns.
pub trait Layers {
    /// Takes off, or puts on, layer `hop`.
    fn apply(&mut self, hop: usize, body: &mut [u8]);
    /// As [`apply`](Self::apply) by a layer that does not exist yet.
    fn apply_first(&mut self, body: &mut [u8]);
    /// The running digest with `body` taken in.
    fn digest(&mut self, body: &[u8]) -> [u8; 20];
}

/// By the node's own code.
pub struct Ours {
    hops: [Aes128Ctr; 3],
    digest: RunningSha1,
}

/// By the crates as they are.
pub struct Crates {
    hops: [Ctr128BE<Aes128>; 3],
    digest: Sha1,
}

fn key(hop: usize) -> [u8; 16] {
    std::array::from_fn(|i| (hop * 50 + i * 11) as u8)
}

impl Default for Ours {
    fn default() -> Self {
        Ours {
            hops: std::array::from_fn(|hop| Aes128Ctr::new(&key(hop))),
            digest: RunningSha1::new(),
        }
    }
}

impl Default for Crates {
    fn default() -> Self {
        Crates {
            hops: std::array::from_fn(|hop| Ctr128BE::new(&key(hop).into(), &[0; 16].into())),
            digest: Sha1::new(),
        }
    }
}

impl Layers for Ours {
    fn apply(&mut self, hop: usize, body: &mut [u8]) {
        self.hops[hop].apply(body);
    }

    fn apply_first(&mut self, body: &mut [u8]) {
        Aes128Ctr::new(&key(0)).apply(body);
    }

    fn digest(&mut self, body: &[u8]) -> [u8; 20] {
        self.digest.update(body);
        self.digest.peek()
    }
}

impl Layers for Crates {
    fn apply(&mut self, hop: usize, body: &mut [u8]) {
        self.hops[hop].apply_keystream(body);
    }

    fn apply_first(&mut self, body: &mut [u8]) {
        Ctr128BE::<Aes128>::new(&key(0).into(), &[0; 16].into()).apply_keystream(body);
    }

    fn digest(&mut self, body: &[u8]) -> [u8; 20] {
        self.digest.update(body);
        self.digest.clone().finalize().into()
    }
}

/// Does what case number `case` does to a cell, `count` times over; some bytes of the outcome.
pub fn work(layers: &mut impl Layers, case: u32, count: u32) -> u32 {
    let mut body = [0; CELL_BODY_LEN];
    for _ in 0..count {
        match case {
            0 => layers.apply(0, &mut body),
            1 => {
                let digest = layers.digest(&body);
                body[5..9].copy_from_slice(&digest[..4]);
                for hop in (0..3).rev() {
                    layers.apply(hop, &mut body);
                }
            }
            2 => {
                layers.apply(0, &mut body);
                let digest = layers.digest(&body);
                body[5..9].copy_from_slice(&digest[..4]);
            }
            _ => layers.apply_first(&mut body),
        }
    }
    u32::from_be_bytes([body[0], body[5], body[8], body[508]])
}
