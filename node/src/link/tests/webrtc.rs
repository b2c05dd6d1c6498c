//! Links over WebRTC and WebSockets, where an initiator proves itself by our own method.

use bytes::BytesMut;
use ed25519_dalek::SigningKey;

use super::super::authenticate::{Bound, Facts};
use super::super::rsa_public::Padding;
use super::*;
use crate::ids::Ed25519Id;
use crate::wire::{AuthMethod, CircId, Command, Versions, write_body};

const CERTIFICATES: [[u8; 32]; 2] = [[0xa1; 32], [0xb2; 32]];

/// The initiator's end of a connection.
pub(super) const ONE: Binding = Binding::WebRtc {
    own_sha256: CERTIFICATES[0],
    peer_sha256: CERTIFICATES[1],
};
/// The responder's end of it.
pub(super) const OTHER: Binding = Binding::WebRtc {
    own_sha256: CERTIFICATES[1],
    peer_sha256: CERTIFICATES[0],
};

/// An initiator that proves itself.
fn prover(binding: Binding) -> HandshakeConfig {
    HandshakeConfig {
        own: Some(certs(0, None)),
        own_addresses: Vec::new(),
        ..initiator(binding)
    }
}

/// Both ends' view of a link.
fn link(one: HandshakeConfig, other: HandshakeConfig) -> (Established, Established) {
    let (mut one, mut other) = (End::new(one), End::new(other));
    run(&mut one, &mut other, |_, _| {}).unwrap();
    (one.established.unwrap(), other.established.unwrap())
}

#[test]
fn both_ends_prove_themselves() {
    let (one, other) = link(prover(ONE), responder(OTHER));
    assert_eq!((one.peer, other.peer), both());
    assert!(one.peer_authenticated && other.peer_authenticated);
    // A router that nobody dials tells its time no more than a client.
    assert_eq!((other.peer_time, other.peer_addresses.len()), (None, 0));
    // Without an identity the initiator is a client.
    let (one, other) = link(initiator(ONE), responder(OTHER));
    assert_eq!(one.peer, Some(ROUTERS[1].ids()));
    assert!(one.peer_authenticated);
    assert_eq!((other.peer, other.peer_authenticated), (None, false));
    // A tab has no TLS certificate, and needs none to be dialled.
    let tab = HandshakeConfig {
        own: Some(certs(1, None)),
        ..responder(OTHER)
    };
    let (one, _) = link(prover(ONE), tab);
    assert_eq!((one.peer, one.peer_authenticated), (both().0, true));
}

fn both() -> (Option<RouterIds>, Option<RouterIds>) {
    (Some(ROUTERS[1].ids()), Some(ROUTERS[0].ids()))
}

#[test]
fn on_a_websocket_only_the_name_is_proven() {
    let websocket = Binding::WebSocket;
    let (one, other) = link(prover(websocket), responder(websocket));
    assert_eq!((one.peer, other.peer), both());
    assert!(!one.peer_authenticated && !other.peer_authenticated);
}

#[test]
fn a_middle_man_is_refused() {
    let his = [0xcc; 32];
    let with = |own_sha256, peer_sha256| Binding::WebRtc {
        own_sha256,
        peer_sha256,
    };
    // The initiator is connected to him, and sees what the responder shows on another connection.
    let one = with(CERTIFICATES[0], his);
    for config in [prover(one), initiator(one)] {
        let fault = fault(config, responder(with(CERTIFICATES[1], his)), |_, _| {});
        let expected = cert_fault(CertType::ED25519_TLS_LINK, CertFault::OtherConnection);
        assert_eq!(fault, expected);
    }
    // The responder is connected to him, and sees what the initiator proves on another connection.
    let other = responder(with(CERTIFICATES[1], his));
    assert_eq!(fault(prover(ONE), other, |_, _| {}), PeerFault::Proof);
    // He takes from a WebSocket to WebRTC what is said there, and the other way round.
    let moved = fault(prover(Binding::WebSocket), responder(OTHER), |_, _| {});
    assert_eq!(moved, PeerFault::Proof);
    let zeros = with([0; 32], [0; 32]);
    let other = responder(Binding::WebSocket);
    assert!(matches!(
        fault(prover(zeros), other, |_, _| {}),
        PeerFault::Cert { .. }
    ));
}

#[test]
fn another_router_is_refused_on_webrtc() {
    let config = HandshakeConfig {
        expected: ROUTERS[0].ids().into(),
        ..prover(ONE)
    };
    let found = ROUTERS[1].ids();
    let fault = fault(config, responder(OTHER), |_, _| {});
    assert_eq!(fault, PeerFault::OtherRouter { found });
}

#[test]
fn a_proof_that_is_repeated_is_refused() {
    for (to_one, to_other) in [(ONE, OTHER), (Binding::WebSocket, Binding::WebSocket)] {
        let mut said = BytesMut::new();
        let (mut one, mut other) = (End::new(prover(to_one)), End::new(responder(to_other)));
        run(&mut one, &mut other, |to_responder, bytes| {
            if to_responder {
                said.extend_from_slice(bytes);
            }
        })
        .unwrap();
        assert!(other.established.is_some());
        // To the same responder it proves something once more only with the same challenge.
        for (random, fine) in [([4; 32], true), ([5; 32], false)] {
            let mut again = End::new(HandshakeConfig {
                random,
                ..responder(to_other)
            });
            again.inbox.extend_from_slice(&said);
            let result = again.step();
            assert_eq!(result.is_ok() && again.established.is_some(), fine);
            assert!(fine || result == Err(PeerFault::Proof.into()));
        }
    }
}

#[test]
fn a_proof_needs_a_method_that_both_speak() {
    // Tor's method is not ours: here the responder's list is changed to it, which would be seen
    // in the proof as well.
    let ours = AuthMethod::ED25519_SHA256_DTLS.0.to_be_bytes();
    let refused = fault(prover(ONE), responder(OTHER), |to_responder, bytes| {
        let at = bytes
            .windows(4)
            .position(|four| *four == [0, 1, ours[0], ours[1]]);
        if let (false, Some(at)) = (to_responder, at) {
            bytes[at + 2..at + 4].copy_from_slice(&[0, 3]);
        }
    });
    assert_eq!(refused, PeerFault::NoSharedMethod);
}

#[test]
fn first_messages_are_longer_than_a_packet() {
    let first_messages = |to_one, to_other| {
        let mut lens = Vec::new();
        let (mut one, mut other) = (End::new(prover(to_one)), End::new(responder(to_other)));
        run(&mut one, &mut other, |_, bytes| lens.push(bytes.len())).unwrap();
        (lens[0], lens[1])
    };
    for (to_one, to_other) in [(ONE, OTHER), (Binding::WebSocket, Binding::WebSocket)] {
        let (asked, answered) = first_messages(to_one, to_other);
        assert!((1_536..2_048).contains(&asked), "{asked}");
        assert!((1_536..2_048).contains(&answered), "{answered}");
    }
    // To a relay of Tor's, VERSIONS as Tor's own.
    assert_eq!(first_messages(TLS, TLS).0, 9);
}

/// `CHIVE001`, both RSA identities' and Ed25519 identities, both logs, both DTLS certificates,
/// the random bytes, and the signature, which OpenSSL made of the same.
#[test]
fn the_proof_byte_by_byte() {
    let facts = Facts {
        c_rsa_sha256: [1; 32],
        s_rsa_sha256: [2; 32],
        c_ed25519: Ed25519Id([3; 32]),
        s_ed25519: Ed25519Id([4; 32]),
        s_log: [5; 32],
        c_log: [6; 32],
        bound: Bound::Dtls {
            c_certificate: [7; 32],
            s_certificate: [8; 32],
        },
    };
    let key = SigningKey::from_bytes(&[10; 32]);
    let proof = facts.prove(&key, &[9; 24]);
    let mut expected = b"CHIVE001".to_vec();
    for byte in 1..=8 {
        expected.extend_from_slice(&[byte; 32]);
    }
    expected.extend_from_slice(&[9; 24]);
    expected.extend_from_slice(&crate::wire::tests::hex(SIGNATURE));
    assert_eq!(proof.method.0, 0xf001);
    assert_eq!(proof.body, expected);
    let public = Ed25519Id(key.verifying_key().to_bytes());
    facts.check(&proof, &public).unwrap();
    // No bit of it may be another.
    for at in 0..proof.body.len() {
        let mut other = proof.clone();
        other.body[at] ^= 1 << (at % 8);
        assert!(facts.check(&other, &public).is_err(), "byte {at}");
        other.body.truncate(at);
        assert!(facts.check(&other, &public).is_err(), "{at} bytes");
    }
}

const SIGNATURE: &str = "d8ce990d0427749f9166f9217a9a6b46a755e9d3eb72414d0fe6e5baa2da38d1\
     40a2e2db563b20344708b455a8b7136d883f940cb91447730f577adbbd61220a";

/// An identity whose keys are with a host that signs as browsers do.
fn hosted(keys: &Identity) -> Identity {
    Identity::hosted(&keys.rsa().to_der(), keys.ids().ed25519.0, [5; 32]).unwrap()
}

/// What the host answers.
fn sign(keys: &Identity, what: Unsigned) -> Vec<u8> {
    let mut rng = ChaCha20Rng::from_seed([11; 32]);
    let what = match what.key() {
        HostKey::Rsa => Unsigned::rsa(what.into_message()),
        HostKey::Ed25519 => what,
    };
    keys.sign(&what, &mut rng).unwrap()
}

#[test]
fn a_host_signs_for_its_tab() {
    let mut rng = ChaCha20Rng::from_seed([12; 32]);
    let identity = hosted(&ROUTERS[0]);
    assert_eq!(identity.ids(), ROUTERS[0].ids());
    assert_ne!(identity.onion_key(), ROUTERS[0].onion_key());
    assert_eq!(
        identity.to_secret_bytes().err(),
        Some(IdentityError::Hosted)
    );
    let refused = LinkCerts::new(&identity, None, NOW, &mut rng);
    assert_eq!(refused.err(), Some(IdentityError::Hosted));

    let draft = LinkCertsDraft::new(&identity, None, NOW, &mut rng);
    let certs = draft.unsigned().map(|what| sign(&ROUTERS[0], what));
    let certs = Arc::new(draft.signed(certs).unwrap());
    for (to_one, to_other) in [(ONE, OTHER), (Binding::WebSocket, Binding::WebSocket)] {
        let config = HandshakeConfig {
            own: Some(certs.clone()),
            ..prover(to_one)
        };
        let (one, other) = link(config, responder(to_other));
        assert_eq!((one.peer, other.peer), both());
        // And as a responder.
        let config = HandshakeConfig {
            own: Some(certs.clone()),
            ..responder(to_other)
        };
        let client = HandshakeConfig {
            expected: ROUTERS[0].ids().into(),
            ..initiator(to_one)
        };
        assert_eq!(link(client, config).0.peer, both().1);
    }
    // Tor's rule stands on TLS: there only the bare padding.
    let config = HandshakeConfig {
        own: Some(certs),
        ..prover(TLS)
    };
    let refused = fault(config, responder(TLS), |_, _| {});
    assert_eq!(
        refused,
        cert_fault(CertType::RSA_CROSS, CertFault::Signature)
    );
}

#[test]
fn a_host_that_signs_wrongly_is_found_out() {
    let mut rng = ChaCha20Rng::from_seed([13; 32]);
    for wrong in 0..LinkCertsDraft::SIGNATURES {
        let draft = LinkCertsDraft::new(&hosted(&ROUTERS[0]), None, NOW, &mut rng);
        let mut number = 0;
        let signatures = draft.unsigned().map(|what| {
            let keys = &ROUTERS[usize::from(number == wrong)];
            number += 1;
            sign(keys, what)
        });
        assert_eq!(
            draft.signed(signatures).err(),
            Some(IdentityError::Signature)
        );
    }
    let draft = LinkCertsDraft::new(&hosted(&ROUTERS[0]), None, NOW, &mut rng);
    let nothing = [Vec::new(), vec![1; 64], vec![2; 300]];
    assert_eq!(draft.signed(nothing).err(), Some(IdentityError::Signature));
}

#[test]
fn a_key_of_another_kind_is_no_identity() {
    let (rsa, ed25519) = (ROUTERS[0].rsa().to_der(), ROUTERS[0].ids().ed25519.0);
    let made = |rsa: &[u8], ed25519| Identity::hosted(rsa, ed25519, [5; 32]).err();
    assert_eq!(made(&rsa, ed25519), None);
    assert_eq!(made(&rsa[1..], ed25519), Some(IdentityError::Rsa));
    assert_eq!(made(&rsa, [0; 32]), Some(IdentityError::Ed25519));
    assert_eq!(made(&rsa, [2; 32]), Some(IdentityError::Ed25519));
}

#[test]
fn what_is_signed_for_one_purpose_is_not_for_another() {
    // The bare padding of one hash is not PKCS#1's of another.
    let mut rng = ChaCha20Rng::from_seed([14; 32]);
    let message = b"a message".to_vec();
    let hash = Sha256::digest(&message).into();
    let bare = ROUTERS[0]
        .sign(&Unsigned::rsa_bare(message.clone()), &mut rng)
        .unwrap();
    let usual = ROUTERS[0].sign(&Unsigned::rsa(message), &mut rng).unwrap();
    let verifies = |padding, signature: &[u8]| ROUTERS[0].rsa().verifies(padding, &hash, signature);
    assert!(verifies(Padding::Bare, &bare) && verifies(Padding::Pkcs1, &usual));
    assert!(!verifies(Padding::Pkcs1, &bare) && !verifies(Padding::Bare, &usual));
}

#[test]
fn a_client_on_webrtc_may_not_skip_the_proof_it_began() {
    let mut end = End::new(responder(OTHER));
    let versions = Versions { versions: vec![5] };
    write_body(&mut end.inbox, CircId::LINK, &versions).unwrap();
    let cell = certs(0, None).cell(Side::Initiator, &ONE);
    write_body(&mut end.inbox, CircId::LINK, &cell).unwrap();
    write_body(&mut end.inbox, CircId::LINK, &cell).unwrap();
    let expected = PeerFault::Unexpected {
        command: Command::CERTS,
        awaited: "AUTHENTICATE",
    };
    assert_eq!(end.step(), Err(expected.into()));
}
