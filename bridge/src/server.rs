//! What the bridge answers over HTTP, and who comes in by which port.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chive_node::ids::{Ed25519Id, OnionKey};
use chive_node::native::http::{self, Answer};
use chive_node::native::limits::{Gate, Place, Places};
use chive_node::native::process::Stop;
use chive_node::native::{Driver, listen, websocket};
use chive_node::node::BridgeLine;
use hyper::body::Incoming;
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, FORWARDED, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::metrics::{self, Counts};
use crate::options::Options;
use crate::page::Page;

/// What `/bridge.json` is made of.
#[derive(Debug)]
pub(crate) struct Bridges {
    pub(crate) ed25519: Ed25519Id,
    pub(crate) onion: OnionKey,
    pub(crate) public_url: Option<String>,
    pub(crate) others: Vec<String>,
    pub(crate) peers: Vec<String>,
}

/// What all connections of this bridge share.
#[derive(Debug)]
pub(crate) struct Server {
    page: Page,
    bridges: Bridges,
    sample: Option<String>,
    origins: Vec<String>,
    trust_proxy: bool,
    gate: Gate,
    driver: Driver,
    counts: Counts,
}

/// A connection's places within the limits, given back when the last holder drops them.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its drop")]
enum Held {
    Place(Place),
    Places(Places),
}

impl Server {
    pub(crate) fn new(
        options: &Options,
        page: Page,
        bridges: Bridges,
        sample: Option<serde_json::Value>,
        gate: Gate,
        driver: Driver,
    ) -> Self {
        Server {
            page,
            bridges,
            sample: sample.map(|sample| sample.to_string()),
            origins: options.origin.clone(),
            trust_proxy: options.trust_proxy.unwrap_or(false),
            gate,
            driver,
            counts: Counts::default(),
        }
    }

    /// Serves HTTP on `listener` until `stop`.
    pub(crate) async fn serve_http(self: Arc<Self>, listener: TcpListener, stop: Stop) {
        listen::accept(listener, stop.clone(), |tcp, peer| {
            let Some(places) = self.admit(peer) else {
                return;
            };
            tokio::spawn(
                self.clone()
                    .serve_connection(tcp, peer, places, stop.clone()),
            );
        })
        .await;
    }

    /// A connection's places, or none: the connection is then dropped. Behind a proxy, whose one
    /// address is everybody's, an address is counted when its request names it.
    fn admit(&self, peer: SocketAddr) -> Option<Arc<Held>> {
        let admitted = if self.trust_proxy {
            self.gate.admit().map(Held::Place)
        } else {
            self.gate.admit_from(peer.ip()).map(Held::Places)
        };
        admitted
            .map(Arc::new)
            .map_err(|refusal| self.driver.refused(peer.ip(), refusal))
            .ok()
    }

    async fn serve_connection(
        self: Arc<Self>,
        tcp: TcpStream,
        peer: SocketAddr,
        places: Arc<Held>,
        stop: Stop,
    ) {
        let server = &self;
        let places = &places;
        http::serve(tcp, stop, move |request| {
            let server = server.clone();
            let places = places.clone();
            async move {
                count(&server.counts.http_requests);
                server.answer(request, peer, places).await
            }
        })
        .await;
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        places: Arc<Held>,
    ) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return http::method_not_allowed();
        }
        match request.uri().path() {
            "/link" => self.link(request, peer, places),
            "/bridge.json" => match self.bridge_json(request.headers()) {
                Some(json) => public_json(json),
                None => http::text(StatusCode::BAD_REQUEST, "the request names no host"),
            },
            "/sample.json" => match &self.sample {
                Some(sample) => public_json(sample.clone()),
                None => http::text(StatusCode::NOT_FOUND, "this bridge offers no sample"),
            },
            "/healthz" => match self.driver.call(|_, _| ()).await {
                Ok(()) => http::text(StatusCode::OK, "ok"),
                Err(stopped) => http::text(StatusCode::SERVICE_UNAVAILABLE, stopped.to_string()),
            },
            // Who asks through a proxy may be anybody, whatever the proxy's own address is.
            "/metrics"
                if peer.ip().to_canonical().is_loopback() && !forwarded(request.headers()) =>
            {
                http::body(StatusCode::OK, http::METRICS_TYPE, self.metrics().await)
            }
            "/metrics" => http::text(
                StatusCode::FORBIDDEN,
                "metrics are for this machine alone; the option --metrics serves them elsewhere",
            ),
            path => self.page.answer(path, request.headers()),
        }
    }

    /// `/link`: a tab's way in.
    fn link(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        places: Arc<Held>,
    ) -> Answer {
        if !self.allows_origin(request.headers()) {
            count(&self.counts.refused_origins);
            return http::text(
                StatusCode::FORBIDDEN,
                "this bridge takes links from other pages",
            );
        }
        let answer = match websocket::accept(&request) {
            Ok(answer) => answer,
            Err(error) => {
                let mut answer = http::text(error.status(), error.to_string());
                let headers = answer.headers_mut();
                headers.insert(
                    hyper::header::UPGRADE,
                    HeaderValue::from_static("websocket"),
                );
                return answer;
            }
        };
        let (client, of_client) = if self.trust_proxy {
            let client = forwarded_for(request.headers());
            let place = client.map(|client| self.gate.admit_address(client, Instant::now()));
            match place.transpose() {
                Ok(place) => (client, place),
                Err(refusal) => {
                    self.driver.refused(client.unwrap_or(peer.ip()), refusal);
                    return http::text(StatusCode::TOO_MANY_REQUESTS, refusal.to_string());
                }
            }
        } else {
            (Some(peer.ip()), None)
        };
        count(&self.counts.websockets);
        tokio::spawn(async move {
            if let Some(websocket) = http::upgraded(request).await {
                self.driver
                    .serve_websocket(websocket, client, (places, of_client))
                    .await;
            }
        });
        answer
    }

    fn allows_origin(&self, headers: &HeaderMap) -> bool {
        if self.origins.is_empty() {
            return true;
        }
        // Browsers always say from where; who is no browser can say what it likes anyway.
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        origin.is_none_or(|origin| self.origins.iter().any(|allowed| allowed == origin))
    }

    /// `{"bridges": [this bridge as the browser reached it, others…], "peers": [this bridge by
    /// WebRTC…]}`.
    fn bridge_json(&self, headers: &HeaderMap) -> Option<String> {
        let url = match &self.bridges.public_url {
            Some(url) => url.clone(),
            None => {
                let host = headers.get(HOST)?.to_str().ok()?;
                // Nothing but a host and a port: it is put back into a page's hands.
                let authority: Authority = host.parse().ok().filter(|_| !host.contains('@'))?;
                let secure = self.trust_proxy
                    && headers
                        .get("x-forwarded-proto")
                        .is_some_and(|proto| proto == "https");
                format!("{}://{authority}/link", if secure { "wss" } else { "ws" })
            }
        };
        let own = BridgeLine::WebSocket {
            url,
            ed25519: self.bridges.ed25519,
            onion: self.bridges.onion,
        };
        let mut bridges = vec![own.to_string()];
        bridges.extend(self.bridges.others.iter().cloned());
        let peers = &self.bridges.peers;
        Some(serde_json::json!({ "bridges": bridges, "peers": peers }).to_string())
    }

    /// The page of metrics; empty while the bridge stops.
    pub(crate) async fn metrics(&self) -> String {
        match self
            .driver
            .call(|node, _| (node.counters(), node.gauges()))
            .await
        {
            Ok((counters, gauges)) => metrics::render(&self.counts, &self.driver, counters, gauges),
            Err(_) => String::new(),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// JSON that other people's pages may read too.
fn public_json(json: String) -> Answer {
    let mut answer = http::body(StatusCode::OK, "application/json", json);
    answer
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

fn forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
        || headers
            .keys()
            .any(|name| name.as_str().starts_with("x-forwarded-"))
        || headers.contains_key("x-real-ip")
}

/// The last address in X-Forwarded-For: the one that our own proxy wrote, and saw.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()?
        .to_str()
        .ok()?;
    let last = last.rsplit(',').next()?.trim();
    let bare = last.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .ok()
        .or_else(|| last.parse::<SocketAddr>().ok().map(|address| address.ip()))
}
