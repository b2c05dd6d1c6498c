//! Pages in browsers that nobody drives: each asks over a WebSocket of its own what it is to do,
//! and says over it what came of it. A browser under DevTools would be slowed down by its driver.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use chive_tests::browser::start_chromium;
use chive_tests::process::Process;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::tab::escape;

/// How long a browser may take until its page is there.
const START: Duration = Duration::from_secs(90);
/// Pages that are not in front are to run as fast as those that are.
const FLAGS: [&str; 4] = [
    "--disable-popup-blocking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// A browser process with its pages, in a profile of its own.
pub(crate) struct Browser {
    process: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts one with `count` pages of `address`.
    pub(crate) async fn start(address: &str, count: usize) -> Result<Option<(Browser, Vec<Page>)>> {
        Browser::start_with(address, count, &[]).await
    }

    /// The same with further flags of Chromium's.
    pub(crate) async fn start_with(
        address: &str,
        count: usize,
        flags: &[&str],
    ) -> Result<Option<(Browser, Vec<Page>)>> {
        let Some(chromium) = chive_tests::browser::find_chromium() else {
            return Ok(None);
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let task = json!({
            "report": format!("ws://{}/", listener.local_addr()?),
            // A headless browser is given one address: its page opens the others.
            "more": count.saturating_sub(1),
        });
        let address = format!("{address}#{}", escape(&task.to_string()));
        let profile = tempfile::Builder::new().prefix("chive-bench-").tempdir()?;
        let process = start_chromium(
            &chromium,
            profile.path(),
            &[&FLAGS[..], flags, &[&*address]].concat(),
        )?;
        let mut pages = Vec::new();
        while pages.len() < count {
            let arrived = timeout(START, listener.accept()).await;
            let Ok(arrived) = arrived else {
                bail!("no page within {START:?}: {}", process.log());
            };
            let socket = tokio_tungstenite::accept_async(arrived?.0).await?;
            pages.push(Page { socket });
        }
        let browser = Browser {
            process,
            _profile: profile,
        };
        Ok(Some((browser, pages)))
    }

    /// Ends it.
    pub(crate) async fn end(self) -> Result<()> {
        self.process.kill().await
    }
}

/// One page.
pub(crate) struct Page {
    socket: WebSocketStream<TcpStream>,
}

impl Page {
    /// Says something to the page.
    pub(crate) async fn tell(&mut self, what: &Value) -> Result<()> {
        Ok(self.socket.send(Message::text(what.to_string())).await?)
    }

    /// The next thing that the page says.
    pub(crate) async fn hear(&mut self) -> Result<Value> {
        let message = self.socket.next().await.context("the page went away")??;
        let said: Value = serde_json::from_str(message.to_text()?)?;
        match said.get("error") {
            Some(error) => bail!("in the page: {error}"),
            None => Ok(said),
        }
    }

    /// Has the page do something, and waits for what came of it.
    pub(crate) async fn ask(&mut self, limit: Duration, what: Value) -> Result<Value> {
        self.tell(&what).await?;
        timeout(limit, async {
            loop {
                let mut said = self.hear().await?;
                if let Some(value) = said.get_mut("done") {
                    return Ok(value.take());
                }
            }
        })
        .await
        .with_context(|| format!("not within {limit:?}: {what}"))?
    }
}
