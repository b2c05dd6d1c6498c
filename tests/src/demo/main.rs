//! The demo's binary; `cargo xtask demo` builds what it needs and starts it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chive_node::torrent::Magnet;
use chive_tests::browser::Installed;
use chive_tests::demo::args::Args;
use chive_tests::demo::check::check;
use chive_tests::demo::mesh::{Mesh, table};
use chive_tests::network::{Config, Dht, Network};
use chive_tests::process::workspace;
use chive_tests::seeder::Seeder;
use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

/// How often a mesh is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What a check may take in all: somebody's torrent must be found first.
const CHECK_TIMEOUT: Duration = Duration::from_secs(240);

/// Plays a torrent in a tab, through a bridge and two facilitators on this machine; or opens a mesh
/// of tabs.
#[derive(Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo")]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Cli::parse().args;
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return failed(&error.into()),
    };
    // Whichever way this ends, what was started is dropped with it, and so ended.
    tokio::select! {
        outcome = demo(args) => match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        _ = tokio::signal::ctrl_c() => {
            eprintln!();
            ExitCode::SUCCESS
        }
        _ = terminate.recv() => ExitCode::SUCCESS,
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("demo: {error:#}");
    ExitCode::FAILURE
}

async fn demo(args: Args) -> Result<()> {
    match args.tabs {
        Some(tabs) => mesh(&args, tabs.into()).await,
        None => film(&args).await,
    }
}

/// A mesh of tabs: who is linked to whom, and what each carries.
async fn mesh(args: &Args, tabs: usize) -> Result<()> {
    let installed = Installed::find().context("a mesh needs Chromium and its chromedriver")?;
    eprintln!("▸ starting a bridge and a facilitator");
    // One, so that most hops are tabs.
    let config = Config {
        facilitators: 1,
        ..Config::default()
    };
    let network = Network::start(config).await?;
    match show(args, &installed, &network, tabs).await {
        Ok(()) => network.end().await,
        Err(why) => bail!("{why:#}\n{}", network.logs()),
    }
}

async fn show(args: &Args, installed: &Installed, network: &Network, tabs: usize) -> Result<()> {
    eprintln!("▸ opening {tabs} tabs in two Chromium processes, without windows");
    let film = workspace().join("tests/media/sample.webm");
    let mesh = Mesh::open(installed, network, tabs, &film).await?;
    eprintln!("▸ tab 1 shares a film, tab 2 fetches it");
    mesh.fetch().await?;
    let paths = mesh.paths().await?;
    for path in &paths {
        eprintln!("  tab 2 → {}", path.join(" → "));
    }
    if args.check {
        let report = mesh
            .report(paths, &workspace().join(&args.screenshot))
            .await?;
        eprint!("{}", table(&report.members));
        return print(args, &report);
    }
    eprintln!("▸ open this in a browser on this machine, and it is one more tab; Ctrl-C ends all");
    println!("{}#{}", network.page()?, mesh.magnet());
    let mut lines = 0;
    let mut shown = Vec::new();
    loop {
        let members = mesh.members().await?;
        // A log gets the first alone.
        if members != shown && (lines == 0 || std::io::stderr().is_terminal()) {
            let table = table(&members);
            if lines > 0 {
                // Over the one before.
                eprint!("\x1b[{lines}A\x1b[J");
            }
            lines = table.lines().count();
            eprint!("{table}");
            shown = members;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One JSON object, for whoever reads it.
fn print(args: &Args, report: &impl Serialize) -> Result<()> {
    let report = serde_json::to_string(report)?;
    println!("{report}");
    if let Some(file) = &args.json {
        std::fs::write(workspace().join(file), format!("{report}\n"))?;
    }
    Ok(())
}

async fn film(args: &Args) -> Result<()> {
    let mut config = Config {
        peers: args.peer.clone(),
        trackers: args.tracker.clone(),
        ..Config::default()
    };
    let (magnet, _seeder) = match &args.magnet {
        Some(magnet) => {
            let known = args.dht_bootstrap.clone();
            config.dht = if known.is_empty() {
                Dht::Public
            } else {
                Dht::Bootstrap(known)
            };
            let magnet: Magnet = magnet.parse()?;
            // A tab asks for no more than an infohash: who else is in the link is for those who
            // fetch it.
            config.trackers.extend(magnet.trackers.iter().cloned());
            config.peers.extend(magnet.peers.iter().copied());
            (magnet.to_string(), None)
        }
        None => {
            let film = workspace().join("tests/media/sample.webm");
            let seeder = Seeder::start(&film).await.context("the sample's seeder")?;
            config.peers.push(seeder.address());
            let magnet = seeder.magnet().to_string();
            config.sample = Some(magnet.clone());
            (magnet, Some(seeder))
        }
    };
    eprintln!("▸ starting a bridge and two facilitators");
    let mut network = Network::start(config).await?;
    let page = network.page()?.to_owned();
    if !args.check {
        match &args.magnet {
            Some(_) => println!("{page}#{magnet}"),
            None => println!("{page}"),
        }
        eprintln!("▸ open that in a browser on this machine; Ctrl-C ends it");
        let name = network.first_to_end().await?;
        bail!("{name} ended; it said:\n{}", network.logs());
    }
    let installed = Installed::find().context("a check needs Chromium and its chromedriver")?;
    eprintln!("▸ playing it in a headless Chromium");
    let screenshot = workspace().join(&args.screenshot);
    let played = tokio::select! {
        played = check(&installed, &page, &magnet, &screenshot, CHECK_TIMEOUT) => played,
        name = network.first_to_end() => name.and_then(|name| bail!("{name} ended")),
    };
    match played {
        Ok(report) => print(args, &report)?,
        Err(why) => bail!("{why:#}\n{}", network.logs()),
    }
    network.end().await
}
