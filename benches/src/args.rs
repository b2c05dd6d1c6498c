//! What the benchmarks can be told; `cargo xtask bench` and the benchmarks read the same.

use std::path::PathBuf;

/// The benchmarks' arguments.
#[derive(clap::Args, Clone, Debug)]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "xtask reads the words and hands them on"
)]
pub struct Args {
    /// Run only these.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Write the results here as a JSON list.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
