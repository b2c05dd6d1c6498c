//! The claims of one torrent, in pages as the database has them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Claim, Slot};

/// Chunks of one page: 16 MiB of content in at most 12 KiB of claims, so that what is written each
/// second is small beside the content.
pub const PAGE_CHUNKS: u32 = 1024;

/// Bytes of one claim: the slot plus one (0: no claim), little-endian, and the checksum.
const CLAIM_LEN: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Claims {
    /// By page; each as long as its last claim needs, none empty.
    pages: BTreeMap<u32, Vec<Option<Claim>>>,
    dirty: BTreeSet<u32>,
}

impl Claims {
    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(super) fn get(&self, chunk: u32) -> Option<Claim> {
        let page = self.pages.get(&(chunk / PAGE_CHUNKS))?;
        page.get((chunk % PAGE_CHUNKS) as usize).copied().flatten()
    }

    pub(super) fn insert(&mut self, chunk: u32, claim: Claim) {
        self.restore(chunk, claim);
        self.touch(chunk);
    }

    /// As [`Self::insert`], for what the database has already.
    pub(super) fn restore(&mut self, chunk: u32, claim: Claim) {
        let place = (chunk % PAGE_CHUNKS) as usize;
        let page = self.pages.entry(chunk / PAGE_CHUNKS).or_default();
        if page.len() <= place {
            page.resize(place.saturating_add(1), None);
        }
        if let Some(at) = page.get_mut(place) {
            *at = Some(claim);
        }
    }

    pub(super) fn remove(&mut self, chunk: u32) -> Option<Claim> {
        let number = chunk / PAGE_CHUNKS;
        let page = self.pages.get_mut(&number)?;
        let claim = page.get_mut((chunk % PAGE_CHUNKS) as usize)?.take()?;
        while page.last().is_some_and(Option::is_none) {
            page.pop();
        }
        if page.is_empty() {
            self.pages.remove(&number);
        }
        self.touch(chunk);
        Some(claim)
    }

    /// The page of this chunk is to be put anew.
    pub(super) fn touch(&mut self, chunk: u32) {
        self.dirty.insert(chunk / PAGE_CHUNKS);
    }

    /// Ascending.
    pub(super) fn chunks(&self) -> impl Iterator<Item = u32> + '_ {
        self.pages.iter().flat_map(|(number, page)| {
            let first = number.saturating_mul(PAGE_CHUNKS);
            (first..)
                .zip(page)
                .filter_map(|(chunk, claim)| claim.map(|_| chunk))
        })
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.chunks().next()
    }

    pub(super) fn last(&self) -> Option<u32> {
        let (number, page) = self.pages.last_key_value()?;
        // A page ends with a claim.
        let place = u32::try_from(page.len()).ok()?.checked_sub(1)?;
        number.checked_mul(PAGE_CHUNKS)?.checked_add(place)
    }

    /// The pages that changed, as they are now.
    pub(super) fn take_dirty(&mut self) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
        let pages = &self.pages;
        std::mem::take(&mut self.dirty).into_iter().map(|number| {
            (
                number,
                pages
                    .get(&number)
                    .map_or_else(Vec::new, |page| encode(page)),
            )
        })
    }
}

fn encode(page: &[Option<Claim>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(page.len().saturating_mul(CLAIM_LEN));
    for claim in page {
        let (slot, sum) = claim.map_or((0, 0), |it| (it.slot.0.saturating_add(1), it.sum));
        bytes.extend_from_slice(&slot.to_le_bytes());
        bytes.extend_from_slice(&sum.to_le_bytes());
    }
    bytes
}

/// The claims of a page; none if it is not one.
pub(super) fn decode(page: u32, bytes: &[u8]) -> Option<Vec<(u32, Claim)>> {
    let (claims, rest) = bytes.as_chunks::<CLAIM_LEN>();
    if !rest.is_empty() || claims.len() > PAGE_CHUNKS as usize {
        return None;
    }
    let first = page.checked_mul(PAGE_CHUNKS)?;
    first.checked_add(PAGE_CHUNKS)?;
    let claims = (first..).zip(claims).filter_map(|(chunk, bytes)| {
        let (slot, sum) = bytes.split_first_chunk::<4>()?;
        let slot = Slot(u32::from_le_bytes(*slot).checked_sub(1)?);
        let sum = u64::from_le_bytes(sum.try_into().ok()?);
        Some((chunk, Claim { slot, sum }))
    });
    Some(claims.collect())
}
