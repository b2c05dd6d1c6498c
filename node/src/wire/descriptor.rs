//! Descriptors: what a router says of itself, signed, small enough for one relay cell.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::codec::{Bytes16, Field, List8, Optional};
use super::{Decode, DecodeError, Encode, EncodeError, LinkSpecifier, Reader, Writer};
use crate::ids::{Ed25519Id, Key, OnionKey, RsaId};
use crate::memo;

/// The most addresses in one descriptor.
pub const MAX_DESCRIPTOR_ADDRESSES: usize = 4;
/// The most introducers in one descriptor.
pub const MAX_INTRODUCERS: usize = 3;
/// The most bytes of extensions: with them, four IPv6 addresses and three introducers a descriptor
/// still fits in one relay cell, with the header of any message that carries one.
pub const MAX_DESCRIPTOR_EXTENSIONS: usize = 40;
/// What is signed begins with this.
const SIGNATURE_PREFIX: &[u8] = b"chive-descriptor-v2";
/// The version that we write, and the only one that we read.
const VERSION: u8 = 2;

/// What a router does, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Roles(pub u16);

impl Roles {
    /// It introduces routers and lets tabs in.
    pub const BRIDGE: Roles = Roles(1);
    /// It extends circuits.
    pub const ROUTER: Roles = Roles(1 << 1);
    /// It serves content.
    pub const ORDB: Roles = Roles(1 << 2);
    /// It serves content out of BitTorrent swarms.
    pub const FACILITATOR: Roles = Roles(1 << 3);

    /// These and `other`.
    pub const fn with(self, other: Roles) -> Roles {
        Roles(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Roles) -> bool {
        self.0 & other.0 == other.0
    }
}

super::codec::newtypes! { Roles => Roles, |roles: &Roles| roles.0, u16; }

/// What a router says of itself: `version u8` = 2, the fields in order (addresses as link
/// specifiers after a `u8` count, extensions after a `u16` length).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorBody {
    /// Its fingerprint. The signature does not prove it: the link's handshake does.
    pub rsa_id: RsaId,
    /// Its identity, which signs.
    pub ed25519: Ed25519Id,
    /// Its onion key.
    pub onion_key: OnionKey,
    /// What it does.
    pub roles: Roles,
    /// Until when this holds, Unix seconds.
    pub expiry: u64,
    /// Where it listens: TLS, and with `dtls` WebRTC on UDP too. Empty for a tab.
    pub addresses: Vec<SocketAddr>,
    /// SHA-256 of the DTLS certificate that it shows on UDP, if it is dialled so.
    pub dtls: Option<[u8; 32]>,
    /// Routers that it is linked to and that introduce it.
    pub introducers: Vec<RsaId>,
    /// In a record of Kademlia: the name of content that it is an ORDB for.
    pub provides: Option<Key>,
    /// Room to grow: signed, passed on, and not read by this version.
    pub extensions: Vec<u8>,
}

/// A [`DescriptorBody`] and its signature, not checked yet: 64 bytes by the Ed25519 identity over
/// `chive-descriptor-v2` and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    body: DescriptorBody,
    signature: [u8; 64],
}

/// A descriptor whose signature is its router's and which has not expired. All copies are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDescriptor(Arc<Descriptor>);

/// Why a descriptor is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// The signature is not by the identity that it names.
    #[error("the descriptor's signature is wrong")]
    Signature,
    /// It has expired.
    #[error("the descriptor has expired")]
    Expired,
    /// What is to be signed is out of bounds.
    #[error("the descriptor cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// It is to be signed by a key that is not its router's.
    #[error("the descriptor names another identity than the key that is to sign it")]
    OtherKey,
}

impl DescriptorBody {
    /// Signs this by the router's identity key.
    pub fn sign(self, identity: &SigningKey) -> Result<Descriptor, DescriptorError> {
        if identity.verifying_key().to_bytes() != self.ed25519.0 {
            return Err(DescriptorError::OtherKey);
        }
        let signature = identity.sign(&self.signed_bytes()?).to_bytes();
        Ok(self.signed_with(signature))
    }

    /// This with a signature that was made elsewhere, over [`DescriptorBody::signed_bytes`].
    pub const fn signed_with(self, signature: [u8; 64]) -> Descriptor {
        Descriptor {
            body: self,
            signature,
        }
    }

    /// What the signature is over.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = SIGNATURE_PREFIX.to_vec();
        bytes.append(&mut self.encoded()?);
        Ok(bytes)
    }
}

impl Descriptor {
    /// What it says, unproven.
    pub const fn unverified(&self) -> &DescriptorBody {
        &self.body
    }

    /// Checks signature and expiry.
    pub fn verify(&self, unix_now: u64) -> Result<VerifiedDescriptor, DescriptorError> {
        let signed = memo::descriptor(self, Descriptor::check_signature)?;
        if self.body.expiry <= unix_now {
            return Err(DescriptorError::Expired);
        }
        Ok(VerifiedDescriptor(signed))
    }

    fn check_signature(&self) -> Result<(), DescriptorError> {
        let key = VerifyingKey::from_bytes(&self.body.ed25519.0)
            .map_err(|_| DescriptorError::Signature)?;
        // The codec is canonical (tests hold it to that), so these are the bytes that came.
        let signed = self.body.signed_bytes()?;
        key.verify_strict(&signed, &Signature::from_bytes(&self.signature))
            .map_err(|_| DescriptorError::Signature)
    }

    /// The signature, checked or not: no two descriptors that are right have the same.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }
}

impl VerifiedDescriptor {
    /// The descriptor, to be passed on.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0
    }
}

impl Deref for VerifiedDescriptor {
    type Target = DescriptorBody;

    fn deref(&self) -> &DescriptorBody {
        &self.0.body
    }
}

impl Encode for DescriptorBody {
    fn encoded_len(&self) -> usize {
        let addresses = self
            .addresses
            .iter()
            .map(SocketAddr::encoded_len)
            .sum::<usize>();
        1 + 20
            + 32
            + 32
            + 2
            + 8
            + 1
            + addresses
            + Optional::len(&self.dtls)
            + List8::<MAX_INTRODUCERS>::len(&self.introducers)
            + Optional::len(&self.provides)
            + 2
            + self.extensions.len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&VERSION)?;
        writer.write(&self.rsa_id)?;
        writer.write(&self.ed25519)?;
        writer.write(&self.onion_key)?;
        writer.write(&self.roles)?;
        writer.write(&self.expiry)?;
        List8::<MAX_DESCRIPTOR_ADDRESSES>::put(&self.addresses, writer)?;
        Optional::put(&self.dtls, writer)?;
        List8::<MAX_INTRODUCERS>::put(&self.introducers, writer)?;
        Optional::put(&self.provides, writer)?;
        Bytes16::<MAX_DESCRIPTOR_EXTENSIONS>::put(&self.extensions, writer)
    }
}
impl<'a> Decode<'a> for DescriptorBody {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if reader.read::<u8>()? != VERSION {
            return Err(DecodeError::Invalid("a descriptor's version"));
        }
        Ok(DescriptorBody {
            rsa_id: reader.read()?,
            ed25519: reader.read()?,
            onion_key: reader.read()?,
            roles: reader.read()?,
            expiry: reader.read()?,
            addresses: List8::<MAX_DESCRIPTOR_ADDRESSES>::take(reader)?,
            dtls: Optional::take(reader)?,
            introducers: List8::<MAX_INTRODUCERS>::take(reader)?,
            provides: Optional::take(reader)?,
            extensions: Bytes16::<MAX_DESCRIPTOR_EXTENSIONS>::take(reader)?,
        })
    }
}

impl Encode for Descriptor {
    fn encoded_len(&self) -> usize {
        self.body.encoded_len() + self.signature.len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&self.body)?;
        writer.write(&self.signature)
    }
}
impl<'a> Decode<'a> for Descriptor {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Descriptor {
            body: reader.read()?,
            signature: reader.read()?,
        })
    }
}

/// An address is a link specifier of type 0 or 1.
impl Encode for SocketAddr {
    fn encoded_len(&self) -> usize {
        LinkSpecifier::address(*self).encoded_len()
    }
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.write(&LinkSpecifier::address(*self))
    }
}
impl<'a> Decode<'a> for SocketAddr {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let specifier: LinkSpecifier = reader.read()?;
        specifier
            .socket_addr()
            .ok_or(DecodeError::Invalid("a descriptor's address"))
    }
}
