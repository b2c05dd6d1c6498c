//! Ports that strangers connect to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tracing::{debug, warn};

use crate::sensitive::Sensitive;

use super::failure::Failure;
use super::process::Stop;

/// Connections that the system holds for us until we take them.
const BACKLOG: u32 = 1024;

/// Addresses in a router's descriptor.
const MAX_ADDRESSES: usize = crate::wire::MAX_DESCRIPTOR_ADDRESSES;

/// How long nothing is accepted after the system said that it has no room.
const REST: Duration = Duration::from_millis(100);

/// Listens on `address`; `what` is the port's name in the sentence if that fails.
pub fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, Failure> {
    let bound = || -> io::Result<TcpListener> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if address.is_ipv6() {
            // IPv4 is asked for by its own address, whatever the system's setting is.
            SockRef::from(&socket).set_only_v6(true)?;
        }
        // A restarted server need not wait for its predecessor's connections to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error| {
        Failure::new(match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("cannot listen on {address} for the {what}: another program listens there")
            }
            io::ErrorKind::PermissionDenied => format!(
                "cannot listen on {address} for the {what}: this user may not (ports below 1024 \
                 need CAP_NET_BIND_SERVICE)"
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "cannot listen on {address} for the {what}: this machine has no such address"
            ),
            _ => format!("cannot listen on {address} for the {what}: {error}"),
        })
    })
}

/// Listens on all of `addresses`.
pub fn bind_all(addresses: &[SocketAddr], what: &str) -> Result<Vec<TcpListener>, Failure> {
    addresses
        .iter()
        .map(|address| bind(*address, what))
        .collect()
}

/// Where `listeners` listen, with the ports that the system chose.
pub fn addresses(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, Failure> {
    let addresses: io::Result<Vec<_>> = listeners.iter().map(TcpListener::local_addr).collect();
    addresses.map_err(|error| Failure::new(format!("cannot tell where this listens: {error}")))
}

/// What to dial on this machine for the first of `addresses`: what listens on all addresses is
/// reached at loopback.
pub fn first_reachable(addresses: &[SocketAddr]) -> SocketAddr {
    let Some(first) = addresses.first() else {
        return SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    };
    let ip = match first.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, first.port())
}

/// What a router's descriptor says of where it is reached: what the operator says, or where it
/// listens, as far as that is one place.
pub fn public_addresses(
    said: &[SocketAddr],
    listened: &[SocketAddr],
) -> Result<Vec<SocketAddr>, Failure> {
    if said.len() > MAX_ADDRESSES {
        return Err(Failure::new(format!(
            "--or-address is given {} times: a descriptor holds {MAX_ADDRESSES}",
            said.len()
        )));
    }
    if let Some(wrong) = said
        .iter()
        .find(|address| address.ip().is_unspecified() || address.port() == 0)
    {
        return Err(Failure::new(format!(
            "--or-address {wrong} is no address that others could dial"
        )));
    }
    let one_place = listened
        .iter()
        .filter(|address| !address.ip().is_unspecified());
    Ok(if said.is_empty() {
        one_place.copied().take(MAX_ADDRESSES).collect()
    } else {
        said.to_vec()
    })
}

/// Takes connections until `stop` says so, and gives each to `serve`, which must not wait.
pub async fn accept(
    listener: TcpListener,
    mut stop: Stop,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.wait() => return,
        };
        match accepted {
            Ok((tcp, peer)) => serve(tcp, peer),
            Err(error) if is_the_peers(&error) => {
                debug!(%error, "a connection was gone before it was taken");
            }
            Err(error) => {
                // Out of files or memory: those who wait are served when others have left.
                warn!(%error, at = %Sensitive(local(&listener)), "cannot take a connection");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

fn local(listener: &TcpListener) -> String {
    listener
        .local_addr()
        .map_or_else(|_| "?".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses_of(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn both_families_may_have_one_port() {
        let ipv4 = bind("0.0.0.0:0".parse().unwrap(), "test").unwrap();
        let port = ipv4.local_addr().unwrap().port();
        // Where the machine has no IPv6 at all there is nothing to share.
        if let Err(error) = bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), "test") {
            let said = error.to_string();
            assert!(!said.contains("another program"), "{said}");
        }
        let taken = bind(ipv4.local_addr().unwrap(), "test")
            .unwrap_err()
            .to_string();
        assert!(taken.contains("another program listens there"), "{taken}");
    }

    #[test]
    fn a_descriptor_says_what_others_can_dial() {
        let any = addresses_of(&["0.0.0.0:1", "[::]:1"]);
        let said = addresses_of(&["203.0.113.9:9001"]);
        assert_eq!(public_addresses(&said, &any), Ok(said.clone()));
        assert_eq!(public_addresses(&[], &any), Ok(Vec::new()));
        let one = addresses_of(&["192.0.2.1:1", "0.0.0.0:1"]);
        assert_eq!(
            public_addresses(&[], &one),
            Ok(addresses_of(&["192.0.2.1:1"]))
        );
        for wrong in ["0.0.0.0:1", "192.0.2.1:0"] {
            assert!(public_addresses(&addresses_of(&[wrong]), &any).is_err());
        }
        let seven = vec![said[0]; 7];
        assert!(public_addresses(&seven, &any).is_err());
    }

    #[test]
    fn all_addresses_are_reached_at_this_machine() {
        assert_eq!(
            first_reachable(&addresses_of(&["0.0.0.0:7"])).to_string(),
            "127.0.0.1:7"
        );
        assert_eq!(
            first_reachable(&addresses_of(&["[::]:7"])).to_string(),
            "[::1]:7"
        );
        let one = addresses_of(&["192.0.2.1:7", "[::]:8"]);
        assert_eq!(first_reachable(&one), one[0]);
    }
}
