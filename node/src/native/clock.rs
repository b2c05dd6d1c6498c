//! The two clocks of a native host, read nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::Instant;

/// Maps tokio's clock to the core's: microseconds since the node began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    /// A clock that stands at [`Instant::ZERO`] now.
    pub fn start() -> Self {
        Clock {
            origin: tokio::time::Instant::now(),
        }
    }

    /// The core's time now.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// When tokio's clock will show what the core calls `at`; a far future for
    /// [`Instant::FAR_FUTURE`].
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        /// As far as tokio's timer wheel is comfortable with.
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
        self.origin + Duration::from_micros(at.as_micros()).min(LONGEST)
    }
}

/// Seconds since 1970, as the machine's clock has it: for certificates and expiries.
pub fn unix_seconds() -> u64 {
    // The one place where a native host reads the wall clock: it enters the core as data.
    #[expect(clippy::disallowed_methods)]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
