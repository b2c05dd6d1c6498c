use std::time::Duration;

use anyhow::Result;

use super::Process;

const LIMIT: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Result<Process> {
    Process::start("shell", "/bin/sh", ["-c", script])
}

#[tokio::test]
async fn lines_of_both_outputs_are_found_now_or_later() -> Result<()> {
    let mut shell = shell("echo one; echo two >&2; read -r never")?;
    assert_eq!(
        shell
            .line("two", LIMIT, |line| (line == "two").then_some(2))
            .await?,
        2
    );
    assert_eq!(
        shell
            .line("one", LIMIT, |line| (line == "one").then_some(1))
            .await?,
        1
    );
    Ok(())
}

#[tokio::test]
async fn a_process_that_ends_is_not_waited_for() -> Result<()> {
    let mut shell = shell("echo last words; exit 3")?;
    let outcome = shell
        .line("anything", LIMIT, |line| (line == "anything").then_some(()))
        .await;
    let why = outcome
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(why.contains("last words"), "{why}");
    Ok(())
}

#[tokio::test]
async fn the_last_words_of_a_process_are_found() -> Result<()> {
    for _ in 0..20 {
        let mut shell = shell("echo done")?;
        shell
            .line("done", LIMIT, |line| (line == "done").then_some(()))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn ending_and_dropping_end_the_process() -> Result<()> {
    let mut asked =
        shell("trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.05; done")?;
    asked
        .line("ready", LIMIT, |line| (line == "ready").then_some(()))
        .await?;
    assert_eq!(asked.end().await?.code(), Some(7));

    let dropped = shell("exec sleep 600")?;
    let proc = format!("/proc/{}/stat", dropped.id().unwrap_or_default());
    drop(dropped);
    // Gone, or dead and not yet buried.
    let gone = async {
        while tokio::fs::read_to_string(&proc)
            .await
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await?;
    Ok(())
}
