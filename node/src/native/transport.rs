//! What a link's task needs of the stream under it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::pipe::MAX_INBOUND_BYTES;
use super::tls;

/// One write takes this many slices at most; the system takes 1,024.
const MAX_SLICES: usize = 64;

/// A reliable ordered stream of bytes, polled by one task for both directions.
pub(super) trait Transport: Send + Unpin {
    /// Adds what has arrived to `arrived`, up to about [`MAX_INBOUND_BYTES`]; false at the end.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        arrived: &mut BytesMut,
    ) -> Poll<io::Result<bool>>;

    /// Takes bytes off `queue` into the socket and says how many of them are there now. With an
    /// empty queue: finishes what is under way. Ready(0) when nothing is left to do.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>>;

    /// Says goodbye and closes.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// A sign of life that the peer answers, where the transport has one.
    fn ping(&mut self) {}

    /// Whether the peer gave a sign of life, an answer to a ping included, since this was asked.
    fn heard(&mut self) -> bool {
        false
    }

    /// The TLS exporter's secret for `context`.
    fn export(&self, context: &[u8]) -> io::Result<[u8; 32]>;
}

impl Transport for tls::Stream {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        arrived: &mut BytesMut,
    ) -> Poll<io::Result<bool>> {
        let before = arrived.len();
        while arrived.len() < MAX_INBOUND_BYTES {
            match Pin::new(&mut *self).poll_fill_buf(cx) {
                Poll::Ready(Ok([])) if arrived.len() > before => break,
                Poll::Ready(Ok([])) => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(plain)) => {
                    let length = plain.len();
                    arrived.extend_from_slice(plain);
                    Pin::new(&mut *self).consume(length);
                }
                // What came before the error still counts; the error will come again.
                Poll::Ready(Err(_)) if arrived.len() > before => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if arrived.len() > before => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(true))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        match poll_write_queue(self, cx, queue) {
            Poll::Ready(Ok(0)) => Pin::new(self).poll_flush(cx).map_ok(|()| 0),
            other => other,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }

    fn export(&self, context: &[u8]) -> io::Result<[u8; 32]> {
        tls::export(self, context)
    }
}

/// Writes as much of `queue` as the stream takes now, in one call; Ready(0) if it is empty.
pub(super) fn poll_write_queue(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    queue: &mut VecDeque<Bytes>,
) -> Poll<io::Result<usize>> {
    if queue.is_empty() {
        return Poll::Ready(Ok(0));
    }
    let mut slices = [io::IoSlice::new(&[]); MAX_SLICES];
    let mut count = 0;
    for (slice, bytes) in slices.iter_mut().zip(queue.iter()) {
        *slice = io::IoSlice::new(bytes);
        count += 1;
    }
    let written = match Pin::new(stream).poll_write_vectored(cx, &slices[..count]) {
        Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        Poll::Ready(Ok(written)) => written,
        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        Poll::Pending => return Poll::Pending,
    };
    let mut left = written;
    while let Some(first) = queue.front_mut() {
        if left < first.len() {
            first.advance(left);
            break;
        }
        left -= first.len();
        queue.pop_front();
        if left == 0 {
            break;
        }
    }
    Poll::Ready(Ok(written))
}
