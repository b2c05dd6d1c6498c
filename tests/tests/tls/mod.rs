//! TLS as Tor's links use it: certificates are anyone's, the link's handshake binds them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use chacha20::ChaCha20Rng;
use chive_node::link::TlsCertificate;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Takes any certificate whose key signs the TLS handshake.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Dials a router; gives the SHA-256 of its TLS certificate too.
pub(crate) async fn dial(address: SocketAddr) -> Result<(TlsStream<TcpStream>, [u8; 32])> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("www.example.net")?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await?;
    let certificates = stream
        .get_ref()
        .1
        .peer_certificates()
        .context("no certificate")?;
    let hash = Sha256::digest(certificates.first().context("no certificate")?);
    Ok((stream.into(), hash.into()))
}

/// What a router of ours answers TLS with.
pub(crate) struct Server {
    acceptor: TlsAcceptor,
    certificate: CertificateDer<'static>,
}

impl Server {
    pub(crate) fn new(unix_now: u64, rng: &mut ChaCha20Rng) -> Result<Self> {
        let made = TlsCertificate::generate(unix_now, rng)?;
        let certificate = CertificateDer::from(made.certificate.clone());
        let key = PrivatePkcs8KeyDer::from(made.key.to_vec());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], PrivateKeyDer::Pkcs8(key))?;
        Ok(Server {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
        })
    }

    pub(crate) fn certificate_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    pub(crate) async fn accept(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>> {
        Ok(self.acceptor.accept(tcp).await?.into())
    }
}

/// 32 bytes of the connection's secrets, RFC 5705.
pub(crate) fn export(
    stream: &TlsStream<TcpStream>,
    label: &[u8],
    context: &[u8],
) -> Result<[u8; 32]> {
    Ok(match stream {
        TlsStream::Client(stream) => {
            stream
                .get_ref()
                .1
                .export_keying_material([0; 32], label, Some(context))?
        }
        TlsStream::Server(stream) => {
            stream
                .get_ref()
                .1
                .export_keying_material([0; 32], label, Some(context))?
        }
    })
}
