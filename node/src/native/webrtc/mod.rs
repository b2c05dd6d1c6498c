//! WebRTC that is dialled by address and certificate hash: one UDP port for all peers.
//!
//! A browser dials as PROTOCOL.md, "Transports", says. Its first STUN request says all that is
//! needed to answer it; until that has been checked, nothing is kept of who sent it but a count of
//! its network. Then each peer has a task, which runs its ICE, DTLS and SCTP (str0m, which does no
//! I/O) and is its link; the port's task only says whose datagram is whose.

mod bare;
mod certificate;
mod certificate_hash;
mod channel;
mod crypto;
mod flood;
mod inbox;
mod outbox;
mod segments;
mod stun;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use str0m::config::{CryptoProvider, DtlsCert};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::driver::Driver;
use super::failure::Failure;
use super::limits::{Gate, Places};
use super::listen;
use super::process::Stop;
use super::stats::Stats;
use crate::link::Binding;
use crate::sensitive::Sensitive;

pub use bare::BareChannel;
pub use certificate::{DtlsCertificate, NoCertificate};

use channel::{Channel, Parts};
use flood::{Flood, Rate};
use inbox::{DialKey, Registration, Table, lock};
use stun::{Dial, Request};

/// Peers whose channel is not open yet. Strangers fill it; when it is full, who dials asks again,
/// as browsers do, until one of them is open or has taken [`OPEN_TIMEOUT`].
const MAX_HALF_OPEN: usize = 512;

/// How long DTLS, SCTP and the channel may take together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of one network that are looked at. A browser sends one each 50 ms and address until it
/// is answered, and only then are they counted.
const REQUESTS: Rate = Rate {
    per_second: 16,
    burst: 64,
};

/// Dials, after their requests were found to be in order, of all networks.
const DIALS: Rate = Rate {
    per_second: 256,
    burst: 512,
};

/// Answers to those who ask for their own address, of one network and of all.
const ANSWERS: [Rate; 2] = [
    Rate {
        per_second: 4,
        burst: 32,
    },
    Rate {
        per_second: 512,
        burst: 1024,
    },
];

/// What the system keeps of the port's datagrams while its task has no turn, if it allows so much.
const SOCKET_BYTES: usize = 4 << 20;

/// Datagrams in one turn before other tasks of the worker have theirs.
const DATAGRAMS_A_TURN: usize = 64;

const OR_PORT: &str = "OR port";

/// How often the system chooses a port's number before it is given up to find one that is free
/// for both.
const CHOICES: usize = 16;

/// No datagram of a browser is longer than its network's MTU; what is longer comes cut, and is
/// then nothing.
const MAX_DATAGRAM: usize = 2048;

/// A UDP port for WebRTC, bound and not yet served.
#[derive(Debug)]
pub struct Port {
    socket: UdpSocket,
    at: SocketAddr,
}

impl Port {
    /// Binds `address`.
    pub fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bound = || -> io::Result<Port> {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
            if address.is_ipv6() {
                // IPv4 is asked for by its own address, whatever the system's setting is.
                socket.set_only_v6(true)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            let socket = UdpSocket::from_std(socket.into())?;
            let at = socket.local_addr()?;
            let buffers = SockRef::from(&socket);
            for set in [
                buffers.set_recv_buffer_size(SOCKET_BYTES),
                buffers.set_send_buffer_size(SOCKET_BYTES),
            ] {
                if let Err(error) = set {
                    debug!(%error, "the system gives the WebRTC port its usual buffers");
                }
            }
            Ok(Port { socket, at })
        };
        bound().map_err(|error| {
            Failure::new(match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "cannot bind UDP {address} for WebRTC: another program has that port (WebRTC \
                     takes the OR port's number; --webrtc=false does without)"
                ),
                _ => format!("cannot bind UDP {address} for WebRTC: {error}"),
            })
        })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.at
    }
}

/// Listens on all of `addresses` for Tor's links and, if `webrtc`, on UDP ports of the same numbers
/// for WebRTC.
pub fn bind_or_ports(
    addresses: &[SocketAddr],
    webrtc: bool,
) -> Result<(Vec<TcpListener>, Vec<Port>), Failure> {
    if !webrtc {
        return Ok((listen::bind_all(addresses, OR_PORT)?, Vec::new()));
    }
    let mut bound = (Vec::new(), Vec::new());
    for address in addresses {
        // Where the system chooses the number, it chooses for TCP alone.
        let mut tries = if address.port() == 0 { CHOICES } else { 1 };
        let (or, webrtc) = loop {
            let listener = listen::bind(*address, OR_PORT)?;
            let chosen = listen::addresses(std::slice::from_ref(&listener))?;
            let port = Port::bind(chosen.first().copied().unwrap_or(*address));
            tries -= 1;
            match port {
                Err(_) if tries > 0 => {}
                port => break (listener, port?),
            }
        };
        bound.0.push(or);
        bound.1.push(webrtc);
    }
    Ok(bound)
}

impl Driver {
    /// Serves WebRTC on `port` until `stop`, within what `gate` admits.
    pub async fn serve_webrtc(
        self,
        port: Port,
        certificate: DtlsCertificate,
        gate: Gate,
        stop: Stop,
    ) {
        let stats = self.shared_stats();
        let on_open = move |opened: Opened| {
            let driver = self.clone();
            tokio::spawn(async move { driver.serve_webrtc_channel(opened).await });
        };
        Server::new(port, &certificate, gate, stats, on_open)
            .run(stop)
            .await;
    }
}

/// A peer's channel that is open.
pub(super) struct Opened {
    pub(super) channel: Channel,
    pub(super) binding: Binding,
    pub(super) peer: IpAddr,
    /// Held until the link ends.
    pub(super) places: Places,
}

/// The port's task.
struct Server {
    on_open: Arc<dyn Fn(Opened) + Send + Sync>,
    stats: Arc<Stats>,
    socket: Arc<UdpSocket>,
    cuts: bool,
    /// Where ICE is told that datagrams come to.
    at: SocketAddr,
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    own_sha256: [u8; 32],
    gate: Gate,
    table: Arc<Mutex<Table>>,
    half_open: Arc<Semaphore>,
    dials: Flood,
    answers: Flood,
}

impl Server {
    fn new(
        port: Port,
        certificate: &DtlsCertificate,
        gate: Gate,
        stats: Arc<Stats>,
        on_open: impl Fn(Opened) + Send + Sync + 'static,
    ) -> Self {
        let now = Instant::now();
        // ICE wants an address, and who dials an ICE-lite agent is not told it.
        let ip = match port.at.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() || ip.is_link_local() => {
                Ipv4Addr::LOCALHOST.into()
            }
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let [of_network, of_all] = ANSWERS;
        Server {
            on_open: Arc::new(on_open),
            stats,
            cuts: segments::are_cut(&port.socket),
            socket: Arc::new(port.socket),
            at: SocketAddr::new(ip, port.at.port()),
            crypto: Arc::new(crypto::provider()),
            certificate: certificate.to_dtls(),
            own_sha256: certificate.sha256(),
            gate,
            table: Arc::default(),
            half_open: Arc::new(Semaphore::new(MAX_HALF_OPEN)),
            dials: Flood::new(REQUESTS, DIALS, now),
            answers: Flood::new(of_network, of_all, now),
        }
    }

    async fn run(mut self, mut stop: Stop) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            tokio::select! {
                () = self.receive(&mut buffer) => {}
                () = stop.wait() => return,
            }
            // The links' tasks on this worker have what came in.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for datagrams and takes what is there.
    async fn receive(&mut self, buffer: &mut [u8]) {
        if let Err(error) = self.socket.readable().await {
            warn!(%error, "the WebRTC port");
        }
        for _ in 0..DATAGRAMS_A_TURN {
            match self.socket.try_recv_from(buffer) {
                Ok((length, source)) => {
                    if let Some(datagram) = buffer.get(..length) {
                        self.handle(source, datagram);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of something that was sent; the peer's task notices by itself.
                Err(_) => {}
            }
        }
    }

    fn handle(&mut self, source: SocketAddr, datagram: &[u8]) {
        // RFC 7983: what it is stands in the first byte. There is no media here.
        match datagram.first() {
            Some(0..=3) => match stun::parse(datagram) {
                Some(Request::Dial(dial)) => self.handle_dial(source, dial, datagram),
                Some(Request::Plain { transaction }) => self.answer(source, transaction),
                None => {}
            },
            Some(20..=63) => {
                if let Some(inbox) = lock(&self.table).at(&source)
                    && !inbox.push(source, datagram)
                {
                    count(&self.stats.webrtc_dropped_datagrams);
                }
            }
            _ => {}
        }
    }

    /// Who asks where it comes from is told; nothing is kept.
    fn answer(&mut self, source: SocketAddr, transaction: [u8; 12]) {
        let now = Instant::now();
        if !self.answers.admit(source.ip(), now) || !self.answers.admit_among_all(now) {
            return count(&self.stats.webrtc_limited);
        }
        let answer = stun::mapped_address(transaction, source);
        // If there is no room, it asks again.
        if self.socket.try_send_to(&answer, source).is_ok() {
            count(&self.stats.stun_answers);
        }
    }

    fn handle_dial(&mut self, source: SocketAddr, dial: Dial<'_>, datagram: &[u8]) {
        let key = DialKey {
            certificate: dial.certificate,
            remote: dial.remote.to_owned(),
        };
        if let Some(inbox) = lock(&self.table).at(&source)
            && inbox.key == key
        {
            // str0m checks its integrity.
            inbox.push(source, datagram);
            return;
        }
        let now = Instant::now();
        if !self.dials.admit(source.ip(), now) {
            return count(&self.stats.webrtc_limited);
        }
        if !dial.is_genuine() {
            return;
        }
        let mut table = lock(&self.table);
        if let Some(inbox) = table.of(&key).cloned() {
            if table.add_address(&key, source) {
                inbox.push(source, datagram);
            }
            return;
        }
        drop(table);
        if !self.dials.admit_among_all(now) {
            return count(&self.stats.webrtc_limited);
        }
        let Ok(half_open) = self.half_open.clone().try_acquire_owned() else {
            return count(&self.stats.webrtc_limited);
        };
        let places = match self.gate.admit_from(source.ip()) {
            Ok(places) => places,
            Err(refusal) => {
                debug!(peer = %Sensitive(source.ip()), %refusal, "refused");
                return count(&self.stats.refused_connections);
            }
        };
        let registration = Registration::new(&self.table, key, source);
        registration.inbox.push(source, datagram);
        count(&self.stats.webrtc_dials);
        let parts = Parts {
            socket: self.socket.clone(),
            cuts: self.cuts,
            at: self.at,
            crypto: self.crypto.clone(),
            certificate: self.certificate.clone(),
            registration,
        };
        let binding = Binding::WebRtc {
            own_sha256: self.own_sha256,
            peer_sha256: dial.certificate.0,
        };
        let (on_open, stats) = (self.on_open.clone(), self.stats.clone());
        tokio::spawn(async move {
            match opened(parts).await {
                Ok(channel) => {
                    drop(half_open);
                    count(&stats.webrtc_links);
                    on_open(Opened {
                        channel,
                        binding,
                        peer: source.ip(),
                        places,
                    });
                }
                Err(error) => debug!(peer = %Sensitive(source), %error, "no WebRTC link"),
            }
        });
    }
}

/// A channel on which cells can be sent.
async fn opened(parts: Parts) -> io::Result<Channel> {
    let mut channel = Channel::new(parts, Instant::now())?;
    tokio::time::timeout(OPEN_TIMEOUT, channel.open())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no data channel in time"))??;
    Ok(channel)
}

fn count(counter: &std::sync::atomic::AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
