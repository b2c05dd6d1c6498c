//! A native client on the core: builds circuits by hand and opens streams or torrents over them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use chive_node::circuit::client::Router;
use chive_node::ids::{CircuitId, StreamId, TorrentId};
use chive_node::native::{Clock, Driver, DriverOptions, Tls, clock, random};
use chive_node::node::{BridgeLine, Config, Event, Limits, Node, Transports};
use chive_node::ordb::{Demand, Read};
use chive_node::torrent::Magnet;
use chive_node::wire::{EndReason, Roles};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Events that wait for the test. The node fills it by the bytes of streams, whose windows hold
/// at most 500 cells a stream.
const MAX_EVENTS: usize = 4096;

/// How long any one event is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that is nobody, as a tab is, on this machine's TCP.
pub struct Client {
    driver: Driver,
    events: mpsc::Receiver<Event>,
}

impl Client {
    /// Starts one that enters by `bridges`, if any.
    pub fn start(bridges: Vec<BridgeLine>) -> Result<Client> {
        let asks = !bridges.is_empty();
        let clock = Clock::start();
        let config = Config {
            identity: None,
            tls_certificate_sha256: None,
            dtls_certificate_sha256: None,
            entries: Vec::new(),
            transports: Transports::NATIVE,
            roles: Roles(0),
            addresses: Vec::new(),
            bridges,
            hops: 3,
            asks,
            allow_private: true,
            unix_time: clock::unix_seconds(),
            limits: Limits::default(),
        };
        let node = Node::new(config, random::seed()?, clock.now());
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let options = DriverOptions::new(Tls::generate()?);
        let driver = Driver::start(node, clock, options, move |event| {
            // A test that does not listen loses events, and then waits in vain and says so.
            if sender.try_send(event).is_err() {
                tracing::warn!("an event was lost");
            }
        });
        Ok(Client { driver, events })
    }

    /// The node's driver.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The next event.
    pub async fn event(&mut self) -> Result<Event> {
        timeout(PATIENCE, self.events.recv())
            .await
            .context("nothing happened")?
            .context("the node stopped")
    }

    /// Builds a circuit along `path`.
    pub async fn circuit(&mut self, path: Vec<Router>) -> Result<CircuitId> {
        let path = path.into_iter().map(Arc::new).collect();
        let built = self
            .driver
            .call(move |node, now| node.build_circuit(now, path))
            .await??;
        loop {
            match self.event().await? {
                Event::CircuitOpen { circuit } if circuit == built => return Ok(circuit),
                Event::CircuitClosed {
                    circuit,
                    reason,
                    why,
                } if circuit == built => {
                    bail!("the circuit was not built: {why} ({reason})");
                }
                _ => {}
            }
        }
    }

    /// Opens a stream from the end of a circuit.
    pub async fn stream(&mut self, circuit: CircuitId, host: &str, port: u16) -> Result<StreamId> {
        let host = host.to_owned();
        let opened = self
            .driver
            .call(move |node, now| node.open_stream(now, circuit, &host, port))
            .await??;
        loop {
            match self.event().await? {
                Event::StreamOpen { stream, .. } if stream == opened => return Ok(stream),
                Event::StreamClosed { stream, reason, .. } if stream == opened => {
                    bail!("the stream was not opened: {reason}");
                }
                Event::CircuitClosed { why, .. } => bail!("the circuit died: {why}"),
                _ => {}
            }
        }
    }

    /// Sends bytes on a stream, all of them.
    pub async fn send(&self, circuit: CircuitId, stream: StreamId, bytes: &[u8]) -> Result<()> {
        let bytes = bytes.to_vec();
        let len = bytes.len();
        let sent = self
            .driver
            .call(move |node, now| node.send_stream(now, circuit, stream, &bytes))
            .await??;
        anyhow::ensure!(sent == len, "only {sent} of {len} bytes fit in the window");
        Ok(())
    }

    /// The next bytes of a stream; none at its end. They count as consumed.
    pub async fn receive(&mut self, circuit: CircuitId, stream: StreamId) -> Result<Option<Bytes>> {
        loop {
            match self.event().await? {
                Event::StreamData {
                    stream: of, bytes, ..
                } if of == stream => {
                    self.driver
                        .call(move |node, now| node.stream_consumed(now, circuit, stream, 1))
                        .await?;
                    return Ok(Some(bytes));
                }
                Event::StreamClosed {
                    stream: of, reason, ..
                } if of == stream => {
                    anyhow::ensure!(reason == EndReason::DONE, "the stream broke: {reason}");
                    return Ok(None);
                }
                Event::CircuitClosed { why, .. } => bail!("the circuit died: {why}"),
                _ => {}
            }
        }
    }

    /// Fetches a torrent of one file over a circuit.
    pub async fn fetch_over(&mut self, circuit: CircuitId, magnet: Magnet) -> Result<Vec<u8>> {
        let torrent = self
            .driver
            .call(move |node, now| -> Result<TorrentId> {
                let torrent = node.open_torrent(now, magnet)?;
                node.add_source(now, torrent, circuit)?;
                Ok(torrent)
            })
            .await??;
        let metainfo = loop {
            match self.event().await? {
                Event::Metadata { metainfo, .. } => break metainfo,
                Event::Failed { failure, .. } => bail!("{failure}"),
                Event::CircuitClosed { why, .. } => bail!("the circuit died: {why}"),
                _ => {}
            }
        };
        let length = metainfo.files().first().context("no file")?.length;
        let read = self
            .driver
            .call(move |node, now| node.open_read(now, torrent, 0, 0..length, Demand::Save))
            .await??;
        let mut content = Vec::new();
        loop {
            let part = self
                .driver
                .call(move |node, now| node.poll_read(now, read, 1 << 20))
                .await?;
            match part {
                Read::Bytes(bytes) => content.extend_from_slice(&bytes),
                Read::End => return Ok(content),
                Read::Failed => bail!("the read failed"),
                Read::Pending => while !matches!(self.event().await?, Event::Readable(_)) {},
            }
        }
    }
}
