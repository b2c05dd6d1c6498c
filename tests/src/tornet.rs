//! A network of real `tor` on loopback, for as long as a test needs it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::shared;

/// A running network; it is stopped when it is dropped.
#[derive(Debug)]
pub struct Tornet {
    tool: PathBuf,
    folder: PathBuf,
    /// What `relays.json` says of each router.
    pub relays: Vec<Value>,
}

impl Tornet {
    /// Starts a network; `args` as `tornet start --help` has them. None, and a word on stderr, if
    /// the tool or `tor` is not there.
    pub fn start(args: &[&str]) -> Result<Option<Self>> {
        let (Some(tool), Some(_)) = (shared::tool("tornet/tornet"), shared::program("tor")) else {
            return Ok(None);
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("chive-tornet-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let mut tornet = Tornet {
            tool,
            folder,
            relays: Vec::new(),
        };
        let status = Command::new(&tornet.tool)
            .arg("start")
            .arg(&tornet.folder)
            .args(["--ttl", "600"])
            .args(args)
            .status()
            .context("tornet cannot be run")?;
        ensure!(status.success(), "tornet start failed: {status}");
        let relays = std::fs::read(tornet.folder.join("relays.json"))?;
        let relays: Value = serde_json::from_slice(&relays)?;
        tornet.relays = relays["relays"]
            .as_array()
            .context("relays.json has no relays")?
            .clone();
        Ok(Some(tornet))
    }

    /// Where the network's files are.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }
}

impl Drop for Tornet {
    fn drop(&mut self) {
        let stopped = Command::new(&self.tool)
            .arg("stop")
            .arg(&self.folder)
            .status();
        match stopped {
            Ok(status) if status.success() => {
                std::fs::remove_dir_all(&self.folder).ok();
            }
            other => eprintln!("tornet stop: {other:?}; see {}", self.folder.display()),
        }
    }
}
