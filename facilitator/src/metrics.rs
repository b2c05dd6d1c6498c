//! Every metric of the facilitator, by name.

use std::sync::atomic::{AtomicU64, Ordering};

use chive_node::native::metrics::Metrics;
use chive_node::native::{Driver, process};
use chive_node::node::{Counters, Gauges};

use crate::share::ShareStats;
use crate::swarm::SwarmStats;

/// The page of metrics.
pub(crate) fn render(
    driver: &Driver,
    counters: Counters,
    gauges: Gauges,
    swarm: SwarmStats,
    shared: Option<ShareStats>,
    registered: usize,
) -> String {
    let mut page = Metrics::default();
    let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let stats = driver.stats();
    page.gauge(
        "chive_facilitator_registered_bridges",
        "Bridges that introduce this facilitator now.",
        registered as u64,
    );
    page.counter(
        "chive_facilitator_refused_connections_total",
        "Connections refused for a limit.",
        read(&stats.refused_connections),
    );
    page.gauge(
        "chive_facilitator_open_links",
        "Links that stand or are being made.",
        read(&stats.open_links),
    );
    page.counter(
        "chive_facilitator_webrtc_dials_total",
        "WebRTC connections begun by tabs.",
        read(&stats.webrtc_dials),
    );
    page.counter(
        "chive_facilitator_webrtc_links_total",
        "WebRTC connections whose channel opened.",
        read(&stats.webrtc_links),
    );
    page.counter(
        "chive_facilitator_webrtc_limited_total",
        "STUN requests left unanswered for a limit.",
        read(&stats.webrtc_limited),
    );
    page.counter(
        "chive_facilitator_webrtc_dropped_datagrams_total",
        "Datagrams that came faster than their link took them.",
        read(&stats.webrtc_dropped_datagrams),
    );
    page.counter(
        "chive_facilitator_stun_answers_total",
        "Answers to those who asked for their own address.",
        read(&stats.stun_answers),
    );
    page.counter(
        "chive_facilitator_accepted_links_total",
        "Links opened to this facilitator.",
        read(&stats.accepted_links),
    );
    page.counter(
        "chive_facilitator_dialled_links_total",
        "Links that this facilitator dialled.",
        read(&stats.dialled_links),
    );
    page.counter(
        "chive_facilitator_failed_links_total",
        "Dialled links that never stood.",
        read(&stats.failed_dials),
    );
    page.counter(
        "chive_facilitator_overflowed_links_total",
        "Links closed because their peer did not read.",
        read(&stats.overflowed_links),
    );
    page.counter(
        "chive_facilitator_received_bytes_total",
        "Bytes of cells received over links.",
        read(&stats.received_bytes),
    );
    page.counter(
        "chive_facilitator_sent_bytes_total",
        "Bytes of cells sent over links.",
        read(&stats.sent_bytes),
    );
    page.gauge(
        "chive_facilitator_link_queued_bytes",
        "Bytes that wait for links' sockets.",
        driver.queued_bytes() as u64,
    );
    page.gauge(
        "chive_facilitator_circuit_queued_bytes",
        "Bytes of cells that wait for their turn on a link.",
        gauges.queued_bytes as u64,
    );
    page.counter(
        "chive_facilitator_received_cells_total",
        "Fixed-length cells received.",
        counters.cells_received,
    );
    page.counter(
        "chive_facilitator_relayed_cells_total",
        "Cells passed on for others.",
        counters.cells_relayed,
    );
    page.counter(
        "chive_facilitator_circuits_total",
        "Circuits of others that came through or ended here.",
        counters.circuits_routed,
    );
    page.gauge(
        "chive_facilitator_open_circuits",
        "Circuits of others that stand.",
        gauges.circuits_routed as u64,
    );
    page.gauge(
        "chive_facilitator_open_torrents",
        "Torrents that somebody asks for.",
        swarm.torrents as u64,
    );
    page.gauge(
        "chive_facilitator_open_peers",
        "BitTorrent peers that this facilitator is connected to.",
        swarm.peers as u64,
    );
    page.gauge(
        "chive_facilitator_content_bytes",
        "Memory taken for content.",
        swarm.memory_bytes as u64,
    );
    page.counter(
        "chive_facilitator_swarm_received_bytes_total",
        "Bytes of content that came from BitTorrent peers.",
        swarm.received_bytes,
    );
    page.counter(
        "chive_facilitator_swarm_wasted_bytes_total",
        "Those of them that were of no use.",
        swarm.wasted_bytes,
    );
    if let Some(shared) = shared {
        page.gauge(
            "chive_facilitator_shared_torrents",
            "Torrents of the operator's folder that are given to BitTorrent clients.",
            shared.torrents as u64,
        );
        page.gauge(
            "chive_facilitator_shared_peers",
            "BitTorrent clients that are connected for them.",
            shared.peers as u64,
        );
        page.counter(
            "chive_facilitator_shared_given_bytes_total",
            "Bytes of content given to them.",
            shared.given_bytes,
        );
    }
    page.counter(
        "chive_facilitator_node_wakeups_total",
        "Times that the node's task woke up.",
        read(&stats.wakeups),
    );
    if let Some(resident) = process::resident_bytes() {
        page.gauge(
            "chive_facilitator_resident_bytes",
            "Resident memory.",
            resident,
        );
    }
    page.into_text()
}
