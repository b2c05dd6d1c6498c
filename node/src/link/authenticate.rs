//! AUTHENTICATE: how an initiator proves who it is.
//!
//! On TLS by Tor's method 3 (tor-spec, "Link authentication type 3: Ed25519-SHA256-RFC5705"); on
//! WebRTC and WebSockets by a method of ours, which differs in its name and in what it is bound
//! to: the two ends' DTLS certificates.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq;

use super::PeerFault;
use crate::ids::Ed25519Id;
use crate::wire::{AuthMethod, Authenticate, Reader};

/// Length of the random bytes before the signature.
pub(super) const RANDOM_LEN: usize = 24;
/// Length of the signature at the end.
const SIGNATURE_LEN: usize = 64;

/// Which connection a proof is of. `c` is the initiator's, `s` the responder's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// One of TLS.
    Tls {
        /// SHA-256 of the responder's certificate.
        s_certificate: [u8; 32],
        /// A secret of this connection, exported with [`super::EXPORT_LABEL`] and the SHA-256 of
        /// the initiator's RSA identity.
        secrets: [u8; 32],
    },
    /// One of WebRTC: SHA-256 of the certificates that DTLS has checked. DTLS proves that each end
    /// holds its own, so who proves an identity for this pair is at the end of this connection.
    /// On a WebSocket both are zeros, and the proof is of no connection in particular.
    Dtls {
        c_certificate: [u8; 32],
        s_certificate: [u8; 32],
    },
}

impl Bound {
    /// The method of such a proof.
    const fn method(&self) -> AuthMethod {
        match self {
            Bound::Tls { .. } => AuthMethod::ED25519_SHA256_RFC5705,
            Bound::Dtls { .. } => AuthMethod::ED25519_SHA256_DTLS,
        }
    }

    /// What the proof begins with: no proof of one method is one of another.
    const fn kind(&self) -> &'static [u8; 8] {
        match self {
            Bound::Tls { .. } => b"AUTH0003",
            Bound::Dtls { .. } => b"CHIVE001",
        }
    }

    /// The last fields of the part that both sides can write.
    const fn fields(&self) -> [&[u8; 32]; 2] {
        match self {
            Bound::Tls {
                s_certificate,
                secrets,
            } => [s_certificate, secrets],
            Bound::Dtls {
                c_certificate,
                s_certificate,
            } => [c_certificate, s_certificate],
        }
    }
}

/// What both sides know of a link, as the proof states it. `c` is the initiator's, `s` the
/// responder's.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// SHA-256 of the RSA identities.
    pub(super) c_rsa_sha256: [u8; 32],
    pub(super) s_rsa_sha256: [u8; 32],
    /// The Ed25519 identities.
    pub(super) c_ed25519: Ed25519Id,
    pub(super) s_ed25519: Ed25519Id,
    /// SHA-256 of all that each side has sent: the responder up to AUTH_CHALLENGE, the initiator
    /// up to CERTS.
    pub(super) s_log: [u8; 32],
    pub(super) c_log: [u8; 32],
    /// Over which connection.
    pub(super) bound: Bound,
}

impl Facts {
    /// The part of the proof that both sides can write.
    fn fixed_part(&self) -> Vec<u8> {
        let [one, other] = self.bound.fields();
        let parts: [&[u8]; 9] = [
            self.bound.kind(),
            &self.c_rsa_sha256,
            &self.s_rsa_sha256,
            &self.c_ed25519.0,
            &self.s_ed25519.0,
            &self.s_log,
            &self.c_log,
            one,
            other,
        ];
        parts.concat()
    }

    /// The initiator's proof.
    pub(super) fn prove(&self, auth_key: &SigningKey, random: &[u8; RANDOM_LEN]) -> Authenticate {
        let mut body = self.fixed_part();
        body.extend_from_slice(random);
        let signature = auth_key.sign(&body);
        body.extend_from_slice(&signature.to_bytes());
        Authenticate {
            method: self.bound.method(),
            body,
        }
    }

    /// Checks the initiator's proof.
    pub(super) fn check(
        &self,
        proof: &Authenticate,
        auth_key: &Ed25519Id,
    ) -> Result<(), PeerFault> {
        if proof.method != self.bound.method() {
            return Err(PeerFault::NoSharedMethod);
        }
        let fixed = self.fixed_part();
        let mut reader = Reader::new(&proof.body);
        let signed = reader
            .clone()
            .take(fixed.len() + RANDOM_LEN)
            .map_err(|_| PeerFault::Proof)?;
        let stated = reader.take(fixed.len()).map_err(|_| PeerFault::Proof)?;
        reader.take(RANDOM_LEN).map_err(|_| PeerFault::Proof)?;
        // What follows the signature is ignored, as the specification wants it.
        let signature: [u8; SIGNATURE_LEN] =
            reader.array().map_err(|_| PeerFault::ProofSignature)?;
        if !bool::from(stated.ct_eq(&fixed)) {
            return Err(PeerFault::Proof);
        }
        VerifyingKey::from_bytes(&auth_key.0)
            .and_then(|key| key.verify_strict(signed, &Signature::from_bytes(&signature)))
            .map_err(|_| PeerFault::ProofSignature)
    }
}
