//! The demo's binary; `cargo xtask demo` builds what it needs and starts it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chive_node::torrent::Magnet;
use chive_tests::browser::Installed;
use chive_tests::demo::args::Args;
use chive_tests::demo::check::check;
use chive_tests::network::{Config, Dht, Network};
use chive_tests::process::workspace;
use chive_tests::seeder::Seeder;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// What a check may take in all: somebody's torrent must be found first.
const CHECK_TIMEOUT: Duration = Duration::from_secs(240);

/// Plays a torrent in a tab, through a bridge and two facilitators on this machine.
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
    let report = match played {
        Ok(report) => serde_json::to_string(&report)?,
        Err(why) => bail!("{why:#}\n{}", network.logs()),
    };
    println!("{report}");
    if let Some(file) = &args.json {
        std::fs::write(workspace().join(file), format!("{report}\n"))?;
    }
    network.end().await
}
