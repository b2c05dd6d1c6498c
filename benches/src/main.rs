//! The benchmarks: `cargo xtask bench` builds what they need and starts this.

use anyhow::{Result, bail};
use chive_benches::args::Args;
use chive_benches::report::{self, Row};
use chive_benches::{bulk, circuits, idle, mesh, store};
use clap::Parser;

/// All that can be named with `--only`.
const NAMES: [&str; 13] = [
    "first-mib",
    "bulk-vs-tor",
    "bulk-vs-swarm",
    "relay-cpu",
    "bridge-idle-memory",
    "facilitator-idle-memory",
    "direct-dial-goodput",
    "mesh-goodput",
    "introduction-time",
    "introduction-circuit",
    "share-hashing",
    "store-write",
    "tab-memory",
];

/// Chive's benchmarks, each a ratio to a named peer or limit.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Cli { args } = Cli::parse();
    if let Some(unknown) = args.only.iter().find(|name| !NAMES.contains(&&***name)) {
        bail!(
            "no benchmark is called {unknown}; there are {}",
            NAMES.join(", ")
        );
    }
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut rows: Vec<Row> = Vec::new();
    if wanted("facilitator-idle-memory") {
        rows.push(idle::facilitator().await?);
    }
    if wanted("bridge-idle-memory") {
        rows.push(idle::bridge().await?);
    }
    if wanted("first-mib") {
        rows.push(bulk::first_mib().await?);
    }
    // These share their runs.
    if ["bulk-vs-tor", "bulk-vs-swarm", "relay-cpu"]
        .into_iter()
        .any(wanted)
    {
        rows.extend(
            bulk::bulk()
                .await?
                .into_iter()
                .filter(|row| wanted(row.name)),
        );
    }
    if wanted("introduction-circuit") {
        rows.push(circuits::circuit()?);
    }
    if wanted("direct-dial-goodput") {
        rows.push(mesh::direct_dial().await?);
    }
    if ["mesh-goodput", "introduction-time"]
        .into_iter()
        .any(wanted)
    {
        rows.extend(
            mesh::mesh()
                .await?
                .into_iter()
                .filter(|row| wanted(row.name)),
        );
    }
    if wanted("share-hashing") {
        rows.push(store::hashing().await?);
    }
    if wanted("store-write") {
        rows.push(store::write().await?);
    }
    if wanted("tab-memory") {
        rows.push(store::memory().await?);
    }
    print!("{}", report::table(&rows));
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&rows)? + "\n")?;
    }
    Ok(())
}
