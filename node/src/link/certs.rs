//! The certificates that a router shows on its links, and the checks of a peer's.

use ed25519_dalek::SigningKey;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::ed25519_cert::{self, Ed25519Cert, same};
use super::rsa_cert::{check_cross_cert, check_identity_cert, make_cross_cert, make_identity_cert};
use super::{Binding, CertFault, Identity, IdentityError, PeerFault, RouterIds, Side};
use crate::ids::Ed25519Id;
use crate::wire::{Cert, CertType, Certs};

/// For how long the certificates that we make are good.
pub const CERT_LIFETIME_SECONDS: u64 = 30 * 24 * 60 * 60;
/// How far a clock may be wrong before certificates are refused for it: people's clocks are.
pub(super) const CLOCK_TOLERANCE_SECONDS: u64 = 24 * 60 * 60;

/// What a router shows on its links: made anew now and then, with new signing keys, out of its
/// identity and its TLS certificate.
pub struct LinkCerts {
    ids: RouterIds,
    rsa_sha256: [u8; 32],
    tls_certificate_sha256: Option<[u8; 32]>,
    made: u64,
    as_responder: Certs,
    as_initiator: Certs,
    auth_key: SigningKey,
}

impl LinkCerts {
    /// Makes the certificates. `tls_certificate_sha256` is of this router's own TLS certificate,
    /// DER; without one it can be a responder on WebSockets only.
    pub fn new<R: CryptoRng>(
        identity: &Identity,
        tls_certificate_sha256: Option<[u8; 32]>,
        unix_now: u64,
        rng: &mut R,
    ) -> Result<Self, IdentityError> {
        let (signing_key, auth_key) = (new_key(rng), new_key(rng));
        let ed25519 = |kind, certified: &[u8; 32], signer| Cert {
            kind,
            body: ed25519_cert::make(kind, certified, signer, unix_now),
        };
        let shared = [
            Cert {
                kind: CertType::RSA_IDENTITY,
                body: make_identity_cert(identity, unix_now, rng)?,
            },
            ed25519(
                CertType::ED25519_SIGNING,
                signing_key.verifying_key().as_bytes(),
                identity.ed25519(),
            ),
            Cert {
                kind: CertType::RSA_CROSS,
                body: make_cross_cert(identity, unix_now, rng)?,
            },
        ];
        let link = tls_certificate_sha256
            .map(|hash| ed25519(CertType::ED25519_TLS_LINK, &hash, &signing_key));
        let auth = ed25519(
            CertType::ED25519_AUTH,
            auth_key.verifying_key().as_bytes(),
            &signing_key,
        );
        Ok(LinkCerts {
            ids: identity.ids(),
            rsa_sha256: identity.rsa().sha256(),
            tls_certificate_sha256,
            made: unix_now,
            as_responder: Certs {
                certs: shared.iter().cloned().chain(link).collect(),
            },
            as_initiator: Certs {
                certs: shared.into_iter().chain([auth]).collect(),
            },
            auth_key,
        })
    }

    /// Whose they are.
    pub const fn ids(&self) -> RouterIds {
        self.ids
    }

    /// From when on, in Unix seconds, new ones should take their place: half their life.
    pub const fn renew_at(&self) -> u64 {
        self.made.saturating_add(CERT_LIFETIME_SECONDS / 2)
    }

    /// The TLS certificate that they certify.
    pub const fn tls_certificate_sha256(&self) -> Option<[u8; 32]> {
        self.tls_certificate_sha256
    }

    pub(super) const fn rsa_sha256(&self) -> &[u8; 32] {
        &self.rsa_sha256
    }

    pub(super) const fn auth_key(&self) -> &SigningKey {
        &self.auth_key
    }

    /// The CERTS cell of this side.
    pub(super) const fn cell(&self, side: Side) -> &Certs {
        match side {
            Side::Initiator => &self.as_initiator,
            Side::Responder => &self.as_responder,
        }
    }
}

impl std::fmt::Debug for LinkCerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkCerts")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

fn new_key<R: CryptoRng>(rng: &mut R) -> SigningKey {
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *seed);
    SigningKey::from_bytes(&seed)
}

/// What a peer's CERTS cell proves.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerCerts {
    /// Who it is.
    pub(super) ids: RouterIds,
    /// How AUTHENTICATE names its RSA identity.
    pub(super) rsa_sha256: [u8; 32],
    /// An initiator's authentication key.
    pub(super) auth_key: Option<Ed25519Id>,
}

/// Checks the CERTS cell of the peer that is on `side`. tor-spec, "Authenticating the responder
/// from CERTS" and "Authenticating the initiator from CERTS and AUTHENTICATE".
pub(super) fn check(
    certs: &Certs,
    side: Side,
    binding: &Binding,
    unix_now: u64,
) -> Result<PeerCerts, PeerFault> {
    let get = |kind| {
        certs.only(kind).ok_or(PeerFault::Cert {
            kind,
            fault: CertFault::NotOnce,
        })
    };
    let by = |kind| move |fault| PeerFault::Cert { kind, fault };

    let kind = CertType::ED25519_SIGNING;
    let cert = Ed25519Cert::parse(get(kind)?).map_err(by(kind))?;
    let ed25519 = cert
        .signed_with()
        .ok_or(CertFault::Malformed)
        .map_err(by(kind))?;
    let signing_key = Ed25519Id(cert.check(kind, &ed25519, unix_now).map_err(by(kind))?);
    let signed = |kind| {
        let cert = Ed25519Cert::parse(get(kind)?).map_err(by(kind))?;
        cert.check(kind, &signing_key, unix_now).map_err(by(kind))
    };

    let mut auth_key = None;
    match (side, binding) {
        (Side::Responder, Binding::Tls { certificate_sha256 }) => {
            let kind = CertType::ED25519_TLS_LINK;
            if !same(&signed(kind)?, certificate_sha256) {
                return Err(by(kind)(CertFault::OtherConnection));
            }
        }
        (Side::Responder, Binding::WebSocket | Binding::WebRtc { .. }) => {}
        (Side::Initiator, _) => {
            auth_key = Some(Ed25519Id(signed(CertType::ED25519_AUTH)?));
        }
    }

    let kind = CertType::RSA_IDENTITY;
    let rsa = check_identity_cert(get(kind)?).map_err(by(kind))?;
    let kind = CertType::RSA_CROSS;
    check_cross_cert(get(kind)?, &rsa, &ed25519, unix_now).map_err(by(kind))?;
    let ids = RouterIds {
        rsa: rsa.id(),
        ed25519,
    };
    Ok(PeerCerts {
        ids,
        rsa_sha256: rsa.sha256(),
        auth_key,
    })
}

/// When what is made now expires, in hours since 1970.
pub(super) fn expiry_hours(unix_now: u64) -> u32 {
    u32::try_from(
        unix_now
            .saturating_add(CERT_LIFETIME_SECONDS)
            .div_ceil(3_600),
    )
    .unwrap_or(u32::MAX)
}

/// Whether what expires at this hour has expired, be the clock a little wrong.
pub(super) fn expired(expiry_hours: u32, unix_now: u64) -> bool {
    u64::from(expiry_hours) * 3_600 + CLOCK_TOLERANCE_SECONDS <= unix_now
}
