//! An ORDB's own work: it asks on, for those who ask it, whoever told that he holds a name, then
//! whoever is known to know; and passes on what is verified.
//!
//! A relay is a [`Requester`] of one name: it finds the liars, keeps what it fetched for the next
//! who asks, and gives nothing away that it has not checked. Both ends are behind circuits.

mod upstreams;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::circuit::client::Router;
use crate::ids::{CircuitId, Ed25519Id, StreamId};
use crate::kad::LookupId;
use crate::node::Node;
use crate::node::adverts::Adverts;
use crate::node::io::Event;
use crate::node::relaying::upstreams::Upstream;
use crate::node::timers::Wake;
use crate::ordb::{
    Config, ContentAnswer, ContentWant, Failure, Requester, RequesterEvent, SourceFailure, SourceId,
};
use crate::time::Instant;
use crate::torrent::{CHUNK_LEN, Infohash, Magnet};
use crate::wire::{DbEndReason, DbInfo, DestroyReason, Roles, Section, Tried};

/// Names that are asked on at a time. Who asks for more of them is told BUSY.
const MAX_RELAYS: usize = 64;
/// How long those who told of a name may take to open before others are asked as well.
const IMPATIENCE: Duration = Duration::from_secs(5);
/// How long a name is kept for holders to come when nobody is left …
const GRACE: Duration = Duration::from_secs(3);
/// … and to come back, where the circuit of one broke: they build another, and perhaps the links for
/// it, in seconds.
const RETURN: Duration = Duration::from_secs(8);

/// One name that is asked on.
pub(crate) struct Relay {
    requester: Requester,
    upstreams: BTreeMap<SourceId, Upstream>,
    /// Circuits being built to other ORDBs.
    building: BTreeMap<SourceId, CircuitId>,
    /// Other ORDBs that were asked for it.
    tried: BTreeSet<Ed25519Id>,
    /// Circuits that lied or had nothing.
    avoid: BTreeSet<u64>,
    /// Blocks of sections that were asked and are not here yet.
    waiting: Vec<(Section, u32)>,
    /// ORDBs that Kademlia names, not asked yet.
    providers: VecDeque<Arc<Router>>,
    /// Kademlia is being asked; and whether it was.
    lookup: Option<LookupId>,
    looked_up: bool,
    /// What the host said that it tried, where it did not find the name.
    host_tried: Option<Tried>,
    began: Instant,
    /// Since when nobody is left to ask.
    alone_since: Option<Instant>,
    /// Until when a holder whose circuit broke may be back.
    returns_until: Instant,
}

/// All that an ORDB keeps for others' questions.
#[derive(Default)]
pub(crate) struct Relays {
    pub(crate) adverts: Adverts,
    relays: BTreeMap<Infohash, Relay>,
    /// Streams that were opened backward, by circuit.
    streams: BTreeMap<(u64, StreamId), (Infohash, SourceId)>,
    /// The last number of a stream opened backward, by circuit.
    numbers: BTreeMap<u64, u16>,
    pub(crate) dirty: BTreeSet<Infohash>,
    /// Names that the host is opening after those who told of them had not all, whoever else is asked
    /// meanwhile; bounded by the server's names.
    handed_over: BTreeSet<Infohash>,
}

impl Relays {
    /// Names that are being asked on.
    pub(crate) fn len(&self) -> usize {
        self.relays.len()
    }

    /// A neighbour says that it can be asked for a name.
    pub(crate) fn handle_heard(&mut self, name: Infohash) {
        if self.relays.contains_key(&name) {
            self.dirty.insert(name);
        }
    }

    /// The requester looks at the clock.
    pub(crate) fn handle_timeout(&mut self, now: Instant, name: Infohash) {
        if let Some(relay) = self.relays.get_mut(&name) {
            relay.requester.handle_timeout(now);
            self.dirty.insert(name);
        }
    }
}

impl Node {
    /// What the content server wants: of those who told of the name, or of the host.
    pub(crate) fn handle_want(&mut self, want: ContentWant) {
        match want {
            ContentWant::Open { name } => {
                let has_host = self.config.roles.contains(Roles::FACILITATOR);
                if has_host && !self.relays.adverts.has(&name) && !self.has_heard(&name) {
                    return self.emit(Event::Content(want));
                }
                self.open_relay(name, None);
            }
            ContentWant::Blocks {
                name,
                section,
                first,
                count,
            } if self.relays.relays.contains_key(&name) => {
                self.relay_blocks(name, section, first, count);
            }
            ContentWant::Cancel {
                name,
                section,
                first,
                count,
            } if self.relays.relays.contains_key(&name) => {
                let blocks = first..first.saturating_add(count.into());
                if let Some(relay) = self.relays.relays.get_mut(&name) {
                    relay
                        .waiting
                        .retain(|(of, block)| *of != section || !blocks.contains(block));
                    if section == Section::CHUNKS {
                        relay.requester.unask_chunks(self.now, blocks);
                    }
                    self.relays.dirty.insert(name);
                }
            }
            ContentWant::Close { name } if self.relays.relays.contains_key(&name) => {
                self.close_relay(name);
                if self.relays.handed_over.remove(&name) {
                    self.emit(Event::Content(want));
                }
            }
            ContentWant::Blocks { name, .. } | ContentWant::Cancel { name, .. }
                if self.relays.handed_over.contains(&name) =>
            {
                // The server wants it again once the host has opened it.
            }
            ContentWant::Close { name } => {
                self.relays.handed_over.remove(&name);
                self.emit(Event::Content(want));
            }
            other => self.emit(Event::Content(other)),
        }
    }

    /// The host answers.
    pub(crate) fn handle_content(&mut self, answer: ContentAnswer) {
        let (ContentAnswer::Opened { name, .. }
        | ContentAnswer::Block { name, .. }
        | ContentAnswer::Failed { name, .. }) = answer;
        let host_tried = match answer {
            ContentAnswer::Failed {
                scope: None,
                reason: DbEndReason::NOT_FOUND,
                tried,
                ..
            } => Some(tried.unwrap_or_default()),
            _ => None,
        };
        let was_relayed = match &answer {
            ContentAnswer::Block { .. } | ContentAnswer::Failed { scope: Some(_), .. } => false,
            _ => self.relays.handed_over.remove(&name),
        };
        if let Some(relay) = self.relays.relays.get_mut(&name) {
            // Else it was told that this is no longer asked of it.
            if was_relayed {
                let is_alone = relay.upstreams.is_empty() || relay.requester.has_lacking();
                match answer {
                    ContentAnswer::Opened { .. } if is_alone => {
                        self.close_relay(name);
                        self.server.handle_answer(self.now, answer);
                        self.server_dirty = true;
                    }
                    ContentAnswer::Opened { .. } => {
                        self.emit(Event::Content(ContentWant::Close { name }));
                    }
                    _ => {
                        relay.host_tried = Some(host_tried.unwrap_or_default());
                        self.relays.dirty.insert(name);
                    }
                }
            }
            return;
        }
        let told = self.relays.adverts.has(&name) || self.has_heard(&name);
        let others = told || self.is_joined();
        if host_tried.is_some() && !was_relayed && others {
            // Somebody told of it meanwhile, or told another ORDB.
            return self.open_relay(name, host_tried);
        }
        self.server.handle_answer(self.now, answer);
        self.server_dirty = true;
    }

    /// Nobody else has what is wanted of a name: the host is to find it.
    fn hand_over(&mut self, name: Infohash) {
        self.close_relay(name);
        // It may be looking already.
        if self.relays.handed_over.insert(name) {
            self.emit(Event::Content(ContentWant::Open { name }));
        }
    }

    /// Somebody tells over a circuit what he holds.
    pub(crate) fn handle_info(&mut self, circuit: u64, info: &DbInfo) {
        if !self.config.roles.contains(Roles::ORDB) {
            return;
        }
        let was_known = self.relays.adverts.has(&info.name);
        self.relays.adverts.handle_info(self.now, circuit, info);
        if !was_known && self.relays.adverts.has(&info.name) {
            self.publish_name(info.name.key());
        }
        self.adverts_changed();
        if self.relays.handed_over.contains(&info.name)
            && !self.relays.relays.contains_key(&info.name)
            && self.relays.adverts.has(&info.name)
            && self
                .server
                .circuits_of(&info.name)
                .iter()
                .any(|asker| *asker != circuit)
        {
            // Somebody who has it came, or came back: whoever is first, he or the host.
            self.open_relay(info.name, None);
        }
        if let Some(relay) = self.relays.relays.get_mut(&info.name) {
            // What it has is more than when it was asked last.
            relay.avoid.remove(&circuit);
            self.relays.dirty.insert(info.name);
        }
    }

    /// Others tell of names than before. Of which nobody tells any more, Kademlia is told no longer
    /// that this is an ORDB for them.
    pub(crate) fn adverts_changed(&mut self) {
        for name in self.relays.adverts.take_gone() {
            self.unpublish_name(name.key());
        }
        self.tell_changes();
    }

    fn open_relay(&mut self, name: Infohash, host_tried: Option<Tried>) {
        if self.relays.relays.len() >= MAX_RELAYS {
            let answer = ContentAnswer::Failed {
                name,
                scope: None,
                reason: DbEndReason::BUSY,
                tried: None,
            };
            self.server.handle_answer(self.now, answer);
            self.server_dirty = true;
            return;
        }
        let limits = &self.config.limits;
        let store = limits.relay_bytes as u64;
        let config = Config {
            max_metadata_bytes: u32::try_from(limits.metadata_bytes).unwrap_or(u32::MAX),
            max_store_bytes: store,
            max_unverified_bytes: store,
            max_leaves: 2 * limits.relay_bytes / CHUNK_LEN as usize,
            open_timeout: limits.find_timeout,
            // The node says when it is over: it knows whom else to ask.
            sources_wanted: usize::MAX,
            patience: Duration::MAX,
            relays: true,
            ..Config::default()
        };
        let relay = Relay {
            requester: Requester::new(self.now, Magnet::new(name), config),
            upstreams: BTreeMap::new(),
            building: BTreeMap::new(),
            tried: BTreeSet::new(),
            avoid: BTreeSet::new(),
            waiting: Vec::new(),
            providers: VecDeque::new(),
            lookup: None,
            looked_up: false,
            host_tried,
            began: self.now,
            alone_since: None,
            returns_until: Instant::ZERO,
        };
        self.relays.relays.insert(name, relay);
        self.share_relay_bytes();
        self.relays.dirty.insert(name);
    }

    /// The names that are asked on share what may be kept of them.
    fn share_relay_bytes(&mut self) {
        let count = self.relays.relays.len().max(1) as u64;
        let each = self.config.limits.relay_bytes as u64 / count;
        for relay in self.relays.relays.values_mut() {
            // Below two pieces nothing would ever be whole.
            let piece = relay.requester.metainfo().map(|it| it.piece_length());
            let least = piece.map_or(0, |piece| u64::from(piece).saturating_mul(2));
            relay.requester.set_store_cap(each.max(least));
        }
    }

    fn close_relay(&mut self, name: Infohash) {
        let Some(relay) = self.relays.relays.remove(&name) else {
            return;
        };
        self.timers.clear(Wake::Relay(name));
        self.relays.dirty.remove(&name);
        for (_, upstream) in relay.upstreams {
            self.end_upstream(upstream, DbEndReason::CANCELLED);
        }
        for circuit in relay.building.into_values() {
            self.drop_own(circuit, DestroyReason::FINISHED);
        }
        self.share_relay_bytes();
    }

    /// Blocks are wanted of a name that is asked on.
    fn relay_blocks(&mut self, name: Infohash, section: Section, first: u32, count: u16) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let blocks = first..first.saturating_add(count.into());
        let end = relay.requester.metainfo().map_or(0, |it| it.chunk_count());
        match section {
            Section::CHUNKS if blocks.end <= end => {
                relay.requester.ask_chunks(self.now, blocks);
            }
            Section::PIECE_LAYERS | Section::LEAF_HASHES => {
                if section == Section::LEAF_HASHES {
                    for block in blocks.clone() {
                        relay.requester.ask_leaves(self.now, block);
                    }
                }
                // Asked within the server's limits, which bound this too.
                relay.waiting.extend(blocks.map(|block| (section, block)));
            }
            _ => {
                let failed = ContentAnswer::Failed {
                    name,
                    scope: Some((section, first, count)),
                    reason: DbEndReason::PROTOCOL,
                    tried: None,
                };
                self.server.handle_answer(self.now, failed);
                self.server_dirty = true;
            }
        }
        self.relays.dirty.insert(name);
    }

    /// Does what a relay wants done: tells, sends, finds more to ask.
    pub(crate) fn pump_relay(&mut self, name: Infohash) {
        loop {
            let Some(relay) = self.relays.relays.get_mut(&name) else {
                return;
            };
            if let Some(event) = relay.requester.poll_event() {
                self.handle_relay_event(name, event);
                continue;
            }
            if let Some((block, bytes)) = relay.requester.poll_asked() {
                let answer = ContentAnswer::Block {
                    name,
                    section: Section::CHUNKS,
                    block,
                    bytes,
                };
                self.server.handle_answer(self.now, answer);
                self.server_dirty = true;
                continue;
            }
            if let Some((source, message)) = relay.requester.poll_transmit() {
                self.send_upstream(name, source, &message);
                continue;
            }
            if !self.find_upstream(name) {
                break;
            }
        }
        self.answer_sections(name);
        self.settle_relay(name);
        if let Some(relay) = self.relays.relays.get_mut(&name) {
            let (mut at, _) = relay.requester.poll_timeout();
            let graces = relay.alone_since.map(|since| since + GRACE);
            let graces = graces.into_iter().chain([relay.returns_until]);
            if let Some(grace) = graces.filter(|grace| *grace > self.now).min() {
                at = at.min(grace);
            }
            if relay.requester.metainfo().is_none() && self.now < relay.began + IMPATIENCE {
                at = at.min(relay.began + IMPATIENCE);
            }
            self.timers.set(Wake::Relay(name), at);
        }
    }

    fn handle_relay_event(&mut self, name: Infohash, event: RequesterEvent) {
        match event {
            RequesterEvent::Metadata(metainfo) => {
                let metadata = metainfo.info().clone();
                let answer = ContentAnswer::Opened { name, metadata };
                self.server.handle_answer(self.now, answer);
                self.server_dirty = true;
                self.share_relay_bytes();
            }
            RequesterEvent::SourceDropped { source, .. } => {
                self.drop_upstream(name, source, DbEndReason::PROTOCOL, true);
            }
            RequesterEvent::SourceFailed { source, why, .. } => {
                // One that is only busy or slow may be asked again.
                let for_good = !matches!(why, SourceFailure::Stalled | SourceFailure::TooMany);
                self.drop_upstream(name, source, DbEndReason::CANCELLED, for_good);
            }
            RequesterEvent::SourceStalled { source, .. } => {
                self.drop_upstream(name, source, DbEndReason::CANCELLED, false);
            }
            RequesterEvent::Failed(failure) if failure.is_final() => {
                let reason = match failure {
                    Failure::PieceTooLarge { .. } => DbEndReason::TOO_LARGE,
                    _ => DbEndReason::UNAVAILABLE,
                };
                self.fail_relay(name, reason);
            }
            // Whether others can be asked is found out here.
            RequesterEvent::Failed(_)
            | RequesterEvent::Verified { .. }
            | RequesterEvent::Readable(_) => {}
        }
    }

    /// Sections other than the content, once they are here.
    fn answer_sections(&mut self, name: Infohash) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let waiting = std::mem::take(&mut relay.waiting);
        let mut answers = Vec::new();
        for (section, block) in waiting {
            match relay.requester.block(section, block) {
                Some(bytes) => answers.push(ContentAnswer::Block {
                    name,
                    section,
                    block,
                    bytes,
                }),
                None if relay.requester.is_fetching(section, block) => {
                    relay.waiting.push((section, block));
                }
                None => answers.push(ContentAnswer::Failed {
                    name,
                    scope: Some((section, block, 1)),
                    reason: DbEndReason::UNAVAILABLE,
                    tried: None,
                }),
            }
        }
        for answer in answers {
            self.server.handle_answer(self.now, answer);
            self.server_dirty = true;
        }
    }

    /// Nobody is left to ask: those who wait are told, once a moment has passed in which somebody
    /// might have come.
    fn settle_relay(&mut self, name: Infohash) {
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let is_facilitator = self.config.roles.contains(Roles::FACILITATOR);
        let has_host = is_facilitator && relay.host_tried.is_none();
        let is_asking = !relay.building.is_empty() || relay.lookup.is_some();
        let may_return = !has_host && relay.returns_until > self.now;
        if relay.requester.has_lacking() && !is_asking && !may_return {
            if has_host {
                return self.hand_over(name);
            }
            for chunks in relay.requester.take_lacking() {
                let mut first = chunks.start;
                while first < chunks.end {
                    let count = u16::try_from(chunks.end - first).unwrap_or(u16::MAX);
                    let answer = ContentAnswer::Failed {
                        name,
                        scope: Some((Section::CHUNKS, first, count)),
                        reason: DbEndReason::UNAVAILABLE,
                        tried: None,
                    };
                    self.server.handle_answer(self.now, answer);
                    first = first.saturating_add(count.into());
                }
                self.server_dirty = true;
            }
        }
        let Some(relay) = self.relays.relays.get_mut(&name) else {
            return;
        };
        let is_asking = !relay.building.is_empty() || relay.lookup.is_some();
        if is_asking || !relay.upstreams.is_empty() {
            relay.alone_since = None;
            return;
        }
        let since = *relay.alone_since.get_or_insert(self.now);
        let may_come = relay.host_tried.is_none() && self.now.saturating_since(since) < GRACE;
        if may_come || may_return {
            return;
        }
        let is_idle = relay.requester.asked_chunks().is_empty() && relay.waiting.is_empty();
        if relay.requester.metainfo().is_some() {
            if is_idle {
                // What is kept may be all that is wanted; it is asked on when it is not.
                relay.alone_since = Some(self.now);
                return;
            }
            if has_host {
                return self.hand_over(name);
            }
            return self.fail_relay(name, DbEndReason::GONE);
        }
        if has_host {
            return self.hand_over(name);
        }
        self.fail_relay(name, DbEndReason::NOT_FOUND);
    }

    fn fail_relay(&mut self, name: Infohash, reason: DbEndReason) {
        let tried = self.relays.relays.get(&name).map(|relay| Tried {
            seconds: u16::try_from(self.now.saturating_since(relay.began).as_secs())
                .unwrap_or(u16::MAX),
            peers: u32::try_from(relay.tried.len() + relay.avoid.len()).unwrap_or(u32::MAX),
            ..relay.host_tried.unwrap_or_default()
        });
        self.close_relay(name);
        let answer = ContentAnswer::Failed {
            name,
            scope: None,
            reason,
            tried,
        };
        self.server.handle_answer(self.now, answer);
        self.server_dirty = true;
    }
}
