//! As much of the WebDriver protocol as we use: JSON over HTTP on loopback.
//!
//! The crates for it bring eighty others along.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
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

    /// Ends something, such as `window`; what is left of it.
    pub(crate) async fn delete(&self, command: &str) -> Result<Value> {
        let path = format!("/session/{}/{command}", self.id);
        request(self.port, "DELETE", &path, None).await
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

/// One request on a connection of its own.
async fn request(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    stream.write_all(request.as_bytes()).await?;
    let mut length = None;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse()?);
        }
        line.clear();
    }
    // Chromium's driver does not close the connection, whatever it is asked.
    let mut answer = vec![0; length.context("an answer without a length")?];
    stream.read_exact(&mut answer).await?;
    let mut answer: Value = serde_json::from_slice(&answer)?;
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
