//! What is carried for others, at the rate that is allowed: cells that come faster wait here, each
//! circuit's in order, and go on in turns.
//!
//! A circuit's windows hold its client back while its cells wait, so that nobody who keeps to them
//! loses a cell; the node's own circuits never wait.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::crypto::relay::Body;
use crate::ids::LinkId;
use crate::node::Node;
use crate::node::queue::MAX_CIRCUIT_CELLS;
use crate::node::timers::Wake;
use crate::time::Instant;
use crate::wire::{CELL_LEN, CircId, Command};

/// What may go at once after nothing went for as long.
const BURST: Duration = Duration::from_millis(100);
/// While cells wait, those of so much time go together: a wake-up for each would cost more than
/// they do.
const TURN: Duration = Duration::from_millis(20);
/// As much as goes in this time waits already: no further circuit is taken.
const BEHIND: Duration = Duration::from_secs(2);

/// One direction of a circuit: the link that its cells leave by, and its number there.
type Way = (LinkId, CircId);

/// Cells of others that wait for their time.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// The cells of each circuit, [`MAX_CIRCUIT_CELLS`] at most. Its far end fills it; a circuit
    /// that passes it dies. All count for [`crate::node::Limits::queued_bytes`].
    waiting: BTreeMap<Way, VecDeque<(Command, Box<Body>)>>,
    /// Whose turn is next: each way that waits, once.
    turns: VecDeque<Way>,
    cells: usize,
    /// When what has gone would be paid off.
    paid: Instant,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Throttle {
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            cells: 0,
            paid: now,
        }
    }

    /// Whether cells of a circuit wait here.
    pub(crate) fn holds(&self, link: LinkId, circ: CircId) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&(link, circ))
    }

    /// Whether so much waits that nobody new is to be carried.
    pub(crate) fn is_behind(&self, rate: Option<u64>) -> bool {
        rate.is_some_and(|rate| (self.cells as u64).saturating_mul(cost(rate)) > micros(BEHIND))
    }

    /// Forgets what waits for a circuit that is gone; answers how many bytes that was.
    pub(crate) fn forget(&mut self, link: LinkId, circ: CircId) -> usize {
        let Some(cells) = self.waiting.remove(&(link, circ)) else {
            return 0;
        };
        self.turns.retain(|way| *way != (link, circ));
        self.cells = self.cells.saturating_sub(cells.len());
        cells.len() * CELL_LEN
    }

    /// Whether a cell may go now; it is paid for if it may.
    fn pay(&mut self, now: Instant, rate: Option<u64>) -> bool {
        let Some(rate) = rate else {
            return true;
        };
        if self.paid > now {
            return false;
        }
        let earliest = micros(BURST).min(now.as_micros());
        let since = Instant::from_micros(now.as_micros() - earliest);
        self.paid = self.paid.max(since) + Duration::from_micros(cost(rate));
        true
    }

    /// Lets a cell wait. False if its circuit has too many here.
    fn push(&mut self, way: Way, command: Command, body: &Body) -> bool {
        let cells = self.waiting.entry(way).or_default();
        if cells.len() >= MAX_CIRCUIT_CELLS {
            return false;
        }
        if cells.is_empty() {
            self.turns.push_back(way);
        }
        cells.push_back((command, Box::new(*body)));
        self.cells += 1;
        true
    }

    /// Takes the cell whose turn it is.
    fn pop(&mut self) -> Option<(Way, Command, Box<Body>)> {
        let way = self.turns.pop_front()?;
        let cells = self.waiting.get_mut(&way)?;
        let (command, body) = cells.pop_front()?;
        if cells.is_empty() {
            self.waiting.remove(&way);
        } else {
            self.turns.push_back(way);
        }
        self.cells = self.cells.saturating_sub(1);
        Some((way, command, body))
    }
}

impl Node {
    /// Passes a cell of another's circuit on: now, or when the rate allows it. False if the circuit
    /// must die for it.
    #[must_use]
    pub(crate) fn carry_cell(
        &mut self,
        link: LinkId,
        circ: CircId,
        command: Command,
        body: &Body,
    ) -> bool {
        let rate = self.config.limits.carry.bytes_per_second;
        if self.throttle.turns.is_empty() && self.throttle.pay(self.now, rate) {
            return self.send_cell(link, circ, command, body);
        }
        self.hold_back(link, circ, command, body)
    }

    /// Lets a cell wait for its time. False if the circuit must die for it.
    #[must_use]
    pub(crate) fn hold_back(
        &mut self,
        link: LinkId,
        circ: CircId,
        command: Command,
        body: &Body,
    ) -> bool {
        if !self.throttle.push((link, circ), command, body) {
            return false;
        }
        if self.timers.at(Wake::Carry).is_none() {
            self.timers
                .set(Wake::Carry, self.throttle.paid.max(self.now) + TURN);
        }
        self.queued_bytes += CELL_LEN;
        self.queued_bytes <= self.config.limits.queued_bytes
    }

    /// Lets go on what the rate allows by now.
    pub(crate) fn carry_on(&mut self) {
        let rate = self.config.limits.carry.bytes_per_second;
        while !self.throttle.turns.is_empty() && self.throttle.pay(self.now, rate) {
            let Some(((link, circ), command, body)) = self.throttle.pop() else {
                break;
            };
            self.queued_bytes = self.queued_bytes.saturating_sub(CELL_LEN);
            // What of it waits still must not be passed by this one: it goes past the throttle.
            if !self.send_now(link, circ, command, &body) {
                self.end_circuit_on(link, circ);
            }
        }
        match self.throttle.turns.is_empty() {
            true => self.timers.clear(Wake::Carry),
            false => self
                .timers
                .set(Wake::Carry, self.throttle.paid.max(self.now) + TURN),
        }
    }
}

/// What one cell costs, microseconds.
fn cost(rate: u64) -> u64 {
    CELL_LEN as u64 * 1_000_000 / rate.max(1)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::relay::BODY_LEN;

    const RATE: u64 = 100 * CELL_LEN as u64;

    #[test]
    fn the_rate_is_held_and_a_pause_is_not_saved_up() {
        let mut throttle = Throttle::new(Instant::ZERO);
        let mut gone = 0;
        for millis in 0..10_000 {
            let now = Instant::from_micros(millis * 1000);
            while throttle.pay(now, Some(RATE)) {
                gone += 1;
            }
        }
        assert!((1_000..=1_001).contains(&gone), "{gone}");
        let later = Instant::from_micros(1_000_000_000);
        let mut burst = 0;
        while throttle.pay(later, Some(RATE)) {
            burst += 1;
        }
        assert!((10..=11).contains(&burst), "{burst}");
        assert!(throttle.pay(later, None), "without a rate all goes");
    }

    #[test]
    fn circuits_take_turns_and_each_keeps_its_order() {
        let mut throttle = Throttle::new(Instant::ZERO);
        let way = |circ| (LinkId(1), CircId(circ));
        let body = |first: u8| {
            let mut body = [0; BODY_LEN];
            body[0] = first;
            body
        };
        for n in 0..3 {
            assert!(throttle.push(way(1), Command::RELAY, &body(n)));
        }
        for n in 10..13 {
            assert!(throttle.push(way(2), Command::RELAY, &body(n)));
        }
        assert!(throttle.push(way(3), Command::RELAY, &body(20)));
        assert_eq!(throttle.forget(LinkId(1), CircId(3)), CELL_LEN);
        assert!(!throttle.holds(LinkId(1), CircId(3)));
        let order: Vec<(u32, u8)> = std::iter::from_fn(|| throttle.pop())
            .map(|((_, circ), _, body)| (circ.0, body[0]))
            .collect();
        assert_eq!(order, [(1, 0), (2, 10), (1, 1), (2, 11), (1, 2), (2, 12)]);
        assert!(!throttle.holds(LinkId(1), CircId(1)));
    }

    #[test]
    fn what_waits_is_bounded_and_keeps_newcomers_away() {
        let mut throttle = Throttle::new(Instant::ZERO);
        let body = [0; BODY_LEN];
        let way = (LinkId(1), CircId(1));
        assert!(!throttle.is_behind(Some(RATE)));
        assert!((0..MAX_CIRCUIT_CELLS).all(|_| throttle.push(way, Command::RELAY, &body)));
        assert!(!throttle.push(way, Command::RELAY, &body));
        assert!(throttle.is_behind(Some(RATE)));
        assert!(!throttle.is_behind(None));
        throttle.forget(way.0, way.1);
        assert!(!throttle.is_behind(Some(RATE)));
    }
}
