//! Chores: `cargo xtask <chore>`.
//!
//! Each says what it does before it does it, and does again only what changed.

mod chores;
mod packages;
mod page;
mod run;
mod wasm;

#[path = "../../benches/src/args.rs"]
mod bench_args;
#[path = "../../tests/src/demo/args.rs"]
mod demo_args;
#[path = "../../tests/src/scale/args.rs"]
mod sim_args;

use std::ffi::OsString;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Chive's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Make ready what the build needs: the WASM target.
    Setup,
    /// Build the page into web/dist.
    Web {
        /// Begin anew: forget web/dist and what was compiled for it.
        #[arg(long)]
        clean: bool,
    },
    /// Play a torrent in a tab: a bridge, two facilitators and, without --magnet, the seeder of a
    /// sample film, all on this machine.
    Demo(demo_args::Args),
    /// Simulate a network of thousands of tabs in one thread: lookups, hidden names, anonymity.
    Sim(sim_args::Args),
    /// Run all tests.
    Test {
        /// Run only the tests whose name contains this.
        filter: Option<String>,
    },
    /// Measure against what others have built.
    Bench(bench_args::Args),
    /// Formatting, lints and documentation, as a change must have them.
    Tidy,
}

fn main() -> Result<()> {
    let forwarded: Vec<OsString> = std::env::args_os().skip(2).collect();
    match Cli::parse().chore {
        Chore::Setup => wasm::toolchain().map(|_| run::say("ready")),
        Chore::Web { clean } => page::build(clean),
        Chore::Demo(args) => chores::demo(args.check || args.tabs.is_some(), &forwarded),
        Chore::Sim(_) => chores::sim(&forwarded),
        Chore::Test { filter } => chores::test(filter.as_deref()),
        Chore::Bench(_) => chores::bench(&forwarded),
        Chore::Tidy => chores::tidy(),
    }
}
