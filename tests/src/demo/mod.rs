//! The demo: everything on one machine, and a torrent that plays in a tab.

pub mod args;
pub mod check;
pub mod mesh;
