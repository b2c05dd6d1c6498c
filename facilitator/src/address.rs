//! Which addresses a facilitator may reach out to.

use std::net::{IpAddr, SocketAddr};

use chive_node::node::is_public;

/// Whether an address that a stranger named (a tracker, a DHT node, a peer) may be contacted.
///
/// A facilitator sits in somebody's home network: nobody outside may make it knock at the router,
/// the printer or itself. `allow_private` is for tests and closed networks, where the swarm itself
/// has such addresses.
pub(crate) fn may_contact(address: SocketAddr, allow_private: bool) -> bool {
    address.port() != 0 && is_unicast(address.ip()) && (allow_private || is_public(address.ip()))
}

fn is_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::may_contact;

    fn allowed(address: &str, allow_private: bool) -> bool {
        may_contact(address.parse().expect("an address"), allow_private)
    }

    #[test]
    fn strangers_do_not_send_us_into_the_home() {
        for address in [
            "127.0.0.1:80",
            "10.0.0.1:80",
            "172.16.3.4:80",
            "192.168.1.1:80",
            "169.254.1.1:80",
            "100.64.0.1:80",
            "0.1.2.3:80",
            "192.0.0.8:80",
            "198.18.0.1:80",
            "203.0.113.9:80",
            "240.0.0.1:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[fd00::1]:80",
            "[fc00::1]:80",
            "[::ffff:192.168.1.1]:80",
            "[2002:c0a8:101::1]:80",
            "[2001:0:1::1]:80",
            "[2001:db8::1]:80",
            "[3fff::1]:80",
            "[64:ff9b::c0a8:101]:80",
        ] {
            assert!(!allowed(address, false), "{address}");
            assert!(allowed(address, true), "{address}");
        }
    }

    #[test]
    fn the_internet_is_reached_and_nonsense_never() {
        for address in ["1.2.3.4:6881", "100.128.0.1:1", "[2a00:1450::5]:6881"] {
            assert!(allowed(address, false), "{address}");
        }
        for address in [
            "1.2.3.4:0",
            "0.0.0.0:5",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "[::]:5",
            "[ff02::1]:5",
        ] {
            assert!(!allowed(address, true), "{address}");
        }
    }
}
