//! What a simulated host has: torrents, given truly, wrongly or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chive_node::ordb::{ContentAnswer, ContentWant};
use chive_node::time::Instant;
use chive_node::torrent::Infohash;
use chive_node::wire::{BLOCK_LEN, DbEndReason, Section, Tried};

/// How a host treats its askers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// What it says is so.
    Honest,
    /// One byte of each chunk is wrong.
    Lying,
}

/// The torrents of one host.
#[derive(Default)]
pub struct Library {
    torrents: BTreeMap<Infohash, Torrent>,
    delay: Duration,
    /// Chunks that it was asked for.
    pub chunks_given: u64,
}

struct Torrent {
    info: Bytes,
    content: Bytes,
    manner: Manner,
}

impl Library {
    /// Puts in a torrent: its info dictionary and the bytes that it names.
    pub fn put(&mut self, name: Infohash, info: Bytes, content: Bytes, manner: Manner) {
        self.torrents.insert(
            name,
            Torrent {
                info,
                content,
                manner,
            },
        );
    }

    /// How long the host thinks before each answer.
    pub fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    pub(super) fn answer(
        &mut self,
        _now: Instant,
        want: &ContentWant,
    ) -> Vec<(Duration, ContentAnswer)> {
        let mut answers = Vec::new();
        match want {
            ContentWant::Open { name } => answers.push(match self.torrents.get(name) {
                Some(torrent) => ContentAnswer::Opened {
                    name: *name,
                    metadata: torrent.info.clone(),
                },
                None => ContentAnswer::Failed {
                    name: *name,
                    scope: None,
                    reason: DbEndReason::NOT_FOUND,
                    tried: Some(Tried {
                        seconds: 1,
                        dht_nodes: 2,
                        trackers: 3,
                        peers: 4,
                    }),
                },
            }),
            ContentWant::Blocks {
                name,
                section,
                first,
                count,
            } => {
                for block in (*first..).take(usize::from(*count)) {
                    answers.push(self.block(name, *section, block));
                }
            }
            ContentWant::Cancel { .. } | ContentWant::Close { .. } => {}
        }
        let delay = self.delay;
        answers.into_iter().map(|answer| (delay, answer)).collect()
    }

    fn block(&mut self, name: &Infohash, section: Section, block: u32) -> ContentAnswer {
        let blob = self.torrents.get(name).and_then(|torrent| match section {
            Section::METADATA => Some((&torrent.info, Manner::Honest)),
            Section::CHUNKS => Some((&torrent.content, torrent.manner)),
            _ => None,
        });
        let start = block as usize * BLOCK_LEN;
        let bytes = blob.and_then(|(blob, manner)| {
            let end = (start + BLOCK_LEN).min(blob.len());
            (start < end).then(|| (blob.slice(start..end), manner))
        });
        if section == Section::CHUNKS {
            self.chunks_given += 1;
        }
        match bytes {
            Some((bytes, manner)) => ContentAnswer::Block {
                name: *name,
                section,
                block,
                bytes: match manner {
                    Manner::Honest => bytes,
                    Manner::Lying => {
                        let mut wrong = bytes.to_vec();
                        wrong[0] ^= 1;
                        wrong.into()
                    }
                },
            },
            None => ContentAnswer::Failed {
                name: *name,
                scope: Some((section, block, 1)),
                reason: DbEndReason::UNAVAILABLE,
                tried: None,
            },
        }
    }
}
