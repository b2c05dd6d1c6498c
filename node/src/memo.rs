//! What was verified already on this thread, for a host that runs thousands of nodes in one.
//!
//! In a simulated network every node checks the same descriptors and certificates, and holds them.
//! A host may say once that it is such a one ([`remember`]); then a signature that was right is
//! remembered with all that it is over, and all nodes hold one copy of a descriptor. Whatever
//! differs in a bit is checked as ever, and what was wrong is never remembered. Without that call,
//! as in every program and tab, nothing is remembered and nothing is shared.

use std::sync::Arc;

use crate::wire::Descriptor;

/// From now on this thread remembers up to `most` of each kind of what was verified; the oldest
/// is forgotten. The host says how many; zero ends it.
#[cfg(not(target_arch = "wasm32"))]
pub fn remember(most: usize) {
    here::MEMO.with_borrow_mut(|memo| *memo = (most > 0).then(|| here::Memo::new(most)));
}

/// Whether a signature is right, which `check` finds out if nobody did before. `parts` are the
/// key, the signature and what is signed.
pub(crate) fn holds(parts: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
    #[cfg(not(target_arch = "wasm32"))]
    if here::is_on() {
        return here::holds(parts, check);
    }
    let _ = parts;
    check()
}

/// A copy of a descriptor, if `check` finds its signature right, or did so before.
pub(crate) fn descriptor<E>(
    of: &Descriptor,
    check: impl FnOnce(&Descriptor) -> Result<(), E>,
) -> Result<Arc<Descriptor>, E> {
    #[cfg(not(target_arch = "wasm32"))]
    if let Some(known) = here::known(of) {
        return Ok(known);
    }
    check(of)?;
    let copy = Arc::new(of.clone());
    #[cfg(not(target_arch = "wasm32"))]
    here::keep(&copy);
    Ok(copy)
}

#[cfg(not(target_arch = "wasm32"))]
mod here {
    use std::cell::RefCell;
    use std::collections::{HashMap, HashSet, VecDeque};
    use std::sync::Arc;

    use sha2::{Digest, Sha256};

    use crate::wire::Descriptor;

    thread_local! {
        pub(super) static MEMO: RefCell<Option<Memo>> = const { RefCell::new(None) };
    }

    pub(super) struct Memo {
        most: usize,
        /// SHA-256 of key, signature and what is signed, each after its length.
        right: HashSet<[u8; 32]>,
        /// The oldest first, as are those below.
        right_order: VecDeque<[u8; 32]>,
        /// By their signatures.
        descriptors: HashMap<[u8; 64], Arc<Descriptor>>,
        descriptor_order: VecDeque<[u8; 64]>,
    }

    impl Memo {
        pub(super) fn new(most: usize) -> Self {
            Memo {
                most,
                right: HashSet::new(),
                right_order: VecDeque::new(),
                descriptors: HashMap::new(),
                descriptor_order: VecDeque::new(),
            }
        }
    }

    pub(super) fn is_on() -> bool {
        MEMO.with_borrow(Option::is_some)
    }

    pub(super) fn holds(parts: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        if MEMO.with_borrow(|memo| memo.as_ref().is_some_and(|memo| memo.right.contains(&hash))) {
            return true;
        }
        if !check() {
            return false;
        }
        MEMO.with_borrow_mut(|memo| {
            if let Some(memo) = memo
                && memo.right.insert(hash)
            {
                memo.right_order.push_back(hash);
                if memo.right_order.len() > memo.most
                    && let Some(oldest) = memo.right_order.pop_front()
                {
                    memo.right.remove(&oldest);
                }
            }
        });
        true
    }

    /// The descriptor that is the same in every field.
    pub(super) fn known(of: &Descriptor) -> Option<Arc<Descriptor>> {
        MEMO.with_borrow(|memo| {
            let known = memo.as_ref()?.descriptors.get(of.signature())?;
            (**known == *of).then(|| known.clone())
        })
    }

    pub(super) fn keep(descriptor: &Arc<Descriptor>) {
        MEMO.with_borrow_mut(|memo| {
            let Some(memo) = memo else {
                return;
            };
            let signature = *descriptor.signature();
            if memo
                .descriptors
                .insert(signature, descriptor.clone())
                .is_none()
            {
                memo.descriptor_order.push_back(signature);
            }
            if memo.descriptor_order.len() > memo.most
                && let Some(oldest) = memo.descriptor_order.pop_front()
            {
                memo.descriptors.remove(&oldest);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::ids::{Ed25519Id, OnionKey, RsaId};
    use crate::wire::{Decode, DescriptorBody, DescriptorError, Encode, Roles};

    fn signed(secret: u8) -> Descriptor {
        let key = SigningKey::from_bytes(&[secret; 32]);
        let body = DescriptorBody {
            rsa_id: RsaId([secret; 20]),
            ed25519: Ed25519Id(key.verifying_key().to_bytes()),
            onion_key: OnionKey([3; 32]),
            roles: Roles::ROUTER,
            expiry: 100,
            addresses: Vec::new(),
            dtls: None,
            introducers: vec![RsaId([4; 20])],
            provides: None,
            extensions: Vec::new(),
        };
        body.sign(&key).unwrap()
    }

    #[test]
    fn what_was_right_is_held_once_and_what_differs_in_a_bit_is_wrong() {
        remember(10);
        let descriptor = signed(1);
        let first = descriptor.verify(50).unwrap();
        let again = descriptor.clone().verify(50).unwrap();
        assert!(std::ptr::eq(first.descriptor(), again.descriptor()));
        assert_eq!(descriptor.verify(100), Err(DescriptorError::Expired));
        let bytes = descriptor.encoded().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = Descriptor::from_bytes(&bytes) {
                // Twice: what was wrong must not be remembered.
                for _ in 0..2 {
                    assert_eq!(changed.verify(0), Err(DescriptorError::Signature), "{bit}");
                }
            }
        }
        remember(0);
    }

    #[test]
    fn wrong_signatures_are_never_remembered_and_right_ones_until_there_are_too_many() {
        remember(2);
        let mut checks = 0;
        let mut ask = |parts: &[&[u8]], right: bool| {
            holds(parts, || {
                checks += 1;
                right
            })
        };
        assert!(!ask(&[b"key", b"wrong"], false));
        assert!(!ask(&[b"key", b"wrong"], false));
        assert!(ask(&[b"key", b"right"], true));
        assert!(ask(&[b"key", b"right"], false), "remembered");
        // The same bytes, divided elsewhere, are something else.
        assert!(!ask(&[b"keyr", b"ight"], false));
        assert!(ask(&[b"a"], true) && ask(&[b"b"], true));
        assert!(!ask(&[b"key", b"right"], false), "forgotten");
        assert_eq!(checks, 7);
        remember(0);
    }
}
