//! The peers of one torrent: whom we know of, and what we know of those we are connected to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::metadata::MetadataFetch;

/// Addresses kept for one torrent. Trackers, DHT nodes and peers fill it; when it is full new
/// addresses are dropped: there are enough.
pub(super) const MAX_ADDRESSES: usize = 1000;

/// Addresses that are not contacted again because they sent what is not the torrent's. When it is
/// full the first of them gets another chance.
const MAX_BANNED: usize = 500;

/// Attempts after which an address that was never any use is forgotten.
const MAX_ATTEMPTS: u32 = 4;
const FIRST_RETRY: Duration = Duration::from_secs(3);

/// The most blocks asked of a peer at once: what libtorrent and others accept.
const MAX_DEPTH: usize = 250;
/// The fewest, and where a peer begins.
const MIN_DEPTH: usize = 2;
const FIRST_DEPTH: usize = 16;

/// How long a block may wait in the queue of the peer that sends it, beyond the way there and back:
/// long enough that it always has something to send, short enough that what is asked first comes
/// first. What is right between these depends on how soon the blocks are needed.
pub(super) const MIN_QUEUE_DELAY: Duration = Duration::from_millis(40);
pub(super) const MAX_QUEUE_DELAY: Duration = Duration::from_millis(800);

/// How late a block may be before another peer is asked for it too: three times what that peer's
/// blocks take, and a little.
const PATIENCE: u32 = 3;
const PATIENCE_MORE: Duration = Duration::from_millis(100);
/// The same for a peer that has not sent a block yet, by what those of the other take.
const FIRST_PATIENCE: u32 = 4;
const MIN_FIRST_PATIENCE: Duration = Duration::from_millis(400);
/// What is assumed of a peer that has not sent a block yet.
const FIRST_DELAY: Duration = Duration::from_millis(1500);

/// One connection to a peer; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerKey(pub(super) u64);

/// Whom we know of.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    addresses: BTreeMap<SocketAddr, Contact>,
    /// Who may be contacted now or from a certain time on, in the order in which they came.
    waiting: BTreeSet<(Instant, u64, SocketAddr)>,
    banned: VecDeque<SocketAddr>,
    next_number: u64,
}

#[derive(Debug, Default)]
struct Contact {
    attempts: u32,
    /// It is tried for as long as the torrent is open.
    lasts: bool,
}

impl AddressBook {
    /// Adds an address that may be contacted. Says whether it is new.
    pub(super) fn add(&mut self, now: Instant, address: SocketAddr) -> bool {
        if self.addresses.len() >= MAX_ADDRESSES
            || self.addresses.contains_key(&address)
            || self.banned.contains(&address)
        {
            return false;
        }
        self.addresses.insert(address, Contact::default());
        self.wait(now, address);
        true
    }

    /// Adds an address that is never forgotten.
    pub(super) fn add_lasting(&mut self, now: Instant, address: SocketAddr) {
        self.add(now, address);
        if let Some(contact) = self.addresses.get_mut(&address) {
            contact.lasts = true;
        }
    }

    /// Whom to contact now, and whether for the first time.
    pub(super) fn take(&mut self, now: Instant) -> Option<(SocketAddr, bool)> {
        let next = self.waiting.first().copied()?;
        if next.0 > now {
            return None;
        }
        self.waiting.remove(&next);
        let contact = self.addresses.get_mut(&next.2)?;
        contact.attempts += 1;
        Some((next.2, contact.attempts == 1))
    }

    /// When somebody can be contacted.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, ..)| *at)
    }

    /// The connection to an address ended. One that was of use is contacted again soon.
    pub(super) fn ended(&mut self, now: Instant, address: SocketAddr, was_of_use: bool) {
        let Some(contact) = self.addresses.get_mut(&address) else {
            return;
        };
        if was_of_use {
            contact.attempts = 1;
        }
        let attempts = contact.attempts.clamp(1, MAX_ATTEMPTS);
        if attempts == MAX_ATTEMPTS && !contact.lasts {
            self.addresses.remove(&address);
        } else {
            self.wait(now + FIRST_RETRY * 4u32.pow(attempts - 1), address);
        }
    }

    /// An address that sent what is not the torrent's.
    pub(super) fn ban(&mut self, address: SocketAddr) {
        self.addresses.remove(&address);
        self.waiting.retain(|(.., waiting)| *waiting != address);
        if self.banned.len() >= MAX_BANNED {
            self.banned.pop_front();
        }
        self.banned.push_back(address);
    }

    pub(super) fn is_banned(&self, address: SocketAddr) -> bool {
        self.banned.contains(&address)
    }

    fn wait(&mut self, at: Instant, address: SocketAddr) {
        self.next_number += 1;
        self.waiting.insert((at, self.next_number, address));
    }
}

/// One peer that we are connected to.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Wakes the task that holds its connection.
    pub(super) wake: Arc<Notify>,
    /// The connection should end.
    pub(super) hang_up: bool,
    pub(super) has: Has,
    pub(super) choked: bool,
    /// What was asked of it, in order.
    pub(super) queue: VecDeque<Request>,
    /// Requests to take back.
    pub(super) cancels: Vec<Request>,
    depth: usize,
    max_depth: usize,
    /// What a block takes, smoothed, and at the least.
    delay: Option<Duration>,
    least_delay: Duration,
    pub(super) connected_at: Instant,
    pub(super) last_block: Option<Instant>,
    /// Blocks that came and were not asked for.
    pub(super) unasked: u32,
    /// The length of the info dictionary that it says it has.
    pub(super) metadata_length: Option<u32>,
    pub(super) metadata: Option<MetadataFetch>,
    /// It was asked for v2 hashes and did not send them.
    pub(super) lacks_layers: bool,
}

/// A block as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) piece: u32,
    pub(super) block: u32,
    pub(super) length: u32,
    pub(super) at: Instant,
}

impl Peer {
    pub(super) fn new(now: Instant, address: SocketAddr, wake: Arc<Notify>) -> Self {
        Self {
            address,
            wake,
            hang_up: false,
            has: Has::default(),
            choked: true,
            queue: VecDeque::new(),
            cancels: Vec::new(),
            depth: FIRST_DEPTH,
            max_depth: MAX_DEPTH,
            delay: None,
            least_delay: Duration::MAX,
            connected_at: now,
            last_block: None,
            unasked: 0,
            metadata_length: None,
            metadata: None,
            lacks_layers: false,
        }
    }

    /// How many blocks it keeps waiting for us at most.
    pub(super) fn limit_depth(&mut self, blocks: u32) {
        self.max_depth = (blocks as usize).clamp(MIN_DEPTH, MAX_DEPTH);
        self.depth = self.depth.min(self.max_depth);
    }

    /// How many more blocks to ask of it. It is asked for several at a time, so that a message
    /// and a turn of the lock are not spent on each.
    pub(super) fn room(&self) -> usize {
        let room = self.depth.saturating_sub(self.queue.len());
        let worth_it = self.queue.len() <= self.depth / 2 || room >= 8;
        if worth_it { room } else { 0 }
    }

    /// When a block that is asked now is late; none if nothing is known of this peer.
    pub(super) fn late_at(&self, now: Instant) -> Option<Instant> {
        Some(now + self.delay? * PATIENCE + PATIENCE_MORE)
    }

    /// How long to wait for one of whom nothing is known before this one is asked as well.
    pub(super) fn first_patience(&self) -> Duration {
        let delay = self.delay.unwrap_or(FIRST_DELAY);
        (delay * FIRST_PATIENCE).max(MIN_FIRST_PATIENCE)
    }

    /// A block came that was asked `waited` ago: the queue grows while blocks wait less than
    /// `queue_delay` in it, as fast as they come, and shrinks when they wait longer. So its length
    /// follows the peer's rate.
    pub(super) fn block_came(&mut self, now: Instant, waited: Duration, queue_delay: Duration) {
        self.last_block = Some(now);
        let smoothed = self.delay.map_or(waited, |delay| (delay * 7 + waited) / 8);
        self.delay = Some(smoothed);
        self.least_delay = self.least_delay.min(waited);
        let in_queue = waited - self.least_delay;
        if in_queue < queue_delay {
            self.depth = (self.depth + 1).min(self.max_depth);
        } else if in_queue > queue_delay * 2 {
            self.depth = (self.depth - 1).max(MIN_DEPTH);
        }
    }

    /// Since when it owes us a block without having sent any.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let oldest = self.queue.front()?.at;
        Some(self.last_block.map_or(oldest, |last| last.max(oldest)))
    }
}

/// Which pieces a peer has.
#[derive(Debug, Default)]
pub(super) struct Has {
    bits: Vec<u8>,
}

impl Has {
    pub(super) fn set_all(&mut self, bitfield: &[u8]) {
        self.bits = bitfield.to_vec();
    }

    pub(super) fn set(&mut self, piece: u32) {
        let byte = (piece / 8) as usize;
        if self.bits.len() <= byte {
            self.bits.resize(byte + 1, 0);
        }
        if let Some(byte) = self.bits.get_mut(byte) {
            *byte |= 0x80 >> (piece % 8);
        }
    }

    pub(super) fn contains(&self, piece: u32) -> bool {
        let byte = self.bits.get((piece / 8) as usize);
        byte.is_some_and(|byte| byte & (0x80 >> (piece % 8)) != 0)
    }

    /// How many bytes the bitfield has, which tells of how many pieces it speaks.
    pub(super) fn byte_length(&self) -> usize {
        self.bits.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{AddressBook, FIRST_DEPTH, Has, MAX_ADDRESSES, MAX_DEPTH, Peer};

    fn address(number: usize) -> std::net::SocketAddr {
        ([1, 2, (number >> 8) as u8, number as u8], 6881).into()
    }

    #[test]
    fn the_book_tries_again_later_and_then_forgets() {
        let mut now = Instant::now();
        let mut book = AddressBook::default();
        assert!(book.add(now, address(1)));
        assert!(!book.add(now, address(1)));
        let mut attempts = 0;
        while let Some(at) = book.next_at() {
            now = at;
            attempts += 1;
            assert_eq!(book.take(now), Some((address(1), attempts == 1)));
            assert_eq!(book.take(now), None);
            book.ended(now, address(1), false);
            assert_eq!(book.take(now), None, "at once again");
        }
        assert_eq!(attempts, 4);
        // Somebody names it again: it gets its chances again.
        assert!(book.add(now, address(1)));

        let mut book = AddressBook::default();
        book.add_lasting(now, address(2));
        for attempt in 0..20 {
            now = book.next_at().expect("another attempt");
            assert_eq!(book.take(now), Some((address(2), attempt == 0)));
            book.ended(now, address(2), false);
        }
    }

    #[test]
    fn the_banned_do_not_come_back_and_the_book_is_bounded() {
        let now = Instant::now();
        let mut book = AddressBook::default();
        book.add(now, address(0));
        book.ban(address(0));
        assert!(!book.add(now, address(0)));
        assert_eq!(book.take(now), None);
        for number in 1..2 * MAX_ADDRESSES {
            book.add(now, address(number));
        }
        assert_eq!(book.addresses.len(), MAX_ADDRESSES);
        assert_eq!(
            book.take(now),
            Some((address(1), true)),
            "first come, first served"
        );
    }

    #[test]
    fn the_queue_follows_the_rate() {
        let now = Instant::now();
        let mut peer = Peer::new(now, address(0), Default::default());
        assert_eq!(peer.room(), FIRST_DEPTH);
        assert_eq!(peer.late_at(now), None);
        let came = |peer: &mut Peer, waited_ms: u64| {
            for _ in 0..1000 {
                let waited = Duration::from_millis(waited_ms);
                peer.block_came(now, waited, Duration::from_millis(100));
            }
        };
        // A long way, and no queue.
        came(&mut peer, 300);
        assert_eq!(peer.room(), MAX_DEPTH);
        assert_eq!(peer.late_at(now), Some(now + Duration::from_millis(1000)));
        came(&mut peer, 450);
        assert_eq!(peer.room(), MAX_DEPTH);
        came(&mut peer, 600);
        assert_eq!(peer.room(), 2);
        peer.limit_depth(1_000_000);
        peer.limit_depth(100);
        came(&mut peer, 300);
        assert_eq!(peer.room(), 100);
    }

    #[test]
    fn bitfields() {
        let mut has = Has::default();
        has.set_all(&[0b1000_0001]);
        has.set(10);
        let pieces: Vec<u32> = (0..40).filter(|piece| has.contains(*piece)).collect();
        assert_eq!(pieces, [0, 7, 10]);
        assert_eq!(has.byte_length(), 2);
    }
}
