//! What goes into a node and what comes out of it: the whole contract with its hosts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::circuit::client::Router;
use crate::ids::{CircuitId, Ed25519Id, LinkId, ReadId, RsaId, SignatureId, StreamId, TorrentId};
use crate::kad::LookupId;
pub use crate::link::HostKey;
use crate::link::{Binding, Identity};
use crate::node::BridgeLine;
use crate::ordb::{ContentAnswer, ContentWant, Failure};
use crate::store::{StoreAnswer, StoreWant};
use crate::time::Instant;
use crate::torrent::Metainfo;
use crate::wire::{
    AskFailure, Descriptor, DestroyReason, EndReason, IceDescription, Roles, Signal,
};

/// What a node is to be. Wall time enters here, once, as data.
#[derive(Clone)]
pub struct Config {
    /// Who a router is; a tab that only asks is nobody.
    pub identity: Option<Arc<Identity>>,
    /// SHA-256 of the TLS certificate that this router's OR port shows, DER; none without one.
    pub tls_certificate_sha256: Option<[u8; 32]>,
    /// SHA-256 of the DTLS certificate that this router shows on UDP at [`Config::addresses`], DER;
    /// none if it is not dialled by WebRTC.
    pub dtls_certificate_sha256: Option<[u8; 32]>,
    /// Which transports the host can make.
    pub transports: Transports,
    /// What a router's descriptor says that it does.
    pub roles: Roles,
    /// Where others reach this router's OR port; empty if they cannot.
    pub addresses: Vec<SocketAddr>,
    /// The bridges to enter by, or to register with.
    pub bridges: Vec<BridgeLine>,
    /// The routers that this node's circuits began at in earlier sessions, as
    /// [`Event::Entries`] named them: a new entry each session would meet every adversary in time.
    pub entries: Vec<BridgeLine>,
    /// Routers in a circuit, the bridge among them: 2 to 5.
    pub hops: usize,
    /// Whether this node keeps circuits ready to ask for content itself.
    pub asks: bool,
    /// Whether addresses that only exist at home (loopback, RFC 1918, …) are dialled.
    pub allow_private: bool,
    /// Seconds since 1970 at the node's [`Instant::ZERO`].
    pub unix_time: u64,
    /// What it may use.
    pub limits: Limits,
}

/// Which transports a host can make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transports {
    /// TLS to OR ports.
    pub tls: bool,
    /// WebSockets to bridges.
    pub websocket: bool,
    /// WebRTC to addresses ([`Target::WebRtc`]), and offers and answers
    /// ([`Target::Offer`], [`Target::Answer`]).
    pub webrtc: bool,
}

impl Transports {
    /// What a native host makes.
    pub const NATIVE: Transports = Transports {
        tls: true,
        websocket: true,
        webrtc: false,
    };
    /// What a tab makes.
    pub const TAB: Transports = Transports {
        tls: false,
        websocket: true,
        webrtc: true,
    };
}

/// How much a node lets others, and itself, use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Links at once. The host refuses before this; one more is hung up on.
    pub links: usize,
    /// Circuits that others may have open over one link; one more is answered with DESTROY.
    pub circuits_per_link: usize,
    /// Links over WebRTC at once. Peers that want one more are refused, unless an idle one can go.
    pub peers: usize,
    /// What is carried for others.
    pub carry: Carry,
    /// Bytes of cells that may wait in all queues; a circuit that would add to it dies.
    pub queued_bytes: usize,
    /// Routers that a bridge introduces; one more is not taken.
    pub registered: usize,
    /// Bytes of verified content kept in memory.
    pub store_bytes: usize,
    /// Bytes of verified content of others, kept while it is passed on: all names share it. A
    /// torrent whose piece is longer than half of it is not passed on.
    pub relay_bytes: usize,
    /// Bytes of an info dictionary.
    pub metadata_bytes: usize,
    /// Neighbouring ORDBs that are told which names can be asked for here, and are listened to; 0
    /// is nobody.
    pub told_neighbours: usize,
    /// How long a name is looked for before its asker is told that nobody has it.
    pub find_timeout: Duration,
}

/// What a node carries of circuits that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carry {
    /// Whether at all. What peers ask it is answered all the same.
    pub on: bool,
    /// Circuits at once; one more is answered with DESTROY.
    pub circuits: usize,
    /// Bytes of cells in a second; none is no limit. What comes faster waits, circuit by circuit in
    /// turns, and while much waits no new circuit is taken.
    pub bytes_per_second: Option<u64>,
}

impl Default for Carry {
    fn default() -> Self {
        Carry {
            on: true,
            circuits: usize::MAX,
            bytes_per_second: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            links: 4096,
            circuits_per_link: 1024,
            peers: 40,
            carry: Carry::default(),
            queued_bytes: 64 << 20,
            registered: 4096,
            store_bytes: 256 << 20,
            relay_bytes: 64 << 20,
            metadata_bytes: 16 << 20,
            told_neighbours: 8,
            find_timeout: Duration::from_secs(90),
        }
    }
}

/// What a link runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTransport {
    /// Tor's.
    Tls,
    /// To a bridge, or at a bridge.
    WebSocket,
    /// To or from a tab.
    WebRtc,
}

impl From<&Binding> for LinkTransport {
    fn from(binding: &Binding) -> Self {
        match binding {
            Binding::Tls { .. } => LinkTransport::Tls,
            Binding::WebSocket => LinkTransport::WebSocket,
            Binding::WebRtc { .. } => LinkTransport::WebRtc,
        }
    }
}

/// What the world did.
#[derive(Debug)]
pub enum Input {
    /// A transport that this node asked for stands.
    Connected {
        /// Which.
        link: LinkId,
        /// What the host knows of it.
        binding: Binding,
        /// The other side's address, if the host knows it.
        peer: Option<IpAddr>,
    },
    /// Bytes came.
    Received {
        /// Over which.
        link: LinkId,
        /// They are decrypted in place.
        bytes: BytesMut,
    },
    /// How many of the bytes that it was given the host still holds.
    Buffered {
        /// For which.
        link: LinkId,
        /// Not yet with the operating system or browser.
        bytes: usize,
    },
    /// A transport is gone, or could not be made.
    Closed {
        /// Which.
        link: LinkId,
        /// A sentence for the user.
        why: String,
    },
    /// The exporter's answer to [`Event::Export`].
    Exported {
        /// For which.
        link: LinkId,
        /// RFC 5705.
        secret: [u8; 32],
    },
    /// A signal of the browser's for a link that is being made by [`Target::Offer`] or
    /// [`Target::Answer`]: the offer or the answer first, then candidates.
    Signal {
        /// For which.
        link: LinkId,
        /// What the other side is to be told.
        signal: Signal,
    },
    /// The host signed what [`Event::Sign`] asked for; nothing if it cannot.
    Signed {
        /// Which.
        request: SignatureId,
        /// 64 bytes of Ed25519, or as many as the RSA key has.
        signature: Option<Vec<u8>>,
    },
    /// The host answers [`Event::Content`].
    Content(ContentAnswer),
    /// The host answers [`Event::Store`], or lets chunks go.
    Store(StoreAnswer),
    /// The moment that [`Output::Timeout`] named has come.
    Timeout,
}

/// What the node wants done.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes.
    Transmit {
        /// Over which.
        link: LinkId,
        /// Whole cells, many of them.
        bytes: Bytes,
    },
    /// Something the host or its user must know or do.
    Event(Event),
    /// Nothing more for now: call again at this moment at the latest.
    Timeout(Instant),
}

/// Where a transport is to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// TLS to an OR port.
    Tls {
        /// Any of these.
        addresses: Vec<SocketAddr>,
    },
    /// A WebSocket.
    WebSocket {
        /// ws:// or wss://, without keys.
        url: String,
    },
    /// WebRTC to a native router, without signalling.
    WebRtc {
        /// Any of these, on UDP.
        addresses: Vec<SocketAddr>,
        /// SHA-256 of the DTLS certificate that it shows.
        certificate_sha256: [u8; 32],
    },
    /// WebRTC to a peer that is being introduced: the host makes an offer ([`Input::Signal`]).
    Offer,
    /// WebRTC to a peer that offers: the host answers.
    Answer(Box<IceDescription>),
}

/// Something the host or its user must know or do.
#[derive(Debug)]
pub enum Event {
    /// Make a transport; answered by [`Input::Connected`] or [`Input::Closed`].
    Dial {
        /// Its name from now on.
        link: LinkId,
        /// Where to.
        target: Target,
    },
    /// Close a transport, once what was transmitted before is sent. Not answered.
    HangUp {
        /// Which.
        link: LinkId,
        /// A sentence for the log.
        why: String,
    },
    /// Export keying material of the TLS connection (RFC 5705; the label is
    /// [`crate::link::EXPORT_LABEL`], 32 bytes); answered by [`Input::Exported`].
    Export {
        /// Of which.
        link: LinkId,
        /// The exporter's context.
        context: [u8; 32],
    },
    /// The other side's signal for a link that is being made: its answer, or one more candidate.
    Signal {
        /// For which.
        link: LinkId,
        /// What it says.
        signal: Signal,
    },
    /// Sign by a key that the host holds; answered by [`Input::Signed`].
    Sign {
        /// The answer names it.
        request: SignatureId,
        /// With which key.
        key: HostKey,
        /// What to sign.
        message: Vec<u8>,
    },
    /// Something could not be signed, and is tried again later. Without link certificates a router
    /// makes no links; without a descriptor nobody is told of it.
    Unsigned {
        /// With which key.
        key: HostKey,
        /// A sentence for the log.
        why: &'static str,
    },
    /// What [`crate::node::Node::sign_record`] asked for.
    Record(Box<Descriptor>),
    /// Find, fetch or forget content.
    Content(ContentWant),
    /// What came of [`crate::node::Node::ping`].
    Ping {
        /// Whom it was for.
        rsa: RsaId,
        /// What the peer says that it does; or why it did not answer.
        outcome: Result<Roles, AskFailure>,
    },
    /// Keep a chunk or give it back; only where [`crate::node::Node::set_host_store`] said that
    /// the host can.
    Store(StoreWant),
    /// A lookup found an ORDB for the name that it looks for.
    Provider {
        /// Which lookup.
        lookup: LookupId,
        /// The ORDB.
        rsa: RsaId,
    },
    /// A lookup ended.
    LookedUp {
        /// Which.
        lookup: LookupId,
        /// The nodes nearest to its key that answered, nearest first.
        closest: Vec<RsaId>,
        /// How many ORDBs it found.
        providers: usize,
        /// The most questions of which each had to await the answer of the one before.
        rounds: u32,
        /// How many questions it asked.
        asks: usize,
    },
    /// The routers to begin circuits at changed: to be kept, and given back as
    /// [`Config::entries`].
    Entries(Vec<BridgeLine>),
    /// A bridge's state changed.
    Bridge {
        /// Its place in [`Config::bridges`].
        bridge: usize,
        /// What it is now.
        state: BridgeState,
    },
    /// The circuits of this node changed; [`crate::node::Node::circuits`] tells how.
    Circuits,
    /// A circuit that the host asked for stands.
    CircuitOpen {
        /// Which.
        circuit: CircuitId,
    },
    /// A circuit that the host asked for is gone.
    CircuitClosed {
        /// Which.
        circuit: CircuitId,
        /// Why, as its routers said.
        reason: DestroyReason,
        /// A sentence.
        why: String,
    },
    /// A stream that the host asked for stands.
    StreamOpen {
        /// Over which circuit.
        circuit: CircuitId,
        /// Which.
        stream: StreamId,
    },
    /// Bytes of a stream; [`crate::node::Node::stream_consumed`] lets more come.
    StreamData {
        /// Over which circuit.
        circuit: CircuitId,
        /// Which.
        stream: StreamId,
        /// What came, one DATA cell's.
        bytes: Bytes,
    },
    /// A stream is over.
    StreamClosed {
        /// Over which circuit.
        circuit: CircuitId,
        /// Which.
        stream: StreamId,
        /// Why.
        reason: EndReason,
    },
    /// A torrent's info dictionary is there and checked.
    Metadata {
        /// Which.
        torrent: TorrentId,
        /// What it says.
        metainfo: Arc<Metainfo>,
    },
    /// More of a torrent is verified.
    Progress {
        /// Which.
        torrent: TorrentId,
    },
    /// [`crate::node::Node::poll_read`] has something to say.
    Readable(ReadId),
    /// A source was dropped for what it sent.
    SourceDropped {
        /// For which torrent.
        torrent: TorrentId,
        /// Who.
        router: Ed25519Id,
        /// Its fingerprint, if its circuit still stood.
        rsa: Option<RsaId>,
        /// A sentence.
        why: String,
    },
    /// A torrent cannot be had.
    Failed {
        /// Which.
        torrent: TorrentId,
        /// Why, and what was tried.
        failure: Failure,
    },
}

/// How it stands with a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BridgeState {
    /// Not tried, or waiting to be tried again.
    Idle,
    /// The transport or the handshake is under way.
    Connecting,
    /// The link stands, and the bridge has proved who it is.
    Connected,
    /// This router's descriptor is with it.
    Registered,
    /// It could not be reached or is not who it should be; tried again later.
    Failed {
        /// A sentence.
        why: String,
    },
}

/// One circuit, for the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitStatus {
    /// Which.
    pub circuit: CircuitId,
    /// The routers, nearest first.
    pub path: Vec<Arc<Router>>,
    /// How many of them stand.
    pub hops: usize,
    /// For which torrent it is used.
    pub torrent: Option<TorrentId>,
}
