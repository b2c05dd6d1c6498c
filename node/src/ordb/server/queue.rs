//! What is queued for one stream, and for one circuit.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use crate::ids::StreamId;
use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::{DbData, MAX_DB_DATA, RelayBody, RelayMessage, Section, encode_relay};

/// A block that was asked for.
#[derive(Debug)]
struct Asked {
    section: Section,
    block: u32,
    /// Once the host gave it.
    bytes: Option<Bytes>,
}

/// What was taken out of a queue.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Whether there was anything.
    pub(super) any: bool,
    /// How many the host had been asked for or had given.
    pub(super) ahead: usize,
    /// Those that it had been asked for and not given.
    pub(super) awaited: Vec<(Section, u32)>,
}

/// One stream's queue, in the order asked: first those that the host was asked for, then the rest.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: Infohash,
    /// The one that it was opened with.
    pub(super) counter: u8,
    pub(super) heard: Instant,
    pub(super) is_starved: bool,
    queue: VecDeque<Asked>,
    /// How many at the front the host was asked for.
    ahead: usize,
    /// How much of the front one was sent.
    offset: usize,
}

impl Stream {
    pub(super) fn new(now: Instant, name: Infohash, counter: u8) -> Self {
        Self {
            name,
            counter,
            heard: now,
            is_starved: false,
            queue: VecDeque::new(),
            ahead: 0,
            offset: 0,
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn push(&mut self, section: Section, block: u32) {
        self.queue.push_back(Asked {
            section,
            block,
            bytes: None,
        });
    }

    /// The next block that the host is to be asked for, if fewer than `most` are ahead.
    pub(super) fn next_unwanted(&self, most: usize) -> Option<(Section, u32)> {
        let next = self.queue.get(self.ahead).filter(|_| self.ahead < most)?;
        Some((next.section, next.block))
    }

    /// The host was asked for the next one.
    pub(super) fn set_wanted(&mut self) {
        self.ahead = self.ahead.saturating_add(1).min(self.queue.len());
    }

    /// The host gave a block.
    pub(super) fn fill(&mut self, section: Section, block: u32, bytes: &Bytes) {
        let awaited = self.queue.iter_mut().take(self.ahead).find(|asked| {
            asked.bytes.is_none() && asked.block == block && asked.section == section
        });
        if let Some(asked) = awaited {
            asked.bytes = Some(bytes.clone());
        }
    }

    pub(super) fn remove(&mut self, section: Section, blocks: &Range<u32>) -> Removed {
        self.remove_if(|asked| asked.section == section && blocks.contains(&asked.block))
    }

    pub(super) fn remove_all(&mut self) -> Removed {
        self.remove_if(|_| true)
    }

    fn remove_if(&mut self, which: impl Fn(&Asked) -> bool) -> Removed {
        let mut removed = Removed::default();
        let mut place = 0;
        let (ahead, offset) = (self.ahead, &mut self.offset);
        self.queue.retain(|asked| {
            let is_ahead = place < ahead;
            let is_front = place == 0;
            place += 1;
            if !which(asked) {
                return true;
            }
            removed.any = true;
            if is_front {
                *offset = 0;
            }
            if is_ahead {
                removed.ahead += 1;
                if asked.bytes.is_none() {
                    removed.awaited.push((asked.section, asked.block));
                }
            }
            false
        });
        self.ahead = self.ahead.saturating_sub(removed.ahead);
        removed
    }

    fn is_ready(&self) -> bool {
        self.queue
            .front()
            .is_some_and(|asked| asked.bytes.is_some())
    }

    /// Writes the next part of the front block. Says whether that was its last.
    fn write_next(&mut self, id: StreamId, body: &mut RelayBody) -> Option<bool> {
        let front = self.queue.front()?;
        let bytes = front.bytes.as_ref()?;
        let rest = bytes.get(self.offset..)?;
        let data = rest.get(..MAX_DB_DATA).unwrap_or(rest);
        let message = RelayMessage::DbData(DbData {
            section: front.section,
            block: front.block,
            // A block is no longer than 16 KiB.
            offset: u16::try_from(self.offset).ok()?,
            data,
        });
        encode_relay(body, Some(id), &message).ok()?;
        self.offset = self.offset.saturating_add(data.len());
        let is_last = self.offset >= bytes.len();
        if is_last {
            self.queue.pop_front();
            self.ahead = self.ahead.saturating_sub(1);
            self.offset = 0;
        }
        Some(is_last)
    }
}

/// One circuit's streams and messages.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    pub(super) streams: BTreeMap<StreamId, Stream>,
    /// Everything but DB_DATA; sent first.
    pub(super) messages: VecDeque<(StreamId, RelayMessage<'static>)>,
    /// Whether it is among the server's turns.
    pub(super) in_turns: bool,
    /// The stream that was sent last.
    last: Option<StreamId>,
}

impl Circuit {
    pub(super) fn has_something(&self) -> bool {
        !self.messages.is_empty() || self.streams.values().any(Stream::is_ready)
    }

    /// Writes the next message, its streams in turn. Says whether a block was sent whole.
    pub(super) fn write_next(&mut self, body: &mut RelayBody) -> Option<(StreamId, bool)> {
        while let Some((stream, message)) = self.messages.pop_front() {
            // All of ours fit into a cell.
            if encode_relay(body, Some(stream), &message).is_ok() {
                return Some((stream, false));
            }
        }
        let after = self
            .last
            .map_or(StreamId(0), |last| StreamId(last.0.saturating_add(1)));
        let id = self
            .streams
            .range(after..)
            .chain(self.streams.range(..after))
            .find(|(_, stream)| stream.is_ready())
            .map(|(id, _)| *id)?;
        self.last = Some(id);
        let sent_block = self.streams.get_mut(&id)?.write_next(id, body)?;
        Some((id, sent_block))
    }
}
