//! What the onion layers are made of.

pub mod aes;
pub mod ntor;
pub mod relay;
pub mod sha1;
