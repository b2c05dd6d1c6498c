//! What is sent of what ORDBs ask of this holder, and others of this ORDB.
//!
//! While the rate up holds blocks back, both take turns, by how many circuits wait at each: what a
//! node holds itself does not come before what it passes on, nor behind it.

use crate::crypto::relay::BODY_LEN;
use crate::ids::CircuitId;
use crate::node::Node;
use crate::node::timers::Wake;
use crate::wire::{CELL_LEN, RelayCommand, RelayHeader};

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serves {
    /// What is held here, backward over own circuits.
    Holder,
    /// What others ask of this ORDB.
    Ordb,
}

impl Serves {
    const fn other(self) -> Self {
        match self {
            Serves::Holder => Serves::Ordb,
            Serves::Ordb => Serves::Holder,
        }
    }
}

/// Whose turn it is, and for how many cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    serves: Serves,
    cells: usize,
}

impl Turn {
    pub(crate) const fn new() -> Self {
        Turn {
            serves: Serves::Ordb,
            cells: 1,
        }
    }
}

impl Node {
    /// Sends what may be sent now, as windows, links and the rate allow.
    pub(crate) fn pump_serving(&mut self) {
        // One that has nothing new to do is left alone, unless the other waits for its turn.
        let both = self.rates.up.is_limited();
        let holder = std::mem::take(&mut self.holder_dirty) || both;
        let ordb = std::mem::take(&mut self.server_dirty) || both;
        loop {
            // What was sent makes room for more to be wanted.
            while ordb && let Some(want) = self.server.poll_want() {
                self.handle_want(want);
            }
            let (first, second) = (self.turn.serves, self.turn.serves.other());
            let is_meant = |serves| match serves {
                Serves::Holder => holder,
                Serves::Ordb => ordb,
            };
            let sent = [first, second]
                .into_iter()
                .any(|serves| is_meant(serves) && self.serve_cell(serves));
            if !sent {
                break;
            }
        }
        let opens_at = self.rates.up.opens_at();
        let is_held_back = !self.rates.up.is_open(self.now);
        let (at, _) = self.holder.poll_timeout();
        let waits = is_held_back && self.holder.has_waiting();
        let at = if waits { at.min(opens_at) } else { at };
        self.timers.set(Wake::Holder, at);
        let (at, _) = self.server.poll_timeout();
        let waits = is_held_back && self.server.has_waiting();
        let at = if waits { at.min(opens_at) } else { at };
        self.timers.set(Wake::Server, at);
    }

    /// Sends one cell of a server's. Whether there was one that could go.
    fn serve_cell(&mut self, serves: Serves) -> bool {
        let mut body = [0; BODY_LEN];
        let holds_back = !self.rates.up.is_open(self.now);
        let sent = match serves {
            Serves::Holder => {
                self.answer_wants();
                self.holder.hold_blocks(holds_back);
                let (circuits, links) = (&self.circuits, &self.links);
                let can_send = |key: u64| {
                    let own = circuits.get(&CircuitId(key));
                    own.is_some_and(|own| own.can_send(links))
                };
                self.holder.poll_transmit(can_send, &mut body)
            }
            Serves::Ordb => {
                self.server.hold_blocks(holds_back);
                let (routed, links) = (&self.routed, &self.links);
                let can_send = |key: u64| {
                    let routed = routed.get(&key);
                    routed.is_some_and(|routed| routed.can_send_back(links))
                };
                self.server.poll_transmit(can_send, &mut body)
            }
        };
        let Some(to) = sent else {
            return false;
        };
        let counted = RelayHeader::of(&body).command == RelayCommand::DB_DATA;
        match serves {
            Serves::Holder => self.send_held(CircuitId(to.circuit), &mut body, counted),
            Serves::Ordb => self.send_body_back(to.circuit, &mut body, counted),
        }
        if counted {
            self.rates.up.take(self.now, CELL_LEN as u64);
            self.end_turn(serves);
        }
        true
    }

    /// A block's cell was sent by one of the two: after its turn it is the other's.
    fn end_turn(&mut self, serves: Serves) {
        if self.turn.serves != serves {
            return;
        }
        self.turn.cells = self.turn.cells.saturating_sub(1);
        if self.turn.cells == 0 {
            let serves = serves.other();
            let waiting = match serves {
                Serves::Holder => self.holder.waiting_circuits(),
                Serves::Ordb => self.server.waiting_circuits(),
            };
            let cells = waiting.max(1);
            self.turn = Turn { serves, cells };
        }
    }
}
