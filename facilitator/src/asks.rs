//! What is being asked of one torrent: runs of chunks, each answered in its order.

use std::ops::Range;

/// Runs of chunks that are asked of one torrent at once. Whoever asks for scattered blocks fills
/// it; what comes when it is full is refused as BUSY.
pub(crate) const MAX_RUNS: usize = 256;

/// Chunks that are asked of one torrent at once, 1 GiB of them. Askers fill it; what comes when it
/// is full is refused as BUSY.
pub(crate) const MAX_CHUNKS_ASKED: usize = 1 << 16;

/// Who has read on through so many pieces and chunks (8 MiB) is one who reads on, and not one of
/// several sources that are given runs in turns. At most an eighth of what is fetched for it was
/// not asked for.
const READING_PIECES: u32 = 8;
const READING_CHUNKS: u32 = 512;
/// Then one piece is fetched ahead for so many that were read.
const PIECES_PER_READ_AHEAD: u32 = 16;
/// The most that is fetched before it is asked for: 2 MiB, or one piece.
const MAX_READ_AHEAD_CHUNKS: u32 = 128;

/// Disjoint runs of chunks, in the order in which they were asked.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    runs: Vec<Run>,
    count: usize,
    /// Where somebody reads on and on: the end of the last run, and where that reading began.
    reading: Option<Range<u32>>,
}

/// Chunks asked and not yet answered, from the next to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) next: u32,
    pub(crate) end: u32,
}

impl From<Range<u32>> for Run {
    fn from(chunks: Range<u32>) -> Self {
        Self {
            next: chunks.start,
            end: chunks.end,
        }
    }
}

/// There is no room for more asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl Asks {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many chunks.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds chunks; those that are asked already are answered once, where they stand.
    pub(crate) fn add(&mut self, chunks: Range<u32>) -> Result<(), Busy> {
        if chunks.is_empty() {
            return Ok(());
        }
        let mut fresh = vec![chunks.clone()];
        for run in &self.runs {
            fresh = fresh
                .into_iter()
                .flat_map(|part| subtract(part, run.next..run.end))
                .collect();
        }
        let count = fresh.iter().map(|part| part.len()).sum::<usize>();
        if self.runs.len() + fresh.len() > MAX_RUNS || self.count + count > MAX_CHUNKS_ASKED {
            return Err(Busy);
        }
        self.count += count;
        self.reading = match self.reading.take() {
            Some(reading) if reading.contains(&chunks.start) || reading.end == chunks.start => {
                Some(reading.start..reading.end.max(chunks.end))
            }
            _ => Some(chunks),
        };
        for part in fresh {
            match self.runs.iter_mut().find(|run| run.end == part.start) {
                Some(run) => run.end = part.end,
                None => self.runs.push(part.into()),
            }
        }
        Ok(())
    }

    /// Takes chunks back.
    pub(crate) fn cancel(&mut self, chunks: Range<u32>) {
        let runs = std::mem::take(&mut self.runs);
        // Cuts make more runs. Where there is no room for them a run stays whole: what is then
        // answered for nothing costs less than the bookkeeping.
        let mut room = MAX_RUNS - runs.len();
        for run in runs {
            let parts: Vec<_> = subtract(run.next..run.end, chunks.clone()).collect();
            if parts.len() == 2 && room == 0 {
                self.runs.push(run);
                continue;
            }
            room -= parts.len().saturating_sub(1);
            self.runs.extend(parts.into_iter().map(Run::from));
        }
        self.recount();
    }

    /// The next chunk of this run was answered.
    pub(crate) fn advance(&mut self, run: usize) {
        if let Some(asked) = self.runs.get_mut(run) {
            asked.next += 1;
            self.count -= 1;
            if asked.next == asked.end {
                // The order of the others is the order in which they were asked.
                self.runs.remove(run);
            }
        }
    }

    /// Takes a whole run away, because it cannot be answered.
    pub(crate) fn remove(&mut self, run: usize) -> Run {
        let run = self.runs.remove(run);
        self.recount();
        run
    }

    /// Whether any of these chunks is asked for.
    pub(crate) fn wants(&self, chunks: &Range<u32>) -> bool {
        self.runs
            .iter()
            .any(|run| run.next < chunks.end && chunks.start < run.end)
    }

    /// Pieces that are likely asked next, by somebody who reads on and on.
    pub(crate) fn read_ahead(&self, chunks_per_piece: u32) -> Range<u32> {
        let Some(reading) = &self.reading else {
            return 0..0;
        };
        let first = reading.end.div_ceil(chunks_per_piece);
        let read = first.saturating_sub(reading.start.div_ceil(chunks_per_piece));
        if read < READING_PIECES || reading.end - reading.start < READING_CHUNKS {
            return first..first;
        }
        let most = (MAX_READ_AHEAD_CHUNKS / chunks_per_piece).max(1);
        first..first.saturating_add((read / PIECES_PER_READ_AHEAD).clamp(1, most))
    }

    fn recount(&mut self) {
        self.count = self
            .runs
            .iter()
            .map(|run| (run.end - run.next) as usize)
            .sum();
    }
}

/// What of `all` is not in `taken`: nothing, one part or two.
fn subtract(all: Range<u32>, taken: Range<u32>) -> impl Iterator<Item = Range<u32>> {
    let before = all.start..all.end.min(taken.start).max(all.start);
    let after = all.start.max(taken.end).min(all.end)..all.end;
    [before, after].into_iter().filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Range;

    use super::{Asks, Busy, MAX_CHUNKS_ASKED, MAX_RUNS, subtract};

    fn asked(asks: &Asks) -> BTreeSet<u32> {
        let chunks: Vec<u32> = asks.runs().iter().flat_map(|r| r.next..r.end).collect();
        let set: BTreeSet<u32> = chunks.iter().copied().collect();
        assert_eq!(chunks.len(), set.len(), "runs overlap: {:?}", asks.runs());
        assert_eq!(asks.count, set.len());
        set
    }

    #[test]
    fn runs_are_a_set_of_chunks() {
        // All ranges over a small space, against a set.
        let ranges: Vec<Range<u32>> = (0..7).flat_map(|a| (a..7).map(move |b| a..b)).collect();
        for first in &ranges {
            for second in &ranges {
                for cancelled in &ranges {
                    let mut asks = Asks::default();
                    asks.add(first.clone()).expect("room");
                    asks.add(second.clone()).expect("room");
                    let mut model: BTreeSet<u32> = first.clone().chain(second.clone()).collect();
                    assert_eq!(asked(&asks), model);
                    asks.cancel(cancelled.clone());
                    model.retain(|chunk| !cancelled.contains(chunk));
                    assert_eq!(asked(&asks), model);
                    while let Some(run) = asks.runs().first().cloned() {
                        assert!(model.remove(&run.next));
                        asks.advance(0);
                    }
                    assert!(model.is_empty());
                }
            }
        }
    }

    #[test]
    fn what_is_left_of_a_range() {
        let parts = |all, taken| {
            let parts = subtract(all, taken);
            parts.map(|part| (part.start, part.end)).collect::<Vec<_>>()
        };
        assert_eq!(parts(2..8, 4..5), [(2, 4), (5, 8)]);
        assert_eq!(parts(2..8, 0..3), [(3, 8)]);
        assert_eq!(parts(2..8, 7..9), [(2, 7)]);
        assert_eq!(parts(2..8, 9..12), [(2, 8)]);
        assert_eq!(parts(2..8, 0..2), [(2, 8)]);
        assert_eq!(parts(2..8, 2..8), []);
    }

    #[test]
    fn asks_are_bounded() {
        let mut asks = Asks::default();
        for run in 0..MAX_RUNS as u32 {
            asks.add(run * 2..run * 2 + 1).expect("room");
        }
        assert_eq!(asks.add(10_000..10_001), Err(Busy));
        // What is asked already costs nothing.
        asks.add(0..1).expect("room");

        let mut asks = Asks::default();
        let most = MAX_CHUNKS_ASKED as u32;
        asks.add(0..most).expect("room");
        assert_eq!(asks.add(most..most + 1), Err(Busy));
    }

    #[test]
    fn reading_on_earns_a_little_read_ahead() {
        let mut asks = Asks::default();
        // 4 chunks a piece. Runs here and there are those of one of several sources.
        for start in (0..4096).step_by(64) {
            asks.add(start..start + 32).expect("room");
            assert!(asks.read_ahead(4).is_empty());
        }
        // Somebody who reads on earns some.
        asks.add(8192..8192 + 496).expect("room");
        assert!(asks.read_ahead(4).is_empty());
        asks.add(8192 + 496..8192 + 512).expect("room");
        assert_eq!(asks.read_ahead(4), 2176..2184);
        for start in (8192 + 512..16384).step_by(16) {
            asks.add(start..start + 16).expect("room");
        }
        assert_eq!(asks.read_ahead(4), 4096..4128);
        // Pieces of 4 MiB: only after eight of them.
        assert!(asks.read_ahead(2048).is_empty());
        assert_eq!(asks.read_ahead(1024), 16..17);
        // A seek begins anew.
        asks.add(0..4).expect("room");
        assert!(asks.read_ahead(4).is_empty());
    }
}
