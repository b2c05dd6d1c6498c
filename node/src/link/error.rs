//! Whose fault it is that there is no link.

use crate::wire::{CertType, Command, DecodeError, DestroyReason, EncodeError};

use super::RouterIds;

/// Why a handshake ended without a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The peer's fault.
    #[error(transparent)]
    Peer(#[from] PeerFault),
    /// Ours.
    #[error(transparent)]
    Misuse(#[from] Misuse),
}

/// What the peer did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// It sent what cannot be read.
    #[error("the peer sent a malformed {command} cell: {error}")]
    Malformed {
        /// Which cell.
        command: Command,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// It does not speak Tor's link protocol.
    #[error("the peer does not speak Tor's link protocol: {0}")]
    NotTor(DecodeError),
    /// It sent a cell that may not come now.
    #[error("the peer sent {command} while {awaited} was awaited")]
    Unexpected {
        /// The cell.
        command: Command,
        /// What should have come.
        awaited: &'static str,
    },
    /// It spoke of a circuit before there was a link.
    #[error("the peer spoke of a circuit during the handshake")]
    Circuit,
    /// It speaks no version that we speak.
    #[error("the peer speaks no link protocol that we speak")]
    NoSharedVersion,
    /// A certificate is missing, sent twice or wrong.
    #[error("the peer's certificate of type {kind} {fault}")]
    Cert {
        /// Which.
        kind: CertType,
        /// What is wrong with it.
        fault: CertFault,
    },
    /// It is somebody else than the link is meant for.
    #[error("the peer is another router, {}, than the link is meant for", found.ed25519)]
    OtherRouter {
        /// Who it is.
        found: RouterIds,
    },
    /// It accepts no method of authentication that we speak.
    #[error("the peer accepts no method of authentication that we speak")]
    NoSharedMethod,
    /// What it says to prove itself is not true of this link.
    #[error("the peer's proof of identity is not of this link")]
    Proof,
    /// Its proof is not signed by its authentication key.
    #[error("the peer's proof of identity has a wrong signature")]
    ProofSignature,
    /// It sent more than a handshake needs.
    #[error("the peer sent too much before the link was made")]
    TooMuch,
    /// It did not end the handshake in time.
    #[error("the peer did not end the handshake in time")]
    Timeout,
}

impl PeerFault {
    /// What those are told whose circuits waited for this link.
    pub const fn destroy_reason(&self) -> DestroyReason {
        match self {
            PeerFault::OtherRouter { .. } => DestroyReason::OR_IDENTITY,
            PeerFault::Malformed { .. }
            | PeerFault::NotTor(_)
            | PeerFault::Unexpected { .. }
            | PeerFault::Circuit
            | PeerFault::NoSharedVersion
            | PeerFault::Cert { .. }
            | PeerFault::NoSharedMethod
            | PeerFault::Proof
            | PeerFault::ProofSignature
            | PeerFault::TooMuch
            | PeerFault::Timeout => DestroyReason::CONNECTFAILED,
        }
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertFault {
    /// It is not there, or more than once.
    #[error("is not there exactly once")]
    NotOnce,
    /// It cannot be read.
    #[error("is malformed")]
    Malformed,
    /// It is of another type than it was sent as, or certifies another kind of key.
    #[error("certifies something else")]
    OtherKind,
    /// It does not follow from the certificate before it.
    #[error("is signed by another key")]
    OtherKey,
    /// The signature is wrong.
    #[error("has a wrong signature")]
    Signature,
    /// It has expired.
    #[error("has expired")]
    Expired,
    /// It certifies another TLS certificate than this connection's.
    #[error("is of another connection")]
    OtherConnection,
}

/// What our own side did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// A responder must have certificates to show.
    #[error("a responder needs certificates")]
    NoCerts,
    /// The certificates are for another TLS certificate than the transport's.
    #[error("the link certificates are not for the transport's TLS certificate")]
    OtherTlsCertificate,
    /// A secret was given that was not asked for.
    #[error("no exported secret is awaited")]
    NotAwaited,
    /// A cell of ours cannot be written.
    #[error("a cell of the handshake cannot be written: {0}")]
    Encode(#[from] EncodeError),
}
