//! Runs one [`Node`] on tokio: one task owns it, each link has a task of its own.
//!
//! The node's task sleeps until a link has something, a moment has come or the host calls. It
//! then puts in all that has gathered, and only when that is done takes out what the node has
//! to send: so cells of many circuits leave in one write, and waking costs little for each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{fmt, io};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, trace, warn};

use super::clock::Clock;
use super::connect;
use super::limits::{Gate, Refusal};
use super::link::{LinkTask, LinkTimes};
use super::listen;
use super::pipe::{Bell, MAX_OUTBOUND_BYTES, MAX_OUTBOUND_BYTES_IN_ALL, Pipe};
use super::process::Stop;
use super::stats::Stats;
use super::tls::{self, Tls};
use super::transport::Transport;
use super::webrtc::Opened;
use super::websocket::{self, WebSocket};
use crate::ids::LinkId;
use crate::link::Binding;
use crate::node::{Event, Input, Node, Output, Target};
use crate::ordb::ContentAnswer;
use crate::sensitive::Sensitive;
use crate::time::Instant;

/// Calls and answers of the host that wait for the node. The host fills it; when it is full, its
/// next call waits.
const MAX_COMMANDS: usize = 64;

/// Links whose bytes are put in before what came of it goes out, so that a thousand busy links
/// do not hold back the first one's answer.
const LINKS_A_TURN: usize = 32;

/// Commands of the host in one turn.
const COMMANDS_A_TURN: usize = 32;

/// How a driver treats its links.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// TLS for links to and from OR ports.
    pub tls: Tls,
    /// How long TCP, then TLS or WebSocket, may take.
    pub connect_timeout: Duration,
    /// How long a link may stand still.
    pub times: LinkTimes,
}

impl DriverOptions {
    /// The usual times.
    pub fn new(tls: Tls) -> Self {
        DriverOptions {
            tls,
            connect_timeout: Duration::from_secs(10),
            times: LinkTimes::default(),
        }
    }
}

/// The node's task is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// A running node, as its host holds it.
#[derive(Clone)]
pub struct Driver {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

struct Shared {
    options: DriverOptions,
    stats: Arc<Stats>,
    bell: Arc<Bell>,
}

type Call = Box<dyn FnOnce(&mut Node, Instant) + Send>;

enum Command {
    Accept {
        binding: Binding,
        peer: Option<IpAddr>,
        answer: oneshot::Sender<Option<Arc<Pipe>>>,
    },
    Input(Input),
    Call(Call),
    Stop {
        patience: Duration,
        answer: oneshot::Sender<()>,
    },
}

impl Driver {
    /// Starts the node's task on the runtime that this is called in. `clock` began when the node
    /// did. What the node wants of its host, except transports, goes to `on_event`, which runs in
    /// the node's task and must not wait for anything.
    pub fn start(
        node: Node,
        clock: Clock,
        options: DriverOptions,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Driver {
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let shared = Arc::new(Shared {
            options,
            stats: Arc::new(Stats::default()),
            bell: Arc::new(Bell::default()),
        });
        let (alive, all_gone) = mpsc::channel(1);
        let task = NodeTask {
            node,
            clock,
            shared: shared.clone(),
            pipes: BTreeMap::new(),
            on_event: Box::new(on_event),
            alive,
        };
        tokio::spawn(task.run(received, all_gone));
        Driver { commands, shared }
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    pub(super) fn shared_stats(&self) -> Arc<Stats> {
        self.shared.stats.clone()
    }

    /// The TLS that links have: its certificate is what the node's CERTS are bound to.
    pub fn tls(&self) -> &Tls {
        &self.shared.options.tls
    }

    /// Bytes that wait in all links' queues.
    pub fn queued_bytes(&self) -> usize {
        self.shared.bell.outbound_bytes.load(Ordering::Relaxed)
    }

    /// A TCP connection came to the OR port: makes the TLS link of it and runs it to its end.
    /// `permit` is dropped with the link.
    pub async fn serve_tls<P: Send>(&self, tcp: TcpStream, peer: SocketAddr, permit: P) {
        if let Err(error) = connect::set_options(&tcp) {
            debug!(%error, "socket options");
        }
        let options = &self.shared.options;
        let stream = match options.tls.accept(tcp, options.connect_timeout).await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(peer = %Sensitive(peer), %error, "no TLS on the OR port");
                return;
            }
        };
        let binding = Binding::Tls {
            certificate_sha256: options.tls.certificate_sha256(),
        };
        self.serve(stream, binding, Some(peer.ip()), false).await;
        drop(permit);
    }

    /// Serves the OR port on `listener` until `stop`, within what `gate` admits.
    pub async fn serve_or_port(self, listener: TcpListener, gate: Gate, stop: Stop) {
        listen::accept(listener, stop, |tcp, peer| {
            let places = match gate.admit_from(peer.ip()) {
                Ok(places) => places,
                Err(refusal) => return self.refused(peer.ip(), refusal),
            };
            let driver = self.clone();
            tokio::spawn(async move { driver.serve_tls(tcp, peer, places).await });
        })
        .await;
    }

    /// Counts a connection that is dropped for a limit.
    pub fn refused(&self, peer: IpAddr, refusal: Refusal) {
        self.stats()
            .refused_connections
            .fetch_add(1, Ordering::Relaxed);
        debug!(peer = %Sensitive(peer), %refusal, "refused");
    }

    /// A WebSocket was opened to us: makes the link of it and runs it to its end. `permit` is
    /// dropped with the link.
    pub async fn serve_websocket<P: Send>(
        &self,
        websocket: WebSocket,
        peer: Option<IpAddr>,
        permit: P,
    ) {
        self.serve(websocket, Binding::WebSocket, peer, true).await;
        drop(permit);
    }

    /// A data channel was opened to us: makes the link of it and runs it to its end.
    pub(super) async fn serve_webrtc_channel(&self, opened: Opened) {
        let Opened {
            channel,
            binding,
            peer,
            places,
        } = opened;
        self.serve(channel, binding, Some(peer), true).await;
        drop(places);
    }

    async fn serve(
        &self,
        transport: impl Transport,
        binding: Binding,
        peer: Option<IpAddr>,
        pings: bool,
    ) {
        let (answer, accepted) = oneshot::channel();
        if self
            .commands
            .send(Command::Accept {
                binding,
                peer,
                answer,
            })
            .await
            .is_err()
        {
            return;
        }
        // The node has as many links as it may, or is gone.
        let Ok(Some(pipe)) = accepted.await else {
            return;
        };
        let times = self.shared.options.times;
        LinkTask::new(pipe, transport, self.shared.stats.clone(), times, pings).await;
    }

    /// Answers [`Event::Content`]. Waits while the node has too much to do.
    pub async fn answer(&self, answer: ContentAnswer) -> Result<(), Stopped> {
        self.commands
            .send(Command::Input(Input::Content(answer)))
            .await
            .map_err(|_| Stopped)
    }

    /// Runs `call` on the node and gives what it gave.
    pub async fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Node, Instant) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (answer, answered) = oneshot::channel();
        let call = Box::new(move |node: &mut Node, now| {
            // The caller may have stopped waiting.
            let _ = answer.send(call(node, now));
        });
        self.commands
            .send(Command::Call(call))
            .await
            .map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Takes no links any longer, lets what is queued go out for as long as `patience`, and ends
    /// the node's task.
    pub async fn stop(&self, patience: Duration) {
        let (answer, stopped) = oneshot::channel();
        if self
            .commands
            .send(Command::Stop { patience, answer })
            .await
            .is_ok()
        {
            let _ = stopped.await;
        }
    }
}

/// The one owner of the node.
struct NodeTask {
    node: Node,
    clock: Clock,
    shared: Arc<Shared>,
    pipes: BTreeMap<LinkId, Arc<Pipe>>,
    on_event: Box<dyn FnMut(Event) + Send>,
    /// Each link's task holds one; when all are dropped, all links are done.
    alive: mpsc::Sender<()>,
}

impl NodeTask {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, all_gone: mpsc::Receiver<()>) {
        let mut timeout = Instant::ZERO;
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut received = Vec::with_capacity(COMMANDS_A_TURN);
        loop {
            self.shared.stats.wakeups.fetch_add(1, Ordering::Relaxed);
            let mut turns_left = LINKS_A_TURN;
            while turns_left > 0
                && let Some(pipe) = self.shared.bell.answer()
            {
                self.visit(&pipe);
                turns_left -= 1;
            }
            for command in received.drain(..) {
                if let Some((patience, answer)) = self.obey(command) {
                    self.stop(patience, all_gone).await;
                    let _ = answer.send(());
                    return;
                }
            }
            let now = self.clock.now();
            if now >= timeout {
                self.node.handle_input(now, Input::Timeout);
            }
            let wanted = self.drain();
            if wanted != timeout {
                timeout = wanted;
                timer.as_mut().reset(self.clock.deadline(timeout));
            }
            if turns_left == 0 {
                // Others of this worker, the links among them, before the next turn.
                tokio::task::yield_now().await;
                while received.len() < COMMANDS_A_TURN
                    && let Ok(command) = commands.try_recv()
                {
                    received.push(command);
                }
                continue;
            }
            tokio::select! {
                () = self.shared.bell.wait() => {}
                () = &mut timer => {}
                count = commands.recv_many(&mut received, COMMANDS_A_TURN) => {
                    if count == 0 {
                        // No host any longer.
                        self.stop(Duration::ZERO, all_gone).await;
                        return;
                    }
                }
            }
        }
    }

    /// Puts in what a link has.
    fn visit(&mut self, pipe: &Arc<Pipe>) {
        let now = self.clock.now();
        let link = pipe.id;
        let taken = pipe.take();
        if !self.pipes.contains_key(&link) {
            // The node hung up on it.
            return;
        }
        if let Some((binding, peer)) = taken.connected {
            self.node.handle_input(
                now,
                Input::Connected {
                    link,
                    binding,
                    peer,
                },
            );
        }
        if let Some(secret) = taken.exported {
            self.node
                .handle_input(now, Input::Exported { link, secret });
        }
        if !taken.inbound.is_empty() {
            self.node.handle_input(
                now,
                Input::Received {
                    link,
                    bytes: taken.inbound,
                },
            );
        }
        if let Some(bytes) = taken.buffered {
            self.node.handle_input(now, Input::Buffered { link, bytes });
        }
        if let Some(why) = taken.closed {
            debug!(link = link.0, %why, "link closed");
            self.forget(link);
            self.node.handle_input(now, Input::Closed { link, why });
        }
    }

    fn obey(&mut self, command: Command) -> Option<(Duration, oneshot::Sender<()>)> {
        let now = self.clock.now();
        match command {
            Command::Accept {
                binding,
                peer,
                answer,
            } => {
                let pipe = self.node.accept(now, binding, peer).map(|link| {
                    self.shared
                        .stats
                        .accepted_links
                        .fetch_add(1, Ordering::Relaxed);
                    self.new_pipe(link)
                });
                if let Err(Some(pipe)) = answer.send(pipe) {
                    pipe.closed("its host let it go".to_owned());
                }
            }
            Command::Input(input) => self.node.handle_input(now, input),
            Command::Call(call) => call(&mut self.node, now),
            Command::Stop { patience, answer } => return Some((patience, answer)),
        }
        None
    }

    /// Takes out all that the node has, and wakes the links that have something to send. Gives
    /// the moment at which the node wants to be called again.
    fn drain(&mut self) -> Instant {
        let mut dirty: Vec<Arc<Pipe>> = Vec::new();
        let timeout = loop {
            match self.node.poll_output() {
                Output::Transmit { link, bytes } => {
                    let Some(pipe) = self.pipes.get(&link) else {
                        continue;
                    };
                    if pipe.push(bytes) > MAX_OUTBOUND_BYTES {
                        warn!(link = link.0, "closing a link whose peer does not read");
                        self.shared
                            .stats
                            .overflowed_links
                            .fetch_add(1, Ordering::Relaxed);
                        pipe.close(true);
                    }
                    if dirty.last().is_none_or(|last| !Arc::ptr_eq(last, pipe)) {
                        dirty.push(pipe.clone());
                    }
                }
                Output::Event(event) => self.handle_event(event),
                Output::Timeout(at) => break at,
            }
        };
        if self.shared.bell.outbound_bytes.load(Ordering::Relaxed) > MAX_OUTBOUND_BYTES_IN_ALL {
            self.shed();
        }
        for pipe in dirty {
            pipe.wake();
        }
        timeout
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Dial { link, target } => self.dial(link, target),
            Event::HangUp { link, why } => {
                debug!(link = link.0, %why, "hanging up");
                if let Some(pipe) = self.forget(link) {
                    pipe.close(false);
                }
            }
            Event::Export { link, context } => {
                if let Some(pipe) = self.pipes.get(&link) {
                    pipe.export(context);
                }
            }
            event => (self.on_event)(event),
        }
    }

    fn dial(&mut self, link: LinkId, target: Target) {
        trace!(link = link.0, target = ?Sensitive(&target), "dialling");
        self.shared
            .stats
            .dialled_links
            .fetch_add(1, Ordering::Relaxed);
        let pipe = self.new_pipe(link);
        let shared = self.shared.clone();
        tokio::spawn(dial(shared, pipe, target));
    }

    fn new_pipe(&mut self, link: LinkId) -> Arc<Pipe> {
        let pipe = Arc::new(Pipe::new(
            link,
            self.shared.bell.clone(),
            self.alive.clone(),
        ));
        self.shared.stats.open_links.fetch_add(1, Ordering::Relaxed);
        self.pipes.insert(link, pipe.clone());
        pipe
    }

    fn forget(&mut self, link: LinkId) -> Option<Arc<Pipe>> {
        let pipe = self.pipes.remove(&link);
        if pipe.is_some() {
            self.shared.stats.open_links.fetch_sub(1, Ordering::Relaxed);
        }
        pipe
    }

    /// All queues together are over their limit: the longest goes.
    fn shed(&mut self) {
        let longest = self.pipes.values().max_by_key(|pipe| pipe.outbound_bytes());
        if let Some(pipe) = longest {
            warn!(
                link = pipe.id.0,
                "memory for queues is short: closing the link with the longest"
            );
            self.shared
                .stats
                .overflowed_links
                .fetch_add(1, Ordering::Relaxed);
            pipe.close(true);
        }
    }

    async fn stop(mut self, patience: Duration, mut all_gone: mpsc::Receiver<()>) {
        self.drain();
        for pipe in self.pipes.values() {
            pipe.close(false);
        }
        self.pipes.clear();
        drop(self.alive);
        // The bell may still hold pipes, and each pipe one `alive`.
        let shared = self.shared;
        let gone = async {
            loop {
                while shared.bell.answer().is_some() {}
                tokio::select! {
                    _ = all_gone.recv() => return,
                    () = shared.bell.wait() => {}
                }
            }
        };
        if tokio::time::timeout(patience, gone).await.is_err() {
            debug!("some links did not close in time");
        }
    }
}

/// Makes a transport to `target` and runs the link on it, or tells the node why not.
async fn dial(shared: Arc<Shared>, pipe: Arc<Pipe>, target: Target) {
    let times = shared.options.times;
    let stats = shared.stats.clone();
    let dialled = match target {
        Target::Tls { addresses } => match dial_tls(&shared.options, &addresses).await {
            Ok((stream, binding, peer)) => {
                pipe.connected(binding, Some(peer));
                LinkTask::new(pipe.clone(), stream, stats, times, false).await;
                Ok(())
            }
            Err(error) => Err(error),
        },
        // Transports::NATIVE says so to the node, which then does not ask.
        Target::WebRtc { .. } | Target::Offer | Target::Answer(_) => {
            return pipe.closed("a native node is dialled by WebRTC and does not dial".into());
        }
        Target::WebSocket { url } => match dial_websocket(&shared.options, &url).await {
            Ok(websocket) => {
                pipe.connected(Binding::WebSocket, websocket.peer());
                LinkTask::new(pipe.clone(), websocket, stats, times, true).await;
                Ok(())
            }
            Err(error) => Err(error),
        },
    };
    if let Err(error) = dialled {
        shared.stats.failed_dials.fetch_add(1, Ordering::Relaxed);
        pipe.closed(error.to_string());
    }
}

async fn dial_tls(
    options: &DriverOptions,
    addresses: &[SocketAddr],
) -> io::Result<(tls::Stream, Binding, IpAddr)> {
    let tcp = connect::connect(addresses, options.connect_timeout).await?;
    let peer = tcp.peer_addr()?.ip();
    let (stream, certificate_sha256) = options.tls.connect(tcp, options.connect_timeout).await?;
    Ok((stream, Binding::Tls { certificate_sha256 }, peer))
}

async fn dial_websocket(options: &DriverOptions, url: &str) -> io::Result<WebSocket> {
    tokio::time::timeout(options.connect_timeout, websocket::connect(url))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no WebSocket there in time"))?
}
