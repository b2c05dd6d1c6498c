//! A download in a real tab, measured by the tab itself: a browser driven from outside would be
//! slowed down by its driver.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chive_tests::browser::{find_chromium, start_chromium};
use chive_tests::network::{Config, Network};
use chive_tests::process::workspace;
use futures_util::StreamExt;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// How long one download may take.
const LIMIT: Duration = Duration::from_secs(180);

/// What the tab says.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Measured {
    /// From the magnet link to the first verified MiB.
    pub first_mib_ms: f64,
    /// From the magnet link to the last verified byte.
    pub all_ms: f64,
    /// How many bytes that was.
    pub bytes: f64,
}

/// A page for benchmarks: the built page, and the one that measures.
pub(crate) struct BenchPage(TempDir);

impl BenchPage {
    /// Lays it out.
    pub(crate) fn new() -> Result<BenchPage> {
        let folder = tempfile::tempdir()?;
        copy(&workspace().join("web/dist"), folder.path())
            .context("the page is not built: cargo xtask web")?;
        copy(&workspace().join("benches/page"), folder.path())?;
        Ok(BenchPage(folder))
    }

    /// `config` with bridges that serve this page.
    pub(crate) fn served_by(&self, mut config: Config) -> Config {
        let folder = self.0.path().to_string_lossy().into_owned();
        config
            .bridge_arguments
            .extend(["--web-dir".to_owned(), folder]);
        config
    }
}

/// Downloads the first `bytes` of a torrent's first file in a fresh browser. Nothing if there is
/// no browser.
pub(crate) async fn download(
    network: &Network,
    magnet: &str,
    bytes: u64,
) -> Result<Option<Measured>> {
    let Some(chromium) = find_chromium() else {
        return Ok(None);
    };
    let reports = TcpListener::bind("127.0.0.1:0").await?;
    let task = serde_json::json!({
        "magnet": magnet,
        "bytes": bytes,
        "memory": bytes + (64 << 20),
        "report": format!("ws://{}/", reports.local_addr()?),
    });
    let hash = escape(&task.to_string());
    let address = format!("{}bench.html#{hash}", network.page()?);
    let profile = tempfile::tempdir()?;
    let browser = start_chromium(&chromium, profile.path(), &[&address])?;
    let report = timeout(LIMIT, async {
        let (tcp, _) = reports.accept().await?;
        let mut socket = tokio_tungstenite::accept_async(tcp).await?;
        let message = socket.next().await.context("the tab went away")??;
        Ok::<_, anyhow::Error>(message.into_text()?.to_string())
    })
    .await;
    let report = match report {
        Ok(report) => report?,
        Err(_) => bail!("the tab said nothing in {LIMIT:?}: {}", browser.log()),
    };
    browser.kill().await?;
    let measured: serde_json::Value = serde_json::from_str(&report)?;
    if let Some(error) = measured.get("error") {
        bail!("in the tab: {error}");
    }
    let measured: Measured = serde_json::from_value(measured)?;
    ensure!(measured.bytes > 0.0, "the tab got nothing");
    Ok(Some(measured))
}

/// Percent-escapes all but letters and digits.
pub(crate) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
