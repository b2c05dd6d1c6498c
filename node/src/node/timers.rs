//! What wakes the node, and when: one ordered set for all its parts.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{CircuitId, LinkId, TorrentId};
use crate::time::Instant;
use crate::torrent::Infohash;

/// Why the node will wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wake {
    /// A link's handshake is late.
    Handshake(LinkId),
    /// A bridge may be tried again, by its place in the configuration.
    Bridge(usize),
    /// Routers must be asked for, registered, or circuits built.
    Directory,
    /// A router's link certificates grow old.
    Certs,
    /// The host has not signed in time.
    Signatures,
    /// Idle circuits give back memory.
    Sweep,
    /// A circuit that this node builds is late.
    Build(CircuitId),
    /// A circuit of another's waits for its next hop.
    Extend(u64),
    /// A torrent's requester wants to look at the clock.
    Torrent(TorrentId),
    /// Kademlia wants to look at the clock.
    Kademlia,
    /// Others are to be told what was told here.
    Telling,
    /// What others' circuits wait with may go on.
    Carry,
    /// A question to a peer is late.
    Asks,
    /// The content server wants to look at the clock.
    Server,
    /// The server of what this node holds does.
    Holder,
    /// A name that others are asked for does.
    Relay(Infohash),
}

/// One wake-up at most for each reason.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Instant, Wake)>,
    by_wake: BTreeMap<Wake, Instant>,
}

impl Timers {
    /// Wakes for `wake` at `at`, instead of when it was set before.
    pub(crate) fn set(&mut self, wake: Wake, at: Instant) {
        if let Some(before) = self.by_wake.insert(wake, at) {
            self.by_time.remove(&(before, wake));
        }
        self.by_time.insert((at, wake));
    }

    /// When it will wake for `wake`.
    pub(crate) fn at(&self, wake: Wake) -> Option<Instant> {
        self.by_wake.get(&wake).copied()
    }

    /// Does not wake for `wake`.
    pub(crate) fn clear(&mut self, wake: Wake) {
        if let Some(before) = self.by_wake.remove(&wake) {
            self.by_time.remove(&(before, wake));
        }
    }

    /// The next moment to wake at.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one reason whose time has come.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Wake> {
        let (at, wake) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(wake);
        Some(wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_wakes_once_at_its_last_time() {
        let mut timers = Timers::default();
        timers.set(Wake::Directory, Instant::from_micros(5));
        timers.set(Wake::Server, Instant::from_micros(3));
        timers.set(Wake::Directory, Instant::from_micros(9));
        assert_eq!(timers.next(), Some(Instant::from_micros(3)));
        let now = Instant::from_micros(9);
        assert_eq!(timers.take_due(now), Some(Wake::Server));
        assert_eq!(timers.take_due(now), Some(Wake::Directory));
        assert_eq!(timers.take_due(now), None);
    }
}
