//! A real Chromium, headless, driven by the WebDriver protocol.
//!
//! The browser is our own child, and the driver is told where it listens: what the driver starts
//! itself would outlive it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::process::{Process, find_program};
use crate::webdriver::Session;

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// What a page's script may take; what waits has its own, shorter deadline.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(900);

/// A root user's container has no sandbox to give, and a closed network no update to fetch.
const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--enable-logging=stderr",
    "--autoplay-policy=no-user-gesture-required",
];

/// Chromium and what drives it, where both are installed.
#[derive(Clone, Debug)]
pub struct Installed {
    chromium: PathBuf,
    driver: PathBuf,
}

impl Installed {
    /// Looks for them.
    pub fn find() -> Option<Installed> {
        let chromium = find_chromium()?;
        let driver = find_program("chromedriver").or_else(|| find_program("chromium-driver"))?;
        Some(Installed { chromium, driver })
    }
}

/// Where Chromium lies, if it is installed.
pub fn find_chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find_map(find_program)
}

/// Starts Chromium with a fresh profile and further arguments.
pub fn start_chromium(chromium: &Path, profile: &Path, arguments: &[&str]) -> Result<Process> {
    let profile = format!("--user-data-dir={}", profile.display());
    let all = FLAGS
        .into_iter()
        .chain([&*profile])
        .chain(arguments.iter().copied());
    Process::start("chromium", chromium, all)
}

/// A browser, and one of its tabs that commands are for.
pub struct Browser {
    session: Session,
    chromium: Process,
    _driver: Process,
    profile: Arc<TempDir>,
}

/// A tab of a [`Browser`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tab(String);

impl Browser {
    /// Starts one with a profile that is new.
    pub async fn start(installed: &Installed) -> Result<Browser> {
        let profile = tempfile::Builder::new()
            .prefix("chive-browser-")
            .tempdir()?;
        Browser::start_with(installed, Arc::new(profile)).await
    }

    /// Starts one with the profile that another left, so that it has what was stored there.
    pub async fn start_with(installed: &Installed, profile: Arc<TempDir>) -> Result<Browser> {
        Browser::start_with_flags(installed, profile, &[]).await
    }

    /// The same with further flags of Chromium's.
    pub async fn start_with_flags(
        installed: &Installed,
        profile: Arc<TempDir>,
        flags: &[&str],
    ) -> Result<Browser> {
        let usual = [
            "--remote-debugging-port=0",
            "--window-size=1280,800",
            "about:blank",
        ];
        let arguments = [flags, &usual].concat();
        let mut chromium = start_chromium(&installed.chromium, profile.path(), &arguments)?;
        let debugger = chromium
            .line("where it can be driven", START_TIMEOUT, |line| {
                let url = line.strip_prefix("DevTools listening on ws://")?;
                Some(url.split('/').next()?.to_owned())
            })
            .await?;
        let mut driver = Process::start("chromedriver", &installed.driver, ["--port=0"])?;
        let port: u16 = driver
            .line("its port", START_TIMEOUT, |line| {
                line.split_once("started successfully on port ")?
                    .1
                    .trim_end_matches('.')
                    .parse()
                    .ok()
            })
            .await?;
        let capabilities = json!({
            "goog:chromeOptions": { "debuggerAddress": debugger },
            // Loading is waited for where it matters, by what the page shows.
            "pageLoadStrategy": "none",
            "timeouts": { "script": SCRIPT_TIMEOUT.as_millis() as u64 },
        });
        let session = Session::start(port, capabilities)
            .await
            .context("the browser's driver")?;
        Ok(Browser {
            session,
            chromium,
            _driver: driver,
            profile,
        })
    }

    /// The folder of its profile, which lasts as long as somebody holds it.
    pub fn profile(&self) -> Arc<TempDir> {
        self.profile.clone()
    }

    /// Kills it as a crash would: it can do nothing more.
    pub async fn kill(self) -> Result<()> {
        self.chromium.kill().await
    }

    /// The tab that commands are for.
    pub async fn tab(&self) -> Result<Tab> {
        let handle = self.session.get("window").await?;
        Ok(Tab(handle.as_str().context("a tab's name")?.to_owned()))
    }

    /// Opens one more tab; commands are for it from now on.
    pub async fn open_tab(&self) -> Result<Tab> {
        let opened = self.session.post("window/new", json!({ "type": "tab" }));
        let handle = opened.await?["handle"].take();
        let tab = Tab(handle.as_str().context("a tab's name")?.to_owned());
        self.switch_to(&tab).await?;
        Ok(tab)
    }

    /// Commands are for this tab from now on.
    pub async fn switch_to(&self, tab: &Tab) -> Result<()> {
        let command = json!({ "handle": tab.0 });
        self.session.post("window", command).await.map(drop)
    }

    /// Closes a tab as its user would. Another must be switched to before the next command.
    pub async fn close_tab(&self, tab: &Tab) -> Result<()> {
        self.switch_to(tab).await?;
        self.session.delete("window").await.map(drop)
    }

    /// Has a script run in each page before the page's own.
    pub async fn run_before_pages(&self, script: &str) -> Result<()> {
        let parameters = json!({ "source": script });
        self.devtools("Page.addScriptToEvaluateOnNewDocument", parameters)
            .await
    }

    /// Goes to an address; does not wait for the page.
    pub async fn go(&self, url: &str) -> Result<()> {
        self.session
            .post("url", json!({ "url": url }))
            .await
            .map(drop)
    }

    /// Loads the page again.
    pub async fn reload(&self) -> Result<()> {
        self.session.post("refresh", json!({})).await.map(drop)
    }

    /// Runs the body of an `async` function in the page, whose `args` are given, and waits for
    /// what it returns. `what` it waits for is told if it fails or takes longer than `limit`.
    pub async fn run(&self, what: &str, limit: Duration, body: &str, args: Value) -> Result<Value> {
        let script = format!(
            "const [args, done] = arguments;
             (async () => {{ {body} }})().then(
               value => done({{ value }}),
               error => done({{ error: String(error?.message ?? error) }}));"
        );
        let command = json!({ "script": script, "args": [args] });
        let why = match timeout(limit, self.session.post("execute/async", command)).await {
            Ok(Ok(mut answer)) => match answer.get("error") {
                None => return Ok(answer["value"].take()),
                Some(error) => anyhow!("{}", error.as_str().unwrap_or_default()),
            },
            Ok(Err(error)) => error,
            Err(_) => anyhow!("not within {} seconds", limit.as_secs()),
        };
        let shown = timeout(Duration::from_secs(5), self.shown())
            .await
            .unwrap_or_default();
        bail!(
            "waiting for {what}: {why:#}\nthe page shows: {shown}\n{}",
            self.console()
        );
    }

    /// The text that the page shows.
    async fn shown(&self) -> String {
        let script = json!({ "script": "return document.body?.innerText ?? ''", "args": [] });
        let text = self
            .session
            .post("execute/sync", script)
            .await
            .unwrap_or_default();
        let lines = text.as_str().unwrap_or_default().lines();
        lines
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" | ")
    }

    /// What the page and its workers wrote to their consoles, so much of it as is kept.
    pub fn console(&self) -> String {
        let log = self.chromium.log();
        log.lines()
            .filter(|line| line.contains("CONSOLE"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Saves what the window shows as PNG.
    pub async fn screenshot(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let png = self.session.get("screenshot").await?;
        let png = BASE64_STANDARD.decode(png.as_str().context("the screenshot")?)?;
        tokio::fs::write(file, png)
            .await
            .with_context(|| format!("writing {}", file.display()))
    }

    /// Makes pages as large as this.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let parameters =
            json!({ "width": width, "height": height, "mobile": false, "deviceScaleFactor": 1 });
        self.devtools("Emulation.setDeviceMetricsOverride", parameters)
            .await
    }

    /// A command of the DevTools protocol, by way of the driver.
    async fn devtools(&self, command: &str, parameters: Value) -> Result<()> {
        let body = json!({ "cmd": command, "params": parameters });
        self.session.post("goog/cdp/execute", body).await.map(drop)
    }

    /// The browser's process.
    pub fn process(&self) -> &Process {
        &self.chromium
    }
}

#[cfg(test)]
mod tests;
