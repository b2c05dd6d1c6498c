//! AUTHENTICATE by method 3: how an initiator proves who it is.
//!
//! tor-spec, "Link authentication type 3: Ed25519-SHA256-RFC5705".

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq;

use super::PeerFault;
use crate::ids::Ed25519Id;
use crate::wire::{AuthMethod, Authenticate, Reader};

/// What the proof begins with.
const TYPE: &[u8; 8] = b"AUTH0003";
/// Length of the random bytes before the signature.
const RANDOM_LEN: usize = 24;
/// Length of the signature at the end.
const SIGNATURE_LEN: usize = 64;

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
    /// SHA-256 of the responder's TLS certificate.
    pub(super) s_certificate: [u8; 32],
    /// A secret of this TLS connection, exported with [`super::EXPORT_LABEL`] and `c_rsa_sha256`.
    pub(super) tls_secrets: [u8; 32],
}

impl Facts {
    /// The part of the proof that both sides can write.
    fn fixed_part(&self) -> Vec<u8> {
        let parts: [&[u8]; 9] = [
            TYPE,
            &self.c_rsa_sha256,
            &self.s_rsa_sha256,
            &self.c_ed25519.0,
            &self.s_ed25519.0,
            &self.s_log,
            &self.c_log,
            &self.s_certificate,
            &self.tls_secrets,
        ];
        parts.concat()
    }

    /// The initiator's proof.
    pub(super) fn prove(&self, auth_key: &SigningKey, random: &[u8; 32]) -> Authenticate {
        let mut body = self.fixed_part();
        body.extend(random.iter().take(RANDOM_LEN));
        let signature = auth_key.sign(&body);
        body.extend_from_slice(&signature.to_bytes());
        Authenticate {
            method: AuthMethod::ED25519_SHA256_RFC5705,
            body,
        }
    }

    /// Checks the initiator's proof.
    pub(super) fn check(
        &self,
        proof: &Authenticate,
        auth_key: &Ed25519Id,
    ) -> Result<(), PeerFault> {
        if proof.method != AuthMethod::ED25519_SHA256_RFC5705 {
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
