//! Five tabs in two Chromium processes, one bridge, one facilitator: tabs carry each other's
//! circuits, share among themselves, and go on without whoever leaves.

use anyhow::{Context, Result, bail, ensure};
use chive_tests::browser::Installed;
use chive_tests::network::{Config, Network};
use chive_tests::require;
use chive_tests::tabs::Tabs;
use serde_json::Value;
use tokio::sync::Mutex;

/// One mesh at a time: each is two browsers.
static ONE_MESH: Mutex<()> = Mutex::const_new(());

const TABS: usize = 5;
/// Who shares, and who fetches.
const SHARER: usize = 0;
const FETCHER: usize = 1;
/// The others.
const BETWEEN: [usize; 3] = [2, 3, 4];
const SHARED_BYTES: usize = 50_000_000;
/// For what is about who is there, not about how much.
const FEW_BYTES: usize = 12_000_000;
/// How often a torrent is opened anew for circuits through certain routers: they are drawn at
/// random, and those that stood ready before all tabs were there lead over the first of them.
const DRAWS: usize = 10;

/// Whether a tab's service worker has all that its page was made of, and what sharing loads.
const KEPT: &str = "caches.open('chive-page').then(async (kept) => {
    const loaded = performance.getEntriesByType('resource').map(({ name }) => name);
    const found = await Promise.all([...loaded, 'share.js', 'hash.js'].map((name) => kept.match(name)));
    return found.every(Boolean);
})";

async fn mesh(installed: &Installed) -> Result<(Network, Tabs)> {
    let config = Config {
        facilitators: 1,
        ..Config::default()
    };
    let network = Network::start(config).await?;
    let mut tabs = Tabs::start(installed, 2).await?;
    for _ in 0..TABS {
        tabs.add(network.page()?, "").await?;
    }
    tabs.ensure_processes(2)?;
    // As many as a peer keeps to tell others what it has.
    tabs.stand(6).await?;
    // The first to come knew nobody to lay circuits over but the second.
    for tab in tabs.open() {
        let all = format!("chive.status().routers_known >= {TABS}");
        tabs.until(tab, "the others to be known", &all).await?;
    }
    Ok((network, tabs))
}

async fn ids(tabs: &Tabs, of: &[usize]) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for tab in of {
        ids.push(tabs.id(*tab).await?);
    }
    Ok(ids)
}

/// The routers of the circuits of a tab that stand, nearest first.
async fn paths(tabs: &Tabs, tab: usize, torrent: Option<&Value>) -> Result<Vec<Vec<String>>> {
    let status = tabs.state(tab).await?;
    let circuits = status["circuits"].as_array().cloned().unwrap_or_default();
    let fits = |circuit: &&Value| {
        circuit["state"] == "open" && torrent.is_none_or(|torrent| circuit["torrent"] == *torrent)
    };
    let hops = |circuit: &Value| -> Vec<String> {
        let hops = circuit["hops"].as_array().cloned().unwrap_or_default();
        let ids = hops.iter().filter_map(|hop| hop["fingerprint"].as_str());
        ids.map(str::to_owned).collect()
    };
    Ok(circuits.iter().filter(fits).map(hops).collect())
}

/// Begins to download a torrent until so much of it is here and one of its circuits fits, drawing
/// them anew until then; its number, and that circuit's path.
async fn begin(
    tabs: &Tabs,
    magnet: &str,
    part: f64,
    fits: impl Fn(&Vec<String>) -> bool,
) -> Result<(Value, Vec<String>)> {
    let mut drawn = Vec::new();
    for _ in 0..DRAWS {
        let torrent = tabs.open_torrent(FETCHER, magnet).await?;
        tabs.fetched(FETCHER, &torrent, part).await?;
        let used = paths(tabs, FETCHER, Some(&torrent)).await?;
        if let Some(path) = used.iter().find(|path| fits(path)) {
            return Ok((torrent, path.clone()));
        }
        drawn.extend(used);
        tabs.remove(FETCHER, &torrent).await?;
    }
    bail!("no circuit goes as this test needs it: {drawn:?}")
}

#[tokio::test]
async fn fifty_megabytes_go_from_tab_to_tab_through_two_others() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let _only = ONE_MESH.lock().await;
    let (network, tabs) = mesh(&installed).await?;
    let others = ids(&tabs, &BETWEEN).await?;
    let (magnet, expected) = tabs.share(SHARER, SHARED_BYTES).await?;
    let through_two = |path: &Vec<String>| {
        path.len() == 3 && path.iter().filter(|hop| others.contains(hop)).count() == 2
    };
    let (torrent, _) = begin(&tabs, &magnet, 0.1, through_two).await?;
    tabs.fetched(FETCHER, &torrent, 1.0).await?;
    assert_eq!(tabs.sha256(FETCHER, &torrent).await?, expected);
    let mut carried = 0;
    for tab in tabs.open() {
        let bytes = tabs.value(tab, "chive.status().carried.bytes").await?;
        carried += bytes.as_u64().unwrap_or(0);
    }
    ensure!(
        carried >= SHARED_BYTES as u64,
        "tabs carried {carried} bytes"
    );
    network.end().await
}

#[tokio::test]
async fn who_shares_may_go_once_others_have_it() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let _only = ONE_MESH.lock().await;
    let (network, mut tabs) = mesh(&installed).await?;
    let (magnet, expected) = tabs.share(SHARER, FEW_BYTES).await?;
    let first = tabs.open_torrent(FETCHER, &magnet).await?;
    tabs.fetched(FETCHER, &first, 1.0).await?;
    let second = tabs.open_torrent(2, &magnet).await?;
    tabs.fetched(2, &second, 0.6).await?;
    tabs.close(SHARER).await?;
    tabs.fetched(2, &second, 1.0).await?;
    assert_eq!(tabs.sha256(2, &second).await?, expected);
    network.end().await
}

#[tokio::test]
async fn without_the_bridge_members_introduce_newcomers_and_downloads_go_on() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let _only = ONE_MESH.lock().await;
    let (mut network, mut tabs) = mesh(&installed).await?;
    // Serves the page only: nobody of the mesh knows it.
    let elsewhere = Network::start(Config {
        facilitators: 0,
        ..Config::default()
    })
    .await?;
    for tab in tabs.open() {
        tabs.until(tab, "the page to be kept", KEPT).await?;
    }
    let invitation = tabs
        .value(SHARER, "chive.invite({ bridges: false })")
        .await?;
    let invitation = invitation.as_str().context("no invitation")?;
    network.bridges.remove(0).process.kill().await?;
    for tab in tabs.open() {
        let missed = "chive.status().bridges[0].state !== 'connected'";
        tabs.until(tab, "the bridge to be missed", missed).await?;
    }
    // Nor is the page's server there any longer: what was kept of it enters by who is left.
    tabs.reload(2).await?;
    tabs.stand_in(2, 1).await?;
    // The second learns of the first by its walks, and builds circuits through it: whoever stands
    // before it in one must be introduced to it.
    let first = tabs.add(elsewhere.page()?, invitation).await?;
    tabs.stand_in(first, 1).await?;
    let second = tabs.add(elsewhere.page()?, invitation).await?;
    tabs.stand_in(second, 1).await?;
    tabs.stand_in(SHARER, 1).await?;
    let (magnet, expected) = tabs.share(SHARER, FEW_BYTES).await?;
    for tab in [3, first, second] {
        let torrent = tabs.open_torrent_again(tab, &magnet).await?;
        tabs.fetched(tab, &torrent, 1.0).await?;
        assert_eq!(tabs.sha256(tab, &torrent).await?, expected);
    }
    tabs.until(
        first,
        "a link to a tab that a member introduced",
        "chive.status().links.some(({ kind, state }) => kind === 'tab' && state === 'open')",
    )
    .await?;
    elsewhere.end().await?;
    network.end().await
}

#[tokio::test]
async fn a_reload_goes_on_with_what_was_stored() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let _only = ONE_MESH.lock().await;
    let (network, tabs) = mesh(&installed).await?;
    let (magnet, expected) = tabs.share(SHARER, FEW_BYTES).await?;
    let torrent = tabs.open_torrent(FETCHER, &magnet).await?;
    tabs.fetched(FETCHER, &torrent, 0.4).await?;
    // What the store tells of is claimed.
    let stored = tabs
        .value(FETCHER, "(await chive.store()).used_bytes")
        .await?;
    let stored = stored.as_u64().context("no number of bytes")?;
    tabs.reload(FETCHER).await?;
    tabs.until(FETCHER, "the torrent", "chive.status().torrents.length > 0")
        .await?;
    let there = tabs
        .value(FETCHER, "chive.status().torrents[0].verified_bytes")
        .await?;
    // The last chunk is shorter than its slot.
    ensure!(
        there.as_u64() >= Some(stored.saturating_sub(16384)) && stored > 0,
        "{stored} bytes were stored, {there} are there again"
    );
    let again = tabs.value(FETCHER, "chive.torrents[0].id").await?;
    tabs.fetched(FETCHER, &again, 1.0).await?;
    assert_eq!(tabs.sha256(FETCHER, &again).await?, expected);
    network.end().await
}

#[tokio::test]
async fn a_tab_that_carries_is_closed_and_the_download_goes_on() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let _only = ONE_MESH.lock().await;
    let (network, mut tabs) = mesh(&installed).await?;
    let others = ids(&tabs, &BETWEEN).await?;
    let (magnet, expected) = tabs.share(SHARER, FEW_BYTES).await?;
    // Neither who shares nor who asks, but one of those between.
    let carries = |path: &Vec<String>| others.iter().any(|id| path.contains(id));
    let (torrent, path) = begin(&tabs, &magnet, 0.2, carries).await?;
    let mut carriers = BETWEEN.into_iter().zip(&others);
    let carrier = carriers.find(|(_, id)| path.contains(id));
    let (between, gone) = carrier.context("it was just looked for")?;
    tabs.close(between).await?;
    tabs.fetched(FETCHER, &torrent, 1.0).await?;
    assert_eq!(tabs.sha256(FETCHER, &torrent).await?, expected);
    // Who stands before it finds out that it is gone when it answers nothing more.
    let rebuilt = format!(
        "open(chive.status().circuits).length > 0 && open(chive.status().circuits)\
         .every(({{ hops }}) => hops.every(({{ fingerprint }}) => fingerprint !== '{gone}'))"
    );
    tabs.until(FETCHER, "circuits past the tab that is closed", &rebuilt)
        .await?;
    network.end().await
}
