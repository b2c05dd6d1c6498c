//! How fast and how far a source is, and so how much to ask of it at once.
//!
//! The window is rate × delay × gain. The rate is the largest delivery rate of the last seconds
//! (as in BBR: bytes that arrived between asking a block and its end, over that time), the delay
//! the least time from asking to the first byte. That is right for a source that has the blocks. A
//! source that must fetch them first from a swarm pauses between blocks however near it is: so
//! pauses in which asked blocks are awaited widen the window, by a factor that decays.

use std::time::Duration;

use crate::time::Instant;
use crate::torrent::CHUNK_LEN;

/// The most chunks asked of one source at a time: 16 MiB, what one ASK can name.
pub const MAX_WINDOW_CHUNKS: u32 = 1024;
/// The fewest chunks asked of one source at a time: one arrives while the next is asked.
pub const MIN_WINDOW_CHUNKS: u32 = 2;
/// Asked of a source before anything is known of it: a circuit's own window is about as large.
const INITIAL_WINDOW_CHUNKS: u32 = 32;
/// Above 1 so that a rate that grows can show itself, and asks may go out in batches.
const GAIN: f64 = 2.0;
/// The delay is taken to be this at least: hosts hand over what arrived in batches, and a window
/// of a near source must outlast one.
const MIN_DELAY: Duration = Duration::from_millis(100);
/// What a source is taken to deliver before it delivered anything.
const ASSUMED_RATE: f64 = 1024.0 * 1024.0;
/// What a source is taken to need before it answered anything.
const ASSUMED_DELAY: Duration = Duration::from_millis(300);
/// How long a rate counts, at least.
const RATE_HORIZON: Duration = Duration::from_secs(4);
/// How long a least delay counts.
const DELAY_HORIZON: Duration = Duration::from_secs(30);
/// Slow start ends when the rate has not grown by a quarter for so many rounds.
const FULL_ROUNDS: u32 = 3;
/// The most by which pauses widen the window.
const MAX_STRETCH: f64 = 32.0;
/// A source is never taken to have stalled sooner than this.
const MIN_STALL: Duration = Duration::from_secs(2);
/// A source is always taken to have stalled after this.
const MAX_STALL: Duration = Duration::from_secs(20);
/// Before the first byte of content: the ORDB may first have to find a swarm that has it.
const FIRST_STALL: Duration = Duration::from_secs(10);

/// What is known of one source's speed.
#[derive(Debug)]
pub(super) struct Estimate {
    /// Bytes delivered since the source opened.
    delivered: u64,
    rate: Extreme,
    delay: Extreme,
    /// Request → first byte, smoothed, and its mean deviation, in seconds (as TCP's SRTT).
    smoothed_delay: Option<(f64, f64)>,
    /// Bytes a second over the last seconds in which something was awaited.
    recent_rate: Option<f64>,
    /// When the last block ended, or the first was asked after idleness.
    last_arrival: Instant,
    slow_start: Option<SlowStart>,
    stretch: f64,
    /// The delivery count at which the current round ends.
    round_end: u64,
    paused_in_round: bool,
}

#[derive(Debug)]
struct SlowStart {
    window: u32,
    best_rate: f64,
    rounds_without_growth: u32,
}

/// What must be remembered with each ask to measure by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskStamp {
    pub(super) asked: Instant,
    delivered: u64,
    /// Whether fewer blocks were awaited than the window allows: then what is measured is what
    /// was asked, not what the source can.
    limited_by_asks: bool,
}

impl Estimate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            rate: Extreme::largest(),
            delay: Extreme::least(),
            smoothed_delay: None,
            recent_rate: None,
            last_arrival: now,
            slow_start: Some(SlowStart {
                window: INITIAL_WINDOW_CHUNKS,
                best_rate: 0.0,
                rounds_without_growth: 0,
            }),
            stretch: 1.0,
            round_end: 0,
            paused_in_round: false,
        }
    }

    /// How many chunks may be awaited at a time.
    pub(super) fn window_chunks(&self) -> u32 {
        if let Some(start) = &self.slow_start {
            return start.window;
        }
        let bytes = self.rate.value().unwrap_or(ASSUMED_RATE)
            * self.delay().max(MIN_DELAY).as_secs_f64()
            * GAIN
            * self.stretch;
        // Two more: one is arriving, one is being asked.
        let chunks = bytes / f64::from(CHUNK_LEN) + 2.0;
        // A cast from a float saturates.
        (chunks as u32).clamp(MIN_WINDOW_CHUNKS, MAX_WINDOW_CHUNKS)
    }

    /// Bytes a second that may be expected of it.
    pub(super) fn rate(&self) -> f64 {
        match (self.recent_rate, self.rate.value()) {
            (Some(recent), Some(best)) => recent.min(best).max(1.0),
            _ => ASSUMED_RATE,
        }
    }

    /// Whether anything was measured yet.
    pub(super) fn is_measured(&self) -> bool {
        self.recent_rate.is_some()
    }

    /// The least time from asking to the first byte.
    pub(super) fn delay(&self) -> Duration {
        self.delay.value().map_or(ASSUMED_DELAY, seconds)
    }

    /// Bytes delivered in all.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// How long nothing may come, while something is awaited, before the source counts as stalled.
    pub(super) fn stall_after(&self) -> Duration {
        match self.smoothed_delay {
            None => FIRST_STALL,
            Some((mean, deviation)) => {
                seconds(2.0 * (mean + 4.0 * deviation)).clamp(MIN_STALL, MAX_STALL)
            }
        }
    }

    /// A block is asked while `awaited` others are awaited.
    pub(super) fn handle_asked(&mut self, now: Instant, awaited: u32) -> AskStamp {
        if awaited == 0 {
            self.last_arrival = now;
        }
        AskStamp {
            asked: now,
            delivered: self.delivered,
            limited_by_asks: awaited.saturating_mul(2) < self.window_chunks(),
        }
    }

    /// The first byte of a block came.
    pub(super) fn handle_first_byte(&mut self, now: Instant, ask: &AskStamp) {
        let sample = now.saturating_since(ask.asked).as_secs_f64();
        self.delay.add(now, sample, DELAY_HORIZON);
        self.smoothed_delay = Some(match self.smoothed_delay {
            None => (sample, sample / 2.0),
            Some((mean, deviation)) => (
                mean + (sample - mean) / 8.0,
                deviation + ((sample - mean).abs() - deviation) / 4.0,
            ),
        });
        // A pause: nothing was on its way though this block had been asked long enough ago.
        let idle_since = self.last_arrival.max(ask.asked);
        let pause = now.saturating_since(self.last_arrival);
        let least = seconds(self.delay.value().unwrap_or_default());
        if self.delivered > 0
            && idle_since == self.last_arrival
            && pause > (least / 2).max(Duration::from_millis(10))
        {
            self.paused_in_round = true;
        }
    }

    /// A block of `length` bytes is complete.
    pub(super) fn handle_block(&mut self, now: Instant, ask: &AskStamp, length: u32) {
        self.delivered = self.delivered.saturating_add(length.into());
        let took = now.saturating_since(ask.asked).as_secs_f64().max(1e-4);
        let sample = (self.delivered.saturating_sub(ask.delivered)) as f64 / took;
        if !ask.limited_by_asks || self.rate.value().is_none_or(|best| sample > best) {
            let horizon = RATE_HORIZON.max(seconds(10.0 * took));
            self.rate.add(now, sample, horizon);
        }
        // The recent rate is an average over time, not over blocks: each block weighs as long as
        // it was awaited.
        let since = now
            .saturating_since(self.last_arrival.max(ask.asked))
            .as_secs_f64();
        let weight = 1.0 - (-since.max(1e-4) / 1.0).exp();
        let current = f64::from(length) / since.max(1e-4);
        self.recent_rate = Some(match self.recent_rate {
            None => sample,
            Some(recent) => recent + (current - recent) * weight,
        });
        self.last_arrival = now;
        self.advance_window(ask);
    }

    /// Nothing comes any more: what was measured no longer holds.
    pub(super) fn handle_stall(&mut self) {
        self.recent_rate = self.recent_rate.map(|rate| rate / 8.0);
    }

    fn advance_window(&mut self, ask: &AskStamp) {
        let round_ended = ask.delivered >= self.round_end;
        if let Some(start) = &mut self.slow_start {
            if !ask.limited_by_asks {
                start.window = start.window.saturating_add(1).min(MAX_WINDOW_CHUNKS);
            }
            if round_ended && !ask.limited_by_asks {
                let rate = self.rate.value().unwrap_or_default();
                if rate > start.best_rate * 1.25 {
                    start.best_rate = rate;
                    start.rounds_without_growth = 0;
                } else {
                    start.rounds_without_growth += 1;
                }
                if start.rounds_without_growth >= FULL_ROUNDS {
                    self.slow_start = None;
                }
            }
        } else if round_ended {
            self.stretch = if self.paused_in_round && !ask.limited_by_asks {
                (self.stretch * 1.5).min(MAX_STRETCH)
            } else {
                (self.stretch * 0.95).max(1.0)
            };
        }
        if round_ended {
            self.round_end = self.delivered;
            self.paused_in_round = false;
        }
    }
}

/// The largest or the least value of the last while, by two buckets: cheap, and forgets between
/// one and two halves of its horizon late.
#[derive(Debug)]
struct Extreme {
    largest: bool,
    current: Option<f64>,
    previous: Option<f64>,
    since: Instant,
}

impl Extreme {
    fn largest() -> Self {
        Self {
            largest: true,
            current: None,
            previous: None,
            since: Instant::ZERO,
        }
    }

    fn least() -> Self {
        Self {
            largest: false,
            ..Self::largest()
        }
    }

    fn value(&self) -> Option<f64> {
        self.better(self.current, self.previous)
    }

    fn add(&mut self, now: Instant, sample: f64, horizon: Duration) {
        if now.saturating_since(self.since) > horizon / 2 {
            self.previous = self.current.take();
            self.since = now;
        }
        self.current = self.better(self.current, Some(sample));
    }

    fn better(&self, one: Option<f64>, other: Option<f64>) -> Option<f64> {
        match (one, other) {
            (Some(one), Some(other)) if self.largest => Some(one.max(other)),
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

/// A duration of so many seconds; absurd values become the nearest sane one.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 1e6)).unwrap_or_default()
}
