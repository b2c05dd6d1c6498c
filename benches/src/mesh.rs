//! The mesh in real browsers: what its links and circuits carry, and how soon they stand.

use std::fmt;
use std::future::Future;

use anyhow::{Context, Result};
use chive_tests::browser::find_chromium;
use chive_tests::network::Network;
use serde_json::{Value, json};

use crate::bulk::{median, network, network_of, swarm};
use crate::link::{LIMIT, Pump, between, connect, rate};
use crate::pages::{Browser, Page};
use crate::proc::cpu_of_all_s;
use crate::report::{Goal, Row};
use crate::tab::BenchPage;

const MIB: u64 = 1 << 20;
/// Each figure is the median of so many runs.
const RUNS: u64 = 5;
/// Long enough for a rate.
const DIRECT_BYTES: u64 = 96 * MIB;
const MESH_BYTES: u64 = 32 * MIB;
/// Links without a node have numbers that no node gives.
const BARE_LINKS: u64 = 1 << 40;

/// `direct-dial-goodput`: a tab enters by a bridge's UDP port and fetches what facilitators hold;
/// behind the bridge is one hop more, of TLS, for a tab builds no circuit of a single router.
pub async fn direct_dial() -> Result<Row> {
    let (mut ours, mut raw, mut bare) = <(Measured, Measured, Measured)>::default();
    if let Some((swarm, _folder)) = swarm(DIRECT_BYTES).await?
        && find_chromium().is_some()
    {
        let torrent = swarm.torrent("noise.bin", "v1")?;
        let page = BenchPage::new()?;
        let network = network(&page, &swarm).await?;
        let (plain, cut) = (Pump::start(true)?, Pump::start(false)?);
        let started = Browser::start(&format!("{}link.html", network.page()?), 1).await?;
        let (browser, mut pages) = started.context("a browser")?;
        let page = pages.first_mut().context("a page")?;
        let options = json!({
            "bridges": [], "peers": [peer_line(&network)?], "hops": 2, "route": false,
            "store": false, "memoryBytes": 2 * DIRECT_BYTES,
        });
        // The facilitators take it out of the swarm once, and have it then.
        for run in 0..=RUNS {
            let link = BARE_LINKS + 2 * run;
            raw.add(plain.rate(page, link, DIRECT_BYTES)).await?;
            bare.add(cut.rate(page, link + 1, DIRECT_BYTES)).await?;
            page.ask(
                LIMIT,
                json!({ "do": "start", "options": options, "circuits": 2 }),
            )
            .await?;
            let fetch = json!({ "do": "fetch", "magnet": torrent.magnet, "bytes": DIRECT_BYTES });
            ours.add(async { rate(&page.ask(LIMIT, fetch).await?, "bytes") })
                .await?;
            page.ask(LIMIT, json!({ "do": "stop" })).await?;
        }
        for (name, measured) in [("ours", &ours), ("our port alone", &bare), ("raw", &raw)] {
            println!("direct dial, the first while it is fetched, {name}: {measured}");
        }
        ours.rates.remove(0);
        browser.end().await?;
        network.end().await?;
    }
    Ok(Row::new(
        "direct-dial-goodput",
        "MB/s",
        median(ours.rates),
        ("str0m, nothing above", median(raw.rates)),
        Goal::AtLeast(0.85),
    ))
}

/// Rates, in MB/s, and the CPU time that all processes of the benchmark had meanwhile.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    cpu_s: Vec<f64>,
}

impl Measured {
    async fn add(&mut self, run: impl Future<Output = Result<f64>>) -> Result<()> {
        let before = cpu_of_all_s()?;
        self.rates.push(run.await?);
        self.cpu_s.push(cpu_of_all_s()? - before);
        Ok(())
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { rates, cpu_s } = self;
        write!(f, "{rates:.1?} MB/s, {cpu_s:.1?} s of the processors")
    }
}

/// How a tab names the first bridge where it dials it by WebRTC.
fn peer_line(network: &Network) -> Result<String> {
    let bridge = &network.bridges.first().context("no bridge")?.ready;
    let dtls = bridge
        .dtls
        .as_deref()
        .context("the bridge takes no WebRTC")?;
    Ok(format!(
        "{}:{dtls}#{}.{}",
        bridge.or, bridge.ed25519, bridge.ntor
    ))
}

/// `introduction-time` and `mesh-goodput`: five tabs in two browsers, which a bridge introduces.
pub async fn mesh() -> Result<Vec<Row>> {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let (mut introduced, mut by_hand) = (Vec::new(), Vec::new());
    if let Some((swarm, _folder)) = swarm(MESH_BYTES).await?
        && find_chromium().is_some()
    {
        let torrent = swarm.torrent("noise.bin", "v1")?;
        let page = BenchPage::new()?;
        // One that has it: whoever else is in a circuit is a tab.
        let network = network_of(1, &page, &swarm).await?;
        let address = format!("{}link.html", network.page()?);
        let (one, mut pages) = Browser::start(&address, 2).await?.context("a browser")?;
        let (other, more) = Browser::start(&address, 2).await?.context("a browser")?;
        pages.extend(more);
        let [first, second, third, fourth] = &mut pages[..] else {
            anyhow::bail!("four pages were started");
        };
        for run in 0..RUNS {
            let link = BARE_LINKS + run;
            by_hand.push(connect(first, third, link).await?);
            raw.push(between(first, third, link, MESH_BYTES).await?);
            for page in [&mut *first, &mut *third] {
                page.ask(LIMIT, json!({ "do": "close", "link": link }))
                    .await?;
            }
        }
        // Four hops: the bridge, by which all of them enter, two tabs, and the facilitator.
        let options = json!({ "hops": 4, "store": false, "memoryBytes": 2 * MESH_BYTES });
        for run in 0..=RUNS {
            for page in [&mut *first, &mut *second, &mut *third, &mut *fourth] {
                page.ask(
                    LIMIT,
                    json!({ "do": "start", "options": options, "circuits": 0 }),
                )
                .await?;
            }
            let fetch = json!({
                "do": "fetch", "magnet": torrent.magnet, "bytes": MESH_BYTES,
            });
            let got = first.ask(LIMIT, fetch).await?;
            println!("fetched over {}", path(&got));
            if run > 0 {
                ours.push(rate(&got, "bytes")?);
            }
            for page in [&mut *first, &mut *second, &mut *third, &mut *fourth] {
                introduced.extend(times(page).await?);
                page.ask(LIMIT, json!({ "do": "stop" })).await?;
            }
        }
        println!(
            "mesh, MB/s: {ours:.1?}, raw {raw:.1?}; introductions, ms: {introduced:.0?}, by hand \
             {by_hand:.0?}"
        );
        one.end().await?;
        other.end().await?;
        network.end().await?;
    }
    Ok(vec![
        Row::new(
            "mesh-goodput",
            "MB/s",
            median(ours),
            (
                "a data channel, a third",
                median(raw).map(|rate| rate / 3.0),
            ),
            Goal::AtLeast(0.8),
        ),
        Row::new(
            "introduction-time",
            "ms",
            median(introduced),
            ("signals by hand", median(by_hand)),
            Goal::AtMost(3.0),
        ),
    ])
}

/// How long each link of a page took that it offered to another tab.
async fn times(page: &mut Page) -> Result<Vec<f64>> {
    let said = page.ask(LIMIT, json!({ "do": "introduced" })).await?;
    let list = said.as_array().context("no times")?;
    Ok(list.iter().filter_map(Value::as_f64).collect())
}

/// The circuits that a page says it fetched over.
fn path(got: &Value) -> String {
    let circuits = got["circuits"].as_array();
    let circuits = circuits.into_iter().flatten().map(|circuit| {
        let hops = circuit["hops"].as_array();
        let hops = hops.into_iter().flatten().map(|hop| {
            // A tab has no address.
            hop["address"].as_str().map_or("tab", |_| "native")
        });
        hops.collect::<Vec<_>>().join("-")
    });
    circuits.collect::<Vec<_>>().join(", ")
}
