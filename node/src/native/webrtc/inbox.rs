//! What the port has for one peer's task, and which peers there are.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;

use super::certificate_hash::CertificateHash;

/// Bytes of one peer's datagrams that wait for its task. Filled by the peer, while its task is
/// busy or the node has not taken what came before; what comes then is dropped, as a router on
/// the way would, and SCTP sends it again.
const MAX_INBOX_BYTES: usize = 512 * 1024;

/// What each datagram counts for besides its bytes: the smallest cost memory too.
const DATAGRAM_COST: usize = 128;

/// Addresses of one peer: those of a machine's several networks, and what a NAT makes of them
/// later. The peer fills it; further ones are not heard.
const MAX_ADDRESSES: usize = 4;

/// Which dial this is: a tab dials again with the same certificate, and then with a user fragment
/// of its own that is new.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DialKey {
    pub(super) certificate: CertificateHash,
    pub(super) remote: String,
}

/// A peer's datagrams.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) key: DialKey,
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    bytes: usize,
    waker: Option<Waker>,
}

impl Inbox {
    pub(super) fn new(key: DialKey) -> Self {
        Inbox {
            key,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one in; false if there is no room.
    pub(super) fn push(&self, source: SocketAddr, datagram: &[u8]) -> bool {
        let mut state = self.state();
        let cost = datagram.len().saturating_add(DATAGRAM_COST);
        if state.bytes.saturating_add(cost) > MAX_INBOX_BYTES {
            return false;
        }
        state.bytes += cost;
        state
            .datagrams
            .push_back((source, Bytes::copy_from_slice(datagram)));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Takes all, or leaves `cx`'s waker to be called when there is one.
    pub(super) fn take(&self, cx: &mut Context<'_>) -> VecDeque<(SocketAddr, Bytes)> {
        let mut state = self.state();
        state.bytes = 0;
        if state.datagrams.is_empty() {
            state.waker = Some(cx.waker().clone());
            // An idle peer holds no queue.
            return std::mem::take(&mut state.datagrams);
        }
        std::mem::take(&mut state.datagrams)
    }
}

/// All peers of a port.
#[derive(Debug, Default)]
pub(super) struct Table {
    dials: HashMap<DialKey, Entry>,
    addresses: HashMap<SocketAddr, Arc<Inbox>>,
}

#[derive(Debug)]
struct Entry {
    inbox: Arc<Inbox>,
    addresses: HashSet<SocketAddr>,
}

impl Table {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.dials.len()
    }

    /// Whose datagrams come from there.
    pub(super) fn at(&self, source: &SocketAddr) -> Option<&Arc<Inbox>> {
        self.addresses.get(source)
    }

    pub(super) fn of(&self, key: &DialKey) -> Option<&Arc<Inbox>> {
        self.dials.get(key).map(|entry| &entry.inbox)
    }

    /// From now on what comes from `source` is this peer's; false if it has enough addresses. The
    /// address may have been another's: a NAT gives it to whom it likes.
    pub(super) fn add_address(&mut self, key: &DialKey, source: SocketAddr) -> bool {
        let Some(entry) = self.dials.get_mut(key) else {
            return false;
        };
        if entry.addresses.len() >= MAX_ADDRESSES {
            return false;
        }
        entry.addresses.insert(source);
        let before = self.addresses.insert(source, entry.inbox.clone());
        if let Some(before) = before.filter(|before| before.key != *key)
            && let Some(other) = self.dials.get_mut(&before.key)
        {
            other.addresses.remove(&source);
        }
        true
    }

    fn insert(&mut self, inbox: Arc<Inbox>) {
        let addresses = HashSet::new();
        self.dials
            .insert(inbox.key.clone(), Entry { inbox, addresses });
    }

    fn remove(&mut self, key: &DialKey) {
        for address in self
            .dials
            .remove(key)
            .map(|entry| entry.addresses)
            .unwrap_or_default()
        {
            self.addresses.remove(&address);
        }
    }
}

/// Keeps a peer in the table until it is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    table: Arc<Mutex<Table>>,
    pub(super) inbox: Arc<Inbox>,
}

impl Registration {
    /// Enters a peer at its first address.
    pub(super) fn new(table: &Arc<Mutex<Table>>, key: DialKey, source: SocketAddr) -> Self {
        let inbox = Arc::new(Inbox::new(key));
        let mut entries = lock(table);
        entries.insert(inbox.clone());
        entries.add_address(&inbox.key, source);
        drop(entries);
        Registration {
            table: table.clone(),
            inbox,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.inbox.key);
    }
}

pub(super) fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(first: u8) -> DialKey {
        DialKey {
            certificate: CertificateHash([first; 32]),
            remote: "abcd".to_owned(),
        }
    }

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn a_peer_leaves_nothing_behind() {
        let table = Arc::default();
        let one = Registration::new(&table, key(1), address(1));
        let two = Registration::new(&table, key(2), address(2));
        for port in 10..20 {
            lock(&table).add_address(&key(1), address(port));
        }
        assert_eq!(lock(&table).addresses.len(), MAX_ADDRESSES + 1);
        // An address that the NAT gave to somebody else.
        assert!(lock(&table).add_address(&key(2), address(1)));
        drop(one);
        assert_eq!(lock(&table).at(&address(1)).unwrap().key, key(2));
        drop(two);
        assert_eq!(lock(&table).len(), 0);
        assert!(lock(&table).addresses.is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let inbox = Inbox::new(key(1));
        let taken = (0..10_000)
            .filter(|_| inbox.push(address(1), &[0; 1200]))
            .count();
        assert_eq!(taken, MAX_INBOX_BYTES / (1200 + DATAGRAM_COST));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(inbox.take(&mut cx).len(), taken);
        assert!(inbox.push(address(1), &[0; 1200]));
    }
}
