//! The benches.

pub mod cells;
