//! What the tests, the demo and the benchmarks share.

pub mod raw;
pub mod shared;
pub mod sim;
pub mod tornet;
pub mod torrents;
