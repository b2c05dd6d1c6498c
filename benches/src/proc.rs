//! What Linux says of a process.

use std::fs;

use anyhow::{Context, Result};

/// CPU time that a process has used, in milliseconds. The kernel counts in ticks of 10 ms.
pub(crate) fn cpu_ms(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces; what follows it does not.
    let (_, fields) = stat.rsplit_once(") ").context("a strange /proc/PID/stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |index: usize| -> Result<f64> {
        Ok(fields.get(index).context("too short")?.parse::<f64>()?)
    };
    Ok((ticks(11)? + ticks(12)?) * 10.0)
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
