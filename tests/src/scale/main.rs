//! The simulation's binary; `cargo xtask sim` builds and starts it.

use std::process::ExitCode;

use anyhow::{Context, Result};
use chive_tests::scale;
use clap::Parser;

/// Simulates a network of thousands of tabs in one thread, and says what becomes of lookups, hidden
/// names, anonymity and content in it.
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Cli {
    #[command(flatten)]
    args: scale::args::Args,
}

fn main() -> ExitCode {
    match sim(&Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn sim(args: &scale::args::Args) -> Result<()> {
    const PARTS: [&str; 6] = ["lookups", "hidden", "views", "placed", "liars", "faults"];
    for only in &args.only {
        anyhow::ensure!(
            PARTS.contains(&only.as_str()),
            "there is no part named {only}: give some of {}",
            PARTS.join(", ")
        );
    }
    let report = scale::run(args, |what| eprintln!("▸ {what}"));
    println!("{}", report.table());
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, json).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
