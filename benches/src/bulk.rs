//! Downloads in the tab, against librqbit and others straight from the swarm, and against real
//! `tor` on the same machine.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use chive_tests::network::{Config, Dht, Network};
use chive_tests::process::find_program;
use chive_tests::shared::{Swarm, SwarmOptions, Tornet};

use crate::peers;
use crate::proc::cpu_ms;
use crate::report::{Goal, Row};
use crate::tab::{self, BenchPage};

/// What one download has: long enough for a rate, short enough for a tab's memory.
const BULK_BYTES: u64 = 192 << 20;
const MIB: u64 = 1 << 20;
/// Each figure is the median of so many runs.
const RUNS: usize = 3;

/// A swarm with one torrent of noise.
pub(crate) async fn swarm(bytes: u64) -> Result<Option<(Swarm, tempfile::TempDir)>> {
    let Some(tool) = Swarm::tool() else {
        return Ok(None);
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("noise.bin");
    noise(&file, bytes)?;
    let options = SwarmOptions {
        kinds: &["v1"],
        seeders: &["libtorrent"],
        piece_kib: 256,
    };
    let swarm = Swarm::start(tool, &[&file], options).await?;
    Ok(Some((swarm, folder)))
}

pub(crate) fn noise(file: &Path, bytes: u64) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ bytes;
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&state.to_le_bytes())?;
    }
    Ok(out.flush()?)
}

/// A network that finds peers by the swarm's tracker and DHT.
pub(crate) async fn network(page: &BenchPage, swarm: &Swarm) -> Result<Network> {
    network_of(2, page, swarm).await
}

/// The same with so many facilitators.
pub(crate) async fn network_of(
    facilitators: usize,
    page: &BenchPage,
    swarm: &Swarm,
) -> Result<Network> {
    let config = Config {
        facilitators,
        trackers: vec![swarm.tracker().to_owned()],
        dht: Dht::Bootstrap(vec![swarm.dht_bootstrap().to_owned()]),
        ..Config::default()
    };
    Network::start(page.served_by(config)).await
}

/// `first-mib`: from the magnet link to the first verified MiB.
pub async fn first_mib() -> Result<Row> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    if let Some((swarm, _folder)) = swarm(16 * MIB).await? {
        let torrent = swarm.torrent("noise.bin", "v1")?;
        let page = BenchPage::new()?;
        for _ in 0..RUNS {
            // A network of its own for each run: what facilitators hold would be no fetching.
            let network = network(&page, &swarm).await?;
            let measured = tab::download(&network, &torrent.magnet, MIB).await?;
            ours.extend(measured.map(|measured| measured.first_mib_ms));
            network.end().await?;
            theirs.extend(peers::librqbit_first_mib_ms(&torrent.magnet).await?);
        }
    }
    Ok(Row::new(
        "first-mib",
        "ms",
        median(ours),
        ("librqbit", median(theirs)),
        Goal::AtMost(2.0),
    ))
}

/// `bulk-vs-tor`, `bulk-vs-swarm` and `relay-cpu`: one run of each side, in turn.
pub async fn bulk() -> Result<Vec<Row>> {
    let (mut rates, mut relay) = (Vec::new(), Vec::new());
    let mut aria2 = None;
    if let Some((swarm, _folder)) = swarm(BULK_BYTES).await? {
        let torrent = swarm.torrent("noise.bin", "v1")?;
        let page = BenchPage::new()?;
        for _ in 0..RUNS {
            let network = network(&page, &swarm).await?;
            let bridge = network.bridges.first().context("no bridge")?.ready.pid;
            let before = cpu_ms(bridge)?;
            let measured = tab::download(&network, &torrent.magnet, BULK_BYTES).await?;
            if let Some(measured) = measured {
                let megabytes = measured.bytes / 1e6;
                rates.push(megabytes / (measured.all_ms / 1e3));
                // The bridge does what a guard does: it carries every byte once.
                relay.push((cpu_ms(bridge)? - before) / megabytes);
            }
            network.end().await?;
        }
        if find_program("aria2c").is_some() {
            let said = swarm.bench(&["--client", "aria2", "--runs", "3"]).await?;
            aria2 = figure(&said, "aria2 whole: median ");
        }
    }
    let (mut tor, mut tor_cpu) = (None, None);
    if let Some(tool) = Tornet::tool() {
        let network = ["--relays", "3", "--exits", "1", "--client"];
        let tornet = Tornet::start(tool, &network).await?;
        let said = tornet.bench(&["--mib", "100", "--runs", "3"]).await?;
        tor = figure(&said, "median ");
        tor_cpu = relays_cpu(&said);
    }
    let ours = median(rates);
    Ok(vec![
        Row::new(
            "bulk-vs-tor",
            "MB/s",
            ours,
            ("tor", tor),
            Goal::AtLeast(3.0),
        ),
        Row::new(
            "bulk-vs-swarm",
            "MB/s",
            ours,
            ("aria2c", aria2),
            Goal::Shown,
        ),
        Row::new(
            "relay-cpu",
            "ms/MB",
            median(relay),
            ("a tor relay", tor_cpu),
            Goal::AtMost(1.0),
        ),
    ])
}

/// The number behind `label` in what a tool printed.
fn figure(said: &str, label: &str) -> Option<f64> {
    let (_, rest) = said.split_once(label)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    rest.get(..end)?.parse().ok()
}

/// The least CPU that a relay of the circuit used, ms a MB: "CPU ms per MB: relay0 5.12, …".
fn relays_cpu(said: &str) -> Option<f64> {
    let (_, rest) = said.split_once("CPU ms per MB: ")?;
    let list = rest.split(';').next()?;
    list.split(", ")
        .filter_map(|entry| entry.split_once(' '))
        // The client's own work is another's than a relay's, and who idles carried nothing.
        .filter(|(name, _)| !name.starts_with("client"))
        .filter_map(|(_, ms)| ms.trim().parse::<f64>().ok())
        .filter(|ms| *ms > 1.0)
        .min_by(f64::total_cmp)
}

pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_print_is_read() {
        let tor = "median 12.10 MB/s, min 10.7, max 14.1, runs 3\n\
                   CPU ms per MB: auth0 0.02, client 9.10, exit0 6.50, relay0 5.25; load average 0.2";
        assert_eq!(figure(tor, "median "), Some(12.10));
        assert_eq!(relays_cpu(tor), Some(5.25));
        assert_eq!(relays_cpu("nothing"), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
