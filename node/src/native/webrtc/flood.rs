//! How many requests of strangers are looked at, by the network that they say they come from.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Networks are counted in so many places. Strangers fill them, and what they hold is all that is
/// ever kept of them; networks that meet in one place share its limit. Where a network is counted
/// is another in each process, so nobody can aim at somebody else's.
const PLACES: usize = 8192;

/// What a limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// A second.
    pub(super) per_second: u32,
    /// At once.
    pub(super) burst: u32,
}

/// Counts requests by network, and all together.
#[derive(Debug)]
pub(super) struct Flood {
    of_network: Rate,
    of_all: Rate,
    places: Box<[Bucket]>,
    all: Bucket,
    start: Instant,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// What is left, in thousandths.
    left: u32,
    /// When that was so, in milliseconds since the start.
    at: u32,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: u32) -> bool {
        let full = rate.burst.saturating_mul(1000);
        let gained = now.wrapping_sub(self.at).saturating_mul(rate.per_second);
        self.at = now;
        self.left = self.left.saturating_add(gained).min(full);
        let taken = self.left.checked_sub(1000);
        self.left = taken.unwrap_or(self.left);
        taken.is_some()
    }
}

impl Flood {
    pub(super) fn new(of_network: Rate, of_all: Rate, now: Instant) -> Self {
        let full = |rate: Rate| Bucket {
            left: rate.burst.saturating_mul(1000),
            at: 0,
        };
        Flood {
            of_network,
            of_all,
            places: vec![full(of_network); PLACES].into(),
            all: full(of_all),
            start: now,
            hasher: RandomState::new(),
        }
    }

    /// Whether one more of this network, a /24 (IPv4) or /48 (IPv6), is looked at.
    pub(super) fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        let now = self.millis(now);
        let place = self.hasher.hash_one(network(source)) as usize % PLACES;
        self.places
            .get_mut(place)
            .is_some_and(|bucket| bucket.take(self.of_network, now))
    }

    /// Whether one more of those that were looked at is taken.
    pub(super) fn admit_among_all(&mut self, now: Instant) -> bool {
        let now = self.millis(now);
        self.all.take(self.of_all, now)
    }

    fn millis(&self, now: Instant) -> u32 {
        let since: Duration = now.saturating_duration_since(self.start);
        // Round the clock in 49 days, at which a place forgets for once how full it was.
        since.as_millis() as u32
    }
}

fn network(source: IpAddr) -> [u8; 7] {
    match source.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [a, b, c, 0, 0, 0, 4]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            [a, b, c, d, e, f, 6]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: Rate = Rate {
        per_second: 2,
        burst: 4,
    };
    const ALL: Rate = Rate {
        per_second: 100,
        burst: 100,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_has_its_rate_and_no_more() {
        let start = Instant::now();
        let mut flood = Flood::new(NETWORK, ALL, start);
        let admitted = |flood: &mut Flood, now| {
            (0..255_u8)
                .filter(|last| flood.admit([192, 0, 2, *last].into(), now))
                .count()
        };
        assert_eq!(admitted(&mut flood, start), 4);
        assert_eq!(admitted(&mut flood, start), 0);
        assert_eq!(admitted(&mut flood, start + Duration::from_millis(1500)), 3);
        assert_eq!(admitted(&mut flood, start + Duration::from_secs(900)), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn networks_are_told_apart() {
        assert_eq!(network(ip("::ffff:192.0.2.1")), network(ip("192.0.2.9")));
        assert_ne!(network(ip("192.0.2.1")), network(ip("192.0.3.1")));
        assert_eq!(network(ip("2001:db8:1::")), network(ip("2001:db8:1:9::")));
        assert_ne!(network(ip("2001:db8:1::")), network(ip("2001:db8:2::")));
        assert_ne!(network(ip("400::")), network(ip("0.0.0.0")));
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_have_a_limit_too() {
        let start = Instant::now();
        let mut flood = Flood::new(NETWORK, ALL, start);
        let taken = (0..1000).filter(|_| flood.admit_among_all(start)).count();
        assert_eq!(taken, 100);
    }
}
