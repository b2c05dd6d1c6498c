//! What others told this ORDB that they hold, and over which circuit it can be asked of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::{DbInfo, Holders};

/// Names that were told of. Whoever tells fills it; when it is full, what was told longest ago is
/// forgotten.
const MAX_NAMES: usize = 4096;
/// Circuits remembered for one name. Whoever tells fills it; the one used last gives way.
const MAX_HOLDERS: usize = 32;
/// Names that one circuit may tell of: one torrent has at most two. What is told above it is
/// dropped.
const MAX_NAMES_PER_CIRCUIT: usize = 2;
/// How long it counts; holders tell again before.
const LIFE: Duration = Duration::from_secs(1800);

/// Somebody who holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advert {
    /// Over which circuit it was told, and can be asked.
    pub(crate) circuit: u64,
    /// How much of it.
    pub(crate) percent: u8,
    told: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Adverts {
    /// In the order in which they are to be used.
    names: BTreeMap<Infohash, VecDeque<Advert>>,
    circuits: BTreeMap<u64, BTreeSet<Infohash>>,
    /// Names of which nobody tells any longer, not taken yet; at most as many as were told of.
    gone: Vec<Infohash>,
    /// Names of which others tell than before, not taken yet: [`MAX_NAMES`] at most. One more is
    /// told of at its next change.
    changed: BTreeSet<Infohash>,
}

impl Adverts {
    /// DB_INFO came over a circuit. Whether it told anything new.
    pub(crate) fn handle_info(&mut self, now: Instant, circuit: u64, info: &DbInfo) -> bool {
        let DbInfo { name, percent, .. } = *info;
        if percent == 0 {
            self.remove(circuit, &name);
            return false;
        }
        let told = self.circuits.entry(circuit).or_default();
        if !told.contains(&name) && told.len() >= MAX_NAMES_PER_CIRCUIT {
            return false;
        }
        told.insert(name);
        if !self.names.contains_key(&name) && self.names.len() >= MAX_NAMES {
            self.forget_oldest();
        }
        let holders = self.names.entry(name).or_default();
        let percent = percent.min(100);
        if let Some(known) = holders.iter_mut().find(|known| known.circuit == circuit) {
            let is_new = known.percent != percent;
            (known.percent, known.told) = (percent, now);
            if is_new {
                self.note_changed(name);
            }
            return is_new;
        }
        let gone = (holders.len() >= MAX_HOLDERS).then(|| holders.pop_back());
        // First, for nobody has asked it yet.
        holders.push_front(Advert {
            circuit,
            percent,
            told: now,
        });
        if let Some(gone) = gone.flatten() {
            self.untell(gone.circuit, &name);
        }
        self.note_changed(name);
        true
    }

    /// A circuit is gone, and what was told over it.
    pub(crate) fn handle_circuit_gone(&mut self, circuit: u64) {
        for name in self.circuits.remove(&circuit).unwrap_or_default() {
            self.remove_holder(circuit, &name);
        }
    }

    /// Whoever told it over this circuit has not got it, or lied.
    pub(crate) fn remove(&mut self, circuit: u64, name: &Infohash) {
        self.remove_holder(circuit, name);
        self.untell(circuit, name);
    }

    /// The first circuit of a name's list that is `fit`; it goes to the end of the list.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        name: &Infohash,
        fit: impl Fn(u64) -> bool,
    ) -> Option<Advert> {
        let holders = self.names.get(name)?;
        let late = holders
            .iter()
            .filter(|holder| now.saturating_since(holder.told) >= LIFE);
        let late: Vec<u64> = late.map(|holder| holder.circuit).collect();
        for circuit in late {
            self.remove(circuit, name);
        }
        let holders = self.names.get_mut(name)?;
        let place = holders.iter().position(|holder| fit(holder.circuit))?;
        let holder = holders.remove(place)?;
        holders.push_back(holder);
        Some(holder)
    }

    /// Forgets what was told too long ago.
    pub(crate) fn expire(&mut self, now: Instant) {
        let mut old = Vec::new();
        for (name, holders) in &self.names {
            let late = holders
                .iter()
                .filter(|holder| now.saturating_since(holder.told) >= LIFE);
            old.extend(late.map(|holder| (holder.circuit, *name)));
        }
        for (circuit, name) in old {
            self.remove(circuit, &name);
        }
    }

    /// Names of which nobody tells any longer.
    pub(crate) fn take_gone(&mut self) -> Vec<Infohash> {
        let mut gone = std::mem::take(&mut self.gone);
        gone.retain(|name| !self.has(name));
        gone
    }

    /// Names of which others tell than when this was asked last.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<Infohash> {
        std::mem::take(&mut self.changed)
    }

    /// How many hold a name, of those who told over other circuits than `except`.
    pub(crate) fn holders(&self, name: &Infohash, except: Option<u64>) -> Holders {
        let told = self.names.get(name).into_iter().flatten();
        let others = told.filter(|advert| Some(advert.circuit) != except);
        others.fold(Holders::default(), |holders, advert| {
            holders.with(advert.percent)
        })
    }

    /// The circuits over which a name was told.
    pub(crate) fn tellers(&self, name: &Infohash) -> impl Iterator<Item = u64> + '_ {
        let told = self.names.get(name).into_iter().flatten();
        told.map(|advert| advert.circuit)
    }

    /// The names that were told of.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Infohash> {
        self.names.keys()
    }

    /// Whether nothing was told.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether anybody told of a name.
    pub(crate) fn has(&self, name: &Infohash) -> bool {
        self.names.get(name).is_some_and(|it| !it.is_empty())
    }

    /// Each circuit, and what was told over it.
    pub(crate) fn circuits(&self) -> impl Iterator<Item = (u64, Infohash)> + '_ {
        let circuits = self.circuits.iter();
        circuits.flat_map(|(circuit, names)| names.iter().map(|name| (*circuit, *name)))
    }

    fn remove_holder(&mut self, circuit: u64, name: &Infohash) {
        if let Some(holders) = self.names.get_mut(name) {
            let before = holders.len();
            holders.retain(|holder| holder.circuit != circuit);
            let is_changed = holders.len() != before;
            if holders.is_empty() {
                self.names.remove(name);
                self.gone.push(*name);
            }
            if is_changed {
                self.note_changed(*name);
            }
        }
    }

    fn note_changed(&mut self, name: Infohash) {
        if self.changed.len() < MAX_NAMES {
            self.changed.insert(name);
        }
    }

    fn untell(&mut self, circuit: u64, name: &Infohash) {
        if let Some(names) = self.circuits.get_mut(&circuit) {
            names.remove(name);
            if names.is_empty() {
                self.circuits.remove(&circuit);
            }
        }
    }

    fn forget_oldest(&mut self) {
        let newest = |holders: &VecDeque<Advert>| holders.iter().map(|holder| holder.told).max();
        let oldest = self.names.iter().min_by_key(|(_, holders)| newest(holders));
        let Some(name) = oldest.map(|(name, _)| *name) else {
            return;
        };
        self.gone.push(name);
        for holder in self.names.remove(&name).unwrap_or_default() {
            self.untell(holder.circuit, &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::tests::name;

    fn info(number: u16, percent: u8) -> DbInfo {
        DbInfo {
            flags: 0,
            percent,
            name: name(number),
        }
    }

    #[test]
    fn the_first_that_is_fit_is_taken_and_goes_to_the_end() {
        let mut adverts = Adverts::default();
        let now = Instant::ZERO;
        for circuit in [3, 2, 1] {
            assert!(adverts.handle_info(now, circuit, &info(7, 25)));
        }
        let mut take = |fit: &dyn Fn(u64) -> bool| {
            let advert = adverts.take(now, &name(7), fit)?;
            Some(advert.circuit)
        };
        assert_eq!(take(&|_| true), Some(1));
        assert_eq!(take(&|circuit| circuit != 2), Some(3));
        assert_eq!(take(&|_| true), Some(2));
        assert_eq!(take(&|_| true), Some(1));
        assert_eq!(take(&|_| false), None);
    }

    #[test]
    fn what_is_told_is_bounded_taken_back_and_grows_old() {
        let mut adverts = Adverts::default();
        let now = Instant::ZERO;
        for number in 0..5000 {
            adverts.handle_info(now, 1, &info(number, 100));
        }
        assert_eq!(adverts.names.len(), MAX_NAMES_PER_CIRCUIT);
        for circuit in 2..100 {
            adverts.handle_info(now, circuit, &info(0, 100));
        }
        assert_eq!(adverts.names[&name(0)].len(), MAX_HOLDERS);
        for number in 0..5000 {
            adverts.handle_info(now, 1000 + u64::from(number), &info(number, 100));
        }
        assert_eq!(adverts.names.len(), MAX_NAMES);
        assert!(adverts.circuits.len() <= MAX_NAMES + MAX_HOLDERS);
        adverts.handle_info(now, 1000 + 4999, &info(4999, 0));
        assert!(!adverts.has(&name(4999)));
        adverts.handle_circuit_gone(1000 + 4998);
        assert!(!adverts.has(&name(4998)));
        assert!(adverts.take(now, &name(4997), |_| true).is_some());
        assert_eq!(adverts.take(now + LIFE, &name(4997), |_| true), None);
        adverts.take_gone();
        adverts.expire(now + (LIFE - Duration::from_secs(1)));
        assert!(adverts.has(&name(4996)) && adverts.take_gone().is_empty());
        adverts.expire(now + LIFE);
        assert!(adverts.names.is_empty() && adverts.circuits.is_empty());
        assert!(adverts.take_gone().contains(&name(4996)));
    }
}
