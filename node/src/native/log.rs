//! Logs to stderr that keep no address, unless the operator asks.

use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::failure::Failure;
use crate::sensitive;

/// Starts logging by `filter` (`info`, or `chive_node=trace,warn`, as tracing's EnvFilter reads
/// it). Without `addresses`, [`Sensitive`](crate::sensitive::Sensitive) values are hidden, and
/// what libraries log is left out altogether: they do not know what an address means here.
pub fn init(filter: &str, addresses: bool) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::new(format!("--log {filter:?} is not a log filter: {error}")))?;
    sensitive::reveal(addresses);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_filter(filter_fn(move |event| {
            addresses || event.target().starts_with("chive_")
        }));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| Failure::new(format!("cannot start logging: {error}")))
}
