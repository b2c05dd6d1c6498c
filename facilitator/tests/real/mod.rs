//! A real swarm on loopback, made by the shared tools out of real programs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Weak};

use chive_node::torrent::TorrentFile;
use chive_tests::shared::{Swarm, SwarmOptions, Torrent};
use tokio::sync::Mutex;

/// Bytes of the file that is seeded: 24 MiB and a little, so that the last piece and the last
/// block are short.
pub(crate) const FILE_LEN: usize = 24 * 1024 * 1024 + 12_345;
const FILE_NAME: &str = "content.bin";

/// A running swarm; ends when the last test that holds it ends.
pub(crate) struct RealSwarm {
    /// Who is in it.
    pub(crate) swarm: Swarm,
    /// The file that is seeded.
    pub(crate) content: Vec<u8>,
}

/// The swarm that all tests of this process share, or none if the tools are not here.
pub(crate) async fn swarm() -> Option<Arc<RealSwarm>> {
    static RUNNING: Mutex<Weak<RealSwarm>> = Mutex::const_new(Weak::new());
    let mut running = RUNNING.lock().await;
    if let Some(swarm) = running.upgrade() {
        return Some(swarm);
    }
    let swarm = Arc::new(RealSwarm::start().await?);
    *running = Arc::downgrade(&swarm);
    Some(swarm)
}

impl RealSwarm {
    async fn start() -> Option<Self> {
        let Some(tool) = Swarm::tool() else {
            eprintln!("SKIPPED: the swarm tool is not at hand (set CHIVE_SHARED)");
            return None;
        };
        python()?;
        let folder = tempfile::tempdir().expect("a folder for the test");
        let content = content();
        let file = folder.path().join(FILE_NAME);
        std::fs::write(&file, &content).expect("the file to seed");
        let options = SwarmOptions {
            kinds: &["v1", "hybrid", "v2"],
            seeders: &["libtorrent", "transmission", "aria2", "rtorrent"],
            piece_kib: 64,
        };
        match Swarm::start(tool, &[&file], options).await {
            Ok(swarm) => Some(Self { swarm, content }),
            Err(why) => {
                eprintln!("SKIPPED: the swarm does not start: {why:#}");
                None
            }
        }
    }

    /// The torrent of a kind: `v1`, `hybrid` or `v2`.
    pub(crate) fn torrent(&self, kind: &str) -> &Torrent {
        self.swarm.torrent(FILE_NAME, kind).expect("a torrent")
    }

    /// The tracker, `http` or `udp`.
    pub(crate) fn tracker(&self, scheme: &str) -> url::Url {
        let url = match scheme {
            "http" => self.swarm.tracker(),
            "udp" => self.swarm.udp_tracker(),
            _ => panic!("no {scheme} tracker"),
        };
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
        let path = &self.torrent(kind).torrent;
        std::fs::read(self.swarm.folder().join(path)).expect("a .torrent")
    }
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
