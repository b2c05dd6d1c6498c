use std::net::IpAddr;

use ed25519_dalek::SigningKey;

use super::super::*;
use super::{Numbers, hex, kit, kit_with};
use crate::ids::{Ed25519Id, Key, OnionKey, RsaId, StreamId};
use crate::torrent::{Infohash, InfohashV1, InfohashV2};

#[test]
fn begin() {
    let value = |host: &str, port, flags| Begin {
        host: host.into(),
        port,
        flags,
    };
    //    "a.example:80", zero
    kit(
        "612e6578616d706c65 3a 3830 00",
        &value("a.example", 80, 0),
        true,
    );
    //    "[::1]:65535", zero, flags
    kit(
        "5b3a3a315d 3a 3635353335 00 00000005",
        &value("[::1]", 65_535, 5),
        true,
    );
    for wrong in [
        "6100",
        "613a",
        "613a00",
        "613a2b3100",
        "613a363535333600",
        "ff3a3100",
        "613a3000",
    ] {
        assert!(Begin::from_bytes(&hex(wrong)).is_err(), "{wrong}");
    }
    assert!(value(&"a".repeat(256), 1, 0).encoded().is_err());
    assert!(value("a\0b", 1, 0).encoded().is_err());
}

#[test]
fn end() {
    kit(
        "06",
        &End {
            reason: EndReason::DONE,
            address: None,
        },
        true,
    );
    let address = Some((IpAddr::from([192, 0, 2, 1]), 60));
    //    reason, address, seconds
    kit(
        "04 c0000201 0000003c",
        &End {
            reason: EndReason::EXITPOLICY,
            address,
        },
        true,
    );
    let address = Some(("2001:db8::1".parse().unwrap(), 60));
    kit(
        "04 20010db8 00000000 00000000 00000001 0000003c",
        &End {
            reason: EndReason::EXITPOLICY,
            address,
        },
        true,
    );
    let misc = End {
        reason: EndReason::MISC,
        address: None,
    };
    assert_eq!(End::from_bytes(&[]), Ok(misc));
    assert!(
        End {
            reason: EndReason::DONE,
            address
        }
        .encoded()
        .is_err()
    );
}

#[test]
fn connected() {
    kit("", &Connected { address: None }, true);
    //    address, seconds
    kit(
        "c0000201 0000003c",
        &Connected {
            address: Some((IpAddr::from([192, 0, 2, 1]), 60)),
        },
        true,
    );
    //    zero, type, address, seconds
    kit(
        "00000000 06 20010db8 00000000 00000000 00000001 0000003c",
        &Connected {
            address: Some(("2001:db8::1".parse().unwrap(), 60)),
        },
        true,
    );
    assert!(Connected::from_bytes(&hex("00000000 04")).is_err());
}

#[test]
fn sendme() {
    kit("", &Sendme { tag: None }, true);
    //              version, length, digest
    let golden = format!("01 0014 {}", "d1".repeat(20));
    kit(
        &golden,
        &Sendme {
            tag: Some([0xd1; 20]),
        },
        true,
    );
    assert!(Sendme::from_bytes(&hex("01 0013 d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1")).is_err());
    assert_eq!(
        Sendme::from_bytes(&[2]),
        Err(DecodeError::Invalid("SENDME's version"))
    );
}

#[test]
fn extend2() {
    let value = Extend2 {
        specifiers: vec![
            LinkSpecifier::Ipv4("192.0.2.1:9001".parse().unwrap()),
            LinkSpecifier::RsaId(RsaId([0xab; 20])),
            LinkSpecifier::Ed25519Id(Ed25519Id([0xcd; 32])),
        ],
        handshake_type: HandshakeType::NTOR,
        data: vec![1, 2, 3],
    };
    //  number; specifiers; handshake type, length, data
    let golden = format!(
        "03  00 06 c0000201 2329  02 14 {}  03 20 {}  0002 0003 010203",
        "ab".repeat(20),
        "cd".repeat(32)
    );
    kit(&golden, &value, true);
    let mut many = value;
    many.specifiers = vec![
        LinkSpecifier::Unknown {
            kind: 9,
            data: Vec::new()
        };
        33
    ];
    assert!(many.encoded().is_err());
    let many = format!("21 {} 0002 0000", "0900".repeat(33));
    assert_eq!(
        Extend2::from_bytes(&hex(&many)),
        Err(DecodeError::OutOfBounds("a count"))
    );
}

#[test]
fn extended2_truncated() {
    kit("0002 0908", &Extended2 { data: vec![9, 8] }, true);
    kit(
        "07",
        &Truncated {
            reason: DestroyReason::OR_IDENTITY,
        },
        true,
    );
}

#[test]
fn resolve_and_resolved() {
    kit(
        "612e6578616d706c65 00",
        &Resolve {
            host: "a.example".into(),
        },
        true,
    );
    //    type, length, value, seconds …
    let value = Resolved {
        answers: vec![
            ResolvedAnswer {
                kind: 4,
                value: vec![192, 0, 2, 1],
                ttl: 60,
            },
            ResolvedAnswer {
                kind: 0xf0,
                value: Vec::new(),
                ttl: 5,
            },
        ],
    };
    kit("04 04 c0000201 0000003c  f0 00 00000005", &value, false);
    assert_eq!(value.answers[0].ip(), Some(IpAddr::from([192, 0, 2, 1])));
    assert_eq!(value.answers[1].ip(), None);
}

#[test]
fn xon_and_xoff() {
    kit(
        "00 000004d2",
        &Xon {
            kilobytes_per_second: 1234,
        },
        false,
    );
    kit("00", &Xoff, false);
    assert!(Xoff::from_bytes(&[1]).is_err() && Xon::from_bytes(&[1, 0, 0, 0, 0]).is_err());
}

#[test]
fn db_query() {
    //             form, counter, kind, infohash
    let golden = format!("00 0b 01 {}", "11".repeat(20));
    let open = DbQuery::Open {
        counter: 11,
        name: Infohash::V1(InfohashV1([0x11; 20])),
    };
    kit(&golden, &open, false);
    let golden = format!("00 ff 02 {}", "22".repeat(32));
    let open = DbQuery::Open {
        counter: 255,
        name: Infohash::V2(InfohashV2([0x22; 32])),
    };
    kit(&golden, &open, false);
    //    form, section, first, count
    let range = BlockRange {
        section: Section::CHUNKS,
        first: 70_000,
        count: 1024,
    };
    kit("01 01 00011170 0400", &DbQuery::Ask(range), false);
    assert_eq!(range.blocks(), 70_000..71_024);
    for (first, count) in [(0, 0), (0, 1025), (u32::MAX, 1), (u32::MAX - 4, 5)] {
        let range = BlockRange {
            section: Section::CHUNKS,
            first,
            count,
        };
        assert!(range.encoded().is_err());
        let bytes = [&[1, 1][..], &first.to_be_bytes(), &count.to_be_bytes()].concat();
        assert_eq!(
            DbQuery::from_bytes(&bytes),
            Err(DecodeError::OutOfBounds("a range of blocks"))
        );
    }
}

#[test]
fn db_connected() {
    kit(
        "00012345",
        &DbConnected {
            metadata_length: 0x12345,
        },
        false,
    );
}

#[test]
fn db_data() {
    let write = |block, offset, data: &[u8]| {
        DbData {
            section: Section::CHUNKS,
            block,
            offset,
            data,
        }
        .encoded()
    };
    //                                              section, block, offset, bytes
    assert_eq!(
        write(5, 491, &[1, 2, 3]).unwrap(),
        hex("01 00000005 01eb 010203")
    );
    let golden = hex("01 00000005 01eb 010203");
    let value = DbData::from_bytes(&golden).unwrap();
    assert_eq!(
        (value.section, value.block, value.offset),
        (Section::CHUNKS, 5, 491)
    );
    assert_eq!(value.data, [1, 2, 3]);
    assert_eq!(value.encoded_len(), golden.len());
    let last = BLOCK_LEN - MAX_DB_DATA;
    assert!(write(0, last as u16, &[0; MAX_DB_DATA]).is_ok());
    assert!(write(0, last as u16 + 1, &[0; MAX_DB_DATA]).is_err());
    assert!(write(0, 0, &[0; MAX_DB_DATA + 1]).is_err());
    assert!(write(0, 0, &[]).is_err());
    assert!(DbData::from_bytes(&golden[..7]).is_err());
    assert!(DbData::from_bytes(&hex("01 00000005 3fff 0102")).is_err());
    let mut numbers = Numbers(3);
    for _ in 0..5_000 {
        let changed = numbers.spoil(&golden);
        if let Ok(value) = DbData::from_bytes(&changed) {
            assert_eq!(value.encoded().unwrap(), changed);
        }
    }
}

#[test]
fn db_end() {
    let scope = Some(BlockRange {
        section: Section::METADATA,
        first: 3,
        count: 2,
    });
    let tried = Some(Tried {
        seconds: 30,
        dht_nodes: 120,
        trackers: 2,
        peers: 9,
    });
    //    reason, scope
    kit(
        "07 00",
        &DbEnd {
            reason: DbEndReason::CANCELLED,
            scope: None,
            tried: None,
        },
        false,
    );
    //    reason, scope; section, first, count
    let value = DbEnd {
        reason: DbEndReason::UNAVAILABLE,
        scope,
        tried: None,
    };
    kit("06 01  00 00000003 0002", &value, false);
    //    reason, scope; seconds, DHT nodes, trackers, peers
    let value = DbEnd {
        reason: DbEndReason::NOT_FOUND,
        scope: None,
        tried,
    };
    kit("01 00  001e 00000078 0002 00000009", &value, false);
    let value = DbEnd {
        reason: DbEndReason::NOT_FOUND,
        scope,
        tried,
    };
    kit(
        "01 01  00 00000003 0002  001e 00000078 0002 00000009",
        &value,
        false,
    );
    assert!(
        DbEnd {
            reason: DbEndReason::GONE,
            scope: None,
            tried
        }
        .encoded()
        .is_err()
    );
    assert!(DbEnd::from_bytes(&hex("02 00  001e 00000078 0002 00000009")).is_err());
}

#[test]
fn db_info() {
    //             flags, percent, kind, infohash
    let golden = format!("01 64 01 {}", "11".repeat(20));
    let name = Infohash::V1(InfohashV1([0x11; 20]));
    kit(
        &golden,
        &DbInfo {
            flags: 1,
            percent: 100,
            name,
        },
        false,
    );
}

#[test]
fn db_told() {
    //             life; counts at 25, 50, 75 and 100 %; kind, infohash
    let golden = format!("0708  0009 0005 0002 0001  02 {}", "22".repeat(32));
    let holders = Holders {
        quarter: 9,
        half: 5,
        three_quarters: 2,
        whole: 1,
    };
    kit(
        &golden,
        &DbTold {
            life_seconds: 1800,
            holders,
            name: Infohash::V2(InfohashV2([0x22; 32])),
        },
        false,
    );
}

fn descriptor() -> (SigningKey, DescriptorBody) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let body = DescriptorBody {
        rsa_id: RsaId([0xab; 20]),
        ed25519: Ed25519Id(key.verifying_key().to_bytes()),
        onion_key: OnionKey([0xef; 32]),
        roles: Roles::ROUTER.with(Roles::ORDB),
        expiry: 1_700_000_000,
        addresses: vec![
            "192.0.2.1:9001".parse().unwrap(),
            "[2001:db8::1]:443".parse().unwrap(),
        ],
        dtls: Some([0xd7; 32]),
        introducers: vec![RsaId([0x1a; 20])],
        provides: Some(Key([0x2b; 20])),
        extensions: vec![1, 2, 3],
    };
    (key, body)
}

#[test]
fn descriptors() {
    let (key, body) = descriptor();
    let signed = body.clone().sign(&key).unwrap();
    // version; fingerprint, Ed25519 identity, onion key, roles, expiry; addresses; DTLS
    // certificate; introducers; what it provides; extensions; signature
    let golden = format!(
        "02 {} ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c {} 0006
         000000006553f100  02 00 06 c0000201 2329
         01 12 20010db8 00000000 00000000 00000001 01bb
         01 {}  01 {}  01 {}  0003 010203
         {SIGNATURE}",
        "ab".repeat(20),
        "ef".repeat(32),
        "d7".repeat(32),
        "1a".repeat(20),
        "2b".repeat(20),
    );
    kit(&golden, &signed, false);
    kit(
        "00 0006 05",
        &DbFindPeer::Ask {
            roles: Roles(6),
            count: 5,
        },
        false,
    );
    kit(
        &format!("01 {golden}"),
        &DbFindPeer::Register(Box::new(signed.clone())),
        false,
    );
    kit(
        "00 00",
        &DbFoundPeer {
            remaining: 0,
            descriptor: None,
        },
        false,
    );
    let found = DbFoundPeer {
        remaining: 3,
        descriptor: Some(Box::new(signed)),
    };
    kit(&format!("03 01 {golden}"), &found, false);
}

/// What Ed25519 makes of [`descriptor`], OpenSSL's as well as ours: it is deterministic.
const SIGNATURE: &str = "a91357d864c40b4f6d587ced978acc1d15983967b1faf53fc989c4d9482b1b5d\
    cd569ca7e299898cc4a86ddef60b2ef2db2af86a27ccc17d06b0076fed30dd09";

#[test]
fn only_what_a_router_signed_is_believed() {
    let (key, body) = descriptor();
    let signed = body.clone().sign(&key).unwrap();
    let verified = signed.verify(body.expiry - 1).unwrap();
    assert_eq!((&*verified, verified.descriptor()), (&body, &signed));
    assert_eq!(signed.verify(body.expiry), Err(DescriptorError::Expired));
    let golden = signed.encoded().unwrap();
    for bit in 0..golden.len() * 8 {
        let mut changed = golden.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(changed) = Descriptor::from_bytes(&changed) {
            assert_eq!(
                changed.verify(0),
                Err(DescriptorError::Signature),
                "bit {bit}"
            );
        }
    }
    let other = SigningKey::from_bytes(&[8; 32]);
    assert_eq!(body.clone().sign(&other), Err(DescriptorError::OtherKey));
    let long = DescriptorBody {
        extensions: vec![0; MAX_DESCRIPTOR_EXTENSIONS + 1],
        ..body
    };
    assert!(long.sign(&key).is_err());
}

#[test]
fn the_longest_descriptor_fits_in_a_relay_cell() {
    let (key, body) = descriptor();
    let longest = DescriptorBody {
        addresses: vec!["[2001:db8::1]:443".parse().unwrap(); MAX_DESCRIPTOR_ADDRESSES],
        introducers: vec![RsaId([1; 20]); MAX_INTRODUCERS],
        extensions: vec![9; MAX_DESCRIPTOR_EXTENSIONS],
        ..body
    };
    let descriptor = Some(Box::new(longest.sign(&key).unwrap()));
    let message = RelayMessage::DbFoundPeer(DbFoundPeer {
        remaining: 0,
        descriptor,
    });
    let mut body = [0; CELL_BODY_LEN];
    encode_relay(&mut body, Some(StreamId(1)), &message).unwrap();
}

#[test]
fn a_relay_cell_lies_as_the_specification_says() {
    let mut body = [0xff; CELL_BODY_LEN];
    encode_relay(
        &mut body,
        Some(StreamId(0x102)),
        &RelayMessage::Data(b"abc"),
    )
    .unwrap();
    //                command, recognized, stream, digest, length, data and zeros
    let mut golden = hex("02 0000 0102 00000000 0003 616263");
    golden.resize(CELL_BODY_LEN, 0);
    assert_eq!(body[..], golden[..]);
    RelayHeader::set_digest(&mut body, [1, 2, 3, 4]);
    assert_eq!(body[5..9], [1, 2, 3, 4]);
    assert_eq!(RelayHeader::digest(&body), [1, 2, 3, 4]);
    assert!(RelayHeader::is_recognized(&body));
    let (header, data) = split_relay(&body).unwrap();
    let expected = RelayHeader {
        command: RelayCommand::DATA,
        recognized: 0,
        stream: Some(StreamId(0x102)),
        digest: [1, 2, 3, 4],
        length: 3,
    };
    assert_eq!((header, data), (expected, &b"abc"[..]));
    assert_eq!(relay_padding(&mut body).len(), RELAY_DATA_MAX - 3 - 4);

    body[2] = 1;
    assert!(!RelayHeader::is_recognized(&body));
    (body[9], body[10]) = (0x01, 0xf3);
    assert_eq!(
        split_relay(&body),
        Err(DecodeError::OutOfBounds("a relay message's length"))
    );
    assert!(relay_padding(&mut body).is_empty());
    let long = [0; RELAY_DATA_MAX + 1];
    let long = encode_relay(&mut body, None, &RelayMessage::Data(&long));
    assert_eq!(long, Err(EncodeError::NoRoom));
}

/// Every command, with nothing, with noise, and with what follows ignored where it may.
#[test]
fn every_message_is_of_its_command() {
    let mut numbers = Numbers(4);
    for command in 0..=u8::MAX {
        let command = RelayCommand(command);
        for _ in 0..200 {
            let data: Vec<u8> = (0..numbers.below(80))
                .map(|_| numbers.next() as u8)
                .collect();
            if let Ok(message) = RelayMessage::decode(command, &data) {
                assert_eq!(message.command(), command);
            }
        }
        let known = command.name().is_some();
        let unknown = RelayMessage::decode(command, b"x");
        let unknown = matches!(unknown, Ok(RelayMessage::Unknown { .. }));
        assert!(known || unknown, "{command}");
    }
    assert_eq!(
        RelayMessage::decode(RelayCommand::DROP, b"ignored"),
        Ok(RelayMessage::Drop)
    );
    let data = [5; 9];
    let value = RelayMessage::Unknown {
        command: RelayCommand(200),
        data: &data,
    };
    let again = value.encoded().unwrap();
    assert_eq!(RelayMessage::decode(RelayCommand(200), &again), Ok(value));
    kit_with("050505", &RelayMessage::Data(&[5; 3]), true, |bytes| {
        if bytes == [5; 3] {
            Ok(RelayMessage::Data(&[5; 3]))
        } else {
            Err(())
        }
    });
}
