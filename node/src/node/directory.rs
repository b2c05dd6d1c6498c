//! The routers that a node knows, and how it chooses hops among them; and, at a bridge, the
//! routers that it introduces.

use crate::order::set_of;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use crate::circuit::client::Router;
use crate::ids::{Ed25519Id, LinkId, RsaId};
use crate::time::Instant;
use crate::wire::{Descriptor, Roles, VerifiedDescriptor};

/// Routers that a client remembers. Bridges fill it; the one that expires first gives way.
const MAX_ROUTERS: usize = 512;

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
    routers: BTreeMap<Ed25519Id, Known>,
}

#[derive(Debug)]
struct Known {
    router: Arc<Router>,
    roles: Roles,
    expiry: u64,
    /// How often in turn it let a circuit down.
    failures: u32,
    rests_until: Instant,
    suspect_until: Instant,
}

impl Directory {
    /// Takes a router from a descriptor whose signature was checked. Whether that is news: it was
    /// not known, or was not reached and says otherwise now how it is.
    pub(crate) fn learn(&mut self, descriptor: &VerifiedDescriptor, now: Instant) -> bool {
        let router = Router::from(descriptor);
        if let Some(known) = self.routers.get_mut(&router.ed25519) {
            known.roles = descriptor.roles;
            known.expiry = descriptor.expiry;
            if *known.router == router {
                return false;
            }
            known.router = Arc::new(router);
            known.rests_until = Instant::ZERO;
            return std::mem::replace(&mut known.suspect_until, Instant::ZERO) > now;
        }
        if self.routers.len() >= MAX_ROUTERS {
            let first = self.routers.iter().min_by_key(|(_, known)| known.expiry);
            if let Some(id) = first.map(|(id, _)| *id) {
                self.routers.remove(&id);
            }
        }
        self.routers.insert(
            router.ed25519,
            Known {
                router: Arc::new(router),
                roles: descriptor.roles,
                expiry: descriptor.expiry,
                failures: 0,
                rests_until: Instant::ZERO,
                suspect_until: Instant::ZERO,
            },
        );
        true
    }

    /// The router of this ID, if it says where it is.
    pub(crate) fn dialable(&self, rsa: &RsaId) -> Option<Arc<Router>> {
        let mut routers = self.routers.values().map(|known| &known.router);
        routers
            .find(|router| router.rsa == *rsa && !router.addresses.is_empty())
            .cloned()
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.routers.len()
    }

    /// Forgets who has expired.
    pub(crate) fn expire(&mut self, unix_now: u64) {
        self.routers.retain(|_, known| known.expiry > unix_now);
    }

    /// A router let a circuit down: it is passed over for a while.
    pub(crate) fn suspect(&mut self, id: &Ed25519Id, now: Instant) {
        if let Some(known) = self.routers.get_mut(id) {
            // What failed at once with something else is one failure.
            if known.rests_until <= now {
                let times = 1u32 << known.failures.min(MOST_DOUBLED);
                known.failures = known.failures.saturating_add(1);
                known.rests_until = now + REST_FOR * times;
                known.suspect_until = now + SUSPECT_FOR * times;
            }
        }
    }

    /// A circuit through a router was built.
    pub(crate) fn trust(&mut self, id: &Ed25519Id) {
        if let Some(known) = self.routers.get_mut(id) {
            known.failures = 0;
            known.rests_until = Instant::ZERO;
            known.suspect_until = Instant::ZERO;
        }
    }

    /// When the next of those that rest may be tried again.
    pub(crate) fn rests_until(&self, now: Instant) -> Option<Instant> {
        let times = self.routers.values().map(|known| known.rests_until);
        times.filter(|until| *until > now).min()
    }

    /// The routers that have all of `roles`.
    pub(crate) fn with_roles(&self, roles: Roles) -> impl Iterator<Item = &Arc<Router>> {
        self.routers
            .values()
            .filter(move |known| known.roles.contains(roles))
            .map(|known| &known.router)
    }

    /// The routers that have all of `roles` and let no circuit down of late.
    pub(crate) fn trusted(&self, roles: Roles, now: Instant) -> impl Iterator<Item = &Arc<Router>> {
        self.routers
            .values()
            .filter(move |known| known.roles.contains(roles) && known.suspect_until <= now)
            .map(|known| &known.router)
    }

    /// One router with all of `roles`, at random, none of `but` and in no network of theirs; who
    /// let circuits down only if there is nobody else, and not at once.
    pub(crate) fn choose<R: Rng>(
        &self,
        roles: Roles,
        but: &[Arc<Router>],
        avoid: &BTreeSet<Ed25519Id>,
        now: Instant,
        rng: &mut R,
    ) -> Option<Arc<Router>> {
        let fit = |known: &&Known| {
            known.roles.contains(roles)
                && known.rests_until <= now
                && !avoid.contains(&known.router.ed25519)
                && but.iter().all(|other| {
                    other.ed25519 != known.router.ed25519 && !share_network(other, &known.router)
                })
        };
        let all: Vec<&Known> = self.routers.values().filter(fit).collect();
        let good: Vec<&Known> = all
            .iter()
            .copied()
            .filter(|known| known.suspect_until <= now)
            .collect();
        let from = if good.is_empty() { all } else { good };
        // Of tabs, whose networks nobody knows, rather such as others introduce.
        let apart: Vec<&Known> = from
            .iter()
            .copied()
            .filter(|known| {
                but.iter()
                    .all(|other| !share_introducer(other, &known.router))
            })
            .collect();
        let from = if apart.is_empty() { from } else { apart };
        pick(&from, rng).map(|known| known.router.clone())
    }
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
fn share_network(a: &Router, b: &Router) -> bool {
    let networks = |router: &Router| -> BTreeSet<[u8; 4]> {
        let ips = router.addresses.iter().map(SocketAddr::ip);
        set_of(ips.filter(|ip| is_public(*ip)).map(network))
    };
    !networks(a).is_disjoint(&networks(b))
}

/// Whether one router introduces both, or one of them the other.
fn share_introducer(a: &Router, b: &Router) -> bool {
    let mut both = a.introducers.iter();
    both.any(|id| b.introducers.contains(id) || *id == b.rsa) || b.introducers.contains(&a.rsa)
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
            // Global unicast is 2000::/3; Teredo and 6to4 in it can hide a private IPv4 address.
            (first & 0xe000) == 0x2000
                && !(first == 0x2001 && (second == 0 || second == 0x0db8))
                && first != 0x2002
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
    fn one_network_holds_one_hop() {
        let router = |address: &str| Router {
            rsa: crate::ids::RsaId([0; 20]),
            ed25519: Ed25519Id([0; 32]),
            onion: crate::ids::OnionKey([0; 32]),
            addresses: vec![address.parse().unwrap()],
            dtls: None,
            introducers: Vec::new(),
        };
        assert!(share_network(&router("8.8.1.1:1"), &router("8.8.200.1:9")));
        assert!(!share_network(&router("8.8.1.1:1"), &router("8.9.1.1:1")));
        assert!(!share_network(
            &router("127.0.0.1:1"),
            &router("127.0.0.1:2")
        ));
    }
}
