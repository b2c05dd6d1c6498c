//! What the onion layers are made of.

pub mod aes;
pub mod sha1;
