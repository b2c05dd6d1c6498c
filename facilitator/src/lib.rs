//! The facilitator: always on, a router and an ORDB that takes content out of BitTorrent swarms,
//! and gives what its operator shares.
//!
//! The binary is [`start`] with the options of its command line.

mod address;
mod asks;
mod bridges;
mod framing;
mod metrics;
pub mod options;
pub mod share;
pub mod swarm;
mod tracker;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use chive_node::link::Identity;
use chive_node::native::keys::DataDir;
use chive_node::native::limits::{ConnectionLimits, Gate};
use chive_node::native::process::{Stop, Stopper};
use chive_node::native::webrtc::{DtlsCertificate, bind_or_ports};
use chive_node::native::{Clock, Driver, DriverOptions, Failure, Tls, clock, http, listen, random};
use chive_node::node::bridge_line::to_base64url;
use chive_node::node::{BridgeLine, Config, Event, Limits, Node, Transports};
use chive_node::wire::Roles;
use serde::Serialize;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

pub use bridges::BridgeReady;
pub use options::Options;

use bridges::Bridges;
use share::{Share, ShareConfig};
use swarm::{Swarm, SwarmConfig};

/// What a facilitator that listens is known by; `--print-ready` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// The OR port.
    pub or: SocketAddr,
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
    /// The lines by which tabs name it where they dial it by WebRTC, for invitations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// How it stands with each bridge.
    pub bridges: Vec<BridgeReady>,
    /// Where BitTorrent clients connect, if something is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<SocketAddr>,
    /// Where metrics are served, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// This process.
    pub pid: u32,
}

/// A facilitator that runs.
#[derive(Debug)]
pub struct Facilitator {
    identity: Arc<Identity>,
    or: SocketAddr,
    /// Where others reach the OR port.
    addresses: Vec<SocketAddr>,
    dtls_sha256: Option<[u8; 32]>,
    metrics: Option<SocketAddr>,
    share: Option<Arc<Share>>,
    bridges: Bridges,
    driver: Driver,
    stopper: Stopper,
    ports: Vec<JoinHandle<()>>,
    _data: DataDir,
    patience: Duration,
}

impl Facilitator {
    /// What it is known by, once each bridge has taken it or failed to.
    pub async fn ready(&self) -> Ready {
        let ids = self.identity.ids();
        Ready {
            or: self.or,
            fingerprint: ids.rsa.to_string(),
            ed25519: to_base64url(&ids.ed25519.0),
            ntor: to_base64url(&self.identity.onion_key().0),
            dtls: self.dtls_sha256.map(|hash| to_base64url(&hash)),
            peers: self.dtls_sha256.map_or_else(Vec::new, |hash| {
                let lines = BridgeLine::of_peer(&self.identity, hash, &self.addresses);
                lines.iter().map(ToString::to_string).collect()
            }),
            bridges: self.bridges.first_answers().await,
            share: self.share.as_ref().map(|share| share.address()),
            metrics: self.metrics,
            pid: std::process::id(),
        }
    }

    /// Takes no connections any longer, lets links finish what is queued for the time that the
    /// options give, and closes them.
    pub async fn stop(self) {
        self.stopper.stop();
        for port in self.ports {
            // The port is free when its task has ended, however it did.
            let _ = port.await;
        }
        let shared = async {
            if let Some(share) = &self.share {
                share.stop().await;
            }
        };
        tokio::join!(self.driver.stop(self.patience), shared);
    }

    /// The running node.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }
}

/// Starts a facilitator on the runtime that this is called in.
pub async fn start(options: Options) -> Result<Facilitator, Failure> {
    let mut lines = Vec::with_capacity(options.bridge.len());
    for line in &options.bridge {
        lines.push(bridges::resolve(line).await?);
    }
    if lines.is_empty() {
        warn!("no --bridge is given: nobody will be told of this facilitator");
    }
    let data = DataDir::open(&options.data_dir())?;
    let identity = data.identity()?;
    let system = |error| Failure::new(format!("the system gives no keys for TLS: {error}"));
    let tls = Tls::generate().map_err(system)?;

    let (or, webrtc) = bind_or_ports(&options.or, options.webrtc.unwrap_or(true))?;
    let dtls = if webrtc.is_empty() {
        None
    } else {
        Some(data.dtls_certificate(clock::unix_seconds())?)
    };
    let shared = share_config(&options).map(Share::start).transpose()?;
    let metrics = options
        .metrics
        .map(|address| listen::bind(address, "metrics"))
        .transpose()?;
    let or_at = listen::addresses(&or)?;
    let metrics_at = metrics
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    let addresses = listen::public_addresses(&options.or_address, &or_at)?;
    if addresses.is_empty() {
        warn!(
            "--or listens on all addresses and --or-address does not say where others reach it: \
             only bridges that this facilitator dials can use it"
        );
    }

    let connections = ConnectionLimits {
        in_all: options.max_connections.unwrap_or(1024),
        per_address: options.max_connections_per_address.unwrap_or(64),
        per_second: options.max_new_connections_per_second.unwrap_or(16),
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
    if let Some(mib) = options.max_queued_mib {
        limits.queued_bytes = mib.saturating_mul(1 << 20);
    }
    let config = Config {
        identity: Some(identity.clone()),
        tls_certificate_sha256: Some(tls.certificate_sha256()),
        dtls_certificate_sha256: dtls.as_ref().map(DtlsCertificate::sha256),
        entries: Vec::new(),
        transports: Transports::NATIVE,
        roles: Roles::ROUTER.with(Roles::ORDB).with(Roles::FACILITATOR),
        addresses: addresses.clone(),
        bridges: lines.clone(),
        hops: 3,
        asks: false,
        allow_private: options.allow_private.unwrap_or(false),
        unix_time: clock::unix_seconds(),
        limits,
    };
    let bridges = Bridges::new(lines);
    let (swarm, answers) = Swarm::start(swarm_config(&options));
    let swarm = Arc::new(swarm);
    let mut sources = vec![answers];
    let share = shared.map(|(share, answers)| {
        sources.push(answers);
        Arc::new(share)
    });
    let seed = random::seed().map_err(system)?;
    let clock = Clock::start();
    let node = Node::new(config, seed, clock.now());
    let on_event = {
        let (swarm, share, bridges) = (swarm.clone(), share.clone(), bridges.clone());
        move |event| match event {
            Event::Content(want) => {
                let fetched = match &share {
                    Some(share) => share.handle(want),
                    None => Some(want),
                };
                if let Some(want) = fetched {
                    swarm.handle(want);
                }
            }
            Event::Bridge { bridge, state } => bridges.handle_state(bridge, state),
            Event::Circuits => {}
            _ => debug!("an event that is nothing to a facilitator"),
        }
    };
    let driver = Driver::start(node, clock, DriverOptions::new(tls), on_event);
    for mut answers in sources {
        let driver = driver.clone();
        tokio::spawn(async move {
            while let Some(answer) = answers.recv().await {
                if driver.answer(answer).await.is_err() {
                    return;
                }
            }
        });
    }

    let (stopper, stop) = Stop::pair();
    let mut ports = Vec::new();
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
        let (driver, bridges, share) = (driver.clone(), bridges.clone(), share.clone());
        let render = move || {
            let (driver, bridges, swarm) = (driver.clone(), bridges.clone(), swarm.clone());
            let shared = share.as_ref().map(|share| share.stats());
            async move {
                let held = driver
                    .call(|node, _| (node.counters(), node.gauges()))
                    .await;
                held.map_or_else(
                    |_| String::new(),
                    |(counters, gauges)| {
                        let registered = bridges.registered();
                        let swarm = swarm.stats();
                        metrics::render(&driver, counters, gauges, swarm, shared, registered)
                    },
                )
            }
        };
        ports.push(tokio::spawn(http::serve_metrics(listener, stop, render)));
    }
    info!(fingerprint = %identity.ids().rsa, "the facilitator listens");
    Ok(Facilitator {
        identity,
        or: listen::first_reachable(&or_at),
        addresses,
        dtls_sha256: dtls.map(|dtls| dtls.sha256()),
        metrics: metrics_at,
        share,
        bridges,
        driver,
        stopper,
        ports,
        _data: data,
        patience: Duration::from_secs(options.stop_seconds.unwrap_or(3)),
    })
}

fn share_config(options: &Options) -> Option<ShareConfig> {
    let folder = options.share.clone()?;
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6881));
    let usual = ShareConfig::new(folder, options.share_listen.unwrap_or(anywhere));
    let kib = options.share_rate.unwrap_or(0);
    Some(ShareConfig {
        bytes_a_second: NonZeroU64::new(kib.saturating_mul(1024)),
        trackers: options.tracker.clone(),
        max_peers: options.share_peers.unwrap_or(usual.max_peers),
        max_unchoked: options.share_unchoked.unwrap_or(usual.max_unchoked),
        allow_private: options.allow_private.unwrap_or(usual.allow_private),
        ..usual
    })
}

fn swarm_config(options: &Options) -> SwarmConfig {
    let usual = SwarmConfig::default();
    SwarmConfig {
        dht: !options.no_dht.unwrap_or(false),
        dht_bootstrap: if options.dht_bootstrap.is_empty() {
            usual.dht_bootstrap
        } else {
            options.dht_bootstrap.clone()
        },
        trackers: options.tracker.clone(),
        peers: options.peer.clone(),
        memory_cap: options
            .memory_cap_mib
            .map_or(usual.memory_cap, |mib| mib.saturating_mul(1 << 20)),
        max_torrents: options.max_torrents.unwrap_or(usual.max_torrents),
        max_peers: options.max_peers.unwrap_or(usual.max_peers),
        find_timeout: options
            .find_seconds
            .map_or(usual.find_timeout, Duration::from_secs),
        allow_private: options.allow_private.unwrap_or(usual.allow_private),
        ..usual
    }
}
