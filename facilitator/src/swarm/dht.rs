//! Finding peers in the Mainline DHT (BEP 5) without being a part of it.
//!
//! A search has a socket and a node id of its own, says that it is read-only (BEP 43), asks
//! `get_peers` of nodes closer and closer to the name, and is gone. It answers nothing and
//! announces nothing: the code for it does not exist.
//!
//! The crate `mainline` 8 was to do this. Its client mode is adaptive: after 15 minutes on a
//! public address it becomes a server that answers and loses the read-only mark
//! (`Rpc::try_switching_to_server_mode`), and nothing public turns that off. It also sends to any
//! address that a node names, private ones included, pings each node it asks, wakes up 20 times a
//! second for ever, and does not tell how many nodes answered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use librqbit_bencode::{ByteBuf, from_bytes};
use serde::Deserialize;
use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::address::may_contact;

type NodeId = [u8; 20];

/// A search ends when this many of the closest nodes that live were asked.
const CLOSEST: usize = 12;
/// Questions under way at once.
const PARALLEL: usize = 8;
/// A node that is slower is not waited for.
const NODE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Nodes asked in one search.
const MAX_ASKED: usize = 250;
/// Nodes that a search keeps in mind. Nodes fill it with those that they name; when it is full the
/// farthest is dropped.
const MAX_CANDIDATES: usize = 200;
/// Nodes believed of one answer. Eight is usual.
const MAX_NAMED: usize = 20;
/// Nodes that answered, kept for the next search. When full, an arbitrary one is replaced.
const MAX_KNOWN: usize = 200;
/// With fewer known nodes the bootstrap nodes are asked as well.
const ENOUGH_KNOWN: usize = 8;
const MAX_BOOTSTRAP: usize = 16;
const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer datagrams are no answer.
const MAX_DATAGRAM: usize = 4096;

/// What is remembered between searches.
#[derive(Debug)]
pub(super) struct Dht {
    bootstrap: Vec<String>,
    allow_private: bool,
    known: Mutex<HashMap<SocketAddr, NodeId>>,
}

impl Dht {
    /// `bootstrap` are hosts with ports.
    pub(super) fn new(bootstrap: Vec<String>, allow_private: bool) -> Self {
        Self {
            bootstrap,
            allow_private,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, NodeId>> {
        self.known.lock().unwrap_or_else(|error| error.into_inner())
    }
}

/// Searches once, over IPv4 and IPv6, as long as it is `wanted`. Tells the peers as they are found,
/// and each node that answers.
pub(super) async fn search(
    dht: &Dht,
    target: NodeId,
    wanted: impl Fn() -> bool,
    found: impl Fn(&[SocketAddr]),
    answered: impl Fn(u32),
) {
    let v4 = Ipv4Addr::UNSPECIFIED.into();
    let v6 = Ipv6Addr::UNSPECIFIED.into();
    let search = async |local: IpAddr| {
        let mut search = Search::new(dht, local.is_ipv4(), target);
        // Without IPv6 there is no socket, and nothing to search.
        let Ok(socket) = UdpSocket::bind((local, 0)).await else {
            return;
        };
        let searching = search.run(&socket, &wanted, &found, &answered);
        let _ = timeout(SEARCH_TIMEOUT, searching).await;
    };
    tokio::join!(search(v4), search(v6));
}

struct Search<'a> {
    dht: &'a Dht,
    is_v4: bool,
    target: NodeId,
    /// A name of our own, for this search only.
    own_id: NodeId,
    /// Nodes whose id is not known yet: the bootstrap nodes.
    unnamed: Vec<SocketAddr>,
    /// Their addresses, as they are looked up.
    lookups: JoinSet<std::io::Result<Vec<SocketAddr>>>,
    /// By distance from the target.
    candidates: BTreeMap<NodeId, Candidate>,
    seen: HashSet<SocketAddr>,
    questions: HashMap<[u8; 4], Question>,
    asked: usize,
}

struct Candidate {
    address: SocketAddr,
    asked: bool,
}

struct Question {
    address: SocketAddr,
    distance: Option<NodeId>,
    until: Instant,
}

/// An answer to `get_peers`, as far as we care.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    t: ByteBuf<'a>,
    #[serde(borrow)]
    r: Option<Answer<'a>>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: ByteBuf<'a>,
    #[serde(borrow)]
    nodes: Option<ByteBuf<'a>>,
    #[serde(borrow)]
    nodes6: Option<ByteBuf<'a>>,
    #[serde(borrow)]
    values: Option<Vec<ByteBuf<'a>>>,
}

impl<'a> Search<'a> {
    fn new(dht: &'a Dht, is_v4: bool, target: NodeId) -> Self {
        let mut search = Self {
            dht,
            is_v4,
            target,
            own_id: rand::random(),
            unnamed: Vec::new(),
            lookups: JoinSet::new(),
            candidates: BTreeMap::new(),
            seen: HashSet::new(),
            questions: HashMap::new(),
            asked: 0,
        };
        let known: Vec<_> = dht.known().iter().map(|(a, id)| (*a, *id)).collect();
        for (address, id) in known {
            search.add(address, id);
        }
        if search.candidates.len() < ENOUGH_KNOWN {
            for host in dht.bootstrap.iter().take(MAX_BOOTSTRAP).cloned() {
                let lookup = async move { Ok(lookup_host(host).await?.collect()) };
                search.lookups.spawn(lookup);
            }
        }
        search
    }

    /// Where a bootstrap node is. The operator named it: it may be anywhere.
    fn enter(&mut self, addresses: Vec<SocketAddr>) {
        for address in addresses {
            if address.is_ipv4() == self.is_v4
                && self.unnamed.len() < MAX_BOOTSTRAP
                && self.seen.insert(address)
            {
                self.unnamed.push(address);
            }
        }
    }

    async fn run(
        &mut self,
        socket: &UdpSocket,
        wanted: &impl Fn() -> bool,
        found: &impl Fn(&[SocketAddr]),
        answered: &impl Fn(u32),
    ) {
        let mut datagram = vec![0; MAX_DATAGRAM];
        loop {
            while wanted()
                && let Some((address, distance)) = self.next()
            {
                self.ask(socket, address, distance).await;
            }
            let until = self.questions.values().map(|question| question.until).min();
            if until.is_none() && self.lookups.is_empty() {
                return;
            }
            let until = until.unwrap_or_else(|| Instant::now() + NODE_TIMEOUT);
            tokio::select! {
                Some(looked_up) = self.lookups.join_next() => match looked_up {
                    Ok(Ok(addresses)) => self.enter(addresses),
                    Ok(Err(error)) => tracing::debug!(%error, "a DHT node has no address"),
                    Err(error) => tracing::debug!(%error, "a look-up ended"),
                },
                received = socket.recv_from(&mut datagram) => {
                    // An error here is about some datagram that we sent; its node times out.
                    if let Ok((length, from)) = received
                        && let Some(bytes) = datagram.get(..length)
                        && let Some(peers) = self.handle_answer(from, bytes)
                    {
                        answered(1);
                        if !peers.is_empty() {
                            found(&peers);
                        }
                    }
                }
                () = sleep_until(until) => self.give_up(Instant::now()),
            }
        }
    }

    /// Whom to ask now.
    fn next(&mut self) -> Option<(SocketAddr, Option<NodeId>)> {
        if self.asked >= MAX_ASKED {
            return None;
        }
        if let Some(address) = self.unnamed.pop() {
            return Some((address, None));
        }
        if self.questions.len() >= PARALLEL {
            return None;
        }
        let closest = self.candidates.iter_mut().take(CLOSEST);
        let (distance, next) = closest.into_iter().find(|(_, node)| !node.asked)?;
        next.asked = true;
        Some((next.address, Some(*distance)))
    }

    async fn ask(&mut self, socket: &UdpSocket, address: SocketAddr, distance: Option<NodeId>) {
        self.asked += 1;
        let transaction: [u8; 4] = rand::random();
        let mut query = Vec::with_capacity(120);
        query.extend_from_slice(b"d1:ad2:id20:");
        query.extend_from_slice(&self.own_id);
        query.extend_from_slice(b"9:info_hash20:");
        query.extend_from_slice(&self.target);
        query.extend_from_slice(b"e1:q9:get_peers2:roi1e1:t4:");
        query.extend_from_slice(&transaction);
        query.extend_from_slice(b"1:y1:qe");
        // One that cannot be sent is one that is not answered.
        let _ = socket.send_to(&query, address).await;
        let question = Question {
            address,
            distance,
            until: Instant::now() + NODE_TIMEOUT,
        };
        self.questions.insert(transaction, question);
    }

    /// The peers that a node names; none if this is no answer to a question of ours.
    fn handle_answer(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<SocketAddr>> {
        let message: Message<'_> = from_bytes(datagram).ok()?;
        let transaction: [u8; 4] = message.t.0.try_into().ok()?;
        if self.questions.get(&transaction)?.address != from {
            return None;
        }
        self.questions.remove(&transaction);
        let answer = message.r?;
        let id: NodeId = answer.id.0.try_into().ok()?;
        self.remember(from, id);
        let named = match self.is_v4 {
            true => answer.nodes.map(|nodes| nodes.0.chunks_exact(26)),
            false => answer.nodes6.map(|nodes| nodes.0.chunks_exact(38)),
        };
        for node in named.into_iter().flatten().take(MAX_NAMED) {
            if let Some((id, address)) = node.split_first_chunk()
                && let Some(address) = compact_address(address)
                && may_contact(address, self.dht.allow_private)
            {
                self.add(address, *id);
            }
        }
        let values = answer.values.unwrap_or_default();
        Some(values.iter().filter_map(|v| compact_address(v.0)).collect())
    }

    fn give_up(&mut self, now: Instant) {
        let late = |question: &Question| question.until <= now;
        for question in self.questions.values().filter(|question| late(question)) {
            self.dht.known().remove(&question.address);
            if let Some(distance) = question.distance {
                self.candidates.remove(&distance);
            }
        }
        self.questions.retain(|_, question| !late(question));
    }

    fn add(&mut self, address: SocketAddr, id: NodeId) {
        if address.is_ipv4() != self.is_v4 || !self.seen.insert(address) {
            return;
        }
        let mut distance = id;
        for (byte, target) in distance.iter_mut().zip(self.target) {
            *byte ^= target;
        }
        let asked = false;
        self.candidates
            .entry(distance)
            .or_insert(Candidate { address, asked });
        if self.candidates.len() > MAX_CANDIDATES {
            self.candidates.pop_last();
        }
    }

    fn remember(&self, address: SocketAddr, id: NodeId) {
        let mut known = self.dht.known();
        if known.len() >= MAX_KNOWN && !known.contains_key(&address) {
            let replaced = known.keys().next().copied();
            replaced.and_then(|replaced| known.remove(&replaced));
        }
        known.insert(address, id);
    }
}

/// Six bytes are an IPv4 address with a port, eighteen an IPv6 one.
fn compact_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk()?;
    let ip: IpAddr = match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok()?.into(),
        16 => <[u8; 16]>::try_from(ip).ok()?.into(),
        _ => return None,
    };
    Some((ip, u16::from_be_bytes(*port)).into())
}

#[cfg(test)]
mod tests {
    use super::{Dht, Search};

    #[test]
    fn nonsense_is_no_answer() {
        let dht = Dht::new(Vec::new(), true);
        let node = ([127, 0, 0, 1], 5).into();
        let mut search = Search::new(&dht, true, [7; 20]);
        search.questions.insert(
            *b"abcd",
            super::Question {
                address: node,
                distance: None,
                until: tokio::time::Instant::now(),
            },
        );
        let mut good = Vec::from(*b"d1:rd2:id20:AAAAAAAAAAAAAAAAAAAA5:nodes52:");
        good.extend([1; 20].iter().chain(&[10, 0, 0, 1, 0, 5]));
        good.extend([2; 20].iter().chain(&[1, 2, 3, 4, 0, 5]));
        good.extend(b"6:valuesl6:\x01\x02\x03\x04\x00\x09ee1:t4:abcd1:y1:re");
        for length in 0..good.len() {
            assert_eq!(search.handle_answer(node, &good[..length]), None);
        }
        for bit in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut search = Search::new(&dht, true, [7; 20]);
            let _ = search.handle_answer(node, &flipped);
        }
        let other = ([127, 0, 0, 1], 6).into();
        assert_eq!(
            search.handle_answer(other, &good),
            None,
            "not who was asked"
        );
        let peers = search.handle_answer(node, &good);
        assert_eq!(peers, Some(vec![([1, 2, 3, 4], 9).into()]));
        assert_eq!(search.candidates.len(), 2);
        assert_eq!(search.handle_answer(node, &good), None, "answered already");
    }

    #[test]
    fn nodes_at_home_are_not_asked() {
        let dht = Dht::new(Vec::new(), false);
        let node = ([1, 1, 1, 1], 5).into();
        let mut search = Search::new(&dht, true, [7; 20]);
        search.questions.insert(
            *b"abcd",
            super::Question {
                address: node,
                distance: None,
                until: tokio::time::Instant::now(),
            },
        );
        let mut answer = Vec::from(*b"d1:rd2:id20:AAAAAAAAAAAAAAAAAAAA5:nodes26:");
        answer.extend([1; 20].iter().chain(&[192, 168, 0, 1, 0, 5]));
        answer.extend(b"e1:t4:abcd1:y1:re");
        assert_eq!(search.handle_answer(node, &answer), Some(Vec::new()));
        assert!(search.candidates.is_empty());
    }
}
