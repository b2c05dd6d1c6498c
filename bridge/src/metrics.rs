//! Every metric of the bridge, by name.

use std::sync::atomic::{AtomicU64, Ordering};

use chive_node::native::metrics::Metrics;
use chive_node::native::{Driver, process};
use chive_node::node::{Counters, Gauges};

/// What the bridge counts beside its driver and node.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) http_requests: AtomicU64,
    pub(crate) websockets: AtomicU64,
    pub(crate) refused_origins: AtomicU64,
}

/// The page of metrics.
pub(crate) fn render(
    counts: &Counts,
    driver: &Driver,
    counters: Counters,
    gauges: Gauges,
) -> String {
    let mut page = Metrics::default();
    let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let stats = driver.stats();
    page.counter(
        "chive_bridge_http_requests_total",
        "HTTP requests answered.",
        read(&counts.http_requests),
    );
    page.counter(
        "chive_bridge_websockets_total",
        "WebSockets opened by tabs.",
        read(&counts.websockets),
    );
    page.counter(
        "chive_bridge_refused_connections_total",
        "Connections refused for a limit.",
        read(&stats.refused_connections),
    );
    page.counter(
        "chive_bridge_refused_origins_total",
        "WebSockets refused for their page's origin.",
        read(&counts.refused_origins),
    );
    page.gauge(
        "chive_bridge_open_links",
        "Links that stand or are being made.",
        read(&stats.open_links),
    );
    page.counter(
        "chive_bridge_webrtc_dials_total",
        "WebRTC connections begun by tabs.",
        read(&stats.webrtc_dials),
    );
    page.counter(
        "chive_bridge_webrtc_links_total",
        "WebRTC connections whose channel opened.",
        read(&stats.webrtc_links),
    );
    page.counter(
        "chive_bridge_webrtc_limited_total",
        "STUN requests left unanswered for a limit.",
        read(&stats.webrtc_limited),
    );
    page.counter(
        "chive_bridge_webrtc_dropped_datagrams_total",
        "Datagrams that came faster than their link took them.",
        read(&stats.webrtc_dropped_datagrams),
    );
    page.counter(
        "chive_bridge_stun_answers_total",
        "Answers to those who asked for their own address.",
        read(&stats.stun_answers),
    );
    page.counter(
        "chive_bridge_accepted_links_total",
        "Links opened to this bridge.",
        read(&stats.accepted_links),
    );
    page.counter(
        "chive_bridge_dialled_links_total",
        "Links that this bridge dialled.",
        read(&stats.dialled_links),
    );
    page.counter(
        "chive_bridge_failed_links_total",
        "Dialled links that never stood.",
        read(&stats.failed_dials),
    );
    page.counter(
        "chive_bridge_overflowed_links_total",
        "Links closed because their peer did not read.",
        read(&stats.overflowed_links),
    );
    page.counter(
        "chive_bridge_received_bytes_total",
        "Bytes of cells received over links.",
        read(&stats.received_bytes),
    );
    page.counter(
        "chive_bridge_sent_bytes_total",
        "Bytes of cells sent over links.",
        read(&stats.sent_bytes),
    );
    page.gauge(
        "chive_bridge_link_queued_bytes",
        "Bytes that wait for links' sockets.",
        driver.queued_bytes() as u64,
    );
    page.gauge(
        "chive_bridge_circuit_queued_bytes",
        "Bytes of cells that wait for their turn on a link.",
        gauges.queued_bytes as u64,
    );
    page.counter(
        "chive_bridge_received_cells_total",
        "Fixed-length cells received.",
        counters.cells_received,
    );
    page.counter(
        "chive_bridge_relayed_cells_total",
        "Cells passed on for others.",
        counters.cells_relayed,
    );
    page.counter(
        "chive_bridge_circuits_total",
        "Circuits of others that came through.",
        counters.circuits_routed,
    );
    page.gauge(
        "chive_bridge_open_circuits",
        "Circuits of others that stand.",
        gauges.circuits_routed as u64,
    );
    page.gauge(
        "chive_bridge_registered_routers",
        "Routers that this bridge introduces.",
        gauges.registered as u64,
    );
    page.counter(
        "chive_bridge_node_wakeups_total",
        "Times that the node's task woke up.",
        read(&stats.wakeups),
    );
    if let Some(resident) = process::resident_bytes() {
        page.gauge("chive_bridge_resident_bytes", "Resident memory.", resident);
    }
    page.into_text()
}
