//! What the simulation can be told; `cargo xtask sim` and the simulation itself read the same.

use std::path::PathBuf;

/// The simulation's arguments.
#[derive(clap::Args, Clone, Debug)]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "xtask reads the words and hands them on"
)]
pub struct Args {
    /// Tabs that route, beside the bridges and facilitators.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub peers: u32,
    /// Bridges, and as many facilitators; without it one for each 250 tabs, three at least.
    #[arg(long, value_name = "N")]
    pub bridges: Option<u32>,
    /// In how many hours half of the tabs leave and others come; 0 for nobody.
    #[arg(long, value_name = "HOURS", default_value_t = 20.0)]
    pub churn: f64,
    /// For how many simulated minutes the network runs under churn before it is asked.
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    pub minutes: u32,
    /// Percent of all tabs that are in one hand and tell each other everything.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=90))]
    pub adversary: u32,
    /// Percent of those who hold content that give wrong bytes.
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=90))]
    pub liars: u32,
    /// Lookups of tabs by tabs.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub lookups: u32,
    /// Downloads whose every view is recorded.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub downloads: u32,
    /// The seed: the same gives the same run.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Only these parts, separated by commas: lookups, hidden, views, placed, liars, faults.
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
