//! The page in a real Chromium, with real bridges and facilitators behind it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chive_tests::browser::{Browser, Installed};
use chive_tests::demo::check::{WATCH_FILM, check, play, played, seek};
use chive_tests::network::{Config, Dht, Network};
use chive_tests::process::workspace;
use chive_tests::require;
use chive_tests::seeder::Seeder;
use chive_tests::shared::{Media, Swarm, SwarmOptions};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};

/// One browser at a time: a film is played in real time, and two would starve each other.
static ONE_BROWSER: Mutex<()> = Mutex::const_new(());

/// What anything may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A browser, and the right to be the only one.
struct Window {
    browser: Browser,
    _only: MutexGuard<'static, ()>,
}

impl Window {
    async fn open(installed: &Installed) -> Result<Window> {
        let only = ONE_BROWSER.lock().await;
        let browser = Browser::start(installed).await?;
        browser.run_before_pages(WATCH_FILM).await?;
        Ok(Window {
            browser,
            _only: only,
        })
    }

    /// Waits until an expression about the page is true.
    async fn until(&self, what: &str, expression: &str) -> Result<()> {
        // The status is a quarter of a second old at most and says nothing when it changes.
        let body = format!(
            "const holds = () => {{ try {{ return {expression}; }} catch {{ return false; }} }};
             while (!holds()) await new Promise((next) => setTimeout(next, 50));"
        );
        self.browser
            .run(what, LIMIT, &body, Value::Null)
            .await
            .map(drop)
    }

    async fn value(&self, expression: &str) -> Result<Value> {
        self.browser
            .run(
                expression,
                LIMIT,
                &format!("return {expression};"),
                Value::Null,
            )
            .await
    }

    async fn number(&self, expression: &str) -> Result<f64> {
        self.value(expression)
            .await?
            .as_f64()
            .with_context(|| format!("{expression} is no number"))
    }

    /// The SHA-256 of the first file of the open torrent, in hex, read in two ways: by the
    /// module, and by its address through the service worker.
    async fn sha256(&self) -> Result<[String; 2]> {
        let body = "
            const hash = async (blob) => {
                const digest = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
                return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
            };
            const torrent = await chive.open(args.link);
            const [file] = torrent.files;
            const answer = await fetch(file.url);
            return [await hash(await file.blob()), await hash(await answer.blob())];";
        let link = self.value("location.hash.slice(1)").await?;
        let both = self
            .browser
            .run("the file's hash", LIMIT, body, json!({ "link": link }))
            .await?;
        Ok(serde_json::from_value(both)?)
    }
}

fn sample() -> PathBuf {
    workspace().join("tests/media/sample.webm")
}

/// A network whose facilitators know one seeder.
async fn network_with(seeder: &Seeder, facilitators: usize) -> Result<Network> {
    let config = Config {
        facilitators,
        peers: vec![seeder.address()],
        ..Config::default()
    };
    Network::start(config).await
}

#[tokio::test]
async fn the_sample_plays_and_seeks_through_three_routers() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let seeder = Seeder::start(&sample()).await?;
    let network = network_with(&seeder, 2).await?;
    let folder = tempfile::tempdir()?;
    let screenshot = folder.path().join("page.png");
    let _only = ONE_BROWSER.lock().await;
    let magnet = seeder.magnet().to_string();
    let report = check(&installed, network.page()?, &magnet, &screenshot, LIMIT).await?;

    let roles: Vec<_> = report
        .routers
        .iter()
        .filter_map(|hop| hop["role"].as_str())
        .collect();
    assert_eq!(roles, ["bridge", "middle", "ordb"]);
    let named = |hop: &Value| hop["fingerprint"].as_str().map(str::to_owned);
    let mut routers: Vec<_> = report.routers.iter().filter_map(named).collect();
    let mut ours = vec![network.bridges[0].ready.fingerprint.clone()];
    ours.extend(
        network
            .facilitators
            .iter()
            .map(|router| router.ready.fingerprint.clone()),
    );
    routers.sort();
    ours.sort();
    assert_eq!(routers, ours);
    assert!(report.verified_bytes <= std::fs::metadata(sample())?.len());
    assert!(screenshot.is_file());
    network.end().await
}

#[tokio::test]
async fn the_sample_is_offered_and_pressed() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let seeder = Seeder::start(&sample()).await?;
    let config = Config {
        peers: vec![seeder.address()],
        sample: Some(seeder.magnet().to_string()),
        ..Config::default()
    };
    let network = Network::start(config).await?;
    let window = Window::open(&installed).await?;
    window.browser.go(network.page()?).await?;
    window
        .until(
            "the sample to be offered",
            "!document.querySelector('#sample').hidden",
        )
        .await?;
    window
        .value("document.querySelector('#sample').click()")
        .await?;
    played(&window.browser, 0.0, 1.0, LIMIT).await?;
    network.end().await
}

#[tokio::test]
async fn films_of_a_real_swarm_play_and_are_what_was_seeded() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let media = Media::make(require!(Media::tool(), "the tool that makes films"), 0).await?;
    let tool = require!(Swarm::tool(), "the tool that makes swarms");
    let films = [
        media.film("seekable.mp4"),
        media.film("vp9.webm"),
        media.film("clip.mp4"),
    ];
    let content: Vec<_> = films.iter().map(PathBuf::as_path).collect();
    let options = SwarmOptions {
        kinds: &["v1", "hybrid", "v2"],
        ..SwarmOptions::default()
    };
    let swarm = Swarm::start(tool, &content, options).await?;
    let config = Config {
        trackers: vec![swarm.tracker().to_owned()],
        dht: Dht::Bootstrap(vec![swarm.dht_bootstrap().to_owned()]),
        ..Config::default()
    };
    let network = Network::start(config).await?;
    let window = Window::open(&installed).await?;
    // Each film as another kind of torrent: v1 is seeded by clients of different make.
    for (film, kind) in films.iter().zip(["v1", "hybrid", "v2"]) {
        let name = film
            .file_name()
            .and_then(|name| name.to_str())
            .context("a name")?;
        let torrent = swarm.torrent(name, kind)?;
        play(
            &window.browser,
            network.page()?,
            &torrent.magnet_without_tracker,
            1,
            LIMIT,
        )
        .await
        .with_context(|| format!("{kind} {name}\n{}", network.logs()))?;
        seek(&window.browser, 0.8, LIMIT)
            .await
            .with_context(|| format!("{kind} {name}"))?;
        let expected = &torrent.files.first().context("no file")?.sha256;
        for digest in window.sha256().await? {
            assert_eq!(&digest, expected, "{kind} {name}");
        }
        // The next address differs in its hash alone, which would not load the page anew.
        window.browser.go("about:blank").await?;
    }
    network.end().await
}

/// What each facilitator gets of a long film: more than it plays at, and less than would bring all
/// of it in the moments before a test has begun.
const LONG_FILM_RATE: u64 = 3_000_000;

/// A film of many megabytes, its index in front, so that it plays from its first chunks on.
async fn long_film() -> Result<Option<PathBuf>> {
    let Some(tool) = Media::tool() else {
        return Ok(None);
    };
    let fragmented = Media::make(tool, 75).await?.film("big.mp4");
    let film = fragmented.with_file_name("long.mp4");
    // Another test may be at it as well: each writes a file of its own and moves it into place.
    let part = tempfile::Builder::new()
        .suffix(".mp4")
        .tempfile_in(fragmented.parent().context("a folder")?)?;
    let status = tokio::process::Command::new("ffmpeg")
        .args(["-loglevel", "error", "-y", "-i"])
        .arg(&fragmented)
        .args(["-c", "copy", "-movflags", "+faststart"])
        .arg(part.path())
        .status()
        .await?;
    ensure!(status.success(), "ffmpeg cannot move the index");
    part.persist(&film)?;
    Ok(Some(film))
}

#[tokio::test]
async fn the_film_goes_on_when_its_facilitator_is_killed() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let film = require!(long_film().await?, "the tool that makes films");
    let seeder = Seeder::start_at(&film, LONG_FILM_RATE).await?;
    let mut network = network_with(&seeder, 3).await?;
    let window = Window::open(&installed).await?;
    play(
        &window.browser,
        network.page()?,
        &seeder.magnet().to_string(),
        2,
        LIMIT,
    )
    .await?;

    // The end of the circuit that brings most of it.
    let serving = window.value(
        "chive.status().torrents[0].sources.toSorted((a, b) => b.rate_bytes_per_second - a.rate_bytes_per_second)[0].router",
    );
    let serving = serving.await?.as_str().context("no source")?.to_owned();
    let at = window
        .number("document.querySelector('video').currentTime")
        .await?;
    let verified = window
        .number("chive.status().torrents[0].verified_bytes")
        .await?;
    let length = std::fs::metadata(&film)?.len();
    ensure!(
        (verified as u64) < length,
        "all of the film was there before the kill"
    );
    network.kill_facilitator(&serving).await?;

    played(&window.browser, at + 5.0, 5.0, LIMIT).await?;
    let stood_still = window.number("filmWatch.rebuffers").await?;
    assert_eq!(stood_still, 0.0, "the film stood still");
    seek(&window.browser, 0.91, LIMIT).await?;
    let expected = hex(&Sha256::digest(std::fs::read(&film)?));
    for digest in window.sha256().await? {
        assert_eq!(digest, expected);
    }
    network.end().await
}

/// Bytes as hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_page_recovers_when_the_bridge_is_back() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let film = require!(long_film().await?, "the tool that makes films");
    let seeder = Seeder::start_at(&film, LONG_FILM_RATE).await?;
    let mut network = network_with(&seeder, 2).await?;
    let window = Window::open(&installed).await?;
    play(
        &window.browser,
        network.page()?,
        &seeder.magnet().to_string(),
        1,
        LIMIT,
    )
    .await?;
    let noticed = window.until(
        "the page to notice",
        "chive.status().bridges[0].state !== 'connected'",
    );
    network.restart_bridge(0, noticed).await?;
    window
        .until(
            "the bridge to be back",
            "chive.status().bridges[0].state === 'connected'",
        )
        .await?;
    // What is not there yet has to come over new circuits.
    seek(&window.browser, 0.91, LIMIT)
        .await
        .with_context(|| network.logs())?;
    let shown = window
        .value("document.querySelector('#error').hidden")
        .await?;
    assert_eq!(shown, true, "the error about the bridge is still shown");
    network.end().await
}

#[tokio::test]
async fn a_reload_goes_on_where_the_film_was() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let seeder = Seeder::start(&sample()).await?;
    let network = network_with(&seeder, 2).await?;
    let window = Window::open(&installed).await?;
    play(
        &window.browser,
        network.page()?,
        &seeder.magnet().to_string(),
        1,
        LIMIT,
    )
    .await?;
    seek(&window.browser, 0.5, LIMIT).await?;
    played(&window.browser, 0.0, 3.0, LIMIT).await?;
    let before = window
        .number("document.querySelector('video').currentTime")
        .await?;
    window.value("void (globalThis.isOld = true)").await?;
    window.browser.reload().await?;
    window
        .until("the new page", "globalThis.isOld === undefined")
        .await?;
    played(&window.browser, before, 0.5, LIMIT).await?;
    let from = window
        .number("document.querySelector('video').played.start(0)")
        .await?;
    ensure!(
        from > before - 3.0,
        "it was at {before} s and went on from {from} s"
    );
    network.end().await
}

#[tokio::test]
async fn what_cannot_be_opened_is_said_in_a_sentence() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let folder = tempfile::tempdir()?;
    let no_film = folder.path().join("no film.mp4");
    std::fs::write(&no_film, vec![0x2a; 300_000])?;
    let seeder = Seeder::start(&no_film).await?;
    let find_seconds = ["--find-seconds".to_owned(), "2".to_owned()];
    let config = Config {
        peers: vec![seeder.address()],
        facilitator_arguments: find_seconds.into(),
        ..Config::default()
    };
    let mut network = Network::start(config).await?;
    let page = network.page()?.to_owned();
    let window = Window::open(&installed).await?;
    let error = "(() => { const error = document.querySelector('#error'); return error.hidden ? '' : error.innerText; })()";

    let nobody = "magnet:?xt=urn:btih:00112233445566778899aabbccddeeff00112233";
    let seeded = seeder.magnet().to_string();
    let cases = [
        ("magnet:?xt=urn:btih:tooshort", "infohash"),
        (nobody, "peers"),
        (&seeded, "cannot play this format"),
    ];
    for (link, expected) in cases {
        window.browser.go(&format!("{page}#{link}")).await?;
        window
            .until(
                &format!("an error about {link}"),
                &format!("{error} !== ''"),
            )
            .await?;
        let said = window.value(error).await?;
        let said = said.as_str().context("a text")?;
        ensure!(said.contains(expected), "of {link} the page says: {said}");
        window.browser.go("about:blank").await?;
    }

    window.browser.go(&page).await?;
    window
        .until(
            "the bridge",
            "chive.status().bridges[0].state === 'connected'",
        )
        .await?;
    // A bridge that cannot prove the key that the page knows.
    let body = "
        const { Chive } = await import('./chive.js');
        const [line] = (await (await fetch('./bridge.json')).json()).bridges;
        const [url, keys] = line.split('#');
        const [id, onion] = keys.split('.');
        const wrong = await Chive.start({ bridges: [`${url}#${onion}.${id}`] });
        return await new Promise((resolve) => wrong.addEventListener('bridge', ({ detail }) => {
            if (detail.state === 'failed') resolve(detail.message);
        }));";
    let said = window
        .browser
        .run("a refusal", LIMIT, body, Value::Null)
        .await?;
    ensure!(said.as_str().is_some_and(|said| !said.is_empty()), "{said}");

    // The facilitators that the page linked to would do as well: nobody is left.
    network.bridges.remove(0).process.kill().await?;
    for facilitator in network.facilitators.drain(..) {
        facilitator.process.kill().await?;
    }
    window
        .until(
            "an error about the bridge",
            &format!("/bridge/i.test({error})"),
        )
        .await?;
    Ok(())
}
