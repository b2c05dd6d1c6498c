//! Our cells and relay messages against those of `tor-cell`, Arti's: what we write it reads, what
//! it writes we read, and both write the same bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use chacha20::ChaCha20Rng;
use chive_node::ids::{Ed25519Id, RsaId, StreamId};
use chive_node::wire::*;
use rand_core::{Rng, SeedableRng};
use tor_cell::chancell::ChanCell;
use tor_cell::chancell::codec::ChannelCodec;
use tor_cell::chancell::msg::{self as chan, AnyChanMsg};
use tor_cell::relaycell::flow_ctrl::{
    FlowCtrlVersion, Xoff as TheirXoff, Xon as TheirXon, XonKBpsEwma,
};
use tor_cell::relaycell::msg::{self as relay, AnyRelayMsg};
use tor_cell::relaycell::{AnyRelayMsgOuter, RelayCellFormat, RelayMsg};
use tor_linkspec::{EncodedLinkSpec, LinkSpec};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));

/// One cell in both libraries' words: the same bytes, and read back by the other.
fn same_cell<B>(circ: u32, theirs: impl Into<AnyChanMsg>, ours: &B)
where
    B: CellBody + PartialEq + std::fmt::Debug,
{
    let theirs = theirs.into();
    let mut their_bytes = BytesMut::new();
    let their_circ = tor_cell::chancell::CircId::new(circ);
    let cell = ChanCell::new(their_circ, theirs);
    ChannelCodec::new(4)
        .write_cell(cell, &mut their_bytes)
        .unwrap();
    let mut our_bytes = BytesMut::new();
    write_body(&mut our_bytes, CircId(circ), ours).unwrap();
    assert_eq!(our_bytes, their_bytes, "{ours:?}");

    let mut decoder = CellDecoder::new();
    decoder.negotiated();
    let cell = decoder.next(&mut their_bytes).unwrap().unwrap();
    assert_eq!((cell.circ, cell.command), (CircId(circ), B::COMMAND));
    assert_eq!(B::from_cell(&cell.body).unwrap(), *ours);

    let before = our_bytes.clone();
    let (cell, _) = ChannelCodec::new(4)
        .decode_cell(&mut our_bytes)
        .unwrap()
        .unwrap();
    let cell: ChanCell<AnyChanMsg> = cell;
    let mut again = BytesMut::new();
    ChannelCodec::new(4).write_cell(cell, &mut again).unwrap();
    assert_eq!(again, before, "{ours:?}");
}

#[test]
fn cells_are_the_same() {
    let circ = 0x8000_002a;
    same_cell(
        circ,
        chan::CreateFast::new([7; 20]),
        &CreateFast {
            key_material: [7; 20],
        },
    );
    let created: Vec<u8> = (0..40).collect();
    same_cell(
        circ,
        chan::CreatedFast::new(created.clone()),
        &CreatedFast {
            key_material: created[..20].try_into().unwrap(),
            derivative: created[20..].try_into().unwrap(),
        },
    );
    for len in [0, 1, 84, MAX_HANDSHAKE_DATA] {
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let theirs = chan::Create2::new(chan::HandshakeType::NTOR, data.clone());
        let ours = Create2 {
            handshake_type: HandshakeType::NTOR,
            data: data.clone(),
        };
        same_cell(circ, theirs, &ours);
        same_cell(circ, chan::Created2::new(data.clone()), &Created2 { data });
    }
    for reason in 0..=u8::MAX {
        let theirs = chan::Destroy::new(reason.into());
        same_cell(
            circ,
            theirs,
            &Destroy {
                reason: DestroyReason(reason),
            },
        );
    }
    let theirs = chan::PaddingNegotiate::start(1500.into(), 9500.into());
    let ours = PaddingNegotiate {
        version: 0,
        command: 2,
        low_ms: 1500,
        high_ms: 9500,
    };
    same_cell(0, theirs, &ours);
}

#[test]
fn cells_of_the_handshake_are_the_same() {
    let versions = vec![3, 4, 5];
    let theirs = chan::Versions::new(versions.clone())
        .unwrap()
        .encode_for_handshake()
        .unwrap();
    let mut ours = BytesMut::new();
    write_body(&mut ours, CircId::LINK, &Versions { versions }).unwrap();
    assert_eq!(ours, theirs);

    let mut theirs = chan::Certs::new_empty();
    let mut ours = Certs::default();
    for (kind, len) in [(2, 512), (4, 140), (5, 104), (7, 165), (99, 0)] {
        let body = vec![kind; len];
        theirs.push_cert_body(kind.into(), body.clone());
        ours.certs.push(Cert {
            kind: CertType(kind),
            body,
        });
    }
    same_cell(0, theirs, &ours);

    let theirs = chan::AuthChallenge::new([9; 32], [1, 3]);
    let methods = vec![
        AuthMethod::RSA_SHA256_TLSSECRET,
        AuthMethod::ED25519_SHA256_RFC5705,
    ];
    same_cell(
        0,
        theirs,
        &AuthChallenge {
            challenge: [9; 32],
            methods,
        },
    );

    let body = vec![5; 352];
    let theirs = chan::Authenticate::new(3, body.clone());
    same_cell(
        0,
        theirs,
        &Authenticate {
            method: AuthMethod::ED25519_SHA256_RFC5705,
            body,
        },
    );

    for (other, own) in [(V4, vec![V6]), (V6, vec![V4, V6])] {
        let theirs = chan::Netinfo::from_relay(1_700_000_000, Some(other), own.clone());
        let ours = Netinfo {
            timestamp: 1_700_000_000,
            other_address: NetAddress::Ip(other),
            own_addresses: own.into_iter().map(NetAddress::Ip).collect(),
        };
        same_cell(0, theirs, &ours);
    }
    let ours = Netinfo {
        timestamp: 0,
        other_address: NetAddress::Ip(V4),
        own_addresses: Vec::new(),
    };
    same_cell(0, chan::Netinfo::from_client(Some(V4)), &ours);
}

/// Which commands are variable, and which belong to a circuit, they and we say alike.
#[test]
fn commands_are_the_same() {
    for command in 0..=u8::MAX {
        let theirs = tor_cell::chancell::ChanCmd::from(command);
        assert_eq!(
            Command(command).is_variable(),
            theirs.is_var_cell(),
            "{command}"
        );
        if let Some(name) = Command(command).name() {
            assert_eq!(name, theirs.to_string());
        }
    }
    for command in 0..=u8::MAX {
        let theirs = tor_cell::relaycell::RelayCmd::from(command);
        let ours = RelayCommand(command);
        // Of these only C tor knows, and Chive.
        let theirs_too = !(41..=42).contains(&command) && command < 224;
        let known = ours.name().is_some() && theirs_too;
        if !known {
            continue;
        }
        let some = tor_cell::relaycell::StreamId::new(1);
        let rule = match (
            theirs.accepts_streamid_val(some),
            theirs.accepts_streamid_val(None),
        ) {
            (true, true) => StreamRule::Either,
            (true, false) => StreamRule::Required,
            _ => StreamRule::Forbidden,
        };
        assert_eq!(ours.stream_rule(), rule, "{ours}");
    }
}

/// One relay message in both libraries' words.
fn same_message(stream: u16, theirs: impl Into<AnyRelayMsg>, ours: RelayMessage<'_>) {
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let outer = AnyRelayMsgOuter::new(tor_cell::relaycell::StreamId::new(stream), theirs.into());
    let their_body = outer.encode(RelayCellFormat::V0, &mut rng).unwrap();
    let our_stream = if stream == 0 {
        None
    } else {
        Some(StreamId(stream))
    };
    let mut our_body = [0xff; CELL_BODY_LEN];
    encode_relay(&mut our_body, our_stream, &ours).unwrap();
    // What follows the message is padding: theirs is random.
    let end = RELAY_HEADER_LEN + ours.encoded_len();
    assert_eq!(our_body[..end], their_body[..end], "{ours:?}");
    assert!(our_body[end..].iter().all(|byte| *byte == 0));

    let (header, data) = split_relay(&their_body).unwrap();
    assert_eq!(header.stream, our_stream);
    assert_eq!(RelayMessage::decode(header.command, data).unwrap(), ours);

    let body = Box::new(our_body);
    let read = AnyRelayMsgOuter::decode_singleton(RelayCellFormat::V0, body).unwrap();
    assert_eq!(read.stream_id().map_or(0, u16::from), stream);
    let mut again = Vec::new();
    read.into_msg().encode_onto(&mut again).unwrap();
    assert_eq!(again, our_body[RELAY_HEADER_LEN..end], "{ours:?}");
}

#[test]
fn streams_are_the_same() {
    for (host, port, flags) in [
        ("www.example.com", 443, 0),
        ("192.0.2.1", 80, 1),
        ("[2001:db8::1]", 1, 5),
    ] {
        // Arti puts the brackets about an IPv6 address itself.
        let bare = host.trim_matches(['[', ']']);
        let theirs = relay::Begin::new(bare, port, flags).unwrap();
        same_message(
            9,
            theirs,
            RelayMessage::Begin(Begin {
                host: host.into(),
                port,
                flags,
            }),
        );
    }
    for len in [1, 497, 498] {
        let data = vec![3; len];
        same_message(
            1,
            relay::Data::new(&data).unwrap(),
            RelayMessage::Data(&data),
        );
    }
    for reason in 1..=u8::MAX {
        // Arti asks for an address with EXITPOLICY, we and C tor send it with or without.
        if EndReason(reason) != EndReason::EXITPOLICY {
            let theirs = relay::End::new_with_reason(reason.into());
            let ours = End {
                reason: EndReason(reason),
                address: None,
            };
            same_message(7, theirs, RelayMessage::End(ours));
        }
    }
    for ip in [V4, V6] {
        let address = Some((ip, 600));
        let ours = End {
            reason: EndReason::EXITPOLICY,
            address,
        };
        same_message(
            7,
            relay::End::new_exitpolicy(ip, 600),
            RelayMessage::End(ours),
        );
        let theirs = relay::Connected::new_with_addr(ip, 600);
        same_message(7, theirs, RelayMessage::Connected(Connected { address }));
    }
    let ours = RelayMessage::Connected(Connected { address: None });
    same_message(7, relay::Connected::new_empty(), ours);
    same_message(4, relay::BeginDir::default(), RelayMessage::BeginDir);
    let ours = RelayMessage::Resolve(Resolve {
        host: "example.org".into(),
    });
    same_message(4, relay::Resolve::new("example.org"), ours);

    let mut theirs = relay::Resolved::new_empty();
    let mut answers = Vec::new();
    for (value, kind, bytes) in [
        (relay::ResolvedVal::Ip(V4), 4, vec![203, 0, 113, 7]),
        (
            relay::ResolvedVal::Hostname(b"host".to_vec()),
            0,
            b"host".to_vec(),
        ),
        (
            relay::ResolvedVal::Ip(V6),
            6,
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)
                .octets()
                .to_vec(),
        ),
    ] {
        theirs.add_answer(value, 60);
        answers.push(ResolvedAnswer {
            kind,
            value: bytes,
            ttl: 60,
        });
    }
    same_message(4, theirs, RelayMessage::Resolved(Resolved { answers }));
}

#[test]
fn circuits_and_flow_control_are_the_same() {
    same_message(
        0,
        relay::Sendme::new_tag([8; 20]),
        RelayMessage::Sendme(Sendme { tag: Some([8; 20]) }),
    );
    same_message(
        5,
        relay::Sendme::new_empty(),
        RelayMessage::Sendme(Sendme { tag: None }),
    );
    same_message(0, relay::Truncate::default(), RelayMessage::Truncate);
    same_message(0, relay::Drop::default(), RelayMessage::Drop);
    for reason in 0..=u8::MAX {
        let ours = Truncated {
            reason: DestroyReason(reason),
        };
        same_message(
            0,
            relay::Truncated::new(reason.into()),
            RelayMessage::Truncated(ours),
        );
    }
    let version = FlowCtrlVersion::new(0).unwrap();
    let rate = XonKBpsEwma::Limited(1234.try_into().unwrap());
    let ours = Xon {
        kilobytes_per_second: 1234,
    };
    same_message(5, TheirXon::new(version, rate), RelayMessage::Xon(ours));
    same_message(5, TheirXoff::new(version), RelayMessage::Xoff(Xoff));

    let data: Vec<u8> = (0..84).collect();
    let (rsa, ed25519) = ([0x21; 20], [0x32; 32]);
    let theirs: Vec<EncodedLinkSpec> = [
        LinkSpec::OrPort(V4, 9001),
        LinkSpec::OrPort(V6, 9002),
        LinkSpec::RsaId(rsa.into()),
        LinkSpec::Ed25519Id(ed25519.into()),
        LinkSpec::Unrecognized(77.into(), vec![1, 2, 3]),
    ]
    .iter()
    .map(|spec| spec.encode().unwrap())
    .collect();
    let specifiers = vec![
        LinkSpecifier::address((V4, 9001).into()),
        LinkSpecifier::address((V6, 9002).into()),
        LinkSpecifier::RsaId(RsaId(rsa)),
        LinkSpecifier::Ed25519Id(Ed25519Id(ed25519)),
        LinkSpecifier::Unknown {
            kind: 77,
            data: vec![1, 2, 3],
        },
    ];
    let theirs = relay::Extend2::new(theirs, chan::HandshakeType::NTOR, data.clone());
    let ours = Extend2 {
        specifiers,
        handshake_type: HandshakeType::NTOR,
        data: data.clone(),
    };
    same_message(0, theirs, RelayMessage::Extend2(ours));
    let ours = RelayMessage::Extended2(Extended2 { data: data.clone() });
    same_message(0, relay::Extended2::new(data), ours);
}

/// Relay messages with random changes: what either reads the other reads too and understands
/// alike, but for the differences that are listed.
#[test]
fn nonsense_is_judged_alike() {
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    let seeds: Vec<(RelayCommand, Vec<u8>)> = [
        RelayMessage::Begin(Begin {
            host: "a.example".into(),
            port: 80,
            flags: 1,
        }),
        RelayMessage::End(End {
            reason: EndReason::EXITPOLICY,
            address: Some((V4, 60)),
        }),
        RelayMessage::Connected(Connected {
            address: Some((V4, 60)),
        }),
        RelayMessage::Connected(Connected {
            address: Some((V6, 60)),
        }),
        RelayMessage::Sendme(Sendme { tag: Some([8; 20]) }),
        RelayMessage::Extend2(Extend2 {
            specifiers: vec![
                LinkSpecifier::address((V4, 9001).into()),
                LinkSpecifier::RsaId(RsaId([1; 20])),
            ],
            handshake_type: HandshakeType::NTOR,
            data: vec![5; 84],
        }),
        RelayMessage::Extended2(Extended2 { data: vec![5; 64] }),
        RelayMessage::Truncated(Truncated {
            reason: DestroyReason::PROTOCOL,
        }),
        RelayMessage::Resolve(Resolve {
            host: "a.example".into(),
        }),
        RelayMessage::Resolved(Resolved {
            answers: vec![ResolvedAnswer {
                kind: 4,
                value: vec![1, 2, 3, 4],
                ttl: 5,
            }],
        }),
        RelayMessage::Xon(Xon {
            kilobytes_per_second: 9,
        }),
        RelayMessage::Xoff(Xoff),
    ]
    .iter()
    .map(|message| (message.command(), message.encoded().unwrap()))
    .collect();
    let mut both = 0;
    for round in 0..20_000 {
        let (command, mut data) = seeds[round % seeds.len()].clone();
        for _ in 0..rng.next_u32() % 3 {
            let at = rng.next_u32() as usize % data.len();
            data[at] ^= 1 << (rng.next_u32() % 8);
        }
        if rng.next_u32() % 4 == 0 {
            data.truncate(rng.next_u32() as usize % (data.len() + 1));
        }
        let ours = RelayMessage::decode(command, &data);
        let mut reader = tor_bytes::Reader::from_slice_for_test(&data);
        let theirs = AnyRelayMsg::decode_from_reader(command.0.into(), &mut reader);
        match (&ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                both += 1;
                // What the one understood, written by the other, is the same.
                let mut again = Vec::new();
                if theirs.encode_onto(&mut again).is_ok() {
                    let again = RelayMessage::decode(command, &again).unwrap();
                    assert!(
                        again == *ours || arti_knows_less(ours),
                        "{data:?}: {again:?}"
                    );
                }
            }
            (Err(_), Err(_)) => {}
            (Ok(ours), Err(error)) => {
                panic!("we read {ours:?} in {data:?} where they say {error}")
            }
            (Err(error), Ok(theirs)) => {
                let fine = we_are_stricter(command, &data);
                assert!(
                    fine,
                    "they read {theirs:?} in {data:?} where we say {error}"
                )
            }
        }
    }
    assert!(both > 5_000, "{both}");
}

/// Arti forgets flags of BEGIN that it does not know, and makes up a missing time in END.
fn arti_knows_less(ours: &RelayMessage<'_>) -> bool {
    match ours {
        RelayMessage::Begin(begin) => begin.flags >= 8,
        RelayMessage::End(end) => end.address.is_none(),
        _ => false,
    }
}

/// We refuse the port 0, as C tor does; host names that are not ASCII; link specifiers whose length is not their type's, when
/// we read them and not later; and tags of Counter Galois Onion, which we do not speak.
fn we_are_stricter(command: RelayCommand, data: &[u8]) -> bool {
    match command {
        RelayCommand::BEGIN => {
            let address = data.split(|byte| *byte == 0).next().unwrap();
            let port = address.rsplit(|byte| *byte == b':').next().unwrap();
            !address.is_ascii() || port.iter().all(|digit| *digit == b'0')
        }
        RelayCommand::RESOLVE => !data.is_ascii(),
        RelayCommand::EXTEND2 => {
            let mut reader = Reader::new(&data[1..]);
            (0..data[0]).any(|_| reader.read::<LinkSpecifier>().is_err())
        }
        RelayCommand::SENDME => data[..3] == [1, 0, 16],
        _ => false,
    }
}
