//! A mesh of tabs on one machine: the first shares a film, the second fetches it, the others carry.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::browser::Installed;
use crate::network::Network;
use crate::tabs::Tabs;

/// Chromium processes that the tabs are spread over.
const BROWSERS: usize = 2;
/// Circuits that each is to have before anything is shared.
const CIRCUITS: usize = 3;
/// Who shares.
const SHARER: usize = 0;
/// Who fetches.
const FETCHER: usize = 1;

/// A mesh that stands.
pub struct Mesh {
    tabs: Tabs,
    /// What to call whom.
    names: BTreeMap<String, String>,
    /// The link to what the first tab shares.
    magnet: String,
    sha256: String,
}

/// What a mesh did.
#[derive(Clone, Debug, Serialize)]
pub struct MeshReport {
    /// How many tabs there are.
    pub tabs: usize,
    /// In how many Chromium processes.
    pub browsers: usize,
    /// How long the film is that was fetched.
    pub bytes: u64,
    /// The SHA-256 of what was fetched; a report is only made where it is that of what was shared.
    pub sha256: String,
    /// The routers that it was fetched over, one list a circuit.
    pub paths: Vec<Vec<String>>,
    /// Each tab.
    pub members: Vec<Member>,
    /// Where the screenshot lies.
    pub screenshot: PathBuf,
}

/// What a tab is in the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// What it is called.
    pub name: String,
    /// Whom it is linked to.
    pub links: Vec<String>,
    /// Circuits of its own that stand.
    pub circuits: usize,
    /// Circuits of others that it carries.
    pub carried_circuits: u64,
    /// Bytes of others' circuits that it has carried.
    pub carried_bytes: u64,
    /// What it has of the film, in bytes.
    pub verified_bytes: u64,
}

impl Mesh {
    /// Opens the tabs, waits until each has circuits, and shares `film` in the first.
    pub async fn open(
        installed: &Installed,
        network: &Network,
        tabs: usize,
        film: &Path,
    ) -> Result<Mesh> {
        let content = std::fs::read(film).with_context(|| format!("reading {}", film.display()))?;
        let mut open = Tabs::start(installed, BROWSERS).await?;
        for _ in 0..tabs {
            open.add(network.page()?, "").await?;
        }
        open.ensure_processes(BROWSERS)?;
        let mut names = BTreeMap::new();
        for (place, bridge) in network.bridges.iter().enumerate() {
            names.insert(bridge.ready.fingerprint.clone(), one_of("bridge", place));
        }
        for (place, router) in network.facilitators.iter().enumerate() {
            let name = one_of("facilitator", place);
            names.insert(router.ready.fingerprint.clone(), name);
        }
        for tab in open.open() {
            names.insert(open.id(tab).await?, one_of("tab", tab));
        }
        open.stand(CIRCUITS).await?;
        let name = film
            .file_name()
            .context("a film without a name")?
            .to_string_lossy();
        let magnet = open.share_file(SHARER, &name, &content).await?;
        let sha256 = Sha256::digest(&content);
        let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Mesh {
            tabs: open,
            names,
            magnet,
            sha256,
        })
    }

    /// The link to what the first tab shares.
    pub fn magnet(&self) -> &str {
        &self.magnet
    }

    /// Fetches it in the second tab, as its user would by the page, until all of it is there.
    pub async fn fetch(&self) -> Result<()> {
        self.tabs.follow(FETCHER, &self.magnet).await?;
        self.tabs
            .until(
                FETCHER,
                "the list of files",
                "chive.torrents[0]?.files.length > 0",
            )
            .await?;
        let torrent = self.tabs.value(FETCHER, "chive.torrents[0].id").await?;
        self.tabs.fetched(FETCHER, &torrent, 1.0).await
    }

    /// Who is linked to whom, and what each carries.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        for tab in self.tabs.open() {
            let state = self.tabs.state(tab).await?;
            let links = list(&state, "links");
            let mut links: Vec<String> = links.iter().map(|link| self.name(&link["id"])).collect();
            links.sort();
            links.dedup();
            let carried = &state["carried"];
            let torrents = list(&state, "torrents");
            members.push(Member {
                name: one_of("tab", tab),
                links,
                circuits: list(&state, "circuits")
                    .iter()
                    .filter(|circuit| circuit["state"] == "open")
                    .count(),
                carried_circuits: carried["circuits"].as_u64().unwrap_or(0),
                carried_bytes: carried["bytes"].as_u64().unwrap_or(0),
                verified_bytes: torrents
                    .iter()
                    .filter_map(|torrent| torrent["verified_bytes"].as_u64())
                    .sum(),
            });
        }
        Ok(members)
    }

    /// The routers of the circuits over which the second tab fetches or offers.
    pub async fn paths(&self) -> Result<Vec<Vec<String>>> {
        let state = self.tabs.state(FETCHER).await?;
        let circuits = list(&state, "circuits").iter();
        let used = circuits.filter(|circuit| circuit["torrent"].is_number());
        let hops = |circuit: &Value| {
            let hops = list(circuit, "hops").iter();
            hops.map(|hop| self.name(&hop["fingerprint"])).collect()
        };
        Ok(used.map(hops).collect())
    }

    /// What came of it, with the second tab's picture of the network.
    pub async fn report(&self, paths: Vec<Vec<String>>, screenshot: &Path) -> Result<MeshReport> {
        let torrent = self.tabs.value(FETCHER, "chive.torrents[0].id").await?;
        let sha256 = self.tabs.sha256(FETCHER, &torrent).await?;
        ensure!(
            sha256 == self.sha256,
            "what was fetched is not what was shared: {sha256}, not {}",
            self.sha256
        );
        self.tabs.show_network(FETCHER).await?;
        self.tabs.screenshot(FETCHER, screenshot).await?;
        let members = self.members().await?;
        let bytes = members.get(FETCHER).map(|member| member.verified_bytes);
        Ok(MeshReport {
            tabs: members.len(),
            browsers: BROWSERS,
            bytes: bytes.unwrap_or(0),
            sha256,
            paths,
            members,
            screenshot: screenshot.to_owned(),
        })
    }

    fn name(&self, id: &Value) -> String {
        let id = id.as_str().unwrap_or("?");
        let name = self.names.get(id).cloned();
        // Somebody whom the demo did not start: the reader's own tab, perhaps.
        name.unwrap_or_else(|| format!("tab {}", id.get(..8).unwrap_or(id)))
    }
}

/// The mesh as a table for a terminal.
pub fn table(members: &[Member]) -> String {
    let mut rows = vec![["", "linked to", "its circuits", "carries", "has"].map(str::to_owned)];
    for member in members {
        rows.push([
            member.name.clone(),
            member.links.join(", "),
            member.circuits.to_string(),
            format!(
                "circuits: {}, so far {}",
                member.carried_circuits,
                size(member.carried_bytes)
            ),
            size(member.verified_bytes),
        ]);
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

fn one_of(kind: &str, place: usize) -> String {
    format!("{kind} {}", place + 1)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "nothing".to_owned(),
        1..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}
