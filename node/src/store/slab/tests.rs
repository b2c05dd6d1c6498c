//! A slab over a disk that may die at any moment.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A seeded generator.
struct Rng(u64);

impl Rng {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

type PageKey = (StoredName, u32);

/// What survives the process: a file of slots and a database of transactions.
#[derive(Clone, Default)]
struct Disk {
    file: BTreeMap<u32, Vec<u8>>,
    /// Written and not flushed, in order: of these a crash may keep any.
    unflushed: Vec<(u32, Vec<u8>)>,
    database: BTreeMap<PageKey, Vec<u8>>,
}

impl Disk {
    fn write(&mut self, slot: Slot, bytes: Vec<u8>) {
        self.unflushed.push((slot.0, bytes));
    }

    fn flush(&mut self) {
        self.file.extend(std::mem::take(&mut self.unflushed));
    }

    fn put(&mut self, commit: &Commit) {
        self.database
            .retain(|(name, _), _| !commit.removed.contains(name));
        for page in &commit.pages {
            let key = (page.name, page.page);
            if page.bytes.is_empty() {
                self.database.remove(&key);
            } else {
                self.database.insert(key, page.bytes.clone());
            }
        }
    }

    /// Power fails: each write that was not flushed is there whole, in part, or not at all.
    fn crash(&mut self, rng: &mut Rng) {
        for (slot, bytes) in std::mem::take(&mut self.unflushed) {
            match rng.below(3) {
                0 => {}
                1 => drop(self.file.insert(slot, bytes)),
                _ => {
                    let old = self.file.entry(slot).or_default();
                    old.resize(bytes.len(), 0);
                    let torn = bytes.len() / 2;
                    old[..torn].copy_from_slice(&bytes[..torn]);
                }
            }
        }
    }

    fn read(&self, slot: Slot) -> Option<&Vec<u8>> {
        let late = self.unflushed.iter().rfind(|(at, _)| *at == slot.0);
        late.map(|(_, bytes)| bytes)
            .or_else(|| self.file.get(&slot.0))
    }

    fn reopen(&self, limit: u64) -> Slab {
        let mut slab = Slab::new(limit);
        let slots = self.file.keys().last().map_or(0, |last| last + 1);
        for ((name, page), bytes) in &self.database {
            slab.restore(*name, *page, bytes, slots).unwrap();
        }
        slab.set(name(0), 0, true);
        slab.set_limit(limit);
        slab
    }
}

fn name(number: u64) -> StoredName {
    StoredName([u8::try_from(number).unwrap(); 20])
}

fn content(name: StoredName, chunk: u32) -> Vec<u8> {
    let seed = xxh64(u64::from(name.0[0]), &chunk.to_le_bytes());
    (0..40)
        .map(|at| (seed >> (at % 57)) as u8 ^ at as u8)
        .collect()
}

/// Everything that is claimed is what it should be, and no slot is anybody's twice.
fn check(slab: &Slab, disk: &Disk, what: &str) -> BTreeSet<(StoredName, u32)> {
    let mut slots = BTreeSet::new();
    let mut found = BTreeSet::new();
    for name in slab.names() {
        for chunk in slab.have(name).iter().flatten() {
            let claim = slab.claim(name, chunk).unwrap();
            let bytes = disk.read(claim.slot).unwrap();
            assert_eq!(*bytes, content(name, chunk), "{what}: chunk {chunk}");
            assert!(claim.holds(name, chunk, bytes), "{what}: chunk {chunk}");
            assert!(slots.insert(claim.slot), "{what}: a slot twice");
            found.insert((name, chunk));
        }
    }
    found
}

/// A few torrents are written, read, evicted and removed, and the machine dies at any point.
#[test]
fn a_crash_loses_no_more_than_what_was_not_committed() {
    let (mut crashes, mut survived, mut evicted) = (0, 0, 0);
    for seed in 1..400u64 {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let limit = 20 + rng.below(60);
        let mut disk = Disk::default();
        let mut slab = Slab::new(limit);
        // What was committed and has not been let go of since, evictions included.
        let mut durable: BTreeSet<(StoredName, u32)> = BTreeSet::new();
        for number in 0..4 {
            slab.set(name(number), number, number == 0);
        }
        for step in 0..600 {
            let what = format!("seed {seed}, step {step}");
            match rng.below(40) {
                0..=27 => {
                    let (name, chunk) = (name(rng.below(4)), rng.below(3000) as u32 / 30);
                    // Some far away, on other pages.
                    let chunk = chunk + 1000 * rng.below(3) as u32;
                    slab.set(name, step, name.0[0] == 0);
                    let bytes = content(name, chunk);
                    match slab.write(name, chunk, &bytes) {
                        Written::To(slot) if rng.below(20) == 0 => {
                            let _failed = slot;
                            slab.lose(name, chunk);
                        }
                        Written::To(slot) => disk.write(slot, bytes),
                        Written::Already => assert!(slab.claim(name, chunk).is_some()),
                        Written::Full => assert!(slab.used_slots() >= limit, "{what}"),
                    }
                    for (name, chunks) in slab.take_gone() {
                        evicted += chunks.len();
                        durable.retain(|(of, at)| *of != name || !chunks.contains(at));
                    }
                }
                28 => {
                    let name = name(rng.below(4));
                    slab.remove(name);
                    durable.retain(|(of, _)| *of != name);
                    slab.set(name, step, name.0[0] == 0);
                }
                29..=36 => {
                    let now = check(&slab, &disk, &what);
                    let Some(commit) = slab.commit().cloned() else {
                        continue;
                    };
                    match rng.below(6) {
                        0 => slab.handle_commit_failed(),
                        1 => {
                            // Dead while the transaction was under way: it came to be or not.
                            disk.flush();
                            if rng.below(2) == 0 {
                                disk.put(&commit);
                                durable = now;
                            }
                            disk.crash(&mut rng);
                            slab = disk.reopen(limit);
                            crashes += 1;
                        }
                        _ => {
                            disk.flush();
                            // Others are written meanwhile.
                            let late = (name(1), 2900 + step as u32 % 90);
                            let bytes = content(late.0, late.1);
                            slab.set(late.0, step, false);
                            if let Written::To(slot) = slab.write(late.0, late.1, &bytes) {
                                disk.write(slot, bytes);
                            }
                            disk.put(&commit);
                            slab.handle_committed();
                            durable = now;
                            for (name, chunks) in slab.take_gone() {
                                durable.retain(|(of, at)| *of != name || !chunks.contains(at));
                            }
                        }
                    }
                }
                37 => {
                    disk.crash(&mut rng);
                    slab = disk.reopen(limit);
                    crashes += 1;
                }
                _ => {}
            }
            for (name, chunks) in slab.take_gone() {
                durable.retain(|(of, at)| *of != name || !chunks.contains(at));
            }
            let found = check(&slab, &disk, &what);
            let lost: Vec<_> = durable.difference(&found).collect();
            assert!(lost.is_empty(), "{what}: lost {lost:?}");
            survived += durable.len();
            assert!(slab.used_slots() <= limit, "{what}");
            durable.retain(|it| found.contains(it));
            for number in 0..4 {
                slab.set(name(number), 0, number == 0);
            }
        }
    }
    println!("{crashes} crashes, {survived} chunks survived, {evicted} evicted");
    assert!(crashes > 1000 && survived > 10_000 && evicted > 1000);
}

/// Writes this chunk, which must find room.
fn put(slab: &mut Slab, name: StoredName, chunk: u32) -> Slot {
    match slab.write(name, chunk, &content(name, chunk)) {
        Written::To(slot) => slot,
        other => panic!("chunk {chunk}: {other:?}"),
    }
}

fn commit(slab: &mut Slab) {
    if slab.commit().is_some() {
        slab.handle_committed();
    }
}

#[test]
fn least_recently_used_goes_first_and_what_is_shared_never() {
    let mut slab = Slab::new(64);
    let (shared, old, newer) = (name(1), name(2), name(3));
    slab.set(shared, 0, true);
    slab.set(old, 1, false);
    slab.set(newer, 2, false);
    for chunk in 0..20 {
        put(&mut slab, shared, chunk);
        put(&mut slab, old, chunk);
    }
    commit(&mut slab);
    for chunk in 0..33 {
        put(&mut slab, newer, chunk);
        commit(&mut slab);
    }
    assert_eq!(slab.have(shared).len(), 20);
    assert_eq!(slab.have(newer).len(), 33);
    // Its end went first.
    let left: Vec<u32> = slab.have(old).iter().flatten().collect();
    assert_eq!(left, (0..left.len() as u32).collect::<Vec<_>>());
    assert!(left.len() < 12);
    // What is written longest goes on, behind whoever reads it.
    for chunk in 33..200 {
        put(&mut slab, newer, chunk);
        commit(&mut slab);
    }
    assert_eq!(slab.have(shared).len(), 20);
    assert!(slab.have(old).is_empty());
    let newest = slab.have(newer);
    assert!(newest.contains(199) && newest.len() > 30);
    // When all is held, nothing goes, and it is said that it is full.
    slab.set(newer, 3, true);
    slab.set(old, 4, true);
    let before = slab.have(newer).len() + slab.have(shared).len();
    for chunk in 0..64 {
        slab.write(old, chunk, b"x");
        commit(&mut slab);
    }
    assert_eq!(slab.write(old, 64, b"x"), Written::Full);
    assert_eq!(slab.have(newer).len() + slab.have(shared).len(), before);
    // A smaller limit takes what may go; a larger one gives room.
    slab.set(newer, 3, false);
    slab.set(old, 4, false);
    slab.set_limit(40);
    commit(&mut slab);
    assert!(slab.used_slots() <= 40);
    assert_eq!(slab.have(shared).len(), 20);
}

#[test]
fn damaged_pages_and_foreign_slots_are_not_believed() {
    let mut slab = Slab::new(100);
    slab.set(name(1), 0, false);
    for chunk in 0..5 {
        put(&mut slab, name(1), chunk);
    }
    let page = slab.commit().unwrap().pages[0].bytes.clone();
    let mut again = Slab::new(100);
    assert_eq!(again.restore(name(1), 0, &page[1..], 100), Err(SlabError));
    assert_eq!(again.restore(name(1), u32::MAX, &page, 100), Err(SlabError));
    assert_eq!(
        again.restore(name(1), 0, &vec![0; 13 * 1024], 100),
        Err(SlabError)
    );
    // The file is shorter than the claims, as after a lost write of its length.
    again.restore(name(1), 0, &page, 3).unwrap();
    assert_eq!(again.have(name(1)).len(), 3);
    // The same slots are claimed for another.
    again.restore(name(2), 0, &page, 100).unwrap();
    assert_eq!(again.have(name(2)).len(), 2);
    let one = again.claim(name(1), 1).unwrap();
    assert!(one.holds(name(1), 1, &content(name(1), 1)));
    assert!(!one.holds(name(1), 2, &content(name(1), 1)));
    assert!(!one.holds(name(2), 1, &content(name(1), 1)));
    // Let go, and told to the database.
    let told = again.commit().unwrap();
    assert_eq!(told.pages.len(), 2);
}
