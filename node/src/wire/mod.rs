//! Bytes to messages and back: Tor's cells and relay messages, and Chive's own.
//!
//! Everything here follows tor-spec ("Cells (messages on channels)", "Relay cells"), link
//! protocols 4 and 5. Chive's additions are the relay messages `DB_*` and the [`Descriptor`].
//!
//! One [`Reader`] is the only code that takes slices of what a peer sent. A decoder that leaves
//! bytes unread is an error, except where Tor's specification says that what follows is to be
//! ignored; there the message says so.

mod cell;
mod codec;
mod create;
mod db;
mod descriptor;
mod handshake;
mod linkspec;
mod names;
mod peer;
mod relay;
mod signal;
mod stream;

#[cfg(test)]
pub(crate) mod tests;

pub use cell::{
    CELL_BODY_LEN, CELL_HEADER_LEN, CELL_LEN, CellBody, CellDecoder, CellRef, CircId, Command,
    MAX_VERSIONS_BODY, RawCell, write_body, write_cell,
};
pub use codec::{Decode, DecodeError, Encode, EncodeError, Reader, Writer};
pub use create::{
    Create2, CreateFast, Created2, CreatedFast, Destroy, DestroyReason, HandshakeType,
    MAX_HANDSHAKE_DATA, PaddingNegotiate,
};
pub use db::{
    BLOCK_LEN, BlockRange, DbConnected, DbData, DbEnd, DbEndReason, DbFindPeer, DbFoundPeer,
    DbInfo, DbQuery, DbTold, Holders, MAX_ASK_BLOCKS, MAX_DB_DATA, Section, Tried,
};
pub use descriptor::{
    Descriptor, DescriptorBody, DescriptorError, MAX_DESCRIPTOR_ADDRESSES,
    MAX_DESCRIPTOR_EXTENSIONS, MAX_INTRODUCERS, Roles, VerifiedDescriptor,
};
pub use handshake::{
    AuthChallenge, AuthMethod, Authenticate, Cert, CertType, Certs, MAX_CERT_LEN, NetAddress,
    Netinfo, Versions,
};
pub use linkspec::{LinkSpecifier, MAX_LINK_SPECIFIERS};
pub use names::{Infohash, InfohashV1, InfohashV2};
pub use peer::{
    Answer, AskFailure, MAX_HINTS, MAX_PASSES, MAX_SEALED, PeerAnswer, PeerAsk, Question,
};
pub use relay::{
    RELAY_DATA_MAX, RELAY_HEADER_LEN, RelayBody, RelayCommand, RelayHeader, RelayMessage,
    StreamRule, encode_relay, relay_padding, split_relay,
};
pub use signal::{
    Candidate, CandidateHost, CandidateKind, IceDescription, IceText, MAX_CANDIDATES, MAX_ICE_TEXT,
    Signal,
};
pub use stream::{
    Begin, Connected, End, EndReason, Extend2, Extended2, Resolve, Resolved, ResolvedAnswer,
    Sendme, Truncated, Xoff, Xon,
};
