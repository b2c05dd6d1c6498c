//! How streams, blocks and names end: refused, cancelled, late or idle.

use std::ops::Range;

use super::{ContentWant, LINGER, Server, StreamKey, TICK};
use crate::ordb::block_ranges;
use crate::time::Instant;
use crate::torrent::Infohash;
use crate::wire::{BlockRange, DbEnd, DbEndReason, MAX_ASK_BLOCKS, Section, Tried};

impl Server {
    pub(super) fn end_name(
        &mut self,
        now: Instant,
        name: Infohash,
        reason: DbEndReason,
        tried: Option<Tried>,
    ) {
        let Some(known) = self.names.remove(&name) else {
            return;
        };
        let tried = tried.filter(|_| reason == DbEndReason::NOT_FOUND);
        for key in known.streams {
            self.remove_stream(now, key);
            self.send_end(
                key,
                DbEnd {
                    reason,
                    scope: None,
                    tried,
                },
            );
        }
    }

    /// Blocks of a name will not come: every stream that asked for any is told.
    pub(super) fn end_blocks(
        &mut self,
        name: Infohash,
        section: Section,
        blocks: Range<u32>,
        reason: DbEndReason,
    ) {
        let Some(known) = self.names.get(&name) else {
            return;
        };
        let streams: Vec<StreamKey> = known.streams.iter().copied().collect();
        for key in streams {
            for scope in block_ranges(section, blocks.clone()) {
                if self.remove_blocks(key, scope) {
                    self.send_end(
                        key,
                        DbEnd {
                            reason,
                            scope: Some(scope),
                            tried: None,
                        },
                    );
                }
            }
        }
    }

    /// Takes blocks out of a stream's queue; what nobody else wants is cancelled at the host.
    pub(super) fn remove_blocks(&mut self, key: StreamKey, scope: BlockRange) -> bool {
        let Some(circuit) = self.circuits.get_mut(&key.circuit) else {
            return false;
        };
        let Some(stream) = circuit.streams.get_mut(&key.stream) else {
            return false;
        };
        let removed = stream.remove(scope.section, &scope.blocks());
        let name = stream.name;
        self.ahead = self.ahead.saturating_sub(removed.ahead);
        self.unwant(name, key, &removed.awaited);
        if removed.ahead > 0 {
            self.want_more(key);
            self.feed_starved();
        }
        removed.any
    }

    pub(super) fn unwant(&mut self, name: Infohash, key: StreamKey, blocks: &[(Section, u32)]) {
        let Some(known) = self.names.get_mut(&name) else {
            return;
        };
        for &(section, block) in blocks {
            let Some(wanted) = known.wanted.get_mut(&(section, block)) else {
                continue;
            };
            if let Some(place) = wanted.askers.iter().position(|asker| *asker == key) {
                wanted.askers.swap_remove(place);
            }
            if !wanted.askers.is_empty() {
                continue;
            }
            known.wanted.remove(&(section, block));
            match self.wants.back_mut() {
                Some(ContentWant::Cancel {
                    name: of_name,
                    section: of,
                    first,
                    count,
                }) if *of_name == name
                    && *of == section
                    && first.checked_add((*count).into()) == Some(block)
                    && *count < MAX_ASK_BLOCKS =>
                {
                    *count += 1;
                }
                _ => self.wants.push_back(ContentWant::Cancel {
                    name,
                    section,
                    first: block,
                    count: 1,
                }),
            }
        }
    }

    pub(super) fn remove_stream(&mut self, now: Instant, key: StreamKey) {
        let Some(circuit) = self.circuits.get_mut(&key.circuit) else {
            return;
        };
        let Some(mut stream) = circuit.streams.remove(&key.stream) else {
            return;
        };
        let removed = stream.remove_all();
        self.ahead = self.ahead.saturating_sub(removed.ahead);
        self.unwant(stream.name, key, &removed.awaited);
        if stream.is_starved {
            self.starved.retain(|other| *other != key);
        }
        if let Some(known) = self.names.get_mut(&stream.name) {
            known.streams.remove(&key);
            if known.streams.is_empty() {
                known.unused_since = Some(now);
                self.next_tick = self.next_tick.min(now + TICK);
            }
        }
        self.feed_starved();
    }

    pub(super) fn end_idle_streams(&mut self, now: Instant) {
        let limit = self.config.idle_timeout;
        let mut idle = Vec::new();
        for (circuit, it) in &self.circuits {
            for (stream, it) in &it.streams {
                let is_open = self
                    .names
                    .get(&it.name)
                    .is_some_and(|name| name.metadata.is_some());
                if is_open && it.queued() == 0 && now.saturating_since(it.heard) >= limit {
                    idle.push(StreamKey {
                        circuit: *circuit,
                        stream: *stream,
                    });
                }
            }
        }
        for key in idle {
            self.remove_stream(now, key);
            self.send_reason(key, DbEndReason::IDLE);
        }
    }

    pub(super) fn end_late_blocks(&mut self, now: Instant) {
        let limit = self.config.block_timeout;
        let mut late = Vec::new();
        for (name, known) in &self.names {
            for ((section, block), wanted) in &known.wanted {
                if now.saturating_since(wanted.since) >= limit {
                    late.push((*name, *section, *block));
                }
            }
        }
        for (name, section, block) in late {
            let blocks = block..block.saturating_add(1);
            self.end_blocks(name, section, blocks, DbEndReason::UNAVAILABLE);
        }
    }

    pub(super) fn close_unused_names(&mut self, now: Instant) {
        let wants = &mut self.wants;
        self.names.retain(|name, known| {
            let is_over = known
                .unused_since
                .is_some_and(|since| now.saturating_since(since) >= LINGER);
            if is_over {
                wants.push_back(ContentWant::Close { name: *name });
            }
            !is_over
        });
    }
}
