//! Our handshake against real `tor`: as client and as router that dials it, and as router that a
//! real router and a real client dial.

mod tls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use chacha20::ChaCha20Rng;
use chive_node::link::{
    Binding, EXPORT_LABEL, Established, Expected, Handshake, HandshakeConfig, HandshakeEvent,
    Identity, LinkCerts, RouterIds, Side,
};
use chive_node::time::Instant;
use chive_node::wire::{
    CellBody, CircId, Command as Cell, CreateFast, CreatedFast, Extend2, HandshakeType,
    LinkSpecifier, RawCell, RelayHeader, RelayMessage, encode_relay, write_body, write_cell,
};
use chive_tests::process::find_program;
use chive_tests::require;
use chive_tests::shared::{Relay, Tornet};
use rand_core::SeedableRng;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsStream;

/// A real `tor` on loopback answers in milliseconds; this is for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

fn unix_now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |elapsed| elapsed.as_secs())
}

fn rng(name: &str) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(sha2::Sha256::digest(name).into())
}

/// A link over TLS, made by our handshake.
struct Link {
    stream: TlsStream<tokio::net::TcpStream>,
    inbox: BytesMut,
    established: Established,
}

impl Link {
    /// Runs the handshake; `meddle` may change the secret that the proof is bound to.
    async fn make(
        mut stream: TlsStream<tokio::net::TcpStream>,
        config: HandshakeConfig,
        meddle: impl Fn(&mut [u8; 32]),
    ) -> Result<Link> {
        let mut handshake = Handshake::new(Instant::ZERO, config)?;
        let mut inbox = BytesMut::new();
        loop {
            while let Some(event) = handshake.poll_event() {
                match event {
                    HandshakeEvent::NeedExport { context } => {
                        let mut secret =
                            tls::export(&stream, EXPORT_LABEL, &context).context("no export")?;
                        meddle(&mut secret);
                        handshake.handle_export(Instant::ZERO, secret)?;
                        handshake.handle_bytes(Instant::ZERO, &mut inbox)?;
                    }
                    HandshakeEvent::Done(established) => {
                        while let Some(bytes) = handshake.poll_transmit() {
                            stream.write_all(&bytes).await?;
                        }
                        stream.flush().await?;
                        return Ok(Link {
                            stream,
                            inbox,
                            established: *established,
                        });
                    }
                }
            }
            while let Some(bytes) = handshake.poll_transmit() {
                stream.write_all(&bytes).await?;
            }
            stream.flush().await?;
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut inbox));
            ensure!(read.await?? > 0, "the peer hung up during the handshake");
            handshake.handle_bytes(Instant::ZERO, &mut inbox)?;
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next cell that is not padding; none when the peer hangs up.
    async fn next(&mut self) -> Result<Option<RawCell>> {
        loop {
            while let Some(cell) = self.established.decoder.next(&mut self.inbox)? {
                let link_level = [Cell::PADDING, Cell::VPADDING, Cell::PADDING_NEGOTIATE];
                if !link_level.contains(&cell.command) {
                    return Ok(Some(cell));
                }
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.inbox));
            if read.await?? == 0 {
                return Ok(None);
            }
        }
    }

    /// Makes a circuit of one hop by CREATE_FAST, and its keys: digest seed and cipher, forward.
    async fn create_fast(&mut self, circ: CircId) -> Result<(Sha1, ctr::Ctr128BE<Aes128>)> {
        let ours = [0x17; 20];
        let mut out = BytesMut::new();
        write_body(&mut out, circ, &CreateFast { key_material: ours })?;
        self.send(&out).await?;
        let cell = self
            .next()
            .await?
            .context("the relay hung up after CREATE_FAST")?;
        ensure!(cell.circ == circ, "{cell:?}");
        ensure!(cell.command == Cell::CREATED_FAST, "{cell:?}");
        let created = CreatedFast::from_cell(&cell.body)?;
        // KDF-TOR (tor-spec, "KDF-TOR"): SHA-1 of both halves and a counter.
        let keys: Vec<u8> = (0..5u8)
            .flat_map(|count| {
                let block = Sha1::new_with_prefix(ours).chain_update(created.key_material);
                block.chain_update([count]).finalize()
            })
            .collect();
        ensure!(
            keys[..20] == created.derivative,
            "the relay has other keys than we"
        );
        let cipher = ctr::Ctr128BE::new(keys[60..76].try_into()?, &[0; 16].into());
        Ok((Sha1::new_with_prefix(&keys[20..40]), cipher))
    }
}

/// What `relays.json` says of a relay: its address and its names.
fn relay(relay: &Relay) -> Result<(SocketAddr, RouterIds)> {
    let router = relay.router()?;
    let ids = RouterIds {
        rsa: router.rsa,
        ed25519: router.ed25519,
    };
    Ok((SocketAddr::new(relay.address, relay.or_port), ids))
}

fn initiator(expected: Expected, certificate: [u8; 32], own: Option<LinkCerts>) -> HandshakeConfig {
    HandshakeConfig {
        side: Side::Initiator,
        binding: Binding::Tls {
            certificate_sha256: certificate,
        },
        own: own.map(Arc::new),
        expected,
        unix_now: unix_now(),
        peer_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        own_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        random: [0x5a; 32],
    }
}

/// A router of ours that listens: its names and address, and what it answers a dial with.
struct Listener {
    identity: Identity,
    tcp: TcpListener,
    tls: tls::Server,
}

impl Listener {
    async fn bind(name: &str) -> Result<Self> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Listener {
            identity: Identity::generate(&mut rng(name))?,
            tcp,
            tls: tls::Server::new(unix_now(), &mut rng(name))?,
        })
    }

    async fn accept(&self) -> Result<Link> {
        let (tcp, peer) = tokio::time::timeout(PATIENCE, self.tcp.accept()).await??;
        let hash = self.tls.certificate_sha256();
        let certs = LinkCerts::new(&self.identity, Some(hash), unix_now(), &mut rng("certs"))?;
        let config = HandshakeConfig {
            side: Side::Responder,
            own: Some(Arc::new(certs)),
            expected: Expected::default(),
            peer_address: Some(peer.ip()),
            ..initiator(Expected::default(), hash, None)
        };
        Link::make(self.tls.accept(tcp).await?, config, |_| {}).await
    }
}

#[tokio::test]
async fn real_relays_make_links_with_us_both_ways() -> Result<()> {
    let tool = require!(Tornet::tool(), "a Tor network of real relays");
    let tornet = Tornet::start(tool, &["--relays", "3", "--exits", "1"]).await?;
    let relays: Vec<_> = tornet.relays()?.iter().map(relay).collect::<Result<_>>()?;
    let (address, ids) = relays[1];

    // As a client, to every one of them.
    for (address, ids) in relays.iter().copied() {
        let (stream, certificate) = tls::dial(address).await?;
        let config = initiator(ids.into(), certificate, None);
        let mut link = Link::make(stream, config, |_| {}).await?;
        assert_eq!(
            (link.established.peer, link.established.version),
            (Some(ids), 5)
        );
        assert!(link.established.peer_authenticated);
        link.create_fast(CircId(0x8000_0001)).await?;
    }

    // Another than the one that was meant, and another connection's certificate.
    let (stream, certificate) = tls::dial(address).await?;
    let config = initiator(relays[2].1.into(), certificate, None);
    let error = Link::make(stream, config, |_| {})
        .await
        .err()
        .context("another router is fine?")?;
    assert!(error.to_string().contains("another router"), "{error}");
    let (stream, _) = tls::dial(address).await?;
    let config = initiator(ids.into(), [1; 32], None);
    let error = Link::make(stream, config, |_| {})
        .await
        .err()
        .context("any certificate goes?")?;
    assert!(
        error.to_string().contains("of another connection"),
        "{error}"
    );

    // As a router that proves itself; then with a proof of another connection.
    let identity = Identity::generate(&mut rng("router"))?;
    for wrong in [false, true] {
        let (stream, certificate) = tls::dial(address).await?;
        let certs = LinkCerts::new(&identity, None, unix_now(), &mut rng("certs"))?;
        let config = initiator(ids.into(), certificate, Some(certs));
        let meddle = |secret: &mut [u8; 32]| secret[0] ^= u8::from(wrong);
        let mut link = Link::make(stream, config, meddle).await?;
        let made = link.create_fast(CircId(0x8000_0001)).await;
        assert_eq!(made.is_err(), wrong, "{:?}", made.err());
    }

    // As a router that a real router dials, because a client of it asked for that.
    let ours = Listener::bind("dialled").await?;
    let (stream, certificate) = tls::dial(address).await?;
    let mut link = Link::make(stream, initiator(ids.into(), certificate, None), |_| {}).await?;
    let circ = CircId(0x8000_0002);
    let (mut digest, mut cipher) = link.create_fast(circ).await?;
    let SocketAddr::V4(to) = ours.tcp.local_addr()? else {
        bail!("no IPv4 address")
    };
    let extend = RelayMessage::Extend2(Extend2 {
        specifiers: vec![
            LinkSpecifier::Ipv4(to),
            LinkSpecifier::RsaId(ours.identity.ids().rsa),
            LinkSpecifier::Ed25519Id(ours.identity.ids().ed25519),
        ],
        handshake_type: HandshakeType::NTOR,
        data: (0..84).collect(),
    });
    let mut body = [0; 509];
    encode_relay(&mut body, None, &extend)?;
    digest.update(body);
    let field: [u8; 4] = digest.clone().finalize()[..4].try_into()?;
    RelayHeader::set_digest(&mut body, field);
    cipher.apply_keystream(&mut body);
    let mut out = BytesMut::new();
    write_cell(&mut out, circ, Cell::RELAY_EARLY, &body)?;
    link.send(&out).await?;
    let mut dialled = ours.accept().await?;
    assert_eq!(dialled.established.peer, Some(ids));
    assert!(dialled.established.peer_authenticated);
    let cell = dialled.next().await?.context("the relay hung up")?;
    assert_eq!(cell.command, Cell::CREATE2);
    assert!(cell.circ.is_initiators());
    let create = chive_node::wire::Create2::from_cell(&cell.body)?;
    assert_eq!(create.data, (0..84).collect::<Vec<u8>>());
    Ok(())
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn a_real_client_takes_us_for_its_bridge() -> Result<()> {
    let tor = require!(find_program("tor"), "tor");
    let ours = Listener::bind("bridge").await?;
    let data = std::env::temp_dir().join(format!("chive-tor-client-{}", std::process::id()));
    std::fs::create_dir_all(&data)?;
    let torrc = format!(
        "DataDirectory {}\nSocksPort 0\nUseBridges 1\nBridge {} {}\nLog warn stdout\n",
        data.display(),
        ours.tcp.local_addr()?,
        ours.identity.ids().rsa,
    );
    std::fs::write(data.join("torrc"), torrc)?;
    let client = Command::new(tor)
        .arg("-f")
        .arg(data.join("torrc"))
        .arg("--defaults-torrc")
        .arg(data.join("no-defaults"))
        .stdin(Stdio::null())
        .spawn()
        .context("tor cannot be run")?;
    let client = Ends(client);
    let mut link = ours.accept().await?;
    assert_eq!(
        (link.established.peer, link.established.peer_time),
        (None, None)
    );
    // It has no descriptor of ours yet, so it makes a circuit to ask for it, without ntor.
    let cell = link.next().await?.context("the client hung up")?;
    assert_eq!(cell.command, Cell::CREATE_FAST);
    CreateFast::from_cell(&cell.body)?;
    drop(client);
    std::fs::remove_dir_all(data).ok();
    Ok(())
}
