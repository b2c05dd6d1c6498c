//! One peer's connection: ICE, DTLS, SCTP and the one data channel, as a link's transport.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion, Fingerprint};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc, RtcError};
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep};

use super::inbox::Registration;
use super::outbox::Outbox;
use crate::native::pipe::MAX_INBOUND_BYTES;
use crate::native::transport::Transport;

/// Many cells go in one message of this size: what every browser takes, and what measured best.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// What SCTP holds and the peer has not acknowledged, at least. It is sent in one burst when an
/// acknowledgement comes, and a browser's socket loses what is more: with 1 MiB nothing gets
/// through any longer.
const MIN_UNACKNOWLEDGED: usize = 48 * 1024;

/// The same at most, on a long way: what is under way there is spread over it.
const MAX_UNACKNOWLEDGED: usize = 256 * 1024;

/// From this round trip on there may be more than [`MIN_UNACKNOWLEDGED`] under way.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(20);

/// For how long the shortest round trip counts.
const ROUND_TRIP_WINDOW: Duration = Duration::from_secs(10);

/// The stream that both sides have agreed on without a word.
const STREAM: u16 = 0;

/// What a connection is made of.
pub(super) struct Parts {
    pub(super) socket: Arc<UdpSocket>,
    /// Whether many datagrams are given to the system at once, which cuts them apart.
    pub(super) cuts: bool,
    pub(super) at: SocketAddr,
    pub(super) crypto: Arc<CryptoProvider>,
    pub(super) certificate: DtlsCert,
    pub(super) registration: Registration,
}

/// A data channel, once [`Channel::open`] is done.
pub(in crate::native) struct Channel {
    rtc: Rtc,
    id: ChannelId,
    outbox: Outbox,
    /// Where the peer's datagrams come to, as ICE is told: the socket may listen everywhere.
    at: SocketAddr,
    registration: Registration,
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    timer: Pin<Box<Sleep>>,
    received: BytesMut,
    is_open: bool,
    ended: Option<Ended>,
    heard: bool,
    pace: Pace,
}

#[derive(Clone, Debug)]
enum Ended {
    ByPeer,
    Failed(String),
}

fn other(error: RtcError) -> io::Error {
    io::Error::other(error.to_string())
}

impl Channel {
    /// Begins as who was dialled: ICE-lite, passive in DTLS.
    pub(super) fn new(parts: Parts, now: Instant) -> io::Result<Self> {
        let Parts {
            socket,
            cuts,
            at,
            crypto,
            certificate,
            registration,
        } = parts;
        let key = registration.inbox.key.clone();
        let name = key.certificate.to_name();
        let mut rtc = Rtc::builder()
            .set_crypto_provider(crypto)
            .set_dtls_cert(certificate)
            .set_dtls_version(DtlsVersion::Auto)
            .set_ice_lite(true)
            .set_local_ice_credentials(IceCreds {
                ufrag: name.clone(),
                pass: name,
            })
            .set_sctp_max_buffered_amount(MAX_UNACKNOWLEDGED + MAX_MESSAGE_BYTES)
            .clear_codecs()
            .build(now.into_std());
        let candidate = Candidate::host(at, "udp").map_err(io::Error::other)?;
        rtc.add_local_candidate(candidate);
        let mut api = rtc.direct_api();
        // Its password is for requests of ours, and an ICE-lite agent makes none.
        api.set_remote_ice_credentials(IceCreds {
            ufrag: key.remote,
            pass: "of no use, and long enough".to_owned(),
        });
        api.set_remote_fingerprint(Fingerprint {
            hash_func: "sha-256".to_owned(),
            bytes: key.certificate.0.to_vec(),
        });
        api.start_dtls(false).map_err(other)?;
        let id = api.create_data_channel(ChannelConfig {
            label: String::new(),
            ordered: true,
            reliability: Reliability::Reliable,
            negotiated: Some(STREAM),
            protocol: String::new(),
        });
        api.start_sctp(false);
        Ok(Channel {
            rtc,
            id,
            outbox: Outbox::new(socket, cuts),
            at,
            registration,
            datagrams: VecDeque::new(),
            timer: Box::pin(tokio::time::sleep_until(now)),
            received: BytesMut::new(),
            is_open: false,
            ended: None,
            heard: false,
            pace: Pace::new(now),
        })
    }

    /// Waits until cells can be sent.
    pub(super) async fn open(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            self.drive(cx);
            match &self.ended {
                None if self.is_open => Poll::Ready(Ok(())),
                None => Poll::Pending,
                Some(Ended::ByPeer) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Some(Ended::Failed(why)) => Poll::Ready(Err(io::Error::other(why.clone()))),
            }
        })
        .await
    }

    fn fail(&mut self, why: impl ToString) {
        self.ended.get_or_insert(Ended::Failed(why.to_string()));
    }

    /// Moves everything on as far as it goes. Afterwards `cx` is woken by a datagram, by the
    /// moment that str0m waits for, or by room in the socket; not if what was received waits to be
    /// taken, which the caller knows.
    fn drive(&mut self, cx: &mut Context<'_>) {
        while self.ended.is_none() {
            if self.outbox.poll_full(cx).is_pending() {
                return;
            }
            let wanted = match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    self.outbox
                        .push(transmit.destination, transmit.contents.into());
                    continue;
                }
                Ok(Output::Event(event)) => {
                    self.handle_event(event);
                    continue;
                }
                Ok(Output::Timeout(at)) => Instant::from_std(at),
                Err(error) => {
                    self.fail(error);
                    break;
                }
            };
            if self.outbox.poll_all(cx).is_pending() {
                return;
            }
            if !self.rtc.is_alive() {
                self.ended.get_or_insert(Ended::ByPeer);
                return;
            }
            if self.received.len() >= MAX_INBOUND_BYTES {
                // The peer's datagrams wait, acknowledgements among them, until this is taken. The
                // node takes whatever comes, so both sides never wait for each other.
                return;
            }
            let now = Instant::now();
            let input = if self.datagrams.is_empty() {
                self.datagrams = self.registration.inbox.take(cx);
                match self.datagrams.is_empty() {
                    false => continue,
                    true if wanted > now => {
                        if self.timer.deadline() != wanted {
                            self.timer.as_mut().reset(wanted);
                        }
                        match self.timer.as_mut().poll(cx) {
                            Poll::Pending => return,
                            Poll::Ready(()) => Input::Timeout(Instant::now().into_std()),
                        }
                    }
                    true => Input::Timeout(now.into_std()),
                }
            } else {
                let Some((source, datagram)) = self.datagrams.pop_front() else {
                    continue;
                };
                self.heard = true;
                let parsed = Receive::new(Protocol::Udp, source, self.at, &datagram);
                let Ok(receive) = parsed else {
                    // Noise, which anybody can send.
                    continue;
                };
                let handled = self
                    .rtc
                    .handle_input(Input::Receive(now.into_std(), receive));
                if let Err(error) = handled {
                    return self.fail(error);
                }
                continue;
            };
            if let Err(error) = self.rtc.handle_input(input) {
                return self.fail(error);
            }
        }
        // What tells the peer of the end goes out now or never.
        let _ = self.outbox.poll_all(cx);
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::ChannelOpen(id, _) if id == self.id => self.is_open = true,
            Event::ChannelData(data) if data.id == self.id && data.binary => {
                self.received.extend_from_slice(&data.data);
            }
            Event::ChannelData(_) | Event::ChannelOpen(..) => {
                self.fail("the peer uses another channel than the one agreed on");
            }
            Event::ChannelClose(_) | Event::Closed => {
                self.ended.get_or_insert(Ended::ByPeer);
            }
            _ => {}
        }
    }

    fn unacknowledged(&mut self) -> usize {
        self.rtc
            .channel(self.id)
            .map_or(0, |mut channel| channel.buffered_amount())
    }

    fn ended(&self) -> io::Result<()> {
        match &self.ended {
            None => Ok(()),
            Some(Ended::ByPeer) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Ended::Failed(why)) => Err(io::Error::other(why.clone())),
        }
    }
}

impl Transport for Channel {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        arrived: &mut BytesMut,
    ) -> Poll<io::Result<bool>> {
        self.drive(cx);
        if !self.received.is_empty() {
            if arrived.is_empty() {
                std::mem::swap(arrived, &mut self.received);
            } else {
                arrived.extend_from_slice(&self.received);
            }
            // An idle link holds no buffer.
            self.received = BytesMut::new();
            return Poll::Ready(Ok(true));
        }
        match &self.ended {
            None => Poll::Pending,
            Some(Ended::ByPeer) => Poll::Ready(Ok(false)),
            Some(Ended::Failed(_)) => Poll::Ready(self.ended().map(|()| false)),
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        self.drive(cx);
        self.ended()?;
        let mut sent = 0;
        loop {
            let waiting = queue.iter().map(Bytes::len).sum::<usize>();
            let wanted = waiting.min(MAX_MESSAGE_BYTES);
            let held = self.unacknowledged();
            let now = Instant::now();
            self.pace.handle_held(now, held);
            if wanted == 0 {
                break;
            }
            if held > 0 && held.saturating_add(wanted) > self.pace.limit() {
                break;
            }
            let message = message(queue, wanted);
            let Some(mut channel) = self.rtc.channel(self.id) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            match channel.write(true, &message) {
                Ok(true) => {}
                // Its limit is above ours.
                Ok(false) => return Poll::Ready(Err(io::Error::other("SCTP takes no message"))),
                Err(error) => return Poll::Ready(Err(other(error))),
            }
            self.pace.handle_written(now, wanted);
            sent += wanted;
            self.drive(cx);
            self.ended()?;
        }
        if sent > 0 {
            return Poll::Ready(Ok(sent));
        }
        if self.unacknowledged() > 0 || !self.outbox.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(0))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended.is_none() {
            if let Err(error) = self.rtc.close() {
                self.fail(error);
            }
            // What says goodbye goes out now or never.
            self.drive(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn heard(&mut self) -> bool {
        // A browser asks every few seconds whether we still agree (RFC 7675).
        std::mem::take(&mut self.heard)
    }

    fn export(&self, _context: &[u8]) -> io::Result<[u8; 32]> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Takes the first `length` bytes off `queue`, without a copy if they are one piece.
fn message(queue: &mut VecDeque<Bytes>, length: usize) -> Bytes {
    if let Some(first) = queue.front_mut()
        && first.len() > length
    {
        return first.split_to(length);
    }
    if queue.front().is_some_and(|first| first.len() == length) {
        return queue.pop_front().unwrap_or_default();
    }
    let mut message = BytesMut::with_capacity(length);
    while let Some(first) = queue.front_mut() {
        let taken = first.len().min(length - message.len());
        message.extend_from_slice(first.get(..taken).unwrap_or_default());
        if taken < first.len() {
            first.advance(taken);
            break;
        }
        queue.pop_front();
    }
    message.freeze()
}

/// How much may be unacknowledged, by the round trip.
#[derive(Debug)]
struct Pace {
    written: u64,
    acknowledged: u64,
    /// The end of the bytes whose round trip is measured, and when they were written.
    measured: Option<(u64, Instant)>,
    /// The shortest of this window and of the one before.
    shortest: [Option<Duration>; 2],
    window_ends: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Pace {
            written: 0,
            acknowledged: 0,
            measured: None,
            shortest: [None; 2],
            window_ends: now + ROUND_TRIP_WINDOW,
        }
    }

    fn handle_written(&mut self, now: Instant, bytes: usize) {
        self.written += bytes as u64;
        self.measured.get_or_insert((self.written, now));
    }

    fn handle_held(&mut self, now: Instant, held: usize) {
        self.acknowledged = self.written.saturating_sub(held as u64);
        if now >= self.window_ends {
            self.window_ends = now + ROUND_TRIP_WINDOW;
            let [this, _] = self.shortest;
            self.shortest = [None, this];
        }
        let Some((end, at)) = self.measured else {
            return;
        };
        if self.acknowledged >= end {
            let took = now.saturating_duration_since(at);
            let [this, _] = &mut self.shortest;
            *this = Some(this.map_or(took, |shortest| shortest.min(took)));
            self.measured = None;
        }
    }

    fn limit(&self) -> usize {
        let shortest = self.shortest.iter().flatten().min();
        let Some(shortest) = shortest else {
            return MIN_UNACKNOWLEDGED;
        };
        let times = shortest.as_secs_f64() / LONG_ROUND_TRIP.as_secs_f64();
        ((MIN_UNACKNOWLEDGED as f64 * times) as usize).clamp(MIN_UNACKNOWLEDGED, MAX_UNACKNOWLEDGED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_and_joined() {
        let mut queue: VecDeque<Bytes> =
            [&b"abc"[..], b"d", b"efgh"].map(Bytes::from_static).into();
        assert_eq!(message(&mut queue, 2), "ab");
        assert_eq!(message(&mut queue, 1), "c");
        assert_eq!(message(&mut queue, 3), "def");
        assert_eq!(queue, ["gh"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_way_has_more_under_way() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.limit(), MIN_UNACKNOWLEDGED);
        pace.handle_written(start, 1000);
        pace.handle_held(start + Duration::from_millis(40), 1000);
        assert_eq!(pace.limit(), MIN_UNACKNOWLEDGED);
        pace.handle_held(start + Duration::from_millis(60), 0);
        assert_eq!(pace.limit(), 3 * MIN_UNACKNOWLEDGED);
        // A short one counts at once, and as long as two windows.
        let later = start + Duration::from_secs(11);
        pace.handle_written(later, 1000);
        pace.handle_held(later + Duration::from_millis(1), 0);
        assert_eq!(pace.limit(), MIN_UNACKNOWLEDGED);
        let later = start + Duration::from_secs(60);
        pace.handle_held(later, 0);
        pace.handle_held(later + Duration::from_secs(11), 0);
        pace.handle_written(later + Duration::from_secs(11), 1);
        pace.handle_held(later + Duration::from_secs(13), 0);
        assert_eq!(pace.limit(), MAX_UNACKNOWLEDGED);
    }
}
