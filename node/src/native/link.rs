//! One link's task: moves bytes between a transport and the link's [`Pipe`], both ways at once.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep};

use super::pipe::Pipe;
use super::stats::Stats;
use super::transport::Transport;

/// Rounds of writing and reading before other tasks of the worker have their turn.
const ROUNDS: usize = 8;

/// How long a link may stand still in its several ways.
#[derive(Clone, Copy, Debug)]
pub struct LinkTimes {
    /// A peer that takes none of the bytes that wait for it is gone after this.
    pub stalled: Duration,
    /// After this long without a byte from the peer a WebSocket is pinged; after twice as long it
    /// is closed. (TLS links have TCP's own keepalive.)
    pub silent: Duration,
    /// A link that is to close sends what is queued for this long at most.
    pub closing: Duration,
}

impl Default for LinkTimes {
    fn default() -> Self {
        LinkTimes {
            stalled: Duration::from_secs(60),
            silent: Duration::from_secs(45),
            closing: Duration::from_secs(5),
        }
    }
}

/// Runs until either side closes; the pipe then knows why.
pub(super) struct LinkTask<T> {
    pipe: Arc<Pipe>,
    transport: T,
    stats: Arc<Stats>,
    times: LinkTimes,
    pings: bool,
    writing: VecDeque<Bytes>,
    arrived: BytesMut,
    tick: Pin<Box<Sleep>>,
    last_received: Instant,
    /// Since when the socket takes nothing of what waits for it.
    stalled_since: Option<Instant>,
    pinged: bool,
    ending: Option<Ending>,
}

/// The link is over; what is left is to say goodbye.
struct Ending {
    why: String,
    until: Instant,
    /// The queue is to go out before.
    flush: bool,
}

impl<T: Transport> LinkTask<T> {
    /// `pings`: the transport has its own pings, and silence shall be broken by them.
    pub(super) fn new(
        pipe: Arc<Pipe>,
        transport: T,
        stats: Arc<Stats>,
        times: LinkTimes,
        pings: bool,
    ) -> Self {
        let now = Instant::now();
        LinkTask {
            pipe,
            transport,
            stats,
            times,
            pings,
            writing: VecDeque::new(),
            arrived: BytesMut::new(),
            tick: Box::pin(tokio::time::sleep_until(now + times.silent)),
            last_received: now,
            stalled_since: None,
            pinged: false,
            ending: None,
        }
    }

    fn end(&mut self, why: String, flush: bool) {
        if self.ending.is_none() {
            let until = Instant::now() + self.times.closing;
            self.ending = Some(Ending { why, until, flush });
            self.tick.as_mut().reset(until);
        }
    }

    /// Something moved, or nothing can.
    fn poll_round(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut moved = false;
        let work = self.pipe.work(cx, &mut self.writing);
        if let Some(context) = work.export {
            match self.transport.export(&context) {
                Ok(secret) => self.pipe.exported(secret),
                Err(error) => self.end(error.to_string(), false),
            }
        }
        match self.transport.poll_send(cx, &mut self.writing) {
            Poll::Ready(Ok(0)) => self.stalled_since = None,
            Poll::Ready(Ok(sent)) => {
                self.stalled_since = None;
                self.stats
                    .sent_bytes
                    .fetch_add(sent as u64, Ordering::Relaxed);
                self.pipe.wrote(sent);
                moved = true;
            }
            Poll::Ready(Err(error)) => self.end(name(&error), false),
            Poll::Pending => {
                if self.stalled_since.is_none() {
                    self.arm_stall(Instant::now());
                }
            }
        }
        if work.closing {
            self.end("closed by us".to_owned(), true);
        }
        if work.may_read && self.ending.is_none() {
            let end = match self.transport.poll_receive(cx, &mut self.arrived) {
                Poll::Ready(Ok(true)) => None,
                Poll::Ready(Ok(false)) => Some("closed by the peer".to_owned()),
                Poll::Ready(Err(error)) => Some(name(&error)),
                Poll::Pending => {
                    return if moved {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    };
                }
            };
            if !self.arrived.is_empty() {
                self.last_received = Instant::now();
                let arrived = self.arrived.len() as u64;
                self.stats
                    .received_bytes
                    .fetch_add(arrived, Ordering::Relaxed);
                self.pipe.deliver(&mut self.arrived);
            }
            if let Some(why) = end {
                self.end(why, false);
            }
            moved = true;
        }
        if moved || self.ending.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn arm_stall(&mut self, now: Instant) {
        self.stalled_since = Some(now);
        let at = now + self.times.stalled;
        if at < self.tick.deadline() {
            self.tick.as_mut().reset(at);
        }
    }

    /// The timer rang: which of its reasons is it?
    fn handle_tick(&mut self) {
        let now = Instant::now();
        if self
            .stalled_since
            .is_some_and(|since| now >= since + self.times.stalled)
        {
            return self.end("the peer takes no bytes any longer".to_owned(), false);
        }
        if self.transport.heard() {
            self.pinged = false;
        }
        if self.pings && now >= self.last_received + self.times.silent {
            if self.pinged {
                return self.end("the peer is silent".to_owned(), false);
            }
            // An answered ping is followed by the next one: what stands between, a proxy or a
            // NAT, shall see that this connection lives.
            self.transport.ping();
            self.pinged = true;
        }
        let next = match self.stalled_since {
            Some(since) => (since + self.times.stalled).min(now + self.times.silent),
            None => now + self.times.silent,
        };
        self.tick.as_mut().reset(next);
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let Some(ending) = &self.ending else {
            return Poll::Pending;
        };
        let late = self.tick.as_mut().poll(cx).is_ready() && Instant::now() >= ending.until;
        if !late {
            if ending.flush {
                while let Ok(sent) = ready!(self.transport.poll_send(cx, &mut self.writing)) {
                    self.pipe.work(cx, &mut self.writing);
                    if sent == 0 && self.writing.is_empty() {
                        break;
                    }
                    self.pipe.wrote(sent);
                }
            }
            // Whether the goodbye was heard makes no difference to anyone here.
            let _ = ready!(self.transport.poll_close(cx));
        }
        Poll::Ready(ending.why.clone())
    }
}

impl<T: Transport> Future for LinkTask<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..ROUNDS {
            if this.ending.is_some() {
                let why = ready!(this.poll_ending(cx));
                this.pipe.closed(why);
                return Poll::Ready(());
            }
            if this.tick.as_mut().poll(cx).is_ready() {
                this.handle_tick();
                continue;
            }
            ready!(this.poll_round(cx));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T> Drop for LinkTask<T> {
    /// However the task ends, the node hears of it.
    fn drop(&mut self) {
        self.pipe.closed("the link's task ended".to_owned());
    }
}

/// An error in words that name no address.
fn name(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "closed by the peer".to_owned(),
        io::ErrorKind::ConnectionReset => "reset by the peer".to_owned(),
        _ => error.to_string(),
    }
}
