//! One connection to a peer: the handshake, and the messages both ways.
//!
//! Nothing is given: no bitfield, no piece, no info dictionary, no other peer's address, no client
//! name. Requests are read and ignored; the peer stays choked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chive_node::torrent::{Infohash, Verifier};
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
use super::torrent::{Check, HashRequest, Send, Torrent, read_info, read_layers, swarm_id};
use super::{TorrentKey, store::Store};
use crate::framing::{TooLong, next_frame};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// Others hang up after two minutes of silence.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(100);
const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);

/// Message numbers of BEP 52.
const HASH_REQUEST: u8 = 21;
const HASHES: u8 = 22;
const HASH_REJECT: u8 = 23;
/// What stands before the hashes: root, layer, index, count, layers of proof.
const HASHES_HEADER_LEN: usize = 32 + 4 * 4;
/// The bit of a handshake's reserved ones that says that v2 is understood.
const V2_BIT: u64 = 0x10;

const HANDSHAKE_LEN: usize = 68;
/// The longest message of ours, a request for a part of the info dictionary.
const MAX_OUR_MESSAGE_LEN: usize = 256;
/// Bytes read at a time from a peer that owes us blocks, and from others.
const READ_LEN: usize = 64 * 1024;
const IDLE_READ_LEN: usize = 2 * 1024;

/// Addresses of other peers that one peer is believed, so that it cannot fill the address book with
/// its own.
const MAX_PEX_ADDRESSES: usize = 200;

/// More bytes than this are hashed on a thread where they hold up nobody.
const LONG_WORK_LEN: usize = 1024 * 1024;

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
    Hashes(HashRequest, Bytes),
    HashesRefused,
    Address(SocketAddr),
}

/// Connects to a peer and takes from it until there is nothing more to take.
pub(super) async fn run(
    shared: Arc<Shared>,
    torrent: TorrentKey,
    peer: PeerKey,
    address: SocketAddr,
) {
    // Held until the end; it is never closed.
    let _place = shared.places.acquire().await;
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
                addresses_left: MAX_PEX_ADDRESSES,
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
    let mut ours = Handshake::new(infohash, Id20::new(rand::random()));
    if matches!(name, Infohash::V2(_)) {
        ours.reserved |= V2_BIT;
    }
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
    /// How many more addresses it is believed.
    addresses_left: usize,
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
                    while let Some(frame) = next_frame(&mut self.incoming).map_err(|TooLong| Gone::TooLong)? {
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
        let mut work = Vec::new();
        let mut sends = Vec::new();
        let told = self.shared.with(self.torrent, |t, store| {
            for event in events.drain(..) {
                work.extend(tell(t, store, now, peer, event));
            }
            let wake_at = t.poll_send(now, store, peer, &mut sends);
            wake_at.map(|wake_at| (wake_at, t.owes(peer)))
        });
        let told = told.flatten().ok_or(Gone::Unwanted)?;
        for send in sends {
            match send {
                Send::Request(request) => self.write(&Message::Request(as_message(request)))?,
                Send::Cancel(request) => self.write(&Message::Cancel(as_message(request)))?,
                Send::Metadata(part) => self.write(&Message::Extended(
                    ExtendedMessage::UtMetadata(UtMetadata::Request(part)),
                ))?,
                Send::Hashes(request) => self.write_hash_request(request),
            }
        }
        for work in work {
            let (shared, torrent) = (self.shared.clone(), self.torrent);
            if work.length() <= LONG_WORK_LEN {
                work.done(&shared, torrent, peer);
            } else {
                tokio::task::spawn_blocking(move || work.done(&shared, torrent, peer));
            }
        }
        Ok(told)
    }

    fn read(&mut self, frame: &[u8], events: &mut Vec<Event>) -> Result<(), Gone> {
        let message = match Message::deserialize(frame, &[]) {
            Ok((message, _)) => message,
            // Not every client's extensions are ours.
            Err(MessageDeserializeError::UnsupportedMessageId(id)) => {
                events.extend(read_hashes(id, frame));
                return Ok(());
            }
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
                let named = peers.added_peers().take(self.addresses_left);
                let before = events.len();
                events.extend(named.map(|peer| Event::Address(peer.addr)));
                self.addresses_left -= events.len() - before;
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

    /// BEP 52, which the codec does not know yet.
    fn write_hash_request(&mut self, request: HashRequest) {
        self.outgoing.put_u32(1 + HASHES_HEADER_LEN as u32);
        self.outgoing.put_u8(HASH_REQUEST);
        self.outgoing.put_slice(&request.root);
        self.outgoing.put_u32(request.layer);
        self.outgoing.put_u32(request.index);
        self.outgoing.put_u32(request.count);
        // No proof: all hashes are fetched, and checked together.
        self.outgoing.put_u32(0);
    }

    fn write(&mut self, message: &Message<'_>) -> Result<(), Gone> {
        let mut bytes = [0; MAX_OUR_MESSAGE_LEN];
        let theirs = self.theirs;
        let length = message.serialize(&mut bytes, &|| theirs)?;
        self.outgoing.put_slice(&bytes[..length]);
        Ok(())
    }
}

/// Something to check, for which the lock is not held.
enum Work {
    Piece(Check),
    Info(Infohash, Bytes),
    Layers(Arc<Verifier>, Bytes),
}

impl Work {
    fn length(&self) -> usize {
        match self {
            Work::Piece(check) => check.blocks.iter().map(Bytes::len).sum(),
            Work::Info(_, bytes) | Work::Layers(_, bytes) => bytes.len(),
        }
    }

    fn done(self, shared: &Shared, torrent: TorrentKey, peer: PeerKey) {
        match self {
            Work::Piece(check) => {
                let good = check.is_good();
                shared.with(torrent, |t, store| {
                    t.handle_checked(store, check.piece, good)
                });
            }
            Work::Info(name, bytes) => {
                let read = read_info(name, bytes);
                shared.with(torrent, |t, _| t.handle_info(Instant::now(), peer, read));
            }
            Work::Layers(verifier, bytes) => {
                let read = read_layers(&verifier, bytes);
                shared.with(torrent, |t, _| t.handle_layers(peer, read));
            }
        }
    }
}

fn tell(
    torrent: &mut Torrent,
    store: &mut Store,
    now: Instant,
    peer: PeerKey,
    event: Event,
) -> Option<Work> {
    match event {
        Event::Choked(choked) => torrent.handle_choked(store, peer, choked),
        Event::Have(piece) => torrent.handle_have(peer, piece),
        Event::Bitfield(bits) => torrent.handle_bitfield(peer, &bits),
        Event::Block(piece, offset, bytes) => {
            let check = torrent.handle_block(now, store, peer, piece, offset, bytes);
            return check.map(Work::Piece);
        }
        Event::QueueLimit(requests) => torrent.handle_queue_limit(peer, requests),
        Event::MetadataLength(length) => torrent.handle_metadata_length(now, peer, length),
        Event::MetadataPart(part, bytes) => {
            let whole = torrent.handle_metadata_part(now, peer, part, &bytes);
            return whole.map(|whole| Work::Info(torrent.name, whole));
        }
        Event::MetadataRefused => torrent.handle_metadata_refused(peer),
        Event::Hashes(request, hashes) => {
            let whole = torrent.handle_hashes(now, peer, request, &hashes);
            return whole.map(|(verifier, layers)| Work::Layers(verifier, layers));
        }
        Event::HashesRefused => torrent.handle_hashes_refused(peer),
        Event::Address(address) => torrent.handle_gossip(now, address),
    }
    None
}

/// Hashes, or that there will be none.
fn read_hashes(id: u8, frame: &[u8]) -> Option<Event> {
    let (_, message) = frame.split_at_checked(size_of::<u32>() + size_of::<u8>())?;
    if id == HASH_REJECT {
        return Some(Event::HashesRefused);
    }
    let (header, hashes) = message.split_first_chunk::<HASHES_HEADER_LEN>()?;
    let (root, mut numbers) = header.split_first_chunk::<32>()?;
    let request = HashRequest {
        root: *root,
        layer: numbers.get_u32(),
        index: numbers.get_u32(),
        count: numbers.get_u32(),
    };
    (id == HASHES).then(|| Event::Hashes(request, Bytes::copy_from_slice(hashes)))
}

fn as_message(request: Request) -> BlockRequest {
    let offset = request.block * chive_node::torrent::CHUNK_LEN;
    BlockRequest::new(request.piece, offset, request.length)
}
