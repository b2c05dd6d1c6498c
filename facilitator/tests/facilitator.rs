//! The binary, as an operator meets it: what it prints, refuses, logs and measures.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use chive_bridge::Bridge;

/// A facilitator in a process of its own.
struct Running {
    child: Child,
    ready: serde_json::Value,
    log: PathBuf,
    folder: tempfile::TempDir,
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chive-facilitator"));
    command
        .args(["--or", "127.0.0.1:0", "--no-dht", "--data-dir"])
        .arg(data);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHIVE_FACILITATOR_") {
            command.env_remove(name);
        }
    }
    command
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = command(&folder.path().join("data"));
        command
            .args(["--print-ready", "--allow-private"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(&log).unwrap();
            panic!("{error}: {line:?}, {log}")
        });
        Running {
            child,
            ready,
            log,
            folder,
        }
    }

    fn stop(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success(), "the facilitator was gone");
        let status = self.child.wait().unwrap();
        (status, std::fs::read_to_string(&self.log).unwrap())
    }

    fn metrics(&self) -> String {
        let at = self.ready["metrics"].as_str().unwrap();
        let mut tcp = TcpStream::connect(at).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        tcp.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn bridge(data: &tempfile::TempDir) -> Bridge {
    let any = "127.0.0.1:0".parse().unwrap();
    let options = chive_bridge::Options {
        http: vec![any],
        or: vec![any],
        data_dir: Some(data.path().join("data")),
        allow_private: Some(true),
        ..chive_bridge::Options::default()
    };
    chive_bridge::start(options).await.unwrap()
}

/// A line of the right form for a bridge that is not there.
fn nobody() -> String {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = closed.local_addr().unwrap();
    let fingerprint = "0".repeat(40);
    format!("{at}/{fingerprint}/{}", "A".repeat(43))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_which_bridges_took_it() {
    let data = tempfile::tempdir().unwrap();
    let bridge = bridge(&data).await;
    let (good, bad) = (bridge.ready.bridge_line.clone(), nobody());
    let running = tokio::task::spawn_blocking(move || {
        let arguments = [
            "--bridge",
            &good,
            "--bridge",
            &bad,
            "--metrics",
            "127.0.0.1:0",
        ];
        let running = Running::start(&arguments);
        let ready = &running.ready;
        assert_eq!(ready["pid"], running.child.id());
        let or: SocketAddr = ready["or"].as_str().unwrap().parse().unwrap();
        TcpStream::connect(or).unwrap();
        for (key, length) in [("fingerprint", 40), ("ed25519", 43), ("ntor", 43)] {
            assert_eq!(ready[key].as_str().unwrap().len(), length, "{ready}");
        }
        let [first, second] = ready["bridges"].as_array().unwrap().as_slice() else {
            panic!("{ready}")
        };
        assert_eq!(
            (&first["line"], &first["registered"]),
            (&good.into(), &true.into())
        );
        assert_eq!(
            (&second["line"], &second["registered"]),
            (&bad.into(), &false.into())
        );
        assert!(
            second["why"].as_str().unwrap().contains("refused"),
            "{ready}"
        );

        let metrics = running.metrics();
        for line in metrics.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once(' ').unwrap();
            assert!(name.starts_with("chive_facilitator_"), "{line}");
            value.parse::<u64>().unwrap();
        }
        assert!(
            metrics.contains("\nchive_facilitator_registered_bridges 1\n"),
            "{metrics}"
        );
        running
    })
    .await
    .unwrap();
    // The bridge introduces it.
    let registered = bridge
        .driver()
        .call(|node, _| node.gauges().registered)
        .await
        .unwrap();
    assert_eq!(registered, 1);

    let (status, log) = tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    bridge.stop().await;
}

#[test]
fn it_is_small_while_nobody_asks() {
    let running = Running::start(&["--metrics", "127.0.0.1:0"]);
    let metrics = running.metrics();
    let resident = metrics
        .lines()
        .find_map(|line| line.strip_prefix("chive_facilitator_resident_bytes "))
        .expect("Linux tells it");
    let mib = resident.parse::<f64>().unwrap() / (1024.0 * 1024.0);
    println!("an idle facilitator: {mib:.1} MiB resident");
    assert!(mib < 40.0, "{mib}");
    // Keys and a lock, and nothing of content.
    let data = std::fs::read_dir(running.folder.path().join("data")).unwrap();
    let mut names: Vec<_> = data.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dtls", "identity", "lock"]);
}

#[test]
fn logs_hold_no_address() {
    let bad = nobody();
    let running = Running::start(&["--bridge", &bad, "--log", "trace"]);
    let or = running.ready["or"].as_str().unwrap();
    let mut tcp = TcpStream::connect(or).unwrap();
    let _ = tcp.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let _ = tcp.read_to_end(&mut Vec::new());
    let (status, log) = running.stop();
    assert_eq!(status.code(), Some(0));
    assert!(
        log.contains("no bridge") && log.contains("no TLS on the OR port"),
        "{log}"
    );
    for part in ["127.0.0.1", "localhost", "::1"] {
        assert!(!log.contains(part), "{part} is in: {log}");
    }
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let refused = |arguments: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(&folder.path().join("data"));
        let Output {
            status,
            stdout,
            stderr,
        } = command.args(arguments).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(stdout.is_empty());
        said
    };
    let key = "A".repeat(43);
    let named = format!("bridge.invalid:9001/{}/{key}", "0".repeat(40));
    let short = format!("192.0.2.1:9001/0/{key}");
    let tabs = format!("ws://192.0.2.1/link#{key}.{key}");
    for (arguments, words) in [
        (["--bridge", "192.0.2.1:9001"], "a bridge is written"),
        (["--bridge", &short], "forty hex digits"),
        (["--bridge", &tabs], "the line for tabs"),
        (["--bridge", &named], "bridge.invalid:9001 is not found"),
        (
            ["--or-address", "0.0.0.0:9001"],
            "no address that others could dial",
        ),
        (["--tracker", "tracker"], "--tracker"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
    ] {
        let said = refused(&arguments);
        assert!(said.contains(words), "{words}: {said}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let said = refused(&["--metrics", &taken.local_addr().unwrap().to_string()]);
    assert!(said.contains("another program listens there"), "{said}");
}
