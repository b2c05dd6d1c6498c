//! An ordinary BitTorrent peer that has one file and gives it, on loopback: what the demo plays
//! where nobody else seeds.
//!
//! librqbit's session can seed, but takes its SHA-1 from OpenSSL or AWS-LC only: a fresh machine
//! has neither's headers, and would build for minutes to seed a sample. So it is written here, on
//! librqbit's codec of the peer protocol, which the facilitator has anyway.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use chive_node::torrent::{CHUNK_LEN, InfohashV1, Magnet};
use librqbit_core::hash_id::Id20;
use librqbit_peer_protocol::extended::handshake::ExtendedHandshake;
use librqbit_peer_protocol::extended::ut_metadata::{UtMetadata, UtMetadataData};
use librqbit_peer_protocol::extended::{ExtendedMessage, PeerExtendedMessageIds};
use librqbit_peer_protocol::{Handshake, MAX_MSG_LEN, Message, MessageDeserializeError, Piece};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Small pieces: the first of them, and so the first frame, is there soon.
const PIECE_LEN: usize = 64 * 1024;
/// Whoever connects fills it; when it is full the next one waits.
const MAX_PEERS: usize = 64;
const HANDSHAKE_LEN: usize = 68;
/// Others hang up after two minutes of silence, too.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(150);

/// Seeds until it is dropped.
#[derive(Debug)]
pub struct Seeder {
    seed: Arc<Seed>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Seed {
    magnet: Magnet,
    infohash: Id20,
    info: Bytes,
    content: Bytes,
    /// What each peer gets at most.
    bytes_per_second: u64,
}

impl Seeder {
    /// Makes a v1 torrent of a file and seeds it on a port of 127.0.0.1. Nobody is told: whoever
    /// is to find it needs its address.
    pub async fn start(file: &Path) -> anyhow::Result<Self> {
        Self::start_at(file, u64::MAX).await
    }

    /// The same, but gives each peer no more than so many bytes a second.
    pub async fn start_at(file: &Path, bytes_per_second: u64) -> anyhow::Result<Self> {
        let seed = Arc::new(Seed {
            bytes_per_second,
            ..Seed::read(file)?
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("the seeder cannot listen")?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(accept(listener, seed.clone()));
        Ok(Self {
            seed,
            address,
            serving,
        })
    }

    /// The link to what is seeded; it names nobody who has it.
    pub fn magnet(&self) -> &Magnet {
        &self.seed.magnet
    }

    /// The info dictionary.
    pub fn info(&self) -> &Bytes {
        &self.seed.info
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Seeder {
    fn drop(&mut self) {
        // Ends its connections, too.
        self.serving.abort();
    }
}

impl Seed {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.context("the file to seed has no name")?;
        let content = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        ensure!(!content.is_empty(), "{} is empty", file.display());
        let hashes: Vec<u8> = content.chunks(PIECE_LEN).flat_map(Sha1::digest).collect();
        let mut info = format!(
            "d6:lengthi{}e4:name{}:{name}12:piece lengthi{PIECE_LEN}e6:pieces{}:",
            content.len(),
            name.len(),
            hashes.len()
        )
        .into_bytes();
        info.extend(hashes);
        info.push(b'e');
        let infohash = InfohashV1::of(&info);
        let mut magnet = Magnet::new(infohash);
        magnet.name = Some(name.to_owned());
        Ok(Self {
            magnet,
            infohash: Id20::new(infohash.0),
            info: info.into(),
            content: content.into(),
            bytes_per_second: u64::MAX,
        })
    }

    fn pieces(&self) -> usize {
        self.content.len().div_ceil(PIECE_LEN)
    }

    /// What is answered to a message.
    fn answer(&self, message: &Message<'_>, out: &mut Answers) -> anyhow::Result<()> {
        match message {
            Message::Interested => out.write(&Message::Unchoke),
            Message::Request(request) => {
                let start = request.index as usize * PIECE_LEN + request.begin as usize;
                let end = start + request.length as usize;
                ensure!(request.length <= CHUNK_LEN, "it asks for too much");
                let block = self
                    .content
                    .get(start..end)
                    .context("it asks for nothing")?;
                let piece = Piece::from_data(request.index, request.begin, block);
                out.write(&Message::Piece(piece))
            }
            Message::Extended(ExtendedMessage::Handshake(theirs)) => {
                out.theirs = theirs.m;
                Ok(())
            }
            Message::Extended(ExtendedMessage::UtMetadata(UtMetadata::Request(part))) => {
                let parts = self.info.chunks(CHUNK_LEN as usize);
                let answer = match parts.into_iter().nth(*part as usize) {
                    Some(bytes) => {
                        let length = u32::try_from(self.info.len())?;
                        UtMetadata::Data(UtMetadataData::from_bytes(*part, length, bytes.into()))
                    }
                    None => UtMetadata::Reject(*part),
                };
                out.write(&Message::Extended(ExtendedMessage::UtMetadata(answer)))
            }
            _ => Ok(()),
        }
    }
}

/// Messages to a peer that are not written yet: answers to what was read at once.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    /// The numbers by which the peer knows its extensions.
    theirs: PeerExtendedMessageIds,
}

impl Answers {
    fn write(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        let start = self.bytes.len();
        self.bytes.resize(start + MAX_MSG_LEN, 0);
        let theirs = self.theirs;
        let length = message.serialize(&mut self.bytes[start..], &|| theirs)?;
        self.bytes.truncate(start + length);
        Ok(())
    }
}

async fn accept(listener: TcpListener, seed: Arc<Seed>) {
    let places = Arc::new(Semaphore::new(MAX_PEERS));
    let mut peers = JoinSet::new();
    while let Ok(place) = places.clone().acquire_owned().await {
        // One that went before it was taken is no reason to stop.
        if let Ok((stream, _)) = listener.accept().await {
            let seed = seed.clone();
            peers.spawn(async move {
                let _place = place;
                serve(stream, &seed).await
            });
        }
        while peers.try_join_next().is_some() {}
    }
}

/// Gives a peer what it asks for, until it goes or asks for nonsense.
async fn serve(mut stream: TcpStream, seed: &Seed) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut handshake = [0; HANDSHAKE_LEN];
    timeout(SILENCE_TIMEOUT, stream.read_exact(&mut handshake)).await??;
    let (theirs, _) = Handshake::deserialize(&handshake)?;
    ensure!(
        theirs.info_hash == seed.infohash,
        "it wants another torrent"
    );
    let ours = Handshake::new(seed.infohash, Id20::new(*b"-CV0001-chive-seeder"));
    let length = ours.serialize_unchecked_len(&mut handshake);
    stream.write_all(&handshake[..length]).await?;

    let mut out = Answers::default();
    if theirs.supports_extended() {
        let mut hello = ExtendedHandshake::new();
        hello.metadata_size = Some(u32::try_from(seed.info.len())?);
        out.write(&Message::Extended(ExtendedMessage::Handshake(hello)))?;
    }
    let mut bitfield = vec![0; seed.pieces().div_ceil(8)];
    for piece in 0..seed.pieces() {
        bitfield[piece / 8] |= 0x80 >> (piece % 8);
    }
    out.write(&Message::Bitfield(bitfield[..].into()))?;

    let mut incoming = BytesMut::new();
    let mut free_at = Instant::now();
    loop {
        stream.write_all(&out.bytes).await?;
        let takes = out.bytes.len() as f64 / seed.bytes_per_second as f64;
        free_at = free_at.max(Instant::now()) + Duration::from_secs_f64(takes);
        sleep_until(free_at).await;
        out.bytes.clear();
        let read = timeout(SILENCE_TIMEOUT, stream.read_buf(&mut incoming)).await??;
        ensure!(read > 0, "it is gone");
        while let Some(length) = incoming.first_chunk() {
            let length = size_of::<u32>() + u32::from_be_bytes(*length) as usize;
            ensure!(length <= MAX_MSG_LEN, "it sends too much");
            if incoming.len() < length {
                break;
            }
            let frame = incoming.split_to(length);
            match Message::deserialize(&frame, &[]) {
                Ok((message, _)) => seed.answer(&message, &mut out)?,
                Err(MessageDeserializeError::UnsupportedMessageId(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
