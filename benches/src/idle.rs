//! What waiting costs: memory of a bridge with idle tabs, and of an idle facilitator.

use std::time::Duration;

use anyhow::{Result, ensure};
use chive_tests::client::Client;
use chive_tests::network::{Config, Network};
use tokio::time::sleep;

use crate::proc::resident_kib;
use crate::report::{Goal, Row};

/// Idle tabs at one bridge.
const TABS: usize = 1_000;
/// What one of them may cost the bridge.
const TAB_LIMIT_KIB: f64 = 64.0;
/// What a facilitator may keep when it has nothing to do.
const FACILITATOR_LIMIT_MB: f64 = 40.0;
/// How long tabs may take to have their circuits.
const LIMIT: Duration = Duration::from_secs(120);

/// `bridge-idle-memory`.
pub async fn bridge() -> Result<Row> {
    let most = (2 * TABS).to_string();
    let network = Network::start(Config {
        bridge_arguments: [
            "--max-connections-per-address",
            &most,
            "--max-new-connections-per-second",
            &most,
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Config::default()
    })
    .await?;
    let ready = &network.bridges[0].ready;
    let before = resident_kib(ready.pid)?;
    let line = ready.websocket.parse()?;
    let mut tabs = Vec::with_capacity(TABS);
    for _ in 0..TABS {
        tabs.push(Client::start(vec![Clone::clone(&line)])?);
    }
    // A tab that waits has its circuits ready: two of three hops, and one to the bridge.
    let settled = async {
        for tab in &tabs {
            loop {
                let open = tab
                    .driver()
                    .call(|node, _| {
                        let open = |circuit: &chive_node::node::CircuitStatus| {
                            circuit.hops == circuit.path.len()
                        };
                        node.circuits()
                            .iter()
                            .filter(|circuit| open(circuit))
                            .count()
                    })
                    .await?;
                if open >= 2 {
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, settled).await??;
    let after = resident_kib(ready.pid)?;
    ensure!(after > before, "a thousand tabs cost nothing?");
    let each = (after - before) / TABS as f64;
    Ok(Row::new(
        "bridge-idle-memory",
        "KiB/tab",
        Some(each),
        ("the limit", Some(TAB_LIMIT_KIB)),
        Goal::AtMost(1.0),
    ))
}

/// `facilitator-idle-memory`.
pub async fn facilitator() -> Result<Row> {
    let network = Network::start(Config::default()).await?;
    let pid = network.facilitators[0].ready.pid;
    let resident = resident_kib(pid)? * 1.024 / 1000.0;
    Ok(Row::new(
        "facilitator-idle-memory",
        "MB",
        Some(resident),
        ("the limit", Some(FACILITATOR_LIMIT_MB)),
        Goal::AtMost(1.0),
    ))
}
