//! How many connections strangers may have: in all, from one address, in one second.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;

use super::process;

/// Addresses whose recent connections are remembered though none of them is open. Strangers fill
/// it; when it is full, the past of all of them is forgotten.
const MAX_REMEMBERED: usize = 64 * 1024;

/// Links that a router may dial beside those that are opened to it: to bridges, and to routers that
/// strangers' circuits are to be extended to. Without a number of their own, those who come in
/// could leave no way out.
pub const MAX_DIALLED_LINKS: usize = 1024;

/// Files that a process needs beside its connections: ports, logs, the runtime's own.
const OTHER_FILES: u64 = 64;

/// The limits of a listening process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub in_all: usize,
    /// Connections at once from one address (IPv4) or one /64 (IPv6).
    pub per_address: u32,
    /// New connections a second from one address; four seconds' worth may come at once.
    pub per_second: u32,
}

impl ConnectionLimits {
    /// Links that the node may have when as many are opened to it as these limits allow.
    pub fn links(&self) -> usize {
        self.in_all.saturating_add(MAX_DIALLED_LINKS)
    }

    /// Lets this process open a file for each of these links, as far as the system allows it, and
    /// says so in the log where it does not.
    pub fn raise_file_limit(&self) {
        let wanted = (self.links() as u64).saturating_add(OTHER_FILES);
        match process::raise_file_limit() {
            Ok(limit) if limit < wanted => warn!(
                limit,
                wanted, "the system allows fewer open files than the limits allow connections"
            ),
            Ok(_) => {}
            Err(error) => warn!(%error, "cannot raise the limit on open files"),
        }
    }
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This process has as many as it may.
    #[error("too many connections")]
    InAll,
    /// This address has as many as it may.
    #[error("too many connections from this address")]
    PerAddress,
    /// This address is too quick.
    #[error("too many new connections from this address")]
    PerSecond,
}

/// Admits connections within limits. One gate stands before all of a process's ports.
#[derive(Clone, Debug)]
pub struct Gate {
    limits: ConnectionLimits,
    in_all: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<IpAddr, Address>>>,
}

#[derive(Debug)]
struct Address {
    open: u32,
    /// Connections that it may make at once now, in thousandths.
    tokens: u64,
    filled: Instant,
}

/// One connection's place in all; dropped with it.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// One connection's place among its address's; dropped with it.
#[derive(Debug)]
pub struct AddressPlace {
    addresses: Arc<Mutex<HashMap<IpAddr, Address>>>,
    key: IpAddr,
}

/// A connection's places within the limits; dropped with it.
#[derive(Debug)]
pub struct Places {
    _in_all: Place,
    _of_address: AddressPlace,
}

impl Gate {
    /// A gate through which nobody has gone yet.
    pub fn new(limits: ConnectionLimits) -> Self {
        Gate {
            limits,
            in_all: Arc::new(Semaphore::new(limits.in_all.min(Semaphore::MAX_PERMITS))),
            addresses: Arc::default(),
        }
    }

    /// A place among all.
    pub fn admit(&self) -> Result<Place, Refusal> {
        let permit = self
            .in_all
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::InAll)?;
        Ok(Place { _permit: permit })
    }

    /// Both places of a connection from `address`.
    pub fn admit_from(&self, address: IpAddr) -> Result<Places, Refusal> {
        let in_all = self.admit()?;
        let of_address = self.admit_address(address, Instant::now())?;
        Ok(Places {
            _in_all: in_all,
            _of_address: of_address,
        })
    }

    /// A place among those of `address`.
    pub fn admit_address(&self, address: IpAddr, now: Instant) -> Result<AddressPlace, Refusal> {
        let key = key_of(address);
        let full = u64::from(self.limits.per_second) * 4000;
        let mut addresses = lock(&self.addresses);
        if addresses.len() >= MAX_REMEMBERED && !addresses.contains_key(&key) {
            addresses.retain(|_, address| address.open > 0);
        }
        let entry = addresses.entry(key).or_insert(Address {
            open: 0,
            tokens: full,
            filled: now,
        });
        let elapsed = now.saturating_duration_since(entry.filled).as_millis();
        let refill = u64::try_from(elapsed)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(self.limits.per_second));
        entry.tokens = entry.tokens.saturating_add(refill).min(full);
        entry.filled = now;
        if entry.open >= self.limits.per_address {
            return Err(Refusal::PerAddress);
        }
        entry.tokens = entry.tokens.checked_sub(1000).ok_or(Refusal::PerSecond)?;
        entry.open += 1;
        drop(addresses);
        Ok(AddressPlace {
            addresses: self.addresses.clone(),
            key,
        })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Some(address) = lock(&self.addresses).get_mut(&self.key) {
            address.open = address.open.saturating_sub(1);
        }
    }
}

fn lock(addresses: &Mutex<HashMap<IpAddr, Address>>) -> MutexGuard<'_, HashMap<IpAddr, Address>> {
    addresses.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one customer has: an IPv4 address, or 64 bits of an IPv6 one.
fn key_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_limit_holds_and_is_given_back() {
        let gate = Gate::new(ConnectionLimits {
            in_all: 2,
            per_address: 2,
            per_second: 100,
        });
        let one = gate.admit().unwrap();
        let _two = gate.admit().unwrap();
        assert_eq!(gate.admit().unwrap_err(), Refusal::InAll);
        drop(one);
        let _three = gate.admit().unwrap();

        let now = Instant::now();
        let first = gate.admit_address(ip("192.0.2.1"), now).unwrap();
        // The same address in IPv6's clothes.
        let _second = gate.admit_address(ip("::ffff:192.0.2.1"), now).unwrap();
        let third = gate.admit_address(ip("192.0.2.1"), now);
        assert_eq!(third.unwrap_err(), Refusal::PerAddress);
        gate.admit_address(ip("192.0.2.2"), now).unwrap();
        drop(first);
        gate.admit_address(ip("192.0.2.1"), now).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_64_counts_as_one() {
        let gate = Gate::new(ConnectionLimits {
            in_all: 9,
            per_address: 1,
            per_second: 100,
        });
        let now = Instant::now();
        let _held = gate.admit_address(ip("2001:db8:1:2::1"), now).unwrap();
        let same = gate.admit_address(ip("2001:db8:1:2:ffff::2"), now);
        assert_eq!(same.unwrap_err(), Refusal::PerAddress);
        gate.admit_address(ip("2001:db8:1:3::1"), now).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_address_waits() {
        let gate = Gate::new(ConnectionLimits {
            in_all: 9,
            per_address: 99,
            per_second: 2,
        });
        let start = Instant::now();
        for _ in 0..8 {
            gate.admit_address(ip("192.0.2.1"), start).unwrap();
        }
        let ninth = gate.admit_address(ip("192.0.2.1"), start);
        assert_eq!(ninth.unwrap_err(), Refusal::PerSecond);
        let later = start + Duration::from_millis(500);
        gate.admit_address(ip("192.0.2.1"), later).unwrap();
        assert!(gate.admit_address(ip("192.0.2.1"), later).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let gate = Gate::new(ConnectionLimits {
            in_all: 9,
            per_address: 9,
            per_second: 9,
        });
        let now = Instant::now();
        let held = gate.admit_address(ip("2001:db8::"), now).unwrap();
        for high in 0..2_u16 {
            for low in 0..=u16::MAX {
                let address = Ipv6Addr::new(0x2400, high, low, 0, 0, 0, 0, 1);
                gate.admit_address(address.into(), now).unwrap();
            }
        }
        let addresses = lock(&gate.addresses);
        assert!(addresses.len() <= MAX_REMEMBERED, "{}", addresses.len());
        assert!(addresses.contains_key(&held.key));
    }
}
