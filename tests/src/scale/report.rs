//! What a simulation found, as a table and as JSON.

use serde::Serialize;

use super::measure::Placed;

/// The figures. What was not measured is missing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Tabs that route.
    pub peers: u32,
    /// The seed.
    pub seed: u64,
    /// Half of the tabs leave in so many hours.
    pub churn_half_life_h: f64,
    /// Share of lookups of a live tab that found it.
    pub lookup_success: Option<f64>,
    /// Rounds of a lookup that succeeded: how far its nearest answer was from its beginning.
    pub lookup_rounds_median: Option<f64>,
    /// log2(n)/2 + 3, for comparison.
    pub lookup_rounds_bound: f64,
    /// Share of askers that had the metadata of a name shared by hidden peers within a minute.
    pub hidden_found_60s: Option<f64>,
    /// Downloads after which some honest router had seen both requester and name, or holder and
    /// name.
    pub linkable_views: Option<u64>,
    /// Downloads looked at for that.
    pub downloads: Option<u64>,
    /// Circuits whose entry and ORDB are both in the adversary's hand.
    pub colluding_pairs: Option<Colluding>,
    /// What IDs that were placed near a victim gained as its hops.
    pub placed: Option<Placed>,
    /// Chunks that were stored and are not what their name says.
    pub wrong_bytes_stored: Option<u64>,
    /// Downloads that finished though some holders lied, and all of them.
    pub liars_finished: Option<(u64, u64)>,
    /// Simulated seconds until nine of ten new downloads work again.
    pub recovery_s: Option<Recovery>,
    /// What a tab sends for the network's own sake, in bytes an hour.
    pub cost_bytes_per_peer_hour: Option<f64>,
    /// Circuits that a tab began to build in a minute in which nobody asked for anything.
    pub circuits_begun_per_peer_minute: Option<f64>,
    /// Those of them that were never built.
    pub circuits_failed_per_peer_minute: Option<f64>,
    /// Resident memory of the whole simulation a peer, KiB, when it has run under churn and
    /// nothing was asked of it yet.
    pub memory_kib_per_peer: Option<f64>,
    /// What one simulated second cost, in real ones.
    pub real_seconds_per_simulated: Option<f64>,
}

/// How often an adversary stood at both ends.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Colluding {
    /// Percent of tabs in its hand.
    pub adversary_percent: u32,
    /// Circuits that carried a torrent.
    pub circuits: u64,
    /// Those with both ends in its hand.
    pub pairs: u64,
    /// As many as independent draws would give.
    pub expected: f64,
    /// How many would be three standard deviations above that.
    pub bound: f64,
}

/// Recovery times, simulated seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Recovery {
    /// After all bridges stopped.
    pub bridges_gone: Option<f64>,
    /// After half of all tabs left at once.
    pub half_gone: Option<f64>,
    /// After a network that was split in two became one again.
    pub rejoined: Option<f64>,
}

impl Report {
    /// The table.
    pub fn table(&self) -> String {
        let mut lines = Vec::new();
        let mut line = |name: &str, value: Option<String>| {
            let value = value.unwrap_or_else(|| "not measured".to_owned());
            lines.push(format!("{name:<44} {value}"));
        };
        let percent = |share: Option<f64>| share.map(|share| format!("{:.2} %", share * 100.0));
        let seconds = |seconds: Option<f64>| seconds.map(|seconds| format!("{seconds:.0} s"));
        line("tabs that route", Some(self.peers.to_string()));
        line("seed", Some(self.seed.to_string()));
        line(
            "half of the tabs leave in",
            Some(format!("{} h", self.churn_half_life_h)),
        );
        line(
            "lookups that found a live tab",
            percent(self.lookup_success),
        );
        line(
            "rounds of a lookup, median",
            self.lookup_rounds_median
                .map(|rounds| format!("{rounds:.1} (bound {:.1})", self.lookup_rounds_bound)),
        );
        line(
            "hidden name found within 60 s",
            percent(self.hidden_found_60s),
        );
        line(
            "downloads with a linkable view",
            self.linkable_views
                .map(|views| format!("{views} of {}", self.downloads.unwrap_or_default())),
        );
        line(
            "circuits with both ends in one hand",
            self.colluding_pairs.map(|pairs| {
                format!(
                    "{} of {} (adversary {} %: expected {:.1}, bound {:.1})",
                    pairs.pairs,
                    pairs.circuits,
                    pairs.adversary_percent,
                    pairs.expected,
                    pairs.bound
                )
            }),
        );
        line(
            "hops that were placed next to their victim",
            self.placed.map(|placed| {
                format!(
                    "{} of {} (anywhere: {:.1}, bound {:.1})",
                    placed.placed, placed.hops, placed.expected, placed.bound
                )
            }),
        );
        line(
            "wrong chunks stored",
            self.wrong_bytes_stored.map(|chunks| chunks.to_string()),
        );
        line(
            "downloads that finished in spite of liars",
            self.liars_finished
                .map(|(done, all)| format!("{done} of {all}")),
        );
        let recovery = self.recovery_s.unwrap_or_default();
        line("recovery, bridges gone", seconds(recovery.bridges_gone));
        line(
            "recovery, half of the tabs gone",
            seconds(recovery.half_gone),
        );
        line("recovery, split and rejoined", seconds(recovery.rejoined));
        line(
            "a tab's own cost",
            self.cost_bytes_per_peer_hour
                .map(|bytes| format!("{:.0} KB an hour", bytes / 1000.0)),
        );
        let rate = |rate: Option<f64>| rate.map(|rate| format!("{rate:.2} a minute"));
        line(
            "circuits that an idle tab begins",
            rate(self.circuits_begun_per_peer_minute),
        );
        line(
            "those of them that fail",
            rate(self.circuits_failed_per_peer_minute),
        );
        line(
            "memory of the simulation",
            self.memory_kib_per_peer
                .map(|kib| format!("{kib:.0} KiB a tab")),
        );
        line(
            "real seconds a simulated second",
            self.real_seconds_per_simulated
                .map(|ratio| format!("{ratio:.2}")),
        );
        lines.join("\n")
    }
}
