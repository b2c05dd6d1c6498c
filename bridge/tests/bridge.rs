//! The binary, as an operator and a browser meet it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// A bridge in a process of its own.
struct Running {
    child: Child,
    ready: serde_json::Value,
    _folder: tempfile::TempDir,
    log: PathBuf,
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chive-bridge"));
    command
        .args(["--http", "127.0.0.1:0", "--or", "127.0.0.1:0", "--data-dir"])
        .arg(data);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHIVE_BRIDGE_") {
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
            .args(arguments);
        command
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!(
                "{error}: {line:?}, {}",
                std::fs::read_to_string(&log).unwrap()
            )
        });
        Running {
            child,
            ready,
            _folder: folder,
            log,
        }
    }

    fn ready(&self, key: &str) -> String {
        self.ready[key]
            .as_str()
            .unwrap_or_else(|| panic!("no {key} in {}", self.ready))
            .to_owned()
    }

    fn http(&self) -> SocketAddr {
        self.ready("http")
            .strip_prefix("http://")
            .unwrap()
            .trim_end_matches('/')
            .parse()
            .unwrap()
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        request(self.http(), "GET", path, headers)
    }

    fn stop(mut self) -> (ExitStatus, String) {
        let told = terminate(self.child.id());
        assert!(told, "the bridge was gone");
        let status = self.child.wait().unwrap();
        (status, std::fs::read_to_string(&self.log).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends SIGTERM to one process by its id.
fn terminate(pid: u32) -> bool {
    Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()
        .unwrap()
        .success()
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    try_request(to, method, path, headers).expect("an answer")
}

fn try_request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Answer> {
    let mut tcp = TcpStream::connect(to)?;
    tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        text.push_str(&format!("host: {to}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    tcp.write_all(format!("{text}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer {
        status,
        head,
        body: answer[end + 4..].to_vec(),
    })
}

fn refused(configure: impl FnOnce(&mut Command, &Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = command(&data);
    configure(&mut command, &data);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(stdout.is_empty());
    said
}

#[test]
fn it_says_where_it_is_and_stops_when_told() {
    let magnet = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=a%20film";
    let bridge = Running::start(&["--sample-magnet", magnet]);
    let (ed25519, ntor) = (bridge.ready("ed25519"), bridge.ready("ntor"));
    assert_eq!(bridge.ready["pid"], bridge.child.id());
    assert_eq!(
        bridge.ready("websocket"),
        format!("ws://{}/link#{ed25519}.{ntor}", bridge.http())
    );
    assert_eq!(
        bridge.ready("bridge_line"),
        format!(
            "{}/{}/{ed25519}",
            bridge.ready("or"),
            bridge.ready("fingerprint")
        )
    );

    assert_eq!(bridge.get("/healthz", &[]).text(), "ok\n");
    let json = bridge
        .get("/bridge.json", &[("host", "bridge.example:81")])
        .json();
    assert_eq!(
        json["bridges"],
        serde_json::json!([format!("ws://bridge.example:81/link#{ed25519}.{ntor}")])
    );
    let answer = bridge.get("/bridge.json", &[("host", "a@b/../\"")]);
    assert_eq!(answer.status, 400, "{}", answer.head);
    let sample = bridge.get("/sample.json", &[]).json();
    assert_eq!(sample["magnet"], magnet);
    assert_eq!(sample["name"], "a film");
    assert_eq!(bridge.get("/link", &[]).status, 426);
    assert_eq!(request(bridge.http(), "POST", "/", &[]).status, 405);
    assert_eq!(bridge.get("/nothing", &[]).status, 404);

    let page = bridge.get("/", &[]);
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let head = request(bridge.http(), "HEAD", "/", &[]);
    assert!(head.status == 200 && head.body.is_empty());

    let (status, _) = bridge.stop();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn without_a_sample_there_is_none() {
    let bridge = Running::start(&["--public-url", "wss://bridge.example/link"]);
    assert_eq!(bridge.get("/sample.json", &[]).status, 404);
    let json = bridge
        .get("/bridge.json", &[("host", "other.example")])
        .json();
    let line = json["bridges"][0].as_str().unwrap();
    assert!(line.starts_with("wss://bridge.example/link#"), "{line}");
    assert_eq!(bridge.ready("websocket"), line);
}

#[test]
fn metrics_are_prometheus_text_and_for_this_machine() {
    let bridge = Running::start(&["--metrics", "127.0.0.1:0"]);
    bridge.get("/healthz", &[]);
    let page = bridge.get("/metrics", &[]);
    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let mut names = Vec::new();
    let text = page.text();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "HELP", name, _, ..] => assert!(name.starts_with("chive_bridge_"), "{name}"),
            ["#", "TYPE", name, "counter"] => assert!(name.ends_with("_total"), "{name}"),
            ["#", "TYPE", name, "gauge"] => assert!(!name.ends_with("_total"), "{name}"),
            [name, value] => {
                value.parse::<u64>().unwrap();
                assert!(!names.contains(&name), "{name} twice");
                names.push(name);
            }
            _ => panic!("{line:?}"),
        }
    }
    for name in [
        "chive_bridge_http_requests_total",
        "chive_bridge_resident_bytes",
    ] {
        assert!(names.contains(&name), "{text}");
    }
    assert!(
        text.contains("\nchive_bridge_http_requests_total 2\n"),
        "{text}"
    );

    let through_a_proxy = bridge.get("/metrics", &[("x-forwarded-for", "127.0.0.1")]);
    assert_eq!(through_a_proxy.status, 403);
    let elsewhere = bridge.ready("metrics").parse().unwrap();
    assert!(
        request(elsewhere, "GET", "/metrics", &[])
            .text()
            .contains("chive_bridge_")
    );
}

#[test]
fn one_address_has_so_many_connections() {
    let limits = [
        "--max-connections-per-address",
        "3",
        "--max-new-connections-per-second",
        "50",
    ];
    let bridge = Running::start(&limits);
    let held: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(bridge.http()).unwrap())
        .collect();
    // The OR port counts the same connections.
    for port in [bridge.http(), bridge.ready("or").parse().unwrap()] {
        let mut fourth = TcpStream::connect(port).unwrap();
        fourth
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let closed = fourth.read(&mut [0]);
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        if let Err(error) = closed {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    drop(held);
    // Their places come back when the bridge has seen that they are gone.
    let text = loop {
        match try_request(bridge.http(), "GET", "/metrics", &[]) {
            Ok(answer) => break answer.text(),
            Err(_) => std::thread::yield_now(),
        }
    };
    assert!(
        !text.contains("\nchive_bridge_refused_connections_total 0\n"),
        "{text}"
    );
}

#[test]
fn other_pages_are_refused_where_the_operator_says_so() {
    let bridge = Running::start(&["--origin", "https://page.example"]);
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let with = |origin| [&upgrade[..], &[("origin", origin)]].concat();
    assert_eq!(
        bridge.get("/link", &with("https://other.example")).status,
        403
    );
    let mut tcp = TcpStream::connect(bridge.http()).unwrap();
    let mut text = String::from("GET /link HTTP/1.1\r\nhost: a\r\n");
    for (name, value) in with("https://page.example") {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    tcp.write_all(format!("{text}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(tcp).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 101 Switching Protocols\r\n");
}

#[test]
fn behind_a_proxy_the_client_is_who_the_proxy_says() {
    let arguments = ["--trust-proxy", "--max-connections-per-address", "1"];
    let bridge = Running::start(&arguments);
    let open = |client: &str| {
        let mut tcp = TcpStream::connect(bridge.http()).unwrap();
        let text = format!(
            "GET /link HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             x-forwarded-for: 203.0.113.99, {client}\r\n\r\n"
        );
        tcp.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(tcp.try_clone().unwrap())
            .read_line(&mut line)
            .unwrap();
        (tcp, line.split(' ').nth(1).unwrap().to_owned())
    };
    let (_first, status) = open("192.0.2.1");
    assert_eq!(status, "101");
    assert_eq!(open("192.0.2.1").1, "429");
    assert_eq!(open("192.0.2.2").1, "101");
    let secure = bridge.get(
        "/bridge.json",
        &[("host", "b"), ("x-forwarded-proto", "https")],
    );
    let json = secure.json();
    assert!(
        json["bridges"][0]
            .as_str()
            .unwrap()
            .starts_with("wss://b/link#"),
        "{json}"
    );
}

#[test]
fn keys_are_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let start = || {
        let mut child = command(&data)
            .arg("--print-ready")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(terminate(child.id()));
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        ready["fingerprint"].as_str().unwrap().to_owned()
    };
    assert_eq!(start(), start());
}

#[test]
fn logs_hold_no_address() {
    let bridge = Running::start(&["--log", "trace", "--max-connections-per-address", "4"]);
    let or: SocketAddr = bridge.ready("or").parse().unwrap();
    // Not TLS at all: the bridge says so in its log.
    let mut tcp = TcpStream::connect(or).unwrap();
    let _ = tcp.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let _ = tcp.read_to_end(&mut Vec::new());
    // More than one address may have: the last two are closed, which is when they are refused.
    let mut held: Vec<TcpStream> = (0..6)
        .map(|_| TcpStream::connect(bridge.http()).unwrap())
        .collect();
    for refused in held.split_off(4).iter_mut() {
        let _ = refused.read_to_end(&mut Vec::new());
    }
    let (status, log) = bridge.stop();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("stopping") && log.contains("refused"), "{log}");
    assert!(log.contains("[hidden]"), "{log}");
    for part in ["127.0.0.1", "localhost", "::1"] {
        assert!(!log.contains(part), "{part} is in: {log}");
    }
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let said = refused(|command, _| {
        command.args(["--or", &at]);
    });
    assert!(
        said.contains(&at) && said.contains("another program listens there"),
        "{said}"
    );

    let said = refused(|command, data| {
        let file = data.with_file_name("bridge.toml");
        std::fs::write(&file, "[limits]\n").unwrap();
        command.arg("--config").arg(file);
    });
    assert!(said.contains("line 1") && said.contains("limits"), "{said}");

    let said = refused(|command, data| {
        std::fs::write(data, "").unwrap();
        command.arg("--log=debug");
    });
    assert!(said.contains("data folder"), "{said}");

    let said = refused(|command, data| {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new().mode(0o700).create(data).unwrap();
        let mut file = std::fs::OpenOptions::new();
        let mut file = file
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(data.join("identity"))
            .unwrap();
        file.write_all(b"not a key").unwrap();
        command.arg("--log=info");
    });
    assert!(said.contains("damaged"), "{said}");

    for (arguments, words) in [
        (&["--sample-magnet", "magnet:?dn=x"][..], "--sample-magnet"),
        (&["--public-url", "https://b.example"], "--public-url"),
        (&["--other-bridge", "ws://b.example/link"], "--other-bridge"),
        (&["--web-dir", "/nowhere"], "/nowhere"),
        (&["--log", "=="], "--log"),
        (&["--or-port", "1"], "--or-port"),
        (&["--or", "localhost"], "--or"),
    ] {
        let said = refused(|command, _| {
            command.args(arguments);
        });
        assert!(said.contains(words), "{words}: {said}");
    }
}
