//! The bridge: see [`chive_bridge`].

use std::io::Write;
use std::process::ExitCode;

use chive_bridge::Options;
use chive_node::native::{Failure, log, process};
use tracing::info;

const NAME: &str = "chive-bridge";

fn main() -> ExitCode {
    process::keep_memory_small();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(NAME),
    }
}

fn run() -> Result<(), Failure> {
    let options = Options::load()?;
    log::init(
        options.log.as_deref().unwrap_or("info"),
        options.log_addresses.unwrap_or(false),
    )?;
    process::runtime()?.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), Failure> {
    let print_ready = options.print_ready.unwrap_or(false);
    // Before anything starts: a signal then finds somebody who listens.
    let mut signals = process::Signals::new()?;
    let bridge = chive_bridge::start(options).await?;
    if print_ready {
        let line = serde_json::to_string(&bridge.ready)
            .map_err(|error| Failure::new(format!("cannot write JSON: {error}")))?;
        // Whoever started us may not listen any longer; that stops no bridge.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    let signal = signals.next().await;
    info!(signal, "stopping");
    tokio::select! {
        () = bridge.stop() => {}
        signal = signals.next() => info!(signal, "stopping at once"),
    }
    Ok(())
}
