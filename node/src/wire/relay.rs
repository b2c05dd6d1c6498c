//! Relay cells: the header inside a RELAY cell's body, and the messages that it heads.

use super::codec::numbers;
use super::stream::{
    Begin, Connected, End, Extend2, Extended2, Resolve, Resolved, Sendme, Truncated, Xoff, Xon,
};
use super::{
    CELL_BODY_LEN, DbConnected, DbData, DbEnd, DbFindPeer, DbFoundPeer, DbInfo, DbQuery, DbTold,
    Decode, DecodeError, Encode, EncodeError, PeerAnswer, PeerAsk, Reader, Writer,
};
use crate::ids::StreamId;

/// Length of a relay cell's header: command, recognized, stream, digest, length.
pub const RELAY_HEADER_LEN: usize = 11;
/// The most data in one relay cell.
pub const RELAY_DATA_MAX: usize = CELL_BODY_LEN - RELAY_HEADER_LEN;

/// A RELAY cell's body.
pub type RelayBody = [u8; CELL_BODY_LEN];

numbers! {
    /// What a relay message is. tor-spec, "Relay cells"; 224 to 233 are Chive's, in a range that
    /// Tor leaves free and answers as it answers anything unknown.
    RelayCommand(u8) {
        /// Opens a stream to an address.
        BEGIN = 1,
        /// A stream's bytes.
        DATA = 2,
        /// Ends a stream.
        END = 3,
        /// The stream is open.
        CONNECTED = 4,
        /// Acknowledges a window's worth of DATA.
        SENDME = 5,
        /// Extends by an obsolete handshake.
        EXTEND = 6,
        /// Answer to EXTEND.
        EXTENDED = 7,
        /// Cuts the circuit after the hop that it is sent to.
        TRUNCATE = 8,
        /// The circuit was cut.
        TRUNCATED = 9,
        /// Padding over several hops.
        DROP = 10,
        /// Asks for a host's addresses.
        RESOLVE = 11,
        /// Answer to RESOLVE.
        RESOLVED = 12,
        /// Opens a stream to the router's directory.
        BEGIN_DIR = 13,
        /// Adds a hop.
        EXTEND2 = 14,
        /// Answer to EXTEND2.
        EXTENDED2 = 15,
        /// Makes two circuits one set.
        CONFLUX_LINK = 19,
        /// Answer to CONFLUX_LINK.
        CONFLUX_LINKED = 20,
        /// Answer to CONFLUX_LINKED.
        CONFLUX_LINKED_ACK = 21,
        /// What follows comes on another circuit of the set.
        CONFLUX_SWITCH = 22,
        /// Padding between hops: what is wanted.
        PADDING_NEGOTIATE = 41,
        /// Answer to PADDING_NEGOTIATE.
        PADDING_NEGOTIATED = 42,
        /// Stop sending on this stream.
        XOFF = 43,
        /// Send on, and how fast.
        XON = 44,
        /// Opens a stream to an ORDB, or asks on it.
        DB_QUERY = 224,
        /// The ORDB has the metadata and will answer.
        DB_CONNECTED = 225,
        /// A part of a block.
        DB_DATA = 226,
        /// Ends a stream, or a range of what was asked.
        DB_END = 227,
        /// What an ORDB has.
        DB_INFO = 228,
        /// Asks for routers, or registers one.
        DB_FIND_PEER = 229,
        /// A router.
        DB_FOUND_PEER = 230,
        /// Asks a peer, over those that are linked to it.
        PEER_ASK = 231,
        /// A peer's answer.
        PEER_ANSWER = 232,
        /// How many told an ORDB that they hold a torrent.
        DB_TOLD = 233,
    }
}

/// Whether a relay message belongs to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRule {
    /// It must name one.
    Required,
    /// It must name none.
    Forbidden,
    /// Either.
    Either,
}

impl RelayCommand {
    /// Whether a message of this command belongs to a stream.
    pub const fn stream_rule(self) -> StreamRule {
        match self {
            RelayCommand::BEGIN
            | RelayCommand::DATA
            | RelayCommand::END
            | RelayCommand::CONNECTED
            | RelayCommand::RESOLVE
            | RelayCommand::RESOLVED
            | RelayCommand::BEGIN_DIR
            | RelayCommand::XOFF
            | RelayCommand::XON
            | RelayCommand::DB_QUERY
            | RelayCommand::DB_CONNECTED
            | RelayCommand::DB_DATA
            | RelayCommand::DB_END
            | RelayCommand::DB_INFO
            | RelayCommand::DB_FIND_PEER
            | RelayCommand::DB_FOUND_PEER
            | RelayCommand::PEER_ASK
            | RelayCommand::PEER_ANSWER => StreamRule::Required,
            RelayCommand::EXTEND
            | RelayCommand::EXTENDED
            | RelayCommand::TRUNCATE
            | RelayCommand::TRUNCATED
            | RelayCommand::DROP
            | RelayCommand::EXTEND2
            | RelayCommand::EXTENDED2
            | RelayCommand::CONFLUX_LINK
            | RelayCommand::CONFLUX_LINKED
            | RelayCommand::CONFLUX_LINKED_ACK
            | RelayCommand::CONFLUX_SWITCH
            | RelayCommand::PADDING_NEGOTIATE
            | RelayCommand::PADDING_NEGOTIATED
            | RelayCommand::DB_TOLD => StreamRule::Forbidden,
            _ => StreamRule::Either,
        }
    }
}

/// What stands before a relay message: 1 command, 2 recognized, 2 stream, 4 digest, 2 length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayHeader {
    /// What the message is.
    pub command: RelayCommand,
    /// Zero where the cell is at its end; else it is a chance or another's.
    pub recognized: u16,
    /// The stream; none is zero on the wire.
    pub stream: Option<StreamId>,
    /// The first bytes of the running digest.
    pub digest: [u8; 4],
    /// How long the message is; not checked yet.
    pub length: u16,
}

/// Where the digest lies in a relay cell's body.
const DIGEST: std::ops::Range<usize> = 5..9;

impl RelayHeader {
    /// The header of `body`.
    pub fn of(body: &RelayBody) -> Self {
        let [command, r0, r1, s0, s1, d0, d1, d2, d3, l0, l1, ..] = *body;
        let stream = u16::from_be_bytes([s0, s1]);
        RelayHeader {
            command: RelayCommand(command),
            recognized: u16::from_be_bytes([r0, r1]),
            stream: if stream == 0 {
                None
            } else {
                Some(StreamId(stream))
            },
            digest: [d0, d1, d2, d3],
            length: u16::from_be_bytes([l0, l1]),
        }
    }

    /// Whether `recognized` is zero in `body`: the first thing to ask of a decrypted cell.
    pub const fn is_recognized(body: &RelayBody) -> bool {
        let [_, r0, r1, ..] = *body;
        r0 | r1 == 0
    }

    /// The digest field of `body`.
    pub const fn digest(body: &RelayBody) -> [u8; 4] {
        let [_, _, _, _, _, d0, d1, d2, d3, ..] = *body;
        [d0, d1, d2, d3]
    }

    /// Writes the digest field of `body`; zeros are what the running digest is taken over.
    pub fn set_digest(body: &mut RelayBody, digest: [u8; 4]) {
        if let Some(field) = body.get_mut(DIGEST) {
            field.copy_from_slice(&digest);
        }
    }
}

/// A relay cell's header and the bytes of its message: an error if it claims more than fit.
pub fn split_relay(body: &RelayBody) -> Result<(RelayHeader, &[u8]), DecodeError> {
    let header = RelayHeader::of(body);
    let mut reader = Reader::new(body);
    reader.take(RELAY_HEADER_LEN)?;
    let data = reader
        .take(usize::from(header.length))
        .map_err(|_| DecodeError::OutOfBounds("a relay message's length"))?;
    Ok((header, data))
}

/// Writes a relay cell's body, `recognized` and digest zero, ready to be digested and encrypted.
///
/// What follows the message is zeros; whoever wants random bytes there puts them in
/// [`relay_padding`].
pub fn encode_relay(
    body: &mut RelayBody,
    stream: Option<StreamId>,
    message: &RelayMessage<'_>,
) -> Result<(), EncodeError> {
    let length = message.encoded_len();
    if length > RELAY_DATA_MAX {
        return Err(EncodeError::NoRoom);
    }
    let mut writer = Writer::new(body);
    writer.write(&message.command())?;
    writer.write::<u16>(&0)?;
    writer.write(&stream.map_or(0, |stream| stream.0))?;
    writer.put(&[0; 4])?;
    writer.write(&u16::try_from(length).map_err(|_| EncodeError::NoRoom)?)?;
    writer.write(message)?;
    writer.pad();
    Ok(())
}

/// What follows a relay cell's message and the four zeros after it: where tor-spec, "Relay cells",
/// recommends random bytes, so that the digests which SENDME acknowledges cannot be foretold by
/// someone who knows the content but does not read it.
pub fn relay_padding(body: &mut RelayBody) -> &mut [u8] {
    let message_end = RELAY_HEADER_LEN + usize::from(RelayHeader::of(body).length);
    body.get_mut(message_end + 4..).unwrap_or_default()
}

/// Names all messages once, for both directions.
macro_rules! messages {
    ($($(#[$meta:meta])* $variant:ident $(($payload:ty))? = $command:ident),* $(,)?) => {
        /// A relay message. Bulk data is borrowed from the cell that carried it.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum RelayMessage<'a> {
            /// A stream's bytes.
            Data(&'a [u8]),
            /// A part of a block.
            DbData(DbData<'a>),
            $($(#[$meta])* $variant $(($payload))?,)*
            /// A command that we do not speak.
            Unknown {
                /// The command.
                command: RelayCommand,
                /// The message.
                data: &'a [u8],
            },
        }

        impl<'a> RelayMessage<'a> {
            /// What the message is.
            pub const fn command(&self) -> RelayCommand {
                match self {
                    RelayMessage::Data(_) => RelayCommand::DATA,
                    RelayMessage::DbData(_) => RelayCommand::DB_DATA,
                    $(messages!(@pattern $variant $(($payload))?) => RelayCommand::$command,)*
                    RelayMessage::Unknown { command, .. } => *command,
                }
            }

            /// Reads the message of a cell whose header says `command`.
            pub fn decode(command: RelayCommand, data: &'a [u8]) -> Result<Self, DecodeError> {
                Ok(match command {
                    RelayCommand::DATA => RelayMessage::Data(data),
                    RelayCommand::DB_DATA => RelayMessage::DbData(DbData::from_bytes(data)?),
                    $(RelayCommand::$command => messages!(@decode data $variant $(($payload))?),)*
                    _ => RelayMessage::Unknown { command, data },
                })
            }
        }

        impl Encode for RelayMessage<'_> {
            fn encoded_len(&self) -> usize {
                match self {
                    RelayMessage::Data(data) => data.len(),
                    RelayMessage::DbData(message) => message.encoded_len(),
                    $(messages!(@bind message $variant $(($payload))?) =>
                        messages!(@len message $(($payload))?),)*
                    RelayMessage::Unknown { data, .. } => data.len(),
                }
            }
            fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
                match self {
                    RelayMessage::Data(data) => writer.put(data),
                    RelayMessage::DbData(message) => writer.write(message),
                    $(messages!(@bind message $variant $(($payload))?) =>
                        messages!(@encode writer message $(($payload))?),)*
                    RelayMessage::Unknown { data, .. } => writer.put(data),
                }
            }
        }
    };
    (@pattern $variant:ident) => { RelayMessage::$variant };
    (@pattern $variant:ident ($payload:ty)) => { RelayMessage::$variant(_) };
    (@bind $message:ident $variant:ident) => { RelayMessage::$variant };
    (@bind $message:ident $variant:ident ($payload:ty)) => { RelayMessage::$variant($message) };
    (@decode $data:ident $variant:ident) => { RelayMessage::$variant };
    (@decode $data:ident $variant:ident ($payload:ty)) => {
        RelayMessage::$variant(<$payload>::from_bytes($data)?)
    };
    (@len $message:ident) => { 0 };
    (@len $message:ident ($payload:ty)) => { $message.encoded_len() };
    (@encode $writer:ident $message:ident) => { Ok(()) };
    (@encode $writer:ident $message:ident ($payload:ty)) => { $writer.write($message) };
}

// The three without a payload (DROP, TRUNCATE, BEGIN_DIR) may carry bytes that are ignored.
messages! {
    /// Opens a stream to an address.
    Begin(Begin) = BEGIN,
    /// Ends a stream.
    End(End) = END,
    /// The stream is open.
    Connected(Connected) = CONNECTED,
    /// Acknowledges a window's worth of DATA.
    Sendme(Sendme) = SENDME,
    /// Adds a hop.
    Extend2(Extend2) = EXTEND2,
    /// Answer to EXTEND2.
    Extended2(Extended2) = EXTENDED2,
    /// Cuts the circuit here.
    Truncate = TRUNCATE,
    /// The circuit was cut.
    Truncated(Truncated) = TRUNCATED,
    /// Padding.
    Drop = DROP,
    /// Asks for a host's addresses.
    Resolve(Resolve) = RESOLVE,
    /// Answer to RESOLVE.
    Resolved(Resolved) = RESOLVED,
    /// Opens a stream to the router's directory.
    BeginDir = BEGIN_DIR,
    /// Send on.
    Xon(Xon) = XON,
    /// Stop sending.
    Xoff(Xoff) = XOFF,
    /// Opens a stream to an ORDB, or asks on it.
    DbQuery(DbQuery) = DB_QUERY,
    /// The ORDB will answer.
    DbConnected(DbConnected) = DB_CONNECTED,
    /// Ends a stream, or a range of what was asked.
    DbEnd(DbEnd) = DB_END,
    /// What an ORDB has.
    DbInfo(DbInfo) = DB_INFO,
    /// How many hold a torrent.
    DbTold(DbTold) = DB_TOLD,
    /// Asks for routers, or registers one.
    DbFindPeer(DbFindPeer) = DB_FIND_PEER,
    /// A router.
    DbFoundPeer(DbFoundPeer) = DB_FOUND_PEER,
    /// Asks a peer.
    PeerAsk(PeerAsk) = PEER_ASK,
    /// A peer's answer.
    PeerAnswer(PeerAnswer) = PEER_ANSWER,
}
