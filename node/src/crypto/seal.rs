//! What two peers tell each other over introducers, who are not to read or change it.
//!
//! The first message is sealed to the onion key of whom it is for; every answer to the ephemeral
//! keys of both, and to the onion key, so that only who holds it can answer. Both IDs are in the
//! keys, each direction has keys of its own, and each message a key of its own from its counter:
//! AES-128-CTR, then HMAC-SHA-256, cut to 16 bytes.
//!
//! - Opening, form 0: the sender's ID (20), its ephemeral key `E` (32), a counter (u32).
//! - Further, form 1: the first 8 bytes of `E`, a counter.
//! - Backward, form 2: the first 8 bytes of `E`, the answerer's ephemeral key `F` (32), a counter.
//!
//! Then what is sealed, and the 16 bytes. A counter is used once in its direction.

use chive_cipher::aes::Aes128Ctr;
use hkdf::Hkdf;
use hmac::{KeyInit, Mac, SimpleHmac};
use rand_core::CryptoRng;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::ntor::OnionSecret;
use crate::ids::{OnionKey, RsaId};
use crate::wire::{DecodeError, Reader};

const PROTOCOL: &[u8] = b"chive-introduce-1";
const MAC_LEN: usize = 16;
const OPENING: u8 = 0;
const FURTHER: u8 = 1;
const BACKWARD: u8 = 2;

/// What a conversation is named by on the wire.
pub type SessionId = [u8; 8];

/// Why something sealed is not opened. The sender's fault, or of who passed it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// It ends too early, or has no such form.
    #[error("what is sealed is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// It is not for us, not from whom it says, or was changed.
    #[error("what is sealed is for somebody else, or was changed on the way")]
    Unproven,
    /// It came before.
    #[error("what is sealed came before")]
    Replayed,
}

/// The header of something sealed: what whoever passes it on can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// It opens a conversation.
    Opening {
        /// Who says that it does.
        from: RsaId,
        /// `E`.
        ephemeral: [u8; 32],
    },
    /// It goes on with one, from who opened it.
    Further(SessionId),
    /// It goes on with one, from the other side.
    Backward(SessionId),
}

impl Sealed {
    /// Reads the header.
    pub fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.read::<u8>()? {
            OPENING => Ok(Sealed::Opening {
                from: reader.read()?,
                ephemeral: reader.array()?,
            }),
            FURTHER => Ok(Sealed::Further(reader.array()?)),
            BACKWARD => Ok(Sealed::Backward(reader.array()?)),
            _ => Err(DecodeError::Invalid("the form of what is sealed")),
        }
    }
}

/// One direction's keys.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Keys {
    encrypt: [u8; 32],
    prove: [u8; 32],
}

impl Keys {
    fn derive(secrets: &[&[u8]], direction: &[u8], public: &[&[u8]]) -> Option<Self> {
        let mut secret = secrets.concat();
        let mut info = PROTOCOL.to_vec();
        info.extend_from_slice(direction);
        info.append(&mut public.concat());
        let mut bytes = [0; 64];
        let expanded = Hkdf::<Sha256>::new(Some(PROTOCOL), &secret).expand(&info, &mut bytes);
        secret.zeroize();
        expanded.ok()?;
        let mut keys = Keys {
            encrypt: [0; 32],
            prove: [0; 32],
        };
        keys.encrypt.copy_from_slice(&bytes[..32]);
        keys.prove.copy_from_slice(&bytes[32..]);
        bytes.zeroize();
        Some(keys)
    }

    /// Encrypts or decrypts one message.
    fn apply(&self, counter: u32, body: &mut [u8]) -> Option<()> {
        let mut whole = hmac(&self.encrypt, &counter.to_be_bytes())?;
        let mut key = [0; 16];
        key.copy_from_slice(&whole[..16]);
        Aes128Ctr::new(&key).apply(body);
        whole.zeroize();
        key.zeroize();
        Some(())
    }

    fn mac(&self, bytes: &[u8]) -> Option<[u8; MAC_LEN]> {
        let whole = hmac(&self.prove, bytes)?;
        let mut cut = [0; MAC_LEN];
        cut.copy_from_slice(&whole[..MAC_LEN]);
        Some(cut)
    }

    fn seal(&self, mut header: Vec<u8>, counter: u32, plain: &[u8]) -> Option<Vec<u8>> {
        header.extend_from_slice(&counter.to_be_bytes());
        let mut body = plain.to_vec();
        self.apply(counter, &mut body)?;
        header.append(&mut body);
        let mac = self.mac(&header)?;
        header.extend_from_slice(&mac);
        Some(header)
    }

    /// Opens what follows a header of `header` bytes.
    fn open(&self, header: usize, bytes: &[u8]) -> Result<(u32, Vec<u8>), SealFault> {
        let split = bytes.len().checked_sub(MAC_LEN);
        let (signed, mac) = split
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(signed);
        reader.take(header)?;
        let counter: u32 = reader.read()?;
        let expected = self.mac(signed).ok_or(SealFault::Unproven)?;
        if !bool::from(expected.ct_eq(mac)) {
            return Err(SealFault::Unproven);
        }
        let mut body = reader.rest().to_vec();
        self.apply(counter, &mut body).ok_or(SealFault::Unproven)?;
        Ok((counter, body))
    }
}

fn hmac(key: &[u8; 32], bytes: &[u8]) -> Option<[u8; 32]> {
    let mut mac = SimpleHmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(bytes);
    Some(mac.finalize().into_bytes().into())
}

/// Counters that came: each once, in any order.
#[derive(Clone, Copy, Debug, Default)]
struct Seen(u64);

impl Seen {
    fn take(&mut self, counter: u32) -> Result<(), SealFault> {
        let bit = 1u64.checked_shl(counter).ok_or(SealFault::Replayed)?;
        if self.0 & bit != 0 {
            return Err(SealFault::Replayed);
        }
        self.0 |= bit;
        Ok(())
    }
}

/// Messages that one side may send in one conversation.
const MAX_MESSAGES: u32 = 64;

/// Counters that were used.
#[derive(Clone, Copy, Debug, Default)]
struct Sent(u32);

impl Sent {
    /// The next; nothing if there were too many.
    fn next(&mut self) -> Option<u32> {
        let counter = self.0;
        if counter >= MAX_MESSAGES {
            return None;
        }
        self.0 += 1;
        Some(counter)
    }
}

/// The side that opened a conversation.
pub struct Opener {
    own: RsaId,
    peer: RsaId,
    onion: OnionKey,
    ephemeral: StaticSecret,
    public: [u8; 32],
    static_secret: [u8; 32],
    forward: Keys,
    sent: Sent,
    /// `F`, once the other side has shown it, and its keys.
    backward: Option<([u8; 32], Keys)>,
    seen: Seen,
}

/// The side that was talked to.
pub struct Answerer {
    public: [u8; 32],
    own_public: [u8; 32],
    forward: Keys,
    backward: Keys,
    sent: Sent,
    seen: Seen,
}

fn id_of(public: &[u8; 32]) -> SessionId {
    let mut id = [0; 8];
    id.copy_from_slice(&public[..8]);
    id
}

fn forward_keys(
    secret: &[u8; 32],
    from: &RsaId,
    to: &RsaId,
    onion: &[u8; 32],
    ephemeral: &[u8; 32],
) -> Option<Keys> {
    Keys::derive(&[secret], b":forward", &[&from.0, &to.0, onion, ephemeral])
}

fn backward_keys(
    (fresh, lasting): (&[u8; 32], &[u8; 32]),
    from: &RsaId,
    to: &RsaId,
    onion: &[u8; 32],
    keys: (&[u8; 32], &[u8; 32]),
) -> Option<Keys> {
    let public: [&[u8]; 5] = [&from.0, &to.0, onion, keys.0, keys.1];
    Keys::derive(&[fresh, lasting], b":backward", &public)
}

impl Opener {
    /// Opens a conversation between `own` and `peer`, which holds `onion`. Nothing if that is a key
    /// that anybody holds.
    pub fn new<R: CryptoRng>(
        own: RsaId,
        peer: RsaId,
        onion: OnionKey,
        rng: &mut R,
    ) -> Option<Self> {
        let ephemeral = StaticSecret::random_from_rng(rng);
        let public = PublicKey::from(&ephemeral).to_bytes();
        let shared = ephemeral.diffie_hellman(&PublicKey::from(onion.0));
        if !shared.was_contributory() {
            return None;
        }
        let forward = forward_keys(shared.as_bytes(), &own, &peer, &onion.0, &public)?;
        Some(Opener {
            own,
            peer,
            onion,
            ephemeral,
            public,
            static_secret: *shared.as_bytes(),
            forward,
            sent: Sent::default(),
            backward: None,
            seen: Seen::default(),
        })
    }

    /// The conversation's name.
    pub fn id(&self) -> SessionId {
        id_of(&self.public)
    }

    /// Seals one more message; nothing if there were too many.
    pub fn seal(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let counter = self.sent.next()?;
        let header = if counter == 0 {
            [&[OPENING][..], &self.own.0, &self.public].concat()
        } else {
            [&[FURTHER][..], &self.id()].concat()
        };
        self.forward.seal(header, counter, plain)
    }

    /// Opens a message of the other side's.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SealFault> {
        let mut reader = Reader::new(bytes);
        let form: u8 = reader.read()?;
        let id: SessionId = reader.array()?;
        let fresh: [u8; 32] = reader.array()?;
        if form != BACKWARD || id != self.id() {
            return Err(SealFault::Unproven);
        }
        let keys = match &self.backward {
            Some((known, keys)) if *known == fresh => keys.clone(),
            Some(_) => return Err(SealFault::Unproven),
            None => {
                let shared = self.ephemeral.diffie_hellman(&PublicKey::from(fresh));
                if !shared.was_contributory() {
                    return Err(SealFault::Unproven);
                }
                backward_keys(
                    (shared.as_bytes(), &self.static_secret),
                    &self.own,
                    &self.peer,
                    &self.onion.0,
                    (&self.public, &fresh),
                )
                .ok_or(SealFault::Unproven)?
            }
        };
        let (counter, plain) = keys.open(1 + 8 + 32, bytes)?;
        self.seen.take(counter)?;
        self.backward = Some((fresh, keys));
        Ok(plain)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.static_secret.zeroize();
    }
}

impl Answerer {
    /// Takes an opening that came for `own`, which holds `onion`, and opens it.
    pub fn accept<R: CryptoRng>(
        own: RsaId,
        onion: &OnionSecret,
        bytes: &[u8],
        rng: &mut R,
    ) -> Result<(Self, Vec<u8>), SealFault> {
        let Sealed::Opening { from, ephemeral } = Sealed::of(bytes)? else {
            return Err(SealFault::Unproven);
        };
        let onion_public = onion.public().0;
        let theirs = PublicKey::from(ephemeral);
        let lasting = onion.diffie_hellman(&theirs);
        let fresh_secret = StaticSecret::random_from_rng(rng);
        let fresh = fresh_secret.diffie_hellman(&theirs);
        if !lasting.was_contributory() || !fresh.was_contributory() {
            return Err(SealFault::Unproven);
        }
        let own_public = PublicKey::from(&fresh_secret).to_bytes();
        let forward = forward_keys(lasting.as_bytes(), &from, &own, &onion_public, &ephemeral)
            .ok_or(SealFault::Unproven)?;
        let backward = backward_keys(
            (fresh.as_bytes(), lasting.as_bytes()),
            &from,
            &own,
            &onion_public,
            (&ephemeral, &own_public),
        )
        .ok_or(SealFault::Unproven)?;
        let (counter, plain) = forward.open(1 + 20 + 32, bytes)?;
        let mut seen = Seen::default();
        seen.take(counter)?;
        let answerer = Answerer {
            public: ephemeral,
            own_public,
            forward,
            backward,
            sent: Sent::default(),
            seen,
        };
        Ok((answerer, plain))
    }

    /// The conversation's name.
    pub fn id(&self) -> SessionId {
        id_of(&self.public)
    }

    /// Seals one more message; nothing if there were too many.
    pub fn seal(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let counter = self.sent.next()?;
        let header = [&[BACKWARD][..], &self.id(), &self.own_public].concat();
        self.backward.seal(header, counter, plain)
    }

    /// Opens a further message of who opened the conversation.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SealFault> {
        if Sealed::of(bytes)? != Sealed::Further(self.id()) {
            return Err(SealFault::Unproven);
        }
        let (counter, plain) = self.forward.open(1 + 8, bytes)?;
        self.seen.take(counter)?;
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha20Rng;
    use rand_core::SeedableRng;

    const ALICE: RsaId = RsaId([0xa1; 20]);
    const BOB: RsaId = RsaId([0xb0; 20]);

    fn pair(seed: u8) -> (ChaCha20Rng, OnionSecret, Opener) {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let onion = OnionSecret::from(StaticSecret::random_from_rng(&mut rng));
        let public = onion.public();
        let alice = Opener::new(ALICE, BOB, public, &mut rng).unwrap();
        (rng, onion, alice)
    }

    #[test]
    fn a_conversation_goes_both_ways_in_any_order() {
        let (mut rng, onion, mut alice) = pair(1);
        let offer = alice.seal(b"offer").unwrap();
        assert_eq!(
            Sealed::of(&offer),
            Ok(Sealed::Opening {
                from: ALICE,
                ephemeral: alice.public
            })
        );
        let (mut bob, plain) = Answerer::accept(BOB, &onion, &offer, &mut rng).unwrap();
        assert_eq!(plain, b"offer");
        let more: Vec<Vec<u8>> = (0..3).map(|n| alice.seal(&[n]).unwrap()).collect();
        for n in [2, 0, 1] {
            assert_eq!(bob.open(&more[n]), Ok(vec![n as u8]));
            assert_eq!(bob.open(&more[n]), Err(SealFault::Replayed));
        }
        let (answer, candidate) = (bob.seal(b"answer").unwrap(), bob.seal(b"more").unwrap());
        assert_eq!(alice.open(&candidate), Ok(b"more".to_vec()));
        assert_eq!(alice.open(&answer), Ok(b"answer".to_vec()));
        assert_eq!(alice.open(&answer), Err(SealFault::Replayed));
        // Neither side takes back what it sealed itself.
        assert!(alice.open(&more[0]).is_err());
        assert!(bob.open(&answer).is_err());
    }

    #[test]
    fn every_bit_and_every_byte_is_proven() {
        let (mut rng, onion, mut alice) = pair(2);
        let offer = alice.seal(b"an offer").unwrap();
        let (mut bob, _) = Answerer::accept(BOB, &onion, &offer, &mut rng).unwrap();
        let answer = bob.seal(b"an answer").unwrap();
        for bit in 0..offer.len() * 8 {
            let mut changed = offer.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // The highest bit of an x25519 key is not of the key (RFC 7748); it is bound all the
            // same, by the MAC over the header.
            let taken = Answerer::accept(BOB, &onion, &changed, &mut rng);
            assert!(taken.is_err(), "bit {bit} of the offer");
        }
        for bit in 0..answer.len() * 8 {
            let mut changed = answer.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(alice.open(&changed).is_err(), "bit {bit} of the answer");
        }
        for len in 0..offer.len() {
            assert!(Answerer::accept(BOB, &onion, &offer[..len], &mut rng).is_err());
        }
        for len in 0..answer.len() {
            assert!(alice.open(&answer[..len]).is_err());
        }
        assert_eq!(alice.open(&answer), Ok(b"an answer".to_vec()));
    }

    #[test]
    fn it_is_for_one_alone_who_holds_one_key() {
        let (mut rng, onion, mut alice) = pair(3);
        let offer = alice.seal(b"offer").unwrap();
        let carol = Answerer::accept(RsaId([0xca; 20]), &onion, &offer, &mut rng);
        assert_eq!(carol.err(), Some(SealFault::Unproven));
        let other = OnionSecret::from(StaticSecret::random_from_rng(&mut rng));
        let taken = Answerer::accept(BOB, &other, &offer, &mut rng);
        assert_eq!(taken.err(), Some(SealFault::Unproven));
        // A point of low order makes a secret that everybody knows.
        assert!(Opener::new(ALICE, BOB, OnionKey([0; 32]), &mut rng).is_none());
    }

    #[test]
    fn the_bytes_are_these() {
        let (mut rng, onion, mut alice) = pair(4);
        let offer = alice.seal(b"offer").unwrap();
        let (mut bob, _) = Answerer::accept(BOB, &onion, &offer, &mut rng).unwrap();
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        assert_eq!(hex(&offer), OFFER.concat());
        assert_eq!(hex(&alice.seal(b"candidate").unwrap()), CANDIDATE.concat());
        assert_eq!(hex(&bob.seal(b"answer").unwrap()), ANSWER.concat());
    }

    // Made by another implementation, of Python's `cryptography`, from what is said above.
    /// Form, sender, ephemeral key, counter; 5 bytes sealed; MAC.
    const OFFER: [&str; 6] = [
        "00",
        "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
        "5dfe8900bee4c0ff707a530cc7bbce1dbe2d649d9228b4852e746550b9189e74",
        "00000000",
        "0b1346a463",
        "620f12da6800eb5a974b895f55689656",
    ];
    /// Form, session, counter; 9 bytes sealed; MAC.
    const CANDIDATE: [&str; 5] = [
        "01",
        "5dfe8900bee4c0ff",
        "00000001",
        "5948eb372142add854",
        "8ee3d8df8ed97f7ecb5a4a7ee8cd881f",
    ];
    /// Form, session, the other ephemeral key, counter; 6 bytes sealed; MAC.
    const ANSWER: [&str; 6] = [
        "02",
        "5dfe8900bee4c0ff",
        "b5b393bf2b494025b1bdf99858b60ae9246ea3d1c201471951b84488eb40ee4e",
        "00000000",
        "bb37b9ad9c90",
        "ce402b88deffe51d80bcbc154b11cb99",
    ];
}
