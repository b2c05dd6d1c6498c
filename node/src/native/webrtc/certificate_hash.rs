//! How a tab's certificate stands in ICE's user fragment, by which the tab commits itself to it.

use base64ct::{Base64Unpadded, Encoding};

/// The SHA-256 of a DTLS certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CertificateHash(pub(super) [u8; 32]);

impl CertificateHash {
    /// A user fragment's certificate; it has one spelling.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let decoded = Base64Unpadded::decode(name, &mut hash).ok()?;
        (decoded.len() == 32).then_some(CertificateHash(hash))
    }

    /// The user fragment.
    pub(super) fn to_name(self) -> String {
        Base64Unpadded::encode_string(&self.0)
    }
}
