//! RFC 6455's opening handshake, both sides of it.

use std::io;

use base64ct::{Base64, Encoding};
use bytes::BytesMut;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use rand_core::Rng;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::random;

/// An answer's head longer than this is not a WebSocket's.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Why a request does not open a WebSocket, and what to answer it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// It is a plain request to the WebSocket's address.
    #[error("this address is a WebSocket's: it takes an upgrade only")]
    NotAnUpgrade,
    /// It asks for another version than 13.
    #[error("this WebSocket speaks version 13")]
    Version,
    /// Its key is missing or not 16 bytes in base64.
    #[error("the WebSocket key is missing or malformed")]
    Key,
}

impl UpgradeError {
    /// The status that RFC 6455 and RFC 9110 have for it.
    pub fn status(self) -> StatusCode {
        match self {
            UpgradeError::NotAnUpgrade | UpgradeError::Version => StatusCode::UPGRADE_REQUIRED,
            UpgradeError::Key => StatusCode::BAD_REQUEST,
        }
    }
}

/// The answer that opens the WebSocket which `request` asks for; the caller then waits for
/// `hyper::upgrade::on(request)`.
pub fn accept<B, R: Default>(request: &Request<B>) -> Result<Response<R>, UpgradeError> {
    let headers = request.headers();
    if request.method() != Method::GET
        || !has_token(headers, &CONNECTION, "upgrade")
        || !has_token(headers, &UPGRADE, "websocket")
    {
        return Err(UpgradeError::NotAnUpgrade);
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(UpgradeError::Version);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok())
        .filter(|key| Base64::decode(key, &mut [0; 24]).is_ok_and(|bytes| bytes.len() == 16))
        .ok_or(UpgradeError::Key)?;
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(answer) = HeaderValue::from_str(&answer_to(key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, answer);
    }
    Ok(response)
}

/// Asks `host` for a WebSocket at `path`, and gives what came after the answer's head.
pub(super) async fn request(tcp: &mut TcpStream, host: &str, path: &str) -> io::Result<BytesMut> {
    let mut key = [0; 16];
    random::generator()?.fill_bytes(&mut key);
    let key = Base64::encode_string(&key);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await?;

    let mut answer = BytesMut::with_capacity(1024);
    let head = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break answer.split_to(end + 4);
        }
        if answer.len() > MAX_HEAD_BYTES {
            return Err(refused("its answer has no end"));
        }
        if tcp.read_buf(&mut answer).await? == 0 {
            return Err(refused("it closed the connection"));
        }
    };
    let head = std::str::from_utf8(&head).map_err(|_| refused("its answer is not HTTP"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(refused(&format!("it answered {status:?}")));
    }
    let accepted = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(SEC_WEBSOCKET_ACCEPT.as_str()))
        .is_some_and(|(_, value)| value.trim() == answer_to(&key));
    if !accepted {
        return Err(refused("its answer is to another key"));
    }
    Ok(answer)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionRefused,
        format!("no WebSocket there: {why}"),
    )
}

/// RFC 6455, 4.2.2: the proof that the key was read.
fn answer_to(key: &str) -> String {
    let mut digest = Sha1::new();
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    Base64::encode_string(&digest.finalize())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}
