//! As much of the WebDriver protocol as we use: JSON over HTTP on loopback.
//!
//! The crates for it bring eighty others along.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A driver's session: one browser.
pub(crate) struct Session {
    port: u16,
    id: String,
}

impl Session {
    /// Begins one with the driver that listens on this port.
    pub(crate) async fn start(port: u16, capabilities: Value) -> Result<Session> {
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let answer = request(port, "POST", "/session", Some(&body)).await?;
        let id = answer["sessionId"]
            .as_str()
            .context("no session id")?
            .to_owned();
        Ok(Session { port, id })
    }

    /// Sends a command, such as `url` or `execute/async`; its value.
    pub(crate) async fn post(&self, command: &str, body: Value) -> Result<Value> {
        let path = format!("/session/{}/{command}", self.id);
        request(self.port, "POST", &path, Some(&body)).await
    }

    /// Asks for a value, such as `screenshot`.
    pub(crate) async fn get(&self, command: &str) -> Result<Value> {
        request(
            self.port,
            "GET",
            &format!("/session/{}/{command}", self.id),
            None,
        )
        .await
    }
}

/// One request on a connection of its own, so that its end is the answer's end.
async fn request(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let start = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .context("no HTTP answer")?;
    let mut answer: Value = serde_json::from_slice(answer.get(start + 4..).unwrap_or_default())?;
    let value = answer["value"].take();
    if let Some(error) = value["error"].as_str() {
        // What follows the first line is the driver's own stack.
        let message = value["message"]
            .as_str()
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        bail!("{error}: {message}");
    }
    Ok(value)
}
