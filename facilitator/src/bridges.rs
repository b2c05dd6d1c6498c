//! The bridges that a facilitator keeps links with: their lines, and how it stands with each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chive_node::native::Failure;
use chive_node::node::{BridgeLine, BridgeState};
use chive_node::sensitive::Sensitive;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

/// How long an operator waits at the prompt for a bridge that does not answer.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

/// How it stands with a bridge; `--print-ready` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BridgeReady {
    /// The bridge's line.
    pub line: String,
    /// Whether it introduces this facilitator.
    pub registered: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What is known of all bridges, kept by the node's events.
#[derive(Clone, Debug)]
pub(crate) struct Bridges {
    lines: Arc<Vec<BridgeLine>>,
    states: watch::Sender<Vec<BridgeState>>,
}

impl Bridges {
    pub(crate) fn new(lines: Vec<BridgeLine>) -> Self {
        let states = vec![BridgeState::Idle; lines.len()];
        Bridges {
            lines: Arc::new(lines),
            states: watch::Sender::new(states),
        }
    }

    /// The node says so.
    pub(crate) fn handle_state(&self, bridge: usize, state: BridgeState) {
        let line = self
            .lines
            .get(bridge)
            .map(|line| Sensitive(line.to_string()));
        match (&state, line) {
            (BridgeState::Registered, Some(bridge)) => {
                info!(%bridge, "a bridge introduces this facilitator");
            }
            (BridgeState::Failed { why }, Some(bridge)) => warn!(%bridge, %why, "no bridge"),
            _ => {}
        }
        self.states.send_modify(|states| {
            if let Some(known) = states.get_mut(bridge) {
                *known = state;
            }
        });
    }

    /// How many introduce this facilitator now.
    pub(crate) fn registered(&self) -> usize {
        let is_registered = |state: &&BridgeState| **state == BridgeState::Registered;
        self.states.borrow().iter().filter(is_registered).count()
    }

    /// Waits until each bridge has answered or failed once, and tells which did what.
    pub(crate) async fn first_answers(&self) -> Vec<BridgeReady> {
        let mut states = self.states.subscribe();
        let answered = states.wait_for(|states| {
            states
                .iter()
                .all(|state| matches!(state, BridgeState::Registered | BridgeState::Failed { .. }))
        });
        // Late ones are told as they are then.
        let _ = tokio::time::timeout(FIRST_ANSWER, answered).await.map(drop);
        let states = self.states.borrow().clone();
        let told = self
            .lines
            .iter()
            .zip(states)
            .map(|(line, state)| BridgeReady {
                line: line.to_string(),
                registered: state == BridgeState::Registered,
                why: match state {
                    BridgeState::Registered => None,
                    BridgeState::Failed { why } => Some(why),
                    _ => Some("it has not answered yet".to_owned()),
                },
            });
        told.collect()
    }
}

/// Reads a `--bridge` line, looking up its host if that is a name.
pub(crate) async fn resolve(line: &str) -> Result<BridgeLine, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::new(format!("--bridge {line:?}: {why}"));
    if line.starts_with("ws://") || line.starts_with("wss://") {
        return Err(wrong(
            &"this is the line for tabs; facilitators take the bridge's line of the form \
              HOST:PORT/FINGERPRINT/ED25519 (bridge_line in what the bridge prints)",
        ));
    }
    let Some((host, keys)) = line.split_once('/') else {
        return line.parse().map_err(|error| wrong(&error));
    };
    if host.parse::<SocketAddr>().is_ok() {
        return line.parse().map_err(|error| wrong(&error));
    }
    let found = tokio::net::lookup_host(host).await;
    let address = found
        .map_err(|error| wrong(&format_args!("{host} is not found: {error}")))?
        .next()
        .ok_or_else(|| wrong(&format_args!("{host} has no address")))?;
    format!("{address}/{keys}")
        .parse()
        .map_err(|error| wrong(&error))
}
