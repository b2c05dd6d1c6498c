//! What runs for each byte of each cell: AES-128 in counter mode, and the running SHA-1.
//!
//! A crate of its own so that in a tab it alone is compiled for speed, and all else for size.

pub mod aes;
pub mod sha1;
