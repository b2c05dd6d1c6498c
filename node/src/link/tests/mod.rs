mod faults;
mod identity;
mod links;
mod rsa_keys;
mod webrtc;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use super::*;
use crate::time::Instant;
use crate::wire::CertType;

const NOW: u64 = 1_700_000_000;
const TLS_CERTIFICATE: [u8; 32] = [0xce; 32];

/// Two routers; RSA keys take long to make, so all tests share them.
static ROUTERS: LazyLock<[Identity; 2]> = LazyLock::new(|| {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    [
        Identity::generate(&mut rng).unwrap(),
        Identity::generate(&mut rng).unwrap(),
    ]
});

fn certs(router: usize, tls: Option<[u8; 32]>) -> Arc<LinkCerts> {
    let mut rng = ChaCha20Rng::from_seed([router as u8; 32]);
    Arc::new(LinkCerts::new(&ROUTERS[router], tls, NOW, &mut rng).unwrap())
}

const TLS: Binding = Binding::Tls {
    certificate_sha256: TLS_CERTIFICATE,
};

fn initiator(binding: Binding) -> HandshakeConfig {
    HandshakeConfig {
        side: Side::Initiator,
        binding,
        own: None,
        expected: ROUTERS[1].ids().into(),
        unix_now: NOW,
        peer_address: Some(IpAddr::from([192, 0, 2, 1])),
        own_addresses: vec![IpAddr::from([192, 0, 2, 2])],
        random: [3; 32],
    }
}

fn responder(binding: Binding) -> HandshakeConfig {
    HandshakeConfig {
        side: Side::Responder,
        binding,
        own: Some(certs(1, Some(TLS_CERTIFICATE))),
        expected: Expected::default(),
        unix_now: NOW,
        peer_address: Some(IpAddr::from([192, 0, 2, 2])),
        own_addresses: vec![IpAddr::from([192, 0, 2, 1])],
        random: [4; 32],
    }
}

/// One end of a transport that a test drives.
struct End {
    handshake: Handshake,
    inbox: BytesMut,
    secret: u8,
    established: Option<Established>,
}

impl End {
    fn new(config: HandshakeConfig) -> Self {
        let handshake = Handshake::new(Instant::ZERO, config).unwrap();
        End {
            handshake,
            inbox: BytesMut::new(),
            secret: 9,
            established: None,
        }
    }

    fn step(&mut self) -> Result<(), LinkError> {
        self.handshake
            .handle_bytes(Instant::ZERO, &mut self.inbox)?;
        while let Some(event) = self.handshake.poll_event() {
            match event {
                HandshakeEvent::NeedExport { context } => {
                    let secret = export(self.secret, &context);
                    self.handshake.handle_export(Instant::ZERO, secret)?;
                    self.handshake
                        .handle_bytes(Instant::ZERO, &mut self.inbox)?;
                }
                HandshakeEvent::Done(established) => self.established = Some(*established),
            }
        }
        Ok(())
    }
}

/// What RFC 5705 makes of a connection, a label and a context, as far as tests need it.
fn export(connection: u8, context: &[u8; 32]) -> [u8; 32] {
    let secret = Sha256::new()
        .chain_update([connection])
        .chain_update(EXPORT_LABEL);
    secret.chain_update(context).finalize().into()
}

/// Runs both sides until nothing moves; `meddle` sees what travels to the responder (true) or to
/// the initiator.
fn run(
    one: &mut End,
    other: &mut End,
    mut meddle: impl FnMut(bool, &mut BytesMut),
) -> Result<(), LinkError> {
    loop {
        let mut moved = false;
        for to_responder in [true, false] {
            let (from, to) = if to_responder {
                (&mut *one, &mut *other)
            } else {
                (&mut *other, &mut *one)
            };
            while let Some(bytes) = from.handshake.poll_transmit() {
                let mut bytes = BytesMut::from(&bytes[..]);
                meddle(to_responder, &mut bytes);
                to.inbox.extend_from_slice(&bytes);
                to.step()?;
                moved = true;
            }
        }
        if !moved {
            return Ok(());
        }
    }
}

/// The fault that ends a handshake between `one` and `other`.
fn fault(
    one: HandshakeConfig,
    other: HandshakeConfig,
    meddle: impl FnMut(bool, &mut BytesMut),
) -> PeerFault {
    let (mut one, mut other) = (End::new(one), End::new(other));
    let result = run(&mut one, &mut other, meddle);
    assert!(one.established.is_none() || other.established.is_none());
    match result {
        Err(LinkError::Peer(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn cert_fault(kind: CertType, fault: CertFault) -> PeerFault {
    PeerFault::Cert { kind, fault }
}
