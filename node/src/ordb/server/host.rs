//! What the server wants of its host, and what comes of the answers.

use std::collections::btree_map::Entry;

use bytes::Bytes;

use super::{ContentWant, MAX_AHEAD_BLOCKS, Server, StreamKey, Wanted};
use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::{BLOCK_LEN, DbEndReason, MAX_ASK_BLOCKS, Section};

impl Server {
    /// Wants of the host what a stream asked, as far as limits allow.
    pub(super) fn want_more(&mut self, key: StreamKey) {
        let Some(circuit) = self.circuits.get_mut(&key.circuit) else {
            return;
        };
        let Some(stream) = circuit.streams.get_mut(&key.stream) else {
            return;
        };
        let Some(name) = self.names.get_mut(&stream.name) else {
            return;
        };
        let infohash = stream.name;
        while let Some((section, block)) = stream.next_unwanted(MAX_AHEAD_BLOCKS) {
            if self.ahead >= self.config.max_ahead_blocks {
                if !std::mem::replace(&mut stream.is_starved, true) {
                    self.starved.push_back(key);
                }
                break;
            }
            self.ahead += 1;
            if section == Section::METADATA {
                let metadata = name.metadata.clone().unwrap_or_default();
                let start = (block as usize)
                    .saturating_mul(BLOCK_LEN)
                    .min(metadata.len());
                let end = start.saturating_add(BLOCK_LEN).min(metadata.len());
                stream.set_wanted();
                stream.fill(section, block, &metadata.slice(start..end));
                continue;
            }
            stream.set_wanted();
            let wanted = name.wanted.entry((section, block));
            let is_new = matches!(wanted, Entry::Vacant(_));
            let wanted = wanted.or_insert_with(|| Wanted {
                askers: Vec::new(),
                since: stream.heard,
            });
            wanted.askers.push(key);
            if !is_new {
                continue;
            }
            match self.wants.back_mut() {
                Some(ContentWant::Blocks {
                    name,
                    section: of,
                    first,
                    count,
                }) if *name == infohash
                    && *of == section
                    && first.checked_add((*count).into()) == Some(block)
                    && *count < MAX_ASK_BLOCKS =>
                {
                    *count += 1;
                }
                _ => self.wants.push_back(ContentWant::Blocks {
                    name: infohash,
                    section,
                    first: block,
                    count: 1,
                }),
            }
        }
        self.take_turn(key.circuit);
    }

    pub(super) fn feed_starved(&mut self) {
        while self.ahead < self.config.max_ahead_blocks
            && let Some(key) = self.starved.pop_front()
        {
            if let Some(stream) = self.stream_mut(key) {
                stream.is_starved = false;
                self.want_more(key);
            }
        }
    }

    pub(super) fn handle_opened(&mut self, now: Instant, name: Infohash, metadata: Bytes) {
        let length = metadata.len();
        if length == 0 || length > self.config.max_metadata_bytes {
            self.end_name(now, name, DbEndReason::TOO_LARGE, None);
            self.wants.push_back(ContentWant::Close { name });
            return;
        }
        let Some(known) = self.names.get_mut(&name) else {
            return;
        };
        if known.metadata.is_some() {
            // Another of the host's parts has taken it over: it has not heard what is wanted.
            for (section, first) in known.wanted.keys().copied() {
                self.wants.push_back(ContentWant::Blocks {
                    name,
                    section,
                    first,
                    count: 1,
                });
            }
            return;
        }
        known.metadata = Some(metadata);
        let streams: Vec<StreamKey> = known.streams.iter().copied().collect();
        for key in streams {
            self.send_connected(key, length);
        }
    }

    pub(super) fn handle_block(
        &mut self,
        name: Infohash,
        section: Section,
        block: u32,
        bytes: Bytes,
    ) {
        let Some(known) = self.names.get_mut(&name) else {
            return;
        };
        let Some(wanted) = known.wanted.remove(&(section, block)) else {
            return;
        };
        if bytes.is_empty() || bytes.len() > BLOCK_LEN {
            // Nothing that can be sent: the host's mistake, told as its failure.
            known.wanted.insert((section, block), wanted);
            let blocks = block..block.saturating_add(1);
            return self.end_blocks(name, section, blocks, DbEndReason::UNAVAILABLE);
        }
        for key in wanted.askers {
            if let Some(stream) = self.stream_mut(key) {
                stream.fill(section, block, &bytes);
                self.take_turn(key.circuit);
            }
        }
    }
}
