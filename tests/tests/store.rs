//! What a tab keeps, in a real Chromium with its real file system and database: the browser is
//! killed, and another one takes its profile over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chive_tests::browser::{Browser, Installed};
use chive_tests::network::{Config, Network};
use chive_tests::require;
use chive_tests::seeder::Seeder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

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

/// For what asks all the time.
const UNTIL: &str = "
    const until = async (what) => {
        while (!(await what())) await new Promise((next) => setTimeout(next, 50));
    };
    const statusOf = (it, torrent) => it.status().torrents.find(({ id }) => id === torrent.id) ?? {};";

/// Who seeds a film, a network that knows him, and the film's SHA-256 as pages say it.
async fn seeded(len: u32, bytes_per_second: u64) -> Result<(Seeder, Network, String)> {
    let content: Vec<u8> = (0..len)
        .map(|at| (at.wrapping_mul(0x9E37_79B1) >> 24) as u8)
        .collect();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("film.bin");
    std::fs::write(&file, &content)?;
    let seeder = Seeder::start_at(&file, bytes_per_second).await?;
    let config = Config {
        peers: vec![seeder.address()],
        ..Config::default()
    };
    let network = Network::start(config).await?;
    let hash = Sha256::digest(&content);
    let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((seeder, network, hash))
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

#[tokio::test]
async fn a_second_tab_shares_by_the_first_and_takes_over() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let network = Network::start(Config::default()).await?;
    let browser = Browser::start(&installed).await?;
    browser.go(network.page()?).await?;
    // Another node of the same origin is to the store what another tab is.
    let body = format!(
        "{UNTIL}
        const {{ Chive }} = await import(new URL('chive.js', location.href));
        const second = await Chive.start();
        const bytes = content(0, args.bytes);
        const torrent = await second.share([new File([bytes], 'large.bin')]);
        await until(() => chive.torrents.some(({{ magnet, state }}) => magnet === torrent.magnet && state === 'sharing'));
        await until(async () => (await second.store()).used_bytes >= args.bytes);
        const seen = await second.store();
        chive.close();
        await until(() => statusOf(second, torrent).shared && statusOf(second, torrent).complete);
        const read = await new Response(torrent.files[0].stream()).arrayBuffer();
        return {{ kept: seen.kept, same: (await hash(read)) === (await hash(bytes)), state: torrent.state, torrents: second.torrents.length }};"
    );
    let seen = run(&browser, "a second tab", &body, json!({ "bytes": 8 << 20 })).await?;
    let wanted = json!({ "kept": "opfs", "same": true, "state": "sharing", "torrents": 1 });
    assert_eq!(seen, wanted);
    network.end().await
}

#[tokio::test]
async fn a_second_tab_keeps_and_reads_by_the_one_that_has_the_store() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let len = 4_000_000;
    let (seeder, network, hash) = seeded(len, u64::MAX).await?;
    let browser = Browser::start(&installed).await?;
    browser.go(network.page()?).await?;
    let first = browser.tab().await?;
    let body = format!("{UNTIL} await until(async () => (await chive.store()).kept === 'opfs');");
    run(&browser, "a tab with the store", &body, json!({})).await?;

    let second = browser.open_tab().await?;
    browser.go(network.page()?).await?;
    // Its own memory is far too small: what it reads again comes out of the first tab's store.
    let body = format!(
        "{UNTIL}
        const {{ Chive }} = await import(new URL('chive.js', location.href));
        chive.close();
        window.chive = await Chive.start({{ memoryBytes: 1 << 20 }});
        const torrent = await window.chive.open(args.magnet);
        await until(() => statusOf(window.chive, torrent).complete);
        await until(async () => (await window.chive.store()).used_bytes >= args.bytes);
        const {{ stored }} = statusOf(window.chive, torrent);
        const read = await new Response(torrent.files[0].stream()).arrayBuffer();
        return {{ stored, got: await hash(read) }};"
    );
    let args = json!({ "magnet": seeder.magnet().to_string(), "bytes": len });
    let seen = run(&browser, "a download in a second tab", &body, args).await?;
    assert_eq!(seen, json!({ "stored": true, "got": hash }));

    // The first tab has all of it and fetched none.
    browser.switch_to(&first).await?;
    let body = format!(
        "{UNTIL}
        await until(() => chive.torrents.length > 0 && statusOf(chive, chive.torrents[0]).complete);
        const {{ sources }} = statusOf(chive, chive.torrents[0]);
        return sources.reduce((sum, source) => sum + source.delivered_bytes, 0);"
    );
    let fetched = run(&browser, "the tab that has the store", &body, json!({})).await?;
    assert_eq!(fetched, json!(0));

    let third = browser.open_tab().await?;
    browser.close_tab(&second).await?;
    browser.close_tab(&first).await?;
    drop(seeder);
    browser.switch_to(&third).await?;
    browser.go(network.page()?).await?;
    let body = format!(
        "{UNTIL}
        await until(() => chive.torrents.length > 0 && chive.torrents[0].files.length > 0);
        const [torrent] = chive.torrents;
        await until(() => statusOf(chive, torrent).complete);
        const read = await new Response(torrent.files[0].stream()).arrayBuffer();
        return hash(read);"
    );
    let kept = run(&browser, "what was kept to be found", &body, json!({})).await?;
    assert_eq!(kept, json!(hash));
    network.end().await
}

#[tokio::test]
async fn without_a_file_system_the_database_keeps_all() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let network = Network::start(Config::default()).await?;
    let profile = Arc::new(tempfile::tempdir()?);
    let browser = without_files(&installed, profile.clone()).await?;
    browser.go(network.page()?).await?;
    let body = format!(
        "{UNTIL}
        if (navigator.storage.getDirectory) return 'there are files';
        const torrent = await share(args.bytes);
        await until(async () => (await chive.store()).used_bytes >= args.bytes);
        return (await chive.store()).kept;"
    );
    let args = json!({ "bytes": 8 << 20 });
    let kept = run(&browser, "the share to be copied", &body, args.clone()).await?;
    assert_eq!(kept, "indexeddb");
    browser.kill().await?;

    let browser = without_files(&installed, profile).await?;
    browser.go(network.page()?).await?;
    let body = format!(
        "{UNTIL}
        await until(() => chive.torrents.length > 0 && chive.torrents[0].files.length > 0);
        const [torrent] = chive.torrents;
        await until(() => statusOf(chive, torrent).complete);
        const file = torrent.files.find(({{ name }}) => name === 'large.bin');
        const read = await new Response(file.stream()).arrayBuffer();
        return {{ same: (await hash(read)) === (await hash(content(0, args.bytes))), kept: (await chive.store()).kept }};"
    );
    let after = run(&browser, "what was kept to be read", &body, args).await?;
    assert_eq!(after, json!({ "same": true, "kept": "indexeddb" }));
    network.end().await
}

async fn without_files(installed: &Installed, profile: Arc<TempDir>) -> Result<Browser> {
    let off = "--disable-blink-features=FileSystemAccess,FileSystemAccessLocal,FileSystemAccessOriginPrivate";
    Browser::start_with_flags(installed, profile, &[off]).await
}

/// A seeder gives slowly, so that there is a middle.
#[tokio::test]
async fn a_download_is_paused_resumed_and_goes_on_after_a_reload() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let len = 6_000_000;
    let (seeder, network, hash) = seeded(len, 600_000).await?;
    let browser = Browser::start(&installed).await?;
    browser.go(network.page()?).await?;
    let body = format!(
        "{UNTIL}
        const torrent = await chive.open(args.magnet);
        const here = () => statusOf(chive, torrent).verified_bytes ?? 0;
        await until(() => here() > 500_000);
        await torrent.pause();
        const states = [torrent.state];
        // What had been asked for may come still; then nothing does.
        await until(() => statusOf(chive, torrent).sources.every((source) => source.unanswered_chunks === 0));
        const paused = here();
        await torrent.resume();
        await until(() => here() > paused + 500_000);
        states.push(torrent.state);
        await chive.store();
        return {{ states, here: here(), paused }};"
    );
    let args = json!({ "magnet": seeder.magnet().to_string() });
    let before = run(&browser, "half a download", &body, args.clone()).await?;
    assert_eq!(before["states"], json!(["paused", "downloading"]));
    assert!(before["paused"].as_f64() < Some(f64::from(len)));

    browser.reload().await?;
    let body = format!(
        "{UNTIL}
        await until(() => chive.torrents.length > 0 && chive.torrents[0].files.length > 0);
        const [torrent] = chive.torrents;
        await until(() => statusOf(chive, torrent).verified_bytes > 0);
        const first = statusOf(chive, torrent).verified_bytes;
        await until(() => statusOf(chive, torrent).complete);
        const read = await new Response(torrent.files[0].stream()).arrayBuffer();
        const got = await hash(read);
        await torrent.remove();
        await until(async () => (await chive.store()).used_bytes === 0);
        return {{ first, got, left: chive.torrents.length }};"
    );
    let after = run(&browser, "the rest of a download", &body, args).await?;
    assert!(after["first"].as_f64() >= Some(1_000_000.0), "{after}");
    assert_eq!(after["got"], json!(hash));
    assert_eq!(after["left"], 0);
    network.end().await
}
