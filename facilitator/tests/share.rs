//! What an operator shares: given whole to real BitTorrent clients and to those in Chive, and
//! nothing else to anybody.

mod real;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chive_facilitator::share::{Share, ShareConfig};
use chive_node::ordb::{ContentAnswer, ContentWant};
use chive_node::torrent::{CHUNK_LEN, Created, Creator, Infohash, NewFile, PieceLength};
use chive_node::wire::{DbEndReason, Section};
use real::{python, swarm};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const PIECE_LEN: u32 = 64 * 1024;
/// Two files, so that there is padding between them, and a short piece at the end.
const FILES: [(&str, usize); 2] = [("a film.bin", 3_000_001), ("words/second.txt", 777_777)];

fn content(file: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 + file as u64;
    let mut bytes = Vec::new();
    while bytes.len() < FILES[file].1 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(FILES[file].1);
    bytes
}

/// A hybrid torrent of both files.
fn torrent() -> Created {
    let files = FILES.map(|(path, length)| NewFile {
        path: path.split('/').map(String::from).collect(),
        length: length as u64,
    });
    let mut creator = Creator::new(Some("things"), files, PieceLength::Fixed(PIECE_LEN)).unwrap();
    let order: Vec<usize> = creator.order().collect();
    for file in order {
        creator.update(&content(file)).unwrap();
    }
    creator.finish().unwrap()
}

/// Puts both files below a folder.
fn lay(base: &Path) {
    for (index, (path, _)) in FILES.iter().enumerate() {
        let path = base.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content(index)).unwrap();
    }
}

/// A folder in which the torrent and its files lie.
fn folder() -> (TempDir, Created) {
    let folder = tempfile::tempdir().unwrap();
    let created = torrent();
    lay(&folder.path().join("things"));
    std::fs::write(folder.path().join("things.torrent"), &created.bytes).unwrap();
    (folder, created)
}

fn config(folder: &Path) -> ShareConfig {
    ShareConfig {
        look_every: Duration::from_millis(50),
        allow_private: true,
        ..ShareConfig::new(folder.to_owned(), "127.0.0.1:0".parse().unwrap())
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let holding = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = timeout(PATIENCE, holding).await;
    waited.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn sharing(config: ShareConfig) -> (Share, mpsc::Receiver<ContentAnswer>) {
    let (share, answers) = Share::start(config).unwrap();
    until("it is shared", || share.stats().torrents == 1).await;
    (share, answers)
}

fn handshake(infohash: &[u8]) -> Vec<u8> {
    let reserved = [0, 0, 0, 0, 0, 0x10, 0, 0];
    [
        b"\x13BitTorrent protocol",
        &reserved[..],
        infohash,
        &[b'p'; 20],
    ]
    .concat()
}

fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let length = 1 + payload.len() as u32;
    [&length.to_be_bytes()[..], &[id], payload].concat()
}

fn request(piece: u32, begin: u32, length: u32) -> Vec<u8> {
    let numbers = [piece, begin, length].map(u32::to_be_bytes);
    message(6, &numbers.concat())
}

/// A client made by hand.
struct Client(TcpStream);

impl Client {
    /// One that means this torrent and was answered.
    async fn of(address: SocketAddr, created: &Created) -> Client {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let infohash = created.file.metainfo.v1().unwrap().0;
        stream.write_all(&handshake(&infohash)).await.unwrap();
        let mut theirs = [0; 68];
        timeout(PATIENCE, stream.read_exact(&mut theirs))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(theirs[28..48], infohash);
        Client(stream)
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next message, or that the connection was closed.
    async fn hear(&mut self) -> Option<Vec<u8>> {
        let hearing = async {
            let length = self.0.read_u32().await.ok()?;
            let mut message = vec![0; length as usize];
            self.0.read_exact(&mut message).await.ok()?;
            Some(message)
        };
        timeout(PATIENCE, hearing).await.expect("in time")
    }

    /// The next message of this kind.
    async fn hear_of(&mut self, id: u8) -> Option<Vec<u8>> {
        loop {
            let message = self.hear().await?;
            if message.first() == Some(&id) {
                return Some(message);
            }
        }
    }
}

/// The BitTorrent space: both files with the padding between them.
fn space(created: &Created) -> Vec<u8> {
    let metainfo = &created.file.metainfo;
    let mut space = vec![0; metainfo.space_length() as usize];
    for file in metainfo.files().iter().filter(|file| !file.padding) {
        let index = FILES
            .iter()
            .position(|(path, _)| *path == file.path.join("/"))
            .unwrap();
        let start = file.offset as usize;
        space[start..start + FILES[index].1].copy_from_slice(&content(index));
    }
    space
}

const LEECH: &str = r#"
import libtorrent as lt, sys, time
source, port, folder = sys.argv[1:]
session = lt.session({'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False,
                      'enable_upnp': False, 'enable_natpmp': False, 'alert_mask': 0,
                      # It would try it again at each connect_peer, though nobody answers.
                      'enable_outgoing_utp': False})
if source.startswith('magnet:'):
    about = lt.parse_magnet_uri(source)
else:
    about = lt.add_torrent_params()
    about.ti = lt.torrent_info(source)
about.save_path = folder
about.trackers = []
torrent = session.add_torrent(about)
until = time.time() + 100
while not torrent.status().is_seeding:
    if torrent.status().num_peers == 0:
        torrent.connect_peer(('127.0.0.1', int(port)))
    if time.time() > until:
        s = torrent.status()
        sys.exit('%s: %f of it, %d peers' % (s.state, s.progress, s.num_peers))
    time.sleep(0.1)
print('has all', session.get_torrents()[0].status().total_payload_download)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn libtorrent_gets_it_whole() {
    let Some(python) = python() else { return };
    let (folder, created) = folder();
    let (share, _answers) = sharing(config(folder.path())).await;
    let v1 = created.file.metainfo.v1().unwrap().0;
    let v1: String = v1.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = folder.path().join("things.torrent").display().to_string();
    for source in [format!("magnet:?xt=urn:btih:{v1}"), file] {
        let to = tempfile::tempdir().unwrap();
        let port = share.address().port().to_string();
        let mut leech = Command::new(python);
        leech.args(["-c", LEECH, &source, &port]).arg(to.path());
        let output = tokio::task::spawn_blocking(move || leech.output())
            .await
            .unwrap()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{source}: {said}");
        for (index, (path, _)) in FILES.iter().enumerate() {
            let got = std::fs::read(to.path().join("things").join(path)).unwrap();
            assert!(got == content(index), "{source}: {path}");
        }
    }
    let all: usize = FILES.iter().map(|(_, length)| length).sum();
    let given = share.stats().given_bytes;
    assert!(given >= 2 * all as u64, "{given} bytes were given");
}

#[tokio::test]
async fn each_block_and_the_metadata_are_given() {
    let (folder, created) = folder();
    let (share, _answers) = sharing(config(folder.path())).await;
    let mut client = Client::of(share.address(), &created).await;
    let pieces = created.file.metainfo.piece_count() as usize;
    let bits = client.hear_of(5).await.unwrap();
    let ones: u32 = bits[1..].iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(
        (ones as usize, bits.len()),
        (pieces, 1 + pieces.div_ceil(8))
    );

    // Our number for the extension is 9; theirs is 3, as librqbit's codec has it.
    client
        .say(&message(20, b"\0d1:md11:ut_metadatai9eee"))
        .await;
    let info = created.file.metainfo.info();
    let parts = info.len().div_ceil(CHUNK_LEN as usize);
    for part in 0..parts {
        let ask = format!("\x03d8:msg_typei0e5:piecei{part}ee");
        client.say(&message(20, ask.as_bytes())).await;
        let answer = client.hear_of(20).await.unwrap();
        assert_eq!(answer[1], 9);
        let start = part * CHUNK_LEN as usize;
        assert!(answer.ends_with(&info[start..info.len().min(start + CHUNK_LEN as usize)]));
    }
    client
        .say(&message(20, b"\x03d8:msg_typei0e5:piecei99ee"))
        .await;
    assert_eq!(
        client.hear_of(20).await.unwrap(),
        b"\x14\x09d8:msg_typei2e5:piecei99ee"
    );

    // Choked: nothing comes of a request, and the next is answered once it is unchoked.
    client.say(&request(0, 0, 16384)).await;
    client.say(&message(2, &[])).await;
    assert_eq!(client.hear().await.unwrap(), [1]);
    let space = space(&created);
    for start in (0..space.len()).step_by(16384) {
        let length = (space.len() - start).min(16384);
        let (piece, begin) = (start / PIECE_LEN as usize, start % PIECE_LEN as usize);
        client
            .say(&request(piece as u32, begin as u32, length as u32))
            .await;
        let answer = client.hear().await.unwrap();
        assert!(answer[9..] == space[start..start + length], "at {start}");
    }
}

#[tokio::test]
async fn nothing_else_is_given() {
    let (folder, created) = folder();
    let (share, _answers) = sharing(config(folder.path())).await;
    // What is not shared is not answered at all; nor what is no handshake.
    for hello in [handshake(&[7; 20]), vec![b'x'; 68]] {
        let mut stream = TcpStream::connect(share.address()).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut heard = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut heard))
            .await
            .unwrap();
        assert!(heard.is_empty() && ended.is_ok_and(|length| length == 0));
    }
    let pieces = created.file.metainfo.piece_count();
    let last = created.file.metainfo.space_length() % u64::from(PIECE_LEN);
    for beyond in [
        request(pieces, 0, 16384),
        request(0, PIECE_LEN - 1, 2),
        request(0, u32::MAX, 16384),
        request(pieces - 1, last as u32 - 1, 2),
        request(0, 0, 0),
        request(0, 0, PIECE_LEN),
    ] {
        let mut client = Client::of(share.address(), &created).await;
        client.say(&message(2, &[])).await;
        assert!(client.hear_of(1).await.is_some());
        client.say(&beyond).await;
        assert_eq!(client.hear_of(7).await, None, "{beyond:?}");
    }
    assert_eq!(share.stats().given_bytes, 0);
}

#[tokio::test]
async fn turns_are_few_and_pass_on() {
    let (folder, created) = folder();
    let config = ShareConfig {
        max_unchoked: 1,
        ..config(folder.path())
    };
    let (share, _answers) = sharing(config).await;
    let mut first = Client::of(share.address(), &created).await;
    first.say(&message(2, &[])).await;
    assert!(first.hear_of(1).await.is_some());
    let mut second = Client::of(share.address(), &created).await;
    second.say(&message(2, &[])).await;
    // Only when the first has had enough comes the turn of the second.
    first.say(&request(0, 0, 16384)).await;
    assert!(first.hear_of(7).await.is_some());
    assert_eq!(share.stats().given_bytes, 16384);
    first.say(&message(3, &[])).await;
    assert!(first.hear_of(0).await.is_some());
    assert!(second.hear_of(1).await.is_some());
    second.say(&request(0, 0, 16384)).await;
    assert!(second.hear_of(7).await.is_some());
    assert_eq!(share.stats().given_bytes, 2 * 16384);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let (folder, created) = folder();
    let config = ShareConfig {
        bytes_a_second: NonZeroU64::new(160 * 1024),
        ..config(folder.path())
    };
    let (share, _answers) = sharing(config).await;
    let mut client = Client::of(share.address(), &created).await;
    client.say(&message(2, &[])).await;
    assert!(client.hear_of(1).await.is_some());
    let began = Instant::now();
    for block in 0..20 {
        client
            .say(&request(block / 4, block % 4 * 16384, 16384))
            .await;
    }
    for _ in 0..20 {
        assert!(client.hear_of(7).await.is_some());
    }
    // 20 blocks at 10 a second, the first of them at once and two more for the time before. A slow
    // machine only takes longer.
    assert!(began.elapsed() >= Duration::from_millis(1600));
}

async fn next(answers: &mut mpsc::Receiver<ContentAnswer>) -> ContentAnswer {
    timeout(PATIENCE, answers.recv())
        .await
        .expect("in time")
        .expect("a share")
}

#[tokio::test]
async fn those_in_chive_get_it_from_disk() {
    let (folder, created) = folder();
    let (share, mut answers) = sharing(config(folder.path())).await;
    let metainfo = &created.file.metainfo;
    let space = space(&created);
    let names: [Infohash; 2] = [metainfo.v1().unwrap().into(), metainfo.v2().unwrap().into()];
    for name in names {
        assert_eq!(share.handle(ContentWant::Open { name }), None);
        let metadata = metainfo.info().clone();
        assert_eq!(
            next(&mut answers).await,
            ContentAnswer::Opened { name, metadata }
        );
        let chunks: Vec<u32> = (0..metainfo.chunk_count())
            .filter(|chunk| !metainfo.is_padding_chunk(*chunk))
            .collect();
        for chunk in chunks {
            let want = ContentWant::Blocks {
                name,
                section: Section::CHUNKS,
                first: chunk,
                count: 1,
            };
            assert_eq!(share.handle(want), None);
            let start = chunk as usize * CHUNK_LEN as usize;
            let length = metainfo.chunk_length(chunk) as usize;
            let right = ContentAnswer::Block {
                name,
                section: Section::CHUNKS,
                block: chunk,
                bytes: Bytes::copy_from_slice(&space[start..start + length]),
            };
            assert!(next(&mut answers).await == right, "chunk {chunk}");
        }
        let layers = created.file.piece_layers.clone().unwrap();
        let want = |first| ContentWant::Blocks {
            name,
            section: Section::PIECE_LAYERS,
            first,
            count: 1,
        };
        assert_eq!(share.handle(want(0)), None);
        let right = ContentAnswer::Block {
            name,
            section: Section::PIECE_LAYERS,
            block: 0,
            bytes: layers,
        };
        assert_eq!(next(&mut answers).await, right);
        assert_eq!(share.handle(want(1)), None);
        let beyond = ContentAnswer::Failed {
            name,
            scope: Some((Section::PIECE_LAYERS, 1, 1)),
            reason: DbEndReason::PROTOCOL,
            tried: None,
        };
        assert_eq!(next(&mut answers).await, beyond);
    }
    // What is not shared is for others.
    let other = ContentWant::Open {
        name: Infohash::V1(chive_node::torrent::InfohashV1([7; 20])),
    };
    assert_eq!(share.handle(other.clone()), Some(other));

    // What is not there any longer is not answered for.
    std::fs::remove_file(folder.path().join("things.torrent")).unwrap();
    until("it is withdrawn", || share.stats().torrents == 0).await;
    let name = names[0];
    let want = ContentWant::Blocks {
        name,
        section: Section::CHUNKS,
        first: 0,
        count: 1,
    };
    assert_eq!(share.handle(want), None);
    let gone = ContentAnswer::Failed {
        name,
        scope: None,
        reason: DbEndReason::GONE,
        tried: None,
    };
    assert_eq!(next(&mut answers).await, gone);
    assert!(share.handle(ContentWant::Open { name }).is_some());
}

#[tokio::test]
async fn what_is_wrong_is_said_and_what_becomes_right_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    let created = torrent();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("nonsense.torrent"), b"d3:abc").unwrap();
    std::fs::write(at("things.torrent"), &created.bytes).unwrap();
    let (share, _answers) = Share::start(config(folder.path())).unwrap();
    let why = |name: &str| {
        let refused = share.refused();
        let found = refused.into_iter().find(|(path, _)| *path == at(name));
        found.map_or_else(String::new, |(_, why)| why)
    };
    until("it is missing", || {
        why("things.torrent")
            .ends_with("is missing, beside it and in the folder of the torrent's name")
    })
    .await;
    assert!(why("nonsense.torrent").starts_with("it is no torrent: "));

    lay(&at("things"));
    let film = at("things").join(FILES[0].0);
    std::fs::write(&film, &content(0)[1..]).unwrap();
    until("it is short", || {
        why("things.torrent").ends_with("has 3000000 bytes, and should have 3000001")
    })
    .await;
    let mut damaged = content(0);
    damaged[1_000_000] ^= 1;
    damaged[2_000_000] ^= 1;
    std::fs::write(&film, damaged).unwrap();
    let pieces = created.file.metainfo.piece_count();
    let said = format!("2 of its {pieces} pieces are damaged, the first of them in ");
    until("it is damaged", || why("things.torrent").starts_with(&said)).await;
    assert_eq!(share.stats().torrents, 0);

    std::fs::write(&film, content(0)).unwrap();
    until("it is shared", || share.stats().torrents == 1).await;
    assert_eq!(why("things.torrent"), "");
    let mut client = Client::of(share.address(), &created).await;

    // A second of the same torrent, and files beside the .torrent file.
    std::fs::write(at("zwilling.torrent"), &created.bytes).unwrap();
    until("it is there twice", || {
        why("zwilling.torrent") == "another .torrent file of the folder is of the same torrent"
    })
    .await;

    // Who is connected is hung up on when the file is not what was checked.
    std::fs::remove_file(at("zwilling.torrent")).unwrap();
    std::fs::remove_file(&film).unwrap();
    while client.hear().await.is_some() {}
    lay(folder.path());
    std::fs::remove_dir_all(at("things")).unwrap();
    until("it is shared again", || share.stats().torrents == 1).await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_said() {
    let missing = std::env::temp_dir().join("chive-no-such-folder");
    let said = Share::start(config(&missing)).unwrap_err().to_string();
    assert!(
        said.starts_with("cannot read the folder ") && said.contains("No such file"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trackers_name_it_as_long_as_it_is_shared() {
    let Some(real) = swarm().await else { return };
    let name = real.torrent_file("v1").metainfo.v1().unwrap();
    for scheme in ["udp", "http"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.torrent"), real.torrent_bytes("v1")).unwrap();
        std::fs::write(folder.path().join("content.bin"), &real.content).unwrap();
        let config = ShareConfig {
            trackers: vec![real.tracker(scheme)],
            ..config(folder.path())
        };
        let (share, _answers) = sharing(config).await;
        let share = Arc::new(share);
        let port = share.address().port();
        until("the tracker names it", || {
            real.listed(&name.0).contains(&port)
        })
        .await;
        share.stop().await;
        until("the tracker forgets it", || {
            !real.listed(&name.0).contains(&port)
        })
        .await;
    }
}
