//! A real Firefox, headless, driven by WebDriver BiDi, which it speaks itself: no driver is needed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::process::{Process, find_program};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What was said to the consoles; pages fill it, and the oldest go.
const MAX_CONSOLE_LINES: usize = 400;

/// No network to look for updates in, nobody to be asked for a press before a film plays. How
/// connections are made stays as users have it.
const SETTINGS: [(&str, &str); 8] = [
    ("app.update.enabled", "false"),
    ("browser.safebrowsing.malware.enabled", "false"),
    ("browser.safebrowsing.phishing.enabled", "false"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("extensions.update.enabled", "false"),
    ("media.autoplay.default", "0"),
    ("network.captive-portal-service.enabled", "false"),
];

/// Where Firefox lies, if it is installed.
pub fn find_firefox() -> Option<PathBuf> {
    ["firefox-esr", "firefox"]
        .into_iter()
        .find_map(find_program)
}

/// A Firefox with one tab of ours.
pub struct Firefox {
    process: Process,
    wire: Mutex<Wire>,
    last: AtomicU64,
    tab: String,
    _profile: TempDir,
}

/// The connection by which it is driven.
struct Wire {
    socket: WebSocketStream<TcpStream>,
    console: Vec<String>,
}

impl Firefox {
    /// Starts one with a profile that is new.
    pub async fn start(program: &Path) -> Result<Firefox> {
        let profile = tempfile::Builder::new()
            .prefix("chive-firefox-")
            .tempdir()?;
        let settings = SETTINGS.map(|(name, value)| format!("user_pref(\"{name}\", {value});\n"));
        std::fs::write(profile.path().join("user.js"), settings.concat())?;
        let folder = profile.path().to_string_lossy();
        let arguments = [
            "--headless",
            "--no-remote",
            "--remote-debugging-port=0",
            "--profile",
            &*folder,
            "about:blank",
        ];
        let mut process = Process::start("firefox", program, arguments)?;
        let url = process
            .line("where it can be driven", START_TIMEOUT, |line| {
                Some(
                    line.split_once("WebDriver BiDi listening on ")?
                        .1
                        .to_owned(),
                )
            })
            .await?;
        let authority = url
            .strip_prefix("ws://")
            .context("an address of a WebSocket")?;
        let tcp = TcpStream::connect(authority).await?;
        let (socket, _) = tokio_tungstenite::client_async(format!("{url}/session"), tcp).await?;
        let mut firefox = Firefox {
            process,
            wire: Mutex::new(Wire {
                socket,
                console: Vec::new(),
            }),
            last: AtomicU64::new(0),
            tab: String::new(),
            _profile: profile,
        };
        firefox
            .call("session.new", json!({ "capabilities": {} }))
            .await?;
        firefox
            .call("session.subscribe", json!({ "events": ["log.entryAdded"] }))
            .await?;
        let tab = firefox
            .call("browsingContext.create", json!({ "type": "tab" }))
            .await?;
        firefox.tab = tab["context"].as_str().context("a tab's name")?.to_owned();
        Ok(firefox)
    }

    /// Goes to an address; does not wait for the page.
    pub async fn go(&self, url: &str) -> Result<()> {
        let parameters = json!({ "context": self.tab, "url": url, "wait": "none" });
        self.call("browsingContext.navigate", parameters)
            .await
            .map(drop)
    }

    /// Goes to an address and waits until the page is loaded.
    pub async fn load(&self, url: &str) -> Result<()> {
        let parameters = json!({ "context": self.tab, "url": url, "wait": "complete" });
        self.call("browsingContext.navigate", parameters)
            .await
            .map(drop)
    }

    /// Runs the body of an `async` function in the page, whose `args` are given, and waits for
    /// what it returns. `what` it waits for is told if it fails or takes longer than `limit`.
    pub async fn run(&self, what: &str, limit: Duration, body: &str, args: Value) -> Result<Value> {
        let why = match timeout(limit, self.evaluate(body, &args)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("not within {} seconds", limit.as_secs()),
        };
        let text = "return document.body?.innerText.replaceAll(/\\n+/g, ' | ');";
        let shown = timeout(Duration::from_secs(5), self.evaluate(text, &Value::Null)).await;
        let shown = shown.ok().and_then(Result::ok).unwrap_or_default();
        let console = self.wire.lock().await.console.concat();
        bail!("waiting for {what}: {why:#}\nFirefox shows: {shown}\n{console}");
    }

    async fn evaluate(&self, body: &str, args: &Value) -> Result<Value> {
        // What is not a string would come in BiDi's own spelling.
        let function = format!(
            "async (text) => {{ const args = JSON.parse(text);
             return JSON.stringify(await (async () => {{ {body} }})()); }}"
        );
        let parameters = json!({
            "functionDeclaration": function,
            "arguments": [{ "type": "string", "value": args.to_string() }],
            "awaitPromise": true,
            "target": { "context": self.tab },
            "userActivation": true,
        });
        let answer = self.call("script.callFunction", parameters).await?;
        if let Some(error) = answer["exceptionDetails"]["text"].as_str() {
            bail!("{error}");
        }
        match answer["result"]["value"].as_str() {
            Some(text) => Ok(serde_json::from_str(text)?),
            None => Ok(Value::Null),
        }
    }

    /// Saves what the tab shows as PNG.
    pub async fn screenshot(&self, file: &Path) -> Result<()> {
        let parameters = json!({ "context": self.tab });
        let answer = self
            .call("browsingContext.captureScreenshot", parameters)
            .await?;
        let png = BASE64_STANDARD.decode(answer["data"].as_str().context("the screenshot")?)?;
        tokio::fs::write(file, png)
            .await
            .with_context(|| format!("writing {}", file.display()))
    }

    /// Makes the page as large as this.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let viewport = json!({ "width": width, "height": height });
        let parameters = json!({ "context": self.tab, "viewport": viewport });
        self.call("browsingContext.setViewport", parameters)
            .await
            .map(drop)
    }

    /// Ends it, its children too.
    pub async fn end(self) -> Result<()> {
        self.process.end().await.map(drop)
    }

    /// One command; what it answers.
    async fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let command = json!({ "id": id, "method": method, "params": parameters });
        let mut wire = self.wire.lock().await;
        wire.socket.send(Message::text(command.to_string())).await?;
        loop {
            let message = wire.socket.next().await.context("Firefox is gone")??;
            let Message::Text(text) = message else {
                continue;
            };
            let mut answer: Value = serde_json::from_str(&text)?;
            if answer["method"] == "log.entryAdded" {
                if wire.console.len() == MAX_CONSOLE_LINES {
                    wire.console.remove(0);
                }
                let said = answer["params"]["text"].as_str().unwrap_or_default();
                wire.console.push(format!("  firefox: {said}\n"));
            }
            // Others are of commands that nobody waits for any longer.
            if answer["id"] != id {
                continue;
            }
            if let Some(error) = answer["error"].as_str() {
                let message = answer["message"].as_str().unwrap_or_default();
                bail!("{method}: {error}: {message}");
            }
            return Ok(answer["result"].take());
        }
    }
}
