//! A router's part of somebody else's circuit: one layer, and the counting that keeps it honest.
//!
//! tor-spec, "Routing relay cells". Which links the circuit joins is its owner's.

use crate::circuit::CircuitFault;
use crate::circuit::client::MAX_RELAY_EARLY;
use crate::circuit::flow::{FixedWindow, FlowControl};
use crate::crypto::ntor::KeyMaterial;
use crate::crypto::relay::{Body, RouterLayer, Tag, Tor1};
use crate::wire::Command;

/// What is to be done with a cell that came from the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inward {
    /// It is for this router; its digest, and whether it came as RELAY_EARLY.
    Ours(Tag, bool),
    /// It goes on to the next hop.
    Onward,
}

/// The layer, the window and the counters of one circuit at one router.
pub struct RouterCircuit {
    layer: Box<dyn RouterLayer>,
    flow: Box<dyn FlowControl>,
    early_seen: u8,
}

impl RouterCircuit {
    /// The circuit that a handshake's keys make.
    pub fn new(keys: &KeyMaterial) -> Self {
        RouterCircuit {
            layer: Box::new(Tor1::new(keys)),
            flow: Box::new(FixedWindow::default()),
            early_seen: 0,
        }
    }

    /// Takes this router's layer off a cell from the client's side, in place.
    pub fn handle_forward(
        &mut self,
        command: Command,
        body: &mut Body,
    ) -> Result<Inward, CircuitFault> {
        let early = command == Command::RELAY_EARLY;
        if early {
            // The count bounds a circuit's length: EXTEND2 travels in RELAY_EARLY alone.
            if self.early_seen >= MAX_RELAY_EARLY {
                return Err(CircuitFault::TooManyEarly);
            }
            self.early_seen += 1;
        }
        Ok(match self.layer.forward(body) {
            Some(tag) => Inward::Ours(tag, early),
            None => Inward::Onward,
        })
    }

    /// Adds this router's layer to a cell from the next hop, in place.
    pub fn handle_backward(
        &mut self,
        command: Command,
        body: &mut Body,
    ) -> Result<(), CircuitFault> {
        // RELAY_EARLY towards the client would mark it for an accomplice nearer to it.
        if command != Command::RELAY {
            return Err(CircuitFault::TooManyEarly);
        }
        self.layer.backward(body);
        Ok(())
    }

    /// Seals a plain body of this router's own for the client.
    pub fn seal(&mut self, body: &mut Body) -> Tag {
        self.layer.originate(body)
    }

    /// The circuit's flow control, where this router is its last hop.
    pub fn flow(&mut self) -> &mut dyn FlowControl {
        &mut *self.flow
    }

    /// Whether flow control lets one more counted cell go.
    pub fn can_send(&self) -> bool {
        self.flow.can_send()
    }

    /// The circuit has nothing to do for now: memory for speed is given back.
    pub fn rest(&mut self) {
        self.layer.rest();
    }
}
