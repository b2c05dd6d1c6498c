//! The demo's seeder gives its file to a facilitator's swarm engine, and to somebody else's client.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use chive_facilitator::swarm::{Swarm, SwarmConfig};
use chive_node::ordb::{ContentAnswer, ContentWant};
use chive_node::torrent::CHUNK_LEN;
use chive_node::wire::Section;
use chive_tests::seeder::Seeder;
use tokio::time::timeout;

const NAME: &str = "a film & more.bin";

fn content() -> Vec<u8> {
    (0..1_000_003u32).map(|i| (i / 7 * i) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_through_the_engine() -> anyhow::Result<()> {
    let content = content();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(NAME);
    std::fs::write(&file, &content)?;
    let seeder = Seeder::start(&file).await?;
    let link = seeder.magnet().to_string();
    ensure!(link.parse().as_ref() == Ok(seeder.magnet()), "{link}");

    let (swarm, mut answers) = Swarm::start(SwarmConfig {
        dht: false,
        peers: vec![seeder.address()],
        ..SwarmConfig::default()
    });
    let name = seeder.magnet().v1.context("a v1 name")?.into();
    swarm.handle(ContentWant::Open { name });
    let mut got = Vec::new();
    while got.len() < content.len() {
        let answer = timeout(Duration::from_secs(30), answers.recv()).await?;
        match answer.context("the engine ended")? {
            ContentAnswer::Opened { metadata, .. } => {
                ensure!(metadata == seeder.info());
                swarm.handle(ContentWant::Blocks {
                    name,
                    section: Section::CHUNKS,
                    first: 0,
                    count: content.len().div_ceil(CHUNK_LEN as usize).try_into()?,
                });
            }
            ContentAnswer::Block { bytes, .. } => got.extend_from_slice(&bytes),
            other => anyhow::bail!("{other:?}"),
        }
    }
    ensure!(got == content);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_to_a_client_that_nobody_here_wrote() -> anyhow::Result<()> {
    let python = ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let tried = Command::new(python)
            .args(["-c", "import libtorrent"])
            .output();
        tried.is_ok_and(|output| output.status.success())
    });
    let python = chive_tests::require!(python, "a Python with libtorrent");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(NAME);
    std::fs::write(&file, content())?;
    let seeder = Seeder::start(&file).await?;
    let into = folder.path().join("got");
    let script = "
import libtorrent, sys
magnet, ip, port, into = sys.argv[1:]
session = libtorrent.session({'listen_interfaces': '127.0.0.1:0', 'enable_dht': False,
    'enable_lsd': False, 'enable_upnp': False, 'enable_natpmp': False,
    'alert_mask': libtorrent.alert.category_t.status_notification})
params = libtorrent.parse_magnet_uri(magnet)
params.save_path = into
torrent = session.add_torrent(params)
torrent.connect_peer((ip, int(port)))
while not torrent.status().is_seeding:
    if not session.wait_for_alert(30000):
        sys.exit('nothing happens')
    session.pop_alerts()
torrent.flush_cache()
";
    let (ip, port) = (seeder.address().ip(), seeder.address().port());
    let (ip, port) = (ip.to_string(), port.to_string());
    let magnet = seeder.magnet().to_string();
    let output = {
        let into = into.clone();
        tokio::task::spawn_blocking(move || {
            let mut client = Command::new(python);
            client
                .args(["-c", script, &magnet, &ip, &port])
                .arg(into)
                .output()
        })
        .await??
    };
    ensure!(output.status.success(), "{output:?}");
    ensure!(std::fs::read(into.join(NAME))? == content());
    Ok(())
}
