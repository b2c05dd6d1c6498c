//! Our wire and our certificates against those of Arti, the Tor in Rust: see `tests/`.
