//! Chive's core: an onion router, proxy and content server that does no I/O.
//!
//! The core has no clock, no random source, no socket, no task and no `async`. A host (the tab's
//! `web`, tokio's `native`, the simulator) drives one [`node::Node`]: it puts in what the
//! world did with `handle_input(now, Input)` and takes out what the node wants with
//! `poll_output() -> Output`.

pub mod circuit;
pub mod crypto;
pub mod ids;
pub mod kad;
pub mod link;
pub mod memo;
pub mod node;
pub mod ordb;
mod order;
pub mod sensitive;
pub mod store;
pub mod time;
pub mod torrent;
pub mod wire;

#[cfg(feature = "native")]
pub mod native;
#[cfg(all(target_arch = "wasm32", feature = "web"))]
pub mod web;
/// What of the tab's host needs no tab is tested without one.
#[cfg(all(test, not(target_arch = "wasm32")))]
#[path = "web/signal.rs"]
mod web_signal;
