//! The operating system's random source: read for seeds and names, never by the core.

use std::io;

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;

/// 32 bytes of the system's randomness: a node's seed.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}

/// A generator seeded from the system.
pub fn generator() -> io::Result<ChaCha20Rng> {
    Ok(ChaCha20Rng::from_seed(seed()?))
}
