//! What Linux says of a process.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// CPU time that a process has used, in milliseconds. The kernel counts in ticks of 10 ms.
pub(crate) fn cpu_ms(pid: u32) -> Result<f64> {
    Ok(stat(pid)?.cpu_ms)
}

/// CPU time that this process and all that it started and that still run have used, in seconds.
pub(crate) fn cpu_of_all_s() -> Result<f64> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        // One may end while it is read of.
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && let Ok(stat) = stat(pid)
        {
            all.insert(pid, stat);
        }
    }
    let own = std::process::id();
    let is_ours = |pid: &u32| {
        let mut ancestors = std::iter::successors(Some(*pid), |pid| Some(all.get(pid)?.parent));
        ancestors.any(|pid| pid == own)
    };
    let ours = all.iter().filter(|(pid, _)| is_ours(pid));
    Ok(ours.map(|(_, stat)| stat.cpu_ms).sum::<f64>() / 1e3)
}

struct Stat {
    parent: u32,
    cpu_ms: f64,
}

fn stat(pid: u32) -> Result<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces; what follows it does not.
    let (_, fields) = stat.rsplit_once(") ").context("a strange /proc/PID/stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let field =
        |index: usize| -> Result<u32> { Ok(fields.get(index).context("too short")?.parse()?) };
    Ok(Stat {
        parent: field(1)?,
        cpu_ms: f64::from(field(11)? + field(12)?) * 10.0,
    })
}

/// A process's resident memory in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let figure = line.trim().trim_end_matches(" kB");
    Ok(figure.trim().parse()?)
}
