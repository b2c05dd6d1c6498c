//! What a facilitator gives to a swarm: nothing. A peer and a DHT node made by hand write down all
//! that they are sent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chive_facilitator::swarm::{Swarm, SwarmConfig};
use chive_node::ordb::{ContentAnswer, ContentWant};
use chive_node::torrent::{Infohash, InfohashV1};
use chive_node::wire::{DbEndReason, Section};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
const PIECE_LEN: usize = 32 * 1024;
const PIECES: usize = 8;

const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const BITFIELD: u8 = 5;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const CANCEL: u8 = 8;
const EXTENDED: u8 = 20;
/// Our numbers for the extensions.
const UT_METADATA: u8 = 9;

fn content() -> Vec<u8> {
    (0..PIECES * PIECE_LEN).map(|i| (i * i / 7) as u8).collect()
}

fn info() -> Vec<u8> {
    let content = content();
    let hashes: Vec<u8> = content.chunks(PIECE_LEN).flat_map(Sha1::digest).collect();
    let (length, hash_length) = (content.len(), hashes.len());
    let mut info =
        format!("d6:lengthi{length}e4:name1:x12:piece lengthi{PIECE_LEN}e6:pieces{hash_length}:")
            .into_bytes();
    info.extend(hashes);
    info.push(b'e');
    info
}

fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let length = 1 + payload.len() as u32;
    [&length.to_be_bytes()[..], &[id], payload].concat()
}

async fn next_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

/// A peer that has everything, gives it, and asks for it back. All messages that it got.
async fn peer(listener: TcpListener) -> Vec<Vec<u8>> {
    let (content, info) = (content(), info());
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut handshake = [0; 68];
    stream
        .read_exact(&mut handshake)
        .await
        .expect("a handshake");
    assert_eq!(handshake[28..48], Sha1::digest(&info)[..]);
    handshake[48..].fill(b'p');
    stream.write_all(&handshake).await.expect("to answer");
    let extensions = format!(
        "\0d1:md11:ut_metadatai{UT_METADATA}e6:ut_pexi5ee13:metadata_sizei{}ee",
        info.len()
    );
    let mut hello = message(EXTENDED, extensions.as_bytes());
    hello.extend(message(BITFIELD, &[0xff]));
    hello.extend(message(INTERESTED, &[]));
    hello.extend(message(UNCHOKE, &[]));
    // The number 3 is what librqbit's codec gives the extension.
    hello.extend(message(EXTENDED, b"\x03d8:msg_typei0e5:piecei0ee"));
    stream.write_all(&hello).await.expect("to say hello");

    let mut heard = Vec::new();
    while let Some(got) = next_message(&mut stream).await {
        let mut answer = Vec::new();
        match got[..] {
            [REQUEST, ref request @ ..] => {
                let number = |at: usize| {
                    let bytes = request[at..at + 4].try_into().expect("four bytes");
                    u32::from_be_bytes(bytes) as usize
                };
                let start = number(0) * PIECE_LEN + number(4);
                let block = &content[start..start + number(8)];
                answer.extend(message(PIECE, &[&request[..8], block].concat()));
                // Give me what I just gave you.
                answer.extend(message(REQUEST, request));
            }
            [EXTENDED, UT_METADATA, ..] => {
                let head = format!("\x03d8:msg_typei1e5:piecei0e10:total_sizei{}ee", info.len());
                answer = message(EXTENDED, &[head.as_bytes(), &info].concat());
            }
            _ => {}
        }
        heard.push(got);
        if stream.write_all(&answer).await.is_err() {
            break;
        }
    }
    heard
}

#[tokio::test]
async fn a_peer_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let config = SwarmConfig {
        dht: false,
        peers: vec![listener.local_addr().expect("an address")],
        ..SwarmConfig::default()
    };
    let peer: JoinHandle<Vec<Vec<u8>>> = tokio::spawn(peer(listener));
    let (swarm, mut answers) = Swarm::start(config);
    let name: Infohash = InfohashV1::of(&info()).into();
    swarm.handle(ContentWant::Open { name });
    let chunks = (PIECES * PIECE_LEN / 16384) as u16;
    let mut got = Vec::new();
    while got.len() < content().len() {
        let answer = timeout(PATIENCE, answers.recv()).await.expect("in time");
        match answer.expect("an engine") {
            ContentAnswer::Opened { metadata, .. } => {
                assert_eq!(metadata, info());
                // Piece by piece, so that it is heard between them.
                for first in (0..chunks).step_by(2) {
                    swarm.handle(ContentWant::Blocks {
                        name,
                        section: Section::CHUNKS,
                        first: first.into(),
                        count: 2,
                    });
                }
            }
            ContentAnswer::Block { bytes, .. } => got.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(got == content());
    drop(swarm);

    let heard = timeout(PATIENCE, peer)
        .await
        .expect("in time")
        .expect("a peer");
    let count = |id: u8| {
        heard
            .iter()
            .filter(|message| message.first() == Some(&id))
            .count()
    };
    assert_eq!(count(REQUEST), usize::from(chunks));
    for message in &heard {
        match message[..] {
            // That it is alive; that it wants; what it wants, and no longer.
            [] | [INTERESTED] | [REQUEST, ..] | [CANCEL, ..] => {}
            [EXTENDED, 0, ref extensions @ ..] => {
                // No port, no client, no metadata: only how to reach the two extensions.
                assert_eq!(extensions, b"d1:md11:ut_metadatai3e6:ut_pexi1eee");
            }
            [EXTENDED, UT_METADATA, ref request @ ..] => {
                assert_eq!(request, b"d8:msg_typei0e5:piecei0ee");
            }
            _ => panic!("it gave {message:?}"),
        }
    }
}

/// A node that names itself as the closest, and questions whoever asks it. All datagrams that it
/// got.
async fn node(socket: UdpSocket, until: JoinHandle<()>) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    let mut datagram = vec![0; 2048];
    let mut until = std::pin::pin!(until);
    let questions: [&[u8]; 4] = [
        b"d1:ad2:id20:nnnnnnnnnnnnnnnnnnnne1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id20:nnnnnnnnnnnnnnnnnnnn6:target20:nnnnnnnnnnnnnnnnnnnne1:q9:find_node1:t2:bb1:y1:qe",
        b"d1:ad2:id20:nnnnnnnnnnnnnnnnnnnn9:info_hash20:ZZZZZZZZZZZZZZZZZZZZe1:q9:get_peers1:t2:cc1:y1:qe",
        b"d1:ad2:id20:nnnnnnnnnnnnnnnnnnnn6:target20:ZZZZZZZZZZZZZZZZZZZZe1:q3:get1:t2:dd1:y1:qe",
    ];
    loop {
        tokio::select! {
            got = socket.recv_from(&mut datagram) => {
                let (length, from) = got.expect("a datagram");
                let question = datagram[..length].to_vec();
                let at = question.windows(5).position(|part| part == b"1:t4:");
                let transaction = &question[at.expect("a transaction") + 5..][..4];
                let mut answer = b"d1:rd2:id20:nnnnnnnnnnnnnnnnnnnn5:nodes26:".to_vec();
                answer.extend(b"mmmmmmmmmmmmmmmmmmmm");
                answer.extend(compact(socket.local_addr().expect("an address")));
                answer.extend(b"5:token3:tok6:valuesl6:");
                answer.extend(compact(([127, 0, 0, 1], 1).into()));
                answer.extend(b"ee1:t4:");
                answer.extend(transaction);
                answer.extend(b"1:y1:re");
                socket.send_to(&answer, from).await.expect("to answer");
                for question in questions {
                    socket.send_to(question, from).await.expect("to ask");
                }
                heard.push(question);
            }
            _ = &mut until => return heard,
        }
    }
}

fn compact(address: SocketAddr) -> Vec<u8> {
    match address {
        SocketAddr::V4(v4) => [&v4.ip().octets()[..], &v4.port().to_be_bytes()].concat(),
        SocketAddr::V6(_) => panic!("the test has IPv4 addresses"),
    }
}

#[tokio::test]
async fn the_dht_gets_questions_that_are_read_only_and_nothing_else() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let config = SwarmConfig {
        dht_bootstrap: vec![socket.local_addr().expect("an address").to_string()],
        find_timeout: Duration::from_millis(1500),
        allow_private: true,
        ..SwarmConfig::default()
    };
    let (swarm, mut answers) = Swarm::start(config);
    let name = InfohashV1(*b"ZZZZZZZZZZZZZZZZZZZZ").into();
    swarm.handle(ContentWant::Open { name });
    let ends = tokio::spawn(async move {
        let answer = timeout(PATIENCE, answers.recv()).await.expect("in time");
        match answer.expect("an engine") {
            ContentAnswer::Failed { reason, tried, .. } => {
                assert_eq!(reason, DbEndReason::NOT_FOUND);
                let tried = tried.expect("what was tried");
                assert_eq!((tried.dht_nodes, tried.peers), (1, 1));
            }
            other => panic!("{other:?}"),
        }
    });
    let heard = node(socket, ends).await;
    assert!(!heard.is_empty());
    for question in heard {
        let has = |part: &[u8]| question.windows(part.len()).any(|window| window == part);
        assert!(has(b"1:q9:get_peers"), "{}", question.escape_ascii());
        assert!(
            has(b"2:roi1e") && has(b"1:y1:qe"),
            "{}",
            question.escape_ascii()
        );
        assert!(has(b"9:info_hash20:ZZZZZZZZZZZZZZZZZZZZ"));
    }
}

/// Notes the searches that reach a DHT node, each by the ID that it gave itself, and names `peer`.
async fn naming_node(socket: UdpSocket, peer: SocketAddr, searches: Arc<Mutex<BTreeSet<Vec<u8>>>>) {
    let mut datagram = vec![0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut datagram).await.expect("a datagram");
        let question = &datagram[..length];
        let after = |mark: &[u8]| {
            let at = question.windows(mark.len()).position(|part| part == mark);
            &question[at.expect("a question") + mark.len()..]
        };
        let id = after(b"2:id20:")[..20].to_vec();
        searches.lock().expect("no panic").insert(id);
        let mut answer = b"d1:rd2:id20:nnnnnnnnnnnnnnnnnnnn6:valuesl6:".to_vec();
        answer.extend(compact(peer));
        answer.extend(b"ee1:t4:");
        answer.extend(&after(b"1:t4:")[..4]);
        answer.extend(b"1:y1:re");
        socket.send_to(&answer, from).await.expect("to answer");
    }
}

/// A peer that gives the metadata and no content, and then names `another` (BEP 11).
async fn naming_peer(listener: TcpListener, info: Vec<u8>, another: SocketAddr) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut handshake = [0; 68];
    stream
        .read_exact(&mut handshake)
        .await
        .expect("a handshake");
    handshake[48..].fill(b'p');
    stream.write_all(&handshake).await.expect("to answer");
    let length = info.len();
    let extensions =
        format!("\0d1:md11:ut_metadatai{UT_METADATA}e6:ut_pexi5ee13:metadata_sizei{length}ee");
    let mut hello = message(EXTENDED, extensions.as_bytes());
    hello.extend(message(BITFIELD, &[0xff]));
    stream.write_all(&hello).await.expect("to say hello");
    while let Some(got) = next_message(&mut stream).await {
        if !matches!(got[..], [EXTENDED, UT_METADATA, ..]) {
            continue;
        }
        let head = format!("\x03d8:msg_typei1e5:piecei0e10:total_sizei{length}ee");
        let given = message(EXTENDED, &[head.as_bytes(), &info].concat());
        stream.write_all(&given).await.expect("to give metadata");
        // That is read and believed first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let named = [b"\x01d5:added6:", &compact(another)[..], b"e"].concat();
        let told = message(EXTENDED, &named);
        stream.write_all(&told).await.expect("to name another");
    }
}

/// Fetches a torrent of which only the DHT tells. How often the DHT was searched, and whether one
/// was dialled whom only a peer named; what of both is waited for is for a public torrent.
async fn led_by_strangers(info: Vec<u8>) -> (usize, bool) {
    let is_private = info.ends_with(b"7:privatei1ee");
    let dht = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let another = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = |listener: &TcpListener| listener.local_addr().expect("an address");
    let config = SwarmConfig {
        dht_bootstrap: vec![dht.local_addr().expect("an address").to_string()],
        allow_private: true,
        ..SwarmConfig::default()
    };
    let name: Infohash = InfohashV1::of(&info).into();
    let searches = Arc::<Mutex<BTreeSet<Vec<u8>>>>::default();
    let strangers = [
        tokio::spawn(naming_node(dht, at(&listener), searches.clone())),
        tokio::spawn(naming_peer(listener, info, at(&another))),
    ];
    let (swarm, mut answers) = Swarm::start(config);
    swarm.handle(ContentWant::Open { name });
    let answer = timeout(PATIENCE, answers.recv()).await.expect("in time");
    assert!(matches!(answer, Some(ContentAnswer::Opened { .. })));
    // More peers are wanted from now on.
    swarm.handle(ContentWant::Blocks {
        name,
        section: Section::CHUNKS,
        first: 0,
        count: 2,
    });
    let searched = || searches.lock().expect("no panic").len();
    // The next search would be three seconds after the first; twice as long shows that none is.
    let patience = match is_private {
        true => Duration::from_secs(7),
        false => PATIENCE,
    };
    let dialled = timeout(patience, another.accept()).await.is_ok();
    let searched_again = async {
        while searched() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if !is_private {
        let _ = timeout(PATIENCE, searched_again).await;
    }
    strangers.iter().for_each(JoinHandle::abort);
    (searched(), dialled)
}

#[tokio::test]
async fn strangers_lead_to_peers_of_public_torrents_only() {
    let (searched, dialled) = led_by_strangers(info()).await;
    assert!(searched >= 2 && dialled, "{searched} searches, {dialled}");
    let mut private = info();
    private.pop();
    private.extend(b"7:privatei1ee");
    assert_eq!(led_by_strangers(private).await, (1, false));
}
