//! The shared tools: real BitTorrent swarms, real Tor networks and test films, all on loopback.
//!
//! They lie in the folder that `CHIVE_SHARED` names, or in `../shared` beside the checkout.

use std::ffi::OsString;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chive_node::circuit::client::Router;
use chive_node::ids::{Ed25519Id, OnionKey, RsaId};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::process::{find_program, workspace};

/// How long a tool may take; each gives up by itself earlier, its benches last.
const TOOL_TIMEOUT: Duration = Duration::from_secs(600);
/// The tools' processes end by themselves after this, should we die before we end them.
const TTL_SECONDS: &str = "1800";

/// A tool, if it and the programs that it needs are there.
fn tool(path: &str, programs: &[&str]) -> Option<PathBuf> {
    let folder = std::env::var_os("CHIVE_SHARED")
        .map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let tool = folder.join(path);
    let missing: Vec<_> = programs
        .iter()
        .filter(|name| find_program(name).is_none())
        .collect();
    if !missing.is_empty() {
        eprintln!("not installed: {missing:?}");
        return None;
    }
    tool.is_file().then_some(tool)
}

/// A tool and a network that it started.
struct Started {
    tool: PathBuf,
    folder: TempDir,
}

impl Started {
    async fn bench(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["bench".into(), self.folder.path().into()];
        all.extend(arguments.iter().map(OsString::from));
        run(&self.tool, &all).await
    }

    async fn start<S: Into<OsString>>(
        tool: PathBuf,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Started> {
        // Long paths do not fit into the sockets' names: the system's own folder is short.
        // The tracker gives up being root before it reads its list again, so others may look in.
        let folder = tempfile::Builder::new()
            .prefix("chive-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()?;
        let started = Started { tool, folder };
        let mut all = vec![
            "start".into(),
            started.folder.path().into(),
            "--ttl".into(),
            TTL_SECONDS.into(),
        ];
        all.extend(arguments.into_iter().map(Into::into));
        run(&started.tool, &all).await?;
        Ok(started)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, file: &str) -> Result<T> {
        let text = std::fs::read(self.folder.path().join(file))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {file}"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let stop = Blocking::new(&self.tool)
            .arg("stop")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(why) = stop {
            eprintln!("{} could not be stopped: {why}", self.tool.display());
        }
    }
}

async fn run(tool: &Path, arguments: &[OsString]) -> Result<String> {
    let mut command = Command::new(tool);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(TOOL_TIMEOUT, command.output())
        .await
        .with_context(|| format!("{} took too long", tool.display()))??;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            tool.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A swarm of real seeders of different make, with a tracker and a DHT.
pub struct Swarm {
    started: Started,
    facts: SwarmFacts,
}

/// The parts of `swarm.json` that tests use.
#[derive(Deserialize)]
struct SwarmFacts {
    tracker: Tracker,
    dht: Dht,
    seeders: Vec<Seeder>,
    torrents: Vec<Torrent>,
}

#[derive(Deserialize)]
struct Tracker {
    http: String,
    udp: String,
}

#[derive(Deserialize)]
struct Dht {
    bootstrap: String,
}

/// A seeder of a [`Swarm`].
#[derive(Clone, Debug, Deserialize)]
pub struct Seeder {
    /// Which client it is.
    pub name: String,
    /// Where it listens for peers.
    pub address: SocketAddr,
    /// Which kinds of torrent it seeds.
    pub kinds: Vec<String>,
}

/// A torrent of a [`Swarm`].
#[derive(Clone, Debug, Deserialize)]
pub struct Torrent {
    /// The name of the file or folder it was made of.
    pub name: String,
    /// `v1`, `hybrid` or `v2`.
    pub kind: String,
    /// Its v1 name in hex, if it has one.
    pub infohash_v1: Option<String>,
    /// Its v2 name in hex, if it has one.
    pub infohash_v2: Option<String>,
    /// A magnet link that names the tracker.
    pub magnet: String,
    /// A magnet link of nothing but the infohash and the name.
    pub magnet_without_tracker: String,
    /// The `.torrent`.
    pub torrent: PathBuf,
    /// The files in it.
    pub files: Vec<TorrentFile>,
}

/// A file of a [`Torrent`].
#[derive(Clone, Debug, Deserialize)]
pub struct TorrentFile {
    /// Its path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its content, in hex.
    pub sha256: String,
}

/// How a [`Swarm`] is made.
#[derive(Clone, Debug)]
pub struct SwarmOptions<'a> {
    /// Kinds of torrents to make of each content.
    pub kinds: &'a [&'a str],
    /// Which clients seed.
    pub seeders: &'a [&'a str],
    /// The length of a piece.
    pub piece_kib: u32,
}

impl Default for SwarmOptions<'_> {
    fn default() -> Self {
        let seeders = &["libtorrent", "aria2", "rtorrent"];
        SwarmOptions {
            kinds: &["v1", "hybrid"],
            seeders,
            piece_kib: 256,
        }
    }
}

impl Swarm {
    /// The tool that makes swarms, if it is there.
    pub fn tool() -> Option<PathBuf> {
        tool("swarm/swarm", &["python3", "opentracker"])
    }

    /// Seeds files and folders.
    pub async fn start(
        tool: PathBuf,
        content: &[&Path],
        options: SwarmOptions<'_>,
    ) -> Result<Swarm> {
        let mut arguments: Vec<OsString> = content.iter().map(|path| path.into()).collect();
        arguments.extend(["--kinds".into(), options.kinds.join(",").into()]);
        arguments.extend(["--seeders".into(), options.seeders.join(",").into()]);
        arguments.extend(["--piece-kib".into(), options.piece_kib.to_string().into()]);
        let started = Started::start(tool, arguments).await?;
        let facts = started.read("swarm.json")?;
        Ok(Swarm { started, facts })
    }

    /// The folder in which it lives.
    pub fn folder(&self) -> &Path {
        self.started.folder.path()
    }

    /// A torrent by the name of its content and its kind.
    pub fn torrent(&self, name: &str, kind: &str) -> Result<&Torrent> {
        let mut torrents = self.facts.torrents.iter();
        torrents
            .find(|torrent| torrent.name == name && torrent.kind == kind)
            .with_context(|| format!("the swarm has no {kind} torrent of {name}"))
    }

    /// Runs `swarm bench`: downloads with a real client; what it prints.
    pub async fn bench(&self, arguments: &[&str]) -> Result<String> {
        self.started.bench(arguments).await
    }

    /// The seeders.
    pub fn seeders(&self) -> &[Seeder] {
        &self.facts.seeders
    }

    /// The tracker's HTTP address.
    pub fn tracker(&self) -> &str {
        &self.facts.tracker.http
    }

    /// The same tracker's UDP address.
    pub fn udp_tracker(&self) -> &str {
        &self.facts.tracker.udp
    }

    /// A node of the DHT, by which to enter it.
    pub fn dht_bootstrap(&self) -> &str {
        &self.facts.dht.bootstrap
    }
}

/// A private Tor network of real relays.
pub struct Tornet {
    started: Started,
    facts: serde_json::Value,
}

/// A relay of a [`Tornet`]: what a client needs to build circuits through it.
#[derive(Clone, Debug, Deserialize)]
pub struct Relay {
    /// Its name.
    pub nickname: String,
    /// Its IP address.
    pub address: std::net::IpAddr,
    /// Its OR port.
    pub or_port: u16,
    /// The SHA-1 of its RSA identity key.
    pub rsa_identity_hex: String,
    /// Its Ed25519 identity key.
    pub ed25519_identity_base64: String,
    /// Its ntor onion key.
    pub ntor_onion_key_base64: String,
    /// Whether it lets streams out.
    pub exit: bool,
}

impl Relay {
    /// The relay as a circuit's path names it.
    pub fn router(&self) -> Result<Router> {
        let key = |text: &str| -> Result<[u8; 32]> {
            let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('='))?;
            bytes
                .try_into()
                .map_err(|_| anyhow!("a key of another length"))
        };
        let mut rsa = [0; 20];
        let hex = self.rsa_identity_hex.as_bytes();
        ensure!(hex.len() == 40, "a fingerprint of another length");
        for (byte, pair) in rsa.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
        }
        Ok(Router {
            rsa: RsaId(rsa),
            ed25519: Ed25519Id(key(&self.ed25519_identity_base64)?),
            onion: OnionKey(key(&self.ntor_onion_key_base64)?),
            addresses: vec![SocketAddr::new(self.address, self.or_port)],
            dtls: None,
            introducers: Vec::new(),
        })
    }
}

impl Tornet {
    /// The tool that makes Tor networks, if it is there.
    pub fn tool() -> Option<PathBuf> {
        tool("tornet/tornet", &["python3", "tor"])
    }

    /// Starts a network; `arguments` are those of `tornet start`.
    pub async fn start(tool: PathBuf, arguments: &[&str]) -> Result<Tornet> {
        let started = Started::start(tool, arguments).await?;
        let facts = started.read("relays.json")?;
        Ok(Tornet { started, facts })
    }

    /// The folder in which it lives.
    pub fn folder(&self) -> &Path {
        self.started.folder.path()
    }

    /// The relays, authorities not among them.
    pub fn relays(&self) -> Result<Vec<Relay>> {
        let all: Vec<serde_json::Value> = serde_json::from_value(self.facts["relays"].clone())?;
        let relays = all.into_iter().filter(|relay| relay["role"] != "auth");
        relays
            .map(|relay| Ok(serde_json::from_value(relay)?))
            .collect()
    }

    /// All that `relays.json` says.
    pub fn facts(&self) -> &serde_json::Value {
        &self.facts
    }

    /// Runs `tornet bench`: downloads with a real client; what it prints.
    pub async fn bench(&self, arguments: &[&str]) -> Result<String> {
        self.started.bench(arguments).await
    }
}

/// Test films.
pub struct Media {
    folder: PathBuf,
}

impl Media {
    /// The tool that makes films, if it is there.
    pub fn tool() -> Option<PathBuf> {
        tool("swarm/media", &["python3", "ffmpeg"])
    }

    /// Makes the films, once for all tests; `big.mp4` has about this many MB, or is not made.
    pub async fn make(tool: PathBuf, big_mb: u32) -> Result<Media> {
        let own = std::env::current_exe()?;
        let target = own
            .ancestors()
            .find(|folder| folder.ends_with("release"))
            .unwrap_or(&own);
        let folder = target.join(format!("../media-{big_mb}"));
        std::fs::create_dir_all(&folder)?;
        // Tests run side by side, and the tool does not expect company.
        let lock = std::fs::File::create(folder.join(".lock"))?;
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
        run(
            &tool,
            &[
                folder.clone().into(),
                "--big".into(),
                big_mb.to_string().into(),
            ],
        )
        .await?;
        drop(lock);
        Ok(Media { folder })
    }

    /// A film: `clip.mp4`, `seekable.mp4`, `vp9.webm`, `vp8.webm` or `big.mp4`.
    pub fn film(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
