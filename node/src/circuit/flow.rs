//! End-to-end flow control: how many cells may be on their way.
//!
//! tor-spec, "Flow control". Circuits count DATA and DB_DATA; streams count DATA. Fixed windows
//! now; congestion control takes their place behind [`FlowControl`].

use std::collections::VecDeque;

use crate::crypto::relay::Tag;
use subtle::ConstantTimeEq;

/// Cells that a circuit's window begins with.
pub const CIRCUIT_WINDOW_START: u16 = 1000;
/// Cells that one circuit-level SENDME acknowledges.
pub const CIRCUIT_WINDOW_INCREMENT: u16 = 100;
/// Cells that a stream's window begins with.
pub const STREAM_WINDOW_START: u16 = 500;
/// Cells that one stream-level SENDME acknowledges.
pub const STREAM_WINDOW_INCREMENT: u16 = 50;

/// What the other end of a circuit or stream did against its flow control. The circuit dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowFault {
    /// More cells than the window allows.
    #[error("the other end sent more cells than its window allows")]
    Overrun,
    /// A SENDME when nothing was to be acknowledged.
    #[error("a SENDME that nothing called for")]
    Unexpected,
    /// A SENDME that does not prove that the cells arrived.
    #[error("a SENDME with a wrong digest or version")]
    Unauthenticated,
}

/// A circuit's flow control, both directions, at one of its ends.
pub trait FlowControl: Send {
    /// Whether one more counted cell may be sent now.
    fn can_send(&self) -> bool;
    /// A counted cell was sent; `tag` is its running digest.
    fn note_sent(&mut self, tag: &Tag);
    /// A circuit-level SENDME came, with the digest that it echoes.
    fn handle_sendme(&mut self, tag: &[u8]) -> Result<(), FlowFault>;
    /// A counted cell came. `Some` is the digest to echo in a SENDME that is now due.
    fn note_received(&mut self, tag: &Tag) -> Result<Option<Tag>, FlowFault>;
}

/// Tor's first flow control: a window of 1000 cells, authenticated SENDMEs of version 1.
#[derive(Debug)]
pub struct FixedWindow {
    send: u16,
    receive: u16,
    /// Digests that SENDMEs must echo, oldest first. The window bounds them at ten.
    expected: VecDeque<Tag>,
}

impl Default for FixedWindow {
    fn default() -> Self {
        FixedWindow {
            send: CIRCUIT_WINDOW_START,
            receive: CIRCUIT_WINDOW_START,
            expected: VecDeque::new(),
        }
    }
}

impl FlowControl for FixedWindow {
    fn can_send(&self) -> bool {
        self.send > 0
    }

    fn note_sent(&mut self, tag: &Tag) {
        self.send = self.send.saturating_sub(1);
        if self.send.is_multiple_of(CIRCUIT_WINDOW_INCREMENT) {
            self.expected.push_back(*tag);
        }
    }

    fn handle_sendme(&mut self, tag: &[u8]) -> Result<(), FlowFault> {
        let expected = self.expected.pop_front().ok_or(FlowFault::Unexpected)?;
        if !bool::from(expected.as_slice().ct_eq(tag)) {
            return Err(FlowFault::Unauthenticated);
        }
        self.send += CIRCUIT_WINDOW_INCREMENT;
        Ok(())
    }

    fn note_received(&mut self, tag: &Tag) -> Result<Option<Tag>, FlowFault> {
        self.receive = self.receive.checked_sub(1).ok_or(FlowFault::Overrun)?;
        if self.receive > CIRCUIT_WINDOW_START - CIRCUIT_WINDOW_INCREMENT {
            return Ok(None);
        }
        self.receive += CIRCUIT_WINDOW_INCREMENT;
        Ok(Some(*tag))
    }
}

/// A stream's windows. Its SENDMEs are sent when the user has taken the bytes, so a slow reader
/// slows the sender and no queue grows.
#[derive(Debug)]
pub struct StreamWindow {
    send: u16,
    receive: u16,
    consumed: u16,
}

impl Default for StreamWindow {
    fn default() -> Self {
        StreamWindow {
            send: STREAM_WINDOW_START,
            receive: STREAM_WINDOW_START,
            consumed: 0,
        }
    }
}

impl StreamWindow {
    /// Whether one more DATA cell may be sent now.
    pub fn can_send(&self) -> bool {
        self.send > 0
    }

    /// A DATA cell was sent.
    pub fn note_sent(&mut self) {
        self.send = self.send.saturating_sub(1);
    }

    /// A stream-level SENDME came.
    pub fn handle_sendme(&mut self) -> Result<(), FlowFault> {
        if self.send > STREAM_WINDOW_START - STREAM_WINDOW_INCREMENT {
            return Err(FlowFault::Unexpected);
        }
        self.send += STREAM_WINDOW_INCREMENT;
        Ok(())
    }

    /// A DATA cell came.
    pub fn note_received(&mut self) -> Result<(), FlowFault> {
        self.receive = self.receive.checked_sub(1).ok_or(FlowFault::Overrun)?;
        Ok(())
    }

    /// The user has taken `cells` DATA cells; answers how many SENDMEs are now due.
    pub fn note_consumed(&mut self, cells: u16) -> u16 {
        self.consumed = self.consumed.saturating_add(cells);
        let due = self.consumed / STREAM_WINDOW_INCREMENT;
        self.consumed %= STREAM_WINDOW_INCREMENT;
        self.receive = self
            .receive
            .saturating_add(due.saturating_mul(STREAM_WINDOW_INCREMENT))
            .min(STREAM_WINDOW_START);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(n: u16) -> Tag {
        let mut tag = [0; 20];
        tag[..2].copy_from_slice(&n.to_be_bytes());
        tag
    }

    #[test]
    fn a_window_of_a_thousand_and_a_sendme_for_each_hundred() {
        let mut sender = FixedWindow::default();
        let mut receiver = FixedWindow::default();
        let mut acks = Vec::new();
        for n in 0..1000 {
            assert!(sender.can_send());
            sender.note_sent(&tag(n));
            acks.extend(receiver.note_received(&tag(n)).unwrap());
        }
        assert!(!sender.can_send());
        assert_eq!(acks.len(), 10);
        for ack in &acks {
            sender.handle_sendme(ack).unwrap();
        }
        assert_eq!(sender.handle_sendme(&acks[0]), Err(FlowFault::Unexpected));
    }

    #[test]
    fn a_sendme_must_echo_the_right_digest() {
        let mut sender = FixedWindow::default();
        (0..100).for_each(|n| sender.note_sent(&tag(n)));
        assert_eq!(
            sender.handle_sendme(&tag(98)),
            Err(FlowFault::Unauthenticated)
        );
    }

    #[test]
    fn who_sends_past_a_stream_window_is_told_so() {
        let mut window = StreamWindow::default();
        for _ in 0..500 {
            window.note_received().unwrap();
        }
        assert_eq!(window.note_received(), Err(FlowFault::Overrun));
        assert_eq!(window.note_consumed(500), 10);
        window.note_received().unwrap();
    }
}
