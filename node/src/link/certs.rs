//! The certificates that a router shows on its links, and the checks of a peer's.

use ed25519_dalek::SigningKey;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::ed25519_cert::{self, Ed25519Cert, same};
use super::identity::Unsigned;
use super::rsa_cert::{CrossCert, IdentityCert, check_cross_cert, check_identity_cert};
use super::rsa_public::Padding;
use super::validity::CERT_LIFETIME_SECONDS;
use super::{Binding, CertFault, Identity, IdentityError, PeerFault, RouterIds, Side};
use crate::ids::Ed25519Id;
use crate::wire::{Cert, CertType, Certs};

/// What a router shows on its links: made anew now and then, with new signing keys, out of its
/// identity and its TLS certificate.
pub struct LinkCerts {
    ids: RouterIds,
    rsa_sha256: [u8; 32],
    tls_certificate_sha256: Option<[u8; 32]>,
    made: u64,
    /// Types 2, 4 and 7.
    shared: [Cert; 3],
    signing_key: SigningKey,
    auth_key: SigningKey,
}

/// Link certificates that the identity has yet to sign.
pub struct LinkCertsDraft {
    ids: RouterIds,
    rsa_sha256: [u8; 32],
    tls_certificate_sha256: Option<[u8; 32]>,
    made: u64,
    identity: IdentityCert,
    signing: Vec<u8>,
    cross: CrossCert,
    signing_key: SigningKey,
    auth_key: SigningKey,
}

impl LinkCertsDraft {
    /// How many signatures they need.
    pub const SIGNATURES: usize = 3;

    /// Begins to make certificates. `tls_certificate_sha256` is of this router's own TLS
    /// certificate, DER; without one it cannot be a responder on TLS.
    pub fn new<R: CryptoRng>(
        identity: &Identity,
        tls_certificate_sha256: Option<[u8; 32]>,
        unix_now: u64,
        rng: &mut R,
    ) -> Self {
        let (signing_key, auth_key) = (new_key(rng), new_key(rng));
        let ids = identity.ids();
        LinkCertsDraft {
            ids,
            rsa_sha256: identity.rsa().sha256(),
            tls_certificate_sha256,
            made: unix_now,
            identity: IdentityCert::new(identity.rsa(), unix_now, rng),
            signing: ed25519_cert::unsigned(
                CertType::ED25519_SIGNING,
                signing_key.verifying_key().as_bytes(),
                &ids.ed25519,
                unix_now,
            ),
            cross: CrossCert::new(&ids.ed25519, unix_now),
            signing_key,
            auth_key,
        }
    }

    /// What the identity is to sign.
    pub fn unsigned(&self) -> [Unsigned; Self::SIGNATURES] {
        [
            self.identity.unsigned(),
            Unsigned::ed25519(self.signing.clone()),
            self.cross.unsigned(),
        ]
    }

    /// The certificates, of the signatures in the order of [`LinkCertsDraft::unsigned`]. They are
    /// checked: a host may have signed with a wrong key.
    pub fn signed(
        self,
        signatures: [Vec<u8>; Self::SIGNATURES],
    ) -> Result<LinkCerts, IdentityError> {
        let [identity, signing, cross] = signatures;
        let certs = LinkCerts {
            ids: self.ids,
            rsa_sha256: self.rsa_sha256,
            tls_certificate_sha256: self.tls_certificate_sha256,
            made: self.made,
            shared: [
                Cert {
                    kind: CertType::RSA_IDENTITY,
                    body: self.identity.signed(&identity),
                },
                Cert {
                    kind: CertType::ED25519_SIGNING,
                    body: [self.signing, signing].concat(),
                },
                Cert {
                    kind: CertType::RSA_CROSS,
                    body: self.cross.signed(&cross)?,
                },
            ],
            signing_key: self.signing_key,
            auth_key: self.auth_key,
        };
        let websocket = Binding::WebSocket;
        let shown = certs.cell(Side::Initiator, &websocket);
        match check(&shown, Side::Initiator, &websocket, certs.made) {
            Ok(checked) if checked.ids == certs.ids => Ok(certs),
            _ => Err(IdentityError::Signature),
        }
    }
}

impl std::fmt::Debug for LinkCertsDraft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkCertsDraft")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

impl LinkCerts {
    /// Makes the certificates of an identity whose keys are here.
    pub fn new<R: CryptoRng>(
        identity: &Identity,
        tls_certificate_sha256: Option<[u8; 32]>,
        unix_now: u64,
        rng: &mut R,
    ) -> Result<Self, IdentityError> {
        let draft = LinkCertsDraft::new(identity, tls_certificate_sha256, unix_now, rng);
        let [one, two, three] = draft.unsigned();
        let mut sign = |what| identity.sign(&what, rng);
        let signatures = [sign(one)?, sign(two)?, sign(three)?];
        draft.signed(signatures)
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

    /// The CERTS cell of this side on such a transport. What certifies a DTLS certificate is made
    /// here, for a tab may have another one in each connection.
    pub(super) fn cell(&self, side: Side, binding: &Binding) -> Certs {
        let signed = |kind, certified: &[u8; 32]| Cert {
            kind,
            body: ed25519_cert::make(kind, certified, &self.signing_key, self.made),
        };
        let auth_key = self.auth_key.verifying_key();
        let last = match (side, binding) {
            (Side::Initiator, _) => Some(signed(CertType::ED25519_AUTH, auth_key.as_bytes())),
            (Side::Responder, Binding::Tls { certificate_sha256 }) => {
                Some(signed(CertType::ED25519_TLS_LINK, certificate_sha256))
            }
            (Side::Responder, Binding::WebRtc { own_sha256, .. }) => {
                Some(signed(CertType::ED25519_TLS_LINK, own_sha256))
            }
            (Side::Responder, Binding::WebSocket) => None,
        };
        Certs {
            certs: self.shared.iter().cloned().chain(last).collect(),
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
        (
            Side::Responder,
            Binding::Tls { certificate_sha256 }
            | Binding::WebRtc {
                peer_sha256: certificate_sha256,
                ..
            },
        ) => {
            let kind = CertType::ED25519_TLS_LINK;
            if !same(&signed(kind)?, certificate_sha256) {
                return Err(by(kind)(CertFault::OtherConnection));
            }
        }
        (Side::Responder, Binding::WebSocket) => {}
        (Side::Initiator, _) => {
            auth_key = Some(Ed25519Id(signed(CertType::ED25519_AUTH)?));
        }
    }

    let kind = CertType::RSA_IDENTITY;
    let rsa = check_identity_cert(get(kind)?).map_err(by(kind))?;
    let kind = CertType::RSA_CROSS;
    check_cross_cert(get(kind)?, &rsa, &ed25519, paddings(binding), unix_now).map_err(by(kind))?;
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

/// How the cross-certificate may be padded. Tor's has the hash alone. A browser signs only what
/// names its hash (PKCS#1), so links that no relay of Tor's makes take that too. What begins with
/// the cross-certificate's prefix is nothing else that an RSA identity signs, padded as it may be.
const fn paddings(binding: &Binding) -> &'static [Padding] {
    match binding {
        Binding::Tls { .. } => &[Padding::Bare],
        Binding::WebRtc { .. } | Binding::WebSocket => &[Padding::Bare, Padding::Pkcs1],
    }
}
