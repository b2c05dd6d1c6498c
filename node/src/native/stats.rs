//! What the driver counts; the binaries' metrics print it.

use std::sync::atomic::AtomicU64;

/// Counters of one driver. Each only grows, except those that say "now".
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections that a limit refused.
    pub refused_connections: AtomicU64,
    /// WebRTC connections that were begun.
    pub webrtc_dials: AtomicU64,
    /// Those of them whose channel opened.
    pub webrtc_links: AtomicU64,
    /// STUN requests that a limit left unanswered.
    pub webrtc_limited: AtomicU64,
    /// Datagrams that a peer sent faster than its link took them.
    pub webrtc_dropped_datagrams: AtomicU64,
    /// Those who asked for their own address and were told.
    pub stun_answers: AtomicU64,
    /// Links that were opened to us.
    pub accepted_links: AtomicU64,
    /// Links that we were asked to open.
    pub dialled_links: AtomicU64,
    /// Links of ours that never stood.
    pub failed_dials: AtomicU64,
    /// Links that stand now or are being made.
    pub open_links: AtomicU64,
    /// Bytes that came over links, without TLS's and WebSocket's own.
    pub received_bytes: AtomicU64,
    /// Bytes that went out over links, without TLS's and WebSocket's own.
    pub sent_bytes: AtomicU64,
    /// Times that the node's task woke up.
    pub wakeups: AtomicU64,
    /// Links that were closed because their peer did not read.
    pub overflowed_links: AtomicU64,
}
