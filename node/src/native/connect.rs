//! TCP to the first of several addresses that answers, and how our sockets are set.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// RFC 8305, 8: how long one address has before the next is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// A dead peer of a silent TLS link is noticed after about two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Addresses tried for one link. Whoever made the descriptor chose them.
const MAX_ADDRESSES: usize = 8;

/// Sends small writes at once (cells are batched above) and notices dead peers.
pub(super) fn set_options(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    SockRef::from(tcp).set_tcp_keepalive(&KEEPALIVE)
}

/// Connects to one of `addresses`: RFC 8305 ("happy eyeballs") as far as a list of addresses
/// needs it.
pub(super) async fn connect(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let mut left = by_turns(addresses).into_iter().take(MAX_ADDRESSES);
    // Dropped with those attempts in it that lost.
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address to dial");
    let race = async {
        let mut more = true;
        loop {
            if more {
                match left.next() {
                    Some(address) => {
                        attempts.spawn(TcpStream::connect(address));
                    }
                    None => more = false,
                }
            }
            let attempt = async {
                if more {
                    tokio::time::timeout(NEXT_ADDRESS_AFTER, attempts.join_next())
                        .await
                        .ok()
                } else {
                    Some(attempts.join_next().await)
                }
            };
            match attempt.await {
                // Slow: the next one beside it.
                None => {}
                Some(Some(Ok(Ok(tcp)))) => return Ok(tcp),
                Some(Some(Ok(Err(error)))) => failure = error,
                Some(Some(Err(error))) => failure = io::Error::other(error),
                Some(None) if more => {}
                Some(None) => return Err(failure),
            }
        }
    };
    let tcp = tokio::time::timeout(limit, race)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nobody answers there"))??;
    set_options(&tcp)?;
    Ok(tcp)
}

/// The families by turns, beginning with the first address's; each family in its order.
fn by_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    let mut turns = Vec::with_capacity(addresses.len());
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    loop {
        let next = [one.next(), other.next()];
        if next.iter().all(Option::is_none) {
            return turns;
        }
        turns.extend(next.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(
            by_turns(&parse(&["[::1]:1", "[::1]:2", "[::1]:3", "127.0.0.1:4"])),
            parse(&["[::1]:1", "127.0.0.1:4", "[::1]:2", "[::1]:3"])
        );
        assert!(by_turns(&[]).is_empty());
    }

    #[tokio::test]
    async fn a_refused_address_does_not_hold_up_the_next() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = closed.local_addr().unwrap();
        drop(closed);
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = open.local_addr().unwrap();
        let limit = Duration::from_secs(10);
        let tcp = connect(&[refused, refused, address], limit).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), address);
        assert_eq!(
            connect(&[refused], limit).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(
            connect(&[], limit).await.unwrap_err().kind(),
            io::ErrorKind::AddrNotAvailable
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_in_time() {
        // A listener whose backlog nobody empties would still answer; this address (RFC 5737) is
        // routed nowhere, and the paused clock makes the wait short. Where the machine has no
        // route at all the error comes at once, which is as good.
        let nowhere = ["192.0.2.1:9".parse().unwrap()];
        assert!(connect(&nowhere, Duration::from_secs(10)).await.is_err());
    }
}
