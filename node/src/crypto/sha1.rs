//! The running SHA-1 of Tor's relay messages (tor-spec, "Relay cells").
//!
//! Each direction of a circuit keeps one digest of all relay messages so far; each message
//! carries the first four bytes of the digest that includes it.

use sha1::{Digest, Sha1};

/// A SHA-1 that goes on after it was looked at.
///
/// A clone is the state at this moment: who must be able to undo an [`update`](Self::update)
/// (the message turned out not to be for us) keeps one.
#[derive(Clone, Default)]
pub struct RunningSha1(Sha1);

impl RunningSha1 {
    /// The digest of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in `data`.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all that was taken in so far.
    pub fn peek(&self) -> [u8; 20] {
        self.0.clone().finalize().into()
    }
}

impl std::fmt::Debug for RunningSha1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunningSha1 { .. }")
    }
}

#[cfg(test)]
mod tests {
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
