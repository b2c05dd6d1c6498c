//! What the onion layers are made of.

pub mod ntor;
pub mod relay;
pub mod seal;

pub use chive_cipher::{aes, sha1};
