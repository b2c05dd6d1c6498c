//! A real swarm on loopback, made by the shared tools out of real programs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use chive_node::torrent::TorrentFile;
use serde_json::Value;

/// Bytes of the file that is seeded: 24 MiB and a little, so that the last piece and the last
/// block are short.
pub(crate) const FILE_LEN: usize = 24 * 1024 * 1024 + 12_345;

/// A running swarm; ends when the last test that holds it ends.
pub(crate) struct RealSwarm {
    tool: PathBuf,
    directory: PathBuf,
    about: Value,
    /// The file that is seeded.
    pub(crate) content: Vec<u8>,
}

/// The swarm that all tests of this process share, or none if the tools are not here.
pub(crate) fn swarm() -> Option<Arc<RealSwarm>> {
    static RUNNING: Mutex<Weak<RealSwarm>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(|error| error.into_inner());
    if let Some(swarm) = running.upgrade() {
        return Some(swarm);
    }
    let swarm = Arc::new(RealSwarm::start()?);
    *running = Arc::downgrade(&swarm);
    Some(swarm)
}

impl RealSwarm {
    fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let shared = std::env::var_os("CHIVE_SHARED").map_or(root, PathBuf::from);
        let tool = shared.join("swarm/swarm");
        if !tool.is_file() {
            eprintln!("SKIPPED: no {} (set CHIVE_SHARED)", tool.display());
            return None;
        }
        let python = python()?;
        let directory = std::env::temp_dir().join(format!("chive-swarm-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a folder for the test");
        let content = content();
        let file = directory.join("content.bin");
        std::fs::write(&file, &content).expect("the file to seed");
        let run = directory.join("swarm");
        let output = Command::new(python)
            .arg(&tool)
            .arg("start")
            .arg(&run)
            .arg(&file)
            .args([
                "--kinds",
                "v1,hybrid,v2",
                "--piece-kib",
                "64",
                "--ttl",
                "600",
            ])
            .output()
            .expect("the swarm tool runs");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED: the swarm does not start: {said}");
            return None;
        }
        let about = std::fs::read(run.join("swarm.json")).expect("swarm.json");
        let about = serde_json::from_slice(&about).expect("swarm.json is JSON");
        Some(Self {
            tool,
            directory,
            about,
            content,
        })
    }

    /// The torrent of a kind: `v1`, `hybrid` or `v2`.
    pub(crate) fn torrent(&self, kind: &str) -> &Value {
        let torrents = self.about["torrents"].as_array().expect("torrents");
        let found = torrents.iter().find(|torrent| torrent["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} torrent"))
    }

    /// The address of a seeder by name, if it is installed.
    pub(crate) fn seeder(&self, name: &str) -> Option<std::net::SocketAddr> {
        let seeders = self.about["seeders"].as_array().expect("seeders");
        let found = seeders.iter().find(|seeder| seeder["name"] == name)?;
        Some(text(&found["address"]).parse().expect("an address"))
    }

    /// Where the DHT is entered.
    pub(crate) fn bootstrap(&self) -> String {
        text(&self.about["dht"]["bootstrap"])
    }

    /// The tracker, `http` or `udp`.
    pub(crate) fn tracker(&self, scheme: &str) -> url::Url {
        let url = text(&self.about["tracker"][scheme]);
        url.parse().expect("a tracker's address")
    }

    /// The ports that the tracker names to a newcomer who asks for this infohash.
    pub(crate) fn listed(&self, infohash: &[u8]) -> Vec<u16> {
        let url = self.tracker("http");
        let address = (url.host_str().expect("a host"), url.port().expect("a port"));
        let infohash: String = infohash.iter().map(|byte| format!("%{byte:02x}")).collect();
        // Peers are named only to who begins; who does so leaves again.
        let [answer, _] = ["started", "stopped"].map(|event| {
            let mut stream = TcpStream::connect(address).expect("the tracker");
            let query = format!(
                "GET /announce?info_hash={infohash}&peer_id=-XX0000-aaaaaaaaaaaa&port=1&uploaded=0\
                 &downloaded=0&left=9&compact=1&event={event}&numwant=100 HTTP/1.0\r\n\r\n"
            );
            stream.write_all(query.as_bytes()).expect("a question");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an answer");
            answer
        });
        let start = b"5:peers";
        let at = answer.windows(start.len()).position(|part| part == start);
        let peers = &answer[at.expect("a list of peers") + start.len()..];
        let digits = peers
            .iter()
            .position(|byte| *byte == b':')
            .expect("a length");
        let peers = &peers[digits + 1..peers.len() - 1];
        peers
            .chunks_exact(6)
            .map(|peer| u16::from_be_bytes([peer[4], peer[5]]))
            .collect()
    }

    /// The `.torrent` file.
    pub(crate) fn torrent_file(&self, kind: &str) -> TorrentFile {
        TorrentFile::parse(&self.torrent_bytes(kind)).expect("a .torrent")
    }

    /// The bytes of the `.torrent` file.
    pub(crate) fn torrent_bytes(&self, kind: &str) -> Vec<u8> {
        let path = text(&self.torrent(kind)["torrent"]);
        std::fs::read(self.directory.join("swarm").join(path)).expect("a .torrent")
    }
}

impl Drop for RealSwarm {
    fn drop(&mut self) {
        if let Some(python) = python() {
            let run = self.directory.join("swarm");
            let _ = Command::new(python)
                .arg(&self.tool)
                .arg("stop")
                .arg(run)
                .output();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Any text of the description.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// A Python that has libtorrent.
pub(crate) fn python() -> Option<&'static str> {
    let works = |python: &&str| {
        let tried = Command::new(python)
            .args(["-c", "import libtorrent"])
            .output();
        tried.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(works);
    if found.is_none() {
        eprintln!("SKIPPED: no Python with libtorrent (Debian: python3-libtorrent)");
    }
    found
}

/// Bytes that look random and are the same in every run.
fn content() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(FILE_LEN + 8);
    while bytes.len() < FILE_LEN {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(FILE_LEN);
    bytes
}
