//! What leaves for one peer: datagrams of one size go to the system many at a time, which cuts
//! them apart again. A call for each costs a seventh more of the processors, and where they are
//! free a third of a link's rate (`direct-dial-goodput` in `benches/`).

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::net::UdpSocket;

use super::segments;

/// Bytes of datagrams in one call: what SCTP sends in one burst on a short way. The system takes
/// 64 KiB.
const MAX_BATCH_BYTES: usize = 48 * 1024;

/// Datagrams in one call: what every system takes that can cut.
const MAX_BATCH_DATAGRAMS: usize = 64;

/// Datagrams on their way to the socket.
///
/// SCTP fills it, and is not asked for more while a batch that is full waits for room in the socket:
/// what stands here is no more than [`MAX_BATCH_BYTES`] and one datagram.
pub(super) struct Outbox {
    socket: Arc<UdpSocket>,
    /// Whether the system cuts, on the way to this peer.
    cuts: bool,
    batches: VecDeque<Batch>,
    writable: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
}

/// Datagrams behind each other, all of one size but the last, which may be shorter.
#[derive(Debug)]
struct Batch {
    to: SocketAddr,
    size: usize,
    bytes: Vec<u8>,
}

impl Batch {
    fn takes(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        to == self.to
            && datagram.len() <= self.size
            && self.bytes.len().is_multiple_of(self.size)
            && self.bytes.len() / self.size < MAX_BATCH_DATAGRAMS
            && self.bytes.len() + datagram.len() <= MAX_BATCH_BYTES
    }

    fn is_single(&self) -> bool {
        self.bytes.len() <= self.size
    }
}

impl Outbox {
    /// `cuts` as [`segments::are_cut`] says, or false for a call each.
    pub(super) fn new(socket: Arc<UdpSocket>, cuts: bool) -> Self {
        Outbox {
            socket,
            cuts,
            batches: VecDeque::new(),
            writable: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds one; nothing goes out yet.
    pub(super) fn push(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if datagram.is_empty() {
            return;
        }
        match self.batches.back_mut() {
            Some(batch) if self.cuts && batch.takes(to, &datagram) => {
                batch.bytes.extend_from_slice(&datagram);
            }
            _ => self.batches.push_back(Batch {
                to,
                size: datagram.len(),
                bytes: datagram,
            }),
        }
    }

    /// Sends the batches that nothing more joins; pending while the socket has no room.
    pub(super) fn poll_full(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let keep = usize::from(self.cuts);
        self.poll_down_to(cx, keep)
    }

    /// Sends all; pending while the socket has no room.
    pub(super) fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_down_to(cx, 0)
    }

    fn poll_down_to(&mut self, cx: &mut Context<'_>, keep: usize) -> Poll<()> {
        while self.batches.len() > keep {
            let Some(batch) = self.batches.front() else {
                break;
            };
            let sent = if batch.is_single() {
                self.socket.try_send_to(&batch.bytes, batch.to)
            } else {
                segments::try_send_to(&self.socket, &batch.bytes, batch.size, batch.to)
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = self.socket.clone();
                    let writable = self
                        .writable
                        .get_or_insert_with(|| Box::pin(async move { socket.writable().await }));
                    let _ = ready!(writable.as_mut().poll(cx));
                    self.writable = None;
                }
                Err(error) if !batch.is_single() && segments::is_refusal(&error) => {
                    self.take_apart();
                }
                // An ICMP error of some earlier datagram, or a network that is gone for now: to
                // SCTP it is what was lost on the way.
                Ok(_) | Err(_) => {
                    self.batches.pop_front();
                }
            }
        }
        Poll::Ready(())
    }

    /// The network card on the way to this peer does not cut: from now on each goes alone.
    fn take_apart(&mut self) {
        self.cuts = false;
        for batch in std::mem::take(&mut self.batches) {
            for datagram in batch.bytes.chunks(batch.size) {
                self.push(batch.to, datagram.to_vec());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn pair(cuts: bool) -> (Outbox, UdpSocket, SocketAddr) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let to = UdpSocket::bind(any).await.unwrap();
        let at = to.local_addr().unwrap();
        let from = Arc::new(UdpSocket::bind(any).await.unwrap());
        let cuts = cuts && segments::are_cut(&from);
        (Outbox::new(from, cuts), to, at)
    }

    async fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).await.unwrap();
        buffer[..length].to_vec()
    }

    #[tokio::test]
    async fn datagrams_come_as_they_were_given() {
        for cuts in [false, true] {
            let (mut outbox, to, at) = pair(cuts).await;
            let lengths = [50, 1114, 1114, 1114, 506, 1114, 1114, 64, 64, 65, 1];
            let datagrams: Vec<Vec<u8>> = lengths
                .iter()
                .enumerate()
                .map(|(number, &length)| vec![number as u8; length])
                .collect();
            for datagram in &datagrams {
                outbox.push(at, datagram.clone());
            }
            poll_fn(|cx| outbox.poll_all(cx)).await;
            assert!(outbox.is_empty());
            for datagram in datagrams {
                assert_eq!(receive(&to).await, datagram);
            }
        }
    }

    #[tokio::test]
    async fn what_may_grow_is_kept_until_all_is_asked_for() {
        let (mut outbox, to, at) = pair(true).await;
        if !outbox.cuts {
            return;
        }
        for number in 0..150 {
            outbox.push(at, vec![number; 100]);
            poll_fn(|cx| outbox.poll_full(cx)).await;
            assert_eq!(outbox.batches.len(), 1);
        }
        // Two that were full went by themselves.
        let left = 150 - 2 * MAX_BATCH_DATAGRAMS;
        assert_eq!(outbox.batches[0].bytes.len(), left * 100);
        poll_fn(|cx| outbox.poll_all(cx)).await;
        for number in 0..150 {
            assert_eq!(receive(&to).await, [number; 100]);
        }
    }

    #[tokio::test]
    async fn others_addresses_get_their_own() {
        let (mut outbox, one, at) = pair(true).await;
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for number in 0..4 {
            outbox.push(at, vec![number; 100]);
            outbox.push(other.local_addr().unwrap(), vec![number; 100]);
        }
        poll_fn(|cx| outbox.poll_all(cx)).await;
        for number in 0..4 {
            assert_eq!(receive(&one).await, [number; 100]);
            assert_eq!(receive(&other).await, [number; 100]);
        }
    }

    #[tokio::test]
    async fn who_refuses_to_cut_is_given_each_alone() {
        let (mut outbox, to, at) = pair(true).await;
        if !outbox.cuts {
            return;
        }
        // More than any system cuts in one call.
        outbox.batches.push_back(Batch {
            to: at,
            size: 10,
            bytes: (0..200).flat_map(|number| [number; 10]).collect(),
        });
        poll_fn(|cx| outbox.poll_all(cx)).await;
        assert!(!outbox.cuts);
        for number in 0..200 {
            assert_eq!(receive(&to).await, [number; 10]);
        }
    }
}
