//! How fast a node may fetch, and serve what it has: bytes in a second.

use std::time::Duration;

use crate::node::Node;
use crate::time::Instant;

/// What was not used is saved up for so long.
const BURST: Duration = Duration::from_millis(250);
/// Who was held back is let on so long after it may be: not for each block alone.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes in a second; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of content that is served, by the cells that carry it.
    pub up: Option<u64>,
    /// Of content that is asked for.
    pub down: Option<u64>,
}

/// A bucket that fills at a rate. What is taken may overdraw it: then it is closed until that is
/// paid off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Option<u64>,
    /// When all that was taken is paid off.
    paid: Instant,
}

impl Bucket {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            rate: None,
            paid: now,
        }
    }

    fn set_rate(&mut self, now: Instant, rate: Option<u64>) {
        if rate != self.rate {
            *self = Self { rate, paid: now };
        }
    }

    /// How much may be taken now; none is no limit.
    pub(crate) fn available(&self, now: Instant) -> Option<u64> {
        let rate = self.rate?;
        if now < self.paid {
            return Some(0);
        }
        let saved = now.saturating_since(self.paid).min(BURST);
        let bytes = saved.as_micros().saturating_mul(rate.into()) / 1_000_000;
        Some(u64::try_from(bytes).unwrap_or(u64::MAX).max(1))
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.rate.is_some()
    }

    /// Whether anything may be taken now.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.available(now) != Some(0)
    }

    /// So much was taken.
    pub(crate) fn take(&mut self, now: Instant, bytes: u64) {
        let Some(rate) = self.rate.filter(|_| bytes > 0) else {
            return;
        };
        let saved = now.saturating_since(self.paid).min(BURST);
        let cost = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
        let cost = Duration::from_micros(u64::try_from(cost).unwrap_or(u64::MAX));
        self.paid = self.paid.max(now) + cost.saturating_sub(saved);
        if cost < saved {
            // What is left of what was saved.
            let left = u64::try_from((saved - cost).as_micros()).unwrap_or(0);
            self.paid = Instant::from_micros(now.as_micros().saturating_sub(left));
        }
    }

    /// When who was held back is to try again.
    pub(crate) fn opens_at(&self) -> Instant {
        self.paid + PAUSE
    }
}

/// A node's two buckets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    pub(crate) up: Bucket,
    pub(crate) down: Bucket,
}

impl Buckets {
    pub(crate) fn new(now: Instant) -> Self {
        let (up, down) = (Bucket::new(now), Bucket::new(now));
        Self { up, down }
    }
}

impl Node {
    /// How fast it fetches and serves from now on.
    pub fn set_rates(&mut self, now: Instant, rates: Rates) {
        self.now = now;
        self.rates.up.set_rate(now, rates.up);
        self.rates.down.set_rate(now, rates.down);
        self.torrents_dirty.extend(self.torrents.keys());
        self.holder_dirty = true;
        self.server_dirty = true;
        self.settle();
    }

    /// What one torrent may ask for now, if there is a limit: those that fetch share it.
    pub(crate) fn allowance(&self) -> Option<u64> {
        let available = self.rates.down.available(self.now)?;
        let fetching = self.torrents.values().filter(|it| it.wants_sources());
        let fetching = (fetching.count() as u64).max(1);
        Some(available.min((available / fetching).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    #[test]
    fn a_bucket_gives_its_rate_and_a_burst() {
        let mut bucket = Bucket::new(at(0));
        assert_eq!(bucket.available(at(5)), None);
        bucket.set_rate(at(0), Some(100_000));
        let mut taken = 0;
        let mut now = at(10_000);
        while now < at(20_000) {
            match bucket.available(now) {
                Some(0) => now = bucket.opens_at().max(now),
                _ => {
                    bucket.take(now, 16_384);
                    taken += 16_384;
                }
            }
        }
        // Ten seconds, the burst, and what overdraws.
        assert!((950_000..=1_041_384).contains(&taken), "{taken}");
    }

    #[test]
    fn what_is_saved_is_spent_once_and_no_rate_is_no_limit() {
        let mut bucket = Bucket::new(at(0));
        bucket.set_rate(at(0), Some(1_000_000));
        assert_eq!(bucket.available(at(100)), Some(100_000));
        bucket.take(at(100), 60_000);
        assert_eq!(bucket.available(at(100)), Some(40_000));
        bucket.take(at(100), 140_000);
        assert!(!bucket.is_open(at(199)));
        assert!(bucket.is_open(at(200)));
        // The same rate again forgives nothing; none forgives all.
        bucket.set_rate(at(150), Some(1_000_000));
        assert!(!bucket.is_open(at(199)));
        bucket.set_rate(at(150), None);
        bucket.take(at(150), u64::MAX);
        assert!(bucket.is_open(at(150)));
    }
}
