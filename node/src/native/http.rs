//! A small HTTP/1.1 server, for a bridge's page and for metrics.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::debug;

use super::process::Stop;
use super::websocket::WebSocket;
use super::{connect, listen};

/// An answer of ours.
pub type Answer = Response<Full<Bytes>>;

/// A request's head must be here within this, and the next request after the last answer too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection that only fetches is closed after this, however slowly it takes its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);

/// A request's head is this long at most; it is hyper's least, too.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Answers the requests of one connection by `handle` until it ends or `stop` says so.
///
/// After an answer with status 101 the connection belongs to whoever waits for the request's
/// upgrade; see [`upgraded`].
pub async fn serve<H, F>(tcp: TcpStream, mut stop: Stop, handle: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    if let Err(error) = connect::set_options(&tcp) {
        debug!(%error, "socket options");
    }
    let service = service_fn(|request| {
        let answer = handle(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(tcp), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            served = connection.as_mut() => served,
            () = stop.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "an HTTP connection broke"),
        Err(_) => debug!("an HTTP connection lasted too long"),
    }
}

/// The WebSocket that `request` was upgraded to, once the answer with status 101 is out.
pub async fn upgraded(request: Request<Incoming>) -> Option<WebSocket> {
    let upgraded = hyper::upgrade::on(request).await.ok()?;
    // The socket itself, without hyper's layers: an idle link then holds no buffer of theirs.
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some(WebSocket::server(parts.io.into_inner(), parts.read_buf))
}

/// An answer of `status` and a line of text.
pub fn text(status: StatusCode, line: impl Into<String>) -> Answer {
    let mut line = line.into();
    line.push('\n');
    body(status, "text/plain; charset=utf-8", line)
}

/// An answer that no cache keeps.
pub fn body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// The answer to a method other than GET and HEAD.
pub fn method_not_allowed() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

/// The type of Prometheus's text format.
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves what `render` gives at `/metrics`, and nothing else, until `stop` says so. For a port
/// that only the operator reaches: it has no limit on connections but this one.
pub async fn serve_metrics<F>(
    listener: TcpListener,
    stop: Stop,
    render: impl Fn() -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = String> + Send,
{
    /// Connections at once; whoever asks for metrics needs one.
    const MAX_CONNECTIONS: usize = 16;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    listen::accept(listener, stop.clone(), |tcp, _: SocketAddr| {
        let Ok(place) = places.clone().try_acquire_owned() else {
            return;
        };
        let (stop, render) = (stop.clone(), render.clone());
        tokio::spawn(async move {
            let render = &render;
            serve(tcp, stop, |request: Request<Incoming>| async move {
                match (request.method(), request.uri().path()) {
                    (&Method::GET, "/metrics") => {
                        body(StatusCode::OK, METRICS_TYPE, render().await)
                    }
                    (&Method::GET, _) => text(StatusCode::NOT_FOUND, "metrics are at /metrics"),
                    _ => method_not_allowed(),
                }
            })
            .await;
            drop(place);
        });
    })
    .await;
}
