//! A socket read in large steps for a reader that asks in small ones.
//!
//! rustls reads 4 KiB at a time: 256 system calls a megabyte. Here one call takes up to
//! [`READ_AHEAD`], and what rustls asks for is copied from there. Nothing is held while idle.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What one system call takes at most.
///
/// 64 KiB is what a socket usually has under load, and four TLS records.
const READ_AHEAD: usize = 64 * 1024;

/// A stream whose reads are made in steps of `READ_AHEAD`.
#[derive(Debug)]
pub struct ReadAhead<S> {
    inner: S,
    held: BytesMut,
    /// What the next call asks for: grows while calls fill it, falls back when the socket is dry.
    step: usize,
}

/// The first step after a silence: an idle link's occasional cell needs no more.
const FIRST_STEP: usize = 4 * 1024;

impl<S> ReadAhead<S> {
    /// `inner`, nothing of it read yet.
    pub fn new(inner: S) -> Self {
        ReadAhead {
            inner,
            held: BytesMut::new(),
            step: FIRST_STEP,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held.is_empty() {
            if into.remaining() >= this.step {
                return Pin::new(&mut this.inner).poll_read(cx, into);
            }
            this.held.reserve(this.step);
            match pin!(this.inner.read_buf(&mut this.held)).poll(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(read)) if read >= this.step => {
                    this.step = (this.step * 2).min(READ_AHEAD);
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.held = BytesMut::new();
                    this.step = FIRST_STEP;
                    return Poll::Pending;
                }
            }
        }
        let taken = this.held.len().min(into.remaining());
        into.put_slice(&this.held[..taken]);
        this.held.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
