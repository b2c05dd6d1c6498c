//! The machine that makes a link: one for each transport, either side, without I/O.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::authenticate::{Bound, Facts, RANDOM_LEN};
use super::certs::{self, LinkCerts, PeerCerts};
use super::{Binding, Expected, LinkError, Misuse, PeerFault, RouterIds, Side};
use crate::time::Instant;
use crate::wire::{
    AuthChallenge, AuthMethod, Authenticate, CELL_LEN, CellBody, CellDecoder, Certs, CircId,
    Command, NetAddress, Netinfo, Versions, write_body, write_cell,
};

/// The link protocols that we speak.
pub const LINK_PROTOCOLS: &[u16] = &[4, 5];
/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// The most bytes that a peer may send to make a link: several times what Tor's routers need.
/// The peer alone fills it; when it is full, the link ends.
pub const MAX_HANDSHAKE_BYTES: usize = 32 * 1024;
/// The most bytes that may wait while the host exports the TLS secret: an initiator that has
/// proven itself need not wait for us before it sends its first cells. The peer alone fills it;
/// when it is full, the link ends.
const MAX_WAITING_BYTES: usize = 256 * 1024;
/// On WebRTC and WebSockets each side's first message is at least this long, and by up to
/// [`PAD_SPREAD`] longer: past one MTU, so that no packet's length gives Tor's handshake away.
const PAD_TO: usize = 1_536;
const PAD_SPREAD: u16 = 512;
/// Of a variable-length cell before its body: circuit id, command, length.
const VAR_HEADER_LEN: usize = 7;

/// What a handshake begins with.
#[derive(Clone, Debug)]
pub struct HandshakeConfig {
    /// Which side we are.
    pub side: Side,
    /// What the host knows of the transport.
    pub binding: Binding,
    /// What we show of ourselves: a responder must; an initiator that shows nothing is a client.
    pub own: Option<Arc<LinkCerts>>,
    /// Whom the link is meant for.
    pub expected: Expected,
    /// Wall time, Unix seconds.
    pub unix_now: u64,
    /// The peer's address, told to it in NETINFO.
    pub peer_address: Option<IpAddr>,
    /// Our addresses, told to the peer in NETINFO if we are a router.
    pub own_addresses: Vec<IpAddr>,
    /// Random, and for this handshake only.
    pub random: [u8; 32],
}

/// What a handshake wants or has done.
#[derive(Clone, Debug)]
pub enum HandshakeEvent {
    /// The host must export 32 bytes of the TLS connection (RFC 5705) with the label
    /// [`super::EXPORT_LABEL`] and this context, and bring them by [`Handshake::handle_export`].
    NeedExport {
        /// The context.
        context: [u8; 32],
    },
    /// There is a link. What is left of the bytes belongs to it.
    Done(Box<Established>),
}

/// A link.
#[derive(Clone, Debug)]
pub struct Established {
    /// The link protocol.
    pub version: u16,
    /// Who the peer says it is; none of a client.
    pub peer: Option<RouterIds>,
    /// Whether the peer has proven that it is `peer`, and that what comes over this link comes
    /// from it: it has on TLS and WebRTC, it cannot on a WebSocket.
    ///
    /// A responder on a WebSocket does know that `peer` holds its keys and meant to reach this
    /// router in this very handshake: the proof names us and holds our challenge. It does not know
    /// who else reads along, for a proxy (or a bridge line that a stranger handed out, with our
    /// names and his address) can pass the handshake on as it is. He can then cut the link, which
    /// he could anyway, and open circuits of his own over it, as anybody may. He can hand over
    /// `peer`'s own descriptor, which he cannot make but may have got elsewhere, and then gets the
    /// introductions that are meant for `peer`: sealed to its onion key, so that he learns who
    /// asks for it, and can lose them. He cannot read `peer`'s circuits, which ntor protects from
    /// here to there, nor speak for it. So such a proof is good for taking its descriptor and
    /// finding it to introduce, and for nothing else: no CREATE_FAST, no EXTEND2 to it.
    pub peer_authenticated: bool,
    /// The peer's time, Unix seconds, if it tells it.
    pub peer_time: Option<u32>,
    /// Our address as the peer sees it: its word only.
    pub seen_as: Option<IpAddr>,
    /// The peer's addresses: its word only.
    pub peer_addresses: Vec<IpAddr>,
    /// To find the link's cells with.
    pub decoder: CellDecoder,
}

/// What is awaited.
#[derive(Debug)]
enum State {
    AwaitVersions,
    /// As initiator: the responder's certificates.
    AwaitCerts,
    /// As initiator.
    AwaitAuthChallenge {
        peer: PeerCerts,
    },
    /// As responder: a router's certificates or a client's NETINFO.
    AwaitCertsOrNetinfo,
    /// As responder: the host's secret, before AUTHENTICATE is read.
    AwaitExportToCheck {
        peer: PeerCerts,
    },
    /// As responder.
    AwaitAuthenticate {
        peer: PeerCerts,
        bound: Bound,
    },
    /// The last cell of the other side.
    AwaitNetinfo {
        peer: Option<PeerCerts>,
        challenge: Option<Challenged>,
    },
    /// As initiator: the host's secret, to make AUTHENTICATE with.
    AwaitExportToProve {
        peer: PeerCerts,
        s_log: [u8; 32],
        netinfo: Netinfo,
    },
    Done,
    Failed,
}

/// What an initiator that proves itself keeps of AUTH_CHALLENGE.
#[derive(Clone, Copy, Debug)]
struct Challenged {
    s_log: [u8; 32],
}

impl State {
    /// What should come now, for those who get something else.
    const fn awaited(&self) -> &'static str {
        match self {
            State::AwaitVersions => "VERSIONS",
            State::AwaitCerts => "CERTS",
            State::AwaitAuthChallenge { .. } => "AUTH_CHALLENGE",
            State::AwaitCertsOrNetinfo => "CERTS or NETINFO",
            State::AwaitAuthenticate { .. } => "AUTHENTICATE",
            State::AwaitNetinfo { .. } => "NETINFO",
            State::AwaitExportToCheck { .. }
            | State::AwaitExportToProve { .. }
            | State::Done
            | State::Failed => "nothing",
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Handshake {
    config: HandshakeConfig,
    state: State,
    decoder: CellDecoder,
    version: u16,
    deadline: Instant,
    /// How much of the peer's has been read.
    received_len: usize,
    /// Over what the peer has sent, as AUTHENTICATE wants it.
    received: Sha256,
    /// Over what we have sent, as AUTHENTICATE wants it.
    sent: Sha256,
    transmit: BytesMut,
    event: Option<HandshakeEvent>,
}

impl Handshake {
    /// Begins a handshake on a transport that is open.
    pub fn new(now: Instant, config: HandshakeConfig) -> Result<Self, Misuse> {
        if config.side == Side::Responder {
            let own = config.own.as_ref().ok_or(Misuse::NoCerts)?;
            if let Binding::Tls { certificate_sha256 } = config.binding
                && own.tls_certificate_sha256() != Some(certificate_sha256)
            {
                return Err(Misuse::OtherTlsCertificate);
            }
        }
        let mut handshake = Handshake {
            config,
            state: State::AwaitVersions,
            decoder: CellDecoder::new(),
            version: 0,
            deadline: now + HANDSHAKE_TIMEOUT,
            received_len: 0,
            received: Sha256::new(),
            sent: Sha256::new(),
            transmit: BytesMut::new(),
            event: None,
        };
        if handshake.config.side == Side::Initiator {
            handshake.send(&Versions {
                versions: LINK_PROTOCOLS.to_vec(),
            })?;
            if let Some(padding) = handshake.padding(0) {
                // In whichever version: the header of this cell is the same in all that we speak.
                handshake.sent.update(&padding);
                handshake.transmit.unsplit(padding);
            }
        }
        Ok(handshake)
    }

    /// What the transport brought. What is left in `bytes` is yet to be brought again: part of a
    /// cell, what comes after the handshake, or what waits for the host's secret.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &mut BytesMut) -> Result<(), LinkError> {
        let result = self.read(now, bytes);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// The secret that [`HandshakeEvent::NeedExport`] asked for. Bytes that were left waiting are
    /// to be brought again after it.
    pub fn handle_export(&mut self, _now: Instant, tls_secrets: [u8; 32]) -> Result<(), LinkError> {
        let Binding::Tls { certificate_sha256 } = self.config.binding else {
            return Err(Misuse::NotAwaited.into());
        };
        let bound = Bound::Tls {
            s_certificate: certificate_sha256,
            secrets: tls_secrets,
        };
        match std::mem::replace(&mut self.state, State::Failed) {
            State::AwaitExportToCheck { peer } => {
                self.state = State::AwaitAuthenticate { peer, bound };
                Ok(())
            }
            State::AwaitExportToProve {
                peer,
                s_log,
                netinfo,
            } => self.prove(peer, s_log, bound, netinfo),
            state => {
                self.state = state;
                Err(Misuse::NotAwaited.into())
            }
        }
    }

    /// Ends a handshake that takes too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        match self.poll_timeout() {
            Some((deadline, _)) if deadline <= now => {
                self.state = State::Failed;
                Err(PeerFault::Timeout.into())
            }
            _ => Ok(()),
        }
    }

    /// When to call [`Handshake::handle_timeout`], and why.
    pub const fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Done | State::Failed => None,
            _ => Some((self.deadline, "the link's handshake")),
        }
    }

    /// What is to be sent.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.transmit.is_empty() {
            None
        } else {
            Some(self.transmit.split().freeze())
        }
    }

    /// What has happened.
    pub const fn poll_event(&mut self) -> Option<HandshakeEvent> {
        self.event.take()
    }

    fn read(&mut self, now: Instant, bytes: &mut BytesMut) -> Result<(), LinkError> {
        self.handle_timeout(now)?;
        loop {
            match self.state {
                State::Done | State::Failed => return Ok(()),
                State::AwaitExportToCheck { .. } | State::AwaitExportToProve { .. } => {
                    let too_much = bytes.len() > MAX_WAITING_BYTES;
                    return if too_much {
                        Err(PeerFault::TooMuch.into())
                    } else {
                        Ok(())
                    };
                }
                _ => {}
            }
            let Some(len) = self.decoder.cell_len(bytes).map_err(PeerFault::NotTor)? else {
                return Ok(());
            };
            self.received_len = self.received_len.saturating_add(len);
            if self.received_len > MAX_HANDSHAKE_BYTES {
                return Err(PeerFault::TooMuch.into());
            }
            if bytes.len() < len {
                // It is counted when it is whole.
                self.received_len -= len;
                return Ok(());
            }
            let cell = bytes.split_to(len);
            self.read_cell(cell)?;
        }
    }

    fn read_cell(&mut self, mut cell: BytesMut) -> Result<(), LinkError> {
        // AUTHENTICATE is not of the log that it is about.
        let log_before = self.received.clone();
        self.received.update(&cell);
        let peeled = self.decoder.next(&mut cell).map_err(PeerFault::NotTor)?;
        let Some(cell) = peeled else { return Ok(()) };
        if cell.circ != CircId::LINK {
            return Err(PeerFault::Circuit.into());
        }
        if matches!(cell.command, Command::PADDING | Command::VPADDING) {
            return Ok(());
        }
        let state = std::mem::replace(&mut self.state, State::Failed);
        let awaited = state.awaited();
        self.state = match (state, cell.command) {
            (State::AwaitVersions, Command::VERSIONS) => self.read_versions(parse(&cell.body)?)?,
            (State::AwaitCerts, Command::CERTS) => {
                let peer = self.check_certs(&parse(&cell.body)?, Side::Responder)?;
                State::AwaitAuthChallenge { peer }
            }
            (State::AwaitAuthChallenge { peer }, Command::AUTH_CHALLENGE) => {
                let challenge = self.read_challenge(&parse(&cell.body)?)?;
                State::AwaitNetinfo {
                    peer: Some(peer),
                    challenge,
                }
            }
            (State::AwaitCertsOrNetinfo, Command::CERTS) => {
                let peer = self.check_certs(&parse(&cell.body)?, Side::Initiator)?;
                if let Some(bound) = self.bound_by_certificates() {
                    State::AwaitAuthenticate { peer, bound }
                } else {
                    self.event = Some(HandshakeEvent::NeedExport {
                        context: peer.rsa_sha256,
                    });
                    State::AwaitExportToCheck { peer }
                }
            }
            (State::AwaitAuthenticate { peer, bound }, Command::AUTHENTICATE) => {
                let c_log = log_before.finalize().into();
                self.check_proof(&parse(&cell.body)?, &peer, c_log, bound)?;
                State::AwaitNetinfo {
                    peer: Some(peer),
                    challenge: None,
                }
            }
            (State::AwaitCertsOrNetinfo, Command::NETINFO) => {
                self.establish(None, parse(&cell.body)?);
                return Ok(());
            }
            (State::AwaitNetinfo { peer, challenge }, Command::NETINFO) => {
                return self.read_netinfo(peer, challenge, parse(&cell.body)?);
            }
            (_, command) => return Err(PeerFault::Unexpected { command, awaited }.into()),
        };
        Ok(())
    }

    fn read_versions(&mut self, versions: Versions) -> Result<State, LinkError> {
        self.version = versions
            .best_shared(LINK_PROTOCOLS)
            .ok_or(PeerFault::NoSharedVersion)?;
        self.decoder.negotiated();
        if self.config.side == Side::Initiator {
            return Ok(State::AwaitCerts);
        }
        let own = self.config.own.clone().ok_or(Misuse::NoCerts)?;
        self.send(&Versions {
            versions: LINK_PROTOCOLS.to_vec(),
        })?;
        self.send(&own.cell(Side::Responder, &self.config.binding))?;
        self.send(&AuthChallenge {
            challenge: self.config.random,
            methods: vec![self.method()],
        })?;
        // The proof's log ends with AUTH_CHALLENGE; NETINFO ends the message.
        if let Some(padding) = self.padding(CELL_LEN) {
            self.transmit.unsplit(padding);
        }
        self.send_netinfo()?;
        Ok(State::AwaitCertsOrNetinfo)
    }

    fn check_certs(&self, certs: &Certs, side: Side) -> Result<PeerCerts, LinkError> {
        let peer = certs::check(certs, side, &self.config.binding, self.config.unix_now)?;
        if !self.config.expected.allows(&peer.ids) {
            return Err(PeerFault::OtherRouter { found: peer.ids }.into());
        }
        Ok(peer)
    }

    fn read_challenge(&self, challenge: &AuthChallenge) -> Result<Option<Challenged>, LinkError> {
        if self.config.own.is_none() {
            return Ok(None);
        }
        if !challenge.methods.contains(&self.method()) {
            return Err(PeerFault::NoSharedMethod.into());
        }
        Ok(Some(Challenged {
            s_log: self.received.clone().finalize().into(),
        }))
    }

    fn check_proof(
        &self,
        proof: &Authenticate,
        peer: &PeerCerts,
        c_log: [u8; 32],
        bound: Bound,
    ) -> Result<(), LinkError> {
        let own = self.config.own.as_ref().ok_or(Misuse::NoCerts)?;
        let auth_key = peer.auth_key.ok_or(PeerFault::Proof)?;
        let facts = Facts {
            c_rsa_sha256: peer.rsa_sha256,
            s_rsa_sha256: *own.rsa_sha256(),
            c_ed25519: peer.ids.ed25519,
            s_ed25519: own.ids().ed25519,
            s_log: self.sent.clone().finalize().into(),
            c_log,
            bound,
        };
        Ok(facts.check(proof, &auth_key)?)
    }

    /// Sends the proof of who we are, once CERTS is sent, and ends the handshake.
    fn prove(
        &mut self,
        peer: PeerCerts,
        s_log: [u8; 32],
        bound: Bound,
        netinfo: Netinfo,
    ) -> Result<(), LinkError> {
        let own = self.config.own.clone().ok_or(Misuse::NoCerts)?;
        let facts = Facts {
            c_rsa_sha256: *own.rsa_sha256(),
            s_rsa_sha256: peer.rsa_sha256,
            c_ed25519: own.ids().ed25519,
            s_ed25519: peer.ids.ed25519,
            s_log,
            c_log: self.sent.clone().finalize().into(),
            bound,
        };
        let (random, _) = self.random();
        self.send(&facts.prove(own.auth_key(), &random))?;
        self.send_netinfo()?;
        self.establish(Some(peer), netinfo);
        Ok(())
    }

    fn read_netinfo(
        &mut self,
        peer: Option<PeerCerts>,
        challenge: Option<Challenged>,
        netinfo: Netinfo,
    ) -> Result<(), LinkError> {
        if let (Some(peer), Some(Challenged { s_log }), Some(own)) =
            (peer, challenge, self.config.own.clone())
        {
            self.send(&own.cell(Side::Initiator, &self.config.binding))?;
            if let Some(bound) = self.bound_by_certificates() {
                return self.prove(peer, s_log, bound, netinfo);
            }
            self.event = Some(HandshakeEvent::NeedExport {
                context: *own.rsa_sha256(),
            });
            self.state = State::AwaitExportToProve {
                peer,
                s_log,
                netinfo,
            };
            return Ok(());
        }
        if self.config.side == Side::Initiator {
            self.send_netinfo()?;
        }
        self.establish(peer, netinfo);
        Ok(())
    }

    fn establish(&mut self, peer: Option<PeerCerts>, netinfo: Netinfo) {
        let ip = |address: &NetAddress| address.ip().filter(|ip| !ip.is_unspecified());
        self.state = State::Done;
        self.event = Some(HandshakeEvent::Done(Box::new(Established {
            version: self.version,
            peer: peer.map(|peer| peer.ids),
            peer_authenticated: peer.is_some() && self.config.binding != Binding::WebSocket,
            peer_time: if netinfo.timestamp == 0 {
                None
            } else {
                Some(netinfo.timestamp)
            },
            seen_as: ip(&netinfo.other_address),
            peer_addresses: netinfo.own_addresses.iter().filter_map(ip).collect(),
            decoder: self.decoder.clone(),
        })));
    }

    const fn is_tls(&self) -> bool {
        matches!(self.config.binding, Binding::Tls { .. })
    }

    /// How an initiator proves itself on this transport.
    const fn method(&self) -> AuthMethod {
        if self.is_tls() {
            AuthMethod::ED25519_SHA256_RFC5705
        } else {
            AuthMethod::ED25519_SHA256_DTLS
        }
    }

    /// What a proof is bound to where it needs no secret of TLS.
    const fn bound_by_certificates(&self) -> Option<Bound> {
        let (own, peer) = match self.config.binding {
            Binding::Tls { .. } => return None,
            Binding::WebRtc {
                own_sha256,
                peer_sha256,
            } => (own_sha256, peer_sha256),
            Binding::WebSocket => ([0; 32], [0; 32]),
        };
        let (c_certificate, s_certificate) = match self.config.side {
            Side::Initiator => (own, peer),
            Side::Responder => (peer, own),
        };
        Some(Bound::Dtls {
            c_certificate,
            s_certificate,
        })
    }

    /// The random bytes, as an initiator uses them: in its proof, and to choose a length.
    const fn random(&self) -> ([u8; RANDOM_LEN], u16) {
        let [proof @ .., one, other, _, _, _, _, _, _] = self.config.random;
        (proof, u16::from_be_bytes([one, other]))
    }

    /// VPADDING that makes a first message long, where it is one of ours alone; `more` bytes follow
    /// it.
    fn padding(&self, more: usize) -> Option<BytesMut> {
        if self.is_tls() {
            return None;
        }
        let (_, spread) = self.random();
        let len = PAD_TO + usize::from(spread % PAD_SPREAD);
        let len = len.saturating_sub(self.transmit.len() + VAR_HEADER_LEN + more);
        let mut cell = BytesMut::new();
        write_cell(&mut cell, CircId::LINK, Command::VPADDING, &vec![0; len]).ok()?;
        Some(cell)
    }

    /// Sends NETINFO; it is not of the log that AUTHENTICATE is about.
    fn send_netinfo(&mut self) -> Result<(), Misuse> {
        // A client tells neither its time, by which it could be told from others, nor addresses;
        // no more does a tab, which is a router that nobody dials.
        let is_router =
            self.config.own.is_some() && (self.is_tls() || !self.config.own_addresses.is_empty());
        let addresses = self
            .config
            .own_addresses
            .iter()
            .copied()
            .filter(|_| is_router);
        let peer_address = self
            .config
            .peer_address
            .unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let netinfo = Netinfo {
            timestamp: if is_router {
                u32::try_from(self.config.unix_now).unwrap_or(0)
            } else {
                0
            },
            other_address: NetAddress::Ip(peer_address),
            own_addresses: addresses.map(NetAddress::Ip).collect(),
        };
        Ok(write_body(&mut self.transmit, CircId::LINK, &netinfo)?)
    }

    /// Sends a cell of the log that AUTHENTICATE is about.
    fn send<B: CellBody>(&mut self, body: &B) -> Result<(), Misuse> {
        let mut cell = BytesMut::new();
        write_body(&mut cell, CircId::LINK, body)?;
        self.sent.update(&cell);
        self.transmit.unsplit(cell);
        Ok(())
    }
}

fn parse<B: CellBody>(body: &[u8]) -> Result<B, PeerFault> {
    B::from_cell(body).map_err(|error| PeerFault::Malformed {
        command: B::COMMAND,
        error,
    })
}
