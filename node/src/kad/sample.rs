//! Hops out of random walks.
//!
//! A hop must not be one that somebody put where it would be found. So no ID is ever looked up for
//! one: a walk looks up a random key, which nobody can foresee, and whoever answers on its way is
//! offered here. To be drawn it does not help
//!
//! - to stand near a name or a victim: walks go nowhere near more often than anywhere else;
//! - to link to the walker: a walk begins with whom a bridge introduced, or whom such led to, and
//!   never with who merely came ([`super::Contact::met`]);
//! - to be met often, or to be named by many: a slot keeps the least of a keyed hash over all that
//!   it was ever offered, so each counts once (the sampler of Brahms, Bortnikov et al. 2009);
//! - to come in numbers from few networks: the hash is first over the group, then over the ID. An
//!   address's group is its network. A tab's is the contact that the walk began with: whoever it
//!   names, and whoever those name, share one chance.
//!
//! What remains is what no sample can take away: who holds a share of all networks, or of the
//! contacts that walks begin with, has about that share of the draws.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::distance::{Group, networks};
use super::table::Known;
use crate::ids::RsaId;
use crate::wire::Roles;

/// Slots, each an independent draw. Fixed; walks fill them.
pub const SAMPLES: usize = 32;

#[derive(Debug)]
struct Slot {
    salt: u64,
    drawn: Option<Drawn>,
}

#[derive(Debug)]
struct Drawn {
    rank: (u64, u64),
    known: Known,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Made when the first is offered: a node that is alone needs none.
    slots: Vec<Slot>,
}

impl Sampler {
    /// Offers a router that answered on a walk that began at `root`. Whether any slot drew it anew.
    pub(super) fn offer(&mut self, known: &Known, root: RsaId, salt: impl FnMut() -> u64) -> bool {
        if self.slots.is_empty() {
            let salts = std::iter::repeat_with(salt).take(SAMPLES);
            self.slots
                .extend(salts.map(|salt| Slot { salt, drawn: None }));
        }
        let mut groups = networks(known);
        if groups.is_empty() {
            groups.push(Group::Introducer(root));
        }
        let mut drawn_anew = false;
        for slot in &mut self.slots {
            // A router in several networks has no more chances than one in one of them: the
            // greatest of its ranks counts.
            let group = groups
                .iter()
                .map(|group| keyed_hash(slot.salt, group))
                .max();
            let Some(group) = group else { continue };
            let rank = (group, keyed_hash(slot.salt, &known.rsa_id));
            match &mut slot.drawn {
                Some(drawn) if drawn.known.rsa_id == known.rsa_id => {
                    // By another way the rank of a tab is another; the lower one stands.
                    drawn.rank = drawn.rank.min(rank);
                    drawn.known = known.clone();
                }
                Some(drawn) if drawn.rank <= rank => {}
                empty_or_higher => {
                    let known = known.clone();
                    *empty_or_higher = Some(Drawn { rank, known });
                    drawn_anew = true;
                }
            }
        }
        drawn_anew
    }

    /// Whom the slots have drawn; the same one may stand in several.
    pub(super) fn iter(&self, roles: Roles) -> impl Iterator<Item = &Known> {
        let drawn = self.slots.iter().filter_map(|slot| slot.drawn.as_ref());
        drawn
            .map(|drawn| &drawn.known)
            .filter(move |known| known.roles.contains(roles))
    }

    /// Empties the slots that drew somebody who is gone.
    pub(super) fn retain(&mut self, mut lives: impl FnMut(&Known) -> bool) {
        for slot in &mut self.slots {
            if slot
                .drawn
                .as_ref()
                .is_some_and(|drawn| !lives(&drawn.known))
            {
                slot.drawn = None;
            }
        }
    }
}

/// The salt is secret; a hash that resists whoever does not know it is all that is needed.
fn keyed_hash<T: Hash>(salt: u64, value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    salt.hash(&mut hasher);
    value.hash(&mut hasher);
    hasher.finish()
}
