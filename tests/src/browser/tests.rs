use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{Browser, Installed};
use crate::require;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_page_runs_waits_and_is_photographed() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let browser = Browser::start(&installed).await?;
    browser.run_before_pages("globalThis.before = 20;").await?;
    browser
        .go("data:text/html,<title>t</title><p>Hello")
        .await?;
    let body = "await new Promise((done) => setTimeout(done, args.delay_ms)); return before + 1;";
    let value = browser
        .run("an answer", LIMIT, body, json!({ "delay_ms": 1 }))
        .await?;
    assert_eq!(value, 21);

    let failed = browser
        .run("a failure", LIMIT, "throw new Error('no luck');", json!({}))
        .await;
    let why = failed
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(
        why.contains("a failure: no luck") && why.contains("the page shows: Hello"),
        "{why}"
    );

    let first = browser.tab().await?;
    let second = browser.open_tab().await?;
    browser.go("data:text/html,<p>Second").await?;
    let text =
        "while (!document.body?.innerText) await new Promise((done) => setTimeout(done, 10));
        return document.body.innerText;";
    assert_eq!(browser.run("text", LIMIT, text, json!({})).await?, "Second");
    browser.close_tab(&second).await?;
    browser.switch_to(&first).await?;
    assert_eq!(browser.run("text", LIMIT, text, json!({})).await?, "Hello");

    browser.resize(390, 844).await?;
    let width = browser
        .run("the width", LIMIT, "return innerWidth;", json!({}))
        .await?;
    assert_eq!(width, 390);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("deep/page.png");
    browser.screenshot(&file).await?;
    assert!(std::fs::read(&file)?.starts_with(b"\x89PNG"));
    Ok(())
}
