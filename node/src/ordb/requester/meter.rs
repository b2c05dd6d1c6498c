//! Bytes a second over the last seconds, for people to look at.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// Half seconds that are remembered: a rate over four seconds neither jumps nor lags.
const MAX_BUCKETS: usize = 8;
const BUCKET: Duration = Duration::from_millis(500);

/// Counts bytes in half seconds.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    /// When each began, and what came in it; those in which nothing came are not there.
    buckets: VecDeque<(Instant, u64)>,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            buckets: VecDeque::with_capacity(MAX_BUCKETS),
        }
    }

    pub(super) fn add(&mut self, now: Instant, bytes: u64) {
        match self.buckets.back_mut() {
            Some((since, count)) if now.saturating_since(*since) < BUCKET => {
                *count = count.saturating_add(bytes);
            }
            _ => {
                if self.buckets.len() >= MAX_BUCKETS {
                    self.buckets.pop_front();
                }
                self.buckets.push_back((now, bytes));
            }
        }
    }

    /// Bytes a second.
    pub(super) fn rate(&self, now: Instant) -> u64 {
        let window = BUCKET * MAX_BUCKETS as u32;
        let recent = self
            .buckets
            .iter()
            .filter(|(since, _)| now.saturating_since(*since) < window);
        let bytes = recent.fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let window = window.min(now.saturating_since(self.began)).max(BUCKET);
        (bytes as f64 / window.as_secs_f64()) as u64
    }
}
