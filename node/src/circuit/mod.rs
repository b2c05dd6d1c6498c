//! Circuits: the client's end, the router's part, and the flow control at both ends.

pub mod client;
pub mod flow;
pub mod router;

use crate::crypto::ntor::HandshakeFault;
use crate::wire::{DecodeError, DestroyReason, EncodeError};
use flow::FlowFault;

/// What the far side of a circuit did that ends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CircuitFault {
    /// A cell that no circuit in this state expects.
    #[error("a cell that this state of the circuit does not expect")]
    OutOfOrder,
    /// No layer recognised the cell: it was changed, replayed, or not for us.
    #[error("a relay cell that nobody recognises: changed, replayed or astray")]
    Unrecognised,
    /// More RELAY_EARLY cells than a circuit may have, or one towards the client.
    #[error("too many RELAY_EARLY cells, or one in the wrong direction")]
    TooManyEarly,
    /// A message that breaks its own format.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A message of ours that does not fit its cell.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeFault),
    /// Flow control was broken.
    #[error(transparent)]
    Flow(#[from] FlowFault),
    /// A queue passed its limit.
    #[error("more cells than the queue of a circuit may hold")]
    QueueFull,
}

impl CircuitFault {
    /// What DESTROY and TRUNCATED say of it: tor-spec, "Tearing down circuits".
    pub fn reason(&self) -> DestroyReason {
        match self {
            CircuitFault::OutOfOrder
            | CircuitFault::Unrecognised
            | CircuitFault::TooManyEarly
            | CircuitFault::Decode(_)
            | CircuitFault::Handshake(_)
            | CircuitFault::Flow(_) => DestroyReason::PROTOCOL,
            CircuitFault::Encode(_) => DestroyReason::INTERNAL,
            CircuitFault::QueueFull => DestroyReason::RESOURCELIMIT,
        }
    }
}
