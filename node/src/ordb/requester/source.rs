//! One source: a stream to an ORDB, what it was asked, and what of it came.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::SourceId;
use super::assembly::{Giver, Unit};
use super::estimate::{AskStamp, Estimate, MAX_WINDOW_CHUNKS};
use crate::ids::Ed25519Id;
use crate::time::Instant;
use crate::torrent::CHUNK_LEN;
use crate::wire::{DbData, Section};

/// Ranges that a source said it cannot give now. The source fills it; the oldest is forgotten, and
/// may be asked again.
const MAX_LACKS: usize = 64;
/// How long a range that a source said it cannot give is not asked of it.
const LACK: Duration = Duration::from_secs(15);
/// The first pause after BUSY or EXHAUSTED; doubled by each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause after BUSY or EXHAUSTED.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Blocks of one source that are awaited or cancelled and not confirmed so. Our own asking fills
/// it; when it is full nothing more is asked of the source until it answers.
pub(super) const MAX_AWAITED: usize = 2 * MAX_WINDOW_CHUNKS as usize;

/// What is awaited of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceState {
    /// DB_CONNECTED or a refusal.
    AwaitConnected { since: Instant },
    /// Blocks.
    Open,
    /// The time to open it again: its stream has ended, the circuit has not.
    AwaitRetry { at: Instant },
}

/// A block that was asked for.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) unit: Unit,
    pub(super) block: u32,
    pub(super) length: u32,
    pub(super) stamp: AskStamp,
    /// We no longer want it. It stays until the source confirms it or goes on past it: what was
    /// sent before it heard of it comes nevertheless.
    pub(super) cancelled: bool,
}

/// Slots of an assembly that this source, and no other, will be asked for.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) unit: Unit,
    pub(super) slots: Range<usize>,
}

/// What came of a DB_DATA.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A part of a block, or of what we no longer want.
    Part,
    /// The first part of a block.
    First,
    /// A block is whole.
    Block(Ask, Bytes),
    /// What was not asked for.
    Unasked,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) router: Ed25519Id,
    pub(super) state: SourceState,
    pub(super) metadata_length: Option<u32>,
    pub(super) estimate: Estimate,
    /// In the order asked, which is the order of the answers.
    awaited: VecDeque<Ask>,
    cancelled: usize,
    /// What has come of the front one.
    partial: BytesMut,
    pub(super) leases: VecDeque<Lease>,
    /// Blocks that it said it cannot give, until when.
    lacks: VecDeque<(Section, Range<u32>, Instant)>,
    /// Nothing is asked before.
    pub(super) rests_until: Instant,
    backoff: Duration,
    /// When a byte of content last came, or was first awaited after idleness.
    heard: Instant,
    /// When it was found stalled.
    pub(super) stalled: Option<Instant>,
    /// Bytes of blocks that were cancelled: so many may come unasked, and no more.
    unasked_credit: u64,
}

impl Source {
    pub(super) fn new(now: Instant, router: Ed25519Id) -> Self {
        Self {
            router,
            state: SourceState::AwaitConnected { since: now },
            metadata_length: None,
            estimate: Estimate::new(now),
            awaited: VecDeque::new(),
            cancelled: 0,
            partial: BytesMut::new(),
            leases: VecDeque::new(),
            lacks: VecDeque::new(),
            rests_until: now,
            backoff: FIRST_BACKOFF,
            heard: now,
            stalled: None,
            unasked_credit: 0,
        }
    }

    pub(super) fn giver(&self, source: SourceId) -> Giver {
        Giver {
            source,
            router: self.router,
        }
    }

    /// Whether it may be asked for anything now.
    pub(super) fn is_askable(&self, now: Instant) -> bool {
        self.state == SourceState::Open
            && self.rests_until <= now
            && self.stalled.is_none()
            && self.awaited.len() < MAX_AWAITED
    }

    /// Blocks that are awaited and wanted.
    pub(super) fn awaited_blocks(&self) -> usize {
        self.awaited.len().saturating_sub(self.cancelled)
    }

    /// What is awaited, in order, the cancelled too.
    pub(super) fn awaited(&self) -> impl DoubleEndedIterator<Item = &Ask> {
        self.awaited.iter()
    }

    /// How many blocks may be asked now.
    pub(super) fn room(&self) -> usize {
        let window = self.estimate.window_chunks() as usize;
        window
            .saturating_sub(self.awaited_blocks())
            .min(MAX_AWAITED.saturating_sub(self.awaited.len()))
    }

    /// Bytes that it has yet to deliver: awaited or set aside for it.
    pub(super) fn backlog_bytes(&self) -> f64 {
        let leased: usize = self.leases.iter().map(|lease| lease.slots.len()).sum();
        (self.awaited_blocks() + leased) as f64 * f64::from(CHUNK_LEN)
    }

    /// How long until it would deliver so many bytes more, in seconds.
    pub(super) fn eta_of(&self, bytes: f64) -> f64 {
        self.estimate.delay().as_secs_f64() + (self.backlog_bytes() + bytes) / self.estimate.rate()
    }

    /// Whether this block was cancelled and the source has not confirmed it: then it cannot be
    /// asked again, as nobody could tell which of the two an answer answers.
    fn is_unconfirmed(&self, section: Section, block: u32) -> bool {
        self.cancelled > 0
            && self
                .awaited
                .iter()
                .any(|ask| ask.cancelled && ask.block == block && ask.unit.section() == section)
    }

    /// Whether it said that it cannot give this block.
    pub(super) fn lacks(&self, now: Instant, section: Section, block: u32) -> bool {
        self.lacks.iter().any(|(of, blocks, until)| {
            // Who has not the leaf hashes of one piece has hardly those of the next.
            let is_it = section == Section::LEAF_HASHES || blocks.contains(&block);
            *of == section && *until > now && is_it
        })
    }

    /// Whether it can be asked for this block, for all that is known.
    pub(super) fn can_give(&self, now: Instant, section: Section, block: u32) -> bool {
        !self.lacks(now, section, block) && !self.is_unconfirmed(section, block)
    }

    /// Whether there is any content that it cannot be asked for now.
    pub(super) fn lacks_anything(&self) -> bool {
        let mut lacks = self.lacks.iter().map(|(section, ..)| *section);
        lacks.any(|section| section == Section::CHUNKS) || self.cancelled > 0
    }

    /// It cannot give these blocks for now.
    pub(super) fn handle_lack(&mut self, now: Instant, section: Section, blocks: Range<u32>) {
        self.lacks.retain(|(_, _, until)| *until > now);
        // What lies beside the last one is one with it.
        if let Some((of, before, until)) = self.lacks.back_mut()
            && *of == section
            && before.end == blocks.start
        {
            before.end = blocks.end;
            *until = now + LACK;
            return;
        }
        if self.lacks.len() >= MAX_LACKS {
            self.lacks.pop_front();
        }
        self.lacks.push_back((section, blocks, now + LACK));
    }

    /// It is busy or full: how long it is left alone.
    pub(super) fn next_backoff(&mut self) -> Duration {
        let pause = self.backoff;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        pause
    }

    /// A block is asked.
    pub(super) fn handle_asked(&mut self, now: Instant, unit: Unit, block: u32, length: u32) {
        let awaited = u32::try_from(self.awaited_blocks()).unwrap_or(u32::MAX);
        if awaited == 0 {
            self.heard = now;
        }
        let stamp = self.estimate.handle_asked(now, awaited);
        self.awaited.push_back(Ask {
            unit,
            block,
            length,
            stamp,
            cancelled: false,
        });
    }

    /// The time since it last gave anything, if something is awaited.
    pub(super) fn silent_for(&self, now: Instant) -> Option<Duration> {
        (self.awaited_blocks() > 0).then(|| now.saturating_since(self.heard))
    }

    /// Bytes came: a copy into the block's buffer, and no more, unless the block is whole.
    pub(super) fn handle_data(&mut self, now: Instant, data: &DbData<'_>) -> Arrival {
        loop {
            let Some(front) = self.awaited.front() else {
                return self.unasked(data);
            };
            let is_it = front.block == data.block
                && front.unit.section() == data.section
                && usize::from(data.offset) == self.partial.len();
            if is_it {
                break;
            }
            if !front.cancelled {
                return self.unasked(data);
            }
            // The source has gone past what we cancelled.
            self.pop_front();
        }
        let Some(front) = self.awaited.front() else {
            return Arrival::Unasked;
        };
        let length = front.length as usize;
        let is_first = self.partial.is_empty();
        if self.partial.len().saturating_add(data.data.len()) > length {
            return Arrival::Unasked;
        }
        self.heard = now;
        self.stalled = None;
        if is_first {
            // The only allocation: what the store and the readers will hold.
            self.partial.reserve(length);
            self.estimate.handle_first_byte(now, &front.stamp);
        }
        self.partial.extend_from_slice(data.data);
        if self.partial.len() < length {
            return if is_first {
                Arrival::First
            } else {
                Arrival::Part
            };
        }
        self.backoff = FIRST_BACKOFF;
        let bytes = std::mem::take(&mut self.partial).freeze();
        match self.pop_front() {
            Some(ask) => {
                self.estimate.handle_block(now, &ask.stamp, ask.length);
                Arrival::Block(ask, bytes)
            }
            None => Arrival::Unasked,
        }
    }

    /// Marks what `which` picks as no longer wanted, and returns the block ranges of it in order.
    pub(super) fn cancel(
        &mut self,
        mut which: impl FnMut(usize, &Ask) -> bool,
    ) -> Vec<(Unit, Range<u32>)> {
        let mut ranges: Vec<(Unit, Range<u32>)> = Vec::new();
        for (index, ask) in self.awaited.iter_mut().enumerate() {
            if ask.cancelled || !which(index, ask) {
                continue;
            }
            ask.cancelled = true;
            self.cancelled += 1;
            self.unasked_credit = self.unasked_credit.saturating_add(ask.length.into());
            match ranges.last_mut() {
                Some((unit, blocks)) if *unit == ask.unit && blocks.end == ask.block => {
                    blocks.end = blocks.end.saturating_add(1);
                }
                _ => ranges.push((ask.unit, ask.block..ask.block.saturating_add(1))),
            }
        }
        ranges
    }

    /// The source says that these blocks will not come: those that we cancelled, if it confirms
    /// that, else those that we want. Returns the latter.
    pub(super) fn handle_ended(
        &mut self,
        section: Section,
        blocks: &Range<u32>,
        confirms: bool,
    ) -> Vec<Ask> {
        let mut ended = Vec::new();
        let mut kept = VecDeque::with_capacity(self.awaited.len());
        for (index, ask) in std::mem::take(&mut self.awaited).into_iter().enumerate() {
            let is_meant = ask.unit.section() == section
                && blocks.contains(&ask.block)
                && ask.cancelled == confirms;
            if !is_meant {
                kept.push_back(ask);
                continue;
            }
            if index == 0 {
                self.partial.clear();
            }
            if ask.cancelled {
                self.cancelled = self.cancelled.saturating_sub(1);
            } else {
                ended.push(ask);
            }
        }
        self.awaited = kept;
        ended
    }

    /// The stream is gone, and with it all that was asked. Returns what was wanted.
    pub(super) fn handle_stream_gone(&mut self) -> Vec<Ask> {
        self.partial.clear();
        self.cancelled = 0;
        self.unasked_credit = 0;
        self.stalled = None;
        std::mem::take(&mut self.awaited)
            .into_iter()
            .filter(|ask| !ask.cancelled)
            .collect()
    }

    /// Unverified bytes held here.
    pub(super) fn partial_bytes(&self) -> u64 {
        self.partial.len() as u64
    }

    fn pop_front(&mut self) -> Option<Ask> {
        let ask = self.awaited.pop_front()?;
        self.partial.clear();
        if ask.cancelled {
            self.cancelled = self.cancelled.saturating_sub(1);
        }
        Some(ask)
    }

    /// What comes unasked is forgiven as far as we cancelled: the cancel and it may have crossed.
    fn unasked(&mut self, data: &DbData<'_>) -> Arrival {
        match self.unasked_credit.checked_sub(data.data.len() as u64) {
            Some(left) => {
                self.unasked_credit = left;
                Arrival::Part
            }
            None => Arrival::Unasked,
        }
    }
}
