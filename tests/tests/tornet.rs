//! The core as a client of real `tor` relays, and circuits that are partly theirs, partly ours.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chive_node::circuit::client::Router;
use chive_node::ids::{Ed25519Id, OnionKey, RsaId};
use chive_tests::client::Client;
use chive_tests::network::{Config, Network};
use chive_tests::process::workspace;
use chive_tests::require;
use chive_tests::seeder::Seeder;
use chive_tests::shared::Tornet;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const DOWNLOAD: usize = 20_000_000;

/// Bytes that no compression or repetition could stand in for.
fn content() -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    (0..DOWNLOAD)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// A server that answers one connection's first line with all of `content`.
async fn serve(content: Vec<u8>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await?;
        let mut line = [0; 64];
        let read = tcp.read(&mut line).await?;
        assert_eq!(line.get(..read), Some(&b"GET 20 MB\n"[..]));
        tcp.write_all(&content).await?;
        tcp.shutdown().await
    });
    Ok(address)
}

#[tokio::test]
async fn twenty_megabytes_through_three_real_relays() -> Result<()> {
    let tool = require!(Tornet::tool(), "a Tor network of real relays");
    let tornet = Tornet::start(tool, &["--relays", "3", "--exits", "1"]).await?;
    let relays = tornet.relays()?;
    let exit = relays.iter().find(|relay| relay.exit).context("no exit")?;
    let others = relays.iter().filter(|relay| !relay.exit);
    let mut path: Vec<Router> = others
        .take(2)
        .map(|relay| relay.router())
        .collect::<Result<_>>()?;
    path.push(exit.router()?);

    let content = content();
    let expected = Sha256::digest(&content);
    let server = serve(content).await?;
    let mut client = Client::start(Vec::new())?;
    let circuit = client.circuit(path).await?;
    let stream = client.stream(circuit, "127.0.0.1", server.port()).await?;
    client.send(circuit, stream, b"GET 20 MB\n").await?;
    let (mut digest, mut received) = (Sha256::new(), 0);
    while let Some(bytes) = client.receive(circuit, stream).await? {
        digest.update(&bytes);
        received += bytes.len();
    }
    assert_eq!(received, DOWNLOAD);
    assert_eq!(digest.finalize(), expected);
    Ok(())
}

/// A router of ours as a circuit's path names it.
fn ours(fingerprint: &str, ed25519: &str, ntor: &str, or: SocketAddr) -> Result<Router> {
    let key = |text: &str| -> Result<[u8; 32]> {
        let bytes = URL_SAFE_NO_PAD.decode(text)?;
        bytes.try_into().ok().context("a key of another length")
    };
    let mut rsa = [0; 20];
    ensure!(fingerprint.len() == 40, "a fingerprint of another length");
    for (byte, pair) in rsa.iter_mut().zip(fingerprint.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
    }
    Ok(Router {
        rsa: RsaId(rsa),
        ed25519: Ed25519Id(key(ed25519)?),
        onion: OnionKey(key(ntor)?),
        addresses: vec![or],
        dtls: None,
        introducers: Vec::new(),
    })
}

#[tokio::test]
async fn a_circuit_of_our_bridge_a_real_relay_and_our_facilitator_carries_a_torrent() -> Result<()>
{
    let tool = require!(Tornet::tool(), "a Tor network of real relays");
    let tornet = Tornet::start(tool, &["--relays", "3", "--exits", "1"]).await?;
    let relay = tornet.relays()?.first().context("no relay")?.router()?;
    let sample = workspace().join("tests/media/sample.webm");
    let content = std::fs::read(&sample)?;
    let seeder = Seeder::start(&sample).await?;
    let network = Network::start(Config {
        facilitators: 1,
        peers: vec![seeder.address()],
        ..Config::default()
    })
    .await?;
    let bridge = &network.bridges[0].ready;
    let facilitator = &network.facilitators[0].ready;
    let path = vec![
        ours(
            &bridge.fingerprint,
            &bridge.ed25519,
            &bridge.ntor,
            bridge.or,
        )?,
        relay,
        ours(
            &facilitator.fingerprint,
            &facilitator.ed25519,
            &facilitator.ntor,
            facilitator.or,
        )?,
    ];
    let mut client = Client::start(Vec::new())?;
    let circuit = client.circuit(path).await?;
    let fetched = client.fetch_over(circuit, seeder.magnet().clone()).await?;
    assert_eq!(Sha256::digest(&fetched), Sha256::digest(&content));
    Ok(())
}
