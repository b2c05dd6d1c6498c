//! The requester against simulated sources, the server against simulated requesters.
//!
//! A [`world`] has real [`Requester`](super::Requester) and [`Server`](super::Server) machines and
//! simulated everything else: time, links, hosts, readers. All of it comes from a seed, which is
//! printed when something is wrong: `CHIVE_SEED=… cargo test` runs that one alone.

mod faults;
mod seeds;
mod server;
mod torrents;
mod world;

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn range(&mut self, range: std::ops::RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True once in `in_all`.
    pub(super) fn once_in(&mut self, in_all: u64) -> bool {
        self.below(in_all) == 0
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
