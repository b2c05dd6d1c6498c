//! What neighbouring ORDBs say that they can be asked for.
//!
//! It is what they were told over circuits that end at them, and nothing that they heard: so
//! nothing goes round. Nothing of it is believed: who says it is asked, and that is all that a lie
//! costs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ids::RsaId;
use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::DbTold;

/// Names that one ORDB may tell of. It fills it; one more takes the place of the one that would
/// be forgotten first.
pub(crate) const MAX_NAMES: usize = 256;
/// ORDBs remembered for one name. Neighbours fill it; one more is not taken.
const MAX_TELLERS: usize = 8;
/// The longest that anything counts, whatever is said.
pub(crate) const MAX_LIFE: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// In the order in which they are to be asked.
    names: BTreeMap<Infohash, VecDeque<RsaId>>,
    /// What each said, and until when it counts.
    tellers: BTreeMap<RsaId, BTreeMap<Infohash, Instant>>,
}

impl Heard {
    /// DB_TOLD came from an ORDB. Whether it says anything new.
    pub(crate) fn handle_told(&mut self, now: Instant, from: RsaId, told: &DbTold) -> bool {
        let name = told.name;
        if told.holders.quarter == 0 || told.life_seconds == 0 {
            self.remove(from, &name);
            return false;
        }
        let until = now + Duration::from_secs(told.life_seconds.into()).min(MAX_LIFE);
        if let Some(said) = self.tellers.get_mut(&from) {
            if let Some(known) = said.get_mut(&name) {
                *known = until;
                return false;
            }
            let oldest = said.iter().min_by_key(|(_, until)| **until);
            let oldest = oldest.map(|(name, _)| *name);
            if let Some(oldest) = oldest.filter(|_| said.len() >= MAX_NAMES) {
                self.remove(from, &oldest);
            }
        }
        let tellers = self.names.entry(name).or_default();
        if tellers.len() >= MAX_TELLERS {
            return false;
        }
        // Who knows of somebody that has all of it is asked before who does not.
        match told.holders.whole {
            0 => tellers.push_back(from),
            _ => tellers.push_front(from),
        }
        self.tellers.entry(from).or_default().insert(name, until);
        true
    }

    /// The first ORDB of a name's list that is `fit`; it goes to the end of the list.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        name: &Infohash,
        fit: impl Fn(RsaId) -> bool,
    ) -> Option<RsaId> {
        self.expire(now, name);
        let tellers = self.names.get_mut(name)?;
        let place = tellers.iter().position(|teller| fit(*teller))?;
        let teller = tellers.remove(place)?;
        tellers.push_back(teller);
        Some(teller)
    }

    /// Whether anybody says that he can be asked for a name.
    pub(crate) fn has(&self, now: Instant, name: &Infohash) -> bool {
        let mut tellers = self.names.get(name).into_iter().flatten();
        tellers.any(|teller| self.has_from(now, *teller, name))
    }

    /// Whether this ORDB says so.
    pub(crate) fn has_from(&self, now: Instant, teller: RsaId, name: &Infohash) -> bool {
        let said = self.tellers.get(&teller).and_then(|said| said.get(name));
        said.is_some_and(|until| *until > now)
    }

    /// Whoever says that he can be asked for a name.
    pub(crate) fn tellers_of(&self, name: &Infohash) -> Vec<RsaId> {
        self.names
            .get(name)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    /// It cannot be asked for this name.
    pub(crate) fn remove(&mut self, teller: RsaId, name: &Infohash) {
        if let Some(said) = self.tellers.get_mut(&teller) {
            said.remove(name);
            if said.is_empty() {
                self.tellers.remove(&teller);
            }
        }
        if let Some(tellers) = self.names.get_mut(name) {
            tellers.retain(|known| *known != teller);
            if tellers.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// An ORDB is a neighbour no more: what it says no longer can be taken back is not kept.
    pub(crate) fn forget(&mut self, teller: RsaId) {
        let said = self.tellers.get(&teller);
        let said: Vec<Infohash> = said.into_iter().flatten().map(|(name, _)| *name).collect();
        for name in said {
            self.remove(teller, &name);
        }
    }

    fn expire(&mut self, now: Instant, name: &Infohash) {
        let tellers = self.names.get(name).into_iter().flatten();
        let late = tellers.filter(|teller| !self.has_from(now, **teller, name));
        let late: Vec<RsaId> = late.copied().collect();
        for teller in late {
            self.remove(teller, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::tests::name;
    use crate::wire::Holders;

    fn told(number: u16, quarter: u16, whole: u16) -> DbTold {
        let holders = Holders {
            quarter,
            whole,
            ..Holders::default()
        };
        DbTold {
            life_seconds: 600,
            holders,
            name: name(number),
        }
    }

    fn teller(number: u8) -> RsaId {
        RsaId([number; 20])
    }

    #[test]
    fn the_first_that_is_fit_is_asked_and_goes_to_the_end() {
        let mut heard = Heard::default();
        let now = Instant::ZERO;
        assert!(heard.handle_told(now, teller(1), &told(7, 1, 0)));
        assert!(heard.handle_told(now, teller(2), &told(7, 1, 0)));
        assert!(!heard.handle_told(now, teller(2), &told(7, 2, 0)), "known");
        // One that knows of a whole one comes first.
        assert!(heard.handle_told(now, teller(3), &told(7, 1, 1)));
        let mut take = |fit: &dyn Fn(RsaId) -> bool| heard.take(now, &name(7), fit);
        assert_eq!(take(&|_| true), Some(teller(3)));
        assert_eq!(take(&|it| it != teller(1)), Some(teller(2)));
        assert_eq!(take(&|_| true), Some(teller(1)));
        assert_eq!(take(&|_| true), Some(teller(3)));
        assert_eq!(take(&|_| false), None);
    }

    #[test]
    fn what_is_heard_is_bounded_taken_back_and_grows_old() {
        let mut heard = Heard::default();
        let now = Instant::ZERO;
        for number in 0..5000 {
            heard.handle_told(now + Duration::from_secs(1), teller(1), &told(number, 1, 1));
        }
        assert_eq!(heard.names.len(), MAX_NAMES, "one floods");
        for number in 0..=255 {
            heard.handle_told(now, teller(number), &told(4999, 1, 1));
        }
        assert_eq!(heard.names[&name(4999)].len(), MAX_TELLERS);
        // Who was not taken into a full list left nothing behind.
        assert_eq!(heard.tellers.len(), MAX_TELLERS);
        assert!(heard.has_from(now, teller(1), &name(4999)));
        heard.handle_told(now, teller(1), &told(4999, 0, 0));
        assert!(!heard.has_from(now, teller(1), &name(4999)));
        assert!(heard.has(now, &name(4998)));
        let late = now + Duration::from_secs(601);
        assert!(!heard.has(late, &name(4998)));
        assert_eq!(heard.take(late, &name(4998), |_| true), None);
        assert!(!heard.names.contains_key(&name(4998)));
        for number in 0..=255 {
            heard.forget(teller(number));
        }
        assert!(heard.names.is_empty() && heard.tellers.is_empty());
    }
}
