use std::net::IpAddr;

use bytes::BytesMut;

use super::super::*;
use super::{Numbers, hex, kit, kit_with};

/// A cell's body, which may have anything behind it.
fn body_kit<B: CellBody + PartialEq + std::fmt::Debug>(golden: &str, value: &B) {
    kit_with(golden, value, true, B::from_cell);
}

#[test]
fn create_fast() {
    let key_material = std::array::from_fn(|at| at as u8);
    body_kit(
        "00010203 04050607 08090a0b 0c0d0e0f 10111213",
        &CreateFast { key_material },
    );
}

#[test]
fn created_fast() {
    body_kit(
        "aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa  bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb",
        &CreatedFast {
            key_material: [0xaa; 20],
            derivative: [0xbb; 20],
        },
    );
}

#[test]
fn create2() {
    //          type  length data
    body_kit(
        "0002  0003   010203",
        &Create2 {
            handshake_type: HandshakeType::NTOR,
            data: vec![1, 2, 3],
        },
    );
    body_kit(
        "0003  0000",
        &Create2 {
            handshake_type: HandshakeType::NTOR_V3,
            data: Vec::new(),
        },
    );
    let data = vec![0; MAX_HANDSHAKE_DATA + 1];
    assert!(
        Create2 {
            handshake_type: HandshakeType::NTOR,
            data
        }
        .encoded()
        .is_err()
    );
}

#[test]
fn created2() {
    //        length data
    body_kit(
        "0004   05060708",
        &Created2 {
            data: vec![5, 6, 7, 8],
        },
    );
}

#[test]
fn destroy() {
    body_kit(
        "06",
        &Destroy {
            reason: DestroyReason::CONNECTFAILED,
        },
    );
    body_kit(
        "fe",
        &Destroy {
            reason: DestroyReason(254),
        },
    );
}

#[test]
fn padding_negotiate() {
    //        version, command, low, high
    let value = PaddingNegotiate {
        version: 0,
        command: 2,
        low_ms: 1500,
        high_ms: 9500,
    };
    body_kit("00 02 05dc 251c", &value);
}

#[test]
fn versions() {
    kit(
        "0003 0004 0005",
        &Versions {
            versions: vec![3, 4, 5],
        },
        false,
    );
    let versions = Versions {
        versions: vec![3, 5, 4, 9],
    };
    assert_eq!(versions.best_shared(&[4, 5]), Some(5));
    assert_eq!(versions.best_shared(&[1, 2]), None);
    assert_eq!(Versions::from_cell(&[0, 4, 0]), Err(DecodeError::Truncated));
}

#[test]
fn netinfo() {
    //          time      the other's: type, length, address; own: number; type, length, address …
    body_kit(
        "6553f100  04 04 c0000201  02  04 04 c0000202
         06 10 20010db8 00000000 00000000 00000001",
        &Netinfo {
            timestamp: 1_700_000_000,
            other_address: NetAddress::Ip(IpAddr::from([192, 0, 2, 1])),
            own_addresses: vec![
                NetAddress::Ip(IpAddr::from([192, 0, 2, 2])),
                NetAddress::Ip("2001:db8::1".parse().unwrap()),
            ],
        },
    );
    // A client's: no time, no addresses; a type that nobody knows.
    body_kit(
        "00000000  00 03 616263  00",
        &Netinfo {
            timestamp: 0,
            other_address: NetAddress::Other {
                kind: 0,
                value: b"abc".to_vec(),
            },
            own_addresses: Vec::new(),
        },
    );
}

#[test]
fn certs() {
    //          number; type, length, certificate …
    let value = Certs {
        certs: vec![
            Cert {
                kind: CertType::ED25519_SIGNING,
                body: vec![1, 4],
            },
            Cert {
                kind: CertType(200),
                body: Vec::new(),
            },
            Cert {
                kind: CertType(200),
                body: vec![9],
            },
        ],
    };
    body_kit("03  04 0002 0104  c8 0000  c8 0001 09", &value);
    assert_eq!(value.only(CertType::ED25519_SIGNING), Some(&[1, 4][..]));
    assert_eq!(
        (value.only(CertType(200)), value.only(CertType::RSA_CROSS)),
        (None, None)
    );
    let long = Cert {
        kind: CertType::RSA_LINK,
        body: vec![0; MAX_CERT_LEN + 1],
    };
    assert!(long.encoded().is_err());
}

#[test]
fn auth_challenge() {
    //        challenge, number of methods, methods
    let golden = format!("{}  0002  0001 0003", "5a".repeat(32));
    let methods = vec![
        AuthMethod::RSA_SHA256_TLSSECRET,
        AuthMethod::ED25519_SHA256_RFC5705,
    ];
    body_kit(
        &golden,
        &AuthChallenge {
            challenge: [0x5a; 32],
            methods,
        },
    );
}

#[test]
fn authenticate() {
    //        method, length, proof
    let value = Authenticate {
        method: AuthMethod::ED25519_SHA256_RFC5705,
        body: vec![1, 2],
    };
    body_kit("0003 0002 0102", &value);
}

#[test]
fn link_specifiers() {
    //    type, length, value
    kit(
        "00 06 c0000201 2329",
        &LinkSpecifier::Ipv4("192.0.2.1:9001".parse().unwrap()),
        false,
    );
    kit(
        "01 12 20010db8 00000000 00000000 00000001 01bb",
        &LinkSpecifier::Ipv6("[2001:db8::1]:443".parse().unwrap()),
        false,
    );
    let id = crate::ids::RsaId([0xab; 20]);
    kit(
        &format!("02 14 {}", "ab".repeat(20)),
        &LinkSpecifier::RsaId(id),
        false,
    );
    let id = crate::ids::Ed25519Id([0xcd; 32]);
    kit(
        &format!("03 20 {}", "cd".repeat(32)),
        &LinkSpecifier::Ed25519Id(id),
        false,
    );
    kit(
        "77 02 0102",
        &LinkSpecifier::Unknown {
            kind: 0x77,
            data: vec![1, 2],
        },
        false,
    );
    // A known type of another length.
    assert_eq!(
        LinkSpecifier::from_bytes(&hex("00 05 c000020123")),
        Err(DecodeError::Truncated)
    );
    assert_eq!(
        LinkSpecifier::from_bytes(&hex("00 07 c0000201232900")),
        Err(DecodeError::Trailing(1))
    );
}

#[test]
fn cells_lie_in_a_link_as_the_specification_says() {
    let mut out = BytesMut::new();
    let versions = Versions {
        versions: vec![4, 5],
    };
    write_body(&mut out, CircId::LINK, &versions).unwrap();
    //                      circuit (2), command, length, body
    assert_eq!(out, hex("0000 07 0004 0004 0005"));
    out.clear();
    write_body(&mut out, CircId::LINK, &Certs::default()).unwrap();
    //                      circuit (4), command, length, body
    assert_eq!(out, hex("00000000 81 0001 00"));
    out.clear();
    write_cell(&mut out, CircId(0x8000_0001), Command::RELAY, &[7; 3]).unwrap();
    //                             circuit (4), command, body and zeros
    let mut golden = hex("80000001 03 070707");
    golden.resize(CELL_LEN, 0);
    assert_eq!(out, golden);

    let before = out.clone();
    let long = write_cell(&mut out, CircId(1), Command::RELAY, &[0; CELL_BODY_LEN + 1]);
    assert_eq!((long, &out), (Err(EncodeError::NoRoom), &before));
    let long = vec![0; 65_536];
    assert_eq!(
        write_cell(&mut out, CircId(1), Command::VPADDING, &long),
        Err(EncodeError::NoRoom)
    );
    let bad = Create2 {
        handshake_type: HandshakeType::NTOR,
        data: vec![0; 600],
    };
    assert!(write_body(&mut out, CircId(1), &bad).is_err());
    assert_eq!(out, before);
}

#[test]
fn cells_are_found_however_the_bytes_are_cut() {
    let mut stream = BytesMut::new();
    write_body(&mut stream, CircId::LINK, &Versions { versions: vec![5] }).unwrap();
    let mut expected = vec![(CircId::LINK, Command::VERSIONS, vec![0, 5])];
    let mut numbers = Numbers(1);
    for at in 0..40u32 {
        let (command, len) = match numbers.below(3) {
            0 => (Command::RELAY, CELL_BODY_LEN),
            1 => (Command::VPADDING, numbers.below(2_000)),
            _ => (Command(99), CELL_BODY_LEN),
        };
        let body: Vec<u8> = (0..len).map(|_| numbers.next() as u8).collect();
        write_cell(&mut stream, CircId(at), command, &body).unwrap();
        expected.push((CircId(at), command, body));
    }
    for most in [1, 3, 100, 600, 100_000] {
        let (mut decoder, mut buf, mut at) = (CellDecoder::new(), BytesMut::new(), 0);
        let mut found = Vec::new();
        while at < stream.len() {
            let len = (1 + numbers.below(most)).min(stream.len() - at);
            buf.extend_from_slice(&stream[at..at + len]);
            at += len;
            while let Some(cell) = decoder.next(&mut buf).unwrap() {
                decoder.negotiated();
                found.push((cell.circ, cell.command, cell.body.to_vec()));
            }
        }
        assert!(buf.is_empty());
        assert_eq!(found, expected);
    }

    // Where they lie, they are found too.
    let mut decoder = CellDecoder::new();
    decoder.negotiated();
    let mut rest: &mut [u8] = &mut stream[7..];
    let mut found = 1;
    while !rest.is_empty() {
        let (cell, after) = decoder.peel(rest).unwrap().unwrap();
        let (circ, command, body) = &expected[found];
        assert_eq!(
            (cell.circ, cell.command, &*cell.body),
            (*circ, *command, &body[..])
        );
        (rest, found) = (after, found + 1);
    }
    assert_eq!((rest.len(), found), (0, expected.len()));
}

#[test]
fn a_link_begins_with_versions_or_not_at_all() {
    for (bytes, command) in [
        ("474554202f", b'T'),
        ("00000000 03", 0),
        ("0000 80 0000", 0x80),
        ("0001 07 0002 0005", 7),
    ] {
        let mut buf = BytesMut::from(&hex(bytes)[..]);
        let refused = CellDecoder::new().next(&mut buf);
        assert_eq!(
            refused,
            Err(DecodeError::UnexpectedCell(command)),
            "{bytes}"
        );
    }
    let mut buf = BytesMut::from(&hex("0000 07 0081")[..]);
    assert!(CellDecoder::new().next(&mut buf).is_err());
    let mut buf = BytesMut::from(&hex("0000 07")[..]);
    assert_eq!(CellDecoder::new().next(&mut buf), Ok(None));
}

#[test]
fn a_decoder_meets_noise_without_panic() {
    let mut numbers = Numbers(2);
    for _ in 0..5_000 {
        let mut decoder = CellDecoder::new();
        if numbers.below(2) == 0 {
            decoder.negotiated();
        }
        let len = numbers.below(700);
        let mut buf: BytesMut = (0..len).map(|_| numbers.next() as u8).collect();
        while let Ok(Some(cell)) = decoder.next(&mut buf) {
            assert!(cell.command.is_variable() || cell.body.len() == CELL_BODY_LEN);
        }
    }
}
