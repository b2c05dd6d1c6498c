//! The limit on what all peers together are given.

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How much may be given at once after nothing was for a while.
const BURST: Duration = Duration::from_millis(200);

/// Gives out turns, so that together they keep to a rate.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_a_second: Option<NonZeroU64>,
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(bytes_a_second: Option<NonZeroU64>) -> Self {
        Self {
            bytes_a_second,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until so many bytes may be given.
    pub(super) async fn take(&self, bytes: u64) {
        if let Some(turn) = self.turn(Instant::now(), bytes) {
            sleep_until(turn).await;
        }
    }

    fn turn(&self, now: Instant, bytes: u64) -> Option<Instant> {
        let rate = self.bytes_a_second?;
        let mut next = self.next.lock().unwrap_or_else(|error| error.into_inner());
        let turn = (*next).max(now.checked_sub(BURST).unwrap_or(now));
        let lasts = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
        *next = turn + lasts;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn together_they_keep_to_the_rate() {
        let pace = Pace::new(NonZeroU64::new(100_000));
        let now = Instant::now() + BURST;
        let turns: Vec<_> = (0..50).map(|_| pace.turn(now, 16_384).unwrap()).collect();
        // 49 blocks before the last, at 100,000 bytes a second.
        let expected = Duration::from_nanos(49 * 163_840_000);
        assert_eq!(turns[49] - turns[0], expected);
        assert!(turns[0] <= now);
        // Who was silent for long does not have all that time's bytes.
        let later = now + Duration::from_secs(3600);
        assert_eq!(pace.turn(later, 1), Some(later - BURST));
    }

    #[tokio::test]
    async fn without_a_rate_nobody_waits() {
        assert_eq!(Pace::new(None).turn(Instant::now(), u64::MAX), None);
    }
}
