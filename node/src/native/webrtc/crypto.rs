//! str0m's cryptography, of ring, which TLS has brought along already.
//!
//! One suite in each version of DTLS, AES-128-GCM with SHA-256, and certificates with keys on
//! P-256: what browsers make and choose first. There is no media here, so the part for SRTP
//! derives keys, because DTLS makes the session do so, and encrypts nothing.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use dimpl::crypto as dtls;
use dimpl::crypto::{
    ActiveKeyExchange, Buf, Cipher, Dtls12CipherSuite, Dtls13CipherSuite, HashAlgorithm,
    HashContext, HashProvider, HmacProvider, KeyProvider, NamedGroup, SecureRandom,
    SignatureAlgorithm, SignatureVerifier, SigningKey, SupportedDtls12CipherSuite,
    SupportedDtls13CipherSuite, SupportedKxGroup, TmpBuf,
};
use dimpl::{CryptoError as DtlsCryptoError, CryptoOperation};
use ring::{aead, agreement, digest, hmac, rand, signature};
use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, Sha1HmacProvider,
    Sha256Provider, SrtpProvider, SupportedAeadAes128Gcm, SupportedAeadAes256Gcm,
    SupportedAes128CmSha1_80,
};

use super::certificate;

/// What str0m is given.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        srtp_provider: &NoMedia,
        sha1_hmac_provider: &Ring,
        sha256_provider: &Ring,
        dtls_provider: &Ring,
    }
}

/// All parts that keep nothing.
#[derive(Debug)]
struct Ring;

impl Sha1HmacProvider for Ring {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let mut context = hmac::Context::with_key(&key);
        payloads.iter().for_each(|part| context.update(part));
        let mut tag = [0; 20];
        copy(&mut tag, context.sign().as_ref());
        tag
    }
}

impl Sha256Provider for Ring {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        copy(&mut hash, digest::digest(&digest::SHA256, data).as_ref());
        hash
    }
}

/// Copies as much as both have.
fn copy(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

// DTLS.

/// The settings that all connections share: made once, for dimpl tries the cryptography out then.
fn settings(mtu: Option<usize>) -> Result<Arc<dimpl::Config>, DtlsImplError> {
    static SETTINGS: OnceLock<Arc<dimpl::Config>> = OnceLock::new();
    if let Some(settings) = SETTINGS.get() {
        return Ok(settings.clone());
    }
    // No cookie: no browser's DTLS asks for one of another, and the STUN before it is limited.
    let mut builder = dimpl::Config::builder()
        .use_server_cookie(false)
        .with_crypto_provider(dtls::CryptoProvider {
            kx_groups: &[&Group::X25519, &Group::P256],
            signature_verification: &Ring,
            key_provider: &Ring,
            secure_random: &Ring,
            hash_provider: &Ring,
            hmac_provider: &Ring,
            cipher_suites: &[&Suite],
            dtls13_cipher_suites: &[&Suite],
        });
    if let Some(mtu) = mtu {
        builder = builder.mtu(mtu);
    }
    let made = Arc::new(builder.build()?);
    Ok(SETTINGS.get_or_init(|| made).clone())
}

impl DtlsProvider for Ring {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        // Each connection is given one.
        None
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let settings = settings(mtu).map_err(|error| CryptoError::Other(error.to_string()))?;
        let certificate = certificate.clone();
        Ok(Box::new(Dtls(match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(settings, certificate, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(settings, certificate, now),
            _ => dimpl::Dtls::new_auto(settings, certificate, now),
        })))
    }

    fn is_test(&self) -> bool {
        false
    }
}

struct Dtls(dimpl::Dtls);

impl fmt::Debug for Dtls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dtls").finish_non_exhaustive()
    }
}

impl DtlsInstance for Dtls {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buf)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<(), DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

// What DTLS is made of.

fn failed(operation: CryptoOperation) -> DtlsCryptoError {
    DtlsCryptoError::OperationFailed(operation)
}

/// AES-128-GCM with SHA-256, of DTLS 1.2 (with ECDHE and ECDSA) and of DTLS 1.3.
#[derive(Debug)]
struct Suite;

impl SupportedDtls12CipherSuite for Suite {
    fn suite(&self) -> Dtls12CipherSuite {
        Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        (0, 16, 4)
    }

    fn explicit_nonce_len(&self) -> usize {
        8
    }

    fn tag_len(&self) -> usize {
        16
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, DtlsCryptoError> {
        AesGcm::boxed(key)
    }
}

impl SupportedDtls13CipherSuite for Suite {
    fn suite(&self) -> Dtls13CipherSuite {
        Dtls13CipherSuite::AES_128_GCM_SHA256
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn key_len(&self) -> usize {
        16
    }

    fn iv_len(&self) -> usize {
        12
    }

    fn tag_len(&self) -> usize {
        16
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, DtlsCryptoError> {
        AesGcm::boxed(key)
    }

    fn encrypt_sn(&self, sn_key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        let mut block = Array::from(*sample);
        // dimpl cuts the key to `key_len`.
        if let Ok(aes) = aes::Aes128::new_from_slice(sn_key) {
            aes.encrypt_block(&mut block);
        }
        block.into()
    }
}

struct AesGcm(aead::LessSafeKey);

impl AesGcm {
    fn boxed(key: &[u8]) -> Result<Box<dyn Cipher>, DtlsCryptoError> {
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, key)
            .map_err(|_| failed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(AesGcm(aead::LessSafeKey::new(key))))
    }
}

impl fmt::Debug for AesGcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesGcm").finish_non_exhaustive()
    }
}

impl Cipher for AesGcm {
    fn encrypt(
        &mut self,
        plaintext: &mut Buf,
        aad: dtls::Aad,
        nonce: dtls::Nonce,
    ) -> Result<(), DtlsCryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        self.0
            .seal_in_place_append_tag(nonce, aead::Aad::from(&aad[..]), plaintext)
            .map_err(|_| failed(CryptoOperation::Encrypt))
    }

    fn decrypt(
        &mut self,
        ciphertext: &mut TmpBuf<'_>,
        aad: dtls::Aad,
        nonce: dtls::Nonce,
    ) -> Result<(), DtlsCryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let plain = self
            .0
            .open_in_place(nonce, aead::Aad::from(&aad[..]), ciphertext.as_mut())
            .map_err(|_| failed(CryptoOperation::Decrypt))?;
        let length = plain.len();
        ciphertext.truncate(length);
        Ok(())
    }
}

#[derive(Debug)]
enum Group {
    X25519,
    P256,
}

impl Group {
    fn algorithm(&self) -> &'static agreement::Algorithm {
        match self {
            Group::X25519 => &agreement::X25519,
            Group::P256 => &agreement::ECDH_P256,
        }
    }
}

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        match self {
            Group::X25519 => NamedGroup::X25519,
            Group::P256 => NamedGroup::Secp256r1,
        }
    }

    fn start_exchange(&self, mut buf: Buf) -> Result<Box<dyn ActiveKeyExchange>, DtlsCryptoError> {
        let random = rand::SystemRandom::new();
        let secret = agreement::EphemeralPrivateKey::generate(self.algorithm(), &random)
            .map_err(|_| failed(CryptoOperation::GenerateEphemeralKey))?;
        let public = secret
            .compute_public_key()
            .map_err(|_| failed(CryptoOperation::ComputePublicKey))?;
        buf.clear();
        buf.extend_from_slice(public.as_ref());
        Ok(Box::new(Exchange {
            group: self.name(),
            algorithm: self.algorithm(),
            secret,
            public: buf,
        }))
    }
}

struct Exchange {
    group: NamedGroup,
    algorithm: &'static agreement::Algorithm,
    secret: agreement::EphemeralPrivateKey,
    public: Buf,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer_pub: &[u8], out: &mut Buf) -> Result<(), DtlsCryptoError> {
        let peer = agreement::UnparsedPublicKey::new(self.algorithm, peer_pub);
        // ring refuses what contributes nothing (RFC 7748, 6.1).
        agreement::agree_ephemeral(self.secret, &peer, |shared| {
            out.clear();
            out.extend_from_slice(shared);
        })
        .map_err(|_| DtlsCryptoError::InvalidPublicKey(self.group))
    }

    fn group(&self) -> NamedGroup {
        self.group
    }
}

impl SecureRandom for Ring {
    fn fill(&self, buf: &mut [u8]) -> Result<(), DtlsCryptoError> {
        rand::SecureRandom::fill(&rand::SystemRandom::new(), buf)
            .map_err(|_| failed(CryptoOperation::FillRandom))
    }
}

impl HashProvider for Ring {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        // The suites have no others.
        let algorithm = match algorithm {
            HashAlgorithm::SHA384 => &digest::SHA384,
            _ => &digest::SHA256,
        };
        Box::new(Hash(digest::Context::new(algorithm)))
    }
}

struct Hash(digest::Context);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash").finish_non_exhaustive()
    }
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        out.clear();
        out.extend_from_slice(self.0.clone().finish().as_ref());
    }
}

impl HmacProvider for Ring {
    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, DtlsCryptoError> {
        let algorithm = match hash {
            HashAlgorithm::SHA256 => hmac::HMAC_SHA256,
            HashAlgorithm::SHA384 => hmac::HMAC_SHA384,
            other => return Err(DtlsCryptoError::UnsupportedHmacHash(other)),
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, key), data);
        copy(out, tag.as_ref());
        Ok(tag.as_ref().len().min(out.len()))
    }
}

impl KeyProvider for Ring {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, DtlsCryptoError> {
        let key = certificate::key_pair(key_der).map_err(|_| DtlsCryptoError::InvalidPrivateKey)?;
        Ok(Box::new(Signer(key)))
    }
}

struct Signer(signature::EcdsaKeyPair);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl SigningKey for Signer {
    fn sign(
        &mut self,
        data: &[u8],
        hash_alg: HashAlgorithm,
        out: &mut Buf,
    ) -> Result<(), DtlsCryptoError> {
        if hash_alg != HashAlgorithm::SHA256 {
            return Err(DtlsCryptoError::SigningKeyHashMismatch {
                key_hash: HashAlgorithm::SHA256,
                requested: hash_alg,
            });
        }
        let signature = self
            .0
            .sign(&rand::SystemRandom::new(), data)
            .map_err(|_| failed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

impl SignatureVerifier for Ring {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash_alg: HashAlgorithm,
        sig_alg: SignatureAlgorithm,
    ) -> Result<(), DtlsCryptoError> {
        if sig_alg != SignatureAlgorithm::ECDSA {
            return Err(DtlsCryptoError::UnsupportedSignatureAlgorithm(sig_alg));
        }
        if hash_alg != HashAlgorithm::SHA256 {
            return Err(DtlsCryptoError::UnsupportedSignatureVerification {
                signature: sig_alg,
                hash: hash_alg,
                group: NamedGroup::Secp256r1,
            });
        }
        let key = certificate::public_key(cert_der)
            .map_err(|_| DtlsCryptoError::CertificateParseFailed)?;
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, key)
            .verify(data, signature)
            .map_err(|_| failed(CryptoOperation::VerifySignature))
    }
}

// SRTP, which is agreed on by DTLS and then never used.

#[derive(Debug)]
struct NoMedia;

fn no_media<T>() -> Result<T, CryptoError> {
    Err(CryptoError::Other("there is no media here".to_owned()))
}

impl SrtpProvider for NoMedia {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &NoMedia
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &NoMedia
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &NoMedia
    }

    // The keys that come of these lead nowhere.

    fn srtp_aes_128_ecb_round(&self, _key: &[u8], _input: &[u8], output: &mut [u8]) {
        output.fill(0);
    }

    fn srtp_aes_256_ecb_round(&self, _key: &[u8], _input: &[u8], output: &mut [u8]) {
        output.fill(0);
    }
}

impl SupportedAes128CmSha1_80 for NoMedia {
    fn create_cipher(&self, _key: [u8; 16], _encrypt: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(NoMedia)
    }
}

impl SupportedAeadAes128Gcm for NoMedia {
    fn create_cipher(&self, _key: [u8; 16], _encrypt: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(NoMedia)
    }
}

impl SupportedAeadAes256Gcm for NoMedia {
    fn create_cipher(&self, _key: [u8; 32], _encrypt: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(NoMedia)
    }
}

impl Aes128CmSha1_80Cipher for NoMedia {
    fn encrypt(&mut self, _: &[u8; 16], _: &[u8], _: &mut [u8]) -> Result<(), CryptoError> {
        no_media()
    }

    fn decrypt(&mut self, _: &[u8; 16], _: &[u8], _: &mut [u8]) -> Result<(), CryptoError> {
        no_media()
    }
}

macro_rules! no_media_gcm {
    ($($cipher:ident),+) => {$(
        impl $cipher for NoMedia {
            fn encrypt(
                &mut self,
                _: &[u8; 12],
                _: &[u8],
                _: &[u8],
                _: &mut [u8],
            ) -> Result<(), CryptoError> {
                no_media()
            }

            fn decrypt(
                &mut self,
                _: &[u8; 12],
                _: &[&[u8]],
                _: &[u8],
                _: &mut [u8],
            ) -> Result<usize, CryptoError> {
                no_media()
            }
        }
    )+};
}

no_media_gcm!(AeadAes128GcmCipher, AeadAes256GcmCipher);
