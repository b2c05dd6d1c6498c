//! Our framing against itself, against malformed frames, and against tokio-tungstenite.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::{self, Message};

use super::frame::FrameError;
use super::*;
use crate::native::http;
use crate::native::process::Stop;

/// As much as passes all buffers on the way several times.
const BULK: usize = 4 * 1024 * 1024;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn decode_all(end: End, bytes: &[u8], step: usize) -> Result<(Vec<u8>, Vec<Control>), FrameError> {
    let mut decoder = Decoder::new(end);
    let (mut raw, mut into, mut controls) = (BytesMut::new(), BytesMut::new(), Vec::new());
    for part in bytes.chunks(step) {
        raw.extend_from_slice(part);
        while let Some(control) = decoder.decode(&mut raw, &mut into)? {
            controls.push(control);
        }
    }
    Ok((into.to_vec(), controls))
}

fn encode(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = frame::header(opcode, payload.len(), mask).to_vec();
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    frame::apply_mask(&mut bytes[start..], mask.unwrap_or_default());
    bytes
}

#[test]
fn frames_of_all_lengths_in_steps_of_all_lengths() {
    let mask = Some([0x12, 0x34, 0x56, 0x78]);
    for (end, mask) in [(End::Server, mask), (End::Client, None)] {
        for length in [0, 1, 7, 125, 126, 127, 514, 65535, 65536, 70000] {
            let payload = pattern(length);
            let mut bytes = encode(Opcode::Binary, &payload, mask);
            bytes.extend(encode(Opcode::Ping, b"there?", mask));
            bytes.extend(encode(Opcode::Binary, b"end", mask));
            for step in [1, 2, 3, 5, 4096, bytes.len()] {
                let (got, controls) = decode_all(end, &bytes, step).unwrap();
                assert!(got.starts_with(&payload) && got.ends_with(b"end"));
                assert_eq!(got.len(), length + 3);
                assert_eq!(controls, [Control::Ping(Bytes::from_static(b"there?"))]);
            }
        }
    }
}

#[test]
fn masks_are_rfc_6455s() {
    // RFC 6455, 5.7: "Hello", masked. There as text; as a binary frame it is the same bytes.
    let masked = [
        0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(decode_all(End::Server, &masked, 1).unwrap().0, b"Hello");
    assert_eq!(
        encode(Opcode::Binary, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d])),
        masked
    );
}

#[test]
fn what_no_peer_may_send_is_refused() {
    for (bytes, error) in [
        (&[0xc2, 0x80, 0, 0, 0, 0][..], FrameError::ReservedBits),
        (&[0x83, 0x80, 0, 0, 0, 0], FrameError::UnknownOpcode(3)),
        (&[0x81, 0x80, 0, 0, 0, 0], FrameError::Text),
        (&[0x82, 0x00], FrameError::Mask),
        (&[0x80, 0x80, 0, 0, 0, 0], FrameError::Fragments),
        (
            &[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0],
            FrameError::Fragments,
        ),
        (&[0x09, 0x80, 0, 0, 0, 0], FrameError::Control),
        (&[0x89, 0xfe, 0, 126, 0, 0, 0, 0], FrameError::Control),
        (&[0x82, 0xfe, 0, 125, 0, 0, 0, 0], FrameError::Length),
        (
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
            FrameError::Length,
        ),
        (
            &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            FrameError::Length,
        ),
    ] {
        assert_eq!(decode_all(End::Server, bytes, 1), Err(error), "{bytes:x?}");
    }
    let masked = [0x82, 0x80, 0, 0, 0, 0];
    assert_eq!(decode_all(End::Client, &masked, 6), Err(FrameError::Mask));
}

#[test]
fn flipped_bits_never_panic() {
    let mut good = encode(Opcode::Binary, &pattern(300), Some([1, 2, 3, 4]));
    good.extend(encode(
        Opcode::Close,
        &1001_u16.to_be_bytes(),
        Some([1, 2, 3, 4]),
    ));
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = decode_all(End::Server, &bytes, 7);
    }
    for length in 0..good.len() {
        decode_all(End::Server, &good[..length], 7).unwrap();
    }
}

/// An HTTP server that opens one WebSocket and echoes what comes over it.
async fn echo_server() -> (String, tokio::task::JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/link", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await?;
        let (send, receive) = tokio::sync::oneshot::channel();
        let send = std::sync::Mutex::new(Some(send));
        let (_stopper, stop) = Stop::pair();
        http::serve(tcp, stop, |request| {
            let answer = accept(&request).unwrap();
            let send = send.lock().unwrap().take().unwrap();
            tokio::spawn(async move {
                let _ = send.send(http::upgraded(request).await.unwrap());
            });
            std::future::ready(answer)
        })
        .await;
        let mut websocket = receive.await.unwrap();
        let mut arrived = BytesMut::new();
        while poll_fn(|cx| websocket.poll_receive(cx, &mut arrived)).await? {
            let mut queue: VecDeque<Bytes> = [arrived.split().freeze()].into();
            while poll_fn(|cx| websocket.poll_send(cx, &mut queue)).await? > 0 {}
        }
        poll_fn(|cx| websocket.poll_close(cx)).await
    });
    (url, served)
}

/// Sends `bytes` and reads as many, both at once, as an echo needs.
async fn through_echo(websocket: &mut WebSocket, bytes: &[u8]) -> Vec<u8> {
    let mut queue: VecDeque<Bytes> = bytes.chunks(5000).map(Bytes::copy_from_slice).collect();
    let mut arrived = BytesMut::new();
    poll_fn(|cx| {
        let sent = websocket.poll_send(cx, &mut queue);
        if let Poll::Ready(sent) = &sent {
            assert!(sent.is_ok(), "{sent:?}");
        }
        while arrived.len() < bytes.len() {
            // The transport stops at a full buffer; what it gave is set aside here.
            let mut part = BytesMut::new();
            match websocket.poll_receive(cx, &mut part) {
                Poll::Ready(more) => assert!(more.unwrap(), "closed before all came back"),
                Poll::Pending if sent.is_ready() && !queue.is_empty() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
            arrived.extend_from_slice(&part);
        }
        Poll::Ready(())
    })
    .await;
    arrived.to_vec()
}

#[tokio::test]
async fn our_client_and_our_server() {
    let (url, served) = echo_server().await;
    let mut client = connect(&url).await.unwrap();
    let bytes = pattern(BULK);
    assert!(through_echo(&mut client, &bytes).await == bytes);
    poll_fn(|cx| client.poll_close(cx)).await.unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn tungstenite_as_client() {
    let (url, served) = echo_server().await;
    let address = url
        .strip_prefix("ws://")
        .unwrap()
        .strip_suffix("/link")
        .unwrap()
        .to_owned();
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut client, _) = tokio_tungstenite::client_async(&url, tcp).await.unwrap();
    let bytes = pattern(300_000);
    use futures_util::{SinkExt, StreamExt};
    client
        .send(Message::Ping(Bytes::from_static(b"are you there")))
        .await
        .unwrap();
    client
        .send(Message::Binary(Bytes::from(bytes.clone())))
        .await
        .unwrap();
    let (mut echoed, mut pongs) = (Vec::new(), 0);
    while echoed.len() < bytes.len() || pongs == 0 {
        match client.next().await.unwrap().unwrap() {
            Message::Binary(part) => {
                assert!(part.len() <= MAX_MESSAGE_BYTES);
                echoed.extend_from_slice(&part);
            }
            Message::Pong(payload) => {
                assert_eq!(payload, b"are you there"[..]);
                pongs += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(echoed == bytes);
    client.close(None).await.unwrap();
    while let Some(Ok(_)) = client.next().await {}
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn tungstenite_as_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/link", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        use futures_util::{SinkExt, StreamExt};
        let (tcp, _) = listener.accept().await.unwrap();
        let mut server = tokio_tungstenite::accept_async(tcp).await.unwrap();
        server.send(Message::Ping(Bytes::new())).await.unwrap();
        let mut pongs = 0;
        loop {
            match server.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    server.send(Message::Binary(bytes)).await.unwrap();
                }
                Some(Ok(Message::Pong(_))) => pongs += 1,
                Some(Ok(Message::Close(frame))) => {
                    assert_eq!(u16::from(frame.unwrap().code), 1001);
                    return pongs;
                }
                Some(Err(tungstenite::Error::Io(_))) | None => return pongs,
                other => panic!("{other:?}"),
            }
        }
    });
    let mut client = connect(&url).await.unwrap();
    let bytes = pattern(BULK);
    assert!(through_echo(&mut client, &bytes).await == bytes);
    poll_fn(|cx| client.poll_close(cx)).await.unwrap();
    assert_eq!(served.await.unwrap(), 1);
}

#[tokio::test]
async fn a_place_without_a_websocket_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    let error = connect(&url).await.unwrap_err().to_string();
    assert!(error.contains("403 Forbidden"), "{error}");
    assert_eq!(
        connect("wss://[::1]/").await.unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn only_a_websockets_request_is_taken() {
    let request = |headers: &[(&str, &str)]| {
        let mut request = hyper::Request::builder().uri("/link");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        accept::<_, ()>(&request.body(()).unwrap()).map(|answer| {
            answer.headers()[hyper::header::SEC_WEBSOCKET_ACCEPT]
                .to_str()
                .unwrap()
                .to_owned()
        })
    };
    let upgrade = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
    ];
    let version = ("sec-websocket-version", "13");
    // RFC 6455, 1.3.
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let [connection, upgrade] = upgrade;
    assert_eq!(
        request(&[connection, upgrade, version, key]).as_deref(),
        Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(request(&[]), Err(UpgradeError::NotAnUpgrade));
    assert_eq!(
        request(&[upgrade, version, key]),
        Err(UpgradeError::NotAnUpgrade)
    );
    assert_eq!(
        request(&[connection, upgrade, key]),
        Err(UpgradeError::Version)
    );
    assert_eq!(
        request(&[connection, upgrade, version]),
        Err(UpgradeError::Key)
    );
    for key in ["", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZSBpcyBsb25n"] {
        let key = ("sec-websocket-key", key);
        assert_eq!(
            request(&[connection, upgrade, version, key]),
            Err(UpgradeError::Key)
        );
    }
}
