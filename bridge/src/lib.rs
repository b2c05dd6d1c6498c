//! Chive's bridge as a library: the binary is [`start`] with the options of its command line.

mod metrics;
pub mod options;
mod page;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chive_node::ids::OnionKey;
use chive_node::link::Identity;
use chive_node::native::keys::DataDir;
use chive_node::native::limits::{ConnectionLimits, Gate};
use chive_node::native::process::{Stop, Stopper};
use chive_node::native::webrtc::{DtlsCertificate, bind_or_ports};
use chive_node::native::{Clock, Driver, DriverOptions, Failure, Tls, clock, http, listen, random};
use chive_node::node::bridge_line::to_base64url;
use chive_node::node::{BridgeLine, Config, Event, Limits, Node, Transports};
use chive_node::torrent::Magnet;
use chive_node::wire::Roles;
use serde::Serialize;
use tokio::task::JoinHandle;
use tracing::{debug, info};

pub use options::Options;

use page::Page;
use server::{Bridges, Server};

/// What a bridge that listens is known by; `--print-ready` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// The page.
    pub http: String,
    /// The line by which tabs name this bridge.
    pub websocket: String,
    /// The OR port.
    pub or: SocketAddr,
    /// The line by which facilitators name this bridge.
    pub bridge_line: String,
    /// Tor's fingerprint, hex.
    pub fingerprint: String,
    /// The Ed25519 identity, base64url.
    pub ed25519: String,
    /// The ntor onion key, base64url.
    pub ntor: String,
    /// SHA-256 of the DTLS certificate that is shown on the OR port's number on UDP, base64url; if
    /// WebRTC is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtls: Option<String>,
    /// The lines by which tabs name this bridge where they dial it by WebRTC, for invitations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// Where metrics are served for others, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// This process.
    pub pid: u32,
}

/// A bridge that runs.
#[derive(Debug)]
pub struct Bridge {
    /// What it is known by.
    pub ready: Ready,
    driver: Driver,
    stopper: Stopper,
    ports: Vec<JoinHandle<()>>,
    _data: DataDir,
    patience: Duration,
}

impl Bridge {
    /// Takes no connections any longer, lets links finish what is queued for the time that the
    /// options give, and closes them.
    pub async fn stop(self) {
        self.stopper.stop();
        for port in self.ports {
            // The port is free when its task has ended, however it did.
            let _ = port.await;
        }
        self.driver.stop(self.patience).await;
    }

    /// The running node.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }
}

/// Starts a bridge on the runtime that this is called in.
pub async fn start(options: Options) -> Result<Bridge, Failure> {
    let sample = options.sample_magnet.as_deref().map(sample).transpose()?;
    let page = match &options.web_dir {
        Some(folder) => Page::from_folder(folder)?,
        None => Page::embedded(),
    };
    let other_bridges = options.other_bridge.iter().map(|line| websocket_line(line));
    let other_bridges = other_bridges.collect::<Result<Vec<_>, _>>()?;
    if let Some(url) = &options.public_url {
        check_public_url(url)?;
    }
    let data = DataDir::open(&options.data_dir())?;
    let identity = data.identity()?;
    let system = |error| Failure::new(format!("the system gives no keys for TLS: {error}"));
    let tls = Tls::generate().map_err(system)?;

    // All ports before anything else happens: who finds one taken has disturbed nobody.
    let http = listen::bind_all(&options.http, "page")?;
    let (or, webrtc) = bind_or_ports(&options.or, options.webrtc.unwrap_or(true))?;
    let dtls = if webrtc.is_empty() {
        None
    } else {
        Some(data.dtls_certificate(clock::unix_seconds())?)
    };
    let metrics = options
        .metrics
        .map(|address| listen::bind(address, "metrics"))
        .transpose()?;
    let (http_at, or_at) = (listen::addresses(&http)?, listen::addresses(&or)?);
    let metrics_at = metrics
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    let addresses = listen::public_addresses(&options.or_address, &or_at)?;

    let connections = ConnectionLimits {
        in_all: options.max_connections.unwrap_or(4096),
        per_address: options.max_connections_per_address.unwrap_or(256),
        per_second: options.max_new_connections_per_second.unwrap_or(32),
    };
    connections.raise_file_limit();
    let gate = Gate::new(connections);
    let mut limits = Limits {
        links: connections.links(),
        ..Limits::default()
    };
    limits.circuits_per_link = options
        .max_circuits_per_link
        .unwrap_or(limits.circuits_per_link);
    limits.registered = options.max_routers.unwrap_or(limits.registered);
    if let Some(mib) = options.max_queued_mib {
        limits.queued_bytes = mib.saturating_mul(1 << 20);
    }
    let config = Config {
        identity: Some(identity.clone()),
        tls_certificate_sha256: Some(tls.certificate_sha256()),
        dtls_certificate_sha256: dtls.as_ref().map(DtlsCertificate::sha256),
        entries: Vec::new(),
        transports: Transports::NATIVE,
        roles: Roles::BRIDGE.with(Roles::ROUTER),
        addresses: addresses.clone(),
        bridges: Vec::new(),
        hops: 3,
        asks: false,
        allow_private: options.allow_private.unwrap_or(false),
        unix_time: clock::unix_seconds(),
        limits,
    };
    let seed = random::seed().map_err(system)?;
    let clock = Clock::start();
    let node = Node::new(config, seed, clock.now());
    let driver = Driver::start(node, clock, DriverOptions::new(tls), |event| match event {
        Event::Circuits => {}
        _ => debug!("an event that is nothing to a bridge"),
    });

    let (stopper, stop) = Stop::pair();
    let mut ports = Vec::new();
    let ready = ready(
        &options,
        &identity,
        (&http_at, &or_at, &addresses),
        metrics_at,
        dtls.as_ref(),
    );
    let bridges = Bridges {
        ed25519: identity.ids().ed25519,
        onion: identity.onion_key(),
        public_url: options.public_url.clone(),
        others: other_bridges,
        peers: ready.peers.clone(),
    };
    let server = Arc::new(Server::new(
        &options,
        page,
        bridges,
        sample,
        gate.clone(),
        driver.clone(),
    ));
    for listener in http {
        let served = server.clone().serve_http(listener, stop.clone());
        ports.push(tokio::spawn(served));
    }
    for (port, certificate) in webrtc.into_iter().zip(std::iter::repeat(dtls.clone())) {
        let Some(certificate) = certificate else {
            continue;
        };
        let served = driver
            .clone()
            .serve_webrtc(port, certificate, gate.clone(), stop.clone());
        ports.push(tokio::spawn(served));
    }
    for listener in or {
        let served = driver
            .clone()
            .serve_or_port(listener, gate.clone(), stop.clone());
        ports.push(tokio::spawn(served));
    }
    if let Some(listener) = metrics {
        let render = move || {
            let server = server.clone();
            async move { server.metrics().await }
        };
        ports.push(tokio::spawn(http::serve_metrics(listener, stop, render)));
    }
    info!(fingerprint = %identity.ids().rsa, "the bridge listens");
    let patience = Duration::from_secs(options.stop_seconds.unwrap_or(3));
    Ok(Bridge {
        ready,
        driver,
        stopper,
        ports,
        _data: data,
        patience,
    })
}

fn ready(
    options: &Options,
    identity: &Identity,
    (http, or, addresses): (&[SocketAddr], &[SocketAddr], &[SocketAddr]),
    metrics: Option<SocketAddr>,
    dtls: Option<&DtlsCertificate>,
) -> Ready {
    let first = listen::first_reachable;
    let ids = identity.ids();
    let url = options
        .public_url
        .clone()
        .unwrap_or_else(|| format!("ws://{}/link", first(http)));
    Ready {
        http: format!("http://{}/", first(http)),
        websocket: tab_line(url, identity).to_string(),
        or: first(or),
        bridge_line: BridgeLine::Tls {
            address: first(if addresses.is_empty() { or } else { addresses }),
            rsa: ids.rsa,
            ed25519: ids.ed25519,
        }
        .to_string(),
        fingerprint: ids.rsa.to_string(),
        ed25519: to_base64url(&ids.ed25519.0),
        ntor: to_base64url(&identity.onion_key().0),
        dtls: dtls.map(|dtls| to_base64url(&dtls.sha256())),
        peers: dtls.map_or_else(Vec::new, |dtls| {
            let lines = BridgeLine::of_peer(identity, dtls.sha256(), addresses);
            lines.iter().map(ToString::to_string).collect()
        }),
        metrics,
        pid: std::process::id(),
    }
}

fn tab_line(url: String, identity: &Identity) -> BridgeLine {
    let OnionKey(onion) = identity.onion_key();
    BridgeLine::WebSocket {
        url,
        ed25519: identity.ids().ed25519,
        onion: OnionKey(onion),
    }
}

/// `/sample.json`.
fn sample(magnet: &str) -> Result<serde_json::Value, Failure> {
    let parsed: Magnet = magnet
        .parse()
        .map_err(|error| Failure::new(format!("--sample-magnet is not a magnet link: {error}")))?;
    let name = parsed.name.clone().unwrap_or_else(|| "sample".to_owned());
    Ok(serde_json::json!({ "magnet": magnet, "name": name }))
}

fn websocket_line(line: &str) -> Result<String, Failure> {
    match line.parse() {
        Ok(line @ BridgeLine::WebSocket { .. }) => Ok(line.to_string()),
        Ok(BridgeLine::Tls { .. } | BridgeLine::Peer { .. }) => Err(Failure::new(
            "--other-bridge takes the line that a bridge prints for tabs (ws://… or wss://…)",
        )),
        Err(error) => Err(Failure::new(format!("--other-bridge {line:?}: {error}"))),
    }
}

fn check_public_url(url: &str) -> Result<(), Failure> {
    let rest = url
        .strip_prefix("wss://")
        .or_else(|| url.strip_prefix("ws://"));
    let good = rest.is_some_and(|rest| {
        !rest.starts_with('/') && !rest.is_empty() && !rest.contains(['#', '?', ' ', '@'])
    });
    if good {
        return Ok(());
    }
    Err(Failure::new(format!(
        "--public-url {url:?} is not a WebSocket's address such as wss://bridge.example/link"
    )))
}
