//! The harness in which all of Chive runs together: processes, networks on loopback, a browser;
//! and the simulated network, in which many nodes run in one thread ([`sim`]).
//!
//! Outside the simulation nothing stands in for the real thing: bridges and facilitators are the
//! binaries that are shipped, the browsers are Chromium and Firefox, and where the shared tools are at hand the
//! swarm is made of other people's BitTorrent clients and the relays are `tor`'s own. What is not
//! installed makes a test say so and skip ([`require!`]).
//!
//! Every wait has a deadline and is for something that happened, never for time to pass.

pub mod browser;
pub mod client;
pub mod demo;
pub mod firefox;
pub mod network;
pub mod process;
pub mod raw;
pub mod scale;
pub mod seeder;
pub mod shared;
pub mod sim;
pub mod tabs;
pub mod torrents;
mod webdriver;

/// Takes the value of an `Option`; without one, says why the test skips, and returns from it.
#[macro_export]
macro_rules! require {
    ($available:expr, $what:literal) => {
        match $available {
            Some(value) => value,
            None => {
                eprintln!("SKIPPED: {} is not at hand", $what);
                return Ok(());
            }
        }
    };
}
