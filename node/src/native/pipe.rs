//! What the node's task and one link's task hand each other, and the bell between them.
//!
//! Each link has one [`Pipe`]: bytes that arrived and wait for the node, bytes of the node that
//! wait for the socket, and the few words beside them. Both directions are bounded, so a peer
//! that sends fast or reads slowly holds up its own link and nothing else.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, mpsc};

use crate::ids::LinkId;
use crate::link::Binding;

/// Bytes of one link that wait for the node. Filled by the peer; when it is full the socket is
/// read no further until the node has taken them, and TCP tells the peer to wait.
pub const MAX_INBOUND_BYTES: usize = 64 * 1024;

/// Bytes of one link that wait for its socket. Filled by the node for a peer that does not read
/// (the node itself stops at a lower mark when it is told what is buffered); over it the link is
/// closed.
pub const MAX_OUTBOUND_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of all links that wait for their sockets. Over it, the link that holds the most of them
/// is closed: a node dies of one slow peer as little as of a thousand.
pub const MAX_OUTBOUND_BYTES_IN_ALL: usize = 256 * 1024 * 1024;

/// What one write takes off the queue at most: four TLS records, four WebSocket messages.
pub(super) const WRITE_BYTES: usize = 64 * 1024;

/// One link's two queues.
#[derive(Debug)]
pub(super) struct Pipe {
    /// The node's name for the link.
    pub(super) id: LinkId,
    state: Mutex<State>,
    bell: Arc<Bell>,
    /// Dropped with the pipe: so the driver knows when all are gone.
    _alive: mpsc::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    inbound: BytesMut,
    /// The link's task found `inbound` full and waits for room.
    wants_room: bool,
    connected: Option<(Binding, Option<IpAddr>)>,
    exported: Option<[u8; 32]>,
    closed: Option<String>,
    /// The bell's list has this pipe already.
    rung: bool,

    outbound: VecDeque<Bytes>,
    /// Queued or taken by the link's task and not yet in the socket.
    outbound_bytes: usize,
    /// What the node takes `outbound_bytes` for: what it was last told, and what it added since.
    reported_bytes: usize,
    export: Option<[u8; 32]>,
    closing: bool,
    /// The link's task, when it sleeps.
    waker: Option<Waker>,
}

/// What the node's task takes from a pipe in one visit.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) connected: Option<(Binding, Option<IpAddr>)>,
    pub(super) exported: Option<[u8; 32]>,
    pub(super) inbound: BytesMut,
    /// What still waits for the socket, if the node should hear of it.
    pub(super) buffered: Option<usize>,
    pub(super) closed: Option<String>,
}

/// What the link's task finds to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) export: Option<[u8; 32]>,
    /// Nothing more will come from the node: send what is there and close.
    pub(super) closing: bool,
    /// There is room for what arrives.
    pub(super) may_read: bool,
}

impl Pipe {
    pub(super) fn new(id: LinkId, bell: Arc<Bell>, alive: mpsc::Sender<()>) -> Self {
        Pipe {
            id,
            state: Mutex::default(),
            bell,
            _alive: alive,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below panics while it holds the lock; if it did, the state is still plain data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings the bell for this pipe unless it is rung already.
    fn ring(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if !state.rung {
            state.rung = true;
            drop(state);
            self.bell.ring(self.clone());
        }
    }

    // The link's side.

    /// The transport stands.
    pub(super) fn connected(self: &Arc<Self>, binding: Binding, peer: Option<IpAddr>) {
        let mut state = self.state();
        state.connected = Some((binding, peer));
        self.ring(state);
    }

    /// Takes what there is to write and to do, or leaves `cx`'s waker to be called when there is.
    pub(super) fn work(&self, cx: &mut Context<'_>, writing: &mut VecDeque<Bytes>) -> Work {
        let mut state = self.state();
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        let mut taken = writing.iter().map(Bytes::len).sum::<usize>();
        while taken < WRITE_BYTES
            && let Some(bytes) = state.outbound.pop_front()
        {
            taken += bytes.len();
            writing.push_back(bytes);
        }
        if state.outbound.is_empty() && state.outbound.capacity() > 64 {
            state.outbound = VecDeque::new();
        }
        let may_read = state.inbound.len() < MAX_INBOUND_BYTES;
        state.wants_room = !may_read;
        Work {
            export: state.export.take(),
            closing: state.closing,
            may_read,
        }
    }

    /// Hands over what arrived, leaving `arrived` empty.
    pub(super) fn deliver(self: &Arc<Self>, arrived: &mut BytesMut) {
        let mut state = self.state();
        if state.inbound.is_empty() {
            std::mem::swap(&mut state.inbound, arrived);
        } else {
            state.inbound.extend_from_slice(arrived);
        }
        *arrived = BytesMut::new();
        self.ring(state);
    }

    /// `bytes` of the queue are in the socket.
    pub(super) fn wrote(self: &Arc<Self>, bytes: usize) {
        self.bell.outbound_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let mut state = self.state();
        state.outbound_bytes = state.outbound_bytes.saturating_sub(bytes);
        // A word for each write would wake the node for nothing: half is news, and so is nothing.
        if state.reported_bytes > 0 && state.outbound_bytes <= state.reported_bytes / 2 {
            self.ring(state);
        }
    }

    pub(super) fn exported(self: &Arc<Self>, secret: [u8; 32]) {
        let mut state = self.state();
        state.exported = Some(secret);
        self.ring(state);
    }

    /// The transport is gone. Only the first word of it counts.
    pub(super) fn closed(self: &Arc<Self>, why: String) {
        let mut state = self.state();
        state.outbound.clear();
        self.bell
            .outbound_bytes
            .fetch_sub(state.outbound_bytes, Ordering::Relaxed);
        state.outbound_bytes = 0;
        state.waker = None;
        if state.closed.is_none() {
            state.closed = Some(why);
            self.ring(state);
        }
    }

    // The node's side.

    /// Takes all that the link has for the node, and lets the link read on.
    pub(super) fn take(&self) -> Taken {
        let mut state = self.state();
        state.rung = false;
        let buffered = (state.outbound_bytes != state.reported_bytes)
            .then_some(state.outbound_bytes)
            .inspect(|&bytes| state.reported_bytes = bytes);
        let taken = Taken {
            connected: state.connected.take(),
            exported: state.exported.take(),
            inbound: std::mem::take(&mut state.inbound),
            buffered,
            closed: state.closed.take(),
        };
        let waker = if state.wants_room {
            state.waker.take()
        } else {
            None
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        taken
    }

    /// Queues `bytes` for the socket; the link's task hears of it by [`Pipe::wake`]. Gives what
    /// the queue then holds.
    pub(super) fn push(&self, bytes: Bytes) -> usize {
        let mut state = self.state();
        if state.closing || state.closed.is_some() {
            return 0;
        }
        self.bell
            .outbound_bytes
            .fetch_add(bytes.len(), Ordering::Relaxed);
        state.outbound_bytes += bytes.len();
        state.reported_bytes += bytes.len();
        state.outbound.push_back(bytes);
        state.outbound_bytes
    }

    /// What waits for the socket.
    pub(super) fn outbound_bytes(&self) -> usize {
        self.state().outbound_bytes
    }

    /// Asks for the exporter's secret of `context`.
    pub(super) fn export(&self, context: [u8; 32]) {
        self.state().export = Some(context);
        self.wake();
    }

    /// Lets what is queued go out, then closes; `at_once` forgets what is queued.
    pub(super) fn close(&self, at_once: bool) {
        let mut state = self.state();
        state.closing = true;
        if at_once {
            let queued = state.outbound.iter().map(Bytes::len).sum::<usize>();
            state.outbound.clear();
            state.outbound_bytes = state.outbound_bytes.saturating_sub(queued);
            self.bell
                .outbound_bytes
                .fetch_sub(queued, Ordering::Relaxed);
        }
        drop(state);
        self.wake();
    }

    /// Wakes the link's task.
    pub(super) fn wake(&self) {
        let waker = self.state().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let left = self.state().outbound_bytes;
        self.bell.outbound_bytes.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Which pipes have something for the node. Each link stands in it once at most.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<VecDeque<Arc<Pipe>>>,
    notify: Notify,
    /// The sum of all pipes' `outbound_bytes`.
    pub(super) outbound_bytes: AtomicUsize,
}

impl Bell {
    fn ring(&self, pipe: Arc<Pipe>) {
        self.rung
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(pipe);
        self.notify.notify_one();
    }

    /// The next pipe that has something for the node.
    pub(super) fn answer(&self) -> Option<Arc<Pipe>> {
        self.rung
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    /// Waits until some pipe rang since the last wait.
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }
}
