//! The server alone: limits, fairness, backpressure, and what it wants of its host.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::StreamId;
use crate::ordb::{
    ContentAnswer, ContentWant, LINGER, MAX_AHEAD_BLOCKS, MAX_COUNTER, MAX_QUEUED_BLOCKS,
    MAX_STREAMS_PER_CIRCUIT, Server, ServerConfig, StreamKey,
};
use crate::time::Instant;
use crate::torrent::{Infohash, InfohashV1};
use crate::wire::{
    BlockRange, CELL_BODY_LEN, DbEnd, DbEndReason, DbQuery, RelayMessage, Section, Tried,
    split_relay,
};

const NAME: Infohash = Infohash::V1(InfohashV1([9; 20]));
const NOW: Instant = Instant::from_micros(1_000_000);

fn key(circuit: u64, stream: u16) -> StreamKey {
    StreamKey {
        circuit,
        stream: StreamId(stream),
    }
}

fn chunks(first: u32, count: u16) -> BlockRange {
    BlockRange {
        section: Section::CHUNKS,
        first,
        count,
    }
}

fn block(number: u32) -> Bytes {
    Bytes::from(vec![u8::try_from(number % 251).unwrap(); 16384])
}

/// What was sent, with the data's length instead of its bytes.
#[derive(Clone, Debug, PartialEq)]
enum Sent {
    Connected(u32),
    Data {
        section: Section,
        block: u32,
        offset: u16,
        length: usize,
    },
    End(DbEnd),
}

fn next(server: &mut Server, can_send: impl Fn(u64) -> bool) -> Option<(StreamKey, Sent)> {
    let mut body = [0xAA; CELL_BODY_LEN];
    let key = server.poll_transmit(can_send, &mut body)?;
    let (header, data) = split_relay(&body).unwrap();
    assert_eq!(header.stream, Some(key.stream));
    let sent = match RelayMessage::decode(header.command, data).unwrap() {
        RelayMessage::DbConnected(connected) => Sent::Connected(connected.metadata_length),
        RelayMessage::DbEnd(end) => Sent::End(end),
        RelayMessage::DbData(data) => {
            if data.section == Section::CHUNKS {
                assert_eq!(data.data[0], u8::try_from(data.block % 251).unwrap());
            }
            Sent::Data {
                section: data.section,
                block: data.block,
                offset: data.offset,
                length: data.data.len(),
            }
        }
        other => panic!("the server sent {other:?}"),
    };
    Some((key, sent))
}

fn all(server: &mut Server) -> Vec<(StreamKey, Sent)> {
    std::iter::from_fn(|| next(server, |_| true)).collect()
}

fn wants(server: &mut Server) -> Vec<ContentWant> {
    std::iter::from_fn(|| server.poll_want()).collect()
}

fn end(reason: DbEndReason, scope: Option<BlockRange>) -> Sent {
    Sent::End(DbEnd {
        reason,
        scope,
        tried: None,
    })
}

fn answer_wanted(server: &mut Server) -> usize {
    let mut answered = 0;
    for want in wants(server) {
        if let ContentWant::Blocks {
            name,
            section,
            first,
            count,
        } = want
        {
            for number in first..first + u32::from(count) {
                let bytes = block(number);
                let answer = ContentAnswer::Block {
                    name,
                    section,
                    block: number,
                    bytes,
                };
                server.handle_answer(NOW, answer);
                answered += 1;
            }
        }
    }
    answered
}

/// A server with these streams open.
fn open(config: ServerConfig, keys: &[StreamKey]) -> Server {
    let mut server = Server::new(config);
    for key in keys {
        server.handle_query(NOW, *key, &open_of(NAME)).unwrap();
    }
    assert_eq!(wants(&mut server), [ContentWant::Open { name: NAME }]);
    let metadata = Bytes::from(vec![1; 20_000]);
    server.handle_answer(
        NOW,
        ContentAnswer::Opened {
            name: NAME,
            metadata,
        },
    );
    let sent = all(&mut server);
    assert_eq!(sent.len(), keys.len());
    assert!(
        sent.iter()
            .all(|(_, sent)| *sent == Sent::Connected(20_000))
    );
    server
}

#[test]
fn metadata_is_served_from_what_the_host_opened() {
    let mut server = open(ServerConfig::default(), &[key(1, 1)]);
    let range = BlockRange {
        section: Section::METADATA,
        first: 0,
        count: 2,
    };
    server
        .handle_query(NOW, key(1, 1), &DbQuery::Ask(range))
        .unwrap();
    assert_eq!(wants(&mut server), []);
    let sent = all(&mut server);
    let mut expected = (0u16, 0u32);
    for (_, sent) in &sent {
        let Sent::Data {
            section: Section::METADATA,
            block,
            offset,
            length,
        } = sent
        else {
            panic!("{sent:?}")
        };
        if expected == (16384, 0) {
            expected = (0, 1);
        }
        assert_eq!((*offset, *block), expected);
        assert!(*length == 491 || offset + u16::try_from(*length).unwrap() == 16384 || *block == 1);
        expected.0 += u16::try_from(*length).unwrap();
    }
    assert_eq!(expected, (20_000 - 16384, 1));
    // Beyond its end there is nothing.
    let range = BlockRange {
        section: Section::METADATA,
        first: 2,
        count: 1,
    };
    server
        .handle_query(NOW, key(1, 1), &DbQuery::Ask(range))
        .unwrap();
    assert_eq!(
        all(&mut server),
        [(key(1, 1), end(DbEndReason::UNAVAILABLE, Some(range)))]
    );
}

#[test]
fn blocks_go_in_the_order_asked_whatever_the_host_does() {
    let mut server = open(ServerConfig::default(), &[key(1, 1)]);
    server
        .handle_query(NOW, key(1, 1), &DbQuery::Ask(chunks(10, 3)))
        .unwrap();
    server
        .handle_query(NOW, key(1, 1), &DbQuery::Ask(chunks(2, 1)))
        .unwrap();
    let name = NAME;
    let section = Section::CHUNKS;
    assert_eq!(
        wants(&mut server),
        [
            ContentWant::Blocks {
                name,
                section,
                first: 10,
                count: 3
            },
            ContentWant::Blocks {
                name,
                section,
                first: 2,
                count: 1
            }
        ]
    );
    for number in [2, 12, 11] {
        let bytes = block(number);
        server.handle_answer(
            NOW,
            ContentAnswer::Block {
                name,
                section,
                block: number,
                bytes,
            },
        );
    }
    assert_eq!(all(&mut server), []);
    let bytes = block(10);
    server.handle_answer(
        NOW,
        ContentAnswer::Block {
            name,
            section,
            block: 10,
            bytes,
        },
    );
    let blocks: Vec<u32> = all(&mut server)
        .iter()
        .map(|(_, sent)| match sent {
            Sent::Data { block, .. } => *block,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(blocks.len(), 4 * 34);
    let mut order = blocks.clone();
    order.dedup();
    assert_eq!(order, [10, 11, 12, 2]);
    assert_eq!(server.ahead_blocks(), 0);
}

#[test]
fn a_block_is_wanted_once_for_all_and_cancelled_by_the_last() {
    let keys = [key(1, 1), key(1, 2), key(2, 1)];
    let mut server = open(ServerConfig::default(), &keys);
    for key in keys {
        server
            .handle_query(NOW, key, &DbQuery::Ask(chunks(5, 2)))
            .unwrap();
    }
    let (name, section) = (NAME, Section::CHUNKS);
    assert_eq!(
        wants(&mut server),
        [ContentWant::Blocks {
            name,
            section,
            first: 5,
            count: 2
        }]
    );
    let cancel = DbEnd {
        reason: DbEndReason::CANCELLED,
        scope: Some(chunks(5, 2)),
        tried: None,
    };
    server.handle_end(NOW, keys[0], &cancel).unwrap();
    server.handle_circuit_gone(NOW, 2);
    assert_eq!(wants(&mut server), []);
    assert_eq!(all(&mut server), [(keys[0], Sent::End(cancel))]);
    server.handle_end(NOW, keys[1], &cancel).unwrap();
    assert_eq!(
        wants(&mut server),
        [ContentWant::Cancel {
            name,
            section,
            first: 5,
            count: 2
        }]
    );
    assert_eq!(server.ahead_blocks(), 0);
    // The answer that was under way is nobody's.
    let bytes = block(5);
    server.handle_answer(
        NOW,
        ContentAnswer::Block {
            name,
            section,
            block: 5,
            bytes,
        },
    );
    assert_eq!(all(&mut server), [(keys[1], Sent::End(cancel))]);
}

#[test]
fn circuits_take_turns_and_those_that_cannot_are_passed_over() {
    let keys = [key(1, 1), key(1, 2), key(2, 1), key(3, 1)];
    let mut server = open(ServerConfig::default(), &keys);
    for key in keys {
        server
            .handle_query(NOW, key, &DbQuery::Ask(chunks(0, 64)))
            .unwrap();
    }
    answer_wanted(&mut server);
    // Circuit 3 has no room in its window.
    let mut cells: BTreeMap<StreamKey, u32> = BTreeMap::new();
    for _ in 0..1600 {
        let (key, _) = next(&mut server, |circuit| circuit != 3).unwrap();
        *cells.entry(key).or_default() += 1;
    }
    assert_eq!(cells.get(&key(3, 1)), None);
    assert_eq!(cells[&key(2, 1)], 800);
    assert!(cells[&key(1, 1)].abs_diff(cells[&key(1, 2)]) <= 1);
    assert_eq!(next(&mut server, |_| false), None);
    // When it has room, nothing is lost.
    let rest = all(&mut server);
    assert_eq!(rest.len() + 1600, 4 * 64 * 34);
    assert_eq!(server.ahead_blocks(), 0);
}

#[test]
fn what_is_held_is_bounded_for_each_stream_and_in_all() {
    let config = ServerConfig {
        max_ahead_blocks: 300,
        ..ServerConfig::default()
    };
    let keys = [key(1, 1), key(2, 1), key(3, 1)];
    let mut server = open(config, &keys);
    for key in keys {
        for first in [0, 1000] {
            server
                .handle_query(NOW, key, &DbQuery::Ask(chunks(first, 1000)))
                .unwrap();
        }
        // No more than so many may wait.
        let refused = chunks(5000, 1000);
        server
            .handle_query(NOW, key, &DbQuery::Ask(refused))
            .unwrap();
        let (_, sent) = next(&mut server, |_| true).unwrap();
        assert_eq!(sent, end(DbEndReason::BUSY, Some(refused)));
        assert!(server.ahead_blocks() <= 300);
    }
    assert_eq!(server.ahead_blocks(), 300);
    let wanted = answer_wanted(&mut server);
    assert_eq!(wanted, MAX_AHEAD_BLOCKS);
    // All of it arrives nevertheless, and nobody starves.
    let mut cells: BTreeMap<StreamKey, usize> = BTreeMap::new();
    loop {
        let Some((key, _)) = next(&mut server, |_| true) else {
            if answer_wanted(&mut server) == 0 {
                break;
            }
            continue;
        };
        *cells.entry(key).or_default() += 1;
        assert!(server.ahead_blocks() <= 300);
    }
    for key in keys {
        assert_eq!(cells[&key], 2000 * 34);
    }
    const { assert!(MAX_QUEUED_BLOCKS < 3000) };
}

#[test]
fn what_cannot_be_had_is_said_and_the_rest_goes_on() {
    let keys = [key(1, 1), key(2, 1)];
    let mut server = open(ServerConfig::default(), &keys);
    server
        .handle_query(NOW, keys[0], &DbQuery::Ask(chunks(0, 4)))
        .unwrap();
    server
        .handle_query(NOW, keys[1], &DbQuery::Ask(chunks(8, 1)))
        .unwrap();
    let _ = wants(&mut server);
    let (name, section) = (NAME, Section::CHUNKS);
    let reason = DbEndReason::UNAVAILABLE;
    let scope = Some((section, 0, 2));
    server.handle_answer(
        NOW,
        ContentAnswer::Failed {
            name,
            scope,
            reason,
            tried: None,
        },
    );
    for number in [2, 3] {
        let bytes = block(number);
        server.handle_answer(
            NOW,
            ContentAnswer::Block {
                name,
                section,
                block: number,
                bytes,
            },
        );
    }
    let sent = all(&mut server);
    assert_eq!(sent[0], (keys[0], end(reason, Some(chunks(0, 2)))));
    // Only those who asked for it are told.
    assert!(sent.iter().all(|(key, _)| *key == keys[0]));
    assert_eq!(sent.len(), 1 + 2 * 34);
    assert_eq!(server.ahead_blocks(), 1);
    // Bytes that are no block are the host's failure.
    let bytes = Bytes::from(vec![0; 16385]);
    server.handle_answer(
        NOW,
        ContentAnswer::Block {
            name,
            section,
            block: 8,
            bytes,
        },
    );
    assert_eq!(
        all(&mut server),
        [(keys[1], end(reason, Some(chunks(8, 1))))]
    );
    assert_eq!(server.ahead_blocks(), 0);
}

#[test]
fn a_name_that_fails_ends_its_streams_with_what_was_tried() {
    let mut server = Server::new(ServerConfig::default());
    for circuit in [1, 2] {
        server
            .handle_query(NOW, key(circuit, 1), &open_of(NAME))
            .unwrap();
    }
    let tried = Some(Tried {
        seconds: 30,
        dht_nodes: 100,
        trackers: 1,
        peers: 4,
    });
    let reason = DbEndReason::NOT_FOUND;
    let failed = ContentAnswer::Failed {
        name: NAME,
        scope: None,
        reason,
        tried,
    };
    server.handle_answer(NOW, failed);
    let end = Sent::End(DbEnd {
        reason,
        scope: None,
        tried,
    });
    assert_eq!(
        all(&mut server),
        [(key(1, 1), end.clone()), (key(2, 1), end)]
    );
    assert_eq!((server.open_names(), server.open_streams()), (0, 0));
}

#[test]
fn names_linger_and_idle_streams_end() {
    let mut server = open(ServerConfig::default(), &[key(1, 1)]);
    let later = NOW + Duration::from_secs(301);
    assert!(server.poll_timeout().0 <= NOW + Duration::from_secs(1));
    server.handle_timeout(later);
    assert_eq!(
        all(&mut server),
        [(key(1, 1), end(DbEndReason::IDLE, None))]
    );
    server.handle_timeout(later + (LINGER - Duration::from_secs(2)));
    assert_eq!(wants(&mut server), []);
    // Who comes back in time finds it open.
    server
        .handle_query(later, key(4, 1), &open_of(NAME))
        .unwrap();
    assert_eq!(wants(&mut server), []);
    assert_eq!(all(&mut server), [(key(4, 1), Sent::Connected(20_000))]);
    server.handle_circuit_gone(later, 4);
    server.handle_timeout(later + LINGER + Duration::from_secs(2));
    assert_eq!(wants(&mut server), [ContentWant::Close { name: NAME }]);
    assert_eq!(server.open_names(), 0);
    assert_eq!(server.poll_timeout().0, Instant::FAR_FUTURE);
}

#[test]
fn a_host_that_does_not_answer_is_not_waited_for_for_ever() {
    let mut server = open(ServerConfig::default(), &[key(1, 1)]);
    server
        .handle_query(NOW, key(1, 1), &DbQuery::Ask(chunks(0, 2)))
        .unwrap();
    let _ = wants(&mut server);
    server.handle_timeout(NOW + Duration::from_secs(121));
    assert_eq!(
        all(&mut server),
        [0, 1].map(|first| (
            key(1, 1),
            end(DbEndReason::UNAVAILABLE, Some(chunks(first, 1)))
        ))
    );
    assert_eq!(server.ahead_blocks(), 0);
    assert!(matches!(
        wants(&mut server).as_slice(),
        [ContentWant::Cancel { count: 2, .. }]
    ));
}

#[test]
fn nonsense_ends_the_stream() {
    let mut server = open(ServerConfig::default(), &[key(1, 1)]);
    // OPEN again, a stream that is not open, an unknown section.
    server.handle_query(NOW, key(1, 1), &open_of(NAME)).unwrap();
    server
        .handle_query(NOW, key(1, 7), &DbQuery::Ask(chunks(0, 1)))
        .unwrap();
    let refused = end(DbEndReason::PROTOCOL, None);
    assert_eq!(
        all(&mut server),
        [(key(1, 1), refused.clone()), (key(1, 7), refused)]
    );
    server.handle_query(NOW, key(1, 2), &open_of(NAME)).unwrap();
    let _ = all(&mut server);
    let strange = BlockRange {
        section: Section(77),
        first: 0,
        count: 1,
    };
    server
        .handle_query(NOW, key(1, 2), &DbQuery::Ask(strange))
        .unwrap();
    assert_eq!(
        all(&mut server),
        [(key(1, 2), end(DbEndReason::UNAVAILABLE, Some(strange)))]
    );
    // Asked before the torrent is open.
    let other = Infohash::V1(InfohashV1([8; 20]));
    server
        .handle_query(NOW, key(1, 3), &open_of(other))
        .unwrap();
    server
        .handle_query(NOW, key(1, 3), &DbQuery::Ask(chunks(0, 1)))
        .unwrap();
    assert_eq!(
        all(&mut server),
        [(key(1, 3), end(DbEndReason::PROTOCOL, None))]
    );
}

#[test]
fn limits_hold() {
    let config = ServerConfig {
        max_names: 2,
        ..ServerConfig::default()
    };
    let mut server = Server::new(config);
    for stream in 0..=MAX_STREAMS_PER_CIRCUIT {
        let key = key(1, u16::try_from(stream + 1).unwrap());
        server.handle_query(NOW, key, &open_of(NAME)).unwrap();
    }
    let busy = end(DbEndReason::BUSY, None);
    assert_eq!(all(&mut server), [(key(1, 17), busy.clone())]);
    for number in 1..4 {
        let name = Infohash::V1(InfohashV1([number; 20]));
        server
            .handle_query(NOW, key(2, number.into()), &open_of(name))
            .unwrap();
    }
    assert_eq!(
        all(&mut server),
        [(key(2, 2), busy.clone()), (key(2, 3), busy)]
    );
    // Who asks for nonsense and reads no answer is cut.
    let ask = DbQuery::Ask(chunks(0, 1));
    let mut asked = 0;
    while server.handle_query(NOW, key(9, 1), &ask).is_ok() {
        asked += 1;
        assert!(asked < 10_000);
    }
    server.handle_circuit_gone(NOW, 9);
    assert_eq!(all(&mut server), []);
}

fn open_of(name: Infohash) -> DbQuery {
    DbQuery::Open { counter: 0, name }
}

#[test]
fn counters_grow_along_every_way_so_that_no_question_comes_round() {
    let mut server = Server::new(ServerConfig::default());
    let open = |server: &mut Server, circuit, counter| {
        let query = DbQuery::Open {
            counter,
            name: NAME,
        };
        server.handle_query(NOW, key(circuit, 1), &query).unwrap();
    };
    open(&mut server, 1, 3);
    open(&mut server, 2, 7);
    // Nobody is asked on yet: whoever comes is taken.
    assert_eq!(server.open_streams(), 2);
    assert_eq!(server.raise(&NAME), Some(8));
    // Its own question, come round, has its own counter or a larger one.
    for counter in [8, 9, 255] {
        open(&mut server, u64::from(counter), counter);
    }
    let mut body = [0; CELL_BODY_LEN];
    let mut refused = Vec::new();
    while let Some(to) = server.poll_transmit(|_| true, &mut body) {
        let (header, data) = split_relay(&body).unwrap();
        if let RelayMessage::DbEnd(end) = RelayMessage::decode(header.command, data).unwrap() {
            refused.push((to.circuit, end.reason));
        }
    }
    let looped = [8, 9, 255].map(|circuit| (circuit, DbEndReason::LOOP));
    assert_eq!(refused, looped);
    open(&mut server, 3, 7);
    assert_eq!(server.open_streams(), 3);
    assert_eq!(server.raise(&NAME), Some(8), "once raised, it stays");
}

#[test]
fn a_question_that_has_gone_far_enough_is_not_asked_on() {
    let mut server = Server::new(ServerConfig::default());
    let query = DbQuery::Open {
        counter: MAX_COUNTER,
        name: NAME,
    };
    server.handle_query(NOW, key(1, 1), &query).unwrap();
    assert_eq!(server.raise(&NAME), None);
    assert_eq!(server.raise(&Infohash::V1(InfohashV1([1; 20]))), None);
}
