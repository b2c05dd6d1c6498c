//! WebSocket links: a bridge's server side, and a client that lets a native node play a tab.
//!
//! The framing is our own because a link asks less and more of it than a library gives: no
//! message is put together (cells are a stream), an idle link holds no buffer at all, and what
//! the node sends goes to the socket without a copy. It is tested against tokio-tungstenite.

mod frame;
mod handshake;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use chacha20::ChaCha20Rng;
use rand_core::Rng;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::pipe::{MAX_INBOUND_BYTES, WRITE_BYTES};
use super::random;
use super::transport::{Transport, poll_write_queue};
use frame::{Control, Decoder, End, Opcode};

pub use handshake::{UpgradeError, accept};

/// Payload of one message of ours at most.
///
/// A browser hands a message to the page when its last byte is there, so on a slow line a large
/// one holds back the cells in its beginning; below 16 KiB the cost of each message shows.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// The first read after a silence asks for this much, later ones for more.
const FIRST_STEP: usize = 4 * 1024;

/// A WebSocket as a link's transport.
#[derive(Debug)]
pub struct WebSocket {
    tcp: TcpStream,
    decoder: Decoder,
    /// Read and not yet decoded; not allocated while nothing comes.
    raw: BytesMut,
    step: usize,
    /// Frames on their way to the socket.
    sending: VecDeque<Bytes>,
    /// How much of `sending` is the node's bytes.
    sending_payload: usize,
    /// Control frames that go out before the next message.
    pong: Option<Bytes>,
    ping: bool,
    heard: bool,
    close: Option<u16>,
    close_sent: bool,
    /// The client's masks (RFC 6455, 5.3: a proxy between must not be able to foresee them).
    masks: Option<ChaCha20Rng>,
}

impl WebSocket {
    /// The server's end of `tcp` after the handshake; `early` is what was read behind it.
    pub fn server(tcp: TcpStream, early: Bytes) -> Self {
        WebSocket::new(tcp, End::Server, early.into(), None)
    }

    fn new(tcp: TcpStream, end: End, raw: BytesMut, masks: Option<ChaCha20Rng>) -> Self {
        WebSocket {
            tcp,
            decoder: Decoder::new(end),
            raw,
            step: FIRST_STEP,
            sending: VecDeque::new(),
            sending_payload: 0,
            pong: None,
            ping: false,
            heard: false,
            close: None,
            close_sent: false,
            masks,
        }
    }

    /// The other end's address, if it is still known.
    pub fn peer(&self) -> Option<IpAddr> {
        self.tcp.peer_addr().ok().map(|peer| peer.ip())
    }

    /// Frames what `queue` holds, control frames first. Nothing is under way when it is called.
    fn frame(&mut self, queue: &mut VecDeque<Bytes>) {
        if self.close_sent {
            return;
        }
        if let Some(payload) = self.pong.take() {
            self.push_frame(Opcode::Pong, payload);
        }
        if std::mem::take(&mut self.ping) {
            self.push_frame(Opcode::Ping, Bytes::new());
        }
        while self.sending_payload < WRITE_BYTES && !queue.is_empty() {
            let length = queue
                .iter()
                .map(Bytes::len)
                .sum::<usize>()
                .min(MAX_MESSAGE_BYTES);
            self.sending_payload += length;
            if self.masks.is_some() {
                let mut whole = BytesMut::with_capacity(length);
                take(queue, length, |part| whole.extend_from_slice(&part));
                self.push_frame(Opcode::Binary, whole.freeze());
            } else {
                self.sending
                    .push_back(frame::header(Opcode::Binary, length, None));
                take(queue, length, |part| self.sending.push_back(part));
            }
        }
        if queue.is_empty()
            && let Some(code) = self.close.take()
        {
            self.push_frame(Opcode::Close, Bytes::copy_from_slice(&code.to_be_bytes()));
            self.close_sent = true;
        }
    }

    fn push_frame(&mut self, opcode: Opcode, payload: Bytes) {
        if let Some(masks) = &mut self.masks {
            let mask = masks.next_u32().to_be_bytes();
            self.sending
                .push_back(frame::header(opcode, payload.len(), Some(mask)));
            let mut masked = BytesMut::from(payload);
            frame::apply_mask(&mut masked, mask);
            self.sending.push_back(masked.freeze());
        } else {
            self.sending
                .push_back(frame::header(opcode, payload.len(), None));
            self.sending.push_back(payload);
        }
        // An empty slice would look like a socket that takes nothing.
        self.sending.retain(|bytes| !bytes.is_empty());
    }
}

/// Gives `length` bytes of `queue`, which has them, in parts.
fn take(queue: &mut VecDeque<Bytes>, mut length: usize, mut give: impl FnMut(Bytes)) {
    while let Some(first) = queue.front_mut() {
        if first.len() > length {
            if length > 0 {
                give(first.split_to(length));
            }
            return;
        }
        length -= first.len();
        if let Some(whole) = queue.pop_front() {
            give(whole);
        }
    }
}

impl Transport for WebSocket {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        arrived: &mut BytesMut,
    ) -> Poll<io::Result<bool>> {
        let before = arrived.len();
        loop {
            match self.decoder.decode(&mut self.raw, arrived) {
                Ok(None) => {}
                // Only the last ping must be answered, so one place is enough for all of them.
                Ok(Some(Control::Ping(payload))) => {
                    self.pong = Some(payload);
                    continue;
                }
                Ok(Some(Control::Pong)) => continue,
                Ok(Some(Control::Close(code))) => {
                    self.close.get_or_insert(code.unwrap_or(1000));
                    return Poll::Ready(Ok(false));
                }
                Err(error) => {
                    self.close.get_or_insert(error.close_code());
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
            if arrived.len() >= MAX_INBOUND_BYTES {
                return Poll::Ready(Ok(true));
            }
            self.raw.reserve(self.step);
            match pin!(self.tcp.read_buf(&mut self.raw)).poll(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(arrived.len() > before)),
                Poll::Ready(Ok(read)) => {
                    self.heard = true;
                    if read >= self.step {
                        self.step = (self.step * 2).min(MAX_INBOUND_BYTES);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // A frame's header may have come in part: that little is kept.
                    self.raw = BytesMut::from(&self.raw[..]);
                    if arrived.len() > before {
                        return Poll::Ready(Ok(true));
                    }
                    self.step = FIRST_STEP;
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.sending.is_empty() {
                self.frame(queue);
                if self.sending.is_empty() {
                    return Poll::Ready(Ok(0));
                }
            }
            while !self.sending.is_empty() {
                match poll_write_queue(&mut self.tcp, cx, &mut self.sending) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.sending = VecDeque::new();
            match std::mem::take(&mut self.sending_payload) {
                0 => {}
                payload => return Poll::Ready(Ok(payload)),
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.close_sent {
            // Going away (RFC 6455, 7.4.1), unless there was another reason before.
            self.close.get_or_insert(1001);
            match self.poll_send(cx, &mut VecDeque::new()) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn ping(&mut self) {
        self.ping = true;
    }

    fn heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    fn export(&self, _context: &[u8]) -> io::Result<[u8; 32]> {
        Err(io::Error::other(
            "a WebSocket has no TLS exporter: its TLS ends who knows where",
        ))
    }
}

/// Opens a WebSocket at `url` (`ws://HOST:PORT/PATH`; a `#` and what follows is not sent).
pub async fn connect(url: &str) -> io::Result<WebSocket> {
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let rest = url.strip_prefix("ws://").ok_or_else(|| {
        wrong("a native node dials ws:// only: a bridge behind wss:// is reached by its OR port")
    })?;
    let rest = rest.split('#').next().unwrap_or_default();
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let after_address = host.rsplit(']').next().unwrap_or(host);
    let with_port = if after_address.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut tcp = TcpStream::connect(with_port).await?;
    tcp.set_nodelay(true)?;
    let early = handshake::request(&mut tcp, host, path).await?;
    Ok(WebSocket::new(
        tcp,
        End::Client,
        early,
        Some(random::generator()?),
    ))
}
