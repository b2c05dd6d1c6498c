//! What the demo can be told; `cargo xtask demo` and the demo itself read the same.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The demo's arguments.
#[derive(clap::Args, Clone, Debug)]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "xtask reads the words and hands them on"
)]
pub struct Args {
    /// Play this torrent (a magnet link or an infohash), not the sample film.
    #[arg(long, value_name = "MAGNET")]
    pub magnet: Option<String>,
    /// Open a mesh of so many tabs in two Chromium processes: one shares the sample film, another
    /// fetches it, the others carry.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(3..=24),
        conflicts_with_all = ["magnet", "dht_bootstrap", "peer", "tracker"]
    )]
    pub tabs: Option<u8>,
    /// Find peers from this DHT node, not from the public ones.
    #[arg(long, value_name = "HOST:PORT")]
    pub dht_bootstrap: Vec<String>,
    /// A peer that has the torrent.
    #[arg(long, value_name = "IP:PORT")]
    pub peer: Vec<SocketAddr>,
    /// A tracker that knows of the torrent.
    #[arg(long, value_name = "URL")]
    pub tracker: Vec<String>,
    /// Play it in a headless Chromium (with --tabs: fetch it), print how that went as one JSON
    /// object, and end.
    #[arg(long)]
    pub check: bool,
    /// Where the check's screenshot goes.
    #[arg(long, value_name = "FILE", default_value = "target/demo.png")]
    pub screenshot: PathBuf,
    /// Write the check's JSON object here too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
