//! Prometheus's text format, as far as counters and gauges need it. The names stand in each
//! program's own `metrics.rs`.

use std::fmt::Write;

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Something that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, help, "counter", value);
    }

    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, help, "gauge", value);
    }

    fn metric(&mut self, name: &str, help: &str, kind: &str, value: u64) {
        // Writing to a String does not fail.
        let _ = write!(
            self.text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.text
    }
}
