//! What one link may ask: so many questions a second, and none twice.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// Questions under way here that came over one link. The peer fills it; one more is answered with
/// BUSY.
const MAX_ASKS_OF_LINK: usize = 128;
/// Tokens remembered of each link, so that no question is passed on twice. The peer fills it; the
/// oldest is forgotten.
const MAX_TOKENS: usize = 256;
/// For how long a link that asks no more is remembered by its tokens: longer than a question can be
/// on its way.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Questions that come over one link in a second, in the long run; more are answered with BUSY …
const ASKS_PER_SECOND: u64 = 50;
/// … unless it was silent before.
const ASKS_AT_ONCE: u64 = 250;

/// What a link asked of late.
#[derive(Debug)]
pub(super) struct Meter {
    /// Those of late, the oldest first, so that no question is passed on twice.
    tokens: VecDeque<u64>,
    /// Questions of its that are being passed on.
    pub(super) under_way: usize,
    /// When it may ask again as if it had never asked: a leaky bucket as one moment.
    empty_at: Instant,
}

impl Meter {
    pub(super) fn new() -> Self {
        Meter {
            tokens: VecDeque::new(),
            under_way: 0,
            empty_at: Instant::ZERO,
        }
    }

    /// Whether one more question is within the rate.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let cost = Duration::from_micros(1_000_000 / ASKS_PER_SECOND);
        let depth = Duration::from_micros(1_000_000 * ASKS_AT_ONCE / ASKS_PER_SECOND);
        let begin = self.empty_at.max(now);
        if begin.saturating_since(now) + cost > depth {
            return false;
        }
        self.empty_at = begin + cost;
        true
    }

    /// Whether no more of its questions are passed on for now.
    pub(super) fn is_full(&self) -> bool {
        self.under_way >= MAX_ASKS_OF_LINK
    }

    /// Whether a token is new; it is not afterwards.
    pub(super) fn is_new(&mut self, token: u64) -> bool {
        if self.tokens.contains(&token) {
            return false;
        }
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.pop_front();
        }
        self.tokens.push_back(token);
        true
    }

    /// Forgets the tokens of a link that has been silent for long: none of them is on its way.
    pub(super) fn rest(&mut self, now: Instant) {
        if now.saturating_since(self.empty_at) > TOKEN_LIFE {
            self.tokens = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_once_and_the_oldest_is_forgotten() {
        let mut meter = Meter::new();
        assert!(meter.is_new(1));
        assert!(!meter.is_new(1));
        assert!((2..=MAX_TOKENS as u64 + 1).all(|token| meter.is_new(token)));
        assert_eq!(meter.tokens.len(), MAX_TOKENS);
        assert!(meter.is_new(1), "long ago");
    }

    #[test]
    fn a_silent_link_costs_nothing() {
        let mut meter = Meter::new();
        let begin = Instant::from_micros(1);
        assert!(meter.allows(begin) && meter.is_new(1));
        meter.rest(begin + TOKEN_LIFE);
        assert!(!meter.is_new(1), "it was not silent for long");
        meter.rest(begin + TOKEN_LIFE * 2);
        assert_eq!(meter.tokens.capacity(), 0);
    }

    #[test]
    fn the_rate_is_held_in_the_long_run() {
        let mut meter = Meter::new();
        let mut allowed = 0;
        for millis in 0..100_000 {
            let now = Instant::from_micros(millis * 1000);
            allowed += u64::from(meter.allows(now));
        }
        let most = ASKS_AT_ONCE + 100 * ASKS_PER_SECOND;
        assert!((most - 2..=most + 2).contains(&allowed), "{allowed}");
    }
}
