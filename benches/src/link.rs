//! Links between tabs, and of tabs with native routers, against data channels with nothing above
//! them in the same browsers, in turn.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use chive_node::native::limits::{ConnectionLimits, Gate};
use chive_node::native::process::Stop;
use chive_node::native::webrtc::{BareChannel, DtlsCertificate, Port};
use chive_node::native::{clock, random};
use serde_json::{Value, json};

use crate::pages::Page;

/// What one step may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// The largest message that goes everywhere, and what links send.
const MESSAGE: usize = 16 * 1024;

/// A data channel's native end without a node: who opens one and says how many bytes it wants has
/// them. `plain` is str0m as it is usually driven, a call for each datagram.
pub(crate) struct Pump {
    port: u16,
    certificate_sha256: String,
    _stopper: chive_node::native::process::Stopper,
}

impl Pump {
    pub(crate) fn start(plain: bool) -> Result<Pump> {
        let port = Port::bind(([127, 0, 0, 1], 0).into())?;
        let number = port.local_addr().port();
        let certificate =
            DtlsCertificate::generate(clock::unix_seconds(), &mut random::generator()?)?;
        let certificate_sha256 = certificate
            .sha256()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let gate = Gate::new(ConnectionLimits {
            in_all: 64,
            per_address: 64,
            per_second: 64,
        });
        let (stopper, stop) = Stop::pair();
        tokio::spawn(port.serve_bare(certificate, gate, stop, plain, |channel| {
            tokio::spawn(pump(channel));
        }));
        Ok(Pump {
            port: number,
            certificate_sha256,
            _stopper: stopper,
        })
    }

    /// MB/s from here to a page.
    pub(crate) async fn rate(&self, page: &mut Page, link: u64, bytes: u64) -> Result<f64> {
        let dial = json!({
            "do": "dial", "link": link,
            "addresses": [{ "host": "127.0.0.1", "port": self.port }],
            "certificate_sha256": self.certificate_sha256,
        });
        page.ask(LIMIT, dial).await?;
        let got = page
            .ask(LIMIT, json!({ "do": "ask", "link": link, "bytes": bytes }))
            .await?;
        page.ask(LIMIT, json!({ "do": "close", "link": link }))
            .await?;
        rate(&got, "received")
    }
}

async fn pump(mut channel: BareChannel) -> std::io::Result<()> {
    let mut asked = BytesMut::new();
    while asked.len() < 8 {
        if !channel.receive(&mut asked).await? {
            return Ok(());
        }
    }
    let mut left = asked.get_f64_le() as usize;
    let message = Bytes::from(vec![0; MESSAGE]);
    while left > 0 {
        channel.send(message.clone()).await?;
        left = left.saturating_sub(MESSAGE);
    }
    // Until the page closes it, for what is under way.
    while channel.receive(&mut asked).await? {}
    Ok(())
}

/// MB/s of what a page says it got.
pub(crate) fn rate(said: &Value, bytes: &str) -> Result<f64> {
    let figure = |name: &str| {
        said[name]
            .as_f64()
            .with_context(|| format!("no {name}: {said}"))
    };
    Ok(figure(bytes)? / 1e3 / figure("ms")?)
}

/// Connects two pages by a data channel, with their signals carried from the one to the other.
/// How many milliseconds the one who offers waited.
pub(crate) async fn connect(one: &mut Page, other: &mut Page, link: u64) -> Result<f64> {
    one.tell(&json!({ "do": "offer", "link": link })).await?;
    let connected = async {
        loop {
            tokio::select! {
                said = one.hear() => {
                    let said = said?;
                    if let Some(ms) = said["done"].as_f64() {
                        return Ok(ms);
                    }
                    if !said["signal"].is_null() {
                        other.tell(&said).await?;
                    }
                }
                said = other.hear() => {
                    let said = said?;
                    if !said["signal"].is_null() {
                        one.tell(&said).await?;
                    }
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, connected)
        .await
        .context("no data channel between the browsers")?
}

/// MB/s from one page to another over a channel that stands.
pub(crate) async fn between(
    one: &mut Page,
    other: &mut Page,
    link: u64,
    bytes: u64,
) -> Result<f64> {
    other
        .ask(
            LIMIT,
            json!({ "do": "listen", "link": link, "bytes": bytes }),
        )
        .await?;
    one.ask(LIMIT, json!({ "do": "send", "link": link, "bytes": bytes }))
        .await?;
    let got = async {
        loop {
            let said = other.hear().await?;
            if !said["received"].is_null() {
                return rate(&said["received"], "received");
            }
        }
    };
    tokio::time::timeout(LIMIT, got).await?
}
