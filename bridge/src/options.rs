//! What an operator may set: by flag, by environment, by TOML file, in this order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use chive_node::first_of;
use chive_node::native::{Failure, options};
use clap::Parser;
use serde::Deserialize;

/// Chive's bridge: tabs enter the network by it, and it serves the page.
///
/// Each option can also stand in the environment, as its help says, and in a TOML file given with
/// --config, under the option's name without the dashes in front (`or-address = ["192.0.2.7:9001"]`).
/// A flag goes before the environment, the environment before the file. Options that may be
/// repeated are lists in the file, and in the environment they are separated by commas.
#[derive(Clone, Debug, Default, Deserialize, Parser)]
#[command(name = "chive-bridge", version)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// The TOML file with options; an unknown key in it is an error.
    #[arg(long, value_name = "FILE", env = "CHIVE_BRIDGE_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Where HTTP is served: the page, /bridge.json and the WebSocket /link. May be repeated.
    /// TLS is a proxy's task: see docs/bridges.md. [default: 0.0.0.0:8080]
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "CHIVE_BRIDGE_HTTP",
        value_delimiter = ','
    )]
    pub http: Vec<SocketAddr>,

    /// Where routers connect (Tor's TLS links). May be repeated. [default: 0.0.0.0:9001]
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "CHIVE_BRIDGE_OR",
        value_delimiter = ','
    )]
    pub or: Vec<SocketAddr>,

    /// Where others reach the OR port from outside, if that is another address than --or's. May
    /// be repeated.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "CHIVE_BRIDGE_OR_ADDRESS",
        value_delimiter = ','
    )]
    pub or_address: Vec<SocketAddr>,

    /// Take WebRTC from tabs too, on UDP ports of the same numbers as --or's. Tabs then reach this bridge by its address alone, without the page and its HTTP. [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_BRIDGE_WEBRTC")]
    pub webrtc: Option<bool>,

    /// What tabs dial, if a proxy stands before this bridge: wss://bridge.example/link. Without
    /// it /bridge.json names the host that the browser asked.
    #[arg(long, value_name = "WS-URL", env = "CHIVE_BRIDGE_PUBLIC_URL")]
    pub public_url: Option<String>,

    /// The folder for keys, made with mode 0700 at the first run.
    /// [default: $STATE_DIRECTORY, as systemd sets it, or ./chive-bridge-data]
    #[arg(long, value_name = "DIR", env = "CHIVE_BRIDGE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Dial and introduce addresses that exist only at home too (127.0.0.1, 10.0.0.0/8, …): for
    /// tests and demonstrations on one machine.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_BRIDGE_ALLOW_PRIVATE")]
    pub allow_private: Option<bool>,

    /// Take a client's address from X-Forwarded-For: only behind a proxy of yours that sets it,
    /// for anyone else can write there what they like.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_BRIDGE_TRUST_PROXY")]
    pub trust_proxy: Option<bool>,

    /// A web origin whose pages may open the WebSocket (`https://page.example`). May be repeated;
    /// without any, all may: the module chive.js is for other people's pages too.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "CHIVE_BRIDGE_ORIGIN",
        value_delimiter = ','
    )]
    pub origin: Vec<String>,

    /// Another bridge's line (ws://… or wss://…) for the page: its tabs then do not depend on
    /// this bridge alone. May be repeated.
    #[arg(
        long,
        value_name = "LINE",
        env = "CHIVE_BRIDGE_OTHER_BRIDGE",
        value_delimiter = ','
    )]
    pub other_bridge: Vec<String>,

    /// A magnet link that the page offers as a sample to press.
    #[arg(
        long,
        alias = "sample",
        value_name = "MAGNET",
        env = "CHIVE_BRIDGE_SAMPLE_MAGNET"
    )]
    pub sample_magnet: Option<String>,

    /// Serve the page from this folder (web/dist) instead of the one built in.
    #[arg(long, value_name = "DIR", env = "CHIVE_BRIDGE_WEB_DIR")]
    pub web_dir: Option<PathBuf>,

    /// Connections at once, HTTP, WebSockets and OR port together. [default: 4096]
    #[arg(long, value_name = "N", env = "CHIVE_BRIDGE_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,

    /// Connections at once from one IPv4 address or IPv6 /64. Many people share one address where
    /// addresses are few. [default: 256]
    #[arg(
        long,
        value_name = "N",
        env = "CHIVE_BRIDGE_MAX_CONNECTIONS_PER_ADDRESS"
    )]
    pub max_connections_per_address: Option<u32>,

    /// New connections a second from one address; four seconds' worth may come at once.
    /// [default: 32]
    #[arg(
        long,
        value_name = "N",
        env = "CHIVE_BRIDGE_MAX_NEW_CONNECTIONS_PER_SECOND"
    )]
    pub max_new_connections_per_second: Option<u32>,

    /// Circuits at once over one link. [default: 1024]
    #[arg(long, value_name = "N", env = "CHIVE_BRIDGE_MAX_CIRCUITS_PER_LINK")]
    pub max_circuits_per_link: Option<usize>,

    /// Routers that this bridge introduces at once. [default: 4096]
    #[arg(long, value_name = "N", env = "CHIVE_BRIDGE_MAX_ROUTERS")]
    pub max_routers: Option<usize>,

    /// MiB of cells that may wait in all queues. [default: 64]
    #[arg(long, value_name = "MIB", env = "CHIVE_BRIDGE_MAX_QUEUED_MIB")]
    pub max_queued_mib: Option<usize>,

    /// Serve /metrics (Prometheus) on this address too. On --http it is answered to this machine
    /// alone, for how many use a bridge, and when, is nobody else's matter.
    #[arg(long, value_name = "IP:PORT", env = "CHIVE_BRIDGE_METRICS")]
    pub metrics: Option<SocketAddr>,

    /// How long links may finish what is queued after SIGINT or SIGTERM. [default: 3]
    #[arg(long, value_name = "SECONDS", env = "CHIVE_BRIDGE_STOP_SECONDS")]
    pub stop_seconds: Option<u64>,

    /// What is logged to stderr: a level, or tracing's filters (chive_node=debug,info).
    /// [default: info]
    #[arg(long, value_name = "FILTER", env = "CHIVE_BRIDGE_LOG")]
    pub log: Option<String>,

    /// Print addresses in the logs, and what libraries log. Think of whom such a log may harm.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_BRIDGE_LOG_ADDRESSES")]
    pub log_addresses: Option<bool>,

    /// Print one line of JSON on stdout when the bridge listens: http, websocket, or, bridge_line,
    /// fingerprint, ed25519, ntor, pid.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", env = "CHIVE_BRIDGE_PRINT_READY")]
    pub print_ready: Option<bool>,
}

impl Options {
    /// The options of this process: flags and environment, then the file that they name.
    pub fn load() -> Result<Options, Failure> {
        Options::parse().with_file()
    }

    /// Fills in from the file what is not given, and the usual addresses.
    pub fn with_file(self) -> Result<Options, Failure> {
        let mut options = match &self.config {
            Some(path) => {
                let file = options::read(path)?;
                self.or(file)
            }
            None => self,
        };
        let any = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        if options.http.is_empty() {
            options.http.push(any(8080));
        }
        if options.or.is_empty() {
            options.or.push(any(9001));
        }
        Ok(options)
    }

    fn or(self, file: Options) -> Options {
        first_of!(Options: self, file;
            config, webrtc, public_url, data_dir, allow_private, trust_proxy, sample_magnet, web_dir,
            max_connections, max_connections_per_address, max_new_connections_per_second,
            max_circuits_per_link, max_routers, max_queued_mib, metrics, stop_seconds, log,
            log_addresses, print_ready;
            lists http, or, or_address, origin, other_bridge
        )
    }

    /// The folder for keys.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir
            .clone()
            .or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from("chive-bridge-data"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridge.toml");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (folder, path)
    }

    fn parse(arguments: &[&str]) -> Options {
        Options::try_parse_from([&["chive-bridge"], arguments].concat()).unwrap()
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_what_is_usual() {
        let (_folder, path) = file(
            "http = [\"127.0.0.1:1\", \"[::1]:1\"]\nor = [\"127.0.0.1:2\"]\nmax-connections = 7\n\
             trust-proxy = true\nallow-private = true\n",
        );
        let given = [
            "--config",
            &path,
            "--or",
            "127.0.0.1:3",
            "--allow-private=false",
        ];
        let options = parse(&given).with_file().unwrap();
        assert_eq!(
            options.http,
            ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]
        );
        assert_eq!(options.or, ["127.0.0.1:3".parse().unwrap()]);
        assert_eq!(options.max_connections, Some(7));
        assert_eq!(options.trust_proxy, Some(true));
        assert_eq!(options.allow_private, Some(false));
        let usual = parse(&["--print-ready"]).with_file().unwrap();
        assert_eq!(usual.http, ["0.0.0.0:8080".parse().unwrap()]);
        assert_eq!(usual.print_ready, Some(true));
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        for (text, words) in [
            (
                "\n\nhtpp = [\"127.0.0.1:1\"]\n",
                &["line 3", "htpp", "unknown field"][..],
            ),
            ("or = \"127.0.0.1\"\n", &["line 1"]),
            ("max-connections = -1\n", &["line 1", "max-connections"]),
            ("or = [\n", &["line 1"]),
            ("config = \"other.toml\"\n", &["line 1", "config"]),
        ] {
            let (_folder, path) = file(text);
            let said = parse(&["--config", &path])
                .with_file()
                .unwrap_err()
                .to_string();
            for word in [words, &["bridge.toml"]].concat() {
                assert!(said.contains(word), "{word:?} is not in: {said}");
            }
        }
        let said = parse(&["--config", "/nowhere.toml"])
            .with_file()
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("cannot read the configuration /nowhere.toml"),
            "{said}"
        );
    }

    #[test]
    fn the_help_and_the_manual_name_every_option() {
        use clap::CommandFactory;
        let help = Options::command().render_long_help().to_string();
        let manual = include_str!("../../docs/bridges.md");
        for argument in Options::command().get_arguments() {
            let name = argument.get_long().unwrap();
            assert!(help.contains(&format!("--{name}")), "{name}");
            if !["help", "version"].contains(&name) {
                assert!(manual.contains(&format!("| `--{name}")), "{name}");
                let variable = name.to_uppercase().replace('-', "_");
                assert!(
                    help.contains(&format!("[env: CHIVE_BRIDGE_{variable}=")),
                    "{name}"
                );
            }
        }
    }
}
