//! Debian's packages: installed where we may, named where we may not.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::{find, program, run, say, succeeds};

/// What only tests and benchmarks use: a package, and the program by which we know it is there.
const FOR_TESTS: [(&str, &str); 9] = [
    ("chromium", "chromium"),
    ("chromium-driver", "chromedriver"),
    ("firefox-esr", "firefox-esr"),
    ("tor", "tor"),
    ("opentracker", "opentracker"),
    ("ffmpeg", "ffmpeg"),
    ("aria2", "aria2c"),
    ("rtorrent", "rtorrent"),
    ("transmission-daemon", "transmission-daemon"),
];

/// What a headless check of the demo uses.
const FOR_CHECK: [(&str, &str); 2] = [
    ("chromium", "chromium"),
    ("chromium-driver", "chromedriver"),
];

/// The page's compiler and its standard library's source, where rustup has no WASM target.
const FOR_WASM: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Installs what tests use, if it can; else says what is missing, and those tests skip.
pub(crate) fn for_tests() {
    let mut missing = lacking(&FOR_TESTS);
    let libtorrent = program("/usr/bin/python3")
        .args(["-c", "import libtorrent"])
        .succeeds();
    if !libtorrent {
        missing.push("python3-libtorrent");
    }
    install_or_say(&missing, "the tests that use them skip");
}

/// Installs the browser for `demo --check`, if it can.
pub(crate) fn for_check() {
    install_or_say(&lacking(&FOR_CHECK), "the check cannot run without them");
}

/// Installs Debian's compiler for WASM.
pub(crate) fn for_wasm() -> Result<()> {
    let missing: Vec<_> = FOR_WASM
        .into_iter()
        .filter(|name| !is_installed(name))
        .collect();
    install(&missing)
}

/// Installs Debian's newest linker for WASM.
pub(crate) fn wasm_linker() -> Result<()> {
    refresh();
    let found = Command::new("apt-cache")
        .args(["search", "--names-only", r"^lld-[0-9]+$"])
        .output()
        .context("looking for a linker: apt-cache")?;
    let listed = String::from_utf8_lossy(&found.stdout).into_owned();
    let newest = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .max_by_key(|name| name.trim_start_matches("lld-").parse::<u32>().unwrap_or(0))
        .context("no package lld-* to link WASM with")?;
    install(&[newest])
}

fn lacking(wanted: &[(&'static str, &str)]) -> Vec<&'static str> {
    wanted
        .iter()
        .filter(|(_, name)| find(name).is_none())
        .map(|(package, _)| *package)
        .collect()
}

fn install_or_say(missing: &[&str], consequence: &str) {
    if missing.is_empty() {
        return;
    }
    if let Err(why) = install(missing) {
        say(format!(
            "not installed: {} ({why:#}); {consequence}",
            missing.join(" ")
        ));
    }
}

/// Installs packages, as root on Debian; else fails with the command that would.
fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!("this is not Debian: there is no apt-get");
    }
    if !is_root() {
        bail!(
            "run: sudo apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    refresh();
    let (known, unknown): (Vec<&str>, Vec<&str>) = packages
        .iter()
        .partition(|name| program("apt-cache").args(["show", name]).succeeds());
    if !known.is_empty() {
        say(format!("installing Debian's {}", known.join(" ")));
        let mut apt = program("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(known);
        run(apt.stdout(Stdio::null()))?;
    }
    if !unknown.is_empty() {
        bail!("this system has no package {}", unknown.join(" "));
    }
    Ok(())
}

/// Fetches the lists of packages, once a run. A list that is a little old does as well.
fn refresh() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if is_root() && !program("apt-get").args(["update", "-qq"]).succeeds() {
            say("apt-get update failed: going on with the lists that are there");
        }
    });
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    status.is_ok_and(|status| status.stdout == b"installed")
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// Reads better after a chain of arguments.
trait Succeeds {
    fn succeeds(&mut self) -> bool;
}

impl Succeeds for Command {
    fn succeeds(&mut self) -> bool {
        succeeds(self)
    }
}
