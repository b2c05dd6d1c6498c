//! The tab's host: drives a [`Node`] in a dedicated worker over WebSockets, data channels and
//! timers, and shows it to the page's JavaScript as [`Host`].

mod channel;
mod describe;
mod limits;
mod signal;
mod socket;
mod store;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use js_sys::{Function, Uint8Array};
use serde::Deserialize;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::ids::{LinkId, ReadId, SignatureId, TorrentId};
use crate::link::Identity;
use crate::node::{
    BridgeLine, Config, Event, HostKey, Input, Limits, Node, Output, Target, Transports,
};
use crate::ordb::{Demand, Read};
use crate::time::Instant;
use crate::torrent::{Magnet, TorrentFile};
use crate::wire::{Roles, Signal};
use channel::{Channel, DataChannel};
use socket::Socket;
use store::{Guest, Storage};

/// How soon a WebSocket that still holds bytes is looked at again: it does not say when it has
/// sent them.
const BUFFER_POLL_MS: f64 = 15.0;

/// What the page sets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    bridges: Vec<String>,
    /// Routers that are entered by WebRTC.
    #[serde(default)]
    peers: Vec<String>,
    /// Routers that earlier sessions began their circuits at.
    #[serde(default)]
    entries: Vec<String>,
    /// Whether addresses that only exist at home are dialled.
    #[serde(default)]
    allow_private: bool,
    #[serde(default = "default_hops")]
    hops: usize,
    memory_bytes: Option<usize>,
    max_metadata_bytes: Option<usize>,
    find_timeout_ms: Option<u64>,
    /// SHA-256 of the DTLS certificate that the page shows in WebRTC, in hex; none if it makes none.
    dtls_sha256: Option<String>,
    /// Whether this tab is a router for others.
    #[serde(default = "default_route")]
    route: bool,
    /// Its public keys, whose secret halves the browser holds; none if it has none.
    identity: Option<PublicKeys>,
}

/// In hex.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKeys {
    /// SubjectPublicKeyInfo.
    rsa: String,
    ed25519: String,
}

impl PublicKeys {
    fn identity(&self, onion_secret: [u8; 32]) -> Result<Arc<Identity>, JsError> {
        let wrong = || JsError::new("the identity's keys are wrong");
        let rsa = signal::bytes(&self.rsa).ok_or_else(wrong)?;
        let ed25519 = signal::from_hex(&self.ed25519).ok_or_else(wrong)?;
        Ok(Arc::new(Identity::hosted(&rsa, ed25519, onion_secret)?))
    }
}

fn default_route() -> bool {
    true
}

fn default_hops() -> usize {
    3
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &Function, delay_ms: f64) -> f64;
    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(timer: f64);
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// A node in a worker.
#[wasm_bindgen]
pub struct Host(Rc<RefCell<Inner>>);

struct Inner {
    node: Node,
    began_ms: f64,
    transports: BTreeMap<LinkId, Transport>,
    /// SHA-256 of the DTLS certificate that the page shows in WebRTC.
    dtls_sha256: Option<[u8; 32]>,
    /// Who this tab is for others, if it is anybody.
    id: Option<String>,
    /// What the page is to be told once the node is let go of.
    told: Vec<Value>,
    on_event: Function,
    /// The browser's timer, when it will fire, and what it calls.
    timer: Option<(f64, Instant)>,
    on_timer: Option<Closure<dyn FnMut()>>,
    closed: bool,
    /// What is kept for the next session; none before it is opened, or where nothing can be.
    storage: Option<Storage>,
    /// Where another tab has it.
    guest: Option<Guest>,
}

enum Transport {
    Socket(Socket),
    Channel(Channel),
}

impl Transport {
    /// Whether the browser holds bytes of it and does not say when it has sent them.
    fn must_be_watched(&self) -> bool {
        matches!(self, Transport::Socket(socket) if socket.holds())
    }

    /// Whether the node has not been told yet what the browser took.
    const fn is_unreported(&self) -> bool {
        matches!(self, Transport::Channel(channel) if channel.is_unreported())
    }
}

#[wasm_bindgen]
impl Host {
    /// Starts a node. `settings` is `{bridges, peers?, entries?, allow_private?, hops?, memory_bytes?, max_metadata_bytes?,
    /// find_timeout_ms?, dtls_sha256?, route?, identity?: {rsa, ed25519}}`, `seed` 64 bytes of `crypto.getRandomValues`;
    /// `on_event` is called with one object an event.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: JsValue, seed: &[u8], on_event: Function) -> Result<Host, JsError> {
        let text = js_sys::JSON::stringify(&settings)
            .ok()
            .and_then(|text| text.as_string())
            .ok_or_else(|| JsError::new("the settings must be an object"))?;
        let settings: Settings = serde_json::from_str(&text)
            .map_err(|error| JsError::new(&format!("the settings are wrong: {error}")))?;
        let (Some(&seed), Some(&onion), 64) = (
            seed.first_chunk::<32>(),
            seed.last_chunk::<32>(),
            seed.len(),
        ) else {
            return Err(JsError::new("the seed must be 64 random bytes"));
        };
        let config = config_from(&settings, onion)?;
        let dtls_sha256 = config.dtls_certificate_sha256;
        let id = config.identity.as_ref();
        let id = id.map(|identity| identity.ids().rsa.to_string());
        let inner = Inner {
            id,
            node: Node::new(config, seed, Instant::ZERO),
            began_ms: performance_now(),
            transports: BTreeMap::new(),
            dtls_sha256,
            told: Vec::new(),
            on_event,
            timer: None,
            on_timer: None,
            closed: false,
            storage: None,
            guest: None,
        };
        let inner = Rc::new(RefCell::new(inner));
        let weak = Rc::downgrade(&inner);
        inner.borrow_mut().on_timer = Some(Closure::new(move || {
            if let Some(inner) = weak.upgrade() {
                inner.borrow_mut().timer = None;
                handle(&inner, Input::Timeout);
            }
        }));
        drive(&inner);
        Ok(Host(inner))
    }

    /// Opens a magnet link or infohash; answers the torrent's number, which may be of one that is
    /// open already.
    pub fn open(&self, magnet: &str) -> Result<f64, JsError> {
        let magnet: Magnet = magnet.parse()?;
        let known = self.0.borrow().node.find_torrent(&magnet);
        known
            .map_or_else(|| self.with(|node, now| node.open_torrent(now, magnet)), Ok)
            .map(|id| id.0 as f64)
            .map_err(Into::into)
    }

    /// Opens a `.torrent` file's bytes; answers the torrent's number.
    pub fn open_torrent_file(&self, bytes: &[u8]) -> Result<f64, JsError> {
        let file = TorrentFile::parse(bytes)?;
        let known = self.0.borrow().node.find_torrent(&file.magnet);
        known
            .map_or_else(
                || self.with(|node, now| node.open_torrent_file(now, file)),
                Ok,
            )
            .map(|id| id.0 as f64)
            .map_err(Into::into)
    }

    /// Closes a torrent.
    pub fn close_torrent(&self, torrent: f64) {
        self.with(|node, now| node.close_torrent(now, TorrentId(torrent as u64)));
    }

    /// Opens a reader of the bytes `start..end` of a file; answers its number. `save` says that
    /// nobody waits for the bytes in time, as a player does.
    pub fn open_read(
        &self,
        torrent: f64,
        file: usize,
        start: f64,
        end: f64,
        save: bool,
    ) -> Result<f64, JsError> {
        let demand = if save { Demand::Save } else { Demand::Play };
        let range = start as u64..end as u64;
        self.with(|node, now| node.open_read(now, TorrentId(torrent as u64), file, range, demand))
            .map(|read| read.0 as f64)
            .map_err(Into::into)
    }

    /// The reader's next bytes, at most `max`; undefined if they are not there yet, null at the
    /// end.
    pub fn poll_read(&self, read: f64, max: usize) -> Result<JsValue, JsError> {
        let read = ReadId(read as u64);
        // A read gives at most a chunk at a time; the page is spared a call for each.
        let mut parts = Vec::new();
        let mut left = max;
        let last = self.with(|node, now| {
            loop {
                match node.poll_read(now, read, left) {
                    Read::Bytes(bytes) => {
                        left -= bytes.len();
                        parts.push(bytes);
                        if left == 0 {
                            return Read::Pending;
                        }
                    }
                    last => return last,
                }
            }
        });
        if !parts.is_empty() {
            let whole = Uint8Array::new_with_length((max - left) as u32);
            let mut at = 0;
            for part in parts {
                let end = at + part.len() as u32;
                whole.subarray(at, end).copy_from(&part);
                at = end;
            }
            return Ok(whole.into());
        }
        match last {
            Read::End => Ok(JsValue::NULL),
            Read::Failed => Err(JsError::new("the bytes cannot be had any more")),
            Read::Bytes(_) | Read::Pending => Ok(JsValue::UNDEFINED),
        }
    }

    /// Closes a reader.
    pub fn close_read(&self, read: f64) {
        self.with(|node, now| node.close_read(now, ReadId(read as u64)));
    }

    /// Takes the data channel of a connection that was asked for.
    pub fn rtc_channel(&self, link: f64, channel: DataChannel) {
        let link = LinkId(link as u64);
        let weak = Rc::downgrade(&self.0);
        // One whose link the node has given up by now is dropped, and the page knows.
        if let Some(Transport::Channel(waiting)) = self.0.borrow_mut().transports.get_mut(&link) {
            waiting.adopt(channel, link, &weak);
        }
    }

    /// What the browser says to the other side of a connection: `{form: 'offer' | 'answer' |
    /// 'candidate', …}`.
    pub fn rtc_signal(&self, link: f64, signal: JsValue) {
        let link = LinkId(link as u64);
        let text = js_sys::JSON::stringify(&signal).ok();
        let signal = text.and_then(|text| signal::from_page(&text.as_string()?));
        if let Some(signal) = signal {
            handle(&self.0, Input::Signal { link, signal });
        }
    }

    /// A connection could not be made, or is lost.
    pub fn rtc_closed(&self, link: f64, why: &str) {
        channel::closed(&self.0, LinkId(link as u64), why);
    }

    /// The signature that a `sign` event asked for; undefined if the browser made none.
    pub fn signed(&self, request: f64, signature: Option<Vec<u8>>) {
        let request = SignatureId(request as u64);
        handle(&self.0, Input::Signed { request, signature });
    }

    /// Bridges, circuits, torrents and bytes, as a plain object.
    pub fn status(&self) -> JsValue {
        let inner = self.0.borrow();
        let mut status = describe::status(&inner.node);
        status["id"] = inner.id.clone().into();
        if let Some(storage) = &inner.storage {
            storage.describe(&mut status);
        }
        if let Some(guest) = &inner.guest {
            guest.describe(&mut status);
        }
        to_js(&status)
    }

    /// Closes all links. The host is of no use afterwards.
    pub fn close(&self) {
        let mut inner = self.0.borrow_mut();
        inner.closed = true;
        inner.transports.clear();
        if let Some((timer, _)) = inner.timer.take() {
            clear_timeout(timer);
        }
    }

    /// Calls the node and does what it then wants.
    fn with<T>(&self, call: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let result = {
            let mut inner = self.0.borrow_mut();
            let now = inner.now();
            call(&mut inner.node, now)
        };
        drive(&self.0);
        result
    }
}

fn config_from(settings: &Settings, onion_secret: [u8; 32]) -> Result<Config, JsError> {
    let bridges: Vec<BridgeLine> = settings
        .bridges
        .iter()
        .chain(&settings.peers)
        .map(|line| line.parse())
        .collect::<Result<_, _>>()?;
    if bridges.is_empty() {
        return Err(JsError::new(
            "no bridge is known: open this page from a bridge, or give a bridge's line",
        ));
    }
    if !(2..=5).contains(&settings.hops) {
        return Err(JsError::new("hops must be from 2 to 5"));
    }
    let mut limits = Limits::default();
    if let Some(bytes) = settings.memory_bytes {
        limits.store_bytes = bytes;
    }
    if let Some(bytes) = settings.max_metadata_bytes {
        limits.metadata_bytes = bytes;
    }
    if let Some(ms) = settings.find_timeout_ms {
        limits.find_timeout = std::time::Duration::from_millis(ms);
    }
    let dtls_certificate_sha256 = match &settings.dtls_sha256 {
        Some(text) => Some(
            signal::from_hex(text).ok_or_else(|| JsError::new("the DTLS fingerprint is wrong"))?,
        ),
        None => None,
    };
    let identity = match &settings.identity {
        Some(keys) if settings.route => Some(keys.identity(onion_secret)?),
        _ => None,
    };
    Ok(Config {
        // A tab carries for others, and serves what it has, as soon as it has a name.
        roles: if identity.is_some() {
            Roles::ROUTER.with(Roles::ORDB)
        } else {
            Roles(0)
        },
        identity,
        tls_certificate_sha256: None,
        dtls_certificate_sha256,
        // What was kept is only worth something where it is understood.
        entries: settings
            .entries
            .iter()
            .filter_map(|line| line.parse().ok())
            .collect(),
        transports: Transports {
            webrtc: dtls_certificate_sha256.is_some(),
            ..Transports::TAB
        },
        addresses: Vec::new(),
        // Whoever enters at home is at home, and so are those whom it meets there.
        allow_private: settings.allow_private || bridges.iter().any(BridgeLine::is_at_home),
        bridges,
        hops: settings.hops,
        asks: true,
        unix_time: (js_sys::Date::now() / 1000.0) as u64,
        limits,
    })
}

impl Inner {
    /// Microseconds since the node began. `performance.now()` never goes back.
    fn now(&self) -> Instant {
        Instant::from_micros(((performance_now() - self.began_ms) * 1000.0) as u64)
    }

    /// Tells the node what its sockets still hold. Answers whether any holds something.
    fn report_buffers(&mut self) -> bool {
        let now = self.now();
        let mut held = false;
        for (link, transport) in &mut self.transports {
            let change = match transport {
                Transport::Socket(socket) => {
                    let change = socket.buffered_change();
                    held |= socket.holds();
                    change
                }
                Transport::Channel(channel) => channel.buffered_change(),
            };
            if let Some(bytes) = change {
                let link = *link;
                self.node.handle_input(now, Input::Buffered { link, bytes });
            }
        }
        held
    }

    /// Does one thing that the node wants.
    fn perform(&mut self, event: Event, inner: &Rc<RefCell<Inner>>) {
        match event {
            Event::Dial { link, target } => {
                if let Err(why) = self.dial(link, target, inner) {
                    let now = self.now();
                    self.node.handle_input(now, Input::Closed { link, why });
                }
            }
            Event::HangUp { link, .. } => {
                if let Some(Transport::Channel(_)) = self.transports.remove(&link) {
                    self.ask_page("close", link);
                }
            }
            Event::Signal { link, signal } => {
                let Some(Transport::Channel(channel)) = self.transports.get_mut(&link) else {
                    return;
                };
                if let Signal::Answer(answer) = &signal {
                    channel.answered(answer.certificate_sha256);
                }
                if let Some(signal) = signal::to_page(&signal) {
                    self.told.push(
                        json!({ "type": "rtc", "rtc": "signal", "link": link.0, "signal": signal }),
                    );
                }
            }
            Event::Sign {
                request,
                key,
                message,
            } => {
                let key = match key {
                    HostKey::Rsa => "rsa",
                    HostKey::Ed25519 => "ed25519",
                };
                self.told.push(json!({
                    "type": "sign",
                    "request": request.0,
                    "key": key,
                    "message": signal::hex(&message),
                }));
            }
            Event::Store(want) => {
                for answer in Storage::handle(inner, self, want) {
                    let now = self.now();
                    self.node.handle_input(now, Input::Store(answer));
                }
            }
            event => {
                if let Event::Metadata { torrent, metainfo } = &event
                    && let Some(storage) = &mut self.storage
                {
                    storage.register(&self.node, *torrent, metainfo);
                }
                self.told.extend(describe::event(&self.node, &event));
            }
        }
    }

    /// Begins a transport, or says why there can be none.
    fn dial(
        &mut self,
        link: LinkId,
        target: Target,
        inner: &Rc<RefCell<Inner>>,
    ) -> Result<(), String> {
        let transport = match target {
            Target::WebSocket { url } => {
                Transport::Socket(Socket::open(&url, link, Rc::downgrade(inner))?)
            }
            Target::Tls { .. } => {
                return Err("a tab cannot dial an OR port: give a ws:// or wss:// line".into());
            }
            Target::WebRtc {
                addresses,
                certificate_sha256,
            } => {
                let addresses: Vec<Value> = addresses
                    .iter()
                    .map(|address| json!({ "host": address.ip().to_string(), "port": address.port() }))
                    .collect();
                let channel = self.channel(Some(certificate_sha256))?;
                self.told.push(json!({
                    "type": "rtc",
                    "rtc": "dial",
                    "link": link.0,
                    "addresses": addresses,
                    "certificate_sha256": signal::hex(&certificate_sha256),
                }));
                channel
            }
            Target::Offer => {
                let channel = self.channel(None)?;
                self.ask_page("offer", link);
                channel
            }
            Target::Answer(offer) => {
                let channel = self.channel(Some(offer.certificate_sha256))?;
                let description = signal::description("offer", &offer);
                self.told.push(json!({
                    "type": "rtc",
                    "rtc": "answer",
                    "link": link.0,
                    "description": description,
                }));
                channel
            }
        };
        self.transports.insert(link, transport);
        Ok(())
    }

    /// A connection that the page will make.
    fn channel(&self, peer_sha256: Option<[u8; 32]>) -> Result<Transport, String> {
        let own = self.dtls_sha256.ok_or("this browser has no WebRTC")?;
        Ok(Transport::Channel(Channel::new(own, peer_sha256)))
    }

    /// Tells the page something of a connection that needs no more words.
    fn ask_page(&mut self, rtc: &str, link: LinkId) {
        self.told
            .push(json!({ "type": "rtc", "rtc": rtc, "link": link.0 }));
    }

    /// Sets the browser's timer for `at`, unless it is set so already.
    fn set_timer(&mut self, at: Instant) {
        if self.timer.is_some_and(|(_, set)| set == at) {
            return;
        }
        if let Some((timer, _)) = self.timer.take() {
            clear_timeout(timer);
        }
        if at == Instant::FAR_FUTURE || self.closed {
            return;
        }
        if let Some(on_timer) = &self.on_timer {
            let wait_ms = at.saturating_since(self.now()).as_micros() as f64 / 1000.0;
            // setTimeout's delay is a signed 32-bit number of milliseconds.
            let wait_ms = wait_ms.ceil().min(f64::from(i32::MAX));
            let callback: &Function = on_timer.as_ref().unchecked_ref();
            self.timer = Some((set_timeout(callback, wait_ms), at));
        }
    }
}

/// Puts something into the node and does what it then wants.
fn handle(inner: &Rc<RefCell<Inner>>, input: Input) {
    {
        let mut inner = inner.borrow_mut();
        if inner.closed {
            return;
        }
        let now = inner.now();
        inner.node.handle_input(now, input);
    }
    drive(inner);
}

/// Does what the node wants, until it wants nothing more for now.
fn drive(inner: &Rc<RefCell<Inner>>) {
    // Events are told after the node is let go of: the page may call back at once.
    let told = {
        let mut guard = inner.borrow_mut();
        let this = &mut *guard;
        if this.closed {
            return;
        }
        let (held, at) = loop {
            let held = this.report_buffers();
            let at = loop {
                match this.node.poll_output() {
                    Output::Transmit { link, bytes } => match this.transports.get_mut(&link) {
                        Some(Transport::Socket(socket)) => socket.send(&bytes),
                        Some(Transport::Channel(channel)) => channel.send(&bytes),
                        None => {}
                    },
                    Output::Event(event) => this.perform(event, inner),
                    Output::Timeout(at) => break at,
                }
            };
            // What a channel took at once may make room for what waits.
            if !this.transports.values().any(Transport::is_unreported) {
                break (held, at);
            }
        };
        let held = held || this.transports.values().any(Transport::must_be_watched);
        if this.storage.as_mut().is_some_and(Storage::take_file_reads) {
            this.told.push(json!({ "type": "file-reads" }));
        }
        if this.guest.as_mut().is_some_and(Guest::take_news) {
            this.told.push(json!({ "type": "guest-wants" }));
        }
        let at = if held {
            let soon = std::time::Duration::from_micros((BUFFER_POLL_MS * 1000.0) as u64);
            at.min(this.now() + soon)
        } else {
            at
        };
        this.set_timer(at);
        std::mem::take(&mut this.told)
    };
    if told.is_empty() {
        return;
    }
    let on_event = inner.borrow().on_event.clone();
    for event in told {
        // What the page's code throws is the page's to see; the node goes on.
        if let Err(error) = on_event.call1(&JsValue::NULL, &to_js(&event)) {
            wasm_bindgen::throw_val(error);
        }
    }
}

/// A plain object of what was described.
fn to_js(value: &serde_json::Value) -> JsValue {
    js_sys::JSON::parse(&value.to_string()).unwrap_or(JsValue::NULL)
}
