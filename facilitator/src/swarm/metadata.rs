//! Getting the info dictionary from one peer (BEP 9).
//!
//! It is fetched whole from one peer, so that a liar is known; a second and a third are asked
//! only when the first is slow.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// The length of a part of the info dictionary, the last one excepted.
const PART_LEN: usize = 16 * 1024;
/// Parts asked of a peer at once.
const MAX_PARTS_ASKED: usize = 4;
/// Peers that send the info dictionary at once.
pub(super) const MAX_SOURCES: usize = 3;
/// After this time another peer is asked as well.
pub(super) const HEDGE_AFTER: Duration = Duration::from_millis(800);
/// A peer that sends no part for so long is not waited for.
pub(super) const PART_TIMEOUT: Duration = Duration::from_secs(10);

/// The info dictionary, as far as one peer has sent it.
#[derive(Debug)]
pub(super) struct MetadataFetch {
    length: usize,
    parts: Vec<Option<Bytes>>,
    next: usize,
    asked: usize,
    pub(super) since: Instant,
}

/// It sent what is not a part of what it said it has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongPart;

impl MetadataFetch {
    /// Whoever calls has checked the length against the limit.
    pub(super) fn new(now: Instant, length: u32) -> Self {
        let length = length as usize;
        Self {
            length,
            parts: vec![None; length.div_ceil(PART_LEN)],
            next: 0,
            asked: 0,
            since: now,
        }
    }

    /// Which part to ask for now.
    pub(super) fn poll_request(&mut self) -> Option<u32> {
        if self.next == self.parts.len() || self.asked == MAX_PARTS_ASKED {
            return None;
        }
        self.asked += 1;
        self.next += 1;
        u32::try_from(self.next - 1).ok()
    }

    /// Takes a part; the whole once it is there.
    pub(super) fn handle_part(
        &mut self,
        now: Instant,
        part: u32,
        bytes: &[u8],
    ) -> Result<Option<Bytes>, WrongPart> {
        let start = part as usize * PART_LEN;
        let expected = self.length.saturating_sub(start).min(PART_LEN);
        let slot = self.parts.get_mut(part as usize).ok_or(WrongPart)?;
        if slot.is_some() || bytes.len() != expected {
            return Err(WrongPart);
        }
        *slot = Some(Bytes::copy_from_slice(bytes));
        self.since = now;
        self.asked = self.asked.saturating_sub(1);
        if self.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let mut whole = Vec::with_capacity(self.length);
        for part in self.parts.iter().flatten() {
            whole.extend_from_slice(part);
        }
        Ok(Some(whole.into()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{MAX_PARTS_ASKED, MetadataFetch, PART_LEN, WrongPart};

    #[test]
    fn parts_make_a_whole() {
        let now = Instant::now();
        let whole: Vec<u8> = (0..PART_LEN * 6 + 5).map(|i| (i % 251) as u8).collect();
        let mut fetch = MetadataFetch::new(now, whole.len() as u32);
        let mut asked: Vec<u32> = std::iter::from_fn(|| fetch.poll_request()).collect();
        assert_eq!(asked.len(), MAX_PARTS_ASKED);
        let mut got = None;
        while let Some(part) = asked.pop() {
            let start = part as usize * PART_LEN;
            let bytes = &whole[start..whole.len().min(start + PART_LEN)];
            assert_eq!(fetch.handle_part(now, part, &bytes[1..]), Err(WrongPart));
            got = fetch.handle_part(now, part, bytes).expect("a right part");
            assert_eq!(fetch.handle_part(now, part, bytes), Err(WrongPart));
            asked.extend(fetch.poll_request());
        }
        assert_eq!(got.as_deref(), Some(&whole[..]));
        assert_eq!(fetch.handle_part(now, 7, &[]), Err(WrongPart));
    }
}
