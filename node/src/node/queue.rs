//! What a link has yet to send: cells that may go now, and each circuit's cells that must wait.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use crate::crypto::relay::Body;
use crate::wire::{CELL_LEN, CircId, Command, write_cell};

/// Bytes that may stand in a link's host before cells are held back here, where they can be
/// chosen from fairly. About the bandwidth-delay product of 20 MB/s at 25 ms.
pub(crate) const LINK_HIGH_WATER: usize = 512 * 1024;

/// Cells that one circuit may have waiting at one link. Its far end fills it, and honest flow
/// control keeps it near a window of 1000; a circuit that passes it dies.
pub(crate) const MAX_CIRCUIT_CELLS: usize = 1_500;

/// What goes out at one turn of a link that is busy.
const BUSY: usize = 8 * 1024;

/// The queue passed [`MAX_CIRCUIT_CELLS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// A link's outgoing cells.
#[derive(Debug, Default)]
pub(crate) struct LinkQueue {
    /// Goes to the host at the next turn.
    ready: BytesMut,
    /// What the host holds and has not sent.
    in_host: usize,
    /// Cells of circuits that must wait, each circuit's in order.
    waiting: BTreeMap<CircId, BytesMut>,
    /// Whose turn is next.
    turns: VecDeque<CircId>,
}

impl LinkQueue {
    /// Whether a cell handed in now would go out at once.
    pub(crate) fn is_writable(&self) -> bool {
        self.ready.len() + self.in_host < LINK_HIGH_WATER
    }

    /// Bytes of cells that wait here.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.values().map(BytesMut::len).sum()
    }

    /// Puts in a message of the link itself: handshake, DESTROY, CREATE2 and the like.
    pub(crate) fn push_raw(&mut self, bytes: &[u8]) {
        self.ready.extend_from_slice(bytes);
    }

    /// Puts in a cell that makes or ends a circuit, past what waits.
    pub(crate) fn push_control(&mut self, circ: CircId, command: Command, body: &Body) {
        put(&mut self.ready, circ, command, body);
    }

    /// Puts in a circuit's cell. Answers whether it goes out at the next turn.
    pub(crate) fn push(
        &mut self,
        circ: CircId,
        command: Command,
        body: &Body,
    ) -> Result<bool, QueueFull> {
        if self.is_writable() && !self.waiting.contains_key(&circ) {
            put(&mut self.ready, circ, command, body);
            return Ok(true);
        }
        let queue = self.waiting.entry(circ).or_default();
        if queue.len() >= MAX_CIRCUIT_CELLS * CELL_LEN {
            return Err(QueueFull);
        }
        if queue.is_empty() {
            self.turns.push_back(circ);
        }
        put(queue, circ, command, body);
        Ok(false)
    }

    /// Forgets what waits for a circuit that is gone; answers how many bytes that was.
    pub(crate) fn forget(&mut self, circ: CircId) -> usize {
        let Some(dropped) = self.waiting.remove(&circ) else {
            return 0;
        };
        self.turns.retain(|turn| *turn != circ);
        dropped.len()
    }

    /// The host now holds `bytes`: as much as fits moves up, a cell from each circuit in turn.
    /// Answers how many bytes moved.
    pub(crate) fn handle_buffered(&mut self, bytes: usize) -> usize {
        self.in_host = bytes;
        let mut moved = 0;
        while self.is_writable() {
            let Some(circ) = self.turns.pop_front() else {
                break;
            };
            let Some(queue) = self.waiting.get_mut(&circ) else {
                continue;
            };
            let cell = queue.len().min(CELL_LEN);
            self.ready.extend_from_slice(&queue[..cell]);
            queue.advance(cell);
            moved += cell;
            if queue.is_empty() {
                self.waiting.remove(&circ);
            } else {
                self.turns.push_back(circ);
            }
        }
        moved
    }

    /// Takes what goes out now.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            return None;
        }
        self.in_host += self.ready.len();
        // A busy link writes on where it stopped; an idle one keeps nothing, and so lets go of what
        // it sent when the other side has read it.
        if self.ready.len() < BUSY {
            return Some(std::mem::take(&mut self.ready).freeze());
        }
        Some(self.ready.split().freeze())
    }
}

/// A fixed-length cell always fits: its body has the length that it must have.
fn put(out: &mut BytesMut, circ: CircId, command: Command, body: &Body) {
    let written = write_cell(out, circ, command, body);
    debug_assert!(written.is_ok(), "a fixed cell of 509 bytes");
}
