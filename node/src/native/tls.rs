//! Tor's TLS links: the certificate that we show, the one that we are shown, the exporter.
//!
//! tor-spec, "Channels": a link's TLS proves nothing by itself. Who the responder is stands in
//! its CERTS cell, which is bound to the hash of its TLS certificate; so here any certificate is
//! taken, but the handshake's signature must be by that certificate's key.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::Rng;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::read_ahead::ReadAhead;
use super::{clock, random};
use crate::link::{EXPORT_LABEL, IdentityError, TlsCertificate};

/// A TLS link's stream: its own reads are small, so the socket is read ahead of it.
pub type Stream = TlsStream<ReadAhead<TcpStream>>;

/// What one process shows and takes on all of its TLS links.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    certificate_sha256: [u8; 32],
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Makes a self-signed certificate and both sides' settings with it.
    ///
    /// The certificate is made anew with each process, as Tor's relays do every few hours: what
    /// lasts is the identity in CERTS, which this process binds to it.
    pub fn generate() -> io::Result<Self> {
        Self::with_versions(&[&TLS13, &TLS12])
    }

    /// The same with these versions of TLS only.
    pub(super) fn with_versions(
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<Self> {
        let mut generator = random::generator()?;
        let (certificate, key) = self_signed(&mut generator).map_err(io::Error::other)?;
        let certificate_sha256 = Sha256::digest(&certificate).into();
        let provider = Arc::new(ring::default_provider());

        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(io::Error::other)?;
        // A resumed session would not show its certificate again, and CERTS is bound to that.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BoundByCerts::new(&provider)))
            .with_no_client_auth();
        client.resumption = Resumption::disabled();

        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            certificate_sha256,
        })
    }

    /// The SHA-256 of the certificate that this process shows: what its CERTS are bound to.
    pub fn certificate_sha256(&self) -> [u8; 32] {
        self.certificate_sha256
    }

    /// The responder's side of TLS on `tcp`.
    pub async fn accept(&self, tcp: TcpStream, limit: Duration) -> io::Result<Stream> {
        let handshake = self.acceptor.accept(ReadAhead::new(tcp));
        let stream = tokio::time::timeout(limit, handshake)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time"))??;
        Ok(stream.into())
    }

    /// The initiator's side of TLS on `tcp`, and the SHA-256 of the certificate that was shown.
    pub async fn connect(&self, tcp: TcpStream, limit: Duration) -> io::Result<(Stream, [u8; 32])> {
        let name = ServerName::try_from(random_name(&mut random::generator()?, "com"))
            .map_err(io::Error::other)?;
        let handshake = self.connector.connect(name, ReadAhead::new(tcp));
        let stream = tokio::time::timeout(limit, handshake)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time"))??;
        let shown = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .map(|certificate| Sha256::digest(certificate).into())
            .ok_or_else(|| io::Error::other("the peer showed no certificate"))?;
        Ok((stream.into(), shown))
    }
}

/// RFC 5705's secret of this TLS session for an AUTHENTICATE cell.
pub(super) fn export(stream: &Stream, context: &[u8]) -> io::Result<[u8; 32]> {
    let secret = [0; 32];
    let exported = match stream {
        TlsStream::Client(stream) => {
            stream
                .get_ref()
                .1
                .export_keying_material(secret, EXPORT_LABEL, Some(context))
        }
        TlsStream::Server(stream) => {
            stream
                .get_ref()
                .1
                .export_keying_material(secret, EXPORT_LABEL, Some(context))
        }
    };
    exported.map_err(io::Error::other)
}

/// The certificate of a Tor relay's link, RSA as theirs: of any other Tor's routers complain.
fn self_signed(
    generator: &mut ChaCha20Rng,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), IdentityError> {
    let made = TlsCertificate::generate(clock::unix_seconds(), generator)?;
    let key = PrivatePkcs8KeyDer::from(made.key.to_vec());
    Ok((made.certificate.into(), key.into()))
}

/// `www.`, 8 to 20 letters of base32, the top level: what Tor's links name themselves.
fn random_name(generator: &mut ChaCha20Rng, top_level: &str) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let length = 8 + generator.next_u32() % 13;
    let label: String = (0..length)
        .map(|_| char::from(LETTERS[(generator.next_u32() % 32) as usize]))
        .collect();
    format!("www.{label}.{top_level}")
}

/// Takes any certificate, if the handshake is signed by its key: CERTS says whose it is.
#[derive(Debug)]
struct BoundByCerts {
    algorithms: WebPkiSupportedAlgorithms,
}

impl BoundByCerts {
    fn new(provider: &CryptoProvider) -> Self {
        BoundByCerts {
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for BoundByCerts {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
