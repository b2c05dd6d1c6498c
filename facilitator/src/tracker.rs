//! Speaking with trackers: asking one for peers without becoming one of those that it names to
//! others, and telling it of what the operator shares.
//!
//! [`ask`] is all that the swarm engine uses. A tracker tells peers only to a peer, so we say that we begin, with no port (0), take its
//! answer, and say at once that we have stopped: nobody is sent to us, and our address is not on
//! its list while somebody watches through us. Real opentracker answers port 0. A tracker that
//! refuses it is told the discard port, on which nobody listens.
//!
//! librqbit-tracker-comms has no way to say "stopped", keeps its announcing type private and reads
//! an answer of any length; hence this.

use std::net::SocketAddr;
use std::time::Duration;

use librqbit_bencode::{ByteBuf, from_bytes_with_rest};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;
use url::Url;

use crate::address::may_contact;

/// No port, and the discard port for trackers that insist on one.
const PORTS: [u16; 2] = [0, 9];
const TIMEOUT: Duration = Duration::from_secs(15);
/// A UDP question is repeated once after this.
const RESEND_AFTER: Duration = Duration::from_secs(4);
const MAX_ANSWER_LEN: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;
/// Peers asked for and taken of one answer.
const MAX_PEERS: usize = 200;
const MIN_INTERVAL: Duration = Duration::from_secs(60);
const MAX_INTERVAL: Duration = Duration::from_secs(1800);
/// Bytes that we claim to lack: trackers give seeders to those who lack something.
const LEFT: u64 = 1 << 30;

/// What a tracker answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) peers: Vec<SocketAddr>,
    /// When to ask again at the earliest.
    pub(crate) interval: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrackerError {
    #[error("it did not answer in time")]
    Timeout,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("trackers of this kind are not asked")]
    Unsupported,
    #[error("it has no address")]
    NoAddress,
    #[error("it refused")]
    Refused,
    #[error("its answer makes no sense")]
    Nonsense,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Announce {
    Started,
    StillThere,
    Stopped,
}

/// What a tracker is told of a torrent that is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is to be had from now on.
    Started,
    /// It is still to be had.
    StillThere,
    /// It is not to be had any longer.
    Stopped,
}

/// A torrent of which we have all, and give to whoever connects.
pub(crate) struct Seeding(Conversation);

impl Seeding {
    /// To be had at this port of the address from which trackers are told.
    pub(crate) fn new(infohash: [u8; 20], port: u16) -> Self {
        // One tracker's "stopped" has to be of the peer that started; where we listen tells who we
        // are anyway.
        let mut peer_id = infohash;
        for (byte, port) in peer_id.iter_mut().zip(port.to_be_bytes().iter().cycle()) {
            *byte ^= port;
        }
        Self(Conversation {
            infohash,
            peer_id,
            key: u32::from(port),
            port,
            left: 0,
            may_be_private: false,
        })
    }
}

/// One conversation.
struct Conversation {
    infohash: [u8; 20],
    peer_id: [u8; 20],
    key: u32,
    port: u16,
    /// Bytes that we say we lack.
    left: u64,
    /// Whether the tracker may be in a private network.
    may_be_private: bool,
}

/// Asks a tracker once.
pub(crate) async fn ask(url: &Url, infohash: [u8; 20]) -> Result<Answer, TrackerError> {
    let mut refused = TrackerError::Refused;
    for port in PORTS {
        let conversation = Conversation {
            infohash,
            peer_id: rand::random(),
            key: rand::random(),
            port,
            left: LEFT,
            // The operator named it.
            may_be_private: true,
        };
        let asking = async {
            match url.scheme() {
                "udp" => conversation.ask_udp(url).await,
                "http" => conversation.ask_http(url).await,
                _ => Err(TrackerError::Unsupported),
            }
        };
        match timeout(TIMEOUT, asking).await {
            Ok(Err(error @ (TrackerError::Refused | TrackerError::Nonsense))) => refused = error,
            Ok(result) => return result,
            Err(_) => return Err(TrackerError::Timeout),
        }
    }
    Err(refused)
}

/// Tells a tracker of a shared torrent; how long to wait before telling it again.
pub(crate) async fn tell(
    url: &Url,
    seeding: &Seeding,
    told: Told,
    may_be_private: bool,
) -> Result<Duration, TrackerError> {
    let conversation = Conversation {
        may_be_private,
        ..seeding.0
    };
    let announce = match told {
        Told::Started => Announce::Started,
        Told::StillThere => Announce::StillThere,
        Told::Stopped => Announce::Stopped,
    };
    let telling = async {
        match url.scheme() {
            "udp" => {
                let (answer, ..) = conversation.announce_udp(url, announce).await?;
                Ok(answer)
            }
            "http" => {
                let query = conversation.query(url, announce);
                let answer = http::get(url, &query, may_be_private).await?;
                http::announced(&answer)
            }
            _ => Err(TrackerError::Unsupported),
        }
    };
    let answer = timeout(TIMEOUT, telling).await;
    Ok(answer.map_err(|_| TrackerError::Timeout)??.interval)
}

impl Conversation {
    async fn ask_udp(&self, url: &Url) -> Result<Answer, TrackerError> {
        let (answer, socket, connection) = self.announce_udp(url, Announce::Started).await?;
        let stopped = udp::announce(self, connection, rand::random(), Announce::Stopped);
        socket.send(&stopped).await?;
        Ok(answer)
    }

    async fn announce_udp(
        &self,
        url: &Url,
        announce: Announce,
    ) -> Result<(Answer, UdpSocket, u64), TrackerError> {
        let address = resolve(url, None, self.may_be_private).await?;
        let local: SocketAddr = match address {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = UdpSocket::bind(local).await?;
        // From here on nobody else is heard.
        socket.connect(address).await?;

        let transaction: u32 = rand::random();
        let answer = exchange(&socket, &udp::connect(transaction)).await?;
        let connection = udp::connected(&answer, transaction)?;

        let transaction: u32 = rand::random();
        let question = udp::announce(self, connection, transaction, announce);
        let answer = exchange(&socket, &question).await?;
        let answer = udp::announced(&answer, transaction, address.is_ipv4())?;
        Ok((answer, socket, connection))
    }

    async fn ask_http(&self, url: &Url) -> Result<Answer, TrackerError> {
        let answer = http::get(url, &self.query(url, Announce::Started), true).await?;
        let answer = http::announced(&answer)?;
        // Said even if the torrent is let go meanwhile; nobody waits for it.
        let (url, stopped) = (url.clone(), self.query(url, Announce::Stopped));
        tokio::spawn(async move {
            timeout(TIMEOUT, http::get(&url, &stopped, true))
                .await
                .is_ok()
        });
        Ok(answer)
    }

    /// The path and query of an announce.
    fn query(&self, url: &Url, announce: Announce) -> String {
        let mut query = url
            .query()
            .map_or(String::new(), |query| format!("{query}&"));
        let event = match announce {
            Announce::Started => "&event=started",
            Announce::StillThere => "",
            Announce::Stopped => "&event=stopped",
        };
        query += &format!(
            "info_hash={}&peer_id={}&port={}&uploaded=0&downloaded=0&left={}&compact=1\
             &numwant={MAX_PEERS}&key={:08x}{event}",
            percent_encode(&self.infohash),
            percent_encode(&self.peer_id),
            self.port,
            self.left,
            self.key,
        );
        format!("{}?{query}", url.path())
    }
}

async fn resolve(
    url: &Url,
    default_port: Option<u16>,
    may_be_private: bool,
) -> Result<SocketAddr, TrackerError> {
    let host = url.host_str().ok_or(TrackerError::NoAddress)?;
    let host = host.trim_matches(['[', ']']);
    let port = url.port().or(default_port).ok_or(TrackerError::NoAddress)?;
    let addresses = lookup_host((host, port)).await?;
    let mut allowed = addresses.filter(|address| may_contact(*address, may_be_private));
    allowed.next().ok_or(TrackerError::NoAddress)
}

/// Sends a question until there is an answer.
async fn exchange(socket: &UdpSocket, question: &[u8]) -> Result<Vec<u8>, TrackerError> {
    let mut answer = vec![0; MAX_ANSWER_LEN];
    for _ in 0..2 {
        socket.send(question).await?;
        if let Ok(received) = timeout(RESEND_AFTER, socket.recv(&mut answer)).await {
            answer.truncate(received?);
            return Ok(answer);
        }
    }
    Err(TrackerError::Timeout)
}

fn percent_encode(bytes: &[u8; 20]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// Peers as trackers list them: the address, the port.
fn compact_peers<const IP: usize>(bytes: &[u8]) -> impl Iterator<Item = SocketAddr>
where
    std::net::IpAddr: From<[u8; IP]>,
{
    bytes.chunks_exact(IP + 2).filter_map(|peer| {
        let (ip, port) = peer.split_first_chunk::<IP>()?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some((*ip, port).into()).filter(|_| port != 0)
    })
}

fn bounded(interval: u64) -> Duration {
    Duration::from_secs(interval).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// BEP 15.
mod udp {
    use super::{Announce, Answer, Conversation, MAX_PEERS, TrackerError, bounded, compact_peers};

    const CONNECT: u32 = 0;
    const ANNOUNCE: u32 = 1;
    const PROTOCOL: u64 = 0x0417_2710_1980;
    const NONE: u32 = 0;
    const STARTED: u32 = 2;
    const STOPPED: u32 = 3;

    pub(super) fn connect(transaction: u32) -> Vec<u8> {
        let parts: [&[u8]; 3] = [
            &PROTOCOL.to_be_bytes(),
            &CONNECT.to_be_bytes(),
            &transaction.to_be_bytes(),
        ];
        parts.concat()
    }

    pub(super) fn connected(answer: &[u8], transaction: u32) -> Result<u64, TrackerError> {
        let rest = after_header(answer, CONNECT, transaction)?;
        let connection = rest.first_chunk().ok_or(TrackerError::Nonsense)?;
        Ok(u64::from_be_bytes(*connection))
    }

    pub(super) fn announce(
        conversation: &Conversation,
        connection: u64,
        transaction: u32,
        announce: Announce,
    ) -> Vec<u8> {
        let (downloaded, uploaded, ip) = (0u64, 0u64, 0u32);
        let event = match announce {
            Announce::Started => STARTED,
            Announce::StillThere => NONE,
            Announce::Stopped => STOPPED,
        };
        let parts: [&[u8]; 13] = [
            &connection.to_be_bytes(),
            &ANNOUNCE.to_be_bytes(),
            &transaction.to_be_bytes(),
            &conversation.infohash,
            &conversation.peer_id,
            &downloaded.to_be_bytes(),
            &conversation.left.to_be_bytes(),
            &uploaded.to_be_bytes(),
            &event.to_be_bytes(),
            &ip.to_be_bytes(),
            &conversation.key.to_be_bytes(),
            &(MAX_PEERS as u32).to_be_bytes(),
            &conversation.port.to_be_bytes(),
        ];
        parts.concat()
    }

    pub(super) fn announced(
        answer: &[u8],
        transaction: u32,
        is_v4: bool,
    ) -> Result<Answer, TrackerError> {
        let rest = after_header(answer, ANNOUNCE, transaction)?;
        // Then how many leech and how many seed.
        let (interval, rest) = rest.split_first_chunk().ok_or(TrackerError::Nonsense)?;
        let (_, peers) = rest.split_at_checked(8).ok_or(TrackerError::Nonsense)?;
        let interval = bounded(u32::from_be_bytes(*interval).into());
        let peers = match is_v4 {
            true => compact_peers::<4>(peers).take(MAX_PEERS).collect(),
            false => compact_peers::<16>(peers).take(MAX_PEERS).collect(),
        };
        Ok(Answer { peers, interval })
    }

    fn after_header(answer: &[u8], action: u32, transaction: u32) -> Result<&[u8], TrackerError> {
        let (got_action, rest) = answer.split_first_chunk().ok_or(TrackerError::Nonsense)?;
        let (got, rest) = rest.split_first_chunk().ok_or(TrackerError::Nonsense)?;
        match u32::from_be_bytes(*got) == transaction {
            true if u32::from_be_bytes(*got_action) == action => Ok(rest),
            true => Err(TrackerError::Refused),
            false => Err(TrackerError::Nonsense),
        }
    }
}

/// BEP 3, 7 and 23.
mod http {
    use super::*;

    /// The body of what is at this path. HTTP/1.0, so that it comes in one piece and ends with the
    /// connection.
    pub(super) async fn get(
        url: &Url,
        path: &str,
        may_be_private: bool,
    ) -> Result<Vec<u8>, TrackerError> {
        let address = resolve(url, url.port_or_known_default(), may_be_private).await?;
        let host = url.host_str().ok_or(TrackerError::NoAddress)?;
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}{port}\r\n\r\n");
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut bounded = stream.take(MAX_ANSWER_LEN as u64);
        bounded.read_to_end(&mut answer).await?;

        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&answer) {
            Ok(httparse::Status::Complete(length)) if response.code == Some(200) => {
                Ok(answer.split_off(length))
            }
            Ok(httparse::Status::Complete(_)) => Err(TrackerError::Refused),
            _ => Err(TrackerError::Nonsense),
        }
    }

    #[derive(Deserialize)]
    struct Announced<'a> {
        #[serde(borrow, rename = "failure reason")]
        failure: Option<ByteBuf<'a>>,
        interval: Option<u64>,
        #[serde(borrow)]
        peers: Option<Peers<'a>>,
        #[serde(borrow)]
        peers6: Option<ByteBuf<'a>>,
    }

    /// Short, or as a list of dictionaries.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Peers<'a> {
        #[serde(borrow)]
        Short(ByteBuf<'a>),
        #[serde(borrow)]
        Long(Vec<Peer<'a>>),
    }

    #[derive(Deserialize)]
    struct Peer<'a> {
        #[serde(borrow)]
        ip: ByteBuf<'a>,
        port: u16,
    }

    pub(super) fn announced(body: &[u8]) -> Result<Answer, TrackerError> {
        // Some send a line break after it.
        let (announced, _) =
            from_bytes_with_rest::<Announced<'_>>(body).map_err(|_| TrackerError::Nonsense)?;
        if announced.failure.is_some() {
            return Err(TrackerError::Refused);
        }
        let mut peers: Vec<SocketAddr> = match announced.peers {
            Some(Peers::Short(peers)) => compact_peers::<4>(peers.0).collect(),
            Some(Peers::Long(peers)) => peers.iter().filter_map(Peer::address).collect(),
            None => Vec::new(),
        };
        peers.extend(
            announced
                .peers6
                .iter()
                .flat_map(|p| compact_peers::<16>(p.0)),
        );
        peers.truncate(MAX_PEERS);
        Ok(Answer {
            peers,
            interval: bounded(announced.interval.unwrap_or(0)),
        })
    }

    impl Peer<'_> {
        fn address(&self) -> Option<SocketAddr> {
            let ip: std::net::IpAddr = std::str::from_utf8(self.ip.0).ok()?.parse().ok()?;
            Some((ip, self.port).into()).filter(|_| self.port != 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{TrackerError, http, udp};

    #[test]
    fn http_answers() {
        let short = b"d8:intervali1800e5:peers12:\x01\x02\x03\x04\x1a\xe1\x05\x06\x07\x08\x00\x00\
            6:peers618:\x2a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x05e";
        let answer = http::announced(short).expect("an answer");
        assert_eq!(answer.interval, Duration::from_secs(1800));
        let expected: [std::net::SocketAddr; 2] = [
            "1.2.3.4:6881".parse().expect("an address"),
            "[2a00::1]:5".parse().expect("an address"),
        ];
        assert_eq!(answer.peers, expected);

        let long = b"d8:intervali5e5:peersld2:ip7:1.2.3.44:porti6881eed2:ip1:x4:porti1eeee\r\n";
        let answer = http::announced(long).expect("an answer");
        assert_eq!(answer.peers, expected[..1]);
        assert_eq!(answer.interval, Duration::from_secs(60));

        let refusal = http::announced(b"d14:failure reason4:nopee");
        assert!(matches!(refusal, Err(TrackerError::Refused)));
        for length in 0..short.len() {
            assert!(http::announced(&short[..length]).is_err());
        }
    }

    #[test]
    fn udp_answers() {
        let answer = [
            0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 100, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 0,
        ];
        let mut answer = answer.to_vec();
        answer.push(7);
        let announced = udp::announced(&answer, 9, true).expect("an answer");
        assert_eq!(announced.peers, ["1.2.3.4:7".parse().expect("an address")]);
        assert_eq!(announced.interval, Duration::from_secs(100));
        for length in 0..20 {
            assert!(udp::announced(&answer[..length], 9, true).is_err());
        }
        assert!(udp::announced(&answer, 8, true).is_err());
        answer[3] = 3;
        let refusal = udp::announced(&answer, 9, true);
        assert!(matches!(refusal, Err(TrackerError::Refused)));
    }
}
