//! The page in a real Firefox: alone, with a facilitator that it dials, and in a mesh with a
//! Chromium.

use std::time::Duration;

use anyhow::{Context, Result};
use chive_tests::browser::Installed;
use chive_tests::demo::check::{PLAYED, SEEK};
use chive_tests::firefox::{Firefox, find_firefox};
use chive_tests::network::{Config, Network, outer_ip};
use chive_tests::process::workspace;
use chive_tests::require;
use chive_tests::seeder::Seeder;
use chive_tests::tabs::Tabs;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

/// One Firefox at a time: a film is played in real time.
static ONE_FIREFOX: Mutex<()> = Mutex::const_new(());

/// What anything may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

const SHARED_BYTES: usize = 8_000_000;

const HELP: &str = "
    const until = async (holds) => {
        for (;;) {
            try { const value = await holds(); if (value) return value; } catch {}
            await new Promise((next) => setTimeout(next, 50));
        }
    };
    const hash = async (blob) => {
        const digest = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
        return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
    };
    const linked = (kind, id) => chive.status().links.some((link) =>
        link.kind === kind && link.state === 'open' && (!id || link.id === id));
    const share = async (length) => {
        const parts = [];
        for (let left = length; left > 0; left -= 65536) {
            parts.push(crypto.getRandomValues(new Uint8Array(Math.min(left, 65536))));
        }
        const file = new File(parts, 'shared.bin');
        const torrent = await chive.share([file]);
        return { magnet: torrent.magnet, sha256: await hash(file) };
    };
    const fetched = async (magnet) => {
        const torrent = await chive.open(magnet);
        // Sources come and go while a mesh grows: a read may fail, the download does not.
        await until(() => {
            const { verified_in_all_bytes, total_bytes } = chive.status().torrents.find(({ id }) => id === torrent.id);
            return total_bytes > 0 && verified_in_all_bytes >= total_bytes;
        });
        return hash(await torrent.files[0].blob());
    };
";

/// A tab in a Firefox of its own, in which `chive` is the node.
struct Page(Firefox);

impl Page {
    /// Nothing where Firefox is not installed.
    async fn open(url: &str) -> Result<Option<Page>> {
        let Some(program) = find_firefox() else {
            return Ok(None);
        };
        let firefox = Firefox::start(&program).await?;
        firefox.resize(1280, 800).await?;
        firefox.load(url).await?;
        Ok(Some(Page(firefox)))
    }

    async fn run(&self, what: &str, body: &str, args: Value) -> Result<Value> {
        self.0
            .run(what, LIMIT, &format!("{HELP}{body}"), args)
            .await
    }

    /// Waits until an expression is true; what it then is.
    async fn until(&self, what: &str, expression: &str) -> Result<Value> {
        let body = format!("return until(() => {expression});");
        let outcome = self.run(what, &body, Value::Null).await;
        let Err(why) = outcome else { return outcome };
        let status = self.run("its state", "return window.chive?.status();", Value::Null);
        Err(why.context(format!("its state is {}", status.await.unwrap_or_default())))
    }
}

#[tokio::test]
async fn the_page_in_firefox_dials_a_facilitator() -> Result<()> {
    let ip = require!(outer_ip(), "an address other than 127.0.0.1");
    let _only = ONE_FIREFOX.lock().await;
    let network = Network::start(Config {
        facilitators: 1,
        facilitator_ip: ip,
        ..Config::default()
    })
    .await?;
    let firefox = require!(Page::open(network.page()?).await?, "Firefox");
    let id = &network.facilitators[0].ready.fingerprint;
    let linked = format!("linked('facilitator', '{id}')");
    firefox.until("a link to the facilitator", &linked).await?;
    firefox.0.end().await?;
    network.end().await
}

/// Where there is no facilitator, routes go through tabs alone, which the bridge introduces.
#[tokio::test]
async fn firefox_and_chromium_are_introduced_and_fetch_from_each_other() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    // With the loopback interface alone neither browser makes a connection; and the bridge, which
    // extends every circuit to its middle, must reach Firefox too.
    let ip = require!(outer_ip(), "an address other than 127.0.0.1");
    let _only = ONE_FIREFOX.lock().await;
    let network = Network::start(Config {
        facilitators: 0,
        bridge_ip: ip,
        ..Config::default()
    })
    .await?;
    let firefox = require!(Page::open(network.page()?).await?, "Firefox");
    let mut tabs = Tabs::start(&installed, 1).await?;
    for _ in 0..2 {
        tabs.add(network.page()?, "").await?;
    }
    let id = firefox.until("its name", "chive.status().id").await?;
    let id = id.as_str().context("a name")?.to_owned();
    for tab in tabs.open() {
        let linked = format!("linked('tab', '{}')", tabs.id(tab).await?);
        firefox.until("a link to Chromium", &linked).await?;
        let linked = format!(
            "chive.status().links.some((link) => link.kind === 'tab' && link.id === '{id}')"
        );
        tabs.until(tab, "a link to Firefox", &linked).await?;
    }

    let shared = firefox.run("the share", "return share(args);", json!(SHARED_BYTES));
    let shared = shared.await?;
    let magnet = shared["magnet"].as_str().context("a link")?;
    let torrent = tabs.open_torrent(0, magnet).await?;
    tabs.fetched(0, &torrent, 1.0).await?;
    assert_eq!(tabs.sha256(0, &torrent).await?, shared["sha256"]);

    let (magnet, expected) = tabs.share(1, SHARED_BYTES).await?;
    let fetched = firefox.run("the download", "return fetched(args);", json!(magnet));
    assert_eq!(fetched.await?, expected);
    firefox.0.end().await?;
    network.end().await
}

#[tokio::test]
async fn the_sample_plays_seeks_and_is_stored_in_firefox() -> Result<()> {
    let _only = ONE_FIREFOX.lock().await;
    let film = workspace().join("tests/media/sample.webm");
    let seeder = Seeder::start(&film).await?;
    let network = Network::start(Config {
        peers: vec![seeder.address()],
        ..Config::default()
    })
    .await?;
    let address = format!("{}#{}", network.page()?, seeder.magnet());
    let firefox = require!(Page::open(&address).await?, "Firefox");
    let seconds = json!({ "past": 0, "seconds": 2 });
    firefox.run("the film to play", PLAYED, seconds).await?;
    let seeked = firefox
        .run("the seek", SEEK, json!({ "part": 0.6 }))
        .await?;
    let to = seeked["to"].as_f64().context("where the seek went")?;
    let past = json!({ "past": to + 0.5, "seconds": 0 });
    firefox.run("the film to go on", PLAYED, past).await?;

    // By the service worker, in parts and whole.
    let body = "
        const [file] = (await until(() => chive.torrents[0])).files;
        const part = await fetch(file.url, { headers: { Range: 'bytes=1000-1999' } });
        const whole = await fetch(file.url);
        return {
            status: part.status, range: part.headers.get('content-range'),
            part: await hash(await part.blob()), whole: await hash(await whole.blob()),
        };";
    let answers = firefox.run("the file by its address", body, Value::Null);
    let answers = answers.await?;
    let bytes = std::fs::read(&film)?;
    assert_eq!(answers["status"], 206);
    assert_eq!(answers["range"], format!("bytes 1000-1999/{}", bytes.len()));
    assert_eq!(answers["part"], hex(&Sha256::digest(&bytes[1000..2000])));
    assert_eq!(answers["whole"], hex(&Sha256::digest(&bytes)));

    let body = "
        const whole = chive.status().torrents[0].total_bytes;
        const stored = await until(async () => {
            const { kept, used_bytes } = await chive.store();
            return used_bytes >= whole && kept;
        });
        return stored;";
    let kept = firefox.run("all to be stored", body, Value::Null).await?;
    assert_eq!(kept, "opfs");
    firefox.0.end().await?;
    network.end().await
}

/// Bytes as hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
