//! One iterative lookup, over paths that share nobody.
//!
//! A lookup asks who is near a key, then those who were named, nearest first, until nobody nearer
//! is named. It does so on [`PATHS`] paths at once, as in S/Kademlia: a node is asked on one path
//! only, and whom it names is followed on that path only, so a liar spoils the path that came by
//! it and not the others. Each path has one question under way, and one more for each that is slow.
//! A path is at its end when the [`K`] nearest of those that it was told of have answered, whoever
//! asked them. Of one network no more than a few count, on a path as in the result.
//!
//! Nothing here knows time or a wire: [`super::Kad`] asks and says what came of it.

use std::collections::BTreeSet;

use super::distance::{Distance, Tally, networks};
use super::table::{Contact, K, Known, MAX_NETWORK_IN_BUCKET};
use crate::ids::{Key, RsaId};

/// Paths of one lookup.
pub const PATHS: usize = 3;
/// Questions that one lookup may ask. Who makes up ever nearer nodes fills it; the lookup then ends
/// with what it has.
const MAX_ASKS: usize = 64;
/// Nodes that one lookup remembers. Answers fill it; the farthest that was not asked is forgotten.
const MAX_CANDIDATES: usize = 160;
/// So many dead nodes named and not one that lives, and the others that it named are not asked.
const MAX_DEAD_TOLD: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    AwaitAnswer { path: usize, slow: bool },
    Answered,
    Failed,
}

/// The contact of the table that a path began with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub(super) id: RsaId,
    /// [`Contact::met`].
    pub(super) met: bool,
}

#[derive(Debug)]
struct Candidate {
    distance: Distance,
    known: Known,
    teller: Option<RsaId>,
    root: Root,
    /// The paths on which it was told of, as bits.
    views: u8,
    state: State,
    /// How many questions one after the other led to it, its own included.
    depth: u32,
    dead_told: u8,
    live_told: bool,
    /// Whether it was asked a second time.
    again: bool,
}

impl Candidate {
    fn is_in_view(&self, path: usize) -> bool {
        self.views & (1 << path) != 0
    }
}

/// Whom to ask next.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) known: Known,
    pub(super) teller: Option<RsaId>,
}

/// Who answered, and how it was come by.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) known: Known,
    pub(super) teller: Option<RsaId>,
    pub(super) root: Root,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) key: Key,
    own: RsaId,
    paths: usize,
    /// Nearest first.
    candidates: Vec<Candidate>,
    asks: usize,
    rounds: u32,
}

impl Lookup {
    /// A lookup that begins at `seeds`, nearest first, dealt out to the paths.
    pub(super) fn new(own: RsaId, key: Key, seeds: &[&Contact]) -> Self {
        let paths = PATHS.min(seeds.len()).max(1);
        let mut lookup = Lookup {
            key,
            own,
            paths,
            candidates: Vec::new(),
            asks: 0,
            rounds: 0,
        };
        for (path, seed) in (0..paths).cycle().zip(seeds) {
            let root = Root {
                id: seed.known.rsa_id,
                met: seed.met,
            };
            lookup.learn(seed.known.clone(), seed.teller, root, 1, path);
        }
        lookup
    }

    fn learn(&mut self, known: Known, teller: Option<RsaId>, root: Root, depth: u32, path: usize) {
        if known.rsa_id == self.own {
            return;
        }
        let distance = Distance::between(self.key, known.rsa_id.into());
        match self.place(distance) {
            // Two keys at one distance are one key.
            Ok(place) => {
                if let Some(there) = self.candidates.get_mut(place) {
                    there.views |= 1 << path;
                    there.root.met |= root.met;
                }
            }
            Err(place) => self.candidates.insert(
                place,
                Candidate {
                    distance,
                    known,
                    teller,
                    root,
                    views: 1 << path,
                    state: State::New,
                    depth,
                    dead_told: 0,
                    live_told: false,
                    again: false,
                },
            ),
        }
        if self.candidates.len() > MAX_CANDIDATES {
            let new = |candidate: &Candidate| candidate.state == State::New;
            if let Some(farthest) = self.candidates.iter().rposition(new) {
                self.candidates.remove(farthest);
            }
        }
    }

    fn place(&self, distance: Distance) -> Result<usize, usize> {
        self.candidates
            .binary_search_by_key(&distance, |candidate| candidate.distance)
    }

    fn find(&mut self, id: RsaId) -> Option<&mut Candidate> {
        let place = self.place(Distance::between(self.key, id.into())).ok()?;
        self.candidates.get_mut(place)
    }

    /// A node that it met.
    pub(super) fn known(&self, id: RsaId) -> Option<&Known> {
        let place = self.place(Distance::between(self.key, id.into())).ok()?;
        self.candidates.get(place).map(|candidate| &candidate.known)
    }

    /// The places of those that matter on a path: the nearest that may yet answer or did.
    fn horizon(&self, path: usize) -> impl Iterator<Item = (usize, &Candidate)> {
        let mut tally = Tally::default();
        let counts = |candidate: &Candidate| match candidate.state {
            State::New | State::Answered => true,
            State::AwaitAnswer { slow, .. } => !slow,
            State::Failed => false,
        };
        self.candidates
            .iter()
            .enumerate()
            .filter(move |(_, candidate)| candidate.is_in_view(path) && counts(candidate))
            .filter(move |(_, candidate)| {
                tally.admits(&networks(&candidate.known), MAX_NETWORK_IN_BUCKET)
            })
            .take(K)
    }

    /// Whom to ask now, if anybody.
    pub(super) fn next_ask(&mut self) -> Option<Next> {
        if self.asks >= MAX_ASKS {
            return None;
        }
        for path in 0..self.paths {
            let busy = self
                .candidates
                .iter()
                .any(|candidate| candidate.state == State::AwaitAnswer { path, slow: false });
            if busy {
                continue;
            }
            let next = self
                .horizon(path)
                .find(|(_, candidate)| candidate.state == State::New)
                .map(|(place, _)| place);
            if let Some(candidate) = next.and_then(|place| self.candidates.get_mut(place)) {
                candidate.state = State::AwaitAnswer { path, slow: false };
                self.asks += 1;
                self.rounds = self.rounds.max(candidate.depth);
                return Some(Next {
                    known: candidate.known.clone(),
                    teller: candidate.teller,
                });
            }
        }
        None
    }

    /// A node answered, naming these. Says who it was.
    pub(super) fn handle_answer(&mut self, from: RsaId, nodes: Vec<Known>) -> Option<Reached> {
        let candidate = self.find(from)?;
        let State::AwaitAnswer { path, .. } = candidate.state else {
            return None;
        };
        candidate.state = State::Answered;
        let (root, depth) = (candidate.root, candidate.depth.saturating_add(1));
        let reached = Reached {
            known: candidate.known.clone(),
            teller: candidate.teller,
            root,
        };
        if let Some(teller) = reached.teller.and_then(|teller| self.find(teller)) {
            teller.live_told = true;
        }
        for known in nodes {
            self.learn(known, Some(from), root, depth, path);
        }
        Some(reached)
    }

    /// A node did not answer yet; its path goes on without it. If nobody nearer has answered, it is
    /// asked once more: its question may be lost, and it may be the one that is looked for.
    pub(super) fn handle_slow(&mut self, from: RsaId) {
        let mut nearer = self.candidates.iter();
        let nearer = nearer.find(|it| it.state == State::Answered || it.known.rsa_id == from);
        let is_nearest = nearer.is_some_and(|it| it.state != State::Answered);
        if let Some(candidate) = self.find(from)
            && let State::AwaitAnswer { path, .. } = candidate.state
        {
            let again = is_nearest && !std::mem::replace(&mut candidate.again, true);
            candidate.state = if again {
                State::New
            } else {
                State::AwaitAnswer { path, slow: true }
            };
        }
    }

    /// A node did not answer, or nonsense. Says who named so many that are dead that the others
    /// are not asked.
    pub(super) fn handle_failed(&mut self, from: RsaId) -> Option<RsaId> {
        let candidate = self.find(from)?;
        candidate.state = State::Failed;
        let teller = candidate.teller.filter(|_| candidate.depth > 1)?;
        let told_by = self.find(teller)?;
        told_by.dead_told = told_by.dead_told.saturating_add(1);
        if told_by.live_told || told_by.dead_told < MAX_DEAD_TOLD {
            return None;
        }
        for candidate in &mut self.candidates {
            if candidate.teller == Some(teller) && candidate.state == State::New {
                candidate.state = State::Failed;
            }
        }
        Some(teller)
    }

    /// Whether all paths are at their ends.
    pub(super) fn is_done(&self) -> bool {
        let waits = |candidate: &Candidate| {
            matches!(candidate.state, State::AwaitAnswer { slow: false, .. })
        };
        if self.asks >= MAX_ASKS {
            return !self.candidates.iter().any(waits);
        }
        (0..self.paths).all(|path| {
            self.horizon(path)
                .all(|(_, candidate)| candidate.state == State::Answered)
        })
    }

    /// The nearest that answered, each path's in turn, so that one path cannot push out the
    /// others'; nearest first.
    pub(super) fn closest(&self) -> Vec<(Known, Option<RsaId>)> {
        let mut tally = Tally::default();
        let mut chosen: BTreeSet<usize> = BTreeSet::new();
        let mut views: Vec<_> = (0..self.paths)
            .map(|path| {
                self.candidates
                    .iter()
                    .enumerate()
                    .filter(move |(_, candidate)| {
                        candidate.is_in_view(path) && candidate.state == State::Answered
                    })
            })
            .collect();
        let mut more = true;
        while more && chosen.len() < K {
            more = false;
            for view in &mut views {
                if chosen.len() >= K {
                    break;
                }
                let next = view.find(|(place, candidate)| {
                    !chosen.contains(place)
                        && tally.admits(&networks(&candidate.known), MAX_NETWORK_IN_BUCKET)
                });
                if let Some((place, _)) = next {
                    chosen.insert(place);
                    more = true;
                }
            }
        }
        chosen
            .iter()
            .filter_map(|place| self.candidates.get(*place))
            .map(|candidate| (candidate.known.clone(), candidate.teller))
            .collect()
    }

    /// How many questions it asked.
    pub(super) fn asks(&self) -> usize {
        self.asks
    }

    /// The most questions of which each had to await the answer of the one before.
    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }
}
