//! One BitTorrent client that connected to us: it is given what it asks for, of one shared torrent.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use chive_node::torrent::CHUNK_LEN;
use librqbit_core::hash_id::Id20;
use librqbit_peer_protocol::extended::ut_metadata::{UtMetadata, UtMetadataData};
use librqbit_peer_protocol::extended::{ExtendedMessage, PeerExtendedMessageIds};
use librqbit_peer_protocol::{
    Handshake, MAX_MSG_LEN, MY_EXTENDED_UT_METADATA, Message, MessageDeserializeError, Request,
    SerializeError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::Given;
use super::files::Reader;
use super::library::{Library, SharedTorrent};
use super::pace::Pace;
use crate::framing::{TooLong, next_frame};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// Others hang up after two minutes of silence.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(100);
/// Who is silent for so long, or does not take what it asked for, makes room for others.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a peer keeps its turn while others wait for one.
const TURN: Duration = Duration::from_secs(30);

const HANDSHAKE_LEN: usize = 68;
/// The longest block that is given; 16 KiB is usual.
const MAX_BLOCK_LEN: u32 = 2 * CHUNK_LEN;
/// Blocks and parts of the metadata that a peer may wait for; it is told so. A peer fills it; one
/// that asks for more is not listened to any longer.
const MAX_ASKED: usize = 500;
const READ_LEN: usize = 4 * 1024;
const EXTENDED: u8 = 20;

/// Who is given to, all connections together.
#[derive(Debug)]
pub(super) struct Givers {
    pub(super) library: Arc<Library>,
    pub(super) pace: Pace,
    /// Turns: who has one is unchoked.
    turns: Arc<Semaphore>,
    /// Peers that wait for a turn.
    waiting: AtomicUsize,
    pub(super) given: Arc<Given>,
}

impl Givers {
    pub(super) fn new(library: Arc<Library>, pace: Pace, turns: usize, given: Arc<Given>) -> Self {
        Self {
            library,
            pace,
            turns: Arc::new(Semaphore::new(turns)),
            waiting: AtomicUsize::new(0),
            given,
        }
    }
}

/// Why a connection ended. Only for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    #[error("it is silent")]
    Timeout,
    #[error("it cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it asks for a torrent that is not shared")]
    NotShared,
    #[error("the torrent is not shared any longer")]
    Withdrawn,
    #[error("it sent a message too long")]
    TooLong,
    #[error("it asks for too much at once")]
    TooMuch,
    #[error("it asks for what the torrent has not")]
    NoSuchBlock,
    #[error("it sent nonsense: {0}")]
    Nonsense(#[from] MessageDeserializeError),
    #[error(transparent)]
    Ours(#[from] SerializeError),
}

/// What a peer waits for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Block(Request),
    Metadata(u32),
}

type Turn = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;
type Read = Pin<Box<dyn Future<Output = Result<(Reader, Vec<u8>, Ask), Gone>> + Send>>;

/// Serves one peer until it goes or asks for nothing.
pub(super) async fn run(givers: Arc<Givers>, mut stream: TcpStream) -> Result<(), Gone> {
    stream.set_nodelay(true)?;
    let (torrent, extended) = timeout(HANDSHAKE_TIMEOUT, greet(&givers, &mut stream))
        .await
        .map_err(|_| Gone::Timeout)??;
    let reader = Reader::new(torrent.found.files.clone());
    let mut peer = Peer {
        givers: &givers,
        torrent,
        theirs: PeerExtendedMessageIds::default(),
        wants: false,
        turn: None,
        asks: VecDeque::new(),
        reader: Some(reader),
        incoming: BytesMut::new(),
        outgoing: BytesMut::new(),
    };
    peer.introduce(extended);
    peer.serve(stream).await
}

/// Hears which torrent the peer means. Who means one that is not shared hears nothing at all.
async fn greet(
    givers: &Givers,
    stream: &mut TcpStream,
) -> Result<(Arc<SharedTorrent>, bool), Gone> {
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes).await?;
    let (theirs, _) = Handshake::deserialize(&bytes)?;
    let torrent = givers.library.by_id(theirs.info_hash.0);
    let torrent = torrent.ok_or(Gone::NotShared)?;
    // Random in all its bytes: it tells neither who we are nor what we run.
    let ours = Handshake::new(theirs.info_hash, Id20::new(rand::random()));
    let length = ours.serialize_unchecked_len(&mut bytes);
    stream
        .write_all(bytes.get(..length).unwrap_or_default())
        .await?;
    Ok((torrent, theirs.supports_extended()))
}

struct Peer<'a> {
    givers: &'a Arc<Givers>,
    torrent: Arc<SharedTorrent>,
    /// The numbers by which the peer knows its extensions.
    theirs: PeerExtendedMessageIds,
    /// Whether it said that it wants something.
    wants: bool,
    /// It is unchoked, since when.
    turn: Option<(OwnedSemaphorePermit, Instant)>,
    asks: VecDeque<Ask>,
    /// Away while a block is being read.
    reader: Option<Reader>,
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Peer<'_> {
    /// We have all pieces.
    fn introduce(&mut self, extended: bool) {
        let metainfo = &self.torrent.found.torrent.metainfo;
        let pieces = metainfo.piece_count() as usize;
        if extended {
            // By hand: the codec cannot leave out the exchange of peers' addresses, which we do
            // not give.
            let about = format!(
                "d1:md11:ut_metadatai{MY_EXTENDED_UT_METADATA}ee13:metadata_sizei{}e4:reqqi{MAX_ASKED}ee",
                metainfo.info().len(),
            );
            self.outgoing.put_u32(2 + about.len() as u32);
            self.outgoing.put_slice(&[EXTENDED, 0]);
            self.outgoing.put_slice(about.as_bytes());
        }
        let mut bits = vec![0xff; pieces.div_ceil(8)];
        let rest = pieces % 8;
        if let Some(last) = bits.last_mut()
            && rest > 0
        {
            *last = !(0xff >> rest);
        }
        self.outgoing.put_u32(1 + bits.len() as u32);
        self.outgoing.put_u8(5);
        self.outgoing.put_slice(&bits);
    }

    async fn serve(&mut self, mut stream: TcpStream) -> Result<(), Gone> {
        let (mut input, mut output) = stream.split();
        let mut turn: Option<Turn> = None;
        let mut read: Option<Read> = None;
        let mut heard_at = Instant::now();
        let mut said_at = heard_at;
        let mut useful_at = heard_at;
        loop {
            if self.torrent.is_withdrawn() {
                return Err(Gone::Withdrawn);
            }
            // Who does not read what it asked for is not listened to.
            while self.outgoing.is_empty()
                && let Some(frame) =
                    next_frame(&mut self.incoming).map_err(|TooLong| Gone::TooLong)?
            {
                self.hear(&frame)?;
            }
            if self.wants && self.turn.is_none() && turn.is_none() {
                turn = Some(wait_for_turn(self.givers.clone()));
            }
            if !self.wants {
                turn = None;
            }
            if read.is_none() && self.outgoing.is_empty() {
                read = self.next_ask();
            }
            let now = Instant::now();
            if now >= heard_at.min(useful_at) + SILENCE_TIMEOUT {
                return Err(Gone::Timeout);
            }
            if now >= said_at + KEEP_ALIVE_AFTER && self.outgoing.is_empty() {
                self.write(&Message::KeepAlive)?;
            }
            let mut wake_at = heard_at.min(useful_at) + SILENCE_TIMEOUT;
            if self.outgoing.is_empty() {
                wake_at = wake_at.min(said_at + KEEP_ALIVE_AFTER);
            }
            if let Some((_, since)) = &self.turn {
                let ends = *since + TURN;
                if now >= ends && self.givers.waiting.load(Ordering::Relaxed) > 0 {
                    self.choke()?;
                } else {
                    wake_at = wake_at.min(ends.max(now + TURN / 10));
                }
            }
            self.incoming.reserve(READ_LEN);
            tokio::select! {
                heard = input.read_buf(&mut self.incoming), if self.outgoing.is_empty() => {
                    if heard? == 0 {
                        return Err(Gone::Closed);
                    }
                    heard_at = Instant::now();
                    if turn.is_some() {
                        // Waiting for a turn is no idleness of its own.
                        useful_at = heard_at;
                    }
                }
                written = output.write_buf(&mut self.outgoing), if self.outgoing.has_remaining() => {
                    written?;
                    said_at = Instant::now();
                }
                permit = wait(&mut turn) => {
                    turn = None;
                    if let Some(permit) = permit {
                        self.turn = Some((permit, Instant::now()));
                        self.write(&Message::Unchoke)?;
                    }
                }
                done = wait(&mut read) => {
                    read = None;
                    let (reader, bytes, ask) = done?;
                    self.reader = Some(reader);
                    self.give(ask, &bytes)?;
                    useful_at = Instant::now();
                }
                () = self.torrent.ended.notified() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn hear(&mut self, frame: &[u8]) -> Result<(), Gone> {
        let message = match Message::deserialize(frame, &[]) {
            Ok((message, _)) => message,
            // Not every client's extensions are ours.
            Err(
                MessageDeserializeError::UnsupportedMessageId(_)
                | MessageDeserializeError::Bencode(_),
            ) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match message {
            Message::Interested => self.wants = true,
            Message::NotInterested => {
                self.wants = false;
                if self.turn.is_some() {
                    self.choke()?;
                }
            }
            // Asked before it heard that it was choked: it asks again.
            Message::Request(_) if self.turn.is_none() => {}
            Message::Request(request) => {
                self.check(request)?;
                self.ask(Ask::Block(request))?;
            }
            Message::Cancel(cancelled) => {
                let of = |request: &Request| (request.index, request.begin, request.length);
                self.asks.retain(
                    |ask| !matches!(ask, Ask::Block(request) if of(request) == of(&cancelled)),
                );
            }
            Message::Extended(ExtendedMessage::Handshake(theirs)) => self.theirs = theirs.m,
            Message::Extended(ExtendedMessage::UtMetadata(UtMetadata::Request(part))) => {
                self.ask(Ask::Metadata(part))?;
            }
            // What it has or would give is nothing to us.
            Message::KeepAlive
            | Message::Choke
            | Message::Unchoke
            | Message::Have(_)
            | Message::Bitfield(_)
            | Message::Piece(_)
            | Message::Extended(_) => {}
        }
        Ok(())
    }

    fn ask(&mut self, ask: Ask) -> Result<(), Gone> {
        if self.asks.len() >= MAX_ASKED {
            return Err(Gone::TooMuch);
        }
        self.asks.push_back(ask);
        Ok(())
    }

    /// Whether the torrent has such a block.
    fn check(&self, request: Request) -> Result<(), Gone> {
        let metainfo = &self.torrent.found.torrent.metainfo;
        let within = request.begin.checked_add(request.length);
        let end = within.map(|within| start(self.piece_length(), request.index, within));
        let fits = within.is_some_and(|within| within <= self.piece_length())
            && end.is_some_and(|end| end <= metainfo.space_length())
            && request.index < metainfo.piece_count()
            && (1..=MAX_BLOCK_LEN).contains(&request.length);
        if fits { Ok(()) } else { Err(Gone::NoSuchBlock) }
    }

    fn piece_length(&self) -> u32 {
        self.torrent.found.torrent.metainfo.piece_length()
    }

    /// Begins to read what is next in turn.
    fn next_ask(&mut self) -> Option<Read> {
        let mut reader = self.reader.take()?;
        let Some(ask) = self.asks.pop_front() else {
            self.reader = Some(reader);
            return None;
        };
        let givers = self.givers.clone();
        let info = self.torrent.found.torrent.metainfo.info().clone();
        let piece_length = self.piece_length();
        Some(Box::pin(async move {
            let bytes = match ask {
                Ask::Block(request) => {
                    givers.pace.take(request.length.into()).await;
                    let offset = start(piece_length, request.index, request.begin);
                    // Disks are slow, and others have their turn meanwhile.
                    let reading = tokio::task::spawn_blocking(move || {
                        let mut bytes = vec![0; request.length as usize];
                        reader.read(offset, &mut bytes)?;
                        Ok::<_, std::io::Error>((reader, bytes))
                    });
                    let read = reading.await.map_err(std::io::Error::other)??;
                    reader = read.0;
                    read.1
                }
                Ask::Metadata(part) => {
                    let bytes = metadata_part(&info, part).to_vec();
                    givers.pace.take(bytes.len() as u64).await;
                    bytes
                }
            };
            Ok((reader, bytes, ask))
        }))
    }

    fn give(&mut self, ask: Ask, bytes: &[u8]) -> Result<(), Gone> {
        match ask {
            // Choked while it was read.
            Ask::Block(_) if self.turn.is_none() => {}
            Ask::Block(request) => {
                let block =
                    librqbit_peer_protocol::Piece::from_data(request.index, request.begin, bytes);
                self.write(&Message::Piece(block))?;
                self.givers.given.add(bytes.len() as u64);
            }
            // It named no number for the answer.
            Ask::Metadata(_) if self.theirs.ut_metadata.is_none() => {}
            Ask::Metadata(part) => {
                let whole = self.torrent.found.torrent.metainfo.info().len() as u32;
                let answer = if bytes.is_empty() {
                    UtMetadata::Reject(part)
                } else {
                    UtMetadata::Data(UtMetadataData::from_bytes(part, whole, bytes.into()))
                };
                self.write(&Message::Extended(ExtendedMessage::UtMetadata(answer)))?;
            }
        }
        Ok(())
    }

    fn choke(&mut self) -> Result<(), Gone> {
        self.turn = None;
        self.asks.retain(|ask| matches!(ask, Ask::Metadata(_)));
        self.write(&Message::Choke)
    }

    fn write(&mut self, message: &Message<'_>) -> Result<(), Gone> {
        let mut bytes = vec![0; MAX_MSG_LEN + (MAX_BLOCK_LEN - CHUNK_LEN) as usize];
        let theirs = self.theirs;
        let length = message.serialize(&mut bytes, &|| theirs)?;
        self.outgoing
            .put_slice(bytes.get(..length).unwrap_or_default());
        Ok(())
    }
}

/// Where in the torrent's space something within a piece is.
fn start(piece_length: u32, piece: u32, within: u32) -> u64 {
    let start = u64::from(piece).saturating_mul(piece_length.into());
    start.saturating_add(within.into())
}

/// A part of the info dictionary (BEP 9); nothing if it has no such part.
fn metadata_part(info: &[u8], part: u32) -> &[u8] {
    info.chunks(CHUNK_LEN as usize)
        .nth(part as usize)
        .unwrap_or_default()
}

/// Waits for a turn, among those who wait.
fn wait_for_turn(givers: Arc<Givers>) -> Turn {
    /// Counts who waits, however the waiting ends.
    struct Waiting(Arc<Givers>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
    givers.waiting.fetch_add(1, Ordering::Relaxed);
    let waiting = Waiting(givers);
    Box::pin(async move {
        let turns = waiting.0.turns.clone();
        // It is never closed.
        turns.acquire_owned().await.ok()
    })
}

/// Waits for what is under way, or for ever.
async fn wait<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
