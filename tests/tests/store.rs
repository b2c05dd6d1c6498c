//! What a tab keeps, in a real Chromium with its real file system and database: the browser is
//! killed, and another one takes its profile over.

use std::time::Duration;

use anyhow::{Context, Result};
use chive_tests::browser::{Browser, Installed};
use chive_tests::network::{Config, Network};
use chive_tests::require;
use serde_json::{Value, json};

/// What anything may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

/// In each page: the page's own node, content that is the same each time, and its hash.
const HELP: &str = "
    while (!window.chive) await new Promise((next) => setTimeout(next, 50));
    const chive = window.chive;
    const content = (start, end) => Uint8Array.from({ length: end - start }, (_, at) => {
        const place = start + at;
        return Math.imul(place ^ (place >>> 7), 0x9E3779B1) >>> 24;
    });
    const hash = async (bytes) => {
        const digest = await crypto.subtle.digest('SHA-256', bytes);
        return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
    };
    const share = (bytes) => chive.share([
        { path: 'folder/large.bin', file: new File([content(0, bytes)], 'large.bin') },
        { path: 'folder/in/small.txt', file: new File(['hello'], 'small.txt') },
    ]);";

async fn run(browser: &Browser, what: &str, body: &str, args: Value) -> Result<Value> {
    browser
        .run(what, LIMIT, &format!("{HELP}{body}"), args)
        .await
}

#[tokio::test]
async fn what_was_claimed_outlives_a_killed_browser() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let network = Network::start(Config::default()).await?;
    let browser = Browser::start(&installed).await?;
    browser.go(network.page()?).await?;
    // Killed in the middle of the copying: what the store tells of is claimed by then.
    let body = "
        const torrent = await share(args.bytes);
        let stored = 0;
        while (stored < args.enough) stored = (await chive.store()).used_bytes;
        return { stored, magnet: torrent.magnet, kept: (await chive.store()).kept };";
    let args = json!({ "bytes": 96 << 20, "enough": 8 << 20 });
    let before = run(&browser, "the share to be copied", body, args).await?;
    assert_eq!(before["kept"], "opfs");
    let profile = browser.profile();
    browser.kill().await?;

    let browser = Browser::start_with(&installed, profile).await?;
    browser.go(network.page()?).await?;
    let body = "
        while (chive.torrents.length === 0) await new Promise((next) => setTimeout(next, 50));
        const [torrent] = chive.torrents;
        const status = () => chive.status().torrents.find(({ id }) => id === torrent.id);
        while (!status()) await new Promise((next) => setTimeout(next, 50));
        const { verified, verified_bytes, shared } = status();
        const file = torrent.files.find(({ name }) => name === 'large.bin');
        let wrong = 0;
        for (const [from, to] of verified) {
            const start = Math.max(0, from - file.offset);
            const end = Math.min(file.length, to - file.offset);
            if (start >= end) continue;
            // What is claimed and is not there would be waited for.
            const bytes = new Uint8Array(await new Response(file.stream({ start, end })).arrayBuffer());
            if ((await hash(bytes)) !== (await hash(content(start, end)))) wrong += 1;
        }
        return { wrong, verified_bytes, shared, magnet: torrent.magnet, state: torrent.state };";
    let after = run(&browser, "what was kept to be read", body, json!({})).await?;
    assert_eq!(after["wrong"], 0);
    assert_eq!(after["magnet"], before["magnet"]);
    assert_eq!(after["shared"], true);
    let (stored, verified) = (before["stored"].as_f64(), after["verified_bytes"].as_f64());
    let (stored, verified) = (stored.context("stored")?, verified.context("verified")?);
    // A chunk at a file's end is shorter than its slot.
    assert!(verified + 4.0 * 16384.0 >= stored, "{verified} of {stored}");

    let body = "
        await chive.forgetEverything();
        const { used_bytes } = await chive.store();
        return { used_bytes, torrents: chive.torrents.length };";
    let forgotten = run(&browser, "all to be forgotten", body, json!({})).await?;
    assert_eq!(forgotten, json!({ "used_bytes": 0, "torrents": 0 }));
    network.end().await
}
