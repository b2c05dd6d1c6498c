//! The core as a client of real `tor` relays, and circuits that are partly theirs, partly ours.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use chive_node::circuit::client::Router;
use chive_tests::client::Client;
use chive_tests::require;
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
