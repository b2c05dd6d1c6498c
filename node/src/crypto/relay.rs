//! Relay cryptography: what each hop does to a relay cell's body.
//!
//! tor-spec, "Routing relay cells": AES-128-CTR, and a running SHA-1 of which four bytes stand in
//! the cell. A circuit holds its hops' layers behind [`RouterLayer`] and [`ClientLayer`], so that
//! another scheme (Counter Galois Onion) can take this one's place hop by hop.

use crate::crypto::aes::Aes128Ctr;
use crate::crypto::ntor::KeyMaterial;
use crate::crypto::sha1::RunningSha1;
use subtle::ConstantTimeEq;

/// Length of a relay cell's body.
pub const BODY_LEN: usize = 509;
/// A relay cell's body, encrypted or plain.
pub type Body = [u8; BODY_LEN];
/// What an authenticated SENDME echoes: the running digest at the cell that it acknowledges.
pub type Tag = [u8; 20];

/// Where `recognized` stands: zero in a plain body.
const RECOGNIZED: std::ops::Range<usize> = 1..3;
/// Where the digest's first four bytes stand.
const DIGEST: std::ops::Range<usize> = 5..9;

/// A router's half of a hop.
pub trait RouterLayer: Send {
    /// Takes off this hop's layer. The tag if the cell was meant for this router.
    fn forward(&mut self, body: &mut Body) -> Option<Tag>;
    /// Adds this hop's layer to a cell on its way to the client.
    fn backward(&mut self, body: &mut Body);
    /// Seals a cell of this router's own and adds the layer.
    fn originate(&mut self, body: &mut Body) -> Tag;
    /// Gives back memory that only a busy circuit needs.
    fn rest(&mut self);
}

/// The client's half of a hop.
pub trait ClientLayer: Send {
    /// Seals a cell for this hop and adds its layer; nearer hops' [`ClientLayer::forward`] follow.
    fn originate(&mut self, body: &mut Body) -> Tag;
    /// Adds this hop's layer to a cell for a farther one.
    fn forward(&mut self, body: &mut Body);
    /// Takes off this hop's layer. The tag if the cell comes from this hop.
    fn backward(&mut self, body: &mut Body) -> Option<Tag>;
    /// Gives back memory that only a busy circuit needs.
    fn rest(&mut self);
}

/// Tor's first scheme, for one hop and both directions.
pub struct Tor1 {
    forward: Direction,
    backward: Direction,
}

impl Tor1 {
    /// The layer that a handshake's keys make.
    pub fn new(keys: &KeyMaterial) -> Self {
        Tor1 {
            forward: Direction::new(&keys.key_forward, &keys.digest_forward),
            backward: Direction::new(&keys.key_backward, &keys.digest_backward),
        }
    }
}

impl RouterLayer for Tor1 {
    fn forward(&mut self, body: &mut Body) -> Option<Tag> {
        self.forward.cipher.apply(body);
        self.forward.recognise(body)
    }

    fn backward(&mut self, body: &mut Body) {
        self.backward.cipher.apply(body);
    }

    fn originate(&mut self, body: &mut Body) -> Tag {
        let tag = self.backward.seal(body);
        self.backward.cipher.apply(body);
        tag
    }

    fn rest(&mut self) {
        self.forward.cipher.rest();
        self.backward.cipher.rest();
    }
}

impl ClientLayer for Tor1 {
    fn originate(&mut self, body: &mut Body) -> Tag {
        let tag = self.forward.seal(body);
        self.forward.cipher.apply(body);
        tag
    }

    fn forward(&mut self, body: &mut Body) {
        self.forward.cipher.apply(body);
    }

    fn backward(&mut self, body: &mut Body) -> Option<Tag> {
        self.backward.cipher.apply(body);
        self.backward.recognise(body)
    }

    fn rest(&mut self) {
        self.forward.cipher.rest();
        self.backward.cipher.rest();
    }
}

/// One direction at one hop: the cipher, and the digest of all plain bodies so far.
struct Direction {
    cipher: Aes128Ctr,
    digest: RunningSha1,
}

impl Direction {
    fn new(key: &[u8; 16], seed: &[u8; 20]) -> Self {
        let mut digest = RunningSha1::new();
        digest.update(seed);
        Direction {
            cipher: Aes128Ctr::new(key),
            digest,
        }
    }

    /// Whether a decrypted body ends here: `recognized` is zero and the digest fits.
    fn recognise(&mut self, body: &mut Body) -> Option<Tag> {
        if body[RECOGNIZED] != [0, 0] {
            return None;
        }
        let mut carried = [0; 4];
        carried.copy_from_slice(&body[DIGEST]);
        body[DIGEST].fill(0);
        // One cell in 65,536 for another hop has a zero there by chance: the digest that it
        // would spoil is put back.
        let mut after = self.digest.clone();
        after.update(body);
        let tag = after.peek();
        if bool::from(tag[..4].ct_eq(&carried)) {
            self.digest = after;
            Some(tag)
        } else {
            body[DIGEST].copy_from_slice(&carried);
            None
        }
    }

    /// Writes the digest into a plain body whose `recognized` and digest fields are zero.
    fn seal(&mut self, body: &mut Body) -> Tag {
        body[RECOGNIZED].fill(0);
        body[DIGEST].fill(0);
        self.digest.update(body);
        let tag = self.digest.peek();
        body[DIGEST].copy_from_slice(&tag[..4]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> KeyMaterial {
        KeyMaterial {
            digest_forward: [seed; 20],
            digest_backward: [seed ^ 0x55; 20],
            key_forward: [seed ^ 0x0f; 16],
            key_backward: [seed ^ 0xf0; 16],
        }
    }

    #[test]
    fn three_hops_peel_in_turn_and_only_the_addressed_one_recognises() {
        let mut client: Vec<Tor1> = (1..4).map(|i| Tor1::new(&keys(i))).collect();
        let mut routers: Vec<Tor1> = (1..4).map(|i| Tor1::new(&keys(i))).collect();
        for round in 0u8..100 {
            let target = usize::from(round % 3);
            let mut plain = [round; BODY_LEN];
            plain[RECOGNIZED].fill(0);
            plain[DIGEST].fill(0);
            let mut body = plain;
            let sent = ClientLayer::originate(&mut client[target], &mut body);
            for hop in (0..target).rev() {
                ClientLayer::forward(&mut client[hop], &mut body);
            }
            for (hop, router) in routers.iter_mut().enumerate().take(target + 1) {
                let tag = RouterLayer::forward(router, &mut body);
                assert_eq!(tag, (hop == target).then_some(sent));
            }
            body[DIGEST].fill(0);
            assert_eq!(body, plain);

            let mut body = plain;
            let sent = RouterLayer::originate(&mut routers[target], &mut body);
            for hop in (0..target).rev() {
                RouterLayer::backward(&mut routers[hop], &mut body);
            }
            for (hop, layer) in client.iter_mut().enumerate().take(target + 1) {
                let tag = ClientLayer::backward(layer, &mut body);
                assert_eq!(tag, (hop == target).then_some(sent));
            }
        }
    }

    #[test]
    fn a_changed_cell_is_not_recognised_and_does_not_spoil_the_digest() {
        let mut client = Tor1::new(&keys(1));
        let mut router = Tor1::new(&keys(1));
        // A body of zeros but for the payload: `recognized` is zero, the digest is wrong.
        let mut forged = [0; BODY_LEN];
        forged[20] = 1;
        assert_eq!(router.forward.recognise(&mut forged), None);
        let mut body = [0; BODY_LEN];
        ClientLayer::originate(&mut client, &mut body);
        assert!(RouterLayer::forward(&mut router, &mut body).is_some());
    }
}
