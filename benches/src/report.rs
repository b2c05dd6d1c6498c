//! What a benchmark says: a figure of ours, the same of a named peer or limit, and their ratio.

use serde::Serialize;

/// What the ratio ours ÷ peer should be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// Whatever it is: it is shown for comparison.
    Shown,
}

impl Goal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Goal::AtMost(most) => ratio <= most,
            Goal::AtLeast(least) => ratio >= least,
            Goal::Shown => true,
        }
    }

    fn words(self) -> String {
        match self {
            Goal::AtMost(most) => format!("≤ {most}"),
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::Shown => "shown".to_owned(),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which benchmark.
    pub name: &'static str,
    /// Our figure.
    pub ours: Option<f64>,
    /// The peer's, measured in the same run, or the limit.
    pub peer: Option<f64>,
    /// Who the peer is.
    pub peer_name: String,
    /// Of both figures.
    pub unit: &'static str,
    /// Ours ÷ the peer's.
    pub ratio: Option<f64>,
    /// What it should be.
    pub goal: String,
    /// Whether it is. Never where a figure is missing.
    pub met: bool,
}

impl Row {
    /// A line from what was measured. A missing figure is said in the table, and the goal is then
    /// not met.
    pub fn new(
        name: &'static str,
        unit: &'static str,
        ours: Option<f64>,
        (peer_name, peer): (&str, Option<f64>),
        goal: Goal,
    ) -> Row {
        let ratio = ours.zip(peer).map(|(ours, peer)| ours / peer);
        Row {
            name,
            ours,
            peer,
            peer_name: peer_name.to_owned(),
            unit,
            ratio,
            goal: goal.words(),
            met: ratio.is_some_and(|ratio| goal.is_met(ratio)),
        }
    }
}

/// The table as text.
pub fn table(rows: &[Row]) -> String {
    let figure =
        |value: Option<f64>| value.map_or("absent".to_owned(), |value| format!("{value:.2}"));
    let mut text = format!(
        "{:<24} {:>10} {:>10} {:<10} {:>7} {:>8}  {:<4} {}\n",
        "benchmark", "ours", "peer", "unit", "ratio", "goal", "met", "peer's name"
    );
    for row in rows {
        text += &format!(
            "{:<24} {:>10} {:>10} {:<10} {:>7} {:>8}  {:<4} {}\n",
            row.name,
            figure(row.ours),
            figure(row.peer),
            row.unit,
            figure(row.ratio),
            row.goal,
            if row.met { "yes" } else { "no" },
            row.peer_name
        );
    }
    text
}
