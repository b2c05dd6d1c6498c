//! What this node signs with its identity keys: link certificates and descriptors.
//!
//! All of it goes through [`Node::request_signature`]. Where the keys are here the signature is made
//! at once; where the host holds them it is asked ([`Event::Sign`]), and whatever needs the
//! signature goes on when it has answered ([`crate::node::Input::Signed`]). Nobody waits for ever:
//! what is not signed in time is taken for refused, and whoever needs it tries again later.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{Key, LinkId, SignatureId};
use crate::link::{Binding, HostKey, IdentityError, LinkCertsDraft, Unsigned};
use crate::node::links::{Link, LinkState};
use crate::node::timers::Wake;
use crate::node::{Event, Node, RENEW_CERTS};
use crate::time::Instant;
use crate::wire::{Descriptor, DescriptorBody};

/// How long a descriptor or a record holds.
pub(crate) const DESCRIPTOR_LIFE: Duration = Duration::from_secs(3600);
/// To how many seconds it is rounded up, so that nobody tells a tab by its clock.
const EXPIRY_STEP_SECONDS: u64 = 900;
/// How long our own descriptor is told before it is signed anew.
const DESCRIPTOR_RENEWAL: Duration = Duration::from_secs(DESCRIPTOR_LIFE.as_secs() / 3);
/// The most signatures that the host may be asked for at once. Our own parts fill it: three for the
/// certificates, one for our descriptor, one for each record that is published; what comes when it
/// is full counts as refused.
const MAX_SIGNATURES: usize = 64;
/// How long the host may take to sign.
const SIGN_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon what was not signed is tried again.
const SIGN_AGAIN: Duration = Duration::from_secs(15);

/// What a signature is for.
#[derive(Debug)]
enum SignatureFor {
    /// The link certificates, and which of theirs.
    Certs(usize),
    /// A descriptor, or a record, which is one too.
    Descriptor(Box<DescriptorBody>, DescriptorFor),
}

/// What a descriptor is signed for: [`Node::descriptor_signed`] goes on with it. A further use is
/// one more line here and one more arm there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescriptorFor {
    /// [`Node::own_descriptor`].
    Own,
    /// Kademlia publishes that this node is an ORDB for this name.
    Provided(Key),
    /// [`Node::sign_record`].
    Record,
}

/// A signature that the host was asked for.
#[derive(Debug)]
struct Pending {
    what: SignatureFor,
    key: HostKey,
    late_at: Instant,
}

/// Link certificates of which some signatures are there.
#[derive(Debug)]
struct Draft {
    draft: LinkCertsDraft,
    signatures: [Option<Vec<u8>>; LinkCertsDraft::SIGNATURES],
}

/// What is being signed.
#[derive(Debug, Default)]
pub(crate) struct Signing {
    /// The oldest first: ids grow, and all have the same time.
    pending: BTreeMap<SignatureId, Pending>,
    draft: Option<Draft>,
    own: Option<Descriptor>,
    own_asked: bool,
    /// Whether our own descriptor is new, and neighbours have yet to be told.
    pub(crate) untold: bool,
    /// When it is signed anew, be it still true.
    renew_at: Instant,
    /// Before this nobody is asked to sign it, for that was refused.
    retry_at: Instant,
}

impl Node {
    /// Has something signed by one of the identity keys; [`Node::signature_made`] goes on with it,
    /// at once if the key is here.
    fn request_signature(&mut self, what: SignatureFor, unsigned: Unsigned) {
        let Some(identity) = self.config.identity.clone() else {
            return self.signature_made(what, None);
        };
        let key = unsigned.key();
        match identity.sign(&unsigned, &mut self.rng) {
            Ok(signature) => self.signature_made(what, Some(signature)),
            Err(IdentityError::Hosted) if self.signing.pending.len() < MAX_SIGNATURES => {
                let request = SignatureId(self.next_id());
                let late_at = self.now + SIGN_TIMEOUT;
                self.signing
                    .pending
                    .insert(request, Pending { what, key, late_at });
                self.watch_signatures();
                self.emit(Event::Sign {
                    request,
                    key,
                    message: unsigned.into_message(),
                });
            }
            Err(_) => {
                self.emit(Event::Unsigned {
                    key,
                    why: "the identity's key could not sign, or has too much to sign",
                });
                self.signature_made(what, None);
            }
        }
    }

    /// The host answered [`Event::Sign`].
    pub(crate) fn handle_signed(&mut self, request: SignatureId, signature: Option<Vec<u8>>) {
        // What came too late is not waited for any more.
        let Some(pending) = self.signing.pending.remove(&request) else {
            return;
        };
        self.watch_signatures();
        if signature.is_none() {
            self.emit(Event::Unsigned {
                key: pending.key,
                why: "the host did not sign",
            });
        }
        self.signature_made(pending.what, signature);
    }

    /// The host has not answered in time.
    pub(crate) fn signatures_late(&mut self) {
        while let Some(oldest) = self.signing.pending.first_entry()
            && oldest.get().late_at <= self.now
        {
            let Pending { what, key, .. } = oldest.remove();
            self.emit(Event::Unsigned {
                key,
                why: "the host did not sign in time",
            });
            self.signature_made(what, None);
        }
        self.watch_signatures();
    }

    fn watch_signatures(&mut self) {
        match self.signing.pending.first_key_value() {
            Some((_, pending)) => self.timers.set(Wake::Signatures, pending.late_at),
            None => self.timers.clear(Wake::Signatures),
        }
    }

    fn signature_made(&mut self, what: SignatureFor, signature: Option<Vec<u8>>) {
        match what {
            SignatureFor::Certs(index) => self.cert_signed(index, signature),
            SignatureFor::Descriptor(body, purpose) => {
                let signature = signature.and_then(|bytes| bytes.try_into().ok());
                let descriptor = signature
                    .map(|signature| body.signed_with(signature))
                    // A host may have signed with a wrong key.
                    .filter(|descriptor| descriptor.verify(self.unix_now()).is_ok());
                self.descriptor_signed(purpose, descriptor);
            }
        }
    }

    /// Begins to make link certificates, at the start and when those in use grow old.
    pub(crate) fn renew_certs(&mut self) {
        let Some(identity) = self.config.identity.clone() else {
            return;
        };
        // If these come to nothing, others are begun then.
        self.timers.set(Wake::Certs, self.now + SIGN_AGAIN);
        let (tls, unix_now) = (self.config.tls_certificate_sha256, self.unix_now());
        let draft = LinkCertsDraft::new(&identity, tls, unix_now, &mut self.rng);
        let unsigned = draft.unsigned();
        // An answer to an earlier draft must not come among those to this one.
        let is_other = |pending: &Pending| !matches!(pending.what, SignatureFor::Certs(_));
        self.signing.pending.retain(|_, pending| is_other(pending));
        self.signing.draft = Some(Draft {
            draft,
            signatures: Default::default(),
        });
        for (index, what) in unsigned.into_iter().enumerate() {
            self.request_signature(SignatureFor::Certs(index), what);
        }
    }

    fn cert_signed(&mut self, index: usize, signature: Option<Vec<u8>>) {
        let Some(mut draft) = self.signing.draft.take() else {
            return;
        };
        let Some(signature) = signature else {
            return self.certs_refused();
        };
        if let Some(place) = draft.signatures.get_mut(index) {
            *place = Some(signature);
        }
        let [Some(one), Some(two), Some(three)] = draft.signatures else {
            self.signing.draft = Some(draft);
            return;
        };
        match draft.draft.signed([one, two, three]) {
            Ok(certs) => {
                self.certs = Some(Arc::new(certs));
                self.timers.set(Wake::Certs, self.now + RENEW_CERTS);
                for link in self.links_without_certs() {
                    self.resume_link(link);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the link certificates are not signed");
                self.certs_refused();
            }
        }
    }

    /// There are no new certificates for now: the old ones stand while there are any, and without
    /// any no link can be made.
    fn certs_refused(&mut self) {
        self.signing.draft = None;
        for link in self.links_without_certs() {
            self.hang_up(
                link,
                "this node's certificates were not signed by its keys' holder",
            );
        }
    }

    fn links_without_certs(&self) -> Vec<LinkId> {
        let waits = |link: &Link| matches!(link.state, LinkState::AwaitCerts { .. });
        let links = self.links.iter().filter(|(_, link)| waits(link));
        links.map(|(id, _)| *id).collect()
    }

    /// A link's transport stands and our own certificates do not yet: it waits for them, as long
    /// as for a handshake. Answers whether it does.
    pub(crate) fn await_certs(
        &mut self,
        id: LinkId,
        binding: Binding,
        peer: Option<IpAddr>,
    ) -> bool {
        if self.config.identity.is_none() || self.certs.is_some() {
            return false;
        }
        if self.signing.draft.is_none() {
            // They were refused a short while ago.
            self.hang_up(id, "this node's certificates are not signed yet");
        } else if let Some(link) = self.links.get_mut(&id) {
            link.state = LinkState::AwaitCerts { binding, peer };
        }
        true
    }

    fn resume_link(&mut self, id: LinkId) {
        let state = self.links.get(&id).map(|link| &link.state);
        if let Some(LinkState::AwaitCerts { binding, peer }) = state {
            let (binding, peer) = (*binding, *peer);
            self.handle_connected(id, binding, peer);
        }
    }

    /// Signs a record that this node is an ORDB for a name; [`Event::Record`] follows, or
    /// [`Event::Unsigned`].
    pub fn sign_record(&mut self, now: Instant, provides: Key) {
        self.now = now;
        self.sign_descriptor(Some(provides), DescriptorFor::Record);
    }

    /// Signs a descriptor of this node as it is now: its own, or with `provides` the record that it
    /// is an ORDB for a name. [`Node::descriptor_signed`] goes on with it.
    pub(crate) fn sign_descriptor(&mut self, provides: Option<Key>, purpose: DescriptorFor) {
        let Some(body) = self.descriptor_body(provides) else {
            return self.descriptor_signed(purpose, None);
        };
        match body.signed_bytes() {
            Ok(bytes) => {
                let what = SignatureFor::Descriptor(Box::new(body), purpose);
                self.request_signature(what, Unsigned::ed25519(bytes));
            }
            Err(error) => {
                tracing::warn!(%error, "this node cannot say what it is");
                self.descriptor_signed(purpose, None);
            }
        }
    }

    /// A descriptor is signed, or will not be.
    fn descriptor_signed(&mut self, purpose: DescriptorFor, descriptor: Option<Descriptor>) {
        match purpose {
            DescriptorFor::Provided(name) => self.record_signed(name, descriptor),
            DescriptorFor::Own => {
                self.signing.own_asked = false;
                if descriptor.is_none() {
                    self.signing.retry_at = self.now + SIGN_AGAIN;
                    return self.wake_directory(self.signing.retry_at);
                }
                if let Some(own) = &descriptor {
                    self.kademlia_described(own);
                }
                self.signing.own = descriptor;
                self.signing.renew_at = self.now + DESCRIPTOR_RENEWAL;
                // Bridges and neighbours are told in their turn.
                self.signing.untold = true;
                self.directory_dirty = true;
            }
            DescriptorFor::Record => {
                if let Some(record) = descriptor {
                    self.emit(Event::Record(Box::new(record)));
                }
            }
        }
    }

    /// What this node says of itself; nothing if it is nobody, or if it is not signed yet. It is
    /// signed anew when it grows old or is no longer true, and the old one told until then.
    pub(crate) fn own_descriptor(&mut self) -> Option<Descriptor> {
        let is_true = {
            let body = self.descriptor_body(None)?;
            let own = self.signing.own.as_ref().map(Descriptor::unverified);
            own.is_some_and(|own| {
                let expiry = own.expiry;
                *own == DescriptorBody { expiry, ..body }
            })
        };
        let is_due = !is_true || self.signing.renew_at <= self.now;
        if is_due && self.signing.retry_at <= self.now && !self.signing.own_asked {
            self.signing.own_asked = true;
            self.sign_descriptor(None, DescriptorFor::Own);
        }
        // Whichever is past is past for good, or comes with the host's answer.
        for at in [self.signing.renew_at, self.signing.retry_at] {
            if at > self.now {
                self.wake_directory(at);
            }
        }
        let unix_now = self.unix_now();
        let own = self.signing.own.as_ref();
        own.filter(|own| own.unverified().expiry > unix_now)
            .cloned()
    }

    fn descriptor_body(&self, provides: Option<Key>) -> Option<DescriptorBody> {
        let identity = self.config.identity.as_ref()?;
        let expiry = self.unix_now() + DESCRIPTOR_LIFE.as_secs();
        Some(DescriptorBody {
            rsa_id: identity.ids().rsa,
            ed25519: identity.ids().ed25519,
            onion_key: identity.onion_key(),
            roles: self.config.roles,
            expiry: expiry.next_multiple_of(EXPIRY_STEP_SECONDS),
            addresses: self.config.addresses.clone(),
            dtls: self.config.dtls_certificate_sha256,
            introducers: self.own_introducers(),
            provides,
            extensions: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
