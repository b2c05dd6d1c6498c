//! The running SHA-1 of Tor's relay messages (tor-spec, "Relay cells").
//!
//! Each direction of a circuit keeps one digest of all relay messages so far; each message
//! carries the first four bytes of the digest that includes it.

use sha1::block_api::compress;

const BLOCK: usize = 64;

/// A SHA-1 that goes on after it was looked at.
///
/// A clone is the state at this moment: who must be able to undo an [`update`](Self::update)
/// (the message turned out not to be for us) keeps one.
//
// The crate's compression with a buffer of our own: its `Digest` copies more, which shows at one
// `update` and one `peek` a cell.
#[derive(Clone)]
pub struct RunningSha1 {
    state: [u32; 5],
    /// Bytes taken in. What is over whole blocks waits at the front of `buffer`.
    length: u64,
    buffer: [u8; BLOCK],
}

impl RunningSha1 {
    /// The digest of nothing yet.
    pub fn new() -> Self {
        RunningSha1 {
            state: [
                0x6745_2301,
                0xefcd_ab89,
                0x98ba_dcfe,
                0x1032_5476,
                0xc3d2_e1f0,
            ],
            length: 0,
            buffer: [0; BLOCK],
        }
    }

    /// Takes in `data`.
    pub fn update(&mut self, mut data: &[u8]) {
        let waiting = self.waiting();
        self.length = self.length.wrapping_add(data.len() as u64);
        if waiting > 0 {
            let free = &mut self.buffer[waiting..];
            if data.len() < free.len() {
                free[..data.len()].copy_from_slice(data);
                return;
            }
            let (now, later) = data.split_at(free.len());
            free.copy_from_slice(now);
            compress(&mut self.state, std::slice::from_ref(&self.buffer));
            data = later;
        }
        let (blocks, rest) = data.as_chunks();
        compress(&mut self.state, blocks);
        self.buffer[..rest.len()].copy_from_slice(rest);
    }

    /// The digest of all that was taken in so far.
    pub fn peek(&self) -> [u8; 20] {
        let waiting = self.waiting();
        let mut state = self.state;
        let mut last = [0; BLOCK];
        last[..waiting].copy_from_slice(&self.buffer[..waiting]);
        last[waiting] = 0x80;
        if waiting >= BLOCK - 8 {
            compress(&mut state, std::slice::from_ref(&last));
            last = [0; BLOCK];
        }
        last[BLOCK - 8..].copy_from_slice(&self.length.wrapping_mul(8).to_be_bytes());
        compress(&mut state, std::slice::from_ref(&last));
        let mut digest = [0; 20];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    fn waiting(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }
}

impl Default for RunningSha1 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RunningSha1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunningSha1 { .. }")
    }
}

#[cfg(test)]
mod tests {
    use sha1::{Digest, Sha1};

    use super::*;

    #[test]
    fn peeking_does_not_disturb() {
        let data: Vec<u8> = (0..4000u32).map(|i| (i * 7) as u8).collect();
        let mut running = RunningSha1::new();
        let mut end = 0;
        for step in (0..60).chain([64, 128, 55, 56, 63]) {
            running.update(&data[end..end + step]);
            end += step;
            let whole: [u8; 20] = Sha1::digest(&data[..end]).into();
            assert_eq!(running.peek(), whole);
            assert_eq!(running.peek(), whole);
        }
    }

    #[test]
    fn fips_180_vector() {
        let mut running = RunningSha1::new();
        running.update(b"a");
        running.update(b"bc");
        let expected = [
            0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50,
            0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d,
        ];
        assert_eq!(running.peek(), expected);
    }
}
