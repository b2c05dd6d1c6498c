//! Bridges and facilitators on loopback: the binaries that are shipped, as processes.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD, Engine};
use chive_node::circuit::client::Router as CircuitRouter;
use chive_node::ids::{Ed25519Id, OnionKey, RsaId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::process::{Process, binary};

const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many bridges.
    pub bridges: usize,
    /// How many facilitators, each connected to all bridges.
    pub facilitators: usize,
    /// Peers that the facilitators are told of.
    pub peers: Vec<SocketAddr>,
    /// Trackers that they are told of.
    pub trackers: Vec<String>,
    /// Where they enter the DHT, if they use it.
    pub dht: Dht,
    /// The magnet link that the bridges' page offers as a sample.
    pub sample: Option<String>,
    /// Where bridges are reached by other routers, and by WebRTC.
    pub bridge_ip: IpAddr,
    /// Where facilitators are reached.
    pub facilitator_ip: IpAddr,
    /// Further arguments of each bridge.
    pub bridge_arguments: Vec<String>,
    /// Further arguments of each facilitator.
    pub facilitator_arguments: Vec<String>,
}

/// How facilitators use the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dht {
    /// Not at all.
    Off,
    /// The public one.
    Public,
    /// By these nodes.
    Bootstrap(Vec<String>),
}

impl Default for Config {
    fn default() -> Self {
        Config {
            bridges: 1,
            facilitators: 2,
            peers: Vec::new(),
            trackers: Vec::new(),
            dht: Dht::Off,
            sample: None,
            bridge_ip: Ipv4Addr::LOCALHOST.into(),
            facilitator_ip: Ipv4Addr::LOCALHOST.into(),
            bridge_arguments: Vec::new(),
            facilitator_arguments: Vec::new(),
        }
    }
}

/// An address of this machine's besides 127.0.0.1, to which Firefox makes no connection by WebRTC.
pub fn outer_ip() -> Option<IpAddr> {
    // One from the block for documentation: nothing is sent to it.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback()).then_some(ip)
}

/// Bridges and facilitators that know each other.
pub struct Network {
    /// The bridges.
    pub bridges: Vec<Router<BridgeReady>>,
    /// The facilitators.
    pub facilitators: Vec<Router<FacilitatorReady>>,
    config: Config,
    folder: TempDir,
}

/// A running router.
pub struct Router<R> {
    /// What it said of itself when it was ready.
    pub ready: R,
    /// Its process.
    pub process: Process,
}

/// What a bridge says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct BridgeReady {
    /// The page's address.
    pub http: String,
    /// How tabs name the bridge.
    pub websocket: String,
    /// Its OR port.
    pub or: SocketAddr,
    /// How facilitators name the bridge.
    pub bridge_line: String,
    /// Its RSA ID, in hex.
    pub fingerprint: String,
    /// Its Ed25519 ID.
    pub ed25519: String,
    /// Its onion key.
    pub ntor: String,
    /// SHA-256 of its DTLS certificate, where it takes WebRTC.
    pub dtls: Option<String>,
    /// Its process id.
    pub pid: u32,
}

/// What a facilitator says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct FacilitatorReady {
    /// Its OR port.
    pub or: SocketAddr,
    /// Its RSA ID, in hex.
    pub fingerprint: String,
    /// Its Ed25519 ID.
    pub ed25519: String,
    /// Its onion key.
    pub ntor: String,
    /// SHA-256 of its DTLS certificate, where it takes WebRTC.
    pub dtls: Option<String>,
    /// Its process id.
    pub pid: u32,
}

impl BridgeReady {
    /// The bridge as a circuit's path names it.
    pub fn router(&self) -> Result<CircuitRouter> {
        router(&self.fingerprint, &self.ed25519, &self.ntor, self.or)
    }
}

impl FacilitatorReady {
    /// The facilitator as a circuit's path names it.
    pub fn router(&self) -> Result<CircuitRouter> {
        router(&self.fingerprint, &self.ed25519, &self.ntor, self.or)
    }
}

fn router(rsa: &str, ed25519: &str, onion: &str, or: SocketAddr) -> Result<CircuitRouter> {
    let key = |text: &str| -> Result<[u8; 32]> {
        let bytes = URL_SAFE_NO_PAD.decode(text)?;
        bytes
            .try_into()
            .map_err(|_| anyhow!("a key of another length"))
    };
    let mut id = [0; 20];
    for (byte, pair) in id.iter_mut().zip(rsa.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
    }
    Ok(CircuitRouter {
        rsa: RsaId(id),
        ed25519: Ed25519Id(key(ed25519)?),
        onion: OnionKey(key(onion)?),
        addresses: vec![or],
        dtls: None,
        introducers: Vec::new(),
    })
}

impl Network {
    /// Starts all of them and waits until they are ready.
    pub async fn start(config: Config) -> Result<Network> {
        let folder = tempfile::Builder::new()
            .prefix("chive-network-")
            .tempdir()?;
        let mut network = Network {
            bridges: Vec::new(),
            facilitators: Vec::new(),
            config,
            folder,
        };
        for _ in 0..network.config.bridges {
            network.add_bridge().await?;
        }
        for _ in 0..network.config.facilitators {
            network.add_facilitator().await?;
        }
        Ok(network)
    }

    /// Starts one bridge more.
    pub async fn add_bridge(&mut self) -> Result<()> {
        let index = self.bridges.len();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let or = SocketAddr::new(self.config.bridge_ip, 0);
        let bridge = self.start_bridge(index, loopback, or).await?;
        self.bridges.push(bridge);
        Ok(())
    }

    async fn start_bridge(
        &self,
        index: usize,
        http: SocketAddr,
        or: SocketAddr,
    ) -> Result<Router<BridgeReady>> {
        let mut arguments = vec![
            "--http".to_owned(),
            http.to_string(),
            "--or".to_owned(),
            or.to_string(),
        ];
        if let Some(magnet) = &self.config.sample {
            arguments.extend(["--sample".to_owned(), magnet.clone()]);
        }
        arguments.extend(self.config.bridge_arguments.iter().cloned());
        self.start_router("bridge", index, arguments).await
    }

    /// Starts one facilitator more, connected to all bridges.
    pub async fn add_facilitator(&mut self) -> Result<()> {
        let index = self.facilitators.len();
        let or = SocketAddr::new(self.config.facilitator_ip, 0);
        let mut arguments = vec!["--or".to_owned(), or.to_string()];
        let mut add =
            |flag: &str, value: &str| arguments.extend([flag.to_owned(), value.to_owned()]);
        for bridge in &self.bridges {
            add("--bridge", &bridge.ready.bridge_line);
        }
        for tracker in &self.config.trackers {
            add("--tracker", tracker);
        }
        for peer in &self.config.peers {
            add("--peer", &peer.to_string());
        }
        match &self.config.dht {
            Dht::Off => arguments.push("--no-dht".to_owned()),
            Dht::Public => {}
            Dht::Bootstrap(nodes) => {
                nodes.iter().for_each(|node| add("--dht-bootstrap", node));
            }
        }
        arguments.extend(self.config.facilitator_arguments.iter().cloned());
        let facilitator = self.start_router("facilitator", index, arguments).await?;
        self.facilitators.push(facilitator);
        Ok(())
    }

    async fn start_router<R: DeserializeOwned>(
        &self,
        kind: &str,
        index: usize,
        mut arguments: Vec<String>,
    ) -> Result<Router<R>> {
        let folder = self.data_folder(kind, index);
        arguments.extend([
            "--data-dir".to_owned(),
            folder.to_string_lossy().into_owned(),
        ]);
        arguments.extend(["--allow-private".to_owned(), "--print-ready".to_owned()]);
        let name = format!("{kind} {}", index + 1);
        let mut process = Process::start(&name, binary(&format!("chive-{kind}"))?, arguments)?;
        let ready = process
            .line("that it is ready", READY_TIMEOUT, |line| {
                serde_json::from_str(line).ok()
            })
            .await?;
        Ok(Router { ready, process })
    }

    fn data_folder(&self, kind: &str, index: usize) -> PathBuf {
        self.folder.path().join(format!("{kind}-{}", index + 1))
    }

    /// The page's address, at the first bridge.
    pub fn page(&self) -> Result<&str> {
        Ok(&self
            .bridges
            .first()
            .context("a network without a bridge")?
            .ready
            .http)
    }

    /// Ends a bridge in good order and starts it again, with its keys and on its ports, after
    /// `meanwhile`.
    pub async fn restart_bridge(
        &mut self,
        index: usize,
        meanwhile: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let old = self.bridges.remove(index);
        old.process.end().await?;
        meanwhile.await?;
        let http = old
            .ready
            .http
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let bridge = self
            .start_bridge(index, http.parse()?, old.ready.or)
            .await?;
        self.bridges.insert(index, bridge);
        Ok(())
    }

    /// Kills a facilitator, as a power cut would.
    pub async fn kill_facilitator(&mut self, fingerprint: &str) -> Result<()> {
        let found = self
            .facilitators
            .iter()
            .position(|router| router.ready.fingerprint == fingerprint);
        let index = found.with_context(|| format!("no facilitator {fingerprint}"))?;
        self.facilitators.remove(index).process.kill().await
    }

    /// Waits until one of them ends; its name.
    pub async fn first_to_end(&mut self) -> Result<String> {
        let bridges = self.bridges.iter_mut().map(|router| &mut router.process);
        let facilitators = self
            .facilitators
            .iter_mut()
            .map(|router| &mut router.process);
        let wait = async |process: &mut Process| {
            let status = process.wait().await?;
            Ok(format!("{} ({status})", process.name()))
        };
        let mut ends: Vec<_> = bridges
            .chain(facilitators)
            .map(|process| Box::pin(wait(process)))
            .collect();
        poll_fn(|context| {
            let mut ended = ends.iter_mut().map(|end| end.as_mut().poll(context));
            ended.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }

    /// What all of them said.
    pub fn logs(&self) -> String {
        let bridges = self.bridges.iter().map(|router| router.process.log());
        bridges
            .chain(self.facilitators.iter().map(|router| router.process.log()))
            .collect()
    }

    /// Ends all of them in good order.
    pub async fn end(self) -> Result<()> {
        for facilitator in self.facilitators {
            facilitator.process.end().await?;
        }
        for bridge in self.bridges {
            bridge.process.end().await?;
        }
        Ok(())
    }
}
