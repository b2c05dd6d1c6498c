//! What is put together and verified as one: a piece, the info dictionary, the piece layers.
//!
//! An assembly knows of each of its blocks who was asked for it, who gave it, and for whom it is
//! set aside. Nothing in it is verified; nobody but the verifier reads it.

use crate::order::ascending;
use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::SourceId;
use crate::ids::Ed25519Id;
use crate::torrent::{PieceCheck, Verifier};
use crate::wire::Section;

/// How many sources may be asked for one block at a time: one, one that is to be faster, one more
/// when both stall.
pub(super) const MAX_ASKERS: usize = 3;

/// What is verified, and so blamed, as one. In order of urgency: without the first nothing can be
/// asked, without the second nothing can be checked, with the third it is checked sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    /// The info dictionary, of the length that some of the sources say it has.
    Metadata { length: u32 },
    /// The v2 piece layers.
    PieceLayers,
    /// A block of leaf hashes.
    Leaves(u32),
    /// A piece of the content.
    Piece(u32),
}

impl Unit {
    pub(super) fn section(self) -> Section {
        match self {
            Unit::Metadata { .. } => Section::METADATA,
            Unit::PieceLayers => Section::PIECE_LAYERS,
            Unit::Leaves(_) => Section::LEAF_HASHES,
            Unit::Piece(_) => Section::CHUNKS,
        }
    }

    pub(super) fn piece(self) -> Option<u32> {
        match self {
            Unit::Piece(piece) => Some(piece),
            Unit::Metadata { .. } | Unit::PieceLayers | Unit::Leaves(_) => None,
        }
    }
}

/// Who gave a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Giver {
    pub(super) source: SourceId,
    pub(super) router: Ed25519Id,
}

/// One block of an assembly.
#[derive(Debug, Default)]
struct Slot {
    length: u32,
    /// The bytes, once they came; and from whom, none if they were known already.
    held: Option<(Bytes, Option<Giver>)>,
    askers: [Option<SourceId>; MAX_ASKERS],
    /// Set aside for a source that will ask for it.
    leased: bool,
}

impl Slot {
    /// Whether nobody has it, was asked for it, or will ask for it.
    fn is_free(&self) -> bool {
        self.held.is_none() && !self.leased && self.askers.iter().all(Option::is_none)
    }
}

/// What several sources gave when the whole was found wrong: the hash of each block, and whose.
pub(super) type Dispute = Vec<(usize, [u8; 32], Giver)>;

/// See the module.
#[derive(Debug)]
pub(super) struct Assembly {
    first_block: u32,
    slots: Vec<Slot>,
    missing: usize,
    free: usize,
    /// Bytes held that are not verified.
    held_bytes: u64,
    /// The hash over the first `hashed` slots.
    check: Option<PieceCheck>,
    hashed: usize,
    /// What was wrong before; whoever differs from what is right is to blame.
    pub(super) dispute: Dispute,
    /// After a dispute: the only source that may be asked.
    pub(super) solo: Option<SourceId>,
}

impl Assembly {
    /// An assembly of blocks of these lengths, the first one's number being `first_block`. Blocks
    /// of length zero are known to be nothing.
    pub(super) fn new(first_block: u32, lengths: impl Iterator<Item = u32>) -> Self {
        let slots: Vec<Slot> = lengths
            .map(|length| Slot {
                length,
                held: (length == 0).then(|| (Bytes::new(), None)),
                ..Slot::default()
            })
            .collect();
        let missing = slots.iter().filter(|slot| slot.held.is_none()).count();
        Self {
            first_block,
            slots,
            missing,
            free: missing,
            held_bytes: 0,
            check: None,
            hashed: 0,
            dispute: Vec::new(),
            solo: None,
        }
    }

    /// How many blocks are not held.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// How many blocks nobody was or will be asked for.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// How many blocks there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The most bytes that it can come to hold.
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.slots.iter().map(|slot| u64::from(slot.length)).sum()
    }

    /// Whether all that is held was verified block by block.
    pub(super) fn is_all_known(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| matches!(slot.held, Some((_, None))))
    }

    /// Unverified bytes held.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Whether several sources gave what was wrong: now one alone is asked for all of it.
    pub(super) fn is_disputed(&self) -> bool {
        !self.dispute.is_empty()
    }

    /// The blocks that are not held.
    pub(super) fn missing_blocks(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.slots.len())
            .filter(|slot| !self.is_held(*slot))
            .map(|slot| self.block(slot))
    }

    pub(super) fn block(&self, slot: usize) -> u32 {
        self.first_block
            .saturating_add(u32::try_from(slot).unwrap_or(u32::MAX))
    }

    pub(super) fn slot_of(&self, block: u32) -> Option<usize> {
        let slot = usize::try_from(block.checked_sub(self.first_block)?).ok()?;
        (slot < self.slots.len()).then_some(slot)
    }

    pub(super) fn length(&self, slot: usize) -> u32 {
        self.slots.get(slot).map_or(0, |slot| slot.length)
    }

    pub(super) fn is_held(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.held.is_some())
    }

    pub(super) fn is_free(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(Slot::is_free)
    }

    /// Whether a source that has this set aside may ask for it now: nobody else was asked.
    pub(super) fn is_askable(&self, slot: usize) -> bool {
        self.slots
            .get(slot)
            .is_some_and(|slot| slot.held.is_none() && slot.askers.iter().all(Option::is_none))
    }

    pub(super) fn askers(&self, slot: usize) -> impl Iterator<Item = SourceId> + '_ {
        self.slots
            .get(slot)
            .into_iter()
            .flat_map(|slot| slot.askers.iter().flatten().copied())
    }

    /// The first run of free slots at or after `from`, of at most `most`.
    pub(super) fn free_run(&self, from: usize, most: usize) -> Option<Range<usize>> {
        let start = (from..self.slots.len()).find(|&slot| self.is_free(slot))?;
        let limit = start.saturating_add(most).min(self.slots.len());
        let end = (start..limit)
            .find(|&slot| !self.is_free(slot))
            .unwrap_or(limit);
        (start < end).then_some(start..end)
    }

    /// Sets slots aside, or no longer.
    pub(super) fn set_leased(&mut self, slots: Range<usize>, leased: bool) {
        for slot in slots {
            self.change(slot, |slot| slot.leased = leased);
        }
    }

    /// A source was asked for a slot. False if too many are.
    pub(super) fn add_asker(&mut self, slot: usize, source: SourceId) -> bool {
        self.change(slot, |slot| {
            match slot.askers.iter_mut().find(|asker| asker.is_none()) {
                Some(asker) => {
                    *asker = Some(source);
                    true
                }
                None => false,
            }
        })
        .unwrap_or(false)
    }

    /// A source will not give a slot: it was cancelled, or it is gone.
    pub(super) fn remove_asker(&mut self, slot: usize, source: SourceId) {
        self.change(slot, |slot| {
            for asker in slot
                .askers
                .iter_mut()
                .filter(|asker| **asker == Some(source))
            {
                *asker = None;
            }
        });
    }

    /// A block came, or was known. False if it is held already.
    pub(super) fn fill(&mut self, slot: usize, bytes: Bytes, giver: Option<Giver>) -> bool {
        let length = bytes.len() as u64;
        let filled = self.change(slot, |slot| {
            let is_new = slot.held.is_none();
            if is_new {
                slot.held = Some((bytes, giver));
            }
            is_new
        });
        if filled == Some(true) && giver.is_some() {
            self.held_bytes = self.held_bytes.saturating_add(length);
        }
        filled.unwrap_or(false)
    }

    /// The blocks that are held and not verified, with their givers.
    pub(super) fn unverified(&self) -> Vec<(u32, Bytes, Giver)> {
        let slots = self.slots.iter().enumerate();
        let held = slots.filter_map(|(index, slot)| {
            let (bytes, giver) = slot.held.as_ref()?;
            Some((self.block(index), bytes.clone(), (*giver)?))
        });
        held.collect()
    }

    /// A block that is held was found right.
    pub(super) fn confirm(&mut self, block: u32) {
        let slot = self
            .slot_of(block)
            .and_then(|slot| self.slots.get_mut(slot));
        if let Some((bytes, giver)) = slot.and_then(|slot| slot.held.as_mut())
            && giver.take().is_some()
        {
            self.held_bytes = self.held_bytes.saturating_sub(bytes.len() as u64);
        }
    }

    /// Forgets the bytes of every slot that `which` picks by its giver; they are missing again.
    pub(super) fn forget(&mut self, which: impl Fn(Option<&Giver>) -> bool) {
        for index in 0..self.slots.len() {
            let freed = self.change(index, |slot| {
                let (bytes, giver) = slot.held.as_ref()?;
                if slot.length == 0 || !which(giver.as_ref()) {
                    return None;
                }
                let freed = if giver.is_some() {
                    bytes.len() as u64
                } else {
                    0
                };
                slot.held = None;
                Some(freed)
            });
            if let Some(Some(freed)) = freed {
                self.held_bytes = self.held_bytes.saturating_sub(freed);
                if index < self.hashed {
                    self.hashed = 0;
                    self.check = None;
                }
            }
        }
    }

    /// Forgets all that is not verified, and who alone was to give it, but not the dispute. What
    /// is asked of others must have been cancelled.
    pub(super) fn start_over(&mut self) {
        self.solo = None;
        self.forget(|giver| giver.is_some());
        self.set_leased(0..self.slots.len(), false);
    }

    /// The bytes of all slots in order; empty ones for those that are missing.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        self.slots.iter().map(|slot| {
            slot.held
                .as_ref()
                .map_or(&[][..], |(bytes, _)| bytes.as_ref())
        })
    }

    /// Takes the bytes of all slots out, in order.
    pub(super) fn into_blocks(self) -> impl Iterator<Item = (u32, Bytes)> {
        let first = self.first_block;
        (first..)
            .zip(self.slots)
            .filter_map(|(block, slot)| Some((block, slot.held?.0)))
    }

    /// Hashes the slots that are held at the front and not hashed yet, so that the work is spread
    /// over their coming.
    pub(super) fn advance_check(&mut self, verifier: &Verifier, piece: u32) {
        let check = self
            .check
            .get_or_insert_with(|| verifier.begin_piece(piece));
        while let Some((bytes, _)) = self
            .slots
            .get(self.hashed)
            .and_then(|slot| slot.held.as_ref())
        {
            verifier.continue_piece(check, bytes);
            self.hashed += 1;
        }
    }

    /// The check after the last slot was hashed.
    pub(super) fn take_check(&mut self) -> Option<PieceCheck> {
        self.hashed = 0;
        self.check.take()
    }

    /// Whoever gave any of it, each once.
    pub(super) fn givers(&self) -> Vec<Giver> {
        let mut givers: Vec<Giver> = self
            .slots
            .iter()
            .filter_map(|slot| slot.held.as_ref().and_then(|(_, giver)| *giver))
            .collect();
        givers = ascending(givers);
        givers.dedup();
        givers
    }

    /// What each giver gave, by hash.
    pub(super) fn testimony(&self) -> Dispute {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| {
                let (bytes, giver) = slot.held.as_ref()?;
                Some((index, Sha256::digest(bytes).into(), (*giver)?))
            })
            .collect()
    }

    /// Now that the bytes are known to be right: those who gave others before.
    pub(super) fn liars(&self) -> Vec<Giver> {
        let mut liars: Vec<Giver> = self
            .dispute
            .iter()
            .filter(|(slot, hash, _)| {
                let held = self.slots.get(*slot).and_then(|slot| slot.held.as_ref());
                held.is_some_and(|(bytes, _)| Sha256::digest(bytes).as_slice() != hash)
            })
            .map(|(_, _, giver)| *giver)
            .collect();
        liars = ascending(liars);
        liars.dedup();
        liars
    }

    /// Changes a slot and keeps the counts.
    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let slot = self.slots.get_mut(index)?;
        let (was_missing, was_free) = (slot.held.is_none(), slot.is_free());
        let result = change(slot);
        let (is_missing, is_free) = (slot.held.is_none(), slot.is_free());
        self.missing = self
            .missing
            .wrapping_sub(was_missing.into())
            .wrapping_add(is_missing.into());
        self.free = self
            .free
            .wrapping_sub(was_free.into())
            .wrapping_add(is_free.into());
        Some(result)
    }
}
