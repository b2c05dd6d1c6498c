//! The demo's binary; `cargo xtask demo` builds what it needs and starts it.

fn main() {}
