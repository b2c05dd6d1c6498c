//! Sharing and storing in the tab, and what memory a tab takes that does both and carries for
//! others.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chive_tests::browser::find_chromium;
use chive_tests::client::Client;
use chive_tests::network::{Config, Network};
use chive_tests::process::find_program;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::bulk::{median, noise};
use crate::pages::{Browser, Page};
use crate::report::{Goal, Row};
use crate::tab::BenchPage;

const SHARED_BYTES: u64 = 1 << 30;
const WRITTEN_BYTES: u64 = 64 << 20;
const RUNS: usize = 3;
/// What a gigabyte may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(600);
/// Circuits of others that a tab carries while its memory is measured.
const CARRIED: usize = 20;
const MEMORY_LIMIT_MB: f64 = 150.0;
/// A page is told what its workers hold too where it is isolated, or where nothing is; and at once.
const TELL_MEMORY: [&str; 2] = [
    "--disable-web-security",
    "--enable-blink-features=ForceEagerMeasureMemory",
];

/// A page that stores, at a bridge.
struct Stage {
    network: Network,
    browser: Browser,
    page: Page,
}

impl Stage {
    async fn start(config: Config, flags: &[&str]) -> Result<Option<Stage>> {
        if find_chromium().is_none() {
            return Ok(None);
        }
        let network = Network::start(BenchPage::new()?.served_by(config)).await?;
        let address = format!("{}storing.html", network.page()?);
        let started = Browser::start_with(&address, 1, flags).await?;
        let (browser, mut pages) = started.context("a browser")?;
        let page = pages.pop().context("a page")?;
        Ok(Some(Stage {
            network,
            browser,
            page,
        }))
    }

    async fn ask(&mut self, what: Value) -> Result<Value> {
        self.page.ask(LIMIT, what).await
    }

    async fn end(self) -> Result<()> {
        self.browser.end().await?;
        self.network.end().await
    }
}

/// `share-hashing`: until a file of a gigabyte is hashed, v1 and v2, against v1 alone natively.
pub async fn hashing() -> Result<Row> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    if let Some(mut stage) = Stage::start(Config::default(), &[]).await? {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("noise.bin");
        noise(&file, SHARED_BYTES)?;
        stage
            .ask(json!({ "do": "make", "bytes": SHARED_BYTES }))
            .await?;
        stage.ask(json!({ "do": "start", "options": {} })).await?;
        for run in 0..RUNS {
            let shared = stage.ask(json!({ "do": "share" })).await?;
            ours.push(shared["ms"].as_f64().context("no time")?);
            // What is copied into the store meanwhile would be measured with the next.
            stage.ask(json!({ "do": "forget" })).await?;
            if find_program("transmission-create").is_some() {
                let made = folder.path().join(format!("{run}.torrent"));
                let began = Instant::now();
                let status = Command::new("transmission-create")
                    .arg("-o")
                    .args([&made, &file])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .await?;
                ensure!(status.success(), "transmission-create: {status}");
                theirs.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        println!("hashing 1 GiB, ms: {ours:.0?}, transmission-create {theirs:.0?}");
        stage.end().await?;
    }
    Ok(Row::new(
        "share-hashing",
        "ms",
        median(ours),
        ("transmission-create", median(theirs)),
        Goal::AtMost(3.0),
    ))
}

/// `store-write`: chunks and claims, against a plain file of OPFS.
pub async fn write() -> Result<Row> {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    if let Some(mut stage) = Stage::start(Config::default(), &[]).await? {
        let bridge = stage.network.bridges[0].ready.websocket.clone();
        let write = json!({
            "do": "write", "bytes": WRITTEN_BYTES, "runs": RUNS, "bridge": bridge,
        });
        let results = stage.ask(write).await?;
        println!("store, MB/s: {results}");
        for result in results.as_array().context("no results")? {
            raw.extend(result["peer"].as_f64());
            ours.extend(result["ours"].as_f64());
        }
        stage.end().await?;
    }
    Ok(Row::new(
        "store-write",
        "MB/s",
        median(ours),
        ("a plain OPFS file", median(raw)),
        Goal::AtLeast(0.7),
    ))
}

/// `tab-memory`: a tab that has shared and stored a gigabyte and carries others' circuits.
pub async fn memory() -> Result<Row> {
    let mut ours = None;
    // One facilitator: then whoever builds a circuit needs the tab in it.
    let config = Config {
        facilitators: 1,
        ..Config::default()
    };
    if let Some(mut stage) = Stage::start(config, &TELL_MEMORY).await? {
        stage
            .ask(json!({ "do": "make", "bytes": SHARED_BYTES }))
            .await?;
        stage.ask(json!({ "do": "start", "options": {} })).await?;
        stage.ask(json!({ "do": "share" })).await?;
        stage
            .ask(json!({ "do": "kept", "bytes": SHARED_BYTES }))
            .await?;
        let stored = stage.ask(json!({ "do": "memory" })).await?;
        println!("a tab that has stored 1 GiB: {stored}");
        let line = stage.network.bridges[0].ready.websocket.parse()?;
        let mut clients = Vec::new();
        let mut carried = 0;
        let end = Instant::now() + LIMIT;
        while carried < CARRIED && Instant::now() < end {
            if clients.len() < CARRIED {
                clients.push(Client::start(vec![Clone::clone(&line)])?);
            }
            sleep(Duration::from_millis(500)).await;
            carried = 0;
            for client in &clients {
                carried += over_tabs(client).await?;
            }
        }
        ensure!(
            carried >= CARRIED,
            "only {carried} circuits go over the tab, of {} clients",
            clients.len()
        );
        let held = stage.ask(json!({ "do": "memory" })).await?;
        println!("the same that carries {carried} circuits: {held}");
        ours = Some(megabytes(&held)?);
        stage.end().await?;
    }
    Ok(Row::new(
        "tab-memory",
        "MB",
        ours,
        ("the limit, wasm + JS heaps", Some(MEMORY_LIMIT_MB)),
        Goal::AtMost(1.0),
    ))
}

/// A client's open circuits with a tab in them: routers without addresses.
async fn over_tabs(client: &Client) -> Result<usize> {
    let count = client.driver().call(|node, _| {
        let circuits = node.circuits();
        let carried = circuits.iter().filter(|circuit| {
            circuit.hops == circuit.path.len()
                && circuit.path.iter().any(|hop| hop.addresses.is_empty())
        });
        carried.count()
    });
    Ok(count.await?)
}

/// What the page and its workers have on their heaps, and the worker's wasm memory beside them.
fn megabytes(held: &Value) -> Result<f64> {
    let heaps = held["heaps"].as_f64();
    let wasm = held["wasm"].as_f64();
    let wasm = wasm.filter(|bytes| *bytes > 0.0);
    let bytes = heaps.context("this browser tells no heaps")?
        + wasm.context("the node's worker said nothing")?;
    Ok(bytes / 1e6)
}
