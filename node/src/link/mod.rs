//! From a transport's bytes to an authenticated link between routers: Tor's handshake.
//!
//! tor-spec, "Negotiating and initializing channels"; cert-spec. The initiator sends VERSIONS;
//! the responder answers with VERSIONS, CERTS, AUTH_CHALLENGE and NETINFO; the initiator ends
//! with NETINFO, and before it, if it is a router that shows itself, with CERTS and AUTHENTICATE.
//!
//! What the certificates say, from the transport up:
//! - the TLS certificate's SHA-256 is signed by the signing key (type 5);
//! - the signing key is signed by the Ed25519 identity (type 4);
//! - the Ed25519 identity is signed by the RSA identity (type 7);
//! - the RSA identity signs itself (type 2), and its SHA-1 is the fingerprint;
//! - an initiator's authentication key is signed by its signing key (type 6), and signs what both
//!   sides said and a secret that only the two ends of this TLS connection know.
//!
//! On WebRTC the responder's type 5 certifies its DTLS certificate instead, and an initiator's
//! proof names both DTLS certificates: what TLS's certificate and secret are elsewhere.
//!
//! On a WebSocket, whose TLS ends who knows where, types 2, 4 and 7 are shown and checked, but
//! anybody could show them: such a peer is not authenticated by its link, but by ntor. An
//! initiator there proves that it holds its keys and wants to talk to this responder, but not that
//! nobody stands between the two, who reads and writes what he likes: what that is good for is
//! said at [`Established::peer_authenticated`].

mod authenticate;
mod certs;
pub(crate) mod der;
mod ed25519_cert;
mod error;
mod handshake;
mod identity;
mod rsa_cert;
mod rsa_public;
mod rsa_secret;
mod tls_certificate;
mod validity;
mod x509;

#[cfg(test)]
mod tests;

pub use certs::{LinkCerts, LinkCertsDraft};
pub use error::{CertFault, LinkError, Misuse, PeerFault};
pub use handshake::{
    Established, HANDSHAKE_TIMEOUT, Handshake, HandshakeConfig, HandshakeEvent, LINK_PROTOCOLS,
    MAX_HANDSHAKE_BYTES,
};
pub use identity::{HostKey, Identity, IdentityError, Unsigned};
pub use tls_certificate::TlsCertificate;
pub use validity::CERT_LIFETIME_SECONDS;

use crate::ids::{Ed25519Id, RsaId};

/// A label for RFC 5705 that makes the secret which a proof is bound to: the host exports 32
/// bytes of the TLS connection with it and the context that [`HandshakeEvent::NeedExport`] names.
pub const EXPORT_LABEL: &[u8] = b"EXPORTER FOR TOR TLS CLIENT BINDING AUTH0003";

/// Both names of one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterIds {
    /// The fingerprint.
    pub rsa: RsaId,
    /// The Ed25519 identity.
    pub ed25519: Ed25519Id,
}

/// Whom a link is meant for, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The fingerprint that the peer must have.
    pub rsa: Option<RsaId>,
    /// The Ed25519 identity that the peer must have.
    pub ed25519: Option<Ed25519Id>,
}

impl From<RouterIds> for Expected {
    fn from(ids: RouterIds) -> Self {
        Expected {
            rsa: Some(ids.rsa),
            ed25519: Some(ids.ed25519),
        }
    }
}

impl Expected {
    /// Whether `ids` are what is expected.
    pub fn allows(&self, ids: &RouterIds) -> bool {
        self.rsa.is_none_or(|rsa| rsa == ids.rsa)
            && self.ed25519.is_none_or(|ed25519| ed25519 == ids.ed25519)
    }
}

/// Which side of a link this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It dialled.
    Initiator,
    /// It was dialled.
    Responder,
}

/// What the host knows of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// TLS between the two ends of the link.
    Tls {
        /// SHA-256 of the responder's certificate, DER.
        certificate_sha256: [u8; 32],
    },
    /// WebRTC between the two ends of the link.
    WebRtc {
        /// SHA-256 of our own DTLS certificate.
        own_sha256: [u8; 32],
        /// SHA-256 of the other side's, which DTLS has checked.
        peer_sha256: [u8; 32],
    },
    /// A WebSocket, which proves nothing.
    WebSocket,
}
