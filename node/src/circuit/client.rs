//! A circuit that this node built: telescoping, layers, windows.
//!
//! tor-spec, "Circuit management". The machine makes and takes cell bodies; which link carries
//! them, and what the streams at the circuit's end mean, is its owner's.

use std::net::SocketAddr;
use std::sync::Arc;

use rand_core::CryptoRng;

use crate::circuit::CircuitFault;
use crate::circuit::flow::{FixedWindow, FlowControl};
use crate::crypto::ntor::{FastClient, KeyMaterial, NtorClient};
use crate::crypto::relay::{BODY_LEN, Body, ClientLayer, Tag, Tor1};
use crate::ids::{Ed25519Id, OnionKey, RsaId, StreamId};
use crate::wire::{
    CellBody, Command, Create2, CreateFast, Created2, CreatedFast, EncodeError, Extend2,
    HandshakeType, LinkSpecifier, RelayMessage, Writer, encode_relay,
};

/// RELAY_EARLY cells that a circuit may carry away from its client: tor-spec, "EXTEND and
/// EXTENDED cells".
pub const MAX_RELAY_EARLY: u8 = 8;

/// What a client must know of a router to extend a circuit to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// Tor's fingerprint.
    pub rsa: RsaId,
    /// Its identity.
    pub ed25519: Ed25519Id,
    /// What its ntor proves.
    pub onion: OnionKey,
    /// Where its OR port is. May be empty: then it must be introduced, or linked to already.
    pub addresses: Vec<SocketAddr>,
    /// SHA-256 of the DTLS certificate that it shows on UDP at the same addresses, if it does.
    pub dtls: Option<[u8; 32]>,
    /// Who introduces it.
    pub introducers: Vec<RsaId>,
}

/// How the first hop is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstHop {
    /// The link itself encrypts to the first hop's proven identity: CREATE_FAST is enough.
    Fast,
    /// It does not (any WebSocket): ntor, as for every other hop.
    Ntor,
}

/// What a handshake's answer led to.
#[derive(Debug)]
pub enum Step {
    /// The circuit grew; this cell makes it grow further.
    Send(Command, Box<Body>),
    /// Every hop stands.
    Open,
}

enum Pending {
    Fast(FastClient),
    Ntor(NtorClient),
}

/// The client's end of a circuit.
pub struct ClientCircuit {
    path: Vec<Arc<Router>>,
    layers: Vec<Box<dyn ClientLayer>>,
    pending: Option<Pending>,
    early_left: u8,
    flow: Box<dyn FlowControl>,
    next_stream: u16,
}

impl ClientCircuit {
    /// Begins a circuit along `path`, which is not empty; answers the first cell's command and
    /// body.
    pub fn new<R: CryptoRng>(
        path: Vec<Arc<Router>>,
        first: FirstHop,
        rng: &mut R,
    ) -> Option<(Self, Command, Body)> {
        let entry = path.first()?;
        let (pending, command, body) = match first {
            FirstHop::Fast => {
                let (client, key_material) = FastClient::new(rng);
                let body = body_of(&CreateFast { key_material }).ok()?;
                (Pending::Fast(client), CreateFast::COMMAND, body)
            }
            FirstHop::Ntor => {
                let (client, skin) = NtorClient::new(entry.rsa, entry.onion, rng);
                let create = Create2 {
                    handshake_type: HandshakeType::NTOR,
                    data: skin.to_vec(),
                };
                (
                    Pending::Ntor(client),
                    Create2::COMMAND,
                    body_of(&create).ok()?,
                )
            }
        };
        let circuit = ClientCircuit {
            path,
            layers: Vec::new(),
            pending: Some(pending),
            early_left: MAX_RELAY_EARLY,
            flow: Box::new(FixedWindow::default()),
            next_stream: 0,
        };
        Some((circuit, command, body))
    }

    /// The routers on the way, nearest first.
    pub fn path(&self) -> &[Arc<Router>] {
        &self.path
    }

    /// Whether every hop stands.
    pub fn is_open(&self) -> bool {
        self.layers.len() == self.path.len()
    }

    /// The hops that stand.
    pub fn hops(&self) -> usize {
        self.layers.len()
    }

    /// The circuit's flow control, at its last hop.
    pub fn flow(&mut self) -> &mut dyn FlowControl {
        &mut *self.flow
    }

    /// Whether flow control lets one more counted cell go.
    pub fn can_send(&self) -> bool {
        self.flow.can_send()
    }

    /// A number for a new stream. They go round; a circuit lives too short to meet itself.
    pub fn allocate_stream(&mut self) -> StreamId {
        self.next_stream = (self.next_stream.wrapping_add(1) % StreamId::FIRST_BACKWARD).max(1);
        StreamId(self.next_stream)
    }

    /// The first hop answered.
    pub fn handle_created<R: CryptoRng>(
        &mut self,
        command: Command,
        body: &Body,
        rng: &mut R,
    ) -> Result<Step, CircuitFault> {
        let keys = match (self.pending.take(), command) {
            (Some(Pending::Fast(client)), Command::CREATED_FAST) => {
                let created = CreatedFast::from_cell(body)?;
                client.finish(&created.key_material, &created.derivative)?
            }
            (Some(Pending::Ntor(client)), Command::CREATED2) if self.layers.is_empty() => {
                client.finish(&Created2::from_cell(body)?.data)?
            }
            _ => return Err(CircuitFault::OutOfOrder),
        };
        self.grow(&keys, rng)
    }

    /// The last hop that stands extended the circuit.
    pub fn handle_extended<R: CryptoRng>(
        &mut self,
        hop: usize,
        data: &[u8],
        rng: &mut R,
    ) -> Result<Step, CircuitFault> {
        match self.pending.take() {
            Some(Pending::Ntor(client)) if hop + 1 == self.layers.len() => {
                let keys = client.finish(data)?;
                self.grow(&keys, rng)
            }
            _ => Err(CircuitFault::OutOfOrder),
        }
    }

    fn grow<R: CryptoRng>(
        &mut self,
        keys: &KeyMaterial,
        rng: &mut R,
    ) -> Result<Step, CircuitFault> {
        self.layers.push(Box::new(Tor1::new(keys)));
        let Some(next) = self.path.get(self.layers.len()).cloned() else {
            return Ok(Step::Open);
        };
        let (client, skin) = NtorClient::new(next.rsa, next.onion, rng);
        self.pending = Some(Pending::Ntor(client));
        let mut specifiers: Vec<LinkSpecifier> = next
            .addresses
            .iter()
            .copied()
            .map(LinkSpecifier::address)
            .collect();
        // tor-spec, "EXTEND2": address first, then both identities.
        specifiers.push(LinkSpecifier::RsaId(next.rsa));
        specifiers.push(LinkSpecifier::Ed25519Id(next.ed25519));
        specifiers.extend(next.dtls.map(LinkSpecifier::Dtls));
        let introducers = next.introducers.iter().copied();
        specifiers.extend(introducers.map(LinkSpecifier::Introducer));
        let extend = RelayMessage::Extend2(Extend2 {
            specifiers,
            handshake_type: HandshakeType::NTOR,
            data: skin.to_vec(),
        });
        let mut body = Box::new([0; BODY_LEN]);
        encode_relay(&mut body, None, &extend)?;
        let last = self.layers.len() - 1;
        let (command, _) = self.seal(last, true, &mut body)?;
        Ok(Step::Send(command, body))
    }

    /// Encrypts a plain body for `hop`. Answers the command to send it with, and its digest.
    pub fn seal(
        &mut self,
        hop: usize,
        early: bool,
        body: &mut Body,
    ) -> Result<(Command, Tag), CircuitFault> {
        let (last, nearer) = self
            .layers
            .get_mut(..=hop)
            .and_then(<[_]>::split_last_mut)
            .ok_or(CircuitFault::OutOfOrder)?;
        let command = if early {
            self.early_left = self
                .early_left
                .checked_sub(1)
                .ok_or(CircuitFault::TooManyEarly)?;
            Command::RELAY_EARLY
        } else {
            Command::RELAY
        };
        let tag = last.originate(body);
        for layer in nearer.iter_mut().rev() {
            layer.forward(body);
        }
        Ok((command, tag))
    }

    /// Decrypts a cell that came back. Answers the hop that it is from, and its digest.
    pub fn open(&mut self, body: &mut Body) -> Result<(usize, Tag), CircuitFault> {
        for (hop, layer) in self.layers.iter_mut().enumerate() {
            if let Some(tag) = layer.backward(body) {
                return Ok((hop, tag));
            }
        }
        // tor-spec, "Routing relay cells": unrecognised at the client, the circuit is torn down.
        Err(CircuitFault::Unrecognised)
    }

    /// The circuit has nothing to do for now: memory for speed is given back.
    pub fn rest(&mut self) {
        self.layers.iter_mut().for_each(|layer| layer.rest());
    }
}

/// A cell's body, with zeros to its end.
pub(crate) fn body_of<T: CellBody>(value: &T) -> Result<Body, EncodeError> {
    let mut body = [0; BODY_LEN];
    Writer::new(&mut body).write(value)?;
    Ok(body)
}
