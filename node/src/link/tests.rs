use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use super::*;
use crate::time::Instant;

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
                    // As RFC 5705 has it: of the connection, the label and the context.
                    let secret = Sha256::new()
                        .chain_update([self.secret])
                        .chain_update(EXPORT_LABEL)
                        .chain_update(context);
                    self.handshake
                        .handle_export(Instant::ZERO, secret.finalize().into())?;
                    self.handshake
                        .handle_bytes(Instant::ZERO, &mut self.inbox)?;
                }
                HandshakeEvent::Done(established) => self.established = Some(*established),
            }
        }
        Ok(())
    }
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

#[test]
fn a_client_makes_a_link_to_a_router() {
    for binding in [TLS, Binding::WebSocket] {
        let (mut client, mut router) = (End::new(initiator(binding)), End::new(responder(binding)));
        run(&mut client, &mut router, |_, _| {}).unwrap();
        let (client, router) = (client.established.unwrap(), router.established.unwrap());
        assert_eq!((client.version, router.version), (5, 5));
        assert_eq!(client.peer, Some(ROUTERS[1].ids()));
        assert_eq!(client.peer_authenticated, binding == TLS);
        assert_eq!(client.peer_time, Some(NOW as u32));
        assert_eq!(client.seen_as, Some(IpAddr::from([192, 0, 2, 2])));
        assert_eq!(client.peer_addresses, [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!((router.peer, router.peer_authenticated), (None, false));
        assert_eq!((router.peer_time, router.peer_addresses.len()), (None, 0));
    }
}

#[test]
fn a_router_proves_itself_to_a_router() {
    let config = HandshakeConfig {
        own: Some(certs(0, None)),
        ..initiator(TLS)
    };
    let (mut one, mut other) = (End::new(config), End::new(responder(TLS)));
    run(&mut one, &mut other, |_, _| {}).unwrap();
    let (one, other) = (one.established.unwrap(), other.established.unwrap());
    assert_eq!(
        (one.peer, one.peer_authenticated),
        (Some(ROUTERS[1].ids()), true)
    );
    assert_eq!(
        (other.peer, other.peer_authenticated),
        (Some(ROUTERS[0].ids()), true)
    );
    assert_eq!(other.peer_addresses, [IpAddr::from([192, 0, 2, 2])]);
}
