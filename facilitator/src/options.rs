//! What an operator may set: by flag, by environment, by TOML file, in this order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use chive_node::first_of;
use chive_node::native::{Failure, options};
use clap::Parser;
use serde::Deserialize;
use url::Url;

/// Chive's facilitator: always on, a router and an ORDB that takes content out of BitTorrent swarms.
///
/// Each option can also stand in the environment, as its help says, and in a TOML file given with
/// --config, under the option's name without the dashes in front (`bridge = ["192.0.2.7:9001/…"]`).
/// A flag goes before the environment, the environment before the file. Options that may be
/// repeated are lists in the file, and in the environment they are separated by commas.
#[derive(Clone, Debug, Default, Deserialize, Parser)]
#[command(name = "chive-facilitator", version)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// The TOML file with options; an unknown key in it is an error.
    #[arg(long, value_name = "FILE", env = "CHIVE_FACILITATOR_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// A bridge to register with: the line that it prints for facilitators,
    /// HOST:PORT/FINGERPRINT/ED25519. May be repeated.
    #[arg(
        long,
        value_name = "LINE",
        env = "CHIVE_FACILITATOR_BRIDGE",
        value_delimiter = ','
    )]
    pub bridge: Vec<String>,

    /// Where routers connect (Tor's TLS links). May be repeated. [default: 0.0.0.0:9001]
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "CHIVE_FACILITATOR_OR",
        value_delimiter = ','
    )]
    pub or: Vec<SocketAddr>,

    /// Where others reach the OR port from outside: needed if --or listens on all addresses, or
    /// behind a NAT with a port forwarded. May be repeated.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "CHIVE_FACILITATOR_OR_ADDRESS",
        value_delimiter = ','
    )]
    pub or_address: Vec<SocketAddr>,

    /// Take WebRTC from tabs too, on UDP ports of the same numbers as --or's. Tabs then reach this facilitator directly. [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_FACILITATOR_WEBRTC")]
    pub webrtc: Option<bool>,

    /// The folder for keys, made with mode 0700 at the first run; no content is ever written.
    /// [default: $STATE_DIRECTORY, as systemd sets it, or ./chive-facilitator-data]
    #[arg(long, value_name = "DIR", env = "CHIVE_FACILITATOR_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Contact addresses that exist only at home too (127.0.0.1, 10.0.0.0/8, …): for tests and
    /// demonstrations on one machine, never in a home network.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_FACILITATOR_ALLOW_PRIVATE")]
    pub allow_private: Option<bool>,

    /// Where the Mainline DHT is entered, instead of the well-known nodes. May be repeated.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "CHIVE_FACILITATOR_DHT_BOOTSTRAP",
        value_delimiter = ','
    )]
    pub dht_bootstrap: Vec<String>,

    /// Do not use the DHT.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_FACILITATOR_NO_DHT")]
    pub no_dht: Option<bool>,

    /// A tracker that is asked for every torrent, and told of what is shared (udp: or http:). May
    /// be repeated.
    #[arg(
        long,
        value_name = "URL",
        env = "CHIVE_FACILITATOR_TRACKER",
        value_delimiter = ','
    )]
    pub tracker: Vec<Url>,

    /// A BitTorrent peer that is tried for every torrent. May be repeated.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "CHIVE_FACILITATOR_PEER",
        value_delimiter = ','
    )]
    pub peer: Vec<SocketAddr>,

    /// A folder with .torrent files and, beside them or in folders of the torrents' names, their
    /// content: it is given to BitTorrent clients and to those in Chive who ask for it. Without
    /// this, nothing is given to BitTorrent clients. New files are found while it runs.
    #[arg(long, value_name = "DIR", env = "CHIVE_FACILITATOR_SHARE")]
    pub share: Option<PathBuf>,

    /// Where BitTorrent clients connect for what is shared; trackers are told the port.
    /// [default: 0.0.0.0:6881]
    #[arg(long, value_name = "IP:PORT", env = "CHIVE_FACILITATOR_SHARE_LISTEN")]
    pub share_listen: Option<SocketAddr>,

    /// KiB a second that BitTorrent clients are given of what is shared, all together; 0 is
    /// without a limit. [default: 0]
    #[arg(long, value_name = "KIB", env = "CHIVE_FACILITATOR_SHARE_RATE")]
    pub share_rate: Option<u64>,

    /// BitTorrent clients that are connected for what is shared. [default: 100]
    #[arg(long, value_name = "N", env = "CHIVE_FACILITATOR_SHARE_PEERS")]
    pub share_peers: Option<usize>,

    /// Those of them that are given something at once; the others wait for their turn.
    /// [default: 8]
    #[arg(long, value_name = "N", env = "CHIVE_FACILITATOR_SHARE_UNCHOKED")]
    pub share_unchoked: Option<usize>,

    /// MiB of content in memory at most, of all torrents. [default: 256]
    #[arg(long, value_name = "MIB", env = "CHIVE_FACILITATOR_MEMORY_CAP_MIB")]
    pub memory_cap_mib: Option<usize>,

    /// Torrents at once; more are refused. [default: 32]
    #[arg(long, value_name = "N", env = "CHIVE_FACILITATOR_MAX_TORRENTS")]
    pub max_torrents: Option<usize>,

    /// BitTorrent peers of one torrent at once. [default: 40]
    #[arg(long, value_name = "N", env = "CHIVE_FACILITATOR_MAX_PEERS")]
    pub max_peers: Option<usize>,

    /// How long a torrent is looked for before its asker is told that nobody has it. [default: 60]
    #[arg(long, value_name = "SECONDS", env = "CHIVE_FACILITATOR_FIND_SECONDS")]
    pub find_seconds: Option<u64>,

    /// Connections to the OR port at once. [default: 1024]
    #[arg(long, value_name = "N", env = "CHIVE_FACILITATOR_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,

    /// Connections at once from one IPv4 address or IPv6 /64. [default: 64]
    #[arg(
        long,
        value_name = "N",
        env = "CHIVE_FACILITATOR_MAX_CONNECTIONS_PER_ADDRESS"
    )]
    pub max_connections_per_address: Option<u32>,

    /// New connections a second from one address; four seconds' worth may come at once.
    /// [default: 16]
    #[arg(
        long,
        value_name = "N",
        env = "CHIVE_FACILITATOR_MAX_NEW_CONNECTIONS_PER_SECOND"
    )]
    pub max_new_connections_per_second: Option<u32>,

    /// Circuits at once over one link. [default: 1024]
    #[arg(
        long,
        value_name = "N",
        env = "CHIVE_FACILITATOR_MAX_CIRCUITS_PER_LINK"
    )]
    pub max_circuits_per_link: Option<usize>,

    /// MiB of cells that may wait in all queues. [default: 64]
    #[arg(long, value_name = "MIB", env = "CHIVE_FACILITATOR_MAX_QUEUED_MIB")]
    pub max_queued_mib: Option<usize>,

    /// Serve /metrics (Prometheus) on this address. Think of who can read it: how much a
    /// facilitator carries, and when, is nobody else's matter.
    #[arg(long, value_name = "IP:PORT", env = "CHIVE_FACILITATOR_METRICS")]
    pub metrics: Option<SocketAddr>,

    /// How long links may finish what is queued after SIGINT or SIGTERM. [default: 3]
    #[arg(long, value_name = "SECONDS", env = "CHIVE_FACILITATOR_STOP_SECONDS")]
    pub stop_seconds: Option<u64>,

    /// What is logged to stderr: a level, or tracing's filters (chive_node=debug,info).
    /// [default: info]
    #[arg(long, value_name = "FILTER", env = "CHIVE_FACILITATOR_LOG")]
    pub log: Option<String>,

    /// Print addresses and names of content in the logs, and what libraries log. Think of whom
    /// such a log may harm.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_FACILITATOR_LOG_ADDRESSES")]
    pub log_addresses: Option<bool>,

    /// Print one line of JSON on stdout when the facilitator listens and each bridge took it or
    /// failed: or, fingerprint, ed25519, ntor, bridges, share, pid.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_FACILITATOR_PRINT_READY")]
    pub print_ready: Option<bool>,
}

impl Options {
    /// The options of this process: flags and environment, then the file that they name.
    pub fn load() -> Result<Options, Failure> {
        Options::parse().with_file()
    }

    /// Fills in from the file what is not given, and the usual address.
    pub fn with_file(self) -> Result<Options, Failure> {
        let mut options = match &self.config {
            Some(path) => {
                let file = options::read(path)?;
                self.or(file)
            }
            None => self,
        };
        if options.or.is_empty() {
            let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            options.or.push(SocketAddr::new(any, 9001));
        }
        Ok(options)
    }

    fn or(self, file: Options) -> Options {
        first_of!(Options: self, file;
            config, webrtc, data_dir, allow_private, no_dht, share, share_listen,
            share_rate, share_peers, share_unchoked, memory_cap_mib, max_torrents, max_peers,
            find_seconds, max_connections, max_connections_per_address,
            max_new_connections_per_second, max_circuits_per_link, max_queued_mib, metrics,
            stop_seconds, log, log_addresses, print_ready;
            lists bridge, or, or_address, dht_bootstrap, tracker, peer
        )
    }

    /// The folder for keys.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir
            .clone()
            .or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from("chive-facilitator-data"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Options {
        Options::try_parse_from([&["chive-facilitator"], arguments].concat()).unwrap()
    }

    #[test]
    fn flags_go_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facilitator.toml");
        let text = "bridge = [\"a\", \"b\"]\nmemory-cap-mib = 7\nno-dht = true\n\
                    tracker = [\"udp://tracker.example:1\"]\n";
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let given = ["--config", path, "--bridge", "c", "--bridge", "d"];
        let options = parse(&given).with_file().unwrap();
        assert_eq!(options.bridge, ["c", "d"]);
        assert_eq!(options.memory_cap_mib, Some(7));
        assert_eq!(options.no_dht, Some(true));
        assert_eq!(options.tracker[0].as_str(), "udp://tracker.example:1");
        assert_eq!(options.or, ["0.0.0.0:9001".parse().unwrap()]);

        std::fs::write(path, "tracker = [\"udp://t\"]\nno-dth = true\n").unwrap();
        let said = parse(&["--config", path])
            .with_file()
            .unwrap_err()
            .to_string();
        assert!(said.contains("line 2") && said.contains("no-dth"), "{said}");
    }

    #[test]
    fn the_help_and_the_manual_name_every_option() {
        use clap::CommandFactory;
        let help = Options::command().render_long_help().to_string();
        let manual = include_str!("../../docs/facilitators.md");
        for argument in Options::command().get_arguments() {
            let name = argument.get_long().unwrap();
            assert!(help.contains(&format!("--{name}")), "{name}");
            if !["help", "version"].contains(&name) {
                assert!(manual.contains(&format!("| `--{name}")), "{name}");
                let variable = name.to_uppercase().replace('-', "_");
                let variable = format!("[env: CHIVE_FACILITATOR_{variable}=");
                assert!(help.contains(&variable), "{name}");
            }
        }
    }
}
