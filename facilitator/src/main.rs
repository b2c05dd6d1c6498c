//! The facilitator: see [`chive_facilitator`].

use std::io::Write;
use std::process::ExitCode;

use chive_facilitator::Options;
use chive_node::native::{Failure, log, process};
use tracing::info;

fn main() -> ExitCode {
    process::keep_memory_small();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report("chive-facilitator"),
    }
}

fn run() -> Result<(), Failure> {
    let options = Options::load()?;
    let addresses = options.log_addresses.unwrap_or(false);
    log::init(options.log.as_deref().unwrap_or("info"), addresses)?;
    process::runtime()?.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), Failure> {
    let print_ready = options.print_ready.unwrap_or(false);
    // Before anything starts: a signal then finds somebody who listens.
    let mut signals = process::Signals::new()?;
    let facilitator = chive_facilitator::start(options).await?;
    let ready = async {
        if print_ready {
            print(&facilitator.ready().await)?;
        }
        std::future::pending::<Result<&'static str, Failure>>().await
    };
    let signal = tokio::select! {
        signal = signals.next() => signal,
        failed = ready => failed?,
    };
    info!(signal, "stopping");
    tokio::select! {
        () = facilitator.stop() => {}
        signal = signals.next() => info!(signal, "stopping at once"),
    }
    Ok(())
}

fn print(ready: &chive_facilitator::Ready) -> Result<(), Failure> {
    let line = serde_json::to_string(ready)
        .map_err(|error| Failure::new(format!("cannot write JSON: {error}")))?;
    // Whoever started us may not listen any longer; that stops no facilitator.
    let _ = writeln!(std::io::stdout(), "{line}");
    Ok(())
}
