//! The bodies of cells that make and end circuits, and of PADDING_NEGOTIATE.

use super::codec::{Bytes16, codec, numbers};
use super::{CELL_BODY_LEN, CellBody, Command};

/// The longest handshake data in CREATE2 and CREATED2: what a cell leaves for it.
pub const MAX_HANDSHAKE_DATA: usize = CELL_BODY_LEN - 4;

numbers! {
    /// Which handshake makes a hop. tor-spec, "CREATE and CREATED cells".
    HandshakeType(u16) {
        /// The obsolete one.
        TAP = 0,
        /// Curve25519, one round trip.
        NTOR = 2,
        /// ntor with extensions.
        NTOR_V3 = 3,
    }
}

/// CREATE_FAST. tor-spec, "CREATE_FAST/CREATED_FAST cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateFast {
    /// The initiator's random half of the key material.
    pub key_material: [u8; 20],
}
codec!(CreateFast { key_material });
impl CellBody for CreateFast {
    const COMMAND: Command = Command::CREATE_FAST;
}

/// CREATED_FAST. tor-spec, "CREATE_FAST/CREATED_FAST cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedFast {
    /// The responder's random half of the key material.
    pub key_material: [u8; 20],
    /// The derivative key data: that the responder has the initiator's half.
    pub derivative: [u8; 20],
}
codec!(CreatedFast {
    key_material,
    derivative
});
impl CellBody for CreatedFast {
    const COMMAND: Command = Command::CREATED_FAST;
}

/// CREATE2. tor-spec, "CREATE and CREATED cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create2 {
    /// Which handshake.
    pub handshake_type: HandshakeType,
    /// The initiator's part of it.
    pub data: Vec<u8>,
}
codec!(Create2 { handshake_type, data as Bytes16<MAX_HANDSHAKE_DATA> });
impl CellBody for Create2 {
    const COMMAND: Command = Command::CREATE2;
}

/// CREATED2. tor-spec, "CREATE and CREATED cells".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created2 {
    /// The responder's part of the handshake.
    pub data: Vec<u8>,
}
codec!(Created2 { data as Bytes16<MAX_HANDSHAKE_DATA> });
impl CellBody for Created2 {
    const COMMAND: Command = Command::CREATED2;
}

numbers! {
    /// Why a circuit ends. tor-spec, "Tearing down circuits".
    DestroyReason(u8) {
        /// Not said: what a client sends always.
        NONE = 0,
        /// The protocol was violated.
        PROTOCOL = 1,
        /// A fault in the router.
        INTERNAL = 2,
        /// The client asked for it (by TRUNCATE).
        REQUESTED = 3,
        /// The router saves its bandwidth.
        HIBERNATING = 4,
        /// Memory, sockets or circuits have run out.
        RESOURCELIMIT = 5,
        /// The next router cannot be reached.
        CONNECTFAILED = 6,
        /// The next router is not whom it was to be.
        OR_IDENTITY = 7,
        /// The link that carried the circuit is gone.
        CHANNEL_CLOSED = 8,
        /// The circuit is too old or was not used.
        FINISHED = 9,
        /// It took too long to make.
        TIMEOUT = 10,
        /// It was destroyed without a client's word.
        DESTROYED = 11,
        /// There is no such onion service.
        NOSUCHSERVICE = 12,
    }
}

/// DESTROY. tor-spec, "Tearing down circuits".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destroy {
    /// Why.
    pub reason: DestroyReason,
}
codec!(Destroy { reason });
impl CellBody for Destroy {
    const COMMAND: Command = Command::DESTROY;
}

/// PADDING_NEGOTIATE. padding-spec, "Padding negotiation".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaddingNegotiate {
    /// Zero.
    pub version: u8,
    /// 1: send none; 2: send some.
    pub command: u8,
    /// The shortest time between cells before padding is sent.
    pub low_ms: u16,
    /// The longest.
    pub high_ms: u16,
}
codec!(PaddingNegotiate {
    version,
    command,
    low_ms,
    high_ms
});
impl CellBody for PaddingNegotiate {
    const COMMAND: Command = Command::PADDING_NEGOTIATE;
}
