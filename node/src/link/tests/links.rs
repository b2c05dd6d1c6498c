use std::net::IpAddr;
use std::ops::Range;

use bytes::{Buf, BytesMut};

use super::*;
use crate::wire::tests::Numbers;
use crate::wire::{CELL_LEN, CircId, Command, Reader, write_cell};

#[test]
fn a_client_makes_a_link_to_a_router() {
    for binding in [TLS, Binding::WebSocket] {
        let (mut client, mut router) = (End::new(initiator(binding)), End::new(responder(binding)));
        run(&mut client, &mut router, |_, _| {}).unwrap();
        let (client, router) = (client.established.unwrap(), router.established.unwrap());
        assert_eq!((client.version, router.version), (5, 5));
        assert_eq!(client.peer, Some(ROUTERS[1].ids()));
        assert_eq!(client.peer_authenticated, binding == TLS);
        assert_eq!(client.peer_time, Some(NOW as u32));
        assert_eq!(client.seen_as, Some(IpAddr::from([192, 0, 2, 2])));
        assert_eq!(client.peer_addresses, [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!((router.peer, router.peer_authenticated), (None, false));
        assert_eq!((router.peer_time, router.peer_addresses.len()), (None, 0));
    }
}

#[test]
fn a_router_proves_itself_to_a_router() {
    let config = HandshakeConfig {
        own: Some(certs(0, None)),
        ..initiator(TLS)
    };
    let (mut one, mut other) = (End::new(config), End::new(responder(TLS)));
    run(&mut one, &mut other, |_, _| {}).unwrap();
    let (one, other) = (one.established.unwrap(), other.established.unwrap());
    assert_eq!(
        (one.peer, one.peer_authenticated),
        (Some(ROUTERS[1].ids()), true)
    );
    assert_eq!(
        (other.peer, other.peer_authenticated),
        (Some(ROUTERS[0].ids()), true)
    );
    assert_eq!(other.peer_addresses, [IpAddr::from([192, 0, 2, 2])]);
}

#[test]
fn cells_that_come_before_the_secret_wait() {
    let config = HandshakeConfig {
        own: Some(certs(0, None)),
        ..initiator(TLS)
    };
    let mut one = End::new(config);
    let mut other = Handshake::new(Instant::ZERO, responder(TLS)).unwrap();
    // All that the initiator has to say arrives with its first cell of a circuit.
    let mut inbox = BytesMut::new();
    while one.established.is_none() {
        while let Some(bytes) = one.handshake.poll_transmit() {
            inbox.extend_from_slice(&bytes);
        }
        other.handle_bytes(Instant::ZERO, &mut inbox).unwrap();
        while let Some(bytes) = other.poll_transmit() {
            one.inbox.extend_from_slice(&bytes);
        }
        one.step().unwrap();
    }
    while let Some(bytes) = one.handshake.poll_transmit() {
        inbox.extend_from_slice(&bytes);
    }
    write_cell(&mut inbox, CircId(0x8000_0001), Command::CREATE2, &[1]).unwrap();
    other.handle_bytes(Instant::ZERO, &mut inbox).unwrap();
    let Some(HandshakeEvent::NeedExport { context }) = other.poll_event() else {
        panic!("no event");
    };
    let waiting = inbox.clone();
    other.handle_bytes(Instant::ZERO, &mut inbox).unwrap();
    assert_eq!(inbox, waiting);
    other
        .handle_export(Instant::ZERO, export(9, &context))
        .unwrap();
    other.handle_bytes(Instant::ZERO, &mut inbox).unwrap();
    let Some(HandshakeEvent::Done(established)) = other.poll_event() else {
        panic!("no link");
    };
    assert_eq!(established.peer, Some(ROUTERS[0].ids()));
    let cell = established.decoder.next(&mut inbox).unwrap().unwrap();
    assert_eq!((cell.command, inbox.remaining()), (Command::CREATE2, 0));
    assert_eq!(
        other.handle_export(Instant::ZERO, [0; 32]),
        Err(LinkError::Misuse(Misuse::NotAwaited))
    );
}

#[test]
fn bytes_may_come_one_by_one() {
    let config = HandshakeConfig {
        own: Some(certs(0, None)),
        ..initiator(TLS)
    };
    let (mut one, mut other) = (End::new(config), End::new(responder(TLS)));
    loop {
        let mut moved = false;
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut one, &mut other];
            while let Some(bytes) = ends[from].handshake.poll_transmit() {
                for byte in bytes {
                    ends[to].inbox.extend_from_slice(&[byte]);
                    ends[to].step().unwrap();
                }
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    assert_eq!(one.established.unwrap().peer, Some(ROUTERS[1].ids()));
    assert_eq!(other.established.unwrap().peer, Some(ROUTERS[0].ids()));
}

/// What a real relay (tor 0.4.9.11) sent to a client, as it came: Unix seconds (8), the SHA-256 of
/// its TLS certificate (32), its fingerprint (20) and Ed25519 identity (32), VERSIONS, CERTS,
/// AUTH_CHALLENGE, and NETINFO without the zeros at its end.
const REAL_RELAY: &[u8] = include_bytes!("real_relay.bin");
/// Where in it, after the names, the body of CERTS lies.
const REAL_CERTS: Range<usize> = 18..1_473;
/// Where the certificate of type 1 lies, which only old Tor looks at.
const REAL_RSA_LINK_CERT: Range<usize> = 19..602;
/// Where NETINFO begins.
const REAL_NETINFO: usize = 1_516;

#[test]
fn a_real_relay_is_believed() {
    let mut reader = Reader::new(REAL_RELAY);
    let unix_now = reader.read().unwrap();
    let certificate_sha256 = reader.read().unwrap();
    let ids = RouterIds {
        rsa: reader.read().unwrap(),
        ed25519: reader.read().unwrap(),
    };
    let mut sent = reader.rest().to_vec();
    sent.resize(REAL_NETINFO + CELL_LEN, 0);

    let binding = Binding::Tls { certificate_sha256 };
    let config = HandshakeConfig {
        expected: ids.into(),
        unix_now,
        ..initiator(binding)
    };
    let mut end = End::new(config.clone());
    end.inbox.extend_from_slice(&sent);
    end.step().unwrap();
    let established = end.established.unwrap();
    assert_eq!((established.version, established.peer), (5, Some(ids)));
    assert!(established.peer_time.unwrap().abs_diff(unix_now as u32) < 5);
    assert_eq!(established.seen_as, Some(IpAddr::from([127, 0, 0, 1])));

    // No bit of its certificates can be changed.
    let mut numbers = Numbers(5);
    let mut refused = 0;
    for _ in 0..1_000 {
        let mut changed = sent.clone();
        let at = REAL_CERTS.start + numbers.below(REAL_CERTS.len());
        changed[at] ^= 1 << numbers.below(8);
        let mut end = End::new(config.clone());
        end.inbox.extend_from_slice(&changed);
        let fine = end.step().is_ok() && end.established.is_some();
        assert!(!fine || REAL_RSA_LINK_CERT.contains(&at), "byte {at}");
        refused += usize::from(!fine);
    }
    assert!(refused > 500, "{refused}");
}
