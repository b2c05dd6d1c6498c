//! One connection to a peer: the handshake, and the messages both ways.
//!
//! Nothing is given: no bitfield, no piece, no info dictionary, no other peer's address, no client
//! name. Requests are read and ignored; the peer stays choked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use librqbit_core::hash_id::Id20;
use librqbit_peer_protocol::extended::handshake::ExtendedHandshake;
use librqbit_peer_protocol::extended::ut_metadata::UtMetadata;
use librqbit_peer_protocol::extended::{ExtendedMessage, PeerExtendedMessageIds};
use librqbit_peer_protocol::{
    Handshake, Message, MessageDeserializeError, Request as BlockRequest, SerializeError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::peers::{PeerKey, Request};
use super::torrent::{Check, Send, Torrent, read_info, swarm_id};
use super::{TorrentKey, store::Store};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// Others hang up after two minutes of silence.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(100);
const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);

const HANDSHAKE_LEN: usize = 68;
/// The longest message: a bitfield of as many pieces as a torrent can have.
const MAX_MESSAGE_LEN: usize = chive_node::torrent::MAX_PIECES as usize / 8 + 1;
/// The longest message of ours, a request for a part of the info dictionary.
const MAX_OUR_MESSAGE_LEN: usize = 256;
/// Bytes read at a time from a peer that owes us blocks, and from others.
const READ_LEN: usize = 64 * 1024;
const IDLE_READ_LEN: usize = 2 * 1024;

/// Pieces and info dictionaries above this are hashed where it holds up nobody.
const LONG_HASH_LEN: usize = 1024 * 1024;

/// Why a connection ended. Only for the log.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("it does not answer")]
    Timeout,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it is a peer of another torrent")]
    OtherTorrent,
    #[error("it sent a message too long")]
    TooLong,
    #[error("it sent nonsense: {0}")]
    Nonsense(#[from] MessageDeserializeError),
    #[error(transparent)]
    Ours(#[from] SerializeError),
    #[error("it is not wanted any longer")]
    Unwanted,
}

/// What a peer's message means for us.
enum Event {
    Choked(bool),
    Have(u32),
    Bitfield(Bytes),
    Block(u32, u32, Bytes),
    QueueLimit(u32),
    MetadataLength(u32),
    MetadataPart(u32, Bytes),
    MetadataRefused,
    Address(SocketAddr),
}

/// Connects to a peer and takes from it until there is nothing more to take.
pub(super) async fn run(
    shared: Arc<Shared>,
    torrent: TorrentKey,
    peer: PeerKey,
    address: SocketAddr,
) {
    let gone = match connect(&shared, torrent, address).await {
        Ok(stream) => {
            let wake = Arc::<Notify>::default();
            shared.with(torrent, |t, _| {
                t.handle_connected(Instant::now(), peer, address, wake.clone());
            });
            let mut connection = Connection {
                shared: &shared,
                torrent,
                peer,
                theirs: PeerExtendedMessageIds::default(),
                incoming: BytesMut::new(),
                outgoing: BytesMut::new(),
            };
            connection.serve(stream, &wake).await
        }
        Err(gone) => Err(gone),
    };
    if let Err(gone) = gone {
        tracing::trace!(%gone, "a peer is gone");
    }
    shared.with(torrent, |t, store| {
        t.handle_gone(Instant::now(), store, peer, address);
    });
}

/// A connection on which both have said which torrent they mean.
async fn connect(
    shared: &Shared,
    torrent: TorrentKey,
    address: SocketAddr,
) -> Result<TcpStream, Gone> {
    let name = shared.with(torrent, |t, _| t.name).ok_or(Gone::Unwanted)?;
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let mut stream = connecting.await.map_err(|_| Gone::Timeout)??;
    stream.set_nodelay(true)?;
    let infohash = Id20::new(swarm_id(name));
    // Random in all its bytes: it tells neither who we are nor what we run.
    let ours = Handshake::new(infohash, Id20::new(rand::random()));
    let theirs = timeout(HANDSHAKE_TIMEOUT, async {
        let mut bytes = [0; HANDSHAKE_LEN];
        let length = ours.serialize_unchecked_len(&mut bytes);
        stream.write_all(&bytes[..length]).await?;
        stream.read_exact(&mut bytes).await?;
        Ok::<_, Gone>(Handshake::deserialize(&bytes)?.0)
    });
    let theirs = theirs.await.map_err(|_| Gone::Timeout)??;
    if theirs.info_hash != infohash {
        return Err(Gone::OtherTorrent);
    }
    Ok(stream)
}

struct Connection<'a> {
    shared: &'a Arc<Shared>,
    torrent: TorrentKey,
    peer: PeerKey,
    /// The numbers by which the peer knows its extensions.
    theirs: PeerExtendedMessageIds,
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Connection<'_> {
    async fn serve(&mut self, mut stream: TcpStream, wake: &Notify) -> Result<(), Gone> {
        let (mut reader, mut writer) = stream.split();
        self.write(&Message::Extended(ExtendedMessage::Handshake(
            ExtendedHandshake::new(),
        )))?;
        self.write(&Message::Interested)?;
        let mut heard_at = Instant::now();
        let mut said_at = heard_at;
        let mut events = Vec::new();
        loop {
            let (wake_at, busy) = self.exchange(&mut events)?;
            let now = Instant::now();
            if now >= heard_at + SILENCE_TIMEOUT {
                return Err(Gone::Timeout);
            }
            if now >= said_at + KEEP_ALIVE_AFTER {
                self.write(&Message::KeepAlive)?;
            }
            let wake_at = wake_at
                .min(heard_at + SILENCE_TIMEOUT)
                .min(said_at + KEEP_ALIVE_AFTER);
            self.incoming
                .reserve(if busy { READ_LEN } else { IDLE_READ_LEN });
            tokio::select! {
                read = reader.read_buf(&mut self.incoming) => {
                    if read? == 0 {
                        return Err(Gone::Closed);
                    }
                    heard_at = Instant::now();
                    while let Some(frame) = self.next_frame()? {
                        self.read(&frame, &mut events)?;
                    }
                    if self.incoming.is_empty() && !busy {
                        // Many idle peers should not hold a buffer each.
                        self.incoming = BytesMut::new();
                    }
                }
                written = writer.write_buf(&mut self.outgoing), if self.outgoing.has_remaining() => {
                    written?;
                    said_at = Instant::now();
                }
                () = wake.notified() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Tells the torrent what came and does what it says. When to come back, and whether the
    /// peer owes us blocks.
    fn exchange(&mut self, events: &mut Vec<Event>) -> Result<(Instant, bool), Gone> {
        let now = Instant::now();
        let peer = self.peer;
        let mut checks = Vec::new();
        let mut metadata = None;
        let mut sends = Vec::new();
        let told = self.shared.with(self.torrent, |t, store| {
            for event in events.drain(..) {
                tell(t, store, now, peer, event, &mut checks, &mut metadata);
            }
            let wake_at = t.poll_send(now, store, peer, &mut sends);
            wake_at.map(|wake_at| (wake_at, t.owes(peer), t.name))
        });
        let (wake_at, busy, name) = told.flatten().ok_or(Gone::Unwanted)?;
        for send in sends {
            match send {
                Send::Request(request) => self.write(&Message::Request(as_message(request)))?,
                Send::Cancel(request) => self.write(&Message::Cancel(as_message(request)))?,
                Send::Metadata(part) => self.write(&Message::Extended(
                    ExtendedMessage::UtMetadata(UtMetadata::Request(part)),
                ))?,
            }
        }
        for check in checks {
            let length = check.blocks.iter().map(Bytes::len).sum();
            let (shared, torrent) = (self.shared.clone(), self.torrent);
            aside(length, move || {
                let good = is_good(&check);
                shared.with(torrent, |t, store| {
                    t.handle_checked(store, check.piece, good)
                });
            });
        }
        if let Some(bytes) = metadata {
            let (shared, torrent) = (self.shared.clone(), self.torrent);
            aside(bytes.len(), move || {
                let read = read_info(name, bytes);
                shared.with(torrent, |t, _| t.handle_info(Instant::now(), peer, read));
            });
        }
        Ok((wake_at, busy))
    }

    /// The next message with its length, once all of it has come.
    fn next_frame(&mut self) -> Result<Option<BytesMut>, Gone> {
        let Some(length) = self.incoming.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_MESSAGE_LEN {
            return Err(Gone::TooLong);
        }
        let whole = size_of::<u32>() + length;
        if self.incoming.len() < whole {
            self.incoming.reserve(whole - self.incoming.len());
            return Ok(None);
        }
        Ok(Some(self.incoming.split_to(whole)))
    }

    fn read(&mut self, frame: &[u8], events: &mut Vec<Event>) -> Result<(), Gone> {
        let message = match Message::deserialize(frame, &[]) {
            Ok((message, _)) => message,
            // Not every client's extensions are ours.
            Err(MessageDeserializeError::UnsupportedMessageId(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match message {
            Message::Choke => events.push(Event::Choked(true)),
            Message::Unchoke => events.push(Event::Choked(false)),
            Message::Have(piece) => events.push(Event::Have(piece)),
            Message::Bitfield(bits) => events.push(Event::Bitfield(Bytes::copy_from_slice(bits.0))),
            Message::Piece(piece) => {
                // A block of its own, so that what is kept of it keeps nothing else in memory.
                let (bytes, _) = piece.data();
                let bytes = Bytes::copy_from_slice(bytes);
                events.push(Event::Block(piece.index, piece.begin, bytes));
            }
            Message::Extended(ExtendedMessage::Handshake(theirs)) => {
                self.theirs = theirs.m;
                events.extend(theirs.reqq.map(Event::QueueLimit));
                if self.theirs.ut_metadata.is_some() {
                    events.extend(theirs.metadata_size.map(Event::MetadataLength));
                }
            }
            Message::Extended(ExtendedMessage::UtMetadata(message)) => match message {
                UtMetadata::Data(data) => {
                    let [bytes, _] = data.as_double_buf().get();
                    events.push(Event::MetadataPart(
                        data.piece(),
                        Bytes::copy_from_slice(bytes),
                    ));
                }
                UtMetadata::Reject(_) => events.push(Event::MetadataRefused),
                UtMetadata::Request(_) => {}
            },
            Message::Extended(ExtendedMessage::UtPex(peers)) => {
                events.extend(peers.added_peers().map(|peer| Event::Address(peer.addr)));
            }
            Message::Extended(ExtendedMessage::Dyn(..))
            | Message::Request(_)
            | Message::Cancel(_)
            | Message::KeepAlive
            | Message::Interested
            | Message::NotInterested => {}
        }
        Ok(())
    }

    fn write(&mut self, message: &Message<'_>) -> Result<(), Gone> {
        let mut bytes = [0; MAX_OUR_MESSAGE_LEN];
        let theirs = self.theirs;
        let length = message.serialize(&mut bytes, &|| theirs)?;
        self.outgoing.put_slice(&bytes[..length]);
        Ok(())
    }
}

fn tell(
    torrent: &mut Torrent,
    store: &mut Store,
    now: Instant,
    peer: PeerKey,
    event: Event,
    checks: &mut Vec<Check>,
    metadata: &mut Option<Bytes>,
) {
    match event {
        Event::Choked(choked) => torrent.handle_choked(store, peer, choked),
        Event::Have(piece) => torrent.handle_have(peer, piece),
        Event::Bitfield(bits) => torrent.handle_bitfield(peer, &bits),
        Event::Block(piece, offset, bytes) => {
            checks.extend(torrent.handle_block(now, store, peer, piece, offset, bytes));
        }
        Event::QueueLimit(requests) => torrent.handle_queue_limit(peer, requests),
        Event::MetadataLength(length) => torrent.handle_metadata_length(now, peer, length),
        Event::MetadataPart(part, bytes) => {
            if let Some(whole) = torrent.handle_metadata_part(now, peer, part, &bytes) {
                *metadata = Some(whole);
            }
        }
        Event::MetadataRefused => torrent.handle_metadata_refused(peer),
        Event::Address(address) => torrent.handle_address(now, address),
    }
}

fn is_good(check: &Check) -> bool {
    let blocks = check.blocks.iter().map(|block| &block[..]);
    check.verifier.check_piece(check.piece, blocks) == chive_node::torrent::Verdict::Good
}

/// Does a piece of work here if it is short, and on a thread of its own if it is long.
fn aside(length: usize, work: impl FnOnce() + std::marker::Send + 'static) {
    if length <= LONG_HASH_LEN {
        work();
    } else {
        tokio::task::spawn_blocking(work);
    }
}

fn as_message(request: Request) -> BlockRequest {
    let offset = request.block * chive_node::torrent::CHUNK_LEN;
    BlockRequest::new(request.piece, offset, request.length)
}
