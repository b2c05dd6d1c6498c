//! A peer that keeps no rules: it speaks the link and the circuits' cryptography truly, and then
//! sends what the test likes.

use bytes::{Bytes, BytesMut};
use chacha20::ChaCha20Rng;
use chive_node::circuit::client::{ClientCircuit, FirstHop, Router, Step};
use chive_node::circuit::router::RouterCircuit;
use chive_node::crypto::ntor::ntor_server;
use chive_node::crypto::relay::{BODY_LEN, Body};
use chive_node::ids::{LinkId, StreamId};
use chive_node::link::{
    Binding, Expected, Handshake, HandshakeConfig, HandshakeEvent, Identity, LinkCerts, Side,
};
use chive_node::node::{Input, Node, Output};
use chive_node::time::Instant;
use chive_node::wire::{
    CellBody, CellDecoder, CircId, Command, Create2, Created2, RawCell, RelayMessage, encode_relay,
    split_relay, write_body, write_cell,
};
use rand_core::SeedableRng;
use std::sync::Arc;

/// Wall time of the tests, Unix seconds.
pub const UNIX_TIME: u64 = 1_700_000_000;

/// One end of a WebSocket link, whose other end is a [`Node`]'s.
pub struct RawLink {
    handshake: Handshake,
    decoder: Option<CellDecoder>,
    inbox: BytesMut,
    outbox: BytesMut,
    rng: ChaCha20Rng,
}

impl RawLink {
    /// A link's end that is nobody, as a tab's is.
    pub fn tab(seed: u8) -> Self {
        Self::new(Side::Initiator, None, seed)
    }

    /// A link's end that shows `identity`, as a bridge's does.
    pub fn bridge(identity: &Identity, seed: u8) -> Self {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let certs = LinkCerts::new(identity, None, UNIX_TIME, &mut rng).expect("certificates");
        Self::new(Side::Responder, Some(Arc::new(certs)), seed)
    }

    fn new(side: Side, own: Option<Arc<LinkCerts>>, seed: u8) -> Self {
        let config = HandshakeConfig {
            side,
            binding: Binding::WebSocket,
            own,
            expected: Expected::default(),
            unix_now: UNIX_TIME,
            peer_address: None,
            own_addresses: Vec::new(),
            random: [seed; 32],
        };
        RawLink {
            handshake: Handshake::new(Instant::ZERO, config).expect("a handshake"),
            decoder: None,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            rng: ChaCha20Rng::from_seed([seed ^ 0x77; 32]),
        }
    }

    /// Takes bytes from the node; answers the cells for circuits among them.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<RawCell> {
        self.inbox.extend_from_slice(bytes);
        if self.decoder.is_none() {
            self.handshake
                .handle_bytes(Instant::ZERO, &mut self.inbox)
                .expect("the node's handshake");
        }
        if let Some(HandshakeEvent::Done(established)) = self.handshake.poll_event() {
            self.decoder = Some(established.decoder.clone());
        }
        let mut cells = Vec::new();
        if let Some(decoder) = &self.decoder {
            while let Some(cell) = decoder.next(&mut self.inbox).expect("whole cells") {
                cells.push(cell);
            }
        }
        cells
    }

    /// Whether cells can be sent.
    pub fn is_open(&self) -> bool {
        self.decoder.is_some()
    }

    /// Puts in a cell.
    pub fn send(&mut self, circ: CircId, command: Command, body: &[u8]) {
        write_cell(&mut self.outbox, circ, command, body).expect("a cell");
    }

    /// Takes what is to go to the node.
    pub fn transmit(&mut self) -> Bytes {
        let mut bytes = BytesMut::new();
        while let Some(part) = self.handshake.poll_transmit() {
            bytes.extend_from_slice(&part);
        }
        bytes.extend_from_slice(&self.outbox.split());
        bytes.freeze()
    }

    /// Passes bytes between this end and the node's until neither has more. Answers the cells for
    /// circuits that came, and what else the node put out.
    pub fn exchange(
        &mut self,
        node: &mut Node,
        now: Instant,
        link: LinkId,
    ) -> (Vec<RawCell>, Vec<Output>) {
        let (mut cells, mut others) = (Vec::new(), Vec::new());
        loop {
            let bytes = self.transmit();
            let mut quiet = bytes.is_empty();
            if !quiet {
                let bytes = BytesMut::from(bytes);
                node.handle_input(now, Input::Received { link, bytes });
            }
            loop {
                match node.poll_output() {
                    Output::Transmit { link: to, bytes } if to == link => {
                        quiet = false;
                        cells.extend(self.receive(&bytes));
                        node.handle_input(now, Input::Buffered { link, bytes: 0 });
                    }
                    Output::Timeout(_) => break,
                    other => others.push(other),
                }
            }
            if quiet {
                return (cells, others);
            }
        }
    }

    /// Begins a circuit whose first hop is the node at the other end.
    pub fn begin(&mut self, circ: CircId, path: Vec<Arc<Router>>) -> ClientCircuit {
        let (machine, command, body) =
            ClientCircuit::new(path, FirstHop::Ntor, &mut self.rng).expect("a path");
        self.send(circ, command, &body);
        machine
    }

    /// Lets a circuit of ours take a cell; what it wants sent is put in. True once it is open.
    pub fn advance(&mut self, machine: &mut ClientCircuit, mut cell: RawCell) -> bool {
        let circ = cell.circ;
        let command = cell.command;
        let body: &mut Body = cell.fixed_body_mut().expect("a fixed cell");
        let step = match command {
            Command::CREATED2 => machine.handle_created(Command::CREATED2, body, &mut self.rng),
            _ => {
                let (hop, _) = machine.open(body).expect("recognised");
                let (header, data) = split_relay(body).expect("a relay message");
                match RelayMessage::decode(header.command, data).expect("a message") {
                    RelayMessage::Extended2(extended) => {
                        machine.handle_extended(hop, &extended.data, &mut self.rng)
                    }
                    other => panic!("{other:?} while the circuit is built"),
                }
            }
        };
        match step.expect("a step") {
            Step::Send(command, body) => {
                self.send(circ, command, &*body);
                false
            }
            Step::Open => true,
        }
    }

    /// Answers CREATE2 as the router `identity`.
    pub fn create(&mut self, identity: &Identity, cell: &RawCell) -> RouterCircuit {
        let create = Create2::from_cell(&cell.body).expect("CREATE2");
        let (keys, reply) = ntor_server(
            identity.ids().rsa,
            identity.onion_secret(),
            &create.data,
            &mut self.rng,
        )
        .expect("ntor");
        let created = Created2 {
            data: reply.to_vec(),
        };
        write_body(&mut self.outbox, cell.circ, &created).expect("CREATED2");
        RouterCircuit::new(&keys)
    }
}

/// A plain relay body.
pub fn relay_body(stream: Option<StreamId>, message: &RelayMessage<'_>) -> Body {
    let mut body = [0; BODY_LEN];
    encode_relay(&mut body, stream, message).expect("a relay message that fits");
    body
}
