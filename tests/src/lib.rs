//! What the tests, the demo and the benchmarks share.

pub mod raw;
pub mod sim;
pub mod torrents;
