//! The circuit handshakes: ntor, and CREATE_FAST's exchange of random bytes.
//!
//! tor-spec, "The ntor handshake" and "CREATE_FAST/CREATED_FAST cells". ntor proves that the
//! other side holds the onion key that its descriptor names and its RSA ID; CREATE_FAST proves
//! nothing, so it is used only on a link that is itself encrypted to a proven identity.

use hkdf::Hkdf;
use hmac::{KeyInit, Mac, SimpleHmac};
use rand_core::CryptoRng;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use x25519_dalek::{EphemeralSecret, PublicKey, SharedSecret, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ids::{OnionKey, RsaId};

/// Length of ntor's client message: NODEID, KEYID, X.
pub const ONIONSKIN_LEN: usize = 84;
/// Length of ntor's server message: Y, AUTH.
pub const NTOR_REPLY_LEN: usize = 64;
/// Length of CREATE_FAST's random bytes.
pub const FAST_LEN: usize = 20;

const PROTOCOL: &[u8] = b"ntor-curve25519-sha256-1";
const T_KEY: &[u8] = b"ntor-curve25519-sha256-1:key_extract";
const T_VERIFY: &[u8; 31] = b"ntor-curve25519-sha256-1:verify";
const T_MAC: &[u8; 28] = b"ntor-curve25519-sha256-1:mac";
const M_EXPAND: &[u8] = b"ntor-curve25519-sha256-1:key_expand";

/// Why a circuit handshake did not complete. The other side's fault, each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFault {
    /// The message does not have its handshake's length.
    #[error("a handshake message of the wrong length")]
    Length,
    /// The client's onionskin is for another router, or for an onion key that we do not hold.
    #[error("an onionskin for another router or key")]
    OtherRouter,
    /// The server could not prove that it holds the onion key, or a point was of low order.
    #[error("the router could not prove that it holds its onion key")]
    Unproven,
}

/// A circuit's key material at one hop: tor-spec, "Setting circuit keys".
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyMaterial {
    /// Seeds the running digest away from the client.
    pub digest_forward: [u8; 20],
    /// Seeds the running digest towards the client.
    pub digest_backward: [u8; 20],
    /// Encrypts away from the client.
    pub key_forward: [u8; 16],
    /// Encrypts towards the client.
    pub key_backward: [u8; 16],
}

impl KeyMaterial {
    const LEN: usize = 72;

    fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut keys = KeyMaterial {
            digest_forward: [0; 20],
            digest_backward: [0; 20],
            key_forward: [0; 16],
            key_backward: [0; 16],
        };
        keys.digest_forward.copy_from_slice(&bytes[..20]);
        keys.digest_backward.copy_from_slice(&bytes[20..40]);
        keys.key_forward.copy_from_slice(&bytes[40..56]);
        keys.key_backward.copy_from_slice(&bytes[56..72]);
        keys
    }
}

/// A router's onion key. Its public half is asked for with each circuit and each descriptor, and as
/// dear as a handshake.
pub struct OnionSecret {
    secret: StaticSecret,
    public: PublicKey,
}

impl OnionSecret {
    /// The public half.
    pub fn public(&self) -> OnionKey {
        OnionKey(self.public.to_bytes())
    }

    /// The secret half.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }

    pub(crate) fn diffie_hellman(&self, theirs: &PublicKey) -> SharedSecret {
        self.secret.diffie_hellman(theirs)
    }
}

impl From<StaticSecret> for OnionSecret {
    fn from(secret: StaticSecret) -> Self {
        let public = PublicKey::from(&secret);
        OnionSecret { secret, public }
    }
}

/// The client's half of ntor, between its message and the answer.
pub struct NtorClient {
    node: RsaId,
    onion: OnionKey,
    secret: StaticSecret,
    public: PublicKey,
}

impl NtorClient {
    /// Begins a handshake with the router `node` that holds `onion`; answers its onionskin.
    pub fn new<R: CryptoRng>(
        node: RsaId,
        onion: OnionKey,
        rng: &mut R,
    ) -> (Self, [u8; ONIONSKIN_LEN]) {
        let secret = StaticSecret::random_from_rng(rng);
        let public = PublicKey::from(&secret);
        let mut skin = [0; ONIONSKIN_LEN];
        skin[..20].copy_from_slice(&node.0);
        skin[20..52].copy_from_slice(&onion.0);
        skin[52..].copy_from_slice(public.as_bytes());
        let client = NtorClient {
            node,
            onion,
            secret,
            public,
        };
        (client, skin)
    }

    /// Checks the router's answer and derives the circuit's keys.
    pub fn finish(self, reply: &[u8]) -> Result<KeyMaterial, HandshakeFault> {
        let (point, auth) = reply.split_at_checked(32).ok_or(HandshakeFault::Length)?;
        let point: [u8; 32] = point.try_into().map_err(|_| HandshakeFault::Length)?;
        let auth: [u8; 32] = auth.try_into().map_err(|_| HandshakeFault::Length)?;
        let server = PublicKey::from(point);
        let exchange = Exchange {
            ephemeral: self.secret.diffie_hellman(&server),
            long_term: self.secret.diffie_hellman(&PublicKey::from(self.onion.0)),
            node: self.node,
            onion: self.onion,
            client: self.public,
            server,
        };
        let (keys, expected) = exchange.derive()?;
        if bool::from(expected.ct_eq(&auth)) {
            Ok(keys)
        } else {
            Err(HandshakeFault::Unproven)
        }
    }
}

/// The router's half of ntor: answers a client's onionskin.
pub fn ntor_server<R: CryptoRng>(
    node: RsaId,
    onion: &OnionSecret,
    skin: &[u8],
    rng: &mut R,
) -> Result<(KeyMaterial, [u8; NTOR_REPLY_LEN]), HandshakeFault> {
    let skin: &[u8; ONIONSKIN_LEN] = skin.try_into().map_err(|_| HandshakeFault::Length)?;
    let ours = skin[..20].ct_eq(&node.0) & skin[20..52].ct_eq(onion.public.as_bytes());
    if !bool::from(ours) {
        return Err(HandshakeFault::OtherRouter);
    }
    let mut point = [0; 32];
    point.copy_from_slice(&skin[52..]);
    let client = PublicKey::from(point);
    let ephemeral = EphemeralSecret::random_from_rng(rng);
    let server = PublicKey::from(&ephemeral);
    let exchange = Exchange {
        ephemeral: ephemeral.diffie_hellman(&client),
        long_term: onion.diffie_hellman(&client),
        node,
        onion: onion.public(),
        client,
        server,
    };
    let (keys, auth) = exchange.derive()?;
    let mut reply = [0; NTOR_REPLY_LEN];
    reply[..32].copy_from_slice(server.as_bytes());
    reply[32..].copy_from_slice(&auth);
    Ok((keys, reply))
}

/// All that both sides of ntor know at its end.
struct Exchange {
    ephemeral: SharedSecret,
    long_term: SharedSecret,
    node: RsaId,
    onion: OnionKey,
    client: PublicKey,
    server: PublicKey,
}

impl Exchange {
    /// The keys, and AUTH: what proves the server.
    fn derive(self) -> Result<(KeyMaterial, [u8; 32]), HandshakeFault> {
        // A point of low order makes a secret that everybody knows.
        if !self.ephemeral.was_contributory() || !self.long_term.was_contributory() {
            return Err(HandshakeFault::Unproven);
        }
        let mut secret = Vec::with_capacity(32 * 5 + 20 + PROTOCOL.len());
        for part in [
            self.ephemeral.as_bytes().as_slice(),
            self.long_term.as_bytes(),
            &self.node.0,
            &self.onion.0,
            self.client.as_bytes(),
            self.server.as_bytes(),
            PROTOCOL,
        ] {
            secret.extend_from_slice(part);
        }
        let verify = mac(T_VERIFY, &[&secret]);
        let auth = mac(
            T_MAC,
            &[
                &verify,
                &self.node.0,
                &self.onion.0,
                self.server.as_bytes(),
                self.client.as_bytes(),
                PROTOCOL,
                b"Server",
            ],
        );
        let mut okm = [0; KeyMaterial::LEN];
        Hkdf::<Sha256>::new(Some(T_KEY), &secret)
            .expand(M_EXPAND, &mut okm)
            .map_err(|_| HandshakeFault::Length)?;
        let keys = KeyMaterial::from_bytes(&okm);
        secret.zeroize();
        okm.zeroize();
        Ok((keys, auth))
    }
}

/// HMAC-SHA256. `key` is shorter than SHA-256's block, to which HMAC pads it with zeros.
fn mac<const N: usize>(key: &[u8; N], parts: &[&[u8]]) -> [u8; 32] {
    const { assert!(N <= 64, "a longer key would have to be hashed first") };
    let mut block = [0; 64];
    block[..N].copy_from_slice(key);
    let mut mac = <SimpleHmac<Sha256> as KeyInit>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The client's half of CREATE_FAST: the bytes that it sent.
pub struct FastClient([u8; FAST_LEN]);

impl FastClient {
    /// Begins; answers CREATE_FAST's body.
    pub fn new<R: CryptoRng>(rng: &mut R) -> (Self, [u8; FAST_LEN]) {
        let mut x = [0; FAST_LEN];
        rng.fill_bytes(&mut x);
        (FastClient(x), x)
    }

    /// Checks CREATED_FAST's two fields (Y and KH) and derives the circuit's keys.
    pub fn finish(
        self,
        y: &[u8; FAST_LEN],
        proof: &[u8; FAST_LEN],
    ) -> Result<KeyMaterial, HandshakeFault> {
        let (keys, expected) = kdf_tor(&self.0, y);
        if bool::from(expected.ct_eq(proof)) {
            Ok(keys)
        } else {
            Err(HandshakeFault::Unproven)
        }
    }
}

/// The router's half of CREATE_FAST: the keys, and CREATED_FAST's two fields, Y and KH.
pub fn fast_server<R: CryptoRng>(
    x: &[u8; FAST_LEN],
    rng: &mut R,
) -> (KeyMaterial, [u8; FAST_LEN], [u8; FAST_LEN]) {
    let mut y = [0; FAST_LEN];
    rng.fill_bytes(&mut y);
    let (keys, proof) = kdf_tor(x, &y);
    (keys, y, proof)
}

/// tor-spec, "KDF-TOR": SHA-1 in counter mode over X | Y; the first 20 bytes are KH.
fn kdf_tor(x: &[u8], y: &[u8]) -> (KeyMaterial, [u8; 20]) {
    let mut stream = [0; 100];
    for (counter, block) in (0u8..).zip(stream.chunks_exact_mut(20)) {
        let digest = Sha1::new()
            .chain_update(x)
            .chain_update(y)
            .chain_update([counter])
            .finalize();
        block.copy_from_slice(&digest);
    }
    let mut kh = [0; 20];
    kh.copy_from_slice(&stream[..20]);
    let mut rest = [0; KeyMaterial::LEN];
    rest.copy_from_slice(&stream[20..92]);
    let keys = KeyMaterial::from_bytes(&rest);
    stream.zeroize();
    rest.zeroize();
    (keys, kh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn rng() -> ChaCha20Rng {
        ChaCha20Rng::from_seed([7; 32])
    }

    fn same(a: &KeyMaterial, b: &KeyMaterial) -> bool {
        a.digest_forward == b.digest_forward
            && a.digest_backward == b.digest_backward
            && a.key_forward == b.key_forward
            && a.key_backward == b.key_backward
    }

    #[test]
    fn ntor_agrees_and_refuses_what_is_not_ours() {
        let mut rng = rng();
        let onion = OnionSecret::from(StaticSecret::random_from_rng(&mut rng));
        let node = RsaId([3; 20]);
        let public = onion.public();
        let (client, skin) = NtorClient::new(node, public, &mut rng);
        let (server_keys, reply) = ntor_server(node, &onion, &skin, &mut rng).unwrap();
        let client_keys = client.finish(&reply).unwrap();
        assert!(same(&server_keys, &client_keys));

        for at in 0..52 {
            let mut wrong = skin;
            wrong[at] ^= 1;
            let refused = ntor_server(node, &onion, &wrong, &mut rng).err();
            assert_eq!(refused, Some(HandshakeFault::OtherRouter), "byte {at}");
        }
        for at in 0..NTOR_REPLY_LEN {
            let (client, skin) = NtorClient::new(node, public, &mut rng);
            let (_, mut reply) = ntor_server(node, &onion, &skin, &mut rng).unwrap();
            reply[at] ^= 4;
            assert_eq!(
                client.finish(&reply).err(),
                Some(HandshakeFault::Unproven),
                "byte {at}"
            );
        }
    }

    #[test]
    fn ntor_refuses_points_of_low_order_and_other_lengths() {
        let mut rng = rng();
        let onion = OnionSecret::from(StaticSecret::random_from_rng(&mut rng));
        let node = RsaId([3; 20]);
        let public = onion.public();
        let (_, mut skin) = NtorClient::new(node, public, &mut rng);
        skin[52..].fill(0);
        assert_eq!(
            ntor_server(node, &onion, &skin, &mut rng).err(),
            Some(HandshakeFault::Unproven)
        );
        for len in [0, 31, 32, 63, 65] {
            let (client, _) = NtorClient::new(node, public, &mut rng);
            assert_eq!(
                client.finish(&vec![9; len]).err(),
                Some(HandshakeFault::Length)
            );
        }
    }

    #[test]
    fn fast_agrees_and_its_proof_is_checked() {
        let mut rng = rng();
        let (client, x) = FastClient::new(&mut rng);
        let (server_keys, y, proof) = fast_server(&x, &mut rng);
        assert!(same(&server_keys, &client.finish(&y, &proof).unwrap()));
        let (client, x) = FastClient::new(&mut rng);
        let (_, y, mut proof) = fast_server(&x, &mut rng);
        proof[19] ^= 1;
        assert_eq!(
            client.finish(&y, &proof).err(),
            Some(HandshakeFault::Unproven)
        );
    }
}
