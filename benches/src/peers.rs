//! Other programs that do the same job, as libraries.

use anyhow::Result;

/// How long librqbit takes from a magnet link to the first MiB, in milliseconds; nothing if the
/// benchmarks were built without it.
#[cfg(feature = "librqbit")]
pub(crate) async fn librqbit_first_mib_ms(magnet: &str) -> Result<Option<f64>> {
    use anyhow::Context;
    use librqbit::{AddTorrent, AddTorrentOptions, Session, SessionOptions};
    use tokio::io::AsyncReadExt;

    let folder = tempfile::tempdir()?;
    let options = SessionOptions {
        dht: None,
        persistence: None,
        disable_local_service_discovery: true,
        ..SessionOptions::default()
    };
    let session = Session::new_with_opts(folder.path().into(), options).await?;
    let began = tokio::time::Instant::now();
    let added = session
        .add_torrent(
            AddTorrent::from_url(magnet),
            Some(AddTorrentOptions::default()),
        )
        .await?;
    let torrent = added.into_handle().context("not added")?;
    torrent.wait_until_initialized().await?;
    let mut stream = torrent.stream(0).await?;
    let mut mib = vec![0; 1 << 20];
    stream.read_exact(&mut mib).await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    drop(stream);
    session.stop().await;
    Ok(Some(took))
}

/// How long librqbit takes from a magnet link to the first MiB, in milliseconds; nothing if the
/// benchmarks were built without it.
#[cfg(not(feature = "librqbit"))]
#[expect(clippy::unused_async, reason = "of one shape with the other")]
pub(crate) async fn librqbit_first_mib_ms(_magnet: &str) -> Result<Option<f64>> {
    Ok(None)
}
