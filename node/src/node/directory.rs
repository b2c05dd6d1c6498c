//! The routers that a node knows, and how it chooses hops among them; and, at a bridge, the
//! routers that it introduces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::Router;
use crate::ids::{Ed25519Id, LinkId, RsaId};
use crate::node::signing::DESCRIPTOR_LIFE;
use crate::time::Instant;
use crate::wire::{Descriptor, Roles, VerifiedDescriptor};

/// Routers that a client remembers. Bridges fill it; the one that expires first gives way.
const MAX_ROUTERS: usize = 512;

/// How long a router is remembered at most after it was last told of, whatever it says itself:
/// longer than an honest descriptor holds, by what people's clocks are wrong.
const REMEMBER_SECONDS: u64 = 2 * DESCRIPTOR_LIFE.as_secs();

/// How long a router that let a circuit down is passed over, if there are others; it doubles each
/// time …
const SUSPECT_FOR: Duration = Duration::from_secs(30);
/// … and how long it is not tried at all, even if there is nobody else.
const REST_FOR: Duration = Duration::from_secs(1);
/// How often both double.
const MOST_DOUBLED: u32 = 5;

/// The routers that a client knows.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// In the order of their Ed25519 identities.
    routers: Vec<Known>,
    /// Those that let circuits down; nearly always few.
    failing: BTreeMap<Ed25519Id, Failing>,
    /// Before this nobody expires.
    first_expiry: u64,
}

/// A router. Its descriptor is shared with whoever else holds it; what is looked for among
/// hundreds stands here too, so that it is found without a look at each.
#[derive(Debug)]
struct Known {
    said: VerifiedDescriptor,
    /// When it is forgotten, Unix seconds.
    expiry: u64,
    /// The first bytes of its RSA identity.
    rsa: [u8; 4],
    roles: Roles,
    /// Whether it says where it is.
    is_dialable: bool,
}

/// How it went with a router that let circuits down.
#[derive(Debug)]
struct Failing {
    /// How often in turn it did.
    failures: u32,
    rests_until: Instant,
    suspect_until: Instant,
}

impl Known {
    fn new(said: &VerifiedDescriptor, unix_now: u64) -> Self {
        Known {
            said: said.clone(),
            // Who says that he is there for ever would stay when all others have given way.
            expiry: said.expiry.min(unix_now.saturating_add(REMEMBER_SECONDS)),
            rsa: beginning(&said.rsa_id),
            roles: said.roles,
            is_dialable: !said.addresses.is_empty(),
        }
    }
}

impl Directory {
    /// Takes a router from a descriptor whose signature was checked. Whether that is news: it was
    /// not known, or was not reached and says otherwise now how it is.
    pub(crate) fn learn(&mut self, said: &VerifiedDescriptor, now: Instant, unix_now: u64) -> bool {
        let new = Known::new(said, unix_now);
        self.first_expiry = self.first_expiry.min(new.expiry);
        if let Ok(place) = self.place(&said.ed25519)
            && let Some(known) = self.routers.get_mut(place)
        {
            // Anybody can tell again what it once said of itself.
            if said.expiry < known.said.expiry {
                return false;
            }
            let before = std::mem::replace(known, new).said;
            let Some(failing) = self.failing.get_mut(&said.ed25519) else {
                return false;
            };
            if is_reached_alike(&before, said) {
                return false;
            }
            failing.rests_until = Instant::ZERO;
            return std::mem::replace(&mut failing.suspect_until, Instant::ZERO) > now;
        }
        if self.routers.len() >= MAX_ROUTERS {
            let places = self.routers.iter().enumerate();
            let first = places.min_by_key(|(_, known)| known.expiry);
            if let Some(place) = first.map(|(place, _)| place) {
                let gone = self.routers.remove(place);
                self.failing.remove(&gone.said.ed25519);
            }
        }
        if let Err(place) = self.place(&said.ed25519) {
            self.routers.insert(place, new);
        }
        true
    }

    /// Where a router stands, or would.
    fn place(&self, id: &Ed25519Id) -> Result<usize, usize> {
        self.routers
            .binary_search_by(|known| known.said.ed25519.cmp(id))
    }

    /// What a router says of itself.
    pub(crate) fn said(&self, id: &Ed25519Id) -> Option<&VerifiedDescriptor> {
        let known = self.routers.get(self.place(id).ok()?)?;
        Some(&known.said)
    }

    /// The router of this ID, if it says where it is.
    pub(crate) fn dialable(&self, rsa: &RsaId) -> Option<Arc<Router>> {
        let begins = beginning(rsa);
        let mut routers = self.routers.iter();
        let known = routers
            .find(|known| known.is_dialable && known.rsa == begins && known.said.rsa_id == *rsa)?;
        Some(Arc::new(Router::from(&known.said)))
    }

    /// Whether a router is one of those known.
    pub(crate) fn knows(&self, id: &Ed25519Id) -> bool {
        self.place(id).is_ok()
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.routers.len()
    }

    /// Forgets who has expired.
    pub(crate) fn expire(&mut self, unix_now: u64) {
        if unix_now < self.first_expiry {
            return;
        }
        let failing = &mut self.failing;
        self.routers.retain(|known| {
            let stays = known.expiry > unix_now;
            if !stays {
                failing.remove(&known.said.ed25519);
            }
            stays
        });
        let expiries = self.routers.iter().map(|known| known.expiry);
        self.first_expiry = expiries.min().unwrap_or(u64::MAX);
    }

    /// A router let a circuit down: it is passed over for a while.
    pub(crate) fn suspect(&mut self, id: &Ed25519Id, now: Instant) {
        if self.place(id).is_err() {
            return;
        }
        let failing = self.failing.entry(*id).or_insert(Failing {
            failures: 0,
            rests_until: Instant::ZERO,
            suspect_until: Instant::ZERO,
        });
        // What failed at once with something else is one failure.
        if failing.rests_until <= now {
            let times = 1u32 << failing.failures.min(MOST_DOUBLED);
            failing.failures = failing.failures.saturating_add(1);
            failing.rests_until = now + REST_FOR * times;
            failing.suspect_until = now + SUSPECT_FOR * times;
        }
    }

    /// A circuit through a router was built.
    pub(crate) fn trust(&mut self, id: &Ed25519Id) {
        self.failing.remove(id);
    }

    /// When the next of those that rest may be tried again.
    pub(crate) fn rests_until(&self, now: Instant) -> Option<Instant> {
        let times = self.failing.values().map(|failing| failing.rests_until);
        times.filter(|until| *until > now).min()
    }

    fn is_suspect(&self, known: &Known, now: Instant) -> bool {
        !self.failing.is_empty()
            && self
                .failing
                .get(&known.said.ed25519)
                .is_some_and(|failing| failing.suspect_until > now)
    }

    fn rests(&self, known: &Known, now: Instant) -> bool {
        !self.failing.is_empty()
            && self
                .failing
                .get(&known.said.ed25519)
                .is_some_and(|failing| failing.rests_until > now)
    }

    /// The routers that have all of `roles`.
    pub(crate) fn with_roles(&self, roles: Roles) -> impl Iterator<Item = &VerifiedDescriptor> {
        self.routers
            .iter()
            .filter(move |known| known.roles.contains(roles))
            .map(|known| &known.said)
    }

    /// The routers that have all of `roles` and let no circuit down of late.
    pub(crate) fn trusted(
        &self,
        roles: Roles,
        now: Instant,
    ) -> impl Iterator<Item = &VerifiedDescriptor> {
        self.routers
            .iter()
            .filter(move |known| known.roles.contains(roles) && !self.is_suspect(known, now))
            .map(|known| &known.said)
    }

    /// One router with all of `roles`, at random, none of `but` and in no network of theirs; who
    /// let circuits down only if there is nobody else, and not at once; of `rather_not` only if all
    /// the others are worse.
    pub(crate) fn choose<R: Rng>(
        &self,
        roles: Roles,
        but: &[Arc<Router>],
        avoid: &BTreeSet<Ed25519Id>,
        rather_not: &BTreeSet<Ed25519Id>,
        now: Instant,
        rng: &mut R,
    ) -> Option<Arc<Router>> {
        let fit = |known: &&Known| {
            known.roles.contains(roles)
                && !self.rests(known, now)
                && !avoid.contains(&known.said.ed25519)
                && but.iter().all(|other| {
                    other.ed25519 != known.said.ed25519
                        && !share_network(&other.addresses, &known.said.addresses)
                })
        };
        let all: Vec<&Known> = self.routers.iter().filter(fit).collect();
        let good: Vec<&Known> = all
            .iter()
            .copied()
            .filter(|known| !self.is_suspect(known, now))
            .collect();
        let from = if good.is_empty() { all } else { good };
        // Of tabs, whose networks nobody knows, rather such as others introduce.
        let apart: Vec<&Known> = from
            .iter()
            .copied()
            .filter(|known| {
                but.iter()
                    .all(|other| !share_introducer(other, &known.said))
            })
            .collect();
        let from = if apart.is_empty() { from } else { apart };
        let fresh: Vec<&Known> = from
            .iter()
            .copied()
            .filter(|known| !rather_not.contains(&known.said.ed25519))
            .collect();
        let from = if fresh.is_empty() { from } else { fresh };
        pick(&from, rng).map(|known| Arc::new(Router::from(&known.said)))
    }
}

fn beginning(rsa: &RsaId) -> [u8; 4] {
    let [a, b, c, d, ..] = rsa.0;
    [a, b, c, d]
}

/// Whether a router is where it was and has the onion key that it had.
fn is_reached_alike(a: &VerifiedDescriptor, b: &VerifiedDescriptor) -> bool {
    a.rsa_id == b.rsa_id
        && a.onion_key == b.onion_key
        && a.addresses == b.addresses
        && a.dtls == b.dtls
        && a.introducers == b.introducers
}

impl From<&VerifiedDescriptor> for Router {
    fn from(descriptor: &VerifiedDescriptor) -> Self {
        Router {
            rsa: descriptor.rsa_id,
            ed25519: descriptor.ed25519,
            onion: descriptor.onion_key,
            // Which of these may be dialled is for the router that dials to say.
            addresses: descriptor.addresses.clone(),
            dtls: descriptor.dtls,
            introducers: descriptor.introducers.clone(),
        }
    }
}

/// One of `from`, each as likely.
pub(crate) fn pick<'a, T, R: Rng>(from: &'a [T], rng: &mut R) -> Option<&'a T> {
    let count = u64::try_from(from.len()).ok().filter(|count| *count > 0)?;
    // The bias of the remainder is below 2^-50 for as many routers as fit in memory.
    let index = usize::try_from(rng.next_u64() % count).ok()?;
    from.get(index)
}

/// Whether two routers stand in one network (/16, /32 for IPv6), so that one operator or observer
/// may well see both. Addresses that mean nothing outside a home tell nothing.
fn share_network(a: &[SocketAddr], b: &[SocketAddr]) -> bool {
    fn networks(of: &[SocketAddr]) -> impl Iterator<Item = [u8; 4]> {
        let ips = of.iter().map(SocketAddr::ip);
        ips.filter(|ip| is_public(*ip)).map(network)
    }
    networks(a).any(|one| networks(b).any(|other| one == other))
}

/// Whether one router introduces both, or one of them the other.
fn share_introducer(a: &Router, b: &VerifiedDescriptor) -> bool {
    let mut both = a.introducers.iter();
    both.any(|id| b.introducers.contains(id) || *id == b.rsa_id) || b.introducers.contains(&a.rsa)
}

fn network(ip: IpAddr) -> [u8; 4] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            [4, 0, a, b]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.octets();
            [a, b, c, d]
        }
    }
}

/// Whether an address can be one of the Internet's: what a router may be asked to dial.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || a == 0
                || a >= 240
                // RFC 6598, carrier-grade NAT; RFC 2544, benchmarks; RFC 6890, 192.0.0.0/24.
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (b == 18 || b == 19))
                || (a == 192 && b == 0 && ip.octets()[2] == 0))
        }
        IpAddr::V6(ip) => {
            if let Some(v4) = ip.to_ipv4_mapped() {
                return is_public(IpAddr::V4(v4));
            }
            let [first, second, ..] = ip.segments();
            // Global unicast is 2000::/3; Teredo and 6to4 in it can hide a private IPv4 address, and
            // two blocks are for documentation.
            (first & 0xe000) == 0x2000
                && !(first == 0x2001 && (second == 0 || second == 0x0db8))
                && first != 0x2002
                && first != 0x3fff
        }
    }
}

/// The routers that a bridge introduces: those whose link stands.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    routers: BTreeMap<Ed25519Id, (VerifiedDescriptor, LinkId)>,
}

impl Registry {
    /// Takes a router's descriptor, which came over `link`. False if there is no room.
    pub(crate) fn register(
        &mut self,
        verified: VerifiedDescriptor,
        link: LinkId,
        most: usize,
    ) -> bool {
        let id = verified.ed25519;
        if self.routers.len() >= most && !self.routers.contains_key(&id) {
            return false;
        }
        self.routers.insert(id, (verified, link));
        true
    }

    /// A link is gone, and with it who was registered over it.
    pub(crate) fn forget_link(&mut self, link: LinkId) {
        self.routers.retain(|_, (_, over)| *over != link);
    }

    /// How many are registered.
    pub(crate) fn len(&self) -> usize {
        self.routers.len()
    }

    /// Up to `count` of those with all of `roles`, at random.
    pub(crate) fn sample<R: Rng>(
        &mut self,
        roles: Roles,
        count: usize,
        unix_now: u64,
        rng: &mut R,
    ) -> Vec<Descriptor> {
        self.routers
            .retain(|_, (verified, _)| verified.expiry > unix_now);
        let mut fit: Vec<&Descriptor> = self
            .routers
            .values()
            .filter(|(verified, _)| verified.roles.contains(roles))
            .map(|(verified, _)| verified.descriptor())
            .collect();
        let mut chosen = Vec::new();
        while chosen.len() < count && !fit.is_empty() {
            let len = fit.len() as u64;
            let index = (rng.next_u64() % len) as usize;
            chosen.push(fit.swap_remove(index).clone());
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_addresses_are_not_public() {
        for home in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.9.9",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "3fff::1",
            "198.18.0.1",
            "192.0.0.8",
        ] {
            assert!(!is_public(home.parse().unwrap()), "{home}");
        }
        for public in [
            "8.8.8.8",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn what_a_router_said_before_is_not_believed_again() {
        let secret = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
        let said = |expiry, port| {
            let body = crate::wire::DescriptorBody {
                rsa_id: RsaId([1; 20]),
                ed25519: Ed25519Id(secret.verifying_key().to_bytes()),
                onion_key: crate::ids::OnionKey([2; 32]),
                roles: Roles::ROUTER,
                expiry,
                addresses: vec![SocketAddr::from(([8, 8, 8, 8], port))],
                dtls: None,
                introducers: Vec::new(),
                provides: None,
                extensions: Vec::new(),
            };
            body.sign(&secret).unwrap().verify(1_000).unwrap()
        };
        let mut directory = Directory::default();
        assert!(directory.learn(&said(2_000, 1), Instant::ZERO, 1_000));
        directory.learn(&said(u64::MAX, 2), Instant::ZERO, 1_000);
        assert!(!directory.learn(&said(2_000, 1), Instant::ZERO, 1_000));
        let known = directory.dialable(&RsaId([1; 20])).unwrap();
        assert_eq!(known.addresses[0].port(), 2);
        // Nor is it for ever what it says that it is.
        directory.expire(1_000 + DESCRIPTOR_LIFE.as_secs());
        assert_eq!(directory.len(), 1);
        directory.expire(1_000 + REMEMBER_SECONDS);
        assert_eq!(directory.len(), 0);
    }

    #[test]
    fn one_network_holds_one_hop() {
        let at = |address: &str| [address.parse().unwrap()];
        assert!(share_network(&at("8.8.1.1:1"), &at("8.8.200.1:9")));
        assert!(!share_network(&at("8.8.1.1:1"), &at("8.9.1.1:1")));
        assert!(!share_network(&at("127.0.0.1:1"), &at("127.0.0.1:2")));
    }
}
