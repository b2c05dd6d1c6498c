//! Plays a torrent in a headless Chromium and measures how that goes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::browser::{Browser, Installed};

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// From the page's address being opened to the film's first frame.
    pub magnet_to_first_frame_ms: f64,
    /// How much of the torrent was verified in the tab by the end.
    pub verified_bytes: u64,
    /// The routers that carried it, from the tab on.
    pub routers: Vec<Value>,
    /// How often the film stood still for want of data.
    pub rebuffers: u64,
    /// Where the screenshot lies.
    pub screenshot: PathBuf,
}

/// Notes what the film does, from the page's first moment on.
pub const WATCH_FILM: &str = r"
    const film = { firstFrame: null, rebuffers: 0, plays: false };
    Object.defineProperty(globalThis, 'filmWatch', { value: film });
    const on = (name, then) => document.addEventListener(name, ({ target }) => {
        if (target instanceof HTMLVideoElement) then(target);
    }, true);
    on('loadeddata', () => { film.firstFrame ??= performance.now(); });
    on('playing', () => { film.plays = true; });
    // A seek into what is not there yet waits by its nature.
    on('seeking', () => { film.plays = false; });
    on('waiting', () => { if (film.plays) film.rebuffers += 1; });
";

/// Waits until the film has played for `args.seconds` in all and is past `args.past`, or fails
/// with what the page says went wrong. A failed bridge is not final: the page tries again.
pub const PLAYED: &str = r"
    const media = () => document.querySelector('video');
    await new Promise((resolve, reject) => {
        const look = () => {
            const film = media();
            const error = document.querySelector('#error');
            const bridge = document.querySelector('#bridge')?.dataset.state;
            if (error && !error.hidden && bridge !== 'failed') reject(new Error(error.innerText));
            if (film?.error) reject(new Error(`the film fails: ${film.error.message}`));
            if (!film || film.seeking || film.currentTime < args.past) return;
            let played = 0;
            for (let i = 0; i < film.played.length; i += 1) played += film.played.end(i) - film.played.start(i);
            if (played >= args.seconds || film.ended) resolve();
        };
        for (const name of ['timeupdate', 'ended', 'error']) document.addEventListener(name, look, true);
        const changes = { subtree: true, childList: true, attributes: true, characterData: true };
        new MutationObserver(look).observe(document, changes);
        look();
    });
    return media().currentTime;
";

/// Seeks to `args.part` (0 to 1) of the film; where that is, and how long the film is.
pub const SEEK: &str = r"
    const film = document.querySelector('video');
    const to = film.duration * args.part;
    const seeked = new Promise((resolve) => film.addEventListener('seeked', resolve, { once: true }));
    film.currentTime = to;
    await seeked;
    if (film.paused && !film.ended) await film.play();
    return { to, duration: film.duration };
";

const FACTS: &str = r"
    const status = await globalThis.chive.status();
    const torrent = status.torrents[0];
    const circuits = status.circuits.filter((circuit) => circuit.torrent === torrent.id);
    return {
        firstFrame: filmWatch.firstFrame,
        rebuffers: filmWatch.rebuffers,
        verified: torrent.verified_bytes,
        routers: circuits[0]?.hops ?? [],
    };
";

/// Opens a film in a page and plays it: waits until `seconds` of it have played.
pub async fn play(
    browser: &Browser,
    page: &str,
    magnet: &str,
    seconds: u32,
    limit: Duration,
) -> Result<()> {
    browser.go(&format!("{page}#{magnet}")).await?;
    played(browser, 0.0, seconds.into(), limit).await
}

/// Waits until the film is past a moment and has played for some seconds in all.
pub async fn played(browser: &Browser, past: f64, seconds: f64, limit: Duration) -> Result<()> {
    let what = format!("{seconds} seconds of film to play");
    browser
        .run(
            &what,
            limit,
            PLAYED,
            json!({ "past": past, "seconds": seconds }),
        )
        .await?;
    Ok(())
}

/// Seeks to a part (0 to 1) of the film and waits until it plays on from there.
pub async fn seek(browser: &Browser, part: f64, limit: Duration) -> Result<()> {
    let seeked = browser
        .run("the seek", limit, SEEK, json!({ "part": part }))
        .await?;
    let to = seeked["to"].as_f64().context("where the seek went")?;
    played(browser, to + 0.5, 0.0, limit).await
}

/// Plays a torrent from the page's address: 5 seconds of film, then a seek to its last tenth.
pub async fn check(
    installed: &Installed,
    page: &str,
    magnet: &str,
    screenshot: &Path,
    limit: Duration,
) -> Result<Report> {
    let browser = Browser::start(installed).await?;
    browser.run_before_pages(WATCH_FILM).await?;
    play(&browser, page, magnet, 5, limit).await?;
    browser.screenshot(screenshot).await?;
    seek(&browser, 0.91, limit).await?;
    let facts = browser
        .run("the page's facts", limit, FACTS, Value::Null)
        .await?;
    Ok(Report {
        magnet_to_first_frame_ms: facts["firstFrame"]
            .as_f64()
            .context("no first frame was seen")?
            .round(),
        verified_bytes: facts["verified"].as_f64().context("how much is verified")? as u64,
        routers: facts["routers"].as_array().cloned().unwrap_or_default(),
        rebuffers: facts["rebuffers"].as_u64().context("how often it waited")?,
        screenshot: screenshot.to_owned(),
    })
}
