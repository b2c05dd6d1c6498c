use bytes::BytesMut;

use super::*;
use crate::wire::tests::Numbers;
use crate::wire::{
    AuthChallenge, CELL_LEN, CircId, Command, DecodeError, DestroyReason, NetAddress, Netinfo,
    Versions, write_body, write_cell,
};

#[test]
fn another_router_is_refused() {
    let expected = Expected {
        rsa: Some(ROUTERS[0].ids().rsa),
        ed25519: None,
    };
    let one = HandshakeConfig {
        expected,
        ..initiator(TLS)
    };
    let found = ROUTERS[1].ids();
    assert_eq!(
        fault(one, responder(TLS), |_, _| {}),
        PeerFault::OtherRouter { found }
    );
    let expected = Expected {
        rsa: None,
        ed25519: Some(ROUTERS[0].ids().ed25519),
    };
    for binding in [TLS, Binding::WebSocket] {
        let one = HandshakeConfig {
            expected,
            ..initiator(binding)
        };
        let fault = fault(one, responder(binding), |_, _| {});
        assert_eq!(fault, PeerFault::OtherRouter { found });
        assert_eq!(fault.destroy_reason(), DestroyReason::OR_IDENTITY);
    }
}

#[test]
fn a_middle_man_with_another_tls_certificate_is_refused() {
    // He shows the router's own certificates over his connection.
    let mut certificate_sha256 = TLS_CERTIFICATE;
    certificate_sha256[31] ^= 1;
    let one = initiator(Binding::Tls { certificate_sha256 });
    let expected = cert_fault(CertType::ED25519_TLS_LINK, CertFault::OtherConnection);
    assert_eq!(fault(one, responder(TLS), |_, _| {}), expected);
}

/// Length of our VERSIONS cell.
const VERSIONS_LEN: usize = 9;

#[test]
fn a_proof_of_another_connection_is_refused() {
    let one = || HandshakeConfig {
        own: Some(certs(0, None)),
        ..initiator(TLS)
    };
    let (mut one_end, mut other) = (End::new(one()), End::new(responder(TLS)));
    one_end.secret = 8;
    let result = run(&mut one_end, &mut other, |_, _| {});
    assert_eq!(result, Err(PeerFault::Proof.into()));
    // What was said is part of the proof: here a link padding that was not sent.
    let meddled = fault(one(), responder(TLS), |to_responder, bytes| {
        if !to_responder && bytes.len() > 100 {
            let mut with = BytesMut::from(&bytes[..VERSIONS_LEN]);
            write_cell(&mut with, CircId::LINK, Command::VPADDING, &[]).unwrap();
            with.extend_from_slice(&bytes[VERSIONS_LEN..]);
            *bytes = with;
        }
    });
    assert_eq!(meddled, PeerFault::Proof);
}

#[test]
fn old_certificates_are_refused_and_a_wrong_clock_is_borne() {
    let day = 24 * 60 * 60;
    for (unix_now, fine) in [
        (NOW - 300 * day, true),
        (NOW + CERT_LIFETIME_SECONDS, true),
        (NOW + CERT_LIFETIME_SECONDS + 2 * day, false),
    ] {
        let one = HandshakeConfig {
            unix_now,
            ..initiator(TLS)
        };
        if fine {
            let (mut one, mut other) = (End::new(one), End::new(responder(TLS)));
            run(&mut one, &mut other, |_, _| {}).unwrap();
        } else {
            let expected = cert_fault(CertType::ED25519_SIGNING, CertFault::Expired);
            assert_eq!(fault(one, responder(TLS), |_, _| {}), expected);
        }
    }
    assert_eq!(certs(0, None).renew_at(), NOW + CERT_LIFETIME_SECONDS / 2);
}

#[test]
fn cells_out_of_turn_end_the_link() {
    let netinfo = Netinfo {
        timestamp: 0,
        other_address: NetAddress::Ip([127, 0, 0, 1].into()),
        own_addresses: Vec::new(),
    };
    let challenge = AuthChallenge {
        challenge: [0; 32],
        methods: Vec::new(),
    };
    let certs_cell = certs(1, Some(TLS_CERTIFICATE)).cell(Side::Responder, &TLS);
    let begin = |config| {
        let mut end = End::new(config);
        write_body(
            &mut end.inbox,
            CircId::LINK,
            &Versions { versions: vec![4] },
        )
        .unwrap();
        end
    };
    let refused = |mut end: End, command, awaited| {
        let expected = PeerFault::Unexpected { command, awaited };
        assert_eq!(end.step(), Err(expected.into()));
        assert_eq!(end.handshake.poll_timeout(), None);
    };

    let mut end = begin(initiator(TLS));
    write_body(&mut end.inbox, CircId::LINK, &netinfo).unwrap();
    refused(end, Command::NETINFO, "CERTS");
    let mut end = begin(initiator(TLS));
    write_body(&mut end.inbox, CircId::LINK, &certs_cell).unwrap();
    write_body(&mut end.inbox, CircId::LINK, &certs_cell).unwrap();
    refused(end, Command::CERTS, "AUTH_CHALLENGE");
    let mut end = begin(initiator(TLS));
    write_body(&mut end.inbox, CircId::LINK, &certs_cell).unwrap();
    write_body(&mut end.inbox, CircId::LINK, &challenge).unwrap();
    write_body(&mut end.inbox, CircId::LINK, &challenge).unwrap();
    refused(end, Command::AUTH_CHALLENGE, "NETINFO");
    let mut end = begin(responder(TLS));
    write_body(&mut end.inbox, CircId::LINK, &challenge).unwrap();
    refused(end, Command::AUTH_CHALLENGE, "CERTS or NETINFO");
    let mut end = begin(responder(TLS));
    write_cell(&mut end.inbox, CircId::LINK, Command::CREATE_FAST, &[0; 20]).unwrap();
    refused(end, Command::CREATE_FAST, "CERTS or NETINFO");

    let mut end = begin(responder(TLS));
    write_cell(&mut end.inbox, CircId(1), Command::NETINFO, &[0; 20]).unwrap();
    assert_eq!(end.step(), Err(PeerFault::Circuit.into()));
    let mut end = End::new(responder(TLS));
    write_body(
        &mut end.inbox,
        CircId::LINK,
        &Versions {
            versions: vec![1, 2, 3],
        },
    )
    .unwrap();
    assert_eq!(end.step(), Err(PeerFault::NoSharedVersion.into()));
    let mut end = End::new(responder(TLS));
    end.inbox.extend_from_slice(b"GET / HTTP/1.1\r\n");
    let expected = PeerFault::NotTor(DecodeError::UnexpectedCell(b'T'));
    assert_eq!(end.step(), Err(expected.into()));

    // An initiator that has something to prove needs a method.
    let mut end = begin(HandshakeConfig {
        own: Some(certs(0, None)),
        ..initiator(TLS)
    });
    write_body(&mut end.inbox, CircId::LINK, &certs_cell).unwrap();
    write_body(&mut end.inbox, CircId::LINK, &challenge).unwrap();
    assert_eq!(end.step(), Err(PeerFault::NoSharedMethod.into()));
}

#[test]
fn padding_is_borne_and_too_much_is_not() {
    let mut end = End::new(responder(TLS));
    write_body(
        &mut end.inbox,
        CircId::LINK,
        &Versions { versions: vec![5] },
    )
    .unwrap();
    write_cell(&mut end.inbox, CircId::LINK, Command::VPADDING, &[1; 900]).unwrap();
    write_cell(&mut end.inbox, CircId::LINK, Command::PADDING, &[]).unwrap();
    end.step().unwrap();
    assert!(end.inbox.is_empty());
    let mut sent = 0;
    let result = loop {
        write_cell(&mut end.inbox, CircId::LINK, Command::VPADDING, &[1; 900]).unwrap();
        sent += 907;
        if let Err(error) = end.step() {
            break error;
        }
    };
    assert_eq!(result, PeerFault::TooMuch.into());
    assert!(
        (MAX_HANDSHAKE_BYTES - 3_000..MAX_HANDSHAKE_BYTES).contains(&sent),
        "{sent}"
    );
    // A cell that is too long is refused when its length is seen, not when it is there.
    let mut end = End::new(responder(TLS));
    write_body(
        &mut end.inbox,
        CircId::LINK,
        &Versions { versions: vec![5] },
    )
    .unwrap();
    end.inbox
        .extend_from_slice(&[0, 0, 0, 0, Command::VPADDING.0, 0xff, 0xff]);
    assert_eq!(end.step(), Err(PeerFault::TooMuch.into()));
}

#[test]
fn a_handshake_ends_in_time() {
    let mut end = End::new(responder(TLS));
    let (deadline, why) = end.handshake.poll_timeout().unwrap();
    assert_eq!(
        (deadline, why),
        (Instant::ZERO + HANDSHAKE_TIMEOUT, "the link's handshake")
    );
    let before = Instant::from_micros(deadline.as_micros() - 1);
    end.handshake.handle_timeout(before).unwrap();
    // Bytes that come too late are not read.
    let mut bytes = BytesMut::from(&[0, 0, 7, 0, 2, 0, 5][..]);
    let late = end.handshake.handle_bytes(deadline, &mut bytes);
    assert_eq!(late, Err(PeerFault::Timeout.into()));
    assert_eq!(
        (end.handshake.poll_timeout(), end.handshake.poll_transmit()),
        (None, None)
    );
}

#[test]
fn what_a_host_does_wrong_is_said() {
    let none = HandshakeConfig {
        own: None,
        ..responder(TLS)
    };
    assert_eq!(
        Handshake::new(Instant::ZERO, none).err(),
        Some(Misuse::NoCerts)
    );
    let other = HandshakeConfig {
        own: Some(certs(1, Some([1; 32]))),
        ..responder(TLS)
    };
    assert_eq!(
        Handshake::new(Instant::ZERO, other).err(),
        Some(Misuse::OtherTlsCertificate)
    );
    let without = HandshakeConfig {
        own: Some(certs(1, None)),
        ..responder(TLS)
    };
    assert_eq!(
        Handshake::new(Instant::ZERO, without).err(),
        Some(Misuse::OtherTlsCertificate)
    );
    let websocket = HandshakeConfig {
        own: Some(certs(1, None)),
        ..responder(Binding::WebSocket)
    };
    assert!(Handshake::new(Instant::ZERO, websocket).is_ok());
}

/// Changed bits on the way: whatever comes of it, nobody panics, nobody is taken for another, and
/// a router whose words were changed is not believed.
#[test]
fn changed_bits_make_no_other_router() {
    for (seed, to_one, to_other) in [
        (6, TLS, TLS),
        (7, webrtc::ONE, webrtc::OTHER),
        (8, Binding::WebSocket, Binding::WebSocket),
    ] {
        let links = changed_bits(seed, to_one, to_other);
        // Only what nobody looks at, mostly padding, may be changed without an end.
        assert!((100..400).contains(&links), "{links} {to_one:?}");
    }
}

/// How many of 600 handshakes end well all the same.
fn changed_bits(seed: u64, to_one: Binding, to_other: Binding) -> usize {
    let mut numbers = Numbers(seed);
    let mut links = 0;
    for round in 0..600 {
        let own = if round % 3 == 0 {
            None
        } else {
            Some(certs(0, None))
        };
        let proves = own.is_some();
        let expected = Expected::default();
        let mut one = End::new(HandshakeConfig {
            own,
            expected,
            ..initiator(to_one)
        });
        let mut other = End::new(responder(to_other));
        // One change, at some byte of all that travels.
        let mut skip = numbers.below(if to_one == TLS { 4_500 } else { 6_500 });
        let bit = 1 << numbers.below(8);
        let mut in_netinfo = true;
        let result = run(&mut one, &mut other, |_, bytes| {
            if skip < bytes.len() {
                bytes[skip] ^= bit;
                in_netinfo = skip + CELL_LEN >= bytes.len();
                skip = usize::MAX;
            } else if skip != usize::MAX {
                skip -= bytes.len();
            }
        });
        let (one, other) = (one.established, other.established);
        if let Some(one) = &one {
            assert_eq!(one.peer, Some(ROUTERS[1].ids()));
        }
        if let Some(other) = &other {
            assert_eq!(other.peer.is_some(), proves);
            assert!(other.peer.is_none_or(|peer| peer == ROUTERS[0].ids()));
            // What we pad our answer with is of no proof.
            assert!(!proves || in_netinfo || to_one != TLS);
        }
        links += usize::from(result.is_ok() && one.is_some() && other.is_some());
    }
    links
}
