//! WebRTC with no node above it: what benchmarks measure the node's links against.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::channel::Channel;
use super::{DtlsCertificate, Opened, Port, Server};
use crate::native::limits::{Gate, Places};
use crate::native::process::Stop;
use crate::native::stats::Stats;
use crate::native::transport::Transport;

/// A peer's data channel that is open.
pub struct BareChannel {
    channel: Channel,
    _places: Places,
}

impl BareChannel {
    /// Sends bytes; done when SCTP has all of them.
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        let mut queue = VecDeque::from([bytes]);
        poll_fn(|cx| {
            while !queue.is_empty() {
                std::task::ready!(self.channel.poll_send(cx, &mut queue))?;
            }
            std::task::Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits for bytes and adds them to `arrived`; false at the end.
    pub async fn receive(&mut self, arrived: &mut BytesMut) -> io::Result<bool> {
        poll_fn(|cx| self.channel.poll_receive(cx, arrived)).await
    }
}

impl Port {
    /// Gives `on_open` each channel that a peer opens, until `stop`. `plain` sends each datagram in
    /// a call of its own, as str0m is usually driven.
    pub async fn serve_bare(
        self,
        certificate: DtlsCertificate,
        gate: Gate,
        stop: Stop,
        plain: bool,
        on_open: impl Fn(BareChannel) + Send + Sync + 'static,
    ) {
        let on_open = move |opened: Opened| {
            on_open(BareChannel {
                channel: opened.channel,
                _places: opened.places,
            });
        };
        let stats = Arc::new(Stats::default());
        let mut server = Server::new(self, &certificate, gate, stats, on_open);
        server.cuts &= !plain;
        server.run(stop).await;
    }
}
