//! One link at a time, over real sockets: what it moves, and when it gives up.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::link::{LinkTask, LinkTimes};
use super::pipe::{Bell, MAX_INBOUND_BYTES, Pipe};
use super::stats::Stats;
use super::tls::{self, Tls};
use super::websocket::WebSocket;
use crate::ids::LinkId;

/// Nothing waits for it that goes well.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than all buffers of two sockets hold.
const BULK: usize = 16 * 1024 * 1024;

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// A link's task on one end of a WebSocket, and the bare socket of the other end.
struct Linked {
    pipe: Arc<Pipe>,
    bell: Arc<Bell>,
    task: tokio::task::JoinHandle<()>,
    peer: TcpStream,
    _alive: mpsc::Receiver<()>,
}

async fn linked(times: LinkTimes) -> Linked {
    let (peer, tcp) = sockets().await;
    let bell = Arc::new(Bell::default());
    let (alive, all_gone) = mpsc::channel(1);
    let pipe = Arc::new(Pipe::new(LinkId(1), bell.clone(), alive));
    let websocket = WebSocket::server(tcp, Bytes::new());
    let stats = Arc::new(Stats::default());
    let task = LinkTask::new(pipe.clone(), websocket, stats, times, true);
    Linked {
        pipe,
        bell,
        task: tokio::spawn(task),
        peer,
        _alive: all_gone,
    }
}

impl Linked {
    /// Waits until the link is over and gives its last word.
    async fn why(self) -> String {
        in_time(self.task).await.unwrap();
        let why = self.pipe.take().closed.expect("a reason");
        // Nothing is counted as waiting for a link that is gone.
        assert_eq!(self.bell.outbound_bytes.load(Ordering::Relaxed), 0);
        why
    }
}

fn short(times: impl FnOnce(&mut LinkTimes)) -> LinkTimes {
    let mut all = LinkTimes::default();
    times(&mut all);
    all
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 509) as u8).collect()
}

/// A binary frame as a client masks it, with a mask of zeros.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, 0xff];
    frame.extend((payload.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn both_versions_of_tls_bind_both_ends() {
    for versions in [&[&TLS12], &[&TLS13]] {
        let (ours, theirs) = (Tls::with_versions(versions), Tls::generate());
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        let (dialled, accepted) = sockets().await;
        let (dialled, accepted) = tokio::join!(
            ours.connect(dialled, PATIENCE),
            theirs.accept(accepted, PATIENCE)
        );
        let (mut dialled, shown) = dialled.unwrap();
        let mut accepted = accepted.unwrap();
        assert_eq!(shown, theirs.certificate_sha256());
        assert_ne!(shown, ours.certificate_sha256());
        let version = dialled.get_ref().1.protocol_version();
        assert_eq!(version, Some(versions[0].version));
        let secret = tls::export(&dialled, &[1; 32]).unwrap();
        assert_eq!(secret, tls::export(&accepted, &[1; 32]).unwrap());
        assert_ne!(secret, tls::export(&accepted, &[2; 32]).unwrap());

        // Bulk both ways at once, through the socket that is read ahead.
        let bytes = pattern(BULK / 8);
        let expected = bytes.clone();
        let (there, back) = (bytes.clone(), bytes);
        let sent = async {
            let (mut read, mut write) = tokio::io::split(&mut dialled);
            let mut got = vec![0; back.len()];
            let (read, written) = tokio::join!(read.read_exact(&mut got), write.write_all(&there));
            read.unwrap();
            written.unwrap();
            got
        };
        let echoed = async {
            let (mut read, mut write) = tokio::io::split(&mut accepted);
            tokio::io::copy(&mut (&mut read).take(expected.len() as u64), &mut write)
                .await
                .unwrap();
            write.flush().await.unwrap();
        };
        let (got, ()) = in_time(async { tokio::join!(sent, echoed) }).await;
        assert!(got == expected);
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_given_up() {
    let tls = Tls::generate().unwrap();
    let (mut dialled, accepted) = sockets().await;
    dialled.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = tls.accept(accepted, PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);

    let (_silent, accepted) = sockets().await;
    let error = tls.accept(accepted, Duration::from_millis(20)).await;
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn what_nobody_takes_is_not_read() {
    let mut link = linked(LinkTimes::default()).await;
    let bytes = pattern(BULK);
    let (_read, mut write) = link.peer.split();
    let sent = async { write.write_all(&masked(&bytes)).await.unwrap() };
    let taken = async {
        let mut got = BytesMut::new();
        while got.len() < bytes.len() {
            link.bell.wait().await;
            while let Some(pipe) = link.bell.answer() {
                let part = pipe.take().inbound;
                // One read more than what made it full.
                assert!(part.len() < 2 * MAX_INBOUND_BYTES, "{}", part.len());
                got.extend_from_slice(&part);
            }
            // Now and then nobody comes for a while: it must not be lost.
            tokio::task::yield_now().await;
        }
        got
    };
    let ((), got) = in_time(async { tokio::join!(sent, taken) }).await;
    assert!(got == bytes);
    link.pipe.close(false);
    assert_eq!(link.why().await, "closed by us");
}

#[tokio::test]
async fn what_is_queued_goes_out_before_the_end() {
    let mut link = linked(LinkTimes::default()).await;
    let bytes = pattern(BULK / 4);
    for part in bytes.chunks(514 * 40) {
        link.pipe.push(Bytes::copy_from_slice(part));
    }
    assert_eq!(link.pipe.outbound_bytes(), bytes.len());
    link.pipe.close(false);
    // What comes after the end is not taken.
    assert_eq!(link.pipe.push(Bytes::from_static(b"late")), 0);
    let mut got = Vec::new();
    in_time(link.peer.read_to_end(&mut got)).await.unwrap();
    // Frames of 16 KiB, then a close frame with code 1001.
    let mut rest = &got[..];
    let mut payload = Vec::new();
    while let [0x82, 126, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        payload.extend_from_slice(&after[..length]);
        rest = &after[length..];
    }
    assert!(payload == bytes, "{} of {}", payload.len(), bytes.len());
    assert_eq!(rest, [0x88, 2, 0x03, 0xe9]);
    assert_eq!(link.why().await, "closed by us");
}

#[tokio::test]
async fn the_node_hears_that_its_queue_is_empty() {
    let mut link = linked(LinkTimes::default()).await;
    let bytes = pattern(100_000);
    link.pipe.push(Bytes::copy_from_slice(&bytes));
    link.pipe.wake();
    let heard = async {
        let mut last = None;
        while last != Some(0) {
            link.bell.wait().await;
            while let Some(pipe) = link.bell.answer() {
                last = pipe.take().buffered.or(last);
            }
        }
    };
    let mut got = vec![0; bytes.len()];
    let read = async { link.peer.read_exact(&mut got).await.unwrap() };
    in_time(async { tokio::join!(heard, read) }).await;
}

#[tokio::test]
async fn who_takes_nothing_is_let_go() {
    let times = short(|times| {
        times.stalled = Duration::from_millis(200);
        times.closing = Duration::from_millis(50);
    });
    let link = linked(times).await;
    link.pipe.push(Bytes::from(vec![1; BULK]));
    link.pipe.wake();
    assert_eq!(link.why().await, "the peer takes no bytes any longer");
}

#[tokio::test]
async fn who_is_silent_is_asked_and_let_go() {
    let times = short(|times| times.silent = Duration::from_millis(100));
    let mut link = linked(times).await;
    // An answer keeps it.
    for _ in 0..3 {
        let mut ping = [0; 2];
        in_time(link.peer.read_exact(&mut ping)).await.unwrap();
        assert_eq!(ping, [0x89, 0]);
        link.peer
            .write_all(&[0x8a, 0x80, 0, 0, 0, 0])
            .await
            .unwrap();
    }
    assert_eq!(link.why().await, "the peer is silent");
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_is_told_why() {
    let mut link = linked(LinkTimes::default()).await;
    link.peer
        .write_all(&[0x81, 0x80, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut answer = Vec::new();
    in_time(link.peer.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [0x88, 2, 0x03, 0xeb]);
    let why = link.why().await;
    assert!(why.contains("text on a WebSocket"), "{why}");
}

#[tokio::test]
async fn a_peer_that_goes_is_noticed() {
    let link = linked(LinkTimes::default()).await;
    let Linked { peer, .. } = link;
    drop(peer);
    in_time(link.task).await.unwrap();
    let closed = link.pipe.take().closed;
    assert_eq!(closed.as_deref(), Some("closed by the peer"));
}
