//! Tabs in several browsers, each a node of its own: the mesh as its users have it.
//!
//! Each tab opens the page from an origin of its own (`http://tab-1.localhost:PORT/`), as another
//! person's would be, and so has a store of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::browser::{Browser, Installed, Tab};

/// What anything may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(180);
/// What is left beyond that for the script itself to say so: a driver whose script runs on answers
/// nothing else.
const GRACE: Duration = Duration::from_secs(30);

/// In each script: what it takes to wait, to make content, and to compare it.
const HELP: &str = "
    const until = async (holds) => {
        for (const began = performance.now(); performance.now() - began < limit_ms;) {
            try { const value = await holds(); if (value) return value; } catch {}
            await new Promise((next) => setTimeout(next, 50));
        }
        throw new Error('it did not come');
    };
    const hash = async (blob) => {
        const digest = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
        return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
    };
    const open = (circuits) => circuits.filter(({ state }) => state === 'open');
    const own = (id) => chive.status().torrents.find((torrent) => torrent.id === id);
";

/// Browsers, and the tabs that are open in them.
pub struct Tabs {
    browsers: Vec<Browser>,
    open: Vec<Option<(usize, Tab)>>,
}

impl Tabs {
    /// Starts so many browsers, without any of our tabs yet.
    pub async fn start(installed: &Installed, browsers: usize) -> Result<Tabs> {
        let mut started = Vec::new();
        for _ in 0..browsers {
            started.push(Browser::start(installed).await?);
        }
        Ok(Tabs {
            browsers: started,
            open: Vec::new(),
        })
    }

    /// Opens a tab, in the browsers by turns; its number. `page` is where a bridge serves it,
    /// `hash` what its address says behind that.
    pub async fn add(&mut self, page: &str, hash: &str) -> Result<usize> {
        let number = self.open.len();
        let place = number % self.browsers.len();
        let browser = self.browsers.get(place).context("no browser")?;
        let tab = browser.open_tab().await?;
        let (_, port) = page
            .trim_end_matches('/')
            .rsplit_once(':')
            .context("a page without a port")?;
        let address = format!("http://tab-{}.localhost:{port}/{hash}", number + 1);
        browser.go(&address).await?;
        self.open.push(Some((place, tab)));
        self.run(
            number,
            "the node",
            "await until(() => window.chive);",
            json!({}),
        )
        .await?;
        Ok(number)
    }

    async fn browser_of(&self, tab: usize) -> Result<&Browser> {
        let (place, handle) = self
            .open
            .get(tab)
            .and_then(Option::as_ref)
            .context("no such tab")?;
        let browser = self.browsers.get(*place).context("no browser")?;
        browser.switch_to(handle).await?;
        Ok(browser)
    }

    /// Runs a script's body in a tab: `chive` is its node.
    pub async fn run(&self, tab: usize, what: &str, body: &str, args: Value) -> Result<Value> {
        let browser = self.browser_of(tab).await?;
        let what = format!("{what} in tab {}", tab + 1);
        let body = format!("const limit_ms = {};{HELP}{body}", LIMIT.as_millis());
        match browser.run(&what, LIMIT + GRACE, &body, args).await {
            Ok(value) => Ok(value),
            Err(why) => Err(why.context(self.picture().await)),
        }
    }

    /// What all tabs say of themselves, a line each.
    pub async fn picture(&self) -> String {
        let mut picture = String::new();
        for tab in self.open() {
            let state = self.state(tab).await.unwrap_or_default();
            picture += &format!("tab {}: {state}\n", tab + 1);
        }
        picture
    }

    /// Waits until an expression is true in a tab.
    pub async fn until(&self, tab: usize, what: &str, expression: &str) -> Result<()> {
        let body = format!("await until(() => {expression});");
        self.run(tab, what, &body, json!({})).await.map(drop)
    }

    /// What an expression is in a tab.
    pub async fn value(&self, tab: usize, expression: &str) -> Result<Value> {
        let body = format!("return {expression};");
        self.run(tab, expression, &body, json!({})).await
    }

    /// What a tab's node says of itself.
    pub async fn state(&self, tab: usize) -> Result<Value> {
        let browser = self.browser_of(tab).await?;
        let body = "return window.chive?.status();";
        browser.run("its state", GRACE, body, Value::Null).await
    }

    /// Whom a tab is for others.
    pub async fn id(&self, tab: usize) -> Result<String> {
        self.until(tab, "its name", "chive.status().id").await?;
        let id = self.value(tab, "chive.status().id").await?;
        Ok(id.as_str().context("no name")?.to_owned())
    }

    /// The tabs that are open.
    pub fn open(&self) -> Vec<usize> {
        let all = self.open.iter().enumerate();
        all.filter_map(|(number, tab)| tab.as_ref().map(|_| number))
            .collect()
    }

    /// Waits until every tab has so many circuits that stand.
    pub async fn stand(&self, circuits: usize) -> Result<()> {
        for tab in self.open() {
            self.stand_in(tab, circuits).await?;
        }
        Ok(())
    }

    /// Waits until a tab has so many circuits that stand.
    pub async fn stand_in(&self, tab: usize, circuits: usize) -> Result<()> {
        let enough = format!("open(chive.status().circuits).length >= {circuits}");
        self.until(tab, "circuits", &enough).await
    }

    /// Shares so many random bytes from a tab; the link to them and their SHA-256.
    pub async fn share(&self, tab: usize, bytes: usize) -> Result<(String, String)> {
        let body = "
            const parts = [];
            for (let left = args; left > 0; left -= 65536) {
                parts.push(crypto.getRandomValues(new Uint8Array(Math.min(left, 65536))));
            }
            const file = new File(parts, 'shared.bin');
            const torrent = await chive.share([file]);
            return [torrent.magnet, await hash(file)];";
        let shared = self.run(tab, "the share", body, json!(bytes)).await?;
        Ok(serde_json::from_value(shared)?)
    }

    /// Shares a file of this content from a tab; the link to it.
    pub async fn share_file(&self, tab: usize, name: &str, content: &[u8]) -> Result<String> {
        let body = "
            const bytes = Uint8Array.from(atob(args.content), (byte) => byte.charCodeAt(0));
            const torrent = await chive.share([new File([bytes], args.name)]);
            return torrent.magnet;";
        let args = json!({ "name": name, "content": BASE64_STANDARD.encode(content) });
        let magnet = self.run(tab, "the share", body, args).await?;
        Ok(magnet.as_str().context("no link")?.to_owned())
    }

    /// Follows a link in a tab, as its user would.
    pub async fn follow(&self, tab: usize, magnet: &str) -> Result<()> {
        let body = "location.hash = args;";
        self.run(tab, "a link", body, json!(magnet)).await.map(drop)
    }

    /// Unfolds a tab's picture of the network and brings it into sight.
    pub async fn show_network(&self, tab: usize) -> Result<()> {
        let body = "
            const network = document.querySelector('#network');
            network.open = true;
            await until(() => network.querySelector('.lines li'));
            network.scrollIntoView();";
        self.run(tab, "the picture", body, json!({}))
            .await
            .map(drop)
    }

    /// Begins to download what a link names; its number in that tab.
    pub async fn open_torrent(&self, tab: usize, magnet: &str) -> Result<Value> {
        let body = "const torrent = await chive.open(args); return torrent.id;";
        self.run(tab, "the list of files", body, json!(magnet))
            .await
    }

    /// The same as its user would who is told that nobody has it, and nothing else, and asks again:
    /// in a mesh that lost its bridge just now, whoever shares it may be on the way to those who are
    /// asked.
    pub async fn open_torrent_again(&self, tab: usize, magnet: &str) -> Result<Value> {
        let body = "
            const torrent = await until(() => chive.open(args).catch((error) => {
                if (/^Nobody was found/.test(error.message)) return null;
                return { failed: error };
            }));
            if (torrent.failed) throw torrent.failed;
            return torrent.id;";
        self.run(tab, "the list of files", body, json!(magnet))
            .await
    }

    /// Removes a torrent, with what is there of it and with its circuits.
    pub async fn remove(&self, tab: usize, torrent: &Value) -> Result<()> {
        let body = "await chive.torrents.find(({ id }) => id === args).remove();";
        let args = torrent.clone();
        self.run(tab, "a torrent to go", body, args).await.map(drop)
    }

    /// Waits until so much (0 to 1) of a torrent is there.
    pub async fn fetched(&self, tab: usize, torrent: &Value, part: f64) -> Result<()> {
        let body = "await until(() => own(args.id).verified_bytes >= args.part * own(args.id).total_bytes);";
        let args = json!({ "id": torrent, "part": part });
        self.run(tab, "the download", body, args).await.map(drop)
    }

    /// The SHA-256 of a torrent's first file.
    pub async fn sha256(&self, tab: usize, torrent: &Value) -> Result<String> {
        let body = "
            const torrent = chive.torrents.find(({ id }) => id === args);
            return hash(await torrent.files[0].blob());";
        let hash = self.run(tab, "the file", body, torrent.clone()).await?;
        Ok(hash.as_str().context("no hash")?.to_owned())
    }

    /// Loads a tab's page anew, and waits for its node.
    pub async fn reload(&self, tab: usize) -> Result<()> {
        self.value(tab, "void (window.isOld = true)").await?;
        let browser = self.browser_of(tab).await?;
        browser.reload().await?;
        let body = "return window.isOld === undefined && window.chive !== undefined;";
        let began = Instant::now();
        loop {
            // A script that runs while its page goes fails with it.
            match browser.run("the new page", GRACE, body, Value::Null).await {
                Ok(Value::Bool(true)) => return Ok(()),
                Err(why) if began.elapsed() > LIMIT => return Err(why),
                _ => ensure!(began.elapsed() <= LIMIT, "the new page did not come"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Closes a tab, as its user would.
    pub async fn close(&mut self, tab: usize) -> Result<()> {
        let (place, handle) = self
            .open
            .get_mut(tab)
            .and_then(Option::take)
            .context("no such tab")?;
        let browser = self.browsers.get(place).context("no browser")?;
        browser.close_tab(&handle).await
    }

    /// Saves what a tab shows.
    pub async fn screenshot(&self, tab: usize, file: &Path) -> Result<()> {
        self.browser_of(tab).await?.screenshot(file).await
    }

    /// Fails unless the tabs are in several processes.
    pub fn ensure_processes(&self, least: usize) -> Result<()> {
        let mut ids: Vec<_> = self.browsers.iter().map(|b| b.process().id()).collect();
        ids.dedup();
        ensure!(ids.len() >= least, "{} browsers", ids.len());
        Ok(())
    }
}
