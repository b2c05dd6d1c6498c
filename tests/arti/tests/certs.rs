//! Our certificates against those of `tor-cert`, Arti's: what we make it believes, what it makes
//! we believe, and neither believes what is spoiled.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use chacha20::ChaCha20Rng;
use chive_node::link::{
    Binding, Expected, Handshake, HandshakeConfig, Identity, LinkCerts, LinkError, Side,
};
use chive_node::time::Instant;
use chive_node::wire::{CellBody, CellDecoder, CircId, Command, Versions, write_body};
use rand_core::SeedableRng;
use tor_cell::chancell::msg::{self as chan, AnyChanMsg};
use tor_cell::chancell::{ChanCell, codec::ChannelCodec};
use tor_cert::rsa::{EncodedRsaCrosscert, RsaCrosscert};
use tor_cert::{CertType, CertifiedKey, Ed25519Cert};
use tor_checkable::{ExternallySigned, SelfSigned, TimeBound};
use tor_llcrypto::pk::{ed25519, rsa};
use tor_llcrypto::util::x509_extract_rsa_subject_kludge;

const UNIX_NOW: u64 = 1_700_000_000;
const TLS_CERTIFICATE: [u8; 32] = [0xce; 32];

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(UNIX_NOW)
}

fn config(side: Side, own: Option<Arc<LinkCerts>>) -> HandshakeConfig {
    HandshakeConfig {
        side,
        binding: Binding::Tls {
            certificate_sha256: TLS_CERTIFICATE,
        },
        own,
        expected: Expected::default(),
        unix_now: UNIX_NOW,
        peer_address: None,
        own_addresses: Vec::new(),
        random: [1; 32],
    }
}

/// Makes an identity and what a responder with it says, after VERSIONS.
fn responder() -> (Identity, BytesMut) {
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let identity = Identity::generate(&mut rng).unwrap();
    let certs = LinkCerts::new(&identity, Some(TLS_CERTIFICATE), UNIX_NOW, &mut rng).unwrap();
    let config = config(Side::Responder, Some(Arc::new(certs)));
    let mut handshake = Handshake::new(Instant::ZERO, config).unwrap();
    let mut versions = BytesMut::new();
    write_body(&mut versions, CircId::LINK, &Versions { versions: vec![5] }).unwrap();
    handshake
        .handle_bytes(Instant::ZERO, &mut versions)
        .unwrap();
    let mut said = BytesMut::from(&handshake.poll_transmit().unwrap()[..]);
    let cell = CellDecoder::new().next(&mut said).unwrap().unwrap();
    assert_eq!(cell.command, Command::VERSIONS);
    (identity, said)
}

#[test]
fn arti_believes_our_certificates() {
    let (identity, mut said) = responder();
    let (cell, _) = ChannelCodec::new(5)
        .decode_cell(&mut said)
        .unwrap()
        .unwrap();
    let cell: ChanCell<AnyChanMsg> = cell;
    let AnyChanMsg::Certs(certs) = cell.into_circid_and_msg().1 else {
        panic!("no CERTS")
    };

    let signing = certs.parse_ed_cert(CertType::IDENTITY_V_SIGNING).unwrap();
    let signing = signing
        .should_have_signing_key()
        .unwrap()
        .check_signature()
        .unwrap();
    let signing = signing.if_valid_at(&now()).unwrap();
    let ed25519 = *signing.signing_key().unwrap();
    assert_eq!(ed25519.as_bytes(), &identity.ids().ed25519.0);
    let signing_key = *signing.subject_key().as_ed25519().unwrap();

    let link = certs.parse_ed_cert(CertType::SIGNING_V_TLS_CERT).unwrap();
    let link = link
        .should_be_signed_with(&signing_key)
        .unwrap()
        .check_signature()
        .unwrap();
    let link = link.if_valid_at(&now()).unwrap();
    assert_eq!(link.subject_key().as_bytes(), TLS_CERTIFICATE);

    let x509 = certs.cert_body(CertType::RSA_ID_X509).unwrap();
    let rsa = x509_extract_rsa_subject_kludge(x509).unwrap();
    assert_eq!(rsa.to_rsa_identity().as_bytes(), identity.ids().rsa.0);
    assert!(rsa.bits() == 1024 && rsa.exponent_is(65_537));
    let cross = certs.cert_body(CertType::RSA_ID_V_IDENTITY).unwrap();
    let cross = RsaCrosscert::decode(cross)
        .unwrap()
        .check_signature(&rsa)
        .unwrap();
    let cross = cross.if_valid_at(&now()).unwrap();
    assert!(cross.subject_key_matches(&ed25519));
}

/// Ed25519 keys of Arti's, from a seed.
fn keypair(seed: u8) -> ed25519::Keypair {
    ed25519::Keypair::from_bytes(&[seed; 32])
}

#[test]
fn we_believe_artis_certificates() {
    // The RSA identity is ours: Arti's crate makes no X.509 without what comes of a dozen more.
    let (_, mut said) = responder();
    let mut decoder = CellDecoder::new();
    decoder.negotiated();
    let ours = decoder.next(&mut said).unwrap().unwrap();
    let ours = chive_node::wire::Certs::from_cell(&ours.body).unwrap();
    let x509 = ours.only(chive_node::wire::CertType::RSA_IDENTITY).unwrap();
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let identity = Identity::generate(&mut rng).unwrap();
    // A saved identity ends with its RSA key.
    let saved = identity.to_secret_bytes().unwrap();
    let rsa = rsa::KeyPair::from_der(&saved[80..]).unwrap();

    let (identity_key, signing_key) = (keypair(1), keypair(2));
    let expiry = now() + Duration::from_secs(3_600);
    let ed_id = ed25519::Ed25519Identity::from(identity_key.verifying_key());
    let signing = Ed25519Cert::builder()
        .cert_type(CertType::IDENTITY_V_SIGNING)
        .expiration(expiry)
        .signing_key(ed_id)
        .cert_key(CertifiedKey::Ed25519(signing_key.verifying_key().into()))
        .encode_and_sign(&identity_key)
        .unwrap();
    let link = Ed25519Cert::builder()
        .cert_type(CertType::SIGNING_V_TLS_CERT)
        .expiration(expiry)
        .cert_key(CertifiedKey::X509Sha256Digest(TLS_CERTIFICATE))
        .encode_and_sign(&signing_key)
        .unwrap();
    let cross = EncodedRsaCrosscert::encode_and_sign(&rsa, &ed_id, expiry).unwrap();
    let mut certs = chan::Certs::new_empty();
    certs.push_cert_body(CertType::RSA_ID_X509, x509.to_vec());
    certs.push_cert(&signing);
    certs.push_cert(&link);
    certs.push_cert(&cross);

    let mut said = BytesMut::new();
    write_body(&mut said, CircId::LINK, &Versions { versions: vec![5] }).unwrap();
    for message in [
        AnyChanMsg::from(certs),
        chan::AuthChallenge::new([2; 32], [3]).into(),
        chan::Netinfo::from_relay(1, None, []).into(),
    ] {
        ChannelCodec::new(5)
            .write_cell(ChanCell::new(None, message), &mut said)
            .unwrap();
    }
    let make = |change: Option<usize>| -> Result<(), LinkError> {
        let mut handshake = Handshake::new(Instant::ZERO, config(Side::Initiator, None)).unwrap();
        let mut said = said.clone();
        if let Some(at) = change {
            said[at] ^= 1;
        }
        handshake.handle_bytes(Instant::ZERO, &mut said)
    };
    make(None).unwrap();
    for at in 20..700 {
        assert!(make(Some(at)).is_err(), "byte {at}");
    }
}
