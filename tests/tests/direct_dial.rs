//! Real browsers dial a facilitator's UDP port by address and certificate hash alone.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chive_tests::browser::{Browser, Installed};
use chive_tests::firefox::{Firefox, find_firefox};
use chive_tests::network::{Config, Network, outer_ip};
use chive_tests::require;
use serde_json::{Value, json};

/// What anything may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

/// As PROTOCOL.md, "Transports", has it: an offer that is set as it is, and an answer of our own.
const DIAL: &str = r"
    const unbase64 = (text) => Uint8Array.from(
        atob(text.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
    const colons = (bytes) => Array.from(bytes,
        (byte) => byte.toString(16).padStart(2, '0').toUpperCase()).join(':');
    const dial = async ({ host, port, dtls }) => {
        const pc = new RTCPeerConnection();
        const channel = pc.createDataChannel('', { negotiated: true, id: 0 });
        channel.binaryType = 'arraybuffer';
        await pc.setLocalDescription();
        const [, own] = /a=fingerprint:sha-256 (\S+)/i.exec(pc.localDescription.sdp);
        const hash = Uint8Array.from(own.split(':'), (byte) => parseInt(byte, 16));
        const name = btoa(String.fromCharCode(...hash)).replace(/=+$/, '');
        const sdp = ['v=0', 'o=- 0 0 IN IP4 0.0.0.0', 's=-', 't=0 0', 'a=ice-lite',
            `m=application ${port} UDP/DTLS/SCTP webrtc-datachannel`, `c=IN IP4 ${host}`,
            'a=mid:0', `a=ice-ufrag:${name}`, `a=ice-pwd:${name}`,
            `a=fingerprint:sha-256 ${colons(unbase64(dtls))}`, 'a=setup:passive',
            'a=sctp-port:5000', 'a=max-message-size:262144',
            `a=candidate:1 1 udp 2130706431 ${host} ${port} typ host`,
            'a=end-of-candidates', ''].join('\r\n');
        await pc.setRemoteDescription({ type: 'answer', sdp });
        const opened = await new Promise((resolve) => {
            channel.onopen = () => resolve(true);
            channel.onclose = () => resolve(false);
            pc.onconnectionstatechange = () => {
                if (['failed', 'closed'].includes(pc.connectionState)) resolve(false);
            };
        });
        return { pc, channel, opened };
    };
    // The first cells of a link: VERSIONS; the router answers with its own, and who it is.
    const greet = async ({ pc, channel }) => {
        const answer = new Promise((resolve) => {
            channel.onmessage = ({ data }) => resolve(Array.from(new Uint8Array(data)));
        });
        channel.send(Uint8Array.of(0, 0, 7, 0, 4, 0, 4, 0, 5));
        const bytes = await answer;
        pc.close();
        return bytes;
    };
";

async fn one_facilitator(ip: IpAddr) -> Result<Network> {
    Network::start(Config {
        facilitators: 1,
        facilitator_ip: ip,
        ..Config::default()
    })
    .await
}

/// In a page that `run` runs scripts in.
async fn dials(
    network: Network,
    run: impl AsyncFn(&str, String, Value) -> Result<Value>,
) -> Result<()> {
    let facilitator = &network.facilitators.first().context("a facilitator")?.ready;
    let dtls = facilitator.dtls.as_deref().context("no WebRTC")?;
    let (host, port) = (facilitator.or.ip(), facilitator.or.port());
    let target = json!({ "host": host, "port": port, "dtls": dtls });

    let body = format!(
        "{DIAL} const link = await dial(args); if (!link.opened) throw Error('not open'); \
         return greet(link);"
    );
    let answer = run("the router's VERSIONS", body, target.clone()).await?;
    let first: Vec<u64> = answer
        .as_array()
        .context("bytes")?
        .iter()
        .take(3)
        .filter_map(Value::as_u64)
        .collect();
    ensure!(first == [0, 0, 7], "no VERSIONS: {answer}");

    let body = format!(
        "{DIAL} const links = await Promise.all(Array.from({{ length: 30 }}, () => dial(args)));
         for (const {{ pc }} of links) pc.close();
         return links.filter(({{ opened }}) => opened).length;"
    );
    let opened = run("thirty dials", body, target.clone()).await?;
    ensure!(opened == 30, "{opened} of 30 opened");

    // Another router's certificate.
    let mut wrong = target;
    let last = if dtls.starts_with('A') { "B" } else { "A" };
    wrong["dtls"] = json!(format!("{last}{}", &dtls[1..]));
    let body = format!("{DIAL} return (await dial(args)).opened;");
    let opened = run("a dial that must fail", body, wrong).await?;
    ensure!(opened == false, "it opened with another certificate");
    network.end().await
}

async fn chromium_dials(installed: &Installed, flags: &[&str]) -> Result<()> {
    let network = one_facilitator(Ipv4Addr::LOCALHOST.into()).await?;
    let profile = tempfile::Builder::new()
        .prefix("chive-browser-")
        .tempdir()?;
    let browser = Browser::start_with_flags(installed, Arc::new(profile), flags).await?;
    browser.go(&format!("{}healthz", network.page()?)).await?;
    let run = async |what: &str, body: String, args| browser.run(what, LIMIT, &body, args).await;
    dials(network, run).await
}

#[tokio::test]
async fn chromium_dials_by_certificate_hash() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    chromium_dials(&installed, &[]).await
}

/// What is coming: an offer whose user fragment was changed is refused. Ours is not changed.
#[tokio::test]
async fn chromium_that_refuses_munged_offers_dials_too() -> Result<()> {
    let installed = require!(Installed::find(), "Chromium with its driver");
    let flag = "--force-fieldtrials=WebRTC-NoSdpMangleUfrag/Enabled/";
    chromium_dials(&installed, &[flag]).await
}

/// As it is installed, with no setting that has to do with connections.
#[tokio::test]
async fn firefox_dials_by_certificate_hash() -> Result<()> {
    let program = require!(find_firefox(), "Firefox");
    let ip = require!(outer_ip(), "an address other than 127.0.0.1");
    let network = one_facilitator(ip).await?;
    let firefox = Firefox::start(&program).await?;
    firefox.load(&format!("{}healthz", network.page()?)).await?;
    let run = async |what: &str, body: String, args| firefox.run(what, LIMIT, &body, args).await;
    dials(network, run).await?;
    firefox.end().await
}
