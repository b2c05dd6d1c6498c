//! A str0m client, a full ICE agent as a browser is one, dials our port over loopback.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::config::Fingerprint;
use str0m::ice::{StunMessage, StunMessageBuilder, TransId};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc};
use tokio::sync::mpsc;

use super::*;
use crate::native::limits::ConnectionLimits;
use crate::native::process::Stopper;
use crate::native::transport::Transport;

/// Long enough for any machine; what is waited for comes in milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

struct Listening {
    at: SocketAddr,
    sha256: [u8; 32],
    stats: Arc<Stats>,
    table: Arc<Mutex<Table>>,
    opened: mpsc::Receiver<Opened>,
    _stopper: Stopper,
}

fn certificate() -> DtlsCertificate {
    let mut generator = chacha20::ChaCha20Rng::from_seed([3; 32]);
    DtlsCertificate::generate(1_800_000_000, &mut generator).unwrap()
}

fn listen() -> Listening {
    let limits = ConnectionLimits {
        in_all: 4096,
        per_address: 4096,
        per_second: 4096,
    };
    let port = Port::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (at, certificate, stats) = (port.local_addr(), certificate(), Arc::<Stats>::default());
    let (send, opened) = mpsc::channel(64);
    let on_open = move |opened| send.try_send(opened).unwrap();
    let server = Server::new(
        port,
        &certificate,
        Gate::new(limits),
        stats.clone(),
        on_open,
    );
    let table = server.table.clone();
    let (stopper, stop) = Stop::pair();
    tokio::spawn(server.run(stop));
    Listening {
        at,
        sha256: certificate.sha256(),
        stats,
        table,
        opened,
        _stopper: stopper,
    }
}

fn read(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits for what other tasks bring about.
async fn until(mut holds: impl FnMut() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it never came to that");
}

struct Client {
    rtc: Rtc,
    id: ChannelId,
    socket: UdpSocket,
    at: SocketAddr,
    own_sha256: [u8; 32],
}

impl Client {
    /// Dials with a certificate of its own; `committed` is what it says of it.
    async fn new(
        server: SocketAddr,
        server_sha256: [u8; 32],
        committed: impl FnOnce([u8; 32]) -> [u8; 32],
    ) -> Client {
        let own = certificate();
        let name = certificate_hash::CertificateHash(committed(own.sha256())).to_name();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let mut rtc = Rtc::builder()
            .set_crypto_provider(Arc::new(crypto::provider()))
            .set_dtls_cert(own.to_dtls())
            .build(Instant::now().into_std());
        rtc.add_local_candidate(Candidate::host(at, "udp").unwrap());
        rtc.add_remote_candidate(Candidate::host(server, "udp").unwrap());
        let mut api = rtc.direct_api();
        api.set_ice_controlling(true);
        api.set_remote_ice_credentials(IceCreds {
            ufrag: name.clone(),
            pass: name,
        });
        api.set_remote_fingerprint(Fingerprint {
            hash_func: "sha-256".to_owned(),
            bytes: server_sha256.to_vec(),
        });
        api.start_dtls(true).unwrap();
        let id = api.create_data_channel(ChannelConfig {
            label: String::new(),
            ordered: true,
            reliability: Reliability::Reliable,
            negotiated: Some(0),
            protocol: String::new(),
        });
        api.start_sctp(true);
        Client {
            rtc,
            id,
            socket,
            at,
            own_sha256: own.sha256(),
        }
    }

    /// The next event; none if time passed or a datagram came.
    async fn step(&mut self) -> Result<Option<Event>, str0m::RtcError> {
        let wanted = loop {
            match self.rtc.poll_output()? {
                Output::Transmit(transmit) => {
                    let contents: Vec<u8> = transmit.contents.into();
                    let to = transmit.destination;
                    self.socket.send_to(&contents, to).await.unwrap();
                }
                Output::Event(event) => return Ok(Some(event)),
                Output::Timeout(at) => break Instant::from_std(at),
            }
        };
        let mut buffer = [0; 2048];
        let came = tokio::time::timeout_at(wanted, self.socket.recv_from(&mut buffer)).await;
        let now = Instant::now().into_std();
        let input = match came {
            Ok(Ok((length, source))) => {
                let datagram = &buffer[..length];
                let receive = Receive::new(Protocol::Udp, source, self.at, datagram).unwrap();
                Input::Receive(now, receive)
            }
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => Input::Timeout(now),
        };
        self.rtc.handle_input(input)?;
        Ok(None)
    }

    async fn open(&mut self) -> Result<(), str0m::RtcError> {
        loop {
            if let Some(Event::ChannelOpen(id, _)) = self.step().await? {
                assert_eq!(id, self.id);
                return Ok(());
            }
        }
    }
}

/// Sends back what comes, until the peer closes.
async fn echo(mut channel: Channel) -> u64 {
    let mut queue = VecDeque::<Bytes>::new();
    let mut echoed = 0;
    poll_fn(move |cx| {
        loop {
            let sent = channel.poll_send(cx, &mut queue);
            let mut arrived = BytesMut::new();
            let came = channel.poll_receive(cx, &mut arrived);
            if !arrived.is_empty() {
                echoed += arrived.len() as u64;
                queue.push_back(arrived.freeze());
            }
            match (sent, came) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Ok(false) | Err(_))) => {
                    return Poll::Ready(echoed);
                }
                (Poll::Ready(Ok(1..)), _) | (_, Poll::Ready(Ok(true))) => {}
                _ => return Poll::Pending,
            }
        }
    })
    .await
}

/// Bytes that tell where they stood.
fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length)
        .map(|at| (at.wrapping_mul(0x9e37_79b1) >> 13) as u8)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_megabytes_each_way_come_whole() {
    const ALL: usize = 20 << 20;
    let mut listening = listen();
    let mut client = Client::new(listening.at, listening.sha256, |own| own).await;
    tokio::time::timeout(PATIENCE, client.open())
        .await
        .unwrap()
        .unwrap();
    let opened = listening.opened.recv().await.unwrap();
    assert_eq!(
        opened.binding,
        Binding::WebRtc {
            own_sha256: listening.sha256,
            peer_sha256: client.own_sha256,
        }
    );
    let echoing = tokio::spawn(echo(opened.channel));
    let (mut sent, mut received) = (0, 0);
    let (mut asked, mut answered) = (Sha256::new(), Sha256::new());
    while received < ALL {
        while sent < ALL {
            let mut channel = client.rtc.channel(client.id).unwrap();
            if channel.buffered_amount() > 48 * 1024 {
                break;
            }
            let message = pattern(sent, (ALL - sent).min(16 * 1024));
            asked.update(&message);
            assert!(channel.write(true, &message).unwrap());
            sent += message.len();
        }
        let step = tokio::time::timeout(PATIENCE, client.step()).await.unwrap();
        if let Some(Event::ChannelData(data)) = step.unwrap() {
            assert!(data.data.len() <= 16 * 1024);
            received += data.data.len();
            answered.update(&data.data);
        }
    }
    assert_eq!(received, ALL);
    assert_eq!(asked.finalize(), answered.finalize());
    client.rtc.close().unwrap();
    loop {
        match client.rtc.poll_output().unwrap() {
            Output::Transmit(transmit) => {
                let contents: Vec<u8> = transmit.contents.into();
                client
                    .socket
                    .send_to(&contents, transmit.destination)
                    .await
                    .unwrap();
            }
            Output::Event(_) => {}
            Output::Timeout(_) => break,
        }
    }
    let echoed = tokio::time::timeout(PATIENCE, echoing)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(echoed, ALL as u64);
    let table = listening.table.clone();
    until(|| lock(&table).len() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_at_once_all_open() {
    let mut listening = listen();
    let mut dials = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (at, sha256) = (listening.at, listening.sha256);
        dials.spawn(async move {
            let mut client = Client::new(at, sha256, |own| own).await;
            client.open().await.unwrap();
            client
        });
    }
    let clients = tokio::time::timeout(PATIENCE, dials.join_all())
        .await
        .unwrap();
    let mut opened = Vec::new();
    for _ in 0..30 {
        opened.push(listening.opened.recv().await.unwrap());
    }
    assert_eq!(clients.len(), 30);
    assert_eq!(lock(&listening.table).len(), 30);
    assert_eq!(read(&listening.stats.webrtc_dials), 30);
    drop(opened);
    assert_eq!(lock(&listening.table).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_certificate_than_committed_never_opens() {
    let mut listening = listen();
    let other = |mut own: [u8; 32]| {
        own[31] ^= 1;
        own
    };
    let mut client = Client::new(listening.at, listening.sha256, other).await;
    let (stats, table) = (listening.stats.clone(), listening.table.clone());
    // The port gives up on it as soon as it has seen the certificate; the client may not hear why.
    tokio::select! {
        opened = client.open() => assert!(opened.is_err(), "it opened"),
        () = until(|| read(&stats.webrtc_dials) == 1 && lock(&table).len() == 0) => {}
    }
    until(|| lock(&table).len() == 0).await;
    assert!(listening.opened.try_recv().is_err());
    assert_eq!(read(&stats.webrtc_links), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_router_than_wanted_never_opens() {
    let mut listening = listen();
    let mut client = Client::new(listening.at, [9; 32], |own| own).await;
    let opened = tokio::time::timeout(PATIENCE, client.open()).await.unwrap();
    assert!(opened.is_err());
    assert!(listening.opened.try_recv().is_err());
}

fn stun(name: Option<[u8; 32]>, password: &str) -> Vec<u8> {
    let name = name.map(|hash| certificate_hash::CertificateHash(hash).to_name());
    let username = name.as_ref().map(|name| format!("{name}:abcd"));
    let message = match &username {
        Some(username) => StunMessage::binding_request(username, TransId::new(), true, 1, 1, true),
        None => StunMessageBuilder::new()
            .binding()
            .request()
            .build(TransId::new()),
    };
    let password = name.as_deref().map(|name| format!("{name}{password}"));
    let mut bytes = vec![0; 1500];
    let length = message
        .to_bytes(
            password.as_ref().map(|password| password.as_bytes()),
            &mut bytes,
            |key, parts| crypto::provider().sha1_hmac_provider.sha1_hmac(key, parts),
        )
        .unwrap();
    bytes.truncate(length);
    bytes
}

/// Sends, then waits until all of it was looked at: what asks for an address is answered in turn.
async fn send_and_wait(socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) {
    for datagram in datagrams {
        socket.send_to(datagram, to).await.unwrap();
    }
    let mut buffer = [0; 2048];
    socket.send_to(&stun(None, ""), to).await.unwrap();
    loop {
        let came = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
        let length = came.unwrap().unwrap();
        // Answers of ICE to a dial that was taken are longer.
        if length == 32 && buffer[..2] == [1, 1] {
            return;
        }
    }
}

#[tokio::test]
async fn a_wrong_integrity_leaves_nothing() {
    let listening = listen();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let good = stun(Some([1; 32]), "");
    let mut wrong: Vec<Vec<u8>> = vec![stun(Some([1; 32]), "x"), vec![], vec![0], vec![22; 1200]];
    wrong.extend((0..good.len()).map(|length| good[..length].to_vec()));
    send_and_wait(&socket, listening.at, &wrong).await;
    assert_eq!(lock(&listening.table).len(), 0);
    assert_eq!(read(&listening.stats.webrtc_dials), 0);
    send_and_wait(&socket, listening.at, &[good]).await;
    assert_eq!(lock(&listening.table).len(), 1);
}

#[tokio::test]
async fn a_flood_is_bounded_for_a_network_and_for_all() {
    let listening = listen();
    let started = Instant::now();
    // One network, however many certificates and ports it names.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for first in 0..20_u8 {
        let named: Vec<_> = (0..50)
            .map(|last| {
                let mut hash = [first; 32];
                hash[1] = last;
                stun(Some(hash), "")
            })
            .collect();
        send_and_wait(&socket, listening.at, &named).await;
    }
    let gained = started.elapsed().as_secs() + 1;
    let most = u64::from(REQUESTS.burst) + gained * u64::from(REQUESTS.per_second);
    let dials = read(&listening.stats.webrtc_dials);
    assert!(
        dials >= u64::from(REQUESTS.burst) && dials <= most,
        "{dials}"
    );
    assert!(read(&listening.stats.webrtc_limited) >= 1000 - most);

    // Many networks: no more connections in the making than there may be.
    for third in 1..=230_u8 {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, third, 1), 0))
            .await
            .unwrap();
        let named: Vec<_> = (0..8)
            .map(|last| {
                let mut hash = [third; 32];
                hash[1] = last;
                hash[2] = 1;
                stun(Some(hash), "")
            })
            .collect();
        send_and_wait(&socket, listening.at, &named).await;
        assert!(lock(&listening.table).len() <= MAX_HALF_OPEN);
    }
    assert!(lock(&listening.table).len() > MAX_HALF_OPEN / 2);
}

#[tokio::test]
async fn who_asks_for_an_address_is_limited_too() {
    let listening = listen();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let [of_network, _] = ANSWERS;
    for _ in 0..1000 {
        socket.send_to(&stun(None, ""), listening.at).await.unwrap();
    }
    let stats = listening.stats.clone();
    until(|| read(&stats.webrtc_limited) > 0).await;
    assert!(read(&stats.stun_answers) >= u64::from(of_network.burst));
    assert_eq!(lock(&listening.table).len(), 0);
}
