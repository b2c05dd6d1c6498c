//! The tokio host: one node, its TLS, WebSocket and WebRTC links, and what the native programs share.
//!
//! [`Driver`] runs a [`Node`](crate::node::Node); everything else here is what a program needs
//! around it: a port, a key file, a log, a stop signal. Nothing of it is known to the core.

pub mod clock;
mod connect;
mod driver;
pub mod failure;
pub mod http;
pub mod keys;
pub mod limits;
mod link;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod options;
mod pipe;
pub mod process;
pub mod random;
mod read_ahead;
mod stats;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport;
pub mod webrtc;
pub mod websocket;

pub use clock::Clock;
pub use driver::{Driver, DriverOptions, Stopped};
pub use failure::Failure;
pub use link::LinkTimes;
pub use pipe::{MAX_INBOUND_BYTES, MAX_OUTBOUND_BYTES, MAX_OUTBOUND_BYTES_IN_ALL};
pub use read_ahead::ReadAhead;
pub use stats::Stats;
pub use tls::Tls;
